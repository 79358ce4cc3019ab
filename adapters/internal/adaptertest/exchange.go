package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// patience is how long anything may take before it counts as hung.
const patience = 30 * time.Second

// Protocols are what every row runs on. HTTP/2 comes without TLS, so that what is on
// the socket can be read.
var Protocols = []string{"HTTP/1.1", "HTTP/2.0"}

// Mode says what of a call is sealed.
type Mode uint8

// The modes.
const (
	Plain  Mode = iota
	Opened      // only the request is sealed
	Asked       // only the response is sealed
	Sealed      // both are
)

func (m Mode) String() string {
	return [...]string{"plain", "request sealed", "response sealed", "both sealed"}[m]
}

func (m Mode) request() bool  { return m == Opened || m == Sealed }
func (m Mode) response() bool { return m == Asked || m == Sealed }

// Answer is what came of one call.
type Answer struct {
	Err       error // the connection broke
	Status    int
	Header    http.Header
	Trailer   http.Header
	Body      []byte // as on the wire
	Plaintext []byte // Body, opened if it was sealed
	Hints     []string
	In, Out   []byte // the socket's bytes, to and from the server

	Sight  *Sight
	Notes  map[string]string
	Logged *Logged
}

// IsSealed reports whether the body is a message.
func (a *Answer) IsSealed() bool { return a.Header.Get("Content-Type") == sealhttp.MediaType }

// host is a server on a loopback address that keeps what goes over its sockets.
type host struct {
	addr string

	mu       sync.Mutex
	idle     sync.Cond
	conns    int // open ones
	handlers int // running ones
	in, out  bytes.Buffer
}

// tap is a connection that the host listens to. It has no ReadFrom: nothing goes past Write.
type tap struct {
	net.Conn
	h *host
}

func (t tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.h.mu.Lock()
	t.h.in.Write(p[:n])
	t.h.mu.Unlock()
	return n, err
}

func (t tap) Write(p []byte) (int, error) {
	t.h.mu.Lock()
	t.h.out.Write(p)
	t.h.mu.Unlock()
	return t.Conn.Write(p)
}

type tapListener struct {
	net.Listener
	h *host
}

func (l tapListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tap{conn, l.h}, nil
}

// serve starts a server for HTTP/1.1 and HTTP/2, both without TLS.
func serve(t testing.TB, handler http.Handler) *host {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{addr: listener.Addr().String()}
	h.idle.L = &h.mu
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.count(&h.handlers, 1)
			defer h.count(&h.handlers, -1)
			handler.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				h.count(&h.conns, 1)
			case http.StateClosed, http.StateHijacked:
				h.count(&h.conns, -1)
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(tapListener{listener, h}) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return h
}

func (h *host) count(n *int, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*n += by
	h.idle.Broadcast()
}

// settle waits until a counter is 0.
func (h *host) settle(t testing.TB, what string, n *int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	late := false
	timer := time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		late = true
		h.idle.Broadcast()
	})
	defer timer.Stop()
	for *n > 0 && !late {
		h.idle.Wait()
	}
	if *n > 0 {
		t.Fatalf("%d %s did not end", *n, what)
	}
}

// newTransport makes one that speaks one protocol, and adds nothing to a request, and a
// function that closes its connections, idle or not.
func newTransport(proto string) (transport *http.Transport, closeAll func()) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == Protocols[0])
	protocols.SetUnencryptedHTTP2(proto == Protocols[1])
	var mu sync.Mutex
	var conns []net.Conn
	transport = &http.Transport{
		Protocols:             protocols,
		DisableCompression:    true,
		ExpectContinueTimeout: patience,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, conn)
			return conn, err
		},
	}
	return transport, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}
}

// call is a request as it goes out.
type call struct {
	method, target string
	header         http.Header
	body           []byte
	chunked        bool
}

// newFile makes the file of the routes that serve one.
func newFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(name, []byte("A file with "+Canary+".\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(name, then, then); err != nil {
		t.Fatal(err)
	}
	return name
}

// do sends a call to a new application and waits until all of it is over.
func do(t testing.TB, router Router, site *Site, proto string, c call) *Answer {
	t.Helper()
	site.Received = make(chan struct{})
	received := sync.OnceFunc(func() { close(site.Received) })
	defer received()
	h := serve(t, router.New(site))

	answer := new(Answer)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if code != http.StatusContinue {
				answer.Hints = append(answer.Hints, fmt.Sprint(code, header["Link"], header["Content-Type"]))
			}
			return nil
		},
	})
	var body io.Reader
	switch {
	case c.chunked:
		body = struct{ io.Reader }{bytes.NewReader(c.body)}
	case c.body != nil:
		body = bytes.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, "http://"+h.addr+c.target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = c.header
	req.Host = "api.example.com"
	req.GetBody = nil // a call is sent once
	transport, closeAll := newTransport(proto)
	defer closeAll()
	resp, err := transport.RoundTrip(req)
	if err == nil {
		answer.Status, answer.Header = resp.StatusCode, resp.Header
		answer.Body, err = io.ReadAll(resp.Body)
		answer.Trailer = resp.Trailer
		_ = resp.Body.Close()
		if resp.Proto != proto {
			t.Fatalf("the call went over %s", resp.Proto)
		}
	}
	if ctx.Err() != nil {
		t.Fatalf("the call hung: %v", err)
	}
	answer.Err = err
	received()
	h.settle(t, "handlers", &h.handlers)
	if site.LateDone != nil {
		<-site.LateDone
	}
	closeAll()
	h.settle(t, "connections", &h.conns)
	h.mu.Lock()
	answer.In, answer.Out = h.in.Bytes(), h.out.Bytes()
	h.mu.Unlock()
	answer.Sight, answer.Notes, answer.Logged = site.noted()
	answer.open(t, c)
	return answer
}

// open opens a body that says it is sealed.
func (a *Answer) open(t testing.TB, c call) {
	t.Helper()
	a.Plaintext = a.Body
	if a.Err != nil || !a.IsSealed() || !hasContent(c.method, a.Status) {
		return
	}
	message := a.Body
	if a.Header.Get("Content-Encoding") == "gzip" {
		message = gunzip(t, message)
	}
	plaintext, err := callerKey.Open(nil, message, nil)
	if err != nil {
		t.Fatalf("a sealed response of status %d does not open: %v", a.Status, err)
	}
	a.Plaintext = plaintext
}

// hasContent reports whether a response has content by its nature.
func hasContent(method string, status int) bool {
	return method != http.MethodHead && status >= 200 &&
		status != http.StatusNoContent && status != http.StatusResetContent && status != http.StatusNotModified
}

// sealed seals what a caller sends.
func sealed(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	message, err := serverKey.Public().Seal(nil, plaintext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// headers counts the response heads on a socket of HTTP/1.1.
func headers(out []byte) int { return strings.Count("\r\n"+string(out), "\r\nHTTP/1.1 ") }
