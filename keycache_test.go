package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

var _ sealhttp.ClientKeys = (*sealhttp.ClientKeyCache)(nil)

// cacheRequest is a request of an account.
func cacheRequest(ctx context.Context, account string) *http.Request {
	return httptest.NewRequest("GET", "/", nil).WithContext(sealhttp.ContextWithAccount(ctx, account))
}

// cacheStore is where callers' keys are looked up. It counts.
type cacheStore struct {
	mu   sync.Mutex
	keys map[string]*seal.PublicKey
	err  error // in place of any key
	asks map[string]int
}

func (s *cacheStore) lookup(_ context.Context, account string) (*seal.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asks == nil {
		s.asks = make(map[string]int)
	}
	s.asks[account]++
	if s.err != nil {
		return nil, s.err
	}
	return s.keys[account], nil
}

func (s *cacheStore) set(account string, key *seal.PublicKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[account], s.err = key, err
}

// asked returns how often an account was looked up since the last time.
func (s *cacheStore) asked(account string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asks[account]
	delete(s.asks, account)
	return n
}

// cacheKey asks the cache, and compares what it gets.
func cacheKey(t *testing.T, c *sealhttp.ClientKeyCache, account string, want *seal.PublicKey, wantErr error) {
	t.Helper()
	key, err := c.ClientKey(cacheRequest(t.Context(), account))
	if key != want || !errors.Is(err, wantErr) {
		t.Errorf("account %q: got %v, %v; want %v, %v", account, key, err, want, wantErr)
	}
}

func cacheAsked(t *testing.T, s *cacheStore, account string, want int) {
	t.Helper()
	if got := s.asked(account); got != want {
		t.Errorf("account %q was looked up %d times, want %d", account, got, want)
	}
}

func TestCacheAccount(t *testing.T) {
	a := negoKey().Public()
	s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a}}

	// Without a function the account is the one in the context.
	c := sealhttp.CacheClientKeys(nil, s.lookup)
	cacheKey(t, c, "a", a, nil)
	cacheAsked(t, s, "a", 1)
	cacheKey(t, c, "", nil, sealhttp.ErrNoClientKey)
	cacheAsked(t, s, "", 0)
	if _, err := c.ClientKey(httptest.NewRequest("GET", "/", nil)); !errors.Is(err, sealhttp.ErrNoClientKey) {
		t.Errorf("without an account in the context: %v", err)
	}
	cacheAsked(t, s, "", 0)

	// With one, it is what that says.
	c = sealhttp.CacheClientKeys(func(r *http.Request) string { return r.Header.Get("X-Account") }, s.lookup)
	r := cacheRequest(t.Context(), "b")
	r.Header.Set("X-Account", "a")
	if key, err := c.ClientKey(r); key != a || err != nil {
		t.Errorf("got %v, %v", key, err)
	}
	cacheAsked(t, s, "a", 1)
	cacheAsked(t, s, "b", 0)
	cacheKey(t, c, "a", nil, sealhttp.ErrNoClientKey)
	cacheAsked(t, s, "a", 0)
}

func TestCacheTimes(t *testing.T) {
	a, b := negoKey().Public(), negoKey().Public()
	for _, tt := range []struct {
		name         string
		ttl, noKey   time.Duration // as they are to work
		opts         []sealhttp.CacheOption
		keptNot      bool
		keptNotNoKey bool
	}{
		{name: "defaults", ttl: time.Minute, noKey: 5 * time.Second},
		{"set", time.Hour, time.Second, []sealhttp.CacheOption{sealhttp.WithCacheTTL(time.Hour), sealhttp.WithCacheNoKeyTTL(time.Second)}, false, false},
		{"long", 200 * 365 * 24 * time.Hour, time.Minute, []sealhttp.CacheOption{sealhttp.WithCacheTTL(200 * 365 * 24 * time.Hour), sealhttp.WithCacheNoKeyTTL(time.Minute)}, false, false},
		{"keep no key", 0, time.Minute, []sealhttp.CacheOption{sealhttp.WithCacheTTL(0), sealhttp.WithCacheNoKeyTTL(time.Minute)}, true, false},
		{"negative", 0, 0, []sealhttp.CacheOption{sealhttp.WithCacheTTL(-time.Hour), sealhttp.WithCacheNoKeyTTL(-1)}, true, true},
		{"keep no absence", time.Minute, 0, []sealhttp.CacheOption{sealhttp.WithCacheNoKeyTTL(0)}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a}}
				c := sealhttp.CacheClientKeys(nil, s.lookup, tt.opts...)
				cacheKey(t, c, "a", a, nil)
				cacheAsked(t, s, "a", 1)
				s.set("a", b, nil) // replaced
				if tt.keptNot {
					cacheKey(t, c, "a", b, nil)
					cacheAsked(t, s, "a", 1)
				} else {
					// Being asked for does not prolong it.
					time.Sleep(tt.ttl / 2)
					cacheKey(t, c, "a", a, nil)
					time.Sleep(tt.ttl/2 - 1)
					cacheKey(t, c, "a", a, nil)
					cacheAsked(t, s, "a", 0)
					time.Sleep(time.Nanosecond)
					cacheKey(t, c, "a", b, nil)
					cacheAsked(t, s, "a", 1)
				}

				cacheKey(t, c, "none", nil, sealhttp.ErrNoClientKey)
				cacheAsked(t, s, "none", 1)
				s.set("none", a, nil) // registered
				if !tt.keptNotNoKey {
					time.Sleep(tt.noKey - 1)
					cacheKey(t, c, "none", nil, sealhttp.ErrNoClientKey)
					cacheAsked(t, s, "none", 0)
					time.Sleep(time.Nanosecond)
				}
				cacheKey(t, c, "none", a, nil)
				cacheAsked(t, s, "none", 1)
			})
		})
	}
}

// TestCacheNoKey: whichever way lookup says that there is no key, it is remembered,
// and the caller gets ErrNoClientKey.
func TestCacheNoKey(t *testing.T) {
	for _, err := range []error{nil, sealhttp.ErrNoClientKey, fmt.Errorf("account gone: %w", sealhttp.ErrNoClientKey)} {
		n := 0
		c := sealhttp.CacheClientKeys(nil, func(context.Context, string) (*seal.PublicKey, error) {
			n++
			return nil, err
		})
		for range 3 {
			cacheKey(t, c, "a", nil, sealhttp.ErrNoClientKey)
		}
		if n != 1 {
			t.Errorf("%v: looked up %d times", err, n)
		}
	}

	// A key beside the error is none.
	c := sealhttp.CacheClientKeys(nil, func(context.Context, string) (*seal.PublicKey, error) {
		return negoCallerKey.Public(), sealhttp.ErrNoClientKey
	})
	for range 2 {
		if _, err := c.ClientKey(cacheRequest(t.Context(), "a")); !errors.Is(err, sealhttp.ErrNoClientKey) {
			t.Errorf("got %v", err)
		}
	}
}

func TestCacheErrors(t *testing.T) {
	a := negoKey().Public()
	errDown := errors.New("down")
	s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a}, err: errDown}
	c := sealhttp.CacheClientKeys(nil, s.lookup)
	for range 3 {
		cacheKey(t, c, "a", nil, errDown)
		cacheAsked(t, s, "a", 1)
	}
	if _, err := c.ClientKey(cacheRequest(t.Context(), "a")); errors.Is(err, sealhttp.ErrNoClientKey) {
		t.Error("an error counts as no key")
	}
	cacheAsked(t, s, "a", 1)
	s.set("a", a, nil)
	cacheKey(t, c, "a", a, nil)
	cacheAsked(t, s, "a", 1)
	s.set("a", a, errDown) // what is remembered lives on
	cacheKey(t, c, "a", a, nil)
	cacheAsked(t, s, "a", 0)
}

func TestCacheForget(t *testing.T) {
	a, b := negoKey().Public(), negoKey().Public()
	s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a, "b": b}}
	c := sealhttp.CacheClientKeys(nil, s.lookup)
	c.Forget("a") // nothing is remembered yet
	cacheKey(t, c, "a", a, nil)
	cacheKey(t, c, "b", b, nil)
	cacheKey(t, c, "none", nil, sealhttp.ErrNoClientKey)
	for _, account := range []string{"a", "b", "none"} {
		cacheAsked(t, s, account, 1)
	}

	s.set("a", b, nil)
	c.Forget("a")
	cacheKey(t, c, "a", b, nil)
	cacheAsked(t, s, "a", 1)
	cacheKey(t, c, "b", b, nil)
	cacheAsked(t, s, "b", 0)

	s.set("none", a, nil)
	c.Forget("none")
	cacheKey(t, c, "none", a, nil)
	cacheAsked(t, s, "none", 1)
}

// cacheFlights is a lookup whose calls are answered by the test.
type cacheFlights struct {
	calls chan *cacheFlight
}

type cacheFlight struct {
	ctx     context.Context
	account string
	answer  chan func() (*seal.PublicKey, error)
}

func newCacheFlights() *cacheFlights { return &cacheFlights{make(chan *cacheFlight, 1000)} }

func (l *cacheFlights) lookup(ctx context.Context, account string) (*seal.PublicKey, error) {
	f := &cacheFlight{ctx, account, make(chan func() (*seal.PublicKey, error), 1)}
	l.calls <- f
	return (<-f.answer)()
}

// next returns the next call of lookup, nil if nobody has called.
func (l *cacheFlights) next() *cacheFlight {
	synctest.Wait()
	select {
	case f := <-l.calls:
		return f
	default:
		return nil
	}
}

func (f *cacheFlight) returns(key *seal.PublicKey, err error) {
	f.answer <- func() (*seal.PublicKey, error) { return key, err }
}

// cacheCaller is a call of ClientKey in a goroutine of its own.
type cacheCaller struct {
	done     chan struct{} // closed when the fields below are set
	key      *seal.PublicKey
	err      error
	panicked any
}

func cacheCall(ctx context.Context, c *sealhttp.ClientKeyCache, account string) *cacheCaller {
	caller := &cacheCaller{done: make(chan struct{})}
	go func() {
		defer close(caller.done)
		defer func() { caller.panicked = recover() }()
		caller.key, caller.err = c.ClientKey(cacheRequest(ctx, account))
	}()
	return caller
}

// returned reports whether a call has come to its end.
func (c *cacheCaller) returned() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// got checks what a call has come to.
func (c *cacheCaller) got(t *testing.T, key *seal.PublicKey, err error) {
	t.Helper()
	if !c.returned() {
		t.Errorf("still waits; want %v, %v", key, err)
	} else if c.panicked != nil || c.key != key || !errors.Is(c.err, err) {
		t.Errorf("got %+v; want %v, %v", *c, key, err)
	}
}

func (c *cacheCaller) waits(t *testing.T) {
	t.Helper()
	if c.returned() {
		t.Errorf("did not wait: %+v", *c)
	}
}

// TestCacheMissesShare: callers who miss at the same time share one lookup.
func TestCacheMissesShare(t *testing.T) {
	a := negoKey().Public()
	errDown := errors.New("down")
	for _, tt := range []struct {
		name   string
		answer *seal.PublicKey
		err    error
		want   error
		again  bool // the next caller asks again
	}{
		{"a key", a, nil, nil, false},
		{"no key", nil, nil, sealhttp.ErrNoClientKey, false},
		{"no key, as an error", nil, fmt.Errorf("none: %w", sealhttp.ErrNoClientKey), sealhttp.ErrNoClientKey, false},
		{"an error", nil, errDown, errDown, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newCacheFlights()
				c := sealhttp.CacheClientKeys(nil, l.lookup)
				var callers []*cacheCaller
				for range 1000 {
					callers = append(callers, cacheCall(t.Context(), c, "a"))
				}
				other := cacheCall(t.Context(), c, "b")
				flights := map[string]*cacheFlight{}
				for range 2 {
					f := l.next()
					flights[f.account] = f
				}
				if f := l.next(); f != nil {
					t.Fatalf("%q was asked for twice", f.account)
				}
				for _, caller := range callers {
					caller.waits(t)
				}
				flights["b"].returns(nil, nil) // accounts do not wait for each other
				other.got(t, nil, sealhttp.ErrNoClientKey)
				callers[0].waits(t)
				flights["a"].returns(tt.answer, tt.err)
				for _, caller := range callers {
					caller.got(t, tt.answer, tt.want)
				}
				late := cacheCall(t.Context(), c, "a")
				f := l.next()
				if (f != nil) != tt.again {
					t.Fatalf("the next caller asked again: %v", f != nil)
				}
				if f != nil {
					f.returns(a, nil)
					late.got(t, a, nil)
				} else {
					late.got(t, tt.answer, tt.want)
				}
			})
		})
	}
}

// TestCacheMissesShareInParallel is the same with the scheduler's own timing.
func TestCacheMissesShareInParallel(t *testing.T) {
	a := negoKey().Public()
	var asks atomic.Int32
	release := make(chan struct{})
	c := sealhttp.CacheClientKeys(nil, func(context.Context, string) (*seal.PublicKey, error) {
		asks.Add(1)
		<-release
		return a, nil
	})
	var wg sync.WaitGroup
	var wrong atomic.Int32
	for i := range 1000 {
		wg.Go(func() {
			if i == 500 {
				close(release)
			}
			if key, err := c.ClientKey(cacheRequest(t.Context(), "a")); key != a || err != nil {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if asks.Load() != 1 || wrong.Load() != 0 {
		t.Errorf("%d lookups, %d wrong answers", asks.Load(), wrong.Load())
	}
}

// TestCacheCallersGiveUp: one that gives up does not take the others' answer along;
// the last one does, and who comes then asks anew.
func TestCacheCallersGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, old := negoKey().Public(), negoKey().Public()
		errGone := errors.New("gone")
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup)
		var callers [3]*cacheCaller
		var cancel [3]context.CancelFunc
		for i := range callers {
			ctx, stop := context.WithCancel(t.Context())
			callers[i], cancel[i] = cacheCall(ctx, c, "a"), stop
			synctest.Wait() // the first one's context is the lookup's
		}
		f := l.next()
		cancel[0]()
		callers[0].got(t, nil, context.Canceled)
		callers[1].waits(t)
		if f.ctx.Err() != nil {
			t.Fatal("the first caller's end ended the lookup")
		}
		late := cacheCall(t.Context(), c, "a") // joins
		if l.next() != nil {
			t.Fatal("a second lookup while one is under way")
		}
		f.returns(a, nil)
		for _, caller := range []*cacheCaller{callers[1], callers[2], late} {
			caller.got(t, a, nil)
		}
		cancel[1]()
		cancel[2]()

		// All give up.
		c.Forget("a")
		for i := range callers {
			ctx, stop := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
			defer stop()
			callers[i] = cacheCall(ctx, c, "a")
		}
		f = l.next()
		time.Sleep(2 * time.Second)
		callers[0].got(t, nil, context.DeadlineExceeded)
		callers[1].got(t, nil, context.DeadlineExceeded)
		callers[2].waits(t)
		if f.ctx.Err() != nil {
			t.Fatal("the lookup ended while somebody waits")
		}
		time.Sleep(time.Second)
		callers[2].got(t, nil, context.DeadlineExceeded)
		if f.ctx.Err() != context.Canceled {
			t.Errorf("the last caller is gone, and the lookup's context has %v", f.ctx.Err())
		}

		// Who comes now must not wait for the cancelled one, nor believe it.
		next := cacheCall(t.Context(), c, "a")
		f2 := l.next()
		if f2 == nil {
			t.Fatal("the next caller waits for a cancelled lookup")
		}
		f.returns(old, nil)
		next.waits(t)
		f2.returns(a, nil)
		next.got(t, a, nil)
		cacheKey(t, c, "a", a, nil)

		// A cancelled lookup that fails leaves no trace either.
		c.Forget("a")
		ctx, stop := context.WithCancelCause(t.Context())
		only := cacheCall(ctx, c, "a")
		f = l.next()
		stop(errGone)
		only.got(t, nil, context.Canceled)
		f.returns(nil, nil)
		again := cacheCall(t.Context(), c, "a")
		l.next().returns(a, nil)
		again.got(t, a, nil)
	})
}

// TestCacheEndedCaller: a caller whose context has ended already gets no key that
// is still to be looked up, but may have one that is there.
func TestCacheEndedCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cacheCall(ctx, c, "a").got(t, nil, context.Canceled)
		f := l.next()
		if f.ctx.Err() == nil {
			t.Error("a lookup for nobody goes on")
		}
		f.returns(nil, f.ctx.Err())

		live := cacheCall(t.Context(), c, "a")
		l.next().returns(negoCallerKey.Public(), nil)
		live.got(t, negoCallerKey.Public(), nil)
		cacheCall(ctx, c, "a").got(t, negoCallerKey.Public(), nil)
	})
}

// TestCacheForgetUnderWay: what a lookup under way finds is not remembered, and who
// comes after Forget does not wait for it.
func TestCacheForgetUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, current := negoKey().Public(), negoKey().Public()
		for _, oldFirst := range []bool{true, false} {
			l := newCacheFlights()
			c := sealhttp.CacheClientKeys(nil, l.lookup)
			before := cacheCall(t.Context(), c, "a")
			f1 := l.next()
			c.Forget("a")
			after := cacheCall(t.Context(), c, "a")
			f2 := l.next()
			if f2 == nil {
				t.Fatal("after Forget the old lookup is waited for")
			}
			if oldFirst {
				f1.returns(old, nil)
				before.got(t, old, nil)
				after.waits(t)
				f2.returns(current, nil)
			} else {
				f2.returns(current, nil)
				after.got(t, current, nil)
				before.waits(t)
				f1.returns(old, nil)
			}
			before.got(t, old, nil)
			after.got(t, current, nil)
			cacheCall(t.Context(), c, "a").got(t, current, nil)

			// Nobody asks in between: nothing is remembered.
			c.Forget("a")
			before = cacheCall(t.Context(), c, "a")
			f1 = l.next()
			c.Forget("a")
			f1.returns(old, nil)
			before.got(t, old, nil)
			after = cacheCall(t.Context(), c, "a")
			l.next().returns(current, nil)
			after.got(t, current, nil)

			// One that waited for the forgotten lookup gives up: the new one is not its.
			c.Forget("a")
			ctx, cancel := context.WithCancel(t.Context())
			before = cacheCall(ctx, c, "a")
			f1 = l.next()
			c.Forget("a")
			after = cacheCall(t.Context(), c, "a")
			f2 = l.next()
			cancel()
			before.got(t, nil, context.Canceled)
			if f1.ctx.Err() == nil || f2.ctx.Err() != nil {
				t.Errorf("after the old caller is gone: %v, %v", f1.ctx.Err(), f2.ctx.Err())
			}
			joined := cacheCall(t.Context(), c, "a")
			if l.next() != nil {
				t.Error("the new lookup is not shared any more")
			}
			f1.returns(nil, nil)
			f2.returns(current, nil)
			after.got(t, current, nil)
			joined.got(t, current, nil)
		}
	})
}

// TestCacheBound: of more accounts than it may hold, the least recently used go.
func TestCacheBound(t *testing.T) {
	for _, tt := range []struct {
		size int
		ask  string // accounts, in order
		kept string // those that are then answered from memory, in the order of asking
		gone string
	}{
		{3, "abc", "abc", ""},
		{3, "abcd", "bcd", "a"},
		{3, "abcad", "cad", "b"},  // a was used again
		{3, "abcaad", "cad", "b"}, // however often
		{3, "abbbbb", "ab", ""},   // an account counts once
		{1, "ab", "b", "a"},
		{0, "ab", "b", "a"}, // less than one is one
		{-5, "ab", "b", "a"},
		{3, "a?b!", "?b!", "a"}, // no key is an entry too
	} {
		keys := map[string]*seal.PublicKey{}
		for _, account := range "abcd" {
			keys[string(account)] = negoCallerKey.Public()
		}
		s := &cacheStore{keys: keys}
		c := sealhttp.CacheClientKeys(nil, s.lookup, sealhttp.WithCacheSize(tt.size))
		ask := func(accounts string) (asked string) {
			for _, account := range accounts {
				if _, err := c.ClientKey(cacheRequest(t.Context(), string(account))); err != nil && !errors.Is(err, sealhttp.ErrNoClientKey) {
					t.Fatal(err)
				}
				if s.asked(string(account)) > 0 {
					asked += string(account)
				}
			}
			return asked
		}
		ask(tt.ask)
		if got := ask(tt.kept); got != "" {
			t.Errorf("size %d, %s: %s were looked up again", tt.size, tt.ask, got)
		}
		if got := ask(tt.gone); got != tt.gone {
			t.Errorf("size %d, %s: only %q of %q were looked up again", tt.size, tt.ask, got, tt.gone)
		}
	}
}

// TestCacheBoundOfWhatIsNotKept: what is not believed for any time takes nobody's
// place.
func TestCacheBoundOfWhatIsNotKept(t *testing.T) {
	a := negoKey().Public()
	s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a}}
	c := sealhttp.CacheClientKeys(nil, s.lookup, sealhttp.WithCacheSize(2), sealhttp.WithCacheNoKeyTTL(0))
	cacheKey(t, c, "a", a, nil)
	cacheAsked(t, s, "a", 1)
	for i := range 10 {
		cacheKey(t, c, fmt.Sprint("nobody ", i), nil, sealhttp.ErrNoClientKey)
	}
	cacheKey(t, c, "a", a, nil)
	cacheAsked(t, s, "a", 0)
}

// TestCachePanics: a panic in lookup reaches every waiter, on the waiter's own
// goroutine, and nothing is remembered.
func TestCachePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup)
		for _, value := range []any{"a bug", errors.New("a bug"), http.ErrAbortHandler, nil} {
			var callers []*cacheCaller
			for range 10 {
				callers = append(callers, cacheCall(t.Context(), c, "a"))
			}
			f := l.next()
			f.answer <- func() (*seal.PublicKey, error) { panic(value) }
			synctest.Wait()
			for _, caller := range callers {
				text := "nil"
				if value != nil {
					text = fmt.Sprint(value)
				}
				if !caller.returned() || caller.panicked == nil || !strings.Contains(fmt.Sprint(caller.panicked), text) {
					t.Fatalf("panic(%v): got %+v", value, *caller)
				}
			}
			if f.ctx.Err() == nil {
				t.Errorf("panic(%v): the lookup's context was not ended", value)
			}
			again := cacheCall(t.Context(), c, "a")
			f = l.next()
			if f == nil {
				t.Fatalf("panic(%v) is remembered", value)
			}
			f.returns(negoCallerKey.Public(), nil)
			again.got(t, negoCallerKey.Public(), nil)
			c.Forget("a")
		}
	})
}

// TestCacheGoexit: a lookup that ends its goroutine, as t.FailNow in a test's does,
// leaves nobody waiting.
func TestCacheGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup)
		callers := []*cacheCaller{cacheCall(t.Context(), c, "a"), cacheCall(t.Context(), c, "a")}
		l.next().answer <- func() (*seal.PublicKey, error) {
			runtime.Goexit()
			return negoCallerKey.Public(), nil
		}
		synctest.Wait()
		for _, caller := range callers {
			if !caller.returned() || caller.panicked != nil || caller.key != nil || caller.err == nil || errors.Is(caller.err, sealhttp.ErrNoClientKey) {
				t.Errorf("got %+v", *caller)
			}
		}
		again := cacheCall(t.Context(), c, "a")
		l.next().returns(negoCallerKey.Public(), nil)
		again.got(t, negoCallerKey.Public(), nil)
	})
}

// TestCacheContext: the lookup has the values of the first caller's context, not
// its end.
func TestCacheContext(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup)
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "trace"), time.Second)
		defer cancel()
		first := cacheCall(ctx, c, "a")
		f := l.next()
		second := cacheCall(context.WithValue(t.Context(), key{}, "other"), c, "a")
		synctest.Wait()
		if got := f.ctx.Value(key{}); got != "trace" {
			t.Errorf("the lookup sees the value %v", got)
		}
		if got := sealhttp.Account(f.ctx); got != "a" {
			t.Errorf("the lookup sees the account %q", got)
		}
		if deadline, ok := f.ctx.Deadline(); ok {
			t.Errorf("the lookup has a deadline, %v", deadline)
		}
		time.Sleep(time.Minute)
		first.got(t, nil, context.DeadlineExceeded)
		if f.ctx.Err() != nil {
			t.Errorf("the lookup's context has ended: %v", f.ctx.Err())
		}
		f.returns(negoCallerKey.Public(), nil)
		second.got(t, negoCallerKey.Public(), nil)
		if f.ctx.Err() == nil {
			t.Error("the lookup's context is not ended after it")
		}
	})
}

// TestCacheTimeStartsWithTheAnswer: a slow lookup does not shorten what is kept.
func TestCacheTimeStartsWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newCacheFlights()
		c := sealhttp.CacheClientKeys(nil, l.lookup, sealhttp.WithCacheTTL(time.Minute))
		caller := cacheCall(t.Context(), c, "a")
		f := l.next()
		time.Sleep(time.Hour)
		f.returns(negoCallerKey.Public(), nil)
		caller.got(t, negoCallerKey.Public(), nil)
		time.Sleep(time.Minute - 1)
		cacheCall(t.Context(), c, "a").got(t, negoCallerKey.Public(), nil)
	})
}

// TestCacheInMiddleware: what the cache says is what the caller is told.
func TestCacheInMiddleware(t *testing.T) {
	a := negoCallerKey.Public()
	s := &cacheStore{keys: map[string]*seal.PublicKey{"a": a}}
	h := new(policyHandler)
	m := negoMiddleware(t, sealhttp.WithClientKeys(sealhttp.CacheClientKeys(nil, s.lookup))).Handler(h)
	call := func(account string) string {
		r := cacheRequest(t.Context(), account)
		r.Header.Set("Accept", sealhttp.MediaType)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		return fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error"))
	}
	for account, want := range map[string]string{"a": "202 ", "b": "406 no_client_key", "": "406 no_client_key"} {
		if got := call(account); got != want {
			t.Errorf("account %q: got %s, want %s", account, got, want)
		}
	}
	s.set("c", nil, errors.New("down"))
	if got, want := call("c"), "503 key_store_unavailable"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestCacheInParallel does everything at once, for the race detector. Whatever
// happens, nobody gets another's key.
func TestCacheInParallel(t *testing.T) {
	const accounts = 8
	var keys [accounts]*seal.PublicKey
	for i := range keys {
		keys[i] = negoKey().Public()
	}
	errDown := errors.New("down")
	c := sealhttp.CacheClientKeys(nil, func(ctx context.Context, account string) (*seal.PublicKey, error) {
		i := int(account[0] - 'a')
		switch rand.IntN(8) {
		case 0:
			return nil, errDown
		case 1:
			panic("a bug")
		case 2:
			runtime.Goexit()
		case 3:
			return nil, nil
		case 4:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		runtime.Gosched()
		return keys[i], nil
	}, sealhttp.WithCacheSize(accounts/2), sealhttp.WithCacheTTL(50*time.Microsecond), sealhttp.WithCacheNoKeyTTL(time.Microsecond))
	var wg sync.WaitGroup
	var found atomic.Int32
	for range 16 {
		wg.Go(func() {
			for range 300 {
				i := rand.IntN(accounts)
				account := string(rune('a' + i))
				if rand.IntN(10) == 0 {
					c.Forget(account)
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				func() {
					defer cancel()
					defer func() {
						if v := recover(); v != nil && !strings.Contains(fmt.Sprint(v), "a bug") {
							t.Errorf("panic: %v", v)
						}
					}()
					key, err := c.ClientKey(cacheRequest(ctx, account))
					switch {
					case err == nil && key == keys[i]:
						found.Add(1)
					case err == nil || key != nil:
						t.Errorf("account %s: got %v, %v", account, key, err)
					}
				}()
			}
		})
	}
	wg.Wait()
	if found.Load() == 0 {
		t.Error("no key was ever found")
	}
}
