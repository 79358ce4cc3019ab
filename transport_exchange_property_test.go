package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// txWorld is a service, its callers, and a hop between them that does as it likes, in
// fake time and memory.
type txWorld struct {
	t *testing.T

	mu   sync.Mutex
	rand *rand.Rand

	handler  http.Handler
	keys     []*seal.PrivateKey // of the server, the newest last
	dropped  int                // how many of them the server holds no more
	caller   *seal.PrivateKey
	executed map[string]int // by the call's name
	late     sync.WaitGroup // deliveries that are to come
}

var errTxHop = errors.New("the connection broke")

func txNewWorld(t *testing.T, seed uint64) *txWorld {
	w := &txWorld{t: t, rand: rand.New(rand.NewPCG(seed, 1)), executed: map[string]int{}}
	w.keys, w.caller = []*seal.PrivateKey{trDefaultKey(t)}, trDefaultKey(t)
	guard, err := sealhttp.NewMemoryReplayGuard(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	serverKeys := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
		if w.one(50) {
			return nil, errTxHop
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		held := w.keys[w.dropped:]
		return seal.NewKeySet(held[len(held)-1], held[:len(held)-1]...)
	})
	clientKeys := sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
		switch {
		case w.one(30):
			return nil, errTxHop
		case r.Header.Get("Cookie") == "": // the hop has taken it
			return nil, sealhttp.ErrNoClientKey
		}
		return w.caller.Public(), nil
	})
	m := trMiddleware(t, serverKeys, sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithClientKeys(clientKeys),
		sealhttp.WithReplayGuard(&txGuard{guard, w}), sealhttp.WithMaxStreamBytes(1<<20))
	w.handler = m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.executed[r.URL.Path]++
		w.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		switch {
		case w.one(20):
			panic(http.ErrAbortHandler)
		case err == nil:
			fmt.Fprintf(rw, "%s with %d bytes", r.URL.Path, len(body))
		}
	}))
	return w
}

// one is true once in n times.
func (w *txWorld) one(n int) bool { return w.n(n) == 0 }

func (w *txWorld) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

func (w *txWorld) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.executed[name]
}

// txGuard fails now and then, before and after it has inserted.
type txGuard struct {
	sealhttp.ReplayGuard
	w *txWorld
}

func (g *txGuard) Insert(ctx context.Context, e sealhttp.ReplayEntry) error {
	switch g.w.n(40) {
	case 0:
		return errTxHop
	case 1:
		_ = g.ReplayGuard.Insert(ctx, e)
		return errTxHop
	}
	return g.ReplayGuard.Insert(ctx, e)
}

// rotate makes a new key, and drops an old one.
func (w *txWorld) rotate() {
	key := trDefaultKey(w.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, key)
	w.dropped = max(0, len(w.keys)-1-w.rand.IntN(2))
}

func (w *txWorld) newest() *seal.PublicKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.keys[len(w.keys)-1].Public()
}

// txPacket is a request as the hop has it.
type txPacket struct {
	req  *http.Request
	body []byte
}

// deliver gives a request to the service, as it is or changed.
func (w *txWorld) deliver(p txPacket, honest bool) (resp *http.Response, err error) {
	r := p.req.Clone(context.Background())
	r.RequestURI, r.RemoteAddr = p.req.URL.RequestURI(), "192.0.2.1:1"
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(p.body)), int64(len(p.body))
	if len(p.body) == 0 {
		r.Body = http.NoBody
	}
	if !honest {
		switch w.n(12) {
		case 0:
			r.ContentLength = 1 << 40 // refused before it is read
		case 1:
			r.Header.Del("Cookie")
		case 2:
			r.Body = io.NopCloser(bytes.NewReader(p.body[:w.n(len(p.body)+1)]))
		case 3:
			r.Header.Set("Sealed-Content-Type", "a/b")
		}
	}
	defer func() {
		if recover() != nil {
			resp, err = nil, errTxHop
		}
	}()
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// later delivers a request at some time, and throws the answer away.
func (w *txWorld) later(p txPacket) {
	w.late.Go(func() {
		for range 1 + w.n(3) {
			time.Sleep(time.Duration(w.n(1_200_000)) * time.Millisecond)
			_, _ = w.deliver(p, w.one(2))
		}
	})
}

// forge makes an answer of the hop's own.
func (w *txWorld) forge(req *http.Request) *http.Response {
	codes := [...]string{"", "unknown_key", "stale", "replayed", "too_large", "decryption_failed", "key_store_unavailable"}
	statuses := [...]int{200, 204, 307, 400, 409, 502, 503}
	h := http.Header{"Sealed-Error": {codes[w.n(len(codes))]}}
	return trAnswer(req, statuses[w.n(len(statuses))], h, io.NopCloser(strings.NewReader(`{"now":1}`)))
}

// RoundTrip is the hop, with a careless net/http in front.
func (w *txWorld) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); w.one(2) {
		trace.GetConn("")
		if w.one(4) {
			return nil, errTxHop // nothing was sent
		}
		trace.GotConn(httptrace.GotConnInfo{})
	}
	p := txPacket{req: req}
	if req.Body != nil {
		var err error
		if p.body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	if w.one(4) {
		time.Sleep(time.Duration(w.n(400_000)) * time.Millisecond)
	}
	if w.one(6) { // what net/http does when a connection turns out dead
		if w.one(2) {
			_, _ = w.deliver(p, true)
		}
		if req.Body != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			again, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(again, p.body) {
				w.t.Errorf("net/http was given %d other bytes of %d, %v", len(again), len(p.body), err)
			}
		}
	}
	if w.one(3) {
		w.later(p)
	}
	switch w.n(10) {
	case 0:
		return nil, errTxHop // kept, or lost
	case 1:
		return w.forge(req), nil
	case 2:
		_, _ = w.deliver(p, true)
		return nil, errTxHop
	case 3:
		_, _ = w.deliver(p, true)
		return w.forge(req), nil
	case 4:
		_, _ = w.deliver(p, true)
		return w.deliver(p, true)
	case 5:
		return w.deliver(p, false)
	}
	resp, err := w.deliver(p, true)
	if err == nil && w.one(10) {
		resp.StatusCode = 200 + w.n(300)
	}
	if w.one(8) {
		w.rotate()
	}
	return resp, err
}

// txTally counts how calls have ended, so that a test that tests nothing is seen.
type txTally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *txTally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

// txCalls is how many calls a schedule has at most.
const txCalls = 4

// Whatever a hop does, and wherever the caller's clock is: a call is executed at most
// once, and none that was executed, or is later, is said not to have been.
func TestExchangeAtMostOnce(t *testing.T) {
	schedules := uint64(10_000)
	if testing.Short() {
		schedules /= 10
	}
	start := rand.Uint64()
	t.Logf("the first seed is %d", start)
	tally := &txTally{n: map[string]int{}}
	var next atomic.Uint64
	t.Run("schedules", func(t *testing.T) {
		for range 2 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= schedules && !t.Failed(); n = next.Add(1) {
					synctest.Test(t, func(t *testing.T) { txSchedule(t, start+n, tally) })
					if t.Failed() {
						t.Logf("with the seed %d", start+n)
					}
				}
			})
		}
	})
	t.Log(tally.n)
	for _, what := range []string{"response", "not processed", "unknown, executed", "unknown, not executed", "refused, executed", "refused, not executed", "replayed, executed", "safe, twice"} {
		if tally.n[what] == 0 {
			t.Errorf("no call ended as %q", what)
		}
	}
}

func txSchedule(t *testing.T, seed uint64, tally *txTally) {
	w := txNewWorld(t, seed)
	time.Sleep(time.Hour) // so that no request was made before the guard's memory began
	cached := w.newest()
	source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
		if w.one(40) {
			return nil, errTxHop
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if refused != nil {
			cached = w.keys[len(w.keys)-1].Public()
		}
		return cached, nil
	})
	var base atomic.Pointer[http.RoundTripper]
	tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithPrivateKeys(w.caller),
		sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) { return (*base.Load()).RoundTrip(req) })))

	// The caller's clock is set wrong, through a service that says so: by up to 4:59, or
	// by more than the window.
	off := int64(w.n(2*299+1) - 299)
	if w.one(3) {
		off = int64(w.n(2*1800+1) - 1800)
	}
	var liar http.RoundTripper = txInMemory(t, &txServer{keys: w.keys, answers: []txHandler{func(rw http.ResponseWriter, q *txRequest) {
		if q != nil && q.x != nil {
			txAnswer{status: 400, code: "stale", caller: w.caller.Public(), body: fmt.Sprintf(`{"now":%d}`, time.Now().Unix()+off)}.write(rw, q)
		}
	}}})
	base.Store(&liar)
	_, _ = tr.RoundTrip(trRequest(t, "GET", "http://a.example/", nil))
	var hop http.RoundTripper = w
	base.Store(&hop)

	type call struct {
		name string
		safe bool
		err  error
	}
	calls := make([]call, 1)
	if w.one(4) { // one that shares its clock and its network with others
		calls = make([]call, txCalls)
	}
	var wg sync.WaitGroup
	for i := range calls {
		c := &calls[i]
		method := [...]string{"GET", "POST", "PUT", "DELETE", "POST"}[w.n(5)]
		c.name, c.safe = fmt.Sprint("/", i), method == "GET"
		size := [...]int{0, 5, 60_000, 200_000}[w.n(4)]
		known, getBody, delay := w.one(2), w.one(2), time.Duration(w.n(2000))*time.Millisecond
		wg.Go(func() {
			time.Sleep(delay)
			text := strings.Repeat("x", size)
			req := trRequest(t, method, "http://a.example"+c.name, nil)
			req.Header.Set("Cookie", "a=b")
			if size > 0 || !known {
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(text)), -1
				if known {
					req.ContentLength = int64(size)
				}
				if getBody {
					req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
				}
			}
			resp, err := tr.RoundTrip(req)
			if c.err = err; err != nil {
				return
			}
			if _, ok := sealhttp.FromResponse(resp); !ok || resp.StatusCode != 200 {
				t.Errorf("%s: a response that nothing authenticates, %d", c.name, resp.StatusCode)
			}
			body, err := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("%s with %d bytes", c.name, size); err == nil && string(body) != want {
				t.Errorf("%s: got %q, want %q", c.name, body, want)
			}
			if w.count(c.name) == 0 {
				t.Errorf("%s: a response, and the handler has not run", c.name)
			}
			_ = resp.Body.Close()
		})
	}
	wg.Wait()
	if w.one(2) {
		w.rotate()
	}
	w.late.Wait()

	for _, c := range calls {
		n := w.count(c.name)
		most := 1
		if c.safe { // under two ids
			most = 2
		}
		if n > most {
			t.Errorf("%s was executed %d times (safe: %t, %v)", c.name, n, c.safe, c.err)
		}
		done := map[bool]string{true: "executed", false: "not executed"}[n > 0]
		switch {
		case c.err == nil:
			tally.add("response")
		case errors.Is(c.err, sealhttp.ErrNotProcessed):
			tally.add("not processed")
			if n > 0 || errors.Is(c.err, sealhttp.ErrOutcomeUnknown) {
				t.Errorf("%s: %v, executed %d times", c.name, c.err, n)
			}
		case !errors.Is(c.err, sealhttp.ErrOutcomeUnknown):
			t.Errorf("%s: %v says nothing of its outcome", c.name, c.err)
		case errors.Is(c.err, sealhttp.ErrRefused):
			tally.add("refused, " + done)
		case errors.Is(c.err, sealhttp.CodeReplayed) && !errors.Is(c.err, sealhttp.ErrUnauthenticated):
			tally.add("replayed, " + done)
		default:
			tally.add("unknown, " + done)
		}
		if n > 1 {
			tally.add("safe, twice")
		}
	}
}
