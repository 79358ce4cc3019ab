package tinkkeys_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealhttp/sealhttp/tinkkeys"
)

// What is accepted is written as something that Tink accepts, and that is read as
// the same again. What is not says so with a sentinel.
func FuzzParsePublic(f *testing.F) {
	seeds(f, "public")
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, form := range forms {
			keys, err := form.parsePublic(data)
			if err != nil {
				wantError(t, err, "", tinkkeys.ErrKeyset)
				continue
			}
			for _, form := range forms {
				written, err := form.public(keys...)
				check(t, err)
				handle, err := keyset.ReadWithNoSecrets(form.reader(bytes.NewReader(written)))
				check(t, err)
				if handle.Len() != len(keys) {
					t.Fatalf("Tink reads %d keys, want %d", handle.Len(), len(keys))
				}
				again, err := form.parsePublic(written)
				check(t, err)
				samePublic(t, again, keys)
			}
		}
	})
}

func FuzzParsePrivate(f *testing.F) {
	seeds(f, "private")
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, form := range forms {
			// The same keyset as an encrypted one holds it.
			_, decryptErr := form.decrypt(t.Context(), data, identityAEAD{}, nil)
			if decryptErr != nil && !errors.Is(decryptErr, tinkkeys.ErrKeyset) {
				t.Fatal(decryptErr)
			}
			set, err := form.parseCleartext(data)
			if err != nil {
				wantError(t, err, "", tinkkeys.ErrKeyset)
				continue
			}
			for _, form := range forms {
				written, err := form.cleartext(set)
				check(t, err)
				handle, err := insecurecleartextkeyset.Read(form.reader(bytes.NewReader(written)))
				check(t, err)
				sameEntries(t, handle, set)
				again, err := form.parseCleartext(written)
				check(t, err)
				sameSet(t, again, set)
			}
		}
	})
}

// seeds gives a fuzz target the golden keyset of a name, whole and by single keys.
func seeds(f *testing.F, name string) {
	f.Helper()
	for _, ext := range extensions {
		f.Add(golden(f, name+ext))
	}
	var b bytes.Buffer
	all, err := keyset.NewBinaryReader(bytes.NewReader(golden(f, name+".bin"))).Read()
	check(f, err)
	for _, k := range all.Key {
		one := &tinkpb.Keyset{PrimaryKeyId: k.KeyId, Key: []*tinkpb.Keyset_Key{k}}
		for _, form := range forms {
			b.Reset()
			check(f, form.writer(&b).Write(one))
			f.Add(bytes.Clone(b.Bytes()))
			encrypted := &tinkpb.EncryptedKeyset{EncryptedKeyset: marshal(f, one)}
			b.Reset()
			check(f, form.writer(&b).WriteEncrypted(encrypted))
			f.Add(bytes.Clone(b.Bytes()))
		}
	}
}
