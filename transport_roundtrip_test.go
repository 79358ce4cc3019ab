package sealhttp_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// trSeen is what arrived at a server.
type trSeen struct {
	method, uri, host string
	header            http.Header
	length            int64
	body              string
	info              sealhttp.CallInfo
	outer             http.Header // before the Middleware
	outerLength       int64
}

// trWatch serves through a Middleware, and keeps what its handler and what is
// outside of the Middleware saw.
type trWatch struct {
	mu   sync.Mutex
	seen []trSeen
}

func (s *trWatch) handler(m *sealhttp.Middleware, answer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outer, outerLength := r.Header.Clone(), r.ContentLength
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			info, _ := sealhttp.FromContext(r.Context())
			s.mu.Lock()
			s.seen = append(s.seen, trSeen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.ContentLength, string(body), info, outer, outerLength})
			s.mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(body))
			answer.ServeHTTP(w, r)
		})).ServeHTTP(w, r)
	})
}

// last returns what the only call since the last one saw.
func (s *trWatch) last(t *testing.T) trSeen {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) != 1 {
		t.Fatalf("the handler ran %d times, want once", len(s.seen))
	}
	seen := s.seen[0]
	s.seen = nil
	return seen
}

// trBodies are the kinds of bodies. A length of -1 is one that net/http is not told.
var trBodies = []struct {
	name string
	text string
	body func(text string) io.Reader
}{
	{"nil", "", func(string) io.Reader { return nil }},
	{"NoBody", "", func(string) io.Reader { return http.NoBody }},
	{"empty reader", "", func(string) io.Reader { return trNewBody("") }},
	{"one byte", "x", func(s string) io.Reader { return strings.NewReader(s) }},
	{"bytes", `{"name":"Ada"}`, func(s string) io.Reader { return bytes.NewReader([]byte(s)) }},
	{"unknown length", "no one said how long", func(s string) io.Reader { return io.MultiReader(strings.NewReader(s[:5]), strings.NewReader(s[5:])) }},
}

func TestTransportRoundTrips(t *testing.T) {
	methods := []string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"}
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, withKeys := range []bool{true, false} {
			policy, opts := sealhttp.RequestRequired, []sealhttp.TransportOption(nil)
			if withKeys {
				policy, opts = sealhttp.Required, append(opts, sealhttp.WithPrivateKeys(caller))
			}
			m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(policy), trClientKey(caller.Public()))
			watch := new(trWatch)
			srv, base := trServe(t, h2, watch.handler(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/vnd.api+json; v=2")
				w.Header().Set("Etag", `"7"`)
				w.Header()["X-Answer"] = []string{"one", "two"}
				w.WriteHeader(http.StatusCreated)
				fmt.Fprint(w, "the answer")
			})))
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), append(opts, sealhttp.WithBase(base))...)
			for _, method := range methods {
				for _, b := range trBodies {
					t.Run(fmt.Sprintf("keys=%v/%s/%s", withKeys, method, b.name), func(t *testing.T) {
						req := trRequest(t, method, srv.URL+"/a%2Fb?q=1&r=%20", b.body(b.text))
						req.Method = method // NewRequest makes "" to GET
						req.Header.Set("Content-Type", "application/xml; charset=utf-8")
						req.Header.Set("Authorization", "Bearer t")
						req.Header.Set("Idempotency-Key", "k")
						req.Header["X-Several"] = []string{"a", "b"}
						resp, body := trDo(t, transport, req)

						method := method
						if method == "" {
							method = "GET"
						}
						sealed := b.text != "" || method == "POST" || method == "PUT" || method == "PATCH"
						seen := watch.last(t)
						if seen.method != method || seen.uri != "/a%2Fb?q=1&r=%20" || seen.body != b.text || seen.length != int64(len(b.text)) {
							t.Errorf("the handler saw %s %s with %q of length %d", seen.method, seen.uri, seen.body, seen.length)
						}
						if got := seen.header["Content-Type"]; !slices.Equal(got, []string{"application/xml; charset=utf-8"}) {
							t.Errorf("the handler saw Content-Type %q", got)
						}
						if seen.header["Sealed-Content-Type"] != nil || seen.header["Accept"] != nil {
							t.Errorf("the handler saw %v", seen.header)
						}
						if got := seen.outer["X-Several"]; !slices.Equal(got, []string{"a", "b"}) || seen.outer.Get("Authorization") != "Bearer t" || seen.outer.Get("Idempotency-Key") != "k" {
							t.Errorf("in clear came %v", seen.outer)
						}
						if got := seen.outer.Get("Content-Type") == sealhttp.MediaType; got != sealed {
							t.Errorf("sent sealed: %v, want %v", got, sealed)
						}
						if want := int64(len(b.text) + server.Public().Overhead()); sealed && seen.outerLength != want {
							t.Errorf("a message of length %d, want %d", seen.outerLength, want)
						}
						if !sealed && seen.outerLength != 0 {
							t.Errorf("no message, but a length of %d", seen.outerLength)
						}
						wantInfo := sealhttp.CallInfo{RequestSealed: sealed, ResponseSealed: withKeys}
						if sealed {
							wantInfo.KeyID = server.ID()
						}
						if withKeys {
							wantInfo.CallerKeyID = caller.ID()
						}
						if sealed || withKeys {
							wantInfo.Profile = sealhttp.MessageProfile
						}
						if seen.info != wantInfo {
							t.Errorf("the handler's CallInfo is %+v, want %+v", seen.info, wantInfo)
						}

						info, ok := sealhttp.FromResponse(resp)
						if want := withKeys && method != "HEAD"; ok != want || want && info != wantInfo || !want && info != (sealhttp.CallInfo{}) {
							t.Errorf("FromResponse: %+v, %v, want %v and %+v", info, ok, want, wantInfo)
						}
						want := "the answer"
						if method == "HEAD" {
							want = ""
						}
						if body != want || resp.StatusCode != http.StatusCreated || resp.Status != "201 Created" {
							t.Errorf("got %s with %q", resp.Status, body)
						}
						if method != "HEAD" {
							if resp.ContentLength != int64(len(want)) || resp.Header.Get("Content-Length") != strconv.Itoa(len(want)) {
								t.Errorf("got ContentLength %d, %q", resp.ContentLength, resp.Header["Content-Length"])
							}
							if got := resp.Header["Content-Type"]; !slices.Equal(got, []string{"application/vnd.api+json; v=2"}) {
								t.Errorf("got Content-Type %q", got)
							}
						}
						if resp.Header["Sealed-Content-Type"] != nil {
							t.Errorf("got Sealed-Content-Type %q", resp.Header["Sealed-Content-Type"])
						}
						if resp.Header.Get("Etag") != `"7"` || !slices.Equal(resp.Header["X-Answer"], []string{"one", "two"}) {
							t.Errorf("got %v", resp.Header)
						}
						if resp.TransferEncoding != nil || resp.Trailer != nil {
							t.Errorf("got TransferEncoding %v, Trailer %v", resp.TransferEncoding, resp.Trailer)
						}
						if got := resp.Request; got == req || got.URL != req.URL || got.Method != req.Method || got.Header.Get("Accept") != "" {
							t.Errorf("the response's request is %+v", got)
						}
					})
				}
			}
		}
	})
}

// Every suite, with and without a prefix, on both sides.
func TestTransportSuites(t *testing.T) {
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, suite := range seal.Suites() {
			for _, raw := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/raw=%v", suite, raw), func(t *testing.T) {
					var opts []seal.KeyOption
					if raw {
						opts = append(opts, seal.WithoutPrefix())
					}
					server, caller := trKey(t, suite, opts...), trKey(t, suite, opts...)
					m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
					srv, base := trServe(t, h2, m.Handler(trEcho))
					transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
					for _, text := range []string{"", "to " + suite.String()} {
						resp, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader(text)))
						if body != text || resp.ContentLength != int64(len(text)) {
							t.Errorf("got %q of length %d, want %q", body, resp.ContentLength, text)
						}
						want := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: server.ID(), CallerKeyID: caller.ID(), RequestSealed: true, ResponseSealed: true}
						if info, ok := sealhttp.FromResponse(resp); !ok || info != want {
							t.Errorf("got %+v, %v, want %+v", info, ok, want)
						}
					}
				})
			}
		}
	})
}

// Bodies around the sizes at which buffers grow.
func TestTransportSizes(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
		srv, base := trServe(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		for _, size := range []int{4<<10 - 1, 4 << 10, 64<<10 - 53, 64 << 10, 64<<10 + 1, 1<<20 + 7} {
			text := trBodyOf(size)[:size]
			for name, body := range map[string]io.Reader{
				"known":   strings.NewReader(text),
				"unknown": io.MultiReader(strings.NewReader(text)),
			} {
				resp, got := trDo(t, transport, trRequest(t, "POST", srv.URL, body))
				if got != text || resp.ContentLength != int64(size) {
					t.Errorf("%d bytes, length %s: %d came back, ContentLength %d", size, name, len(got), resp.ContentLength)
				}
			}
		}
	})
}

// What the handler sees of Accept is the caller's own.
func TestTransportAccept(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	const sealed = sealhttp.MediaType
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, policy := range []sealhttp.Policy{sealhttp.Optional, sealhttp.Required} {
			m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(policy), trClientKey(caller.Public()))
			watch := new(trWatch)
			srv, base := trServe(t, h2, watch.handler(m, trEcho))
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
			for _, row := range []struct{ accept, want []string }{
				{nil, nil},
				{[]string{"application/json"}, []string{"application/json"}},
				{[]string{"*/*"}, []string{"*/*"}},
				{[]string{"text/html;q=0.8, */*;q=0.1"}, []string{"text/html;q=0.8, */*;q=0.1"}},
				{[]string{"application/json", "text/xml"}, []string{"application/json", "text/xml"}},
				{[]string{sealed}, nil},
				{[]string{sealed + ";q=0"}, nil},
				{[]string{"application/json, " + sealed + ";q=0.1"}, []string{"application/json"}},
			} {
				t.Run(fmt.Sprintf("%v/%v", policy, row.accept), func(t *testing.T) {
					req := trRequest(t, "GET", srv.URL, nil)
					if row.accept != nil {
						req.Header["Accept"] = slices.Clone(row.accept)
					}
					resp, _ := trDo(t, transport, req)
					seen := watch.last(t)
					if got := seen.header["Accept"]; !slices.Equal(got, row.want) {
						t.Errorf("the handler saw %q, want %q", got, row.want)
					}
					// No one on the way reads another wish than ours.
					if got, want := seen.outer["Accept"], append([]string{sealed}, row.want...); !slices.Equal(got, want) {
						t.Errorf("sent Accept %q, want %q", got, want)
					}
					if _, has := seen.header["Accept"]; has && row.want == nil {
						t.Error("the handler saw an Accept that is empty")
					}
					if !slices.Equal(req.Header["Accept"], row.accept) {
						t.Errorf("the request's Accept became %q", req.Header["Accept"])
					}
					if _, ok := sealhttp.FromResponse(resp); !ok {
						t.Error("the response was not sealed")
					}
				})
			}
		}

		t.Run("no private keys", func(t *testing.T) {
			m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
			watch := new(trWatch)
			srv, base := trServe(t, h2, watch.handler(m, trEcho))
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
			req := trRequest(t, "GET", srv.URL, nil)
			req.Header["Accept"] = []string{"a/b", "c/d"}
			trDo(t, transport, req)
			if got := watch.last(t).outer["Accept"]; !slices.Equal(got, []string{"a/b", "c/d"}) {
				t.Errorf("sent Accept %q", got)
			}
			trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
			if got := watch.last(t).outer["Accept"]; got != nil {
				t.Errorf("sent Accept %q", got)
			}
		})
	})
}

// Whatever the handler answers comes back, sealed where there is something to seal.
func TestTransportStatuses(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
		srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(r.URL.Query().Get("status"))
			w.Header().Set("Sealed-Error", "unknown_key") // not a handler's to set
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, r.URL.Query().Get("body"))
		})))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		for _, status := range []int{200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 409, 413, 415, 418, 422, 429, 500, 501, 502, 503, 504, 599} {
			for _, body := range []string{"", "an answer"} {
				for _, method := range []string{"GET", "POST", "HEAD"} {
					req := trRequest(t, method, srv.URL+"/?"+url.Values{"status": {strconv.Itoa(status)}, "body": {body}}.Encode(), nil)
					resp, got := trDo(t, transport, req)
					content := method != "HEAD" && status != 204 && status != 205 && status != 304
					want := ""
					if content {
						want = body
					}
					if resp.StatusCode != status || got != want {
						t.Errorf("%s: got %d with %q, want %d with %q", method, resp.StatusCode, got, status, want)
					}
					if _, ok := sealhttp.FromResponse(resp); ok != content {
						t.Errorf("%s: %d: FromResponse says %v", method, status, ok)
					}
					if content && (resp.Header.Get("Content-Type") != "text/plain" || resp.ContentLength != int64(len(body))) {
						t.Errorf("%s: %d: Content-Type %q, ContentLength %d", method, status, resp.Header.Get("Content-Type"), resp.ContentLength)
					}
					if !content && method != "HEAD" && resp.ContentLength != 0 {
						t.Errorf("%s: %d: ContentLength %d", method, status, resp.ContentLength)
					}
				}
			}
		}
	})
}

// The Content-Type is what the caller would have seen in plaintext.
func TestTransportResponseContentType(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
		for name, lines := range map[string][]string{
			"set":     {"text/csv; header=present"},
			"sniffed": {},
			"none":    nil,
		} {
			t.Run(name, func(t *testing.T) {
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if lines == nil || len(lines) > 0 {
						w.Header()["Content-Type"] = lines
					}
					_, _ = io.WriteString(w, "<html>")
				})
				srv, base := trServe(t, h2, m.Handler(handler))
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
				plain, _ := trDo(t, base, trRequest(t, "GET", srv.URL, nil))
				opened, _ := trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
				got, has := opened.Header["Content-Type"]
				if want, wantHas := plain.Header["Content-Type"]; has != wantHas || !slices.Equal(got, want) {
					t.Errorf("got Content-Type %q, in plaintext it is %q", got, want)
				}
			})
		}
	})
}

// Without a Content-Type, the server's default is the handler's; a name for one
// that the caller left over is not sent.
func TestTransportRequestContentType(t *testing.T) {
	server := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		watch := new(trWatch)
		m := trMiddleware(t, trKeys(t, server), sealhttp.WithDefaultContentType("text/x-default"))
		srv, base := trServe(t, h2, watch.handler(m, trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
		for name, row := range map[string]struct {
			header http.Header
			want   string
		}{
			"nil header":   {nil, "text/x-default"},
			"none":         {http.Header{}, "text/x-default"},
			"left over":    {http.Header{"Sealed-Content-Type": {"a/b"}}, "text/x-default"},
			"overruled":    {http.Header{"Content-Type": {"c/d"}, "Sealed-Content-Type": {"a/b"}}, "c/d"},
			"wrong length": {http.Header{"Content-Type": {"c/d"}, "Content-Length": {"3"}}, "c/d"},
		} {
			t.Run(name, func(t *testing.T) {
				req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
				req.Header = maps.Clone(row.header)
				trDo(t, transport, req)
				seen := watch.last(t)
				if got := seen.header["Content-Type"]; !slices.Equal(got, []string{row.want}) {
					t.Errorf("the handler saw %q, want %q", got, row.want)
				}
				if seen.body != "text" {
					t.Errorf("the handler read %q", seen.body)
				}
				if !reflect.DeepEqual(req.Header, row.header) {
					t.Errorf("the request's header became %v", req.Header)
				}
			})
		}
	})
}

// Trailers and a transfer encoding of the caller's are of the plaintext.
func TestTransportDropsTrailers(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
		srv, base, wire := trServeClear(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		req := trRequest(t, "POST", srv.URL, io.MultiReader(strings.NewReader("text")))
		req.Trailer = http.Header{"X-Checksum": {trCanary}}
		req.TransferEncoding = []string{"chunked"}
		resp, body := trDo(t, transport, req)
		if body != "text" || resp.Trailer != nil {
			t.Errorf("got %q with trailers %v", body, resp.Trailer)
		}
		wire.check(t)
		if got := wire.all(); bytes.Contains(bytes.ToLower(got), []byte("chunked")) || bytes.Contains(bytes.ToLower(got), []byte("checksum")) {
			t.Errorf("sent %q", got)
		}
		if req.Trailer == nil || req.TransferEncoding == nil {
			t.Error("the request was changed")
		}
	})
}

// A sealed response whose transport has trailers and chunks shows none of them.
func TestTransportResponseTransferIsHidden(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	message, err := caller.Public().Seal(nil, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", sealhttp.MediaType+"; x=y")
			w.Header().Set("Sealed-Content-Type", "a/b")
			w.Header().Set("Trailer", "X-T")
			_, _ = w.Write(message[:10])
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(message[10:])
			w.Header().Set("X-T", "trailing")
		}))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		resp, body := trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
		if body != "text" || resp.ContentLength != 4 || resp.Header.Get("Content-Length") != "4" || resp.Header.Get("Content-Type") != "a/b" {
			t.Errorf("got %q, ContentLength %d, %v", body, resp.ContentLength, resp.Header)
		}
		if resp.Trailer != nil || resp.TransferEncoding != nil {
			t.Errorf("got Trailer %v, TransferEncoding %v", resp.Trailer, resp.TransferEncoding)
		}
	})
}

// A gateway that compresses what is sealed: net/http undoes what it asked for itself.
func TestTransportCompressingGateway(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				t.Errorf("Accept-Encoding is %q", r.Header["Accept-Encoding"])
			}
			sealed := &trBuffered{header: make(http.Header)}
			m.Handler(trEcho).ServeHTTP(sealed, r)
			maps.Copy(w.Header(), sealed.header)
			w.Header().Del("Content-Length")
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(sealed.status)
			z := gzip.NewWriter(w)
			_, _ = z.Write(sealed.body.Bytes())
			_ = z.Close()
		}))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		if _, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text"))); body != "text" {
			t.Errorf("got %q", body)
		}

		req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
		req.Header.Set("Accept-Encoding", "gzip") // then it is the caller's to undo
		trIs(t, trFail(t, transport, req), sealhttp.CodeUnsupportedContentEncoding, 200, sealhttp.ErrResponseNotOpened)
	})
}

// trBuffered is a ResponseWriter in memory.
type trBuffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *trBuffered) Header() http.Header         { return b.header }
func (b *trBuffered) WriteHeader(status int)      { b.status = status }
func (b *trBuffered) Write(p []byte) (int, error) { return b.body.Write(p) }

// The request is read and closed, and nothing else is done to it.
func TestTransportLeavesRequestAlone(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		for _, method := range []string{"GET", "POST"} {
			for _, text := range []string{"", "text"} {
				body := trNewBody(text)
				req := trRequest(t, method, srv.URL+"/p?q", body)
				req.ContentLength = int64(len(text))
				req.Header = http.Header{"Content-Type": {"a/b"}, "Accept": {"c/d", "e/f"}, "Content-Length": {"77"}, "Sealed-Content-Type": {"g/h"}, "X": {"1", "2"}}
				req.GetBody = func() (io.ReadCloser, error) {
					t.Error("the request's GetBody was called")
					return trNewBody(text), nil
				}
				req.Trailer = http.Header{"T": nil}
				before, header, target := *req, req.Header.Clone(), req.URL.String()
				trDo(t, transport, req)
				if !reflect.DeepEqual(req.Header, header) {
					t.Errorf("header: %v, was %v", req.Header, header)
				}
				if req.URL != before.URL || req.URL.String() != target {
					t.Errorf("URL: %v, was %v", req.URL, target)
				}
				if req.Body != before.Body || req.ContentLength != before.ContentLength || req.Method != before.Method || req.Host != before.Host || req.Response != nil {
					t.Errorf("%+v, was %+v", req, &before)
				}
				if reflect.ValueOf(req.GetBody).Pointer() != reflect.ValueOf(before.GetBody).Pointer() {
					t.Error("GetBody was replaced")
				}
				if !reflect.DeepEqual(req.Trailer, before.Trailer) || req.TransferEncoding != nil || req.Context() != before.Context() {
					t.Errorf("%+v, was %+v", req, &before)
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("the body was closed %d times", n)
				}
			}
		}
	})
}
