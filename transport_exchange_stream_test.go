package sealhttp_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// txFlood is so many bytes, of which no record is like another. It looks at the heap now
// and then.
type txFlood struct {
	left  int64
	block []byte // of a length that no record has
	sum   maphash.Hash
	peak  *atomic.Uint64
	n     int
}

func txNewFlood(n int64, seed maphash.Seed, peak *atomic.Uint64) *txFlood {
	f := &txFlood{left: n, block: make([]byte, 100_003), peak: peak}
	f.sum.SetSeed(seed)
	_, _ = rand.Read(f.block)
	return f
}

func (f *txFlood) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if f.n++; f.n%1000 == 0 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		f.peak.Store(max(f.peak.Load(), stats.HeapInuse))
	}
	n := copy(p[:min(int64(len(p)), f.left)], f.block[f.left%int64(len(f.block)):])
	_, _ = f.sum.Write(p[:n])
	f.left -= int64(n)
	return n, nil
}

// 256 MiB up and down at once take no more memory than a few records.
func TestExchangeStreams(t *testing.T) {
	const size = 256 << 20
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	key, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		seed := maphash.MakeSeed()
		known := h2 // one of each is enough
		var up, down atomic.Uint64
		var upSum uint64
		sent := txNewFlood(size, seed, &down)
		srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var sum maphash.Hash
			sum.SetSeed(seed)
			if n, err := io.Copy(&sum, r.Body); err != nil || n != size {
				t.Errorf("%d bytes came, %v", n, err)
			}
			upSum = sum.Sum64()
			_, _ = io.Copy(w, sent)
		})))
		tr := txTransport(t, key.Public(), base, sealhttp.WithPrivateKeys(caller))
		body := txNewFlood(size, seed, &up)
		req := trRequest(t, "POST", srv.URL, body)
		if known {
			req.ContentLength = size
		}
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var sum maphash.Hash
		sum.SetSeed(seed)
		if n, err := io.Copy(&sum, resp.Body); err != nil || n != size {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		_ = resp.Body.Close()
		if upSum != body.sum.Sum64() || sum.Sum64() != sent.sum.Sum64() {
			t.Error("what came is not what was sent")
		}
		grown := int64(max(up.Load(), down.Load())) - int64(before.HeapInuse)
		t.Logf("known length %t: the heap grew by %.1f MiB at most", known, float64(grown)/(1<<20))
		if grown > 24<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
	})
}

// A reader that takes its time holds the sender back, in either direction.
func TestExchangeBackpressure(t *testing.T) {
	key := trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key))
	const size, bound = 64 << 20, 16 << 20 // what sockets and windows hold
	stall := func(progress *atomic.Int64) (stalledAt int64) {
		for last := int64(-1); last != progress.Load() || last == 0; time.Sleep(100 * time.Millisecond) {
			last = progress.Load()
		}
		return progress.Load()
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		t.Run("up", func(t *testing.T) {
			goOn := make(chan struct{})
			srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-goOn
				if n, err := io.Copy(io.Discard, r.Body); err != nil || n != size {
					t.Errorf("%d bytes, %v", n, err)
				}
			})))
			var progress atomic.Int64
			done := make(chan error)
			go func() {
				resp, err := txTransport(t, key.Public(), base).RoundTrip(trRequest(t, "POST", srv.URL, &txCounted{r: io.LimitReader(txZeros{}, size), n: &progress}))
				if err == nil {
					_ = resp.Body.Close()
				}
				done <- err
			}()
			if n := stall(&progress); n > bound {
				t.Errorf("%d bytes were sent to someone who does not read", n)
			}
			close(goOn)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		t.Run("down", func(t *testing.T) {
			var progress atomic.Int64
			srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, &txCounted{r: io.LimitReader(txZeros{}, size), n: &progress})
			})))
			resp, err := txTransport(t, key.Public(), base).RoundTrip(trRequest(t, "GET", srv.URL, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n := stall(&progress); n > bound {
				t.Errorf("%d bytes were sent to someone who does not read", n)
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	})
}

type txZeros struct{}

func (txZeros) Read(p []byte) (int, error) { return len(p), nil }

type txCounted struct {
	r io.Reader
	n *atomic.Int64
}

func (c *txCounted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A request is written line by line while its response is read, in HTTP/2.
func TestExchangeDuplex(t *testing.T) {
	txLeaks(t)
	key, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key), trClientKey(caller.Public()))
	for _, method := range []string{"POST", "PUT"} {
		srv, base := trServe(t, true, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				fmt.Fprintf(w, "echo of %s\n", lines.Text())
				_ = http.NewResponseController(w).Flush()
			}
			if err := lines.Err(); err != nil {
				t.Error(err)
			}
		})))
		body, writer := io.Pipe()
		resp, err := txTransport(t, key.Public(), base, sealhttp.WithPrivateKeys(caller)).RoundTrip(trRequest(t, method, srv.URL, body))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for i := range 100 {
			fmt.Fprintf(writer, "line %d\n", i)
			if !lines.Scan() || lines.Text() != fmt.Sprintf("echo of line %d", i) {
				t.Fatalf("got %q, %v", lines.Text(), lines.Err())
			}
		}
		_ = writer.Close()
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("then %q, %v", lines.Text(), lines.Err())
		}
		_ = resp.Body.Close()
	}
}

// Server-sent events arrive as they are flushed.
func TestExchangeEvents(t *testing.T) {
	key := trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		next := make(chan struct{})
		srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 10 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				_ = http.NewResponseController(w).Flush()
				<-next
			}
		})))
		resp, err := txTransport(t, key.Public(), base).RoundTrip(trRequest(t, "GET", srv.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 100)
		for i := range 10 {
			n, err := resp.Body.Read(buf)
			if want := fmt.Sprintf("data: %d\n\n", i); string(buf[:n]) != want || err != nil {
				t.Fatalf("got %q, %v", buf[:n], err)
			}
			next <- struct{}{}
		}
		if n, err := resp.Body.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("then %d bytes, %v", n, err)
		}
	})
}

// txBlocked is a body that gives some bytes and then nothing until it is closed.
type txBlocked struct {
	text   io.Reader
	closed chan struct{}
	n      atomic.Int64
}

func txNewBlocked(text string) *txBlocked {
	return &txBlocked{text: strings.NewReader(text), closed: make(chan struct{})}
}

func (b *txBlocked) Read(p []byte) (int, error) {
	if n, err := b.text.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, errors.New("read from a closed body")
}

func (b *txBlocked) Close() error {
	if b.n.Add(1) == 1 {
		close(b.closed)
	}
	return nil
}

// A call that ends, at whatever stage, leaves nothing behind and has closed its body.
func TestExchangeCancelled(t *testing.T) {
	txLeaks(t)
	key := trDefaultKey(t)
	gone := errors.New("the program has lost interest")
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/503":
				w.WriteHeader(503)
				return
			case "/body":
				q, err := txOpen(r, key)
				if err != nil {
					t.Error(err)
					return
				}
				txAnswer{body: "text", cut: true}.write(w, q)
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}))
		blockingKeys := sealhttp.ServerPublicKeysFunc(func(ctx context.Context, _ *seal.PublicKey) (*seal.PublicKey, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		static := sealhttp.StaticPublicKey(key.Public())
		for name, row := range map[string]struct {
			path    string
			keys    sealhttp.ServerPublicKeys
			text    string
			length  int64
			outcome error
		}{
			"before a key":              {"/", blockingKeys, "text", 4, sealhttp.ErrNotProcessed},
			"reading a short body":      {"/", static, "text", 5, sealhttp.ErrNotProcessed},
			"reading the first byte":    {"/get", static, "", -1, sealhttp.ErrNotProcessed},
			"sending, unknown":          {"/", static, "text", -1, sealhttp.ErrOutcomeUnknown},
			"sending, first byte":       {"/", static, "", -1, sealhttp.ErrOutcomeUnknown},
			"sending, long":             {"/", static, trBodyOf(100_000), 1 << 20, sealhttp.ErrOutcomeUnknown},
			"waiting for the response":  {"/", static, "text", 4, sealhttp.ErrOutcomeUnknown},
			"waiting to try again":      {"/503", static, "text", 4, sealhttp.ErrOutcomeUnknown},
			"reading, while it is sent": {"/body", static, "text", -1, nil},
		} {
			t.Run(name, func(t *testing.T) {
				if name == "reading, while it is sent" && !h2 {
					t.Skip("only HTTP/2 does that")
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				body := txNewBlocked(row.text)
				req := trRequest(t, "POST", srv.URL+row.path, body).WithContext(ctx)
				req.ContentLength = row.length
				if name == "reading the first byte" {
					req.Method = "GET"
				}
				if int64(len(row.text)) == row.length {
					req.Body = struct {
						io.Reader
						io.Closer
					}{strings.NewReader(row.text), body}
				}
				time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
				tr := trTransport(t, row.keys, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
				resp, err := tr.RoundTrip(req)
				if row.outcome == nil {
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(resp.Body)
					if string(got) != "text" || err == nil || !errors.Is(err, seal.ErrTruncated) {
						t.Errorf("got %q, %v", got, err)
					}
					_ = resp.Body.Close()
				} else {
					if err == nil {
						t.Fatal("a response came")
					}
					txOutcome(t, err, row.outcome)
					if !errors.Is(err, gone) {
						t.Errorf("got %v", err)
					}
				}
				for range 100 {
					if body.n.Load() > 0 {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if n := body.n.Load(); n != 1 {
					t.Errorf("the body was closed %d times", n)
				}
			})
		}
	})
}

// Calls of every kind leave no goroutine behind.
func TestExchangeLeaksNoGoroutines(t *testing.T) {
	txLeaks(t)
	key := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for name, answer := range map[string]txHandler{
			"sealed": txOK, "clear": txClear(200, ""), "broken": txBreak, "refused": txRefused(413, "too_large"), "replayed": txReplayed, "stale": txStale(0),
			"early": func(w http.ResponseWriter, q *txRequest) { txClear(413, "")(w, q) },
			"cut":   txSealed(txAnswer{body: "text", cut: true}),
		} {
			for _, n := range []int{0, 10, 100_000, 1 << 20} {
				srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					q, err := txOpen(r, key)
					if err != nil {
						t.Error(err)
						return
					}
					if name != "early" {
						_, _ = io.Copy(io.Discard, r.Body)
					}
					answer(w, q)
				}))
				body, writer := io.Pipe()
				go func() {
					_, err := io.WriteString(writer, strings.Repeat("x", n))
					_ = writer.CloseWithError(err)
				}()
				resp, err := txTransport(t, key.Public(), base).RoundTrip(trRequest(t, "POST", srv.URL, body))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				base.CloseIdleConnections()
				srv.Close()
			}
		}
	})
}

// One Transport serves many goroutines, while the server's keys change.
func TestExchangeConcurrency(t *testing.T) {
	key, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		base.MaxConnsPerHost = 8
		client := &http.Client{Transport: txTransport(t, key.Public(), base, sealhttp.WithPrivateKeys(caller))}
		errs := make(chan error, 200)
		for i := range 200 {
			go func() {
				errs <- func() error {
					text := strings.Repeat(fmt.Sprintf("goroutine %d ", i), 1+i*40)
					var body io.Reader = strings.NewReader(text)
					if i%2 == 1 {
						body = struct{ io.Reader }{body}
					}
					resp, err := client.Post(srv.URL, "text/plain", body)
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err == nil && string(got) != text {
						err = fmt.Errorf("goroutine %d got %d bytes of %d", i, len(got), len(text))
					}
					return err
				}()
			}()
		}
		for range 200 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// A redirect is not followed, and what redirected is authenticated.
func TestExchangeRedirect(t *testing.T) {
	key := trDefaultKey(t)
	n := 0
	srv := httptest.NewServer(trMiddleware(t, trKeys(t, key)).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})))
	defer srv.Close()
	_, err := (&http.Client{Transport: txTransport(t, key.Public(), http.DefaultTransport)}).Do(trRequest(t, "POST", srv.URL+"/here", strings.NewReader("text")))
	if !errors.Is(err, sealhttp.ErrRedirect) || !strings.Contains(err.Error(), "/elsewhere") || n != 1 {
		t.Errorf("got %v after %d requests", err, n)
	}
	if errors.Is(err, sealhttp.ErrNotProcessed) {
		t.Error("what was redirected was processed")
	}
}
