package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

func TestOpenMakesARing(t *testing.T) {
	for name, tc := range map[string]struct {
		opts   []keyring.Option
		suite  seal.Suite
		prefix bool
	}{
		"default":        {nil, seal.X25519AES256GCM, true},
		"suite":          {[]keyring.Option{keyring.WithSuite(seal.P256AES128GCM)}, seal.P256AES128GCM, true},
		"raw":            {[]keyring.Option{keyring.WithoutPrefix()}, seal.X25519AES256GCM, false},
		"raw with suite": {[]keyring.Option{keyring.WithoutPrefix(), keyring.WithSuite(seal.XWingAES256GCM)}, seal.XWingAES256GCM, false},
	} {
		t.Run(name, func(t *testing.T) {
			var events journal
			store, kek := &link{Store: keyring.NewMemoryStore()}, newKEK(t)
			opts := append(tc.opts, keyring.WithAudit(events.add))
			ring := open(t, store, kek, opts...)
			expectKeys(t, ring, 0, 0, 0)
			primary := ring.KeySet().Primary()
			if primary.Suite() != tc.suite || primary.HasPrefix() != tc.prefix {
				t.Errorf("got %v, prefix %v", primary, primary.HasPrefix())
			}
			if s := ring.Status(); s.Ring != "default" || s.Revision != 1 {
				t.Errorf("got ring %q, revision %d", s.Ring, s.Revision)
			}
			events.expect(t, keyring.EventGenerated, keyring.EventPublished, keyring.EventPromoted)

			again := open(t, store, kek, opts...)
			if !again.KeySet().Primary().Public().Equal(primary.Public()) {
				t.Error("opened again it has another primary")
			}
			events.expect(t)
			if len(store.events) != 1 || len(store.events[0]) != 3 {
				t.Errorf("stored events %v, want the three of one change", store.events)
			}
		})
	}
}

// Of replicas that start at once, one makes the ring and all have it.
func TestOpenRace(t *testing.T) {
	store, kek := keyring.NewMemoryStore(), newKEK(t)
	var events journal
	rings := make([]*keyring.Keyring, 16)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = keyring.Open(t.Context(), store, kek, keyring.WithAudit(events.add)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, ring := range rings {
		if ring == nil {
			t.FailNow()
		}
		if !ring.KeySet().Primary().Public().Equal(rings[0].KeySet().Primary().Public()) {
			t.Error("two replicas have different primaries")
		}
	}
	events.expect(t, keyring.EventGenerated, keyring.EventPublished, keyring.EventPromoted)
}

func TestOpenRefuses(t *testing.T) {
	kek := newKEK(t)
	store := keyring.NewMemoryStore()
	open(t, store, kek, quiet())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx   context.Context
		store keyring.Store
		kek   keyring.AEAD
		opts  []keyring.Option
		want  error
		text  string
	}{
		"no store":           {kek: kek, text: "the store is nil"},
		"no kek":             {store: store, text: "LocalKeyFile"},
		"nil option":         {store: store, kek: kek, opts: []keyring.Option{nil}, text: "an option is nil"},
		"empty name":         {store: store, kek: kek, opts: []keyring.Option{keyring.WithName("")}, text: "WithName"},
		"long name":          {store: store, kek: kek, opts: []keyring.Option{keyring.WithName(strings.Repeat("a", 129))}, text: "WithName"},
		"name of no UTF-8":   {store: store, kek: kek, opts: []keyring.Option{keyring.WithName("\xff")}, text: "WithName"},
		"name with newline":  {store: store, kek: kek, opts: []keyring.Option{keyring.WithName("a\nb")}, text: "does not print"},
		"no such suite":      {store: store, kek: kek, opts: []keyring.Option{keyring.WithSuite(99)}, want: seal.ErrUnknownSuite},
		"no audit":           {store: store, kek: kek, opts: []keyring.Option{keyring.WithAudit(nil)}, text: "WithAudit"},
		"no reload interval": {store: store, kek: kek, opts: []keyring.Option{keyring.WithReloadInterval(0)}, text: "WithReloadInterval"},
		"bad schedule":       {store: store, kek: kek, opts: []keyring.Option{keyring.WithSchedule(keyring.Schedule{Every: 1})}, text: "Every"},
		"bad validity":       {store: store, kek: kek, opts: []keyring.Option{keyring.WithPublicationValidity(-1)}, text: "negative"},
		"other kek":          {store: store, kek: newKEK(t), want: keyring.ErrKEK},
		"other ring":         {store: store, kek: kek, opts: []keyring.Option{keyring.WithName("other")}, want: keyring.ErrCorrupt, text: `"default"'s, not "other"'s`},
		"store down":         {store: &link{Store: store, err: errStore}, kek: kek, want: errStore},
		"context ended":      {ctx: ended, store: store, kek: kek, want: context.Canceled},
		"kek fails at first": {store: keyring.NewMemoryStore(), kek: &kms{AEAD: kek, err: errKMS}, want: errKMS},
		"kek encrypts only":  {store: keyring.NewMemoryStore(), kek: encryptOnly{kek}, want: keyring.ErrKEK},
		"kek mixes up":       {store: keyring.NewMemoryStore(), kek: mixUp{}, want: keyring.ErrKEK},
		"a nil old kek":      {store: store, kek: keyring.KEKs(newKEK(t), nil), text: "is nil"},
		"a nil kek of two":   {store: keyring.NewMemoryStore(), kek: keyring.KEKs(nil, kek), text: "is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			before := load(t, store)
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			ring, err := keyring.Open(ctx, tc.store, tc.kek, tc.opts...)
			if err == nil || ring != nil {
				t.Fatalf("got %v, %v, want an error", ring, err)
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %q, want %q in it", err, tc.text)
			}
			if after := load(t, store); string(after.Data) != string(before.Data) {
				t.Error("the store was changed")
			}
			if tc.store != nil && tc.store != keyring.Store(store) && tc.want != errStore {
				if _, err := tc.store.Load(t.Context()); !errors.Is(err, keyring.ErrNotFound) {
					t.Errorf("something was stored: %v", err)
				}
			}
		})
	}
}

// encryptOnly is a key that may not decrypt.
type encryptOnly struct{ keyring.AEAD }

func (encryptOnly) Decrypt([]byte, []byte) ([]byte, error) { return nil, errKMS }

// mixUp decrypts to something else.
type mixUp struct{}

func (mixUp) Encrypt(b, _ []byte) ([]byte, error) { return b, nil }
func (mixUp) Decrypt(b, _ []byte) ([]byte, error) { return append([]byte{1}, b...), nil }

// A KMS that does not answer, and takes no context, does not outlast the caller's.
func TestOpenWithHangingKEK(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := keyring.Open(ctx, keyring.NewMemoryStore(), hanging(hang))
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, keyring.ErrKEK) {
		t.Errorf("got %v, want ErrKEK and context.DeadlineExceeded", err)
	}
}

type hanging chan struct{}

func (h hanging) Encrypt([]byte, []byte) ([]byte, error) { <-h; return nil, errKMS }
func (h hanging) Decrypt([]byte, []byte) ([]byte, error) { <-h; return nil, errKMS }

// New keys are of the suite of the primary, unless the options say otherwise.
func TestSuiteOfNewKeys(t *testing.T) {
	type kind struct {
		suite  seal.Suite
		prefix bool
	}
	first := []keyring.Option{keyring.WithSuite(seal.P256AES256GCM)}
	firstRaw := append(first, keyring.WithoutPrefix())
	for name, tc := range map[string]struct {
		first, then []keyring.Option
		want        kind
	}{
		"as before":         {first, nil, kind{seal.P256AES256GCM, true}},
		"as before, raw":    {firstRaw, nil, kind{seal.P256AES256GCM, false}},
		"another suite":     {first, []keyring.Option{keyring.WithSuite(seal.XWingAES256GCM)}, kind{seal.XWingAES256GCM, true}},
		"raw from now on":   {first, []keyring.Option{keyring.WithoutPrefix()}, kind{seal.P256AES256GCM, false}},
		"prefix from now":   {firstRaw, []keyring.Option{keyring.WithSuite(seal.P256AES256GCM)}, kind{seal.P256AES256GCM, true}},
		"another suite raw": {firstRaw, []keyring.Option{keyring.WithSuite(seal.X25519AES128GCM), keyring.WithoutPrefix()}, kind{seal.X25519AES128GCM, false}},
	} {
		t.Run(name, func(t *testing.T) {
			store, kek := keyring.NewMemoryStore(), newKEK(t)
			open(t, store, kek, append(tc.first, quiet())...)
			ring := open(t, store, kek, append(tc.then, quiet())...)
			if err := ring.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			keys := ring.KeySet().Keys()
			if got := (kind{keys[1].Suite(), keys[1].HasPrefix()}); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			// A ring of mixed keys opens again.
			open(t, store, kek, quiet())
		})
	}
}

// A replica asks the KMS once for each key and once for the ring, and then only for
// what is new.
func TestKMSCalls(t *testing.T) {
	store, a, b := keyring.NewMemoryStore(), newKMS(t), newKMS(t)
	b.AEAD = a.AEAD
	expect := func(what string, k *kms, encrypts, decrypts int) {
		t.Helper()
		if e, d := k.calls(); e != encrypts || d != decrypts {
			t.Errorf("%s: got %d encryptions and %d decryptions, want %d and %d", what, e, d, encrypts, decrypts)
		}
	}
	ringA := open(t, store, a, quiet())
	expect("making the ring", a, 2, 2) // each is tried after it was made
	ringB := open(t, store, b, quiet())
	expect("opening the ring", b, 0, 2)
	for range 5 {
		ringB.Tick(t.Context())
	}
	expect("reloading", b, 0, 0)
	if err := ringA.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("rotating", a, 1, 1)
	for range 5 {
		ringA.Tick(t.Context())
		ringB.Tick(t.Context())
	}
	expect("its own new key", a, 0, 0)
	expect("another's new key", b, 0, 1)
	if err := ringA.Revoke(t.Context(), ringA.KeySet().Primary().ID()); err != nil {
		t.Fatal(err)
	}
	ringB.Tick(t.Context())
	expect("a promotion", a, 0, 0)
	expect("another's promotion", b, 0, 0)
}

func TestPublished(t *testing.T) {
	ring := open(t, keyring.NewMemoryStore(), newKEK(t), quiet())
	before, keys := ring.Published()
	if len(keys) != 1 || !keys[0].Equal(ring.PublicKeys()[0]) || before == 0 {
		t.Errorf("got %d, %v", before, keys)
	}
	if err := ring.Revoke(t.Context(), keys[0].ID()); err != nil {
		t.Fatal(err)
	}
	after, keys := ring.Published()
	if after <= before || after != ring.Status().Serial || !keys[0].Equal(ring.PublicKeys()[0]) {
		t.Errorf("got %d and then %d, %v", before, after, keys)
	}
	if got := fmt.Sprint(ring.Schedule()); got != "{8760h0m0s 2m0s 720h0m0s}" {
		t.Errorf("got schedule %s", got)
	}
}
