package seal

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Seal appends to dst a message with the plaintext for the holder of the private
// key and returns the extended slice, as [crypto/cipher.AEAD] does. It draws a
// fresh encapsulated key from crypto/rand. info is HPKE's (RFC 9180, section 5):
// who opens the message must give the same; nil and empty are the same.
//
// Mind the order of arguments: [crypto/hpke.Seal] has info before the plaintext.
//
// To seal in place, without a copy, let the plaintext stand where its ciphertext
// will: at dst[len(dst)+k.HeaderLen():], with [PublicKey.Overhead] bytes more in
// dst's capacity than the plaintext is long. Any other overlap of the plaintext
// with its ciphertext panics, as [crypto/cipher.AEAD] does.
//
// With a validated key Seal fails for no reason that a caller can mend.
func (k *PublicKey) Seal(dst, plaintext, info []byte) ([]byte, error) {
	enc, ctx, err := newSealContext(k, info)
	if err != nil {
		return nil, fmt.Errorf("seal: encapsulate to key %d (%v): %w", k.id, k.suite, err)
	}
	start := len(dst)
	dst = slices.Grow(dst, k.Overhead()+len(plaintext))
	// The header comes last: it may stand where the plaintext is.
	message := ctx.aead.Seal(dst[:start+k.HeaderLen()], ctx.baseNonce[:], plaintext, nil)
	header := message[:start]
	if !k.raw {
		header = append(header, prefixVersion)
		header = binary.BigEndian.AppendUint32(header, k.id)
	}
	copy(message[len(header):], enc)
	return message, nil
}

// Open appends to dst the plaintext of a message that was sealed to this key with
// the same info, and returns the extended slice. dst must not overlap message.
//
// Mind the order of arguments: [crypto/hpke.Open] has info before the ciphertext.
//
// It returns errors that wrap [ErrMalformed] for a message shorter than any of
// this key's, [ErrUnknownKey] for one whose prefix names another key, and
// [ErrDecryptionFailed] for one that does not authenticate.
func (k *PrivateKey) Open(dst, message, info []byte) ([]byte, error) {
	return k.alone.Open(dst, message, info)
}

// open appends the plaintext to dst, which overlaps nothing or is the message up
// to its ciphertext. If it fails, what dst's spare capacity held is gone.
func (k *PrivateKey) open(dst, message, info []byte) ([]byte, error) {
	if len(message) < k.public.Overhead() {
		return nil, ErrDecryptionFailed
	}
	h := k.public.HeaderLen()
	ctx, err := newOpenContext(k, message[h-suites[k.public.suite].encSize:h], info)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	dst, err = ctx.aead.Open(dst, ctx.baseNonce[:], message[h:], nil)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	return dst, nil
}
