// Command exchangevectors writes the test vectors of the exchange profile to standard
// output. They are made of hashes of their names, so that it always writes the same:
//
//	go run ./internal/exchangevectors >testdata/exchange-v1.json
package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log"
	"os"

	"github.com/cloudflare/circl/hpke"
	"golang.org/x/crypto/cryptobyte"

	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

//go:generate sh -c "go run . >../../testdata/exchange-v1.json"

const comment = "Test vectors of the exchange profile, version 1: see docs/protocol.md. " +
	"The keys are published, so they are for tests only."

func main() {
	log.SetFlags(0)
	if err := write(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func write(w io.Writer) error {
	file := exchangeparty.Vectors{Comment: comment}
	for i, suite := range seal.Suites() {
		for _, s := range scenarios {
			if s.firstSuiteOnly && i > 0 {
				continue
			}
			file.Vectors = append(file.Vectors, s.vector(suite))
		}
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	return out.Encode(file)
}

// take returns n bytes that only its label decides, at most 64.
func take(n int, label string) []byte {
	a, b := sha256.Sum256([]byte("sealhttp vector "+label)), sha256.Sum256([]byte("sealhttp vector, more "+label))
	return append(a[:], b[:]...)[:n]
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// vector makes the vector of a scenario.
func (s *scenario) vector(suite seal.Suite) exchangeparty.Vector {
	v := exchangeparty.Vector{Name: suite.String() + ": " + s.name}
	server, serverKey := keyPair(suite, 305419896, v.Name+" server")
	v.Server = server

	r := &v.Request
	*r = exchangeparty.RequestVector{
		Method: s.method, Host: s.host, RequestTarget: s.target, Header: map[string]string{},
		Body: s.records != nil, ContentType: s.contentType, ConfiguredInfo: []byte(s.info),
		ID: take(16, v.Name+" id"), Timestamp: 1764000000, Bind: s.bind,
	}
	for name, value := range s.header {
		r.Header[name] = value
	}
	bound := r.Request()
	var err error
	if r.Authority, r.Target, err = bound.Reduced(); err != nil {
		log.Fatal(err)
	}
	r.BoundInput = must(bound.BoundInput(r.Bind))
	hash := sha256.Sum256(r.BoundInput)
	r.Bound = hash[:]
	field := &exchangeparty.RequestField{KeyID: server.ID, ID: [16]byte(r.ID), Timestamp: r.Timestamp, Bind: r.Bind}
	requestContext := newContext(serverKey, must(bound.HPKEInfo(field)), v.Name+" request")
	r.Context = requestContext
	sealer := sealerOf(suite, requestContext.Key, requestContext.BaseNonce)
	r.Auth = sealer(0, nil, nil)
	r.Records = records(sealer, requestContext.BaseNonce, s.records)
	field.Enc, field.Auth = r.Context.Enc, r.Auth
	r.Header["sealed-exchange"] = field.String()
	setTypes(r.Header, r.Body, r.ContentType)

	a := &v.Response
	*a = exchangeparty.ResponseVector{
		Status: s.status, Header: map[string]string{}, Body: s.answer != nil, ContentType: s.answerType, Error: s.code,
		Nonce: take(32, v.Name+" nonce"),
	}
	a.AAD = (&exchangeparty.Response{Status: a.Status, Body: a.Body, ContentType: a.ContentType, Error: a.Error}).AAD()
	a.Secret = bytes.Clone(requestContext.Export)
	answer := &exchangeparty.ResponseField{Nonce: a.Nonce}
	if s.caller != noCaller {
		callerSuite := suite
		if s.caller == otherSuite {
			all := seal.Suites()
			callerSuite = all[int(suite)%len(all)] // the next
		}
		key, callerKey := keyPair(callerSuite, 4242, v.Name+" caller")
		v.Caller = &key
		c := newContext(callerKey, append([]byte("sealhttp exchange v1 caller\x00"), r.Context.Enc...), v.Name+" response")
		a.CallerContext = &c
		a.Secret = append(a.Secret, c.Export...)
		answer.CallerKeyID, answer.CallerEnc = key.ID, c.Enc
	}
	a.PRK = must(hkdf.Extract(sha256.New, a.Secret, append(bytes.Clone(r.Context.Enc), a.Nonce...)))
	a.Key = must(hkdf.Expand(sha256.New, a.PRK, "key", len(requestContext.Key)))
	a.BaseNonce = must(hkdf.Expand(sha256.New, a.PRK, "nonce", len(requestContext.BaseNonce)))
	sealer = sealerOf(suite, a.Key, a.BaseNonce)
	a.Auth = sealer(0, nil, a.AAD)
	a.Records = records(sealer, a.BaseNonce, s.answer)
	answer.Auth = a.Auth
	a.Header["sealed-exchange"] = answer.String()
	setTypes(a.Header, a.Body, a.ContentType)
	if a.Error != "" {
		a.Header["sealed-error"] = a.Error
	}
	return v
}

func setTypes(header map[string]string, body bool, contentType string) {
	if body {
		header["content-type"] = "application/sealed-exchange+hpke"
	}
	if contentType != "" {
		header["sealed-content-type"] = contentType
	}
}

func keyPair(suite seal.Suite, id uint32, label string) (exchangeparty.KeyVector, *seal.PrivateKey) {
	key := must(seal.NewPrivateKey(suite, id, take(32, label)))
	kem, aead := identifiers(suite)
	return exchangeparty.KeyVector{
		Suite: suite.String(), KEM: uint16(kem), KDF: uint16(hpke.KDF_HKDF_SHA256), AEAD: uint16(aead),
		ID: id, Private: key.Bytes(), Public: key.Public().Bytes(),
	}, key
}

func identifiers(suite seal.Suite) (hpke.KEM, hpke.AEAD) {
	for _, s := range exchangeparty.Suites {
		if s.Name == suite.String() {
			return hpke.KEM(s.KEM), hpke.AEAD(s.AEAD)
		}
	}
	panic(suite)
}

// newContext encapsulates to a key with a seed instead of random bytes.
func newContext(key *seal.PrivateKey, info []byte, label string) exchangeparty.ContextVector {
	kem, aead := identifiers(key.Suite())
	public := must(kem.Scheme().UnmarshalBinaryPublicKey(key.Public().Bytes()))
	c := exchangeparty.ContextVector{Info: info, Seed: take(kem.Scheme().EncapsulationSeedSize(), label+" seed")}
	c.Enc, c.SharedSecret = must2(kem.Scheme().EncapsulateDeterministically(public, c.Seed))
	sender := must(hpke.NewSuite(kem, hpke.KDF_HKDF_SHA256, aead).NewSender(public, info))
	enc, context := must2(sender.Setup(bytes.NewReader(c.Seed)))
	if !bytes.Equal(enc, c.Enc) {
		log.Fatal("one seed gives two encs")
	}
	c.Export = context.Export([]byte("sealhttp exchange v1 response"), 32)
	s := cryptobyte.String(must(context.MarshalBinary())[7:])
	for _, part := range []*exchangeparty.Hex{&c.ExporterSecret, &c.Key, &c.BaseNonce} {
		var read cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&read) {
			log.Fatal("circl marshals contexts in another way")
		}
		*part = exchangeparty.Hex(read)
	}
	return c
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		log.Fatal(err)
	}
	return a, b
}

// sealerOf returns a function that seals at a sequence number.
func sealerOf(suite seal.Suite, key, baseNonce []byte) func(sequence uint64, plaintext, aad []byte) []byte {
	_, id := identifiers(suite)
	aead := must(id.New(key))
	return func(sequence uint64, plaintext, aad []byte) []byte {
		return aead.Seal(nil, exchangeparty.Nonce(baseNonce, sequence), plaintext, aad)
	}
}

func records(sealer func(sequence uint64, plaintext, aad []byte) []byte, baseNonce []byte, plain []record) []exchangeparty.RecordVector {
	out := []exchangeparty.RecordVector{}
	for i, r := range plain {
		delimiter := byte(1)
		if i == len(plain)-1 {
			delimiter = 2
		}
		v := exchangeparty.RecordVector{Sequence: uint64(i + 1), DataLen: len(r.data), Padding: r.padding}
		v.Nonce = exchangeparty.Nonce(baseNonce, v.Sequence)
		v.Plaintext = append(append([]byte(r.data), delimiter), make([]byte, r.padding)...)
		v.Ciphertext = sealer(v.Sequence, v.Plaintext, nil)
		switch n := len(v.Ciphertext); {
		case n < 1<<6:
			v.Length = []byte{byte(n)}
		case n < 1<<14:
			v.Length = []byte{1<<6 | byte(n>>8), byte(n)}
		default:
			v.Length = []byte{2 << 6, byte(n >> 16), byte(n >> 8), byte(n)}
		}
		out = append(out, v)
	}
	return out
}

// A scenario is an exchange in plaintext.
type scenario struct {
	name, method, host, target string
	header                     map[string]string
	bind                       []string // nil for the default list
	contentType, info          string
	records                    []record // nil for no body
	caller                     callerKey
	status                     int
	answerType, code           string
	answer                     []record // nil for no body
	firstSuiteOnly             bool
}

type record struct {
	data    string
	padding int
}

type callerKey int

const (
	noCaller callerKey = iota
	sameSuite
	otherSuite
)
