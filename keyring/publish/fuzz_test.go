package publish_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
)

// fuzzTime lies within the validity of what the fuzz targets start from.
var fuzzTime = time.Unix(1764000000, 0)

func fuzzSet(t testing.TB) publish.Set {
	t.Helper()
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, 4242, bytes.Repeat([]byte{1}, 32))
	check(t, err)
	return publish.Set{Name: service, Revision: 7, Issued: fuzzTime, Expires: fuzzTime.Add(time.Hour), Keys: []*seal.PublicKey{key.Public()}}
}

// Of all documents none is taken but what was signed, and nothing of the others shows.
func FuzzParse(f *testing.F) {
	good, err := publish.Sign(signer, fuzzSet(f))
	check(f, err)
	f.Add(good)
	header, payload, _ := strings.Cut(string(good), ".")
	for _, h := range []string{
		goodHeader(f, signer).with("alg", `"none"`).String(),
		goodHeader(f, signer).with("jwk", "{}").String(),
		goodHeader(f, signer).with("crit", `["b64"]`, "b64", "false").String(),
		"null", "{}", "[[[[", `{"alg":"EdDSA","alg":"none"}`,
	} {
		f.Add([]byte(b64(h) + "." + payload))
	}
	f.Add([]byte(header + ".."))
	f.Add([]byte("..."))
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := publish.Verify(document, service, fuzzTime, pin)
		if bytes.Equal(document, good) {
			check(t, err)
			sameSet(t, set, fuzzSet(t))
			return
		}
		wantError(t, err, publish.ErrRefused)
		quotesNothing(t, err, document)
	})
}

// What the signer itself signs, right or wrong, is read as what it says or refused.
func FuzzPayload(f *testing.F) {
	good, err := publish.Sign(signer, fuzzSet(f))
	check(f, err)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	check(f, err)
	f.Add(payload)
	f.Add([]byte(`{"ver":2}`))
	f.Add([]byte(`{"ver":1,"ver":1}`))
	header := goodHeader(f, signer).String()
	f.Fuzz(func(t *testing.T, payload []byte) {
		set, err := publish.Verify(forge(signer, header, string(payload)), service, fuzzTime, pin)
		if err != nil {
			wantError(t, err, publish.ErrRefused)
			return
		}
		if set.Name != service || set.Revision == 0 || len(set.Keys) == 0 || !fuzzTime.Before(set.Expires) {
			t.Errorf("taken: %+v", set)
		}
		again, err := publish.Sign(signer, *set)
		check(t, err)
		read, err := publish.Verify(again, service, fuzzTime, pin)
		check(t, err)
		sameSet(t, read, *set)
	})
}
