package tinkkeys

import (
	"context"
	"errors"

	"github.com/tink-crypto/tink-go/v2/tink"
)

var errNoAEAD = errors.New("there is none")

func encrypt(ctx context.Context, kek tink.AEAD, plaintext, associatedData []byte) ([]byte, error) {
	switch kek := kek.(type) {
	case nil:
		return nil, errNoAEAD
	case tink.AEADWithContext:
		return kek.EncryptWithContext(ctx, plaintext, associatedData)
	default:
		return kek.Encrypt(plaintext, associatedData)
	}
}

func decrypt(ctx context.Context, kek tink.AEAD, ciphertext, associatedData []byte) ([]byte, error) {
	switch kek := kek.(type) {
	case nil:
		return nil, errNoAEAD
	case tink.AEADWithContext:
		return kek.DecryptWithContext(ctx, ciphertext, associatedData)
	default:
		return kek.Decrypt(ciphertext, associatedData)
	}
}

// ContextAEAD makes a [tink.AEADWithContext], such as Tink's Google Cloud KMS and
// its KMSEnvelopeAEADWithContext are, fit where a [tink.AEAD] is asked for. It
// keeps the methods that take a context, so [EncryptPrivate], [DecryptPrivate] and
// all others that look for them still call those. Encrypt and Decrypt, which take
// none, go on without a deadline. It is safe for use by several goroutines at once
// if kek is.
func ContextAEAD(kek tink.AEADWithContext) tink.AEAD { return contextAEAD{kek} }

type contextAEAD struct{ tink.AEADWithContext }

func (a contextAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.EncryptWithContext(context.Background(), plaintext, associatedData)
}

func (a contextAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.DecryptWithContext(context.Background(), ciphertext, associatedData)
}
