package seal

import (
	"errors"
	"fmt"
)

// What opening a message can end with. The three are told apart before or by the
// key id alone; whatever fails behind it is [ErrDecryptionFailed], with nothing
// that tells one cause from another.
var (
	// ErrMalformed is a message that is too short for any key it could be for.
	ErrMalformed = errors.New("malformed message")
	// ErrUnknownKey is a message whose prefix names a key that is not held.
	ErrUnknownKey = errors.New("unknown key")
	// ErrDecryptionFailed is a message that does not authenticate, for whatever reason.
	ErrDecryptionFailed = errors.New("decryption failed")
)

// ErrInvalidKey is wrapped by every error that refuses a key or a set of keys.
var ErrInvalidKey = errors.New("invalid key")

// The rules that a key can break. Each wraps [ErrInvalidKey].
var (
	// ErrUnknownSuite is a suite, or a name of one, that this package does not have.
	ErrUnknownSuite = fmt.Errorf("%w: unknown suite", ErrInvalidKey)
	// ErrKeyID is the key id 0, which Tink reserves.
	ErrKeyID = fmt.Errorf("%w: the key id must not be 0", ErrInvalidKey)
	// ErrKeyLength is a key of the wrong number of bytes for its suite.
	ErrKeyLength = fmt.Errorf("%w: wrong length", ErrInvalidKey)
	// ErrNotOnCurve is a P-256 point that is the identity, not on the curve, or
	// not in uncompressed form.
	ErrNotOnCurve = fmt.Errorf("%w: not an uncompressed point on the curve", ErrInvalidKey)
	// ErrLowOrder is an X25519 point, alone or in X-Wing, with which every shared
	// secret is one of a few known values (RFC 7748, section 6.1).
	ErrLowOrder = fmt.Errorf("%w: the X25519 point has low order", ErrInvalidKey)
	// ErrNotCanonical is an encoding other than the one that the key's owner
	// computes for the same key. HPKE binds a public key's bytes, so a message
	// sealed to such a key could never be opened.
	ErrNotCanonical = fmt.Errorf("%w: not the canonical encoding", ErrInvalidKey)
	// ErrSecretRange is a private key that is zero or not below the order of its group.
	ErrSecretRange = fmt.Errorf("%w: the private key is out of range", ErrInvalidKey)
	// ErrDuplicateKey is a key set with two keys of one id, or of the same bytes.
	ErrDuplicateKey = fmt.Errorf("%w: duplicate key", ErrInvalidKey)
	// ErrTooManyRawKeys is a key set with more than two keys without a prefix.
	// Nothing in a message tells which of them it is for, so each costs a trial.
	ErrTooManyRawKeys = fmt.Errorf("%w: more than two keys without a prefix", ErrInvalidKey)
)
