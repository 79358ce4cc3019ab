package seal

import (
	stdhpke "crypto/hpke"
)

// crypto/hpke is faster than circl with X-Wing: it opens in 0.7 of the time and seals in
// 0.8. circl's ML-KEM leaves the upper halves of the vector registers in use (it has no
// VZEROUPPER), behind which SHA-256, and so the key schedule, takes many times as long on
// some processors. But crypto/hpke gives neither key nor nonce, so what it makes is
// always a copy: messages up to maxCopied are its part, where a copy costs less than it
// saves. With X25519 and P-256, circl is as fast or faster.
//
// crypto/hpke refuses an enc whose X25519 half is of low order, and circl does not. Nobody
// makes one who follows the draft, and X-Wing does not rest on it.

// maxCopied is the longest plaintext, in bytes, that crypto/hpke seals or opens.
const maxCopied = 64 << 10

var xwing = struct {
	kem  stdhpke.KEM
	kdf  stdhpke.KDF
	aead stdhpke.AEAD
}{stdhpke.MLKEM768X25519(), stdhpke.HKDFSHA256(), stdhpke.AES256GCM()}

// sealXWing appends enc and ciphertext to dst.
func sealXWing(k stdhpke.PublicKey, dst, plaintext, info []byte) ([]byte, error) {
	enc, sender, err := stdhpke.NewSender(k, xwing.kdf, xwing.aead, info)
	if err != nil {
		return nil, err
	}
	ciphertext, err := sender.Seal(nil, plaintext)
	if err != nil {
		return nil, err
	}
	return append(append(dst, enc...), ciphertext...), nil
}

// openXWing appends the plaintext to dst, which may be where the ciphertext is. If it
// fails, what was to be overwritten is cleared, as by a [crypto/cipher.AEAD].
func openXWing(k stdhpke.PrivateKey, dst, enc, ciphertext, info []byte) ([]byte, error) {
	recipient, err := stdhpke.NewRecipient(enc, k, xwing.kdf, xwing.aead, info)
	var plaintext []byte
	if err == nil {
		plaintext, err = recipient.Open(nil, ciphertext)
	}
	if err != nil {
		spare := dst[len(dst):cap(dst)]
		clear(spare[:min(len(spare), len(ciphertext)-tagSize)])
		return nil, ErrDecryptionFailed
	}
	dst = append(dst, plaintext...)
	clear(plaintext)
	return dst, nil
}
