package accounts_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

// FuzzKeyForm: what is registered is a key that is listed and can be challenged,
// and of what is refused nothing is repeated.
func FuzzKeyForm(f *testing.F) {
	x, p := generate(f, seal.X25519AES256GCM), generate(f, seal.P256AES256GCM)
	tink := tinkForm(f, x)
	f.Add([]byte(tink.Tink), "", []byte(nil), "", uint32(0))
	f.Add([]byte(nil), b64url(x.Public().Bytes()), []byte(nil), "X25519-AES256GCM", uint32(7))
	f.Add([]byte(nil), "", []byte(jwkForm(f, x25519JWK(x.Public().Bytes())).JWK), "", uint32(0))
	f.Add([]byte(nil), "", []byte(jwkForm(f, p256JWK(p.Public().Bytes()[1:33], p.Public().Bytes()[33:])).JWK), "P256-AES128GCM", uint32(9))
	for _, c := range append(badForms(f), secretKeys(f)...) {
		f.Add([]byte(c.form.Tink), c.form.Raw, []byte(c.form.JWK), c.form.Suite, c.form.ID)
	}
	f.Fuzz(func(t *testing.T, tink []byte, raw string, jwk []byte, suite string, id uint32) {
		r := newRegistry(t, accounts.NewMemoryStore())
		ctx := ctxOf("acme")
		key, err := r.Register(ctx, "acme", accounts.KeyForm{Tink: tink, Raw: raw, JWK: jwk, Suite: suite, ID: id})
		a, listErr := r.List(ctx, "acme")
		check(t, listErr)
		if err != nil {
			if len(a.Keys) != 0 {
				t.Fatalf("refused, and stored: %v", err)
			}
			for _, given := range []string{string(tink), raw, string(jwk)} {
				for len(given) >= 24 {
					if strings.Contains(err.Error(), given[:24]) {
						t.Fatalf("the error has a part of what was given: %v", err)
					}
					given = given[24:]
				}
			}
			return
		}
		if len(a.Keys) != 1 || !a.Keys[0].Public.Equal(key.Public) {
			t.Fatalf("registered was %v, listed is %v", key, a.Keys)
		}
		if _, err := r.Challenge(ctx, "acme", key.ID()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRecord: a record is refused, or it can be changed and read again, with the
// same keys.
func FuzzRecord(f *testing.F) {
	made := newFixture(f)
	first, second, third := generate(f, seal.X25519AES256GCM), generate(f, seal.P256AES256GCM), generate(f, seal.X25519AES256GCM)
	add := func() {
		r, err := made.store.MemoryStore.Load(f.Context(), "acme")
		check(f, err)
		f.Add(r.Data)
	}
	enrol(f, made.Registry, "acme", first)
	add()
	enrol(f, made.Registry, "acme", second, first)
	_, err := made.Replace(ctxOf("acme"), "acme", second.ID(), tinkForm(f, third))
	check(f, err)
	_, err = made.Challenge(ctxOf("acme"), "acme", third.ID())
	check(f, err)
	add()
	check(f, made.Revoke(ctxOf("acme"), "acme", first.ID()))
	check(f, made.SetPolicy(ctxOf("acme"), "acme", sealhttp.Required))
	add()
	f.Fuzz(func(t *testing.T, data []byte) {
		store := accounts.NewMemoryStore()
		check(t, store.Swap(t.Context(), "acme", 0, accounts.Record{Account: "acme", Revision: 1, Data: data}, nil))
		r := newRegistry(t, store)
		before, err := r.List(t.Context(), "acme")
		if err != nil {
			if !errors.Is(err, accounts.ErrRecord) && !errors.Is(err, accounts.ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		// Whatever policy it has, this is another one.
		policy := sealhttp.Disabled
		if before.Policy == policy {
			policy = sealhttp.Optional
		}
		check(t, r.SetPolicy(t.Context(), "acme", policy))
		after, err := r.List(t.Context(), "acme")
		check(t, err)
		if after.Policy != policy || len(after.Keys) != len(before.Keys) {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		for i, k := range after.Keys {
			if b := before.Keys[i]; !k.Public.Equal(b.Public) || k.State != b.State || k.Approver != b.Approver || !k.Registered.Equal(b.Registered) {
				t.Fatalf("key %d before %+v, after %+v", i, b, k)
			}
		}
	})
}

// FuzzRequest: no body makes the handler fail, and every answer is JSON.
func FuzzRequest(f *testing.F) {
	x := generate(f, seal.X25519AES256GCM)
	f.Add([]byte(registrationBody(f, tinkForm(f, x), 0)))
	f.Add([]byte(registrationBody(f, rawForm(seal.X25519AES256GCM, x.Public().Bytes()), 7)))
	f.Add([]byte(`{"jwk":{"kty":"OKP","crv":"X25519","x":"` + b64url(x.Public().Bytes()) + `"},"id":1}`))
	f.Add([]byte(`{"tink":null,"raw":"","suite":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRegistry(t, accounts.NewMemoryStore())
		for _, path := range []string{"/keys", "/keys/1/challenge", "/keys/1/proof"} {
			req := httptest.NewRequest("POST", path, bytes.NewReader(body)).WithContext(ctxOf("acme"))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, req)
			if w.Code >= http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: %d, %s", path, w.Code, w.Body)
			}
		}
	})
}
