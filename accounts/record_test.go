package accounts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

// TestRecordEdited has records that somebody has edited by hand. Each is refused by
// everything that reads it, with what is wrong with it, and stays as it is.
func TestRecordEdited(t *testing.T) {
	made := newFixture(t, accounts.WithConfirmation(accounts.ConfirmNever))
	current, previous, pending := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM), generate(t, seal.X25519AES256GCM)
	gone := generate(t, seal.X25519AES256GCM)
	enrol(t, made.Registry, "acme", gone)
	check(t, made.Revoke(ctxOf("acme"), "acme", gone.ID()))
	enrol(t, made.Registry, "acme", previous)
	enrol(t, made.Registry, "acme", current, previous)
	_, err := made.Replace(ctxOf("acme"), "acme", current.ID(), tinkForm(t, pending))
	check(t, err)
	_, err = made.Challenge(ctxOf("acme"), "acme", pending.ID())
	check(t, err)
	check(t, made.SetPolicy(ctxOf("acme"), "acme", sealhttp.Required))
	good, err := made.store.MemoryStore.Load(t.Context(), "acme")
	check(t, err)

	type object = map[string]any
	key := func(r object, i int) object { return r["keys"].([]any)[i].(object) }
	challenge := func(r object) object { return key(r, 2)["challenge"].(object) }
	zero := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, c := range []struct {
		name string
		edit func(object)
		want string
		is   error // besides ErrRecord
	}{
		{"another account", func(r object) { r["account"] = "other" }, `"other"`, nil},
		{"no account", func(r object) { delete(r, "account") }, `account ""`, nil},
		{"a policy that is none", func(r object) { r["policy"] = "required" }, `policy "required"`, nil},
		{"no policy's name", func(r object) { r["policy"] = "no policy" }, `policy "no policy"`, nil},
		{"an unknown member", func(r object) { r["note"] = "by Bob" }, "expected form", nil},
		{"an unknown member of a key", func(r object) { key(r, 0)["note"] = "by Bob" }, "expected form", nil},
		{"a null key", func(r object) { r["keys"].([]any)[1] = nil }, "key is null", nil},
		{"a number as a key", func(r object) { r["keys"].([]any)[1] = 7 }, "expected form", nil},
		{"id 0", func(r object) { key(r, 0)["id"] = 0 }, "key 0: ", nil},
		{"an id past 32 bits", func(r object) { key(r, 0)["id"] = 1 << 32 }, "expected form", nil},
		{"a suite that is none", func(r object) { key(r, 0)["suite"] = "X25519" }, `suite "X25519"`, nil},
		{"another suite", func(r object) { key(r, 0)["suite"] = "P256-AES256GCM" }, "wrong length", nil},
		{"another suite of the same length", func(r object) { key(r, 0)["suite"] = "X25519-AES128GCM" }, "fingerprint", nil},
		{"prefix CRUNCHY", func(r object) { key(r, 0)["prefix"] = "CRUNCHY" }, `prefix "CRUNCHY"`, nil},
		{"another key", func(r object) { key(r, 0)["public"] = key(r, 2)["public"] }, "fingerprint", nil},
		{"a low-order key", func(r object) { key(r, 0)["public"] = zero }, "low order", nil},
		{"no key", func(r object) { delete(key(r, 0), "public") }, "wrong length", nil},
		{"another fingerprint", func(r object) { key(r, 0)["fingerprint"] = key(r, 2)["fingerprint"] }, "fingerprint", nil},
		{"a state that is none", func(r object) { key(r, 0)["state"] = "active" }, `state "active"`, nil},
		{"pending made current", func(r object) {
			key(r, 2)["state"] = "current"
			delete(key(r, 2), "challenge")
			r["keys"] = r["keys"].([]any)[1:]
		}, "current and not proved", nil},
		{"pending made proved", func(r object) { key(r, 2)["state"] = "proved" }, "not proved", nil},
		{"current made pending", func(r object) { key(r, 0)["state"] = "pending" }, "pending and proved", nil},
		{"two current keys", func(r object) { key(r, 1)["state"] = "current" }, "both current", nil},
		{"two previous keys", func(r object) { key(r, 0)["state"] = "previous" }, "both previous", nil},
		{"a previous key alone", func(r object) { key(r, 0)["state"] = "proved" }, "without a current one", nil},
		{"a key twice", func(r object) { r["keys"] = append(r["keys"].([]any), key(r, 2)) }, "twice", nil},
		{"a key twice, under two ids", func(r object) {
			again := object{}
			for name, value := range key(r, 2) {
				again[name] = value
			}
			again["id"] = 7
			r["keys"] = append(r["keys"].([]any), again)
		}, "twice", nil},
		{"an id twice", func(r object) { key(r, 2)["id"] = key(r, 0)["id"] }, "twice", nil},
		{"a challenge without a hash", func(r object) { challenge(r)["sha256"] = "" }, "challenge", nil},
		{"a challenge with a short hash", func(r object) { challenge(r)["sha256"] = "AAAA" }, "challenge", nil},
		{"a challenge without an expiry", func(r object) { delete(challenge(r), "expires") }, "challenge", nil},
		{"a challenge with 4 tries", func(r object) { challenge(r)["tries"] = 4 }, "challenge", nil},
		{"a challenge without tries", func(r object) { challenge(r)["tries"] = 0 }, "challenge", nil},
		{"a challenge of a current key", func(r object) { key(r, 0)["challenge"] = challenge(r) }, "not proved", nil},
		{"a time that is none", func(r object) { key(r, 0)["proved"] = "yesterday" }, "expected form", nil},
		{"a revoked key without a hash", func(r object) { delete(r["revoked"].([]any)[0].(object), "sha256") }, "revoked", nil},
		{"a null revoked key", func(r object) { r["revoked"] = []any{nil} }, "revoked", nil},
		{"a later version", func(r object) { r["version"] = 2 }, "version 2, this program knows version 1", accounts.ErrVersion},
		{"version -1", func(r object) { r["version"] = -1 }, "version -1, this program knows version 1", accounts.ErrVersion},
		{"a later version of another form", func(r object) { clear(r); r["version"] = 3; r["x"] = 1 }, "version 3, this program knows version 1", accounts.ErrVersion},
		{"no version", func(r object) { delete(r, "version") }, "no version", nil},
		{"a string as version", func(r object) { r["version"] = "1" }, "not JSON", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r object
			check(t, json.Unmarshal(good.Data, &r))
			c.edit(r)
			data, err := json.Marshal(r)
			check(t, err)
			is := c.is
			if is == nil {
				is = accounts.ErrRecord
			}
			wantUnreadable(t, accounts.Record{Account: "acme", Revision: 7, Data: data}, is, c.want)
		})
	}
	t.Run("not JSON", func(t *testing.T) {
		for _, text := range []string{"", "{", "null", "[]", "7", string(good.Data) + "x", string(good.Data[:len(good.Data)-1])} {
			wantUnreadable(t, accounts.Record{Account: "acme", Revision: 7, Data: []byte(text)}, accounts.ErrRecord, "")
		}
		twice := strings.Replace(string(good.Data), `"policy":"Required"`, `"policy":"Required","Policy":"Optional"`, 1)
		wantUnreadable(t, accounts.Record{Account: "acme", Revision: 7, Data: []byte(twice)}, accounts.ErrRecord, "two members of one name")
	})
	t.Run("another row", func(t *testing.T) {
		moved := good
		moved.Account = "other"
		wantUnreadable(t, moved, accounts.ErrRecord, `account "acme"`)
	})
}

// wantUnreadable checks that nothing reads or overwrites a record.
func wantUnreadable(t *testing.T, stored accounts.Record, is error, want string) {
	t.Helper()
	f := newFixture(t)
	// The store lets any revision be the first one.
	for revision := uint64(1); revision <= stored.Revision; revision++ {
		r := stored
		r.Revision = revision
		check(t, f.store.MemoryStore.Swap(t.Context(), stored.Account, revision-1, r, nil))
	}
	ctx := ctxOf(stored.Account)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, is) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", stored.Account)) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if errors.Is(err, sealhttp.ErrNoClientKey) || errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("%s: %v says that there is nothing", what, err)
		}
	}
	_, err := f.ClientKey(requestOf(stored.Account))
	refused("ClientKey", err)
	p, err := f.Policy(requestOf(stored.Account))
	refused("Policy", err)
	if p != 0 {
		t.Errorf("Policy = %v", p)
	}
	_, err = f.List(ctx, stored.Account)
	refused("List", err)
	_, err = f.Register(ctx, stored.Account, tinkForm(t, generate(t, seal.X25519AES256GCM)))
	refused("Register", err)
	refused("Revoke", f.Revoke(ctx, stored.Account, 1))
	refused("SetPolicy", f.SetPolicy(ctx, stored.Account, sealhttp.Disabled))
	for _, err := range f.All(ctx) {
		refused("All", err)
	}
	after, err := f.store.MemoryStore.Load(t.Context(), stored.Account)
	check(t, err)
	if after.Revision != stored.Revision || string(after.Data) != string(stored.Data) {
		t.Errorf("the record is now %d, %s", after.Revision, after.Data)
	}
}

// TestRecordSize: the largest record is within what a store is told.
func TestRecordSize(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmAlways))
	account := strings.Repeat("\u0800", 170)
	ctx := ctxOf(account)
	confirm := func(key *seal.PrivateKey) {
		_, err := f.Register(ctx, account, tinkForm(t, key))
		check(t, err)
		_, err = f.Prove(ctx, account, key.ID(), challenged(t, f.Registry, account, key))
		check(t, err)
	}
	for range 64 {
		key := generate(t, seal.X25519AES256GCM)
		confirm(key)
		check(t, f.Revoke(ctx, account, key.ID()))
	}
	first, second := generate(t, seal.XWingAES256GCM), generate(t, seal.XWingAES256GCM)
	confirm(first)
	_, err := f.Confirm(ctx, account, first.ID(), first.Public().Fingerprint())
	check(t, err)
	enrol(t, f.Registry, account, second, first)
	for range 5 {
		key := generate(t, seal.XWingAES256GCM)
		_, err := f.Replace(ctx, account, second.ID(), tinkForm(t, key))
		check(t, err)
		_, err = f.Challenge(ctx, account, key.ID())
		check(t, err)
	}
	r, err := f.store.MemoryStore.Load(t.Context(), account)
	check(t, err)
	if len(r.Data) >= 64<<10 {
		t.Errorf("the record has %d bytes", len(r.Data))
	}
}

// TestNoSecretStored: what is stored while a challenge is open does not answer it.
func TestNoSecretStored(t *testing.T) {
	f := newFixture(t)
	key := generate(t, seal.X25519AES256GCM)
	_, err := f.Register(ctxOf("acme"), "acme", tinkForm(t, key))
	check(t, err)
	opened := challenged(t, f.Registry, "acme", key)
	r, err := f.store.MemoryStore.Load(t.Context(), "acme")
	check(t, err)
	for _, secret := range [][]byte{opened, key.Bytes()} {
		if s := leak(secret, string(r.Data)); s != "" {
			t.Errorf("the record has a secret, in %s: %s", s, r.Data)
		}
		if s := leak(secret, fmt.Sprintf("%+v", f.store.stored())); s != "" {
			t.Errorf("an event has a secret, in %s", s)
		}
	}
}

// TestUnapproved: a pending key that is beside a key in use without an approver, or
// whose approver is not in use, was not left so by a Registry. It gets no challenge,
// and a proof of it is not taken.
func TestUnapproved(t *testing.T) {
	for name, c := range map[string]struct {
		approver any
		is       error
	}{
		"no approver":         {0, accounts.ErrApprovalNeeded},
		"another approver":    {7, accounts.ErrApprover},
		"itself as approver":  {nil, accounts.ErrApprover},
		"as it was, it works": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ctx := ctxOf("acme")
			current, pending := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
			enrol(t, f.Registry, "acme", current)
			_, err := f.Replace(ctx, "acme", current.ID(), tinkForm(t, pending))
			check(t, err)
			opened := challenged(t, f.Registry, "acme", pending, current)
			stored, err := f.store.MemoryStore.Load(ctx, "acme")
			check(t, err)
			var r map[string]any
			check(t, json.Unmarshal(stored.Data, &r))
			key := r["keys"].([]any)[1].(map[string]any)
			switch c.approver {
			case nil:
				key["approver"] = pending.ID()
			case "":
			default:
				key["approver"] = c.approver
			}
			data, err := json.Marshal(r)
			check(t, err)
			check(t, f.store.MemoryStore.Swap(ctx, "acme", stored.Revision, accounts.Record{Account: "acme", Revision: stored.Revision + 1, Data: data}, nil))

			_, err = f.Prove(ctx, "acme", pending.ID(), opened)
			wantIs(t, "Prove", err, c.is)
			if c.is != nil {
				_, err = f.Challenge(ctx, "acme", pending.ID())
				wantIs(t, "Challenge", err, c.is)
				wantKeys(t, f.Registry, "acme", current, accounts.Current, pending, accounts.Pending)
			}
		})
	}
}

// TestOtherRecord: a store that gives another account's record, or one without a
// revision, is not believed.
func TestOtherRecord(t *testing.T) {
	store := newTestStore()
	enrol(t, newRegistry(t, store), "other", generate(t, seal.X25519AES256GCM))
	for _, c := range []struct {
		account string
		alter   func(*accounts.Record)
		want    string
	}{
		{"acme", func(*accounts.Record) {}, `the store gave account "other"`},
		{"other", func(r *accounts.Record) { r.Revision = 0 }, "at revision 0"},
	} {
		r := newRegistry(t, wrongStore{store, c.alter})
		_, err := r.ClientKey(requestOf(c.account))
		wantIs(t, c.want, err, accounts.ErrRecord)
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

type wrongStore struct {
	*testStore
	alter func(*accounts.Record)
}

func (s wrongStore) Load(ctx context.Context, _ string) (accounts.Record, error) {
	r, err := s.testStore.Load(ctx, "other")
	s.alter(&r)
	return r, err
}
