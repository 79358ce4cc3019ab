package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// serverKey and callerKey stand for keys that a program has generated once with
// seal.GenerateKey, and stored.
var (
	serverKey = mustGenerate()
	callerKey = mustGenerate()
)

func mustGenerate() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// authenticate stands for an API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, _ := r.BasicAuth()
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

// lookup stands for a query of the database in which callers' keys are registered.
func lookup(_ context.Context, account string) (*seal.PublicKey, error) {
	if account == "acme" {
		return callerKey.Public(), nil
	}
	return nil, sealhttp.ErrNoClientKey
}

// echo is a handler that knows nothing of encryption.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	fmt.Fprintf(w, "%s %s", r.Method, body)
})

// newMiddleware is what most examples start with.
func newMiddleware(opts ...sealhttp.Option) *sealhttp.Middleware {
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	clientKeys := sealhttp.CacheClientKeys(nil, lookup)
	return sealhttp.Must(sealhttp.New(ring, append(opts, sealhttp.WithClientKeys(clientKeys))...))
}

// newClient is a caller with an account.
func newClient() *http.Client {
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(callerKey))
	if err != nil {
		log.Fatal(err)
	}
	return &http.Client{Transport: transport}
}

// post calls as the account acme and prints the answer.
func post(client *http.Client, url, body string) {
	req, err := http.NewRequest("POST", url, bytes.NewReader([]byte(body)))
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	var refused *sealhttp.Error
	if errors.As(err, &refused) {
		fmt.Println("refused:", refused.Status, refused.Code)
		return
	} else if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, resp.Header.Get("Content-Type"), string(answer))
}

// Both sides, whole.
func Example() {
	// The service. Its keys and its callers' keys:
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	clientKeys := sealhttp.CacheClientKeys(nil, lookup)

	// It mounts sealhttp behind its authentication, in front of a handler that
	// stays as it is.
	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/events", m.Handler(echo))
	server := httptest.NewServer(authenticate(mux))
	defer server.Close()

	// A caller puts a Transport into its http.Client.
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeys(callerKey))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	post(client, server.URL+"/events", `{"email":"ada@example.com"}`)

	// Who knows nothing of it calls as ever.
	post(http.DefaultClient, server.URL+"/events", `{"email":"bob@example.com"}`)
	// Output:
	// 200 application/json POST {"email":"ada@example.com"}
	// 200 application/json POST {"email":"bob@example.com"}
}

// One route takes sealed calls only.
func ExampleMiddleware_With() {
	m := newMiddleware()
	mux := http.NewServeMux()
	mux.Handle("POST /events", m.Handler(echo))
	mux.Handle("POST /refunds", sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required))).Handler(echo))
	server := httptest.NewServer(authenticate(mux))
	defer server.Close()

	post(newClient(), server.URL+"/refunds", `{"amount":7}`)
	post(http.DefaultClient, server.URL+"/events", `{"id":1}`)

	resp, err := http.Post(server.URL+"/refunds", "application/json", bytes.NewReader([]byte(`{"amount":7}`)))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("Sealed-Error"))
	// Output:
	// 200 application/json POST {"amount":7}
	// 200 application/json POST {"id":1}
	// 415 encryption_required
}

// One account is moved to encrypted calls only.
func ExampleWithPolicyFunc() {
	m := newMiddleware(sealhttp.WithPolicyFunc(func(r *http.Request) (sealhttp.Policy, error) {
		if sealhttp.Account(r.Context()) == "acme" {
			return sealhttp.Required, nil
		}
		return sealhttp.Optional, nil
	}))
	server := httptest.NewServer(authenticate(m.Handler(echo)))
	defer server.Close()

	post(newClient(), server.URL, `{"id":1}`)

	resp, err := http.Post(server.URL, "application/json", bytes.NewReader([]byte(`{"id":2}`))) // no account
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output:
	// 200 application/json POST {"id":1}
	// 200
}

// A key that was replaced is seen after a minute at the latest, or at once.
func ExampleCacheClientKeys() {
	current := map[string]*seal.PublicKey{"acme": mustGenerate().Public()}
	cache := sealhttp.CacheClientKeys(nil, func(_ context.Context, account string) (*seal.PublicKey, error) {
		return current[account], nil // nil: no key is registered
	})
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(sealhttp.ContextWithAccount(r.Context(), "acme"))

	first, err := cache.ClientKey(r)
	if err != nil {
		log.Fatal(err)
	}
	current["acme"] = mustGenerate().Public()
	same, err := cache.ClientKey(r)
	if err != nil {
		log.Fatal(err)
	}
	cache.Forget("acme")
	second, err := cache.ClientKey(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first.Equal(same), first.Equal(second))
	// Output: true false
}

// Adoption is counted from outside.
func ExampleWithObserver() {
	m := newMiddleware(sealhttp.WithObserver(func(r *http.Request, e sealhttp.Event) {
		fmt.Printf("%s sealed=%t/%t code=%q\n", r.Method, e.RequestSealed, e.ResponseSealed, e.Code)
	}))
	handler := authenticate(m.Handler(echo))

	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))

	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", sealhttp.MediaType)
	handler.ServeHTTP(httptest.NewRecorder(), r) // no account, so no key

	r = r.Clone(context.Background())
	r.SetBasicAuth("acme", "secret")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// GET sealed=false/false code=""
	// GET sealed=false/false code="no_client_key"
	// GET sealed=false/true code=""
}

// A handler can tell, and its test can pretend.
func ExampleFromContext() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := sealhttp.FromContext(r.Context())
		fmt.Fprint(w, ok, " ", info.RequestSealed)
	})

	r := httptest.NewRequest("POST", "/", nil)
	r = r.WithContext(sealhttp.NewContext(r.Context(), sealhttp.CallInfo{
		Profile: sealhttp.MessageProfile, KeyID: 7, RequestSealed: true,
	}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output: true true
}

// Errors in the form that the API has for all its errors.
func ExampleWithErrorHandler() {
	m := newMiddleware(
		sealhttp.WithPolicy(sealhttp.RequestRequired),
		sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
			var e *sealhttp.Error
			if errors.As(err, &e) && e.Code == sealhttp.CodeEncryptionRequired {
				w.WriteHeader(e.Status)
				fmt.Fprint(w, `{"error":"seal it, please"}`)
				return
			}
			sealhttp.WriteError(w, r, err)
		}))
	w := httptest.NewRecorder()
	m.Handler(echo).ServeHTTP(w, httptest.NewRequest("POST", "/", bytes.NewReader([]byte("{}"))))
	fmt.Println(w.Code, w.Body)
	// Output: 415 {"error":"seal it, please"}
}

// With the account as info, a recorded body does not open for another account.
func ExampleWithInfoFunc() {
	info := func(r *http.Request) (request, response []byte, err error) {
		account, _, _ := r.BasicAuth()
		return []byte("request of " + account), []byte("response to " + account), nil
	}
	m := newMiddleware(sealhttp.WithInfoFunc(info))
	server := httptest.NewServer(authenticate(m.Handler(echo)))
	defer server.Close()

	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeys(callerKey), sealhttp.WithInfoFunc(info))
	if err != nil {
		log.Fatal(err)
	}
	post(&http.Client{Transport: transport}, server.URL, `{"id":1}`)
	post(newClient(), server.URL, `{"id":1}`) // without info
	// Output:
	// 200 application/json POST {"id":1}
	// refused: 400 decryption_failed
}

// What an adapter for another router does.
func ExampleMiddleware_Begin() {
	m := newMiddleware()
	adapter := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			call, err := m.Begin(w, r)
			if err != nil {
				m.Refuse(w, r, err)
				return
			}
			if call == nil { // in plaintext
				next.ServeHTTP(w, r)
				return
			}
			defer call.Close()
			next.ServeHTTP(call.Writer, call.Request)
			if err := call.Finish(); err != nil {
				log.Print(err)
			}
			status, n := call.Sent()
			fmt.Println("sent", status, n > 0)
		})
	}
	server := httptest.NewServer(authenticate(adapter(echo)))
	defer server.Close()
	post(newClient(), server.URL, `{"id":1}`)
	// Output:
	// sent 200 true
	// 200 application/json POST {"id":1}
}

// What a CORS middleware needs for programs in browsers.
func ExampleCORSHeaders() {
	fmt.Println(sealhttp.CORSHeaders.Allow)
	fmt.Println(sealhttp.CORSHeaders.Expose)
	// Output:
	// [Content-Type Sealed-Exchange Sealed-Content-Type]
	// [Sealed-Exchange Sealed-Content-Type Sealed-Error Retry-After Date]
}
