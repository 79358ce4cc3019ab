package seal_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// A key may be shared at once, before anyone has used it: run with -race, this
// finds what is computed on first use.
func TestConcurrentUse(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, made *seal.PrivateKey) {
		message := sealTo(t, made.Public(), pattern(100), nil)
		for _, key := range []*seal.PrivateKey{
			newKey(t, sp.suite, f.opts...),
			privateKey(t, sp.suite, made.ID(), made.Bytes(), f.opts...),
		} {
			public := publicKey(t, sp.suite, key.ID(), made.Public().Bytes(), f.opts...)
			set := keySet(t, key)
			start := make(chan struct{})
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					<-start
					for _, to := range []*seal.PublicKey{key.Public(), public} {
						sealed, err := to.Seal(nil, pattern(100), nil)
						if err != nil {
							t.Error(err)
							return
						}
						plaintext, err := key.Open(nil, sealed, nil)
						if mine := bytes.Equal(to.Bytes(), key.Public().Bytes()); mine != (err == nil) || mine && !bytes.Equal(plaintext, pattern(100)) {
							t.Errorf("opened to %d bytes, %v", len(plaintext), err)
						}
					}
					_, own := set.Lookup(made.ID())
					if _, _, err := set.OpenInPlace(bytes.Clone(message), nil); own != (err == nil) {
						t.Errorf("OpenInPlace: %v", err)
					}
					_ = fmt.Sprint(key, key.Public(), key.Bytes(), set.Keys(), set.Holds(public))
				})
			}
			close(start)
			all.Wait()
		}
	})
}
