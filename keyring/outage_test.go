package keyring_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// The store is out of reach for everyone for longer than Lead, from just after one
// replica has made a key. When it is back, the others hold that key before any caller
// hears of it.
func TestStoreOutageLongerThanLead(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		ways := []*link{{Store: store}, {Store: store}}
		a := open(t, ways[0], kek, keyring.WithAudit(events.add))
		b := open(t, ways[1], kek, quiet())
		sleep(10 * minute)
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		events.take()
		for _, way := range ways {
			way.fail(errStore)
		}
		for range 10 {
			a.Tick(t.Context())
			b.Tick(t.Context())
			sleep(minute)
		}
		for _, way := range ways {
			way.fail(nil)
		}
		for range 5 { // of what Run does, b comes last
			a.Tick(t.Context())
			expectOpens(t, b, a.PublicKeys()[0], nil)
			sleep(minute)
			b.Tick(t.Context())
		}
		expectKeys(t, a, 0, 1, 0)
		expectKeys(t, b, 0, 1, 0)
		events.expect(t, keyring.EventStoreUnreachable, keyring.EventStoreReachable, keyring.EventPublished, keyring.EventPromoted)
	})
}

// A key is revoked, and before all replicas have heard of it the store is lost, or
// holds what it did before. One of the others writes back what it has, and gives way to
// the replica that knows of the revocation.
func TestStoreLostAfterRevoke(t *testing.T) {
	kek := newKEK(t)
	for _, after := range []time.Duration{0, time.Second, minute / 2} {
		for _, due := range []bool{false, true} { // a step of the schedule, at once
			synctest.Test(t, func(t *testing.T) {
				store := keyring.NewMemoryStore()
				a := open(t, store, kek, quiet(), seldom)
				b := open(t, store, kek, quiet(), seldom)
				c := open(t, store, kek, quiet(), seldom)
				if due {
					sleep(a.Schedule().Every)
				} else {
					sleep(day)
				}
				first := a.PublicKeys()[0]
				if err := a.Revoke(t.Context(), first.ID()); err != nil {
					t.Fatal(err)
				}
				second := a.PublicKeys()[0]
				sleep(after)
				store.Lose()
				sleep(after)
				for range 3 {
					b.Tick(t.Context())
					c.Tick(t.Context())
					a.Tick(t.Context())
				}
				b.Tick(t.Context())
				c.Tick(t.Context())
				for _, ring := range []*keyring.Keyring{a, b, c, open(t, store, kek, quiet())} {
					expectOpens(t, ring, first, seal.ErrUnknownKey)
					expectOpens(t, ring, second, nil)
				}
			})
		}
	}
}
