package tinkkeys_test

import (
	"bytes"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

func TestRoundTrip(t *testing.T) {
	rows := 0
	kek, ad := newAEAD(t), []byte("service A")
	other, rotated := variant{seal.X25519AES256GCM, false}.key(t), variant{seal.P256AES256GCM, false}.key(t)
	each(t, func(t *testing.T, f form, v variant) {
		set := newSet(t, v.key(t), other, rotated)

		public, err := f.public(publicHalves(set)...)
		check(t, err)
		keys, err := f.parsePublic(public)
		check(t, err)
		samePublic(t, keys, publicHalves(set))
		rows++

		cleartext, err := f.cleartext(set)
		check(t, err)
		got, err := f.parseCleartext(cleartext)
		check(t, err)
		sameSet(t, got, set)
		rows++

		encrypted, err := f.encrypt(t.Context(), set, kek, ad)
		check(t, err)
		got, err = f.decrypt(t.Context(), encrypted, kek, ad)
		check(t, err)
		sameSet(t, got, set)
		for _, k := range set.Keys() {
			if bytes.Contains(encrypted, k.Bytes()) {
				t.Errorf("key %d stands in the encrypted keyset", k.ID())
			}
		}
		rows++
	})
	t.Logf("%d rows", rows)
}

// The same keys give the same bytes, in the order given.
func TestOutputIsStable(t *testing.T) {
	set := newSet(t, variant{seal.X25519AES256GCM, false}.key(t), variant{seal.P256AES256GCM, true}.key(t), variant{seal.XWingAES256GCM, false}.key(t))
	for _, f := range forms {
		public, err := f.public(publicHalves(set)...)
		check(t, err)
		private, err := f.cleartext(set)
		check(t, err)
		for range 10 {
			again, err := f.public(publicHalves(set)...)
			check(t, err)
			if !bytes.Equal(again, public) {
				t.Fatalf("%s: %q, then %q", f.name, public, again)
			}
			again, err = f.cleartext(set)
			check(t, err)
			if !bytes.Equal(again, private) {
				t.Fatalf("%s: two forms of one private keyset", f.name)
			}
		}
		turned, err := f.public(set.Keys()[2].Public(), set.Keys()[0].Public())
		check(t, err)
		keys, err := f.parsePublic(turned)
		check(t, err)
		samePublic(t, keys, []*seal.PublicKey{set.Keys()[2].Public(), set.Keys()[0].Public()})
	}
}

// A set of a hundred of the largest keys fits, and what would not is not written.
func TestSize(t *testing.T) {
	k := variant{seal.XWingAES256GCM, false}.key(t).Public()
	many := func(n int) []*seal.PublicKey {
		keys := make([]*seal.PublicKey, n)
		for i := range keys {
			var err error
			keys[i], err = seal.NewPublicKey(k.Suite(), uint32(i+1), k.Bytes())
			check(t, err)
		}
		return keys
	}
	for _, f := range forms {
		data, err := f.public(many(100)...)
		check(t, err)
		keys, err := f.parsePublic(data)
		check(t, err)
		samePublic(t, keys, many(100))
		data, err = f.public(many(900)...)
		wantError(t, err, "at most 1048576", tinkkeys.ErrKeyset)
		if data != nil {
			t.Errorf("%d bytes next to an error", len(data))
		}
	}
}
