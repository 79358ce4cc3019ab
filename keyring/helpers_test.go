package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// journal keeps the events of one or more replicas.
type journal struct {
	mu     sync.Mutex
	events []keyring.Event
}

func (j *journal) add(_ context.Context, e keyring.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// take returns the events so far, and forgets them.
func (j *journal) take() []keyring.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.events
	j.events = nil
	return events
}

// types is take, of the types only.
func (j *journal) types() []keyring.EventType {
	var types []keyring.EventType
	for _, e := range j.take() {
		types = append(types, e.Type)
	}
	return types
}

func (j *journal) expect(t *testing.T, want ...keyring.EventType) {
	t.Helper()
	if got := j.types(); !slices.Equal(got, want) {
		t.Errorf("got events %q, want %q", got, want)
	}
}

// kms is an AEAD that counts its calls, and fails if it is told to.
type kms struct {
	keyring.AEAD
	mu       sync.Mutex
	encrypts int
	decrypts int
	err      error
	data     [][]byte // associated data of Encrypt
}

var errKMS = errors.New("the KMS is down")

func newKMS(t *testing.T) *kms {
	t.Helper()
	return &kms{AEAD: newKEK(t)}
}

func newKEK(t *testing.T) keyring.AEAD {
	t.Helper()
	kek, err := keyring.LocalKeyFile(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func (k *kms) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// calls returns how often it was called since the last time.
func (k *kms) calls() (encrypts, decrypts int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	encrypts, decrypts = k.encrypts, k.decrypts
	k.encrypts, k.decrypts = 0, 0
	return encrypts, decrypts
}

func (k *kms) Encrypt(plaintext, data []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.encrypts++
	k.data = append(k.data, bytes.Clone(data))
	if k.err != nil {
		return nil, k.err
	}
	return k.AEAD.Encrypt(plaintext, data)
}

func (k *kms) Decrypt(ciphertext, data []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.decrypts++
	if k.err != nil {
		return nil, k.err
	}
	return k.AEAD.Decrypt(ciphertext, data)
}

// link is a replica's way to a store. It can break, and lie.
type link struct {
	keyring.Store
	mu     sync.Mutex
	err    error
	loads  int
	events [][]keyring.Event // of the Swaps that were done
	swap   func(ctx context.Context, old uint64, next keyring.State, events []keyring.Event) error
}

var errStore = errors.New("the store is down")

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads++
	return l.err
}

func (l *link) Load(ctx context.Context) (keyring.State, error) {
	if err := l.failure(); err != nil {
		return keyring.State{}, err
	}
	return l.Store.Load(ctx)
}

func (l *link) Swap(ctx context.Context, old uint64, next keyring.State, events []keyring.Event) error {
	if err := l.failure(); err != nil {
		return err
	}
	if l.swap != nil {
		return l.swap(ctx, old, next, events)
	}
	err := l.Store.Swap(ctx, old, next, events)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, events)
	}
	return err
}

// open opens a ring, and fails the test if that fails.
func open(t *testing.T, store keyring.Store, kek keyring.AEAD, opts ...keyring.Option) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.Open(t.Context(), store, kek, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// run runs replicas until the test ends, or stop is called, which waits for them.
func run(t *testing.T, rings ...*keyring.Keyring) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, ring := range rings {
		wg.Go(func() {
			if err := ring.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// states returns a ring's keys by state, and checks what must always hold.
func states(t *testing.T, ring *keyring.Keyring) map[keyring.KeyState][]uint32 {
	t.Helper()
	status := ring.Status()
	ids := make(map[keyring.KeyState][]uint32)
	for _, k := range status.Keys {
		ids[k.State] = append(ids[k.State], k.ID)
		if (k.Public == nil) != (k.State == keyring.Retired) {
			t.Errorf("a %s key with public half %v", k.State, k.Public)
		}
	}
	if len(ids[keyring.Primary]) != 1 || len(ids[keyring.Pending]) > 1 {
		t.Fatalf("got %v, want one primary and at most one pending key", ids)
	}
	return ids
}

// expectKeys checks the numbers of keys by state, and that the key set and what is
// published fit.
func expectKeys(t *testing.T, ring *keyring.Keyring, pending, previous, retired int) {
	t.Helper()
	ids := states(t, ring)
	if len(ids[keyring.Pending]) != pending || len(ids[keyring.Previous]) != previous || len(ids[keyring.Retired]) != retired {
		t.Errorf("got %v, want %d pending, %d previous and %d retired", ids, pending, previous, retired)
	}
	published := append(slices.Clone(ids[keyring.Primary]), ids[keyring.Previous]...)
	var public, held []uint32
	for _, k := range ring.PublicKeys() {
		public = append(public, k.ID())
	}
	for _, k := range ring.KeySet().Keys() {
		held = append(held, k.ID())
	}
	if !slices.Equal(public, published) {
		t.Errorf("published %v, want %v", public, published)
	}
	if want := append(published, ids[keyring.Pending]...); !slices.Equal(held, want) {
		t.Errorf("key set of %v, want %v", held, want)
	}
}

// expectOpens checks that a ring opens, or does not, what is sealed to a key.
func expectOpens(t *testing.T, ring *keyring.Keyring, key *seal.PublicKey, want error) {
	t.Helper()
	message, err := key.Seal(nil, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.KeySet().Open(nil, message, nil); !errors.Is(err, want) {
		t.Errorf("opening for key %d: got %v, want %v", key.ID(), err, want)
	}
}

// load returns what a store holds.
func load(t *testing.T, store keyring.Store) keyring.State {
	t.Helper()
	state, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// put makes a store hold a state, whatever it held.
func put(t *testing.T, store *keyring.MemoryStore, state keyring.State) {
	t.Helper()
	old := uint64(0)
	if s, err := store.Load(t.Context()); err == nil {
		old = s.Revision
	}
	if err := store.Swap(t.Context(), old, state, nil); err != nil {
		t.Fatal(err)
	}
}

// quiet is an option for tests that do not look at events.
func quiet() keyring.Option {
	return keyring.WithAudit(func(context.Context, keyring.Event) {})
}

const (
	hour   = time.Hour
	minute = time.Minute
)

// newLogger makes a logger that hands on lines without their time.
func newLogger(line func(string)) *slog.Logger {
	return slog.New(slog.NewTextHandler(lineWriter(line), &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

type lineWriter func(string)

func (w lineWriter) Write(b []byte) (int, error) {
	w(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// sleep lets time pass in a bubble, and all that falls due happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func contextWith(t *testing.T, key, value any) context.Context {
	return context.WithValue(t.Context(), key, value)
}

// contextKEK is a kek that must be called with a context that carries a value.
type contextKEK struct {
	keyring.AEAD
	key, want any
}

var errNoContext = errors.New("called without its context")

func (k contextKEK) Encrypt([]byte, []byte) ([]byte, error) { return nil, errNoContext }
func (k contextKEK) Decrypt([]byte, []byte) ([]byte, error) { return nil, errNoContext }

func (k contextKEK) EncryptWithContext(ctx context.Context, plaintext, data []byte) ([]byte, error) {
	if ctx.Value(k.key) != k.want {
		return nil, errNoContext
	}
	return k.AEAD.Encrypt(plaintext, data)
}

func (k contextKEK) DecryptWithContext(ctx context.Context, ciphertext, data []byte) ([]byte, error) {
	if ctx.Value(k.key) != k.want {
		return nil, errNoContext
	}
	return k.AEAD.Decrypt(ciphertext, data)
}
