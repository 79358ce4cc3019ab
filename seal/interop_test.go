package seal_test

import (
	"bytes"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"testing"

	circlhpke "github.com/cloudflare/circl/hpke"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	tinkhpke "github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"

	"github.com/sealhttp/sealhttp/seal"
)

// peer is one key as another library has it.
type peer struct {
	seal func(plaintext, info []byte) ([]byte, error)
	open func(message, info []byte) ([]byte, error)
}

// peers make a peer of one of our keys.
var peers = []struct {
	name string
	make func(t testing.TB, sp spec, f form, key *seal.PrivateKey) peer
}{
	{"crypto-hpke", stdPeer},
	{"tink-go", tinkPeer},
	{"circl", circlPeer},
}

func TestInterop(t *testing.T) {
	infos := []struct {
		name string
		info []byte
	}{
		{"no info", nil},
		{"info", []byte("response\x00for account 4242")},
	}
	rows := map[string]int{}
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		set := keySet(t, key)
		for _, p := range peers {
			other := p.make(t, sp, f, key)
			for _, n := range []int{0, 1, 16, 1000, 1 << 16, 1<<16 + 1} {
				for _, in := range infos {
					name := fmt.Sprintf("%s, %d bytes, %s", p.name, n, in.name)
					plaintext := pattern(n)

					message, err := other.seal(plaintext, in.info)
					if err != nil {
						t.Fatalf("%s: it does not seal: %v", name, err)
					}
					if want := n + key.Public().Overhead(); len(message) != want {
						t.Errorf("%s: its message has %d bytes, want %d", name, len(message), want)
					}
					if got, _, err := open(t, set, message, in.info); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("%s: we do not open what it sealed: %v", name, err)
					}
					refuse(t, set, message, append(in.info, 'x'), refusal(set, message))

					message = sealTo(t, key.Public(), plaintext, in.info)
					if got, err := other.open(message, in.info); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("%s: it does not open what we sealed: %v", name, err)
					}
					if _, err := other.open(message, append(in.info, 'x')); err == nil {
						t.Errorf("%s: it opens with other info", name)
					}
					rows[p.name] += 2
				}
			}
		}
	})
	t.Logf("rows, by peer: %v", rows)
}

// A key that a Tink keyset made, read into this package: not only our keys in Tink.
func TestInteropTinkGeneratedKeys(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, _ *seal.PrivateKey) {
		manager := keyset.NewManager()
		id, err := manager.AddNewKeyFromParameters(tinkParameters(t, sp, f))
		if err != nil {
			t.Fatal(err)
		}
		handle := tinkHandle(t, manager, id)
		entry, err := handle.Primary()
		if err != nil {
			t.Fatal(err)
		}
		theirs := entry.Key().(*tinkhpke.PrivateKey)
		theirPublic, err := theirs.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		raw := theirs.PrivateKeyBytes().Data(insecuresecretdataaccess.Token{})
		ours := privateKey(t, sp.suite, entry.KeyID(), raw, f.opts...)
		if want := theirPublic.(*tinkhpke.PublicKey).PublicKeyBytes(); !bytes.Equal(ours.Public().Bytes(), want) {
			t.Fatal("Tink derives another public key")
		}

		both := tinkOf(t, handle)
		plaintext, info := pattern(100), []byte("info")
		message, err := both.seal(plaintext, info)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := open(t, keySet(t, ours), message, info); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("we do not open what it sealed: %v", err)
		}
		if got, err := both.open(sealTo(t, ours.Public(), plaintext, info), info); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("it does not open what we sealed: %v", err)
		}
	})
}

func stdPeer(t testing.TB, sp spec, f form, k *seal.PrivateKey) peer {
	t.Helper()
	kem, err := hpke.NewKEM(sp.kem)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := hpke.NewAEAD(sp.aead)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kem.NewPublicKey(k.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	private, err := kem.NewPrivateKey(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return prefixed(f, k.ID(), peer{
		seal: func(plaintext, info []byte) ([]byte, error) {
			return hpke.Seal(public, hpke.HKDFSHA256(), aead, info, plaintext)
		},
		open: func(message, info []byte) ([]byte, error) {
			return hpke.Open(private, hpke.HKDFSHA256(), aead, info, message)
		},
	})
}

// stdSeals reports whether crypto/hpke takes a public key and seals to it.
func stdSeals(sp spec, public []byte) bool {
	kem, err := hpke.NewKEM(sp.kem)
	if err != nil {
		return false
	}
	k, err := kem.NewPublicKey(public)
	if err != nil {
		return false
	}
	_, err = hpke.Seal(k, hpke.HKDFSHA256(), hpke.AES128GCM(), nil, nil)
	return err == nil
}

func circlPeer(t testing.TB, sp spec, f form, k *seal.PrivateKey) peer {
	t.Helper()
	suite := circlhpke.NewSuite(circlhpke.KEM(sp.kem), circlhpke.KDF_HKDF_SHA256, circlhpke.AEAD(sp.aead))
	public, err := circlhpke.KEM(sp.kem).Scheme().UnmarshalBinaryPublicKey(k.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	private, err := circlhpke.KEM(sp.kem).Scheme().UnmarshalBinaryPrivateKey(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return prefixed(f, k.ID(), peer{
		seal: func(plaintext, info []byte) ([]byte, error) {
			sender, err := suite.NewSender(public, info)
			if err != nil {
				return nil, err
			}
			enc, sealer, err := sender.Setup(rand.Reader)
			if err != nil {
				return nil, err
			}
			ct, err := sealer.Seal(plaintext, nil)
			return append(enc, ct...), err
		},
		open: func(message, info []byte) ([]byte, error) {
			receiver, err := suite.NewReceiver(private, info)
			if err != nil {
				return nil, err
			}
			opener, err := receiver.Setup(message[:sp.enc])
			if err != nil {
				return nil, err
			}
			return opener.Open(message[sp.enc:], nil)
		},
	})
}

// prefixed puts Tink's prefix, if the form has it, before the messages of a
// library that knows none.
func prefixed(f form, id uint32, p peer) peer {
	if f.prefix == 0 {
		return p
	}
	return peer{
		seal: func(plaintext, info []byte) ([]byte, error) {
			message, err := p.seal(plaintext, info)
			return append(prefixOf(id), message...), err
		},
		open: func(message, info []byte) ([]byte, error) {
			if !bytes.HasPrefix(message, prefixOf(id)) {
				return nil, fmt.Errorf("prefix %x, want %x", message[:f.prefix], prefixOf(id))
			}
			return p.open(message[f.prefix:], info)
		},
	}
}

func tinkPeer(t testing.TB, sp spec, f form, k *seal.PrivateKey) peer {
	t.Helper()
	var requirement uint32 // Tink's keys without a prefix have no id of their own
	if f.prefix > 0 {
		requirement = k.ID()
	}
	secret := secretdata.NewBytesFromData(k.Bytes(), insecuresecretdataaccess.Token{})
	private, err := tinkhpke.NewPrivateKey(secret, requirement, tinkParameters(t, sp, f))
	if err != nil {
		t.Fatal(err)
	}
	public, err := tinkhpke.NewPublicKey(k.Public().Bytes(), requirement, tinkParameters(t, sp, f))
	if err != nil {
		t.Fatal(err)
	}
	derived, err := private.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if !derived.Equal(public) {
		t.Fatal("Tink derives another public key")
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return tinkOf(t, tinkHandle(t, manager, id))
}

func tinkParameters(t testing.TB, sp spec, f form) *tinkhpke.Parameters {
	t.Helper()
	opts := tinkhpke.ParametersOpts{KDFID: tinkhpke.HKDFSHA256, Variant: tinkhpke.VariantTink}
	if f.prefix == 0 {
		opts.Variant = tinkhpke.VariantNoPrefix
	}
	opts.KEMID = map[uint16]tinkhpke.KEMID{
		0x0010: tinkhpke.DHKEM_P256_HKDF_SHA256,
		0x0020: tinkhpke.DHKEM_X25519_HKDF_SHA256,
		0x647a: tinkhpke.X_WING,
	}[sp.kem]
	opts.AEADID = map[uint16]tinkhpke.AEADID{
		0x0001: tinkhpke.AES128GCM,
		0x0002: tinkhpke.AES256GCM,
		0x0003: tinkhpke.ChaCha20Poly1305,
	}[sp.aead]
	p, err := tinkhpke.NewParameters(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tinkHandle(t testing.TB, manager *keyset.Manager, primary uint32) *keyset.Handle {
	t.Helper()
	if err := manager.SetPrimary(primary); err != nil {
		t.Fatal(err)
	}
	handle, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

func tinkOf(t testing.TB, handle *keyset.Handle) peer {
	t.Helper()
	public, err := handle.Public()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := hybrid.NewHybridEncrypt(public)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := hybrid.NewHybridDecrypt(handle)
	if err != nil {
		t.Fatal(err)
	}
	return peer{seal: enc.Encrypt, open: dec.Decrypt}
}
