package tinkkeys_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealhttp/sealhttp/seal"
)

// Tink reads what this package writes, and both open what the other sealed.
func TestTinkReads(t *testing.T) {
	rows := 0
	kek, ad := newAEAD(t), []byte("service A")
	other := variant{seal.X25519AES256GCM, false}.key(t)
	each(t, func(t *testing.T, f form, v variant) {
		set := newSet(t, v.key(t), other)

		data, err := f.public(publicHalves(set)...)
		check(t, err)
		public, err := keyset.ReadWithNoSecrets(f.reader(bytes.NewReader(data)))
		check(t, err)
		sameEntries(t, public, set)
		tinkSeals(t, public, set)
		rows++

		data, err = f.cleartext(set)
		check(t, err)
		private, err := insecurecleartextkeyset.Read(f.reader(bytes.NewReader(data)))
		check(t, err)
		sameEntries(t, private, set)
		tinkOpens(t, private, publicHalves(set)...)
		rows++

		data, err = f.encrypt(t.Context(), set, kek, ad)
		check(t, err)
		private, err = keyset.ReadWithAssociatedData(f.reader(bytes.NewReader(data)), kek, ad)
		check(t, err)
		sameEntries(t, private, set)
		tinkOpens(t, private, publicHalves(set)...)
		public, err = private.Public()
		check(t, err)
		tinkSeals(t, public, set)
		rows++
	})
	t.Logf("%d rows", rows)
}

// This package reads what Tink writes after it rotated a keyset, and both open
// what the other sealed.
func TestReadsTink(t *testing.T) {
	rows := 0
	kek, ad := newAEAD(t), []byte("service A")
	each(t, func(t *testing.T, f form, v variant) {
		private, enabled := rotated(t, v)
		public, err := private.Public()
		check(t, err)

		var b bytes.Buffer
		check(t, public.WriteWithNoSecrets(f.writer(&b)))
		keys, err := f.parsePublic(b.Bytes())
		check(t, err)
		if got := ids(keys); !slices.Equal(got, enabled) {
			t.Errorf("public keys %d, want %d", got, enabled)
		}
		tinkOpens(t, private, keys...)
		rows++

		b.Reset()
		check(t, insecurecleartextkeyset.Write(private, f.writer(&b)))
		set, err := f.parseCleartext(b.Bytes())
		check(t, err)
		samePublic(t, publicHalves(set), keys)
		tinkSeals(t, public, set)
		rows++

		b.Reset()
		check(t, private.WriteWithAssociatedData(f.writer(&b), kek, ad))
		set, err = f.decrypt(t.Context(), b.Bytes(), kek, ad)
		check(t, err)
		samePublic(t, publicHalves(set), keys)
		tinkSeals(t, public, set)
		rows++
	})
	t.Logf("%d rows", rows)
}

// rotated makes a keyset of Tink's of one disabled and two enabled keys, whose
// primary comes last, and the ids of the enabled ones, the primary first.
func rotated(t *testing.T, v variant) (_ *keyset.Handle, enabled []uint32) {
	t.Helper()
	params, err := hpke.NewParameters(tinkParameters(v))
	check(t, err)
	m := keyset.NewManager()
	var added []uint32
	for range 3 {
		id, err := m.AddNewKeyFromParameters(params)
		check(t, err)
		check(t, m.SetPrimary(id))
		added = append(added, id)
	}
	check(t, m.Disable(added[1]))
	h, err := m.Handle()
	check(t, err)
	return h, []uint32{added[2], added[0]}
}

func tinkParameters(v variant) hpke.ParametersOpts {
	opts := hpke.ParametersOpts{KDFID: hpke.HKDFSHA256, AEADID: hpke.AES256GCM, Variant: hpke.VariantTink}
	if v.raw {
		opts.Variant = hpke.VariantNoPrefix
	}
	switch v.suite {
	case seal.P256AES256GCM, seal.P256AES128GCM:
		opts.KEMID = hpke.DHKEM_P256_HKDF_SHA256
	case seal.XWingAES256GCM:
		opts.KEMID = hpke.X_WING
	default:
		opts.KEMID = hpke.DHKEM_X25519_HKDF_SHA256
	}
	switch v.suite {
	case seal.X25519AES128GCM, seal.P256AES128GCM:
		opts.AEADID = hpke.AES128GCM
	case seal.X25519ChaCha20Poly1305:
		opts.AEADID = hpke.ChaCha20Poly1305
	}
	return opts
}

func ids(keys []*seal.PublicKey) []uint32 {
	var ids []uint32
	for _, k := range keys {
		ids = append(ids, k.ID())
	}
	return ids
}

// sameEntries fails the test unless a handle has the keys of a set, in its order,
// with its primary.
func sameEntries(t testing.TB, h *keyset.Handle, set *seal.KeySet) {
	t.Helper()
	var got, want []string
	for i := range h.Len() {
		e, err := h.Entry(i)
		check(t, err)
		got = append(got, fmt.Sprint(e.KeyID(), e.IsPrimary(), e.KeyStatus(), e.Key().Parameters().HasIDRequirement()))
	}
	for i, k := range set.Keys() {
		want = append(want, fmt.Sprint(k.ID(), i == 0, keyset.Enabled, k.HasPrefix()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("Tink has the keys %q, want %q", got, want)
	}
}
