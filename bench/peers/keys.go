package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"

	"filippo.io/age"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// Keys are the keys of both sides for all peers. A benchmark holds both; nothing else
// should.
type Keys struct{ Server, Client Pair }

// Pair is the private keys of one side.
type Pair struct {
	HPKE *seal.PrivateKey // X25519-AES256GCM
	P256 *ecdsa.PrivateKey
	RSA  *rsa.PrivateKey // 2048 bits, as payment networks use
	Age  *age.X25519Identity
}

// NewKeys makes new keys.
func NewKeys() (*Keys, error) {
	var k Keys
	for _, pair := range []*Pair{&k.Server, &k.Client} {
		var err error
		if pair.HPKE, err = seal.GenerateKey(seal.X25519AES256GCM); err != nil {
			return nil, err
		}
		if pair.P256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
		if pair.RSA, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, err
		}
		if pair.Age, err = age.GenerateX25519Identity(); err != nil {
			return nil, err
		}
	}
	return &k, nil
}

// pairJSON is a Pair as it is handed from one process of a benchmark to another.
type pairJSON struct {
	HPKE, P256, RSA []byte
	Age             string
}

// MarshalJSON writes the private keys, in clear.
func (p Pair) MarshalJSON() ([]byte, error) {
	set, err := seal.NewKeySet(p.HPKE)
	if err != nil {
		return nil, err
	}
	out := pairJSON{Age: p.Age.String()}
	if out.HPKE, err = tinkkeys.InsecureCleartextPrivateBinary(set); err != nil {
		return nil, err
	}
	if out.P256, err = x509.MarshalPKCS8PrivateKey(p.P256); err != nil {
		return nil, err
	}
	if out.RSA, err = x509.MarshalPKCS8PrivateKey(p.RSA); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Pair) UnmarshalJSON(data []byte) error {
	var in pairJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	set, err := tinkkeys.ParseInsecureCleartextPrivateBinary(in.HPKE)
	if err != nil {
		return err
	}
	p.HPKE = set.Primary()
	p256, err := x509.ParsePKCS8PrivateKey(in.P256)
	if err != nil {
		return err
	}
	p.P256, _ = p256.(*ecdsa.PrivateKey)
	rsaKey, err := x509.ParsePKCS8PrivateKey(in.RSA)
	if err != nil {
		return err
	}
	p.RSA, _ = rsaKey.(*rsa.PrivateKey)
	p.Age, err = age.ParseX25519Identity(in.Age)
	return err
}
