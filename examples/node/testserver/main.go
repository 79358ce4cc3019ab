// Testserver is what the tests of the JavaScript caller call: every suite, both
// profiles, and handlers that do what handlers may.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

var suites = []seal.Suite{
	seal.X25519AES256GCM, seal.X25519AES128GCM, seal.X25519ChaCha20Poly1305,
	seal.P256AES256GCM, seal.P256AES128GCM, seal.XWingAES256GCM,
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	keys := make([]*seal.PrivateKey, len(suites))
	for i, suite := range suites {
		var err error
		if keys[i], err = seal.GenerateKey(suite); err != nil {
			return err
		}
	}
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		return err
	}
	keyset, err := tinkkeys.Public(ring.PublicKeys()...)
	if err != nil {
		return err
	}
	handler, err := mount(ring)
	if err != nil {
		return err
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	fmt.Printf("listening on %s\npublic keys %s\n", server.URL, keyset)
	<-ctx.Done()
	server.CloseClientConnections()
	return nil
}

// mount serves the API with each policy and option that the tests need, below a
// prefix of its own.
func mount(ring *keyring.Keyring) (http.Handler, error) {
	registered := new(registry)
	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(registered))
	if err != nil {
		return nil, err
	}
	api := newAPI(registered)
	root := http.NewServeMux()
	for prefix, options := range map[string][]sealhttp.Option{
		"":          nil,
		"/required": {sealhttp.WithPolicy(sealhttp.Required)},
		"/disabled": {sealhttp.WithPolicy(sealhttp.Disabled)},
		"/bound":    {sealhttp.WithBoundHeaders("authorization", "x-account")},
		"/info":     {sealhttp.WithInfo([]byte("to the service"), []byte("to the caller"))},
		"/padded":   {sealhttp.WithPadding(seal.Padme)},
	} {
		with, err := m.With(options...)
		if err != nil {
			return nil, err
		}
		root.Handle(prefix+"/", with.Handler(http.StripPrefix(prefix, api)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if account, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			r = r.WithContext(sealhttp.ContextWithAccount(r.Context(), account))
		}
		root.ServeHTTP(w, r)
	}), nil
}

// registry holds the callers' keys, by account.
type registry struct{ keys sync.Map }

func (g *registry) ClientKey(r *http.Request) (*seal.PublicKey, error) {
	if key, ok := g.keys.Load(sealhttp.Account(r.Context())); ok {
		return key.(*seal.PublicKey), nil
	}
	return nil, sealhttp.ErrNoClientKey
}

func (g *registry) put(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	keys, err := tinkkeys.ParsePublic(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	g.keys.Store(sealhttp.Account(r.Context()), keys[0])
	fmt.Fprint(w, keys[0].Fingerprint())
}

func newAPI(registered *registry) http.Handler {
	var executed atomic.Int64
	ticks := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /key", registered.put)
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/status/{code}", status)
	mux.HandleFunc("POST /count", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, executed.Add(1)) })
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, executed.Load()) })
	mux.HandleFunc("POST /tick", func(http.ResponseWriter, *http.Request) { ticks <- struct{}{} })
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: tick %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(http.ErrAbortHandler)
			}
			select {
			case <-ticks:
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "the first half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/echo", http.StatusTemporaryRedirect)
	})
	return mux
}

// echo answers with what it got: the body as it is, all else in header fields.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		status := http.StatusBadRequest
		if e := (*sealhttp.Error)(nil); errors.As(err, &e) {
			status = e.Status
		}
		http.Error(w, "the body breaks off", status)
		return
	}
	info, _ := sealhttp.FromContext(r.Context())
	h := w.Header()
	h.Set("Content-Type", r.Header.Get("Content-Type"))
	h.Set("Saw-Method", r.Method)
	h.Set("Saw-Target", r.RequestURI)
	h.Set("Saw-Type", r.Header.Get("Content-Type"))
	h.Set("Saw-Accept", r.Header.Get("Accept"))
	h.Set("Saw-Sealed", fmt.Sprintf("%v %t %t", info.Profile, info.RequestSealed, info.ResponseSealed))
	h.Set("Saw-Caller-Key", strconv.FormatUint(uint64(info.CallerKeyID), 10))
	_, _ = w.Write(body)
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(code)
	fmt.Fprintf(w, "status %d", code) // fails where there is no content
}
