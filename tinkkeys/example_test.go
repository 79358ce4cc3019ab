package tinkkeys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/testing/fakekms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// exampleKey is a private key that is the same in every run. A real one comes
// from seal.GenerateKey.
func exampleKey() *seal.PrivateKey {
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, 4242, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func exampleSet() *seal.KeySet {
	set, err := seal.NewKeySet(exampleKey())
	if err != nil {
		log.Fatal(err)
	}
	return set
}

// exampleKEK is an AEAD of Tink's. A real one comes from a KMS.
func exampleKEK() tink.AEAD {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	kek, err := aead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	return kek
}

// A client with Tink, in whatever language, seals with nothing but this JSON.
func ExamplePublic() {
	data, err := tinkkeys.Public(exampleKey().Public())
	if err != nil {
		log.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil {
		log.Fatal(err)
	}
	fmt.Println(indented.String())

	// The client's side, in Go.
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		log.Fatal(err)
	}
	encrypter, err := hybrid.NewHybridEncrypt(handle)
	if err != nil {
		log.Fatal(err)
	}
	message, err := encrypter.Encrypt([]byte("hello from Tink"), nil)
	if err != nil {
		log.Fatal(err)
	}

	plaintext, err := exampleKey().Open(nil, message, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output:
	// {
	//   "primaryKeyId": 4242,
	//   "key": [
	//     {
	//       "keyData": {
	//         "typeUrl": "type.googleapis.com/google.crypto.tink.HpkePublicKey",
	//         "value": "EgYIARABGAIaIKTgkpK2UcJ4uXcsVp9fqbsT2Qa0araMnfncK0QJ+KIJ",
	//         "keyMaterialType": "ASYMMETRIC_PUBLIC"
	//       },
	//       "status": "ENABLED",
	//       "keyId": 4242,
	//       "outputPrefixType": "TINK"
	//     }
	//   ]
	// }
	// hello from Tink
}

// The keyset that a client registers: made by tinkey create-public-keyset, or as
// here by tink-go.
func ExampleParsePublic() {
	private, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		log.Fatal(err)
	}
	public, err := private.Public()
	if err != nil {
		log.Fatal(err)
	}
	var data bytes.Buffer
	if err := public.WriteWithNoSecrets(keyset.NewJSONWriter(&data)); err != nil {
		log.Fatal(err)
	}

	keys, err := tinkkeys.ParsePublic(data.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(keys), keys[0].Suite())

	// The mistake that matters most is told apart from the others.
	data.Reset()
	if err := insecurecleartextkeyset.Write(private, keyset.NewJSONWriter(&data)); err != nil {
		log.Fatal(err)
	}
	_, err = tinkkeys.ParsePublic(data.Bytes())
	fmt.Println(errors.Is(err, tinkkeys.ErrPrivateKey))
	// Output:
	// 1 X25519-AES256GCM
	// true
}

func ExamplePublicBinary() {
	data, err := tinkkeys.PublicBinary(exampleKey().Public())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), "bytes")
	// Output: 114 bytes
}

func ExampleParsePublicBinary() {
	data, err := tinkkeys.PublicBinary(exampleKey().Public())
	if err != nil {
		log.Fatal(err)
	}
	keys, err := tinkkeys.ParsePublicBinary(data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys[0].ID(), keys[0].Suite())
	// Output: 4242 X25519-AES256GCM
}

// Private keys are stored encrypted, and only for what the associated data says.
func ExampleEncryptPrivate() {
	ctx, kek := context.Background(), exampleKEK()
	data, err := tinkkeys.EncryptPrivate(ctx, exampleSet(), kek, []byte("orders, production"))
	if err != nil {
		log.Fatal(err)
	}

	set, err := tinkkeys.DecryptPrivate(ctx, data, kek, []byte("orders, production"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Primary())

	_, err = tinkkeys.DecryptPrivate(ctx, data, kek, []byte("orders, staging"))
	fmt.Println(errors.Is(err, tinkkeys.ErrAEAD))
	// Output:
	// PrivateKey(X25519-AES256GCM, id 4242)
	// true
}

// The keyset that a service has used with Tink so far.
func ExampleDecryptPrivate() {
	kek := exampleKEK()
	handle, err := keyset.NewHandle(hybrid.DHKEM_P256_HKDF_SHA256_HKDF_SHA256_AES_128_GCM_Raw_Key_Template())
	if err != nil {
		log.Fatal(err)
	}
	var data bytes.Buffer
	if err := handle.Write(keyset.NewJSONWriter(&data), kek); err != nil {
		log.Fatal(err)
	}

	set, err := tinkkeys.DecryptPrivate(context.Background(), data.Bytes(), kek, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Primary().Suite(), set.Primary().HasPrefix())
	// Output: P256-AES128GCM false
}

func ExampleEncryptPrivateBinary() {
	data, err := tinkkeys.EncryptPrivateBinary(context.Background(), exampleSet(), exampleKEK(), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), "bytes")
	// Output: 189 bytes
}

func ExampleDecryptPrivateBinary() {
	ctx, kek := context.Background(), exampleKEK()
	data, err := tinkkeys.EncryptPrivateBinary(ctx, exampleSet(), kek, nil)
	if err != nil {
		log.Fatal(err)
	}
	set, err := tinkkeys.DecryptPrivateBinary(ctx, data, kek, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Primary())
	// Output: PrivateKey(X25519-AES256GCM, id 4242)
}

// For a test that hands a key to Tink.
func ExampleInsecureCleartextPrivate() {
	data, err := tinkkeys.InsecureCleartextPrivate(exampleSet())
	if err != nil {
		log.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		log.Fatal(err)
	}
	decrypter, err := hybrid.NewHybridDecrypt(handle)
	if err != nil {
		log.Fatal(err)
	}

	message, err := exampleKey().Public().Seal(nil, []byte("hello, Tink"), nil)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := decrypter.Decrypt(message, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output: hello, Tink
}

// What tinkey create-keyset writes when no KMS is named.
func ExampleParseInsecureCleartextPrivate() {
	set, err := tinkkeys.ParseInsecureCleartextPrivate([]byte(`{
	  "primaryKeyId": 4242,
	  "key": [{
	    "keyData": {
	      "typeUrl": "type.googleapis.com/google.crypto.tink.HpkePrivateKey",
	      "value": "EioSBggBEAEYAhogpOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogkaIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
	      "keyMaterialType": "ASYMMETRIC_PRIVATE"
	    },
	    "status": "ENABLED",
	    "keyId": 4242,
	    "outputPrefixType": "TINK"
	  }]
	}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Primary())
	// Output: PrivateKey(X25519-AES256GCM, id 4242)
}

func ExampleInsecureCleartextPrivateBinary() {
	data, err := tinkkeys.InsecureCleartextPrivateBinary(exampleSet())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), "bytes")
	// Output: 153 bytes
}

func ExampleParseInsecureCleartextPrivateBinary() {
	data, err := tinkkeys.InsecureCleartextPrivateBinary(exampleSet())
	if err != nil {
		log.Fatal(err)
	}
	set, err := tinkkeys.ParseInsecureCleartextPrivateBinary(data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Primary())
	// Output: PrivateKey(X25519-AES256GCM, id 4242)
}

// A KMS whose calls take a context.
func ExampleContextAEAD() {
	uri, err := fakekms.NewKeyURI()
	if err != nil {
		log.Fatal(err)
	}
	kms, err := fakekms.NewAEADWithContext(uri)
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = tinkkeys.EncryptPrivate(ctx, exampleSet(), tinkkeys.ContextAEAD(kms), nil)
	fmt.Println(err)
	// Output: tinkkeys: encrypt the keyset: the AEAD failed: context canceled
}
