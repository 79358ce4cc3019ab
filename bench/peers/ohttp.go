package peers

import (
	"net/http"

	"github.com/cloudflare/circl/hpke"
	"github.com/openpcc/ohttp"
)

// ohttpPeer is Oblivious HTTP (RFC 9458), without the relay that it is made for: the
// gateway as a middleware of the service.
func ohttpPeer() Peer {
	return Peer{
		Name: "ohttp", Title: "OHTTP by [openpcc/ohttp](https://github.com/openpcc/ohttp), gateway in the service",
		Adopted: "a relay, and a middleware behind which no header field of the caller's credentials may be looked at before",
		Streams: "in chunks, a draft's", Response: "yes", Request: "yes, it is inside", Once: "no", CallerKey: "no", Metadata: "yes",
		Standard: "RFC 9458",
		Serve: func(k *Keys, next http.Handler) (http.Handler, error) {
			pair, err := ohttpKey(k)
			if err != nil {
				return nil, err
			}
			gateway, err := ohttp.NewGateway(pair, ohttp.WithRequestValidator(nil)) // one handler, whatever the host
			if err != nil {
				return nil, err
			}
			return ohttp.Middleware(gateway, next), nil
		},
		Call: func(k *Keys, base http.RoundTripper, url string) (http.RoundTripper, error) {
			pair, err := ohttpKey(k)
			if err != nil {
				return nil, err
			}
			return ohttp.NewTransport(pair.KeyConfig, url, ohttp.WithHTTPClient(&http.Client{Transport: base}))
		},
	}
}

func ohttpKey(k *Keys) (pair ohttp.KeyPair, err error) {
	pair.KeyConfig = ohttp.KeyConfig{
		KeyID: 1, KemID: hpke.KEM_X25519_HKDF_SHA256,
		SymmetricAlgorithms: []ohttp.SymmetricAlgorithm{{KDFID: hpke.KDF_HKDF_SHA256, AEADID: hpke.AEAD_AES256GCM}},
	}
	if pair.SecretKey, err = pair.KeyConfig.KemID.Scheme().UnmarshalBinaryPrivateKey(k.Server.HPKE.Bytes()); err == nil {
		pair.KeyConfig.PublicKey = pair.SecretKey.Public()
	}
	return pair, err
}
