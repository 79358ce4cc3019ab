package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// trBothProtocols runs a test over HTTP/1.1 and over HTTP/2.
func trBothProtocols(t *testing.T, test func(t *testing.T, h2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

// trServe starts a server with TLS and returns it with a transport of its own.
func trServe(t *testing.T, h2 bool, handler http.Handler) (*httptest.Server, *http.Transport) {
	t.Helper()
	major := 1
	if h2 {
		major = 2
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != major {
			t.Errorf("the server was spoken to in %s", r.Proto)
		}
		handler.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = h2
	server.StartTLS()
	t.Cleanup(server.Close)
	base := server.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	return server, base
}

// trServeClear starts a server without TLS, so that a [trWire] below its transport
// sees what is said: in HTTP/2 with prior knowledge.
func trServeClear(t *testing.T, h2 bool, handler http.Handler) (*httptest.Server, *http.Transport, *trWire) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = trProtocols(h2)
	server.Start()
	t.Cleanup(server.Close)
	base, wire := trWiretap(t, h2)
	return server, base, wire
}

func trProtocols(h2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	return p
}

// trWire records all that is written to connections, and where they go.
type trWire struct {
	mu      sync.Mutex
	written [][]byte // of each connection
	dialed  []string
	deny    func(conn, write int) error // if set: asked before each write
}

func trWiretap(t *testing.T, h2 bool) (*http.Transport, *trWire) {
	wire := new(trWire)
	base := &http.Transport{DialContext: wire.dial, Protocols: trProtocols(h2)}
	t.Cleanup(base.CloseIdleConnections)
	return base, wire
}

func (w *trWire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	n := len(w.dialed)
	w.dialed = append(w.dialed, address)
	w.written = append(w.written, nil)
	w.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &trTapped{Conn: conn, wire: w, n: n}, nil
}

type trTapped struct {
	net.Conn
	wire   *trWire
	n      int
	writes int
}

func (c *trTapped) Write(p []byte) (int, error) {
	c.wire.mu.Lock()
	c.writes++
	if c.wire.deny != nil {
		if err := c.wire.deny(c.n, c.writes); err != nil {
			c.wire.mu.Unlock()
			return 0, err
		}
	}
	c.wire.written[c.n] = append(c.wire.written[c.n], p...)
	c.wire.mu.Unlock()
	return c.Conn.Write(p)
}

func (w *trWire) all() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Join(w.written, nil)
}

func (w *trWire) addresses() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.dialed...)
}

// trForms returns what a secret looks like raw, in hex, and in base64 at any offset.
func trForms(secret []byte) [][]byte {
	forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret)))}
	for offset := range 3 {
		part := secret[offset:]
		part = part[:len(part)/3*3]
		forms = append(forms, []byte(base64.StdEncoding.EncodeToString(part)), []byte(base64.URLEncoding.EncodeToString(part)))
	}
	return forms
}

func trHolds(haystack, secret []byte) bool {
	for _, form := range trForms(secret) {
		if bytes.Contains(haystack, form) {
			return true
		}
	}
	return false
}

// trCanary is what must never be on the wire.
const trCanary = "canary-b5Jq9xVw2RkT7mZc4Ld8-yHn1Ga6Ps3Eu0?oFi>"

// trBodyOf returns a body of at least n bytes, all of canaries.
func trBodyOf(n int) string {
	return strings.Repeat(trCanary, n/len(trCanary)+1)
}

func (w *trWire) check(t *testing.T) {
	t.Helper()
	wire := w.all()
	if len(wire) == 0 {
		t.Error("nothing was written")
	}
	if trHolds(wire, []byte(trCanary)) {
		t.Error("plaintext was written to the network")
	}
}

// trKey makes a key.
func trKey(t testing.TB, suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey(suite, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func trDefaultKey(t testing.TB) *seal.PrivateKey {
	t.Helper()
	return trKey(t, seal.X25519AES256GCM)
}

func trKeys(t testing.TB, primary *seal.PrivateKey, others ...*seal.PrivateKey) sealhttp.ServerKeys {
	t.Helper()
	set, err := seal.NewKeySet(primary, others...)
	if err != nil {
		t.Fatal(err)
	}
	return sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil })
}

func trClientKey(key *seal.PublicKey) sealhttp.Option {
	return sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return key, nil }))
}

func trMiddleware(t testing.TB, keys sealhttp.ServerKeys, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	quiet := sealhttp.WithLogger(slog.New(slog.DiscardHandler))
	m, err := sealhttp.New(keys, append([]sealhttp.Option{quiet}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func trTransport(t testing.TB, keys sealhttp.ServerPublicKeys, opts ...sealhttp.TransportOption) *sealhttp.Transport {
	t.Helper()
	transport, err := sealhttp.NewTransport(keys, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return transport
}

func trRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// trDo makes a call that must succeed, and returns the body read.
func trDo(t testing.TB, rt http.RoundTripper, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s: %v", req.Method, err)
	}
	return resp, trRead(t, resp)
}

func trRead(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Errorf("closing the response: %v", err)
	}
	return string(body)
}

// trFail makes a call that must fail, and returns the error.
func trFail(t testing.TB, rt http.RoundTripper, req *http.Request) error {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if resp != nil {
		t.Errorf("got a response, %s", resp.Status)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Fatal("got no error")
	}
	return err
}

// trIs checks an error that must be of a code, with a status and causes.
func trIs(t testing.TB, err error, code sealhttp.Code, status int, causes ...error) {
	t.Helper()
	var e *sealhttp.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of %s", err, code)
	}
	if e.Code != code || e.Status != status {
		t.Errorf("got code %q and status %d, want %q and %d (%v)", e.Code, e.Status, code, status, err)
	}
	for _, cause := range append(causes, code) {
		if !errors.Is(err, cause) {
			t.Errorf("%v is not %v", err, cause)
		}
	}
	for _, other := range []error{sealhttp.ErrRefused, sealhttp.ErrResponseNotOpened, sealhttp.ErrPlaintextResponse, sealhttp.ErrRedirect} {
		if errors.Is(err, other) && !trContains(causes, other) {
			t.Errorf("%v is also %v", err, other)
		}
	}
}

func trContains(errs []error, target error) bool {
	for _, err := range errs {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// trBase is a base transport made of a function.
type trBase func(*http.Request) (*http.Response, error)

func (f trBase) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// trBody is a body that counts how often it is closed.
type trBody struct {
	io.Reader
	closed atomic.Int64
}

func (b *trBody) Close() error {
	b.closed.Add(1)
	return nil
}

func trNewBody(s string) *trBody { return &trBody{Reader: strings.NewReader(s)} }

// trTracking is a base transport that keeps the bodies of its responses, to see
// that they are closed.
type trTracking struct {
	http.RoundTripper
	mu     sync.Mutex
	bodies []*trTracked
}

type trTracked struct {
	io.ReadCloser
	closed atomic.Int64
}

func (b *trTracked) Close() error {
	b.closed.Add(1)
	return b.ReadCloser.Close()
}

func (b *trTracking) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		body := &trTracked{ReadCloser: resp.Body}
		resp.Body = body
		b.mu.Lock()
		b.bodies = append(b.bodies, body)
		b.mu.Unlock()
	}
	return resp, err
}

// check checks that there were n responses, and that all were closed.
func (b *trTracking) check(t testing.TB, n int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.bodies) != n {
		t.Errorf("%d responses, want %d", len(b.bodies), n)
	}
	for i, body := range b.bodies {
		if body.closed.Load() == 0 {
			t.Errorf("the body of response %d was not closed", i+1)
		}
	}
}

// trAnswer is a response to req, as a base transport makes one.
func trAnswer(req *http.Request, status int, header http.Header, body io.ReadCloser) *http.Response {
	if header == nil {
		header = make(http.Header)
	}
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: body, ContentLength: -1, Request: req,
	}
}

// trSource is a source of public keys that keeps what it was asked with.
type trSource struct {
	mu      sync.Mutex
	answer  func(refused *seal.PublicKey) (*seal.PublicKey, error)
	refused []*seal.PublicKey
}

func (s *trSource) PublicKey(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, refused)
	return s.answer(refused)
}

func (s *trSource) asked() []*seal.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*seal.PublicKey(nil), s.refused...)
}

// trCounting counts what reaches a handler.
type trCounting struct {
	http.Handler
	n atomic.Int64
}

func (c *trCounting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	c.Handler.ServeHTTP(w, r)
}

// trEcho answers with the body and the Content-Type that it was sent.
var trEcho = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	_, _ = w.Write(body)
})
