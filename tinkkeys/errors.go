package tinkkeys

import (
	"errors"
	"fmt"
)

// ErrKeyset is wrapped by every error that refuses a keyset or the keys for one.
// Where a single key is at fault the error names its id and wraps what package seal
// has against it, such as [seal.ErrLowOrder].
var ErrKeyset = errors.New("invalid Tink keyset")

// Two refusals to tell apart. Both wrap [ErrKeyset].
var (
	// ErrUnsupported is a key that may be good in Tink, but is none of package
	// seal's: another type or version, other parameters, another output prefix.
	ErrUnsupported = fmt.Errorf("%w: unsupported key", ErrKeyset)
	// ErrPrivateKey is a secret in a keyset that should be public. Whoever was
	// sent that keyset has the secret: replace the key.
	ErrPrivateKey = fmt.Errorf("%w: secret key in a public keyset", ErrKeyset)
)

// ErrAEAD is wrapped, together with the AEAD's own error, if a keyset could not be
// encrypted or decrypted: the KMS cannot be reached or refuses, or it is another
// key, other associated data or an altered keyset. An AEAD does not tell which.
var ErrAEAD = errors.New("the AEAD failed")

// keyError says which key an error is about.
func keyError(id uint32, err error) error {
	return fmt.Errorf("tinkkeys: key %d: %w", id, err)
}
