// Package exchangeparty is the exchange profile once more, on Go's crypto/hpke, for
// tests: a caller and a server as functions on bytes. It was written from
// docs/protocol.md and imports nothing of this module, so that each of the two is a
// check of the other. It holds whole bodies in memory and is not for use.
package exchangeparty

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"errors"
	"fmt"

	// The standard library has this AEAD inside crypto/hpke only, and a response's key
	// does not come from there.
	"golang.org/x/crypto/chacha20poly1305"
)

// What a request, a response or a body can be refused with: the codes of the protocol,
// and ErrTruncated.
var (
	ErrMalformed          = errors.New("malformed")
	ErrUnsupportedProfile = errors.New("unsupported_profile")
	ErrDecryptionFailed   = errors.New("decryption_failed")
	ErrTruncated          = errors.New("truncated")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Suite is a row of the protocol's table.
type Suite struct {
	Name   string
	KEM    uint16
	AEAD   uint16
	EncLen int
	keyLen int // Nk
}

// Suites are all of them.
var Suites = []Suite{
	{"X25519-AES256GCM", 0x0020, 0x0002, 32, 32},
	{"X25519-AES128GCM", 0x0020, 0x0001, 32, 16},
	{"X25519-CHACHA20POLY1305", 0x0020, 0x0003, 32, 32},
	{"P256-AES256GCM", 0x0010, 0x0002, 65, 32},
	{"P256-AES128GCM", 0x0010, 0x0001, 65, 16},
	{"XWING-AES256GCM", 0x647a, 0x0002, 1120, 32},
}

const (
	nonceLen = 12 // Nn of every AEAD
	tagLen   = 16
)

func suiteOf(name string) (Suite, error) {
	for _, s := range Suites {
		if s.Name == name {
			return s, nil
		}
	}
	return Suite{}, fmt.Errorf("no suite is called %q", name)
}

func (s Suite) aead() hpke.AEAD {
	aead, err := hpke.NewAEAD(s.AEAD)
	if err != nil {
		panic(err)
	}
	return aead
}

// cipher is the suite's AEAD under a key of its own.
func (s Suite) cipher(key []byte) cipher.AEAD {
	var aead cipher.AEAD
	var err error
	if s.AEAD == 0x0003 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		panic(err)
	}
	return aead
}

// PublicKey is a server's key as a caller has it, or a caller's as a server has it.
type PublicKey struct {
	ID    uint32
	Suite Suite
	key   hpke.PublicKey
}

// PrivateKey is a key of one's own.
type PrivateKey struct {
	ID    uint32
	Suite Suite
	key   hpke.PrivateKey
}

// NewPublicKey makes a key of its suite's name and its KEM's serialized form.
func NewPublicKey(suite string, id uint32, raw []byte) (*PublicKey, error) {
	s, err := suiteOf(suite)
	if err != nil {
		return nil, err
	}
	kem, err := hpke.NewKEM(s.KEM)
	if err != nil {
		return nil, err
	}
	key, err := kem.NewPublicKey(raw)
	return &PublicKey{id, s, key}, err
}

// NewPrivateKey makes a key of its suite's name and its KEM's serialized form.
func NewPrivateKey(suite string, id uint32, raw []byte) (*PrivateKey, error) {
	s, err := suiteOf(suite)
	if err != nil {
		return nil, err
	}
	kem, err := hpke.NewKEM(s.KEM)
	if err != nil {
		return nil, err
	}
	key, err := kem.NewPrivateKey(raw)
	return &PrivateKey{id, s, key}, err
}

// Public returns the other half.
func (k *PrivateKey) Public() *PublicKey { return &PublicKey{k.ID, k.Suite, k.key.PublicKey()} }

// Bytes returns the KEM's serialized public key.
func (k *PublicKey) Bytes() []byte { return k.key.Bytes() }
