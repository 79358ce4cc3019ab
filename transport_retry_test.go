package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// trRefuse answers every call with a refusal of a code.
func trRefuse(code sealhttp.Code, status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sealhttp.WriteError(w, r, &sealhttp.Error{Code: code, Status: status})
	})
}

// When a call is refused, another key is asked for where it may help, and the call
// is made once more at most.
func TestTransportAsksForAnotherKey(t *testing.T) {
	prefixed, otherPrefixed := trDefaultKey(t).Public(), trDefaultKey(t).Public()
	raw := trKey(t, seal.X25519AES256GCM, seal.WithoutPrefix()).Public()
	noSource := errors.New("the source is down")
	again := func(key *seal.PublicKey) func(*seal.PublicKey) (*seal.PublicKey, error) {
		return func(*seal.PublicKey) (*seal.PublicKey, error) { return key, nil }
	}
	for name, row := range map[string]struct {
		code      sealhttp.Code
		status    int
		first     *seal.PublicKey
		then      func(refused *seal.PublicKey) (*seal.PublicKey, error)
		noBody    bool
		calls     int
		asked     []*seal.PublicKey
		wantError error // besides the refusal
	}{
		"another key":                           {sealhttp.CodeUnknownKey, 400, prefixed, again(otherPrefixed), false, 2, []*seal.PublicKey{nil, prefixed}, nil},
		"another RAW key":                       {sealhttp.CodeUnknownKey, 400, prefixed, again(raw), false, 2, []*seal.PublicKey{nil, prefixed}, nil},
		"the same key":                          {sealhttp.CodeUnknownKey, 400, prefixed, again(prefixed), false, 1, []*seal.PublicKey{nil, prefixed}, nil},
		"an equal key":                          {sealhttp.CodeUnknownKey, 400, prefixed, again(trCopyOf(t, prefixed)), false, 1, []*seal.PublicKey{nil, prefixed}, nil},
		"the source fails":                      {sealhttp.CodeUnknownKey, 400, prefixed, func(*seal.PublicKey) (*seal.PublicKey, error) { return nil, noSource }, false, 1, []*seal.PublicKey{nil, prefixed}, noSource},
		"the source gives nil":                  {sealhttp.CodeUnknownKey, 400, prefixed, again(nil), false, 1, []*seal.PublicKey{nil, prefixed}, sealhttp.CodeKeyStoreUnavailable},
		"nothing was sealed":                    {sealhttp.CodeUnknownKey, 400, prefixed, again(otherPrefixed), true, 1, []*seal.PublicKey{nil}, nil},
		"RAW, unknown_key":                      {sealhttp.CodeUnknownKey, 400, raw, again(prefixed), false, 2, []*seal.PublicKey{nil, raw}, nil},
		"RAW, decryption_failed":                {sealhttp.CodeDecryptionFailed, 400, raw, again(prefixed), false, 2, []*seal.PublicKey{nil, raw}, nil},
		"RAW, decryption_failed, the same key":  {sealhttp.CodeDecryptionFailed, 400, raw, again(raw), false, 1, []*seal.PublicKey{nil, raw}, nil},
		"RAW, malformed":                        {sealhttp.CodeMalformed, 400, raw, again(prefixed), false, 1, []*seal.PublicKey{nil}, nil},
		"prefixed, decryption_failed":           {sealhttp.CodeDecryptionFailed, 400, prefixed, again(otherPrefixed), false, 1, []*seal.PublicKey{nil}, nil},
		"prefixed, key_store_unavailable":       {sealhttp.CodeKeyStoreUnavailable, 503, prefixed, again(otherPrefixed), false, 1, []*seal.PublicKey{nil}, nil},
		"prefixed, encryption_required by GET":  {sealhttp.CodeEncryptionRequired, 406, prefixed, again(otherPrefixed), true, 1, []*seal.PublicKey{nil}, nil},
		"RAW, decryption_failed without a body": {sealhttp.CodeDecryptionFailed, 400, raw, again(prefixed), true, 1, []*seal.PublicKey{nil}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				for _, opts := range [][]sealhttp.TransportOption{nil, {sealhttp.WithPrivateKeys(trDefaultKey(t))}} {
					counting := &trCounting{Handler: trRefuse(row.code, row.status)}
					srv, base := trServe(t, h2, counting)
					tracking := &trTracking{RoundTripper: base}
					source := &trSource{answer: func(refused *seal.PublicKey) (*seal.PublicKey, error) {
						if refused == nil {
							return row.first, nil
						}
						return row.then(refused)
					}}
					transport := trTransport(t, source, append(opts, sealhttp.WithBase(tracking))...)
					method, body := "POST", trNewBody("text")
					if row.noBody {
						method, body = "GET", trNewBody("")
					}
					_, err := (&http.Client{Transport: transport}).Do(trRequest(t, method, srv.URL, body))
					trIs(t, err, row.code, row.status, sealhttp.ErrRefused)
					if row.wantError != nil && !errors.Is(err, row.wantError) {
						t.Errorf("%v is not %v", err, row.wantError)
					}
					if n := counting.n.Load(); n != int64(row.calls) {
						t.Errorf("%d requests, want %d", n, row.calls)
					}
					if got := source.asked(); !slices.Equal(got, row.asked) {
						t.Errorf("the source was asked with %v, want %v", got, row.asked)
					}
					tracking.check(t, row.calls)
					if n := body.closed.Load(); n != 1 {
						t.Errorf("the body was closed %d times", n)
					}
				}
			})
		})
	}
}

func trCopyOf(t *testing.T, key *seal.PublicKey) *seal.PublicKey {
	t.Helper()
	c, err := seal.NewPublicKey(key.Suite(), key.ID(), key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A refusal that is no refusal asks for nothing.
func TestTransportKeepsKeyOtherwise(t *testing.T) {
	key := trDefaultKey(t).Public()
	for name, answer := range map[string]func(w http.ResponseWriter){
		"a status of success": func(w http.ResponseWriter) {
			w.Header().Set("Sealed-Error", "unknown_key")
			w.WriteHeader(200)
		},
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Sealed-Error", "unknown_key")
			w.WriteHeader(302)
		},
		"an unknown code": func(w http.ResponseWriter) {
			w.Header().Set("Sealed-Error", "unknown_key_")
			w.WriteHeader(400)
		},
		"a code in the body only": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"code":"unknown_key"}`))
		},
		"a sealed response": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", sealhttp.MediaType)
			w.Header().Set("Sealed-Error", "unknown_key")
			w.WriteHeader(400)
		},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				counting := &trCounting{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) })}
				srv, base := trServe(t, h2, counting)
				source := &trSource{answer: func(*seal.PublicKey) (*seal.PublicKey, error) { return key, nil }}
				transport := trTransport(t, source, sealhttp.WithBase(base))
				resp, _ := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				if _, ok := sealhttp.FromResponse(resp); ok {
					t.Error("FromResponse says that it was sealed")
				}
				if counting.n.Load() != 1 || len(source.asked()) != 1 {
					t.Errorf("%d requests, the source was asked %d times", counting.n.Load(), len(source.asked()))
				}
			})
		})
	}
}

// The server drops a key between the caller's fetch and its call.
func TestTransportRotation(t *testing.T) {
	for _, opts := range [][]seal.KeyOption{nil, {seal.WithoutPrefix()}} {
		t.Run(fmt.Sprintf("options=%d", len(opts)), func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				ring, err := keyring.New(trKey(t, seal.X25519AES256GCM, opts...))
				if err != nil {
					t.Fatal(err)
				}
				caller := trDefaultKey(t)
				m := trMiddleware(t, ring, sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
				counting := &trCounting{Handler: m.Handler(trEcho)}
				srv, base := trServe(t, h2, counting)

				cached := ring.PublicKeys()[0]
				source := &trSource{}
				source.answer = func(refused *seal.PublicKey) (*seal.PublicKey, error) {
					if refused != nil && refused.Equal(cached) {
						cached = ring.PublicKeys()[0]
					}
					return cached, nil
				}
				transport := trTransport(t, source, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
				for round, wantRequests := range []int64{1, 1, 2, 1} {
					counting.n.Store(0)
					if round == 1 || round == 2 { // the first rotation keeps the key as the previous one
						if err := ring.Rotate(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					text := fmt.Sprint("round ", round)
					resp, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader(text)))
					if body != text || counting.n.Load() != wantRequests {
						t.Errorf("round %d: got %q in %d requests, want %d", round, body, counting.n.Load(), wantRequests)
					}
					if info, ok := sealhttp.FromResponse(resp); !ok || info.KeyID != cached.ID() {
						t.Errorf("round %d: %+v, %v, want key %d", round, info, ok, cached.ID())
					}
				}
			})
		})
	}
}

// A source that never changes lets the call fail.
func TestTransportStaticKeyIsDropped(t *testing.T) {
	m := trMiddleware(t, trKeys(t, trDefaultKey(t)))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		counting := &trCounting{Handler: m.Handler(trEcho)}
		srv, base := trServe(t, h2, counting)
		transport := trTransport(t, sealhttp.StaticPublicKey(trDefaultKey(t).Public()), sealhttp.WithBase(base))
		err := trFail(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
		trIs(t, err, sealhttp.CodeUnknownKey, 400, sealhttp.ErrRefused)
		if counting.n.Load() != 1 {
			t.Errorf("%d requests", counting.n.Load())
		}
	})
}

// An error of the transport below is not the server's refusal, whatever it holds.
func TestTransportBaseErrorIsNoRefusal(t *testing.T) {
	key := trKey(t, seal.X25519AES256GCM, seal.WithoutPrefix()).Public()
	for _, code := range []sealhttp.Code{sealhttp.CodeUnknownKey, sealhttp.CodeDecryptionFailed} {
		own := &sealhttp.Error{Code: code, Err: sealhttp.ErrResponseNotOpened}
		source := &trSource{answer: func(*seal.PublicKey) (*seal.PublicKey, error) { return key, nil }}
		transport := trTransport(t, source, sealhttp.WithBase(trBase(func(*http.Request) (*http.Response, error) { return nil, own })))
		err := trFail(t, transport, trRequest(t, "POST", "http://127.0.0.1/", strings.NewReader("text")))
		if err != error(own) || len(source.asked()) != 1 {
			t.Errorf("got %v, the source was asked %d times", err, len(source.asked()))
		}
	}
}

// The second attempt's own end is the call's: here the connection fails.
func TestTransportSecondAttemptFails(t *testing.T) {
	first, second := trDefaultKey(t).Public(), trDefaultKey(t).Public()
	broken := errors.New("the network is down")
	calls := 0
	transport := trTransport(t,
		sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
			if refused == nil {
				return first, nil
			}
			return second, nil
		}),
		sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
			if calls++; calls == 2 {
				return nil, broken
			}
			w := httptest.NewRecorder()
			trRefuse(sealhttp.CodeUnknownKey, 400).ServeHTTP(w, req)
			return w.Result(), nil
		})))
	_, err := (&http.Client{Transport: transport}).Do(trRequest(t, "POST", "http://127.0.0.1/", strings.NewReader("text")))
	var urlErr *url.Error
	if !errors.As(err, &urlErr) || urlErr.Err != broken || calls != 2 {
		t.Errorf("got %v after %d calls, want %v itself", err, calls, broken)
	}
}

// A source is asked with the call's context, each time.
func TestTransportSourcesGetContext(t *testing.T) {
	type key struct{}
	server, caller := trDefaultKey(t), trDefaultKey(t)
	set, err := seal.NewKeySet(caller)
	if err != nil {
		t.Fatal(err)
	}
	var public, private int
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	srv, base := trServe(t, false, m.Handler(trEcho))
	transport := trTransport(t,
		sealhttp.ServerPublicKeysFunc(func(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
			if ctx.Value(key{}) == "mine" {
				public++
			}
			if refused == nil {
				return trDefaultKey(t).Public(), nil
			}
			return server.Public(), nil
		}),
		sealhttp.WithPrivateKeySource(sealhttp.ServerKeysFunc(func(ctx context.Context) (*seal.KeySet, error) {
			if ctx.Value(key{}) == "mine" {
				private++
			}
			return set, nil
		})),
		sealhttp.WithBase(base))
	req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
	resp, body := trDo(t, transport, req.WithContext(context.WithValue(req.Context(), key{}, "mine")))
	if body != "text" || public != 2 || private != 2 {
		t.Errorf("got %q, public keys asked for %d times, private keys %d times, with the context", body, public, private)
	}
	if resp.Request.Context().Value(key{}) != "mine" {
		t.Error("the response's request has lost the context")
	}
}
