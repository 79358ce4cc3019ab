package sealhttp_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// errSrvNoRows is what a resolver leaks that does not translate it.
var errSrvNoRows = fmt.Errorf("account 7: %w", sql.ErrNoRows)

// srvResolvers make a Middleware of which one resolver does what f does.
func srvResolvers(t testing.TB, f func(context.Context) error) map[string]*sealhttp.Middleware {
	t.Helper()
	set, err := seal.NewKeySet(srvKey)
	srvCheck(t, err)
	quiet := sealhttp.WithLogger(slog.New(slog.DiscardHandler))
	server, err := sealhttp.New(sealhttp.ServerKeysFunc(func(ctx context.Context) (*seal.KeySet, error) { return set, f(ctx) }),
		srvClientKeys(srvCallerKey.Public()), quiet)
	srvCheck(t, err)
	return map[string]*sealhttp.Middleware{
		"ServerKeys": server,
		"ClientKeys": srvMiddleware(t, quiet, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
			return srvCallerKey.Public(), f(r.Context())
		}))),
		"CacheClientKeys": srvMiddleware(t, quiet, sealhttp.WithClientKeys(sealhttp.CacheClientKeys(
			func(*http.Request) string { return "account" },
			func(ctx context.Context, _ string) (*seal.PublicKey, error) { return srvCallerKey.Public(), f(ctx) },
		))),
		"PolicyFunc": srvMiddleware(t, quiet, sealhttp.WithPolicyFunc(func(r *http.Request) (sealhttp.Policy, error) {
			return sealhttp.Optional, f(r.Context())
		})),
		"InfoFunc": srvMiddleware(t, quiet, sealhttp.WithInfoFunc(func(r *http.Request) (_, _ []byte, err error) {
			return nil, nil, f(r.Context())
		})),
	}
}

func srvResolverCode(name string) sealhttp.Code {
	if name == "PolicyFunc" {
		return sealhttp.CodePolicyUnavailable
	}
	return sealhttp.CodeKeyStoreUnavailable
}

// A resolver that fails is a 503, whatever its error says, and never plaintext.
func TestServerResolversFail(t *testing.T) {
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, failure := range []error{errSrv, errSrvNoRows, context.Canceled, context.DeadlineExceeded, http.ErrAbortHandler, seal.ErrUnknownKey, sealhttp.CodeNoClientKey} {
			for name, m := range srvResolvers(t, func(context.Context) error { return failure }) {
				t.Run(fmt.Sprintf("%s/%s/%v", proto, name, failure), func(t *testing.T) {
					current.set(m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") })))
					a := host.call(t, "POST", "/", []byte("x"))
					a.refused(t, srvResolverCode(name), 503)
					if a.header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
				})
			}
		}
	}
}

// A resolver's panic is not swallowed: the connection breaks, and net/http logs it.
func TestServerResolversPanic(t *testing.T) {
	for _, proto := range srvProtos {
		for name, m := range srvResolvers(t, func(context.Context) error { panic("boom in a resolver") }) {
			t.Run(proto+"/"+name, func(t *testing.T) {
				host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") })))
				if a := host.call(t, "POST", "/", []byte("x")); a.err == nil {
					t.Errorf("status %d, %q", a.status, a.body)
				}
				host.logged(t, true, "boom in a resolver")
			})
		}
	}
}

// A resolver that hangs returns when the request's context ends: by a deadline that
// stands outside, or since the caller is gone.
func TestServerResolversHang(t *testing.T) {
	for _, proto := range srvProtos {
		hang := func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(srvTimeout):
				t.Error("the context has not ended")
				return errSrv
			}
		}
		for name, m := range srvResolvers(t, hang) {
			t.Run(proto+"/"+name+"/deadline", func(t *testing.T) {
				h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") }))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ctx, cancel := context.WithTimeout(r.Context(), 5*time.Millisecond)
					defer cancel()
					h.ServeHTTP(w, r.WithContext(ctx))
				}))
				host.call(t, "POST", "/", []byte("x")).refused(t, srvResolverCode(name), 503)
			})
			t.Run(proto+"/"+name+"/caller gone", func(t *testing.T) {
				started := make(chan struct{})
				h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") }))
				host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(started)
					h.ServeHTTP(w, r)
				}))
				ctx, cancel := context.WithCancel(t.Context())
				go func() { <-started; cancel() }()
				req := host.request(t, "GET", "/", nil, http.Header{"Accept": {sealhttp.MediaType}})
				// Now and then the refusal is faster than the caller's leaving.
				if a := host.do(t, req.WithContext(ctx)); !errors.Is(a.err, context.Canceled) {
					a.refused(t, srvResolverCode(name), 503)
				}
				srvWithin(t, "the call", host.wait)
			})
		}
	}
}

// Each resolver is asked once a call, with the request as it came in, and not at
// all where nothing depends on it.
func TestServerResolversAreAskedOnce(t *testing.T) {
	asked := map[string]int{}
	set, err := seal.NewKeySet(srvKey)
	srvCheck(t, err)
	m, err := sealhttp.New(
		sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { asked["ServerKeys"]++; return set, nil }),
		sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) {
			asked["ClientKeys"]++
			return srvCallerKey.Public(), nil
		})),
		sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { asked["PolicyFunc"]++; return sealhttp.Optional, nil }),
		sealhttp.WithInfoFunc(func(r *http.Request) (_, _ []byte, _ error) {
			asked["InfoFunc"]++
			return []byte("request of " + r.Header.Get("X-Account")), []byte("response to " + r.Header.Get("X-Account")), nil
		}),
	)
	srvCheck(t, err)
	host := srvServe(t, "HTTP/1.1", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.ContentLength) })))
	for _, tt := range []struct {
		name           string
		opened, sealed bool
		want           map[string]int
	}{
		{"clear", false, false, map[string]int{"PolicyFunc": 1}},
		{"opened", true, false, map[string]int{"PolicyFunc": 1, "InfoFunc": 1, "ServerKeys": 1}},
		{"sealed", false, true, map[string]int{"PolicyFunc": 1, "InfoFunc": 1, "ServerKeys": 1, "ClientKeys": 1}},
		{"both", true, true, map[string]int{"PolicyFunc": 1, "InfoFunc": 1, "ServerKeys": 1, "ClientKeys": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clear(asked)
			body, header := []byte("five!"), http.Header{"X-Account": {"7"}}
			if tt.opened {
				message, err := srvKey.Public().Seal(nil, body, []byte("request of 7"))
				srvCheck(t, err)
				body = message
				header.Set("Content-Type", sealhttp.MediaType)
			}
			if tt.sealed {
				header.Set("Accept", sealhttp.MediaType)
			}
			a := host.do(t, host.request(t, "POST", "/", bytes.NewReader(body), header))
			if tt.sealed {
				a = a.openWith(t, "POST", srvCallerKey, []byte("response to 7"))
			}
			if string(a.body) != "5" {
				t.Errorf("status %d, body %q", a.status, a.body)
			}
			if fmt.Sprint(asked) != fmt.Sprint(tt.want) {
				t.Errorf("asked %v, want %v", asked, tt.want)
			}
		})
	}
	// A body recorded under one account does not open under another.
	message, err := srvKey.Public().Seal(nil, []byte("five!"), []byte("request of 7"))
	srvCheck(t, err)
	a := host.do(t, host.request(t, "POST", "/", bytes.NewReader(message), http.Header{"X-Account": {"8"}, "Content-Type": {sealhttp.MediaType}}))
	a.refused(t, sealhttp.CodeDecryptionFailed, 400)
}
