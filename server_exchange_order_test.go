package sealhttp_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvRule is one way to be refused. Those of the same rank exclude each other.
type srvRule struct {
	name    string
	rank    int
	code    sealhttp.Code
	status  int
	sealed  bool // the tag has verified, so the answer is sealed
	toKey   bool // and to the caller's key
	opts    []sealhttp.Option
	guard   func(g *srvGuard, x *srvExchange)
	exclude string               // the name of another that cannot be had at the same time
	before  func(x *srvExchange) // it is sealed
	after   func(req *http.Request)
}

func srvFailingKeys(err error) sealhttp.Option {
	return sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, err }))
}

// srvRules are the wire format's refusals, in its order.
func srvRules() []srvRule {
	editField := func(edit func([]string) []string) func(*http.Request) {
		return func(req *http.Request) {
			req.Header["Sealed-Exchange"] = edit(strings.Split(req.Header["Sealed-Exchange"][0], ", "))
		}
	}
	return []srvRule{
		{name: "policy", code: sealhttp.CodePolicyUnavailable, status: 503, opts: []sealhttp.Option{
			sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return sealhttp.Disabled, errSrv })}},
		{name: "zero policy", code: sealhttp.CodePolicyUnavailable, status: 503, opts: []sealhttp.Option{
			sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return 0, nil })}},

		{name: "Disabled", rank: 1, code: sealhttp.CodeEncryptionDisabled, status: 415, opts: []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}},

		{name: "profile", rank: 2, code: sealhttp.CodeUnsupportedProfile, status: 415, opts: []sealhttp.Option{sealhttp.WithProfiles(sealhttp.MessageProfile)}},
		{name: "version", rank: 2, code: sealhttp.CodeUnsupportedProfile, status: 415, after: editField(srvReplace("v=2"))},
		{name: "Content-Encoding", rank: 2, code: sealhttp.CodeUnsupportedProfile, status: 415, after: func(req *http.Request) { req.Header.Set("Content-Encoding", "gzip") }},

		{name: "field", rank: 3, code: sealhttp.CodeMalformed, status: 400, after: editField(srvAdd("", ", x=1"))},
		{name: "bound field", rank: 3, code: sealhttp.CodeMalformed, status: 400, after: func(req *http.Request) { req.Header["If-Match"] = []string{"a", "b"} }},
		{name: "type", rank: 3, code: sealhttp.CodeMalformed, status: 400, after: func(req *http.Request) { req.Header["Sealed-Content-Type"] = []string{"a", "b"} }},
		{name: "target", rank: 3, code: sealhttp.CodeMalformed, status: 400, before: func(x *srvExchange) { x.target = "/" + strings.Repeat("a", 8192) }},

		{name: "key", rank: 4, code: sealhttp.CodeUnknownKey, status: 400, after: editField(srvReplace(fmt.Sprint("kid=", srvKey.ID()^1)))},

		{name: "tag", rank: 5, code: sealhttp.CodeDecryptionFailed, status: 400, after: func(req *http.Request) { req.Header.Set("If-None-Match", "x") }},

		{name: "key store", rank: 6, code: sealhttp.CodeKeyStoreUnavailable, status: 503, sealed: true, opts: []sealhttp.Option{srvFailingKeys(errSrv)}},
		{name: "no client key", rank: 6, code: sealhttp.CodeNoClientKey, status: 406, sealed: true, exclude: "Disabled", opts: []sealhttp.Option{
			srvFailingKeys(sealhttp.ErrNoClientKey), sealhttp.WithPolicy(sealhttp.Required)}},
		{name: "the server's key", rank: 6, code: sealhttp.CodeNoClientKey, status: 406, sealed: true, opts: []sealhttp.Option{srvClientKeys(srvKey.Public())}},

		{name: "binding", rank: 7, code: sealhttp.CodeBindingRequired, status: 400, sealed: true, toKey: true, opts: []sealhttp.Option{
			sealhttp.WithBoundHeaders("authorization", "x-account")}},

		{name: "stale", rank: 8, code: sealhttp.CodeStale, status: 400, sealed: true, toKey: true, before: func(x *srvExchange) { x.ts -= 302 }},
		{name: "stale, ahead", rank: 8, code: sealhttp.CodeStale, status: 400, sealed: true, toKey: true, before: func(x *srvExchange) { x.ts += 302 }},

		{name: "size", rank: 9, code: sealhttp.CodeTooLarge, status: 413, sealed: true, toKey: true, opts: []sealhttp.Option{sealhttp.WithMaxStreamBytes(10)}},

		{name: "replayed", rank: 10, code: sealhttp.CodeReplayed, status: 409, sealed: true, toKey: true, guard: func(g *srvGuard, x *srvExchange) { g.known = map[[16]byte]bool{x.id: true} }},
		{name: "guard", rank: 10, code: sealhttp.CodeReplayGuardUnavailable, status: 503, sealed: true, toKey: true, guard: func(g *srvGuard, _ *srvExchange) { g.insert = errSrv }},
		{name: "full guard", rank: 10, code: sealhttp.CodeReplayGuardUnavailable, status: 503, sealed: true, toKey: true, guard: func(g *srvGuard, _ *srvExchange) { g.insert = sealhttp.ErrReplayGuardFull }},
		{name: "young guard", rank: 10, code: sealhttp.CodeStale, status: 400, sealed: true, toKey: true, guard: func(g *srvGuard, _ *srvExchange) { g.insert = fmt.Errorf("wrapped: %w", sealhttp.CodeStale) }},
	}
}

// srvBreakRules sends a request that breaks the rules of some refusals, of which the first
// is to be answered.
func srvBreakRules(t *testing.T, host *srvHost, current *srvSwap, method string, opts []sealhttp.Option, refusals ...srvRule) {
	t.Helper()
	x := srvTurn(method, "/")
	x.header.Set("Authorization", "Bearer a")
	guard := new(srvGuard)
	all := []sealhttp.Option{sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler))}
	var events []sealhttp.Event
	all = append(all, sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
	all = append(all, opts...)
	for i := range refusals {
		r := refusals[len(refusals)-1-i] // the first has the last word
		all = append(all, r.opts...)
		if r.before != nil {
			r.before(x)
		}
		if r.guard != nil {
			r.guard(guard, x)
		}
	}
	ran := false
	current.set(srvMiddleware(t, all...).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true })))
	req := x.request(t, host, []byte(strings.Repeat("a", 1000)))
	for _, r := range refusals {
		if r.after != nil {
			r.after(req)
		}
	}
	want := refusals[0]
	if last := refusals[len(refusals)-1]; last.name == "replayed" && (want.rank == 7 || want.rank == 8) {
		want = last // what was executed must not be said not to have been
	}
	sent := time.Now().Unix()
	a := host.do(t, req)
	host.wait()
	event := sealhttp.Event{Code: want.code, Status: want.status}
	if !want.sealed {
		x.refusedInClear(t, a, want.code, want.status)
	} else {
		event.CallInfo = sealhttp.CallInfo{Profile: sealhttp.ExchangeProfile, KeyID: srvKey.ID(), RequestSealed: true, ResponseSealed: true}
		var key *seal.PrivateKey
		if want.toKey {
			key, event.CallerKeyID = srvCallerKey, srvCallerKey.ID()
		}
		p := x.refused(t, a, want.code, want.status, key)
		if now := p.Now; method != "HEAD" && (want.code == sealhttp.CodeStale) != (now >= sent && now <= time.Now().Unix()) {
			t.Errorf("%s: now is %d", want.code, now)
		}
	}
	if ran {
		t.Error("the handler ran")
	}
	if inserts, lookups := guard.operations(); inserts > 0 || lookups > 1 {
		t.Errorf("the guard had %d inserts and %d lookups", inserts, lookups)
	}
	if len(events) != 1 || !errors.Is(events[0].Err, want.code) {
		t.Fatalf("events %+v", events)
	}
	events[0].Err = nil
	if events[0] != event {
		t.Errorf("event %+v, want %+v", events[0], event)
	}
}

// A request that breaks two rules gets the code of the one that the wire format has
// first.
func TestServerExchangeOrderOfRefusals(t *testing.T) {
	refusals := srvRules()
	calls := 0
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for i, first := range refusals {
			t.Run(fmt.Sprintf("%s/%s", proto, first.name), func(t *testing.T) {
				srvBreakRules(t, host, &current, "POST", nil, first)
			})
			calls++
			for _, second := range refusals[i+1:] {
				if first.rank == second.rank || second.exclude == first.name {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s, %s", proto, first.name, second.name), func(t *testing.T) {
					srvBreakRules(t, host, &current, "POST", nil, first, second)
				})
				calls++
			}
		}
	}
	t.Logf("%d refusals, alone and in pairs: %d calls", len(refusals), calls)
}

// Whoever answers a refusal, and whatever the method: what has to be sealed is.
func TestServerExchangeRefusalsThroughErrorHandlers(t *testing.T) {
	handlers := map[string]func(http.ResponseWriter, *http.Request, error){
		"none":       nil,
		"WriteError": sealhttp.WriteError,
		"silent":     func(http.ResponseWriter, *http.Request, error) {},
		"one that flushes": func(w http.ResponseWriter, r *http.Request, err error) {
			sealhttp.WriteError(w, r, err)
			_ = http.NewResponseController(w).Flush()
		},
		"one that wraps": func(w http.ResponseWriter, r *http.Request, err error) {
			sealhttp.WriteError(w, r, fmt.Errorf("wrapped: %w", err))
		},
	}
	calls := 0
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for name, handler := range handlers {
			var opts []sealhttp.Option
			if handler != nil {
				opts = append(opts, sealhttp.WithErrorHandler(handler))
			}
			for _, method := range []string{"GET", "POST", "HEAD", "DELETE"} {
				for _, refusal := range srvRules() {
					if name == "silent" && !refusal.sealed {
						continue // in clear, it is for the handler to answer
					}
					t.Run(fmt.Sprintf("%s/%s/%s/%s", proto, name, method, refusal.name), func(t *testing.T) {
						srvBreakRules(t, host, &current, method, opts, refusal)
					})
					calls++
				}
			}
		}
	}
	t.Logf("%d calls", calls)
}

// An error handler's own answer is sealed like any response, with the code beside it.
func TestServerExchangeErrorHandlerOfOnesOwn(t *testing.T) {
	for _, proto := range srvProtos {
		m := srvMiddleware(t, sealhttp.WithReplayWindow(10*time.Second), sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
			w.Header().Set("Content-Type", "text/vnd.own")
			w.Header().Set("X-Own", "yes")
			w.Header().Set("Sealed-Error", "forged")
			w.WriteHeader(418)
			_, _ = io.WriteString(w, "own: "+srvErrorCode(err))
		}))
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
		x := srvTurn("POST", "/")
		x.ts -= 12
		got := x.open(t, host.do(t, x.request(t, host, []byte("hello"))))
		if got.status != 418 || got.code != sealhttp.CodeStale || string(got.body) != "own: stale" || got.contentType != "text/vnd.own" || got.header.Get("X-Own") != "yes" {
			t.Errorf("%s: %d %q %q %q %v", proto, got.status, got.code, got.body, got.contentType, got.header)
		}
	}
}

func srvErrorCode(err error) string {
	var e *sealhttp.Error
	if !errors.As(err, &e) {
		return "no Error"
	}
	return string(e.Code)
}

// An error handler whose answer cannot be sealed does not get it out, in clear or
// otherwise: the caller is told what is wrong all the same.
func TestServerExchangeErrorHandlerThatCannotBeSealed(t *testing.T) {
	for _, proto := range srvProtos {
		for name, handler := range map[string]http.HandlerFunc{
			"compressed": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(400)
				_, _ = io.WriteString(w, "canary")
			},
			"shorter than declared": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				w.WriteHeader(400)
				_, _ = io.WriteString(w, "canary")
			},
		} {
			m := srvMiddleware(t, sealhttp.WithReplayWindow(10*time.Second), sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, _ error) { handler(w, r) }))
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
			x := srvTurn("POST", "/")
			x.ts -= 12
			t.Run(proto+"/"+name, func(t *testing.T) {
				x.refused(t, host.do(t, x.request(t, host, []byte("hello"))), sealhttp.CodeStale, 400, srvCallerKey)
			})
		}
	}
}

// The window is taken to the second, at both ends, and what is inside goes to the guard
// as the caller made it.
func TestServerExchangeWindow(t *testing.T) {
	guard := new(srvGuard)
	m := srvMiddleware(t, sealhttp.WithReplayGuard(guard), sealhttp.WithReplayWindow(time.Minute), sealhttp.WithLogger(slog.New(slog.DiscardHandler)), sealhttp.WithClientKeys(
		sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
			if r.URL.Path == "/unknown" {
				return nil, sealhttp.ErrNoClientKey
			}
			return srvCallerKey.Public(), nil
		})))
	h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	host := srvServe(t, "HTTP/1.1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if account := r.URL.Query().Get("account"); account != "" {
			r = r.WithContext(sealhttp.ContextWithAccount(r.Context(), account))
		}
		h.ServeHTTP(w, r)
	}))
	for _, tt := range []struct {
		by    int64
		stale bool
	}{{-62, true}, {-58, false}, {0, false}, {58, false}, {63, true}, {-1 << 30, true}, {1 << 36, true}} {
		x := srvTurn("GET", "/")
		x.ts += tt.by
		got := x.open(t, host.do(t, x.request(t, host, nil)))
		if stale := got.code == sealhttp.CodeStale; stale != tt.stale {
			t.Errorf("by %d seconds: code %q", tt.by, got.code)
		}
	}
	for _, tt := range []struct{ target, caller string }{
		{"/", srvCallerKey.Public().Fingerprint()},
		{"/?account=acme", "acme"},
		{"/unknown", ""},
		{"/unknown?account=acme", "acme"},
	} {
		x := srvTurn("GET", tt.target)
		x.ts -= 7
		a := host.do(t, x.request(t, host, nil))
		if strings.HasPrefix(tt.target, "/unknown") {
			x.openAs(t, a, nil)
		} else {
			x.open(t, a)
		}
		e := guard.inserts[len(guard.inserts)-1]
		want := sealhttp.ReplayEntry{ID: x.id, Caller: tt.caller, Time: time.Unix(x.ts, 0), TTL: 4 * time.Minute}
		if e != want {
			t.Errorf("%s: the guard was told %+v, want %+v", tt.target, e, want)
		}
	}
	if inserts, lookups := guard.operations(); inserts != 3+4 || lookups != 4 {
		t.Errorf("%d inserts, %d lookups", inserts, lookups)
	}
}

// Where the answer would be stale or binding_required, a guard that cannot be asked is
// said to be unavailable: nobody knows whether the request was executed.
func TestServerExchangeLookupFails(t *testing.T) {
	for name, change := range map[string]func(*srvExchange){
		"stale":            func(x *srvExchange) { x.ts -= 1000 },
		"binding_required": func(x *srvExchange) { x.names = []string{} },
	} {
		m := srvMiddleware(t, sealhttp.WithReplayGuard(&srvGuard{contains: errSrv}), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		host := srvServe(t, "HTTP/1.1", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
		x := srvTurn("GET", "/")
		change(x)
		t.Run(name, func(t *testing.T) {
			x.refused(t, host.do(t, x.request(t, host, nil)), sealhttp.CodeReplayGuardUnavailable, 503, srvCallerKey)
		})
	}
}

// binding_required names every field that is missing, whatever others are bound.
func TestServerExchangeBindingRequired(t *testing.T) {
	guard := new(srvGuard)
	m := srvMiddleware(t, sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
	lists := [][]string{{}, {"x-a", "x-b"}}
	for i := range srvDefaultBound {
		lists = append(lists, append(append([]string{"x-a"}, srvDefaultBound[:i]...), srvDefaultBound[i+1:]...))
	}
	for _, names := range lists {
		x := srvTurn("POST", "/")
		x.names = names
		x.refused(t, host.do(t, x.request(t, host, []byte("hello"))), sealhttp.CodeBindingRequired, 400, srvCallerKey)
	}
	if inserts, lookups := guard.operations(); inserts != 0 || lookups != len(lists) {
		t.Errorf("%d inserts, %d lookups", inserts, lookups)
	}
	// With none required, none need be bound.
	m = srvMiddleware(t, sealhttp.WithBoundHeaders())
	host = srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for _, names := range [][]string{{}, nil, {"x-a"}} {
		x := srvTurn("POST", "/")
		x.names = names
		x.open(t, host.do(t, x.request(t, host, []byte("hello"))))
	}
}
