package sealhttp_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvRecorded is a request as a hop records it, to be sent as often as it likes.
type srvRecorded struct {
	method, target string
	header         http.Header
	body           []byte
}

func (x *srvExchange) recorded(t testing.TB, plaintext []byte) *srvRecorded {
	t.Helper()
	rec := &srvRecorded{method: x.method, target: x.target}
	if plaintext != nil {
		x.body = true
		rec.body = bytes.Join(x.records(t, plaintext, srvRecordData), nil)
	}
	x.seal(t)
	rec.header = x.head()
	return rec
}

func (rec *srvRecorded) send(t testing.TB, host *srvHost, edit func(h http.Header)) *srvAnswer {
	t.Helper()
	var body io.Reader
	if rec.body != nil {
		body = bytes.NewReader(rec.body)
	}
	h := rec.header.Clone()
	if edit != nil {
		edit(h)
	}
	return host.do(t, host.request(t, rec.method, rec.target, body, h))
}

// A service with accounts by their bearer, each with a key of its own.
func srvAccounts(t testing.TB, ran *atomic.Int64, opts ...sealhttp.Option) (http.Handler, map[string]*seal.PrivateKey) {
	keys := map[string]*seal.PrivateKey{"Bearer alice": srvGenerate(seal.X25519AES256GCM), "Bearer mallory": srvGenerate(seal.X25519AES256GCM)}
	m := srvMiddleware(t, append([]sealhttp.Option{
		sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
		sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
			if key := keys[sealhttp.Account(r.Context())]; key != nil {
				return key.Public(), nil
			}
			return nil, sealhttp.ErrNoClientKey
		})),
	}, opts...)...)
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ran.Add(1)
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s for %s: %v", b, sealhttp.Account(r.Context()), err)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), r.Header.Get("Authorization"))))
	}), keys
}

// What a caller has sealed cannot be sent under another account, or under none.
func TestServerExchangeHopOtherAccount(t *testing.T) {
	for _, proto := range srvProtos {
		var ran atomic.Int64
		h, keys := srvAccounts(t, &ran)
		host := srvServe(t, proto, h)
		x := srvTurn("POST", "/transfer")
		x.header.Set("Authorization", "Bearer alice")
		rec := x.recorded(t, []byte("100 EUR"))
		for _, credentials := range [][]string{{"Bearer mallory"}, {"bearer alice"}, {""}, nil, {"Bearer alice", "Bearer mallory"}, {"Bearer mallory", "Bearer alice"}} {
			a := rec.send(t, host, func(h http.Header) {
				if credentials == nil {
					delete(h, "Authorization")
				} else {
					h["Authorization"] = credentials
				}
			})
			code := sealhttp.CodeDecryptionFailed
			if len(credentials) > 1 {
				code = sealhttp.CodeMalformed
			}
			x.refusedInClear(t, a, code, 400)
		}
		if n := ran.Load(); n != 0 {
			t.Errorf("%s: the handler ran %d times", proto, n)
		}
		// None of that has used the request up.
		if got := x.openAs(t, rec.send(t, host, nil), keys["Bearer alice"]); string(got.body) != "100 EUR for Bearer alice: <nil>" {
			t.Errorf("%s: %q", proto, got.body)
		}
		// A hop that makes a request of its own with the caller's credentials learns nothing:
		// the answer is sealed to the caller's key.
		own := srvTurn("GET", "/balance")
		own.header.Set("Authorization", "Bearer alice")
		if got, err := own.openWith(own.recorded(t, nil).send(t, host, nil), nil); err == nil {
			t.Errorf("%s: the hop reads %q", proto, got.body)
		}
	}
}

// A recorded request is executed once.
func TestServerExchangeHopReplays(t *testing.T) {
	for _, proto := range srvProtos {
		for _, method := range []string{"POST", "GET", "HEAD"} {
			var ran atomic.Int64
			h, keys := srvAccounts(t, &ran)
			host := srvServe(t, proto, h)
			x := srvTurn(method, "/transfer")
			x.header.Set("Authorization", "Bearer alice")
			var body []byte
			if method == "POST" {
				body = []byte("100 EUR")
			}
			rec := x.recorded(t, body)
			x.openAs(t, rec.send(t, host, nil), keys["Bearer alice"])
			for range 5 {
				x.refused(t, rec.send(t, host, nil), sealhttp.CodeReplayed, 409, keys["Bearer alice"])
			}
			// A new context with the same id is the same request.
			again := srvTurn(method, "/transfer")
			again.id = x.id
			again.header = x.header
			again.refused(t, again.recorded(t, body).send(t, host, nil), sealhttp.CodeReplayed, 409, keys["Bearer alice"])
			// And so it is at another target, or of another account.
			other := srvTurn(method, "/elsewhere")
			other.id = x.id
			other.header.Set("Authorization", "Bearer mallory")
			other.refused(t, other.recorded(t, body).send(t, host, nil), sealhttp.CodeReplayed, 409, keys["Bearer mallory"])
			if n := ran.Load(); n != 1 {
				t.Errorf("%s %s: the handler ran %d times", proto, method, n)
			}
		}
	}
}

// Nor is it executed more than once if it comes many times at once, through Middlewares
// that share a guard.
func TestServerExchangeHopReplaysAtOnce(t *testing.T) {
	const n = 64
	for _, proto := range srvProtos {
		var ran atomic.Int64
		m := srvMiddleware(t)
		with := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ran.Add(1)
			fmt.Fprint(w, "done")
		})
		one, other := m.Handler(h), with.Handler(h)
		var turn atomic.Int64
		host := srvServe(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if turn.Add(1)%2 == 0 {
				one.ServeHTTP(w, r)
			} else {
				other.ServeHTTP(w, r)
			}
		}))
		for range 2 {
			ran.Store(0)
			x := srvTurn("POST", "/")
			rec := x.recorded(t, []byte("hello"))
			answers := make([]*srvAnswer, n)
			var wg sync.WaitGroup
			for i := range answers {
				wg.Go(func() { answers[i] = rec.send(t, host, nil) })
			}
			wg.Wait()
			done, replayed := 0, 0
			for _, a := range answers {
				switch got := x.open(t, a); {
				case got.status == 200 && string(got.body) == "done":
					done++
				case got.status == 409 && got.code == sealhttp.CodeReplayed:
					replayed++
				}
			}
			if done != 1 || replayed != n-1 || ran.Load() != 1 {
				t.Errorf("%s: %d were executed, %d replayed, the handler ran %d times", proto, done, replayed, ran.Load())
			}
		}
	}
}

// A request that was executed is never said to be stale, or not to bind what it must,
// once the time has come or the options have changed.
func TestServerExchangeHopHeldBack(t *testing.T) {
	guard := new(srvGuard)
	base := srvMiddleware(t, sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	ran := 0
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })
	var current srvSwap
	host := srvServe(t, "HTTP/2.0", &current)
	x := srvTurn("POST", "/")
	x.ts -= 5
	rec := x.recorded(t, []byte("hello"))
	current.set(base.Handler(h))
	x.open(t, rec.send(t, host, nil))
	for name, opt := range map[string]sealhttp.Option{
		"stale": sealhttp.WithReplayWindow(2 * time.Second), "binding_required": sealhttp.WithBoundHeaders("x-new"),
	} {
		m := sealhttp.Must(base.With(opt))
		current.set(m.Handler(h))
		t.Run(name, func(t *testing.T) {
			x.refused(t, rec.send(t, host, nil), sealhttp.CodeReplayed, 409, srvCallerKey)
			unknown := srvTurn("POST", "/")
			unknown.ts -= 5
			unknown.refused(t, unknown.recorded(t, []byte("hello")).send(t, host, nil), sealhttp.Code(name), 400, srvCallerKey)
		})
	}
	if ran != 1 {
		t.Errorf("the handler ran %d times", ran)
	}
}

// A response is that of its request, and of no other: not of one to the same target with
// the same id, either.
func TestServerExchangeHopSwapsResponses(t *testing.T) {
	for _, keys := range []*seal.PrivateKey{nil, srvCallerKey} {
		m, err := sealhttp.New(srvKeys(srvKey))
		srvCheck(t, err)
		if keys != nil {
			m = sealhttp.Must(m.With(srvClientKeys(keys.Public())))
		}
		host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })))
		a, b := srvTurn("GET", "/"), srvTurn("GET", "/")
		toA, toB := host.do(t, a.request(t, host, nil)), host.do(t, b.request(t, host, nil))
		a.openAs(t, toA, keys)
		b.openAs(t, toB, keys)
		if _, err := a.openWith(toB, keys); err == nil {
			t.Error("the response to B opens for A")
		}
		if _, err := b.openWith(toA, keys); err == nil {
			t.Error("the response to A opens for B")
		}
		// An earlier answer to the same request does not stand in for a later one's body.
		again := host.do(t, a.request(t, host, nil))
		mixed := *again
		mixed.body = toA.body
		if got, err := a.openWith(&mixed, keys); err != nil || got.err == nil {
			t.Errorf("a mixed response: %v, %+v", err, got)
		}
	}
}

// Accept, and all else that a hop may edit, changes nothing of how an exchange is
// answered; and messages on the same route are answered as ever.
func TestServerExchangeHopEditsAccept(t *testing.T) {
	for _, proto := range srvProtos {
		var saw []string
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			saw = r.Header["Accept"]
			fmt.Fprint(w, "done")
		})))
		for _, accept := range []string{
			"", "*/*", sealhttp.MediaType, sealhttp.MediaType + ";q=0", sealhttp.ExchangeMediaType + ";q=0", "text/html", "application/json, " + sealhttp.MediaType, "junk;;q=x",
		} {
			x := srvTurn("GET", "/")
			req := x.request(t, host, nil)
			if accept != "" {
				req.Header.Set("Accept", accept)
			}
			got := x.open(t, host.do(t, req))
			if got.status != 200 || string(got.body) != "done" || got.contentType != "text/plain; charset=utf-8" {
				t.Errorf("%s, Accept: %s: %d %q", proto, accept, got.status, got.body)
			}
			if strings.Contains(fmt.Sprint(saw), "hpke") {
				t.Errorf("%s: the handler sees Accept %q", proto, saw)
			}
		}
		if got := host.call(t, "POST", "/", []byte("hello")).open(t, "POST"); string(got.body) != "done" {
			t.Errorf("%s: a message: %q", proto, got.body)
		}
		// What nobody can stop but a policy: without the fields it is a call in plaintext.
		x := srvTurn("GET", "/")
		req := x.request(t, host, nil)
		delete(req.Header, "Sealed-Exchange")
		if a := host.do(t, req); a.status != 200 || string(a.body) != "done" || a.header["Sealed-Exchange"] != nil {
			t.Errorf("%s: stripped: %d %q", proto, a.status, a.body)
		}
	}
}
