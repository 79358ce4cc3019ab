package publish

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	strict "github.com/go-jose/go-jose/v4/json" // member names are case-sensitive, and each at most once

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

const (
	// MediaType is the Content-Type of a signed key set.
	MediaType = "application/sealhttp-keys+jwt"

	// MaxSize is the largest document in bytes, written or read: room for about 160
	// X25519 keys, or 27 of X-Wing.
	MaxSize = 64 << 10

	// ClockSkew is how far a key set may be issued in the future: how far a caller's
	// clock may be behind the server's. One that is ahead sees a key set expire early
	// by as much.
	ClockSkew = 5 * time.Minute

	// DefaultValidity is how long a signature is valid, if nothing else is said.
	DefaultValidity = 24 * time.Hour

	// version is what this package writes and reads.
	version = 1

	headerType = "sealhttp-keys+jwt" // MediaType without "application/" (RFC 7515, section 4.1.9)
	maxName    = 255
	maxTime    = 253402300799 // the end of the year 9999
)

// A Set is the public keys of a service at one moment.
type Set struct {
	// Name says whose keys these are. A caller pins it, so that one signing key can
	// serve several services.
	Name string
	// Revision grows with every change of the keys, and is never 0. Callers refuse to
	// go back.
	Revision uint64
	// Issued and Expires bound the time in which the set may be used. They are signed
	// in whole seconds.
	Issued, Expires time.Time
	// Keys are the public keys, the primary first. Callers seal to the primary; the
	// others still open.
	Keys []*seal.PublicKey
}

// Sign makes the signed form of a set: a compact JWS (RFC 7515). The signer must have
// an Ed25519 key; an ed25519.PrivateKey is one, and so are the signers of most KMS
// and HSM libraries. It is for tools that publish a file, signed where the key is
// kept; a service has a [Handler].
//
// The errors are those of the signer, and for a set that [Verify] would refuse.
func Sign(signer crypto.Signer, set Set) ([]byte, error) {
	pin, err := publicKeyOf(signer)
	if err != nil {
		return nil, err
	}
	if err := checkName(set.Name); err != nil {
		return nil, err
	}
	issued, expires := set.Issued.Unix(), set.Expires.Unix()
	switch {
	case set.Revision == 0:
		return nil, errors.New("publish: sign: the revision is 0")
	case issued < 0 || expires <= issued || expires > maxTime:
		return nil, errors.New("publish: sign: the set does not expire after it was issued")
	}
	keyset, err := tinkkeys.Public(set.Keys...)
	if err != nil {
		return nil, fmt.Errorf("publish: sign: %w", err)
	}
	payload, err := json.Marshal(claims{version, set.Name, set.Revision, issued, expires, keyset})
	if err != nil {
		return nil, fmt.Errorf("publish: sign: %w", err)
	}
	options := new(jose.SignerOptions).WithType(headerType).WithHeader("kid", keyID(pin))
	key := jose.SigningKey{Algorithm: jose.EdDSA, Key: cryptosigner.Opaque(signer)}
	joseSigner, err := jose.NewSigner(key, options)
	if err != nil {
		return nil, fmt.Errorf("publish: sign: %w", err)
	}
	signed, err := joseSigner.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("publish: sign: %w", err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		return nil, fmt.Errorf("publish: sign: %w", err)
	}
	if len(compact) > MaxSize {
		return nil, fmt.Errorf("publish: sign: %d keys make a document of %d bytes, at most %d", len(set.Keys), len(compact), MaxSize)
	}
	// A signer that is not of the key it says, or signs another way, must show here and
	// not at every caller.
	document := []byte(compact)
	own := trust{name: set.Name, pins: map[string]ed25519.PublicKey{keyID(pin): pin}}
	if _, err := own.read(document); err != nil {
		return nil, fmt.Errorf("publish: sign: what the signer made does not verify: %w", err)
	}
	return document, nil
}

// Verify reads what [Sign] made, for a service of that name, at a time. One of the
// pins must have signed it. It knows nothing of earlier sets, so it cannot refuse an
// older revision: a [Source] does.
//
// What it has against the document wraps [ErrRefused]; other errors are about the
// name and the pins.
func Verify(document []byte, name string, at time.Time, pins ...ed25519.PublicKey) (*Set, error) {
	trust, err := newTrust(name, pins)
	if err != nil {
		return nil, err
	}
	set, err := trust.read(document)
	if err != nil {
		return nil, err
	}
	if err := set.checkTime(at); err != nil {
		return nil, err
	}
	return set, nil
}

// checkTime refuses a set that may not be used at a time.
func (s *Set) checkTime(at time.Time) error {
	switch {
	case !at.Before(s.Expires):
		return fmt.Errorf("publish: %w at %s", ErrExpired, s.Expires.UTC().Format(time.RFC3339))
	case at.Add(ClockSkew).Before(s.Issued):
		return fmt.Errorf("publish: %w: issued at %s, and the clock says %s", ErrNotYetValid,
			s.Issued.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	return nil
}

// clone makes a copy that its owner may change.
func (s *Set) clone() *Set {
	c := *s
	c.Keys = slices.Clone(s.Keys)
	return &c
}

// claims is the payload.
type claims struct {
	Version  uint64          `json:"ver"`
	Name     string          `json:"sub"`
	Revision uint64          `json:"rev"`
	Issued   int64           `json:"iat"`
	Expires  int64           `json:"exp"`
	Keys     json.RawMessage `json:"keys"` // Tink's JSON
}

// trust is what a caller knows beforehand.
type trust struct {
	name string
	pins map[string]ed25519.PublicKey // by key id
}

func newTrust(name string, pins []ed25519.PublicKey) (*trust, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(pins) == 0 {
		return nil, errors.New("publish: no verification key is pinned")
	}
	t := &trust{name: name, pins: make(map[string]ed25519.PublicKey, len(pins))}
	for i, pin := range pins {
		if len(pin) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("publish: verification key %d of %d has %d bytes, not %d", i+1, len(pins), len(pin), ed25519.PublicKeySize)
		}
		// The zero key is what a forgotten assignment leaves, and a point of low order:
		// anyone can sign for it.
		if [ed25519.PublicKeySize]byte(pin) == [ed25519.PublicKeySize]byte{} {
			return nil, fmt.Errorf("publish: verification key %d of %d is all zero", i+1, len(pins))
		}
		t.pins[keyID(pin)] = slices.Clone(pin)
	}
	return t, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("publish: a name has 1 to %d bytes of UTF-8 and no control characters", maxName)
	}
	return nil
}

// read checks all but the time. Nothing of the payload is looked at before its
// signature has been verified.
func (t *trust) read(document []byte) (*Set, error) {
	payload, err := t.payload(document)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if c.Name != t.name {
		return nil, fmt.Errorf("publish: %w", ErrOtherName)
	}
	keys, err := tinkkeys.ParsePublic(c.Keys)
	if err != nil {
		return nil, fmt.Errorf("publish: %w: %w", ErrMalformed, err)
	}
	return &Set{
		Name:     c.Name,
		Revision: c.Revision,
		Issued:   time.Unix(c.Issued, 0),
		Expires:  time.Unix(c.Expires, 0),
		Keys:     keys,
	}, nil
}

// payload verifies the signature. What it parses before that is the header, and of
// that only strings.
func (t *trust) payload(document []byte) ([]byte, error) {
	if len(document) > MaxSize {
		return nil, malformed("larger than %d bytes", MaxSize)
	}
	compact := string(document)
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, malformed("no compact JWS")
	}
	for _, part := range parts {
		if !isBase64URL(part) {
			return nil, malformed("no compact JWS")
		}
	}
	protected, _ := base64.RawURLEncoding.DecodeString(parts[0]) // isBase64URL did it before
	var header map[string]string
	if err := strict.Unmarshal(protected, &header); err != nil {
		return nil, malformed("the header is not that of a key set")
	}
	if header["alg"] != string(jose.EdDSA) {
		return nil, fmt.Errorf("publish: %w: the algorithm is not %s", ErrUntrusted, jose.EdDSA)
	}
	id := header["kid"]
	if !maps.Equal(header, map[string]string{"alg": string(jose.EdDSA), "kid": id, "typ": headerType}) {
		return nil, malformed("the type is not %s, or the header has other members than alg, kid and typ", headerType)
	}
	pin, ok := t.pins[id]
	if !ok {
		return nil, fmt.Errorf("publish: %w: it names a signing key that is not pinned", ErrUntrusted)
	}
	signed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, malformed("no compact JWS") // its errors quote
	}
	payload, err := signed.Verify(pin)
	if err != nil {
		return nil, fmt.Errorf("publish: %w: the signature does not verify", ErrUntrusted)
	}
	return payload, nil
}

// parseClaims reads a payload that has exactly the members of claims.
func parseClaims(payload []byte) (*claims, error) {
	var members map[string]strict.RawMessage
	if err := strict.Unmarshal(payload, &members); err != nil || members == nil {
		return nil, malformed("the payload is no JSON object with each member once")
	}
	c := new(claims)
	// The version first: another one may have other members.
	if !member(members, "ver", &c.Version) {
		return nil, malformed("no version")
	}
	if c.Version != version {
		return nil, malformed("version %d, and this program reads version %d", c.Version, version)
	}
	ok := member(members, "sub", &c.Name) && member(members, "rev", &c.Revision) &&
		member(members, "iat", &c.Issued) && member(members, "exp", &c.Expires) && member(members, "keys", &c.Keys)
	const all = 6
	if !ok || len(members) != all {
		return nil, malformed("the payload has not exactly the members of version %d", version)
	}
	if c.Revision == 0 || c.Issued < 0 || c.Expires <= c.Issued || c.Expires > maxTime {
		return nil, malformed("a revision of 0, or times that cannot be")
	}
	return c, nil
}

// member reads one member of an object; null is none.
func member(members map[string]strict.RawMessage, name string, value any) bool {
	raw, ok := members[name]
	return ok && string(raw) != "null" && strict.Unmarshal(raw, value) == nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("publish: %w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// isBase64URL reports whether s is base64url without padding, in the one form that
// an encoder makes. The decoder ignores line breaks and the bits that are left over
// at the end: with them, other documents would pass for the one that was signed.
func isBase64URL(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && base64.RawURLEncoding.EncodeToString(b) == s
}

// keyID returns the JWK thumbprint of a key (RFC 7638), the "kid" of what it signs.
func keyID(pin ed25519.PublicKey) string {
	sum, err := (&jose.JSONWebKey{Key: pin}).Thumbprint(crypto.SHA256)
	if err != nil {
		panic(err) // unreachable: the length has been checked
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func publicKeyOf(signer crypto.Signer) (ed25519.PublicKey, error) {
	if signer == nil {
		return nil, errors.New("publish: the signer is nil")
	}
	if key, ok := signer.(ed25519.PrivateKey); ok && len(key) != ed25519.PrivateKeySize { // its Public would panic
		return nil, fmt.Errorf("publish: the signing key has %d bytes, not %d", len(key), ed25519.PrivateKeySize)
	}
	pin, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(pin) != ed25519.PublicKeySize {
		return nil, errors.New("publish: the signer has no Ed25519 key")
	}
	return pin, nil
}
