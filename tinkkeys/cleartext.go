package tinkkeys

import (
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealhttp/sealhttp/seal"
)

// InsecureCleartextPrivate returns a Tink keyset of private keys in JSON, in clear:
// whoever reads it opens all that is sealed to these keys. It is for moving keys
// within memory and for tests; to store or send them use [EncryptPrivate].
//
// The keys keep the set's order, its primary first. The error for a nil or zero
// set, or more than 1 MiB, wraps [ErrKeyset].
func InsecureCleartextPrivate(set *seal.KeySet) ([]byte, error) {
	return writeCleartext(jsonForm, set)
}

// InsecureCleartextPrivateBinary is [InsecureCleartextPrivate] in Tink's binary form.
func InsecureCleartextPrivateBinary(set *seal.KeySet) ([]byte, error) {
	return writeCleartext(binaryForm, set)
}

// ParseInsecureCleartextPrivate reads a Tink keyset of private keys in JSON and in
// clear, such as tink-go's package insecurecleartextkeyset writes, and returns the
// set of those that are enabled.
//
// The package's documentation lists what is refused. The errors wrap [ErrKeyset],
// some of them [ErrUnsupported], and those of [seal.NewPrivateKey] and
// [seal.NewKeySet], which takes at most two RAW keys and none twice.
func ParseInsecureCleartextPrivate(json []byte) (*seal.KeySet, error) {
	return readCleartext(jsonForm, json)
}

// ParseInsecureCleartextPrivateBinary is [ParseInsecureCleartextPrivate] for Tink's
// binary form.
func ParseInsecureCleartextPrivateBinary(binary []byte) (*seal.KeySet, error) {
	return readCleartext(binaryForm, binary)
}

func writeCleartext(f form, set *seal.KeySet) ([]byte, error) {
	ks, err := privateKeyset(set)
	if err != nil {
		return nil, err
	}
	return encode(f, ks, keyset.Writer.Write)
}

func readCleartext(f form, data []byte) (*seal.KeySet, error) {
	ks, err := decode(f, data, keyset.Reader.Read)
	if err != nil {
		return nil, err
	}
	return keySet(ks)
}
