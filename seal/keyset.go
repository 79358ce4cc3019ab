package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// KeySet is the private keys that can open at one moment: a primary, whose public
// half others are told to seal to, and others that still open what was sealed
// before, or already open what will be. It is immutable and safe for use by
// several goroutines at once.
type KeySet struct {
	keys     []*PrivateKey // primary first
	prefixed map[uint32]*PrivateKey
	raw      []*PrivateKey
	shortest int // bytes: Overhead of the key with the smallest
	largest  int
}

// maxRawKeys bounds the trials that a message without a prefix costs.
const maxRawKeys = 2

// NewKeySet makes a set of a primary and other keys. It returns an error that
// wraps [ErrInvalidKey] for a key that is nil or the zero PrivateKey, [ErrDuplicateKey] for two keys of
// one id or of the same bytes, [ErrTooManyRawKeys] for more than two keys made
// [WithoutPrefix].
func NewKeySet(primary *PrivateKey, others ...*PrivateKey) (*KeySet, error) {
	s := &KeySet{
		keys:     append([]*PrivateKey{primary}, others...),
		prefixed: make(map[uint32]*PrivateKey, 1+len(others)),
	}
	for i, k := range s.keys {
		if k == nil || k.public == nil {
			return nil, fmt.Errorf("seal: key set: key %d of %d is none: %w", i+1, len(s.keys), ErrInvalidKey)
		}
		for _, earlier := range s.keys[:i] {
			if earlier.ID() == k.ID() || earlier.public.sameBytes(k.public) {
				return nil, fmt.Errorf("seal: key set: key %d and key %d: %w", earlier.ID(), k.ID(), ErrDuplicateKey)
			}
		}
		if k.HasPrefix() {
			s.prefixed[k.ID()] = k
		} else {
			s.raw = append(s.raw, k)
		}
		n := k.public.Overhead()
		if i == 0 || n < s.shortest {
			s.shortest = n
		}
		s.largest = max(s.largest, n)
	}
	if len(s.raw) > maxRawKeys {
		return nil, fmt.Errorf("seal: key set: %d keys: %w", len(s.raw), ErrTooManyRawKeys)
	}
	return s, nil
}

// Primary returns the key whose public half others are to seal to.
func (s *KeySet) Primary() *PrivateKey { return s.keys[0] }

// Keys returns all keys, the primary first, in a slice of the caller's own.
func (s *KeySet) Keys() []*PrivateKey { return append([]*PrivateKey(nil), s.keys...) }

// Lookup returns the key with an id, with or without a prefix.
func (s *KeySet) Lookup(id uint32) (*PrivateKey, bool) {
	for _, k := range s.keys {
		if k.ID() == id {
			return k, true
		}
	}
	return nil, false
}

// Holds reports whether the set has the private half of a public key, under
// whatever id. A caller's key that the server itself holds is a mix-up: what is
// sealed to it, the caller cannot open. No set holds nil.
func (s *KeySet) Holds(public *PublicKey) bool {
	if public == nil {
		return false
	}
	for _, k := range s.keys {
		if k.public.sameBytes(public) {
			return true
		}
	}
	return false
}

// MaxOverhead returns the largest [PublicKey.Overhead] in the set, in bytes: no
// message for it with a plaintext of n bytes is longer than n + MaxOverhead.
func (s *KeySet) MaxOverhead() int { return s.largest }

// Open appends to dst the plaintext of a message that was sealed to a key of the
// set with the same info, and returns the extended slice. dst must not overlap
// message.
//
// A message that starts with the prefix of one of the keys is opened with that
// key. Otherwise, or if that fails, the keys without a prefix are tried, at most
// two.
//
// It returns [ErrMalformed] for a message too short for any key of the set,
// [ErrUnknownKey] if the first byte is a prefix's, the set has no key of the id,
// and no key without a prefix opens it, and [ErrDecryptionFailed] for everything
// else.
func (s *KeySet) Open(dst, message, info []byte) ([]byte, error) {
	trials, otherwise := s.trials(message)
	for _, k := range trials {
		if k == nil {
			break
		}
		if out, err := k.open(dst, message, info); err == nil {
			return out, nil
		}
	}
	return nil, otherwise
}

// OpenInPlace is [KeySet.Open] in place: the plaintext it returns stands in
// message's own bytes. It tells which key opened it. Whether it succeeds or
// fails, message's ciphertext is gone afterwards.
func (s *KeySet) OpenInPlace(message, info []byte) (plaintext []byte, key *PrivateKey, err error) {
	trials, otherwise := s.trials(message)
	for i, k := range trials {
		if k == nil {
			break
		}
		h := min(k.public.HeaderLen(), len(message))
		var saved []byte
		if i+1 < len(trials) && trials[i+1] != nil {
			// A failed trial destroys what it wrote over, and there is another to come.
			saved = bytes.Clone(message[h:])
		}
		if out, err := k.open(message[:h:len(message)], message, info); err == nil {
			return out[h:], k, nil
		}
		copy(message[h:], saved)
	}
	return nil, nil, otherwise
}

// trials returns the keys to try, in order and ended by nil, and the error if
// none opens the message.
func (s *KeySet) trials(message []byte) (keys [1 + maxRawKeys + 1]*PrivateKey, otherwise error) {
	if len(message) < s.shortest {
		return keys, ErrMalformed
	}
	otherwise = ErrDecryptionFailed
	n := 0
	if message[0] == prefixVersion {
		id := binary.BigEndian.Uint32(message[1:prefixLen])
		if k := s.prefixed[id]; k != nil {
			keys[0], n = k, 1
		} else if _, held := s.Lookup(id); !held {
			otherwise = ErrUnknownKey
		}
	}
	copy(keys[n:], s.raw)
	return keys, otherwise
}
