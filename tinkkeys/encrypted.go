package tinkkeys

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
)

// EncryptPrivate returns a Tink keyset of private keys in JSON, encrypted with kek:
// what tink-go's Handle.WriteWithAssociatedData writes. kek may be any Tink AEAD, a
// KMS or one made from a keyset. associatedData may be nil; what is given must be
// given again to decrypt, so that the keysets of two services or stages encrypted
// with one kek cannot be swapped.
//
// A kek that is also a [tink.AEADWithContext] is called with ctx, any other
// without; for one that is only that, see [ContextAEAD].
//
// Ids, prefixes and the primary stand in clear next to the ciphertext, for people.
// [DecryptPrivate] does not read them.
//
// KMS APIs limit what they encrypt in one call, AWS to 4096 bytes, Google Cloud to
// 64 KiB, while an X-Wing key takes about 1.4 kB, any other about 160 bytes. Tink's
// aead.NewKMSEnvelopeAEAD2 has no such limit.
//
// The errors wrap [ErrKeyset] as those of [InsecureCleartextPrivate], or [ErrAEAD]
// and what kek returned.
func EncryptPrivate(ctx context.Context, set *seal.KeySet, kek tink.AEAD, associatedData []byte) ([]byte, error) {
	return writeEncrypted(ctx, jsonForm, set, kek, associatedData)
}

// EncryptPrivateBinary is [EncryptPrivate] in Tink's binary form, which has only
// the ciphertext.
func EncryptPrivateBinary(ctx context.Context, set *seal.KeySet, kek tink.AEAD, associatedData []byte) ([]byte, error) {
	return writeEncrypted(ctx, binaryForm, set, kek, associatedData)
}

// DecryptPrivate reads what [EncryptPrivate], or a Tink in any language, wrote with
// the same kek and associated data, and returns the set of the enabled keys.
//
// The errors wrap [ErrKeyset] as those of [ParseInsecureCleartextPrivate], or
// [ErrAEAD] and what kek returned.
func DecryptPrivate(ctx context.Context, json []byte, kek tink.AEAD, associatedData []byte) (*seal.KeySet, error) {
	return readEncrypted(ctx, jsonForm, json, kek, associatedData)
}

// DecryptPrivateBinary is [DecryptPrivate] for Tink's binary form.
func DecryptPrivateBinary(ctx context.Context, binary []byte, kek tink.AEAD, associatedData []byte) (*seal.KeySet, error) {
	return readEncrypted(ctx, binaryForm, binary, kek, associatedData)
}

func writeEncrypted(ctx context.Context, f form, set *seal.KeySet, kek tink.AEAD, associatedData []byte) ([]byte, error) {
	ks, err := privateKeyset(set)
	if err != nil {
		return nil, err
	}
	plaintext, err := encode(binaryForm, ks, keyset.Writer.Write)
	if err != nil {
		return nil, err
	}
	ciphertext, err := encrypt(ctx, kek, plaintext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("tinkkeys: encrypt the keyset: %w: %w", ErrAEAD, err)
	}
	return encode(f, &tinkpb.EncryptedKeyset{EncryptedKeyset: ciphertext, KeysetInfo: info(ks)}, keyset.Writer.WriteEncrypted)
}

func readEncrypted(ctx context.Context, f form, data []byte, kek tink.AEAD, associatedData []byte) (*seal.KeySet, error) {
	encrypted, err := decode(f, data, keyset.Reader.ReadEncrypted)
	if err != nil {
		return nil, err
	}
	if len(encrypted.GetEncryptedKeyset()) == 0 {
		return nil, fmt.Errorf("tinkkeys: %w: no ciphertext", ErrKeyset)
	}
	plaintext, err := decrypt(ctx, kek, encrypted.GetEncryptedKeyset(), associatedData)
	if err != nil {
		return nil, fmt.Errorf("tinkkeys: decrypt the keyset: %w: %w", ErrAEAD, err)
	}
	return readCleartext(binaryForm, plaintext)
}

// info is what an encrypted keyset says of its keys in clear. Without it Tink's
// JSON writer puts a null there, which Tink for Java cannot read.
func info(ks *tinkpb.Keyset) *tinkpb.KeysetInfo {
	info := &tinkpb.KeysetInfo{PrimaryKeyId: ks.GetPrimaryKeyId()}
	for _, k := range ks.GetKey() {
		info.KeyInfo = append(info.KeyInfo, &tinkpb.KeysetInfo_KeyInfo{
			TypeUrl:          k.GetKeyData().GetTypeUrl(),
			Status:           k.GetStatus(),
			KeyId:            k.GetKeyId(),
			OutputPrefixType: k.GetOutputPrefixType(),
		})
	}
	return info
}
