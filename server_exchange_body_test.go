package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// What a handler is given is the request as it would have been in plaintext, but that
// the length of its body is not known.
func TestServerExchangeHandlersRequest(t *testing.T) {
	type key struct{}
	for _, proto := range srvProtos {
		for _, tt := range []struct {
			name        string
			method      string
			body        []byte
			contentType string
			chunked     bool
			opts        []sealhttp.Option
			want        []string // Content-Type
		}{
			{"a body", "POST", []byte("hello"), "text/plain", false, nil, []string{"text/plain"}},
			{"a body without Content-Length", "POST", []byte("hello"), "text/plain", true, nil, []string{"text/plain"}},
			{"a body without a type", "PUT", []byte("hello"), "", false, nil, []string{"application/json"}},
			{"another default type", "PUT", []byte("hello"), "", false, []sealhttp.Option{sealhttp.WithDefaultContentType("application/cbor")}, []string{"application/cbor"}},
			{"a type with white space", "PUT", []byte("hello"), " a/b; c=d\t", false, nil, []string{"a/b; c=d"}},
			{"a body of no bytes", "POST", []byte{}, "text/plain", false, nil, []string{"text/plain"}},
			{"a body of GET", "GET", []byte("hello"), "text/plain", false, nil, []string{"text/plain"}},
			{"no body", "GET", nil, "", false, nil, nil},
			{"no body of POST", "POST", nil, "", false, nil, nil},
			{"a type without a body", "GET", nil, "text/plain", false, nil, []string{"text/plain"}},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				ran := false
				x := srvTurn(tt.method, "/a%2fb?c=d")
				x.contentType = strings.Trim(tt.contentType, " \t")
				x.header = http.Header{
					"Accept":          {sealhttp.ExchangeMediaType, "text/html;q=0.5, " + sealhttp.MediaType + ", */*"},
					"Accept-Encoding": {"gzip"}, "Range": {"bytes=0-1"}, "If-Range": {`"1"`}, "Cookie": {"a=b"},
					"Authorization": {"Bearer a"}, "If-Match": {`"1"`}, "X-Two": {"1", "2"}, "User-Agent": {"test"},
				}
				m := srvMiddleware(t, tt.opts...)
				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran = true
					want := http.Header{
						"Accept": {"text/html;q=0.5, */*"}, "Cookie": {"a=b"}, "Authorization": {"Bearer a"},
						"If-Match": {`"1"`}, "X-Two": {"1", "2"}, "User-Agent": {"test"},
					}
					if tt.want != nil {
						want["Content-Type"] = tt.want
					}
					if !maps.EqualFunc(r.Header, want, slices.Equal) {
						t.Errorf("header\n%v, want\n%v", r.Header, want)
					}
					length := int64(-1)
					if tt.body == nil {
						length = 0
					}
					if r.ContentLength != length || (r.Body == http.NoBody) != (tt.body == nil) || r.TransferEncoding != nil || r.Trailer != nil {
						t.Errorf("ContentLength %d, Body %T, TransferEncoding %q, Trailer %v", r.ContentLength, r.Body, r.TransferEncoding, r.Trailer)
					}
					if r.Method != tt.method || r.RequestURI != x.target || r.URL.RequestURI() != x.target || r.Host != "api.example.com" || r.Proto != proto || r.RemoteAddr == "" || r.TLS == nil {
						t.Errorf("%s %s %s %s %s", r.Method, r.RequestURI, r.URL, r.Host, r.Proto)
					}
					if r.Context().Value(key{}) != "from outside" {
						t.Error("a value of the context is gone")
					}
					info, ok := sealhttp.FromContext(r.Context())
					if want := (sealhttp.CallInfo{Profile: sealhttp.ExchangeProfile, KeyID: srvKey.ID(), CallerKeyID: srvCallerKey.ID(), RequestSealed: true, ResponseSealed: true}); !ok || info != want {
						t.Errorf("FromContext: %+v, %v", info, ok)
					}
					r.Pattern = "/set/inside"
					b, err := io.ReadAll(r.Body)
					if err != nil || !bytes.Equal(b, tt.body) || r.Trailer != nil {
						t.Errorf("read %q, %v, trailer %v", b, err, r.Trailer)
					}
				}))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					before := r.Header.Clone()
					r = r.WithContext(context.WithValue(r.Context(), key{}, "from outside"))
					h.ServeHTTP(w, r)
					if r.Pattern != "/set/inside" {
						t.Errorf("outside, the pattern is %q", r.Pattern)
					}
					if !maps.EqualFunc(r.Header, before, slices.Equal) {
						t.Errorf("outside, the header has become %v", r.Header)
					}
				}))
				x.authority = "api.example.com"
				req := x.request(t, host, tt.body)
				req.Host = "api.example.com"
				if tt.contentType != "" {
					req.Header["Sealed-Content-Type"] = []string{tt.contentType}
				}
				if tt.chunked {
					req.ContentLength = -1
					req.Trailer = http.Header{"X-Sum": {"1"}}
				}
				x.open(t, host.do(t, req))
				if !ran {
					t.Error("the handler has not run")
				}
			})
		}
	}
}

// How handlers read, and what they get.
func TestServerExchangeReading(t *testing.T) {
	text := strings.Repeat("0123456789", 5000)
	for _, duplex := range srvDuplexes {
		var current srvSwap
		host := srvServe(t, duplex.proto, &current)
		for _, tt := range []struct {
			name    string
			handler func(t testing.TB, w http.ResponseWriter, r *http.Request)
		}{
			{"io.Copy", func(t testing.TB, _ http.ResponseWriter, r *http.Request) {
				var b bytes.Buffer
				if n, err := io.Copy(&b, r.Body); err != nil || n != int64(len(text)) || b.String() != text {
					t.Errorf("%d bytes, %v", n, err)
				}
			}},
			{"io.ReadFull", func(t testing.TB, _ http.ResponseWriter, r *http.Request) {
				b := make([]byte, len(text))
				if n, err := io.ReadFull(r.Body, b); err != nil || string(b) != text {
					t.Errorf("%d bytes, %v", n, err)
				}
				for range 2 {
					if n, err := r.Body.Read(b); n != 0 || err != io.EOF {
						t.Errorf("at the end: %d bytes, %v", n, err)
					}
				}
			}},
			{"nothing at a time", func(t testing.TB, _ http.ResponseWriter, r *http.Request) {
				for range 3 {
					if n, err := r.Body.Read(nil); n != 0 || err != nil {
						t.Errorf("%d bytes, %v", n, err)
					}
				}
			}},
			{"Close", func(t testing.TB, _ http.ResponseWriter, r *http.Request) {
				for range 2 {
					if err := r.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				if n, err := r.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}},
			{"http.MaxBytesReader", func(t testing.TB, w http.ResponseWriter, r *http.Request) {
				var tooLarge *http.MaxBytesError
				if n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1000)); n != 1000 || !errors.As(err, &tooLarge) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}},
			{"on after a flush", func(t testing.TB, w http.ResponseWriter, r *http.Request) {
				b := make([]byte, 10)
				_, err := io.ReadFull(r.Body, b)
				srvCheck(t, err)
				w.(http.Flusher).Flush()
				n, err := r.Body.Read(b)
				switch {
				case duplex.later() && (err != nil || n == 0):
					t.Errorf("%d bytes, %v", n, err)
				case !duplex.later() && !errors.Is(err, http.ErrBodyReadAfterClose): // as in plaintext
					t.Errorf("%d bytes, %v", n, err)
				}
			}},
			{"on after a small write", func(t testing.TB, w http.ResponseWriter, r *http.Request) {
				_, err := io.WriteString(w, "ok, ")
				srvCheck(t, err)
				if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(text)) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}},
		} {
			t.Run(duplex.name+"/"+tt.name, func(t *testing.T) {
				current.set(srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
					tt.handler(t, w, r)
					fmt.Fprint(w, "done")
				})))
				x := srvTurn("POST", "/")
				if got := x.open(t, host.do(t, x.request(t, host, []byte(text)))); !strings.HasSuffix(string(got.body), "done") {
					t.Errorf("%q", got.body)
				}
			})
		}
	}
}

// A JSON decoder stops at the end of what it decodes, which is before the end of the
// body.
func TestServerExchangeJSON(t *testing.T) {
	for _, proto := range srvProtos {
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var v struct{ Name string }
			if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
				http.Error(w, err.Error(), 400)
				return
			}
			srvCheck(t, json.NewEncoder(w).Encode("hello "+v.Name))
		})))
		for _, rest := range []string{"", "\n", strings.Repeat(" ", 100_000), "trailing", `{"Name":"Eve"}`} {
			for _, broken := range []bool{false, true} {
				x := srvTurn("POST", "/")
				x.body = true
				body := bytes.Join(x.records(t, []byte(`{"Name":"Ada"}`+rest), 14), nil)
				if broken {
					body = append(body, "more"...)
				}
				got := x.broken(t, host.do(t, x.streamed(t, host, bytes.NewReader(body))), srvCallerKey)
				if got.status != 200 || string(got.body) != "\"hello Ada\"\n" || broken != errors.Is(got.err, errSrvTruncated) {
					t.Errorf("%s, %.10q, broken %t: status %d, %q, %v", proto, rest, broken, got.status, got.body, got.err)
				}
			}
		}
	}
}

// Forms are parsed from the plaintext, and no temporary file of theirs stays.
func TestServerExchangeForms(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	srvCheck(t, parts.WriteField("name", "Ada"))
	file, err := parts.CreateFormFile("file", "a.txt")
	srvCheck(t, err)
	_, _ = file.Write(bytes.Repeat([]byte("x"), 100_000))
	srvCheck(t, parts.Close())
	for _, proto := range srvProtos {
		for _, tt := range []struct {
			name, contentType string
			body              []byte
			files             int
			end               func()
		}{
			{"urlencoded", "application/x-www-form-urlencoded", []byte(url.Values{"name": {"Ada"}}.Encode()), 0, func() {}},
			{"multipart", parts.FormDataContentType(), form.Bytes(), 1, func() {}},
			{"multipart and a panic", parts.FormDataContentType(), form.Bytes(), 1, func() { panic(http.ErrAbortHandler) }},
			{"cut off", parts.FormDataContentType(), form.Bytes()[:50_000], 0, func() {}},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				cut := tt.name == "cut off"
				host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					err := r.ParseMultipartForm(10)
					if errors.Is(err, http.ErrNotMultipart) {
						err = nil
					}
					if (err != nil) != cut || !cut && (r.PostForm.Get("name") != "Ada" || r.Form.Get("name") != "Ada" || r.Form.Get("q") != "1") {
						t.Errorf("%v, %v", r.Form, err)
					}
					if files, err := os.ReadDir(dir); err != nil || len(files) != tt.files {
						t.Errorf("%d temporary files, %v", len(files), err)
					}
					tt.end()
				})))
				x := srvTurn("POST", "/?q=1")
				x.contentType = tt.contentType
				a := host.do(t, x.request(t, host, tt.body))
				host.wait()
				if strings.HasSuffix(tt.name, "panic") {
					if a.err == nil {
						t.Errorf("a response of %d", a.status)
					}
				} else {
					x.open(t, a)
				}
				if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
					t.Errorf("%d temporary files stay, %v", len(files), err)
				}
			})
		}
	}
}

// A body that was read outside of the middleware is not there to be opened.
func TestServerExchangeBodyReadOutside(t *testing.T) {
	m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); len(b) > 0 || !errors.Is(err, sealhttp.CodeRequestIncomplete) {
			t.Errorf("%q, %v", b, err)
		}
	}))
	host := srvServe(t, "HTTP/1.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h.ServeHTTP(w, r)
	}))
	x := srvTurn("POST", "/")
	x.refused(t, host.do(t, x.request(t, host, []byte("hello"))), sealhttp.CodeRequestIncomplete, 400, srvCallerKey)
}
