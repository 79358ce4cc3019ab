package chiseal_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/seal"
)

func newKey() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// serverKey and callerKey stand for keys that were generated once, and stored.
var serverKey, callerKey = newKey(), newKey()

// newMiddleware is a Middleware with the server's key and those of its callers.
func newMiddleware(opts ...sealhttp.Option) *sealhttp.Middleware {
	keys, err := seal.NewKeySet(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	serverKeys := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return keys, nil })
	clientKeys := sealhttp.CacheClientKeys(nil, func(_ context.Context, account string) (*seal.PublicKey, error) {
		if account == "acme" {
			return callerKey.Public(), nil
		}
		return nil, sealhttp.ErrNoClientKey
	})
	return sealhttp.Must(sealhttp.New(serverKeys, append(opts, sealhttp.WithClientKeys(clientKeys))...))
}

// authenticate stands for an API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, _ := r.BasicAuth()
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

// call sends a body as the account acme, sealed or not, and prints the answer.
func call(server *httptest.Server, sealed bool, path, body string) {
	client := server.Client()
	if sealed {
		transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(callerKey))
		if err != nil {
			log.Fatal(err)
		}
		client = &http.Client{Transport: transport}
	}
	req, err := http.NewRequest("POST", server.URL+path, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	req.Header.Set("Content-Type", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	_, wasSealed := sealhttp.FromResponse(resp)
	if code := resp.Header.Get("Sealed-Error"); code != "" {
		answer = []byte(code)
	}
	fmt.Println(resp.StatusCode, "sealed:", wasSealed, string(answer))
}

// Mounted at the root, behind authentication, and stricter at one route.
func ExampleMiddleware() {
	m := newMiddleware()
	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))

	echo := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s: %s", chi.RouteContext(r.Context()).RoutePattern(), body)
	}
	r := chi.NewRouter()
	r.Use(authenticate, chiseal.Middleware(m), middleware.Recoverer)
	r.Post("/events", echo)
	r.With(chiseal.Middleware(required)).Post("/refunds", echo)

	server := httptest.NewServer(r)
	defer server.Close()
	call(server, true, "/events", "ada@example.com")
	call(server, false, "/events", "ada@example.com")
	call(server, true, "/refunds", "7 EUR")
	call(server, false, "/refunds", "7 EUR")
	// Output:
	// 200 sealed: true /events: ada@example.com
	// 200 sealed: false /events: ada@example.com
	// 200 sealed: true /refunds: 7 EUR
	// 415 sealed: false encryption_required
}
