package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cloudflare/circl/kem/xwing"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealhttp/sealhttp/seal"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vector struct {
	Mode         uint8    `json:"mode"`
	KEM          uint16   `json:"kem_id"`
	KDF          uint16   `json:"kdf_id"`
	AEAD         uint16   `json:"aead_id"`
	Info         hexBytes `json:"info"`
	Secret       hexBytes `json:"skRm"`
	Public       hexBytes `json:"pkRm"`
	Enc          hexBytes `json:"enc"`
	SharedSecret hexBytes `json:"shared_secret"`
	Key          hexBytes `json:"key"`
	BaseNonce    hexBytes `json:"base_nonce"`
	Encryptions  []struct {
		AAD       hexBytes `json:"aad"`
		Nonce     hexBytes `json:"nonce"`
		Plaintext hexBytes `json:"pt"`
		Sealed    hexBytes `json:"ct"`
	} `json:"encryptions"`
}

func readVectors(t *testing.T, name string) (vs []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

// RFC 9180, appendix A, through the package's own keys and its own opening
// context. Nothing of circl is asked directly.
func TestRFC9180Vectors(t *testing.T) {
	seen := map[seal.Suite]bool{}
	for _, v := range readVectors(t, "rfc9180.json") {
		sp := specOf(t, v.KEM, v.AEAD)
		seen[sp.suite] = true
		t.Run(sp.name, func(t *testing.T) {
			if v.Mode != 0 || v.KDF != 1 {
				t.Fatalf("mode %d with KDF %d is none of ours", v.Mode, v.KDF)
			}
			key := privateKey(t, sp.suite, 1, v.Secret, seal.WithoutPrefix())
			if got := key.Public().Bytes(); !bytes.Equal(got, v.Public) {
				t.Errorf("public key %x, want %x", got, v.Public)
			}
			if got := publicKey(t, sp.suite, 1, v.Public, seal.WithoutPrefix()); !got.Equal(key.Public()) {
				t.Error("the vector's public key is not equal to the derived one")
			}

			aead, nonce := openContext(t, key, v.Enc, v.Info)
			if !bytes.Equal(nonce, v.BaseNonce) {
				t.Errorf("base nonce %x, want %x", nonce, v.BaseNonce)
			}
			sameAEAD(t, aead, newAEAD(t, v.AEAD, v.Key))
			// The test's own key schedule is what the X-Wing tests below rest on.
			scheduleKey, scheduleNonce := keySchedule(t, v.KEM, v.AEAD, v.SharedSecret, v.Info)
			if !bytes.Equal(scheduleKey, v.Key) || !bytes.Equal(scheduleNonce, v.BaseNonce) {
				t.Errorf("key schedule of the test gives %x, %x", scheduleKey, scheduleNonce)
			}

			if len(v.Encryptions) == 0 || !bytes.Equal(v.Encryptions[0].Nonce, v.BaseNonce) {
				t.Fatal("no encryption of sequence number 0")
			}
			for _, e := range v.Encryptions {
				got, err := aead.Open(nil, e.Nonce, e.Sealed, e.AAD)
				if err != nil || !bytes.Equal(got, e.Plaintext) {
					t.Errorf("nonce %x: opened to %x, %v", e.Nonce, got, err)
				}
				if _, err := aead.Open(nil, e.Nonce, e.Sealed, append(e.AAD, 0)); err == nil {
					t.Errorf("nonce %x: opened with other associated data", e.Nonce)
				}
			}

			// As a message it must fail: the vector has associated data, messages have none.
			message := append(bytes.Clone(v.Enc), v.Encryptions[0].Sealed...)
			refuse(t, keySet(t, key), message, v.Info, seal.ErrDecryptionFailed)
			// The same key and nonce without them make a message that opens.
			message = aead.Seal(bytes.Clone(v.Enc), v.BaseNonce, v.Encryptions[0].Plaintext, nil)
			if got, _, err := open(t, keySet(t, key), message, v.Info); err != nil || !bytes.Equal(got, v.Encryptions[0].Plaintext) {
				t.Errorf("opened to %x, %v", got, err)
			}
			refuse(t, keySet(t, key), message, append(v.Info, 0), seal.ErrDecryptionFailed)
		})
	}
	for _, sp := range specs {
		if !seen[sp.suite] && sp.suite != seal.XWingAES256GCM {
			t.Errorf("no vector for %v", sp.suite)
		}
	}
}

// draft-ietf-hpke-pq has vectors for X-Wing in HPKE, with other KDFs and AEADs
// than our suite. What they say of the KEM is checked through our context: it must
// be the one that RFC 9180's key schedule makes of the vector's shared secret.
func TestXWingInHPKEVectors(t *testing.T) {
	for _, v := range readVectors(t, "xwing.json") {
		t.Run(fmt.Sprintf("kdf %d", v.KDF), func(t *testing.T) {
			checkXWing(t, v.Secret, v.Public, v.Enc, v.SharedSecret)
		})
	}
}

// The three vectors of draft-connolly-cfrg-xwing-kem. The draft takes its seeds
// from SHAKE128 of nothing and prints them; the hash of that text is known.
func TestXWingDraftVectors(t *testing.T) {
	seeds := sha3.NewSHAKE128()
	var text strings.Builder
	for range 3 {
		var seed [32]byte
		var eseed [64]byte
		seeds.Read(seed[:])
		seeds.Read(eseed[:])

		public := privateKey(t, seal.XWingAES256GCM, 1, seed[:]).Public().Bytes()
		// Encapsulation with a given seed is not ours to do. What circl makes is
		// proved right by the hash.
		shared, enc, err := xwing.Encapsulate(public, eseed[:])
		if err != nil {
			t.Fatal(err)
		}
		checkXWing(t, seed[:], public, enc, shared)

		printDraft(&text, "seed", seed[:])
		printDraft(&text, "sk", seed[:])
		printDraft(&text, "pk", public)
		printDraft(&text, "eseed", eseed[:])
		printDraft(&text, "ct", enc)
		printDraft(&text, "ss", shared)
		text.WriteByte('\n')
	}
	const want = "1bcd0057d861d6b866239936cadcaeee1ec0164dedc181c386e9e54fe46156fe"
	if got := hex.EncodeToString(sha3.SumSHAKE128([]byte(text.String()), 32)); got != want {
		t.Errorf("SHAKE128 of the draft's text is %s, want %s", got, want)
	}
}

// printDraft prints as the draft's test-vectors.txt does.
func printDraft(w *strings.Builder, name string, value []byte) {
	const width, indent = 74, "  "
	s := hex.EncodeToString(value)
	if len(name)+len(s)+5 < width {
		fmt.Fprintf(w, "%s     %s\n", name, s)
		return
	}
	fmt.Fprintln(w, name)
	for len(s) > 0 {
		n := min(width-len(indent), len(s))
		fmt.Fprintln(w, indent+s[:n])
		s = s[n:]
	}
}

// checkXWing checks that the package takes seed to public and enc to shared.
func checkXWing(t *testing.T, seed, public, enc, shared []byte) {
	t.Helper()
	key := privateKey(t, seal.XWingAES256GCM, 1, seed, seal.WithoutPrefix())
	if !bytes.Equal(key.Public().Bytes(), public) {
		t.Error("the public key differs")
	}
	info := []byte("info of our own")
	aead, nonce := openContext(t, key, enc, info)
	wantKey, wantNonce := keySchedule(t, 0x647a, 0x0002, shared, info)
	if !bytes.Equal(nonce, wantNonce) {
		t.Errorf("base nonce %x, want %x", nonce, wantNonce)
	}
	sameAEAD(t, aead, newAEAD(t, 0x0002, wantKey))

	message := newAEAD(t, 0x0002, wantKey).Seal(bytes.Clone(enc), wantNonce, []byte("plaintext"), nil)
	if got, _, err := open(t, keySet(t, key), message, info); err != nil || string(got) != "plaintext" {
		t.Errorf("opened to %q, %v", got, err)
	}
}

func specOf(t *testing.T, kem, aead uint16) spec {
	t.Helper()
	for _, sp := range specs {
		if sp.kem == kem && sp.aead == aead {
			return sp
		}
	}
	t.Fatalf("no suite with KEM %#x and AEAD %#x", kem, aead)
	return spec{}
}

func openContext(t *testing.T, key *seal.PrivateKey, enc, info []byte) (cipher.AEAD, []byte) {
	t.Helper()
	aead, nonce, err := seal.OpenContext(key, enc, info)
	if err != nil {
		t.Fatal(err)
	}
	return aead, nonce
}

// sameAEAD checks that two AEADs have the same key: their output is the same.
func sameAEAD(t *testing.T, got, want cipher.AEAD) {
	t.Helper()
	nonce, plaintext := make([]byte, 12), pattern(40)
	if !bytes.Equal(got.Seal(nil, nonce, plaintext, nil), want.Seal(nil, nonce, plaintext, nil)) {
		t.Error("the AEAD has another key")
	}
}

func newAEAD(t *testing.T, id uint16, key []byte) cipher.AEAD {
	t.Helper()
	var aead cipher.AEAD
	var err error
	if id == 0x0003 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// keySchedule is RFC 9180, section 5.1, in base mode with HKDF-SHA256, written
// down a second time so that the package is not checked by itself.
func keySchedule(t *testing.T, kem, aead uint16, shared, info []byte) (key, nonce []byte) {
	t.Helper()
	id := []byte("HPKE")
	for _, n := range []uint16{kem, 0x0001, aead} {
		id = binary.BigEndian.AppendUint16(id, n)
	}
	labeled := func(label string) []byte { return append(append([]byte("HPKE-v1"), id...), label...) }
	extract := func(salt []byte, label string, ikm []byte) []byte {
		prk, err := hkdf.Extract(sha256.New, append(labeled(label), ikm...), salt)
		if err != nil {
			t.Fatal(err)
		}
		return prk
	}
	context := append([]byte{0}, extract(nil, "psk_id_hash", nil)...)
	context = append(context, extract(nil, "info_hash", info)...)
	secret := extract(shared, "secret", nil)
	expand := func(label string, n int) []byte {
		i := binary.BigEndian.AppendUint16(nil, uint16(n))
		i = append(append(i, labeled(label)...), context...)
		out, err := hkdf.Expand(sha256.New, secret, string(i), n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	keyLen := 32
	if aead == 0x0001 {
		keyLen = 16
	}
	return expand("key", keyLen), expand("base_nonce", 12)
}
