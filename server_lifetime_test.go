package sealhttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// A panic goes through, and nothing of its response is sent: half a response must
// not look whole.
func TestServerPanics(t *testing.T) {
	const canary = "half a response, in plaintext"
	for _, proto := range srvProtos {
		for _, tt := range []struct {
			name    string
			value   any
			handler func(w http.ResponseWriter)
		}{
			{"before a write", "boom", func(http.ResponseWriter) {}},
			{"after WriteHeader", "boom", func(w http.ResponseWriter) { w.WriteHeader(200) }},
			{"after a write", "boom", func(w http.ResponseWriter) { fmt.Fprint(w, canary) }},
			{"after a flush", "boom", func(w http.ResponseWriter) { fmt.Fprint(w, canary); w.(http.Flusher).Flush() }},
			{"after a large write", "boom", func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat(canary, 10_000)) }},
			{"ErrAbortHandler", http.ErrAbortHandler, func(w http.ResponseWriter) { fmt.Fprint(w, canary) }},
			{"an error", errSrv, func(w http.ResponseWriter) { fmt.Fprint(w, canary) }},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				var events []sealhttp.Event
				m := srvMiddleware(t, sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
				var recovered any
				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					tt.handler(w)
					panic(tt.value)
				}))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						recovered = recover()
						panic(recovered)
					}()
					h.ServeHTTP(w, r)
				}))
				a := host.call(t, "POST", "/", []byte("x"))
				if a.err == nil {
					t.Errorf("the caller got status %d and %d bytes", a.status, len(a.body))
				}
				if recovered != tt.value {
					t.Errorf("outside, the panic is %v, want %v", recovered, tt.value)
				}
				host.logged(t, tt.value != http.ErrAbortHandler, "panic serving")
				if len(events) != 1 || events[0].Err == nil || events[0].Code != "" || events[0].Status != 0 {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
}

// A recoverer outside of the middleware answers in plaintext, of its own.
func TestServerRecovererOutside(t *testing.T) {
	for _, proto := range srvProtos {
		for _, write := range []string{"", "half a response"} {
			t.Run(fmt.Sprintf("%s/%d", proto, len(write)), func(t *testing.T) {
				h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Length", "1000")
					w.Header().Set("Content-Type", "a/b")
					w.Header().Set(http.TrailerPrefix+"X-Sum", "half")
					w.WriteHeader(201)
					_, _ = io.WriteString(w, write)
					panic("boom")
				}))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if v := recover(); v != nil {
							w.WriteHeader(500)
							fmt.Fprint(w, "recovered: ", v)
						}
					}()
					h.ServeHTTP(w, r)
				}))
				a := host.call(t, "POST", "/", []byte("x"))
				if a.err != nil || a.status != 500 || string(a.body) != "recovered: boom" || len(a.trailer) > 0 {
					t.Errorf("status %d, body %q, trailer %v, %v", a.status, a.body, a.trailer, a.err)
				}
			})
		}
	}
}

// Each of these would let plaintext past the sealing writer.
func TestServerWriterOffersNoWayAround(t *testing.T) {
	for _, proto := range srvProtos {
		for _, preflight := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/preflight=%v", proto, preflight), func(t *testing.T) {
				ran := false
				host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran = true
					if _, ok := w.(http.Hijacker); ok {
						t.Error("it has Hijack")
					}
					if _, ok := w.(io.ReaderFrom); ok {
						t.Error("it has ReadFrom")
					}
					if _, ok := w.(http.Pusher); ok {
						t.Error("it has Push")
					}
					if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
						t.Error("it has Unwrap")
					}
					if _, ok := w.(interface{ CloseNotify() <-chan bool }); ok {
						t.Error("it has CloseNotify")
					}
					conn, _, err := http.NewResponseController(w).Hijack()
					if conn != nil || !errors.Is(err, http.ErrNotSupported) {
						t.Errorf("Hijack through http.ResponseController: %v, %v", conn, err)
					}
				})))
				if !preflight {
					host.call(t, "POST", "/", []byte("x")).open(t, "POST")
				} else {
					host.do(t, host.request(t, "OPTIONS", "/", nil, http.Header{"Origin": {"https://a"}, "Access-Control-Request-Method": {"PUT"}}))
				}
				if !ran {
					t.Error("the handler has not run")
				}
			})
		}
	}
}

// The connection is not for a handler to take, so it cannot be switched either: the
// caller is told so, sealed.
func TestServerSwitchesNoProtocols(t *testing.T) {
	for _, proto := range srvProtos {
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "x")
			w.WriteHeader(http.StatusSwitchingProtocols)
			fmt.Fprint(w, "in the other protocol")
		})))
		if a := host.call(t, "POST", "/", []byte("x")).open(t, "POST"); a.status != http.StatusNotImplemented {
			t.Errorf("%s: status %d", proto, a.status)
		}
	}
}

// What http.ResponseController may do reaches the connection.
func TestServerForwardsDeadlines(t *testing.T) {
	w := &srvDeadlines{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", sealhttp.MediaType)
	call, err := srvMiddleware(t).Begin(w, r)
	srvCheck(t, err)
	defer call.Close()
	read, write := time.Unix(1, 0), time.Unix(2, 0)
	rc := http.NewResponseController(call.Writer)
	srvCheck(t, rc.SetReadDeadline(read))
	srvCheck(t, rc.SetWriteDeadline(write))
	srvCheck(t, rc.EnableFullDuplex())
	if !w.read.Equal(read) || !w.write.Equal(write) || !w.duplex {
		t.Errorf("got %v, %v, %v", w.read, w.write, w.duplex)
	}

	// Where the server has none of it, that is said.
	r = httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", sealhttp.MediaType)
	call, err = srvMiddleware(t).Begin(httptest.NewRecorder(), r)
	srvCheck(t, err)
	defer call.Close()
	rc = http.NewResponseController(call.Writer)
	for _, err := range []error{rc.SetReadDeadline(read), rc.SetWriteDeadline(write), rc.EnableFullDuplex()} {
		if !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("got %v", err)
		}
	}
}

type srvDeadlines struct {
	http.ResponseWriter
	read, write time.Time
	duplex      bool
}

func (w *srvDeadlines) SetReadDeadline(t time.Time) error  { w.read = t; return nil }
func (w *srvDeadlines) SetWriteDeadline(t time.Time) error { w.write = t; return nil }
func (w *srvDeadlines) EnableFullDuplex() error            { w.duplex = true; return nil }

// A goroutine that a handler leaves behind can neither write behind the sealed
// body nor read the opened one.
func TestServerHandlerLeavesGoroutine(t *testing.T) {
	for _, proto := range srvProtos {
		for _, end := range []string{"return", "panic", "too large"} {
			t.Run(proto+"/"+end, func(t *testing.T) {
				returned := make(chan struct{})
				done := make(chan struct{})
				running := make(chan struct{})
				var rounds atomic.Int64
				m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(1000), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
					sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
						for now := rounds.Load(); rounds.Load() < now+3; time.Sleep(time.Millisecond) { // while the goroutine goes on
						}
						sealhttp.WriteError(w, r, err)
					}))
				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					one := make([]byte, 1)
					if n, err := r.Body.Read(one); n != 1 || err != nil {
						t.Errorf("first read: %d, %v", n, err)
					}
					go func() {
						defer close(done)
						// While Finish and Close run, all of this is at the same time.
						for i := 0; ; i++ {
							_, _ = io.WriteString(w, "x")
							_, _ = r.Body.Read(one)
							w.(http.Flusher).Flush()
							_, _ = sealhttp.FromContext(r.Context())
							rounds.Add(1)
							if i == 10 {
								close(running)
							}
							select {
							case <-returned:
							default:
								continue
							}
							break
						}
						if n, err := io.WriteString(w, "late"); n != 0 || !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("WriteString after the end: %d, %v", n, err)
						}
						if n, err := w.Write([]byte("late")); n != 0 || !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("Write after the end: %d, %v", n, err)
						}
						if err := http.NewResponseController(w).Flush(); !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("Flush after the end: %v", err)
						}
						w.WriteHeader(500)
						w.WriteHeader(103)
						if n, err := r.Body.Read(one); n != 0 || err == nil || errors.Is(err, io.EOF) {
							t.Errorf("Read after the end: %d, %v", n, err)
						}
						if err := r.Body.Close(); err != nil {
							t.Errorf("Close after the end: %v", err)
						}
					}()
					<-running
					switch end {
					case "panic":
						panic(http.ErrAbortHandler)
					case "too large":
						_, _ = w.Write(make([]byte, 2000))
					}
				}))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(returned)
					h.ServeHTTP(w, r)
				}))
				a := host.call(t, "POST", "/", []byte(strings.Repeat("plaintext", 100_000)))
				srvWithin(t, "the goroutine", func() { <-done })
				switch end {
				case "return":
					if a.status == 500 { // it wrote more than the limit before the handler returned
						a.refused(t, sealhttp.CodeResponseTooLarge, 500)
					} else if body := a.open(t, "POST").body; strings.Trim(string(body), "x") != "" {
						t.Errorf("the caller got %q", body)
					}
				case "panic":
					if a.err == nil {
						t.Errorf("the caller got status %d", a.status)
					}
				default:
					a.refused(t, sealhttp.CodeResponseTooLarge, 500)
				}
			})
		}
	}
}

// net/http removes the temporary files of the request that it made itself, not of
// the copy that the handler gets.
func TestServerTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	form, contentType := srvForm(t, 100_000)
	count := func() int {
		entries, err := os.ReadDir(dir)
		srvCheck(t, err)
		return len(entries)
	}
	for _, proto := range srvProtos {
		for _, mode := range []srvMode{srvClear, srvSealed, srvOpened, srvBoth} {
			for _, panics := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/panics=%v", proto, mode, panics), func(t *testing.T) {
					during := 0
					host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						srvCheck(t, r.ParseMultipartForm(1))
						during = count()
						if panics {
							panic(http.ErrAbortHandler)
						}
					})))
					row := srvRow{body: form, content: contentType}
					row.send(t, host, mode)
					host.Close() // waits for net/http too
					if panics && mode == srvClear && proto == "HTTP/1.1" {
						// net/http itself leaves them
						entries, err := os.ReadDir(dir)
						srvCheck(t, err)
						for _, e := range entries {
							srvCheck(t, os.Remove(dir+"/"+e.Name()))
						}
					}
					if during == 0 || count() != 0 {
						t.Errorf("%d files during the call, %d after it", during, count())
					}
				})
			}
		}
	}
}

// A form that was parsed outside is its parser's to remove.
func TestServerKeepsOthersForm(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	form, contentType := srvForm(t, 100_000)
	h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	var after error
	host := srvServe(t, "HTTP/1.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srvCheck(t, r.ParseMultipartForm(1))
		h.ServeHTTP(w, r)
		f, err := r.MultipartForm.File["file"][0].Open()
		if err == nil {
			_ = f.Close()
		}
		after = err
	}))
	row := srvRow{body: form, content: contentType}
	row.send(t, host, srvSealed).open(t, "POST")
	if after != nil {
		t.Errorf("after the handler, outside: %v", after)
	}
}

// The seam that adapters stand on.
func TestServerCall(t *testing.T) {
	t.Run("nil", func(t *testing.T) {
		m := srvMiddleware(t)
		call, err := m.Begin(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if call != nil || err != nil {
			t.Fatalf("Begin in clear: %v, %v", call, err)
		}
		call.Close()
		status, n := call.Sent()
		if err := call.Finish(); err != nil || status != 0 || n != 0 {
			t.Errorf("Finish of nil: %v; sent %d, %d", err, status, n)
		}
	})
	begin := func(t *testing.T, method string, opts ...sealhttp.Option) (*sealhttp.Call, *httptest.ResponseRecorder) {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", bytes.NewReader(srvSeal(t, []byte("x"))))
		r.Header.Set("Content-Type", sealhttp.MediaType)
		r.Header.Set("Accept", sealhttp.MediaType)
		call, err := srvMiddleware(t, opts...).Begin(w, r)
		srvCheck(t, err)
		return call, w
	}
	t.Run("Sent", func(t *testing.T) {
		call, w := begin(t, "POST")
		_, _ = io.WriteString(call.Writer, "hello")
		if status, n := call.Sent(); status != 0 || n != 0 || w.Body.Len() != 0 {
			t.Errorf("before Finish: sent %d, %d; recorded %d", status, n, w.Body.Len())
		}
		srvCheck(t, call.Finish())
		want := int64(len("hello") + srvCallerKey.Public().Overhead())
		if status, n := call.Sent(); status != 200 || n != want || int64(w.Body.Len()) != want {
			t.Errorf("after Finish: sent %d, %d; recorded %d, want %d", status, n, w.Body.Len(), want)
		}
		call.Close()
		if status, n := call.Sent(); status != 200 || n != want {
			t.Errorf("after Close: sent %d, %d", status, n)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		call, _ := begin(t, "HEAD")
		_, _ = io.WriteString(call.Writer, "hello")
		srvCheck(t, call.Finish())
		if status, n := call.Sent(); status != 200 || n != 0 {
			t.Errorf("sent %d, %d", status, n)
		}
		call.Close()
	})
	t.Run("twice", func(t *testing.T) {
		events := 0
		call, w := begin(t, "POST", sealhttp.WithObserver(func(*http.Request, sealhttp.Event) { events++ }))
		srvCheck(t, call.Finish())
		n := w.Body.Len()
		srvCheck(t, call.Finish())
		call.Close()
		call.Close()
		if w.Body.Len() != n || events != 1 {
			t.Errorf("%d bytes, then %d; %d events", n, w.Body.Len(), events)
		}
	})
	t.Run("Close without Finish", func(t *testing.T) {
		call, w := begin(t, "POST")
		_, _ = io.WriteString(call.Writer, "hello")
		call.Close()
		if w.Body.Len() != 0 || w.Flushed {
			t.Errorf("sent %q", w.Body)
		}
		if _, err := io.WriteString(call.Writer, "x"); !errors.Is(err, sealhttp.ErrCallClosed) {
			t.Errorf("write: %v", err)
		}
		if err := call.Finish(); !errors.Is(err, sealhttp.ErrCallClosed) || w.Body.Len() != 0 {
			t.Errorf("Finish after Close: %v, sent %q", err, w.Body)
		}
	})
	t.Run("after Finish", func(t *testing.T) {
		call, w := begin(t, "POST")
		srvCheck(t, call.Finish())
		n := w.Body.Len()
		http.Error(call.Writer, "rendered late", 500)
		if w.Body.Len() != n || w.Code != 200 {
			t.Errorf("an error renderer got past: status %d, %q", w.Code, w.Body)
		}
		call.Close()
	})
	t.Run("short", func(t *testing.T) {
		call, w := begin(t, "POST")
		defer call.Close()
		call.Writer.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(call.Writer, "hello")
		defer func() {
			if v := recover(); v != http.ErrAbortHandler || w.Body.Len() != 0 {
				t.Errorf("recovered %v, sent %q", v, w.Body)
			}
		}()
		_ = call.Finish()
	})
	t.Run("connection gone", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", sealhttp.MediaType)
		var event sealhttp.Event
		m := srvMiddleware(t, sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { event = e }))
		call, err := m.Begin(&srvBroken{httptest.NewRecorder()}, r)
		srvCheck(t, err)
		if err := call.Finish(); !errors.Is(err, errSrv) {
			t.Errorf("Finish: %v", err)
		}
		call.Close()
		if !errors.Is(event.Err, errSrv) || event.Code != "" {
			t.Errorf("event %+v", event)
		}
	})
}

type srvBroken struct{ *httptest.ResponseRecorder }

func (*srvBroken) Write([]byte) (int, error) { return 0, errSrv }

// One call makes one event, whatever happens to it.
func TestServerEvents(t *testing.T) {
	var events []sealhttp.Event
	var paths []string
	m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(10), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
		sealhttp.WithObserver(func(r *http.Request, e sealhttp.Event) {
			events, paths = append(events, e), append(paths, r.Pattern)
			if _, inside := sealhttp.FromContext(r.Context()); inside {
				t.Error("the observer was given the opened request")
			}
		}))
	mux := http.NewServeMux()
	mux.HandleFunc("/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			fmt.Fprint(w, "more than ten bytes")
		case "/encoded":
			w.Header().Set("Content-Encoding", "gzip")
		}
		w.WriteHeader(201)
	})
	host := srvServe(t, "HTTP/1.1", m.Handler(m.Handler(mux)))
	none := sealhttp.CallInfo{}
	both := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: srvKey.ID(), CallerKeyID: srvCallerKey.ID(), RequestSealed: true, ResponseSealed: true}
	request := both
	request.CallerKeyID, request.ResponseSealed = 0, false
	for _, tt := range []struct {
		name string
		call func()
		want sealhttp.Event
	}{
		{"clear", func() { host.do(t, host.request(t, "GET", "/", nil, nil)) }, sealhttp.Event{CallInfo: none}},
		{"sealed", func() { host.call(t, "POST", "/", []byte("x")) }, sealhttp.Event{CallInfo: both, Status: 201}},
		{"opened", func() { (&srvRow{body: []byte("x")}).send(t, host, srvOpened) }, sealhttp.Event{CallInfo: request}},
		{"refused", func() {
			host.do(t, host.request(t, "POST", "/", strings.NewReader("x"), http.Header{"Content-Type": {sealhttp.MediaType}}))
		}, sealhttp.Event{Code: sealhttp.CodeMalformed, Status: 400}},
		{"too large", func() { host.call(t, "POST", "/large", []byte("x")) }, sealhttp.Event{CallInfo: request, Code: sealhttp.CodeResponseTooLarge, Status: 500}},
		{"encoded", func() { host.call(t, "POST", "/encoded", []byte("x")) }, sealhttp.Event{CallInfo: request, Code: sealhttp.CodeUnsupportedContentEncoding, Status: 500}},
		{"preflight", func() {
			host.do(t, host.request(t, "OPTIONS", "/", nil, http.Header{"Origin": {"https://a"}, "Access-Control-Request-Method": {"PUT"}}))
		}, sealhttp.Event{Status: 201}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			events, paths = nil, nil
			tt.call()
			host.wait()
			if tt.name == "clear" || tt.name == "preflight" {
				// Both middlewares pass these on, each with an event of its own.
				if len(events) == 2 {
					events = events[:1]
				}
			}
			if len(events) != 1 {
				t.Fatalf("events %+v", events)
			}
			got := events[0]
			if (got.Err != nil) != (tt.want.Code != "") || got.Code != "" && !errors.Is(got.Err, got.Code) {
				t.Errorf("error %v", got.Err)
			}
			if got.Err = nil; got != tt.want {
				t.Errorf("event %+v, want %+v", got, tt.want)
			}
			if want := "/{rest...}"; tt.want.KeyID != 0 && paths[0] != want {
				t.Errorf("the observer's request has the pattern %q, want %q", paths[0], want)
			}
		})
	}
}

// The incoming request's context ends the opened one's.
func TestServerContextEnds(t *testing.T) {
	for _, proto := range srvProtos {
		t.Run(proto, func(t *testing.T) {
			started, ended := make(chan struct{}), make(chan error, 1)
			host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(started)
				select {
				case <-r.Context().Done():
					ended <- r.Context().Err()
				case <-time.After(srvTimeout):
					ended <- errors.New("it did not end")
				}
			})))
			ctx, cancel := context.WithCancel(t.Context())
			req := host.request(t, "POST", "/", bytes.NewReader(srvSeal(t, []byte("x"))), http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}})
			go func() { <-started; cancel() }()
			host.do(t, req.WithContext(ctx))
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the handler's context: %v", err)
			}
		})
	}
}

// Compression has its place outside of the middleware, and what it announces is kept.
func TestServerCompressionOutside(t *testing.T) {
	for _, proto := range srvProtos {
		host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			zw := &srvGzip{w, gzip.NewWriter(w)}
			w.Header().Set("Content-Encoding", "gzip")
			srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "sealed, then compressed")
			})).ServeHTTP(zw, r)
			srvCheck(t, zw.zip.Close())
		}))
		a := host.call(t, "POST", "/", []byte("x"))
		if a.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: status %d, header %v", proto, a.status, a.header)
		}
		zr, err := gzip.NewReader(bytes.NewReader(a.body))
		srvCheck(t, err)
		message, err := io.ReadAll(zr)
		srvCheck(t, err)
		if plaintext, err := srvCallerKey.Open(nil, message, nil); err != nil || string(plaintext) != "sealed, then compressed" {
			t.Errorf("%s: opened to %q, %v", proto, plaintext, err)
		}
	}
}

// srvGzip compresses what is written to it.
type srvGzip struct {
	http.ResponseWriter
	zip *gzip.Writer
}

func (w *srvGzip) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w *srvGzip) Write(p []byte) (int, error) { return w.zip.Write(p) }
