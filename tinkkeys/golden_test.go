package tinkkeys_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
)

var extensions = map[string]string{"JSON": ".json", "binary": ".bin"}

// The keysets in testdata, which tink-go wrote, are read to the last key and
// written to the last byte.
func TestGolden(t *testing.T) {
	var messages map[string][]byte
	check(t, json.Unmarshal(golden(t, "messages.json"), &messages))
	kek := goldenAEAD(t)
	for _, f := range forms {
		private, public := golden(t, "private"+extensions[f.name]), golden(t, "public"+extensions[f.name])

		set, err := f.parseCleartext(private)
		check(t, err)
		if len(set.Keys()) != len(seal.Suites()) || set.Primary().ID() != 3837941956 {
			t.Errorf("%v: %d keys", set.Primary(), len(set.Keys()))
		}
		for _, k := range set.Keys() {
			plaintext, err := k.Open(nil, messages[strconv.FormatUint(uint64(k.ID()), 10)], []byte("golden"))
			check(t, err)
			if want := (variant{k.Suite(), !k.HasPrefix()}).String(); string(plaintext) != want {
				t.Errorf("%v opened %q, want %q", k, plaintext, want)
			}
		}
		written, err := f.cleartext(set)
		check(t, err)
		if !bytes.Equal(written, private) {
			t.Errorf("%s: the private keyset is written in another way", f.name)
		}

		keys, err := f.parsePublic(public)
		check(t, err)
		samePublic(t, keys, publicHalves(set))
		written, err = f.public(keys...)
		check(t, err)
		if !bytes.Equal(written, public) {
			t.Errorf("%s: the public keyset is written as %q, want %q", f.name, written, public)
		}

		decrypted, err := f.decrypt(t.Context(), golden(t, "encrypted"+extensions[f.name]), kek, []byte("golden"))
		check(t, err)
		sameSet(t, decrypted, set)
	}
}

// golden reads a file that tink-go wrote, without the spaces that its JSON
// may have had.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, err)
	if filepath.Ext(name) != ".json" {
		return data
	}
	var b bytes.Buffer
	check(t, json.Compact(&b, data))
	return b.Bytes()
}

func goldenAEAD(t testing.TB) tink.AEAD {
	t.Helper()
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(golden(t, "kek.json"))))
	check(t, err)
	kek, err := aead.New(handle)
	check(t, err)
	return kek
}
