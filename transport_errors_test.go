package sealhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// trCodes are all codes, with the status of each.
var trCodes = map[sealhttp.Code]int{
	sealhttp.CodeMalformed:                  400,
	sealhttp.CodeDecryptionFailed:           400,
	sealhttp.CodeUnknownKey:                 400,
	sealhttp.CodeEncryptionRequired:         415,
	sealhttp.CodeEncryptionDisabled:         406,
	sealhttp.CodeUnsupportedProfile:         415,
	sealhttp.CodeNoClientKey:                406,
	sealhttp.CodeTooLarge:                   413,
	sealhttp.CodeResponseTooLarge:           500,
	sealhttp.CodeUnsupportedContentEncoding: 500,
	sealhttp.CodePolicyUnavailable:          503,
	sealhttp.CodeKeyStoreUnavailable:        503,
}

// Every code is a typed error, also where a gateway has replaced the body, and
// through http.Client.
func TestTransportRefusals(t *testing.T) {
	key, caller := trDefaultKey(t).Public(), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for code, status := range trCodes {
			for _, rewrapped := range []bool{false, true} {
				srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !rewrapped {
						trRefuse(code, status).ServeHTTP(w, r)
						return
					}
					w.Header().Set("Sealed-Error", string(code))
					w.WriteHeader(status)
					fmt.Fprint(w, "<h1>something went wrong</h1>", trBodyOf(20_000))
				}))
				tracking := &trTracking{RoundTripper: base}
				transport := trTransport(t, sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
				client := &http.Client{Transport: transport}
				n := 0
				for _, method := range []string{"GET", "POST", "HEAD"} {
					resp, err := client.Do(trRequest(t, method, srv.URL, nil))
					if resp != nil {
						t.Errorf("%s: got a response", code)
					}
					var urlErr *url.Error
					if !errors.As(err, &urlErr) {
						t.Errorf("%s: got %T, want *url.Error", code, err)
					}
					trIs(t, err, code, status, sealhttp.ErrRefused)
					if got := errors.Is(err, sealhttp.ErrNoClientKey); got != (code == sealhttp.CodeNoClientKey) {
						t.Errorf("%s: is ErrNoClientKey: %v", code, got)
					}
					for other := range trCodes {
						if other != code && errors.Is(err, other) {
							t.Errorf("%s is also %s", code, other)
						}
					}
					if strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), string(code)) {
						t.Errorf("got %q", err)
					}
					n++
				}
				tracking.check(t, n)
			}
		}
	})
}

// The refusals of a real Middleware.
func TestTransportRefusedByMiddleware(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	keys := trKeys(t, server)
	noKey := sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, sealhttp.ErrNoClientKey }))
	down := errors.New("down")
	large := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 101)) })
	encoded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "compressed")
	})
	private := sealhttp.WithPrivateKeys(caller)
	for name, row := range map[string]struct {
		m         *sealhttp.Middleware
		handler   http.Handler
		method    string
		body      string
		transport []sealhttp.TransportOption
		code      sealhttp.Code
		status    int
	}{
		"GET where encryption is required": {trMiddleware(t, keys, trClientKey(caller.Public()), sealhttp.WithPolicy(sealhttp.Required)), trEcho, "GET", "", nil, sealhttp.CodeEncryptionRequired, 406},
		"a body where encryption is off":   {trMiddleware(t, keys, sealhttp.WithPolicy(sealhttp.Disabled)), trEcho, "POST", "text", nil, sealhttp.CodeEncryptionDisabled, 415},
		"Accept where encryption is off":   {trMiddleware(t, keys, sealhttp.WithPolicy(sealhttp.Disabled)), trEcho, "GET", "", []sealhttp.TransportOption{private}, sealhttp.CodeEncryptionDisabled, 406},
		"no registered key":                {trMiddleware(t, keys, noKey), trEcho, "GET", "", []sealhttp.TransportOption{private}, sealhttp.CodeNoClientKey, 406},
		"too large for the server":         {trMiddleware(t, keys, sealhttp.WithMaxRequestBytes(100)), trEcho, "POST", strings.Repeat("x", 101), nil, sealhttp.CodeTooLarge, 413},
		"response too large for it":        {trMiddleware(t, keys, trClientKey(caller.Public()), sealhttp.WithMaxResponseBytes(100)), large, "GET", "", []sealhttp.TransportOption{private}, sealhttp.CodeResponseTooLarge, 500},
		"response compressed inside":       {trMiddleware(t, keys, trClientKey(caller.Public())), encoded, "GET", "", []sealhttp.TransportOption{private}, sealhttp.CodeUnsupportedContentEncoding, 500},
		"policy not found out":             {trMiddleware(t, keys, sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return 0, down })), trEcho, "GET", "", nil, sealhttp.CodePolicyUnavailable, 503},
		"keys not found out": {trMiddleware(t, sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return nil, down })), trEcho,
			"POST", "text", nil, sealhttp.CodeKeyStoreUnavailable, 503},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				srv, base := trServe(t, h2, row.m.Handler(row.handler))
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), append(row.transport, sealhttp.WithBase(base))...)
				err := trFail(t, transport, trRequest(t, row.method, srv.URL, strings.NewReader(row.body)))
				trIs(t, err, row.code, row.status, sealhttp.ErrRefused)
			})
		})
	}
}

// A program that seals its requests by hand gets its Content-Encoding back as a refusal.
func TestTransportRequestContentEncoding(t *testing.T) {
	server := trDefaultKey(t)
	srv, base := trServe(t, false, trMiddleware(t, trKeys(t, server)).Handler(trEcho))
	transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
	req := trRequest(t, "POST", srv.URL, strings.NewReader("compressed"))
	req.Header.Set("Content-Encoding", "gzip")
	trIs(t, trFail(t, transport, req), sealhttp.CodeUnsupportedProfile, 415, sealhttp.ErrRefused)
}

// Plaintext where a sealed response is due: of success it is an error, of failure
// it comes through, and nothing says that it is authentic.
func TestTransportPlaintextResponses(t *testing.T) {
	key, caller := trDefaultKey(t).Public(), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		var status int
		var header http.Header
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, lines := range header {
				w.Header()[name] = lines
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "anyone's")
		}))
		tracking := &trTracking{RoundTripper: base}
		transport := trTransport(t, sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
		calls := 0
		for s, wantError := range map[int]bool{
			200: true, 201: true, 202: true, 203: true, 206: true, 226: true, 299: true,
			300: false, 301: false, 304: false, 307: false, 400: false, 401: false, 404: false, 429: false, 500: false, 502: false, 503: false, 504: false, 599: false,
		} {
			for _, h := range []http.Header{
				{"Content-Type": {"text/plain"}},
				{"Content-Type": {"application/octet-stream"}},
				{"Content-Type": {"text/plain"}, "Sealed-Content-Type": {sealhttp.MediaType}},
				{"Content-Type": {"text/plain"}, "Sealed-Error": {"not_a_code"}},
				{"Content-Type": {sealhttp.ExchangeMediaType}},
				{"Content-Type": {sealhttp.MediaType + "x"}},
				{"Content-Type": {sealhttp.MediaType, sealhttp.MediaType}},
				{"Content-Type": {sealhttp.MediaType, "text/plain"}},
				{"Content-Type": nil},
			} {
				status, header = s, h
				if h.Get("Content-Type") != "text/plain" && s%100 > 4 { // forms of header for some statuses only
					continue
				}
				for _, method := range []string{"GET", "POST"} {
					calls++
					resp, err := transport.RoundTrip(trRequest(t, method, srv.URL, strings.NewReader("")))
					if wantError {
						var e *sealhttp.Error
						if resp != nil || !errors.Is(err, sealhttp.ErrPlaintextResponse) || errors.As(err, &e) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
							t.Errorf("%d %v: got %v, %v", status, header, resp, err)
						}
						continue
					}
					if err != nil {
						t.Errorf("%d %v: %v", status, header, err)
						continue
					}
					want := "anyone's"
					if status == 304 {
						want = ""
					}
					if got := trRead(t, resp); got != want || resp.StatusCode != status {
						t.Errorf("%d %v: got %d with %q", status, header, resp.StatusCode, got)
					}
					if info, ok := sealhttp.FromResponse(resp); ok || info != (sealhttp.CallInfo{}) {
						t.Errorf("%d %v: FromResponse says %+v", status, header, info)
					}
				}
			}
		}
		tracking.check(t, calls)
	})
}

// A response that has no content by its nature has none, whatever stands behind it.
func TestTransportResponsesWithoutContent(t *testing.T) {
	key, caller := trDefaultKey(t).Public(), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusResetContent)
			_, _ = io.WriteString(w, "anyone's")
		}))
		tracking := &trTracking{RoundTripper: base}
		transport := trTransport(t, sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
		resp, body := trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
		if body != "" || resp.ContentLength != 0 || resp.StatusCode != 205 {
			t.Errorf("got %d with %q, ContentLength %d", resp.StatusCode, body, resp.ContentLength)
		}
		tracking.check(t, 1)
	})
	for _, status := range []int{204, 205, 304, 103} {
		body := trNewBody("anyone's")
		transport := trTransport(t, sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
			return trAnswer(req, status, http.Header{"Content-Type": {sealhttp.MediaType}}, body), nil
		})))
		resp, got := trDo(t, transport, trRequest(t, "GET", "http://127.0.0.1/", nil))
		if got != "" || resp.StatusCode != status || body.closed.Load() == 0 {
			t.Errorf("%d: got %d with %q, closed %d times", status, resp.StatusCode, got, body.closed.Load())
		}
		if _, ok := sealhttp.FromResponse(resp); ok {
			t.Errorf("%d: FromResponse says that it was sealed", status)
		}
	}
}

// A HEAD tells the length of what GET would have, if the server does.
func TestTransportHeadKeepsContentLength(t *testing.T) {
	key, caller := trDefaultKey(t).Public(), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "70")
		}))
		transport := trTransport(t, sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		resp, body := trDo(t, transport, trRequest(t, "HEAD", srv.URL, nil))
		if body != "" || resp.ContentLength != 70 {
			t.Errorf("got %q, ContentLength %d", body, resp.ContentLength)
		}
		if _, ok := sealhttp.FromResponse(resp); ok {
			t.Error("FromResponse says that it was sealed")
		}
	})
}

// trReplay answers every call with the same response.
func trReplay(header http.Header, status int, message []byte) trBase {
	return func(req *http.Request) (*http.Response, error) {
		resp := trAnswer(req, status, header.Clone(), io.NopCloser(bytes.NewReader(message)))
		resp.ContentLength = int64(len(message))
		return resp, nil
	}
}

// A sealed response that was changed in any bit, cut anywhere, or made longer
// never opens, and the error tells nothing of it.
func TestTransportTamperedResponses(t *testing.T) {
	for name, opts := range map[string][]seal.KeyOption{"prefixed": nil, "RAW": {seal.WithoutPrefix()}} {
		t.Run(name, func(t *testing.T) {
			server, caller := trDefaultKey(t), trKey(t, seal.X25519AES256GCM, opts...)
			m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
			srv, base := trServe(t, false, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusAccepted)
				_, _ = io.WriteString(w, "secret")
			})))
			recording := trRequest(t, "GET", srv.URL, nil)
			recording.Header.Set("Accept", sealhttp.MediaType)
			recorded, text := trDo(t, base, recording)
			message := []byte(text)

			try := func(message []byte) (string, error) {
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(trReplay(recorded.Header, 202, message)))
				resp, err := transport.RoundTrip(trRequest(t, "GET", "http://127.0.0.1/", nil))
				if err != nil {
					return "", err
				}
				return trRead(t, resp), nil
			}
			if got, err := try(bytes.Clone(message)); err != nil || got != "secret" {
				t.Fatalf("unchanged: got %q, %v", got, err)
			}
			check := func(what string, tampered []byte, code sealhttp.Code) {
				t.Helper()
				got, err := try(bytes.Clone(tampered))
				if err == nil {
					t.Errorf("%s: got %q", what, got)
					return
				}
				trIs(t, err, code, 202, sealhttp.ErrResponseNotOpened)
				for i := 0; i+8 <= len(tampered); i++ {
					if trHolds([]byte(err.Error()), tampered[i:i+8]) {
						t.Errorf("%s: %q holds ciphertext", what, err)
						break
					}
				}
			}
			for i := range len(message) * 8 {
				tampered := bytes.Clone(message)
				tampered[i/8] ^= 1 << (i % 8)
				code := sealhttp.CodeDecryptionFailed
				if opts == nil && i/8 >= 1 && i/8 <= 4 || opts != nil && tampered[0] == 1 {
					code = sealhttp.CodeUnknownKey
				}
				check(fmt.Sprintf("bit %d", i), tampered, code)
			}
			for n := range len(message) {
				code := sealhttp.CodeDecryptionFailed
				if n < caller.Public().Overhead() {
					code = sealhttp.CodeMalformed
				} else if opts != nil && message[0] == 1 {
					code = sealhttp.CodeUnknownKey
				}
				check(fmt.Sprintf("cut to %d", n), message[:n], code)
			}
			check("one more byte", append(bytes.Clone(message), 0), map[bool]sealhttp.Code{true: sealhttp.CodeDecryptionFailed, false: sealhttp.CodeUnknownKey}[opts == nil || message[0] != 1])
		})
	}
}

// A response that is sealed to someone else.
func TestTransportResponseForOtherKey(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	sameID, err := seal.NewPrivateKey(seal.X25519AES256GCM, caller.ID(), trDefaultKey(t).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		registered *seal.PublicKey
		code       sealhttp.Code
	}{
		"another id":        {trDefaultKey(t).Public(), sealhttp.CodeUnknownKey},
		"another of the id": {sameID.Public(), sealhttp.CodeDecryptionFailed},
	} {
		t.Run(name, func(t *testing.T) {
			m := trMiddleware(t, trKeys(t, server), trClientKey(row.registered))
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				counting := &trCounting{Handler: m.Handler(trEcho)}
				srv, base := trServe(t, h2, counting)
				tracking := &trTracking{RoundTripper: base}
				source := &trSource{answer: func(*seal.PublicKey) (*seal.PublicKey, error) { return server.Public(), nil }}
				transport := trTransport(t, source, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
				_, err := (&http.Client{Transport: transport}).Do(trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				trIs(t, err, row.code, 200, sealhttp.ErrResponseNotOpened)
				tracking.check(t, 1)
				// What does not open is no refusal: the handler has run.
				if counting.n.Load() != 1 || len(source.asked()) != 1 {
					t.Errorf("%d requests, the source was asked %d times", counting.n.Load(), len(source.asked()))
				}
			})
		})
	}
}

// Limits are of the plaintext, to the byte.
func TestTransportResponseLimits(t *testing.T) {
	const limit = 1000
	server, caller, wide := trDefaultKey(t), trDefaultKey(t), trKey(t, seal.XWingAES256GCM)
	for name, row := range map[string]struct {
		keys []*seal.PrivateKey
		size int
		ok   bool
	}{
		"at the limit":   {[]*seal.PrivateKey{caller}, limit, true},
		"one more":       {[]*seal.PrivateKey{caller}, limit + 1, false},
		"a hundred more": {[]*seal.PrivateKey{caller}, limit + 100, false},
		"far more":       {[]*seal.PrivateKey{caller}, 300_000, false},
		// The longest message of the set is longer than the longest of this key.
		"at the limit, beside a wide key":   {[]*seal.PrivateKey{caller, wide}, limit, true},
		"one more, beside a wide key":       {[]*seal.PrivateKey{caller, wide}, limit + 1, false},
		"a hundred more, beside a wide key": {[]*seal.PrivateKey{caller, wide}, limit + 100, false},
	} {
		for _, declared := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/declared=%v", name, declared), func(t *testing.T) {
				trBothProtocols(t, func(t *testing.T, h2 bool) {
					message, err := caller.Public().Seal(nil, bytes.Repeat([]byte("x"), row.size), nil)
					if err != nil {
						t.Fatal(err)
					}
					srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", sealhttp.MediaType)
						if declared {
							w.Header().Set("Content-Length", fmt.Sprint(len(message)))
						} else {
							_ = http.NewResponseController(w).Flush()
						}
						_, _ = w.Write(message)
					}))
					tracking := &trTracking{RoundTripper: base}
					transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(row.keys...), sealhttp.WithBase(tracking), sealhttp.WithMaxResponseBytes(limit))
					req := trRequest(t, "GET", srv.URL, nil)
					if row.ok {
						if _, body := trDo(t, transport, req); len(body) != row.size {
							t.Errorf("got %d bytes", len(body))
						}
					} else {
						trIs(t, trFail(t, transport, req), sealhttp.CodeResponseTooLarge, 200, sealhttp.ErrResponseNotOpened)
					}
					tracking.check(t, 1)
				})
			})
		}
	}
}

// A response that is declared too large is not even read.
func TestTransportDeclaredTooLargeIsNotRead(t *testing.T) {
	caller := trDefaultKey(t)
	body := &trBody{Reader: iotest.ErrReader(errors.New("it was read"))}
	transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithMaxResponseBytes(10), sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
		resp := trAnswer(req, 200, http.Header{"Content-Type": {sealhttp.MediaType}}, body)
		resp.ContentLength = int64(10 + caller.Public().Overhead() + 1)
		return resp, nil
	})))
	trIs(t, trFail(t, transport, trRequest(t, "GET", "http://127.0.0.1/", nil)), sealhttp.CodeResponseTooLarge, 200, sealhttp.ErrResponseNotOpened)
	if body.closed.Load() == 0 {
		t.Error("the body was not closed")
	}
}

// What is too large is not sent.
func TestTransportRequestLimits(t *testing.T) {
	const limit = 1000
	server := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		counting := &trCounting{Handler: trMiddleware(t, trKeys(t, server)).Handler(trEcho)}
		srv, base := trServe(t, h2, counting)
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base), sealhttp.WithMaxRequestBytes(limit))
		for _, size := range []int{limit - 1, limit, limit + 1, 2 * limit, 100_000} {
			for _, declared := range []bool{true, false} {
				counting.n.Store(0)
				body := trNewBody(strings.Repeat("x", size))
				req := trRequest(t, "POST", srv.URL, body)
				if declared {
					req.ContentLength = int64(size)
				}
				if size <= limit {
					if _, got := trDo(t, transport, req); len(got) != size || counting.n.Load() != 1 {
						t.Errorf("%d: got %d bytes in %d requests", size, len(got), counting.n.Load())
					}
				} else {
					trIs(t, trFail(t, transport, req), sealhttp.CodeTooLarge, 0)
					if counting.n.Load() != 0 {
						t.Errorf("%d: it was sent", size)
					}
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("%d: the body was closed %d times", size, n)
				}
			}
		}
	})
}

// Content-Encoding over a sealed response.
func TestTransportEncodedResponses(t *testing.T) {
	caller := trDefaultKey(t)
	message, err := caller.Public().Seal(nil, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for coding, ok := range map[string]bool{"br": false, "zstd": false, "identity, br": false, "identity": true, "Identity": true} {
			srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", sealhttp.MediaType)
				w.Header().Set("Content-Encoding", coding)
				_, _ = w.Write(message)
			}))
			tracking := &trTracking{RoundTripper: base}
			transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
			req := trRequest(t, "GET", srv.URL, nil)
			if ok {
				if _, body := trDo(t, transport, req); body != "text" {
					t.Errorf("%s: got %q", coding, body)
				}
			} else {
				trIs(t, trFail(t, transport, req), sealhttp.CodeUnsupportedContentEncoding, 200, sealhttp.ErrResponseNotOpened)
			}
			tracking.check(t, 1)
		}
	})
}

// A sealed response of failure, that someone marks as a refusal, is the handler's.
func TestTransportSealedErrorOnSealedResponse(t *testing.T) {
	caller := trDefaultKey(t)
	message, err := caller.Public().Seal(nil, []byte("not found"), nil)
	if err != nil {
		t.Fatal(err)
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", sealhttp.MediaType)
			w.Header().Set("Sealed-Error", "unknown_key")
			w.WriteHeader(404)
			_, _ = w.Write(message)
		}))
		transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		resp, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
		info, ok := sealhttp.FromResponse(resp)
		if body != "not found" || resp.StatusCode != 404 || !ok || !info.ResponseSealed {
			t.Errorf("got %d with %q, %+v, %v", resp.StatusCode, body, info, ok)
		}
		if resp.Header["Content-Type"] != nil {
			t.Errorf("got Content-Type %q", resp.Header["Content-Type"])
		}
	})
}

// A connection that changes its protocol has no sealed response.
func TestTransportSwitchingProtocols(t *testing.T) {
	address := trRaw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(conn, r)
		}
	})
	base, _ := trWiretap(t, false)
	tracking := &trTracking{RoundTripper: base}
	upgrade := func() *http.Request {
		req := trRequest(t, "GET", "http://"+address, nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
		return req
	}
	keys := sealhttp.StaticPublicKey(trDefaultKey(t).Public())
	err := trFail(t, trTransport(t, keys, sealhttp.WithPrivateKeys(trDefaultKey(t)), sealhttp.WithBase(tracking)), upgrade())
	if !errors.Is(err, sealhttp.ErrPlaintextResponse) || !strings.Contains(err.Error(), "101") {
		t.Errorf("got %v, want ErrPlaintextResponse", err)
	}
	tracking.check(t, 1)

	// Where none is asked for, it is passed on.
	resp, err := trTransport(t, keys, sealhttp.WithBase(base)).RoundTrip(upgrade())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatalf("the body is a %T", resp.Body)
	}
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	pong := make([]byte, 4)
	if _, err := io.ReadFull(conn, pong); err != nil || string(pong) != "ping" {
		t.Errorf("got %q, %v", pong, err)
	}
}

// Base transports of the users' own may leave Body nil.
func TestTransportNilResponseBody(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	for _, row := range []struct {
		status int
		header http.Header
		keys   bool
		want   error // nil: it comes through
	}{
		{200, nil, false, nil},
		{204, nil, true, nil},
		{404, nil, true, nil},
		{200, nil, true, sealhttp.ErrPlaintextResponse},
		{101, nil, true, sealhttp.ErrPlaintextResponse},
		{400, http.Header{"Sealed-Error": {"malformed"}}, true, sealhttp.CodeMalformed},
		{200, http.Header{"Content-Type": {sealhttp.MediaType}}, true, sealhttp.CodeMalformed},
	} {
		opts := []sealhttp.TransportOption{sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
			return trAnswer(req, row.status, row.header.Clone(), nil), nil
		}))}
		if row.keys {
			opts = append(opts, sealhttp.WithPrivateKeys(caller))
		}
		resp, err := trTransport(t, sealhttp.StaticPublicKey(server.Public()), opts...).RoundTrip(trRequest(t, "GET", "http://127.0.0.1/", nil))
		switch {
		case row.want != nil:
			if resp != nil || !errors.Is(err, row.want) {
				t.Errorf("%+v: got %v, %v", row, resp, err)
			}
		case err != nil || resp.Body == nil:
			t.Errorf("%+v: got %+v, %v", row, resp, err)
		default:
			if body := trRead(t, resp); body != "" {
				t.Errorf("%+v: got %q", row, body)
			}
		}
	}
}

// Errors of the transport below stay what they are.
func TestTransportKeepsBaseErrors(t *testing.T) {
	server := trDefaultKey(t)
	keys := sealhttp.StaticPublicKey(server.Public())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	_ = listener.Close()
	base, _ := trWiretap(t, false)

	t.Run("connection refused", func(t *testing.T) {
		client := &http.Client{Transport: trTransport(t, keys, sealhttp.WithBase(base))}
		_, err := client.Do(trRequest(t, "POST", nobody, strings.NewReader("text")))
		var opErr *net.OpError
		if !errors.As(err, &opErr) || opErr.Op != "dial" {
			t.Errorf("got %v, want *net.OpError of dial", err)
		}
	})

	own := errors.New("my transport's error")
	t.Run("own error", func(t *testing.T) {
		transport := trTransport(t, keys, sealhttp.WithBase(trBase(func(*http.Request) (*http.Response, error) { return nil, own })))
		for _, method := range []string{"GET", "POST"} {
			if err := trFail(t, transport, trRequest(t, method, nobody, nil)); err != own {
				t.Errorf("%s: got %v, want %v itself", method, err, own)
			}
		}
	})

	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // an answer could still reach the caller
		}))
		client := &http.Client{Transport: trTransport(t, keys, sealhttp.WithBase(base))}
		reason := errors.New("the user left")
		for name, row := range map[string]struct {
			ctx     func() (context.Context, context.CancelFunc)
			timeout time.Duration
			want    error
		}{
			"deadline": {func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(t.Context(), 50*time.Millisecond)
			}, 0, context.DeadlineExceeded},
			"timeout of the client": {func() (context.Context, context.CancelFunc) { return t.Context(), func() {} }, 50 * time.Millisecond, context.DeadlineExceeded},
			"cancelled with a cause": {func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(t.Context())
				timer := time.AfterFunc(50*time.Millisecond, func() { cancel(reason) })
				return ctx, func() { timer.Stop(); cancel(nil) }
			}, 0, reason},
			"cancelled before": {func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				return ctx, cancel
			}, 0, context.Canceled},
		} {
			for _, method := range []string{"POST", "GET"} {
				t.Run(name+"/"+method, func(t *testing.T) {
					ctx, cancel := row.ctx()
					defer cancel()
					body := trNewBody("text")
					req := trRequest(t, method, srv.URL, body).WithContext(ctx)
					client := *client
					client.Timeout = row.timeout
					_, err := client.Do(req)
					// net/http does not give the cause once a request is on HTTP/2.
					onHTTP2 := h2 && row.want == reason && errors.Is(err, context.Canceled)
					if !errors.Is(err, row.want) && !onHTTP2 {
						t.Errorf("got %v, want %v", err, row.want)
					}
					if row.want == context.DeadlineExceeded {
						var timeout net.Error
						if !errors.As(err, &timeout) || !timeout.Timeout() {
							t.Errorf("%v is no timeout", err)
						}
					}
					if n := body.closed.Load(); n != 1 {
						t.Errorf("the body was closed %d times", n)
					}
				})
			}
		}
	})
}

// The connection breaks in the middle of a sealed response.
func TestTransportResponseBreaksOff(t *testing.T) {
	caller := trDefaultKey(t)
	message, err := caller.Public().Seal(nil, []byte(trBodyOf(1000)), nil)
	if err != nil {
		t.Fatal(err)
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, declared := range []bool{true, false} {
			srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", sealhttp.MediaType)
				if declared {
					w.Header().Set("Content-Length", fmt.Sprint(len(message)))
				}
				_, _ = w.Write(message[:len(message)-1])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
			tracking := &trTracking{RoundTripper: base}
			transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(tracking))
			err := trFail(t, transport, trRequest(t, "GET", srv.URL, nil))
			var e *sealhttp.Error
			if errors.As(err, &e) || !strings.Contains(err.Error(), "reading the response") {
				t.Errorf("got %v", err)
			}
			if !h2 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v is not io.ErrUnexpectedEOF", err)
			}
			tracking.check(t, 1)
		}
	})
}

// trStalled is a body that yields a byte, then nothing until it is closed. Then it
// looks as if it were at its end.
type trStalled struct {
	trBody
	reading chan struct{}
	done    chan struct{}
	read    bool
}

func (b *trStalled) Read(p []byte) (int, error) {
	if !b.read {
		b.read = true
		return copy(p, "x"), nil
	}
	close(b.reading)
	<-b.done
	return 0, io.EOF
}

func (b *trStalled) Close() error {
	if b.closed.Add(1) == 1 {
		close(b.done)
	}
	return nil
}

// A body that stalls ends with its call, and what had come of it is not sent.
func TestTransportBodyStalls(t *testing.T) {
	var sent atomic.Int64
	transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
		sent.Add(1) // it does not look at the context, as net/http would
		return trAnswer(req, 200, nil, http.NoBody), nil
	})))
	reason := errors.New("the user left")
	for name, want := range map[string]error{"cancelled": context.Canceled, "with a cause": reason, "timeout of the client": context.DeadlineExceeded} {
		t.Run(name, func(t *testing.T) {
			body := &trStalled{reading: make(chan struct{}), done: make(chan struct{})}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			client := &http.Client{Transport: transport}
			switch name {
			case "cancelled":
				go func() { <-body.reading; cancel(nil) }()
			case "with a cause":
				go func() { <-body.reading; cancel(reason) }()
			default:
				client.Timeout = 50 * time.Millisecond
			}
			_, err := client.Do(trRequest(t, "POST", "http://127.0.0.1/", body).WithContext(ctx))
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
			if sent.Load() != 0 {
				t.Error("a part of the body was sent")
			}
		})
	}
}

// The body is closed exactly once, however the call ends, and errors keep their cause.
func TestTransportClosesBody(t *testing.T) {
	server, caller, other := trDefaultKey(t), trDefaultKey(t), trDefaultKey(t)
	down := errors.New("down")
	set, err := seal.NewKeySet(caller)
	if err != nil {
		t.Fatal(err)
	}
	static := sealhttp.StaticPublicKey(server.Public())
	private := sealhttp.WithPrivateKeys(caller)
	source := func(f func(n int) (*seal.KeySet, error)) sealhttp.TransportOption {
		n := 0
		return sealhttp.WithPrivateKeySource(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			n++
			return f(n)
		}))
	}
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	echo := m.Handler(trEcho)
	type row struct {
		keys    sealhttp.ServerPublicKeys
		handler http.Handler
		opts    func() []sealhttp.TransportOption
		change  func(*http.Request)
		sent    int64
		want    []error // none: success
	}
	opts := func(opts ...sealhttp.TransportOption) func() []sealhttp.TransportOption {
		return func() []sealhttp.TransportOption { return opts }
	}
	for name, row := range map[string]row{
		"success":              {static, echo, opts(private), nil, 1, nil},
		"success in plaintext": {static, echo, opts(), nil, 1, nil},
		"nothing sealed":       {static, echo, opts(private), func(r *http.Request) { r.Method, r.Body = "GET", &trBody{Reader: strings.NewReader("")} }, 1, nil},
		"redirected":           {static, echo, opts(private), func(r *http.Request) { r.Response = new(http.Response) }, 0, []error{sealhttp.ErrRedirect}},
		"declared too large":   {static, echo, opts(sealhttp.WithMaxRequestBytes(3)), func(r *http.Request) { r.ContentLength = 4 }, 0, []error{sealhttp.CodeTooLarge}},
		"declared too large, so not read": {static, echo, opts(sealhttp.WithMaxRequestBytes(3)), func(r *http.Request) {
			r.ContentLength, r.Body.(*trBody).Reader = 4, iotest.ErrReader(down)
		}, 0, []error{sealhttp.CodeTooLarge}},
		"read too large": {static, echo, opts(sealhttp.WithMaxRequestBytes(3)), nil, 0, []error{sealhttp.CodeTooLarge}},
		"reading fails":  {static, echo, opts(), func(r *http.Request) { r.Body.(*trBody).Reader = iotest.ErrReader(down) }, 0, []error{down}},
		"reading fails late": {static, echo, opts(), func(r *http.Request) {
			r.Body.(*trBody).Reader = io.MultiReader(strings.NewReader("text"), iotest.ErrReader(down))
		}, 0, []error{down}},
		"reading is cut": {static, echo, opts(), func(r *http.Request) {
			r.Body.(*trBody).Reader = iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("text")))
		}, 0, []error{iotest.ErrTimeout}},
		"shorter than declared": {static, echo, opts(), func(r *http.Request) { r.ContentLength = 5 }, 0, []error{nil}},
		"longer than declared":  {static, echo, opts(), func(r *http.Request) { r.ContentLength = 3 }, 0, []error{nil}},
		"empty, but declared": {static, echo, opts(), func(r *http.Request) {
			r.ContentLength, r.Body.(*trBody).Reader = 3, strings.NewReader("")
		}, 0, []error{nil}},
		"info fails": {static, echo, opts(sealhttp.WithInfoFunc(func(*http.Request) ([]byte, []byte, error) { return nil, nil, down })), nil, 0,
			[]error{sealhttp.CodeKeyStoreUnavailable, down}},
		"info of the exchange profile": {static, echo, opts(sealhttp.WithInfoFunc(func(*http.Request) ([]byte, []byte, error) { return []byte("sealhttp x"), nil, nil })), nil, 0,
			[]error{sealhttp.CodeKeyStoreUnavailable}},
		"response info of the exchange profile": {static, echo, opts(sealhttp.WithInfoFunc(func(*http.Request) ([]byte, []byte, error) { return nil, []byte("sealhttp x"), nil })), nil, 0,
			[]error{sealhttp.CodeKeyStoreUnavailable}},
		"private keys fail": {static, echo, func() []sealhttp.TransportOption {
			return []sealhttp.TransportOption{source(func(int) (*seal.KeySet, error) { return nil, down })}
		}, nil, 0, []error{sealhttp.CodeKeyStoreUnavailable, down}},
		"private keys are nil": {static, echo, func() []sealhttp.TransportOption {
			return []sealhttp.TransportOption{source(func(int) (*seal.KeySet, error) { return nil, nil })}
		}, nil, 0, []error{sealhttp.CodeKeyStoreUnavailable}},
		"private keys fail later": {static, echo, func() []sealhttp.TransportOption {
			return []sealhttp.TransportOption{source(func(n int) (*seal.KeySet, error) {
				if n > 1 {
					return nil, down
				}
				return set, nil
			})}
		}, nil, 1, []error{sealhttp.CodeKeyStoreUnavailable, down}},
		"private keys are nil later": {static, echo, func() []sealhttp.TransportOption {
			return []sealhttp.TransportOption{source(func(n int) (*seal.KeySet, error) {
				if n > 1 {
					return nil, nil
				}
				return set, nil
			})}
		}, nil, 1, []error{sealhttp.CodeKeyStoreUnavailable}},
		"public keys fail": {sealhttp.ServerPublicKeysFunc(func(context.Context, *seal.PublicKey) (*seal.PublicKey, error) { return nil, down }), echo, opts(), nil, 0,
			[]error{sealhttp.CodeKeyStoreUnavailable, down}},
		"public key is nil": {sealhttp.StaticPublicKey(nil), echo, opts(), nil, 0, []error{sealhttp.CodeKeyStoreUnavailable}},
		"refused":           {static, trRefuse(sealhttp.CodeTooLarge, 413), opts(private), nil, 1, []error{sealhttp.ErrRefused}},
		"refused twice": {sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
			if refused == nil {
				return other.Public(), nil
			}
			return caller.Public(), nil
		}), echo, opts(), nil, 2, []error{sealhttp.ErrRefused, sealhttp.CodeUnknownKey}},
		"plaintext response": {static, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "anyone's") }), opts(private), nil, 1, []error{sealhttp.ErrPlaintextResponse}},
		"sealed to another":  {static, trMiddleware(t, trKeys(t, server), trClientKey(other.Public())).Handler(trEcho), opts(private), nil, 1, []error{sealhttp.ErrResponseNotOpened}},
		"no such host":       {static, echo, opts(), func(r *http.Request) { r.URL.Host = "127.0.0.1:0" }, 0, []error{nil}},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				counting := &trCounting{Handler: row.handler}
				srv, base := trServe(t, h2, counting)
				transport := trTransport(t, row.keys, append(row.opts(), sealhttp.WithBase(base))...)
				req := trRequest(t, "POST", srv.URL, trNewBody("text"))
				if row.change != nil {
					row.change(req)
				}
				resp, err := transport.RoundTrip(req)
				switch {
				case row.want == nil && err != nil:
					t.Error(err)
				case row.want != nil && (err == nil || resp != nil):
					t.Errorf("got %v, %v, want an error", resp, err)
				}
				for _, want := range row.want {
					if want != nil && !errors.Is(err, want) {
						t.Errorf("got %v, want %v", err, want)
					}
				}
				if resp != nil {
					_ = resp.Body.Close()
				}
				if n := req.Body.(*trBody).closed.Load(); n != 1 {
					t.Errorf("the body was closed %d times", n)
				}
				if n := counting.n.Load(); n != row.sent {
					t.Errorf("%d requests, want %d", n, row.sent)
				}
			})
		})
	}
}

// The same without a body to close.
func TestTransportRedirectWithoutBody(t *testing.T) {
	transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()))
	req := httptest.NewRequest("GET", "https://user:open@api.example.com/a%2Fb?token=sesame", nil)
	req.Body, req.Response = nil, new(http.Response)
	err := trFail(t, transport, req)
	if !errors.Is(err, sealhttp.ErrRedirect) || err.Error() != "sealhttp: redirects are not followed: GET to https://api.example.com/a%2Fb" {
		t.Errorf("got %v", err)
	}
}
