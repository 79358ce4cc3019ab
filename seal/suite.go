package seal

import (
	"fmt"
	"strings"

	"github.com/cloudflare/circl/hpke"
)

// Suite is a combination of KEM, KDF and AEAD of RFC 9180, section 7. The zero
// Suite is none. Values are for use within a process: what is stored or sent is
// the name (see [Suite.String]).
type Suite uint8

// The suites. All use HKDF-SHA256 as their KDF.
const (
	// X25519AES256GCM is the default choice: DHKEM(X25519, HKDF-SHA256) with AES-256-GCM.
	X25519AES256GCM Suite = 1 + iota
	// X25519AES128GCM is DHKEM(X25519, HKDF-SHA256) with AES-128-GCM.
	X25519AES128GCM
	// X25519ChaCha20Poly1305 is DHKEM(X25519, HKDF-SHA256) with
	// ChaCha20-Poly1305, the suite of Apple's CryptoKit.
	X25519ChaCha20Poly1305
	// P256AES256GCM is DHKEM(P-256, HKDF-SHA256) with AES-256-GCM.
	P256AES256GCM
	// P256AES128GCM is DHKEM(P-256, HKDF-SHA256) with AES-128-GCM.
	P256AES128GCM
	// XWingAES256GCM is X-Wing, a hybrid of X25519 and ML-KEM-768 that stays
	// secret while either of them holds (draft-connolly-cfrg-xwing-kem), with
	// AES-256-GCM.
	XWingAES256GCM
)

// tagSize is the length in bytes of the authentication tag, the same for every AEAD here.
const tagSize = 16

type suiteParams struct {
	name      string
	kem       hpke.KEM
	aead      hpke.AEAD
	encSize   int // bytes of an encapsulated key
	publicLen int // bytes of a serialized public key
	secretLen int // bytes of a serialized private key
}

// suites is indexed by Suite and is the list of what circl is ever asked for:
// circl panics on identifiers that it does not know.
var suites = [...]suiteParams{
	X25519AES256GCM:        {"X25519-AES256GCM", hpke.KEM_X25519_HKDF_SHA256, hpke.AEAD_AES256GCM, 32, 32, 32},
	X25519AES128GCM:        {"X25519-AES128GCM", hpke.KEM_X25519_HKDF_SHA256, hpke.AEAD_AES128GCM, 32, 32, 32},
	X25519ChaCha20Poly1305: {"X25519-CHACHA20POLY1305", hpke.KEM_X25519_HKDF_SHA256, hpke.AEAD_ChaCha20Poly1305, 32, 32, 32},
	P256AES256GCM:          {"P256-AES256GCM", hpke.KEM_P256_HKDF_SHA256, hpke.AEAD_AES256GCM, 65, 65, 32},
	P256AES128GCM:          {"P256-AES128GCM", hpke.KEM_P256_HKDF_SHA256, hpke.AEAD_AES128GCM, 65, 65, 32},
	XWingAES256GCM:         {"XWING-AES256GCM", hpke.KEM_XWING, hpke.AEAD_AES256GCM, 1120, 1216, 32},
}

// Suites returns all suites, the default first.
func Suites() []Suite {
	all := make([]Suite, 0, len(suites)-1)
	for s := X25519AES256GCM; s.valid(); s++ {
		all = append(all, s)
	}
	return all
}

// ParseSuite returns the suite of a name as [Suite.String] gives it, in upper or
// lower case. The error for any other name wraps [ErrUnknownSuite].
func ParseSuite(name string) (Suite, error) {
	for _, s := range Suites() {
		// Of one length: Unicode folds letters of other alphabets to S and K too.
		if n := suites[s].name; len(name) == len(n) && strings.EqualFold(name, n) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("seal: suite %q: %w", name, ErrUnknownSuite)
}

// String returns the suite's name, such as "X25519-AES256GCM".
func (s Suite) String() string {
	if !s.valid() {
		return fmt.Sprintf("Suite(%d)", uint8(s))
	}
	return suites[s].name
}

func (s Suite) valid() bool { return s > 0 && int(s) < len(suites) }

// hpke returns circl's form of the suite, which must be valid.
func (p *suiteParams) hpke() hpke.Suite {
	return hpke.NewSuite(p.kem, hpke.KDF_HKDF_SHA256, p.aead)
}
