package tinkkeys

import (
	"bytes"
	"fmt"

	hpkepb "github.com/tink-crypto/tink-go/v2/proto/hpke_go_proto"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealhttp/sealhttp/seal"
)

// privateKeyset makes the cleartext keyset of a set.
func privateKeyset(set *seal.KeySet) (*tinkpb.Keyset, error) {
	if set == nil {
		return nil, fmt.Errorf("tinkkeys: %w: the key set is nil", ErrKeyset)
	}
	ks := new(tinkpb.Keyset)
	for _, k := range set.Keys() {
		pub, err := publicMessage(k.Public())
		if err != nil {
			return nil, keyError(k.ID(), err)
		}
		data, err := privateKind.pack(&hpkepb.HpkePrivateKey{PublicKey: pub, PrivateKey: k.Bytes()})
		if err != nil {
			return nil, keyError(k.ID(), err)
		}
		add(ks, k.ID(), k.HasPrefix(), data)
	}
	_, err := enabled(ks)
	return ks, err
}

// keySet makes the set of a cleartext keyset.
func keySet(ks *tinkpb.Keyset) (*seal.KeySet, error) {
	found, err := enabled(ks)
	if err != nil {
		return nil, err
	}
	keys := make([]*seal.PrivateKey, len(found))
	for i, k := range found {
		if keys[i], err = privateKey(k); err != nil {
			return nil, keyError(k.GetKeyId(), err)
		}
	}
	set, err := seal.NewKeySet(keys[0], keys[1:]...)
	if err != nil {
		return nil, fmt.Errorf("tinkkeys: %w: %w", ErrKeyset, err)
	}
	return set, nil
}

func privateKey(k *tinkpb.Keyset_Key) (*seal.PrivateKey, error) {
	m := new(hpkepb.HpkePrivateKey)
	opts, err := privateKind.unpack(k, m)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(m.GetPublicKey()); err != nil {
		return nil, err
	}
	suite, err := suiteOf(m.GetPublicKey().GetParams())
	if err != nil {
		return nil, err
	}
	key, err := seal.NewPrivateKey(suite, k.GetKeyId(), m.GetPrivateKey(), opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyset, err)
	}
	if !bytes.Equal(key.Public().Bytes(), m.GetPublicKey().GetPublicKey()) {
		return nil, fmt.Errorf("%w: its public half is another key's", ErrKeyset)
	}
	return key, nil
}
