package publish_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

func TestSignVerify(t *testing.T) {
	for _, suite := range seal.Suites() {
		t.Run(suite.String(), func(t *testing.T) {
			raw, err := seal.GenerateKey(suite, seal.WithoutPrefix())
			check(t, err)
			issued := time.Unix(1764000000, 0)
			set := publish.Set{
				Name: service, Revision: 1<<64 - 1, Issued: issued, Expires: issued.Add(time.Hour),
				Keys: []*seal.PublicKey{newKey(t, suite).Public(), raw.Public()},
			}
			document, err := publish.Sign(signer, set)
			check(t, err)
			again, err := publish.Sign(signer, set)
			check(t, err)
			if !bytes.Equal(document, again) {
				t.Error("the same set is signed as other bytes")
			}
			for _, at := range []time.Time{issued.Add(-publish.ClockSkew), issued, issued.Add(time.Hour - 1)} {
				got, err := publish.Verify(document, service, at, pinOf(signerOf(2)), pin)
				check(t, err)
				sameSet(t, got, set)
			}
		})
	}
}

func sameSet(t testing.TB, got *publish.Set, want publish.Set) {
	t.Helper()
	if got.Name != want.Name || got.Revision != want.Revision || !got.Issued.Equal(want.Issued) || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	sameKeys(t, got.Keys, want.Keys)
}

func sameKeys(t testing.TB, got, want []*seal.PublicKey) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].Equal(want[i]) {
			t.Errorf("key %d is %v, want %v", i+1, got[i], want[i])
		}
	}
}

// bad is a document that must be refused.
type bad struct {
	name     string
	document []byte
	is       []error
}

// newRSAKey takes its time, so one serves all tests.
var newRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// badDocuments are refused at this moment by who pins [pin] and the name [service].
// All but those that say so are rightly signed by the pinned key, so that nothing but
// the named fault refuses them.
func badDocuments(t testing.TB) []bad {
	key := newKey(t, seal.X25519AES256GCM)
	other := signerOf(2)
	header, payload := goodHeader(t, signer), goodPayload(t, key.Public())
	good := string(forge(signer, header.String(), payload.String()))
	if _, err := publish.Verify([]byte(good), service, time.Now(), pin); err != nil {
		t.Fatalf("what all others are made of is refused: %v", err)
	}
	parts := strings.Split(good, ".")
	now := time.Now().Unix()

	var all []bad
	add := func(name string, document []byte, is ...error) {
		all = append(all, bad{name, document, append(is, publish.ErrRefused)})
	}
	withHeader := func(name string, h string, is error) { add(name, forge(signer, h, payload.String()), is) }
	withPayload := func(name string, p string, is ...error) { add(name, forge(signer, header.String(), p), is...) }

	// Algorithms, signed as they say.
	keys := map[jose.SignatureAlgorithm]any{jose.HS256: []byte(pin)}
	rsaKey, err := newRSAKey()
	check(t, err)
	keys[jose.RS256], keys[jose.PS256] = rsaKey, rsaKey
	keys[jose.ES256], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	for alg, k := range keys {
		options := new(jose.SignerOptions).WithType("sealhttp-keys+jwt").WithHeader("kid", strings.Trim(header["kid"], `"`))
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: k}, options)
		check(t, err)
		signed, err := s.Sign([]byte(payload.String()))
		check(t, err)
		compact, err := signed.CompactSerialize()
		check(t, err)
		add("signed with "+string(alg), []byte(compact), publish.ErrUntrusted)
	}
	for _, alg := range []string{`"none"`, `"None"`, `"eddsa"`, `"Ed25519"`, `"HS256"`, `"RS256"`, `"ES256"`, `""`} {
		withHeader("the pinned key, under alg "+alg, header.with("alg", alg).String(), publish.ErrUntrusted)
	}
	add("alg none, no signature", []byte(b64(header.with("alg", `"none"`).String())+"."+parts[1]+"."), publish.ErrUntrusted)
	add("no alg, no signature", []byte(b64(header.with("alg", "").String())+"."+parts[1]+"."), publish.ErrUntrusted)
	add("detached", []byte(parts[0]+".."+parts[2]), publish.ErrUntrusted)
	add("no signature", []byte(parts[0]+"."+parts[1]+"."), publish.ErrUntrusted)

	// Keys.
	add("another key", forge(other, goodHeader(t, other).String(), payload.String()), publish.ErrUntrusted)
	add("another key under the pinned one's id", forge(other, header.String(), payload.String()), publish.ErrUntrusted)
	withHeader("another key's id", header.with("kid", goodHeader(t, other)["kid"]).String(), publish.ErrUntrusted)
	withHeader("no kid", header.with("kid", "").String(), publish.ErrMalformed)
	withHeader("an empty kid", header.with("kid", `""`).String(), publish.ErrUntrusted)
	jwk, err := (&jose.JSONWebKey{Key: pinOf(other)}).MarshalJSON()
	check(t, err)
	add("another key, which it brings along", forge(other, header.with("jwk", string(jwk)).String(), payload.String()), publish.ErrMalformed)
	add("another key, which it brings along for its kid", forge(other, header.with("kid", "", "jwk", string(jwk)).String(), payload.String()), publish.ErrMalformed)

	// Headers.
	for name, value := range map[string]string{
		"jwk": string(jwk), "jku": `"https://attacker.example/keys"`, "x5c": `["AA=="]`, "x5u": `"https://attacker.example/cert"`,
		"crit": `["exp"]`, "b64": "false", "nonce": `"n"`, "cty": `"JWT"`, "anything": `"x"`, "null": "null",
	} {
		withHeader("header with "+name, header.with(name, value).String(), publish.ErrMalformed)
	}
	withHeader("header with b64 and crit", header.with("b64", "false", "crit", `["b64"]`).String(), publish.ErrMalformed)
	withHeader("no typ", header.with("typ", "").String(), publish.ErrMalformed)
	withHeader("typ JWT", header.with("typ", `"JWT"`).String(), publish.ErrMalformed)
	withHeader("typ in another case", header.with("typ", `"Sealhttp-keys+jwt"`).String(), publish.ErrMalformed)
	withHeader("typ with application/", header.with("typ", `"application/sealhttp-keys+jwt"`).String(), publish.ErrMalformed)
	withHeader("Typ", header.with("typ", "", "Typ", header["typ"]).String(), publish.ErrMalformed)
	withHeader("alg twice", `{"alg":"EdDSA",`+header.String()[1:], publish.ErrMalformed)
	withHeader("alg twice, once none", `{"alg":"none",`+header.String()[1:], publish.ErrMalformed)
	withHeader("alg of another type", header.with("alg", `["EdDSA"]`).String(), publish.ErrMalformed)
	for _, h := range []string{"", "null", "[]", `"EdDSA"`, "{", header.String() + "{}"} {
		// What has no alg is not said to be malformed first.
		is := publish.ErrMalformed
		if h == "null" {
			is = publish.ErrUntrusted
		}
		withHeader(fmt.Sprintf("header %.8q", h), h, is)
	}

	// Payloads.
	for name := range payload {
		withPayload("no "+name, payload.with(name, "").String(), publish.ErrMalformed)
		withPayload(name+" null", payload.with(name, "null").String(), publish.ErrMalformed)
		withPayload(name+" an array", payload.with(name, "[]").String(), publish.ErrMalformed)
		withPayload(name+" twice", `{`+quote(name)+":"+payload[name]+","+payload.String()[1:], publish.ErrMalformed)
		upper := strings.ToUpper(name[:1]) + name[1:]
		withPayload(upper+" for "+name, payload.with(name, "", upper, payload[name]).String(), publish.ErrMalformed)
		withPayload(upper+" beside "+name, payload.with(upper, payload[name]).String(), publish.ErrMalformed)
	}
	withPayload("one more member", payload.with("nbf", "0").String(), publish.ErrMalformed)
	for _, p := range []string{"", "null", "[]", "1", "{}", "{", payload.String() + "{}", payload.String() + ","} {
		withPayload(fmt.Sprintf("payload %.8q", p), p, publish.ErrMalformed)
	}
	for _, v := range []string{"0", "2", "18446744073709551615", "-1", "1.0", "1e0", `"1"`} {
		withPayload("version "+v, payload.with("ver", v).String(), publish.ErrMalformed)
	}
	for _, v := range []string{"0", "-1", "7.0", "18446744073709551616", `"7"`} {
		withPayload("revision "+v, payload.with("rev", v).String(), publish.ErrMalformed)
	}
	for name, times := range map[string][2]string{
		"in fractions":          {"1764000000.5", number(now + 3600)},
		"negative":              {"-1", number(now + 3600)},
		"expires when issued":   {number(now), number(now)},
		"expires before":        {number(now), number(now - 1)},
		"past the year 9999":    {number(now), "253402300800"},
		"past what times hold":  {number(now), "9223372036854775807"},
		"past what numbers are": {number(now), "9223372036854775808"},
	} {
		withPayload("times "+name, payload.with("iat", times[0], "exp", times[1]).String(), publish.ErrMalformed)
	}
	withPayload("expired", payload.with("iat", number(now-3600), "exp", number(now-1)).String(), publish.ErrExpired)
	withPayload("expires now", payload.with("iat", number(now-3600), "exp", number(now)).String(), publish.ErrExpired)
	withPayload("not yet valid", payload.with("iat", number(now+600)).String(), publish.ErrNotYetValid)
	for _, name := range []string{"", "other.example.com", "API.example.com", service + ".", service + "\x00"} {
		withPayload("for "+quote(name), payload.with("sub", quote(name)).String(), publish.ErrOtherName)
	}

	// Keysets.
	set, err := seal.NewKeySet(key)
	check(t, err)
	private, err := tinkkeys.InsecureCleartextPrivate(set)
	check(t, err)
	withPayload("a private key", payload.with("keys", string(private)).String(), publish.ErrMalformed, tinkkeys.ErrPrivateKey)
	withPayload("an empty keyset", payload.with("keys", "{}").String(), publish.ErrMalformed, tinkkeys.ErrKeyset)
	withPayload("a keyset in a string", payload.with("keys", quote(payload["keys"])).String(), publish.ErrMalformed, tinkkeys.ErrKeyset)
	withPayload("a keyset with more in it", payload.with("keys", `{"rev":1,`+payload["keys"][1:]).String(), publish.ErrMalformed, tinkkeys.ErrKeyset)
	lowOrder := strings.Replace(payload["keys"], hpkeValue(key.Public().Bytes()), hpkeValue(make([]byte, 32)), 1)
	if lowOrder == payload["keys"] {
		t.Fatal("the key is not where it was looked for")
	}
	withPayload("a key of low order", payload.with("keys", lowOrder).String(), publish.ErrMalformed, seal.ErrLowOrder)

	// Forms.
	for name, document := range map[string]string{
		"nothing":             "",
		"two parts":           parts[0] + "." + parts[1],
		"four parts":          good + ".",
		"five parts, a JWE's": good + "..",
		"a line break after":  good + "\n",
		"a space before":      " " + good,
		"a line break inside": parts[0] + "." + parts[1][:40] + "\r\n" + parts[1][40:] + "." + parts[2],
		"padded":              parts[0] + "." + parts[1] + "." + parts[2] + "==",
		"not base64url":       parts[0] + "." + parts[1] + "." + strings.Repeat("+", len(parts[2])),
		"JSON":                `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a Tink keyset":       payload["keys"],
	} {
		add(name, []byte(document), publish.ErrMalformed)
	}
	trailing := []byte(good)
	trailing[len(trailing)-1]++ // of its six bits four are left over
	add("bits left over", trailing, publish.ErrMalformed)
	add("larger than 64 KiB", sized(t, header, payload, publish.MaxSize+1), publish.ErrMalformed)
	return all
}

// hpkeValue is an HpkePublicKey of X25519, SHA-256 and AES-256-GCM as a keyset has it:
// a protocol buffer in base64.
func hpkeValue(key []byte) string {
	return base64.StdEncoding.EncodeToString(append([]byte{0x12, 6, 0x08, 1, 0x10, 1, 0x18, 2, 0x1a, byte(len(key))}, key...))
}

// sized makes a document of n bytes, rightly signed, and right but for its size.
func sized(t testing.TB, header, payload members, n int) []byte {
	t.Helper()
	for spaces := (n - 900) * 3 / 4; ; spaces++ {
		document := forge(signer, header.String(), payload.String()+strings.Repeat(" ", spaces))
		switch {
		case len(document) == n:
			return document
		case len(document) > n: // base64 has no text of every length
			header = header.with("alg", " "+header["alg"])
			spaces = (n - 1100) * 3 / 4
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	for _, b := range badDocuments(t) {
		t.Run(b.name, func(t *testing.T) {
			set, err := publish.Verify(b.document, service, time.Now(), pin)
			wantError(t, err, b.is...)
			if set != nil {
				t.Error("a set beside the error")
			}
			for _, one := range []error{publish.ErrMalformed, publish.ErrUntrusted, publish.ErrOtherName, publish.ErrExpired, publish.ErrNotYetValid, publish.ErrRollback} {
				if errors.Is(err, one) != (one == b.is[0]) {
					t.Errorf("%q is %q", err, one)
				}
			}
			quotesNothing(t, err, b.document)
		})
	}
}

// quotesNothing fails the test if an error has in it what only the document says.
func quotesNothing(t testing.TB, err error, document []byte) {
	t.Helper()
	text := err.Error()
	if len(text) > 300 {
		t.Errorf("an error of %d bytes", len(text))
	}
	for part := range strings.SplitSeq(string(document), ".") {
		decoded, _ := base64.RawURLEncoding.DecodeString(part)
		for _, s := range []string{part, string(decoded)} {
			const enough = 24
			for i := 0; i+enough <= len(s) && i < 4096; i++ {
				if strings.Contains(text, s[i:i+enough]) {
					t.Fatalf("the error quotes %q: %q", s[i:i+enough], text)
				}
			}
		}
	}
}

func TestUnknownVersionNamesBoth(t *testing.T) {
	payload := goodPayload(t, newKey(t, seal.X25519AES256GCM).Public())
	// Another version may have other members.
	document := forge(signer, goodHeader(t, signer).String(), payload.with("ver", "42", "sub", "", "new", "true").String())
	_, err := publish.Verify(document, service, time.Now(), pin)
	wantError(t, err, publish.ErrMalformed)
	if text := err.Error(); !strings.Contains(text, "version 42") || !strings.Contains(text, "version 1") {
		t.Errorf("%q does not name both versions", text)
	}
}

func TestLargestDocument(t *testing.T) {
	key := newKey(t, seal.X25519AES256GCM).Public()
	document := sized(t, goodHeader(t, signer), goodPayload(t, key), publish.MaxSize)
	set, err := publish.Verify(document, service, time.Now(), pin)
	check(t, err)
	sameKeys(t, set.Keys, []*seal.PublicKey{key})
}

// No document but the one that was signed is taken: with every bit changed, every byte
// removed, and one put in everywhere.
func TestEveryByteCounts(t *testing.T) {
	document := sign(t, signer, 1, newKey(t, seal.X25519AES256GCM).Public())
	refused := func(what string, i int, changed []byte) {
		if set, err := publish.Verify(changed, service, time.Now(), pin); !errors.Is(err, publish.ErrRefused) || set != nil {
			t.Errorf("%s %d of %d: got %v", what, i, len(document), err)
		}
	}
	for i := range document {
		for bit := range 8 {
			changed := bytes.Clone(document)
			changed[i] ^= 1 << bit
			refused("a bit of byte", i, changed)
		}
		refused("cut at", i, document[:i])
		refused("without byte", i, append(bytes.Clone(document[:i]), document[i+1:]...))
		refused("a line break before byte", i, append(append(bytes.Clone(document[:i]), '\n'), document[i:]...))
	}
	_, err := publish.Verify(document, service, time.Now(), pin)
	check(t, err)
}

func TestVerifyArguments(t *testing.T) {
	document := sign(t, signer, 1, newKey(t, seal.X25519AES256GCM).Public())
	for name, test := range map[string]struct {
		service string
		pins    []ed25519.PublicKey
	}{
		"no name":         {"", pins},
		"a long name":     {strings.Repeat("x", 256), pins},
		"not UTF-8":       {"\xff", pins},
		"a control":       {"a\nb", pins},
		"no pin":          {service, nil},
		"a nil pin":       {service, []ed25519.PublicKey{pin, nil}},
		"a short pin":     {service, []ed25519.PublicKey{pin[:31]}},
		"the zero pin":    {service, []ed25519.PublicKey{make(ed25519.PublicKey, 32)}},
		"the private key": {service, []ed25519.PublicKey{ed25519.PublicKey(signer)}},
	} {
		_, err := publish.Verify(document, test.service, time.Now(), test.pins...)
		if err == nil || errors.Is(err, publish.ErrRefused) {
			t.Errorf("%s: got %v, want an error that is not about the document", name, err)
		}
		if _, err := publish.NewSource("https://api.example.com/keys", test.service, test.pins); err == nil {
			t.Errorf("%s: NewSource takes it", name)
		}
	}
}

// opaque is a signer as a KMS's: it has no private key, and may be wrong.
type opaque struct {
	public crypto.PublicKey
	sign   func(message []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (o opaque) Public() crypto.PublicKey { return o.public }
func (o opaque) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.sign(message, opts)
}

func TestSignerOfAnyKind(t *testing.T) {
	key := newKey(t, seal.X25519AES256GCM).Public()
	kms := opaque{pin, func(message []byte, opts crypto.SignerOpts) ([]byte, error) {
		return signer.Sign(nil, message, opts)
	}}
	document := sign(t, kms, 1, key)
	set, err := publish.Verify(document, service, time.Now(), pin)
	check(t, err)
	sameKeys(t, set.Keys, []*seal.PublicKey{key})
}

func TestSignRefuses(t *testing.T) {
	errSigner := errors.New("the KMS cannot be reached")
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	key := newKey(t, seal.X25519AES256GCM).Public()
	now := time.Now()
	good := publish.Set{Name: service, Revision: 1, Issued: now, Expires: now.Add(time.Hour), Keys: []*seal.PublicKey{key}}
	change := func(f func(*publish.Set)) publish.Set { s := good; f(&s); return s }
	var many []*seal.PublicKey
	for range 30 {
		many = append(many, newKey(t, seal.XWingAES256GCM).Public())
	}
	for name, test := range map[string]struct {
		signer crypto.Signer
		set    publish.Set
		is     error
	}{
		"no signer":           {nil, good, nil},
		"a P-256 signer":      {ecKey, good, nil},
		"half a key":          {signer[:32], good, nil},
		"a signer that fails": {opaque{pin, func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, errSigner }}, good, errSigner},
		"a signer of another key": {opaque{pin, func(m []byte, o crypto.SignerOpts) ([]byte, error) {
			return signerOf(2).Sign(nil, m, o)
		}}, good, nil},
		"a signer of hashes": {opaque{pin, func(m []byte, _ crypto.SignerOpts) ([]byte, error) {
			h := crypto.SHA512.New()
			h.Write(m)
			return signer.Sign(nil, h.Sum(nil), crypto.SHA512)
		}}, good, nil},
		"no name":              {signer, change(func(s *publish.Set) { s.Name = "" }), nil},
		"revision 0":           {signer, change(func(s *publish.Set) { s.Revision = 0 }), nil},
		"no keys":              {signer, change(func(s *publish.Set) { s.Keys = nil }), tinkkeys.ErrKeyset},
		"a nil key":            {signer, change(func(s *publish.Set) { s.Keys = []*seal.PublicKey{nil} }), tinkkeys.ErrKeyset},
		"a key twice":          {signer, change(func(s *publish.Set) { s.Keys = []*seal.PublicKey{key, key} }), seal.ErrDuplicateKey},
		"expires when issued":  {signer, change(func(s *publish.Set) { s.Expires = s.Issued }), nil},
		"expires never":        {signer, change(func(s *publish.Set) { s.Expires = now.AddDate(9000, 0, 0) }), nil},
		"issued before 1970":   {signer, change(func(s *publish.Set) { s.Issued = time.Unix(-1, 0) }), nil},
		"no times":             {signer, change(func(s *publish.Set) { s.Issued, s.Expires = time.Time{}, time.Time{} }), nil},
		"more than 64 KiB":     {signer, change(func(s *publish.Set) { s.Keys = many }), nil},
		"a name with controls": {signer, change(func(s *publish.Set) { s.Name = "a\x7f" }), nil},
	} {
		document, err := publish.Sign(test.signer, test.set)
		if name == "more than 64 KiB" && err != nil && !strings.Contains(err.Error(), "30 keys make a document of") {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil || document != nil || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: got %d bytes and %v", name, len(document), err)
		}
	}
}
