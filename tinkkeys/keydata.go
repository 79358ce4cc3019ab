package tinkkeys

import (
	"fmt"

	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/proto"

	"github.com/sealhttp/sealhttp/seal"
)

// kind is what a key is, as a keyset says it twice.
type kind struct {
	typeURL  string
	material tinkpb.KeyData_KeyMaterialType
}

var (
	publicKind  = kind{"type.googleapis.com/google.crypto.tink.HpkePublicKey", tinkpb.KeyData_ASYMMETRIC_PUBLIC}
	privateKind = kind{"type.googleapis.com/google.crypto.tink.HpkePrivateKey", tinkpb.KeyData_ASYMMETRIC_PRIVATE}
)

// pack makes the data of a key from its message.
func (kd kind) pack(m proto.Message) (*tinkpb.KeyData, error) {
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyset, err)
	}
	return &tinkpb.KeyData{TypeUrl: kd.typeURL, Value: value, KeyMaterialType: kd.material}, nil
}

// unpack fills m from a key that must be of the kind, and returns the options that
// its output prefix asks for.
func (kd kind) unpack(k *tinkpb.Keyset_Key, m versioned) ([]seal.KeyOption, error) {
	data, name := k.GetKeyData(), m.ProtoReflect().Descriptor().Name()
	switch {
	case data == nil:
		return nil, fmt.Errorf("%w: the key has no data", ErrKeyset)
	case kd == privateKind && data.GetTypeUrl() == publicKind.typeURL:
		return nil, fmt.Errorf("%w: a public key in a private keyset", ErrKeyset)
	case data.GetTypeUrl() != kd.typeURL:
		return nil, fmt.Errorf("%w: its type is not %s", ErrUnsupported, name)
	case data.GetKeyMaterialType() != kd.material:
		return nil, fmt.Errorf("%w: the key material is %v, not %v", ErrKeyset, data.GetKeyMaterialType(), kd.material)
	}
	if err := proto.Unmarshal(data.GetValue(), m); err != nil || hasUnknown(m.ProtoReflect()) {
		return nil, fmt.Errorf("%w: the key's value is no %s", ErrKeyset, name)
	}
	if err := checkVersion(m); err != nil {
		return nil, err
	}
	switch k.GetOutputPrefixType() {
	case tinkpb.OutputPrefixType_TINK:
		return nil, nil
	case tinkpb.OutputPrefixType_RAW:
		return []seal.KeyOption{seal.WithoutPrefix()}, nil
	}
	return nil, fmt.Errorf("%w: the output prefix type is %v, not TINK or RAW", ErrUnsupported, k.GetOutputPrefixType())
}

// versioned is a message of hpke.proto that is a key.
type versioned interface {
	proto.Message
	GetVersion() uint32
}

func checkVersion(m versioned) error {
	if v := m.GetVersion(); v != 0 {
		return fmt.Errorf("%w: version %d of %s, not 0", ErrUnsupported, v, m.ProtoReflect().Descriptor().Name())
	}
	return nil
}
