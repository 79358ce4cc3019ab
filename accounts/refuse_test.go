package accounts_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	hpkepb "github.com/tink-crypto/tink-go/v2/proto/hpke_go_proto"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"google.golang.org/protobuf/proto"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// refusal is a key that must not be registered.
type refusal struct {
	name   string
	form   accounts.KeyForm
	is     []error
	code   string
	status int
	secret []byte // must not be stored or repeated, in any encoding
}

// lowOrder are the encodings of X25519 points of low order, in hex: the list of
// https://cr.yp.to/ecdh.html#validate.
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
	"4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
	"d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	check(t, err)
	return b
}

func rawForm(suite seal.Suite, key []byte) accounts.KeyForm {
	return accounts.KeyForm{Raw: base64.StdEncoding.EncodeToString(key), Suite: suite.String()}
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwkForm makes a JWK of pairs of names and values, which may be any.
func jwkForm(t testing.TB, members map[string]any) accounts.KeyForm {
	t.Helper()
	data, err := json.Marshal(members)
	check(t, err)
	return accounts.KeyForm{JWK: data}
}

func x25519JWK(x []byte) map[string]any {
	return map[string]any{"kty": "OKP", "crv": "X25519", "x": b64url(x)}
}

func p256JWK(x, y []byte) map[string]any {
	return map[string]any{"kty": "EC", "crv": "P-256", "x": b64url(x), "y": b64url(y)}
}

func with(members map[string]any, more ...any) map[string]any {
	for i := 0; i < len(more); i += 2 {
		members[more[i].(string)] = more[i+1]
	}
	return members
}

var tinkParams = map[seal.Suite]*hpkepb.HpkeParams{
	seal.X25519AES256GCM: {Kem: hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, Kdf: hpkepb.HpkeKdf_HKDF_SHA256, Aead: hpkepb.HpkeAead_AES_256_GCM},
	seal.P256AES256GCM:   {Kem: hpkepb.HpkeKem_DHKEM_P256_HKDF_SHA256, Kdf: hpkepb.HpkeKdf_HKDF_SHA256, Aead: hpkepb.HpkeAead_AES_256_GCM},
	seal.XWingAES256GCM:  {Kem: hpkepb.HpkeKem_X_WING, Kdf: hpkepb.HpkeKdf_HKDF_SHA256, Aead: hpkepb.HpkeAead_AES_256_GCM},
}

// anyTink makes a Tink keyset of one key of any bytes.
func anyTink(t testing.TB, suite seal.Suite, id uint32, raw []byte, alter ...func(*tinkpb.Keyset_Key)) accounts.KeyForm {
	t.Helper()
	value, err := proto.Marshal(&hpkepb.HpkePublicKey{Params: tinkParams[suite], PublicKey: raw})
	check(t, err)
	key := &tinkpb.Keyset_Key{
		KeyData: &tinkpb.KeyData{
			TypeUrl:         "type.googleapis.com/google.crypto.tink.HpkePublicKey",
			Value:           value,
			KeyMaterialType: tinkpb.KeyData_ASYMMETRIC_PUBLIC,
		},
		Status:           tinkpb.KeyStatusType_ENABLED,
		KeyId:            id,
		OutputPrefixType: tinkpb.OutputPrefixType_TINK,
	}
	for _, f := range alter {
		f(key)
	}
	var b bytes.Buffer
	check(t, keyset.NewJSONWriter(&b).Write(&tinkpb.Keyset{PrimaryKeyId: id, Key: []*tinkpb.Keyset_Key{key}}))
	return accounts.KeyForm{Tink: b.Bytes()}
}

// badKeys are keys that package seal refuses, in each form that can carry them.
func badKeys(t testing.TB) []refusal {
	x := generate(t, seal.X25519AES256GCM).Public().Bytes()
	p := generate(t, seal.P256AES256GCM).Public().Bytes()
	wing := generate(t, seal.XWingAES256GCM).Public().Bytes()
	var all []refusal
	add := func(name, code string, is error, suite seal.Suite, key []byte) {
		all = append(all,
			refusal{name: name + ", raw", form: rawForm(suite, key), is: []error{is, seal.ErrInvalidKey}, code: code, status: 422},
			refusal{name: name + ", Tink", form: anyTink(t, suite, 4242, key), is: []error{is, tinkkeys.ErrKeyset}, code: code, status: 422})
		var members map[string]any
		switch {
		case suite == seal.X25519AES256GCM:
			members = x25519JWK(key)
		case suite == seal.P256AES256GCM && len(key) > 33 && key[0] == 4:
			members = p256JWK(key[1:33], key[33:])
		default:
			return
		}
		all = append(all, refusal{name: name + ", JWK", form: jwkForm(t, members), is: []error{is, seal.ErrInvalidKey}, code: code, status: 422})
	}
	flipped := func(b []byte, i int, bit byte) []byte {
		b = bytes.Clone(b)
		b[i] ^= bit
		return b
	}
	for i, point := range lowOrder {
		low := unhex(t, point)
		add(fmt.Sprintf("low order %d", i), "low_order", seal.ErrLowOrder, seal.X25519AES256GCM, low)
		add(fmt.Sprintf("low order %d in X-Wing", i), "low_order", seal.ErrLowOrder, seal.XWingAES256GCM, append(bytes.Clone(wing[:len(wing)-32]), low...))
	}
	add("off the curve", "not_on_curve", seal.ErrNotOnCurve, seal.P256AES256GCM, flipped(p, 64, 1))
	add("the point 0, 0", "not_on_curve", seal.ErrNotOnCurve, seal.P256AES256GCM, append([]byte{4}, make([]byte, 64)...))
	add("a coordinate not below p", "not_on_curve", seal.ErrNotOnCurve, seal.P256AES256GCM, append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...))
	add("a hybrid point", "not_on_curve", seal.ErrNotOnCurve, seal.P256AES256GCM, append([]byte{6}, p[1:]...))
	add("the highest bit set", "not_canonical", seal.ErrNotCanonical, seal.X25519AES256GCM, flipped(x, 31, 0x80))
	add("not below 2^255-19", "not_canonical", seal.ErrNotCanonical, seal.X25519AES256GCM,
		append([]byte{0xf0}, append(bytes.Repeat([]byte{0xff}, 30), 0x7f)...))
	add("an ML-KEM half that is none", "not_canonical", seal.ErrNotCanonical, seal.XWingAES256GCM,
		append(bytes.Repeat([]byte{0xff}, 1184), x...))
	add("no byte too few", "key_length", seal.ErrKeyLength, seal.X25519AES256GCM, x[:31])
	add("a byte too many", "key_length", seal.ErrKeyLength, seal.X25519AES256GCM, append(bytes.Clone(x), 0))
	add("a compressed point", "key_length", seal.ErrKeyLength, seal.P256AES256GCM, append([]byte{2}, p[1:33]...))
	add("P-256, a byte too few", "key_length", seal.ErrKeyLength, seal.P256AES256GCM, p[:64])
	add("P-256, a byte too many", "key_length", seal.ErrKeyLength, seal.P256AES256GCM, append(bytes.Clone(p), 0))
	add("X-Wing, a byte too few", "key_length", seal.ErrKeyLength, seal.XWingAES256GCM, wing[1:])
	add("a P-256 key as X25519", "key_length", seal.ErrKeyLength, seal.X25519AES256GCM, p)
	add("an X-Wing key as P-256", "key_length", seal.ErrKeyLength, seal.P256AES256GCM, wing)
	return all
}

// badForms are what cannot be read as a key, or is one for something else.
func badForms(t testing.TB) []refusal {
	x := generate(t, seal.X25519AES256GCM).Public().Bytes()
	p := generate(t, seal.P256AES256GCM).Public().Bytes()
	raw := rawForm(seal.X25519AES256GCM, x)
	tink := anyTink(t, seal.X25519AES256GCM, 4242, x)
	malformed := func(name string, form accounts.KeyForm, is error) refusal {
		return refusal{name: name, form: form, is: []error{is}, code: "malformed_key", status: 422}
	}
	unsupported := func(name string, form accounts.KeyForm, is error) refusal {
		return refusal{name: name, form: form, is: []error{is}, code: "unsupported_key", status: 422}
	}
	suite := func(form accounts.KeyForm, name string) accounts.KeyForm {
		form.Suite = name
		return form
	}
	return []refusal{
		malformed("nothing", accounts.KeyForm{}, accounts.ErrKeyForm),
		malformed("a suite alone", accounts.KeyForm{Suite: raw.Suite, ID: 7}, accounts.ErrKeyForm),
		malformed("two forms", accounts.KeyForm{Raw: raw.Raw, Suite: raw.Suite, Tink: tink.Tink}, accounts.ErrKeyForm),
		malformed("raw and JWK", accounts.KeyForm{Raw: raw.Raw, Suite: raw.Suite, JWK: jwkForm(t, x25519JWK(x)).JWK}, accounts.ErrKeyForm),
		malformed("not base64", accounts.KeyForm{Raw: "!", Suite: raw.Suite}, accounts.ErrKeyForm),
		malformed("base64 with bits left over", accounts.KeyForm{Raw: raw.Raw[:42] + "Z=", Suite: raw.Suite}, accounts.ErrKeyForm),
		malformed("hex", accounts.KeyForm{Raw: hex.EncodeToString(x) + "0", Suite: raw.Suite}, accounts.ErrKeyForm),
		malformed("a public key in PEM", accounts.KeyForm{Raw: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", Suite: raw.Suite}, accounts.ErrKeyForm),
		malformed("a JWK as raw", accounts.KeyForm{Raw: string(jwkForm(t, x25519JWK(x)).JWK), Suite: raw.Suite}, accounts.ErrKeyForm),
		{name: "no suite", form: suite(raw, ""), is: []error{seal.ErrUnknownSuite}, code: "unknown_suite", status: 422},
		{name: "a suite that is none", form: suite(raw, "RSA-OAEP"), is: []error{seal.ErrUnknownSuite}, code: "unknown_suite", status: 422},
		{name: "JWK with a suite that is none", form: suite(jwkForm(t, x25519JWK(x)), "A256GCM"), is: []error{seal.ErrUnknownSuite}, code: "unknown_suite", status: 422},
		{name: "JWK on X25519 with a suite on P-256", form: suite(jwkForm(t, x25519JWK(x)), "P256-AES256GCM"), is: []error{seal.ErrKeyLength}, code: "key_length", status: 422},
		{name: "JWK on P-256 with a suite on X25519", form: suite(jwkForm(t, p256JWK(p[1:33], p[33:])), "X25519-AES128GCM"), is: []error{seal.ErrKeyLength}, code: "key_length", status: 422},

		malformed("a Tink keyset with a suite", suite(tink, "X25519-AES256GCM"), accounts.ErrKeyForm),
		malformed("a Tink keyset with an id", accounts.KeyForm{Tink: tink.Tink, ID: 4242}, accounts.ErrKeyForm),
		malformed("a Tink keyset that is none", accounts.KeyForm{Tink: []byte(`{"key":[]}`)}, tinkkeys.ErrKeyset),
		malformed("null as Tink", accounts.KeyForm{Tink: []byte(`null`)}, tinkkeys.ErrKeyset),
		malformed("a JWK as Tink", accounts.KeyForm{Tink: jwkForm(t, x25519JWK(x)).JWK}, tinkkeys.ErrKeyset),
		malformed("a Tink key that is disabled", anyTink(t, seal.X25519AES256GCM, 4242, x, func(k *tinkpb.Keyset_Key) { k.Status = tinkpb.KeyStatusType_DISABLED }), tinkkeys.ErrKeyset),
		unsupported("a Tink key with prefix CRUNCHY", anyTink(t, seal.X25519AES256GCM, 4242, x, func(k *tinkpb.Keyset_Key) { k.OutputPrefixType = tinkpb.OutputPrefixType_CRUNCHY }), tinkkeys.ErrUnsupported),
		unsupported("a Tink key of another type", anyTink(t, seal.X25519AES256GCM, 4242, x, func(k *tinkpb.Keyset_Key) {
			k.KeyData.TypeUrl = "type.googleapis.com/google.crypto.tink.EciesAeadHkdfPublicKey"
		}), tinkkeys.ErrUnsupported),
		{name: "a Tink key with id 0", form: anyTink(t, seal.X25519AES256GCM, 0, x), is: []error{tinkkeys.ErrKeyset, seal.ErrKeyID}, code: "key_id", status: 422},

		malformed("a Tink keyset as JWK", accounts.KeyForm{JWK: tink.Tink}, accounts.ErrKeyForm),
		malformed("a string as JWK", accounts.KeyForm{JWK: []byte(`"x"`)}, accounts.ErrKeyForm),
		malformed("an array as JWK", accounts.KeyForm{JWK: []byte(`[{}]`)}, accounts.ErrKeyForm),
		malformed("null as JWK", accounts.KeyForm{JWK: []byte(`null`)}, accounts.ErrKeyForm),
		malformed("an empty JWK", accounts.KeyForm{JWK: []byte(`{}`)}, accounts.ErrKeyForm),
		malformed("a set of JWKs", accounts.KeyForm{JWK: []byte(`{"keys":[` + string(jwkForm(t, x25519JWK(x)).JWK) + `]}`)}, accounts.ErrKeyForm),
		malformed("a JWK with a number as x", jwkForm(t, with(x25519JWK(x), "x", 7)), accounts.ErrKeyForm),
		malformed("a JWK with padding", jwkForm(t, with(x25519JWK(x), "x", b64url(x)+"=")), accounts.ErrKeyForm),
		malformed("a JWK in the standard alphabet", jwkForm(t, with(x25519JWK(x), "x", strings.Repeat("+/", 21)+"8")), accounts.ErrKeyForm),
		malformed("a JWK with bits left over", jwkForm(t, with(x25519JWK(x), "x", strings.Repeat("A", 42)+"B")), accounts.ErrKeyForm),
		malformed("an object with a d that is no JWK", accounts.KeyForm{JWK: []byte(`{"d":1}`)}, accounts.ErrKeyForm),
		malformed("a JWK with a line break", jwkForm(t, with(x25519JWK(x), "x", b64url(x)[:20]+"\n"+b64url(x)[20:])), accounts.ErrKeyForm),
		malformed("a JWK with a string as key_ops", jwkForm(t, with(x25519JWK(x), "key_ops", "deriveBits")), accounts.ErrKeyForm),
		{name: "a JWK without y", form: jwkForm(t, map[string]any{"kty": "EC", "crv": "P-256", "x": b64url(p[1:33])}), is: []error{seal.ErrKeyLength}, code: "key_length", status: 422},
		{name: "a JWK without x", form: jwkForm(t, map[string]any{"kty": "OKP", "crv": "X25519"}), is: []error{seal.ErrKeyLength}, code: "key_length", status: 422},
		{name: "a JWK whose x lends y a byte", form: jwkForm(t, p256JWK(p[1:34], p[34:])), is: []error{seal.ErrKeyLength}, code: "key_length", status: 422},
		unsupported("Ed25519", jwkForm(t, with(x25519JWK(x), "crv", "Ed25519")), accounts.ErrUnsupportedKey),
		unsupported("X448", jwkForm(t, with(x25519JWK(x), "crv", "X448")), accounts.ErrUnsupportedKey),
		unsupported("P-384", jwkForm(t, with(p256JWK(p[1:33], p[33:]), "crv", "P-384")), accounts.ErrUnsupportedKey),
		unsupported("kty EC with crv X25519", jwkForm(t, with(x25519JWK(x), "kty", "EC")), accounts.ErrUnsupportedKey),
		unsupported("kty in lower case", jwkForm(t, with(x25519JWK(x), "kty", "okp")), accounts.ErrUnsupportedKey),
		unsupported("RSA", jwkForm(t, map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"}), accounts.ErrUnsupportedKey),
		unsupported("a JWK for signatures", jwkForm(t, with(x25519JWK(x), "use", "sig")), accounts.ErrUnsupportedKey),
		unsupported("a JWK for an alg", jwkForm(t, with(x25519JWK(x), "alg", "ECDH-ES+A256KW")), accounts.ErrUnsupportedKey),
		unsupported("a JWK to verify with", jwkForm(t, with(p256JWK(p[1:33], p[33:]), "key_ops", []string{"deriveBits", "verify"})), accounts.ErrUnsupportedKey),
	}
}

// secretKeys are private keys, given by accident.
func secretKeys(t testing.TB) []refusal {
	var all []refusal
	add := func(name string, secret []byte, form accounts.KeyForm, is ...error) {
		all = append(all, refusal{name: name, form: form, is: is, code: "private_key", status: 422, secret: secret})
	}
	x, p, wing := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM), generate(t, seal.XWingAES256GCM)
	for _, k := range []*seal.PrivateKey{x, p, wing} {
		set, err := seal.NewKeySet(k)
		check(t, err)
		data, err := tinkkeys.InsecureCleartextPrivate(set)
		check(t, err)
		add("Tink, "+k.Suite().String(), k.Bytes(), accounts.KeyForm{Tink: data}, accounts.ErrPrivateKey)
		add("Tink as JWK, "+k.Suite().String(), k.Bytes(), accounts.KeyForm{JWK: data}, accounts.ErrPrivateKey)
		add("Tink as raw, "+k.Suite().String(), k.Bytes(), accounts.KeyForm{Raw: string(data), Suite: k.Suite().String()}, accounts.ErrPrivateKey)
		add("Tink beside a public key, "+k.Suite().String(), k.Bytes(), accounts.KeyForm{Tink: data, Raw: "AAAA"}, accounts.ErrKeyForm)
		all[len(all)-1].code = "malformed_key"
		if k != x { // one of X25519 looks like a public key
			add("raw, "+k.Suite().String(), k.Bytes(), rawForm(k.Suite(), k.Bytes()), accounts.ErrPrivateKey, seal.ErrKeyLength)
		}
	}
	handle, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	check(t, err)
	var b bytes.Buffer
	check(t, insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)))
	add("from Tink itself", b.Bytes()[20:], accounts.KeyForm{Tink: b.Bytes()}, accounts.ErrPrivateKey)

	jwks := map[string]map[string]any{
		"X25519": with(x25519JWK(x.Public().Bytes()), "d", b64url(x.Bytes())),
		"P-256":  with(p256JWK(p.Public().Bytes()[1:33], p.Public().Bytes()[33:]), "d", b64url(p.Bytes())),
		"oct":    {"kty": "oct", "k": b64url(x.Bytes())},
		"RSA":    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "p": b64url(x.Bytes())},
		"empty":  with(x25519JWK(x.Public().Bytes()), "d", ""),
		"broken": with(x25519JWK(x.Public().Bytes()), "d", []any{b64url(x.Bytes())}),
	}
	for name, members := range jwks {
		secret := x.Bytes()
		if name == "P-256" {
			secret = p.Bytes()
		}
		form := jwkForm(t, members)
		add("JWK, "+name, secret, form, accounts.ErrPrivateKey)
		add("JWK as Tink, "+name, secret, accounts.KeyForm{Tink: form.JWK}, accounts.ErrPrivateKey)
		add("a set of JWKs, "+name, secret, accounts.KeyForm{JWK: []byte(`{"keys":[{"kty":"EC"},` + string(form.JWK) + `]}`)}, accounts.ErrPrivateKey)
		add("an array of JWKs as raw, "+name, secret, accounts.KeyForm{Raw: `[` + string(form.JWK) + `]`, Suite: "X25519-AES256GCM"}, accounts.ErrPrivateKey)
		add("JWK as raw, "+name, secret, accounts.KeyForm{Raw: " \n" + string(form.JWK), Suite: "X25519-AES256GCM"}, accounts.ErrPrivateKey)
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	check(t, err)
	sec1, err := x509.MarshalECPrivateKey(ec)
	check(t, err)
	//lint:ignore SA1019 a JWK has the number itself
	d := ec.D.FillBytes(make([]byte, 32))
	for _, suite := range []seal.Suite{seal.X25519AES256GCM, seal.P256AES256GCM} {
		add("PKCS #8 as "+suite.String(), d, rawForm(suite, pkcs8), accounts.ErrPrivateKey)
		add("SEC 1 as "+suite.String(), d, rawForm(suite, sec1), accounts.ErrPrivateKey)
	}
	for block, der := range map[string][]byte{"PRIVATE KEY": pkcs8, "EC PRIVATE KEY": sec1} {
		text := pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
		add("PEM, "+block, d, accounts.KeyForm{Raw: string(text), Suite: "P256-AES256GCM"}, accounts.ErrPrivateKey)
	}
	return all
}

// duplicates are keys that an account has already: of the keys of duplicateFixture.
func duplicates(t testing.TB, current, previous, pending, revoked *seal.PrivateKey) []refusal {
	renamed := func(k *seal.PrivateKey, suite seal.Suite, id uint32) *seal.PrivateKey {
		again, err := seal.NewPrivateKey(suite, id, k.Bytes())
		check(t, err)
		return again
	}
	var all []refusal
	for name, k := range map[string]*seal.PrivateKey{"current": current, "previous": previous, "pending": pending} {
		is := []error{seal.ErrDuplicateKey}
		other := generate(t, seal.P256AES256GCM)
		all = append(all,
			refusal{name: "the " + name + " key", form: tinkForm(t, k), is: is, code: "duplicate_key", status: 409},
			refusal{name: "the " + name + " key under another id", form: tinkForm(t, renamed(k, k.Suite(), k.ID()^1)), is: is, code: "duplicate_key", status: 409},
			refusal{name: "the " + name + " key in another suite", form: tinkForm(t, renamed(k, seal.X25519ChaCha20Poly1305, k.ID()^1)), is: is, code: "duplicate_key", status: 409},
			refusal{name: "the " + name + " key as raw", form: rawForm(k.Suite(), k.Public().Bytes()), is: is, code: "duplicate_key", status: 409},
			refusal{name: "the " + name + " key as JWK", form: jwkForm(t, x25519JWK(k.Public().Bytes())), is: is, code: "duplicate_key", status: 409},
			refusal{name: "another key of the id of the " + name, form: tinkForm(t, renamed(other, other.Suite(), k.ID())), is: is, code: "duplicate_key", status: 409})
	}
	return append(all, refusal{name: "a revoked key", form: tinkForm(t, revoked), is: []error{accounts.ErrRevokedKey}, code: "revoked_key", status: 409},
		refusal{name: "a revoked key under another id", form: rawForm(revoked.Suite(), revoked.Public().Bytes()), is: []error{accounts.ErrRevokedKey}, code: "revoked_key", status: 409})
}

// TestRefused registers every bad key, with the API, as a first key and as a
// replacement, and over HTTP. The reason is told, and neither the error, the
// problem, the log nor the store has anything of the key.
func TestRefused(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmNever))
	current, previous := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	pending, revoked := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", revoked)
	check(t, f.Revoke(ctxOf("acme"), "acme", revoked.ID()))
	enrol(t, f.Registry, "acme", previous)
	enrol(t, f.Registry, "acme", current, previous)
	_, err := f.Replace(ctxOf("acme"), "acme", current.ID(), tinkForm(t, pending))
	check(t, err)
	f.trail.take()
	server := serve(t, f.Registry, "HTTP/1.1")

	for _, group := range []struct {
		name  string
		cases []refusal
		fresh bool // fit a new account too
	}{
		{"keys", badKeys(t), true},
		{"forms", badForms(t), true},
		{"secrets", secretKeys(t), true},
		{"duplicates", duplicates(t, current, previous, pending, revoked), false},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					checkRefusal := func(account string, err error) {
						t.Helper()
						for _, is := range c.is {
							wantIs(t, account, err, is)
						}
						if s := leak(c.secret, err.Error()); s != "" {
							t.Errorf("%s: the error has the key, in %s: %v", account, s, err)
						}
						events := f.trail.take()
						if len(events) != 1 || events[0].Type != accounts.EventRefusedRegistration || events[0].Reason != c.code || events[0].Account != account {
							t.Fatalf("%s: the events are %+v, want one of reason %s", account, events, c.code)
						}
						if s := leak(c.secret, fmt.Sprintf("%+v", events)); s != "" {
							t.Errorf("%s: the event has the key, in %s", account, s)
						}
					}
					key, err := f.Replace(ctxOf("acme"), "acme", current.ID(), c.form)
					if err == nil {
						t.Fatalf("registered: %v", key.Public)
					}
					checkRefusal("acme", err)
					if group.fresh {
						key, err := f.Register(ctxOf("new"), "new", c.form)
						if err == nil {
							t.Fatalf("registered: %v", key.Public)
						}
						checkRefusal("new", err)
					}

					body := registrationBody(t, c.form, current.ID())
					a := server.do(t, "acme", "POST", "/keys", body)
					a.wantProblem(t, c.status, c.code)
					if s := leak(c.secret, string(a.body)); s != "" {
						t.Errorf("the problem has the key, in %s: %s", s, a.body)
					}
					if e := f.trail.take(); len(e) != 1 || e[0].Reason != c.code {
						t.Fatalf("over HTTP the events are %+v", e)
					}
					for _, account := range []string{"acme", "new"} {
						r, err := f.store.MemoryStore.Load(t.Context(), account)
						if err != nil {
							continue
						}
						if s := leak(c.secret, string(r.Data)); s != "" {
							t.Fatalf("the record of %s has the key, in %s", account, s)
						}
					}
				})
			}
		})
	}
	wantKeys(t, f.Registry, "acme", current, accounts.Current, previous, accounts.Previous, pending, accounts.Pending)
	wantKeys(t, f.Registry, "new")
}

// registrationBody is what a program sends to register a form.
func registrationBody(t testing.TB, form accounts.KeyForm, replaces uint32) string {
	t.Helper()
	data, err := json.Marshal(struct {
		accounts.KeyForm
		Replaces uint32 `json:"replaces,omitempty"`
	}{form, replaces})
	check(t, err)
	return string(data)
}

// leak returns the encoding in which text has a part of a secret, or "".
func leak(secret []byte, text string) string {
	if len(secret) == 0 {
		return ""
	}
	if len(secret) > 32 {
		secret = secret[len(secret)-32:]
	}
	for name, s := range map[string]string{
		"bytes":     string(secret),
		"hex":       hex.EncodeToString(secret),
		"base64":    base64.StdEncoding.EncodeToString(secret)[:40],
		"base64url": b64url(secret)[:40],
		"decimal":   strings.Trim(fmt.Sprint(secret), "[]"),
		"+1":        base64.StdEncoding.EncodeToString(secret[1:])[:40],
		"+2":        base64.StdEncoding.EncodeToString(secret[2:])[:36],
	} {
		if strings.Contains(text, s) {
			return name
		}
	}
	return ""
}

// TestForms registers keys in every form.
func TestForms(t *testing.T) {
	x, p := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM)
	px := p.Public().Bytes()
	for _, c := range []struct {
		name  string
		form  accounts.KeyForm
		suite seal.Suite
		id    uint32 // 0: any
		raw   []byte
	}{
		{"raw", rawForm(seal.X25519ChaCha20Poly1305, x.Public().Bytes()), seal.X25519ChaCha20Poly1305, 0, x.Public().Bytes()},
		{"raw with an id", accounts.KeyForm{Raw: b64url(x.Public().Bytes()), Suite: "x25519-aes128gcm", ID: 4_294_967_295}, seal.X25519AES128GCM, 4_294_967_295, x.Public().Bytes()},
		{"raw, URL-safe with padding", accounts.KeyForm{Raw: base64.URLEncoding.EncodeToString(px), Suite: "P256-AES128GCM"}, seal.P256AES128GCM, 0, px},
		{"JWK, X25519", jwkForm(t, x25519JWK(x.Public().Bytes())), seal.X25519AES256GCM, 0, x.Public().Bytes()},
		{"JWK, P-256", jwkForm(t, p256JWK(px[1:33], px[33:])), seal.P256AES256GCM, 0, px},
		// What WebCrypto exports has key_ops and ext; others have a kid.
		{"JWK from a browser", jwkForm(t, with(x25519JWK(x.Public().Bytes()), "key_ops", []string{}, "ext", true)), seal.X25519AES256GCM, 0, x.Public().Bytes()},
		{"JWK with more", jwkForm(t, with(p256JWK(px[1:33], px[33:]), "use", "enc", "kid", "7", "key_ops", []string{"deriveBits"}, "D", 1)), seal.P256AES256GCM, 0, px},
		{"JWK with suite and id", accounts.KeyForm{JWK: jwkForm(t, x25519JWK(x.Public().Bytes())).JWK, Suite: "X25519-CHACHA20POLY1305", ID: 9}, seal.X25519ChaCha20Poly1305, 9, x.Public().Bytes()},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			ctx := ctxOf("acme")
			k, err := f.Register(ctx, "acme", c.form)
			check(t, err)
			if k.Public.Suite() != c.suite || c.id != 0 && k.ID() != c.id || k.ID() == 0 || !bytes.Equal(k.Public.Bytes(), c.raw) || k.Public.HasPrefix() {
				t.Fatalf("registered was %v, prefix %v", k.Public, k.Public.HasPrefix())
			}
			secret := x.Bytes()
			if len(c.raw) == 65 {
				secret = p.Bytes()
			}
			mine, err := seal.NewPrivateKey(c.suite, k.ID(), secret, seal.WithoutPrefix())
			check(t, err)
			_, err = f.Prove(ctx, "acme", k.ID(), challenged(t, f.Registry, "acme", mine))
			check(t, err)
			wantKeys(t, f.Registry, "acme", mine, accounts.Current)
		})
	}
	t.Run("Tink, its primary", func(t *testing.T) {
		f := newFixture(t)
		k, err := f.Register(ctxOf("acme"), "acme", tinkForm(t, p, x))
		check(t, err)
		if !k.Public.Equal(p.Public()) {
			t.Fatalf("registered was %v", k.Public)
		}
		wantKeys(t, f.Registry, "acme", p, accounts.Pending)
	})
	t.Run("Tink, RAW", func(t *testing.T) {
		f := newFixture(t)
		raw := generate(t, seal.X25519AES256GCM, seal.WithoutPrefix())
		enrol(t, f.Registry, "acme", raw)
		wantKeys(t, f.Registry, "acme", raw, accounts.Current)
	})
}

// TestMemberTwice: readers differ in which of two members they take.
func TestMemberTwice(t *testing.T) {
	f := newFixture(t)
	x := b64url(generate(t, seal.X25519AES256GCM).Public().Bytes())
	for _, form := range []accounts.KeyForm{
		{JWK: []byte(`{"kty":"OKP","crv":"X25519","x":"` + x + `","x":"` + x + `"}`)},
		{JWK: []byte(`{"kty":"OKP","crv":"X25519","x":"` + x + `","X":"` + x + `"}`)},
		{JWK: []byte(`{"kty":"OKP","crv":"X25519","x":"` + x + `"} {}`)},
	} {
		_, err := f.Register(ctxOf("acme"), "acme", form)
		wantIs(t, string(form.JWK), err, accounts.ErrKeyForm)
	}
}

// TestTooMany lets five keys wait.
func TestTooMany(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmAlways))
	ctx := ctxOf("acme")
	keys := make([]*seal.PrivateKey, 6)
	for i := range keys {
		keys[i] = generate(t, seal.X25519AES256GCM)
		_, err := f.Register(ctx, "acme", tinkForm(t, keys[i]))
		if i == 5 {
			wantIs(t, "the sixth", err, accounts.ErrTooManyKeys)
			continue
		}
		check(t, err)
	}
	// A proved one waits too.
	_, err := f.Prove(ctx, "acme", keys[0].ID(), challenged(t, f.Registry, "acme", keys[0]))
	check(t, err)
	_, err = f.Register(ctx, "acme", tinkForm(t, keys[5]))
	wantIs(t, "the sixth", err, accounts.ErrTooManyKeys)
	check(t, f.Revoke(ctx, "acme", keys[3].ID()))
	_, err = f.Register(ctx, "acme", tinkForm(t, keys[5]))
	check(t, err)
	wantKeys(t, f.Registry, "acme", keys[0], accounts.Proved, keys[1], accounts.Pending, keys[2], accounts.Pending, keys[4], accounts.Pending, keys[5], accounts.Pending)
}

// TestTinkCaller: a caller with nothing but Tink proves its key, and opens what is
// sealed to it.
func TestTinkCaller(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	private, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	check(t, err)
	public, err := private.Public()
	check(t, err)
	var b bytes.Buffer
	check(t, public.WriteWithNoSecrets(keyset.NewJSONWriter(&b)))
	k, err := f.Register(ctx, "acme", accounts.KeyForm{Tink: b.Bytes()})
	check(t, err)
	c, err := f.Challenge(ctx, "acme", k.ID())
	check(t, err)
	decrypter, err := hybrid.NewHybridDecrypt(private)
	check(t, err)
	opened, err := decrypter.Decrypt(c.Message, fmt.Appendf(nil, "sealhttp accounts challenge v1\x00acme\x00%d\x00%s", k.ID(), k.Fingerprint()))
	check(t, err)
	_, err = f.Prove(ctx, "acme", k.ID(), opened)
	check(t, err)
	current, err := f.ClientKey(requestOf("acme"))
	check(t, err)
	message, err := current.Seal(nil, []byte("hello"), nil)
	check(t, err)
	plaintext, err := decrypter.Decrypt(message, nil)
	check(t, err)
	if string(plaintext) != "hello" {
		t.Fatalf("opened was %q", plaintext)
	}
}

// TestCodes: every refusal has a status that fits its group, and the codes are
// those that are documented.
func TestCodes(t *testing.T) {
	var codes []string
	for _, c := range slices.Concat(badKeys(t), badForms(t), secretKeys(t)) {
		codes = append(codes, c.code)
		if c.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", c.name, c.status)
		}
	}
	slices.Sort(codes)
	want := []string{"key_id", "key_length", "low_order", "malformed_key", "not_canonical", "not_on_curve", "private_key", "unknown_suite", "unsupported_key"}
	if codes = slices.Compact(codes); !slices.Equal(codes, want) {
		t.Errorf("the codes are %q, want %q", codes, want)
	}
}
