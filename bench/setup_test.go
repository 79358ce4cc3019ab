package bench

import (
	"crypto/ecdh"
	stdhpke "crypto/hpke"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/hpke"
)

// BenchmarkSetup is one HPKE context, made by encapsulation (op=seal) and by decapsulation
// (op=open), by circl and by the standard library, which could do it too.
func BenchmarkSetup(b *testing.B) {
	for _, kem := range []struct {
		name  string
		circl hpke.KEM
		std   stdhpke.KEM
	}{
		{"X25519", hpke.KEM_X25519_HKDF_SHA256, stdhpke.DHKEM(ecdh.X25519())},
		{"P256", hpke.KEM_P256_HKDF_SHA256, stdhpke.DHKEM(ecdh.P256())},
		{"XWING", hpke.KEM_XWING, stdhpke.MLKEM768X25519()},
	} {
		suite := hpke.NewSuite(kem.circl, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM)
		secret, err := kem.std.GenerateKey()
		check(b, err)
		raw, err := secret.Bytes()
		check(b, err)
		public, err := kem.std.NewPublicKey(secret.PublicKey().Bytes()) // parsed, as a caller's key is
		check(b, err)
		circlSecret, err := kem.circl.Scheme().UnmarshalBinaryPrivateKey(raw)
		check(b, err)
		circlPublic, err := kem.circl.Scheme().UnmarshalBinaryPublicKey(public.Bytes())
		check(b, err)
		circlSecret.Public() // computed on first use
		enc, _, err := stdhpke.NewSender(public, stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), nil)
		check(b, err)
		row := func(op, by string, do func() error) {
			b.Run(fmt.Sprintf("kem=%s/op=%s/by=%s", kem.name, op, by), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					check(b, do())
				}
			})
		}
		row("open", "circl", func() error {
			receiver, err := suite.NewReceiver(circlSecret, nil)
			check(b, err)
			_, err = receiver.Setup(enc)
			return err
		})
		row("open", "crypto-hpke", func() error {
			_, err := stdhpke.NewRecipient(enc, secret, stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), nil)
			return err
		})
		row("seal", "circl", func() error {
			sender, err := suite.NewSender(circlPublic, nil)
			check(b, err)
			_, _, err = sender.Setup(rand.Reader)
			return err
		})
		row("seal", "crypto-hpke", func() error {
			_, _, err := stdhpke.NewSender(public, stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), nil)
			return err
		})
	}
}

// BenchmarkX25519 is what two parties of HPKE do with X25519: a new key (op=generate) and a
// shared secret (op=share).
func BenchmarkX25519(b *testing.B) {
	secret, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(b, err)
	public := secret.PublicKey()
	var shared, circlSecret, circlPublic x25519.Key
	copy(circlSecret[:], secret.Bytes())
	copy(circlPublic[:], public.Bytes())
	b.Run("op=generate/by=circl", func(b *testing.B) {
		for b.Loop() {
			x25519.KeyGen(&circlPublic, &circlSecret)
		}
	})
	b.Run("op=generate/by=crypto-ecdh", func(b *testing.B) {
		for b.Loop() {
			_, err := ecdh.X25519().NewPrivateKey(circlSecret[:])
			check(b, err)
		}
	})
	b.Run("op=share/by=circl", func(b *testing.B) {
		for b.Loop() {
			if !x25519.Shared(&shared, &circlSecret, &circlPublic) {
				b.Fatal("low order")
			}
		}
	})
	b.Run("op=share/by=crypto-ecdh", func(b *testing.B) {
		for b.Loop() {
			_, err := secret.ECDH(public)
			check(b, err)
		}
	})
}

func check(b testing.TB, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}
