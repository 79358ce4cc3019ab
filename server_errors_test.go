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
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvBad is a call that is refused, by a row of the table of errors.
type srvBad struct {
	name    string
	code    sealhttp.Code
	status  int
	method  string // "" is POST
	body    []byte
	chunked bool
	header  http.Header
	keys    sealhttp.ServerKeys // nil: srvKey
	opts    []sealhttp.Option
	closing bool // the connection is closed over HTTP/1.1
	ran     bool // the handler has run
	handler http.HandlerFunc
}

func srvBadCalls(t *testing.T) []srvBad {
	t.Helper()
	sealed := http.Header{"Content-Type": {sealhttp.MediaType}}
	ask := http.Header{"Accept": {sealhttp.MediaType}}
	both := http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}
	with := func(h http.Header, name string, lines ...string) http.Header {
		h = h.Clone()
		h[name] = lines
		return h
	}
	plain := http.Header{"Content-Type": {"application/json"}}
	message := srvSeal(t, []byte(srvCanary))
	stranger := srvGenerate(seal.X25519AES256GCM)
	unknown, err := stranger.Public().Seal(nil, []byte(srvCanary), nil)
	srvCheck(t, err)
	otherInfo, err := srvKey.Public().Seal(nil, []byte(srvCanary), []byte("other info"))
	srvCheck(t, err)
	changed := bytes.Clone(message)
	changed[len(changed)-1] ^= 1
	policy := func(p sealhttp.Policy) []sealhttp.Option { return []sealhttp.Option{sealhttp.WithPolicy(p)} }
	policyFunc := func(p sealhttp.Policy, err error) []sealhttp.Option {
		return []sealhttp.Option{sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return p, err })}
	}
	clientKeys := func(key *seal.PublicKey, err error) []sealhttp.Option {
		return []sealhttp.Option{sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return key, err }))}
	}
	keys := func(set *seal.KeySet, err error) sealhttp.ServerKeys {
		return sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, err })
	}
	info := func(request, response []byte, err error) []sealhttp.Option {
		return []sealhttp.Option{sealhttp.WithInfoFunc(func(*http.Request) (_, _ []byte, _ error) { return request, response, err })}
	}
	encoded := func(coding string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			w.Header().Set("Content-Length", strconv.Itoa(len(srvCanary)))
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprint(w, srvCanary)
			w.Header().Set("X-Sum", srvCanary)
		}
	}
	rows := []srvBad{
		{name: "one byte", code: sealhttp.CodeMalformed, status: 400, body: []byte{1}, header: both},
		{name: "one short", code: sealhttp.CodeMalformed, status: 400, body: message[:srvKey.Public().Overhead()-1], header: both},
		{name: "one short, chunked", code: sealhttp.CodeMalformed, status: 400, body: message[:srvKey.Public().Overhead()-1], chunked: true, header: both},
		{name: "two Content-Types", code: sealhttp.CodeMalformed, status: 400, body: message, header: with(both, "Content-Type", sealhttp.MediaType, "a/b")},
		{name: "two Content-Types, the second sealed", code: sealhttp.CodeMalformed, status: 400, body: message, header: with(both, "Content-Type", "a/b", sealhttp.MediaType)},
		{name: "two Sealed-Content-Types", code: sealhttp.CodeMalformed, status: 400, body: message, header: with(both, "Sealed-Content-Type", "a/b", "a/b")},

		{name: "changed", code: sealhttp.CodeDecryptionFailed, status: 400, body: changed, header: both},
		{name: "changed, plaintext reply", code: sealhttp.CodeDecryptionFailed, status: 400, body: changed, header: sealed},
		{name: "changed, PUT", code: sealhttp.CodeDecryptionFailed, status: 400, method: "PUT", body: changed, header: both},
		{name: "other info", code: sealhttp.CodeDecryptionFailed, status: 400, body: otherInfo, header: both},
		{name: "cut", code: sealhttp.CodeDecryptionFailed, status: 400, body: message[:len(message)-1], header: both},
		{name: "base64", code: sealhttp.CodeDecryptionFailed, status: 400, body: []byte(strings.Repeat("QUJD", 20)), header: both},
		{name: "JSON", code: sealhttp.CodeDecryptionFailed, status: 400, body: []byte(`{"a":"` + strings.Repeat("x", 100) + `"}`), header: both},

		{name: "unknown key", code: sealhttp.CodeUnknownKey, status: 400, body: unknown, header: both},
		{name: "unknown key, plaintext reply", code: sealhttp.CodeUnknownKey, status: 400, body: unknown, header: sealed},

		{name: "Required, plaintext body", code: sealhttp.CodeEncryptionRequired, status: 415, body: []byte("{}"), header: with(ask, "Content-Type", "application/json"), opts: policy(sealhttp.Required)},
		{name: "Required, plaintext body, chunked", code: sealhttp.CodeEncryptionRequired, status: 415, body: []byte("{}"), chunked: true, header: with(ask, "Content-Type", "application/json"), opts: policy(sealhttp.Required)},
		{name: "Required, no content", code: sealhttp.CodeEncryptionRequired, status: 415, header: ask, opts: policy(sealhttp.Required)},
		{name: "Required, a message of nothing", code: sealhttp.CodeEncryptionRequired, status: 415, body: []byte{}, chunked: true, header: both, opts: policy(sealhttp.Required)},
		{name: "RequestRequired, plaintext body", code: sealhttp.CodeEncryptionRequired, status: 415, body: []byte("{}"), header: plain, opts: policy(sealhttp.RequestRequired)},
		{name: "RequestRequired, no content", code: sealhttp.CodeEncryptionRequired, status: 415, method: "PATCH", header: ask, opts: policy(sealhttp.RequestRequired)},
		{name: "RequestRequired, a message of nothing", code: sealhttp.CodeEncryptionRequired, status: 415, body: []byte{}, chunked: true, header: sealed, opts: policy(sealhttp.RequestRequired)},
		{name: "RequestRequired, GET with a body", code: sealhttp.CodeEncryptionRequired, status: 415, method: "GET", body: []byte("{}"), header: plain, opts: policy(sealhttp.RequestRequired)},
		{name: "Required, GET not asking", code: sealhttp.CodeEncryptionRequired, status: 406, method: "GET", opts: policy(sealhttp.Required)},
		{name: "Required, HEAD not asking", code: sealhttp.CodeEncryptionRequired, status: 406, method: "HEAD", opts: policy(sealhttp.Required)},
		{name: "Required, sealed body not asking", code: sealhttp.CodeEncryptionRequired, status: 406, body: message, header: sealed, opts: policy(sealhttp.Required)},
		{name: "Required, q=0", code: sealhttp.CodeEncryptionRequired, status: 406, method: "GET", header: http.Header{"Accept": {sealhttp.MediaType + ";q=0"}}, opts: policy(sealhttp.Required)},

		{name: "Disabled, sealed body", code: sealhttp.CodeEncryptionDisabled, status: 415, body: message, header: sealed, opts: policy(sealhttp.Disabled)},
		{name: "Disabled, sealed body, asking", code: sealhttp.CodeEncryptionDisabled, status: 415, body: message, header: both, opts: policy(sealhttp.Disabled)},
		{name: "Disabled, asking", code: sealhttp.CodeEncryptionDisabled, status: 406, method: "GET", header: ask, opts: policy(sealhttp.Disabled)},
		{name: "Disabled, HEAD asking", code: sealhttp.CodeEncryptionDisabled, status: 406, method: "HEAD", header: ask, opts: policy(sealhttp.Disabled)},
		{name: "Disabled, plaintext body, asking", code: sealhttp.CodeEncryptionDisabled, status: 406, body: []byte("{}"), header: with(ask, "Content-Type", "application/json"), opts: policy(sealhttp.Disabled)},
		{name: "Disabled, exchange", code: sealhttp.CodeEncryptionDisabled, status: 415, body: message, header: http.Header{"Content-Type": {sealhttp.ExchangeMediaType}}, opts: policy(sealhttp.Disabled)},

		{name: "exchange type, no field", code: sealhttp.CodeMalformed, status: 400, body: message, header: http.Header{"Content-Type": {sealhttp.ExchangeMediaType}}},
		{name: "exchange field, another version", code: sealhttp.CodeUnsupportedProfile, status: 415, method: "GET", header: http.Header{"Sealed-Exchange": {"v=2"}}},
		{name: "exchange field, HEAD", code: sealhttp.CodeUnsupportedProfile, status: 415, method: "HEAD", header: http.Header{"Sealed-Exchange": {"v=2"}}},
		{name: "Content-Encoding", code: sealhttp.CodeUnsupportedProfile, status: 415, body: message, header: with(both, "Content-Encoding", "gzip")},
		{name: "Content-Encoding, two lines", code: sealhttp.CodeUnsupportedProfile, status: 415, body: message, header: with(both, "Content-Encoding", "identity", "br")},

		{name: "no client key", code: sealhttp.CodeNoClientKey, status: 406, method: "GET", header: ask, opts: clientKeys(nil, sealhttp.ErrNoClientKey)},
		{name: "no client key, wrapped", code: sealhttp.CodeNoClientKey, status: 406, method: "GET", header: ask, opts: clientKeys(nil, fmt.Errorf("account 7: %w", sealhttp.ErrNoClientKey))},
		{name: "no client key, nil", code: sealhttp.CodeNoClientKey, status: 406, method: "GET", header: ask, opts: clientKeys(nil, nil)},
		{name: "no client key, sealed body", code: sealhttp.CodeNoClientKey, status: 406, body: message, header: both, opts: clientKeys(nil, nil)},
		{name: "no client key, HEAD", code: sealhttp.CodeNoClientKey, status: 406, method: "HEAD", header: ask, opts: clientKeys(nil, nil)},
		{name: "client key is the server's", code: sealhttp.CodeNoClientKey, status: 406, method: "GET", header: ask, opts: clientKeys(srvKey.Public(), nil)},

		{name: "too large", code: sealhttp.CodeTooLarge, status: 413, body: srvSeal(t, make([]byte, 11)), header: both, opts: []sealhttp.Option{sealhttp.WithMaxRequestBytes(10)}},
		{name: "too large, chunked", code: sealhttp.CodeTooLarge, status: 413, body: srvSeal(t, make([]byte, 11)), chunked: true, header: both, opts: []sealhttp.Option{sealhttp.WithMaxRequestBytes(10)}, closing: true},
		{name: "too large, far", code: sealhttp.CodeTooLarge, status: 413, body: make([]byte, 300<<10), header: both, opts: []sealhttp.Option{sealhttp.WithMaxRequestBytes(10)}, closing: true},

		{name: "response too large", code: sealhttp.CodeResponseTooLarge, status: 500, body: message, header: both, ran: true, opts: []sealhttp.Option{sealhttp.WithMaxResponseBytes(10)},
			handler: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				fmt.Fprint(w, srvCanary)
			}},
		{name: "gzip", code: sealhttp.CodeUnsupportedContentEncoding, status: 500, body: message, header: both, ran: true, handler: encoded("gzip")},
		{name: "GZIP", code: sealhttp.CodeUnsupportedContentEncoding, status: 500, method: "GET", header: ask, ran: true, handler: encoded("identity, GZIP")},
		{name: "an unknown coding", code: sealhttp.CodeUnsupportedContentEncoding, status: 500, method: "GET", header: ask, ran: true, handler: encoded("x")},
		{name: "gzip, HEAD", code: sealhttp.CodeUnsupportedContentEncoding, status: 500, method: "HEAD", header: ask, ran: true, handler: encoded("gzip")},

		{name: "policy fails", code: sealhttp.CodePolicyUnavailable, status: 503, method: "GET", opts: policyFunc(sealhttp.Optional, errSrv)},
		{name: "policy fails, HEAD", code: sealhttp.CodePolicyUnavailable, status: 503, method: "HEAD", opts: policyFunc(sealhttp.Optional, errSrv)},
		{name: "no policy", code: sealhttp.CodePolicyUnavailable, status: 503, method: "GET", opts: policyFunc(0, nil)},
		{name: "not a policy", code: sealhttp.CodePolicyUnavailable, status: 503, body: message, header: both, opts: policyFunc(99, nil)},
		{name: "server keys fail", code: sealhttp.CodeKeyStoreUnavailable, status: 503, body: message, header: both, keys: keys(nil, errSrv)},
		{name: "server keys are nil", code: sealhttp.CodeKeyStoreUnavailable, status: 503, body: message, header: sealed, keys: keys(nil, nil)},
		{name: "server keys fail, response only", code: sealhttp.CodeKeyStoreUnavailable, status: 503, method: "GET", header: ask, keys: keys(nil, errSrv)},
		{name: "client keys fail", code: sealhttp.CodeKeyStoreUnavailable, status: 503, method: "GET", header: ask, opts: clientKeys(nil, errSrv)},
		{name: "client keys fail, key given", code: sealhttp.CodeKeyStoreUnavailable, status: 503, method: "GET", header: ask, opts: clientKeys(srvCallerKey.Public(), errSrv)},
		{name: "a leaked sql.ErrNoRows", code: sealhttp.CodeKeyStoreUnavailable, status: 503, method: "GET", header: ask, opts: clientKeys(nil, errSrvNoRows)},
		{name: "info fails", code: sealhttp.CodeKeyStoreUnavailable, status: 503, body: message, header: both, opts: info(nil, nil, errSrv)},
		{name: "info is reserved", code: sealhttp.CodeKeyStoreUnavailable, status: 503, body: message, header: both, opts: info([]byte("sealhttp x"), nil, nil)},
		{name: "response info is reserved", code: sealhttp.CodeKeyStoreUnavailable, status: 503, method: "GET", header: ask, opts: info(nil, []byte("sealhttp "), nil)},
	}
	return rows
}

// The table of errors, over real HTTP: status, header, body, and what becomes of the
// connection.
func TestServerErrorTable(t *testing.T) {
	calls := 0
	codes := map[sealhttp.Code]bool{}
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, tt := range srvBadCalls(t) {
			t.Run(fmt.Sprintf("%s/%s/%s", proto, tt.code, tt.name), func(t *testing.T) {
				ran := false
				keys := tt.keys
				if keys == nil {
					keys = srvKeys(srvKey)
				}
				opts := append([]sealhttp.Option{srvClientKeys(srvCallerKey.Public()), sealhttp.WithLogger(slog.New(slog.DiscardHandler))}, tt.opts...)
				m, err := sealhttp.New(keys, opts...)
				srvCheck(t, err)
				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran = true
					if tt.handler != nil {
						tt.handler(w, r)
					}
				}))
				current.set(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/after" {
						return
					}
					w.Header().Set("X-Outer", "kept")
					h.ServeHTTP(w, r)
				}))
				var body io.Reader
				if tt.body != nil {
					body = bytes.NewReader(tt.body)
					if tt.chunked {
						body = io.MultiReader(body)
					}
				}
				method := tt.method
				if method == "" {
					method = "POST"
				}
				a := host.do(t, host.request(t, method, "/", body, tt.header))
				calls++
				codes[tt.code] = true
				a.refused(t, tt.code, tt.status)
				if ran != tt.ran {
					t.Errorf("the handler has run: %v", ran)
				}
				tt.checkHeader(t, a, proto)
				tt.checkBody(t, a, method)
				after := host.do(t, host.request(t, "GET", "/after", nil, nil))
				if want := !tt.closing || proto == "HTTP/2.0"; after.status != 200 || after.reused != want || a.closing == want {
					t.Errorf("the next call: status %d over the same connection: %v, want %v; %v", after.status, after.reused, want, after.err)
				}
			})
		}
	}
	t.Logf("%d calls, %d codes", calls, len(codes))
	if len(codes) != 12 {
		t.Errorf("the message profile has 12 codes, tested are %d", len(codes))
	}
}

func (tt *srvBad) checkHeader(t *testing.T, a *srvAnswer, proto string) {
	t.Helper()
	want := map[string][]string{
		"Content-Type":  {"application/problem+json"},
		"Cache-Control": {"no-store, no-transform"},
		"Vary":          {srvVary},
		"Sealed-Error":  {string(tt.code)},
		"X-Outer":       {"kept"},
	}
	got := maps.Clone(map[string][]string(a.header))
	if tt.status == 503 {
		want["Retry-After"] = got["Retry-After"]
		if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("Retry-After is %q", got["Retry-After"])
		}
	}
	if tt.closing && proto == "HTTP/1.1" {
		delete(got, "Connection")
	}
	if got["Date"] == nil || got["Content-Length"] == nil {
		t.Errorf("header %v", got)
	}
	delete(got, "Date")
	delete(got, "Content-Length")
	if !maps.EqualFunc(got, want, slices.Equal) || len(a.trailer) > 0 {
		t.Errorf("header %v, trailer %v, want %v", got, a.trailer, want)
	}
}

func (tt *srvBad) checkBody(t *testing.T, a *srvAnswer, method string) {
	t.Helper()
	if method == http.MethodHead {
		if len(a.body) > 0 {
			t.Errorf("body %q", a.body)
		}
		return
	}
	if int64(len(a.body)) != a.length {
		t.Errorf("%d bytes, Content-Length %d", len(a.body), a.length)
	}
	var problem map[string]any
	if err := json.Unmarshal(a.body, &problem); err != nil {
		t.Fatalf("%q: %v", a.body, err)
	}
	for name, want := range map[string]any{"status": float64(tt.status), "code": string(tt.code)} {
		if problem[name] != want {
			t.Errorf("%s is %v, want %v", name, problem[name], want)
		}
	}
	for _, name := range []string{"type", "title"} {
		if s, ok := problem[name].(string); !ok || s == "" {
			t.Errorf("%s is %v", name, problem[name])
		}
	}
	for _, leak := range []string{srvCanary[:8], errSrv.Error(), "account 7", "no rows", "reserved"} {
		if bytes.Contains(a.body, []byte(leak)) {
			t.Errorf("the body says %q: %s", leak, a.body)
		}
	}
}

// A handler's own coding that is none is no reason to refuse.
func TestServerIdentityEncoding(t *testing.T) {
	for _, coding := range []string{"identity", "IDENTITY", ""} {
		host := srvServe(t, "HTTP/1.1", srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			fmt.Fprint(w, "as it is")
		})))
		header := http.Header{"Accept": {sealhttp.MediaType}, "Content-Type": {sealhttp.MediaType}, "Content-Encoding": {coding}}
		a := host.do(t, host.request(t, "POST", "/", bytes.NewReader(srvSeal(t, []byte("x"))), header))
		if got := a.open(t, "POST"); string(got.body) != "as it is" {
			t.Errorf("%q: body %q", coding, got.body)
		}
	}
}

// What the error handler is given, and what of its answer is sent.
func TestServerErrorHandler(t *testing.T) {
	for _, proto := range srvProtos {
		var got error
		opts := []sealhttp.Option{
			sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
			sealhttp.WithMaxResponseBytes(10),
			sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
				got = err
				if _, inside := sealhttp.FromContext(r.Context()); inside {
					t.Error("it was given the opened request")
				}
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(418)
				fmt.Fprint(w, "own")
			}),
		}
		host := srvServe(t, proto, srvMiddleware(t, opts...).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set(http.TrailerPrefix+"X-Sum2", "a leak")
			fmt.Fprint(w, strings.Repeat("a leak ", 10))
			w.Header().Set("X-Sum", "a leak")
		})))
		for _, tt := range []struct {
			name string
			a    *srvAnswer
			code sealhttp.Code
		}{
			{"refused", host.do(t, host.request(t, "POST", "/", strings.NewReader("x"), http.Header{"Content-Type": {sealhttp.MediaType}})), sealhttp.CodeMalformed},
			{"after the handler", host.call(t, "POST", "/", []byte("x")), sealhttp.CodeResponseTooLarge},
		} {
			if tt.a.err != nil || tt.a.status != 418 || string(tt.a.body) != "own" || len(tt.a.trailer) > 0 || strings.Contains(fmt.Sprint(tt.a.header), "leak") {
				t.Errorf("%s, %s: status %d, %q, header %v, trailer %v, %v", proto, tt.name, tt.a.status, tt.a.body, tt.a.header, tt.a.trailer, tt.a.err)
			}
			if tt.code == sealhttp.CodeResponseTooLarge && !errors.Is(got, tt.code) {
				t.Errorf("%s, %s: the error is %v", proto, tt.name, got)
			}
		}
	}
}

// A preflight passes every policy, and takes nothing along.
func TestServerPreflight(t *testing.T) {
	const canary = "all accounts, in plaintext"
	preflight := http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"POST"}}
	with := func(name, value string) http.Header {
		h := preflight.Clone()
		h.Set(name, value)
		return h
	}
	handlers := map[string]http.HandlerFunc{
		"written": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Vary", "Origin")
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", strconv.Itoa(len(canary)))
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set(http.TrailerPrefix+"X-Early", canary)
			fmt.Fprint(w, canary)
			_, _ = io.Copy(w, strings.NewReader(canary))
			w.Header().Set("X-Sum", canary)
			w.Header().Set(http.TrailerPrefix+"X-Late", canary)
		},
		"flushed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, canary)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			w.Header().Set(http.TrailerPrefix+"X-Late", canary)
		},
		"status": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.WriteHeader(103)
			w.WriteHeader(204)
			w.WriteHeader(500)
			w.Header().Set(http.TrailerPrefix+"X-Late", canary)
		},
		"nothing": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set(http.TrailerPrefix+"X-Late", canary)
		},
	}
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for name, handler := range handlers {
			for _, p := range []sealhttp.Policy{sealhttp.Disabled, sealhttp.Optional, sealhttp.RequestRequired, sealhttp.Required, 0} {
				t.Run(fmt.Sprintf("%s/%s/%v", proto, name, p), func(t *testing.T) {
					ran := false
					policy := sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return p, nil })
					m := srvMiddleware(t, policy, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
					current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ran = true
						if r.Body != http.NoBody || r.ContentLength != 0 {
							t.Errorf("body %v, %d bytes", r.Body, r.ContentLength)
						}
						handler(w, r)
					})))
					a := host.do(t, host.request(t, "OPTIONS", "/", nil, preflight))
					status := 200
					if name == "status" {
						status = 204
					}
					if !ran || a.err != nil || a.status != status || a.header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("ran: %v, status %d, header %v, %v", ran, a.status, a.header, a.err)
					}
					if len(a.body) > 0 || a.header["Content-Type"] != nil || len(a.trailer) > 0 || a.vary() != 1 || strings.Contains(fmt.Sprint(a.header), canary) {
						t.Errorf("body %q, header %v, trailer %v", a.body, a.header, a.trailer)
					}
					if p != sealhttp.Required {
						return
					}
					// What a browser does not send is not a preflight.
					ran = false
					for _, header := range []http.Header{
						with("Authorization", "Bearer x"), with("Cookie", "a=b"),
						{"Origin": preflight["Origin"]}, {"Access-Control-Request-Method": {"POST"}},
					} {
						host.do(t, host.request(t, "OPTIONS", "/", nil, header)).refused(t, sealhttp.CodeEncryptionRequired, 406)
					}
					host.do(t, host.request(t, "OPTIONS", "/", strings.NewReader("x"), preflight)).refused(t, sealhttp.CodeEncryptionRequired, 415)
					host.do(t, host.request(t, "GET", "/", nil, preflight)).refused(t, sealhttp.CodeEncryptionRequired, 406)
					if ran {
						t.Error("the handler has run")
					}
				})
			}
		}
	}
}

// Nested, the inner one applies its policy to what is not opened or sealed yet, and
// nothing is done twice.
func TestServerNested(t *testing.T) {
	for _, proto := range srvProtos {
		for _, inner := range []sealhttp.Policy{sealhttp.Optional, sealhttp.RequestRequired, sealhttp.Required} {
			t.Run(fmt.Sprintf("%s/%v", proto, inner), func(t *testing.T) {
				outer := srvMiddleware(t)
				with, err := outer.With(sealhttp.WithPolicy(inner), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
				srvCheck(t, err)
				host := srvServe(t, proto, outer.Handler(with.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Add("Vary", "Origin")
					_, _ = io.Copy(w, r.Body)
				}))))
				row := srvRow{body: []byte("once"), content: "text/plain"}
				a := row.send(t, host, srvBoth).open(t, "POST") // checks Vary too
				if string(a.body) != "once" {
					t.Errorf("opened to %q", a.body)
				}
				clear := row.send(t, host, srvClear)
				if inner == sealhttp.Optional {
					if string(clear.body) != "once" || clear.vary() != 1 || !slices.Contains(clear.header["Vary"], "Origin") {
						t.Errorf("in clear: %q, Vary %q", clear.body, clear.header["Vary"])
					}
					return
				}
				clear.refused(t, sealhttp.CodeEncryptionRequired, 415)
				if clear.vary() != 1 {
					t.Errorf("Vary %q", clear.header["Vary"])
				}
				sealed := row.send(t, host, srvSealed).open(t, "POST")
				if sealed.status != 415 || sealed.header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("a refusal within a sealed response: %d, %v", sealed.status, sealed.header)
				}
			})
		}
	}
}
