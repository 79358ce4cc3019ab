package keyring_test

import (
	"context"
	"fmt"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

func Example() {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		panic(err)
	}

	// A caller fetched the public key, and then the server rotates.
	public := ring.PublicKeys()[0]
	if err := ring.Rotate(context.Background()); err != nil {
		panic(err)
	}

	message, err := public.Seal(nil, []byte("sealed to the previous key"), nil)
	if err != nil {
		panic(err)
	}
	plaintext, err := ring.KeySet().Open(nil, message, nil)
	fmt.Println(string(plaintext), err)
	fmt.Println(len(ring.PublicKeys()), "keys")
	// Output:
	// sealed to the previous key <nil>
	// 2 keys
}

func ExampleKeyring_Rotate() {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		panic(err)
	}
	before := ring.KeySet() // what a request under way holds
	fmt.Println(ring.Rotate(context.Background()))
	fmt.Println(before.Primary().ID() == key.ID(), ring.KeySet().Primary().ID() == key.ID())
	// Output:
	// <nil>
	// true false
}
