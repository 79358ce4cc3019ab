package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
)

// hsm is what stands behind each fake KMS: keys by name, in versions, that never leave
// it. Its AEAD is the standard library's.
type hsm struct {
	mu     sync.Mutex
	keys   map[string][]cipher.AEAD
	data   [][]byte // the associated data of all calls
	denied bool
}

var (
	errDenied     = errors.New("access denied")
	errNoSuchKey  = errors.New("no such key")
	errCiphertext = errors.New("invalid ciphertext")
)

// newHSM makes one with two keys.
func newHSM(t *testing.T, names ...string) *hsm {
	h := &hsm{keys: make(map[string][]cipher.AEAD)}
	for _, name := range names {
		h.newVersion(t, name)
	}
	return h
}

// newVersion makes the key's next version, with which it encrypts from now on.
func (h *hsm) newVersion(t *testing.T, name string) {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key) // never fails, see crypto/rand
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[name] = append(h.keys[name], aead)
}

// destroyFirst destroys the key's first version.
func (h *hsm) destroyFirst(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[name][0] = nil
}

func (h *hsm) deny(denied bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denied = denied
}

// calls returns the associated data of all calls.
func (h *hsm) calls() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.data
}

func (h *hsm) versions(name string, data []byte) ([]cipher.AEAD, error) {
	h.data = append(h.data, data)
	switch {
	case h.denied:
		return nil, errDenied
	case h.keys[name] == nil:
		return nil, errNoSuchKey
	}
	return h.keys[name], nil
}

// encrypt returns the version, counted from 1, and the ciphertext.
func (h *hsm) encrypt(name string, plaintext, data []byte) (int, []byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	versions, err := h.versions(name, data)
	if err != nil {
		return 0, nil, err
	}
	return len(versions), versions[len(versions)-1].Seal(nil, nil, plaintext, data), nil
}

func (h *hsm) decrypt(name string, version int, ciphertext, data []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	versions, err := h.versions(name, data)
	if err != nil {
		return nil, err
	}
	if version < 1 || version > len(versions) || versions[version-1] == nil {
		return nil, errCiphertext
	}
	plaintext, err := versions[version-1].Open(nil, nil, ciphertext, data)
	if err != nil {
		return nil, errCiphertext
	}
	return plaintext, nil
}
