package sealhttp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sealhttp/sealhttp"
)

func srvProxy(target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Del("X-Forwarded-Host")
			r.Out.Header.Del("X-Forwarded-Proto")
		},
		FlushInterval: -1,
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		ErrorLog:      log.New(io.Discard, "", 0),
	}
}

type srvW = http.ResponseWriter

// srvReply makes the handler of a row that looks only at its writer.
func srvReply(f func(n *srvNotes, w srvW)) func(*srvNotes, http.ResponseWriter, *http.Request) {
	return func(n *srvNotes, w http.ResponseWriter, _ *http.Request) { f(n, w) }
}

// srvIs checks what a row is named for, on its response in plaintext.
func srvIs(status int, body string, header ...string) func(*testing.T, *srvAnswer) {
	return func(t *testing.T, bare *srvAnswer) {
		if bare.status != status || string(bare.body) != body {
			t.Errorf("in plaintext: status %d, body %.200q; want %d, %q", bare.status, bare.body, status, body)
		}
		for i := 0; i < len(header); i += 2 {
			if got := strings.Join(bare.header[header[i]], ";"); got != header[i+1] {
				t.Errorf("in plaintext: %s is %q, want %q", header[i], got, header[i+1])
			}
		}
	}
}

func srvWrite(n *srvNotes, w io.Writer, text string) {
	count, err := io.WriteString(w, text)
	n.set("write "+text[:min(len(text), 20)], count, err)
}

// srvNoTrailers is what the wire format makes of trailers.
func srvNoTrailers(m srvMode, want *srvAnswer, _ map[string]string) {
	if m.response() {
		want.trailer = nil
	}
}

// The Response items of the list of traps.
func TestServerResponseDifferential(t *testing.T) {
	modified := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	content := strings.Repeat("content ", 1000)
	serve := func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "a.txt", modified, strings.NewReader(content))
	}
	files := fstest.MapFS{"a.html": {Data: []byte("<p>a"), ModTime: modified}, "d/b": {Data: []byte("b"), Mode: fs.ModePerm}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			for i := range 5 {
				fmt.Fprintf(w, "event %d\n", i)
				w.(http.Flusher).Flush()
			}
			w.Header().Set("X-Sum", "sum")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		default:
			fmt.Fprint(w, "from upstream")
		}
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	srvCheck(t, err)
	proxy := func(_ *srvNotes, w http.ResponseWriter, r *http.Request) { srvProxy(target).ServeHTTP(w, r) }
	png := "\x89PNG\x0d\x0a\x1a\x0a" + strings.Repeat("x", 1000)

	rows := []srvRow{
		{name: "text", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "hello") }), on: srvIs(200, "hello", "Content-Type", "text/plain; charset=utf-8")},
		{name: "nothing", handler: srvReply(func(*srvNotes, srvW) {}), on: srvIs(200, "")},
		{name: "status only", handler: srvReply(func(_ *srvNotes, w srvW) { w.WriteHeader(202) }), on: srvIs(202, "")},
		{name: "own status", handler: srvReply(func(n *srvNotes, w srvW) { w.WriteHeader(799); srvWrite(n, w, "x") }), on: srvIs(799, "x")},
		{name: "error status", handler: srvReply(func(n *srvNotes, w srvW) { w.WriteHeader(503); srvWrite(n, w, "x") }), on: srvIs(503, "x")},

		// The first WriteHeader wins, and with it the header of that moment.
		{name: "WriteHeader twice", handler: srvReply(func(n *srvNotes, w srvW) { w.WriteHeader(201); w.WriteHeader(500); srvWrite(n, w, "x") }), on: srvIs(201, "x")},
		{name: "WriteHeader after Write", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "x"); w.WriteHeader(500) }), on: srvIs(200, "x")},
		{name: "WriteHeader after a write of no bytes", handler: srvReply(func(n *srvNotes, w srvW) { _, _ = w.Write(nil); w.WriteHeader(500) }), on: srvIs(200, "")},
		{name: "header set after WriteHeader", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("X-A", "1")
			w.Header()["X-B"] = []string{"1"}
			w.WriteHeader(201)
			w.Header().Set("X-A", "2")
			w.Header()["X-B"][0] = "2"
			w.Header().Set("X-Late", "1")
			w.Header().Set("Content-Type", "a/b")
			srvWrite(n, w, "<html>")
		}), on: srvIs(201, "<html>", "X-A", "1", "X-B", "1", "X-Late", "", "Content-Type", "text/html; charset=utf-8")},
		{name: "header set after Write", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("X-A", "1")
			srvWrite(n, w, "x")
			w.Header().Set("X-A", "2")
			w.Header().Set("X-Late", "1")
		}), on: srvIs(200, "x", "X-A", "1", "X-Late", "")},
		{name: "header deleted after WriteHeader", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("X-A", "1")
			w.Header().Set("Content-Type", "a/b")
			w.WriteHeader(200)
			clear(w.Header())
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "X-A", "1", "Content-Type", "a/b")},
		{name: "header set after Flush", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("X-A", "1")
			w.(http.Flusher).Flush()
			w.Header().Set("X-A", "2")
			w.WriteHeader(500)
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "X-A", "1", "Content-Type", "")},

		// What deletes header fields late.
		{name: "http.Error", handler: srvReply(func(_ *srvNotes, w srvW) {
			for _, name := range []string{"Content-Length", "Content-Type", "Etag", "Last-Modified", "X-Kept"} {
				w.Header().Set(name, "1")
			}
			http.Error(w, "no", 404)
		}), on: srvIs(404, "no\n", "Content-Type", "text/plain; charset=utf-8", "X-Kept", "1")},
		{name: "ServeContent fails", header: http.Header{"If-None-Match": {`"v0"`}}, handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified", "Cache-Control"} {
				w.Header().Set(name, "gzip") // net/http deletes these when it comes to fail
			}
			http.ServeContent(w, r, "a.txt", modified, srvNoSeeker{})
		}, on: srvIs(500, "seeker can't seek\n", "Content-Encoding", "", "Etag", "", "Cache-Control", "")},
		{name: "http.NotFound", handler: http404},
		{name: "ServeContent", handler: serve, on: srvIs(200, content, "Etag", `"v1"`, "Accept-Ranges", "bytes", "Content-Length", "8000")},
		{name: "ServeContent, HEAD", method: "HEAD", handler: serve, on: srvIs(200, "", "Content-Length", "8000", "Content-Type", "text/plain; charset=utf-8")},
		{name: "ServeContent, If-None-Match", header: http.Header{"If-None-Match": {`"v1"`}}, handler: serve, on: srvIs(304, "", "Etag", `"v1"`)},
		{name: "ServeContent, If-None-Match, other", header: http.Header{"If-None-Match": {`"v0"`}}, handler: serve, on: srvIs(200, content)},
		{name: "ServeContent, If-Match", header: http.Header{"If-Match": {`"v0"`}}, handler: serve, on: srvIs(412, "")},
		{name: "ServeContent, If-Modified-Since", header: http.Header{"If-Modified-Since": {modified.Format(http.TimeFormat)}}, handler: serve, on: srvIs(304, "")},
		{name: "ServeContent, Range", hidden: http.Header{"Range": {"bytes=0-6"}}, handler: serve, on: srvIs(200, content)},
		{name: "ServeContent, Range past the end", hidden: http.Header{"Range": {"bytes=9000-"}}, handler: serve, on: srvIs(200, content)},
		{name: "ServeContent, If-Range", hidden: http.Header{"Range": {"bytes=0-6"}, "If-Range": {`"v1"`}}, handler: serve, on: srvIs(200, content)},
		{name: "FileServer", target: "/a.html", handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) { http.FileServerFS(files).ServeHTTP(w, r) }, on: srvIs(200, "<p>a")},
		{name: "FileServer, directory", target: "/d/", handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) { http.FileServerFS(files).ServeHTTP(w, r) }},
		{name: "FileServer, redirect", target: "/d", handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) { http.FileServerFS(files).ServeHTTP(w, r) }, on: srvIs(301, "", "Location", "d/")},
		{name: "http.Redirect", handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/there", http.StatusFound)
		}},
		{name: "ServeMux, 405", method: "PUT", body: []byte("x"), handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) {})
			mux.ServeHTTP(w, r)
		}, on: srvIs(405, "Method Not Allowed\n", "Allow", "GET, HEAD")},

		// 1xx.
		{name: "103", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(103)
			w.Header().Set("Link", "</b.css>; rel=preload")
			w.WriteHeader(103)
			w.Header().Set("X-A", "1")
			w.WriteHeader(201)
			w.WriteHeader(103)
			srvWrite(n, w, "<html>")
		}), on: func(t *testing.T, bare *srvAnswer) {
			if len(bare.hints) != 2 || bare.status != 201 {
				t.Errorf("status %d, hints %q", bare.status, bare.hints)
			}
		}, wire: func(m srvMode, want *srvAnswer, _ map[string]string) {
			if m != srvBare {
				want.hints = srvHintsWithVary(want.hints)
			}
		}},
		{name: "102 with what describes the body", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Type", "text/csv")
			w.Header().Set("Content-Length", "1")
			w.WriteHeader(102)
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "Content-Type", "text/csv", "Content-Length", "1"), wire: func(m srvMode, want *srvAnswer, _ map[string]string) {
			want.hints = srvHintsWithVary(want.hints)
			if m.response() { // it speaks of the plaintext
				want.hints[0] = strings.Replace(want.hints[0], "Content-Type:[text/csv] ", "", 1)
				want.hints[0] = strings.Replace(want.hints[0], "Content-Length:[1] ", "", 1)
			}
		}},
		{name: "100 by the handler", body: []byte("x"), expect: true, handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(100)
			srvRead(n, r)
			srvWrite(n, w, "x")
		}, on: srvIs(200, "x")},

		// No content.
		{name: "HEAD", method: "HEAD", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "hello") }), on: srvIs(200, "", "Content-Length", "5")},
		{name: "HEAD, nothing", method: "HEAD", handler: srvReply(func(*srvNotes, srvW) {}), on: srvIs(200, "", "Content-Length", "")},
		{name: "HEAD, length declared", method: "HEAD", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("Content-Length", "12345") }), on: srvIs(200, "", "Content-Length", "12345")},
		{name: "HEAD, length 0 declared", method: "HEAD", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("Content-Length", "0") }), on: srvIs(200, "", "Content-Length", "0")},
		{name: "HEAD, less than declared", method: "HEAD", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "12345")
			srvWrite(n, w, "x")
		}), on: srvIs(200, "")},
		{name: "HEAD, flushed", method: "HEAD", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "x"); w.(http.Flusher).Flush() }), on: srvIs(200, "")},
		{name: "HEAD, 404", method: "HEAD", handler: http404},
		{name: "HEAD, past the limit", method: "HEAD", opts: []sealhttp.Option{sealhttp.WithMaxResponseBytes(10)}, handler: srvReply(func(n *srvNotes, w srvW) {
			srvWrite(n, w, strings.Repeat("x", 100))
			n.set("large", len(content))
		}), on: srvIs(200, "")},
		{name: "204", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("X-A", "1"); w.WriteHeader(204) }), on: srvIs(204, "", "X-A", "1")},
		{name: "204 with a body", handler: srvReply(func(n *srvNotes, w srvW) {
			w.WriteHeader(204)
			_, err := io.WriteString(w, "x")
			n.set("error", errors.Is(err, http.ErrBodyNotAllowed))
		}), on: srvIs(204, "")},
		{name: "204 with a type", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("Content-Type", "a/b"); w.WriteHeader(204) }), on: srvIs(204, "", "Content-Type", "a/b")},
		{name: "205", handler: srvReply(func(_ *srvNotes, w srvW) { w.WriteHeader(205) }), on: srvIs(205, "")},
		{name: "304 with type, tag and length", only: "HTTP/1.1", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("Etag", `"e"`)
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(304)
			_, err := io.WriteString(w, "hello")
			n.set("error", errors.Is(err, http.ErrBodyNotAllowed))
		}), on: srvIs(304, "", "Etag", `"e"`)},

		// Content-Length.
		{name: "length", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "5")
			srvWrite(n, w, "hel")
			srvWrite(n, w, "lo")
		}), on: srvIs(200, "hello", "Content-Length", "5")},
		{name: "length 0", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("Content-Length", "0") }), on: srvIs(200, "", "Content-Length", "0")},
		{name: "declared more", broken: true, handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Content-Length", "6"); srvWrite(n, w, "hello") })},
		{name: "declared more, nothing written", broken: true, handler: srvReply(func(_ *srvNotes, w srvW) { w.Header().Set("Content-Length", "6") })},
		{name: "declared more, flushed", broken: true, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "6")
			srvWrite(n, w, "hello")
			w.(http.Flusher).Flush()
		})},
		{name: "declared less", only: "HTTP/1.1", broken: true, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "4")
			_, err := io.WriteString(w, "hello")
			n.set("error", errors.Is(err, http.ErrContentLength))
		})},
		{name: "declared less, HTTP/2", only: "HTTP/2.0", broken: true, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "hello") // in plaintext it is buffered, and fails later
		})},
		{name: "declared less, exact before", only: "HTTP/1.1", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Length", "5")
			srvWrite(n, w, "hello")
			_, err := io.WriteString(w, "x")
			n.set("error", err != nil)
			_, err = w.Write([]byte("x"))
			n.set("error again", err != nil)
		}), on: srvIs(200, "hello")},
		{name: "length is none", handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Content-Length", "five"); srvWrite(n, w, "hello") }), on: srvIs(200, "hello")},
		{name: "length is negative", handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Content-Length", "-5"); srvWrite(n, w, "hello") }), on: srvIs(200, "hello")},
		{name: "length set late", handler: srvReply(func(n *srvNotes, w srvW) {
			w.WriteHeader(200)
			w.Header().Set("Content-Length", "99")
			srvWrite(n, w, "hello")
		}), on: srvIs(200, "hello")},

		// Sniffing.
		{name: "sniff HTML", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "  <!DOCTYPE HTML><p>") }), on: srvIs(200, "  <!DOCTYPE HTML><p>", "Content-Type", "text/html; charset=utf-8")},
		{name: "sniff PNG", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, png) }), on: srvIs(200, png, "Content-Type", "image/png")},
		{name: "sniff JSON", handler: srvReply(func(n *srvNotes, w srvW) { n.set("encode", json.NewEncoder(w).Encode(map[string]int{"a": 1})) }), on: srvIs(200, "{\"a\":1}\n", "Content-Type", "text/plain; charset=utf-8")},
		{name: "sniff several writes", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "<ht"); srvWrite(n, w, "ml>") }), on: srvIs(200, "<html>", "Content-Type", "text/html; charset=utf-8")},
		{name: "sniff binary", handler: srvReply(func(n *srvNotes, w srvW) { srvWrite(n, w, "\x00\x01\x02") }), on: srvIs(200, "\x00\x01\x02", "Content-Type", "application/octet-stream")},
		{name: "sniff after an error status", handler: srvReply(func(n *srvNotes, w srvW) { w.WriteHeader(500); srvWrite(n, w, "<html>") }), on: srvIs(500, "<html>", "Content-Type", "text/html; charset=utf-8")},
		{name: "nil type", handler: srvReply(func(n *srvNotes, w srvW) { w.Header()["Content-Type"] = nil; srvWrite(n, w, "<html>") }), on: srvIs(200, "<html>", "Content-Type", "")},
		{name: "nil type, nothing", handler: srvReply(func(_ *srvNotes, w srvW) { w.Header()["Content-Type"] = nil }), on: srvIs(200, "")},
		{name: "own type", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Type", `multipart/mixed; boundary="a b"`)
			srvWrite(n, w, "<html>")
		}), on: srvIs(200, "<html>", "Content-Type", `multipart/mixed; boundary="a b"`)},
		{name: "flush before the first write", handler: srvReply(func(n *srvNotes, w srvW) { w.(http.Flusher).Flush(); srvWrite(n, w, "<html>") }), on: srvIs(200, "<html>", "Content-Type", "")},
		{name: "flush after the first write", handler: srvReply(func(n *srvNotes, w srvW) {
			srvWrite(n, w, "<ht")
			w.(http.Flusher).Flush()
			srvWrite(n, w, "ml>")
		}), on: srvIs(200, "<html>", "Content-Type", "text/plain; charset=utf-8")},
		{name: "flush after WriteHeader", handler: srvReply(func(n *srvNotes, w srvW) {
			w.WriteHeader(201)
			n.set("flush", http.NewResponseController(w).Flush())
			srvWrite(n, w, "<html>")
		}), on: srvIs(201, "<html>", "Content-Type", "")},
		{name: "flush only", handler: srvReply(func(n *srvNotes, w srvW) { n.set("flush", http.NewResponseController(w).Flush()) }), on: srvIs(200, "")},
		{name: "flush often", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 20 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
			}
		})},

		// Trailers.
		{name: "trailers, declared", wire: srvNoTrailers, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Trailer", "X-Sum, X-Other")
			w.Header().Add("Trailer", "X-Third")
			srvWrite(n, w, "x")
			w.Header().Set("X-Sum", "1")
			w.Header().Set("X-Third", "3")
		}), on: func(t *testing.T, bare *srvAnswer) {
			if bare.trailer.Get("X-Sum") != "1" {
				t.Errorf("trailers %v", bare.trailer)
			}
		}},
		{name: "trailers, declared and set early", wire: func(m srvMode, want *srvAnswer, _ map[string]string) {
			if m.response() { // the field was in the header at commit: no trailer of it
				want.trailer = nil
				want.header["X-Sum"] = []string{"1"}
			}
		}, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("X-Sum", "1")
			srvWrite(n, w, "x")
		})},
		{name: "trailers, with prefix", wire: srvNoTrailers, handler: srvReply(func(n *srvNotes, w srvW) {
			srvWrite(n, w, "x")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}), on: func(t *testing.T, bare *srvAnswer) {
			if bare.trailer.Get("X-Sum") != "1" {
				t.Errorf("trailers %v", bare.trailer)
			}
		}},
		{name: "trailers, with prefix, set early", wire: srvNoTrailers, handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
			srvWrite(n, w, "x")
		})},
		{name: "trailers, no content", wire: srvNoTrailers, handler: srvReply(func(_ *srvNotes, w srvW) {
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(204)
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-Sum2", "1")
		})},

		// Vary.
		{name: "Vary added", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Add("Vary", "Origin")
			w.Header().Add("Vary", "Accept-Language, Cookie")
			srvWrite(n, w, "x")
		})},
		{name: "Vary set", ownVary: true, handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Vary", "Origin"); srvWrite(n, w, "x") })},
		{name: "Vary deleted", ownVary: true, handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Del("Vary"); srvWrite(n, w, "x") })},
		{name: "Vary from outside", outer: func(_ *srvNotes, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Vary"] = []string{"Origin", "Cookie"}
				next.ServeHTTP(w, r)
			})
		}, handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Add("Vary", "X"); srvWrite(n, w, "x") })},
		{name: "Vary *", handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Add("Vary", "*"); srvWrite(n, w, "x") })},

		// Fields that are removed or replaced.
		{name: "Cache-Control", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Add("Cache-Control", "immutable")
			w.Header().Set("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")
			w.Header().Set("Pragma", "x")
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "Cache-Control", "public, max-age=60;immutable")},
		{name: "digests and CDN fields", handler: srvReply(func(n *srvNotes, w srvW) {
			for _, name := range []string{"Content-MD5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges", "Content-Range", "CDN-Cache-Control", "Surrogate-Control"} {
				w.Header().Set(name, "1")
				w.Header().Add(name, "2")
			}
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "Content-Digest", "1;2", "Cdn-Cache-Control", "1;2")},
		{name: "tags and dates", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("ETag", `W/"a"`)
			w.Header().Set("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
			w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
			w.Header().Set("Age", "3")
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "Etag", `W/"a"`, "Date", "Thu, 01 Jan 1970 00:00:00 GMT")},
		{name: "no date", handler: srvReply(func(n *srvNotes, w srvW) { w.Header()["Date"] = nil; srvWrite(n, w, "x") }), on: srvIs(200, "x", "Date", "")},
		{name: "sealhttp's own fields", handler: srvReply(func(n *srvNotes, w srvW) {
			for _, name := range []string{"Sealed-Error", "Sealed-Exchange", "Sealed-Content-Type"} {
				w.Header().Set(name, "the handler's")
			}
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x", "Sealed-Error", "the handler's")},
		{name: "sealhttp's own fields, no content", handler: srvReply(func(_ *srvNotes, w srvW) {
			for _, name := range []string{"Sealed-Error", "Sealed-Exchange", "Sealed-Content-Type"} {
				w.Header().Set(name, "the handler's")
			}
			w.WriteHeader(204)
		})},
		{name: "the sealed type by a handler", handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Content-Type", sealhttp.MediaType); srvWrite(n, w, "x") })},
		{name: "cookies and others", handler: srvReply(func(n *srvNotes, w srvW) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
			w.Header().Set("Location", "/there")
			w.Header().Set("Www-Authenticate", "Basic")
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Disposition", "attachment")
			w.Header().Set("Content-Language", "de")
			w.WriteHeader(401)
			srvWrite(n, w, "x")
		})},
		{name: "Transfer-Encoding by the handler", only: "HTTP/1.1", handler: srvReply(func(n *srvNotes, w srvW) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Transfer-Encoding", "chunked")
			srvWrite(n, w, "x")
		})},
		{name: "Connection: close", only: "HTTP/1.1", handler: srvReply(func(n *srvNotes, w srvW) { w.Header().Set("Connection", "close"); srvWrite(n, w, "x") })},

		// Ways to write.
		{name: "io.Copy", handler: srvReply(func(n *srvNotes, w srvW) {
			count, err := io.Copy(w, io.LimitReader(strings.NewReader(content), 5000))
			n.set("copy", count, err)
		}), on: srvIs(200, content[:5000])},
		{name: "io.CopyBuffer of a file", handler: srvReply(func(n *srvNotes, w srvW) {
			f, err := files.Open("a.html")
			n.set("open", err)
			count, err := io.CopyBuffer(w, f, make([]byte, 2))
			n.set("copy", count, err)
		}), on: srvIs(200, "<p>a")},
		{name: "WriterTo", handler: srvReply(func(n *srvNotes, w srvW) {
			count, err := bytes.NewBufferString(content).WriteTo(w)
			n.set("write", count, err)
		}), on: srvIs(200, content)},
		{name: "bufio", handler: srvReply(func(n *srvNotes, w srvW) {
			b := bufio.NewWriterSize(w, 100)
			count, err := b.ReadFrom(strings.NewReader(content))
			n.set("read", count, err, b.Flush())
		}), on: srvIs(200, content)},
		{name: "Write and WriteString", handler: srvReply(func(n *srvNotes, w srvW) {
			count, err := w.Write([]byte("a"))
			n.set("a", count, err)
			srvWrite(n, w, "b")
			count, err = fmt.Fprintf(w, "%s", "c")
			n.set("c", count, err)
		}), on: srvIs(200, "abc")},
		{name: "a buffer used again", handler: srvReply(func(n *srvNotes, w srvW) {
			b := make([]byte, 10)
			for i := range 10 {
				copy(b, strings.Repeat(strconv.Itoa(i), 10))
				_, err := w.Write(b)
				n.set(strconv.Itoa(i), err)
			}
		})},
		{name: "large, in uneven writes", handler: srvReply(func(n *srvNotes, w srvW) {
			for i := range 200 {
				_, err := w.Write(bytes.Repeat([]byte{byte(i)}, i*37))
				if err != nil {
					n.set("error", err)
				}
			}
		})},
		{name: "large, at once", handler: srvReply(func(n *srvNotes, w srvW) {
			count, err := w.Write(make([]byte, 2<<20))
			n.set("count", count, err)
		})},

		// What http.ResponseController may do.
		{name: "deadlines and full duplex", handler: srvReply(func(n *srvNotes, w srvW) {
			rc := http.NewResponseController(w)
			n.set("read deadline", rc.SetReadDeadline(time.Now().Add(time.Hour)))
			n.set("write deadline", rc.SetWriteDeadline(time.Now().Add(time.Hour)))
			n.set("full duplex", rc.EnableFullDuplex())
			n.set("flush", rc.Flush())
			srvWrite(n, w, "x")
		}), on: srvIs(200, "x")},
		{name: "write deadline passed", broken: true, handler: srvReply(func(n *srvNotes, w srvW) {
			n.set("write deadline", http.NewResponseController(w).SetWriteDeadline(time.Now().Add(-time.Hour)))
			_, _ = io.WriteString(w, content)
		})},

		// Panics that a recoverer inside turns into a response.
		{name: "recoverer inside", handler: srvRecovers(func(n *srvNotes, w srvW) { panic("at once") }), on: srvIs(500, "recovered\n")},
		{name: "recoverer inside, after a partial write", handler: srvRecovers(func(n *srvNotes, w srvW) { srvWrite(n, w, "half "); panic("half") }), on: srvIs(200, "half recovered\n")},
		{name: "invalid status 0", handler: srvRecovers(func(n *srvNotes, w srvW) { w.WriteHeader(0) }), on: srvIs(500, "recovered\n")},
		{name: "invalid status 99", handler: srvRecovers(func(n *srvNotes, w srvW) { w.WriteHeader(99) }), on: srvIs(500, "recovered\n")},
		{name: "invalid status 1000", handler: srvRecovers(func(n *srvNotes, w srvW) { w.WriteHeader(1000) }), on: srvIs(500, "recovered\n")},
		{name: "invalid status -1", handler: srvRecovers(func(n *srvNotes, w srvW) { w.WriteHeader(-1) }), on: srvIs(500, "recovered\n")},
		{name: "invalid status after a valid one", handler: srvRecovers(func(n *srvNotes, w srvW) { w.WriteHeader(201); w.WriteHeader(0); srvWrite(n, w, "x") }), on: srvIs(201, "x")},

		// Others' handlers inside.
		{name: "TimeoutHandler inside, timed out", handler: func(_ *srvNotes, w http.ResponseWriter, r *http.Request) {
			done := make(chan struct{})
			defer close(done)
			http.TimeoutHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }), time.Millisecond, "timed out").ServeHTTP(w, r)
		}, on: srvIs(503, "timed out")},
		{name: "reverse proxy", handler: proxy, on: srvIs(200, "from upstream")},
		{name: "reverse proxy, stream with hints and trailers", target: "/stream", ownVary: true, handler: proxy, wire: func(m srvMode, want *srvAnswer, notes map[string]string) {
			srvNoTrailers(m, want, notes)
			want.hints = srvHintsWithVary(want.hints)
		}, on: func(t *testing.T, bare *srvAnswer) {
			if len(bare.hints) != 1 || bare.trailer.Get("X-Sum") != "sum" || bytes.Count(bare.body, []byte("\n")) != 5 {
				t.Errorf("hints %q, trailer %v, body %q", bare.hints, bare.trailer, bare.body)
			}
		}},
		{name: "reverse proxy, upstream breaks off", target: "/cut", broken: true, handler: proxy},
	}
	srvDifferential(t, rows)
}

// srvNoSeeker fails when it is asked for its size.
type srvNoSeeker struct{}

func (srvNoSeeker) Read([]byte) (int, error)       { return 0, io.EOF }
func (srvNoSeeker) Seek(int64, int) (int64, error) { return 0, errors.New("no") }

func http404(_ *srvNotes, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// srvHintsWithVary adds what Begin has put into the header by then.
func srvHintsWithVary(hints []string) []string {
	hints = slices.Clone(hints)
	for i, hint := range hints {
		if !strings.Contains(hint, "Vary:") {
			hints[i] = strings.TrimSuffix(hint, "]") + " Vary:[" + srvVary + "]]"
		}
	}
	return hints
}

// srvRecovers makes a handler with a recoverer inside of the middleware.
func srvRecovers(f func(*srvNotes, srvW)) func(*srvNotes, http.ResponseWriter, *http.Request) {
	return func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				n.set("panic", v)
				http.Error(w, "recovered", 500)
			}
		}()
		f(n, w)
	}
}
