package accounts_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: %v, want an error that is %q", what, err, target)
	}
}

func generate(t testing.TB, suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey(suite, opts...)
	check(t, err)
	return key
}

// tinkForm is the form that most tests register.
func tinkForm(t testing.TB, keys ...*seal.PrivateKey) accounts.KeyForm {
	t.Helper()
	var public []*seal.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	keyset, err := tinkkeys.Public(public...)
	check(t, err)
	return accounts.KeyForm{Tink: keyset}
}

// trail collects events.
type trail struct {
	mu     sync.Mutex
	events []accounts.Event
}

func (a *trail) add(_ context.Context, e accounts.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

// take returns the events since it was last called.
func (a *trail) take() []accounts.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.events
	a.events = nil
	return events
}

// types are what most tests look at.
func types(events []accounts.Event) []accounts.EventType {
	var all []accounts.EventType
	for _, e := range events {
		all = append(all, e.Type)
	}
	return all
}

func (a *trail) want(t testing.TB, expected ...accounts.EventType) {
	t.Helper()
	if got := types(a.take()); !slices.Equal(got, expected) {
		t.Fatalf("the events are %q, want %q", got, expected)
	}
}

// testStore is a memory store that counts, fails at will, and keeps the events of
// what it stored.
type testStore struct {
	*accounts.MemoryStore
	mu     sync.Mutex
	loads  int
	swaps  int
	err    error // of all methods, if set
	events []accounts.Event
	// loading, if set, is called by Load after it has read.
	loading func()
	// swapping, if set, is called by Swap before it does anything.
	swapping func()
}

func newTestStore() *testStore { return &testStore{MemoryStore: accounts.NewMemoryStore()} }

func (s *testStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *testStore) counts() (loads, swaps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads, s.swaps
}

func (s *testStore) stored() []accounts.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func (s *testStore) Load(ctx context.Context, account string) (accounts.Record, error) {
	s.mu.Lock()
	s.loads++
	err, loading := s.err, s.loading
	s.mu.Unlock()
	if err != nil {
		return accounts.Record{}, err
	}
	r, err := s.MemoryStore.Load(ctx, account)
	if loading != nil {
		loading()
	}
	return r, err
}

func (s *testStore) Swap(ctx context.Context, account string, old uint64, next accounts.Record, events []accounts.Event) error {
	s.mu.Lock()
	s.swaps++
	err, swapping := s.err, s.swapping
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if swapping != nil {
		swapping()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.MemoryStore.Swap(ctx, account, old, next, events)
	if err == nil {
		s.events = append(s.events, events...)
	}
	return err
}

func (s *testStore) List(ctx context.Context, after string, limit int) ([]accounts.Record, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.MemoryStore.List(ctx, after, limit)
}

// fixture is a registry over a store of its own.
type fixture struct {
	*accounts.Registry
	store *testStore
	trail *trail
}

func newFixture(t testing.TB, opts ...accounts.Option) *fixture {
	t.Helper()
	f := &fixture{store: newTestStore(), trail: new(trail)}
	f.Registry = newRegistry(t, f.store, append([]accounts.Option{accounts.WithAudit(f.trail.add)}, opts...)...)
	return f
}

func newRegistry(t testing.TB, store accounts.Store, opts ...accounts.Option) *accounts.Registry {
	t.Helper()
	quiet := accounts.WithLogger(slog.New(slog.DiscardHandler))
	r, err := accounts.New(store, append([]accounts.Option{quiet}, opts...)...)
	check(t, err)
	return r
}

func ctxOf(account string) context.Context {
	return sealhttp.ContextWithAccount(context.Background(), account)
}

// requestOf is a request of an account, as resolvers see it.
func requestOf(account string) *http.Request {
	return httptest.NewRequest("GET", "/", nil).WithContext(ctxOf(account))
}

// enrol registers and proves a key, which is approved by the key before it if
// there is one.
func enrol(t testing.TB, r *accounts.Registry, account string, key *seal.PrivateKey, approver ...*seal.PrivateKey) accounts.Key {
	t.Helper()
	ctx := ctxOf(account)
	form := tinkForm(t, key)
	var err error
	if len(approver) > 0 {
		_, err = r.Replace(ctx, account, approver[0].ID(), form)
	} else {
		_, err = r.Register(ctx, account, form)
	}
	check(t, err)
	proved, err := r.Prove(ctx, account, key.ID(), challenged(t, r, account, key, approver...))
	check(t, err)
	return proved
}

// challenged asks for a challenge and opens it.
func challenged(t testing.TB, r *accounts.Registry, account string, key *seal.PrivateKey, approver ...*seal.PrivateKey) []byte {
	t.Helper()
	c, err := r.Challenge(ctxOf(account), account, key.ID())
	check(t, err)
	opened, err := c.Open(account, key, approver...)
	check(t, err)
	return opened
}

// wantKeys checks an account's keys: pairs of a key and its state.
func wantKeys(t testing.TB, r *accounts.Registry, account string, pairs ...any) {
	t.Helper()
	a, err := r.List(t.Context(), account)
	check(t, err)
	var got, expected []string
	for _, k := range a.Keys {
		got = append(got, k.Fingerprint()+" "+string(k.State))
	}
	var current *seal.PublicKey
	for i := 0; i < len(pairs); i += 2 {
		key, state := pairs[i].(*seal.PrivateKey).Public(), pairs[i+1].(accounts.KeyState)
		expected = append(expected, key.Fingerprint()+" "+string(state))
		if state == accounts.Current {
			current = key
		}
	}
	if !slices.Equal(got, expected) {
		t.Fatalf("the keys are\n%q, want\n%q", got, expected)
	}
	key, err := r.ClientKey(requestOf(account))
	if current == nil {
		wantIs(t, "ClientKey", err, sealhttp.ErrNoClientKey)
	} else if err != nil || !key.Equal(current) {
		t.Fatalf("ClientKey = %v, %v, want %v", key, err, current)
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
