package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// srvSee notes all that a handler sees of a request but its content.
func srvSee(n *srvNotes, r *http.Request) {
	n.set("Method", r.Method)
	n.set("URL", r.URL)
	n.set("RequestURI", r.RequestURI)
	n.set("Proto", r.Proto, r.ProtoMajor, r.ProtoMinor)
	n.set("Host header", r.Header["Host"])
	_, _, err := net.SplitHostPort(r.Host)
	n.set("Host", r.Host, err)
	n.set("ContentLength", r.ContentLength)
	n.set("TransferEncoding", r.TransferEncoding)
	n.set("Trailer", r.Trailer, r.Trailer == nil)
	n.set("Close", r.Close)
	n.set("TLS", r.TLS.HandshakeComplete, r.TLS.NegotiatedProtocol, len(r.TLS.PeerCertificates))
	_, err = netip.ParseAddrPort(r.RemoteAddr)
	n.set("RemoteAddr", err)
	n.set("Pattern", r.Pattern)
	n.set("PathValue", r.PathValue("id"))
	n.set("GetBody", r.GetBody != nil)
	n.set("Response", r.Response != nil)
	n.set("NoBody", r.Body == http.NoBody)
	n.set("Form", r.Form != nil, r.PostForm != nil, r.MultipartForm != nil)
	ctx := r.Context()
	_, deadline := ctx.Deadline()
	n.set("context", deadline, ctx.Err(), ctx.Value(http.ServerContextKey) != nil, ctx.Value(http.LocalAddrContextKey) != nil, ctx.Value(srvContextKey{}))
	for name, lines := range r.Header {
		n.set("header "+name, lines)
	}
}

type srvContextKey struct{}

// srvRead reads a body to its end.
func srvRead(n *srvNotes, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	n.set("body", len(body), string(body[:min(len(body), 100)]), bytes.Count(body, []byte{0}), err)
	one, err := r.Body.Read(make([]byte, 1))
	n.set("read past the end", one, err)
	n.set("close", r.Body.Close())
	_, err = r.Body.Read(make([]byte, 1))
	n.set("read after close", err == nil)
	n.set("Trailer afterwards", r.Trailer, r.Trailer == nil)
}

func srvEcho(n *srvNotes, w http.ResponseWriter, r *http.Request) {
	srvSee(n, r)
	srvRead(n, r)
	fmt.Fprint(w, "done")
}

// srvForm makes the body of a multipart form with two values and two files.
func srvForm(t testing.TB, fileSize int) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	srvCheck(t, w.WriteField("name", "Ada"))
	srvCheck(t, w.WriteField("name", "Byron"))
	for i := range 2 {
		part, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%d.bin"`, i)},
			"Content-Type":        {"application/x-file"},
		})
		srvCheck(t, err)
		_, err = part.Write(bytes.Repeat([]byte{byte(i)}, fileSize))
		srvCheck(t, err)
	}
	srvCheck(t, w.Close())
	return b.Bytes(), w.FormDataContentType()
}

func srvParseForm(n *srvNotes, w http.ResponseWriter, r *http.Request) {
	n.set("value", r.FormValue("a"), r.PostFormValue("a"), r.FormValue("q"))
	n.set("forms", r.Form.Encode(), " ", r.PostForm.Encode())
	n.set("again", r.ParseForm())
}

func srvParseMultipart(maxMemory int64) func(*srvNotes, http.ResponseWriter, *http.Request) {
	return func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
		n.set("parse", r.ParseMultipartForm(maxMemory))
		n.set("names", r.Form["name"], r.MultipartForm.Value["name"])
		for i, fh := range r.MultipartForm.File["file"] {
			f, err := fh.Open()
			if err != nil {
				n.set("open", err)
				continue
			}
			b, err := io.ReadAll(f)
			n.set(fmt.Sprint("file ", i), fh.Filename, fh.Size, fh.Header, len(b), bytes.Count(b, []byte{byte(i)}), err, f.Close())
		}
	}
}

// srvWrap runs a handler for its notes and its response.
func srvWrap(before func(*http.Request) *http.Request, after func(*srvNotes, *http.Request)) func(*srvNotes, http.Handler) http.Handler {
	return func(n *srvNotes, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = before(r)
			next.ServeHTTP(w, r)
			if after != nil {
				after(n, r)
			}
		})
	}
}

func srvSame(r *http.Request) *http.Request { return r }

// The Request items of the list of traps.
func TestServerRequestDifferential(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef\x00"), 20_000)
	form, formType := srvForm(t, 10)
	bigForm, bigFormType := srvForm(t, 100_000)
	mux := func(n *srvNotes, h func(*srvNotes, http.ResponseWriter, *http.Request)) http.Handler {
		m := http.NewServeMux()
		f := func(w http.ResponseWriter, r *http.Request) { h(n, w, r) }
		m.HandleFunc("POST /orders/{id}", f)
		m.HandleFunc("GET /orders/{id}", f)
		return m
	}
	srvDifferential(t, []srvRow{
		{name: "GET", handler: srvEcho},
		{name: "HEAD", method: "HEAD", handler: srvEcho},
		{name: "DELETE", method: "DELETE", handler: srvEcho},
		{name: "own method", method: "PURGE", handler: srvEcho},
		{name: "POST without content", method: "POST", handler: srvEcho},
		{name: "target", target: "/a%2Fb//c/../d;e?x=1&x=2&y=%20z#fragment", handler: srvEcho},
		{name: "JSON", body: []byte(`{"a":1}`), content: "application/json; charset=utf-8", handler: srvEcho},
		{name: "no type", body: []byte(`{"a":1}`), handler: srvEcho},
		{name: "one byte", body: []byte{0}, content: "a/b", handler: srvEcho},
		{name: "large", body: large, content: "application/octet-stream", handler: srvEcho},
		{name: "GET with content", method: "GET", body: []byte("query"), content: "text/plain", handler: srvEcho},
		{name: "DELETE with content", method: "DELETE", body: []byte("ids"), content: "text/plain", handler: srvEcho},
		{name: "chunked", body: []byte("of unknown length"), content: "text/plain", chunked: true, handler: srvEcho},
		{name: "chunked, large", body: large, content: "text/plain", chunked: true, handler: srvEcho},
		{name: "trailers", body: []byte("x"), content: "text/plain", chunked: true, trailer: http.Header{"X-Sum": {"plaintext's"}}, handler: srvEcho,
			wire: func(m srvMode, _ *srvAnswer, notes map[string]string) {
				if m.request() {
					notes["Trailer"], notes["Trailer afterwards"] = `"map[] true"`, `"map[] true"`
				}
			}},
		{name: "Expect", body: []byte("wait for it"), content: "text/plain", expect: true, handler: srvEcho},
		{name: "Expect, large", body: large, content: "text/plain", expect: true, handler: srvEcho},
		{name: "header", header: http.Header{
			"Authorization": {"Bearer x"}, "Cookie": {"a=b"}, "X-Many": {"1", "2"}, "If-None-Match": {`"e"`},
			"If-Match": {`"e"`}, "If-Modified-Since": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Idempotency-Key": {"k"},
			"Accept": {"text/html;q=0.5", "application/json"}, "Accept-Language": {"de"}, "User-Agent": {"tests"},
		}, body: []byte("x"), content: "text/plain", handler: srvEcho},
		{name: "Accept with both sealed types", header: http.Header{"Accept": {"text/html, text/plain;q=0.2"}}, hidden: http.Header{
			"Accept": {"text/html, application/octet-stream+hpke;q=1, text/plain;q=0.2, APPLICATION/sealed-exchange+hpke;v=1"},
		}, handler: srvEcho},
		{name: "what would change the bytes", hidden: http.Header{
			"Accept-Encoding": {"gzip, br"}, "Range": {"bytes=0-1"}, "If-Range": {`"e"`},
		}, handler: srvEcho},
		{name: "what would change the bytes, plaintext reply", header: http.Header{"Accept-Encoding": {"br"}, "Range": {"bytes=0-1"}, "If-Range": {`"e"`}},
			body: []byte("x"), content: "text/plain", handler: srvEcho,
			wire: func(m srvMode, _ *srvAnswer, notes map[string]string) {
				if m.response() {
					for _, name := range []string{"Accept-Encoding", "Range", "If-Range"} {
						delete(notes, "header "+name)
					}
				}
			}},
		{name: "context", body: []byte("x"), outer: srvWrap(func(r *http.Request) *http.Request {
			ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), srvContextKey{}, "from outside"), time.Hour)
			context.AfterFunc(r.Context(), cancel)
			return r.WithContext(ctx)
		}, nil), handler: srvEcho},
		{name: "query and form", target: "/?q=1&a=query", body: []byte("a=b&a=c"), content: "application/x-www-form-urlencoded", handler: srvParseForm},
		{name: "form, parsed outside", target: "/?q=1&a=query", body: []byte("a=b&a=c"), content: "application/x-www-form-urlencoded", handler: srvParseForm,
			outer: srvWrap(func(r *http.Request) *http.Request { _ = r.FormValue("_method"); return r }, nil)},
		{name: "multipart", body: form, content: formType, handler: srvParseMultipart(32 << 20)},
		{name: "multipart on disk", body: bigForm, content: bigFormType, handler: srvParseMultipart(1)},
		{name: "multipart, chunked", body: bigForm, content: bigFormType, chunked: true, handler: srvParseMultipart(1)},
		{name: "multipart reader", body: form, content: formType, handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			mr, err := r.MultipartReader()
			n.set("reader", err)
			for i := 0; ; i++ {
				part, err := mr.NextPart()
				if err != nil {
					n.set("end", err)
					return
				}
				b, err := io.ReadAll(part)
				n.set(fmt.Sprint("part ", i), part.FormName(), part.FileName(), len(b), err)
			}
		}},
		{name: "JSON decoder stops early", body: []byte(`{"a":1} {"b":2}` + strings.Repeat(" ", 10_000)), content: "application/json", handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			var v map[string]int
			n.set("decoded", json.NewDecoder(r.Body).Decode(&v), v)
			fmt.Fprint(w, "done")
		}},
		{name: "unread", body: large, content: "text/plain", handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "not read") }},
		{name: "pattern of a mux inside", target: "/orders/7", body: []byte("x"), outer: srvWrap(srvSame, func(n *srvNotes, r *http.Request) {
			n.set("pattern outside", r.Pattern)
		}), handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) { mux(n, srvEcho).ServeHTTP(w, r) }},
		{name: "pattern of a mux inside, GET", target: "/orders/7", outer: srvWrap(srvSame, func(n *srvNotes, r *http.Request) {
			n.set("pattern outside", r.Pattern)
		}), handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) { mux(n, srvEcho).ServeHTTP(w, r) }},
		{name: "pattern of a mux inside, panic", target: "/orders/7", body: []byte("x"), outer: func(n *srvNotes, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					n.set("recovered outside", recover())
					n.set("pattern outside", r.Pattern)
				}()
				next.ServeHTTP(w, r)
			})
		}, handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			mux(n, func(*srvNotes, http.ResponseWriter, *http.Request) { panic("in the handler") }).ServeHTTP(w, r)
		}, outside: true, on: srvIs(200, "")},
		{name: "pattern of a mux outside", target: "/orders/7", body: []byte("x"), outer: func(n *srvNotes, next http.Handler) http.Handler {
			return mux(n, func(_ *srvNotes, w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, r) })
		}, handler: srvEcho},
		{name: "StripPrefix inside", target: "/v1/orders/7?x=1", body: []byte("x"), handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			http.StripPrefix("/v1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srvEcho(n, w, r) })).ServeHTTP(w, r)
		}},
		{name: "MaxBytesHandler inside, within", body: []byte("12345"), handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srvRead(n, r) }), 5).ServeHTTP(w, r)
		}},
		{name: "MaxBytesReader inside, past", body: []byte("123456"), handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 5))
			var tooLarge *http.MaxBytesError
			n.set("read", string(body), errors.As(err, &tooLarge), err)
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		}, wire: func(m srvMode, want *srvAnswer, _ map[string]string) {
			// The message has been read whole: nothing is left that the connection is closed for.
			if m.response() || m == srvOpened {
				want.header.Del("Connection")
			}
		}},
		{name: "TimeoutHandler inside", body: []byte("x"), content: "text/plain", handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srvEcho(n, w, r) }), time.Hour, "").ServeHTTP(w, r)
		}},
		{name: "TimeoutHandler outside", body: []byte("x"), content: "text/plain", outer: func(_ *srvNotes, next http.Handler) http.Handler {
			return http.TimeoutHandler(next, time.Hour, "")
		}, handler: srvEcho},
		{name: "a copied request", body: form, content: formType, handler: func(n *srvNotes, w http.ResponseWriter, r *http.Request) {
			r = r.Clone(context.WithValue(r.Context(), srvContextKey{}, "inside"))
			n.set("context", r.Context().Value(srvContextKey{}))
			srvParseMultipart(32<<20)(n, w, r)
		}},
	})
}

// In clear, the middleware hands on the very request and writer.
func TestServerClearIsUntouched(t *testing.T) {
	var gotW http.ResponseWriter
	var gotR *http.Request
	h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { gotW, gotR = w, r }))
	for _, body := range []io.Reader{nil, strings.NewReader("x")} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", body)
		h.ServeHTTP(w, r)
		if gotW != http.ResponseWriter(w) || gotR != r {
			t.Error("the handler got another writer or request")
		}
	}
}

// Where only one half of a call is sealed, the other half is the server's own.
func TestServerTouchesOnlyWhatIsSealed(t *testing.T) {
	m := srvMiddleware(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/", bytes.NewReader(srvSeal(t, []byte("x"))))
	r.Header.Set("Content-Type", sealhttp.MediaType)
	call, err := m.Begin(w, r)
	srvCheck(t, err)
	defer call.Close()
	if call.Writer != http.ResponseWriter(w) {
		t.Error("only the request is sealed, and the writer is not the server's")
	}
	if r.Header.Get("Content-Type") != sealhttp.MediaType || r.ContentLength == 1 || r.Header.Get("Content-Length") != "" {
		t.Errorf("the incoming request was changed: %v", r.Header)
	}

	for name, body := range map[string]io.ReadCloser{"nil": nil, "NoBody": http.NoBody, "plaintext": io.NopCloser(strings.NewReader("x"))} {
		r := httptest.NewRequest("PUT", "/", nil)
		r.Body = body
		if name == "plaintext" {
			r.ContentLength = 1
		}
		r.Header.Set("Accept", sealhttp.MediaType)
		call, err := m.Begin(httptest.NewRecorder(), r)
		srvCheck(t, err)
		if call.Request.Body != body || call.Request.ContentLength != r.ContentLength || call.Request.Header["Content-Length"] != nil {
			t.Errorf("%s: only the response is sealed, and the body is another: %v", name, call.Request.Body)
		}
		call.Close()
	}
}

// Content-Type names a message where there is none: the handler sees no content,
// and a type that it knows.
func TestServerEmptyBodies(t *testing.T) {
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, tt := range []struct {
			name, method string
			body         func() io.Reader
			sealedType   string
			want         string
		}{
			{"GET", "GET", func() io.Reader { return nil }, "", "application/json"},
			{"GET, type given", "GET", func() io.Reader { return nil }, "text/csv", "text/csv"},
			{"POST, length 0", "POST", func() io.Reader { return nil }, "text/csv", "text/csv"},
			{"POST, chunked and empty", "POST", func() io.Reader { return io.MultiReader(strings.NewReader("")) }, "", "application/json"},
			{"POST, a message of no bytes", "POST", func() io.Reader { return bytes.NewReader(srvSeal(t, nil)) }, "text/csv", "text/csv"},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				n := new(srvNotes)
				current.set(srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srvEcho(n, w, r) })))
				header := http.Header{"Content-Type": {sealhttp.MediaType + "; v=1"}}
				if tt.sealedType != "" {
					header["Sealed-Content-Type"] = []string{tt.sealedType}
				}
				a := host.do(t, host.request(t, tt.method, "/", tt.body(), header))
				if a.status != 200 || string(a.body) != "done" {
					t.Fatalf("status %d, body %q, %v", a.status, a.body, a.err)
				}
				want := map[string]string{
					"ContentLength": `"0"`, "NoBody": `"true"`, "header Content-Length": `"[0]"`,
					"header Content-Type": fmt.Sprintf("%q", "["+tt.want+"]"), "TransferEncoding": `"[]"`,
					"body": `"00 <nil>"`, "read past the end": `"0 EOF"`, "header Sealed-Content-Type": "",
				}
				for name, value := range want {
					if n.notes[name] != value {
						t.Errorf("%s: %s, want %s", name, n.notes[name], value)
					}
				}
			})
		}
	}
}

// The default content type is configurable.
func TestServerDefaultContentType(t *testing.T) {
	m := srvMiddleware(t, sealhttp.WithDefaultContentType("application/cbor"))
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header["Content-Type"]) }))
	host := srvServe(t, "HTTP/1.1", h)
	if a := host.call(t, "POST", "/", []byte("x")).open(t, "POST"); string(a.body) != "[application/cbor]" {
		t.Errorf("the handler saw %s", a.body)
	}
}

// What Begin puts into the context is seen inside, and nowhere else.
func TestServerContextInfo(t *testing.T) {
	type seen struct {
		info sealhttp.CallInfo
		ok   bool
	}
	var inside, outside seen
	h := srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.info, inside.ok = sealhttp.FromContext(r.Context())
	}))
	host := srvServe(t, "HTTP/1.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		outside.info, outside.ok = sealhttp.FromContext(r.Context())
	}))
	row := srvRow{body: []byte("x")}
	server, caller := srvKey.ID(), srvCallerKey.ID()
	for mode, want := range map[srvMode]seen{
		srvClear:  {},
		srvOpened: {sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: server, RequestSealed: true}, true},
		srvSealed: {sealhttp.CallInfo{Profile: sealhttp.MessageProfile, CallerKeyID: caller, ResponseSealed: true}, true},
		srvBoth:   {sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: server, CallerKeyID: caller, RequestSealed: true, ResponseSealed: true}, true},
	} {
		row.send(t, host, mode)
		if inside != want || outside != (seen{}) {
			t.Errorf("%v: inside %+v, outside %+v; want %+v and none", mode, inside, outside, want)
		}
	}
}

// A reverse proxy inside, as a gateway that opens for services behind it.
func TestServerForwardedForm(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srvCheck(t, r.ParseForm())
		fmt.Fprint(w, r.ContentLength, r.TransferEncoding, r.PostForm, slices.Sorted(maps.Keys(r.Header)))
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	srvCheck(t, err)
	host := srvServe(t, "HTTP/1.1", srvMiddleware(t).Handler(srvProxy(target)))
	header := http.Header{
		"Content-Type": {sealhttp.MediaType}, "Sealed-Content-Type": {"application/x-www-form-urlencoded"},
		"Accept": {sealhttp.MediaType}, "Accept-Encoding": {"gzip"}, "User-Agent": {"x"},
	}
	for _, chunked := range []bool{false, true} {
		var body io.Reader = bytes.NewReader(srvSeal(t, []byte("a=b")))
		if chunked {
			body = io.MultiReader(body)
		}
		a := host.do(t, host.request(t, "POST", "/", body, header)).open(t, "POST")
		if want := "3 [] map[a:[b]] [Connection Content-Length Content-Type User-Agent X-Forwarded-For]"; string(a.body) != want {
			t.Errorf("upstream saw %s, want %s", a.body, want)
		}
	}
}
