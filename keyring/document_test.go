package keyring_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// fullRing makes a store with a ring that has keys in every state.
func fullRing(t *testing.T, kek keyring.AEAD, opts ...keyring.Option) *keyring.MemoryStore {
	t.Helper()
	store := keyring.NewMemoryStore()
	synctest.Test(t, func(t *testing.T) {
		ring := open(t, store, kek, append(opts, quiet(), seldom)...)
		stop := run(t, ring)
		rotate(t, ring)
		if err := ring.Revoke(t.Context(), ring.PublicKeys()[1].ID()); err != nil {
			t.Fatal(err)
		}
		rotate(t, ring)
		if err := ring.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
		expectKeys(t, ring, 1, 1, 1)
	})
	return store
}

// Every byte that is stored is covered: whichever is changed, the ring is refused
// with a reason, by who opens it and by who runs, and nothing is overwritten.
func TestCorruptedByte(t *testing.T) {
	for name, kek := range map[string]keyring.AEAD{"kek": newKEK(t), "plaintext": keyring.InsecurePlaintext()} {
		t.Run(name, func(t *testing.T) {
			store := fullRing(t, kek)
			good := load(t, store)
			var events journal
			running := open(t, store, kek, keyring.WithAudit(events.add))
			before := running.KeySet()
			for i := range good.Data {
				for _, mask := range []byte{0x01, 0x20} {
					bad := keyring.State{Revision: good.Revision, Data: bytes.Clone(good.Data)}
					bad.Data[i] ^= mask
					put(t, store, bad)
					_, err := keyring.Open(t.Context(), store, kek)
					if !errors.Is(err, keyring.ErrCorrupt) && !errors.Is(err, keyring.ErrVersion) && !errors.Is(err, keyring.ErrKEK) {
						t.Fatalf("byte %d of %d ^ %#x: got %v, want an error that says so", i, len(good.Data), mask, err)
					}
					if i%16 == 0 {
						running.Tick(t.Context())
						if err := running.Rotate(t.Context()); err == nil {
							t.Fatalf("byte %d: Rotate on top of a corrupted state: no error", i)
						}
					}
					if after := load(t, store); after.Revision != bad.Revision || !bytes.Equal(after.Data, bad.Data) {
						t.Fatalf("byte %d: what was refused was overwritten", i)
					}
				}
			}
			if running.KeySet() != before {
				t.Error("a running replica took a corrupted state on")
			}
			for n := range good.Data {
				if n%7 != 0 {
					continue
				}
				put(t, store, keyring.State{Revision: good.Revision, Data: good.Data[:n]})
				if _, err := keyring.Open(t.Context(), store, kek); !errors.Is(err, keyring.ErrCorrupt) {
					t.Fatalf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
				}
			}
			put(t, store, good)
			running.Tick(t.Context())
			events.expect(t, keyring.EventStateRefused, keyring.EventStateAccepted)
			open(t, store, kek, quiet())
		})
	}
}

// edit changes stored JSON as an editor would.
func edit(t *testing.T, s keyring.State, change func(d map[string]any)) keyring.State {
	t.Helper()
	var d map[string]any
	decoder := json.NewDecoder(bytes.NewReader(s.Data))
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	change(d)
	data, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return keyring.State{Revision: s.Revision, Data: append(data, '\n')}
}

// replace changes stored JSON by hand, keeping its form.
func replace(t *testing.T, s keyring.State, pattern, with string) keyring.State {
	t.Helper()
	data := regexp.MustCompile(pattern).ReplaceAll(s.Data, []byte(with))
	if bytes.Equal(data, s.Data) {
		t.Fatalf("nothing matches %q in\n%s", pattern, s.Data)
	}
	return keyring.State{Revision: s.Revision, Data: data}
}

func TestHandEdited(t *testing.T) {
	kek := newKEK(t)
	store := fullRing(t, kek)
	other := load(t, fullRing(t, kek, keyring.WithName("other")))
	good := load(t, store)
	keys := func(d map[string]any, i int) map[string]any { return d["keys"].([]any)[i].(map[string]any) }
	for name, tc := range map[string]struct {
		state keyring.State
		want  error
		text  string
	}{
		"not JSON":           {keyring.State{Revision: good.Revision, Data: []byte("hello")}, keyring.ErrCorrupt, ""},
		"empty":              {keyring.State{Revision: good.Revision}, keyring.ErrCorrupt, ""},
		"null":               {keyring.State{Revision: good.Revision, Data: []byte("null\n")}, keyring.ErrCorrupt, "format"},
		"too large":          {keyring.State{Revision: good.Revision, Data: make([]byte, 2<<20)}, keyring.ErrCorrupt, "bytes"},
		"another format":     {replace(t, good, `"sealhttp keyring"`, `"sealhttp account"`), keyring.ErrCorrupt, `"sealhttp account"`},
		"a later version":    {replace(t, good, `"version": 1`, `"version": 2`), keyring.ErrVersion, "version 2, and this program reads version 1"},
		"an earlier version": {replace(t, good, `"version": 1`, `"version": 0`), keyring.ErrVersion, "version 0, and this program reads version 1"},
		"a later version, unknown fields": {edit(t, good, func(d map[string]any) { d["version"], d["shape"] = 7, "new" }), keyring.ErrVersion,
			"version 7, and this program reads version 1"},
		"the revision of the row":     {keyring.State{Revision: good.Revision + 1, Data: good.Data}, keyring.ErrCorrupt, fmt.Sprintf("of revision %d and was stored as %d", good.Revision, good.Revision+1)},
		"another ring's row":          {other, keyring.ErrCorrupt, `"other"`},
		"another ring's row, renamed": {replace(t, other, `"ring": "other"`, `"ring": "default"`), keyring.ErrKEK, ""},
		"a field more":                {edit(t, good, func(d map[string]any) { d["comment"] = "hi" }), keyring.ErrCorrupt, "comment"},
		"a field of a key more":       {edit(t, good, func(d map[string]any) { keys(d, 0)["comment"] = "hi" }), keyring.ErrCorrupt, "comment"},
		"a field less":                {edit(t, good, func(d map[string]any) { delete(d, "mac") }), keyring.ErrCorrupt, ""},
		"other white space":           {replace(t, good, `\t`, " "), keyring.ErrCorrupt, "another form"},
		"something behind it":         {keyring.State{Revision: good.Revision, Data: append(bytes.Clone(good.Data), '\n')}, keyring.ErrCorrupt, ""},
		"a field twice":               {replace(t, good, `"version": 1,`, `"version": 1, "version": 1,`), keyring.ErrCorrupt, ""},
		"a state":                     {replace(t, good, `"state": "pending"`, `"state": "retired"`), keyring.ErrCorrupt, "edited or damaged"},
		"a state that is none":        {replace(t, good, `"state": "pending"`, `"state": "sleeping"`), keyring.ErrCorrupt, ""},
		"a time":                      {replace(t, good, `"created": "2000`, `"created": "2001`), keyring.ErrCorrupt, "edited or damaged"},
		"the serial":                  {replace(t, good, `"serial": 9`, `"serial": 99`), keyring.ErrCorrupt, "edited or damaged"},
		"revoked no more":             {replace(t, good, `,\n\t+"revoked": true`, ``), keyring.ErrCorrupt, "edited or damaged"},
		"an id":                       {replace(t, good, `"id": \d+`, `"id": 7`), keyring.ErrCorrupt, "edited or damaged"},
		"the prefix":                  {replace(t, good, `"prefix": true`, `"prefix": false`), keyring.ErrCorrupt, "edited or damaged"},
		"no keys":                     {edit(t, good, func(d map[string]any) { d["keys"] = nil }), keyring.ErrCorrupt, ""},
		"the integrity key":           {replace(t, good, `"integrity_key": "....`, `"integrity_key": "AAAA`), keyring.ErrKEK, "integrity key"},
		"two halves exchanged": {edit(t, good, func(d map[string]any) {
			a, b := keys(d, 0), keys(d, 1)
			a["private"], b["private"] = b["private"], a["private"]
		}), keyring.ErrCorrupt, ""},
	} {
		t.Run(name, func(t *testing.T) {
			put(t, store, tc.state)
			_, err := keyring.Open(t.Context(), store, kek)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
			if got := load(t, store); !bytes.Equal(got.Data, tc.state.Data) {
				t.Error("what was refused was overwritten")
			}
		})
	}
}

// Who knows the integrity key, as who has read a replica's memory does, can write
// what is accepted, but no private half opens under another id, suite or ring, and
// nothing that breaks a ring is accepted.
func TestMovedPrivateHalf(t *testing.T) {
	kek := newKEK(t)
	store := fullRing(t, kek)
	ring := open(t, store, kek, quiet())
	good := load(t, store)
	var private [][]byte
	ring.Forge(good, 1, func(k *keyring.DocumentKey) { private = append(private, k.Private) })
	only := func(state keyring.KeyState, f func(*keyring.DocumentKey)) func(*keyring.DocumentKey) {
		return func(k *keyring.DocumentKey) {
			if k.State == state {
				f(k)
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(*keyring.DocumentKey)
		want   error
		text   string
	}{
		"another id":        {only(keyring.Primary, func(k *keyring.DocumentKey) { k.ID ^= 1 }), keyring.ErrKEK, ""},
		"another suite":     {only(keyring.Previous, func(k *keyring.DocumentKey) { resuite(t, k, seal.X25519AES128GCM) }), keyring.ErrKEK, ""},
		"another's half":    {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Private = private[1] }), keyring.ErrKEK, ""},
		"no half":           {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Private = nil }), keyring.ErrKEK, ""},
		"id 0":              {only(keyring.Primary, func(k *keyring.DocumentKey) { k.ID = 0 }), keyring.ErrCorrupt, "must not be 0"},
		"one id":            {func(k *keyring.DocumentKey) { k.ID = 1 }, keyring.ErrCorrupt, "twice"},
		"no primary":        {only(keyring.Primary, func(k *keyring.DocumentKey) { k.State, k.Replaced = keyring.Previous, k.Promoted }), keyring.ErrCorrupt, "0 primary"},
		"two primaries":     {only(keyring.Pending, func(k *keyring.DocumentKey) { k.State, k.Promoted = keyring.Primary, k.Created }), keyring.ErrCorrupt, "2 primary"},
		"two pending":       {only(keyring.Previous, func(k *keyring.DocumentKey) { k.State = keyring.Pending }), keyring.ErrCorrupt, "2 pending"},
		"no such state":     {only(keyring.Pending, func(k *keyring.DocumentKey) { k.State = "asleep" }), keyring.ErrCorrupt, `"asleep"`},
		"no time":           {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Promoted = time.Time{} }), keyring.ErrCorrupt, "time"},
		"no such suite":     {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Suite = "ROT13" }), keyring.ErrCorrupt, "ROT13"},
		"half of a retired": {only(keyring.Retired, func(k *keyring.DocumentKey) { k.Private = private[0] }), keyring.ErrCorrupt, "retired"},
		"fingerprint":       {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Fingerprint = "1" }), keyring.ErrCorrupt, "fingerprint"},
		"low order":         {only(keyring.Primary, func(k *keyring.DocumentKey) { k.Public = make([]byte, 32) }), keyring.ErrCorrupt, "low order"},
		"three raw keys":    {func(k *keyring.DocumentKey) { k.Prefix = false }, keyring.ErrCorrupt, "3 without a prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			put(t, store, ring.Forge(good, good.Revision, tc.change))
			_, err := keyring.Open(t.Context(), store, kek)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
	// The forger has its format right: unchanged, it is accepted.
	put(t, store, ring.Forge(good, good.Revision, func(*keyring.DocumentKey) {}))
	open(t, store, kek, quiet())
}

// resuite makes a key another suite's, of the same KEM.
func resuite(t *testing.T, k *keyring.DocumentKey, suite seal.Suite) {
	t.Helper()
	public, err := seal.NewPublicKey(suite, k.ID, k.Public)
	if err != nil {
		t.Fatal(err)
	}
	k.Suite, k.Fingerprint = suite.String(), public.Fingerprint()
}

// A private key swapped for another one, by who has the kek too, is not taken for
// the other half of the public key.
func TestPrivateHalfOfAnotherKey(t *testing.T) {
	kek := newKEK(t)
	store := keyring.NewMemoryStore()
	ring := open(t, store, kek, quiet())
	primary := ring.PublicKeys()[0]
	for name, raw := range map[string][]byte{
		"another key": generate(t, primary.Suite()).Bytes(),
		"zero":        make([]byte, 32),
		"short":       make([]byte, 5),
	} {
		wrapped, err := kek.Encrypt(raw, keyring.PrivateData("default", primary.ID(), primary.Suite()))
		if err != nil {
			t.Fatal(err)
		}
		put(t, store, ring.Forge(load(t, store), 1, func(k *keyring.DocumentKey) { k.Private = wrapped }))
		if _, err := keyring.Open(t.Context(), store, kek); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("%s: got %v, want ErrKEK", name, err)
		}
	}
}

// One key under two ids, which only who has the kek, or none, can store.
func TestOneKeyTwice(t *testing.T) {
	kek := keyring.InsecurePlaintext()
	store := fullRing(t, kek)
	ring := open(t, store, kek, quiet())
	var first *keyring.DocumentKey
	put(t, store, ring.Forge(load(t, store), load(t, store).Revision, func(k *keyring.DocumentKey) {
		if first == nil {
			first = k
		} else if k.State == keyring.Pending {
			k.Public, k.Private, k.Fingerprint = first.Public, first.Private, first.Fingerprint
		}
	}))
	if _, err := keyring.Open(t.Context(), store, kek); !errors.Is(err, keyring.ErrCorrupt) || !strings.Contains(err.Error(), "duplicate key") {
		t.Errorf("got %v, want ErrCorrupt with %q", err, "duplicate key")
	}
}

// The associated data that a KMS sees is fixed: what is stored depends on it.
func TestAssociatedData(t *testing.T) {
	k := newKMS(t)
	ring := open(t, keyring.NewMemoryStore(), k, keyring.WithName("api"), keyring.WithSuite(seal.P256AES256GCM), quiet())
	id := ring.PublicKeys()[0].ID()
	want := []string{
		"sealhttp keyring v1 integrity key\x00\x00\x03api",
		"sealhttp keyring v1 private key\x00\x00\x03api" + string([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}) + "\x00\x0eP256-AES256GCM",
	}
	for i, got := range k.data {
		if string(got) != want[i] {
			t.Errorf("got %q, want %q", got, want[i])
		}
	}
	if len(k.data) != len(want) {
		t.Errorf("got %d encryptions, want %d", len(k.data), len(want))
	}
}

// A kek that takes a context gets it.
func TestContextKEK(t *testing.T) {
	type contextKey struct{}
	ctx := contextWith(t, contextKey{}, "x")
	kek := contextKEK{AEAD: newKEK(t), key: contextKey{}, want: "x"}
	store := keyring.NewMemoryStore()
	for _, kek := range []keyring.AEAD{kek, keyring.KEKs(kek), keyring.KEKs(kek, newKEK(t))} {
		if _, err := keyring.Open(ctx, store, kek, quiet()); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"format":"sealhttp keyring","version":1}`))
	f.Add([]byte(sample))
	f.Add([]byte(strings.ReplaceAll(sample, "X25519-AES256GCM", "P256-AES256GCM")))
	f.Fuzz(func(t *testing.T, data []byte) {
		again, _, err := keyring.ParseDocument(data)
		if err != nil {
			if !errors.Is(err, keyring.ErrCorrupt) && !errors.Is(err, keyring.ErrVersion) {
				t.Errorf("got %v, want ErrCorrupt or ErrVersion", err)
			}
			return
		}
		if !bytes.Equal(again, data) {
			t.Errorf("accepted\n%s\nand would write\n%s", data, again)
		}
		// It is not authenticated.
		store := keyring.NewMemoryStore()
		if err := store.Swap(t.Context(), 0, keyring.State{Revision: 1, Data: data}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(t.Context(), store, rejecting{}, quiet()); err == nil {
			t.Error("opened without its key")
		}
	})
}

type rejecting struct{}

func (rejecting) Encrypt([]byte, []byte) ([]byte, error) { return nil, errKMS }
func (rejecting) Decrypt([]byte, []byte) ([]byte, error) { return nil, errKMS }

func TestStoredByVersion1(t *testing.T) {
	store := keyring.NewMemoryStore()
	put(t, store, keyring.State{Revision: 7, Data: []byte(sample)})
	ring := open(t, store, keyring.InsecurePlaintext(), quiet())
	expectKeys(t, ring, 1, 1, 1)
	for _, key := range ring.KeySet().Keys() {
		expectOpens(t, ring, key.Public(), nil)
	}
	if again, keys, err := keyring.ParseDocument([]byte(sample)); err != nil || keys != 4 || string(again) != sample {
		t.Errorf("got %d keys, %v, and would write\n%s", keys, err, again)
	}
}

// Whatever is stored with a good MAC, a ring that opens is one that holds its rules.
func FuzzRing(f *testing.F) {
	f.Add([]byte(sample))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, ok := keyring.Sign(data)
		if !ok {
			return
		}
		store := keyring.NewMemoryStore()
		put(t, store, state)
		ring, err := keyring.Open(t.Context(), store, keyring.InsecurePlaintext(), quiet())
		if err != nil {
			if !errors.Is(err, keyring.ErrCorrupt) && !errors.Is(err, keyring.ErrKEK) {
				t.Errorf("got %v, want ErrCorrupt or ErrKEK", err)
			}
			return
		}
		ids := states(t, ring)
		expectKeys(t, ring, len(ids[keyring.Pending]), len(ids[keyring.Previous]), len(ids[keyring.Retired]))
		expectOpens(t, ring, ring.PublicKeys()[0], nil)
		ring.Tick(t.Context())
		if err := ring.Revoke(t.Context(), ring.PublicKeys()[0].ID()); err != nil {
			t.Errorf("Revoke: %v", err)
		}
		if got := ring.Status(); got.Revision == 1 {
			t.Error("nothing was stored")
		}
		if _, err := keyring.Open(t.Context(), store, keyring.InsecurePlaintext(), quiet()); err != nil {
			t.Errorf("what it stored does not open: %v", err)
		}
	})
}
