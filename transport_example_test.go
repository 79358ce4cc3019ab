package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// trAPI is the service that the examples call. It answers sealed calls only, to the
// caller's registered key.
func trAPI(keys sealhttp.ServerKeys, registered *seal.PublicKey) *httptest.Server {
	clientKeys := sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return registered, nil })
	m, err := sealhttp.New(keys, sealhttp.WithClientKeys(clientKeys), sealhttp.WithPolicy(sealhttp.Required))
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s of %d bytes", r.Header.Get("Content-Type"), len(body))
	})))
}

func trGenerate() (*seal.PrivateKey, *keyring.Keyring) {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		log.Fatal(err)
	}
	return key, ring
}

func ExampleNewTransport() {
	serverKey, serverRing := trGenerate()
	myKey, _ := trGenerate()
	server := trAPI(serverRing, myKey.Public())
	defer server.Close()

	// The public key of the service, and the key whose public half is registered there.
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeys(myKey))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}

	resp, err := client.Post(server.URL, "application/json", strings.NewReader(`{"card":"4111"}`))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 200 application/json of 15 bytes <nil>
}

func ExampleFromResponse() {
	serverKey, serverRing := trGenerate()
	myKey, _ := trGenerate()
	server := trAPI(serverRing, myKey.Public())
	defer server.Close()
	// A gateway that fails answers in plaintext, as anyone on the way could.
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no backend", http.StatusBadGateway)
	}))
	defer gateway.Close()

	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(myKey))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	for _, url := range []string{server.URL, gateway.URL} {
		resp, err := client.Get(url)
		if err != nil {
			log.Fatal(err)
		}
		info, ok := sealhttp.FromResponse(resp)
		fmt.Println(resp.StatusCode, "sealed:", ok, "to my key:", ok && info.CallerKeyID == myKey.ID())
		_ = resp.Body.Close()
	}
	// Output:
	// 200 sealed: true to my key: true
	// 502 sealed: false to my key: false
}

// What a call of the message profile can end with. Here the service knows another key of
// the caller's. For exchanges see the example of WithProfile: what they have executed is
// told by ErrNotProcessed and ErrOutcomeUnknown, never by the code alone.
func ExampleTransport_errors() {
	serverKey, serverRing := trGenerate()
	myKey, _ := trGenerate()
	registeredKey, _ := trGenerate()
	server := trAPI(serverRing, registeredKey.Public())
	defer server.Close()

	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(myKey))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL)
	var e *sealhttp.Error
	switch {
	case err == nil:
		defer resp.Body.Close()
		fmt.Println("it worked")
	case errors.Is(err, sealhttp.ErrPlaintextResponse), errors.Is(err, sealhttp.ErrRedirect):
		fmt.Println("someone on the way, or a service that is not set up:", err)
	case !errors.As(err, &e):
		fmt.Println("the network:", err)
	case errors.Is(err, sealhttp.ErrResponseNotOpened):
		switch e.Code {
		case sealhttp.CodeUnknownKey:
			fmt.Println("register my current key:", e.Status, e.Code)
		default:
			fmt.Println("what came was not for me:", e.Code)
		}
	default: // ErrRefused, or a key source of mine failed
		switch e.Code {
		case sealhttp.CodeNoClientKey:
			fmt.Println("register a key first")
		case sealhttp.CodeEncryptionDisabled:
			fmt.Println("call in plaintext")
		case sealhttp.CodeKeyStoreUnavailable, sealhttp.CodePolicyUnavailable:
			fmt.Println("try again later")
		default:
			fmt.Println("refused:", err)
		}
	}
	// Output: register my current key: 200 unknown_key
}

// A caller whose own keys change while the program runs.
func ExampleWithPrivateKeySource() {
	serverKey, serverRing := trGenerate()
	myFirstKey, myRing := trGenerate()
	server := trAPI(serverRing, myFirstKey.Public())
	defer server.Close()

	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeySource(myRing))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}

	call := func() {
		resp, err := client.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		info, _ := sealhttp.FromResponse(resp)
		fmt.Println("sealed to my primary key:", info.CallerKeyID == myRing.PublicKeys()[0].ID())
	}
	call()
	// The service hears of the new key later. Until then the previous one opens.
	if err := myRing.Rotate(context.Background()); err != nil {
		log.Fatal(err)
	}
	call()
	// Output:
	// sealed to my primary key: true
	// sealed to my primary key: false
}

// Calls of the exchange profile: streamed, bound to their request, executed at most once.
func ExampleWithProfile() {
	serverKey, serverRing := trGenerate()
	m, err := sealhttp.New(serverRing, sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithProfiles(sealhttp.ExchangeProfile))
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "paid, said %d bytes", n)
	})))
	defer server.Close()

	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithProfile(sealhttp.ExchangeProfile))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}

	pay := func(url string) {
		resp, err := client.Post(url, "application/json", strings.NewReader(`{"amount":12}`))
		switch {
		case err == nil: // the service's own answer, whatever its status
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body) // an answer that was cut off is an error here
			fmt.Println(resp.StatusCode, string(body), err)
		case errors.Is(err, sealhttp.ErrNotProcessed):
			fmt.Println("it was not sent: try again when you like")
		case errors.Is(err, sealhttp.ErrRefused):
			fmt.Println("the service has refused it:", err)
		default: // ErrOutcomeUnknown
			fmt.Println("ask the service what has happened before you pay again")
		}
	}
	pay(server.URL + "/payments")
	pay("http://127.0.0.1:1/payments") // where nobody listens

	// Someone on the way answers in place of the service, and says that all is well.
	hop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "paid")
	}))
	defer hop.Close()
	pay(hop.URL + "/payments")
	// Output:
	// 200 paid, said 13 bytes <nil>
	// it was not sent: try again when you like
	// ask the service what has happened before you pay again
}
