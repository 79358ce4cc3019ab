package exchangeparty

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

const label = "sealhttp exchange v1 response"

// context is what both a sender and a recipient of crypto/hpke can.
type context interface {
	Export(exporterContext string, length int) ([]byte, error)
}

// export returns the 32 bytes that a context gives to a response's secret.
func export(c context) []byte {
	secret, err := c.Export(label, 32)
	if err != nil {
		panic(err)
	}
	return secret
}

func callerInfo(enc []byte) []byte {
	return append([]byte("sealhttp exchange v1 caller\x00"), enc...)
}

// Call is an exchange on the caller's side.
type Call struct {
	Field  RequestField
	suite  Suite
	sender *hpke.Sender
}

// NewCall begins an exchange. Of the field it takes ID, Timestamp and Bind, and fills
// in the rest.
func NewCall(server *PublicKey, r *Request, f RequestField) (*Call, error) {
	f.KeyID = server.ID
	info, err := r.HPKEInfo(&f)
	if err != nil {
		return nil, err
	}
	c := &Call{suite: server.Suite}
	if f.Enc, c.sender, err = hpke.NewSender(server.key, hpke.HKDFSHA256(), server.Suite.aead(), info); err != nil {
		return nil, err
	}
	f.Auth = c.SealRecord(nil)
	c.Field = f
	return c, nil
}

// SealRecord seals the next plaintext, of whatever form.
func (c *Call) SealRecord(plaintext []byte) []byte {
	ct, err := c.sender.Seal(nil, plaintext)
	if err != nil {
		panic(err)
	}
	return ct
}

// Body returns the request's body.
func (c *Call) Body(records ...Record) []byte { return sealRecords(c.SealRecord, records) }

// Open opens the response. With an error of its body come the records before it.
func (c *Call) Open(f *ResponseField, own *PrivateKey, r *Response, body []byte) ([]Record, error) {
	secret := export(c.sender)
	if f.CallerEnc != nil {
		if own == nil || own.ID != f.CallerKeyID || len(f.CallerEnc) != own.Suite.EncLen {
			return nil, ErrDecryptionFailed
		}
		recipient, err := hpke.NewRecipient(f.CallerEnc, own.key, hpke.HKDFSHA256(), own.Suite.aead(), callerInfo(c.Field.Enc))
		if err != nil {
			return nil, ErrDecryptionFailed
		}
		secret = append(secret, export(recipient)...)
	}
	s := NewResponseSecrets(c.suite, c.Field.Enc, f.Nonce, secret)
	if _, err := s.open(0, f.Auth, r.AAD()); err != nil {
		return nil, ErrDecryptionFailed
	}
	if !r.Body {
		if len(body) > 0 {
			return nil, malformed("a body that was said not to be there")
		}
		return nil, nil
	}
	sequence := uint64(0)
	return openRecords(func(ct []byte) ([]byte, error) {
		sequence++
		return s.open(sequence, ct, nil)
	}, body)
}

// Serving is an exchange on the server's side.
type Serving struct {
	suite     Suite
	enc       []byte
	recipient *hpke.Recipient
}

// NewServing takes a request whose auth verifies with the key.
func NewServing(key *PrivateKey, r *Request, f *RequestField) (*Serving, error) {
	info, err := r.HPKEInfo(f)
	if err != nil {
		return nil, err
	}
	if len(f.Enc) != key.Suite.EncLen {
		return nil, ErrDecryptionFailed
	}
	recipient, err := hpke.NewRecipient(f.Enc, key.key, hpke.HKDFSHA256(), key.Suite.aead(), info)
	if err != nil {
		return nil, ErrDecryptionFailed
	}
	if _, err := recipient.Open(nil, f.Auth); err != nil {
		return nil, ErrDecryptionFailed
	}
	return &Serving{key.Suite, f.Enc, recipient}, nil
}

// Export returns what the request's context gives for another label and length.
func (s *Serving) Export(label string, length int) ([]byte, error) {
	return s.recipient.Export(label, length)
}

// Open opens the request's body. With an error come the records before it.
func (s *Serving) Open(body []byte) ([]Record, error) {
	return openRecords(func(ct []byte) ([]byte, error) { return s.recipient.Open(nil, ct) }, body)
}

// Respond makes a response, to the caller's key if it is not nil. Without a body there
// are no records.
func (s *Serving) Respond(caller *PublicKey, r *Response, records ...Record) (*ResponseField, []byte, error) {
	f := &ResponseField{Nonce: make([]byte, 32)}
	rand.Read(f.Nonce)
	secret := export(s.recipient)
	if caller != nil {
		enc, sender, err := hpke.NewSender(caller.key, hpke.HKDFSHA256(), caller.Suite.aead(), callerInfo(s.enc))
		if err != nil {
			return nil, nil, err
		}
		f.CallerKeyID, f.CallerEnc = caller.ID, enc
		secret = append(secret, export(sender)...)
	}
	keys := NewResponseSecrets(s.suite, s.enc, f.Nonce, secret)
	f.Auth = keys.Seal(0, nil, r.AAD())
	sequence := uint64(0)
	return f, sealRecords(func(plaintext []byte) []byte {
		sequence++
		return keys.Seal(sequence, plaintext, nil)
	}, records), nil
}

// ResponseSecrets are what a response is sealed with.
type ResponseSecrets struct {
	Suite                       Suite
	Secret, PRK, Key, BaseNonce []byte
}

// NewResponseSecrets derives them: RFC 9458, section 4.4.
func NewResponseSecrets(suite Suite, enc, nonce, secret []byte) *ResponseSecrets {
	s := &ResponseSecrets{Suite: suite, Secret: secret}
	var err error
	if s.PRK, err = hkdf.Extract(sha256.New, secret, append(append([]byte{}, enc...), nonce...)); err != nil {
		panic(err)
	}
	if s.Key, err = hkdf.Expand(sha256.New, s.PRK, "key", suite.keyLen); err != nil {
		panic(err)
	}
	if s.BaseNonce, err = hkdf.Expand(sha256.New, s.PRK, "nonce", nonceLen); err != nil {
		panic(err)
	}
	return s
}

// Nonce is RFC 9180, section 5.2: ComputeNonce.
func Nonce(base []byte, sequence uint64) []byte {
	nonce := binary.BigEndian.AppendUint64(make([]byte, nonceLen-8), sequence)
	for i := range nonce {
		nonce[i] ^= base[i]
	}
	return nonce
}

// Seal seals at a sequence number.
func (s *ResponseSecrets) Seal(sequence uint64, plaintext, aad []byte) []byte {
	return s.Suite.cipher(s.Key).Seal(nil, Nonce(s.BaseNonce, sequence), plaintext, aad)
}

func (s *ResponseSecrets) open(sequence uint64, ct, aad []byte) ([]byte, error) {
	return s.Suite.cipher(s.Key).Open(nil, Nonce(s.BaseNonce, sequence), ct, aad)
}
