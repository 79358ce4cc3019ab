// Package keyring keeps a server's private keys over time: a primary, whose public
// half callers are told to seal to, and previous ones, which open what was sealed
// before callers heard of the primary.
//
// A [Keyring] is a sealhttp.ServerKeys, so it is what sealhttp.New takes:
//
//	key, err := seal.GenerateKey(seal.X25519AES256GCM)
//	ring, err := keyring.New(key)
//	m, err := sealhttp.New(ring)
package keyring

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sealhttp/sealhttp/seal"
)

// Keyring is a key set that changes. It is safe for use by several goroutines at
// once, and reading it takes no lock.
type Keyring struct {
	keys     atomic.Pointer[seal.KeySet]
	changing sync.Mutex // held by who makes the next key set
}

// New makes a Keyring in memory, of a primary and previous keys, newest first. Its
// errors are those of [seal.NewKeySet].
func New(primary *seal.PrivateKey, previous ...*seal.PrivateKey) (*Keyring, error) {
	keys, err := seal.NewKeySet(primary, previous...)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := new(Keyring)
	k.keys.Store(keys)
	return k, nil
}

// KeySet returns the keys of this moment.
func (k *Keyring) KeySet() *seal.KeySet { return k.keys.Load() }

// ServerKeys returns the keys of this moment, and no error.
func (k *Keyring) ServerKeys(context.Context) (*seal.KeySet, error) { return k.KeySet(), nil }

// PublicKeys returns the public halves of the keys of this moment, the primary
// first: what is to be published to callers.
func (k *Keyring) PublicKeys() []*seal.PublicKey {
	keys := k.KeySet().Keys()
	public := make([]*seal.PublicKey, len(keys))
	for i, key := range keys {
		public[i] = key.Public()
	}
	return public
}

// Rotate generates a new primary of the old one's suite and prefix. The old primary
// stays as the previous key, and keys older than that are dropped: callers must
// have refreshed their keys between two rotations. Requests under way keep the key
// set that they started with.
//
// Rotate returns the error of ctx if it has ended. On an error nothing has changed.
func (k *Keyring) Rotate(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("keyring: rotate: %w", err)
	}
	old := k.KeySet().Primary()
	var opts []seal.KeyOption
	if !old.HasPrefix() {
		opts = append(opts, seal.WithoutPrefix())
	}
	for {
		primary, err := seal.GenerateKey(old.Suite(), opts...)
		if err != nil {
			return fmt.Errorf("keyring: rotate: %w", err)
		}
		if _, taken := k.KeySet().Lookup(primary.ID()); taken {
			continue // of 2^32 ids, the random one is in use
		}
		keys, err := seal.NewKeySet(primary, old)
		if err != nil {
			return fmt.Errorf("keyring: rotate: %w", err)
		}
		k.keys.Store(keys)
		return nil
	}
}
