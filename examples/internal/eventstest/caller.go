package eventstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/examples/internal/events"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// caller has an account and calls in one way.
type caller struct {
	url, token string
	transport  http.RoundTripper
}

// call is one that a caller makes.
type call struct {
	method, target, body string
	header               map[string]string
}

// answer is what the caller got: its body in plaintext, however it came.
type answer struct {
	status  int
	header  http.Header
	body    string
	sealed  bool
	refused sealhttp.Code // by sealhttp, before a handler ran
}

// do makes a call. JSON is the type of a body, unless the call's header says otherwise.
func (c caller) do(t *testing.T, call call) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), call.method, c.url+call.target, bytes.NewReader([]byte(call.body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if call.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range call.header {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: c.transport}).Do(req)
	if refusal, ok := errors.AsType[*sealhttp.Error](err); ok && errors.Is(err, sealhttp.ErrRefused) {
		return answer{status: refusal.Status, refused: refusal.Code}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, sealed := sealhttp.FromResponse(resp)
	return answer{resp.StatusCode, resp.Header, string(body), sealed, sealhttp.Code(resp.Header.Get("Sealed-Error"))}
}

// want makes a call that is to be answered with a status and a body that decodes
// into v, if that is not nil.
func (c caller) want(t *testing.T, status int, call call, v any) answer {
	t.Helper()
	a := c.do(t, call)
	if a.status != status || a.refused != "" {
		t.Fatalf("%s %s: got %d %s %s, want %d", call.method, call.target, a.status, a.refused, a.body, status)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(a.body), v); err != nil {
			t.Fatalf("%s %s: %v in %q", call.method, call.target, err, a.body)
		}
	}
	return a
}

// wantRefused makes a call that sealhttp is to refuse.
func (c caller) wantRefused(t *testing.T, status int, code sealhttp.Code, call call) {
	t.Helper()
	if a := c.do(t, call); a.status != status || a.refused != code {
		t.Errorf("%s %s: got %d %q %s, want %d %s", call.method, call.target, a.status, a.refused, a.body, status, code)
	}
}

// register registers the caller's public keyset, in plaintext.
func (c caller) register(t *testing.T, keyset []byte) (key events.RegisteredKey) {
	t.Helper()
	c.want(t, http.StatusOK, call{method: "PUT", target: "/key", body: string(keyset)}, &key)
	return key
}

// newTransport makes a key and a Transport with it, and returns the keyset to register.
func newTransport(t *testing.T, server *Server, base http.RoundTripper) (*sealhttp.Transport, *seal.PublicKey, []byte) {
	t.Helper()
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tinkkeys.Public(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	serverKeys, err := tinkkeys.ParsePublic([]byte(server.Keyset))
	if err != nil {
		t.Fatal(err)
	}
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKeys[0]),
		sealhttp.WithPrivateKeys(key), sealhttp.WithBase(base))
	if err != nil {
		t.Fatal(err)
	}
	return transport, key.Public(), public
}
