package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

// replicas are two registries over one store.
func replicas(t testing.TB, opts ...accounts.Option) (a, b *accounts.Registry, store *testStore) {
	store = newTestStore()
	return newRegistry(t, store, opts...), newRegistry(t, store, opts...), store
}

// TestSeenInTime: what one replica changes, the other sees when it was promised,
// and the one itself at once.
func TestSeenInTime(t *testing.T) {
	for _, c := range []struct {
		name       string
		opts       []accounts.Option
		key, noKey time.Duration
	}{
		{"by default", nil, time.Minute, 5 * time.Second},
		{"as set", []accounts.Option{accounts.WithCacheTTL(time.Hour), accounts.WithCacheNoKeyTTL(time.Minute)}, time.Hour, time.Minute},
		{"the shorter one for all", []accounts.Option{accounts.WithCacheTTL(2 * time.Second)}, 2 * time.Second, 2 * time.Second},
		{"nothing kept", []accounts.Option{accounts.WithCacheTTL(0)}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there, _ := replicas(t, c.opts...)
				key := generate(t, seal.X25519AES256GCM)
				sees := func(r *accounts.Registry, key *seal.PrivateKey, policy sealhttp.Policy) bool {
					t.Helper()
					p, err := r.Policy(requestOf("acme"))
					check(t, err)
					got, err := r.ClientKey(requestOf("acme"))
					if key == nil {
						return errors.Is(err, sealhttp.ErrNoClientKey) && p == policy
					}
					return err == nil && got.Equal(key.Public()) && p == policy
				}
				want := func(within time.Duration, key *seal.PrivateKey, policy sealhttp.Policy, oldKey *seal.PrivateKey, oldPolicy sealhttp.Policy) {
					t.Helper()
					if !sees(here, key, policy) {
						t.Fatal("the replica itself does not see it")
					}
					if within > 0 {
						time.Sleep(within - time.Nanosecond)
						if !sees(there, oldKey, oldPolicy) {
							t.Fatal("the cache keeps nothing")
						}
						time.Sleep(time.Nanosecond)
					}
					if !sees(there, key, policy) {
						t.Fatalf("the other replica does not see it after %v", within)
					}
				}
				if !sees(here, nil, sealhttp.Optional) || !sees(there, nil, sealhttp.Optional) {
					t.Fatal("there is something")
				}
				enrol(t, here, "acme", key)
				want(c.noKey, key, sealhttp.Optional, nil, sealhttp.Optional)
				check(t, here.SetPolicy(t.Context(), "acme", sealhttp.Required))
				want(c.key, key, sealhttp.Required, key, sealhttp.Optional)
				check(t, here.Revoke(t.Context(), "acme", key.ID()))
				want(c.key, nil, sealhttp.Required, key, sealhttp.Required)
				check(t, here.ClearPolicy(t.Context(), "acme"))
				want(c.noKey, nil, sealhttp.Optional, nil, sealhttp.Required)
			})
		})
	}
}

// TestOutage: a store that is down stops nothing that is cached, and everything
// else; no error is remembered.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, store := replicas(t)
		key := generate(t, seal.X25519AES256GCM)
		enrol(t, r, "acme", key)
		wantKeys(t, r, "acme", key, accounts.Current)
		store.fail(errBoom)
		time.Sleep(time.Minute - time.Nanosecond)
		if got, err := r.ClientKey(requestOf("acme")); err != nil || !got.Equal(key.Public()) {
			t.Fatalf("ClientKey = %v, %v", got, err)
		}
		time.Sleep(time.Nanosecond)
		for range 2 {
			_, err := r.ClientKey(requestOf("acme"))
			wantIs(t, "ClientKey", err, errBoom)
			_, err = r.Policy(requestOf("acme"))
			wantIs(t, "Policy", err, errBoom)
		}
		store.fail(nil)
		if got, err := r.ClientKey(requestOf("acme")); err != nil || !got.Equal(key.Public()) {
			t.Fatalf("ClientKey = %v, %v", got, err)
		}
	})
}

// TestOneReading: a call needs one reading of the record for both, and a thousand
// calls at once need one.
func TestOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, store := replicas(t)
		store.loading = func() { time.Sleep(time.Second) }
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				if _, err := r.ClientKey(requestOf("acme")); !errors.Is(err, sealhttp.ErrNoClientKey) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if p, err := r.Policy(requestOf("acme")); p != sealhttp.Optional || err != nil {
					t.Error(p, err)
				}
			})
		}
		wg.Wait()
		if loads, _ := store.counts(); loads != 1 {
			t.Errorf("%d readings", loads)
		}
	})
}

// TestAge: what was read is as old as the start of the reading.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, store := replicas(t)
		store.loading = func() { time.Sleep(3 * time.Second) }
		for round := range 3 {
			_, err := r.Policy(requestOf("acme"))
			check(t, err)
			if loads, _ := store.counts(); loads != round+1 {
				t.Fatalf("round %d: %d readings", round, loads)
			}
			time.Sleep(2*time.Second - time.Nanosecond) // 5 seconds in all
			_, err = r.Policy(requestOf("acme"))
			check(t, err)
			if loads, _ := store.counts(); loads != round+1 {
				t.Fatalf("round %d: %d readings, within 5 seconds", round, loads)
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

// TestWaiting: who gives up gets the error of their context, and the others their
// answer; a reading that takes too long is given up.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTestStore()
		r := newRegistry(t, slowStore{store})
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctxOf("acme"), time.Duration(i+1)*time.Second)
				defer cancel()
				_, err := r.ClientKey(requestOf("acme").WithContext(ctx))
				if want := []error{context.DeadlineExceeded, sealhttp.ErrNoClientKey, sealhttp.ErrNoClientKey}[i]; !errors.Is(err, want) {
					t.Errorf("%d: %v, want %v", i, err, want)
				}
			})
		}
		wg.Wait()
		if loads, _ := store.counts(); loads != 1 {
			t.Errorf("%d readings", loads)
		}
		start := time.Now()
		_, err := r.Policy(requestOf("forever"))
		wantIs(t, "a store that never answers", err, context.DeadlineExceeded)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

// slowStore takes 1.5 seconds to load, and for the account "forever" until the
// context ends.
type slowStore struct{ *testStore }

func (s slowStore) Load(ctx context.Context, account string) (accounts.Record, error) {
	if account == "forever" {
		<-ctx.Done()
		return accounts.Record{}, ctx.Err()
	}
	time.Sleep(1500 * time.Millisecond)
	return s.testStore.Load(ctx, account)
}

// TestChangeDuringReading: a reading that began before a change of this replica
// does not bring the old state back.
func TestChangeDuringReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, store := replicas(t)
		key := generate(t, seal.X25519AES256GCM)
		enrol(t, r, "acme", key)
		hold := make(chan struct{})
		store.mu.Lock()
		store.loading = func() { <-hold }
		store.mu.Unlock()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got, err := r.ClientKey(requestOf("acme")); err != nil || !got.Equal(key.Public()) {
				t.Error(got, err) // it began before
			}
		})
		synctest.Wait()
		store.mu.Lock()
		store.loading = nil
		store.mu.Unlock()
		check(t, r.Revoke(t.Context(), "acme", key.ID()))
		wantKeys(t, r, "acme")
		close(hold)
		wg.Wait()
		wantKeys(t, r, "acme")
	})
}

// TestStoredAllTheSame: a change whose answer was lost may have been stored: it is
// looked up.
func TestStoredAllTheSame(t *testing.T) {
	store := newTestStore()
	r := newRegistry(t, lostAnswer{store})
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, newRegistry(t, store), "acme", key)
	wantKeys(t, r, "acme", key, accounts.Current)
	wantIs(t, "Revoke", r.Revoke(t.Context(), "acme", key.ID()), errBoom)
	wantKeys(t, r, "acme")
}

type lostAnswer struct{ *testStore }

func (s lostAnswer) Swap(ctx context.Context, account string, old uint64, next accounts.Record, events []accounts.Event) error {
	return errors.Join(s.testStore.Swap(ctx, account, old, next, events), errBoom)
}

func TestStorePanics(t *testing.T) {
	store := newTestStore()
	store.loading = func() { panic("the driver has a bug") }
	r := newRegistry(t, store)
	for range 2 {
		if _, err := r.ClientKey(requestOf("acme")); err == nil || errors.Is(err, sealhttp.ErrNoClientKey) {
			t.Fatalf("ClientKey: %v", err)
		}
		if p, err := r.Policy(requestOf("acme")); err == nil || p != 0 {
			t.Fatalf("Policy = %v, %v", p, err)
		}
	}
}

// TestCacheSize: more accounts than the cache has room for are looked up again,
// and all are answered right.
func TestCacheSize(t *testing.T) {
	r, _, store := replicas(t, accounts.WithCacheSize(10))
	for round := range 3 {
		for i := range 10 {
			_, err := r.ClientKey(requestOf(fmt.Sprint("account ", i)))
			wantIs(t, "ClientKey", err, sealhttp.ErrNoClientKey)
		}
		if loads, _ := store.counts(); loads != 10 {
			t.Fatalf("round %d: %d readings of 10 accounts", round, loads)
		}
	}
	for i := range 100 {
		_, err := r.ClientKey(requestOf(fmt.Sprint("other account ", i)))
		wantIs(t, "ClientKey", err, sealhttp.ErrNoClientKey)
	}
	before, _ := store.counts()
	for i := range 10 {
		_, err := r.ClientKey(requestOf(fmt.Sprint("account ", i)))
		wantIs(t, "ClientKey", err, sealhttp.ErrNoClientKey)
	}
	if after, _ := store.counts(); after == before {
		t.Error("all are still there")
	}
}

// TestHotPath: what is cached costs no allocation.
func TestHotPath(t *testing.T) {
	r, _, _ := replicas(t)
	enrol(t, r, "acme", generate(t, seal.X25519AES256GCM))
	req := requestOf("acme")
	n := testing.AllocsPerRun(100, func() {
		if _, err := r.Policy(req); err != nil {
			t.Error(err)
		}
		if _, err := r.ClientKey(req); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkClientKeyAndPolicy(b *testing.B) {
	r := newRegistry(b, accounts.NewMemoryStore())
	enrol(b, r, "acme", generate(b, seal.X25519AES256GCM))
	req := requestOf("acme")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Policy(req); err != nil {
				b.Error(err)
			}
			if _, err := r.ClientKey(req); err != nil {
				b.Error(err)
			}
		}
	})
}
