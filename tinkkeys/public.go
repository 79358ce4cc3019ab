package tinkkeys

import (
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	hpkepb "github.com/tink-crypto/tink-go/v2/proto/hpke_go_proto"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealhttp/sealhttp/seal"
)

// Public returns a Tink keyset of public keys in JSON, all of them enabled, in the
// order given: the first is the primary, the one that Tink encrypts with.
// Nothing in it is secret, and nothing in it is signed.
//
// It returns an error that wraps [ErrKeyset] for no key, a nil key, two keys of
// one id ([seal.ErrDuplicateKey]) and more than 1 MiB.
func Public(keys ...*seal.PublicKey) ([]byte, error) { return writePublic(jsonForm, keys) }

// PublicBinary is [Public] in Tink's binary form.
func PublicBinary(keys ...*seal.PublicKey) ([]byte, error) { return writePublic(binaryForm, keys) }

// ParsePublic reads a Tink keyset of public keys in JSON and returns the enabled
// ones, the primary first. The keyset says nothing of where it comes from: whoever
// can alter it on its way can put in a key of their own.
//
// The package's documentation lists what is refused. The errors wrap [ErrKeyset],
// some of them [ErrUnsupported] or [ErrPrivateKey], and those of
// [seal.NewPublicKey].
func ParsePublic(json []byte) ([]*seal.PublicKey, error) { return readPublic(jsonForm, json) }

// ParsePublicBinary is [ParsePublic] for Tink's binary form.
func ParsePublicBinary(binary []byte) ([]*seal.PublicKey, error) {
	return readPublic(binaryForm, binary)
}

func writePublic(f form, keys []*seal.PublicKey) ([]byte, error) {
	ks := new(tinkpb.Keyset)
	for i, k := range keys {
		if k == nil {
			return nil, fmt.Errorf("tinkkeys: %w: key %d of %d is nil", ErrKeyset, i+1, len(keys))
		}
		m, err := publicMessage(k)
		if err != nil {
			return nil, keyError(k.ID(), err)
		}
		data, err := publicKind.pack(m)
		if err != nil {
			return nil, keyError(k.ID(), err)
		}
		add(ks, k.ID(), k.HasPrefix(), data)
	}
	if _, err := enabled(ks); err != nil {
		return nil, err
	}
	return encode(f, ks, keyset.Writer.Write)
}

func readPublic(f form, data []byte) ([]*seal.PublicKey, error) {
	ks, err := decode(f, data, keyset.Reader.Read)
	if err != nil {
		return nil, err
	}
	if err := refuseSecrets(ks); err != nil {
		return nil, err
	}
	found, err := enabled(ks)
	if err != nil {
		return nil, err
	}
	keys := make([]*seal.PublicKey, len(found))
	for i, k := range found {
		if keys[i], err = publicKey(k); err != nil {
			return nil, keyError(k.GetKeyId(), err)
		}
	}
	return keys, nil
}

// refuseSecrets looks at disabled keys too: they are as secret as the others.
func refuseSecrets(ks *tinkpb.Keyset) error {
	for _, k := range ks.GetKey() {
		material := k.GetKeyData().GetKeyMaterialType()
		if material == tinkpb.KeyData_ASYMMETRIC_PRIVATE || material == tinkpb.KeyData_SYMMETRIC ||
			k.GetKeyData().GetTypeUrl() == privateKind.typeURL {
			return keyError(k.GetKeyId(), fmt.Errorf("%w: make the public keyset with Tink's Handle.Public or tinkey create-public-keyset, "+
				"and replace the key if others have seen it", ErrPrivateKey))
		}
	}
	return nil
}

func publicMessage(k *seal.PublicKey) (*hpkepb.HpkePublicKey, error) {
	params, err := paramsOf(k.Suite())
	if err != nil {
		return nil, err
	}
	return &hpkepb.HpkePublicKey{Params: params, PublicKey: k.Bytes()}, nil
}

func publicKey(k *tinkpb.Keyset_Key) (*seal.PublicKey, error) {
	m := new(hpkepb.HpkePublicKey)
	opts, err := publicKind.unpack(k, m)
	if err != nil {
		return nil, err
	}
	suite, err := suiteOf(m.GetParams())
	if err != nil {
		return nil, err
	}
	key, err := seal.NewPublicKey(suite, k.GetKeyId(), m.GetPublicKey(), opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyset, err)
	}
	return key, nil
}
