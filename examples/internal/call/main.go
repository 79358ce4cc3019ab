// Call makes a sealed call to one of the programs that serve the events API:
//
//	go run ./examples/internal/call -key '{"primaryKeyId":...}' POST /searches '{"email":"ada@example.com"}'
//
// It registers a new key for its account, then calls, and prints what it said and
// what was on the wire.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

func main() {
	log.SetFlags(0)
	url := flag.String("url", "http://127.0.0.1:8080", "where the server listens")
	key := flag.String("key", "", "the public key that the server has printed")
	token := flag.String("token", "shop-token", "the bearer token of an account")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "call -key KEY [-url URL] [-token TOKEN] METHOD TARGET [BODY]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() < 2 || flag.NArg() > 3 {
		flag.Usage()
		log.Fatal("a method and a target are needed")
	}
	caller, err := newCaller(*url, *token, *key)
	if err != nil {
		log.Fatal(err)
	}
	if err := caller.call(flag.Arg(0), flag.Arg(1), flag.Arg(2)); err != nil {
		log.Fatal(err)
	}
}

type caller struct {
	url, token string
	sealing    http.RoundTripper
}

// newCaller makes a caller with a new key, which it registers in plaintext.
func newCaller(url, token, serverKeyset string) (*caller, error) {
	serverKeys, err := tinkkeys.ParsePublic([]byte(serverKeyset))
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return nil, err
	}
	sealing, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKeys[0]),
		sealhttp.WithPrivateKeys(key), sealhttp.WithBase(showing{}))
	if err != nil {
		return nil, err
	}
	keyset, err := tinkkeys.Public(key.Public())
	if err != nil {
		return nil, err
	}
	c := &caller{url, token, sealing}
	resp, body, err := c.do(http.DefaultTransport, "PUT", "/key", string(keyset))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("PUT /key: %s %s", resp.Status, body)
	}
	return c, err
}

func (c *caller) call(method, target, body string) error {
	resp, answer, err := c.do(c.sealing, method, target, body)
	if err != nil {
		return err
	}
	fmt.Printf("said   %s\n", body)
	_, sealed := sealhttp.FromResponse(resp)
	fmt.Printf("heard  %s %s sealed=%t\n       %s\n", resp.Status, resp.Header.Get("Content-Type"), sealed, answer)
	return nil
}

func (c *caller) do(transport http.RoundTripper, method, target, body string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, c.url+target, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, strings.TrimSpace(string(answer)), err
}

// showing prints the bodies that go over the wire.
type showing struct{}

func (showing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody != nil { // which the Transport sets where it has sealed one
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		if err := show(">", req.Method+" "+req.URL.RequestURI(), req.Header, body); err != nil {
			return nil, err
		}
	} else {
		fmt.Printf("wire > %s %s\n", req.Method, req.URL.RequestURI())
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var kept bytes.Buffer
	body := resp.Body
	defer body.Close()
	if err := show("<", resp.Status, resp.Header, io.TeeReader(body, &kept)); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(&kept)
	return resp, nil
}

func show(arrow, what string, header http.Header, r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	shown := fmt.Sprintf("%.20x... (%d bytes)", body, len(body))
	if !strings.HasPrefix(header.Get("Content-Type"), sealhttp.MediaType) {
		shown = strings.TrimSpace(string(body))
	}
	fmt.Printf("wire %s %s %s\n       %s\n", arrow, what, header.Get("Content-Type"), shown)
	return nil
}
