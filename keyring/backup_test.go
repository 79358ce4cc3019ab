package keyring_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// A backup is restored while a replica runs, and the store is lost while it runs:
// its newer state is written back, and no key is lost or comes back.
func TestStoreRestoredUnderRunningReplica(t *testing.T) {
	kek := newKEK(t)
	for name, restore := range map[string]func(t *testing.T, store *keyring.MemoryStore, backup keyring.State){
		"backup": put,
		"lost":   func(_ *testing.T, store *keyring.MemoryStore, _ keyring.State) { store.Lose() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events journal
				store := keyring.NewMemoryStore()
				recording := &link{Store: store}
				a := open(t, recording, kek, keyring.WithAudit(events.add), seldom)
				b := open(t, store, kek, quiet(), seldom)
				defer run(t, a, b)()
				first := a.PublicKeys()[0]
				rotate(t, a)
				backup := load(t, store)
				second := a.PublicKeys()[0]
				sleep(31 * day) // first retires
				if err := a.Revoke(t.Context(), second.ID()); err != nil {
					t.Fatal(err)
				}
				sleep(interval)
				third := a.PublicKeys()[0]
				serial := a.Status().Serial
				events.take()

				restore(t, store, backup)
				sleep(2 * interval)
				if got := events.types(); !slices.Equal(got, []keyring.EventType{keyring.EventReinstated}) && got != nil { // b may have been first
					t.Errorf("got events %q", got)
				}
				c := open(t, store, kek, quiet()) // as who starts now sees it
				for _, ring := range []*keyring.Keyring{a, b, c} {
					expectKeys(t, ring, 0, 0, 2)
					expectOpens(t, ring, first, seal.ErrUnknownKey)
					expectOpens(t, ring, second, seal.ErrUnknownKey)
					expectOpens(t, ring, third, nil)
					if got, _ := ring.Published(); got <= serial {
						t.Errorf("got serial %d after %d", got, serial)
					}
				}
				// The ring lives on.
				rotate(t, a)
				sleep(interval)
				expectKeys(t, b, 0, 1, 2)
			})
		})
	}
}

// A store is lost, and before the replica that runs writes its ring back, another one
// starts, and makes a new ring. The old one wins, on both.
func TestNewRingInPlaceOfLostOne(t *testing.T) {
	kek := newKEK(t)
	for _, at := range []time.Duration{0, 500 * time.Millisecond, 10 * minute} { // after the last change
		synctest.Test(t, func(t *testing.T) {
			store := keyring.NewMemoryStore()
			a := open(t, store, kek, quiet(), seldom)
			if err := a.Revoke(t.Context(), a.PublicKeys()[0].ID()); err != nil {
				t.Fatal(err)
			}
			key := a.PublicKeys()[0]
			sleep(at)
			store.Lose()
			b := open(t, store, kek, quiet(), seldom)
			wrong := b.PublicKeys()[0]
			if wrong.Equal(key) {
				t.Fatal("the test shows nothing")
			}
			seen, _ := b.Published()
			for range 3 {
				b.Tick(t.Context())
				a.Tick(t.Context())
			}
			b.Tick(t.Context())
			revision := load(t, store).Revision
			for _, ring := range []*keyring.Keyring{a, b, open(t, store, kek, quiet())} {
				expectKeys(t, ring, 0, 0, 1)
				expectOpens(t, ring, key, nil)
				expectOpens(t, ring, wrong, seal.ErrUnknownKey)
				if got, _ := ring.Published(); got < seen {
					t.Errorf("got serial %d after %d", got, seen)
				}
			}
			a.Tick(t.Context())
			b.Tick(t.Context())
			if got := load(t, store).Revision; got != revision {
				t.Errorf("it goes on: revision %d after %d", got, revision)
			}
		})
	}
}

// A backup is restored while no replica runs: what it says is the truth. What was
// retired comes back as it was and retires again, what was revoked is trusted again
// until it is revoked again, and callers follow, since the serial grows all the same.
func TestStoreRestoredWhileDown(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		ring := open(t, store, kek, quiet(), seldom)
		stop := run(t, ring)
		first := ring.PublicKeys()[0]
		rotate(t, ring)
		second := ring.PublicKeys()[0]
		backup := load(t, store)
		sleep(31 * day)
		if err := ring.Revoke(t.Context(), second.ID()); err != nil {
			t.Fatal(err)
		}
		third := ring.PublicKeys()[0]
		for range 5 {
			rotate(t, ring)
		}
		seen, _ := ring.Published()
		stop()

		put(t, store, backup)
		ring = open(t, store, kek, quiet(), seldom)
		stop = run(t, ring)
		defer stop()
		expectKeys(t, ring, 0, 1, 0)
		expectOpens(t, ring, first, nil)                // retired: previous again,
		expectOpens(t, ring, second, nil)               // revoked: primary again,
		expectOpens(t, ring, third, seal.ErrUnknownKey) // made since: lost
		sleep(2 * interval)
		expectOpens(t, ring, first, seal.ErrUnknownKey) // its time is long over
		if err := ring.Revoke(t.Context(), second.ID()); err != nil {
			t.Fatal(err)
		}
		expectOpens(t, ring, second, seal.ErrUnknownKey)
		if got, _ := ring.Published(); got <= seen {
			t.Errorf("callers have seen serial %d and are told %d", seen, got)
		}
		sleep(2 * year)
		if n := len(states(t, ring)[keyring.Retired]); n != 3 {
			t.Errorf("%d keys have retired, want the schedule to go on", n)
		}
	})
}

// A replica that runs takes a restored ring on, once somebody has moved it past what
// the replica knows.
func TestRunningReplicaFollowsNewerFork(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		apart := &link{Store: store}
		ring := open(t, apart, kek, quiet(), seldom)
		defer run(t, ring)()
		backup := load(t, store)
		rotate(t, ring)
		lost := ring.PublicKeys()[0]
		apart.fail(errStore)
		put(t, store, backup)
		sleep(day)
		fork := open(t, store, kek, quiet(), seldom)
		if err := fork.Revoke(t.Context(), fork.PublicKeys()[0].ID()); err != nil {
			t.Fatal(err)
		}
		if load(t, store).Revision >= ring.Status().Revision {
			t.Fatal("the test shows nothing")
		}
		apart.fail(nil)
		sleep(interval)
		expectKeys(t, ring, 0, 0, 1)
		if !ring.PublicKeys()[0].Equal(fork.PublicKeys()[0]) {
			t.Error("the replica has not followed")
		}
		expectOpens(t, ring, lost, seal.ErrUnknownKey)
	})
}

// A store that holds an older state and takes no writes, as a replica of a database
// does, costs nothing but events.
func TestStaleReadOnlyStore(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		stale := &link{Store: store}
		ring := open(t, stale, kek, keyring.WithAudit(events.add), seldom)
		defer run(t, ring)()
		backup := load(t, store)
		rotate(t, ring)
		key := ring.PublicKeys()[0]
		events.take()
		put(t, store, backup)
		stale.mu.Lock()
		stale.swap = func(_ context.Context, _ uint64, _ keyring.State, _ []keyring.Event) error {
			return errors.New("read-only")
		}
		stale.mu.Unlock()
		sleep(day)
		events.expect(t, keyring.EventStoreUnreachable)
		expectKeys(t, ring, 0, 1, 0)
		expectOpens(t, ring, key, nil)
		time.Sleep(day)
		events.expect(t)
	})
}
