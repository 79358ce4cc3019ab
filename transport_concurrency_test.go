package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// One Transport, many goroutines, keys that change under way: everyone gets the
// answer to what they sent.
func TestTransportConcurrency(t *testing.T) {
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		ring, err := keyring.New(trDefaultKey(t))
		if err != nil {
			t.Fatal(err)
		}
		caller := trDefaultKey(t)
		m := trMiddleware(t, ring, sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
		srv, base := trServe(t, h2, m.Handler(trEcho))
		base.MaxConnsPerHost = 8
		source := sealhttp.ServerPublicKeysFunc(func(context.Context, *seal.PublicKey) (*seal.PublicKey, error) { return ring.PublicKeys()[0], nil })
		client := &http.Client{Transport: trTransport(t, source, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))}
		if err := ring.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				text := strings.Repeat(fmt.Sprintf("goroutine %d ", i), 1+i*2)
				req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, strings.NewReader(text))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != text {
					t.Errorf("goroutine %d: got %d bytes, %v", i, len(got), err)
				}
				if info, ok := sealhttp.FromResponse(resp); !ok || info.CallerKeyID != caller.ID() {
					t.Errorf("goroutine %d: got %+v, %v", i, info, ok)
				}
			})
			if i == 100 { // what was sealed before opens with the previous key
				if err := ring.Rotate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		wg.Wait()
	})
}

// A response's memory is used again once it is closed: reading it then is an error.
func TestTransportReadAfterClose(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		resp, err := transport.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader("a longer text")))
		if err != nil {
			t.Fatal(err)
		}
		some := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, some); err != nil || string(some) != "a " {
			t.Errorf("got %q, %v", some, err)
		}
		for range 2 {
			if err := resp.Body.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		if n, err := resp.Body.Read(some); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("got %d bytes, %v, want http.ErrBodyReadAfterClose", n, err)
		}
	})
}

// An open response is not changed by later calls.
func TestTransportResponsesAreApart(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	srv, base := trServe(t, false, m.Handler(trEcho))
	transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
	var open []*http.Response
	for i := range 20 {
		resp, err := transport.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader(fmt.Sprint("text ", i))))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	for i, resp := range open {
		if got, want := trRead(t, resp), fmt.Sprint("text ", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Calls of every kind leave no goroutine behind.
func TestTransportLeaksNoGoroutines(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	before := runtime.NumGoroutine()
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		mux := http.NewServeMux()
		mux.Handle("/echo", m.Handler(trEcho))
		mux.Handle("/plain", trEcho)
		mux.Handle("/refused", trRefuse(sealhttp.CodeUnknownKey, 400))
		mux.Handle("/garbage", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", sealhttp.MediaType)
			_, _ = io.WriteString(w, trBodyOf(100_000))
		}))
		mux.Handle("/stalls", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", sealhttp.MediaType)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}))
		srv, base := trServe(t, h2, mux)
		client := &http.Client{Transport: trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base), sealhttp.WithMaxResponseBytes(10_000))}
		for range 3 {
			for path, wantError := range map[string]bool{"/echo": false, "/dir": false, "/plain": true, "/refused": true, "/garbage": true, "/stalls": true} {
				ctx, cancel := context.WithCancel(t.Context())
				if path == "/stalls" {
					time.AfterFunc(10*time.Millisecond, cancel)
				}
				body, writer := io.Pipe()
				go func() {
					_, _ = io.WriteString(writer, "text")
					_ = writer.Close()
				}()
				resp, err := client.Do(trRequest(t, "POST", srv.URL+path, body).WithContext(ctx))
				if (err != nil) != wantError {
					t.Errorf("%s: got %v", path, err)
				}
				if err == nil {
					trRead(t, resp)
				}
				cancel()
			}
		}
	})
	// Servers and connections were closed by the subtests' cleanups, but end later.
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
}
