package keyring_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// What docs/keys.md tells operators to do, where no other test does it.

// All keys of a ring are stolen. Revoked in the order of the runbook, the primary last,
// none of them is left; the other way round the pending one, stolen too, is promoted.
func TestRevokeAll(t *testing.T) {
	kek := newKEK(t)
	for name, tc := range map[string]struct {
		order []keyring.KeyState
		left  bool
	}{
		"as in the runbook": {[]keyring.KeyState{keyring.Pending, keyring.Previous, keyring.Primary}, false},
		"the primary first": {[]keyring.KeyState{keyring.Primary}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring := open(t, keyring.NewMemoryStore(), kek, quiet())
				defer run(t, ring)()
				rotate(t, ring)
				if err := ring.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				expectKeys(t, ring, 1, 1, 0)
				stolen := ring.KeySet()
				ids := states(t, ring)
				for _, state := range tc.order {
					if err := ring.Revoke(t.Context(), ids[state][0]); err != nil {
						t.Fatal(err)
					}
				}
				if left := stolen.Holds(ring.PublicKeys()[0]); left != tc.left {
					t.Errorf("the primary is one of the stolen keys: %v, want %v", left, tc.left)
				}
				if !tc.left {
					expectKeys(t, ring, 0, 0, 3)
				}
			})
		})
	}
}

// Without its KMS a ring revokes all keys but a primary that has no successor yet.
func TestRevokeWithoutKMS(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		k := &kms{AEAD: kek}
		ring := open(t, keyring.NewMemoryStore(), k, quiet())
		defer run(t, ring)()
		rotate(t, ring)
		if err := ring.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids := states(t, ring)
		k.fail(errKMS)
		for _, state := range []keyring.KeyState{keyring.Previous, keyring.Primary} {
			if err := ring.Revoke(t.Context(), ids[state][0]); err != nil {
				t.Errorf("the %s key: %v", state, err)
			}
		}
		if got := ring.PublicKeys()[0].ID(); got != ids[keyring.Pending][0] {
			t.Errorf("the primary is %d, want the key that was pending", got)
		}
		if err := ring.Revoke(t.Context(), ring.PublicKeys()[0].ID()); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("a primary without a successor: got %v, want ErrKEK", err)
		}
		expectKeys(t, ring, 0, 0, 2)
	})
}

// The key-encryption key is lost for good. A replica that runs has all private keys in
// its memory, and encrypts them under another one.
func TestRewrapAfterLossOfKEK(t *testing.T) {
	lost, fresh := newKMS(t), newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		a, b := open(t, store, lost, quiet()), open(t, store, lost, quiet())
		defer run(t, a, b)()
		rotate(t, a)
		sleep(minute)
		keys := a.PublicKeys()
		lost.fail(errKMS)
		if _, err := keyring.Open(t.Context(), store, lost); !errors.Is(err, keyring.ErrKEK) {
			t.Fatalf("got %v, want ErrKEK", err)
		}

		if err := a.Rewrap(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
		sleep(minute)
		c := open(t, store, fresh, quiet())
		defer run(t, c)()
		for _, ring := range []*keyring.Keyring{a, b, c} {
			for _, key := range keys {
				expectOpens(t, ring, key, nil)
			}
		}
		// b, which has only the lost one, holds up rotations until it is started anew.
		if err := c.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		sleep(hour)
		expectKeys(t, c, 1, 1, 0)
	})
}

// A longer Overlap, given to all replicas before a previous key retires, keeps it.
func TestOverlapMadeLonger(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		ring := open(t, store, kek, quiet(), seldom)
		stop := run(t, ring)
		first := ring.PublicKeys()[0]
		rotate(t, ring)
		sleep(29 * day)
		stop()
		longer := keyring.WithSchedule(keyring.Schedule{Overlap: 90 * day})
		ring = open(t, store, kek, quiet(), seldom, longer)
		defer run(t, ring)()
		sleep(60 * day)
		expectOpens(t, ring, first, nil)
		sleep(3 * day)
		expectOpens(t, ring, first, seal.ErrUnknownKey)
	})
}
