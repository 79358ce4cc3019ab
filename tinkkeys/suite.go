package tinkkeys

import (
	"fmt"

	hpkepb "github.com/tink-crypto/tink-go/v2/proto/hpke_go_proto"

	"github.com/sealhttp/sealhttp/seal"
)

// suites says what Tink calls each suite. The KDF is HKDF-SHA256 in all of them.
var suites = [...]struct {
	suite seal.Suite
	kem   hpkepb.HpkeKem
	aead  hpkepb.HpkeAead
}{
	{seal.X25519AES256GCM, hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, hpkepb.HpkeAead_AES_256_GCM},
	{seal.X25519AES128GCM, hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, hpkepb.HpkeAead_AES_128_GCM},
	{seal.X25519ChaCha20Poly1305, hpkepb.HpkeKem_DHKEM_X25519_HKDF_SHA256, hpkepb.HpkeAead_CHACHA20_POLY1305},
	{seal.P256AES256GCM, hpkepb.HpkeKem_DHKEM_P256_HKDF_SHA256, hpkepb.HpkeAead_AES_256_GCM},
	{seal.P256AES128GCM, hpkepb.HpkeKem_DHKEM_P256_HKDF_SHA256, hpkepb.HpkeAead_AES_128_GCM},
	{seal.XWingAES256GCM, hpkepb.HpkeKem_X_WING, hpkepb.HpkeAead_AES_256_GCM},
}

func paramsOf(suite seal.Suite) (*hpkepb.HpkeParams, error) {
	for _, s := range suites {
		if s.suite == suite {
			return &hpkepb.HpkeParams{Kem: s.kem, Kdf: hpkepb.HpkeKdf_HKDF_SHA256, Aead: s.aead}, nil
		}
	}
	return nil, fmt.Errorf("%w: %v", ErrUnsupported, suite)
}

func suiteOf(p *hpkepb.HpkeParams) (seal.Suite, error) {
	for _, s := range suites {
		if s.kem == p.GetKem() && s.aead == p.GetAead() && p.GetKdf() == hpkepb.HpkeKdf_HKDF_SHA256 {
			return s.suite, nil
		}
	}
	return 0, fmt.Errorf("%w: no suite has KEM %v, KDF %v and AEAD %v", ErrUnsupported, p.GetKem(), p.GetKdf(), p.GetAead())
}
