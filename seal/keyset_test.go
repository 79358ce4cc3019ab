package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// The wire format's rules for which key opens a message, and with which error
// none does.
func TestKeySetOpen(t *testing.T) {
	raw := seal.WithoutPrefix()
	const info = "info"

	a := fixedKey(t, seal.X25519AES256GCM, 0x0a0a0a0a, "a")
	b := fixedKey(t, seal.P256AES128GCM, 0x0b0b0b0b, "b")
	x := fixedKey(t, seal.XWingAES256GCM, 0x0c0c0c0c, "x")
	r1 := fixedKey(t, seal.X25519AES256GCM, 0x11111111, "r1", raw)
	r2 := fixedKey(t, seal.X25519ChaCha20Poly1305, 0x22222222, "r2", raw)
	rp := fixedKey(t, seal.P256AES256GCM, 0x33333333, "rp", raw)
	rx := fixedKey(t, seal.XWingAES256GCM, 0x44444444, "rx", raw)
	stranger := fixedKey(t, seal.X25519AES256GCM, 0x55555555, "stranger")
	strangerRaw := fixedKey(t, seal.X25519AES256GCM, 0x66666666, "stranger raw", raw)

	// A message to r1 that starts as one to a key with a prefix would, and keys of
	// which that prefix is.
	mimic, mimicID := mimicPrefix(t, r1, info)
	mimicked := fixedKey(t, seal.X25519AES256GCM, mimicID, "mimicked")
	mimickedP256 := fixedKey(t, seal.P256AES256GCM, mimicID, "mimicked")
	mimickedXWing := fixedKey(t, seal.XWingAES256GCM, mimicID, "mimicked")

	plaintext := pattern(64)
	to := func(k *seal.PrivateKey) []byte { return sealTo(t, k.Public(), plaintext, []byte(info)) }
	// A message to a RAW key that starts with 0x01 by chance is another case.
	toRaw := func(k *seal.PrivateKey) []byte {
		for {
			if m := to(k); m[0] != 0x01 {
				return m
			}
		}
	}
	with := func(id uint32, rest []byte) []byte { return append(prefixOf(id), rest...) }
	broken := func(m []byte) []byte {
		m = bytes.Clone(m)
		m[len(m)-1] ^= 1
		return m
	}

	for _, tt := range []struct {
		name    string
		keys    []*seal.PrivateKey
		message []byte
		opens   *seal.PrivateKey
		err     error
	}{
		// A prefix names the key.
		{"primary by prefix", keys(a, b, x), to(a), a, nil},
		{"another by prefix", keys(a, b, x), to(b), b, nil},
		{"another of another size", keys(a, b, x), to(x), x, nil},
		{"smaller than the primary's", keys(x, b, a), to(a), a, nil},
		{"by prefix, RAW keys held", keys(r1, r2, a), to(a), a, nil},
		{"by prefix, broken", keys(a, b), broken(to(b)), nil, seal.ErrDecryptionFailed},
		{"by prefix, broken, RAW keys held", keys(r1, a, r2), broken(to(a)), nil, seal.ErrDecryptionFailed},
		{"prefix of another key of the suite", keys(a, fixedKey(t, a.Suite(), 7, "seven")), with(7, to(a)[5:]), nil, seal.ErrDecryptionFailed},

		// The prefix is of no key.
		{"unknown id", keys(a, b), to(stranger), nil, seal.ErrUnknownKey},
		{"unknown id, RAW keys held", keys(r1, a, r2), to(stranger), nil, seal.ErrUnknownKey},
		{"unknown id, RAW keys only", keys(r1, r2), to(stranger), nil, seal.ErrUnknownKey},
		{"id 0", keys(a, r1), with(0, to(a)[5:]), nil, seal.ErrUnknownKey},
		{"unknown id, but a RAW key opens it", keys(r1, a), mimic, r1, nil},
		{"unknown id, but the second RAW key opens it", keys(r2, a, r1), mimic, r1, nil},
		{"unknown id, nearly a RAW key's message", keys(r1, a), broken(mimic), nil, seal.ErrUnknownKey},

		// The prefix is of a key by chance: it is a hint.
		{"prefix hit fails, then RAW", keys(mimicked, r1), mimic, r1, nil},
		{"prefix hit fails, then RAW primary", keys(r1, mimicked), mimic, r1, nil},
		{"prefix hit fails, then second RAW", keys(r2, mimicked, r1), mimic, r1, nil},
		{"prefix hit of P-256 fails, then RAW", keys(mimickedP256, r1), mimic, r1, nil},
		{"prefix hit of P-256 fails, RAW fails, then RAW", keys(rp, mimickedP256, r1), mimic, r1, nil},
		{"prefix hit too short for X-Wing, then RAW", keys(mimickedXWing, r1), mimic, r1, nil},
		{"prefix hit, all fail", keys(mimicked, r1, r2), broken(mimic), nil, seal.ErrDecryptionFailed},

		// No prefix: RAW keys, in their order.
		{"RAW primary", keys(r1, r2), toRaw(r1), r1, nil},
		{"RAW previous", keys(r1, r2), toRaw(r2), r2, nil},
		{"RAW of another suite", keys(r1, rp), toRaw(rp), rp, nil},
		{"RAW after a longer RAW", keys(rx, r1), toRaw(r1), r1, nil},
		{"RAW X-Wing after a shorter RAW", keys(r1, rx), toRaw(rx), rx, nil},
		{"RAW behind keys with prefixes", keys(a, b, r1, x, r2), toRaw(r2), r2, nil},
		{"RAW, broken", keys(r1, r2), broken(toRaw(r2)), nil, seal.ErrDecryptionFailed},
		{"RAW of a stranger", keys(r1, r2), toRaw(strangerRaw), nil, seal.ErrDecryptionFailed},
		{"RAW, no RAW key held", keys(a, b), toRaw(r1), nil, seal.ErrDecryptionFailed},
		{"RAW key's id in a prefix", keys(r1, a), with(r1.ID(), toRaw(r1)), nil, seal.ErrDecryptionFailed},
		{"RAW key's id in a prefix, RAW keys only", keys(r1), with(r1.ID(), to(stranger)[5:]), nil, seal.ErrDecryptionFailed},
		{"key with a prefix, prefix cut off", keys(a), noPrefixByChance(t, a, info)[5:], nil, seal.ErrDecryptionFailed},

		// Lengths come first.
		{"too short for any", keys(a, x), to(a)[:a.Public().Overhead()-1], nil, seal.ErrMalformed},
		{"too short for any, id unknown", keys(a, x), to(stranger)[:a.Public().Overhead()-1], nil, seal.ErrMalformed},
		{"too short for the prefix, not for a RAW key", keys(a, r1), to(a)[:a.Public().Overhead()-1], nil, seal.ErrDecryptionFailed},
		{"too short for X-Wing, not for X25519", keys(x, a), to(x)[:x.Public().Overhead()-1], nil, seal.ErrDecryptionFailed},
		{"too short for its P-256 key", keys(b, a), to(b)[:a.Public().Overhead()], nil, seal.ErrDecryptionFailed},
		{"unknown id, too short for some", keys(x, a), to(stranger), nil, seal.ErrUnknownKey},
		{"as short as can be, unknown id", keys(r1), with(9, make([]byte, r1.Public().Overhead()-5)), nil, seal.ErrUnknownKey},
		{"as short as can be, no prefix", keys(r1), make([]byte, r1.Public().Overhead()), nil, seal.ErrDecryptionFailed},
		{"shorter than a prefix", keys(r1, a), []byte{1, 2, 3}, nil, seal.ErrMalformed},
		{"one byte", keys(r1, a), []byte{1}, nil, seal.ErrMalformed},
		{"empty", keys(r1, a), nil, nil, seal.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := keySet(t, tt.keys[0], tt.keys[1:]...)
			if tt.opens == nil {
				refuse(t, set, tt.message, []byte(info), tt.err)
				if refusal(set, tt.message) != tt.err {
					t.Error("the test's own rule says otherwise")
				}
				return
			}
			got, key, err := open(t, set, tt.message, []byte(info))
			if err != nil || !bytes.Equal(got, plaintext) || key != tt.opens {
				t.Errorf("opened to %.20x by %v, %v; want by %v", got, key, err, tt.opens)
			}
		})
	}
}

func keys(ks ...*seal.PrivateKey) []*seal.PrivateKey { return ks }

// mimicPrefix seals to a RAW key until enc starts as a prefix does, which takes
// about 256 trials, and returns the message and the id that it seems to name.
func mimicPrefix(t *testing.T, k *seal.PrivateKey, info string) (message []byte, id uint32) {
	t.Helper()
	for range 100_000 {
		message = sealTo(t, k.Public(), pattern(64), []byte(info))
		if id = binary.BigEndian.Uint32(message[1:5]); message[0] == 0x01 && id != 0 {
			return message, id
		}
	}
	t.Fatal("no enc starts with 0x01")
	return nil, 0
}

// noPrefixByChance seals to a key with a prefix until enc does not start as one.
func noPrefixByChance(t *testing.T, k *seal.PrivateKey, info string) []byte {
	t.Helper()
	for {
		if m := sealTo(t, k.Public(), pattern(64), []byte(info)); m[5] != 0x01 {
			return m
		}
	}
}

// Where two trials may be needed, the first must not spoil the message for the
// second, and what the first one opens still stands in the message.
func TestOpenInPlaceWhereTrialsFollow(t *testing.T) {
	raw := seal.WithoutPrefix()
	prefixed := newKey(t, seal.X25519AES256GCM)
	first := newKey(t, seal.P256AES256GCM, raw)
	second := newKey(t, seal.X25519AES128GCM, raw)
	set := keySet(t, first, second, prefixed)
	for _, k := range set.Keys() {
		for _, n := range plaintextSizes {
			message := sealTo(t, k.Public(), pattern(n), nil)
			plaintext, opener, err := set.OpenInPlace(message, nil)
			if err != nil || opener != k || !bytes.Equal(plaintext, pattern(n)) {
				t.Fatalf("%v, %d bytes: opened to %d bytes by %v, %v", k, n, len(plaintext), opener, err)
			}
			if n > 0 && &plaintext[0] != &message[k.Public().HeaderLen()] {
				t.Errorf("%v, %d bytes: the plaintext is not in the message's own bytes", k, n)
			}
		}
	}
}

func TestPrivateKeyOpenIsASetOfOne(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		other := newKey(t, sp.suite, f.opts...)
		message := sealTo(t, key.Public(), []byte("plaintext"), nil)
		if got, err := key.Open(nil, message, nil); err != nil || string(got) != "plaintext" {
			t.Errorf("opened to %q, %v", got, err)
		}
		for _, m := range [][]byte{message[:10], sealTo(t, other.Public(), nil, nil), append(prefixOf(other.ID()), message...)} {
			if _, err := key.Open(nil, m, nil); !errors.Is(err, refusal(keySet(t, key), m)) {
				t.Errorf("%x: %v", m[:5], err)
			}
		}
	})
}

func TestKeySetHolds(t *testing.T) {
	a := fixedKey(t, seal.X25519AES256GCM, 1, "a")
	b := fixedKey(t, seal.P256AES256GCM, 2, "b", seal.WithoutPrefix())
	x := fixedKey(t, seal.XWingAES256GCM, 3, "x")
	set := keySet(t, b, a, x)

	if set.Primary() != b {
		t.Errorf("Primary is %v", set.Primary())
	}
	if got := set.Keys(); !slices.Equal(got, keys(b, a, x)) {
		t.Errorf("Keys is %v", got)
	}
	if got, want := set.MaxOverhead(), x.Public().Overhead(); got != want {
		t.Errorf("MaxOverhead %d, want %d", got, want)
	}
	if got, want := keySet(t, a, x, b).MaxOverhead(), x.Public().Overhead(); got != want {
		t.Errorf("MaxOverhead %d, want %d", got, want)
	}
	if got, want := keySet(t, a).MaxOverhead(), a.Public().Overhead(); got != want {
		t.Errorf("MaxOverhead %d, want %d", got, want)
	}
	for id, want := range map[uint32]*seal.PrivateKey{1: a, 2: b, 3: x, 4: nil, 0: nil} {
		if got, ok := set.Lookup(id); got != want || ok != (want != nil) {
			t.Errorf("Lookup(%d) is %v, %v", id, got, ok)
		}
	}
	for _, tt := range []struct {
		name string
		key  *seal.PublicKey
		want bool
	}{
		{"itself", a.Public(), true},
		{"RAW", b.Public(), true},
		{"under another id", publicKey(t, a.Suite(), 99, a.Public().Bytes()), true},
		{"in another suite of the KEM", publicKey(t, seal.X25519AES128GCM, 99, a.Public().Bytes()), true},
		{"same id, other bytes", fixedKey(t, a.Suite(), 1, "other").Public(), false},
		{"a stranger", newKey(t, seal.XWingAES256GCM).Public(), false},
	} {
		if got := set.Holds(tt.key); got != tt.want {
			t.Errorf("%s: Holds is %v", tt.name, got)
		}
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	raw := seal.WithoutPrefix()
	a := fixedKey(t, seal.X25519AES256GCM, 1, "a")
	for _, tt := range []struct {
		name string
		keys []*seal.PrivateKey
		err  error
	}{
		{"nil primary", keys(nil), seal.ErrInvalidKey},
		{"nil among others", keys(a, nil), seal.ErrInvalidKey},
		{"twice the same", keys(a, a), seal.ErrDuplicateKey},
		{"same id", keys(a, fixedKey(t, seal.P256AES256GCM, 1, "b")), seal.ErrDuplicateKey},
		{"same id, one RAW", keys(a, fixedKey(t, seal.P256AES256GCM, 1, "b", raw)), seal.ErrDuplicateKey},
		{"same bytes, other id", keys(a, fixedKey(t, seal.X25519AES256GCM, 2, "a")), seal.ErrDuplicateKey},
		{"same bytes, other id, one RAW", keys(a, fixedKey(t, seal.X25519AES256GCM, 2, "a", raw)), seal.ErrDuplicateKey},
		{"same bytes, other suite of the KEM", keys(a, privateKey(t, seal.X25519AES128GCM, 2, a.Bytes())), seal.ErrDuplicateKey},
		{"duplicate among others", keys(a, newKey(t, seal.P256AES256GCM), fixedKey(t, seal.X25519AES256GCM, 2, "a")), seal.ErrDuplicateKey},
		{"three RAW keys", keys(newKey(t, a.Suite(), raw), a, newKey(t, a.Suite(), raw), newKey(t, a.Suite(), raw)), seal.ErrTooManyRawKeys},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := seal.NewKeySet(tt.keys[0], tt.keys[1:]...)
			if set != nil || !errors.Is(err, seal.ErrInvalidKey) || !errors.Is(err, tt.err) {
				t.Fatalf("%v, %v; want %v", set, err, tt.err)
			}
			for _, k := range tt.keys {
				if k != nil {
					noSecret(t, err.Error(), k.Bytes())
				}
			}
		})
	}
	// The same bytes as a private key of another KEM are another key.
	if _, err := seal.NewKeySet(a, privateKey(t, seal.XWingAES256GCM, 2, a.Bytes())); err != nil {
		t.Error(err)
	}
}

func TestKeySetIsItsOwn(t *testing.T) {
	a, b, c := newKey(t, seal.X25519AES256GCM), newKey(t, seal.X25519AES256GCM), newKey(t, seal.P256AES256GCM)
	others := make([]*seal.PrivateKey, 1, 4)
	others[0] = b
	set := keySet(t, a, others...)
	others[0] = c
	set.Keys()[0] = c
	if got := set.Keys(); !slices.Equal(got, keys(a, b)) || set.Primary() != a {
		t.Errorf("the set is now %v", got)
	}
	refuse(t, set, sealTo(t, c.Public(), nil, nil), nil, seal.ErrUnknownKey)
	if _, _, err := open(t, set, sealTo(t, b.Public(), nil, nil), nil); err != nil {
		t.Error(err)
	}
}

// What is no key is refused or not held, and does not panic.
func TestKeySetNone(t *testing.T) {
	if _, err := seal.NewKeySet(new(seal.PrivateKey)); !errors.Is(err, seal.ErrInvalidKey) {
		t.Errorf("the zero PrivateKey: got %v, want ErrInvalidKey", err)
	}
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	set, err := seal.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	if set.Holds(nil) {
		t.Error("the set holds nil")
	}
}
