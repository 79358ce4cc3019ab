package seal_test

import (
	"crypto/ecdh"
	"math/big"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// Curve25519 is v^2 = u^3 + Au^2 + u over the integers modulo p (RFC 7748,
// section 4.1). X25519 takes u of points on the curve and on its twist alike.
var (
	curveP    = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	curveA    = big.NewInt(486662)
	twoTo255  = new(big.Int).Lsh(big.NewInt(1), 255)
	x25519Len = 32
)

// field does arithmetic modulo p on what it is given.
type field struct{}

func (field) mod(x *big.Int) *big.Int      { return new(big.Int).Mod(x, curveP) }
func (f field) add(x, y *big.Int) *big.Int { return f.mod(new(big.Int).Add(x, y)) }
func (f field) sub(x, y *big.Int) *big.Int { return f.mod(new(big.Int).Sub(x, y)) }
func (f field) mul(x, y *big.Int) *big.Int { return f.mod(new(big.Int).Mul(x, y)) }

// roots returns the two square roots of x, or none.
func (f field) roots(x *big.Int) []*big.Int {
	r := new(big.Int).ModSqrt(f.mod(x), curveP)
	if r == nil {
		return nil
	}
	return []*big.Int{r, f.sub(new(big.Int), r)}
}

// double returns u of twice the point, or nil for the point at infinity.
func (f field) double(u *big.Int) *big.Int {
	one := big.NewInt(1)
	uu := f.mul(u, u)
	below := f.mul(f.mul(big.NewInt(4), u), f.add(f.add(uu, f.mul(curveA, u)), one))
	if below.Sign() == 0 {
		return nil
	}
	above := f.sub(uu, one)
	return f.mul(f.mul(above, above), new(big.Int).ModInverse(below, curveP))
}

// lowOrderResidues solves for every u below p whose point, multiplied by 8, is the
// point at infinity. Halving goes backwards: the double is infinity for u = 0 (the
// other factor, u^2 + Au + 1, has no root), 0 for u = 1 and u = -1; and it is
// s = 1 or s = -1 where w = u + 1/u solves w^2 - 4sw - 4As - 4 = 0.
func lowOrderResidues(t testing.TB) []*big.Int {
	t.Helper()
	var f field
	zero, one, two, four := big.NewInt(0), big.NewInt(1), big.NewInt(2), big.NewInt(4)
	if f.roots(f.sub(f.mul(curveA, curveA), four)) != nil {
		t.Fatal("u^2 + Au + 1 has roots after all")
	}
	us := []*big.Int{zero, one, f.sub(zero, one)}
	for _, s := range []*big.Int{one, f.sub(zero, one)} {
		// w = 2s +- 2 sqrt(As + 2), since s^2 = 1
		for _, r := range f.roots(f.add(f.mul(curveA, s), two)) {
			w := f.add(f.mul(two, s), f.mul(two, r))
			half := new(big.Int).ModInverse(two, curveP)
			for _, q := range f.roots(f.sub(f.mul(w, w), four)) {
				us = append(us, f.mul(half, f.add(w, q)))
			}
		}
	}
	slices.SortFunc(us, (*big.Int).Cmp)
	us = slices.CompactFunc(us, func(x, y *big.Int) bool { return x.Cmp(y) == 0 })
	for _, u := range us {
		for n := 0; u != nil; n++ {
			if n == 3 {
				t.Fatalf("8 times %x is not the point at infinity", u)
			}
			u = f.double(u)
		}
	}
	return us
}

// lowOrder returns every 32-byte encoding of a point of low order: for who reads
// 255 bits, as RFC 7748 has it, and for who reads all 256.
func lowOrder(t testing.TB) (encodings [][]byte) {
	t.Helper()
	add := func(u *big.Int) {
		if u.BitLen() > 256 {
			return
		}
		encodings = append(encodings, littleEndian(u))
	}
	for _, u := range lowOrderResidues(t) {
		for k := range int64(3) { // 256 bits hold less than 3p
			add(new(big.Int).Add(u, new(big.Int).Mul(big.NewInt(k), curveP)))
		}
		add(new(big.Int).Add(u, twoTo255))
		if v := new(big.Int).Add(u, curveP); v.Cmp(twoTo255) < 0 {
			add(v.Add(v, twoTo255))
		}
	}
	slices.SortFunc(encodings, slices.Compare)
	return slices.CompactFunc(encodings, slices.Equal)
}

func littleEndian(u *big.Int) []byte {
	b := u.FillBytes(make([]byte, x25519Len))
	slices.Reverse(b)
	return b
}

// withX25519 runs a test for every suite with an X25519 key in it, with a function
// that makes a public key of 32 bytes of X25519.
func withX25519(t *testing.T, test func(t *testing.T, sp spec, whole func(x []byte) []byte)) {
	t.Helper()
	for _, sp := range specs {
		if sp.kem == 0x0010 {
			continue
		}
		valid := newKey(t, sp.suite).Public().Bytes()
		t.Run(sp.name, func(t *testing.T) {
			test(t, sp, func(x []byte) []byte {
				return append(slices.Clone(valid[:sp.public-x25519Len]), x...)
			})
		})
	}
}

func TestX25519LowOrder(t *testing.T) {
	if n := len(lowOrderResidues(t)); n != 5 {
		t.Errorf("%d points of low order, want 5", n)
	}
	points := lowOrder(t)
	// 7 encodings in 255 bits, the same with the highest bit set, and 5 that only
	// who reads 256 bits takes for such points: the published list is 7 + 5.
	if len(points) != 19 {
		t.Errorf("%d encodings, want 19", len(points))
	}
	scalar, err := ecdh.X25519().NewPrivateKey(pattern(32))
	if err != nil {
		t.Fatal(err)
	}
	weak := 0
	for _, p := range points {
		pub, err := ecdh.X25519().NewPublicKey(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scalar.ECDH(pub); err != nil {
			weak++
		}
	}
	if weak != 14 {
		t.Errorf("crypto/ecdh refuses %d of them, want 14", weak)
	}

	withX25519(t, func(t *testing.T, sp spec, whole func([]byte) []byte) {
		for _, p := range points {
			refusePublic(t, sp.suite, 77, whole(p), seal.ErrLowOrder)
		}
	})
}

func TestX25519NotCanonical(t *testing.T) {
	var bad [][]byte
	for n := int64(2); n <= 18; n++ { // p and p + 1 have low order, p + 19 has 256 bits
		bad = append(bad, littleEndian(new(big.Int).Add(curveP, big.NewInt(n))))
	}
	for _, label := range []string{"a", "b", "c"} { // the highest bit, which RFC 7748 ignores
		x := fixedKey(t, seal.X25519AES256GCM, 1, label).Public().Bytes()
		x[31] |= 0x80
		bad = append(bad, x)
	}
	for _, n := range []int64{2, 9, 18} { // both
		x := littleEndian(new(big.Int).Add(curveP, big.NewInt(n)))
		x[31] |= 0x80
		bad = append(bad, x)
	}
	bad = append(bad, slices.Repeat([]byte{0xff}, 32)) // p + 18 with the highest bit
	withX25519(t, func(t *testing.T, sp spec, whole func([]byte) []byte) {
		for _, x := range bad {
			refusePublic(t, sp.suite, 77, whole(x), seal.ErrNotCanonical)
		}
	})
}

// Close to what is refused, keys are taken: every u below p but the five.
func TestX25519Accepted(t *testing.T) {
	refused := lowOrderResidues(t)
	withX25519(t, func(t *testing.T, sp spec, whole func([]byte) []byte) {
		for n := range int64(40) {
			for _, u := range []*big.Int{
				big.NewInt(n),
				new(big.Int).Sub(curveP, big.NewInt(n+1)),
				new(big.Int).Sub(new(big.Int).Rsh(curveP, 1), big.NewInt(n)),
				new(big.Int).Sub(curveP, new(big.Int).Lsh(big.NewInt(1), uint(8*(n%31)+7))),
			} {
				if slices.ContainsFunc(refused, func(v *big.Int) bool { return u.Cmp(v) == 0 }) {
					continue
				}
				raw := whole(littleEndian(u))
				k := publicKey(t, sp.suite, 77, raw)
				if !slices.Equal(k.Bytes(), raw) {
					t.Errorf("u = %x is serialized otherwise", u)
				}
				sealTo(t, k, nil, nil)
			}
		}
	})
}
