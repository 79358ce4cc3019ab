package sealhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvWritten is one way to write a response, and what its caller gets.
type srvWritten struct {
	name    string
	method  string // "" is GET
	header  http.Header
	handler func(t testing.TB, w http.ResponseWriter, r *http.Request)

	status      int // 0 is 200
	body        string
	contentType string
	code        sealhttp.Code
	sent        http.Header // fields that are there, among others
	absent      []string
	hints       int
	records     []int // bytes of data in each, nil for any
	aborted     bool  // no complete response arrives
}

func (row *srvWritten) check(t testing.TB, x *srvExchange, a *srvAnswer) {
	t.Helper()
	if row.aborted {
		if a.err == nil && a.header != nil {
			if got, err := x.openWith(a, srvCallerKey); err == nil && got.err == nil {
				t.Errorf("a complete response: status %d, %q", got.status, got.body)
			}
		}
		return
	}
	got := x.open(t, a)
	if row.status == 0 {
		row.status = 200
	}
	if got.status != row.status || string(got.body) != row.body || got.contentType != row.contentType || got.code != row.code {
		t.Errorf("status %d, %d bytes %.200q of type %q, code %q; want %d, %d bytes %.200q of type %q, code %q",
			got.status, len(got.body), got.body, got.contentType, got.code, row.status, len(row.body), row.body, row.contentType, row.code)
	}
	for name, lines := range row.sent {
		if !slices.Equal(a.header[name], lines) {
			t.Errorf("%s is %q, want %q", name, a.header[name], lines)
		}
	}
	for _, name := range row.absent {
		if lines, has := a.header[http.CanonicalHeaderKey(name)]; has {
			t.Errorf("%s is %q", name, lines)
		}
	}
	if len(a.hints) != row.hints {
		t.Errorf("1xx responses %q", a.hints)
	}
	if row.records != nil && !slices.Equal(got.records, row.records) {
		t.Errorf("records of %v bytes, want %v", got.records, row.records)
	}
}

func srvIgnore[T any](_ T, _ error) {}

func srvWrittenRows(t testing.TB) []srvWritten {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.txt")
	srvCheck(t, os.WriteFile(file, []byte("the content of a file"), 0o600))
	const text = "text/plain; charset=utf-8"
	write := func(w io.Writer, s string) { _, _ = io.WriteString(w, s) }
	large := strings.Repeat("0123456789", 10_000)
	type (
		TB = testing.TB
		W  = http.ResponseWriter
		R  = *http.Request
	)
	wants := func(t TB, what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	rows := []srvWritten{
		{name: "nothing", handler: func(TB, W, R) {}, records: []int{0}},
		{name: "a write", handler: func(_ TB, w W, _ R) { write(w, "hello") }, body: "hello", contentType: text, records: []int{5}},
		{name: "writes", handler: func(_ TB, w W, _ R) { write(w, "hello"); srvIgnore(w.Write([]byte(" world"))) }, body: "hello world", contentType: text, records: []int{11}},
		{name: "an empty write", handler: func(_ TB, w W, _ R) { srvIgnore(w.Write(nil)); w.WriteHeader(500) }, records: []int{0}},
		{name: "a full record", handler: func(_ TB, w W, _ R) { write(w, large[:16384]) }, body: large[:16384], contentType: text, records: []int{16384}},
		{name: "a full record and a byte", handler: func(_ TB, w W, _ R) { write(w, large[:16385]) }, body: large[:16385], contentType: text, records: []int{16384, 1}},
		{name: "a large write", handler: func(_ TB, w W, _ R) { write(w, large) }, body: large, contentType: text, records: []int{16384, 16384, 16384, 16384, 16384, 16384, 1696}},
		{name: "WriteHeader twice", handler: func(_ TB, w W, _ R) { w.WriteHeader(201); w.WriteHeader(500); write(w, "x") }, status: 201, body: "x", contentType: text},
		{name: "WriteHeader after a write", handler: func(_ TB, w W, _ R) { write(w, "x"); w.WriteHeader(500) }, body: "x", contentType: text},
		{name: "WriteHeader after a flush", handler: func(_ TB, w W, _ R) { w.(http.Flusher).Flush(); w.WriteHeader(500) }},
		{name: "status 299", handler: func(_ TB, w W, _ R) { w.WriteHeader(299) }, status: 299},
		{name: "status 999", handler: func(_ TB, w W, _ R) { w.WriteHeader(999); write(w, "x") }, status: 999, body: "x", contentType: text},
		{name: "status 99", handler: func(_ TB, w W, _ R) { w.WriteHeader(99) }, aborted: true},
		{name: "status 1000", handler: func(_ TB, w W, _ R) { w.WriteHeader(1000) }, aborted: true},
		{name: "a header after it was committed", handler: func(_ TB, w W, _ R) {
			w.Header().Set("X-A", "1")
			w.Header().Set("X-B", "1")
			w.WriteHeader(201)
			w.Header().Set("X-A", "2")
			w.Header().Del("X-B")
			w.Header().Set("X-C", "2")
			w.Header().Set("Content-Type", "a/b")
			write(w, "x")
		}, status: 201, body: "x", contentType: text, sent: http.Header{"X-A": {"1"}, "X-B": {"1"}}, absent: []string{"X-C"}},
		{name: "a header after a write", handler: func(_ TB, w W, _ R) {
			write(w, "x")
			w.Header().Set("X-C", "2")
			w.Header().Set("Content-Type", "a/b")
		}, body: "x", contentType: text, absent: []string{"X-C"}},
		{name: "a header after a flush", handler: func(_ TB, w W, _ R) {
			w.(http.Flusher).Flush()
			w.Header().Set("X-C", "2")
			write(w, "x")
		}, body: "x", absent: []string{"X-C"}},
		{name: "a line of the header changed in place", handler: func(_ TB, w W, _ R) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(200)
			w.Header()["X-A"][0] = "2"
		}, sent: http.Header{"X-A": {"1"}}},
		{name: "what sealhttp alone sets", handler: func(_ TB, w W, _ R) {
			for _, name := range []string{"Sealed-Error", "Sealed-Exchange", "Sealed-Content-Type"} {
				w.Header().Set(name, "forged")
			}
			write(w, "x")
		}, body: "x", contentType: text, absent: []string{"Sealed-Error"}},
		{name: "what is not on sealed responses", handler: func(_ TB, w W, _ R) {
			for _, name := range srvRemoved {
				if name != "Content-Encoding" && name != "Trailer" && name != "Transfer-Encoding" {
					w.Header().Set(name, "x")
				}
			}
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
			w.Header().Set("Location", "/there")
			w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
			w.Header().Set("Cache-Control", "public, max-age=100")
			w.Header().Set("Vary", "Origin")
			write(w, "x")
		}, body: "x", contentType: text, sent: http.Header{
			"Etag": {`"1"`}, "Last-Modified": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Location": {"/there"}, "Set-Cookie": {"a=1", "b=2"}, "Vary": {"Origin", srvVary},
		}},
		{name: "early hints", handler: func(_ TB, w W, _ R) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Content-Length", "1")
			w.WriteHeader(103)
			w.WriteHeader(103)
			write(w, "x")
			w.WriteHeader(103)
		}, body: "x", contentType: "a/b", hints: 2, sent: http.Header{"Link": {"</a.css>; rel=preload"}}},
		{name: "early hints only", handler: func(_ TB, w W, _ R) { w.WriteHeader(103) }, hints: 1},
		{name: "switching protocols", handler: func(_ TB, w W, _ R) { w.WriteHeader(101); write(w, "x") }, status: 501, body: "x", contentType: text},

		{name: "204", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Type", "a/b")
			w.WriteHeader(204)
			_, err := w.Write([]byte("x"))
			wants(t, "Write", err, http.ErrBodyNotAllowed)
			_, err = io.WriteString(w, "x")
			wants(t, "WriteString", err, http.ErrBodyNotAllowed)
			wants(t, "Flush", http.NewResponseController(w).Flush(), nil)
		}, status: 204},
		{name: "205", handler: func(t TB, w W, _ R) {
			w.WriteHeader(205)
			_, err := w.Write([]byte("x"))
			wants(t, "Write", err, http.ErrBodyNotAllowed)
		}, status: 205},
		{name: "304", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(304)
			_, err := w.Write([]byte("x"))
			wants(t, "Write", err, http.ErrBodyNotAllowed)
		}, status: 304, sent: http.Header{"Etag": {`"1"`}}},
		{name: "HEAD", method: "HEAD", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Length", "100000")
			w.Header().Set("Content-Type", "a/b")
			n, err := io.WriteString(w, large)
			wants(t, "WriteString", err, nil)
			if n != len(large) {
				t.Errorf("%d bytes", n)
			}
			w.(http.Flusher).Flush()
		}},
		{name: "HEAD of nothing", method: "HEAD", handler: func(_ TB, w W, _ R) { w.WriteHeader(404) }, status: 404},
		{name: "HEAD with a Content-Length that is not written", method: "HEAD", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "5") }},

		{name: "a Content-Length", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "5"); write(w, "hel"); write(w, "lo") }, body: "hello", contentType: text},
		{name: "a Content-Length of 0", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "0") }},
		{name: "a Content-Length that is none", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "x"); write(w, "hello") }, body: "hello", contentType: text},
		{name: "less than the Content-Length", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "6"); write(w, "hello") }, aborted: true},
		{name: "less than the Content-Length, flushed", handler: func(_ TB, w W, _ R) {
			w.Header().Set("Content-Length", "6")
			write(w, "hello")
			w.(http.Flusher).Flush()
		}, aborted: true},
		{name: "nothing of the Content-Length", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Length", "6") }, aborted: true},
		{name: "more than the Content-Length", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Length", "5")
			n, err := io.WriteString(w, "hello world")
			wants(t, "WriteString", err, http.ErrContentLength)
			if n != 0 {
				t.Errorf("%d bytes were taken", n)
			}
		}, aborted: true},
		{name: "more than the Content-Length, at last", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Length", "5")
			write(w, "hel")
			_, err := w.Write([]byte("lo world"))
			wants(t, "Write", err, http.ErrContentLength)
		}, aborted: true},

		{name: "HTML", handler: func(_ TB, w W, _ R) { write(w, "<html>") }, body: "<html>", contentType: "text/html; charset=utf-8"},
		{name: "a PNG", handler: func(_ TB, w W, _ R) { write(w, "\x89PNG\x0D\x0A\x1A\x0A") }, body: "\x89PNG\x0D\x0A\x1A\x0A", contentType: "image/png"},
		{name: "a PNG in two writes", handler: func(_ TB, w W, _ R) { write(w, "\x89PNG"); write(w, "\x0D\x0A\x1A\x0A") }, body: "\x89PNG\x0D\x0A\x1A\x0A", contentType: "image/png"},
		{name: "a nil Content-Type", handler: func(_ TB, w W, _ R) { w.Header()["Content-Type"] = nil; write(w, "<html>") }, body: "<html>"},
		{name: "an empty Content-Type", handler: func(_ TB, w W, _ R) { w.Header()["Content-Type"] = []string{""}; write(w, "<html>") }, body: "<html>"},
		{name: "a Content-Type with white space", handler: func(_ TB, w W, _ R) { w.Header()["Content-Type"] = []string{" a/b;  c=d\t"}; write(w, "x") }, body: "x", contentType: "a/b;  c=d"},
		{name: "two Content-Types", handler: func(_ TB, w W, _ R) { w.Header()["Content-Type"] = []string{"a/b", "c/d"}; write(w, "x") }, body: "x", contentType: "a/b"},
		{name: "a Content-Type that is not ASCII", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", "a/\u00e9"); write(w, "x") }, body: "x", absent: []string{"Sealed-Content-Type"}},
		{name: "a Content-Type with a line break", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", "a/b\r\nX-Evil: 1"); write(w, "x") }, body: "x", absent: []string{"X-Evil", "Sealed-Content-Type"}},
		{name: "the longest Content-Type", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", "a/"+large[:1022]); write(w, "x") }, body: "x", contentType: "a/" + large[:1022]},
		{name: "a Content-Type that is too long", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", "a/"+large[:1023]); write(w, "x") }, body: "x"},
		{name: "a sealed Content-Type", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", sealhttp.MediaType); write(w, "x") }, body: "x", contentType: sealhttp.MediaType},
		{name: "a Content-Type and nothing else", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Type", "a/b") }, contentType: "a/b"},

		{name: "compressed", handler: func(t TB, w W, _ R) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Etag", `"1"`)
			_, err := w.Write([]byte("canary"))
			wants(t, "Write", err, sealhttp.CodeUnsupportedContentEncoding)
			wants(t, "Flush", http.NewResponseController(w).Flush(), sealhttp.CodeUnsupportedContentEncoding)
		}, status: 500, code: sealhttp.CodeUnsupportedContentEncoding, absent: []string{"Content-Encoding", "Etag"}},
		{name: "compressed, to HEAD", method: "HEAD", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Encoding", "br"); w.WriteHeader(200) }, status: 500, code: sealhttp.CodeUnsupportedContentEncoding},
		{name: "compressed in a second line", handler: func(_ TB, w W, _ R) { w.Header()["Content-Encoding"] = []string{"identity", "br"}; write(w, "x") }, status: 500, code: sealhttp.CodeUnsupportedContentEncoding},
		{name: "identity", handler: func(_ TB, w W, _ R) { w.Header().Set("Content-Encoding", "identity"); write(w, "x") }, body: "x", contentType: text, absent: []string{"Content-Encoding"}},
		{name: "compressed too late", handler: func(_ TB, w W, _ R) { write(w, "x"); w.Header().Set("Content-Encoding", "gzip") }, body: "x", contentType: text},

		{name: "announced trailers", handler: func(_ TB, w W, _ R) {
			w.Header().Set("Trailer", "X-Sum")
			write(w, "x")
			w.Header().Set("X-Sum", "canary")
		}, body: "x", contentType: text, absent: []string{"Trailer", "X-Sum"}},
		{name: "announced trailers, flushed", handler: func(_ TB, w W, _ R) {
			w.Header().Set("Trailer", "X-Sum")
			write(w, "x")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "canary")
		}, body: "x", contentType: text, absent: []string{"Trailer", "X-Sum"}},
		{name: "prefixed trailers", handler: func(_ TB, w W, _ R) {
			w.Header().Set(http.TrailerPrefix+"X-Before", "canary")
			write(w, "x")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-After", "canary")
		}, body: "x", contentType: text},
		{name: "prefixed trailers of 204", handler: func(_ TB, w W, _ R) {
			w.WriteHeader(204)
			w.Header().Set(http.TrailerPrefix+"X-After", "canary")
		}, status: 204},

		{name: "flushes", handler: func(t TB, w W, _ R) {
			rc := http.NewResponseController(w)
			for i := range 3 {
				wants(t, "Flush", rc.Flush(), nil)
				fmt.Fprint(w, "event ", i)
			}
			wants(t, "Flush", rc.Flush(), nil)
			wants(t, "Flush", rc.Flush(), nil)
		}, body: "event 0event 1event 2", records: []int{7, 7, 7, 0}},
		{name: "io.Copy of bytes", handler: func(t TB, w W, _ R) {
			n, err := io.Copy(w, strings.NewReader(large))
			wants(t, "Copy", err, nil)
			if n != int64(len(large)) {
				t.Errorf("%d bytes", n)
			}
		}, body: large, contentType: text},
		{name: "io.Copy of a reader of single bytes", handler: func(t TB, w W, _ R) {
			_, err := io.Copy(w, iotest.OneByteReader(strings.NewReader(large[:1000])))
			wants(t, "Copy", err, nil)
		}, body: large[:1000], contentType: text, records: []int{1000}},
		{name: "http.Error", handler: func(_ TB, w W, _ R) {
			w.Header().Set("Content-Length", "1000")
			http.Error(w, "no", http.StatusTeapot)
		}, status: 418, body: "no\n", contentType: text},
		{name: "http.NotFound", handler: func(_ TB, w W, r R) { http.NotFound(w, r) }, status: 404, body: "404 page not found\n", contentType: text},
		{name: "http.Redirect", handler: func(_ TB, w W, r R) { http.Redirect(w, r, "/there", http.StatusSeeOther) }, status: 303, body: "<a href=\"/there\">See Other</a>.\n\n", contentType: "text/html; charset=utf-8", sent: http.Header{"Location": {"/there"}}},
		{name: "http.ServeFile", header: http.Header{"Range": {"bytes=0-3"}}, handler: func(_ TB, w W, r R) { http.ServeFile(w, r, file) }, body: "the content of a file", contentType: text},
		{name: "http.ServeFile, to HEAD", method: "HEAD", handler: func(_ TB, w W, r R) { http.ServeFile(w, r, file) }},
		{name: "http.ServeContent, not modified", header: http.Header{"If-None-Match": {`"1"`}}, handler: func(_ TB, w W, r R) {
			w.Header().Set("Etag", `"1"`)
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("x"))
		}, status: 304, sent: http.Header{"Etag": {`"1"`}}},
		{name: "http.MaxBytesReader", handler: func(_ TB, w W, r R) {
			_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10))
			fmt.Fprint(w, err)
		}, body: "<nil>", contentType: text},
		{name: "http.TimeoutHandler inside", handler: func(_ TB, w W, r R) {
			http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { write(w, "x") }), time.Hour, "late").ServeHTTP(w, r)
		}, body: "x", contentType: text},

		{name: "a panic", handler: func(TB, W, R) { panic(http.ErrAbortHandler) }, aborted: true},
		{name: "a panic after a write", handler: func(_ TB, w W, _ R) { write(w, "half"); panic(http.ErrAbortHandler) }, aborted: true},
		{name: "a panic after a flush", handler: func(_ TB, w W, _ R) { write(w, "half"); w.(http.Flusher).Flush(); panic(http.ErrAbortHandler) }, aborted: true},
		{name: "a panic after a large write", handler: func(_ TB, w W, _ R) { write(w, large); panic(http.ErrAbortHandler) }, aborted: true},
		{name: "another panic", handler: func(_ TB, w W, _ R) { write(w, "half"); panic("boom") }, aborted: true},
	}
	return rows
}

// Whatever handlers do, callers get what they would have got in plaintext, or see that
// they did not.
func TestServerExchangeWriter(t *testing.T) {
	rows := srvWrittenRows(t)
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, row := range rows {
			t.Run(proto+"/"+row.name, func(t *testing.T) {
				var events []sealhttp.Event
				m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)), sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
				current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { row.handler(t, w, r) })))
				switch {
				case row.method != "":
				case row.aborted:
					row.method = "POST" // or net/http sends it again
				default:
					row.method = "GET"
				}
				x := srvTurn(row.method, "/")
				if row.header != nil {
					x.header = row.header.Clone()
				}
				a := host.do(t, x.request(t, host, nil))
				host.wait()
				if row.code != "" {
					x.refused(t, a, row.code, row.status, srvCallerKey)
					if bytes.Contains(a.body, []byte("canary")) {
						t.Error("plaintext went out")
					}
				} else {
					row.check(t, x, a)
				}
				if len(events) != 1 || events[0].Code != row.code || !row.aborted && events[0].Status != row.status || (events[0].Err != nil) != (row.aborted || row.code != "") {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
	t.Logf("%d rows", len(rows))
}

// Each of these would let plaintext past the writer.
func TestServerExchangeWriterOffersNoWayAround(t *testing.T) {
	for _, proto := range srvProtos {
		ran := false
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
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
			rc := http.NewResponseController(w)
			if conn, _, err := rc.Hijack(); conn != nil || !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack through http.ResponseController: %v, %v", conn, err)
			}
			for _, err := range []error{rc.SetReadDeadline(time.Now().Add(time.Hour)), rc.SetWriteDeadline(time.Now().Add(time.Hour))} {
				if err != nil {
					t.Error(err)
				}
			}
			if err := rc.EnableFullDuplex(); err != nil && proto == "HTTP/1.1" {
				t.Error(err)
			}
		})))
		x := srvTurn("GET", "/")
		x.open(t, host.do(t, x.request(t, host, nil)))
		if !ran {
			t.Error("the handler has not run")
		}
	}
}

// Events arrive when they are flushed, not before and not later.
func TestServerExchangeEventStream(t *testing.T) {
	for _, proto := range srvProtos {
		next := make(chan struct{})
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			rc := http.NewResponseController(w)
			for i := 0; ; i++ {
				if err := rc.Flush(); err != nil {
					t.Error(err)
				}
				if _, ok := <-next; !ok {
					return
				}
				fmt.Fprintf(w, "data: %d\n\n", i)
			}
		})))
		x := srvTurn("GET", "/")
		resp, err := host.client.Do(x.request(t, host, nil))
		reply := srvReceive(t, x, resp, err)
		if reply.contentType != "text/event-stream" {
			t.Errorf("%s: content type %q", proto, reply.contentType)
		}
		for i := range 20 {
			next <- struct{}{}
			if got, err := reply.record(); err != nil || string(got) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("%s: event %d: %q, %v", proto, i, got, err)
			}
		}
		close(next)
		if got, err := reply.record(); err != nil || len(got) > 0 || !reply.ended {
			t.Errorf("%s: the end: %q, %v", proto, got, err)
		}
	}
}

// After the end, and after a panic, the writer takes nothing, and the body gives
// nothing.
func TestServerExchangeAfterTheEnd(t *testing.T) {
	for _, proto := range srvProtos {
		for _, end := range []string{"return", "panic", "broken", "refusal"} {
			t.Run(proto+"/"+end, func(t *testing.T) {
				var w http.ResponseWriter
				var body io.Reader
				m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
				h := m.Handler(http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
					w, body = inner, r.Body
					switch end {
					case "panic":
						_, _ = io.WriteString(w, "half")
						panic(http.ErrAbortHandler)
					case "return":
						_, _ = io.WriteString(w, "whole")
					case "refusal":
						w.Header().Set("Content-Encoding", "gzip")
					}
				}))
				ended := make(chan struct{})
				host := srvServe(t, proto, http.HandlerFunc(func(outer http.ResponseWriter, r *http.Request) {
					defer close(ended)
					defer func() {
						v := recover()
						if n, err := w.Write([]byte("late")); n != 0 || !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("Write: %d, %v", n, err)
						}
						if n, err := io.WriteString(w, "late"); n != 0 || !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("WriteString: %d, %v", n, err)
						}
						if err := http.NewResponseController(w).Flush(); !errors.Is(err, sealhttp.ErrCallClosed) {
							t.Errorf("Flush: %v", err)
						}
						w.WriteHeader(500)
						w.WriteHeader(103)
						if n, err := body.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
							t.Errorf("Read: %d, %v", n, err)
						}
						if v != nil {
							panic(v)
						}
					}()
					h.ServeHTTP(outer, r)
				}))
				x := srvTurn("POST", "/")
				req := x.request(t, host, []byte("hello"))
				if end == "broken" {
					req = x.streamed(t, host, bytes.NewReader([]byte("no record")))
				}
				a := host.do(t, req)
				srvWithin(t, "the handler", func() { <-ended })
				switch end {
				case "panic":
					if a.err == nil {
						t.Errorf("a response of %d", a.status)
					}
				case "return":
					if got := x.open(t, a); string(got.body) != "whole" || len(a.hints) > 0 {
						t.Errorf("%q, %q", got.body, a.hints)
					}
				case "broken":
					x.refused(t, a, sealhttp.CodeRequestIncomplete, 400, srvCallerKey)
				case "refusal":
					x.refused(t, a, sealhttp.CodeUnsupportedContentEncoding, 500, srvCallerKey)
				}
			})
		}
	}
}

// A goroutine that a handler leaves behind, and that goes on all the time, changes
// nothing of what is sent.
func TestServerExchangeHandlerLeavesGoroutine(t *testing.T) {
	for _, duplex := range srvDuplexes {
		for _, end := range []string{"return", "panic"} {
			t.Run(duplex.name+"/"+end, func(t *testing.T) {
				stop, done := make(chan struct{}), make(chan struct{})
				running := make(chan struct{})
				h := srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
					go func() {
						defer close(done)
						one := make([]byte, 1)
						for i := 0; ; i++ {
							_, _ = r.Body.Read(one)
							_, _ = io.WriteString(w, "x")
							_ = http.NewResponseController(w).Flush()
							_, _ = sealhttp.FromContext(r.Context())
							_ = r.Body.Close()
							if i == 10 {
								close(running)
							}
							select {
							case <-stop:
								return
							default:
							}
						}
					}()
					<-running
					if end == "panic" {
						panic(http.ErrAbortHandler)
					}
				}))
				host := srvServe(t, duplex.proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { // or net/http's writer is used while the goroutine is in it
						close(stop)
						<-done
					}()
					h.ServeHTTP(w, r)
				}))
				x := srvTurn("POST", "/")
				a := host.do(t, x.request(t, host, make([]byte, 1000)))
				host.wait()
				if end == "panic" {
					if got, err := x.openWith(a, srvCallerKey); err == nil && got.err == nil {
						t.Errorf("a complete response: %d %q", got.status, got.body)
					}
					return
				}
				if got := x.open(t, a); strings.Trim(string(got.body), "x") != "" {
					t.Errorf("%q", got.body)
				}
			})
		}
	}
}

// A recoverer outside of the middleware answers in plaintext, of its own: nothing of the
// sealed response has gone out, and its caller can tell.
func TestServerExchangeRecovererOutside(t *testing.T) {
	for _, proto := range srvProtos {
		for _, tt := range []struct {
			name  string
			write func(w http.ResponseWriter)
			begun bool
		}{
			{"nothing", func(http.ResponseWriter) {}, false},
			{"a write", func(w http.ResponseWriter) { fmt.Fprint(w, "half") }, false},
			{"a flush", func(w http.ResponseWriter) { fmt.Fprint(w, "half"); w.(http.Flusher).Flush() }, true},
			{"a flushed 204", func(w http.ResponseWriter) { w.WriteHeader(204); w.(http.Flusher).Flush() }, false},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", "1000")
					w.Header().Set(http.TrailerPrefix+"X-Sum", "half")
					tt.write(w)
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
				x := srvTurn("POST", "/")
				a := host.do(t, x.request(t, host, []byte("hello")))
				if bytes.Contains(a.body, []byte("half")) || len(a.trailer) > 0 {
					t.Errorf("body %q, trailer %v", a.body, a.trailer)
				}
				got, err := x.openWith(a, srvCallerKey)
				switch {
				case tt.begun:
					if err != nil || got.err == nil {
						t.Errorf("%v, %+v", err, got)
					}
				case err == nil || a.status != 500 || string(a.body) != "recovered: boom":
					t.Errorf("status %d, body %q, %v", a.status, a.body, err)
				}
			})
		}
	}
}

// What is announced by a compressor further out is kept, and what it compresses opens.
func TestServerExchangeCompressorOutside(t *testing.T) {
	for _, proto := range srvProtos {
		h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
		host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip") // and undone by whoever took it off on the way
			h.ServeHTTP(w, r)
		}))
		x := srvTurn("GET", "/")
		a := host.do(t, x.request(t, host, nil))
		if a.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: header %v", proto, a.header)
		}
		a.header.Del("Content-Encoding")
		if got := x.open(t, a); string(got.body) != "hello" {
			t.Errorf("%s: %q", proto, got.body)
		}
	}
}

// Padding hides the length of bodies, and of what is flushed.
func TestServerExchangePadding(t *testing.T) {
	buckets, err := seal.PadBuckets(100, 1000)
	srvCheck(t, err)
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		lengths := map[int]int{}
		for n, want := range map[int]int{1: 100, 50: 100, 100: 100, 101: 1000, 999: 1000, 1001: 2000} {
			m := srvMiddleware(t, sealhttp.WithPadding(buckets))
			current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, n)) })))
			x := srvTurn("GET", "/")
			a := host.do(t, x.request(t, host, nil))
			if got := x.open(t, a); len(got.body) != n {
				t.Errorf("%s: %d bytes came as %d", proto, n, len(got.body))
			}
			if previous, seen := lengths[want]; seen && previous != len(a.body) {
				t.Errorf("%s: %d bytes are %d on the wire, others of %d are %d", proto, n, len(a.body), want, previous)
			}
			lengths[want] = len(a.body)
			if want := want + 1 + 16 + len(srvVarint(want+17)); len(a.body) != want {
				t.Errorf("%s: %d bytes are %d on the wire, want %d", proto, n, len(a.body), want)
			}
		}
		// Refusals are padded like all else.
		m := srvMiddleware(t, sealhttp.WithPadding(buckets))
		current.set(m.Handler(http.NotFoundHandler()))
		x := srvTurn("GET", "/")
		x.ts = 0
		a := host.do(t, x.request(t, host, nil))
		x.refused(t, a, sealhttp.CodeStale, 400, srvCallerKey)
		if len(a.body) != lengths[1000] {
			t.Errorf("%s: a refusal is %d bytes on the wire", proto, len(a.body))
		}
	}
}

// Sent tells what went out.
func TestServerExchangeSent(t *testing.T) {
	m := srvMiddleware(t, sealhttp.WithMaxStreamBytes(1000), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	type sent struct {
		status int
		bytes  int64
	}
	for _, tt := range []struct {
		name           string
		handler        func(w http.ResponseWriter)
		inside, status int
	}{
		{"nothing", func(http.ResponseWriter) {}, 0, 200},
		{"a body", func(w http.ResponseWriter) { w.WriteHeader(201); fmt.Fprint(w, "hello") }, 0, 201},
		{"a flush", func(w http.ResponseWriter) { w.WriteHeader(201); fmt.Fprint(w, "hello"); w.(http.Flusher).Flush() }, 201, 201},
		{"204", func(w http.ResponseWriter) { w.WriteHeader(204) }, 0, 204},
		{"too much", func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 1001)) }, 0, 500},
	} {
		var inside, outside sent
		host := srvServe(t, "HTTP/2.0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			call, err := m.Begin(w, r)
			srvCheck(t, err)
			if !call.OwnWriter() {
				t.Error("the writer is not the call's own")
			}
			defer func() {
				call.Close()
				outside.status, outside.bytes = call.Sent()
			}()
			tt.handler(call.Writer)
			inside.status, inside.bytes = call.Sent()
			err = call.Finish()
			if (err != nil) != (tt.status == 500) {
				t.Errorf("%s: Finish: %v", tt.name, err)
			}
		}))
		x := srvTurn("GET", "/")
		a := host.do(t, x.request(t, host, nil))
		host.wait()
		x.open(t, a)
		if want := (sent{tt.status, int64(len(a.body))}); outside != want || inside.status != tt.inside || (inside.bytes > 0) != (inside.status > 0) {
			t.Errorf("%s: inside %+v, outside %+v, want %+v", tt.name, inside, outside, want)
		}
	}
}

// Where the server's writer can do less, it is said so, and the response goes out.
func TestServerExchangeSimpleWriters(t *testing.T) {
	type plain struct{ http.ResponseWriter }
	x := srvTurn("POST", "/")
	x.authority, x.body = "example.com", true
	body := bytes.Join(x.records(t, []byte("hello"), 100), nil)
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(body))
	r.Header = x.head()
	srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for _, err := range []error{rc.SetReadDeadline(time.Now()), rc.SetWriteDeadline(time.Now()), rc.EnableFullDuplex(), rc.Flush()} {
			if !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("got %v", err)
			}
		}
		w.(http.Flusher).Flush()
		fmt.Fprint(w, "done")
	})).ServeHTTP(plain{w}, r)
	if got := x.open(t, &srvAnswer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}); string(got.body) != "done" {
		t.Errorf("%q", got.body)
	}
}
