package accountstest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/accounts/accountstest"
)

// store is a memory store that keeps events, with one fault.
type store struct {
	*accounts.MemoryStore
	fault string

	mu     sync.Mutex
	events []accounts.Event
	kept   map[string]accounts.Record // of the fault "keeps slices"
}

// faults are what the kit must find, and in which of its tests.
var faults = map[string]string{
	"none":                         "",
	"no record is no error":        "NotFound",
	"no ErrConflict":               "Swap",
	"takes every revision":         "Swap",
	"checks no arguments":          "Arguments",
	"keeps slices":                 "Isolation",
	"names in lower case":          "Names",
	"names without trailing space": "Names",
	"lists from a name on":         "List",
	"lists backwards":              "List",
	"lists one too many":           "List",
	"ignores the context":          "Context",
	"another store each time":      "Replicas",
	"checks, then stores":          "Concurrency",
	"no events":                    "Events",
	"events of what was refused":   "Events",
	"events without their reason":  "Events",
}

func (s *store) name(account string) string {
	switch s.fault {
	case "names in lower case":
		return strings.ToLower(account)
	case "names without trailing space":
		return strings.TrimRight(account, " ") + "."
	}
	return account
}

func (s *store) Load(ctx context.Context, account string) (accounts.Record, error) {
	if s.fault == "ignores the context" {
		ctx = context.WithoutCancel(ctx)
	}
	if s.fault == "keeps slices" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r, ok := s.kept[account]; ok {
			return r, nil
		}
	}
	r, err := s.MemoryStore.Load(ctx, s.name(account))
	if s.fault == "no record is no error" && errors.Is(err, accounts.ErrNotFound) {
		return accounts.Record{}, nil
	}
	if err == nil {
		r.Account = account
	}
	return r, err
}

func (s *store) Swap(ctx context.Context, account string, old uint64, next accounts.Record, events []accounts.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.Account == account {
		next.Account = s.name(account)
	}
	account = s.name(account)
	if s.fault == "ignores the context" {
		ctx = context.WithoutCancel(ctx)
	}
	if s.fault == "checks no arguments" {
		next.Account, next.Revision = account, old+1
	}
	if s.fault == "takes every revision" {
		if r, err := s.MemoryStore.Load(ctx, account); err == nil {
			old = r.Revision
		} else {
			old = 0
		}
		next.Revision = old + 1
	}
	if s.fault == "checks, then stores" {
		r, _ := s.MemoryStore.Load(ctx, account)
		if r.Revision != old {
			return accounts.ErrConflict
		}
		s.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // others come in between
		s.mu.Lock()
		r, _ = s.MemoryStore.Load(ctx, account)
		old, next.Revision = r.Revision, r.Revision+1
	}
	err := s.MemoryStore.Swap(ctx, account, old, next, events)
	if s.fault == "no ErrConflict" && errors.Is(err, accounts.ErrConflict) {
		return errors.New("no")
	}
	if s.fault == "keeps slices" && err == nil {
		s.kept[account] = next
	}
	if err == nil && s.fault != "no events" || s.fault == "events of what was refused" {
		events = slices.Clone(events)
		for i := range events {
			if s.fault == "events without their reason" {
				events[i].Reason = ""
			}
		}
		s.events = append(s.events, events...)
	}
	return err
}

func (s *store) List(ctx context.Context, after string, limit int) ([]accounts.Record, error) {
	switch s.fault {
	case "ignores the context":
		ctx = context.WithoutCancel(ctx)
	case "lists from a name on":
		list, err := s.MemoryStore.List(ctx, after, limit)
		if r, e := s.MemoryStore.Load(ctx, after); e == nil && err == nil && limit > 1 {
			list = slices.Insert(list, 0, r)[:min(limit, len(list)+1)]
		}
		return list, err
	case "lists backwards":
		list, err := s.MemoryStore.List(ctx, after, limit)
		slices.Reverse(list)
		return list, err
	case "lists one too many":
		limit++
	}
	return s.MemoryStore.List(ctx, after, limit)
}

const variable = "ACCOUNTSTEST_FAULT"

// TestFaulty is the kit over a store with the fault that the environment names.
func TestFaulty(t *testing.T) {
	fault := os.Getenv(variable)
	if fault == "" {
		fault = "none"
	}
	accountstest.Run(t, func(*testing.T) accountstest.Fixture {
		newStore := func() *store {
			return &store{MemoryStore: accounts.NewMemoryStore(), fault: fault, kept: make(map[string]accounts.Record)}
		}
		s := newStore()
		return accountstest.Fixture{
			Open: func(*testing.T) accounts.Store {
				if fault == "another store each time" {
					return newStore()
				}
				return s
			},
			Events: func(*testing.T) []accounts.Event { return s.events },
		}
	})
}

// TestFaults checks that the kit finds each fault, in the test where it belongs.
// Each runs in a process of its own, since what finds a fault fails.
func TestFaults(t *testing.T) {
	for fault, where := range faults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaulty$", "-test.timeout=30s")
			child.Env = append(os.Environ(), variable+"="+fault)
			out, err := child.CombinedOutput()
			if where == "" {
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestFaulty/"+where+" ") {
				t.Fatalf("%v, and %s has not failed:\n%s", err, where, out)
			}
		})
	}
}
