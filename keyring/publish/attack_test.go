package publish_test

import (
	"crypto/ed25519"
	"errors"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
)

// liar answers every call as a server does that does not know the key.
var liar = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Sealed-Error", "unknown_key")
	w.WriteHeader(http.StatusBadRequest)
})

// call makes a sealed call and returns its error.
func call(t testing.TB, client *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("hello"))
	check(t, err)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode != 200 || string(body) != "hello" {
		t.Errorf("status %d, body %q", resp.StatusCode, body)
	}
	return nil
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	w.Write(body)
})

func sealing(t testing.TB, source *publish.Source, base http.RoundTripper) *http.Client {
	t.Helper()
	transport, err := sealhttp.NewTransport(source, sealhttp.WithBase(base))
	check(t, err)
	return &http.Client{Transport: transport}
}

// Whoever answers unknown_key to all calls makes callers fetch once a minute, however
// many calls there are.
func TestLiar(t *testing.T) {
	keys := newRing(t)
	publication := newSite(newHandler(t, keys))
	publicationURL, fetching := publication.start(t)
	api := newSite(liar)
	apiURL, _ := api.start(t)
	base := new(http.Transport)
	defer base.CloseIdleConnections()
	client := sealing(t, newSource(t, publicationURL, fetching), base)

	const callers, calls = 20, 10
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				if err := call(t, client, apiURL); !errors.Is(err, sealhttp.CodeUnknownKey) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	wg.Wait()
	publication.wantFetches(t, 1+1) // the first one, and one for all lies
	api.wantFetches(t, callers*calls)
}

// The same over hours, and what a real revocation meanwhile costs: it is found within
// one interval, which the lies cannot put off.
func TestLiarOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		m, err := sealhttp.New(keys)
		check(t, err)
		honest := m.Handler(echo)
		publication, api := newSite(newHandler(t, keys)), newSite(liar)
		client := sealing(t, newSource(t, "http://"+service, publication.inMemory()), api)
		for range 30 * 60 {
			if err := call(t, client, "http://"+service); !errors.Is(err, sealhttp.CodeUnknownKey) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(2 * time.Second)
		}
		if n := publication.fetches.Load(); n > 1+60 || n < 60*2/3 {
			t.Errorf("%d fetches in an hour", n)
		}

		api.serve(honest)
		check(t, call(t, client, "http://"+service)) // nothing was lost
		for range 10 {
			api.serve(liar)
			err := call(t, client, "http://"+service)
			wantError(t, err, sealhttp.CodeUnknownKey)
			api.serve(honest)
			keys.revoke()
			revoked := time.Now()
			for call(t, client, "http://"+service) != nil {
				time.Sleep(time.Second)
			}
			if took := time.Since(revoked); took > 91*time.Second {
				t.Errorf("found after %v", took)
			}
		}
	})
}

// The interval is an option.
func TestRefusedInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		s := newSite(newHandler(t, keys))
		source := newSource(t, "http://"+service, s.inMemory(), publish.WithRefusedInterval(10*time.Second))
		key := keys.primary()
		for range 60 {
			wantKey(t, source, key, key)
			time.Sleep(time.Second)
		}
		if n := s.fetches.Load(); n < 1+4 || n > 1+6 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

// A key that is refused after the set has changed costs no fetch.
func TestRefusedKeyIsNotThePrimary(t *testing.T) {
	keys := newRing(t)
	s := newSite(newHandler(t, keys))
	url, client := s.start(t)
	source := newSource(t, url, client)
	for range 100 {
		wantKey(t, source, newKey(t, seal.X25519AES256GCM).Public(), keys.primary())
	}
	s.wantFetches(t, 1)
}

// A fetch that was under way before the key was refused may bring the old set. It does
// not count as the answer.
func TestRefusedDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		s := newSite(handler)
		source := newSource(t, "http://"+service, s.inMemory())
		old := keys.primary()
		wantKey(t, source, nil, old)
		time.Sleep(12*time.Hour + time.Minute) // a refresh is due
		document := read(t, get(t, handler, "GET"))
		s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			fixed(document).ServeHTTP(w, r)
		}))
		wantKey(t, source, nil, old) // which starts it
		synctest.Wait()
		s.wantFetches(t, 2)
		keys.revoke()
		s.serve(handler)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { wantKey(t, source, old, keys.primary()) })
		}
		wg.Wait()
		s.wantFetches(t, 3)
	})
}

// A fetch for a refused key that fails says why.
func TestRefusedInAnOutage(t *testing.T) {
	keys := newRing(t)
	s := newSite(newHandler(t, keys))
	url, client := s.start(t)
	source := newSource(t, url, client)
	key := keys.primary()
	wantKey(t, source, nil, key)
	s.serve(down)
	_, err := source.PublicKey(t.Context(), key)
	wantError(t, err, publish.ErrUnavailable)
	wantKey(t, source, key, key) // until the interval is over
	wantKey(t, source, nil, key)
	s.wantFetches(t, 2)
}

// Who holds back the newer sets keeps a caller on the older one, and a new caller too,
// but no longer than the older one is valid.
func TestReplayEndsWithTheValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		handler := newHandler(t, keys)
		recorded := read(t, get(t, handler, "GET"))
		revoked := keys.primary()
		s := newSite(handler)
		source := newSource(t, "http://"+service, s.inMemory())
		wantKey(t, source, nil, revoked)
		keys.revoke()
		s.serve(fixed(recorded))
		begun := time.Now()
		for time.Since(begun) < 24*time.Hour {
			for _, source := range []*publish.Source{source, newSource(t, "http://"+service, s.inMemory())} {
				wantKey(t, source, nil, revoked)
			}
			time.Sleep(10 * time.Minute)
		}
		for _, source := range []*publish.Source{source, newSource(t, "http://"+service, s.inMemory())} {
			_, err := source.PublicKey(t.Context(), nil)
			wantError(t, err, publish.ErrExpired)
		}
		time.Sleep(2 * time.Minute)
		s.serve(handler)
		wantKey(t, source, nil, keys.primary())
	})
}

// Who has the signing key and the way to the callers makes them seal to a key of their
// own, and with the highest revision shuts the service's sets out. Callers that pin
// another key in its place, and start anew, are free of it; a state file is no
// obstacle.
func TestSigningKeyStolen(t *testing.T) {
	keys, theirs, next := newRing(t), newKey(t, seal.X25519AES256GCM).Public(), signerOf(2)
	s := newSite(newHandler(t, keys))
	url, client := s.start(t)
	state := publish.WithStateFile(filepath.Join(t.TempDir(), "keys.jws"))
	source := newSource(t, url, client, state, publish.WithRefusedInterval(1))
	wantKey(t, source, nil, keys.primary())

	s.serve(fixed(sign(t, signer, math.MaxUint64, theirs)))
	wantKey(t, source, keys.primary(), theirs)
	s.serve(newHandler(t, keys))
	_, err := source.PublicKey(t.Context(), theirs)
	wantError(t, err, publish.ErrRollback)
	wantKey(t, newSource(t, url, client, state), nil, theirs)

	handler, err := publish.NewHandler(keys, service, next, quiet)
	check(t, err)
	s.serve(handler)
	source, err = publish.NewSource(url, service, []ed25519.PublicKey{pinOf(next)}, client, state, quiet)
	check(t, err)
	wantKey(t, source, nil, keys.primary())
}

// Without a key set that is valid no call goes out, sealed to another key or in
// plaintext.
func TestWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		m, err := sealhttp.New(keys)
		check(t, err)
		publication, api := newSite(newHandler(t, keys)), newSite(m.Handler(echo))
		client := sealing(t, newSource(t, "http://"+service, publication.inMemory()), api)
		check(t, call(t, client, "http://"+service))
		publication.serve(down)
		time.Sleep(24 * time.Hour)
		before := api.fetches.Load()
		for range 10 {
			wantError(t, call(t, client, "http://"+service), publish.ErrExpired)
			time.Sleep(time.Minute)
		}
		api.wantFetches(t, before)
		publication.serve(newHandler(t, keys))
		time.Sleep(2 * time.Minute)
		check(t, call(t, client, "http://"+service))
	})
}
