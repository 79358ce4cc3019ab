package seal_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// refusals are the sentinels of which an error about a key has exactly one.
var refusals = []error{
	seal.ErrUnknownSuite, seal.ErrKeyID, seal.ErrKeyLength, seal.ErrNotOnCurve,
	seal.ErrLowOrder, seal.ErrNotCanonical, seal.ErrSecretRange,
	seal.ErrDuplicateKey, seal.ErrTooManyRawKeys,
}

func refusePublic(t testing.TB, suite seal.Suite, id uint32, raw []byte, want error) {
	t.Helper()
	for _, f := range forms {
		k, err := seal.NewPublicKey(suite, id, raw, f.opts...)
		if k != nil {
			t.Fatalf("%v: public key %x was taken, want %v", suite, raw, want)
		}
		checkRefusal(t, err, suite, id, raw, want)
	}
}

func refusePrivate(t testing.TB, suite seal.Suite, id uint32, raw []byte, want error) {
	t.Helper()
	for _, f := range forms {
		k, err := seal.NewPrivateKey(suite, id, raw, f.opts...)
		if k != nil {
			t.Fatalf("%v: private key %x was taken, want %v", suite, raw, want)
		}
		checkRefusal(t, err, suite, id, raw, want)
	}
}

func checkRefusal(t testing.TB, err error, suite seal.Suite, id uint32, raw []byte, want error) {
	t.Helper()
	if !errors.Is(err, seal.ErrInvalidKey) {
		t.Fatalf("%v: %d bytes %.40x: error %v is no ErrInvalidKey", suite, len(raw), raw, err)
	}
	for _, sentinel := range refusals {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Fatalf("%v: %d bytes %.40x: error %v, want %v", suite, len(raw), raw, err, want)
		}
	}
	text := err.Error()
	if !strings.Contains(text, suite.String()) || !strings.Contains(text, strconv.FormatUint(uint64(id), 10)) {
		t.Errorf("error %q does not tell suite %v and id %d", text, suite, id)
	}
	if len(raw) > 64 {
		raw = slices.Concat(raw[:16], raw[len(raw)-16:])
	}
	noSecret(t, text, raw)
}

func TestSuiteAndIDAreChecked(t *testing.T) {
	for _, suite := range []seal.Suite{0, 7, 8, 128, 255} {
		for _, sp := range specs {
			valid := fixedKey(t, sp.suite, 1, "valid")
			refusePublic(t, suite, 4242, valid.Public().Bytes(), seal.ErrUnknownSuite)
			refusePrivate(t, suite, 4242, valid.Bytes(), seal.ErrUnknownSuite)
		}
		for _, f := range forms {
			k, err := seal.GenerateKey(suite, f.opts...)
			if k != nil || !errors.Is(err, seal.ErrUnknownSuite) || !strings.Contains(err.Error(), suite.String()) {
				t.Errorf("GenerateKey(%v) gives %v, %v", suite, k, err)
			}
		}
	}
	for _, sp := range specs {
		valid := fixedKey(t, sp.suite, 1, "valid")
		refusePublic(t, sp.suite, 0, valid.Public().Bytes(), seal.ErrKeyID)
		refusePrivate(t, sp.suite, 0, valid.Bytes(), seal.ErrKeyID)
		for _, id := range []uint32{1, 1 << 31, 1<<32 - 1} {
			if k := privateKey(t, sp.suite, id, valid.Bytes()); k.ID() != id || k.Public().ID() != id {
				t.Errorf("id %d became %d, %d", id, k.ID(), k.Public().ID())
			}
		}
	}
}

func TestKeyLengths(t *testing.T) {
	for _, sp := range specs {
		valid := fixedKey(t, sp.suite, 1, "valid")
		public, secret := append(valid.Public().Bytes(), 1), append(valid.Bytes(), 1)
		for n := range sp.public + 2 {
			if n != sp.public {
				refusePublic(t, sp.suite, 4242, public[:n], seal.ErrKeyLength)
			}
		}
		for n := range secretLen + 2 {
			if n != secretLen {
				refusePrivate(t, sp.suite, 4242, secret[:n], seal.ErrKeyLength)
			}
		}
		refusePublic(t, sp.suite, 4242, nil, seal.ErrKeyLength)
		refusePrivate(t, sp.suite, 4242, nil, seal.ErrKeyLength)
	}
}

// A key of another suite is refused or, where the KEM is the same, is a key there too.
func TestKeysOfOtherSuites(t *testing.T) {
	for _, sp := range specs {
		public := newKey(t, sp.suite).Public().Bytes()
		for _, other := range specs {
			_, err := seal.NewPublicKey(other.suite, 1, public)
			if (err == nil) != (sp.kem == other.kem) {
				t.Errorf("%s key as %s: %v", sp.name, other.name, err)
			}
		}
	}
}

func TestP256Points(t *testing.T) {
	curve := elliptic.P256().Params()
	size := 32
	point := func(first byte, x, y *big.Int) []byte {
		b := make([]byte, 1+2*size)
		b[0] = first
		x.FillBytes(b[1 : 1+size])
		y.FillBytes(b[1+size:])
		return b
	}
	largest := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))

	valid := fixedKey(t, seal.P256AES256GCM, 1, "valid").Public().Bytes()
	x, y := new(big.Int).SetBytes(valid[1:1+size]), new(big.Int).SetBytes(valid[1+size:])
	minusY := new(big.Int).Sub(curve.P, y)

	// A point whose x is so small that x + p still has 256 bits.
	smallX, smallY := big.NewInt(0), new(big.Int)
	for ; ; smallX.Add(smallX, big.NewInt(1)) {
		rhs := new(big.Int).Exp(smallX, big.NewInt(3), nil)
		rhs.Sub(rhs, new(big.Int).Mul(big.NewInt(3), smallX))
		if smallY.ModSqrt(rhs.Add(rhs, curve.B).Mod(rhs, curve.P), curve.P) != nil {
			break
		}
	}

	compressed := append([]byte{2 | valid[2*size]&1}, valid[1:1+size]...)
	for _, suite := range []seal.Suite{seal.P256AES256GCM, seal.P256AES128GCM} {
		for _, tt := range []struct {
			name string
			raw  []byte
			want error // nil: taken
		}{
			{"valid", valid, nil},
			{"its negative", point(4, x, minusY), nil},
			{"small x", point(4, smallX, smallY), nil},
			{"small x, plus p", point(4, new(big.Int).Add(smallX, curve.P), smallY), seal.ErrNotOnCurve},
			{"compressed", compressed, seal.ErrKeyLength},
			{"compressed, filled up", append(slices.Clone(compressed), make([]byte, size)...), seal.ErrNotOnCurve},
			{"compressed form byte 2", point(2, x, y), seal.ErrNotOnCurve},
			{"compressed form byte 3", point(3, x, y), seal.ErrNotOnCurve},
			{"hybrid form byte 6", point(6, x, y), seal.ErrNotOnCurve},
			{"hybrid form byte 7", point(7, x, y), seal.ErrNotOnCurve},
			{"form byte 0", point(0, x, y), seal.ErrNotOnCurve},
			{"form byte 5", point(5, x, y), seal.ErrNotOnCurve},
			{"without form byte", append(slices.Clone(valid[1:]), 0), seal.ErrNotOnCurve},
			{"identity in one byte", []byte{0}, seal.ErrKeyLength},
			{"identity, filled up", make([]byte, 65), seal.ErrNotOnCurve},
			{"identity, uncompressed form byte", point(4, new(big.Int), new(big.Int)), seal.ErrNotOnCurve},
			{"x = y = p", point(4, curve.P, curve.P), seal.ErrNotOnCurve},
			{"x = p", point(4, curve.P, y), seal.ErrNotOnCurve},
			{"y = p", point(4, x, curve.P), seal.ErrNotOnCurve},
			{"all ones", point(4, largest, largest), seal.ErrNotOnCurve},
			{"off the curve by x", point(4, new(big.Int).Xor(x, big.NewInt(1)), y), seal.ErrNotOnCurve},
			{"off the curve by y", point(4, x, new(big.Int).Xor(y, big.NewInt(1))), seal.ErrNotOnCurve},
			{"x and y exchanged", point(4, y, x), seal.ErrNotOnCurve},
			{"generator of another curve", point(4, elliptic.P224().Params().Gx, elliptic.P224().Params().Gy), seal.ErrNotOnCurve},
		} {
			if tt.want != nil {
				t.Run(tt.name, func(t *testing.T) { refusePublic(t, suite, 4242, tt.raw, tt.want) })
			} else if k := publicKey(t, suite, 4242, tt.raw); !bytes.Equal(k.Bytes(), tt.raw) {
				t.Errorf("%s: serialized otherwise", tt.name)
			}
		}
	}
}

func TestPrivateKeyRange(t *testing.T) {
	n := elliptic.P256().Params().N
	at := func(delta int64) []byte { return new(big.Int).Add(n, big.NewInt(delta)).FillBytes(make([]byte, 32)) }
	zero, one, ones := make([]byte, 32), append(make([]byte, 31), 1), bytes.Repeat([]byte{0xff}, 32)
	const all, p256, others = "all", "P-256", "others"
	for _, tt := range []struct {
		name    string
		raw     []byte
		refused string // of which suites
	}{
		{"zero", zero, all},
		{"one", one, ""},
		{"order of P-256 less one", at(-1), ""},
		{"order of P-256", at(0), p256},
		{"order of P-256 and one", at(1), p256},
		{"all ones", ones, p256},
	} {
		for _, sp := range specs {
			if tt.refused == all || tt.refused == p256 && sp.kem == 0x0010 {
				refusePrivate(t, sp.suite, 4242, tt.raw, seal.ErrSecretRange)
				continue
			}
			k := privateKey(t, sp.suite, 4242, tt.raw)
			if !bytes.Equal(k.Bytes(), tt.raw) {
				t.Errorf("%s, %s: serialized otherwise", sp.name, tt.name)
			}
			message := sealTo(t, publicKey(t, sp.suite, 4242, k.Public().Bytes()), []byte("plaintext"), nil)
			if got, err := k.Open(nil, message, nil); err != nil || string(got) != "plaintext" {
				t.Errorf("%s, %s: opened to %q, %v", sp.name, tt.name, got, err)
			}
		}
	}
}

// FIPS 203, section 7.2: coefficients of an ML-KEM encapsulation key are below 3329.
func TestXWingCoefficients(t *testing.T) {
	const q, coefficients = 3329, 3 * 256
	valid := fixedKey(t, seal.XWingAES256GCM, 1, "valid").Public().Bytes()
	// Two coefficients of 12 bits stand in three bytes, least significant first.
	with := func(i int, c uint16) []byte {
		b := slices.Clone(valid)
		three := b[i/2*3:]
		if i%2 == 0 {
			three[0], three[1] = byte(c), three[1]&0xf0|byte(c>>8)
		} else {
			three[1], three[2] = three[1]&0x0f|byte(c<<4), byte(c>>4)
		}
		return b
	}
	for _, i := range []int{0, 1, 2, 255, 256, 511, 512, coefficients - 2, coefficients - 1} {
		for _, c := range []uint16{0, 1, q - 1} {
			raw := with(i, c)
			if k := publicKey(t, seal.XWingAES256GCM, 4242, raw); !bytes.Equal(k.Bytes(), raw) {
				t.Errorf("coefficient %d = %d: serialized otherwise", i, c)
			}
		}
		for _, c := range []uint16{q, q + 1, 4095} {
			refusePublic(t, seal.XWingAES256GCM, 4242, with(i, c), seal.ErrNotCanonical)
		}
	}
	refusePublic(t, seal.XWingAES256GCM, 4242, bytes.Repeat([]byte{0xff}, 1216), seal.ErrNotCanonical)
}

// Keys are copies: what happens to a caller's slices afterwards is nothing to them.
func TestKeysAreCopies(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		public, secret := key.Public().Bytes(), key.Bytes()
		wantPublic, wantSecret := bytes.Clone(public), bytes.Clone(secret)
		pub := publicKey(t, sp.suite, key.ID(), public, f.opts...)
		priv := privateKey(t, sp.suite, key.ID(), secret, f.opts...)
		message := sealTo(t, key.Public(), []byte("before"), nil)

		clear(public)
		clear(secret)
		clear(pub.Bytes())
		clear(priv.Bytes())
		clear(priv.Public().Bytes())

		for _, k := range []*seal.PublicKey{pub, priv.Public(), key.Public()} {
			if !bytes.Equal(k.Bytes(), wantPublic) {
				t.Error("a public key changed with the caller's slice")
			}
		}
		for _, k := range []*seal.PrivateKey{priv, key} {
			if !bytes.Equal(k.Bytes(), wantSecret) {
				t.Error("a private key changed with the caller's slice")
			}
		}
		for _, m := range [][]byte{message, sealTo(t, pub, []byte("before"), nil)} {
			if got, err := priv.Open(nil, m, nil); err != nil || string(got) != "before" {
				t.Errorf("opened to %q, %v", got, err)
			}
		}
	})
}

func TestKeyBasics(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		public := key.Public()
		if key.ID() == 0 || public.ID() != key.ID() {
			t.Errorf("ids %d, %d", key.ID(), public.ID())
		}
		if key.Suite() != sp.suite || public.Suite() != sp.suite {
			t.Errorf("suites %v, %v", key.Suite(), public.Suite())
		}
		if want := f.prefix > 0; key.HasPrefix() != want || public.HasPrefix() != want {
			t.Errorf("HasPrefix %v, %v", key.HasPrefix(), public.HasPrefix())
		}
		if len(key.Bytes()) != secretLen || len(public.Bytes()) != sp.public {
			t.Errorf("%d and %d bytes", len(key.Bytes()), len(public.Bytes()))
		}
		other := newKey(t, sp.suite, f.opts...)
		if bytes.Equal(other.Bytes(), key.Bytes()) || other.ID() == key.ID() {
			t.Error("two generated keys are alike")
		}
	})
}

func TestPublicKeyEqual(t *testing.T) {
	raw := fixedKey(t, seal.X25519AES256GCM, 1, "a").Public().Bytes()
	a := publicKey(t, seal.X25519AES256GCM, 1, raw)
	var none *seal.PublicKey
	for _, tt := range []struct {
		name string
		x, y *seal.PublicKey
		want bool
	}{
		{"itself", a, a, true},
		{"made again", a, publicKey(t, seal.X25519AES256GCM, 1, raw), true},
		{"other id", a, publicKey(t, seal.X25519AES256GCM, 2, raw), false},
		{"other prefix", a, publicKey(t, seal.X25519AES256GCM, 1, raw, seal.WithoutPrefix()), false},
		{"other bytes", a, fixedKey(t, seal.X25519AES256GCM, 1, "b").Public(), false},
		{"other AEAD", a, publicKey(t, seal.X25519AES128GCM, 1, raw), false},
		{"other KEM", a, fixedKey(t, seal.P256AES256GCM, 1, "a").Public(), false},
		{"nil", a, nil, false},
		{"nil and nil", none, nil, true},
	} {
		if tt.x.Equal(tt.y) != tt.want || tt.y.Equal(tt.x) != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.name, tt.x.Equal(tt.y), tt.y.Equal(tt.x), tt.want)
		}
	}
}

func TestSuites(t *testing.T) {
	all := seal.Suites()
	if len(all) != len(specs) {
		t.Fatalf("%d suites, want %d", len(all), len(specs))
	}
	for i, sp := range specs {
		if all[i] != sp.suite || sp.suite.String() != sp.name {
			t.Errorf("suite %d is %v, want %s", i, all[i], sp.name)
		}
		for _, name := range []string{sp.name, strings.ToLower(sp.name)} {
			if got, err := seal.ParseSuite(name); err != nil || got != sp.suite {
				t.Errorf("ParseSuite(%q) is %v, %v", name, got, err)
			}
		}
	}
	all[0] = 0
	if seal.Suites()[0] != seal.X25519AES256GCM {
		t.Error("Suites gives out its own slice")
	}
	for _, name := range []string{
		"", " ", "X25519", "X25519-AES256GCM ", " X25519-AES256GCM", "X25519_AES256GCM", "X25519-AES256GCM\x00",
		"Suite(1)", "1", "P256-CHACHA20POLY1305",
		"X25519-AE\u017f256GCM", // a long s, which Unicode folds to S
	} {
		if s, err := seal.ParseSuite(name); s != 0 || !errors.Is(err, seal.ErrUnknownSuite) || !errors.Is(err, seal.ErrInvalidKey) {
			t.Errorf("ParseSuite(%q) is %v, %v", name, s, err)
		}
	}
	for _, s := range []seal.Suite{0, 7, 255} {
		if got, want := s.String(), fmt.Sprintf("Suite(%d)", uint8(s)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
