package exchangeparty_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/sealhttp/sealhttp/internal/exchangeparty"
)

func readVectors(t *testing.T) []exchangeparty.Vector {
	t.Helper()
	vectors, err := exchangeparty.ReadVectors("../../testdata/exchange-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	return vectors
}

// same checks one value of a vector.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %x, want %x", what, got, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each value of each vector, by crypto/hpke and what stands in this package.
func TestVectors(t *testing.T) {
	suites := map[string]int{}
	records := 0
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			suites[v.Server.Suite]++
			server := keyOf(t, &v.Server)
			r := &v.Request
			request := r.Request()
			authority, target, err := request.Reduced()
			check(t, err)
			if authority != r.Authority || target != r.Target {
				t.Errorf("reduced to %q and %q", authority, target)
			}
			f, err := exchangeparty.ParseRequestField([]string{r.Header["sealed-exchange"]})
			check(t, err)
			if f.KeyID != v.Server.ID || !bytes.Equal(f.ID[:], r.ID) || f.Timestamp != r.Timestamp || !bytes.Equal(f.Enc, r.Context.Enc) || !bytes.Equal(f.Auth, r.Auth) || !reflect.DeepEqual(f.Bind, r.Bind) {
				t.Errorf("the field is read as %+v", f)
			}
			if f.String() != r.Header["sealed-exchange"] {
				t.Errorf("the field is %s", f)
			}
			input, err := request.BoundInput(f.Bind)
			check(t, err)
			same(t, "bound_input", input, r.BoundInput)
			hash := sha256.Sum256(input)
			same(t, "bound", hash[:], r.Bound)
			info, err := request.HPKEInfo(f)
			check(t, err)
			same(t, "info", info, r.Context.Info)
			checkContext(t, &v.Server, &r.Context)

			serving, err := exchangeparty.NewServing(server, request, f)
			check(t, err)
			export, err := serving.Export("sealhttp exchange v1 response", 32)
			check(t, err)
			same(t, "export", export, r.Context.Export)
			other, err := serving.Export("another", 48)
			check(t, err)
			same(t, "what exporter_secret gives", other, exportOf(t, &v.Server, r.Context.ExporterSecret, "another", 48))
			if r.Body {
				opened, err := serving.Open(exchangeparty.Wire(r.Records))
				check(t, err)
				sameRecords(t, opened, r.Records)
			}
			keys := &exchangeparty.ResponseSecrets{Suite: server.Suite, Key: r.Context.Key, BaseNonce: r.Context.BaseNonce}
			same(t, "auth", keys.Seal(0, nil, nil), r.Auth)
			resealed(t, keys, r.Records)

			a := &v.Response
			g, err := exchangeparty.ParseResponseField([]string{a.Header["sealed-exchange"]})
			check(t, err)
			if g.String() != a.Header["sealed-exchange"] {
				t.Errorf("the response's field is %s", g)
			}
			same(t, "nonce", g.Nonce, a.Nonce)
			same(t, "the response's auth", g.Auth, a.Auth)
			response := &exchangeparty.Response{Status: a.Status, Body: a.Body, ContentType: a.ContentType, Error: a.Header["sealed-error"]}
			same(t, "aad", response.AAD(), a.AAD)
			secret := export
			if (v.Caller != nil) != (g.CallerEnc != nil) {
				t.Fatalf("a caller key: %v, cenc: %v", v.Caller != nil, g.CallerEnc != nil)
			}
			if v.Caller != nil {
				caller := keyOf(t, v.Caller)
				if g.CallerKeyID != caller.ID {
					t.Errorf("ckid is %d", g.CallerKeyID)
				}
				same(t, "cenc", g.CallerEnc, a.CallerContext.Enc)
				same(t, "the caller's info", a.CallerContext.Info, append([]byte("sealhttp exchange v1 caller\x00"), r.Context.Enc...))
				checkContext(t, v.Caller, a.CallerContext)
				secret = append(secret, a.CallerContext.Export...)
			}
			same(t, "secret", secret, a.Secret)
			keys = exchangeparty.NewResponseSecrets(server.Suite, r.Context.Enc, a.Nonce, a.Secret)
			same(t, "prk", keys.PRK, a.PRK)
			same(t, "key", keys.Key, a.Key)
			same(t, "base_nonce", keys.BaseNonce, a.BaseNonce)
			same(t, "the response's auth", keys.Seal(0, nil, a.AAD), a.Auth)
			resealed(t, keys, a.Records)
			records += len(r.Records) + len(a.Records)
		})
	}
	t.Logf("vectors by suite %v, %d records", suites, records)
	for _, s := range exchangeparty.Suites {
		if suites[s.Name] < 6 {
			t.Errorf("%d vectors of %s", suites[s.Name], s.Name)
		}
	}
}

func keyOf(t *testing.T, v *exchangeparty.KeyVector) *exchangeparty.PrivateKey {
	t.Helper()
	k, err := exchangeparty.NewPrivateKey(v.Suite, v.ID, v.Private)
	check(t, err)
	if k.Suite.KEM != v.KEM || k.Suite.AEAD != v.AEAD || v.KDF != 1 {
		t.Errorf("%s has the numbers %#x, %#x, %#x", v.Suite, v.KEM, v.KDF, v.AEAD)
	}
	same(t, "public", k.Public().Bytes(), v.Public)
	return k
}

// resealed checks that records are sealed as they are said to be.
func resealed(t *testing.T, keys *exchangeparty.ResponseSecrets, records []exchangeparty.RecordVector) {
	t.Helper()
	for i, r := range records {
		if r.Sequence != uint64(i+1) {
			t.Errorf("record %d has the sequence number %d", i, r.Sequence)
		}
		same(t, "a record's nonce", exchangeparty.Nonce(keys.BaseNonce, r.Sequence), r.Nonce)
		same(t, "a record", keys.Seal(r.Sequence, r.Plaintext, nil), r.Ciphertext)
		want := append(bytes.Clone(r.Plaintext[:r.DataLen]), 1)
		if i == len(records)-1 {
			want[r.DataLen] = 2
		}
		same(t, "a plaintext", r.Plaintext, append(want, make([]byte, r.Padding)...))
	}
}

func sameRecords(t *testing.T, got []exchangeparty.Record, want []exchangeparty.RecordVector) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, r := range got {
		same(t, "data", r.Data, want[i].Plaintext[:want[i].DataLen])
		if r.Padding != want[i].Padding {
			t.Errorf("%d zeros, want %d", r.Padding, want[i].Padding)
		}
	}
}

// checkContext checks the values of an HPKE context from the receiver's side, and that
// enc is of the seed, as far as crypto/hpke lets that be seen.
func checkContext(t *testing.T, key *exchangeparty.KeyVector, c *exchangeparty.ContextVector) {
	t.Helper()
	kem, err := hpke.NewKEM(key.KEM)
	check(t, err)
	if key.KEM == 0x647a { // the seed ends with the ephemeral X25519 key, enc with its public half
		x, err := ecdh.X25519().NewPrivateKey(c.Seed[32:])
		check(t, err)
		same(t, "the X25519 half of enc", c.Enc[len(c.Enc)-32:], x.PublicKey().Bytes())
	} else {
		ephemeral, err := kem.DeriveKeyPair(c.Seed)
		check(t, err)
		same(t, "enc", c.Enc, ephemeral.PublicKey().Bytes())
	}
	private, err := kem.NewPrivateKey(key.Private)
	check(t, err)
	aead, err := hpke.NewAEAD(key.AEAD)
	check(t, err)
	r, err := hpke.NewRecipient(c.Enc, private, hpke.HKDFSHA256(), aead, c.Info)
	check(t, err)
	export, err := r.Export("sealhttp exchange v1 response", 32)
	check(t, err)
	same(t, "export", export, c.Export)

	// RFC 9180, section 5.1, in base mode.
	context := append([]byte{0}, extract(t, key, nil, "psk_id_hash", nil)...)
	context = append(context, extract(t, key, nil, "info_hash", c.Info)...)
	secret := extract(t, key, c.SharedSecret, "secret", nil)
	same(t, "key", expand(t, key, secret, "key", context, len(c.Key)), c.Key)
	same(t, "base_nonce", expand(t, key, secret, "base_nonce", context, 12), c.BaseNonce)
	same(t, "exporter_secret", expand(t, key, secret, "exp", context, 32), c.ExporterSecret)
	same(t, "export", exportOf(t, key, c.ExporterSecret, "sealhttp exchange v1 response", 32), c.Export)
}

func exportOf(t *testing.T, key *exchangeparty.KeyVector, exporter []byte, label string, n int) []byte {
	t.Helper()
	return expand(t, key, exporter, "sec", []byte(label), n)
}

func suiteID(key *exchangeparty.KeyVector) []byte {
	id := []byte("HPKE")
	for _, n := range []uint16{key.KEM, key.KDF, key.AEAD} {
		id = binary.BigEndian.AppendUint16(id, n)
	}
	return id
}

func extract(t *testing.T, key *exchangeparty.KeyVector, salt []byte, label string, ikm []byte) []byte {
	t.Helper()
	out, err := hkdf.Extract(sha256.New, bytes.Join([][]byte{[]byte("HPKE-v1"), suiteID(key), []byte(label), ikm}, nil), salt)
	check(t, err)
	return out
}

func expand(t *testing.T, key *exchangeparty.KeyVector, secret []byte, label string, info []byte, n int) []byte {
	t.Helper()
	labeled := bytes.Join([][]byte{binary.BigEndian.AppendUint16(nil, uint16(n)), []byte("HPKE-v1"), suiteID(key), []byte(label), info}, nil)
	out, err := hkdf.Expand(sha256.New, secret, string(labeled), n)
	check(t, err)
	return out
}
