package publish_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

const service = "api.example.com"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where rings in memory log to
	os.Exit(m.Run())
}

// signerOf makes a signing key that is the same in every run.
func signerOf(seed byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

var (
	signer = signerOf(1)
	pin    = pinOf(signer)
	pins   = []ed25519.PublicKey{pin}
)

func pinOf(signer crypto.Signer) ed25519.PublicKey { return signer.Public().(ed25519.PublicKey) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless err is all of the targets.
func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", targets)
	}
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error %q is not %q", err, target)
		}
	}
}

func newKey(t testing.TB, suite seal.Suite) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey(suite)
	check(t, err)
	return k
}

// ring is a [publish.Keys] and the private keys behind it.
type ring struct {
	t        testing.TB
	mu       sync.Mutex
	revision uint64
	keys     []*seal.PrivateKey
}

func newRing(t testing.TB) *ring {
	return &ring{t: t, revision: 1, keys: []*seal.PrivateKey{newKey(t, seal.X25519AES256GCM)}}
}

func (r *ring) Published() (uint64, []*seal.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var public []*seal.PublicKey
	for _, k := range r.keys {
		public = append(public, k.Public())
	}
	return r.revision, public
}

func (r *ring) ServerKeys(context.Context) (*seal.KeySet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return seal.NewKeySet(r.keys[0], r.keys[1:]...)
}

func (r *ring) primary() *seal.PublicKey {
	_, keys := r.Published()
	return keys[0]
}

// rotate makes a new primary and keeps the old one.
func (r *ring) rotate() {
	r.t.Helper()
	k := newKey(r.t, seal.X25519AES256GCM)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	r.keys = []*seal.PrivateKey{k, r.keys[0]}
}

// revoke makes a new primary and drops all others.
func (r *ring) revoke() {
	r.t.Helper()
	r.rotate()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = r.keys[:1]
}

func newHandler(t testing.TB, keys publish.Keys, opts ...publish.HandlerOption) *publish.Handler {
	t.Helper()
	h, err := publish.NewHandler(keys, service, signer, append([]publish.HandlerOption{quiet}, opts...)...)
	check(t, err)
	return h
}

func newSource(t testing.TB, url string, opts ...publish.SourceOption) *publish.Source {
	t.Helper()
	s, err := publish.NewSource(url, service, pins, append([]publish.SourceOption{quiet}, opts...)...)
	check(t, err)
	return s
}

var quiet = publish.WithLogger(slog.New(slog.DiscardHandler))

// site is a publication URL that can be changed, and counts what it is asked.
type site struct {
	handler atomic.Pointer[http.Handler]
	fetches atomic.Int64
}

func newSite(h http.Handler) *site {
	s := new(site)
	s.serve(h)
	return s
}

func (s *site) serve(h http.Handler) { s.handler.Store(&h) }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.fetches.Add(1)
	(*s.handler.Load()).ServeHTTP(w, r)
}

// start serves a site over loopback.
func (s *site) start(t testing.TB) (url string, client publish.SourceOption) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL, publish.WithHTTPClient(server.Client())
}

// RoundTrip makes a site a transport, where time is simulated and no connection may
// be.
func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// inMemory is the option for a [publish.Source] that fetches from a site directly.
func (s *site) inMemory() publish.SourceOption {
	return publish.WithHTTPClient(&http.Client{Transport: s})
}

// fixed serves bytes as a signed key set.
func fixed(document []byte) http.Handler { return served(publish.MediaType, document) }

func served(mediaType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Write(body)
	})
}

var down = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusBadGateway)
})

// sign signs a set that is valid now.
func sign(t testing.TB, signer crypto.Signer, revision uint64, keys ...*seal.PublicKey) []byte {
	t.Helper()
	now := time.Now()
	document, err := publish.Sign(signer, publish.Set{Name: service, Revision: revision, Issued: now, Expires: now.Add(time.Hour), Keys: keys})
	check(t, err)
	return document
}

// members are those of a header or payload, as JSON.
type members map[string]string

// with returns the members with some changed; "" removes one.
func (m members) with(pairs ...string) members {
	out := members{}
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(out, pairs[i])
		} else {
			out[pairs[i]] = pairs[i+1]
		}
	}
	return out
}

func (m members) String() string {
	var all []string
	for k, v := range m {
		all = append(all, quote(k)+":"+v)
	}
	return "{" + strings.Join(all, ",") + "}"
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// goodHeader is the header of what signer signs.
func goodHeader(t testing.TB, signer ed25519.PrivateKey) members {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: pinOf(signer)}).Thumbprint(crypto.SHA256)
	check(t, err)
	return members{"alg": `"EdDSA"`, "kid": quote(base64.RawURLEncoding.EncodeToString(sum)), "typ": `"sealhttp-keys+jwt"`}
}

// goodPayload is a payload that is valid now.
func goodPayload(t testing.TB, keys ...*seal.PublicKey) members {
	t.Helper()
	keyset, err := tinkkeys.Public(keys...)
	check(t, err)
	now := time.Now().Unix()
	return members{"ver": "1", "sub": quote(service), "rev": "7", "iat": number(now), "exp": number(now + 3600), "keys": string(keyset)}
}

func number(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// forge signs any header and any payload with Ed25519, whatever the header says.
func forge(signer ed25519.PrivateKey, header, payload string) []byte {
	input := b64(header) + "." + b64(payload)
	return []byte(input + "." + b64(string(ed25519.Sign(signer, []byte(input)))))
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// get asks a handler.
func get(t testing.TB, h http.Handler, method string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "/keys", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func read(t testing.TB, resp *http.Response) []byte {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(t, err)
	return b
}
