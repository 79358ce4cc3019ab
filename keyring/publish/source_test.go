package publish_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// wantKey fails the test unless the source gives a key.
func wantKey(t testing.TB, s *publish.Source, refused, want *seal.PublicKey) {
	t.Helper()
	got, err := s.PublicKey(t.Context(), refused)
	check(t, err)
	if !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func (s *site) wantFetches(t testing.TB, want int64) {
	t.Helper()
	if got := s.fetches.Load(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

func TestOneFetchForAThousandCalls(t *testing.T) {
	keys := newRing(t)
	open := make(chan struct{})
	handler := newHandler(t, keys)
	s := newSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-open
		handler.ServeHTTP(w, r)
	}))
	url, client := s.start(t)
	source := newSource(t, url, client)

	var wg, called sync.WaitGroup
	called.Add(1000)
	for range 1000 {
		wg.Go(func() {
			called.Done()
			wantKey(t, source, nil, keys.primary())
		})
	}
	// Some give up; the others' fetch goes on.
	var givenUp sync.WaitGroup
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		givenUp.Go(func() {
			if _, err := source.PublicKey(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("a call that gives up: %v", err)
			}
		})
		cancel()
	}
	givenUp.Wait()
	called.Wait()
	close(open)
	wg.Wait()
	s.wantFetches(t, 1)

	// The same for a key that the server does not know any more.
	old := keys.primary()
	keys.revoke()
	for range 1000 {
		wg.Go(func() { wantKey(t, source, old, keys.primary()) })
	}
	wg.Wait()
	s.wantFetches(t, 2)
}

// Giving up ends a call and nothing else: not even the first one's fetch.
func TestTheFirstCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		s := newSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			handler.ServeHTTP(w, r)
		}))
		source := newSource(t, "http://"+service+"/keys", s.inMemory())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := source.PublicKey(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		wantKey(t, source, nil, keys.primary())
		if waited := time.Since(begun); waited != 5*time.Second {
			t.Errorf("waited %v, want what was left of the first fetch", waited)
		}
		s.wantFetches(t, 1)
	})
}

// A service that takes the connection and never answers costs 10 seconds, and no
// goroutine.
func TestFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		source := newSource(t, "http://"+service+"/keys", s.inMemory())
		begun := time.Now()
		_, err := source.PublicKey(t.Context(), nil)
		wantError(t, err, publish.ErrUnavailable)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("ended after %v", took)
		}
	}) // which fails if a goroutine is left
}

// Every bad document, over real HTTP: with nothing held it is the call's error, and
// what is held stays.
func TestSourceRefuses(t *testing.T) {
	key := newKey(t, seal.X25519AES256GCM).Public()
	good := sign(t, signer, 1, key)
	s := newSite(fixed(good))
	url, client := s.start(t)
	holding := newSource(t, url, client, publish.WithRefusedInterval(1))
	wantKey(t, holding, nil, key)
	for _, b := range badDocuments(t) {
		t.Run(b.name, func(t *testing.T) {
			s.serve(fixed(b.document))
			_, err := newSource(t, url, client).PublicKey(t.Context(), nil)
			wantError(t, err, b.is...)

			before := s.fetches.Load()
			_, err = holding.PublicKey(t.Context(), key)
			wantError(t, err, b.is...)
			s.wantFetches(t, before+1)
			wantKey(t, holding, nil, key)
		})
	}
}

// Answers that hold no key set, or not in the form that was asked for.
func TestSourceRefusesAnswers(t *testing.T) {
	key := newKey(t, seal.X25519AES256GCM).Public()
	good := sign(t, signer, 1, key)
	elsewhere := newSite(fixed(good))
	elsewhereURL, _ := elsewhere.start(t)
	with := func(status int, header ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", publish.MediaType)
			for i := 0; i < len(header); i += 2 {
				w.Header()[header[i]] = []string{header[i+1]}
			}
			w.WriteHeader(status)
			w.Write(good)
		})
	}
	for name, test := range map[string]struct {
		handler http.Handler
		is      error
	}{
		"301":                 {with(301, "Location", elsewhereURL), publish.ErrUnavailable},
		"302":                 {with(302, "Location", elsewhereURL), publish.ErrUnavailable},
		"303":                 {with(303, "Location", elsewhereURL), publish.ErrUnavailable},
		"307":                 {with(307, "Location", elsewhereURL), publish.ErrUnavailable},
		"308":                 {with(308, "Location", elsewhereURL), publish.ErrUnavailable},
		"201":                 {with(201), publish.ErrUnavailable},
		"206":                 {with(206), publish.ErrUnavailable},
		"404":                 {with(404), publish.ErrUnavailable},
		"500":                 {with(500), publish.ErrUnavailable},
		"no Content-Type":     {with(200, "Content-Type", ""), publish.ErrMalformed},
		"text/plain":          {with(200, "Content-Type", "text/plain"), publish.ErrMalformed},
		"application/jwt":     {with(200, "Content-Type", "application/jwt"), publish.ErrMalformed},
		"application/json":    {with(200, "Content-Type", "application/json"), publish.ErrMalformed},
		"gzip":                {with(200, "Content-Encoding", "gzip"), publish.ErrMalformed},
		"a cut answer":        {with(200, "Content-Length", fmt.Sprint(len(good)+1)), publish.ErrUnavailable},
		"a closed connection": {http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), publish.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			url, client := newSite(test.handler).start(t)
			_, err := newSource(t, url, client).PublicKey(t.Context(), nil)
			wantError(t, err, test.is)
			if strings.Contains(err.Error(), elsewhereURL) {
				t.Errorf("the error tells where to: %v", err)
			}
		})
	}
	elsewhere.wantFetches(t, 0)

	url, client := newSite(with(200, "Content-Type", "Application/Sealhttp-Keys+JWT; charset=utf-8")).start(t)
	wantKey(t, newSource(t, url, client), nil, key)
}

// A body that never ends is read no further than the limit.
func TestEndlessAnswer(t *testing.T) {
	var sent atomic.Int64
	gone := make(chan struct{})
	url, client := newSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", publish.MediaType)
		for {
			n, err := w.Write(make([]byte, 4096))
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	})).start(t)
	_, err := newSource(t, url, client).PublicKey(t.Context(), nil)
	wantError(t, err, publish.ErrMalformed)
	<-gone // the connection was closed on it
}

// What is asked, and how: nothing that a cache or a server could take for more.
func TestRequest(t *testing.T) {
	keys := newRing(t)
	handler := newHandler(t, keys)
	var requests []*http.Request
	s := newSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r)
		handler.ServeHTTP(w, r)
	}))
	source := newSource(t, "http://"+service+"/keys?a=b", s.inMemory())
	old := keys.primary()
	wantKey(t, source, nil, old)
	keys.revoke()
	wantKey(t, source, old, keys.primary())
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	for i, cacheControl := range []string{"", "no-cache"} {
		r := requests[i]
		if r.Method != "GET" || r.URL.String() != "http://"+service+"/keys?a=b" || r.Body != nil && r.Body != http.NoBody {
			t.Errorf("request %d: %s %s", i, r.Method, r.URL)
		}
		for name, want := range map[string]string{"Accept": publish.MediaType, "Accept-Encoding": "identity", "Cache-Control": cacheControl} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("request %d: %s %q, want %q", i, name, got, want)
			}
		}
	}
}

func TestRollback(t *testing.T) {
	a, b, c := newKey(t, seal.X25519AES256GCM).Public(), newKey(t, seal.X25519AES256GCM).Public(), newKey(t, seal.X25519AES256GCM).Public()
	held := func(t testing.TB, revision uint64) (*site, *publish.Source) {
		s := newSite(fixed(sign(t, signer, revision, b, a)))
		url, client := s.start(t)
		source := newSource(t, url, client)
		wantKey(t, source, nil, b)
		return s, source
	}
	for name, test := range map[string]struct {
		document []byte
		is       error
		want     *seal.PublicKey
	}{
		"older revision":                  {sign(t, signer, 4, a), publish.ErrRollback, b},
		"older revision, the same keys":   {sign(t, signer, 4, b, a), publish.ErrRollback, b},
		"same revision, another primary":  {sign(t, signer, 5, a, b), publish.ErrRollback, b},
		"same revision, a key more":       {sign(t, signer, 5, b, a, c), publish.ErrRollback, b},
		"same revision, a key less":       {sign(t, signer, 5, b), publish.ErrRollback, b},
		"same revision, the same keys":    {sign(t, signer, 5, b, a), nil, b},
		"newer revision":                  {sign(t, signer, 6, c, b), nil, c},
		"newer revision, the same keys":   {sign(t, signer, 6, b, a), nil, b},
		"much newer, and back to the old": {sign(t, signer, 1<<63, a), nil, a},
	} {
		t.Run(name, func(t *testing.T) {
			s, source := held(t, 5)
			s.serve(fixed(test.document))
			key, err := source.PublicKey(t.Context(), b)
			if test.is != nil {
				wantError(t, err, test.is, publish.ErrRefused)
			} else if check(t, err); !key.Equal(test.want) {
				t.Errorf("got %v, want %v", key, test.want)
			}
			wantKey(t, source, nil, test.want)
			s.wantFetches(t, 2)
		})
	}
}

// What was seen counts after it has expired, too.
func TestRollbackAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, seal.X25519AES256GCM).Public()
		s := newSite(fixed(sign(t, signer, 5, key)))
		source := newSource(t, "http://"+service, s.inMemory())
		wantKey(t, source, nil, key)
		time.Sleep(30 * 24 * time.Hour)
		s.serve(fixed(sign(t, signer, 4, key)))
		_, err := source.PublicKey(t.Context(), nil)
		wantError(t, err, publish.ErrRollback, publish.ErrExpired)
		s.serve(fixed(sign(t, signer, 5, key)))
		time.Sleep(time.Minute)
		wantKey(t, source, nil, key)
	})
}

// An older signature of the same keys, as a cache serves it, does not shorten what is
// held.
func TestOlderSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t, seal.X25519AES256GCM).Public()
		older := sign(t, signer, 5, key)
		time.Sleep(30 * time.Minute)
		s := newSite(fixed(sign(t, signer, 5, key)))
		source := newSource(t, "http://"+service, s.inMemory())
		set, err := source.Set(t.Context())
		check(t, err)
		s.serve(fixed(older))
		wantKey(t, source, key, key) // it has fetched
		s.wantFetches(t, 2)
		again, err := source.Set(t.Context())
		check(t, err)
		sameSet(t, again, *set)
		time.Sleep(59 * time.Minute) // past the older one's end
		wantKey(t, source, nil, key)
	})
}

// Through an outage calls go on until the set expires, and not a second longer. Nobody
// is hammered, and what comes back is found within a minute and a half.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		s := newSite(handler)
		source := newSource(t, "http://"+service, s.inMemory())
		set, err := source.Set(t.Context())
		check(t, err)
		key := keys.primary()
		s.serve(down)
		for time.Until(set.Expires) > time.Second {
			wantKey(t, source, nil, key)
			time.Sleep(time.Second)
		}
		// From 12 hours on at the latest it was tried, every half to one and a half
		// minutes.
		if n := s.fetches.Load(); n < 12*60/2 || n > 24*60*2 {
			t.Errorf("%d fetches in a day of outage", n)
		}
		time.Sleep(time.Second)
		before := s.fetches.Load()
		for range 10 {
			_, err = source.PublicKey(t.Context(), nil)
			wantError(t, err, publish.ErrExpired, publish.ErrUnavailable)
			_, err = source.PublicKey(t.Context(), key)
			wantError(t, err, publish.ErrExpired, publish.ErrUnavailable)
		}
		if n := s.fetches.Load() - before; n > 1 {
			t.Errorf("%d fetches for 20 calls in the same second", n)
		}
		s.serve(handler)
		time.Sleep(90 * time.Second)
		wantKey(t, source, nil, key)
	})
}

// At the start it is tried soon, and then less often.
func TestOutageAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		s := newSite(down)
		source := newSource(t, "http://"+service, s.inMemory())
		if set, err := source.Set(t.Context()); set != nil || !errors.Is(err, publish.ErrUnavailable) {
			t.Errorf("Set: %v, %v", set, err)
		}
		begun := time.Now()
		for time.Since(begun) < 10*time.Minute {
			_, err := source.PublicKey(t.Context(), nil)
			wantError(t, err, publish.ErrUnavailable)
			if errors.Is(err, publish.ErrExpired) {
				t.Fatalf("nothing could expire: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.fetches.Load(); n < 12 || n > 25 {
			t.Errorf("%d fetches in 10 minutes", n)
		}
		s.serve(newHandler(t, keys))
		time.Sleep(90 * time.Second)
		wantKey(t, source, nil, keys.primary())

		// After a success it begins anew.
		time.Sleep(12 * time.Hour)
		s.serve(down)
		before := s.fetches.Load()
		for range 2 {
			wantKey(t, source, nil, keys.primary())
			synctest.Wait()
			time.Sleep(1500 * time.Millisecond)
		}
		s.wantFetches(t, before+2)
	})
}

// However many calls find that a refresh is due, there is one, and none waits for it.
func TestOneRefreshInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		s := newSite(handler)
		source := newSource(t, "http://"+service, s.inMemory())
		old := keys.primary()
		wantKey(t, source, nil, old)
		time.Sleep(12 * time.Hour)
		keys.rotate()
		s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			handler.ServeHTTP(w, r)
		}))
		begun := time.Now()
		for range 1000 {
			wantKey(t, source, nil, old)
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("1000 calls waited %v", waited)
		}
		time.Sleep(6 * time.Second)
		wantKey(t, source, nil, keys.primary())
		s.wantFetches(t, 2)
	})
}

// A rotation reaches every caller that calls, in half a validity and a bit, without a
// call that waits. So many fetches a day that takes.
func TestFetchesPerDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, days = 100, 2
		keys := newRing(t)
		s := newSite(newHandler(t, keys))
		var sources []*publish.Source
		for range callers {
			sources = append(sources, newSource(t, "http://"+service, s.inMemory()))
		}
		var most int64
		call := func() (old int) {
			for _, source := range sources {
				begun := time.Now()
				key, err := source.PublicKey(t.Context(), nil)
				check(t, err)
				if waited := time.Since(begun); waited != 0 {
					t.Fatalf("a call waited %v", waited)
				}
				if !key.Equal(keys.primary()) {
					old++
				}
			}
			return old
		}
		call()
		s.wantFetches(t, callers)
		s.fetches.Store(0)
		for range days * 24 * 12 {
			before := s.fetches.Load()
			time.Sleep(5 * time.Minute)
			call()
			synctest.Wait()
			most = max(most, s.fetches.Load()-before)
		}
		perDay := float64(s.fetches.Load()) / callers / days
		t.Logf("%.2f fetches a day", perDay)
		if perDay < 2.2 || perDay > 3.2 {
			t.Errorf("%.2f fetches a day and caller", perDay)
		}
		if most > callers/5 { // that all began at the same moment must not show
			t.Errorf("%d of %d callers fetch within 5 minutes", most, callers)
		}

		keys.rotate()
		begun := time.Now()
		for old := call(); old > 0; old = call() {
			time.Sleep(5 * time.Minute)
			if time.Since(begun) > 12*time.Hour+10*time.Minute {
				t.Fatalf("after %v %d callers have the old key", time.Since(begun), old)
			}
		}
		t.Logf("the last caller changed over after %v", time.Since(begun))
	})
}

// With Run no call waits, however rare calls are, and it ends with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		var slow atomic.Bool
		s := newSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if slow.Load() {
				time.Sleep(8 * time.Second)
			}
			handler.ServeHTTP(w, r)
		}))
		source := newSource(t, "http://"+service, s.inMemory())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- source.Run(ctx) }()
		synctest.Wait()
		s.wantFetches(t, 1)
		slow.Store(true)
		for range 30 {
			time.Sleep(24 * time.Hour)
			keys.rotate()
			time.Sleep(13 * time.Hour)
			begun := time.Now()
			wantKey(t, source, nil, keys.primary())
			if waited := time.Since(begun); waited != 0 {
				t.Fatalf("a call waited %v", waited)
			}
		}
		if n := s.fetches.Load(); n < 30*37/12 || n > 30*37/5 {
			t.Errorf("%d fetches in 30 times 37 hours", n)
		}

		// In an outage it is not the one that hammers.
		s.serve(down)
		before := s.fetches.Load()
		time.Sleep(48 * time.Hour)
		if n := s.fetches.Load() - before; n < 36*60/2 || n > 48*60*2 {
			t.Errorf("%d fetches in two days of outage", n)
		}
		s.serve(handler)
		time.Sleep(90 * time.Second)
		wantKey(t, source, nil, keys.primary())

		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// Run ends at once while a fetch is under way, too.
func TestRunEndsInAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		source := newSource(t, "http://"+service, s.inMemory())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := source.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		time.Sleep(10 * time.Second) // which the fetch may still take
	})
}

// Short validities, as tests of whole systems have them, need no other settings.
func TestShortValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		s := newSite(newHandler(t, keys, publish.WithValidity(4*time.Second)))
		source := newSource(t, "http://"+service, s.inMemory())
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			_, err := source.PublicKey(t.Context(), nil)
			check(t, err)
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.fetches.Load(); n < 20 || n > 61 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

// The two pins, and the change from one signing key to the next.
func TestSigningKeyReplaced(t *testing.T) {
	keys := newRing(t)
	next := signerOf(2)
	by := func(s ed25519.PrivateKey) http.Handler {
		h, err := publish.NewHandler(keys, service, s, quiet)
		check(t, err)
		return h
	}
	s := newSite(by(signer))
	url, client := s.start(t)
	source := func(pins ...ed25519.PublicKey) *publish.Source {
		t.Helper()
		s, err := publish.NewSource(url, service, pins, client, quiet, publish.WithRefusedInterval(1))
		check(t, err)
		return s
	}
	old, both, after := source(pin), source(pin, pinOf(next)), source(pinOf(next))
	first := keys.primary()
	wantKey(t, old, nil, first)
	wantKey(t, both, nil, first)
	_, err := after.PublicKey(t.Context(), nil)
	wantError(t, err, publish.ErrUntrusted)

	s.serve(by(next))
	keys.revoke()
	_, err = old.PublicKey(t.Context(), first)
	wantError(t, err, publish.ErrUntrusted)
	wantKey(t, both, first, keys.primary())
	wantKey(t, source(pinOf(next)), nil, keys.primary())

	// What the old signer has signed is no way around the revision.
	second := keys.primary()
	s.serve(fixed(sign(t, signer, 1, first)))
	_, err = both.PublicKey(t.Context(), second)
	wantError(t, err, publish.ErrRollback)
	wantKey(t, both, nil, second)
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.jws")
	a, b := newKey(t, seal.X25519AES256GCM).Public(), newKey(t, seal.X25519AES256GCM).Public()
	s := newSite(fixed(sign(t, signer, 5, b, a)))
	url, client := s.start(t)
	start := func() *publish.Source {
		t.Helper()
		return newSource(t, url, client, publish.WithStateFile(path))
	}
	wantKey(t, start(), nil, b)
	s.wantFetches(t, 1)
	kept, err := os.ReadFile(path)
	check(t, err)
	if _, err := publish.Verify(kept, service, time.Now(), pin); err != nil {
		t.Errorf("what is kept: %v", err)
	}

	// A new process needs no fetch, not even an answer.
	s.serve(down)
	wantKey(t, start(), nil, b)
	s.wantFetches(t, 1)

	// It refuses what is older than what the last process has seen.
	s.serve(fixed(sign(t, signer, 4, a)))
	source := start()
	_, err = source.PublicKey(t.Context(), b)
	wantError(t, err, publish.ErrRollback)
	wantKey(t, source, nil, b)
	// Which one without the file does not.
	wantKey(t, newSource(t, url, client), nil, a)

	// A newer set is kept in turn.
	c := newKey(t, seal.X25519AES256GCM).Public()
	s.serve(fixed(sign(t, signer, 6, c, b)))
	wantKey(t, start(), b, c)
	s.serve(down)
	wantKey(t, start(), nil, c)
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("the folder has %v, %v", files, err)
	}
}

// Of a set that has expired the revision still counts.
func TestStateFileExpired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.jws")
	key := newKey(t, seal.X25519AES256GCM).Public()
	then := time.Now().Add(-48 * time.Hour)
	document, err := publish.Sign(signer, publish.Set{Name: service, Revision: 5, Issued: then, Expires: then.Add(time.Hour), Keys: []*seal.PublicKey{key}})
	check(t, err)
	check(t, os.WriteFile(path, document, 0o600))
	s := newSite(fixed(sign(t, signer, 4, key)))
	url, client := s.start(t)
	source := newSource(t, url, client, publish.WithStateFile(path))
	_, err = source.PublicKey(t.Context(), nil)
	wantError(t, err, publish.ErrRollback, publish.ErrExpired)
	s.wantFetches(t, 1)
}

// A program that starts every ten minutes and makes one call fetches as often as one that
// runs on.
func TestStateFileOfShortProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.jws")
		keys := newRing(t)
		s := newSite(newHandler(t, keys))
		const days = 3
		for range days * 24 * 6 {
			wantKey(t, newSource(t, "http://"+service, s.inMemory(), publish.WithStateFile(path)), nil, keys.primary())
			time.Sleep(10 * time.Minute)
		}
		// Each draws anew, so it is the earliest of many draws: a little over 6 hours.
		if n := s.fetches.Load(); n < days*2 || n > days*6 {
			t.Errorf("%d fetches in %d days", n, days)
		}
	})
}

// What is no key set of a pinned key counts as none; what cannot be read is said at
// once.
func TestStateFileDamaged(t *testing.T) {
	key := newKey(t, seal.X25519AES256GCM).Public()
	good := sign(t, signer, 5, key)
	s := newSite(fixed(good))
	url, client := s.start(t)
	for name, content := range map[string][]byte{
		"empty":          {},
		"cut":            good[:len(good)/2],
		"a flipped bit":  append([]byte{good[0] ^ 1}, good[1:]...),
		"another signer": sign(t, signerOf(2), 9, key),
		"large":          make([]byte, 1<<20),
	} {
		path := filepath.Join(t.TempDir(), "keys.jws")
		check(t, os.WriteFile(path, content, 0o600))
		before := s.fetches.Load()
		source := newSource(t, url, client, publish.WithStateFile(path))
		wantKey(t, source, nil, key)
		if s.fetches.Load() != before+1 {
			t.Errorf("%s: not fetched", name)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != string(good) {
			t.Errorf("%s: not replaced, %v", name, err)
		}
	}
	for name, path := range map[string]string{
		"a folder":                 t.TempDir(),
		"in a folder that is none": filepath.Join(t.TempDir(), "none", "keys.jws"),
	} {
		if _, err := publish.NewSource(url, service, pins, publish.WithStateFile(path)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A folder that is gone later costs no call.
	folder := filepath.Join(t.TempDir(), "gone")
	check(t, os.Mkdir(folder, 0o700))
	source := newSource(t, url, client, publish.WithStateFile(filepath.Join(folder, "keys.jws")))
	check(t, os.Remove(folder))
	wantKey(t, source, nil, key)
}

// Run keeps up with the shortest validity, too.
func TestRunWithTheShortestValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(newHandler(t, newRing(t), publish.WithValidity(2*time.Second)))
		source := newSource(t, "http://"+service, s.inMemory())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- source.Run(ctx) }()
		time.Sleep(30*time.Second + time.Second/4)
		for range 100 {
			begun := time.Now()
			set, err := source.Set(t.Context())
			check(t, err)
			if waited := time.Since(begun); waited != 0 {
				t.Fatalf("a call waited %v", waited)
			}
			if !time.Now().Before(set.Expires) {
				t.Fatal("a set that has expired")
			}
			time.Sleep(100 * time.Millisecond)
		}
		wantError(t, <-ended, context.DeadlineExceeded)
		if n := s.fetches.Load(); n < 30 || n > 61 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

// What Set returns is the caller's to change.
func TestSetIsACopy(t *testing.T) {
	keys := newRing(t)
	url, client := newSite(newHandler(t, keys)).start(t)
	source := newSource(t, url, client)
	set, err := source.Set(t.Context())
	check(t, err)
	if set.Name != service || set.Revision != 1 {
		t.Errorf("got %+v", set)
	}
	set.Keys[0], set.Revision, set.Expires = nil, 99, time.Time{}
	wantKey(t, source, nil, keys.primary())
}

// HTTPS alone: the plain keyset, over real TLS.
func TestInsecureHTTPSOnly(t *testing.T) {
	keys := newRing(t)
	s := newSite(newTinkHandler(t, keys))
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	server.StartTLS()
	defer server.Close()
	source, err := publish.NewInsecureHTTPSOnlySource(server.URL, publish.WithHTTPClient(server.Client()), quiet)
	check(t, err)
	first := keys.primary()
	wantKey(t, source, nil, first)
	keys.revoke()
	wantKey(t, source, first, keys.primary())
	s.wantFetches(t, 2)

	// A certificate that is not trusted is no HTTPS.
	strange, err := publish.NewInsecureHTTPSOnlySource(server.URL, quiet)
	check(t, err)
	_, err = strange.PublicKey(t.Context(), nil)
	wantError(t, err, publish.ErrUnavailable)
	s.wantFetches(t, 2)

	// Neither is a redirect to plain HTTP, or to anywhere.
	elsewhere := newSite(newTinkHandler(t, keys))
	elsewhereURL, _ := elsewhere.start(t)
	set, err := keys.ServerKeys(t.Context())
	check(t, err)
	private, err := tinkkeys.InsecureCleartextPrivate(set)
	check(t, err)
	plain, err := tinkkeys.Public(keys.primary())
	check(t, err)
	for name, test := range map[string]struct {
		handler http.Handler
		is      []error
	}{
		"redirect":       {http.RedirectHandler(elsewhereURL, http.StatusFound), []error{publish.ErrUnavailable}},
		"a private key":  {served("application/json", private), []error{publish.ErrMalformed, tinkkeys.ErrPrivateKey}},
		"not a keyset":   {served("application/json", []byte(`{"key":1}`)), []error{publish.ErrMalformed, tinkkeys.ErrKeyset}},
		"more than 64 K": {served("application/json", append(plain, bytes.Repeat([]byte(" "), publish.MaxSize)...)), []error{publish.ErrMalformed}},
		"a signed set":   {newHandler(t, keys), []error{publish.ErrMalformed}},
	} {
		s.serve(test.handler)
		fresh, err := publish.NewInsecureHTTPSOnlySource(server.URL, publish.WithHTTPClient(server.Client()), quiet)
		check(t, err)
		if _, err := fresh.PublicKey(t.Context(), nil); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			wantError(t, err, test.is...)
		}
	}
	elsewhere.wantFetches(t, 0)
}

func TestInsecureHTTPSOnlyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		s := newSite(newTinkHandler(t, keys))
		source, err := publish.NewInsecureHTTPSOnlySource("https://"+service, s.inMemory(), quiet)
		check(t, err)
		wantKey(t, source, nil, keys.primary())
		s.serve(down)
		time.Sleep(24*time.Hour - 1)
		wantKey(t, source, nil, keys.primary())
		time.Sleep(2 * time.Minute)
		_, err = source.PublicKey(t.Context(), nil)
		wantError(t, err, publish.ErrExpired, publish.ErrUnavailable)
	})
}

func TestSourceArguments(t *testing.T) {
	const url = "https://api.example.com/keys"
	signed := func(url string, opts ...publish.SourceOption) error {
		_, err := publish.NewSource(url, service, pins, opts...)
		return err
	}
	unsigned := func(url string, opts ...publish.SourceOption) error {
		_, err := publish.NewInsecureHTTPSOnlySource(url, opts...)
		return err
	}
	check(t, signed(url))
	check(t, unsigned(url))
	for name, err := range map[string]error{
		"no URL":               signed(""),
		"a path":               signed("/keys"),
		"no host":              signed("https:///keys"),
		"a file":               signed("file:///keys"),
		"no URL at all":        signed("https://%zz"),
		"a nil option":         signed(url, nil),
		"no client":            signed(url, publish.WithHTTPClient(nil)),
		"no logger":            signed(url, publish.WithLogger(nil)),
		"interval 0":           signed(url, publish.WithRefusedInterval(0)),
		"a negative interval":  signed(url, publish.WithRefusedInterval(-1)),
		"no file":              signed(url, publish.WithStateFile("")),
		"unsigned, plain HTTP": unsigned("http://api.example.com/keys"),
		"unsigned, no URL":     unsigned("https:"),
		"unsigned, kept":       unsigned(url, publish.WithStateFile(filepath.Join(t.TempDir(), "keys"))),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "publish: ") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

// Failures and changes are logged, once each, and hold nothing of a document.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		keys := newRing(t)
		handler := newHandler(t, keys)
		s := newSite(handler)
		source := newSource(t, "http://"+service, s.inMemory(), publish.WithRefusedInterval(1), publish.WithLogger(slog.New(slog.NewTextHandler(&b, nil))))
		want := func(parts ...string) {
			t.Helper()
			synctest.Wait()
			if lines := strings.Count(b.String(), "\n"); lines != min(len(parts), 1) {
				t.Errorf("%d lines: %s", lines, b.String())
			}
			for _, part := range parts {
				if !strings.Contains(b.String(), part) {
					t.Errorf("no %q in %s", part, b.String())
				}
			}
			b.Reset()
		}
		first := keys.primary()
		wantKey(t, source, nil, first)
		want()
		keys.revoke()
		wantKey(t, source, first, keys.primary())
		want("level=INFO", "revision=2", fmt.Sprintf("primary=%d", keys.primary().ID()))
		time.Sleep(time.Second)
		s.serve(down)
		_, err := source.PublicKey(t.Context(), keys.primary())
		wantError(t, err, publish.ErrUnavailable)
		want("level=WARN", "status 502", "failures=1", "revision=2", "expires=")
		time.Sleep(time.Second)
		document := forge(signerOf(2), goodHeader(t, signer).String(), goodPayload(t, first).String())
		s.serve(fixed(document))
		_, err = source.PublicKey(t.Context(), keys.primary())
		wantError(t, err, publish.ErrUntrusted)
		synctest.Wait()
		quotesNothing(t, errors.New(b.String()), document)
		want("level=WARN", "does not verify", "failures=2")
		time.Sleep(time.Second)
		s.serve(handler)
		wantKey(t, source, keys.primary(), keys.primary())
		want()
	})
}

// The client that is given stays as it is.
func TestClientIsNotChanged(t *testing.T) {
	client := &http.Client{Transport: newSite(newHandler(t, newRing(t)))}
	source := newSource(t, "http://"+service, publish.WithHTTPClient(client))
	_, err := source.PublicKey(t.Context(), nil)
	check(t, err)
	if client.CheckRedirect != nil {
		t.Error("CheckRedirect was set")
	}
}

// A transport that ends its goroutine takes nobody's answer along.
func TestTransportExits(t *testing.T) {
	source := newSource(t, "http://"+service, publish.WithHTTPClient(&http.Client{Transport: exits{}}))
	if _, err := source.PublicKey(t.Context(), nil); err == nil {
		t.Error("no error")
	}
}

type exits struct{}

func (exits) RoundTrip(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }
