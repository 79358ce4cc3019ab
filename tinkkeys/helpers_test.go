package tinkkeys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// form is the package's functions for one of Tink's forms, next to Tink's own.
type form struct {
	name           string
	public         func(...*seal.PublicKey) ([]byte, error)
	parsePublic    func([]byte) ([]*seal.PublicKey, error)
	cleartext      func(*seal.KeySet) ([]byte, error)
	parseCleartext func([]byte) (*seal.KeySet, error)
	encrypt        func(context.Context, *seal.KeySet, tink.AEAD, []byte) ([]byte, error)
	decrypt        func(context.Context, []byte, tink.AEAD, []byte) (*seal.KeySet, error)
	reader         func(io.Reader) keyset.Reader
	writer         func(io.Writer) keyset.Writer
}

var forms = []form{
	{
		"JSON",
		tinkkeys.Public, tinkkeys.ParsePublic,
		tinkkeys.InsecureCleartextPrivate, tinkkeys.ParseInsecureCleartextPrivate,
		tinkkeys.EncryptPrivate, tinkkeys.DecryptPrivate,
		func(r io.Reader) keyset.Reader { return keyset.NewJSONReader(r) },
		func(w io.Writer) keyset.Writer { return keyset.NewJSONWriter(w) },
	},
	{
		"binary",
		tinkkeys.PublicBinary, tinkkeys.ParsePublicBinary,
		tinkkeys.InsecureCleartextPrivateBinary, tinkkeys.ParseInsecureCleartextPrivateBinary,
		tinkkeys.EncryptPrivateBinary, tinkkeys.DecryptPrivateBinary,
		func(r io.Reader) keyset.Reader { return keyset.NewBinaryReader(r) },
		func(w io.Writer) keyset.Writer { return keyset.NewBinaryWriter(w) },
	},
}

// variant is a suite with or without Tink's prefix.
type variant struct {
	suite seal.Suite
	raw   bool
}

func variants() []variant {
	var all []variant
	for _, s := range seal.Suites() {
		all = append(all, variant{s, false}, variant{s, true})
	}
	return all
}

func (v variant) String() string {
	if v.raw {
		return v.suite.String() + "/RAW"
	}
	return v.suite.String() + "/TINK"
}

func (v variant) opts() []seal.KeyOption {
	if v.raw {
		return []seal.KeyOption{seal.WithoutPrefix()}
	}
	return nil
}

func (v variant) key(t testing.TB) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey(v.suite, v.opts()...)
	check(t, err)
	return k
}

// each runs a test for every form and variant.
func each(t *testing.T, test func(*testing.T, form, variant)) {
	for _, f := range forms {
		for _, v := range variants() {
			t.Run(fmt.Sprintf("%s/%v", f.name, v), func(t *testing.T) { test(t, f, v) })
		}
	}
}

func newSet(t testing.TB, keys ...*seal.PrivateKey) *seal.KeySet {
	t.Helper()
	set, err := seal.NewKeySet(keys[0], keys[1:]...)
	check(t, err)
	return set
}

func publicHalves(set *seal.KeySet) []*seal.PublicKey {
	var keys []*seal.PublicKey
	for _, k := range set.Keys() {
		keys = append(keys, k.Public())
	}
	return keys
}

// sameSet fails the test unless both sets have the same keys in the same order.
func sameSet(t testing.TB, got, want *seal.KeySet) {
	t.Helper()
	samePublic(t, publicHalves(got), publicHalves(want))
	for i, k := range got.Keys() {
		if !bytes.Equal(k.Bytes(), want.Keys()[i].Bytes()) {
			t.Errorf("key %d: another private key", k.ID())
		}
	}
}

func samePublic(t testing.TB, got, want []*seal.PublicKey) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].Equal(want[i]) {
			t.Errorf("key %d of %d is %v, want %v", i+1, len(got), got[i], want[i])
		}
	}
}

func newAEAD(t testing.TB) tink.AEAD {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	check(t, err)
	a, err := aead.New(handle)
	check(t, err)
	return a
}

// tinkSeals checks that set opens what Tink encrypts with a public keyset.
func tinkSeals(t testing.TB, public *keyset.Handle, set *seal.KeySet) {
	t.Helper()
	enc, err := hybrid.NewHybridEncrypt(public)
	check(t, err)
	message, err := enc.Encrypt([]byte("from Tink"), []byte("info"))
	check(t, err)
	opened, err := set.Open(nil, message, []byte("info"))
	check(t, err)
	if string(opened) != "from Tink" {
		t.Errorf("opened %q", opened)
	}
}

// tinkOpens checks that Tink decrypts with a private keyset what keys seal.
func tinkOpens(t testing.TB, private *keyset.Handle, keys ...*seal.PublicKey) {
	t.Helper()
	dec, err := hybrid.NewHybridDecrypt(private)
	check(t, err)
	for _, k := range keys {
		message, err := k.Seal(nil, []byte("from seal"), []byte("info"))
		check(t, err)
		opened, err := dec.Decrypt(message, []byte("info"))
		check(t, err)
		if string(opened) != "from seal" {
			t.Errorf("%v: opened %q", k, opened)
		}
	}
}

// noneOf fails the test if the error shows any part of what it must not: eight
// bytes of it, as they are or in an encoding.
func noneOf(t testing.TB, err error, secrets ...[]byte) {
	t.Helper()
	text := err.Error()
	for _, s := range secrets {
		for _, encoded := range []string{
			string(s), hex.EncodeToString(s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint(s), "[]"),
			base64.StdEncoding.EncodeToString(s), base64.URLEncoding.EncodeToString(s),
		} {
			for i := 0; i+8 <= len(encoded); i++ {
				if strings.Contains(text, encoded[i:i+8]) {
					t.Fatalf("the error shows %q: %q", encoded[i:i+8], text)
				}
			}
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
