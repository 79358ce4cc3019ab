package accounts_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

// shared are the ways in which several registries share a state; the file store is
// another.
var shared = map[string]func(t *testing.T) (open func() accounts.Store){
	"memory": func(*testing.T) func() accounts.Store {
		store := accounts.NewMemoryStore()
		return func() accounts.Store { return store }
	},
}

// TestProveOnce: one proof, sent to several replicas at once, is taken once.
func TestProveOnce(t *testing.T) {
	for name, state := range shared {
		t.Run(name, func(t *testing.T) {
			open := state(t)
			key := generate(t, seal.X25519AES256GCM)
			audit := new(trail)
			var all []*accounts.Registry
			for range 4 {
				all = append(all, newRegistry(t, open(), accounts.WithAudit(audit.add)))
			}
			_, err := all[0].Register(ctxOf("acme"), "acme", tinkForm(t, key))
			check(t, err)
			opened := challenged(t, all[1], "acme", key)
			audit.take()
			var taken atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					_, err := all[i%len(all)].Prove(ctxOf("acme"), "acme", key.ID(), opened)
					if err == nil {
						taken.Add(1)
					} else if !errors.Is(err, accounts.ErrNoChallenge) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if taken.Load() != 1 {
				t.Errorf("taken %d times", taken.Load())
			}
			audit.want(t, accounts.EventProved)
			for _, r := range all {
				wantKeys(t, r, "acme", key, accounts.Current)
			}
		})
	}
}

// TestGuessing: wrong proofs at once on several replicas get three attempts in all.
func TestGuessing(t *testing.T) {
	store := accounts.NewMemoryStore()
	key := generate(t, seal.X25519AES256GCM)
	var all []*accounts.Registry
	for range 4 {
		all = append(all, newRegistry(t, store))
	}
	_, err := all[0].Register(ctxOf("acme"), "acme", tinkForm(t, key))
	check(t, err)
	opened := challenged(t, all[0], "acme", key)
	var wrong atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := all[i%len(all)].Prove(ctxOf("acme"), "acme", key.ID(), make([]byte, 32))
			if errors.Is(err, accounts.ErrWrongProof) {
				wrong.Add(1)
			} else if !errors.Is(err, accounts.ErrNoChallenge) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 3 {
		t.Errorf("%d attempts", wrong.Load())
	}
	_, err = all[0].Prove(ctxOf("acme"), "acme", key.ID(), opened)
	wantIs(t, "the right proof", err, accounts.ErrNoChallenge)
}

// TestRegisterAtOnce: one key, registered by several replicas at once, is there
// once, and never more than five wait.
func TestRegisterAtOnce(t *testing.T) {
	for name, state := range shared {
		t.Run(name, func(t *testing.T) {
			open := state(t)
			same := tinkForm(t, generate(t, seal.X25519AES256GCM))
			var once, different atomic.Int32
			var wg sync.WaitGroup
			for range 8 {
				r := newRegistry(t, open())
				wg.Go(func() {
					_, err := r.Register(ctxOf("acme"), "acme", same)
					if err == nil {
						once.Add(1)
					} else if !errors.Is(err, seal.ErrDuplicateKey) && !errors.Is(err, accounts.ErrTooManyKeys) {
						t.Error(err)
					}
				})
				other := tinkForm(t, generate(t, seal.X25519AES256GCM))
				wg.Go(func() {
					_, err := r.Register(ctxOf("acme"), "acme", other)
					if err == nil {
						different.Add(1)
					} else if !errors.Is(err, accounts.ErrTooManyKeys) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			a, err := newRegistry(t, open()).List(t.Context(), "acme")
			check(t, err)
			if once.Load() > 1 || once.Load()+different.Load() != 5 || len(a.Keys) != 5 {
				t.Errorf("taken were %d and %d, %d are there", once.Load(), different.Load(), len(a.Keys))
			}
		})
	}
}

// TestEverythingAtOnce changes and reads a few accounts from many goroutines, over
// several replicas. Whatever happens, ClientKey gives a key that was proved, the
// events tell what is stored, and there is one current key at most.
func TestEverythingAtOnce(t *testing.T) {
	store := newTestStore()
	var all []*accounts.Registry
	for range 3 {
		all = append(all, newRegistry(t, store))
	}
	names := []string{"acme", "bolt"}
	var mu sync.Mutex
	proved := make(map[string]bool) // fingerprints
	var wg sync.WaitGroup
	for i := range 6 {
		r, account := all[i%len(all)], names[i%len(names)]
		wg.Go(func() {
			var old *seal.PrivateKey
			for range 8 {
				key, err := seal.GenerateKey(seal.X25519AES256GCM)
				if err != nil {
					t.Error(err)
					return
				}
				form := tinkForm(t, key)
				ctx := ctxOf(account)
				if old != nil {
					_, err = r.Replace(ctx, account, old.ID(), form)
				} else {
					_, err = r.Register(ctx, account, form)
				}
				if err != nil {
					old = nil // others were faster
					continue
				}
				c, err := r.Challenge(ctx, account, key.ID())
				if err != nil {
					continue
				}
				opened, err := c.Open(account, key, old)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				proved[key.Public().Fingerprint()] = true
				mu.Unlock()
				if _, err := r.Prove(ctx, account, key.ID(), opened); err == nil {
					old = key
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				key, err := r.ClientKey(requestOf(account))
				if errors.Is(err, sealhttp.ErrNoClientKey) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ok := proved[key.Fingerprint()]
				mu.Unlock()
				if !ok {
					t.Errorf("%v was not proved", key)
				}
			}
		})
		wg.Go(func() {
			for range 8 {
				a, err := r.List(t.Context(), account)
				if err != nil {
					t.Error(err)
					return
				}
				current := 0
				for _, k := range a.Keys {
					if k.State == accounts.Current {
						current++
					}
					if k.State == accounts.Previous {
						if err := r.Revoke(ctxOf("operator"), account, k.ID()); err != nil && !errors.Is(err, accounts.ErrNoKey) {
							t.Error(err)
						}
					}
				}
				if current > 1 {
					t.Errorf("%d current keys", current)
				}
			}
		})
	}
	wg.Wait()
	for _, account := range names {
		var current string
		for _, e := range store.stored() {
			if e.Account != account {
				continue
			}
			switch e.Type {
			case accounts.EventProved:
				current = e.Fingerprint
			case accounts.EventKeyRevoked:
				if e.Fingerprint == current {
					t.Errorf("the current key of %s was revoked", account)
				}
			}
		}
		a, err := all[0].List(t.Context(), account)
		check(t, err)
		if len(a.Keys) == 0 || a.Keys[0].State != accounts.Current || a.Keys[0].Fingerprint() != current {
			t.Errorf("%s has %+v, the events say %s", account, a.Keys, current)
		}
	}
}

// TestAlwaysSlower: if others are always faster, a change ends with ErrConflict,
// and has changed nothing.
func TestAlwaysSlower(t *testing.T) {
	f := newFixture(t)
	other := newRegistry(t, f.store.MemoryStore)
	policies := []sealhttp.Policy{sealhttp.Disabled, sealhttp.Optional}
	n := 0
	f.store.swapping = func() {
		n++
		check(t, other.SetPolicy(t.Context(), "acme", policies[n%2]))
	}
	_, err := f.Register(ctxOf("acme"), "acme", tinkForm(t, generate(t, seal.X25519AES256GCM)))
	wantIs(t, "Register", err, accounts.ErrConflict)
	if n != 25 {
		t.Errorf("%d attempts", n)
	}
	f.store.swapping = nil
	f.trail.want(t)
	wantKeys(t, f.Registry, "acme")
}

// TestSlowerAndGone: who gives up while others are faster gets the error of their
// context.
func TestSlowerAndGone(t *testing.T) {
	ctx, cancel := context.WithCancel(ctxOf("acme"))
	r := newRegistry(t, overtaken{newTestStore(), cancel})
	wantIs(t, "SetPolicy", r.SetPolicy(ctx, "acme", sealhttp.Disabled), context.Canceled)
}

// overtaken is a store in which others are faster, and whose caller then gives up.
type overtaken struct {
	*testStore
	giveUp func()
}

func (s overtaken) Swap(context.Context, string, uint64, accounts.Record, []accounts.Event) error {
	s.giveUp()
	return accounts.ErrConflict
}
