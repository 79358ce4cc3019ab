package seal

import "crypto/cipher"

// OpenContext gives the tests the AEAD and base nonce of an encapsulated key:
// the vectors of RFC 9180 have associated data, the package's messages have none.
func OpenContext(k *PrivateKey, enc, info []byte) (aead cipher.AEAD, baseNonce []byte, err error) {
	ctx, err := newOpenContext(k, enc, info)
	if err != nil {
		return nil, nil, err
	}
	return ctx.aead, ctx.baseNonce[:], nil
}
