package seal

import (
	"bytes"
	stdhpke "crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/cloudflare/circl/kem"
)

// prefixLen is the length in bytes of Tink's output prefix: 0x01 and the key id.
const prefixLen = 5

// prefixVersion is the first byte of Tink's output prefix.
const prefixVersion = 0x01

// A KeyOption is an option of [GenerateKey], [NewPublicKey] and [NewPrivateKey].
type KeyOption func(*keyOptions)

type keyOptions struct{ raw bool }

// WithoutPrefix makes a key whose messages start with enc, without the five
// bytes that name the key: Tink's output prefix type RAW, and what any other
// HPKE library makes. Such a key has an id all the same.
func WithoutPrefix() KeyOption {
	return func(o *keyOptions) { o.raw = true }
}

// PublicKey seals. It has been validated, is immutable, and is safe for use by
// several goroutines at once.
type PublicKey struct {
	suite Suite
	id    uint32
	raw   bool
	bytes []byte
	kem   kem.PublicKey
	std   stdhpke.PublicKey // X-Wing's besides, nil for other suites
}

// NewPublicKey makes a public key from its id and its KEM's serialized form
// (RFC 9180, section 7.1.1; for X-Wing the draft's 1216 bytes), which it copies.
// Without options the key's messages carry Tink's prefix.
//
// A key is refused, with an error that wraps [ErrInvalidKey] and the rule it
// breaks: [ErrUnknownSuite], [ErrKeyID], [ErrKeyLength], [ErrNotOnCurve],
// [ErrLowOrder], [ErrNotCanonical].
func NewPublicKey(suite Suite, id uint32, raw []byte, opts ...KeyOption) (*PublicKey, error) {
	if err := checkSuiteAndID(suite, id); err != nil {
		return nil, err
	}
	k := &PublicKey{suite: suite, id: id, bytes: bytes.Clone(raw)}
	var err error
	if k.kem, err = parsePublicKey(&suites[suite], raw); err != nil {
		return nil, keyError("public", suite, id, err)
	}
	if suite == XWingAES256GCM {
		if k.std, err = xwing.kem.NewPublicKey(raw); err != nil { // as circl would have
			return nil, keyError("public", suite, id, ErrNotCanonical)
		}
	}
	k.apply(opts)
	return k, nil
}

func (k *PublicKey) apply(opts []KeyOption) {
	var o keyOptions
	for _, opt := range opts {
		opt(&o)
	}
	k.raw = o.raw
}

// ID returns the key id, which is never 0.
func (k *PublicKey) ID() uint32 { return k.id }

// Suite returns the key's suite.
func (k *PublicKey) Suite() Suite { return k.suite }

// HasPrefix reports whether the key's messages start with Tink's five-byte prefix.
func (k *PublicKey) HasPrefix() bool { return !k.raw }

// Bytes returns a copy of the KEM's serialized public key.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.bytes) }

// Equal reports whether both keys are the same in all that a message depends on:
// suite, id, prefix and bytes. A nil key equals only nil.
func (k *PublicKey) Equal(other *PublicKey) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.suite == other.suite && k.id == other.id && k.raw == other.raw && k.sameBytes(other)
}

// sameBytes reports whether both are the same key, under whatever id. Suites
// that share a KEM share its keys.
func (k *PublicKey) sameBytes(other *PublicKey) bool {
	return suites[k.suite].kem == suites[other.suite].kem && bytes.Equal(k.bytes, other.bytes)
}

// HeaderLen returns the number of bytes that stand before the ciphertext in the
// key's messages: the prefix, if any, and enc.
func (k *PublicKey) HeaderLen() int { return k.prefixLen() + suites[k.suite].encSize }

func (k *PublicKey) prefixLen() int {
	if k.raw {
		return 0
	}
	return prefixLen
}

// Overhead returns how many bytes longer a message is than its plaintext.
func (k *PublicKey) Overhead() int { return k.HeaderLen() + tagSize }

// PrivateKey opens. It has been validated, is immutable, and is safe for use by
// several goroutines at once.
//
// However it is printed, logged or marshalled, only its suite and id show: see
// [PrivateKey.Format]. To store it use [PrivateKey.Bytes], encrypted.
type PrivateKey struct {
	public *PublicKey
	// Behind a function, into which nothing that prints by reflection can look. fmt
	// calls no methods of what stands in an unexported field, and for a verb that is
	// no pointer's, such as %s, it follows pointers there.
	secret func() *secret
	alone  *KeySet // the set of this key only
}

type secret struct {
	bytes []byte
	kem   kem.PrivateKey
	std   stdhpke.PrivateKey // as of the public key
}

// GenerateKey makes a new private key with a random id other than 0. Without
// options its messages carry Tink's prefix. It returns an error that wraps
// [ErrUnknownSuite] for a suite that is none.
func GenerateKey(suite Suite, opts ...KeyOption) (*PrivateKey, error) {
	if !suite.valid() {
		return nil, fmt.Errorf("seal: generate key: %v: %w", suite, ErrUnknownSuite)
	}
	_, sk, err := suites[suite].kem.Scheme().GenerateKeyPair()
	if err != nil {
		return nil, fmt.Errorf("seal: generate key: %w", err)
	}
	raw, err := sk.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("seal: generate key: %w", err)
	}
	return NewPrivateKey(suite, randomID(), raw, opts...)
}

func randomID() uint32 {
	var b [4]byte
	for {
		rand.Read(b[:]) // never fails, see crypto/rand
		if id := binary.BigEndian.Uint32(b[:]); id != 0 {
			return id
		}
	}
}

// NewPrivateKey makes a private key from its id and its KEM's serialized form
// (RFC 9180, section 7.1.2; for X-Wing the draft's 32-byte seed), which it
// copies. Without options the key's messages carry Tink's prefix.
//
// A key is refused, with an error that wraps [ErrInvalidKey] and the rule it
// breaks: [ErrUnknownSuite], [ErrKeyID], [ErrKeyLength], [ErrSecretRange]. No
// error contains key bytes.
func NewPrivateKey(suite Suite, id uint32, raw []byte, opts ...KeyOption) (*PrivateKey, error) {
	if err := checkSuiteAndID(suite, id); err != nil {
		return nil, err
	}
	sk, err := parsePrivateKey(&suites[suite], raw)
	if err != nil {
		return nil, keyError("private", suite, id, err)
	}
	// circl computes an X25519 public key on first use without a lock: it is done
	// here, before anyone else has the key.
	pk := sk.Public()
	pub, err := pk.MarshalBinary()
	if err != nil {
		return nil, keyError("private", suite, id, err)
	}
	s := &secret{bytes: bytes.Clone(raw), kem: sk}
	public := &PublicKey{suite: suite, id: id, bytes: pub, kem: pk}
	if suite == XWingAES256GCM {
		if s.std, err = xwing.kem.NewPrivateKey(raw); err != nil {
			return nil, keyError("private", suite, id, ErrSecretRange)
		}
		public.std = s.std.PublicKey()
	}
	public.apply(opts)
	k := &PrivateKey{public: public, secret: func() *secret { return s }}
	k.alone, err = NewKeySet(k)
	return k, err
}

// Public returns the public half, with the same id, suite and prefix.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// ID returns the key id, which is never 0.
func (k *PrivateKey) ID() uint32 { return k.public.id }

// Suite returns the key's suite.
func (k *PrivateKey) Suite() Suite { return k.public.suite }

// HasPrefix reports whether the key's messages start with Tink's five-byte prefix.
func (k *PrivateKey) HasPrefix() bool { return !k.public.raw }

// Bytes returns a copy of the KEM's serialized private key, as it was given: the
// secret itself. An X25519 key is not clamped by this, as RFC 9180, section 7.1.2,
// has it for what is serialized; every use of it clamps.
func (k *PrivateKey) Bytes() []byte { return bytes.Clone(k.secret().bytes) }

func checkSuiteAndID(suite Suite, id uint32) error {
	switch {
	case !suite.valid():
		return fmt.Errorf("seal: key %d: %v: %w", id, suite, ErrUnknownSuite)
	case id == 0:
		return fmt.Errorf("seal: %v key: %w", suite, ErrKeyID)
	}
	return nil
}

func keyError(half string, suite Suite, id uint32, err error) error {
	return fmt.Errorf("seal: %s key %d (%v): %w", half, id, suite, err)
}
