package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// must is for examples only.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// silent keeps the examples' events off the log.
var silent = keyring.WithAudit(func(context.Context, keyring.Event) {})

func Example() {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		panic(err)
	}

	// A caller fetched the public key, and then the server rotates.
	public := ring.PublicKeys()[0]
	if err := ring.Rotate(context.Background()); err != nil {
		panic(err)
	}

	message, err := public.Seal(nil, []byte("sealed to the previous key"), nil)
	if err != nil {
		panic(err)
	}
	plaintext, err := ring.KeySet().Open(nil, message, nil)
	fmt.Println(string(plaintext), err)
	fmt.Println(len(ring.PublicKeys()), "keys")
	// Output:
	// sealed to the previous key <nil>
	// 2 keys
}

// One machine, five lines.
func ExampleOpenFile() {
	dir := must(os.MkdirTemp("", "ring"))
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	kek, err := keyring.LocalKeyFile(filepath.Join(dir, "ring.kek"))
	if err != nil {
		panic(err)
	}
	ring, err := keyring.OpenFile(ctx, filepath.Join(dir, "ring"), kek, silent)
	if err != nil {
		panic(err)
	}
	go ring.Run(ctx)
	m, err := sealhttp.New(ring)
	fmt.Println(m != nil, err)

	// Opened again, as after a restart, it is the same ring.
	again := must(keyring.OpenFile(ctx, filepath.Join(dir, "ring"), kek, silent))
	fmt.Println(again.PublicKeys()[0].Equal(ring.PublicKeys()[0]))
	// Output:
	// true <nil>
	// true
}

// Many replicas share one store, and a key-encryption key that a KMS holds.
func ExampleOpen() {
	store := keyring.NewMemoryStore()  // sqlstore.New(db, sqlstore.PostgreSQL).Keyring("api")
	kek := keyring.InsecurePlaintext() // an AEAD of Tink's that is backed by a KMS
	ctx := context.Background()

	replica1 := must(keyring.Open(ctx, store, kek, keyring.WithName("api"), silent))
	replica2 := must(keyring.Open(ctx, store, kek, keyring.WithName("api"), silent))
	fmt.Println(replica1.PublicKeys()[0].Equal(replica2.PublicKeys()[0]))

	_, err := keyring.Open(ctx, store, kek, keyring.WithName("other"), silent)
	fmt.Println(errors.Is(err, keyring.ErrCorrupt))
	// Output:
	// true
	// true
}

func ExampleNew() {
	// The newest key first, and the one that callers may still use.
	ring, err := keyring.New(
		must(seal.GenerateKey(seal.X25519AES256GCM)),
		must(seal.GenerateKey(seal.X25519AES256GCM)))
	fmt.Println(len(ring.PublicKeys()), err)
	// Output: 2 <nil>
}

func ExampleKeyring_Rotate() {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	ring, err := keyring.New(key)
	if err != nil {
		panic(err)
	}
	before := ring.KeySet() // what a request under way holds
	fmt.Println(ring.Rotate(context.Background()))
	fmt.Println(before.Primary().ID() == key.ID(), ring.KeySet().Primary().ID() == key.ID())
	// Output:
	// <nil>
	// true false
}

// In a store a rotation takes its time: first every replica gets the new key.
func ExampleKeyring_Rotate_stored() {
	ctx := context.Background()
	ring := must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(), silent))
	fmt.Println(ring.Rotate(keyring.ContextWithActor(ctx, "alice")))
	for _, k := range ring.Status().Keys {
		fmt.Println(k.State)
	}
	fmt.Println(len(ring.PublicKeys()), "key published,", len(ring.KeySet().Keys()), "held")
	// Output:
	// <nil>
	// primary
	// pending
	// 1 key published, 2 held
}

func ExampleKeyring_Revoke() {
	ctx := context.Background()
	ring := must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(), silent))
	compromised := ring.PublicKeys()[0]

	fmt.Println(ring.Revoke(ctx, compromised.ID()))
	message := must(compromised.Seal(nil, []byte("hello"), nil))
	_, err := ring.KeySet().Open(nil, message, nil)
	fmt.Println(err, "-", len(ring.PublicKeys()), "key published")
	fmt.Println(errors.Is(ring.Revoke(ctx, 7), keyring.ErrUnknownKey))
	// Output:
	// <nil>
	// unknown key - 1 key published
	// true
}

func ExampleKeyring_Rewrap() {
	dir := must(os.MkdirTemp("", "ring"))
	defer os.RemoveAll(dir)
	oldKEK := must(keyring.LocalKeyFile(filepath.Join(dir, "old.kek")))
	newKEK := must(keyring.LocalKeyFile(filepath.Join(dir, "new.kek")))
	ctx, store := context.Background(), keyring.NewMemoryStore()
	must(keyring.Open(ctx, store, oldKEK, silent))

	ring := must(keyring.Open(ctx, store, keyring.KEKs(newKEK, oldKEK), silent))
	fmt.Println(ring.Rewrap(ctx, newKEK))
	_, err := keyring.Open(ctx, store, newKEK, silent)
	fmt.Println("new:", err)
	_, err = keyring.Open(ctx, store, oldKEK, silent)
	fmt.Println("old:", errors.Is(err, keyring.ErrKEK))
	// Output:
	// <nil>
	// new: <nil>
	// old: true
}

func ExampleKeyring_Run() {
	ctx, stop := context.WithCancel(context.Background())
	ring := must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(), silent))
	done := make(chan error)
	go func() { done <- ring.Run(ctx) }()
	// Requests are served here. At shutdown:
	stop()
	fmt.Println(<-done)
	// Output: <nil>
}

// A middleware tells the ring which keys its callers use.
func ExampleKeyring_Used() {
	ring := must(keyring.New(must(seal.GenerateKey(seal.X25519AES256GCM))))
	m, err := sealhttp.New(ring, sealhttp.WithObserver(func(r *http.Request, e sealhttp.Event) {
		ring.Used(r.Context(), e.KeyID)
	}))
	fmt.Println(m != nil, err)

	// From then on, a previous key that is still used is an event, once a day.
	ctx := context.Background()
	ring = must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(),
		keyring.WithSchedule(keyring.Schedule{Lead: 2 * time.Millisecond}),
		keyring.WithAudit(func(_ context.Context, e keyring.Event) {
			if e.Type == keyring.EventPreviousKeyUsed {
				fmt.Println(e.Type, e.KeyID != 0)
			}
		})))
	old := ring.PublicKeys()[0].ID()
	if err := ring.Rotate(ctx); err != nil {
		panic(err)
	}
	running, stop := context.WithCancel(ctx)
	go ring.Run(running)
	for len(ring.PublicKeys()) < 2 {
		time.Sleep(time.Millisecond)
	}
	stop()
	ring.Used(ctx, old)
	ring.Used(ctx, old)
	// Output:
	// true <nil>
	// previous_key_used true
}

func ExampleKeyring_Status() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), silent))
	s := ring.Status()
	fmt.Println(s.Ring, s.Revision)
	for _, k := range s.Keys {
		fmt.Println(k.State, k.Suite, len(k.Fingerprint))
	}
	// Output:
	// default 1
	// primary X25519-AES256GCM 47
}

func ExampleKeyring_Published() {
	ring := must(keyring.New(must(seal.GenerateKey(seal.X25519AES256GCM))))
	before, _ := ring.Published()
	if err := ring.Rotate(context.Background()); err != nil {
		panic(err)
	}
	after, keys := ring.Published()
	fmt.Println(after > before, len(keys))
	// Output: true 2
}

func ExampleKeyring_PublicKeys() {
	key := must(seal.GenerateKey(seal.X25519AES256GCM))
	ring := must(keyring.New(key))
	fmt.Println(ring.PublicKeys()[0].Equal(key.Public()))
	// Output: true
}

func ExampleKeyring_KeySet() {
	ring := must(keyring.New(must(seal.GenerateKey(seal.X25519AES256GCM))))
	message := must(ring.PublicKeys()[0].Seal(nil, []byte("hello"), nil))
	plaintext, err := ring.KeySet().Open(nil, message, nil)
	fmt.Println(string(plaintext), err)
	// Output: hello <nil>
}

func ExampleKeyring_ServerKeys() {
	ring := must(keyring.New(must(seal.GenerateKey(seal.X25519AES256GCM))))
	var keys sealhttp.ServerKeys = ring
	set, err := keys.ServerKeys(context.Background())
	fmt.Println(len(set.Keys()), err)
	// Output: 1 <nil>
}

func ExampleKeyring_Schedule() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), silent))
	s := ring.Schedule()
	fmt.Println(s.Every, s.Lead, s.Overlap)
	// Output: 8760h0m0s 2m0s 720h0m0s
}

func ExampleWithSchedule() {
	const day = 24 * time.Hour
	open := func(s keyring.Schedule) error {
		_, err := keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), keyring.WithSchedule(s), silent)
		return err
	}
	fmt.Println(open(keyring.Schedule{Every: 90 * day, Lead: time.Hour, Overlap: 14 * day}))
	fmt.Println(open(keyring.Schedule{Every: time.Hour, Lead: time.Hour}))
	// Output:
	// <nil>
	// keyring: schedule: Every 1h0m0s is not above Lead 1h0m0s
}

func ExampleWithReloadInterval() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(),
		keyring.WithReloadInterval(10*time.Second), silent))
	fmt.Println("a new key is published after", ring.Schedule().Lead)
	// Output: a new key is published after 20s
}

func ExampleWithPublicationValidity() {
	_, err := keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(),
		keyring.WithPublicationValidity(7*24*time.Hour),
		keyring.WithSchedule(keyring.Schedule{Overlap: time.Hour}))
	fmt.Println(err)
	// Output: keyring: schedule: Overlap 1h0m0s is below the publication validity of 168h0m0s: callers would use a key that is gone
}

func ExampleWithName() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), keyring.WithName("payments"), silent))
	fmt.Println(ring.Status().Ring)
	// Output: payments
}

func ExampleWithSuite() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), keyring.WithSuite(seal.XWingAES256GCM), silent))
	fmt.Println(ring.PublicKeys()[0].Suite())
	// Output: XWING-AES256GCM
}

func ExampleWithoutPrefix() {
	ring := must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), keyring.WithoutPrefix(), silent))
	fmt.Println(ring.PublicKeys()[0].HasPrefix())
	// Output: false
}

func ExampleWithAudit() {
	ctx := context.Background()
	ring := must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(),
		keyring.WithAudit(func(_ context.Context, e keyring.Event) {
			fmt.Printf("revision %d: %s %q\n", e.Revision, e.Type, e.Actor)
		})))
	if err := ring.Rotate(keyring.ContextWithActor(ctx, "alice")); err != nil {
		panic(err)
	}
	// Output:
	// revision 1: generated ""
	// revision 1: published ""
	// revision 1: promoted ""
	// revision 2: generated "alice"
}

func ExampleContextWithActor() {
	ctx := context.Background()
	ring := must(keyring.Open(ctx, keyring.NewMemoryStore(), keyring.InsecurePlaintext(),
		keyring.WithAudit(func(_ context.Context, e keyring.Event) {
			if e.Actor != "" {
				fmt.Println(e.Actor, e.Type)
			}
		})))
	if err := ring.Rotate(keyring.ContextWithActor(ctx, "alice")); err != nil {
		panic(err)
	}
	// Output: alice generated
}

func ExampleLogTo() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // what differs from run to run
			if a.Key == slog.TimeKey || a.Key == "key_id" || a.Key == "fingerprint" {
				return slog.Attr{}
			}
			return a
		},
	}))
	must(keyring.Open(context.Background(), keyring.NewMemoryStore(), keyring.InsecurePlaintext(), keyring.WithAudit(keyring.LogTo(logger))))
	// Output:
	// level=INFO msg="keyring: generated" ring=default revision=1
	// level=INFO msg="keyring: published" ring=default revision=1
	// level=INFO msg="keyring: promoted" ring=default revision=1
}

func ExampleLocalKeyFile() {
	dir := must(os.MkdirTemp("", "ring"))
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ring.kek")
	kek, err := keyring.LocalKeyFile(path)
	fmt.Println(kek != nil, err)
	fmt.Println(must(os.Stat(path)).Mode())
	// Output:
	// true <nil>
	// -rw-------
}

func ExampleKEKs() {
	dir := must(os.MkdirTemp("", "ring"))
	defer os.RemoveAll(dir)
	oldKEK := must(keyring.LocalKeyFile(filepath.Join(dir, "old.kek")))
	newKEK := must(keyring.LocalKeyFile(filepath.Join(dir, "new.kek")))
	ciphertext := must(oldKEK.Encrypt([]byte("secret"), nil))

	both := keyring.KEKs(newKEK, oldKEK)
	plaintext, err := both.Decrypt(ciphertext, nil)
	fmt.Println(string(plaintext), err)
	// Output: secret <nil>
}

func ExampleInsecurePlaintext() {
	kek := keyring.InsecurePlaintext()
	fmt.Println(string(must(kek.Encrypt([]byte("not a secret any more"), nil))))
	// Output: not a secret any more
}

func ExampleNewMemoryStore() {
	ctx, store := context.Background(), keyring.NewMemoryStore()
	_, err := store.Load(ctx)
	fmt.Println(errors.Is(err, keyring.ErrNotFound))
	fmt.Println(store.Swap(ctx, 0, keyring.State{Revision: 1, Data: []byte("first")}, nil))
	err = store.Swap(ctx, 0, keyring.State{Revision: 1, Data: []byte("too late")}, nil)
	fmt.Println(errors.Is(err, keyring.ErrConflict))
	// Output:
	// true
	// <nil>
	// true
}

func ExampleNewFileStore() {
	dir := must(os.MkdirTemp("", "ring"))
	defer os.RemoveAll(dir)
	ctx, store := context.Background(), must(keyring.NewFileStore(filepath.Join(dir, "ring")))
	fmt.Println(store.Swap(ctx, 0, keyring.State{Revision: 1, Data: []byte("first")}, nil))
	fmt.Printf("%s\n", must(store.Load(ctx)).Data)
	// Output:
	// <nil>
	// first
}
