package storetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/keyring/storetest"
)

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) keyring.Store { return keyring.NewMemoryStore() })
}

func TestFileStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) keyring.Store {
		store, err := keyring.NewFileStore(filepath.Join(t.TempDir(), "ring"))
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
}

// Two handles of one file, as two processes have them.
func TestFileStoreTwice(t *testing.T) {
	storetest.Run(t, func(t *testing.T) keyring.Store {
		path := filepath.Join(t.TempDir(), "ring")
		var both alternating
		for i := range both.stores {
			store, err := keyring.NewFileStore(path)
			if err != nil {
				t.Fatal(err)
			}
			both.stores[i] = store
		}
		return &both
	})
}

// alternating uses two stores in turn.
type alternating struct {
	stores [2]keyring.Store
	turn   atomic.Uint32
}

func (a *alternating) next() keyring.Store { return a.stores[a.turn.Add(1)%2] }

func (a *alternating) Load(ctx context.Context) (keyring.State, error) { return a.next().Load(ctx) }

func (a *alternating) Swap(ctx context.Context, old uint64, next keyring.State, events []keyring.Event) error {
	return a.next().Swap(ctx, old, next, events)
}

// broken are stores that break a promise, by the subtest that must find out.
var broken = map[string]func() keyring.Store{
	"Empty": func() keyring.Store {
		return &brokenStore{load: func(s keyring.State, err error) (keyring.State, error) {
			if errors.Is(err, keyring.ErrNotFound) {
				err = nil
			}
			return s, err
		}}
	},
	"Conflict": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			s.state.Store(&next) // whatever old is
			return nil
		}}
	},
	"Swap": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			if next.Revision > 10 { // full
				return errors.New("full")
			}
			return s.swapRight(old, next)
		}}
	},
	"Bytes": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			var compact bytes.Buffer
			if json.Compact(&compact, next.Data) == nil { // as jsonb does
				next.Data = compact.Bytes()
			}
			return s.swapRight(old, next)
		}}
	},
	"Context": func() keyring.Store { return &brokenStore{ignoreContext: true} },
	"Aliasing": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			current := s.current()
			if current.Revision != old {
				return keyring.ErrConflict
			}
			s.state.Store(&next)
			return nil
		}}
	},
	"Race": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			if s.current().Revision != old { // checks and writes, and not at once
				return keyring.ErrConflict
			}
			time.Sleep(time.Millisecond)
			next.Data = bytes.Clone(next.Data)
			s.state.Store(&next)
			return nil
		}}
	},
	"FirstRace": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			if old == 0 { // "insert or replace"
				next.Data = bytes.Clone(next.Data)
				s.state.Store(&next)
				return nil
			}
			return s.swapRight(old, next)
		}}
	},
	"Ring": func() keyring.Store {
		return &brokenStore{swap: func(s *brokenStore, old uint64, next keyring.State) error {
			if old > 0 && bytes.Contains(next.Data, []byte(`"retired"`)) {
				return errors.New("no")
			}
			return s.swapRight(old, next)
		}}
	},
}

// brokenStore is a good store but for what is broken in it.
type brokenStore struct {
	state         atomic.Pointer[keyring.State]
	ignoreContext bool
	load          func(keyring.State, error) (keyring.State, error)
	swap          func(s *brokenStore, old uint64, next keyring.State) error
}

func (s *brokenStore) current() keyring.State {
	if p := s.state.Load(); p != nil {
		return *p
	}
	return keyring.State{}
}

func (s *brokenStore) Load(ctx context.Context) (keyring.State, error) {
	if err := ctx.Err(); err != nil && !s.ignoreContext {
		return keyring.State{}, err
	}
	got := s.current()
	got.Data = bytes.Clone(got.Data)
	var err error
	if got.Revision == 0 {
		err = keyring.ErrNotFound
	}
	if s.load != nil {
		return s.load(got, err)
	}
	return got, err
}

func (s *brokenStore) Swap(ctx context.Context, old uint64, next keyring.State, _ []keyring.Event) error {
	if err := ctx.Err(); err != nil && !s.ignoreContext {
		return err
	}
	if s.swap != nil {
		return s.swap(s, old, next)
	}
	return s.swapRight(old, next)
}

func (s *brokenStore) swapRight(old uint64, next keyring.State) error {
	p := s.state.Load()
	if s.current().Revision != old {
		return keyring.ErrConflict
	}
	next.Data = bytes.Clone(next.Data)
	if !s.state.CompareAndSwap(p, &next) {
		return keyring.ErrConflict
	}
	return nil
}

const brokenVariable = "STORETEST_BROKEN"

// TestBroken runs the kit over a broken store, in a process of its own that is
// expected to fail.
func TestBroken(t *testing.T) {
	if name := os.Getenv(brokenVariable); name != "" {
		storetest.Run(t, func(*testing.T) keyring.Store {
			if name == "none" {
				return &brokenStore{}
			}
			return broken[name]()
		})
		return
	}
	t.Parallel()
	for name := range broken {
		t.Run(name, func(t *testing.T) {
			out, failed := runBroken(t, name)
			if !failed || !strings.Contains(out, "--- FAIL: TestBroken/"+name+" ") {
				t.Errorf("subtest %s has not found out:\n%s", name, out)
			}
		})
	}
	if out, failed := runBroken(t, "none"); failed {
		t.Errorf("a store that is not broken:\n%s", out)
	}
}

func runBroken(t *testing.T, name string) (string, bool) {
	t.Helper()
	pattern := "^TestBroken$/^" + name + "$"
	if name == "none" {
		pattern = "^TestBroken$"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", pattern)
	cmd.Env = append(os.Environ(), brokenVariable+"="+name)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err != nil
}
