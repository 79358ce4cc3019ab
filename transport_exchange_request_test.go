package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// txLengths are lengths of bodies around those of one record, of what is kept, and of
// what a length takes on the wire.
var txLengths = []int{0, 1, 46, 47, 16366, 16367, 16368, 16384, 16385, 32768, 65428, 65451, 65452, 65453, 65536, 100_000, 1 << 20}

// A body of a known length is sent with a Content-Length, one of an unknown length in
// chunks; it arrives either way, sealed, with its type.
func TestExchangeBodies(t *testing.T) {
	key := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, known := range []bool{true, false} {
			for _, n := range txLengths {
				text := trBodyOf(n)[:n]
				server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txOK}}
				srv, base, wire := trServeClear(t, h2, server)
				body := trNewBody(text)
				req := trRequest(t, "PUT", srv.URL+"/a/b?c=d", body)
				if known {
					req.ContentLength = int64(n)
				}
				req.Header.Set("Content-Type", "text/x; charset=utf-8")
				before := maps.Clone(req.Header)
				resp, got := trDo(t, txTransport(t, key.Public(), base), req)
				if got != "done" || resp.StatusCode != 200 {
					t.Errorf("%d bytes: got %q, %s", n, got, resp.Status)
				}
				q := server.check(t, 1)[0]
				if q.err(server) != nil || string(q.plaintext) != text || q.contentType != "text/x; charset=utf-8" || !q.body {
					t.Errorf("%d bytes: got %d, of type %q", n, len(q.plaintext), q.contentType)
				}
				length := q.r.ContentLength
				switch {
				case known && n > 0 && length != int64(txRecordsLen(n)):
					t.Errorf("%d bytes were sent with Content-Length %d, want %d", n, length, txRecordsLen(n))
				case !known && length != -1:
					t.Errorf("%d bytes were sent with Content-Length %d", n, length)
				}
				if !maps.EqualFunc(req.Header, before, slices.Equal) || req.Body != io.ReadCloser(body) {
					t.Errorf("the request was changed: %v", req.Header)
				}
				if closed := body.closed.Load(); closed != 1 {
					t.Errorf("%d bytes, known %t: the body was closed %d times", n, known, closed)
				}
				if n >= len(trCanary) {
					wire.check(t)
				}
				srv.Close()
			}
		}
	})
}

// txRecordsLen is how long records of n bytes of data are, counted out.
func txRecordsLen(n int) int {
	var out bytes.Buffer
	private, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	x, _, _, err := private.Public().NewExchange(nil)
	if err != nil {
		panic(err)
	}
	w := x.Records().NewWriter(&out, nil)
	_, _ = w.Write(make([]byte, n))
	_ = w.Close()
	return out.Len()
}

func (q *txRequest) err(s *txServer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err[slices.Index(s.got, q)]
}

// What there is no content in has no body, but for methods that need one.
func TestExchangeContent(t *testing.T) {
	key := trDefaultKey(t)
	bodies := map[string]func() io.ReadCloser{
		"nil":     func() io.ReadCloser { return nil },
		"NoBody":  func() io.ReadCloser { return http.NoBody },
		"unknown": func() io.ReadCloser { return trNewBody("") },
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for method, want := range map[string]bool{"": false, "GET": false, "HEAD": false, "DELETE": false, "OPTIONS": false, "POST": true, "PUT": true, "PATCH": true, "REPORT": false} {
			for name, body := range bodies {
				server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txSealed(txAnswer{status: 204, bodiless: true})}}
				srv, base := trServe(t, h2, server)
				req := trRequest(t, method, srv.URL, nil)
				req.Method, req.Body = method, body()
				req.Header.Set("Content-Type", "text/plain")
				trDo(t, txTransport(t, key.Public(), base), req)
				q := server.check(t, 1)[0]
				if q.body != want || len(q.plaintext) > 0 || q.contentType != "text/plain" || (q.r.Header["Content-Type"] != nil) != want {
					t.Errorf("%s, %s: body %t, header %v", method, name, q.body, q.r.Header)
				}
				if !want && (q.r.ContentLength != 0 || len(q.r.TransferEncoding) > 0) {
					t.Errorf("%s, %s: content of length %d", method, name, q.r.ContentLength)
				}
			}
			server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txSealed(txAnswer{status: 204, bodiless: true})}}
			srv, base := trServe(t, h2, server)
			req := trRequest(t, "GET", srv.URL, trNewBody("text"))
			req.Method = method
			trDo(t, txTransport(t, key.Public(), base), req)
			if q := server.check(t, 1)[0]; !q.body || string(q.plaintext) != "text" {
				t.Errorf("%s: body %t, %q", method, q.body, q.plaintext)
			}
		}
	})
}

// The header goes out as it is but for what sealing changes.
func TestExchangeHeader(t *testing.T) {
	key := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txOK}}
		srv, base := trServe(t, h2, server)
		tr := txTransport(t, key.Public(), base)
		req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
		req.Header = http.Header{
			"Content-Type":        {" text/plain\t"},
			"Content-Length":      {"4"},
			"Trailer":             {"X-Sum"},
			"Range":               {"bytes=0-1"},
			"If-Range":            {`"a"`},
			"Sealed-Exchange":     {"v=2"},
			"Sealed-Content-Type": {"a/b"},
			"Sealed-Error":        {"stale"},
			"Accept":              {"application/json"},
			"Authorization":       {"Bearer a"},
			"x-lower":             {"1"},
			"if-match":            {`"b"`},
			"Cookie":              {"a=b"},
		}
		req.Trailer = http.Header{"X-Sum": {"1"}}
		req.TransferEncoding = []string{"chunked"}
		trDo(t, tr, req)
		q := server.check(t, 1)[0]
		h := q.r.Header.Clone()
		delete(h, "Sealed-Exchange")
		delete(h, "User-Agent")
		delete(h, "Content-Length")
		want := http.Header{
			"Content-Type":        {sealhttp.ExchangeMediaType},
			"Sealed-Content-Type": {"text/plain"},
			"Accept-Encoding":     {"identity"},
			"Accept":              {"application/json"},
			"Authorization":       {"Bearer a"},
			"X-Lower":             {"1"},
			"If-Match":            {`"b"`},
			"Cookie":              {"a=b"},
		}
		if !maps.EqualFunc(h, want, slices.Equal) {
			t.Errorf("got %v, want %v", h, want)
		}
		if len(q.r.Trailer) > 0 || q.bind != nil {
			t.Errorf("trailer %v, bind %v", q.r.Trailer, q.bind)
		}
		if off := time.Now().Unix() - q.ts; off < 0 || off > 30 {
			t.Errorf("the time is %d s off", off)
		}
		req = trRequest(t, "GET", srv.URL, nil)
		req.Header.Set("Accept-Encoding", "br")
		trDo(t, tr, req)
		q2 := server.check(t, 2)[1]
		if got := q2.r.Header["Accept-Encoding"]; !slices.Equal(got, []string{"br"}) || q2.id == q.id {
			t.Errorf("Accept-Encoding %q, the same id: %t", got, q2.id == q.id)
		}
	})
}

// What is bound beyond the default list is said.
func TestExchangeBoundHeaders(t *testing.T) {
	key := trDefaultKey(t)
	for name, row := range map[string]struct {
		option []sealhttp.TransportOption
		want   []string
	}{
		"default":  {nil, nil},
		"same":     {[]sealhttp.TransportOption{sealhttp.WithBoundHeaders(txDefaultBound...)}, nil},
		"none":     {[]sealhttp.TransportOption{sealhttp.WithBoundHeaders()}, []string{}},
		"others":   {[]sealhttp.TransportOption{sealhttp.WithBoundHeaders("X-Account", "authorization", "x-absent")}, []string{"x-account", "authorization", "x-absent"}},
		"reversed": {[]sealhttp.TransportOption{sealhttp.WithBoundHeaders("if-match", "authorization")}, []string{"if-match", "authorization"}},
	} {
		trBothProtocols(t, func(t *testing.T, h2 bool) {
			server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txOK}}
			srv, base := trServe(t, h2, server)
			req := trRequest(t, "GET", srv.URL, nil)
			req.Header = http.Header{"Authorization": {"a"}, "X-Account": {"b"}, "If-Match": {"c"}}
			trDo(t, txTransport(t, key.Public(), base, row.option...), req)
			q := server.check(t, 1)[0]
			if !slices.Equal(q.bind, row.want) || (q.bind == nil) != (row.want == nil) {
				t.Errorf("%s: bind %q, want %q", name, q.bind, row.want)
			}
		})
	}
}

// What is bound is what the Middleware sees, however net/http writes it.
func TestExchangeTargets(t *testing.T) {
	key := trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key))
	for name, row := range map[string]struct {
		edit    func(req *http.Request)
		h1Only  bool
		wantURI string
		host    string
	}{
		"path":             {func(r *http.Request) { r.URL.Path = "/a b" }, false, "/a%20b", ""},
		"no path":          {func(r *http.Request) { r.URL.Path = "" }, false, "/", ""},
		"raw path":         {func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/a/b", "/a%2Fb" }, false, "/a%2Fb", ""},
		"query":            {func(r *http.Request) { r.URL.RawQuery = "b=c&d?" }, false, "/?b=c&d?", ""},
		"empty query":      {func(r *http.Request) { r.URL.ForceQuery = true }, false, "/?", ""},
		"fragment":         {func(r *http.Request) { r.URL.Fragment = "x" }, false, "/", ""},
		"opaque":           {func(r *http.Request) { r.URL.Opaque, r.URL.RawQuery = "/a//%2f;x", "b" }, false, "/a//%2f;x?b", ""},
		"absolute":         {func(r *http.Request) { r.URL.Opaque = "//" + r.URL.Host + "/x?" }, true, "", ""},
		"other authority":  {func(r *http.Request) { r.URL.Opaque = "//Other.example:1/x" }, true, "", "Other.example:1"},
		"query of another": {func(r *http.Request) { r.URL.Path, r.URL.RawQuery = "/go", "to=http://a.b/c" }, false, "/go?to=http://a.b/c", ""},
		"host":             {func(r *http.Request) { r.Host = "API.Example.com:99" }, false, "/", "API.Example.com:99"},
		"trailing dot":     {func(r *http.Request) { r.Host = "api.example.com." }, false, "/", "api.example.com."},
		"IPv6 zone":        {func(r *http.Request) { r.Host = "[fe80::1%en0]:80" }, false, "/", "[fe80::1]:80"},
		"IPv6":             {func(r *http.Request) { r.Host = "[FE80::1]" }, false, "/", "[FE80::1]"},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				if h2 && row.h1Only {
					t.Skip("net/http does not send it")
				}
				var got *http.Request
				srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					got = r
					w.WriteHeader(204)
				})))
				req := trRequest(t, "GET", srv.URL, nil)
				row.edit(req)
				trDo(t, txTransport(t, key.Public(), base), req)
				host := row.host
				if host == "" {
					host = req.URL.Host
				}
				if got.Host != host || row.wantURI != "" && got.RequestURI != row.wantURI {
					t.Errorf("the server saw %q at %q", got.RequestURI, got.Host)
				}
			})
		})
	}
	t.Run("proxy", func(t *testing.T) {
		srv := httptest.NewServer(m.Handler(trEcho))
		defer srv.Close()
		proxy, err := url.Parse(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		base := &http.Transport{Proxy: http.ProxyURL(proxy)}
		defer base.CloseIdleConnections()
		if _, got := trDo(t, txTransport(t, key.Public(), base), trRequest(t, "POST", "http://api.example.com:81/x?y", strings.NewReader("text"))); got != "text" {
			t.Errorf("got %q", got)
		}
	})
}

// What cannot be sealed is not sent.
func TestExchangeNotSent(t *testing.T) {
	key := trDefaultKey(t)
	noKey := errors.New("the source is down")
	for name, row := range map[string]struct {
		edit   func(req *http.Request)
		opts   []sealhttp.TransportOption
		code   sealhttp.Code
		reason string
		reads  bool
	}{
		"host not in ASCII":     {func(r *http.Request) { r.Host = "bücher.example" }, nil, "", "xn--", false},
		"URL not in ASCII":      {func(r *http.Request) { r.Host, r.URL.Host = "", "bücher.example" }, nil, "", "xn--", false},
		"port that is none":     {func(r *http.Request) { r.Host = "a.example:80.b.example" }, nil, "", "the host", false},
		"fragment in the query": {func(r *http.Request) { r.URL.RawQuery = "a=b#&c=d" }, nil, "", "has a #", false},
		"fragment in Opaque":    {func(r *http.Request) { r.URL.Opaque = "/a#b" }, nil, "", "has a #", false},
		"user in Opaque":        {func(r *http.Request) { r.URL.Opaque = "//u:p@a.example/" }, nil, "", "user information", false},
		"host with a space":     {func(r *http.Request) { r.Host = "a b" }, nil, "", "the host", false},
		"no URL":                {func(r *http.Request) { r.URL = nil }, nil, "", "no URL", false},
		"CONNECT":               {func(r *http.Request) { r.Method = "CONNECT" }, nil, "", "CONNECT", false},
		"long target":           {func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("a", 8192) }, nil, "", "8193", true},
		"two Content-Types":     {func(r *http.Request) { r.Header["Content-Type"] = []string{"a/b", "c/d"} }, nil, "", "more than one Content-Type", false},
		"strange Content-Type": {func(r *http.Request) { r.Header.Set("Content-Type", "a/b;c=\"é\"") }, nil, "",
			"visible ASCII", false},
		"long Content-Type": {func(r *http.Request) { r.Header.Set("Content-Type", "a/"+strings.Repeat("b", 1023)) }, nil, "", "too long", false},
		"encoded":           {func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, nil, sealhttp.CodeUnsupportedProfile, "", false},
		"two bound lines":   {func(r *http.Request) { r.Header["If-Match"] = []string{"a", "b"} }, nil, "", "if-match", false},
		"two bound spellings": {func(r *http.Request) { r.Header["If-Match"], r.Header["if-match"] = []string{"a"}, []string{"b"} }, nil, "",
			"if-match", false},
		"too large":    {func(r *http.Request) {}, []sealhttp.TransportOption{sealhttp.WithMaxStreamBytes(3)}, sealhttp.CodeTooLarge, "", false},
		"shorter body": {func(r *http.Request) { r.ContentLength = 5 }, nil, "", "ContentLength=5", true},
		"longer body":  {func(r *http.Request) { r.ContentLength = 3 }, nil, "", "ContentLength=3", true},
		"failing body": {func(r *http.Request) { r.Body = trNewBody(""); r.Body.(*trBody).Reader = txFailing{noKey} }, nil, "", noKey.Error(), true},
		"failing first": {func(r *http.Request) {
			r.Method, r.ContentLength = "GET", -1
			r.Body.(*trBody).Reader = txFailing{noKey}
		}, nil, "", noKey.Error(), true},
		"no info": {func(r *http.Request) {}, []sealhttp.TransportOption{sealhttp.WithInfoFunc(func(*http.Request) ([]byte, []byte, error) { return nil, nil, noKey })},
			sealhttp.CodeKeyStoreUnavailable, noKey.Error(), false},
		"no private keys": {func(r *http.Request) {}, []sealhttp.TransportOption{sealhttp.WithPrivateKeySource(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return nil, noKey }))},
			sealhttp.CodeKeyStoreUnavailable, noKey.Error(), false},
		"ended, no body": {func(r *http.Request) {
			ctx, cancel := context.WithCancelCause(r.Context())
			cancel(noKey)
			*r = *r.WithContext(ctx)
			_ = r.Body.Close()
			r.Method, r.Body, r.ContentLength = "GET", nil, 0
		}, nil, "", noKey.Error(), false},
		"long target, body of unknown length": {func(r *http.Request) { r.URL.Path, r.ContentLength = "/"+strings.Repeat("a", 8192), -1 }, nil, "", "8193", false},
		"ended": {func(r *http.Request) {
			ctx, cancel := context.WithCancelCause(r.Context())
			cancel(noKey)
			*r = *r.WithContext(ctx)
		}, nil, "", noKey.Error(), true},
	} {
		t.Run(name, func(t *testing.T) {
			base := trBase(func(*http.Request) (*http.Response, error) {
				t.Error("it was sent")
				return nil, errors.New("sent")
			})
			body := trNewBody("text")
			req := trRequest(t, "POST", "http://a.example/", body)
			req.ContentLength = 4
			row.edit(req)
			if b, ok := req.Body.(*trBody); ok {
				body = b
			}
			err := trFail(t, txTransport(t, key.Public(), base, row.opts...), req)
			txOutcome(t, err, sealhttp.ErrNotProcessed)
			if row.code != "" {
				txIs(t, err, row.code, 0, sealhttp.ErrNotProcessed)
			} else if e := new(sealhttp.Error); errors.As(err, &e) {
				t.Errorf("%v is an *Error", err)
			}
			if !strings.Contains(err.Error(), row.reason) {
				t.Errorf("got %v, want %q", err, row.reason)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
			if rest, _ := io.ReadAll(body.Reader); !row.reads && string(rest) != "text" {
				t.Errorf("the body was read up to %q", rest)
			}
		})
	}
}

type txFailing struct{ err error }

func (f txFailing) Read([]byte) (int, error) { return 0, f.err }

// A key source that has none, and a connection that does not come about, are before
// anything is sent.
func TestExchangeNoConnection(t *testing.T) {
	down := errors.New("the source is down")
	source := sealhttp.ServerPublicKeysFunc(func(context.Context, *seal.PublicKey) (*seal.PublicKey, error) { return nil, down })
	tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile))
	err := trFail(t, tr, trRequest(t, "POST", "http://127.0.0.1:1/", strings.NewReader("text")))
	txIs(t, err, sealhttp.CodeKeyStoreUnavailable, 0, sealhttp.ErrNotProcessed)
	if !errors.Is(err, down) {
		t.Errorf("%v is not the source's", err)
	}

	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, trEcho)
		url := srv.URL
		srv.Close()
		for _, n := range []int{4, 100_000} {
			body := trNewBody(strings.Repeat("x", n))
			req := trRequest(t, "POST", url, body)
			req.ContentLength = int64(n)
			err := trFail(t, txTransport(t, trDefaultKey(t).Public(), base), req)
			txOutcome(t, err, sealhttp.ErrNotProcessed)
			if body.closed.Load() != 1 {
				t.Error("the body was not closed")
			}
		}
	})
	// Not TLS, where TLS was to be: nothing of the request was sent.
	plain := httptest.NewServer(trEcho)
	defer plain.Close()
	err = trFail(t, txTransport(t, trDefaultKey(t).Public(), http.DefaultTransport), trRequest(t, "POST", strings.Replace(plain.URL, "http", "https", 1), strings.NewReader("text")))
	txOutcome(t, err, sealhttp.ErrNotProcessed)
}

// A reader may give its last bytes together with the end, and none together with no
// error.
func TestExchangeStrangeReaders(t *testing.T) {
	key := trDefaultKey(t)
	long := trBodyOf(200_000)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"data with the end": iotest.DataErrReader,
			"byte by byte":      iotest.OneByteReader,
			"halves":            iotest.HalfReader,
			"nothing at times":  func(r io.Reader) io.Reader { return &txHesitant{Reader: r} },
		} {
			for _, text := range []string{"", "x", "some text", long} {
				if name == "byte by byte" && len(text) > 1000 {
					text = text[:1000]
				}
				for _, method := range []string{"GET", "POST"} {
					for _, length := range []int64{-1, int64(len(text))} {
						server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txOK}}
						srv, base := trServe(t, h2, server)
						req := trRequest(t, method, srv.URL, trNewBody(""))
						req.Body.(*trBody).Reader, req.ContentLength = wrap(strings.NewReader(text)), length
						trDo(t, txTransport(t, key.Public(), base), req)
						if q := server.check(t, 1)[0]; string(q.plaintext) != text {
							t.Errorf("%s: %d bytes came of %d", name, len(q.plaintext), len(text))
						}
					}
				}
			}
		}
	})
}

type txHesitant struct {
	io.Reader
	n int
}

func (r *txHesitant) Read(p []byte) (int, error) {
	if r.n++; r.n%2 == 1 {
		return 0, nil
	}
	return r.Reader.Read(p)
}

// Padding hides the length, and costs the Content-Length of what is not kept.
func TestExchangePadding(t *testing.T) {
	key := trDefaultKey(t)
	padding, err := seal.PadBuckets(1<<10, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		lengths := map[int64][]int{}
		for _, n := range []int{1, 500, 1024, 1025, 8000, 16000, 100_000} {
			server := &txServer{keys: []*seal.PrivateKey{key}, answers: []func(http.ResponseWriter, *txRequest){txOK}}
			srv, base := trServe(t, h2, server)
			trDo(t, txTransport(t, key.Public(), base, sealhttp.WithPadding(padding)), trRequest(t, "POST", srv.URL, bytes.NewReader(make([]byte, n))))
			q := server.check(t, 1)[0]
			if len(q.plaintext) != n {
				t.Errorf("%d bytes arrived of %d", len(q.plaintext), n)
			}
			lengths[q.r.ContentLength] = append(lengths[q.r.ContentLength], n)
		}
		got := fmt.Sprint(slices.SortedFunc(maps.Values(lengths), func(a, b []int) int { return a[0] - b[0] }))
		if want := "[[1 500 1024] [1025 8000] [16000] [100000]]"; got != want || lengths[-1] == nil {
			t.Errorf("looked alike: %v, want %v", lengths, want)
		}
	})
}
