package sealhttp_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// A hop changes a request to the real Middleware. Whatever it is, the program gets no
// response that is not its own.
func TestExchangeHopChangesRequest(t *testing.T) {
	key, other := trDefaultKey(t), trDefaultKey(t)
	line := func(change func(string) string) func(*http.Request, []byte) []byte {
		return func(r *http.Request, body []byte) []byte {
			r.Header.Set("Sealed-Exchange", change(r.Header.Get("Sealed-Exchange")))
			return body
		}
	}
	header := func(name string, lines ...string) func(*http.Request, []byte) []byte {
		return func(r *http.Request, body []byte) []byte {
			r.Header[name] = lines
			return body
		}
	}
	in := []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}
	for name, row := range map[string]struct {
		edit func(r *http.Request, body []byte) []byte
		code sealhttp.Code
	}{
		"method":          {func(r *http.Request, b []byte) []byte { r.Method = "PUT"; return b }, sealhttp.CodeDecryptionFailed},
		"path":            {func(r *http.Request, b []byte) []byte { r.URL.Path = "/b"; return b }, sealhttp.CodeDecryptionFailed},
		"query":           {func(r *http.Request, b []byte) []byte { r.URL.RawQuery = "admin=1"; return b }, sealhttp.CodeDecryptionFailed},
		"host":            {func(r *http.Request, b []byte) []byte { r.Host = "other.example"; return b }, sealhttp.CodeDecryptionFailed},
		"credential":      {header("Authorization", "Bearer mallory"), sealhttp.CodeDecryptionFailed},
		"no credential":   {header("Authorization"), sealhttp.CodeDecryptionFailed},
		"two credentials": {header("Authorization", "Bearer a", "Bearer b"), sealhttp.CodeMalformed},
		"precondition":    {header("If-Match", `"a"`), sealhttp.CodeDecryptionFailed},
		"idempotency key": {header("Idempotency-Key", "b"), sealhttp.CodeDecryptionFailed},
		"method override": {header("X-Http-Method-Override", "DELETE"), sealhttp.CodeDecryptionFailed},
		"sealed type":     {header("Sealed-Content-Type", "text/html"), sealhttp.CodeDecryptionFailed},
		"no sealed type":  {header("Sealed-Content-Type"), sealhttp.CodeDecryptionFailed},
		"content type":    {header("Content-Type", "text/plain"), sealhttp.CodeMalformed},
		"message's type":  {header("Content-Type", sealhttp.MediaType), sealhttp.CodeMalformed},
		"no content":      {func(r *http.Request, _ []byte) []byte { r.Header.Del("Content-Type"); return nil }, sealhttp.CodeDecryptionFailed},
		"no field":        {header("Sealed-Exchange"), sealhttp.CodeMalformed},
		"field twice": {func(r *http.Request, b []byte) []byte {
			r.Header.Add("Sealed-Exchange", r.Header.Get("Sealed-Exchange"))
			return b
		}, sealhttp.CodeMalformed},
		"version":          {line(func(s string) string { return strings.Replace(s, "v=1", "v=2", 1) }), sealhttp.CodeUnsupportedProfile},
		"time":             {line(func(s string) string { return strings.Replace(s, "ts=", "ts=1", 1) }), sealhttp.CodeDecryptionFailed},
		"bound less":       {line(func(s string) string { return s + ", bind=()" }), sealhttp.CodeDecryptionFailed},
		"another's tag":    {line(func(s string) string { return txFlipped(s, "auth=:") }), sealhttp.CodeDecryptionFailed},
		"another id":       {line(func(s string) string { return txFlipped(s, "id=:") }), sealhttp.CodeDecryptionFailed},
		"content encoding": {header("Content-Encoding", "gzip"), sealhttp.CodeUnsupportedProfile},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				ran := &trCounting{Handler: trEcho}
				m := trMiddleware(t, trKeys(t, key, other), sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithProfiles(sealhttp.ExchangeProfile))
				srv, base := trServe(t, h2, m.Handler(ran))
				tr := txTransport(t, key.Public(), txHop(t, base, row.edit))
				req := trRequest(t, "POST", srv.URL+"/a", strings.NewReader("text"))
				req.Header = http.Header{"Content-Type": {"text/plain"}, "Authorization": {"Bearer a"}, "Idempotency-Key": {"a"}}
				err := trFail(t, tr, req)
				status := 400
				if row.code == sealhttp.CodeUnsupportedProfile {
					status = 415
				}
				txIs(t, err, row.code, status, in...)
				if ran.n.Load() != 0 {
					t.Error("the handler ran")
				}
			})
		})
	}
}

// txHop is a base transport that changes what is sealed on its way.
func txHop(t testing.TB, base http.RoundTripper, edit func(r *http.Request, body []byte) []byte) http.RoundTripper {
	return trBase(func(req *http.Request) (*http.Response, error) {
		r := req.Clone(req.Context())
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		_ = req.Body.Close()
		body = edit(r, body)
		r.GetBody, r.ContentLength = nil, int64(len(body))
		if r.Body = io.NopCloser(bytes.NewReader(body)); len(body) == 0 {
			r.Body = http.NoBody
		}
		return base.RoundTrip(r)
	})
}

func txFlipped(line, before string) string {
	h := http.Header{"Sealed-Exchange": {line}}
	txFlip(h, before)
	return h.Get("Sealed-Exchange")
}

// A hop changes a body. The handler sees an error, and the program that it did, or that
// the request came incomplete.
func TestExchangeHopChangesBody(t *testing.T) {
	key := trDefaultKey(t)
	const record = 4 + 16384 + 17
	text := trBodyOf(40_000)
	for name, edit := range map[string]func(b []byte) []byte{
		"flipped":         func(b []byte) []byte { b[5] ^= 1; return b },
		"flipped, later":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"last record cut": func(b []byte) []byte { return b[:2*record] },
		"all cut":         func(b []byte) []byte { return b[:0] },
		"longer":          func(b []byte) []byte { return append(b, 0) },
		"record repeated": func(b []byte) []byte { return slices.Concat(b[:record], b) },
		"records swapped": func(b []byte) []byte { return slices.Concat(b[record:2*record], b[:record], b[2*record:]) },
		"record left out": func(b []byte) []byte { return b[record:] },
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				for _, silent := range []bool{true, false} {
					m := trMiddleware(t, trKeys(t, key))
					srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						got, err := io.ReadAll(r.Body)
						if err == nil || !strings.HasPrefix(text, string(got)) {
							t.Errorf("the handler got %d bytes, %v", len(got), err)
						}
						if !silent {
							w.WriteHeader(422)
						}
					})))
					tr := txTransport(t, key.Public(), txHop(t, base, func(_ *http.Request, b []byte) []byte { return edit(b) }))
					resp, err := tr.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader(text)))
					if silent {
						txIs(t, err, sealhttp.CodeRequestIncomplete, 400, sealhttp.ErrOutcomeUnknown)
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if resp.StatusCode != 422 {
						t.Errorf("got %s", resp.Status)
					}
					_ = resp.Body.Close()
				}
			})
		})
	}
}

// A hop changes a response of the real Middleware's.
func TestExchangeHopChangesResponse(t *testing.T) {
	key, caller := trDefaultKey(t), trDefaultKey(t)
	for name, edit := range map[string]func(resp *http.Response){
		"status":        func(resp *http.Response) { resp.StatusCode = 404 },
		"success":       func(resp *http.Response) { resp.StatusCode = 201 },
		"refused":       func(resp *http.Response) { resp.Header.Set("Sealed-Error", "replay_guard_unavailable") },
		"field removed": func(resp *http.Response) { resp.Header.Del("Sealed-Exchange") },
		"type":          func(resp *http.Response) { resp.Header.Set("Sealed-Content-Type", "text/html") },
		"body hidden":   func(resp *http.Response) { resp.Header.Del("Content-Type") },
		"unbound from the key": func(resp *http.Response) {
			line, _, _ := strings.Cut(resp.Header.Get("Sealed-Exchange"), ", ckid")
			_, auth, _ := strings.Cut(resp.Header.Get("Sealed-Exchange"), "auth=")
			resp.Header.Set("Sealed-Exchange", line+", auth="+auth)
		},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				m := trMiddleware(t, trKeys(t, key), trClientKey(caller.Public()))
				srv, base := trServe(t, h2, m.Handler(trEcho))
				var n atomic.Int64
				tr := txTransport(t, key.Public(), trBase(func(req *http.Request) (*http.Response, error) {
					n.Add(1)
					resp, err := base.RoundTrip(req)
					if err == nil {
						edit(resp)
					}
					return resp, err
				}), sealhttp.WithPrivateKeys(caller))
				req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
				req.Header.Set("Content-Type", "text/plain")
				err := trFail(t, tr, req)
				txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
				if !errors.Is(err, sealhttp.ErrUnauthenticated) || n.Load() != 1 {
					t.Errorf("got %v after %d requests", err, n.Load())
				}
			})
		})
	}
}

// The real Middleware and its callers: what each refusal of it is to a program.
func TestExchangeMiddlewareRefuses(t *testing.T) {
	key, caller := trDefaultKey(t), trDefaultKey(t)
	noKey := sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, sealhttp.ErrNoClientKey }))
	refused := []error{sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown}
	for name, row := range map[string]struct {
		server []sealhttp.Option
		client []sealhttp.TransportOption
		code   sealhttp.Code
		status int
		causes []error
	}{
		"no key is registered": {[]sealhttp.Option{noKey, sealhttp.WithPolicy(sealhttp.Required)}, []sealhttp.TransportOption{sealhttp.WithPrivateKeys(caller)}, sealhttp.CodeNoClientKey, 406, refused},
		"a field is not bound": {[]sealhttp.Option{sealhttp.WithBoundHeaders("x-account")}, nil, sealhttp.CodeBindingRequired, 400, refused},
		"too large":            {[]sealhttp.Option{sealhttp.WithMaxStreamBytes(3)}, nil, sealhttp.CodeTooLarge, 413, refused},
		"no key where one is due": {nil, []sealhttp.TransportOption{sealhttp.WithPrivateKeys(caller)}, sealhttp.CodeNoClientKey, 200,
			[]error{sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown}},
		"encryption is off": {[]sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}, nil, sealhttp.CodeEncryptionDisabled, 415, []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}},
		"not offered":       {[]sealhttp.Option{sealhttp.WithProfiles(sealhttp.MessageProfile)}, nil, sealhttp.CodeUnsupportedProfile, 415, []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}},
		"another authority": {[]sealhttp.Option{sealhttp.WithAuthority("api.example.com")}, nil, sealhttp.CodeDecryptionFailed, 400, []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}},
		"another info":      {[]sealhttp.Option{sealhttp.WithInfo([]byte("a"), nil)}, nil, sealhttp.CodeDecryptionFailed, 400, []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				srv, base := trServe(t, h2, trMiddleware(t, trKeys(t, key), row.server...).Handler(trEcho))
				err := trFail(t, txTransport(t, key.Public(), base, row.client...), trRequest(t, "POST", srv.URL, bytes.NewReader(make([]byte, 100_000))))
				txIs(t, err, row.code, row.status, row.causes...)
			})
		})
	}
	t.Run("info on both sides, and more bound than is required", func(t *testing.T) {
		common := []sealhttp.CommonOption{sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithBoundHeaders("authorization", "x-account")}
		m := trMiddleware(t, trKeys(t, key), common[0], sealhttp.WithBoundHeaders("x-account"))
		srv, base := trServe(t, true, m.Handler(trEcho))
		req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
		req.Header = http.Header{"Authorization": {"a"}, "X-Account": {" b "}}
		if _, got := trDo(t, txTransport(t, key.Public(), base, common[0], common[1]), req); got != "text" {
			t.Errorf("got %q", got)
		}
	})
}
