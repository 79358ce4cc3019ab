package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// localKeyHeader is in front of the key, so that no other file is taken for one.
const localKeyHeader = "sealhttp local key 1 "

const localKeySize = 32 // bytes, of AES-256

// LocalKeyFile is the AEAD of one machine that has no KMS: AES-256-GCM with a key in
// a file, which is made, with mode 0600, if it does not exist. A file that others
// can read or write, or that is a symbolic link, is an error.
//
// It protects copies of the ring that travel without the key file: a backup of the
// database, a disk that was sent in for repair, a file in a mail. It does not
// protect against who can read files as this user, or as root, or has a backup with
// both files in it.
//
// Whoever loses the file has lost the private keys: keep a copy of it, apart from
// the copies of the ring.
func LocalKeyFile(path string) (AEAD, error) {
	key, err := localKey(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: local key file: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("keyring: local key file: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("keyring: local key file: %w", err)
	}
	return localAEAD{aead}, nil
}

// localKey reads the key, or makes one. Of several processes that make one at once,
// the first wins.
func localKey(path string) ([]byte, error) {
	key, err := readLocalKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = make([]byte, localKeySize)
	rand.Read(key) // never fails, see crypto/rand
	line := localKeyHeader + base64.StdEncoding.EncodeToString(key) + "\n"
	if err := durablefile.Make(path, []byte(line)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readLocalKey(path)
}

func readLocalKey(path string) ([]byte, error) {
	data, err := durablefile.Read(durablefile.OS, path, secret, 1<<10)
	if err != nil {
		return nil, err
	}
	encoded, ok := strings.CutPrefix(string(data), localKeyHeader)
	if !ok {
		return nil, fmt.Errorf("%s does not start with %q", path, localKeyHeader)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(encoded, "\n"))
	if err != nil || len(key) != localKeySize {
		return nil, fmt.Errorf("%s has no key of %d bytes in Base64", path, localKeySize)
	}
	return key, nil
}

type localAEAD struct{ aead cipher.AEAD }

func (a localAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.aead.Seal(nil, nil, plaintext, associatedData), nil
}

func (a localAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.aead.Open(nil, nil, ciphertext, associatedData)
}
