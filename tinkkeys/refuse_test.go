package tinkkeys_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/keyset"
	hpkepb "github.com/tink-crypto/tink-go/v2/proto/hpke_go_proto"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/proto"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

const primaryID, otherID = 4080000001, 1234567

// pair is one keyset in its private and its public form, which a case alters.
type pair struct {
	private, public *tinkpb.Keyset
	secrets         [][]byte
}

// newPair makes a pair of two keys: the primary of X25519, the other of P-256.
func newPair(t *testing.T) *pair {
	t.Helper()
	var p pair
	var keys []*seal.PrivateKey
	for _, k := range []struct {
		suite seal.Suite
		id    uint32
	}{{seal.X25519AES256GCM, primaryID}, {seal.P256AES256GCM, otherID}} {
		fresh := variant{suite: k.suite}.key(t)
		key, err := seal.NewPrivateKey(k.suite, k.id, fresh.Bytes())
		check(t, err)
		keys = append(keys, key)
		p.secrets = append(p.secrets, key.Bytes(), key.Public().Bytes())
	}
	set := newSet(t, keys...)
	p.private, p.public = new(tinkpb.Keyset), new(tinkpb.Keyset)
	data, err := tinkkeys.InsecureCleartextPrivateBinary(set)
	check(t, err)
	check(t, proto.Unmarshal(data, p.private))
	data, err = tinkkeys.PublicBinary(publicHalves(set)...)
	check(t, err)
	check(t, proto.Unmarshal(data, p.public))
	return &p
}

// both alters both keysets alike.
func both(alter func(*tinkpb.Keyset)) func(*testing.T, *pair) {
	return func(_ *testing.T, p *pair) {
		alter(p.private)
		alter(p.public)
	}
}

// bothHalves alters the primary's public key in both keysets.
func bothHalves(alter func(*hpkepb.HpkePublicKey)) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		public(t, p.public.Key[0], alter)
		private(t, p.private.Key[0], func(k *hpkepb.HpkePrivateKey) { alter(k.PublicKey) })
	}
}

func public(t *testing.T, k *tinkpb.Keyset_Key, alter func(*hpkepb.HpkePublicKey)) {
	t.Helper()
	m := new(hpkepb.HpkePublicKey)
	check(t, proto.Unmarshal(k.KeyData.Value, m))
	alter(m)
	var err error
	k.KeyData.Value, err = proto.Marshal(m)
	check(t, err)
}

func private(t *testing.T, k *tinkpb.Keyset_Key, alter func(*hpkepb.HpkePrivateKey)) {
	t.Helper()
	m := new(hpkepb.HpkePrivateKey)
	check(t, proto.Unmarshal(k.KeyData.Value, m))
	alter(m)
	var err error
	k.KeyData.Value, err = proto.Marshal(m)
	check(t, err)
}

func params(kem hpkepb.HpkeKem, kdf hpkepb.HpkeKdf, aead hpkepb.HpkeAead) func(*testing.T, *pair) {
	return bothHalves(func(k *hpkepb.HpkePublicKey) { k.Params = &hpkepb.HpkeParams{Kem: kem, Kdf: kdf, Aead: aead} })
}

func prefix(p tinkpb.OutputPrefixType) func(*testing.T, *pair) {
	return both(func(ks *tinkpb.Keyset) { ks.Key[1].OutputPrefixType = p })
}

// unknownField is field 99 with the value 1.
var unknownField = []byte{0x98, 0x06, 0x01}

// refusals are the ways in which a keyset can be wrong, whether it is public or
// private: "want" stands in the error. Those with onlyPublic or onlyPrivate
// leave the other keyset as it was.
var refusals = []struct {
	name                    string
	alter                   func(*testing.T, *pair)
	want                    string
	is                      []error
	onlyPublic, onlyPrivate bool
}{
	// The keyset as a whole.
	{
		name:  "no keys",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key = nil }),
		want:  "no enabled key",
	},
	{
		name: "no enabled key",
		alter: both(func(ks *tinkpb.Keyset) {
			ks.Key[0].Status, ks.Key[1].Status = tinkpb.KeyStatusType_DISABLED, tinkpb.KeyStatusType_DESTROYED
			ks.PrimaryKeyId = 0
		}),
		want: "no enabled key",
	},
	{
		name:  "no primary",
		alter: both(func(ks *tinkpb.Keyset) { ks.PrimaryKeyId = 0 }),
		want:  "no primary key",
	},
	{
		name:  "the primary is missing",
		alter: both(func(ks *tinkpb.Keyset) { ks.PrimaryKeyId = 987654 }),
		want:  "no primary key: none has its id, 987654",
	},
	{
		name:  "the primary is disabled",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[0].Status = tinkpb.KeyStatusType_DISABLED }),
		want:  "key 4080000001: invalid Tink keyset: the primary key is DISABLED",
	},
	{
		name:  "the primary is destroyed",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[0].Status, ks.Key[0].KeyData = tinkpb.KeyStatusType_DESTROYED, nil }),
		want:  "key 4080000001: invalid Tink keyset: the primary key is DESTROYED",
	},
	{
		name:  "unknown status",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].Status = tinkpb.KeyStatusType_UNKNOWN_STATUS }),
		want:  "key 1234567: invalid Tink keyset: status UNKNOWN_STATUS",
	},
	{
		name:  "duplicate id",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyId = primaryID }),
		want:  "key 4080000001:",
		is:    []error{seal.ErrDuplicateKey, seal.ErrInvalidKey},
	},
	{
		name: "duplicate id of a disabled key",
		alter: both(func(ks *tinkpb.Keyset) {
			k := proto.CloneOf(ks.Key[1])
			k.Status = tinkpb.KeyStatusType_DISABLED
			ks.Key = append(ks.Key, k)
		}),
		want: "key 1234567:",
		is:   []error{seal.ErrDuplicateKey},
	},
	{
		name: "duplicate id of two destroyed keys",
		alter: both(func(ks *tinkpb.Keyset) {
			k := &tinkpb.Keyset_Key{KeyId: 31337000, Status: tinkpb.KeyStatusType_DESTROYED}
			ks.Key = append(ks.Key, k, k)
		}),
		want: "key 31337000:",
		is:   []error{seal.ErrDuplicateKey},
	},

	// What kind of key it is.
	{
		name:  "key id 0",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyId = 0 }),
		want:  "key 0:",
		is:    []error{seal.ErrKeyID, seal.ErrInvalidKey},
	},
	{name: "CRUNCHY", alter: prefix(tinkpb.OutputPrefixType_CRUNCHY), want: "key 1234567: invalid Tink keyset: unsupported key: the output prefix type is CRUNCHY", is: []error{tinkkeys.ErrUnsupported}},
	{name: "LEGACY", alter: prefix(tinkpb.OutputPrefixType_LEGACY), want: "1234567", is: []error{tinkkeys.ErrUnsupported}},
	{name: "WITH_ID_REQUIREMENT", alter: prefix(tinkpb.OutputPrefixType_WITH_ID_REQUIREMENT), want: "1234567", is: []error{tinkkeys.ErrUnsupported}},
	{name: "unknown prefix", alter: prefix(tinkpb.OutputPrefixType_UNKNOWN_PREFIX), want: "1234567", is: []error{tinkkeys.ErrUnsupported}},
	{name: "prefix of the future", alter: prefix(99), want: "1234567", is: []error{tinkkeys.ErrUnsupported}},
	{
		name:  "no key data",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData = nil }),
		want:  "key 1234567: invalid Tink keyset: the key has no data",
	},
	{
		name: "ECIES",
		alter: both(func(ks *tinkpb.Keyset) {
			ks.Key[1].KeyData.TypeUrl = strings.Replace(ks.Key[1].KeyData.TypeUrl, "Hpke", "EciesAeadHkdf", 1)
		}),
		want: "key 1234567: invalid Tink keyset: unsupported key: its type is not Hpke",
		is:   []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "no type",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData.TypeUrl = "" }),
		want:  "key 1234567:",
		is:    []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "unknown key material",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData.KeyMaterialType = tinkpb.KeyData_UNKNOWN_KEYMATERIAL }),
		want:  "key 1234567: invalid Tink keyset: the key material is UNKNOWN_KEYMATERIAL",
	},
	{
		name:  "remote key material",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData.KeyMaterialType = tinkpb.KeyData_REMOTE }),
		want:  "key 1234567:",
	},
	{
		name:  "version 1",
		alter: bothHalves(func(k *hpkepb.HpkePublicKey) { k.Version = 1 }),
		want:  "key 4080000001: invalid Tink keyset: unsupported key: version 1 of HpkePublicKey, not 0",
		is:    []error{tinkkeys.ErrUnsupported},
	},
	{
		name: "version 1 of the private key",
		alter: func(t *testing.T, p *pair) {
			private(t, p.private.Key[0], func(k *hpkepb.HpkePrivateKey) { k.Version = 1 })
		},
		want:        "key 4080000001: invalid Tink keyset: unsupported key: version 1 of HpkePrivateKey, not 0",
		is:          []error{tinkkeys.ErrUnsupported},
		onlyPrivate: true,
	},
	{
		name:  "a value that is no message",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData.Value = ks.Key[1].KeyData.Value[:40] }),
		want:  "key 1234567: invalid Tink keyset: the key's value is no Hpke",
	},
	{
		name: "a field that is not Tink's in a value",
		alter: both(func(ks *tinkpb.Keyset) {
			ks.Key[1].KeyData.Value = append(ks.Key[1].KeyData.Value, unknownField...)
		}),
		want: "key 1234567: invalid Tink keyset: the key's value is no Hpke",
	},
	{
		name:  "an empty value",
		alter: both(func(ks *tinkpb.Keyset) { ks.Key[1].KeyData.Value = nil }),
		want:  "key 1234567:",
		is:    []error{tinkkeys.ErrUnsupported},
	},

	// Parameters.
	{
		name:  "P-384",
		alter: params(hpkepb.HpkeKem_DHKEM_P384_HKDF_SHA384, hpkepb.HpkeKdf_HKDF_SHA384, hpkepb.HpkeAead_AES_256_GCM),
		want:  "key 4080000001: invalid Tink keyset: unsupported key: no suite has KEM DHKEM_P384_HKDF_SHA384, KDF HKDF_SHA384 and AEAD AES_256_GCM",
		is:    []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "P-521",
		alter: params(hpkepb.HpkeKem_DHKEM_P521_HKDF_SHA512, hpkepb.HpkeKdf_HKDF_SHA256, hpkepb.HpkeAead_AES_256_GCM),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "ML-KEM-768",
		alter: params(hpkepb.HpkeKem_ML_KEM768, hpkepb.HpkeKdf_HKDF_SHA256, hpkepb.HpkeAead_AES_256_GCM),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "ML-KEM-1024",
		alter: params(hpkepb.HpkeKem_ML_KEM1024, hpkepb.HpkeKdf_HKDF_SHA256, hpkepb.HpkeAead_AES_256_GCM),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "HKDF-SHA512",
		alter: params(hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, hpkepb.HpkeKdf_HKDF_SHA512, hpkepb.HpkeAead_AES_256_GCM),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "P-256 with ChaCha20-Poly1305",
		alter: params(hpkepb.HpkeKem_DHKEM_P256_HKDF_SHA256, hpkepb.HpkeKdf_HKDF_SHA256, hpkepb.HpkeAead_CHACHA20_POLY1305),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "unknown AEAD",
		alter: params(hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, hpkepb.HpkeKdf_HKDF_SHA256, 77),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},
	{
		name:  "no parameters",
		alter: bothHalves(func(k *hpkepb.HpkePublicKey) { k.Params = nil }),
		want:  "4080000001", is: []error{tinkkeys.ErrUnsupported},
	},

	// Keys that seal refuses.
	{
		name:       "low order",
		alter:      bothHalves(func(k *hpkepb.HpkePublicKey) { k.PublicKey = make([]byte, 32) }),
		want:       "key 4080000001:",
		is:         []error{seal.ErrLowOrder, seal.ErrInvalidKey},
		onlyPublic: true,
	},
	{
		name:       "not canonical",
		alter:      bothHalves(func(k *hpkepb.HpkePublicKey) { k.PublicKey[31] |= 0x80 }),
		want:       "key 4080000001:",
		is:         []error{seal.ErrNotCanonical},
		onlyPublic: true,
	},
	{
		name:       "too short",
		alter:      bothHalves(func(k *hpkepb.HpkePublicKey) { k.PublicKey = k.PublicKey[:31] }),
		want:       "key 4080000001:",
		is:         []error{seal.ErrKeyLength},
		onlyPublic: true,
	},
	{
		name: "compressed point",
		alter: func(t *testing.T, p *pair) {
			public(t, p.public.Key[1], func(k *hpkepb.HpkePublicKey) {
				k.PublicKey = append([]byte{2 | k.PublicKey[64]&1}, k.PublicKey[1:33]...)
			})
		},
		want:       "key 1234567:",
		is:         []error{seal.ErrKeyLength},
		onlyPublic: true,
	},
	{
		name: "not on the curve",
		alter: func(t *testing.T, p *pair) {
			public(t, p.public.Key[1], func(k *hpkepb.HpkePublicKey) { k.PublicKey[64] ^= 1 })
		},
		want:       "key 1234567:",
		is:         []error{seal.ErrNotOnCurve},
		onlyPublic: true,
	},
	{
		name: "private key too long",
		alter: func(t *testing.T, p *pair) {
			private(t, p.private.Key[0], func(k *hpkepb.HpkePrivateKey) { k.PrivateKey = append(k.PrivateKey, 0) })
		},
		want:        "key 4080000001:",
		is:          []error{seal.ErrKeyLength},
		onlyPrivate: true,
	},
	{
		name: "private key out of range",
		alter: func(t *testing.T, p *pair) {
			private(t, p.private.Key[1], func(k *hpkepb.HpkePrivateKey) { k.PrivateKey = bytes.Repeat([]byte{0xff}, 32) })
		},
		want:        "key 1234567:",
		is:          []error{seal.ErrSecretRange},
		onlyPrivate: true,
	},
	{
		name: "another key's public half",
		alter: func(t *testing.T, p *pair) {
			private(t, p.private.Key[0], func(k *hpkepb.HpkePrivateKey) {
				k.PublicKey.PublicKey = variant{suite: seal.X25519AES256GCM}.key(t).Public().Bytes()
			})
		},
		want:        "key 4080000001: invalid Tink keyset: its public half is another key's",
		onlyPrivate: true,
	},
	{
		name: "no public half",
		alter: func(t *testing.T, p *pair) {
			private(t, p.private.Key[0], func(k *hpkepb.HpkePrivateKey) { k.PublicKey.PublicKey = nil })
		},
		want:        "key 4080000001: invalid Tink keyset: its public half is another key's",
		onlyPrivate: true,
	},
	{
		name: "one key under two ids",
		alter: func(t *testing.T, p *pair) {
			k := proto.CloneOf(p.private.Key[0])
			k.KeyId, k.OutputPrefixType = 7, tinkpb.OutputPrefixType_RAW
			p.private.Key = append(p.private.Key, k)
		},
		want:        "key 4080000001 and key 7",
		is:          []error{seal.ErrDuplicateKey},
		onlyPrivate: true,
	},
	{
		name: "three RAW keys",
		alter: func(t *testing.T, p *pair) {
			set := newSet(t, variant{seal.X25519AES256GCM, true}.key(t), variant{seal.X25519AES256GCM, true}.key(t))
			data, err := tinkkeys.InsecureCleartextPrivateBinary(set)
			check(t, err)
			raw := new(tinkpb.Keyset)
			check(t, proto.Unmarshal(data, raw))
			p.private.Key = append(p.private.Key, raw.Key...)
			p.private.Key[1].OutputPrefixType = tinkpb.OutputPrefixType_RAW
		},
		want:        "more than two keys without a prefix",
		is:          []error{seal.ErrTooManyRawKeys},
		onlyPrivate: true,
	},

	// Public and private keys mixed up.
	{
		name:       "a private keyset as public",
		alter:      func(_ *testing.T, p *pair) { p.public = p.private },
		want:       "key 4080000001: invalid Tink keyset: secret key in a public keyset: make the public keyset with",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name:       "one private key among public ones",
		alter:      func(_ *testing.T, p *pair) { p.public.Key[1] = p.private.Key[1] },
		want:       "key 1234567:",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name: "a disabled private key among public ones",
		alter: func(_ *testing.T, p *pair) {
			p.public.Key[1] = p.private.Key[1]
			p.public.Key[1].Status = tinkpb.KeyStatusType_DISABLED
		},
		want:       "key 1234567:",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name: "a private key whose material is said to be public",
		alter: func(_ *testing.T, p *pair) {
			p.public.Key[1] = p.private.Key[1]
			p.public.Key[1].KeyData.KeyMaterialType = tinkpb.KeyData_ASYMMETRIC_PUBLIC
		},
		want:       "key 1234567:",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name: "a public key whose material is said to be private",
		alter: func(_ *testing.T, p *pair) {
			p.public.Key[1].KeyData.KeyMaterialType = tinkpb.KeyData_ASYMMETRIC_PRIVATE
		},
		want:       "key 1234567:",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name: "a private key of a public type",
		alter: func(_ *testing.T, p *pair) {
			p.public.Key[1].KeyData.Value = p.private.Key[1].KeyData.Value
		},
		want:       "key 1234567: invalid Tink keyset: the key's value is no HpkePublicKey",
		onlyPublic: true,
	},
	{
		name: "a disabled symmetric key among public ones",
		alter: func(_ *testing.T, p *pair) {
			p.public.Key[1] = &tinkpb.Keyset_Key{KeyId: otherID, Status: tinkpb.KeyStatusType_DISABLED, KeyData: &tinkpb.KeyData{
				TypeUrl: "type.googleapis.com/google.crypto.tink.AesGcmKey", KeyMaterialType: tinkpb.KeyData_SYMMETRIC, Value: []byte("a secret of somebody"),
			}}
		},
		want:       "key 1234567:",
		is:         []error{tinkkeys.ErrPrivateKey},
		onlyPublic: true,
	},
	{
		name:        "a public keyset as private",
		alter:       func(_ *testing.T, p *pair) { p.private = p.public },
		want:        "key 4080000001: invalid Tink keyset: a public key in a private keyset",
		onlyPrivate: true,
	},
}

func TestRefuses(t *testing.T) {
	rows := 0
	for _, c := range refusals {
		for _, f := range forms {
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				p := newPair(t)
				c.alter(t, p)
				if !c.onlyPrivate {
					var b bytes.Buffer
					check(t, f.writer(&b).Write(p.public))
					keys, err := f.parsePublic(b.Bytes())
					wantError(t, err, c.want, append(c.is, tinkkeys.ErrKeyset)...)
					noneOf(t, err, p.secrets...)
					if keys != nil {
						t.Error("keys next to an error")
					}
					rows++
				}
				if !c.onlyPublic {
					var b bytes.Buffer
					check(t, f.writer(&b).Write(p.private))
					set, err := f.parseCleartext(b.Bytes())
					wantError(t, err, c.want, append(c.is, tinkkeys.ErrKeyset)...)
					noneOf(t, err, p.secrets...)
					if set != nil {
						t.Error("a set next to an error")
					}
					rows++

					kek := newAEAD(t)
					encrypted, err := kek.Encrypt(marshal(t, p.private), nil)
					check(t, err)
					b.Reset()
					check(t, f.writer(&b).WriteEncrypted(&tinkpb.EncryptedKeyset{EncryptedKeyset: encrypted}))
					_, err = f.decrypt(t.Context(), b.Bytes(), kek, nil)
					wantError(t, err, c.want, append(c.is, tinkkeys.ErrKeyset)...)
					noneOf(t, err, p.secrets...)
					rows++
				}
			})
		}
	}
	t.Logf("%d cases, %d rows", len(refusals), rows)
}

// What is skipped is not looked into.
func TestSkips(t *testing.T) {
	skipped := []*tinkpb.Keyset_Key{
		{KeyId: 21, Status: tinkpb.KeyStatusType_DESTROYED},
		{KeyId: 22, Status: tinkpb.KeyStatusType_DESTROYED, KeyData: &tinkpb.KeyData{}},
		{KeyId: 23, Status: tinkpb.KeyStatusType_DISABLED, OutputPrefixType: tinkpb.OutputPrefixType_CRUNCHY},
		{KeyId: 24, Status: tinkpb.KeyStatusType_DISABLED, KeyData: &tinkpb.KeyData{
			TypeUrl: "type.googleapis.com/google.crypto.tink.EciesAeadHkdfPublicKey", Value: []byte("anything"), KeyMaterialType: tinkpb.KeyData_ASYMMETRIC_PUBLIC,
		}},
	}
	for _, f := range forms {
		p := newPair(t)
		p.public.Key = append(skipped[:4:4], p.public.Key...)
		p.private.Key = append(skipped[:4:4], p.private.Key...)
		p.public.PrimaryKeyId, p.private.PrimaryKeyId = otherID, otherID
		var b bytes.Buffer
		check(t, f.writer(&b).Write(p.public))
		keys, err := f.parsePublic(b.Bytes())
		check(t, err)
		if got := fmt.Sprint(ids(keys)); got != "[1234567 4080000001]" {
			t.Errorf("public keys %s", got)
		}
		b.Reset()
		check(t, f.writer(&b).Write(p.private))
		set, err := f.parseCleartext(b.Bytes())
		check(t, err)
		samePublic(t, publicHalves(set), keys)
	}
}

func TestWriteRefuses(t *testing.T) {
	k := variant{suite: seal.X25519AES256GCM}.key(t)
	same, err := seal.NewPublicKey(seal.P256AES256GCM, k.ID(), variant{suite: seal.P256AES256GCM}.key(t).Public().Bytes())
	check(t, err)
	id := fmt.Sprintf("key %d:", k.ID())
	for _, f := range forms {
		for _, c := range []struct {
			keys []*seal.PublicKey
			want string
			is   error
		}{
			{nil, "no enabled key", tinkkeys.ErrKeyset},
			{[]*seal.PublicKey{k.Public(), nil}, "key 2 of 2 is nil", tinkkeys.ErrKeyset},
			{[]*seal.PublicKey{k.Public(), same}, id, seal.ErrDuplicateKey},
			{[]*seal.PublicKey{k.Public(), k.Public()}, id, seal.ErrDuplicateKey},
			{[]*seal.PublicKey{{}}, "key 0: invalid Tink keyset: unsupported key: Suite(0)", tinkkeys.ErrUnsupported},
		} {
			_, err := f.public(c.keys...)
			wantError(t, err, c.want, c.is, tinkkeys.ErrKeyset)
		}
		for _, set := range []*seal.KeySet{nil, {}} {
			_, err := f.cleartext(set)
			wantError(t, err, "", tinkkeys.ErrKeyset)
			_, err = f.encrypt(t.Context(), set, newAEAD(t), nil)
			wantError(t, err, "", tinkkeys.ErrKeyset)
		}
	}
}

// What is no keyset at all, with a secret wherever JSON has room for one.
func TestRefusesText(t *testing.T) {
	secret := []byte("MC4CAQAwBQYDK2VuBCIEIMyDYnQz1a8x4rm6vJZ9")
	p := newPair(t)
	good := string(toJSON(t, p.private))
	if _, err := tinkkeys.ParseInsecureCleartextPrivate([]byte(good)); err != nil {
		t.Fatal(err)
	}
	s := string(secret)
	rows := 0
	for _, text := range []string{
		"", " ", "{", "[]", "null", "0", "\xff", s,
		good + good,
		good + "x",
		good + s,
		good[:len(good)-1],
		"\xef\xbb\xbf" + good,
		strings.Replace(good, `"value":"`, `"value":"`+s+`!`, 1),
		strings.Replace(good, `"value":"`, `"value":"`+s+`\u0000`, 1),
		strings.Replace(good, `"value":"`, `"value":`+s+`"`, 1),
		strings.Replace(good, `{`, `{"`+s+`":1,`, 1),
		strings.Replace(good, `"key":[`, `"key":[{"`+s+`":1},`, 1),
		strings.Replace(good, `"primaryKeyId":`, `"primaryKeyId":"`+s+`","x":`, 1),
		strings.Replace(good, `"primaryKeyId":`, `"primaryKeyId":-1,"x":`, 1),
		strings.Replace(good, `"ENABLED"`, `"`+s+`"`, 1),
		strings.Replace(good, `"TINK"`, `"`+s+`"`, 1),
		strings.Replace(good, `"ASYMMETRIC_PRIVATE"`, `"`+s+`"`, 1),
		strings.Replace(good, `google.crypto.tink.HpkePrivateKey`, s, 1),
		strings.Replace(good, `{`, `{"note":"(line 1:2) `+s+`",`, 1),
		`{"encryptedKeyset":"` + s + `"}`,
		`{"encryptedKeyset":"` + s + `!"}`,
		`{"encryptedKeyset":""}`,
		`{"encryptedKeyset":null}`,
		`{"encryptedKeyset":"AAAA","keysetInfo":{"` + s + `":1}}`,
		strings.Repeat("[", 20000),
		`{"key":` + strings.Repeat("[", 20000),
		`{"key":"` + strings.Repeat("A", 1<<20) + `"}`,
	} {
		for _, f := range forms {
			_, public := f.parsePublic([]byte(text))
			_, cleartext := f.parseCleartext([]byte(text))
			_, encrypted := f.decrypt(t.Context(), []byte(text), newAEAD(t), nil)
			for _, err := range []error{public, cleartext, encrypted} {
				if err == nil {
					t.Fatalf("%s: no error for %.100q", f.name, text)
				}
				if !errors.Is(err, tinkkeys.ErrKeyset) && !errors.Is(err, tinkkeys.ErrAEAD) {
					t.Errorf("%v wraps neither", err)
				}
				noneOf(t, err, append(p.secrets, secret)...)
				rows++
			}
		}
	}
	t.Logf("%d rows", rows)

	_, err := tinkkeys.ParsePublic([]byte("{\n  \"kye\": []}"))
	wantError(t, err, "not the JSON form of Tink's Keyset (line 2:3)", tinkkeys.ErrKeyset)
	_, err = tinkkeys.DecryptPrivate(t.Context(), []byte(good), newAEAD(t), nil)
	wantError(t, err, "not the JSON form of Tink's EncryptedKeyset (line 1:2)", tinkkeys.ErrKeyset)
	_, err = tinkkeys.ParsePublic(make([]byte, 1<<20+1))
	wantError(t, err, "1048577 bytes, at most 1048576", tinkkeys.ErrKeyset)
}

// The binary form is as strict as JSON about what is not Tink's.
func TestRefusesBinary(t *testing.T) {
	p := newPair(t)
	inKey := proto.CloneOf(p.private)
	inKey.Key[1].ProtoReflect().SetUnknown(unknownField)
	inData := proto.CloneOf(p.private)
	inData.Key[1].KeyData.ProtoReflect().SetUnknown(unknownField)
	for name, data := range map[string][]byte{
		"at the end":    append(marshal(t, p.private), unknownField...),
		"in a key":      marshal(t, inKey),
		"in key data":   marshal(t, inData),
		"JSON":          toJSON(t, p.private),
		"cut":           marshal(t, p.private)[:50],
		"trailing zero": append(marshal(t, p.private), 0),
	} {
		_, err := tinkkeys.ParseInsecureCleartextPrivateBinary(data)
		if !errors.Is(err, tinkkeys.ErrKeyset) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		noneOf(t, err, p.secrets...)
	}
}

func toJSON(t testing.TB, ks *tinkpb.Keyset) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, keyset.NewJSONWriter(&b).Write(ks))
	return b.Bytes()
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	check(t, err)
	return b
}

// wantError fails the test unless the error has the text and wraps all of is.
func wantError(t testing.TB, err error, text string, is ...error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("the error %q does not have %q", err, text)
	}
	if !strings.HasPrefix(err.Error(), "tinkkeys: ") {
		t.Errorf("the error %q does not say where it is from", err)
	}
	for _, target := range is {
		if !errors.Is(err, target) {
			t.Errorf("the error %q does not wrap %q", err, target)
		}
	}
}
