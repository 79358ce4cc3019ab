package accounts

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// KeyForm is a public key as a caller gives it: exactly one of Tink, Raw and JWK
// is set. As JSON it is what the [Registry.Handler] takes, there with one member more,
// replaces.
type KeyForm struct {
	// Tink is a Tink keyset of public keys in JSON. Its primary key is registered,
	// with its id; the others are checked, and not registered.
	Tink json.RawMessage `json:"tink,omitempty"`
	// Raw is the KEM's serialized public key in base64, standard or URL-safe, with
	// or without padding. The key's messages carry no prefix ([seal.WithoutPrefix]).
	Raw string `json:"raw,omitempty"`
	// JWK is a JSON Web Key (RFC 7517) on X25519 (RFC 8037) or P-256, as WebCrypto
	// exports it. Its messages carry no prefix. One with an alg is refused, since
	// that says what else the key is for.
	JWK json.RawMessage `json:"jwk,omitempty"`

	// Suite is the name of the key's suite, as [seal.Suite.String] gives it: for Raw
	// always; for a JWK where it is not X25519-AES256GCM or P256-AES256GCM.
	Suite string `json:"suite,omitempty"`
	// ID is the key's id, for Raw and JWK. For 0 one is drawn.
	ID uint32 `json:"id,omitempty"`
}

// parse returns the key. Nothing of its errors is a part of what was given.
func (f KeyForm) parse() (*seal.PublicKey, error) {
	forms := 0
	for _, given := range []bool{len(f.Tink) > 0, f.Raw != "", len(f.JWK) > 0} {
		if given {
			forms++
		}
	}
	if forms != 1 {
		return nil, fmt.Errorf("accounts: %w: give exactly one of tink, raw and jwk", ErrKeyForm)
	}
	if isSecret(f.Tink) || isSecret([]byte(f.Raw)) || isSecret(f.JWK) {
		return nil, fmt.Errorf("accounts: %w", ErrPrivateKey)
	}
	switch {
	case len(f.Tink) > 0:
		return f.parseTink()
	case f.Raw != "":
		return f.parseRaw()
	default:
		return f.parseJWK()
	}
}

func (f KeyForm) parseTink() (*seal.PublicKey, error) {
	if f.Suite != "" || f.ID != 0 {
		return nil, fmt.Errorf("accounts: %w: a Tink keyset says its suite and id itself", ErrKeyForm)
	}
	keys, err := tinkkeys.ParsePublic(f.Tink)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return keys[0], nil
}

func (f KeyForm) parseRaw() (*seal.PublicKey, error) {
	suite, err := seal.ParseSuite(f.Suite)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", seal.ErrUnknownSuite)
	}
	raw, err := decodeBase64(f.Raw)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w: not base64", ErrKeyForm)
	}
	key, err := newKey(suite, f.ID, raw)
	if errors.Is(err, seal.ErrKeyLength) && (len(raw) == secretLen || isSecretDER(raw)) {
		return nil, fmt.Errorf("accounts: %w: %w", ErrPrivateKey, err)
	}
	return key, err
}

// secretLen is the length of a raw private key of every suite.
const secretLen = 32

func newKey(suite seal.Suite, id uint32, raw []byte) (*seal.PublicKey, error) {
	if id == 0 {
		id = randomID()
	}
	key, err := seal.NewPublicKey(suite, id, raw, seal.WithoutPrefix())
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return key, nil
}

func randomID() uint32 {
	var b [4]byte
	for {
		rand.Read(b[:]) // never fails, see crypto/rand
		if id := binary.BigEndian.Uint32(b[:]); id != 0 {
			return id
		}
	}
}

// decodeBase64 takes both alphabets, with or without padding.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

// jwk is the members of a JSON Web Key that are looked at. Others are ignored, as
// RFC 7517, section 4, has it.
type jwk struct {
	kty, crv, use, alg, x, y string
	ops                      []string
}

// readJWK reads a JWK by the exact names of its members: encoding/json takes them
// in upper or lower case.
func readJWK(data []byte) (jwk, error) {
	var k jwk
	var members map[string]json.RawMessage
	if checkMembers(data) != nil || json.Unmarshal(data, &members) != nil {
		return k, fmt.Errorf("accounts: %w: the JWK is no JSON object, or has two members of one name", ErrKeyForm)
	}
	for name, field := range map[string]any{
		"kty": &k.kty, "crv": &k.crv, "use": &k.use, "alg": &k.alg, "x": &k.x, "y": &k.y, "key_ops": &k.ops,
	} {
		if value, ok := members[name]; ok && json.Unmarshal(value, field) != nil {
			return k, fmt.Errorf("accounts: %w: %s of the JWK has the wrong type", ErrKeyForm, name)
		}
	}
	return k, nil
}

func (f KeyForm) parseJWK() (*seal.PublicKey, error) {
	k, err := readJWK(f.JWK)
	if err != nil {
		return nil, err
	}
	// What a public key for HPKE may be said to be for. WebCrypto exports an empty
	// list.
	ops := []string{"deriveKey", "deriveBits", "encrypt", "wrapKey"}
	foreign := slices.ContainsFunc(k.ops, func(op string) bool { return !slices.Contains(ops, op) })
	switch {
	case k.kty == "":
		return nil, fmt.Errorf("accounts: %w: the JWK has no kty", ErrKeyForm)
	case k.use != "" && k.use != "enc":
		return nil, fmt.Errorf("accounts: %w: use of the JWK is not enc", ErrUnsupportedKey)
	case k.alg != "":
		return nil, fmt.Errorf("accounts: %w: the JWK is meant for an alg", ErrUnsupportedKey)
	case foreign:
		return nil, fmt.Errorf("accounts: %w: key_ops of the JWK has other operations than encryption", ErrUnsupportedKey)
	}
	var suite seal.Suite
	var raw []byte
	switch {
	case k.kty == "OKP" && k.crv == "X25519":
		suite = seal.X25519AES256GCM
		raw, err = coordinates(k.x)
	case k.kty == "EC" && k.crv == "P-256":
		suite = seal.P256AES256GCM
		raw, err = coordinates(k.x, k.y)
		raw = append([]byte{0x04}, raw...) // uncompressed: SEC 1, section 2.3.3
	default:
		return nil, fmt.Errorf("accounts: %w: the JWK is on neither X25519 nor P-256", ErrUnsupportedKey)
	}
	if err != nil {
		return nil, err
	}
	if f.Suite != "" {
		if suite, err = seal.ParseSuite(f.Suite); err != nil {
			return nil, fmt.Errorf("accounts: %w", seal.ErrUnknownSuite)
		}
	}
	return newKey(suite, f.ID, raw)
}

// coordinates joins coordinates of 32 bytes each.
func coordinates(encoded ...string) ([]byte, error) {
	var all []byte
	for _, s := range encoded {
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil || strings.ContainsAny(s, "\r\n") {
			return nil, fmt.Errorf("accounts: %w: a coordinate of the JWK is not base64url without padding", ErrKeyForm)
		}
		if len(b) != 32 {
			return nil, fmt.Errorf("accounts: %w: a coordinate of the JWK has %d bytes, want 32", seal.ErrKeyLength, len(b))
		}
		all = append(all, b...)
	}
	return all, nil
}

// isSecret reports whether what was given is a private key in a form that shows
// it, wherever it was put.
func isSecret(data []byte) bool {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		header, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.Contains(header, []byte("PRIVATE KEY"))
	}
	if len(data) == 0 || data[0] != '{' && data[0] != '[' {
		return false
	}
	if _, err := tinkkeys.ParsePublic(data); errors.Is(err, tinkkeys.ErrPrivateKey) {
		return true
	}
	var v any
	return json.Unmarshal(data, &v) == nil && hasSecretJWK(v)
}

// hasSecretJWK reports whether a value is a private or symmetric JWK, or has one in
// it, as a set of JWKs.
func hasSecretJWK(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, hasSecretJWK)
	case map[string]any:
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} { // RFC 7518, sections 6.2.2, 6.3.2, 6.4.1
			if _, secret := v[name]; secret && v["kty"] != nil {
				return true
			}
		}
		for _, member := range v {
			if hasSecretJWK(member) {
				return true
			}
		}
	}
	return false
}

// isSecretDER reports whether data is a private key in PKCS #8 or SEC 1.
func isSecretDER(data []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(data); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(data)
	return err == nil
}
