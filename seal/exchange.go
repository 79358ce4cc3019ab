package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/cloudflare/circl/hpke"
)

// Sizes of what an exchange sends beside its records, in bytes.
const (
	// ExchangeTagLen is the length of the tag that authenticates a request or a
	// response before its first record.
	ExchangeTagLen = tagSize
	// ExchangeNonceLen is the length of a response's nonce. RFC 9458, section 4.4,
	// has max(Nk, Nn); the exchange profile fixes it.
	ExchangeNonceLen = 32
)

const (
	responseLabel     = "sealhttp exchange v1 response"
	callerInfo        = "sealhttp exchange v1 caller\x00"
	responseSecretLen = 32
)

// Exchange is one request and its response under one HPKE context (RFC 9180): the
// request's records are sealed with the context itself, the response's with a key
// that is exported from it (RFC 9458, section 4.4), so that no one else can make a
// response, and none fits another request.
//
// The caller makes one with [PublicKey.NewExchange], the server with
// [PrivateKey.OpenExchange]. It is for use by one goroutine at a time.
type Exchange struct {
	suite   Suite
	enc     []byte
	request *hpkeContext
	circl   hpke.Context // for Export (RFC 9180, section 5.3)
}

// NewExchange begins an exchange with the holder of the private key. enc and auth
// are to be sent: the encapsulated key, and a tag over info at sequence number 0,
// [ExchangeTagLen] bytes, which is to be verified before anything else is looked at.
//
// With a validated key it fails for no reason that a caller can mend.
func (k *PublicKey) NewExchange(info []byte) (x *Exchange, enc, auth []byte, err error) {
	x = &Exchange{suite: k.suite}
	if x.enc, x.circl, err = encapsulate(k, info); err == nil {
		x.request, err = contextOf(&suites[k.suite], x.circl)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("seal: begin an exchange with key %d (%v): %w", k.id, k.suite, err)
	}
	return x, x.enc, x.request.aead.Seal(nil, x.request.baseNonce[:], nil, nil), nil
}

// OpenExchange takes an exchange that was begun with this key's public half and the
// same info. It returns [ErrDecryptionFailed] if auth does not authenticate, for
// whatever reason. Until it has, nothing of the request is to be believed.
func (k *PrivateKey) OpenExchange(enc, auth, info []byte) (*Exchange, error) {
	p := &suites[k.public.suite]
	if len(enc) != p.encSize || len(auth) != tagSize {
		return nil, ErrDecryptionFailed
	}
	opener, err := decapsulate(k, enc, info)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	x := &Exchange{suite: k.public.suite, enc: enc, circl: opener}
	if x.request, err = contextOf(p, opener); err != nil {
		return nil, ErrDecryptionFailed
	}
	if _, err := x.request.aead.Open(nil, x.request.baseNonce[:], auth, nil); err != nil {
		return nil, ErrDecryptionFailed
	}
	return x, nil
}

// Records returns the request's records: to be written on the caller's side, to be
// read on the server's. They are for one body.
func (x *Exchange) Records() *Records { return &Records{context: x.request, sequence: 1} }

// ResponseHeader is what goes before a response's records.
type ResponseHeader struct {
	// Nonce is random, [ExchangeNonceLen] bytes.
	Nonce []byte
	// CallerEnc is the key that was encapsulated to the caller's registered key, nil
	// if the response is not sealed to one.
	CallerEnc []byte
	// Auth is a tag of [ExchangeTagLen] bytes over the response's aad.
	Auth []byte
}

// SealResponse begins the response on the server's side. aad is what is
// authenticated with it, as its status. With a caller key other than nil, the
// response opens only for who holds the private half of that, too.
//
// Each call draws a new nonce, so that a response that was begun and not sent does
// no harm.
func (x *Exchange) SealResponse(caller *PublicKey, aad []byte) (ResponseHeader, *Records, error) {
	h := ResponseHeader{Nonce: make([]byte, ExchangeNonceLen)}
	rand.Read(h.Nonce) // never fails, see crypto/rand
	secret := make([]byte, 0, 2*responseSecretLen)
	secret = append(secret, x.circl.Export([]byte(responseLabel), responseSecretLen)...)
	if caller != nil {
		enc, c, err := encapsulate(caller, x.callerInfo())
		if err != nil {
			return ResponseHeader{}, nil, caller.encapsulateError(err)
		}
		h.CallerEnc = enc
		secret = append(secret, c.Export([]byte(responseLabel), responseSecretLen)...)
	}
	context, err := x.responseContext(secret, h.Nonce)
	if err != nil {
		return ResponseHeader{}, nil, err
	}
	h.Auth = context.aead.Seal(nil, context.baseNonce[:], nil, aad)
	return h, &Records{context: context, sequence: 1}, nil
}

// OpenResponse takes the response to this exchange on the caller's side. caller is
// the private key that CallerEnc is for, and is not looked at without one. It returns
// [ErrDecryptionFailed] for a header that was not made for this exchange, this key and
// this aad, for whatever reason. Until it returns without one, nothing of the response
// is to be believed, its status included.
func (x *Exchange) OpenResponse(h ResponseHeader, caller *PrivateKey, aad []byte) (*Records, error) {
	if len(h.Nonce) != ExchangeNonceLen || len(h.Auth) != tagSize {
		return nil, ErrDecryptionFailed
	}
	secret := make([]byte, 0, 2*responseSecretLen)
	secret = append(secret, x.circl.Export([]byte(responseLabel), responseSecretLen)...)
	if h.CallerEnc != nil {
		if caller == nil || len(h.CallerEnc) != suites[caller.public.suite].encSize {
			return nil, ErrDecryptionFailed
		}
		c, err := decapsulate(caller, h.CallerEnc, x.callerInfo())
		if err != nil {
			return nil, ErrDecryptionFailed
		}
		secret = append(secret, c.Export([]byte(responseLabel), responseSecretLen)...)
	}
	context, err := x.responseContext(secret, h.Nonce)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	if _, err := context.aead.Open(nil, context.baseNonce[:], h.Auth, aad); err != nil {
		return nil, ErrDecryptionFailed
	}
	return &Records{context: context, sequence: 1}, nil
}

// Suite returns the suite of the server's key, which governs both directions.
func (x *Exchange) Suite() Suite { return x.suite }

// EncLen returns the length in bytes of a key that is encapsulated to a key of the
// suite, 0 for a suite that is none.
func (s Suite) EncLen() int {
	if !s.valid() {
		return 0
	}
	return suites[s].encSize
}

func (x *Exchange) callerInfo() []byte {
	return append([]byte(callerInfo), x.enc...)
}

// responseContext derives key and nonce as RFC 9458, section 4.4, does.
func (x *Exchange) responseContext(secret, nonce []byte) (*hpkeContext, error) {
	defer clear(secret)
	p := &suites[x.suite]
	salt := append(append(make([]byte, 0, len(x.enc)+len(nonce)), x.enc...), nonce...)
	prk, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Expand(sha256.New, prk, "key", int(p.aead.KeySize()))
	if err != nil {
		return nil, err
	}
	baseNonce, err := hkdf.Expand(sha256.New, prk, "nonce", nonceSize)
	if err != nil {
		return nil, err
	}
	aead, err := p.aead.New(key)
	clear(key)
	clear(prk)
	return &hpkeContext{aead: aead, baseNonce: [nonceSize]byte(baseNonce)}, err
}
