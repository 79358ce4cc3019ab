package keyring_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// Who has copied a replica's memory opens what is sealed to the keys that were live
// then, whenever it was or is sealed, and nothing else.
func TestCopyOfMemory(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		ring := open(t, keyring.NewMemoryStore(), kek, quiet(), seldom)
		defer run(t, ring)()
		retired := ring.PublicKeys()[0]
		rotate(t, ring)
		sleep(31 * day) // the first key retires
		recorded := ring.PublicKeys()[0]
		before, err := recorded.Seal(nil, []byte("recorded long ago"), nil)
		if err != nil {
			t.Fatal(err)
		}
		beforeThat, err := retired.Seal(nil, []byte("recorded before that"), nil)
		if err != nil {
			t.Fatal(err)
		}

		stolen := ring.KeySet()

		if _, err := stolen.Open(nil, before, nil); err != nil {
			t.Errorf("what was recorded does not open: %v", err)
		}
		if _, err := stolen.Open(nil, beforeThat, nil); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("for a key that had retired: %v", err)
		}
		rotate(t, ring)
		after, err := ring.PublicKeys()[0].Seal(nil, []byte("sealed since"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stolen.Open(nil, after, nil); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("for a key that was made since: %v", err)
		}
	})
}

// Who has had the memory also knows the key that states are authenticated with. With
// the database and an old copy of it, they can bring a revoked key back, which they
// hold; a new ring ends that.
func TestCopyOfMemoryAndDatabase(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		ring := open(t, store, kek, quiet())
		defer run(t, ring)()
		old, stolen := load(t, store), ring.PublicKeys()[0]
		if err := ring.Revoke(t.Context(), stolen.ID()); err != nil {
			t.Fatal(err)
		}
		forged := old
		for range 100 { // each is one serial later
			forged = ring.Forge(forged, ring.Status().Revision+1, func(*keyring.DocumentKey) {})
		}
		put(t, store, forged)
		sleep(minute)
		if !ring.PublicKeys()[0].Equal(stolen) {
			t.Error("the revoked key has not come back: say so in the documentation")
		}

		// To a ring of another name, what they have is worth nothing.
		put(t, store, forged)
		if _, err := keyring.Open(t.Context(), store, kek, keyring.WithName("after")); !errors.Is(err, keyring.ErrCorrupt) {
			t.Errorf("another ring's state: got %v, want ErrCorrupt", err)
		}
		forged.Data = replace(t, forged, `"ring": "default"`, `"ring": "after"`).Data
		put(t, store, forged)
		if _, err := keyring.Open(t.Context(), store, kek, keyring.WithName("after")); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("another ring's state, renamed: got %v, want ErrKEK", err)
		}
	})
}
