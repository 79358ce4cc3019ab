package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Store keeps one key ring for all replicas: bytes that only this package reads,
// and their revision. It must be safe for use by several goroutines and processes
// at once, and return when the context ends. keyring/storetest tests one.
type Store interface {
	// Load returns the current state, or an error that wraps [ErrNotFound] if there
	// is none yet. Once a Swap has returned, Load returns its state or a later one.
	Load(ctx context.Context) (State, error)
	// Swap stores next if the stored revision is still old (0: nothing is stored
	// yet), with the audit events, in one transaction. Otherwise it changes nothing
	// and returns an error that wraps [ErrConflict].
	Swap(ctx context.Context, old uint64, next State, events []Event) error
}

// State is what a [Store] keeps.
type State struct {
	// Revision counts the writes. It starts at 1 and grows by 1.
	Revision uint64
	// Data is to be stored byte for byte.
	Data []byte
}

// What a [Store] can answer. Any other error means that it could not be reached.
var (
	// ErrNotFound is a Store in which nothing is stored yet.
	ErrNotFound = errors.New("nothing is stored yet")
	// ErrConflict is a Swap that came too late: another replica has changed the
	// state.
	ErrConflict = errors.New("the stored state has another revision")
)

// MemoryStore is a [Store] in memory, for tests and for several rings in one
// process. It keeps no audit events. Its zero value is ready to use.
type MemoryStore struct {
	mu    sync.Mutex
	state State
}

// NewMemoryStore makes an empty MemoryStore.
func NewMemoryStore() *MemoryStore { return new(MemoryStore) }

// Load returns what was stored last.
func (s *MemoryStore) Load(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, fmt.Errorf("keyring: memory store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Revision == 0 {
		return State{}, fmt.Errorf("keyring: memory store: %w", ErrNotFound)
	}
	return State{s.state.Revision, bytes.Clone(s.state.Data)}, nil
}

// Swap stores next if old is the stored revision.
func (s *MemoryStore) Swap(ctx context.Context, old uint64, next State, _ []Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("keyring: memory store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Revision != old {
		return conflict("memory store", s.state.Revision, old)
	}
	s.state = State{next.Revision, bytes.Clone(next.Data)}
	return nil
}

func conflict(store string, stored, old uint64) error {
	return fmt.Errorf("keyring: %s: %w: %d, not %d", store, ErrConflict, stored, old)
}
