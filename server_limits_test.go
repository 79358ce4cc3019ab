package sealhttp_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvRaw is a connection to a server without TLS, for what net/http's client would
// not send, or not show.
type srvRaw struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func srvDial(t testing.TB, h http.Handler) *srvRaw {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	srvCheck(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	srvCheck(t, conn.SetDeadline(time.Now().Add(srvTimeout)))
	return &srvRaw{conn, t, bufio.NewReader(conn)}
}

// send sends a request's head.
func (c *srvRaw) send(method string, lines ...string) {
	c.t.Helper()
	head := method + " / HTTP/1.1\r\nHost: test\r\n" + strings.Join(append(lines, "\r\n"), "\r\n")
	_, err := io.WriteString(c, head)
	srvCheck(c.t, err)
}

// answer reads the next response, which may be a 1xx.
func (c *srvRaw) answer() *srvAnswer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return &srvAnswer{err: err}
	}
	a := &srvAnswer{status: resp.StatusCode, header: resp.Header, closing: resp.Close, proto: resp.Proto}
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}

// closed reports whether the server closes the connection, with nothing more sent.
func (c *srvRaw) closed() bool {
	c.t.Helper()
	_, err := c.r.ReadByte()
	return errors.Is(err, io.EOF)
}

const srvSealedLine = "Content-Type: " + sealhttp.MediaType

// srvUnread fails the test when its content is read.
func srvUnread(t testing.TB) io.ReadCloser {
	return io.NopCloser(srvReader(func([]byte) (int, error) {
		t.Error("the body was read")
		return 0, io.EOF
	}))
}

type srvReader func([]byte) (int, error)

func (f srvReader) Read(p []byte) (int, error) { return f(p) }

// What is refused before the body is read: the refusal must not wait for it.
func srvRefusedUnread() []srvRefusal {
	return []srvRefusal{
		{"too_large", []sealhttp.Option{sealhttp.WithMaxRequestBytes(10)}, nil, sealhttp.CodeTooLarge, 413},
		{"Content-Encoding", nil, []string{"Content-Encoding: gzip"}, sealhttp.CodeUnsupportedProfile, 415},
		{"Sealed-Content-Type twice", nil, []string{"Sealed-Content-Type: a/b", "Sealed-Content-Type: a/b"}, sealhttp.CodeMalformed, 400},
		{"Content-Type twice", nil, []string{"Content-Type: a/b"}, sealhttp.CodeMalformed, 400},
		{"Disabled", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}, nil, sealhttp.CodeEncryptionDisabled, 415},
		{"Required without Accept", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required)}, nil, sealhttp.CodeEncryptionRequired, 406},
		{"no client key", []sealhttp.Option{srvClientKeys(nil)}, []string{"Accept: " + sealhttp.MediaType}, sealhttp.CodeNoClientKey, 406},
		{"policy", []sealhttp.Option{sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return 0, errSrv })}, nil, sealhttp.CodePolicyUnavailable, 503},
		{"info", []sealhttp.Option{sealhttp.WithInfoFunc(func(*http.Request) (_, _ []byte, err error) { return nil, nil, errSrv })}, nil, sealhttp.CodeKeyStoreUnavailable, 503},
		{"exchange", nil, []string{"Sealed-Exchange: v=2"}, sealhttp.CodeUnsupportedProfile, 415},
	}
}

type srvRefusal struct {
	name   string
	opts   []sealhttp.Option
	header []string
	code   sealhttp.Code
	status int
}

func (r *srvRefusal) handler(t testing.TB) http.Handler {
	return srvMiddleware(t, append([]sealhttp.Option{sealhttp.WithLogger(slog.New(slog.DiscardHandler))}, r.opts...)...).Handler(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") }))
}

// Expect: 100-continue is refused without a 100, or honoured.
func TestServerExpectContinue(t *testing.T) {
	for _, tt := range srvRefusedUnread() {
		t.Run(tt.name, func(t *testing.T) {
			c := srvDial(t, tt.handler(t))
			c.send("POST", append([]string{srvSealedLine, "Content-Length: 1000", "Expect: 100-continue"}, tt.header...)...)
			a := c.answer()
			a.refused(t, tt.code, tt.status) // a 100 would be the first
			srvCheck(t, c.Conn.(*net.TCPConn).CloseWrite())
			if !a.closing || !c.closed() {
				t.Error("the connection stays open, though nobody knows what comes next on it")
			}
		})
	}
	t.Run("honoured", func(t *testing.T) {
		c := srvDial(t, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })))
		for range 2 {
			message := srvSeal(t, []byte("after 100"))
			c.send("POST", srvSealedLine, "Accept: "+sealhttp.MediaType, fmt.Sprint("Content-Length: ", len(message)), "Expect: 100-continue")
			if a := c.answer(); a.status != 100 || a.err != nil {
				t.Fatalf("status %d, %v; want 100", a.status, a.err)
			}
			_, err := c.Write(message)
			srvCheck(t, err)
			if a := c.answer().open(t, "POST"); string(a.body) != "after 100" || a.closing {
				t.Errorf("status %d, body %q, closing: %v", a.status, a.body, a.closing)
			}
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		c := srvDial(t, srvMiddleware(t).Handler(http.NotFoundHandler()))
		message := srvSeal(t, []byte("x"))
		c.send("POST", srvSealedLine, fmt.Sprint("Content-Length: ", len(message)))
		_, err := c.Write(message)
		srvCheck(t, err)
		if a := c.answer(); a.status != 404 {
			t.Errorf("status %d", a.status)
		}
	})
}

// What is refused by its header alone costs no reading.
func TestServerRefusesUnread(t *testing.T) {
	for _, tt := range srvRefusedUnread() {
		t.Run(tt.name, func(t *testing.T) {
			w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil)
			for _, line := range append([]string{srvSealedLine}, tt.header...) {
				name, value, _ := strings.Cut(line, ": ")
				r.Header.Add(name, value)
			}
			r.ContentLength, r.Body = 1000, srvUnread(t)
			tt.handler(t).ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("Sealed-Error") != string(tt.code) {
				t.Errorf("status %d, header %v", w.Code, w.Header())
			}
		})
	}
}

// A body that is never sent does not keep the refusal of its length back. Below
// 256 KiB net/http itself waits for the rest, to keep the connection.
func TestServerTooLargeWithoutBody(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limit  int64
		length int64
	}{
		{"default limit", 0, 10<<20 + 1000},
		{"default limit, far past", 0, 1 << 40},
		{"small limit", 1000, 300 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refusal := srvRefusal{}
			if tt.limit > 0 {
				refusal.opts = []sealhttp.Option{sealhttp.WithMaxRequestBytes(tt.limit)}
			}
			c := srvDial(t, refusal.handler(t))
			c.send("POST", srvSealedLine, fmt.Sprint("Content-Length: ", tt.length))
			a := c.answer()
			a.refused(t, sealhttp.CodeTooLarge, 413)
			if !a.closing || !c.closed() {
				t.Error("the connection stays open")
			}
		})
	}
}

// The limit is of the plaintext, exact to the byte, however the length is known.
func TestServerRequestLimit(t *testing.T) {
	const limit = 1000
	xwing := srvGenerate(seal.XWingAES256GCM)
	for _, set := range []struct {
		name string
		keys []*seal.PrivateKey
	}{
		{"one key", []*seal.PrivateKey{srvKey}},
		{"another key with longer messages", []*seal.PrivateKey{srvKey, xwing}},
	} {
		for _, proto := range srvProtos {
			m, err := sealhttp.New(srvKeys(set.keys...), srvClientKeys(srvCallerKey.Public()),
				sealhttp.WithMaxRequestBytes(limit), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
			srvCheck(t, err)
			var got int
			ran := false
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ran = true
				body, err := io.ReadAll(r.Body)
				srvCheck(t, err)
				got = len(body)
			})))
			for _, chunked := range []bool{false, true} {
				for _, tt := range []struct {
					size    int
					ok      bool
					closing bool // HTTP/1.1
				}{
					{limit - 1, true, false},
					{limit, true, false},
					{limit + 1, false, chunked && len(set.keys) == 1},
					{limit + 1088, false, chunked && len(set.keys) == 1},
					{limit + 1089, false, chunked},
					{limit + 5000, false, chunked},
					{limit + 300<<10, false, true},
				} {
					t.Run(fmt.Sprintf("%s/%s/chunked=%v/%d", set.name, proto, chunked, tt.size), func(t *testing.T) {
						ran = false
						var body io.Reader = bytes.NewReader(srvSeal(t, make([]byte, tt.size)))
						if chunked {
							body = io.MultiReader(body)
						}
						a := host.do(t, host.request(t, "POST", "/", body, http.Header{"Content-Type": {sealhttp.MediaType}}))
						host.wait()
						if ran != tt.ok {
							t.Errorf("the handler has run: %v", ran)
						}
						if tt.ok {
							if a.status != 200 || got != tt.size {
								t.Errorf("status %d, the handler got %d bytes, %v", a.status, got, a.err)
							}
						} else {
							a.refused(t, sealhttp.CodeTooLarge, 413)
						}
						if want := tt.closing && proto == "HTTP/1.1"; a.closing != want {
							t.Errorf("the connection is closed: %v, want %v", a.closing, want)
						}
					})
				}
			}
		}
	}
}

// A chunked body past the limit is refused while it comes: the rest is not waited for.
func TestServerTooLargeWhileReading(t *testing.T) {
	refusal := srvRefusal{opts: []sealhttp.Option{sealhttp.WithMaxRequestBytes(1000)}}
	c := srvDial(t, refusal.handler(t))
	c.send("POST", srvSealedLine, "Transfer-Encoding: chunked")
	for range 11 {
		_, err := fmt.Fprintf(c, "64\r\n%s\r\n", strings.Repeat("x", 100))
		srvCheck(t, err)
	}
	a := c.answer()
	a.refused(t, sealhttp.CodeTooLarge, 413)
	srvCheck(t, c.Conn.(*net.TCPConn).CloseWrite())
	if !a.closing || !c.closed() {
		t.Error("the connection stays open")
	}
}

// A body that breaks off is no message.
func TestServerBodyBreaksOff(t *testing.T) {
	for name, send := range map[string]func(*srvRaw){
		"length": func(c *srvRaw) {
			c.send("POST", srvSealedLine, "Content-Length: 100")
			_, _ = c.Write(make([]byte, 60))
		},
		"chunk": func(c *srvRaw) {
			c.send("POST", srvSealedLine, "Transfer-Encoding: chunked")
			_, _ = io.WriteString(c, "64\r\nabc")
		},
		"chunk is none": func(c *srvRaw) {
			c.send("POST", srvSealedLine, "Transfer-Encoding: chunked")
			_, _ = io.WriteString(c, "xyz\r\nabc")
		},
		"no last chunk": func(c *srvRaw) {
			c.send("POST", srvSealedLine, "Transfer-Encoding: chunked")
			message := srvSeal(t, []byte("whole"))
			_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", len(message), message)
		},
	} {
		t.Run(name, func(t *testing.T) {
			refusal := srvRefusal{}
			c := srvDial(t, refusal.handler(t))
			send(c)
			srvCheck(t, c.Conn.(*net.TCPConn).CloseWrite())
			a := c.answer()
			a.refused(t, sealhttp.CodeMalformed, 400)
			if !c.closed() {
				t.Error("the connection stays open")
			}
		})
	}
}

// A Content-Length is not believed: memory grows with the bytes that come.
func TestServerMemoryGrowsWithWhatComes(t *testing.T) {
	const length = 10 << 20
	const first = 64 << 10
	m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	begin := func() {
		body := io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(io.ErrUnexpectedEOF))
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Content-Type", sealhttp.MediaType)
		r.Body, r.ContentLength = io.NopCloser(body), length
		if call, err := m.Begin(httptest.NewRecorder(), r); call != nil || !errors.Is(err, sealhttp.CodeMalformed) {
			t.Fatalf("Begin: %v, %v", call, err)
		}
	}
	emptyPool := func() { runtime.GC(); runtime.GC() } // of larger buffers that other calls needed
	const calls = 50
	emptyPool()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		begin()
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / calls
	t.Logf("%d bytes allocated for each call with Content-Length %d and 10 bytes", each, length)
	if each > 2*first {
		t.Errorf("%d bytes allocated for each call", each)
	}
}

// The limit of responses, exact to the byte.
func TestServerResponseLimit(t *testing.T) {
	const limit = 1000
	const canary = "plaintext of a response that is too long"
	type write func(w http.ResponseWriter, n int) error
	pieces := func(size int) write {
		return func(w http.ResponseWriter, n int) error {
			fill := strings.Repeat(canary, n/len(canary)+1)[:n]
			for len(fill) > 0 {
				k := min(size, len(fill))
				if count, err := io.WriteString(w, fill[:k]); err != nil {
					if count != 0 {
						return fmt.Errorf("%d bytes taken with an error", count)
					}
					_, again := w.Write([]byte("x"))
					if !errors.Is(again, sealhttp.CodeResponseTooLarge) {
						return fmt.Errorf("after %w the next write: %v", err, again)
					}
					return err
				}
				fill = fill[k:]
			}
			return nil
		}
	}
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, tt := range []struct {
			name  string
			write write
		}{
			{"at once", pieces(1 << 20)},
			{"in pieces", pieces(7)},
			{"byte by byte", pieces(1)},
			{"declared", func(w http.ResponseWriter, n int) error {
				w.Header().Set("Content-Length", fmt.Sprint(n))
				return pieces(100)(w, n)
			}},
			{"copied", func(w http.ResponseWriter, n int) error {
				_, err := io.Copy(w, io.LimitReader(srvReader(func(p []byte) (int, error) { return copy(p, canary), nil }), int64(n)))
				return err
			}},
		} {
			for _, size := range []int{limit - 1, limit, limit + 1, 10 * limit} {
				t.Run(fmt.Sprintf("%s/%s/%d", proto, tt.name, size), func(t *testing.T) {
					var err error
					m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(limit), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
					current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", "text/plain")
						w.Header().Set("Etag", `"e"`)
						w.Header().Set("Trailer", "X-Sum")
						w.Header().Set(http.TrailerPrefix+"X-Sum2", canary)
						err = tt.write(w, size)
						w.Header().Set("X-Sum", canary)
						w.Header().Set(http.TrailerPrefix+"X-Sum3", canary)
					})))
					a := host.call(t, "POST", "/", []byte("x"))
					if size <= limit {
						if err != nil {
							t.Errorf("the handler got %v", err)
						}
						if got := a.open(t, "POST"); len(got.body) != size {
							t.Errorf("opened to %d bytes", len(got.body))
						}
						return
					}
					if !errors.Is(err, sealhttp.CodeResponseTooLarge) {
						t.Errorf("the handler got %v", err)
					}
					a.refused(t, sealhttp.CodeResponseTooLarge, 500)
					if a.header.Get("Etag") != "" || len(a.trailer) > 0 || strings.Contains(fmt.Sprint(a.header, a.trailer, string(a.body)), canary) {
						t.Errorf("header %v, trailer %v, body %q", a.header, a.trailer, a.body)
					}
				})
			}
		}
	}
}

// A plaintext response has no limit, whatever the request was.
func TestServerPlaintextResponseHasNoLimit(t *testing.T) {
	m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(10))
	host := srvServe(t, "HTTP/1.1", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("x", 1000)) })))
	row := srvRow{body: []byte("x")}
	for _, mode := range []srvMode{srvClear, srvOpened} {
		if a := row.send(t, host, mode); a.status != 200 || len(a.body) != 1000 {
			t.Errorf("%v: status %d, %d bytes", mode, a.status, len(a.body))
		}
	}
}

// http.MaxBytesReader outside of the middleware.
func TestServerMaxBytesOutside(t *testing.T) {
	for _, proto := range srvProtos {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", proto, chunked), func(t *testing.T) {
				refusal := srvRefusal{}
				host := srvServe(t, proto, http.MaxBytesHandler(refusal.handler(t), 500))
				var body io.Reader = bytes.NewReader(srvSeal(t, make([]byte, 1000)))
				if chunked {
					body = io.MultiReader(body)
				}
				a := host.do(t, host.request(t, "POST", "/", body, http.Header{"Content-Type": {sealhttp.MediaType}}))
				a.refused(t, sealhttp.CodeTooLarge, 413)
				if a.closing != (proto == "HTTP/1.1") {
					t.Errorf("the connection is closed: %v", a.closing)
				}
			})
		}
	}
}

// HTTP/1.0 has neither chunks nor kept connections.
func TestServerHTTP10(t *testing.T) {
	c := srvDial(t, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, r.Body)
	})))
	message := srvSeal(t, []byte("old"))
	_, err := fmt.Fprintf(c, "POST / HTTP/1.0\r\n%s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s", srvSealedLine, sealhttp.MediaType, len(message), message)
	srvCheck(t, err)
	if a := c.answer().open(t, "POST"); string(a.body) != "old" || !c.closed() {
		t.Errorf("opened to %q", a.body)
	}
}
