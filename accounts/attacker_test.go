package accounts_test

import (
	"encoding/json"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

// TestWriterOfStore has who can write to the store, and nothing else: the store is
// trusted. They put a key of their own in, and have an account's policy dropped; the
// documentation says so.
func TestWriterOfStore(t *testing.T) {
	f := newFixture(t)
	own, theirs := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", own)
	check(t, f.SetPolicy(t.Context(), "acme", sealhttp.Required))
	stored, err := f.store.MemoryStore.Load(t.Context(), "acme")
	check(t, err)

	var record map[string]any
	check(t, json.Unmarshal(stored.Data, &record))
	key := record["keys"].([]any)[0].(map[string]any)
	key["id"], key["public"], key["fingerprint"] = theirs.ID(), theirs.Public().Bytes(), theirs.Public().Fingerprint()
	data, err := json.Marshal(record)
	check(t, err)
	next := accounts.Record{Account: "acme", Revision: stored.Revision + 1, Data: data}
	check(t, f.store.MemoryStore.Swap(t.Context(), "acme", stored.Revision, next, nil))
	wantKeys(t, newRegistry(t, f.store), "acme", theirs, accounts.Current)

	// A record that is gone.
	r := newRegistry(t, accounts.NewMemoryStore())
	wantKeys(t, r, "acme")
	if p, err := r.Policy(requestOf("acme")); p != sealhttp.Optional || err != nil {
		t.Errorf("without a record the policy is %v, %v, want the default", p, err)
	}
	r = newRegistry(t, accounts.NewMemoryStore(), accounts.WithDefaultPolicy(sealhttp.Required))
	if p, err := r.Policy(requestOf("acme")); p != sealhttp.Required || err != nil {
		t.Errorf("without a record the policy is %v, %v, want the default", p, err)
	}
}

// TestLostKeys: an account has lost all its keys. It revokes them, registers another,
// and an operator confirms that. Meanwhile nothing can be sealed to it.
func TestLostKeys(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	first, second, found := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", first)
	enrol(t, f.Registry, "acme", second, first)
	_, err := f.Register(ctx, "acme", tinkForm(t, found))
	wantIs(t, "Register beside lost keys", err, accounts.ErrApprovalNeeded)
	check(t, f.Revoke(ctx, "acme", first.ID())) // the previous one first: it would be current again
	check(t, f.Revoke(ctx, "acme", second.ID()))
	wantKeys(t, f.Registry, "acme")
	if k := enrol(t, f.Registry, "acme", found); k.State != accounts.Proved {
		t.Fatalf("the key is %s before an operator has seen it", k.State)
	}
	_, err = f.Confirm(ctx, "acme", found.ID(), found.Public().Fingerprint())
	check(t, err)
	wantKeys(t, f.Registry, "acme", found, accounts.Current)
}
