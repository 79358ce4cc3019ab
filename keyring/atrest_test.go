//go:build unix

package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// encodings are forms in which a secret could be found, whatever stands around it. They
// are looked for where white space is one space, and none follows a comma.
func encodings(secret []byte) map[string][]byte {
	numbers := strings.Trim(fmt.Sprint(secret), "[]")
	forms := map[string][]byte{
		"bytes":   secret,
		"hex":     []byte(hex.EncodeToString(secret)),
		"HEX":     []byte(strings.ToUpper(hex.EncodeToString(secret))),
		"numbers": []byte(numbers),
		"list":    []byte(strings.ReplaceAll(numbers, " ", ",")),
		"decimal": []byte(new(big.Int).SetBytes(secret).String()),
	}
	for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift := range 3 { // the secret may stand in the middle of what is encoded
			padded := e.EncodeToString(append(make([]byte, shift), secret...))
			forms[fmt.Sprint(name, " ", shift)] = []byte(padded[(8*shift+5)/6 : (8*(shift+len(secret)))/6])
		}
	}
	return forms
}

// formsOf returns the forms in which a secret is in data.
func formsOf(data, secret []byte) []string {
	text := regexp.MustCompile(`\s+`).ReplaceAll(data, []byte(" "))
	text = bytes.ReplaceAll(text, []byte(", "), []byte(","))
	var found []string
	for form, encoded := range encodings(secret) {
		if bytes.Contains(data, encoded) || bytes.Contains(text, encoded) {
			found = append(found, form)
		}
	}
	return found
}

// The search finds a secret in whatever form it was written, among other things.
func TestFormsOf(t *testing.T) {
	secret, err := hex.DecodeString("00ff10203e3f7ff8c4fbefbeadbeefcafe0123456789abcdef5566778899aabb")
	if err != nil {
		t.Fatal(err)
	}
	list := make([]int, len(secret)) // a []byte would be base64
	for i, b := range secret {
		list[i] = int(b)
	}
	marshal := func(v any) string {
		data, err := json.MarshalIndent(map[string]any{"a": 1, "v": v}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	written := map[string]string{
		"raw":              "x" + string(secret) + "y",
		"hex":              fmt.Sprintf("key=%x.", secret),
		"HEX":              fmt.Sprintf("key=%X.", secret),
		"%v":               fmt.Sprint(secret),
		"JSON list":        marshal(list),
		"JSON in one line": strings.ReplaceAll(strings.ReplaceAll(marshal(list), "\n", ""), "\t", ""),
		"Go":               fmt.Sprintf("%d", list),
		"list with spaces": strings.ReplaceAll(fmt.Sprint(list), " ", ", "),
		"decimal":          marshal(new(big.Int).SetBytes(secret)),
		"base64":           marshal(secret),
	}
	for before := range 4 {
		for after := range 4 {
			framed := bytes.Join([][]byte{bytes.Repeat([]byte{'<'}, before), secret, bytes.Repeat([]byte{'>'}, after)}, nil)
			for name, e := range map[string]*base64.Encoding{
				"std": base64.StdEncoding, "raw std": base64.RawStdEncoding, "url": base64.URLEncoding, "raw url": base64.RawURLEncoding,
			} {
				written[fmt.Sprint(name, " base64 ", before, after)] = "key: " + e.EncodeToString(framed)
			}
		}
	}
	other := bytes.Clone(secret)
	other[16] ^= 1
	for form, text := range written {
		if len(formsOf([]byte(text), secret)) == 0 {
			t.Errorf("it is not found as %s: %s", form, text)
		}
		if found := formsOf([]byte(text), other); len(found) != 0 {
			t.Errorf("another one is found as %s: %s", found, text)
		}
	}
}

// No secret is in a ring's files in any encoding, or in its log, after all that can
// happen to a ring has happened. In plaintext it is found, until its key is revoked.
func TestNoPrivateKeyAtRest(t *testing.T) {
	for name, tc := range map[string]struct {
		kek   keyring.AEAD
		found bool
	}{
		"encrypted":                 {newKEK(t), false},
		"plaintext, so it is found": {keyring.InsecurePlaintext(), true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, suite := range seal.Suites() {
				u := useRing(t, tc.kek, suite)
				for what, secret := range u.secrets {
					found := formsOf(u.files, secret)
					revoked := strings.HasPrefix(what, "revoked")
					if want := tc.found && !revoked; (len(found) > 0) != want {
						t.Errorf("%v: the %s is in the files as %q, want it there: %v", suite, what, found, want)
					}
					if found := formsOf(u.log, secret); len(found) > 0 {
						t.Errorf("%v: the %s is in the log as %q", suite, what, found)
					}
				}
				if len(u.secrets) != 5 {
					t.Errorf("%d secrets were looked for, want 5", len(u.secrets))
				}
			}
		})
	}
}

// used is what is left of a ring after use.
type used struct {
	secrets    map[string][]byte // by what they are
	files, log []byte
}

// useRing makes a ring, has keys in every state in it, rewraps it, and opens it again.
func useRing(t *testing.T, kek keyring.AEAD, suite seal.Suite) used {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "ring")
	var log bytes.Buffer
	opts := []keyring.Option{
		keyring.WithSuite(suite),
		keyring.WithAudit(keyring.LogTo(slog.New(slog.NewTextHandler(&log, nil)))),
		keyring.WithSchedule(keyring.Schedule{Lead: 4 * time.Millisecond}),
	}
	ring, err := keyring.OpenFile(t.Context(), path, kek, opts...)
	must(err)
	revoked := ring.KeySet().Primary()
	must(ring.Revoke(t.Context(), revoked.ID()))
	must(ring.Rotate(t.Context()))
	for len(ring.PublicKeys()) < 2 { // until the new key is promoted
		time.Sleep(time.Millisecond)
		ring.Tick(t.Context())
	}
	must(ring.Rotate(t.Context()))
	must(ring.Rewrap(t.Context(), kek))
	ring, err = keyring.OpenFile(t.Context(), path, kek, opts...)
	must(err)
	expectKeys(t, ring, 1, 1, 1)

	u := used{secrets: map[string][]byte{"revoked key": revoked.Bytes(), "integrity key": ring.IntegrityKey()}}
	for _, k := range ring.Status().Keys {
		if private, held := ring.KeySet().Lookup(k.ID); held {
			u.secrets[string(k.State)+" key"] = private.Bytes()
		}
	}
	files, err := filepath.Glob(filepath.Dir(path) + "/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("got files %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(err)
		u.files = append(u.files, data...)
	}
	u.log = log.Bytes()
	return u
}
