package tinkkeys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/testing/fakekms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

var errUnreachable = errors.New("kms: unreachable")

// downAEAD is a KMS that cannot be reached, and remembers what it was sent.
type downAEAD struct{ sent [][]byte }

func (a *downAEAD) Encrypt(plaintext, _ []byte) ([]byte, error) { return a.Decrypt(plaintext, nil) }

func (a *downAEAD) Decrypt(ciphertext, _ []byte) ([]byte, error) {
	a.sent = append(a.sent, bytes.Clone(ciphertext))
	return nil, fmt.Errorf("call: %w", errUnreachable)
}

// identityAEAD encrypts nothing.
type identityAEAD struct{}

func (identityAEAD) Encrypt(plaintext, _ []byte) ([]byte, error)  { return plaintext, nil }
func (identityAEAD) Decrypt(ciphertext, _ []byte) ([]byte, error) { return ciphertext, nil }

func TestAEADFails(t *testing.T) {
	set := newSet(t, variant{suite: seal.X25519AES256GCM}.key(t), variant{suite: seal.XWingAES256GCM}.key(t))
	kek := newAEAD(t)
	for _, f := range forms {
		data, err := f.encrypt(t.Context(), set, kek, []byte("service A"))
		check(t, err)

		for _, c := range []struct {
			name string
			kek  tink.AEAD
			ad   string
			is   []error
		}{
			{"wrong AEAD", newAEAD(t), "service A", nil},
			{"wrong associated data", kek, "service B", nil},
			{"no associated data", kek, "", nil},
			{"unreachable", &downAEAD{}, "service A", []error{errUnreachable}},
			{"no AEAD", nil, "service A", nil},
		} {
			got, err := f.decrypt(t.Context(), data, c.kek, []byte(c.ad))
			if got != nil || err == nil {
				t.Fatalf("%s: %v, %v", c.name, got, err)
			}
			wantError(t, err, "tinkkeys: decrypt the keyset: the AEAD failed: ", append(c.is, tinkkeys.ErrAEAD)...)
			if errors.Is(err, tinkkeys.ErrKeyset) {
				t.Errorf("%s: %v says that the keyset is invalid", c.name, err)
			}
		}

		for _, down := range []tink.AEAD{&downAEAD{}, nil} {
			data, err := f.encrypt(t.Context(), set, down, nil)
			wantError(t, err, "tinkkeys: encrypt the keyset: the AEAD failed: ", tinkkeys.ErrAEAD)
			if data != nil || down != nil && !errors.Is(err, errUnreachable) {
				t.Errorf("%q, %v", data, err)
			}
		}
	}
}

// A keyset in clear that is taken for an encrypted one never leaves for the KMS.
func TestCleartextIsNotSent(t *testing.T) {
	set := newSet(t, variant{suite: seal.X25519AES256GCM}.key(t), variant{suite: seal.P256AES256GCM}.key(t))
	for _, f := range forms {
		data, err := f.cleartext(set)
		check(t, err)
		kek := new(downAEAD)
		_, err = f.decrypt(t.Context(), data, kek, nil)
		wantError(t, err, "EncryptedKeyset", tinkkeys.ErrKeyset)
		if len(kek.sent) != 0 {
			t.Errorf("%s: the KMS was sent %d bytes", f.name, len(kek.sent[0]))
		}

		encrypted, err := f.encrypt(t.Context(), set, newAEAD(t), nil)
		check(t, err)
		_, err = f.parseCleartext(encrypted)
		wantError(t, err, "", tinkkeys.ErrKeyset)
	}
}

// An encrypted keyset without a ciphertext is refused before the KMS is asked.
func TestNoCiphertext(t *testing.T) {
	for _, f := range forms {
		var b bytes.Buffer
		check(t, f.writer(&b).WriteEncrypted(new(tinkpb.EncryptedKeyset)))
		kek := new(downAEAD)
		_, err := f.decrypt(t.Context(), b.Bytes(), kek, nil)
		wantError(t, err, "no ciphertext", tinkkeys.ErrKeyset)
		if len(kek.sent) != 0 {
			t.Errorf("%s: the KMS was asked", f.name)
		}
	}
}

func TestDecryptsToNoKeyset(t *testing.T) {
	for _, f := range forms {
		for _, plaintext := range []string{"", "\x00", "not a keyset", strings.Repeat("A", 1<<20+1)} {
			var b bytes.Buffer
			check(t, f.writer(&b).WriteEncrypted(&tinkpb.EncryptedKeyset{EncryptedKeyset: []byte("x")}))
			_, err := f.decrypt(t.Context(), b.Bytes(), constantAEAD(plaintext), nil)
			wantError(t, err, "", tinkkeys.ErrKeyset)
		}
	}
}

// constantAEAD decrypts everything to itself.
type constantAEAD string

func (a constantAEAD) Encrypt([]byte, []byte) ([]byte, error) { return []byte(a), nil }
func (a constantAEAD) Decrypt([]byte, []byte) ([]byte, error) { return []byte(a), nil }

// An AEAD that returns the slice it was given is no special case.
func TestIdentityAEAD(t *testing.T) {
	set := newSet(t, variant{suite: seal.P256AES128GCM}.key(t))
	for _, f := range forms {
		data, err := f.encrypt(t.Context(), set, identityAEAD{}, nil)
		check(t, err)
		got, err := f.decrypt(t.Context(), data, identityAEAD{}, nil)
		check(t, err)
		sameSet(t, got, set)
	}
}

func TestContext(t *testing.T) {
	set := newSet(t, variant{suite: seal.X25519AES256GCM}.key(t))
	uri, err := fakekms.NewKeyURI()
	check(t, err)
	kms, err := fakekms.NewAEADWithContext(uri)
	check(t, err)
	envelope, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), kms)
	check(t, err)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range forms {
		for _, withContext := range []tink.AEADWithContext{kms, envelope} {
			kek := tinkkeys.ContextAEAD(withContext)
			data, err := f.encrypt(t.Context(), set, kek, []byte("ad"))
			check(t, err)
			got, err := f.decrypt(t.Context(), data, kek, []byte("ad"))
			check(t, err)
			sameSet(t, got, set)

			_, err = f.encrypt(done, set, kek, []byte("ad"))
			wantError(t, err, "", tinkkeys.ErrAEAD, context.Canceled)
			_, err = f.decrypt(done, data, kek, []byte("ad"))
			wantError(t, err, "", tinkkeys.ErrAEAD, context.Canceled)

			// Where nobody has a context, it works all the same.
			ciphertext, err := kek.Encrypt([]byte("plaintext"), []byte("ad"))
			check(t, err)
			plaintext, err := kek.Decrypt(ciphertext, []byte("ad"))
			check(t, err)
			if string(plaintext) != "plaintext" {
				t.Errorf("decrypted %q", plaintext)
			}
		}
	}
}

// People, and Tink for Java, find the ids next to the ciphertext in JSON.
func TestKeysetInfo(t *testing.T) {
	set := newSet(t, variant{suite: seal.X25519AES256GCM}.key(t), variant{seal.P256AES256GCM, true}.key(t))
	data, err := tinkkeys.EncryptPrivate(t.Context(), set, newAEAD(t), nil)
	check(t, err)
	var got struct {
		KeysetInfo json.RawMessage `json:"keysetInfo"`
	}
	check(t, json.Unmarshal(data, &got))
	const private = `"typeUrl":"type.googleapis.com/google.crypto.tink.HpkePrivateKey","status":"ENABLED"`
	want := fmt.Sprintf(`{"primaryKeyId":%d,"keyInfo":[{%s,"keyId":%[1]d,"outputPrefixType":"TINK"},{%[2]s,"keyId":%d,"outputPrefixType":"RAW"}]}`,
		set.Keys()[0].ID(), private, set.Keys()[1].ID())
	if string(got.KeysetInfo) != want {
		t.Errorf("keysetInfo is %s, want %s", got.KeysetInfo, want)
	}
}
