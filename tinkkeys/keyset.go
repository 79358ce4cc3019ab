package tinkkeys

import (
	"fmt"
	"slices"

	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealhttp/sealhttp/seal"
)

// enabled returns the enabled keys of a keyset, the primary first, once the rules
// for the keyset as a whole hold. It looks into no key.
func enabled(ks *tinkpb.Keyset) ([]*tinkpb.Keyset_Key, error) {
	var keys []*tinkpb.Keyset_Key
	primary := ks.GetPrimaryKeyId()
	seen := make(map[uint32]bool)
	for _, k := range ks.GetKey() {
		id := k.GetKeyId()
		if seen[id] {
			return nil, keyError(id, fmt.Errorf("%w: %w", ErrKeyset, seal.ErrDuplicateKey))
		}
		seen[id] = true
		switch k.GetStatus() {
		case tinkpb.KeyStatusType_ENABLED:
			if id == primary {
				keys = slices.Insert(keys, 0, k)
			} else {
				keys = append(keys, k)
			}
		case tinkpb.KeyStatusType_DISABLED, tinkpb.KeyStatusType_DESTROYED:
			if id == primary {
				return nil, keyError(id, fmt.Errorf("%w: the primary key is %v", ErrKeyset, k.GetStatus()))
			}
		default:
			return nil, keyError(id, fmt.Errorf("%w: status %v", ErrKeyset, k.GetStatus()))
		}
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("tinkkeys: %w: no enabled key", ErrKeyset)
	case keys[0].GetKeyId() != primary:
		return nil, fmt.Errorf("tinkkeys: %w: no primary key: none has its id, %d", ErrKeyset, primary)
	}
	return keys, nil
}

// add adds an enabled key to a keyset, the first as its primary.
func add(ks *tinkpb.Keyset, id uint32, prefixed bool, data *tinkpb.KeyData) {
	if len(ks.Key) == 0 {
		ks.PrimaryKeyId = id
	}
	prefix := tinkpb.OutputPrefixType_RAW
	if prefixed {
		prefix = tinkpb.OutputPrefixType_TINK
	}
	ks.Key = append(ks.Key, &tinkpb.Keyset_Key{
		KeyData:          data,
		Status:           tinkpb.KeyStatusType_ENABLED,
		KeyId:            id,
		OutputPrefixType: prefix,
	})
}
