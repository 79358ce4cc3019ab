package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

var _ sealhttp.ServerKeys = (*keyring.Keyring)(nil)

func generate(t *testing.T, suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey(suite, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNewRefuses(t *testing.T) {
	a := generate(t, seal.X25519AES256GCM)
	for name, keys := range map[string][]*seal.PrivateKey{
		"nil primary":  {nil},
		"nil previous": {a, nil},
		"twice":        {a, a},
	} {
		if _, err := keyring.New(keys[0], keys[1:]...); !errors.Is(err, seal.ErrInvalidKey) {
			t.Errorf("%s: got %v, want ErrInvalidKey", name, err)
		}
	}
}

func TestRotate(t *testing.T) {
	for _, suite := range seal.Suites() {
		for _, opts := range [][]seal.KeyOption{nil, {seal.WithoutPrefix()}} {
			t.Run(fmt.Sprintf("%v/%d", suite, len(opts)), func(t *testing.T) {
				first, second := generate(t, suite, opts...), generate(t, suite, opts...)
				ring, err := keyring.New(second, first)
				if err != nil {
					t.Fatal(err)
				}
				before := ring.KeySet()
				if err := ring.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				keys := ring.KeySet().Keys()
				if len(keys) != 2 || keys[1] != second {
					t.Fatalf("got keys %v, want a new primary and %v", keys, second)
				}
				primary := keys[0]
				if primary.Suite() != suite || primary.HasPrefix() != first.HasPrefix() {
					t.Errorf("new primary %v, prefix %v: want suite and prefix of the old", primary, primary.HasPrefix())
				}
				if public := ring.PublicKeys(); len(public) != 2 || !public[0].Equal(primary.Public()) || !public[1].Equal(second.Public()) {
					t.Errorf("PublicKeys: got %v", public)
				}
				message, err := second.Public().Seal(nil, []byte("sealed before"), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ring.KeySet().Open(nil, message, nil); err != nil {
					t.Errorf("the previous key's message: %v", err)
				}
				if before.Primary() != second || len(before.Keys()) != 2 {
					t.Error("a key set taken before the rotation changed")
				}
			})
		}
	}
}

func TestRotateEndedContext(t *testing.T) {
	ring, err := keyring.New(generate(t, seal.X25519AES256GCM))
	if err != nil {
		t.Fatal(err)
	}
	before := ring.KeySet()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ring.Rotate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if ring.KeySet() != before {
		t.Error("the keys changed")
	}
}

// Every snapshot taken while others rotate must open for its own primary.
func TestRotateWhileReading(t *testing.T) {
	ring, err := keyring.New(generate(t, seal.X25519AES256GCM))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if err := ring.Rotate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				keys := ring.KeySet()
				message, err := keys.Primary().Public().Seal(nil, []byte("x"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := keys.Open(nil, message, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
