package sealhttp_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// A service behind a gateway that rewrites Host and cuts /public off, with callers that
// have an API key in a field of its own.
func ExampleWithAuthority() {
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	guard, err := sealhttp.NewMemoryReplayGuard(16 << 20) // one replica; more of them share a redisguard or sqlstore's
	if err != nil {
		log.Fatal(err)
	}
	m, err := sealhttp.New(ring,
		sealhttp.WithAuthority("api.example.com"),
		sealhttp.WithTargetPrefix("/public"),
		sealhttp.WithBoundHeaders("x-api-key", "idempotency-key"),
		sealhttp.WithReplayGuard(guard),
		sealhttp.WithPadding(seal.Padme))
	if err != nil {
		log.Fatal(err)
	}
	service := httptest.NewServer(m.Handler(echo))
	defer service.Close()
	// What its gateway does.
	gateway := httptest.NewServer(http.StripPrefix("/public", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = "http", service.Listener.Addr().String()
		out.Host, out.RequestURI = "service.internal", ""
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for name, lines := range resp.Header {
			w.Header()[name] = lines
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})))
	defer gateway.Close()

	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithProfile(sealhttp.ExchangeProfile),
		sealhttp.WithBoundHeaders("x-api-key", "idempotency-key"))
	if err != nil {
		log.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, gateway.URL+"/public/events", nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Host = "api.example.com"
	req.Header.Set("X-Api-Key", "a secret of the caller's")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	info, sealed := sealhttp.FromResponse(resp)
	fmt.Printf("%s %q, sealed: %t, profile: %v\n", resp.Status, body, sealed, info.Profile)
	if err != nil {
		log.Fatal(err)
	}
	// Output: 200 OK "GET ", sealed: true, profile: exchange
}

// Events arrive as they are sent, each in a record of its own.
func ExampleWithProfile_events() {
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	m, err := sealhttp.New(ring, sealhttp.WithProfiles(sealhttp.ExchangeProfile), sealhttp.WithPolicy(sealhttp.Required))
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			fmt.Fprintf(w, "data: event %d\n", n)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})))
	defer server.Close()

	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithProfile(sealhttp.ExchangeProfile))
	if err != nil {
		log.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	for events.Scan() {
		fmt.Println(events.Text())
	}
	if err := events.Err(); err != nil { // a stream that breaks off ends here, not quietly
		log.Fatal(err)
	}
	// Output:
	// data: event 0
	// data: event 1
	// data: event 2
}
