package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"

	"github.com/cloudflare/circl/hpke"
	"golang.org/x/crypto/cryptobyte"
)

// hpkeContext is what RFC 9180's key schedule (section 5.1) leaves for messages: the
// AEAD under its key, and the nonce of sequence number 0. circl computes it, but
// its own Seal and Open allocate their output; with the AEAD itself that can be
// done in place.
type hpkeContext struct {
	aead      cipher.AEAD
	baseNonce [nonceSize]byte
}

// nonceSize is the length in bytes of a nonce, the same for every AEAD here.
const nonceSize = 12

// newSealContext encapsulates to k in base mode.
func newSealContext(k *PublicKey, info []byte) (enc []byte, _ *hpkeContext, err error) {
	enc, sealer, err := encapsulate(k, info)
	if err != nil {
		return nil, nil, err
	}
	ctx, err := contextOf(&suites[k.suite], sealer)
	return enc, ctx, err
}

// newOpenContext decapsulates enc with k in base mode.
func newOpenContext(k *PrivateKey, enc, info []byte) (*hpkeContext, error) {
	opener, err := decapsulate(k, enc, info)
	if err != nil {
		return nil, err
	}
	return contextOf(&suites[k.public.suite], opener)
}

// encapsulate is SetupBaseS of RFC 9180, section 5.1.1.
func encapsulate(k *PublicKey, info []byte) (enc []byte, _ hpke.Context, err error) {
	sender, err := suites[k.suite].hpke().NewSender(k.kem, info)
	if err != nil {
		return nil, nil, err
	}
	return sender.Setup(rand.Reader)
}

// decapsulate is SetupBaseR.
func decapsulate(k *PrivateKey, enc, info []byte) (hpke.Context, error) {
	receiver, err := suites[k.public.suite].hpke().NewReceiver(k.secret().kem, info)
	if err != nil {
		return nil, err
	}
	return receiver.Setup(enc)
}

// contextOf takes key and base nonce out of circl's marshalled form, whose
// fields circl documents at its MarshalBinary.
func contextOf(p *suiteParams, circl hpke.Context) (*hpkeContext, error) {
	raw, err := circl.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	var exporter, key, nonce cryptobyte.String
	s := cryptobyte.String(raw)
	if !s.Skip(7) || // role, kem_id, kdf_id, aead_id
		!s.ReadUint8LengthPrefixed(&exporter) ||
		!s.ReadUint8LengthPrefixed(&key) ||
		!s.ReadUint8LengthPrefixed(&nonce) ||
		len(key) != int(p.aead.KeySize()) || len(nonce) != nonceSize {
		return nil, errors.New("circl's marshalled context has an unknown form")
	}
	aead, err := p.aead.New(key)
	if err != nil {
		return nil, err
	}
	return &hpkeContext{aead: aead, baseNonce: [nonceSize]byte(nonce)}, nil
}
