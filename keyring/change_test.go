package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// A rotation by hand: pending on all replicas, then primary on all, then the old
// key retires.
func TestRotateStored(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := &link{Store: keyring.NewMemoryStore()}
		opts := []keyring.Option{keyring.WithAudit(events.add), keyring.WithReloadInterval(hour)}
		a, b := open(t, store, kek, opts...), open(t, store, kek, opts...)
		stop := run(t, a, b)
		defer stop()
		first := a.PublicKeys()[0]
		events.take()

		ctx := keyring.ContextWithActor(t.Context(), "alice")
		for range 3 { // the rotation is under way
			if err := a.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		expectKeys(t, a, 1, 0, 0)
		pending := a.KeySet().Keys()[1].Public()
		if e := events.take(); len(e) != 1 || e[0].Type != keyring.EventGenerated || e[0].Actor != "alice" || e[0].Revision != 2 ||
			e[0].KeyID != pending.ID() || e[0].Fingerprint != pending.Fingerprint() || e[0].Ring != "default" || !e[0].Time.Equal(time.Now()) {
			t.Errorf("got events %+v", e)
		}
		sleep(hour)
		expectKeys(t, b, 1, 0, 0)
		expectOpens(t, b, pending, nil)

		sleep(hour) // Lead has passed
		expectKeys(t, a, 0, 1, 0)
		if e := events.take(); len(e) != 2 || e[0].Type != keyring.EventPublished || e[1].Type != keyring.EventPromoted || e[0].Actor != "" || e[1].KeyID != pending.ID() {
			t.Errorf("got events %+v", e)
		}
		sleep(hour)
		for _, ring := range []*keyring.Keyring{a, b} {
			expectKeys(t, ring, 0, 1, 0)
			if !ring.PublicKeys()[0].Equal(pending) || !ring.PublicKeys()[1].Equal(first) {
				t.Error("not the pending key is the primary now")
			}
			expectOpens(t, ring, first, nil)
		}

		sleep(30 * day)
		events.expect(t, keyring.EventRetired)
		for _, ring := range []*keyring.Keyring{a, b} {
			expectKeys(t, ring, 0, 0, 1)
			expectOpens(t, ring, first, seal.ErrUnknownKey)
			expectOpens(t, ring, pending, nil)
		}
		if bytes.Contains(load(t, store).Data, []byte(`"state": "retired",`)) == false {
			t.Error("the retired key is forgotten")
		}
	})
}

func TestRevoke(t *testing.T) {
	// Each ring has a primary 0, a previous key 1, and if asked for a pending one 2.
	for name, tc := range map[string]struct {
		pending                bool
		revoke                 int
		wantPending, wantPrev  int
		newPrimary, itsPending bool
	}{
		"primary":                  {revoke: 0, wantPrev: 1, newPrimary: true},
		"primary, with a pending":  {pending: true, revoke: 0, wantPrev: 1, newPrimary: true, itsPending: true},
		"previous":                 {revoke: 1},
		"previous, with a pending": {pending: true, revoke: 1, wantPending: 1},
		"pending":                  {pending: true, revoke: 2, wantPrev: 1},
	} {
		for _, opts := range [][]keyring.Option{{}, {keyring.WithoutPrefix()}} {
			if len(opts) > 0 && tc.pending {
				continue // three keys without a prefix there never are
			}
			t.Run(name, func(t *testing.T) {
				kek := newKEK(t)
				synctest.Test(t, func(t *testing.T) {
					var events journal
					store := keyring.NewMemoryStore()
					opts := append(opts, keyring.WithAudit(events.add))
					a, b := open(t, store, kek, opts...), open(t, store, kek, opts...)
					defer run(t, a, b)()
					rotate(t, a)
					if tc.pending {
						if err := a.Rotate(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					sleep(minute)
					keys := b.KeySet().Keys()
					events.take()

					victim := keys[tc.revoke].Public()
					ctx := keyring.ContextWithActor(t.Context(), "bob")
					for range 2 { // the second time it is gone already
						if err := a.Revoke(ctx, victim.ID()); err != nil {
							t.Fatal(err)
						}
					}
					gone := seal.ErrUnknownKey
					if len(opts) > 1 {
						gone = seal.ErrDecryptionFailed
					}
					expectKeys(t, a, tc.wantPending, tc.wantPrev, 1)
					expectOpens(t, a, victim, gone)
					got := events.take()
					if len(got) == 0 || got[0].Type != keyring.EventRevoked || got[0].KeyID != victim.ID() || got[0].Actor != "bob" {
						t.Fatalf("got events %+v", got)
					}
					promoted := got[len(got)-1].Type == keyring.EventPromoted
					if promoted != tc.newPrimary {
						t.Errorf("got events %+v", got)
					}
					primary := a.PublicKeys()[0]
					if tc.itsPending && !primary.Equal(keys[2].Public()) {
						t.Error("the pending key is not the primary")
					}
					if !tc.newPrimary && !primary.Equal(keys[0].Public()) {
						t.Error("the primary has changed")
					}
					sleep(minute)
					expectKeys(t, b, tc.wantPending, tc.wantPrev, 1)
					expectOpens(t, b, victim, gone)
					expectOpens(t, b, primary, nil)
					for _, k := range b.Status().Keys {
						if k.Revoked != (k.ID == victim.ID()) {
							t.Errorf("key %d: revoked is %v", k.ID, k.Revoked)
						}
					}
				})
			})
		}
	}
}

// rotate rotates to the end of the promotion, in a bubble with Run.
func rotate(t *testing.T, ring *keyring.Keyring) {
	t.Helper()
	if err := ring.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	sleep(ring.Schedule().Lead + time.Nanosecond)
}

func TestRevokeUnknown(t *testing.T) {
	store := keyring.NewMemoryStore()
	stored := open(t, store, newKEK(t), quiet())
	memory, err := keyring.New(generate(t, seal.X25519AES256GCM))
	if err != nil {
		t.Fatal(err)
	}
	for _, ring := range []*keyring.Keyring{stored, memory} {
		before := ring.KeySet()
		if err := ring.Revoke(t.Context(), before.Primary().ID()^1); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("got %v, want ErrUnknownKey", err)
		}
		if ring.KeySet() != before {
			t.Error("the keys have changed")
		}
	}
	if load(t, store).Revision != 1 {
		t.Error("something was stored")
	}
}

func TestRevokeInMemory(t *testing.T) {
	first, second := generate(t, seal.P256AES256GCM, seal.WithoutPrefix()), generate(t, seal.P256AES256GCM, seal.WithoutPrefix())
	ring, err := keyring.New(second, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Revoke(t.Context(), second.ID()); err != nil {
		t.Fatal(err)
	}
	keys := ring.KeySet().Keys()
	if len(keys) != 2 || keys[0].Suite() != second.Suite() || keys[0].HasPrefix() || keys[0].ID() == second.ID() || keys[1] != first {
		t.Errorf("got %v, want a new key and %v", keys, first)
	}
	expectOpens(t, ring, second.Public(), seal.ErrDecryptionFailed)
	if err := ring.Revoke(t.Context(), first.ID()); err != nil {
		t.Fatal(err)
	}
	if got := ring.KeySet().Keys(); len(got) != 1 || got[0] != keys[0] {
		t.Errorf("got %v, want %v alone", got, keys[0])
	}
}

// A ring of keys without a prefix has two at most.
func TestRotateRaw(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		ring := open(t, store, kek, keyring.WithoutPrefix(), quiet(), keyring.WithReloadInterval(hour))
		defer run(t, ring)()
		first := ring.PublicKeys()[0]
		rotate(t, ring)
		expectKeys(t, ring, 0, 1, 0)
		before := ring.KeySet()
		if err := ring.Rotate(t.Context()); !errors.Is(err, keyring.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		if ring.KeySet() != before {
			t.Error("the keys have changed")
		}
		expectOpens(t, ring, first, nil)
		sleep(30 * day)
		if err := ring.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		expectKeys(t, ring, 1, 0, 1)
	})
}

// However often one rotates, a ring stays in its bounds.
func TestRingBounds(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		ring := open(t, store, kek, quiet(), keyring.WithReloadInterval(day),
			keyring.WithSchedule(keyring.Schedule{Every: 1000 * day, Overlap: 300 * day}))
		defer run(t, ring)()
		first := ring.PublicKeys()[0]
		for range keyring.MaxLive - 1 {
			rotate(t, ring)
		}
		if err := ring.Rotate(t.Context()); !errors.Is(err, keyring.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		expectOpens(t, ring, first, nil)
		if err := ring.Revoke(t.Context(), first.ID()); err != nil {
			t.Fatal(err)
		}
		rotate(t, ring)
		expectKeys(t, ring, 0, keyring.MaxLive-1, 1)
		open(t, store, kek, quiet())
		sleep(301 * day)
		rotate(t, ring)
		sleep(301 * day)
		expectKeys(t, ring, 0, 0, keyring.MaxHistory)
		open(t, store, kek, quiet())
	})
}

// Changes by many replicas at once all take place, one after the other.
func TestChangesRace(t *testing.T) {
	store, kek := keyring.NewMemoryStore(), newKEK(t)
	var events journal
	var rings []*keyring.Keyring
	for range 4 {
		rings = append(rings, open(t, store, kek, keyring.WithAudit(events.add)))
	}
	events.take()
	var wg sync.WaitGroup
	for _, ring := range rings {
		wg.Go(func() {
			for range 10 {
				if err := ring.Revoke(t.Context(), ring.KeySet().Primary().ID()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 10 {
				if err := ring.Rotate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				keys := ring.KeySet()
				if keys.Primary().ID() != ring.Status().Keys[0].ID && keys == ring.KeySet() {
					t.Error("the status is not that of the key set")
				}
			}
		})
	}
	wg.Wait()
	revisions := make(map[uint64]bool)
	primaries := make(map[uint32]bool)
	for _, e := range events.take() {
		revisions[e.Revision] = true
		if e.Type == keyring.EventPromoted {
			if primaries[e.KeyID] {
				t.Errorf("key %d was promoted twice", e.KeyID)
			}
			primaries[e.KeyID] = true
		}
	}
	last := load(t, store).Revision
	for r := uint64(2); r <= last; r++ {
		if !revisions[r] {
			t.Errorf("no event of revision %d", r)
		}
	}
	for _, ring := range rings {
		ring.Tick(t.Context())
		if got := ring.Status(); got.Revision != last {
			t.Errorf("a replica has revision %d, want %d", got.Revision, last)
		}
	}
}

// A Swap that was done though its answer got lost is a change that took place.
func TestLostAnswer(t *testing.T) {
	kek := newKEK(t)
	for name, change := range map[string]func(context.Context, *keyring.Keyring) error{
		"rotate": func(ctx context.Context, k *keyring.Keyring) error { return k.Rotate(ctx) },
		"revoke": func(ctx context.Context, k *keyring.Keyring) error {
			return k.Revoke(ctx, k.KeySet().Primary().ID())
		},
		"rewrap": func(ctx context.Context, k *keyring.Keyring) error { return k.Rewrap(ctx, kek) },
	} {
		for _, reachable := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				var events journal
				store := &link{Store: keyring.NewMemoryStore()}
				ring := open(t, store, kek, keyring.WithAudit(events.add))
				events.take()
				store.swap = func(ctx context.Context, old uint64, next keyring.State, e []keyring.Event) error {
					if err := store.Store.Swap(ctx, old, next, e); err != nil {
						return err
					}
					if !reachable {
						store.fail(errStore)
					}
					return errStore
				}
				err := change(t.Context(), ring)
				if reachable && err != nil || !reachable && !errors.Is(err, errStore) {
					t.Fatalf("got %v", err)
				}
				if !reachable {
					events.expect(t)
					store.fail(nil)
					ring.Tick(t.Context())
				}
				if ring.Status().Revision != 2 {
					t.Errorf("got revision %d, want 2", ring.Status().Revision)
				}
				if len(events.take()) == 0 {
					t.Error("the change was not told")
				}
			})
		}
	}
}

// A store that does not answer fails a change, and changes nothing.
func TestChangeWhileStoreIsDown(t *testing.T) {
	store := &link{Store: keyring.NewMemoryStore()}
	ring := open(t, store, newKEK(t), quiet())
	before := ring.KeySet()
	store.fail(errStore)
	for name, err := range map[string]error{
		"Rotate": ring.Rotate(t.Context()),
		"Revoke": ring.Revoke(t.Context(), before.Primary().ID()),
		"Rewrap": ring.Rewrap(t.Context(), newKEK(t)),
	} {
		if !errors.Is(err, errStore) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	store.fail(nil)
	ring.Tick(t.Context())
	if ring.KeySet() != before || load(t, store).Revision != 1 {
		t.Error("something has changed")
	}
}

func TestRewrap(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		oldKEK, newKEK := kek, newKEK(t)
		store := keyring.NewMemoryStore()
		a := open(t, store, keyring.KEKs(oldKEK, newKEK), keyring.WithAudit(events.add))
		b := open(t, store, keyring.KEKs(newKEK, oldKEK), keyring.WithAudit(events.add))
		onlyOld := open(t, store, oldKEK, quiet())
		stop := run(t, a, b, onlyOld)
		defer stop()
		rotate(t, a)
		sleep(minute)
		backup := load(t, store)
		events.take()

		if err := a.Rewrap(t.Context(), newKEK); err != nil {
			t.Fatal(err)
		}
		events.expect(t, keyring.EventRewrapped, keyring.EventRewrapped)
		sleep(minute)

		// The keys are the same, and the old kek opens none of it.
		if _, err := keyring.Open(t.Context(), store, oldKEK); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("opening with the old kek: got %v, want ErrKEK", err)
		}
		c := open(t, store, newKEK, quiet())
		for _, ring := range []*keyring.Keyring{a, b, onlyOld, c} {
			expectKeys(t, ring, 0, 1, 0)
			expectOpens(t, ring, a.PublicKeys()[0], nil)
			if got := ring.Status().Revision; got != 4 {
				t.Errorf("a replica is at revision %d, want 4", got)
			}
		}
		stopC := run(t, c)
		defer stopC()

		// New keys are under the new kek, whoever makes them.
		for _, ring := range []*keyring.Keyring{a, b} {
			stop()
			if err := ring.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			open(t, store, newKEK, quiet())
			if err := ring.Revoke(t.Context(), ring.KeySet().Keys()[2].ID()); err != nil {
				t.Fatal(err)
			}
		}

		// A backup from before needs the old one.
		restored := keyring.NewMemoryStore()
		put(t, restored, backup)
		if _, err := keyring.Open(t.Context(), restored, newKEK); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("got %v, want ErrKEK", err)
		}
		open(t, restored, oldKEK, quiet())
	})
}

func TestRewrapRefuses(t *testing.T) {
	memory, err := keyring.New(generate(t, seal.X25519AES256GCM))
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Rewrap(t.Context(), newKEK(t)); err == nil {
		t.Error("a ring in memory: no error")
	}
	store, old := keyring.NewMemoryStore(), newKEK(t)
	ring := open(t, store, old, quiet())
	for name, kek := range map[string]keyring.AEAD{
		"nil":          nil,
		"fails":        &kms{AEAD: newKEK(t), err: errKMS},
		"encrypt only": encryptOnly{newKEK(t)},
	} {
		if err := ring.Rewrap(t.Context(), kek); err == nil {
			t.Errorf("%s: no error", name)
		}
		open(t, store, old, quiet())
	}
	if got := load(t, store).Revision; got != 1 {
		t.Errorf("something was stored: revision %d", got)
	}
	if err := ring.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, store, old, quiet())
}
