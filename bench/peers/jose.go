package peers

import (
	"encoding/json"

	"github.com/go-jose/go-jose/v4"
)

// josePeers are JWE (RFC 7516) with AES-256-GCM, in handlers of one's own. go-jose agrees
// on keys of the NIST curves only; it has no X25519.
func josePeers() []Peer {
	jwe := Peer{
		Adopted: "every handler, or a middleware of your own",
		Streams: "no", Response: "no", Request: "no", Once: "no", CallerKey: "yes", Metadata: "no",
		Standard: "RFC 7516",
	}
	p256 := jwe
	p256.Name, p256.Title = "jwe-p256", "JWE, ECDH-ES on P-256, by [go-jose](https://github.com/go-jose/go-jose)"
	p256 = oneShotPeer(p256, func(k *Keys) (oneShot, error) {
		o, err := joseSides(jose.ECDH_ES, k.Server.P256, &k.Server.P256.PublicKey, k.Client.P256, &k.Client.P256.PublicKey)
		o.contentType = "application/jose"
		return o, err
	})
	rsa := jwe
	rsa.Name, rsa.Title = "jwe-rsa", "JWE, RSA-OAEP-256 with 2048 bits in JSON, as payment networks do"
	rsa.Standard = "RFC 7516; the JSON around it is each network's own"
	rsa = oneShotPeer(rsa, func(k *Keys) (oneShot, error) {
		o, err := joseSides(jose.RSA_OAEP_256, k.Server.RSA, &k.Server.RSA.PublicKey, k.Client.RSA, &k.Client.RSA.PublicKey)
		o.contentType = "application/json"
		o.open, o.openFrom = unwrapped(o.open), unwrapped(o.openFrom)
		o.seal, o.sealTo = wrapped(o.seal), wrapped(o.sealTo)
		return o, err
	})
	return []Peer{p256, rsa}
}

func joseSides(alg jose.KeyAlgorithm, serverPrivate, serverPublic, clientPrivate, clientPublic any) (o oneShot, err error) {
	encrypt := func(public any) func([]byte) ([]byte, error) {
		encrypter, failed := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: alg, Key: public}, nil)
		if failed != nil {
			err = failed
		}
		return func(plaintext []byte) ([]byte, error) {
			object, err := encrypter.Encrypt(plaintext)
			if err != nil {
				return nil, err
			}
			compact, err := object.CompactSerialize()
			return []byte(compact), err
		}
	}
	decrypt := func(private any) func([]byte) ([]byte, error) {
		return func(compact []byte) ([]byte, error) {
			object, err := jose.ParseEncryptedCompact(string(compact), []jose.KeyAlgorithm{alg}, []jose.ContentEncryption{jose.A256GCM})
			if err != nil {
				return nil, err
			}
			return object.Decrypt(private)
		}
	}
	o.open, o.seal = decrypt(serverPrivate), encrypt(clientPublic)
	o.sealTo, o.openFrom = encrypt(serverPublic), decrypt(clientPrivate)
	return o, err
}

// envelope is the JSON that such networks put around a JWE.
type envelope struct {
	EncryptedData string `json:"encryptedData"`
}

func wrapped(seal func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		compact, err := seal(b)
		if err != nil {
			return nil, err
		}
		return json.Marshal(envelope{string(compact)})
	}
}

func unwrapped(open func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		var e envelope
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, err
		}
		return open([]byte(e.EncryptedData))
	}
}
