package accounts

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// A Store keeps one record an account: bytes that only this package reads, and
// their revision. It must be safe for use by several goroutines at once, and what
// a Swap has stored must be seen by every Load that starts after it, on every
// replica. Package accountstest tests one.
//
// For the context's end, a method returns its error. Slices belong to who has
// them: a store copies what it keeps.
type Store interface {
	// Load returns an account's record, or an error that wraps [ErrNotFound].
	Load(ctx context.Context, account string) (Record, error)
	// Swap stores next, if the account's stored revision is still old (0: none is
	// stored), with the audit events, in one transaction. Otherwise it changes
	// nothing and returns an error that wraps [ErrConflict].
	//
	// next.Account is account, and next.Revision is old+1.
	Swap(ctx context.Context, account string, old uint64, next Record, events []Event) error
	// List returns records in the order of the bytes of their accounts, those that
	// come after a name, at most limit.
	List(ctx context.Context, after string, limit int) ([]Record, error)
}

// Record is what a [Store] keeps of one account.
type Record struct {
	// Account is the account's name, and the key that the record is stored under.
	Account string
	// Revision starts at 1 and grows by 1.
	Revision uint64
	// Data is a JSON object without white space, of less than 64 KiB, with a version
	// of its own.
	Data []byte
}

func (r Record) clone() Record {
	r.Data = bytes.Clone(r.Data)
	return r
}

// CheckSwap reports what is wrong with the arguments of a [Store]'s Swap, before
// it looks at what is stored.
func CheckSwap(account string, old uint64, next Record) error {
	switch {
	case next.Account != account:
		return fmt.Errorf("accounts: swap of account %q with a record of %q", account, next.Account)
	case next.Revision != old+1:
		return fmt.Errorf("accounts: swap of revision %d with revision %d, want %d", old, next.Revision, old+1)
	}
	return nil
}

// MemoryStore is a [Store] in memory, for tests and for programs whose accounts
// need not outlive them. It keeps no events.
type MemoryStore struct {
	mu      sync.Mutex
	records map[string]Record
}

// NewMemoryStore makes a store without records.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{records: make(map[string]Record)}
}

// Load returns an account's record, or an error that wraps [ErrNotFound].
func (s *MemoryStore) Load(ctx context.Context, account string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return find(s.records, account)
}

// Swap stores next if the stored revision is still old.
func (s *MemoryStore) Swap(ctx context.Context, account string, old uint64, next Record, _ []Event) error {
	if err := CheckSwap(account, old, next); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkRevision(s.records, account, old); err != nil {
		return err
	}
	s.records[account] = next.clone()
	return nil
}

// List returns records in the order of their accounts.
func (s *MemoryStore) List(ctx context.Context, after string, limit int) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.records, after, limit), nil
}

// The rules of a store, for those that have all records in a map.

func find(records map[string]Record, account string) (Record, error) {
	r, ok := records[account]
	if !ok {
		return Record{}, fmt.Errorf("accounts: account %q: %w", account, ErrNotFound)
	}
	return r.clone(), nil
}

func checkRevision(records map[string]Record, account string, old uint64) error {
	if stored := records[account].Revision; stored != old {
		return fmt.Errorf("accounts: account %q is at revision %d, not %d: %w", account, stored, old, ErrConflict)
	}
	return nil
}

func page(records map[string]Record, after string, limit int) []Record {
	var list []Record
	for _, account := range slices.Sorted(maps.Keys(records)) {
		if account > after && len(list) < limit {
			list = append(list, records[account].clone())
		}
	}
	return list
}
