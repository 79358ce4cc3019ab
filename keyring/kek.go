package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// AEAD encrypts and decrypts private keys at rest: it is, or stands for, a
// key-encryption key. Every Tink AEAD is one, so any KMS that Tink speaks to can
// hold the key. It must be safe for use by several goroutines at once.
//
// An AEAD that also has the methods EncryptWithContext and DecryptWithContext (see
// Tink's AEADWithContext) is called by those. A call of one that has not is
// abandoned, to end when it will, once the context has ended.
type AEAD interface {
	// Encrypt returns the plaintext encrypted, and bound to the associated data.
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	// Decrypt returns the plaintext of what Encrypt has made, or an error if that or the
	// associated data is another.
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// contextAEAD is Tink's AEADWithContext.
type contextAEAD interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// ErrKEK is wrapped, together with the AEAD's own error, if something could not be
// encrypted or decrypted: the KMS cannot be reached or refuses, the key-encryption
// key is another one, or what is stored was moved from another ring, key id or
// suite. An AEAD does not tell which.
var ErrKEK = errors.New("the key-encryption key failed")

func encrypt(ctx context.Context, kek AEAD, plaintext, associatedData []byte) ([]byte, error) {
	out, err := call(ctx, func() ([]byte, error) {
		if c, ok := kek.(contextAEAD); ok {
			return c.EncryptWithContext(ctx, plaintext, associatedData)
		}
		return kek.Encrypt(plaintext, associatedData)
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w: %w", ErrKEK, err)
	}
	return out, nil
}

func decrypt(ctx context.Context, kek AEAD, ciphertext, associatedData []byte) ([]byte, error) {
	out, err := call(ctx, func() ([]byte, error) {
		if c, ok := kek.(contextAEAD); ok {
			return c.DecryptWithContext(ctx, ciphertext, associatedData)
		}
		return kek.Decrypt(ciphertext, associatedData)
	})
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w: %w", ErrKEK, err)
	}
	return out, nil
}

// call returns what f returns, or the error of ctx if that ends first.
func call(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type result struct {
		out []byte
		err error
	}
	results := make(chan result, 1)
	go func() {
		out, err := f()
		results <- result{out, err}
	}()
	select {
	case r := <-results:
		return r.out, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// encryptChecked encrypts and makes sure that the result decrypts: a key that may
// be used to encrypt only is found out before anything depends on it.
func encryptChecked(ctx context.Context, kek AEAD, plaintext, associatedData []byte) ([]byte, error) {
	ciphertext, err := encrypt(ctx, kek, plaintext, associatedData)
	if err != nil {
		return nil, err
	}
	again, err := decrypt(ctx, kek, ciphertext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("what was just encrypted: %w", err)
	}
	if !bytes.Equal(again, plaintext) {
		return nil, fmt.Errorf("%w: it does not decrypt what it has just encrypted", ErrKEK)
	}
	return ciphertext, nil
}

// KEKs makes an AEAD of several: it encrypts with current, and decrypts with that
// of all which can, tried in order. It is for the time in which a ring goes from
// one key-encryption key to another: see [Keyring.Rewrap].
func KEKs(current AEAD, old ...AEAD) AEAD { return append(keks{current}, old...) }

type keks []AEAD

func (k keks) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if k[0] == nil {
		return nil, errNoKEK
	}
	return encrypt(ctx, k[0], plaintext, associatedData)
}

func (k keks) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	var errs []error
	for _, kek := range k {
		if kek == nil {
			return nil, errNoKEK
		}
		plaintext, err := decrypt(ctx, kek, ciphertext, associatedData)
		if err == nil {
			return plaintext, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (k keks) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return k.EncryptWithContext(context.Background(), plaintext, associatedData)
}

func (k keks) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return k.DecryptWithContext(context.Background(), ciphertext, associatedData)
}

var errNoKEK = errors.New("a key-encryption key is nil")

// InsecurePlaintext is an AEAD that does nothing. Whoever reads the store, or a
// backup of it, has the private keys, and whoever writes it can change the ring
// unnoticed. It is for tests, and for stores that encrypt and authenticate by
// themselves.
func InsecurePlaintext() AEAD { return plaintextAEAD{} }

type plaintextAEAD struct{}

func (plaintextAEAD) Encrypt(plaintext, _ []byte) ([]byte, error) { return bytes.Clone(plaintext), nil }

func (plaintextAEAD) Decrypt(ciphertext, _ []byte) ([]byte, error) {
	return bytes.Clone(ciphertext), nil
}
