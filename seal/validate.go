package seal

import (
	"fmt"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// parsePublicKey validates a serialized public key. circl checks lengths, that a
// P-256 point is on the curve, and that ML-KEM coefficients are reduced (FIPS
// 203, section 7.2). It takes any X25519 point: a low-order one fails only at
// encapsulation, and inside X-Wing never.
func parsePublicKey(p *suiteParams, raw []byte) (kem.PublicKey, error) {
	if len(raw) != p.publicLen {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrKeyLength, len(raw), p.publicLen)
	}
	switch p.kem {
	case hpke.KEM_X25519_HKDF_SHA256:
		if err := checkX25519((*x25519.Key)(raw)); err != nil {
			return nil, err
		}
	case hpke.KEM_XWING:
		// pk = ML-KEM encapsulation key || X25519 public key
		if err := checkX25519((*x25519.Key)(raw[len(raw)-x25519.Size:])); err != nil {
			return nil, err
		}
	}
	k, err := p.kem.Scheme().UnmarshalBinaryPublicKey(raw)
	if err != nil {
		if p.kem == hpke.KEM_XWING {
			return nil, fmt.Errorf("%w: the ML-KEM-768 half", ErrNotCanonical)
		}
		return nil, ErrNotOnCurve
	}
	return k, nil
}

// parsePrivateKey validates a serialized private key.
func parsePrivateKey(p *suiteParams, raw []byte) (kem.PrivateKey, error) {
	if len(raw) != p.secretLen {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrKeyLength, len(raw), p.secretLen)
	}
	var any byte
	for _, b := range raw {
		any |= b
	}
	if any == 0 {
		return nil, ErrSecretRange
	}
	k, err := p.kem.Scheme().UnmarshalBinaryPrivateKey(raw)
	if err != nil {
		return nil, ErrSecretRange
	}
	return k, nil
}

// lowOrderX25519 are the 12 encodings of points of low order that
// https://cr.yp.to/ecdh.html#validate lists. The last five are such points for an
// implementation that reads all 256 bits; RFC 7748 clears the highest.
var lowOrderX25519 = [12]x25519.Key{
	{0},
	{1},
	{ // order 8
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{ // order 8
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	nearPowerOfTwo(0xec, 0x7f), // p - 1
	nearPowerOfTwo(0xed, 0x7f), // p
	nearPowerOfTwo(0xee, 0x7f), // p + 1
	{ // p + the first of order 8
		0xcd, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x80,
	},
	{ // p + the second of order 8
		0x4c, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0xd7,
	},
	nearPowerOfTwo(0xd9, 0xff), // 2p - 1
	nearPowerOfTwo(0xda, 0xff), // 2p
	nearPowerOfTwo(0xdb, 0xff), // 2p + 1
}

// nearPowerOfTwo returns the little-endian number first, 30 bytes of 0xff, last.
func nearPowerOfTwo(first, last byte) (k x25519.Key) {
	for i := range k {
		k[i] = 0xff
	}
	k[0], k[31] = first, last
	return k
}

// checkX25519 refuses low-order points, by the published list and by
// multiplication, and encodings of other points that no key owner computes.
func checkX25519(pub *x25519.Key) error {
	masked := *pub
	masked[31] &= 0x7f
	for i := range lowOrderX25519 {
		if *pub == lowOrderX25519[i] || masked == lowOrderX25519[i] {
			return ErrLowOrder
		}
	}
	// Any scalar will do: clamping makes it a multiple of the cofactor 8.
	var shared x25519.Key
	if !x25519.Shared(&shared, &x25519.Key{1}, pub) {
		return ErrLowOrder
	}
	if pub[31]&0x80 != 0 || !belowP(pub) {
		return ErrNotCanonical
	}
	return nil
}

// belowP reports whether a 255-bit little-endian number is below p = 2^255 - 19.
func belowP(k *x25519.Key) bool {
	if k[0] < 0xed || k[31] != 0x7f {
		return true
	}
	for _, b := range k[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}
