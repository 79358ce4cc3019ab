package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// No bytes make a key set panic, and none open: the seeds are messages to keys of
// strangers that have the same ids, so they have the right form.
func FuzzKeySetOpen(f *testing.F) {
	raw := seal.WithoutPrefix()
	const info = "info"
	five := func(label string) []*seal.PrivateKey {
		return keys(
			fixedKey(f, seal.X25519AES256GCM, 1, label+" a"),
			fixedKey(f, seal.P256AES256GCM, 2, label+" b"),
			fixedKey(f, seal.XWingAES256GCM, 3, label+" c"),
			fixedKey(f, seal.X25519ChaCha20Poly1305, 4, label+" d", raw),
			fixedKey(f, seal.P256AES128GCM, 5, label+" e", raw),
		)
	}
	held, strangers := five("held"), five("stranger")
	sets := []*seal.KeySet{
		keySet(f, held[0], held[1:]...),
		keySet(f, held[0], held[1], held[2]),
		keySet(f, held[3], held[4]),
		keySet(f, held[2]),
	}
	for _, k := range strangers {
		m := sealTo(f, k.Public(), pattern(20), []byte(info))
		f.Add(m)
		f.Add(m[:k.Public().Overhead()])
		f.Add(m[:k.Public().Overhead()-1])
		f.Add(m[:k.Public().HeaderLen()])
		f.Add(append(prefixOf(k.ID()), m...))
		f.Add(append(prefixOf(99), m...))
	}
	for _, point := range lowOrder(f) {
		f.Add(append(prefixOf(1), append(point, make([]byte, 16)...)...))
		f.Add(append(point, make([]byte, 16)...))
	}
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, message []byte) {
		for _, set := range sets {
			refuse(t, set, message, []byte(info), refusal(set, message))
		}
	})
}

// What is taken as a public key serializes to the same bytes, seals, and is a key
// to crypto/hpke. What crypto/hpke can seal to and we refuse, we refuse for being a
// second encoding.
func FuzzNewPublicKey(f *testing.F) {
	for _, sp := range specs {
		for _, withoutPrefix := range []bool{false, true} {
			f.Add(uint8(sp.suite), uint32(1), fixedKey(f, sp.suite, 1, "seed").Public().Bytes(), withoutPrefix)
		}
		f.Add(uint8(sp.suite), uint32(0), make([]byte, sp.public), false)
		f.Add(uint8(sp.suite), uint32(7), bytes.Repeat([]byte{0xff}, sp.public), true)
	}
	for _, point := range lowOrder(f) {
		f.Add(uint8(seal.X25519AES256GCM), uint32(1), point, false)
	}
	f.Add(uint8(0), uint32(1), []byte{}, false)
	f.Add(uint8(255), uint32(1), []byte{4}, false)
	f.Fuzz(func(t *testing.T, suite uint8, id uint32, raw []byte, withoutPrefix bool) {
		fo := forms[0]
		if withoutPrefix {
			fo = forms[1]
		}
		before := bytes.Clone(raw)
		k, err := seal.NewPublicKey(seal.Suite(suite), id, raw, fo.opts...)
		if !bytes.Equal(raw, before) {
			t.Fatal("NewPublicKey changed its argument")
		}
		known := suite > 0 && int(suite) <= len(specs)
		if err != nil {
			if k != nil || !errors.Is(err, seal.ErrInvalidKey) {
				t.Fatalf("%v, %v", k, err)
			}
			second := errors.Is(err, seal.ErrNotCanonical) ||
				errors.Is(err, seal.ErrLowOrder) && raw[len(raw)-1]&0x80 != 0 // for who reads all 256 bits
			if known && id != 0 && stdSeals(specs[suite-1], raw) && !second {
				t.Fatalf("crypto/hpke seals to what is refused: %v", err)
			}
			return
		}
		if !known || id == 0 || !bytes.Equal(k.Bytes(), raw) || k.ID() != id || k.Suite() != seal.Suite(suite) || k.HasPrefix() == withoutPrefix {
			t.Fatalf("%d, %d, %x became %v with %x", suite, id, raw, k, k.Bytes())
		}
		if !publicKey(t, k.Suite(), k.ID(), k.Bytes(), fo.opts...).Equal(k) {
			t.Fatal("made from its own bytes it is another")
		}
		message := sealTo(t, k, []byte("plaintext"), nil)
		if len(message) != len("plaintext")+k.Overhead() {
			t.Fatalf("a message of %d bytes", len(message))
		}
		if !stdSeals(specs[suite-1], raw) {
			t.Fatal("crypto/hpke does not seal to what is taken")
		}
	})
}

// Whatever secret, plaintext and info: what we seal crypto/hpke and circl open, and
// the other way round.
func FuzzSealOpen(f *testing.F) {
	for _, sp := range specs {
		f.Add(uint8(sp.suite), fixedSecret(sp.suite, "seed"), uint32(1), []byte("plaintext"), []byte("info"), false)
		f.Add(uint8(sp.suite), bytes.Repeat([]byte{0xff}, 32), uint32(1<<32-1), []byte{}, []byte{}, true)
	}
	f.Fuzz(func(t *testing.T, suite uint8, secret []byte, id uint32, plaintext, info []byte, withoutPrefix bool) {
		fo := forms[0]
		if withoutPrefix {
			fo = forms[1]
		}
		k, err := seal.NewPrivateKey(seal.Suite(suite), id, secret, fo.opts...)
		if err != nil {
			if k != nil || !errors.Is(err, seal.ErrInvalidKey) {
				t.Fatalf("%v, %v", k, err)
			}
			return
		}
		sp, set := specs[suite-1], keySet(t, k)
		if !bytes.Equal(k.Bytes(), secret) || k.ID() != id {
			t.Fatalf("%x became %x", secret, k.Bytes())
		}
		message := sealTo(t, k.Public(), plaintext, info)
		if got, _, err := open(t, set, message, info); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("opened to %x, %v", got, err)
		}
		for _, p := range []peer{stdPeer(t, sp, fo, k), circlPeer(t, sp, fo, k)} {
			if got, err := p.open(message, info); err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("a peer opens it to %x, %v", got, err)
			}
			theirs, err := p.seal(plaintext, info)
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := open(t, set, theirs, info); err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("a peer's is opened to %x, %v", got, err)
			}
		}
	})
}
