package keyring

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/sealhttp/sealhttp/seal"
)

// What is encrypted at rest is bound to where it belongs by its associated data:
//
//	"sealhttp keyring v1 private key" || 0x00 || lp(ring) || u32(id) || lp(suite)
//	"sealhttp keyring v1 integrity key" || 0x00 || lp(ring)
//
// with lp(x) = u16(len x) || x, big-endian. The labels change with what is encrypted.
const (
	privateLabel   = "sealhttp keyring v1 private key\x00"
	integrityLabel = "sealhttp keyring v1 integrity key\x00"
)

func privateData(ring string, id uint32, suite seal.Suite) []byte {
	b := appendString([]byte(privateLabel), ring)
	b = binary.BigEndian.AppendUint32(b, id)
	return appendString(b, suite.String())
}

func integrityData(ring string) []byte { return appendString([]byte(integrityLabel), ring) }

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func wrapPrivate(ctx context.Context, kek AEAD, ring string, k *seal.PrivateKey) ([]byte, error) {
	wrapped, err := encryptChecked(ctx, kek, k.Bytes(), privateData(ring, k.ID(), k.Suite()))
	if err != nil {
		return nil, fmt.Errorf("key %d: %w", k.ID(), err)
	}
	return wrapped, nil
}

// unwrapPrivate decrypts the private half of a key, and makes sure that it is the
// other half of the public one.
func unwrapPrivate(ctx context.Context, kek AEAD, ring string, k *key) (*seal.PrivateKey, error) {
	raw, err := decrypt(ctx, kek, k.wrapped, privateData(ring, k.id, k.suite))
	if err != nil {
		return nil, fmt.Errorf("key %d: %w", k.id, err)
	}
	private, err := seal.NewPrivateKey(k.suite, k.id, raw, prefixOption(k.prefix)...)
	if err != nil {
		return nil, fmt.Errorf("key %d: %w: %w", k.id, ErrKEK, err)
	}
	if !private.Public().Equal(k.public) {
		return nil, fmt.Errorf("key %d: %w: the private half is another key's", k.id, ErrKEK)
	}
	return private, nil
}

func prefixOption(prefix bool) []seal.KeyOption {
	if prefix {
		return nil
	}
	return []seal.KeyOption{seal.WithoutPrefix()}
}
