package seal_test

import (
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"fmt"
	"log"

	"github.com/sealhttp/sealhttp/seal"
)

func Example() {
	// The receiver makes a key and gives out its public half, with its id and suite.
	private, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	id, raw := private.ID(), private.Public().Bytes()

	// The sender makes a key of what it was given, and seals.
	public, err := seal.NewPublicKey(seal.X25519AES256GCM, id, raw)
	if err != nil {
		log.Fatal(err)
	}
	message, err := public.Seal(nil, []byte("attack at dawn"), nil)
	if err != nil {
		log.Fatal(err)
	}

	plaintext, err := private.Open(nil, message, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes sealed: %s\n", len(message), plaintext)
	// Output: 67 bytes sealed: attack at dawn
}

// Both sides give the same info, or the message does not open: here it ties the
// message to an account.
func ExamplePublicKey_Seal_info() {
	private, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	message, err := private.Public().Seal(nil, []byte("balance: 12"), []byte("account 7"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := private.Open(nil, message, []byte("account 7"))
	fmt.Printf("%s, %v\n", plaintext, err)
	_, err = private.Open(nil, message, []byte("account 8"))
	fmt.Println(err)
	// Output:
	// balance: 12, <nil>
	// decryption failed
}

// A plaintext that stands where its ciphertext will be is sealed without a copy.
func ExamplePublicKey_Seal_inPlace() {
	private, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	public := private.Public()

	const text = "a long text"
	buf := make([]byte, len(text)+public.Overhead())
	plaintext := buf[public.HeaderLen():][:len(text)]
	copy(plaintext, text)

	message, err := public.Seal(buf[:0], plaintext, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("same memory:", &message[0] == &buf[0])

	opened, err := private.Open(nil, message, nil)
	fmt.Printf("%s, %v\n", opened, err)
	// Output:
	// same memory: true
	// a long text, <nil>
}

// After a rotation, a set opens what was sealed to the new key and to the old one.
func ExampleKeySet() {
	before, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	now, err := seal.GenerateKey(seal.XWingAES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	set, err := seal.NewKeySet(now, before)
	if err != nil {
		log.Fatal(err)
	}

	late, err := before.Public().Seal(nil, []byte("sealed before the rotation"), nil)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, key, err := set.OpenInPlace(late, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, to the primary key: %v\n", plaintext, key == set.Primary())

	// A key that is in the set no more.
	gone, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	tooLate, err := gone.Public().Seal(nil, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = set.Open(nil, tooLate, nil)
	fmt.Println(errors.Is(err, seal.ErrUnknownKey))
	// Output:
	// sealed before the rotation, to the primary key: false
	// true
}

// Without a prefix, a message is what any HPKE library makes and takes.
func ExampleWithoutPrefix() {
	private, err := seal.GenerateKey(seal.X25519AES256GCM, seal.WithoutPrefix())
	if err != nil {
		log.Fatal(err)
	}

	kem, err := hpke.NewKEM(0x0020) // DHKEM(X25519, HKDF-SHA256)
	if err != nil {
		log.Fatal(err)
	}
	public, err := kem.NewPublicKey(private.Public().Bytes())
	if err != nil {
		log.Fatal(err)
	}
	// crypto/hpke has info before the plaintext, this package after it.
	message, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("info"), []byte("from crypto/hpke"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := private.Open(nil, message, []byte("info"))
	fmt.Printf("%s, %v\n", plaintext, err)
	// Output: from crypto/hpke, <nil>
}

func ExamplePublicKey_Fingerprint() {
	raw, err := hex.DecodeString("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
	if err != nil {
		log.Fatal(err)
	}
	key, err := seal.NewPublicKey(seal.X25519AES256GCM, 305419896, raw)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Fingerprint())
	// Output: 19688-35438-12839-45072-25374-50625-61426-56133
}

func ExampleParseSuite() {
	suite, err := seal.ParseSuite("p256-aes128gcm")
	fmt.Println(suite, err)
	_, err = seal.ParseSuite("RSA-OAEP")
	fmt.Println(err)
	// Output:
	// P256-AES128GCM <nil>
	// seal: suite "RSA-OAEP": invalid key: unknown suite
}

// A private key prints as suite and id only, however it is printed.
func ExamplePrivateKey_Format() {
	secret, err := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	if err != nil {
		log.Fatal(err)
	}
	key, err := seal.NewPrivateKey(seal.P256AES256GCM, 305419896, secret)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v\n%x\n%+v\n", key, key, struct{ Key *seal.PrivateKey }{key})
	// Output:
	// PrivateKey(P256-AES256GCM, id 305419896)
	// PrivateKey(P256-AES256GCM, id 305419896)
	// {Key:PrivateKey(P256-AES256GCM, id 305419896)}
}
