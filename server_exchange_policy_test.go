package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// The row "exchange request" of the table of policies, and what else is asked on the
// same routes.
func TestServerExchangePolicies(t *testing.T) {
	const message, exchange = sealhttp.MessageProfile, sealhttp.ExchangeProfile
	type want struct {
		status int
		code   sealhttp.Code
	}
	ok := want{200, ""}
	for _, tt := range []struct {
		name     string
		policy   sealhttp.Policy
		profiles []sealhttp.Profile
		keys     bool // ClientKeys
		exchange want
		get      want // in plaintext
		post     want
		sealed   want // a message, with a sealed reply asked for
	}{
		{"Disabled", sealhttp.Disabled, nil, true, want{415, sealhttp.CodeEncryptionDisabled}, ok, ok, want{415, sealhttp.CodeEncryptionDisabled}},
		{"Optional", sealhttp.Optional, nil, true, ok, ok, ok, ok},
		{"Optional without ClientKeys", sealhttp.Optional, nil, false, ok, ok, ok, want{406, sealhttp.CodeNoClientKey}},
		{"RequestRequired", sealhttp.RequestRequired, nil, true, ok, ok, want{415, sealhttp.CodeEncryptionRequired}, ok},
		{"Required", sealhttp.Required, nil, true, ok, want{406, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeEncryptionRequired}, ok},
		{"messages only", sealhttp.Optional, []sealhttp.Profile{message}, true, want{415, sealhttp.CodeUnsupportedProfile}, ok, ok, ok},
		{"messages only, Disabled", sealhttp.Disabled, []sealhttp.Profile{message}, true, want{415, sealhttp.CodeEncryptionDisabled}, ok, ok, want{415, sealhttp.CodeEncryptionDisabled}},
		{"exchanges only, Optional", sealhttp.Optional, []sealhttp.Profile{exchange}, true, ok, ok, ok, want{415, sealhttp.CodeUnsupportedProfile}},
		{"exchanges only, RequestRequired", sealhttp.RequestRequired, []sealhttp.Profile{exchange}, true, ok, ok, want{415, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeUnsupportedProfile}},
		{"exchanges only, Required", sealhttp.Required, []sealhttp.Profile{exchange}, true, ok, want{406, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeUnsupportedProfile}},
		{"exchanges only, Required, without ClientKeys", sealhttp.Required, []sealhttp.Profile{exchange}, false, ok, want{406, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeEncryptionRequired}, want{415, sealhttp.CodeUnsupportedProfile}},
	} {
		for _, proto := range srvProtos {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				opts := []sealhttp.Option{sealhttp.WithPolicy(tt.policy), sealhttp.WithLogger(slog.New(slog.DiscardHandler))}
				if tt.profiles != nil {
					opts = append(opts, sealhttp.WithProfiles(tt.profiles...))
				}
				var key *seal.PrivateKey
				if tt.keys {
					key = srvCallerKey
					opts = append(opts, srvClientKeys(key.Public()))
				}
				m, err := sealhttp.New(srvKeys(srvKey), opts...)
				srvCheck(t, err)
				ran := 0
				host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran++
					b, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %s", r.Method, b)
				})))
				calls := 0
				check := func(what string, w want, a *srvAnswer, open func()) {
					t.Helper()
					if w.code != "" {
						a.refused(t, w.code, w.status)
						return
					}
					calls++
					open()
				}
				for method, body := range map[string][]byte{"GET": nil, "POST": []byte("x"), "DELETE": nil, "PUT": {}, "PATCH": nil, "OPTIONS": nil} {
					x := srvTurn(method, "/")
					a := host.do(t, x.request(t, host, body))
					check("exchange", tt.exchange, a, func() {
						if got := x.openAs(t, a, key); string(got.body) != method+" "+string(body) {
							t.Errorf("%q", got.body)
						}
					})
				}
				inClear := func(method string, body io.Reader, w want) {
					t.Helper()
					a := host.do(t, host.request(t, method, "/", body, nil))
					check("plaintext", w, a, func() {
						if a.status != 200 || a.header.Get("Sealed-Exchange") != "" || !strings.HasPrefix(string(a.body), method) {
							t.Errorf("%s: %d %q", method, a.status, a.body)
						}
					})
				}
				inClear("GET", nil, tt.get)
				inClear("POST", strings.NewReader("x"), tt.post)
				a := host.call(t, "POST", "/", []byte("x"))
				check("message", tt.sealed, a, func() {
					if got := a.open(t, "POST"); string(got.body) != "POST x" {
						t.Errorf("%q", got.body)
					}
				})
				if ran != calls {
					t.Errorf("the handler ran %d times, want %d", ran, calls)
				}
			})
		}
	}
}

// A preflight passes, with the field or without, and nothing with it.
func TestServerExchangePreflight(t *testing.T) {
	host := srvServe(t, "HTTP/1.1", srvMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
	})))
	x := srvTurn("OPTIONS", "/")
	x.header.Set("Origin", "https://a")
	x.header.Set("Access-Control-Request-Method", "PUT")
	if a := host.do(t, x.request(t, host, nil)); a.status != 204 || a.header.Get("Sealed-Exchange") != "" {
		t.Errorf("status %d, header %v", a.status, a.header)
	}
	// With credentials it is none.
	x = srvTurn("OPTIONS", "/")
	x.header.Set("Origin", "https://a")
	x.header.Set("Access-Control-Request-Method", "PUT")
	x.header.Set("Authorization", "Bearer a")
	if got := x.open(t, host.do(t, x.request(t, host, nil))); got.status != 204 {
		t.Errorf("status %d", got.status)
	}
}

// The caller's key, and the lack of one.
func TestServerExchangeCallerKeys(t *testing.T) {
	p256 := srvGenerate(seal.P256AES128GCM)
	wrapped := fmt.Errorf("no row: %w", sealhttp.ErrNoClientKey)
	alias, err := seal.NewPublicKey(srvKey.Suite(), srvKey.ID()^1, srvKey.Public().Bytes()) // the same key by another name
	srvCheck(t, err)
	type want struct {
		status int
		code   sealhttp.Code
		key    *seal.PrivateKey
	}
	for _, tt := range []struct {
		name     string
		key      *seal.PublicKey
		err      error
		optional want
		required want
	}{
		{"a key", srvCallerKey.Public(), nil, want{200, "", srvCallerKey}, want{200, "", srvCallerKey}},
		{"a key of another suite", p256.Public(), nil, want{200, "", p256}, want{200, "", p256}},
		{"none", nil, sealhttp.ErrNoClientKey, want{200, "", nil}, want{406, sealhttp.CodeNoClientKey, nil}},
		{"none, wrapped", nil, wrapped, want{200, "", nil}, want{406, sealhttp.CodeNoClientKey, nil}},
		{"nil", nil, nil, want{200, "", nil}, want{406, sealhttp.CodeNoClientKey, nil}},
		{"a store that fails", nil, errSrv, want{503, sealhttp.CodeKeyStoreUnavailable, nil}, want{503, sealhttp.CodeKeyStoreUnavailable, nil}},
		{"a store that fails, with a key", srvCallerKey.Public(), errSrv, want{503, sealhttp.CodeKeyStoreUnavailable, nil}, want{503, sealhttp.CodeKeyStoreUnavailable, nil}},
		{"a call that is cancelled", nil, context.Canceled, want{503, sealhttp.CodeKeyStoreUnavailable, nil}, want{503, sealhttp.CodeKeyStoreUnavailable, nil}},
		{"the server's key", srvKey.Public(), nil, want{406, sealhttp.CodeNoClientKey, nil}, want{406, sealhttp.CodeNoClientKey, nil}},
		{"the server's key by another id", alias, nil, want{406, sealhttp.CodeNoClientKey, nil}, want{406, sealhttp.CodeNoClientKey, nil}},
	} {
		for policy, want := range map[sealhttp.Policy]want{sealhttp.Optional: tt.optional, sealhttp.RequestRequired: tt.optional, sealhttp.Required: tt.required} {
			for _, proto := range srvProtos {
				t.Run(fmt.Sprintf("%s/%v/%s", proto, policy, tt.name), func(t *testing.T) {
					ran, asked := false, 0
					guard := new(srvGuard)
					var events []sealhttp.Event
					m, err := sealhttp.New(srvKeys(srvKey), sealhttp.WithPolicy(policy), sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
						sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }),
						sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
							asked++
							if r.Header.Get("Authorization") != "Bearer a" {
								t.Error("the resolver does not see the request")
							}
							return tt.key, tt.err
						})))
					srvCheck(t, err)
					host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ran = true
						fmt.Fprint(w, "done")
					})))
					x := srvTurn("POST", "/")
					x.header.Set("Authorization", "Bearer a")
					a := host.do(t, x.request(t, host, []byte("hello")))
					host.wait()
					if want.code != "" {
						x.refused(t, a, want.code, want.status, nil)
					} else if got := x.openAs(t, a, want.key); string(got.body) != "done" {
						t.Errorf("%q", got.body)
					}
					if inserts, _ := guard.operations(); ran != (want.code == "") || (inserts == 1) != ran || asked != 1 {
						t.Errorf("the handler ran: %v, %d inserts, asked %d times", ran, inserts, asked)
					}
					info := sealhttp.CallInfo{Profile: sealhttp.ExchangeProfile, KeyID: srvKey.ID(), RequestSealed: true, ResponseSealed: true}
					if want.key != nil {
						info.CallerKeyID = want.key.ID()
						// Who has the request's context and not the key cannot open it.
						if _, err := x.openWith(a, nil); !errors.Is(err, errSrvAuth) {
							t.Errorf("without the caller's key: %v", err)
						}
					}
					if len(events) != 1 || events[0].CallInfo != info || events[0].Code != want.code || events[0].Status != want.status {
						t.Errorf("events %+v", events)
					}
				})
			}
		}
	}
}

// The server's own keys cannot be had.
func TestServerExchangeKeyStoreFails(t *testing.T) {
	for name, keys := range map[string]sealhttp.ServerKeysFunc{
		"an error":  func(context.Context) (*seal.KeySet, error) { return nil, errSrv },
		"no keys":   func(context.Context) (*seal.KeySet, error) { return nil, nil },
		"cancelled": func(ctx context.Context) (*seal.KeySet, error) { return nil, context.Canceled },
	} {
		m, err := sealhttp.New(keys, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		srvCheck(t, err)
		host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
		x := srvTurn("POST", "/")
		t.Run(name, func(t *testing.T) {
			x.refusedInClear(t, host.do(t, x.request(t, host, []byte("hello"))), sealhttp.CodeKeyStoreUnavailable, 503)
		})
	}
}

// The inner one of two Middlewares passes on what the outer one has opened, whatever its
// policy and its profiles are, and applies them to the rest.
func TestServerExchangeNested(t *testing.T) {
	discard := sealhttp.WithLogger(slog.New(slog.DiscardHandler))
	failing := sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return 0, errSrv })
	for _, proto := range srvProtos {
		for _, tt := range []struct {
			name  string
			inner []sealhttp.Option
			code  sealhttp.Code // of the inner one
			plain int           // status of a GET in plaintext
		}{
			{"Disabled", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}, "", 200},
			{"Optional", nil, "", 200},
			{"RequestRequired", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.RequestRequired)}, "", 200},
			{"Required", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required)}, "", 406},
			{"messages only, Required", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithProfiles(sealhttp.MessageProfile)}, "", 406},
			{"exchanges only, Required", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithProfiles(sealhttp.ExchangeProfile)}, "", 406},
			{"failing", []sealhttp.Option{failing}, sealhttp.CodePolicyUnavailable, 503},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				guard := new(srvGuard)
				var outerEvents, innerEvents []sealhttp.Event
				outer := srvMiddleware(t, discard, sealhttp.WithReplayGuard(guard), sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { outerEvents = append(outerEvents, e) }))
				inner := srvMiddleware(t, append(tt.inner, discard, sealhttp.WithReplayGuard(guard), sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { innerEvents = append(innerEvents, e) }))...)
				same := sealhttp.Must(outer.With())
				ran := 0
				host := srvServe(t, proto, outer.Handler(same.Handler(inner.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran++
					b, err := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %v", b, err)
				})))))
				x := srvTurn("POST", "/")
				got := x.open(t, host.do(t, x.request(t, host, []byte("hello"))))
				host.wait()
				if tt.code == "" {
					if got.status != 200 || string(got.body) != "hello <nil>" || len(innerEvents) != 0 {
						t.Errorf("status %d, %q, events inside %+v", got.status, got.body, innerEvents)
					}
				} else if got.status != 503 || got.code != "" || !strings.Contains(string(got.body), string(tt.code)) || ran != 0 || len(innerEvents) != 1 {
					// A handler's own refusal, as far as the outer one knows.
					t.Errorf("status %d, code %q, %q, events inside %+v", got.status, got.code, got.body, innerEvents)
				}
				if inserts, _ := guard.operations(); inserts != 1 || len(outerEvents) != 1 || outerEvents[0].Code != "" {
					t.Errorf("%d inserts, events %+v", inserts, outerEvents)
				}
				if a := host.do(t, host.request(t, "GET", "/", nil, nil)); a.status != tt.plain {
					t.Errorf("in plaintext: status %d", a.status)
				}
			})
		}
		// An outer one that does not offer exchanges does not pass them on to an inner one.
		t.Run(proto+"/messages only outside", func(t *testing.T) {
			outer := srvMiddleware(t, discard, sealhttp.WithProfiles(sealhttp.MessageProfile))
			host := srvServe(t, proto, outer.Handler(srvMiddleware(t).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))))
			x := srvTurn("POST", "/")
			x.refusedInClear(t, host.do(t, x.request(t, host, []byte("hello"))), sealhttp.CodeUnsupportedProfile, 415)
		})
	}
}
