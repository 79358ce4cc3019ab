package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// spec is a row of the suite table in the wire format, kept apart from the
// package's own so that the two are checked against each other.
type spec struct {
	suite     seal.Suite
	name      string
	kem, aead uint16
	enc       int // bytes of enc
	public    int // bytes of a serialized public key
}

var specs = []spec{
	{seal.X25519AES256GCM, "X25519-AES256GCM", 0x0020, 0x0002, 32, 32},
	{seal.X25519AES128GCM, "X25519-AES128GCM", 0x0020, 0x0001, 32, 32},
	{seal.X25519ChaCha20Poly1305, "X25519-CHACHA20POLY1305", 0x0020, 0x0003, 32, 32},
	{seal.P256AES256GCM, "P256-AES256GCM", 0x0010, 0x0002, 65, 65},
	{seal.P256AES128GCM, "P256-AES128GCM", 0x0010, 0x0001, 65, 65},
	{seal.XWingAES256GCM, "XWING-AES256GCM", 0x647a, 0x0002, 1120, 1216},
}

// secretLen is the length of a serialized private key, the same for every suite.
const secretLen = 32

// form is one of the two output prefix types.
type form struct {
	name   string
	prefix int // bytes
	opts   []seal.KeyOption
}

var forms = []form{
	{"TINK", 5, nil},
	{"RAW", 0, []seal.KeyOption{seal.WithoutPrefix()}},
}

// everyKey runs a test for a new key of every suite in both forms.
func everyKey(t *testing.T, test func(t *testing.T, sp spec, f form, key *seal.PrivateKey)) {
	t.Helper()
	for _, sp := range specs {
		for _, f := range forms {
			t.Run(sp.name+"/"+f.name, func(t *testing.T) {
				test(t, sp, f, newKey(t, sp.suite, f.opts...))
			})
		}
	}
}

func newKey(t testing.TB, suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey(suite, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixedSecret returns the same private key's bytes for the same arguments. They
// are in range for every suite.
func fixedSecret(suite seal.Suite, label string) []byte {
	sum := sha256.Sum256([]byte(suite.String() + " " + label))
	return sum[:]
}

func fixedKey(t testing.TB, suite seal.Suite, id uint32, label string, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	return privateKey(t, suite, id, fixedSecret(suite, label), opts...)
}

func privateKey(t testing.TB, suite seal.Suite, id uint32, raw []byte, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	k, err := seal.NewPrivateKey(suite, id, raw, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicKey(t testing.TB, suite seal.Suite, id uint32, raw []byte, opts ...seal.KeyOption) *seal.PublicKey {
	t.Helper()
	k, err := seal.NewPublicKey(suite, id, raw, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keySet(t testing.TB, primary *seal.PrivateKey, others ...*seal.PrivateKey) *seal.KeySet {
	t.Helper()
	s, err := seal.NewKeySet(primary, others...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealTo(t testing.TB, k *seal.PublicKey, plaintext, info []byte) []byte {
	t.Helper()
	message, err := k.Seal(nil, plaintext, info)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// open opens a message with Open and OpenInPlace, fails the test where the two
// differ or break what they promise, and returns what both said.
func open(t testing.TB, set *seal.KeySet, message, info []byte) ([]byte, *seal.PrivateKey, error) {
	t.Helper()
	before := bytes.Clone(message)
	plaintext, err := set.Open(nil, message, info)
	if !bytes.Equal(message, before) {
		t.Fatal("Open changed the message")
	}
	buf := bytes.Clone(message)
	inPlace, key, errInPlace := set.OpenInPlace(buf, info)
	if err != errInPlace {
		t.Fatalf("Open says %v, OpenInPlace %v", err, errInPlace)
	}
	if !bytes.Equal(plaintext, inPlace) {
		t.Fatalf("Open gives %d bytes %.40x, OpenInPlace %d bytes %.40x", len(plaintext), plaintext, len(inPlace), inPlace)
	}
	if err != nil {
		if plaintext != nil || inPlace != nil || key != nil {
			t.Fatal("an error came with a result")
		}
		return nil, nil, err
	}
	if h := key.Public().HeaderLen(); len(inPlace) > 0 && &inPlace[0] != &buf[h] {
		t.Fatal("OpenInPlace returned a plaintext that is not in the message's own bytes")
	}
	if held, ok := set.Lookup(key.ID()); !ok || held != key {
		t.Fatal("OpenInPlace names a key that is not of the set")
	}
	return plaintext, key, nil
}

// refuse fails the test unless the message is refused with want and none of the
// other errors that opening has.
func refuse(t testing.TB, set *seal.KeySet, message, info []byte, want error) {
	t.Helper()
	plaintext, _, err := open(t, set, message, info)
	if err == nil {
		t.Fatalf("opened to %.40x, want %v", plaintext, want)
	}
	for _, sentinel := range []error{seal.ErrMalformed, seal.ErrUnknownKey, seal.ErrDecryptionFailed} {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Fatalf("error %v, want %v", err, want)
		}
	}
}

// refusal returns the error that the wire format has for a message that no key of
// the set opens. It is needed where the first byte is random: a message without a
// prefix starts with a prefix's 0x01 one time in 256.
func refusal(set *seal.KeySet, message []byte) error {
	shortest := len(message) + 1
	for _, k := range set.Keys() {
		shortest = min(shortest, k.Public().Overhead())
	}
	if len(message) < shortest {
		return seal.ErrMalformed
	}
	if message[0] == 0x01 {
		id := uint32(message[1])<<24 | uint32(message[2])<<16 | uint32(message[3])<<8 | uint32(message[4])
		held := false
		for _, k := range set.Keys() {
			held = held || k.ID() == id
		}
		if !held {
			return seal.ErrUnknownKey
		}
	}
	return seal.ErrDecryptionFailed
}

func prefixOf(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{1}, id)
}

// pattern returns n bytes that are not all alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// panics reports whether f panics.
func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
