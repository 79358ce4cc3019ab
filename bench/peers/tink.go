package peers

import (
	"bytes"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// tinkPeer is Tink's hybrid encryption in handlers of one's own: the same bytes as the
// message profile.
func tinkPeer() Peer {
	return oneShotPeer(Peer{
		Name: "tink", Title: "[Tink](https://github.com/tink-crypto/tink-go) by hand",
		Adopted: "every handler, or a middleware of your own",
		Streams: "no", Response: "no", Request: "no", Once: "no", CallerKey: "yes", Metadata: "no",
		Standard: "Tink's format",
	}, func(k *Keys) (oneShot, error) {
		o := oneShot{contentType: "application/octet-stream+hpke"}
		serverEncrypt, serverDecrypt, err := tinkPrimitives(k.Server.HPKE)
		if err != nil {
			return o, err
		}
		clientEncrypt, clientDecrypt, err := tinkPrimitives(k.Client.HPKE)
		if err != nil {
			return o, err
		}
		o.open = func(b []byte) ([]byte, error) { return serverDecrypt.Decrypt(b, nil) }
		o.seal = func(b []byte) ([]byte, error) { return clientEncrypt.Encrypt(b, nil) }
		o.sealTo = func(b []byte) ([]byte, error) { return serverEncrypt.Encrypt(b, nil) }
		o.openFrom = func(b []byte) ([]byte, error) { return clientDecrypt.Decrypt(b, nil) }
		return o, nil
	})
}

func tinkPrimitives(key *seal.PrivateKey) (tink.HybridEncrypt, tink.HybridDecrypt, error) {
	set, err := seal.NewKeySet(key)
	if err != nil {
		return nil, nil, err
	}
	clear, err := tinkkeys.InsecureCleartextPrivateBinary(set)
	if err != nil {
		return nil, nil, err
	}
	private, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(clear)))
	if err != nil {
		return nil, nil, err
	}
	public, err := private.Public()
	if err != nil {
		return nil, nil, err
	}
	encrypt, err := hybrid.NewHybridEncrypt(public)
	if err != nil {
		return nil, nil, err
	}
	decrypt, err := hybrid.NewHybridDecrypt(private)
	return encrypt, decrypt, err
}
