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
// To seal in place, let the plaintext stand where its ciphertext will: at
// dst[len(dst)+k.HeaderLen():], with [PublicKey.Overhead] bytes more in dst's
// capacity than the plaintext is long. In no other way may it overlap its
// ciphertext: then Seal may panic, as [crypto/cipher.AEAD] does. In place nothing is
// copied or allocated for, but for X-Wing's messages of up to 64 KiB, which
// [crypto/hpke] makes.
//
// With a validated key Seal fails for no reason that a caller can mend.
func (k *PublicKey) Seal(dst, plaintext, info []byte) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, k.Overhead()+len(plaintext))
	var message []byte
	if k.std != nil && len(plaintext) <= maxCopied {
		var err error
		if message, err = sealXWing(k.std, dst[:start+k.prefixLen()], plaintext, info); err != nil {
			return nil, k.encapsulateError(err)
		}
	} else {
		enc, ctx, err := newSealContext(k, info)
		if err != nil {
			return nil, k.encapsulateError(err)
		}
		message = ctx.aead.Seal(dst[:start+k.HeaderLen()], ctx.baseNonce[:], plaintext, nil)
		copy(message[start+k.prefixLen():], enc)
	}
	// The header comes last: it may stand where the plaintext is.
	if !k.raw {
		message[start] = prefixVersion
		binary.BigEndian.PutUint32(message[start+1:], k.id)
	}
	return message, nil
}

func (k *PublicKey) encapsulateError(err error) error {
	return fmt.Errorf("seal: encapsulate to key %d (%v): %w", k.id, k.suite, err)
}

// Open appends to dst the plaintext of a message that was sealed to this key with
// the same info, and returns the extended slice. dst must not overlap message. If
// Open fails, dst's spare capacity may have been written over.
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
	enc := message[k.public.prefixLen():h]
	if std := k.secret().std; std != nil && len(message)-k.public.Overhead() <= maxCopied {
		return openXWing(std, dst, enc, message[h:], info)
	}
	ctx, err := newOpenContext(k, enc, info)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	dst, err = ctx.aead.Open(dst, ctx.baseNonce[:], message[h:], nil)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	return dst, nil
}
