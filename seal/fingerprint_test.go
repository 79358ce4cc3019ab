package seal_test

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// People compare fingerprints that programs of different versions printed: these
// values must never change.
var fingerprints = map[seal.Suite]string{
	seal.X25519AES256GCM:        "51350-17502-41900-58543-41163-39560-59100-12694",
	seal.X25519AES128GCM:        "02413-38363-47000-37367-39449-24183-52593-02512",
	seal.X25519ChaCha20Poly1305: "27893-28091-62430-29909-38716-09224-31201-11763",
	seal.P256AES256GCM:          "41709-50862-11224-02563-30447-53980-10677-65519",
	seal.P256AES128GCM:          "50958-57411-38608-60132-64780-64224-48816-55514",
	seal.XWingAES256GCM:         "37398-29705-23884-05797-55781-06463-52285-02058",
}

func TestFingerprint(t *testing.T) {
	form := regexp.MustCompile(`^[0-9]{5}(-[0-9]{5}){7}$`)
	seen := map[string]bool{}
	for _, sp := range specs {
		secret := make([]byte, secretLen)
		for i := range secret {
			secret[i] = byte(i + 1)
		}
		k := privateKey(t, sp.suite, 1, secret).Public()
		got := k.Fingerprint()
		if got != fingerprints[sp.suite] {
			t.Errorf("%s: %s, want %s", sp.name, got, fingerprints[sp.suite])
		}
		if recipe := fingerprintByRecipe(sp.name, k.Bytes()); got != recipe {
			t.Errorf("%s: %s, by the documented recipe %s", sp.name, got, recipe)
		}
		if !form.MatchString(got) {
			t.Errorf("%s: %q is no eight groups of five digits", sp.name, got)
		}
		if seen[got] { // suites of one KEM share their keys
			t.Errorf("%s: the same as another suite's", sp.name)
		}
		seen[got] = true

		for _, other := range []*seal.PublicKey{
			publicKey(t, sp.suite, 2, k.Bytes()),
			publicKey(t, sp.suite, 1<<32-1, k.Bytes(), seal.WithoutPrefix()),
		} {
			if other.Fingerprint() != got {
				t.Errorf("%s: another id or prefix makes it %s", sp.name, other.Fingerprint())
			}
		}
		if newKey(t, sp.suite).Public().Fingerprint() == got {
			t.Errorf("%s: another key has it too", sp.name)
		}
	}
}

func fingerprintByRecipe(suite string, public []byte) (s string) {
	text := append([]byte("sealhttp fingerprint v1\x00"+suite+"\x00"), public...)
	sum := sha256.Sum256(text)
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			s += "-"
		}
		s += fmt.Sprintf("%05d", 256*int(sum[i])+int(sum[i+1]))
	}
	return s
}
