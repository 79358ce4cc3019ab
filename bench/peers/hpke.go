package peers

import (
	"crypto/ecdh"
	"crypto/hpke"
)

// hpkePeer is Go's crypto/hpke in handlers of one's own: the bytes of the message profile
// for keys without a prefix.
func hpkePeer() Peer {
	return oneShotPeer(Peer{
		Name: "crypto-hpke", Title: "[crypto/hpke](https://pkg.go.dev/crypto/hpke) by hand",
		Adopted: "every handler, or a middleware of your own",
		Streams: "no", Response: "no", Request: "no", Once: "no", CallerKey: "yes", Metadata: "no",
		Standard: "RFC 9180",
	}, func(k *Keys) (oneShot, error) {
		o := oneShot{contentType: "application/octet-stream"}
		kem, kdf, aead := hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.AES256GCM()
		server, err := kem.NewPrivateKey(k.Server.HPKE.Bytes())
		if err != nil {
			return o, err
		}
		client, err := kem.NewPrivateKey(k.Client.HPKE.Bytes())
		if err != nil {
			return o, err
		}
		o.open = func(b []byte) ([]byte, error) { return hpke.Open(server, kdf, aead, nil, b) }
		o.seal = func(b []byte) ([]byte, error) { return hpke.Seal(client.PublicKey(), kdf, aead, nil, b) }
		o.sealTo = func(b []byte) ([]byte, error) { return hpke.Seal(server.PublicKey(), kdf, aead, nil, b) }
		o.openFrom = func(b []byte) ([]byte, error) { return hpke.Open(client, kdf, aead, nil, b) }
		return o, nil
	})
}
