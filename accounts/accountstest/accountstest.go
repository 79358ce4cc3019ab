// Package accountstest tests implementations of accounts.Store.
package accountstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/accounts"
)

// Fixture is a store's state, which starts empty.
type Fixture struct {
	// Open returns a store over the state: another one each time, as another
	// replica has it, or the same where there are no others.
	Open func(t *testing.T) accounts.Store
	// Events returns the events that are stored, in their order. It is nil for a
	// store that keeps none.
	Events func(t *testing.T) []accounts.Event
}

// Run tests a store as subtests of t. fresh makes a new state, and leaves to
// t.Cleanup what is to be done after.
func Run(t *testing.T, fresh func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		f    func(*testing.T, *suite)
	}{
		{"NotFound", testNotFound},
		{"Swap", testSwap},
		{"Arguments", testArguments},
		{"Isolation", testIsolation},
		{"Names", testNames},
		{"List", testList},
		{"LargeRecord", testLargeRecord},
		{"Context", testContext},
		{"Replicas", testReplicas},
		{"Concurrency", testConcurrency},
		{"Events", testEvents},
	} {
		t.Run(test.name, func(t *testing.T) {
			fixture := fresh(t)
			test.f(t, &suite{fixture, fixture.Open(t)})
		})
	}
}

type suite struct {
	Fixture
	store accounts.Store
}

// record makes a record whose data tell a number.
func record(account string, revision uint64, n int) accounts.Record {
	data, err := json.Marshal(map[string]any{"version": 1, "account": account, "n": n, "text": "<&> \u2028 \\ ' \" %"})
	if err != nil {
		panic(err)
	}
	return accounts.Record{Account: account, Revision: revision, Data: data}
}

func event(account string, n int) accounts.Event {
	return accounts.Event{
		Time:        time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC),
		Type:        accounts.EventRegistered,
		Account:     account,
		Actor:       "operator <o'hara@example.com>",
		KeyID:       4_000_000_000,
		Fingerprint: "00000-11111-22222-33333-44444-55555-65535-00001",
		By:          4_294_967_295,
		Reason:      "reason",
		Policy:      fmt.Sprint("policy ", n),
	}
}

func same(a, b accounts.Record) bool {
	return a.Account == b.Account && a.Revision == b.Revision && bytes.Equal(a.Data, b.Data)
}

func sameEvent(a, b accounts.Event) bool {
	at := a.Time
	a.Time = b.Time
	return at.Equal(b.Time) && a == b
}

// swap stores a record that must be taken.
func swap(t *testing.T, s accounts.Store, r accounts.Record, events ...accounts.Event) {
	t.Helper()
	if err := s.Swap(t.Context(), r.Account, r.Revision-1, r, events); err != nil {
		t.Fatalf("Swap of %q to revision %d: %v", r.Account, r.Revision, err)
	}
}

// want checks what is stored of an account.
func want(t *testing.T, s accounts.Store, r accounts.Record) {
	t.Helper()
	got, err := s.Load(t.Context(), r.Account)
	if err != nil {
		t.Fatalf("Load(%q): %v", r.Account, err)
	}
	if !same(got, r) {
		t.Fatalf("Load(%q) = %q, %d, %s, want %d, %s", r.Account, got.Account, got.Revision, got.Data, r.Revision, r.Data)
	}
}

func wantNone(t *testing.T, s accounts.Store, account string) {
	t.Helper()
	if got, err := s.Load(t.Context(), account); !errors.Is(err, accounts.ErrNotFound) {
		t.Fatalf("Load(%q) = %v, %v, want ErrNotFound", account, got, err)
	}
}

func testNotFound(t *testing.T, s *suite) {
	wantNone(t, s.store, "acme")
	list, err := s.store.List(t.Context(), "", 10)
	if err != nil || len(list) != 0 {
		t.Fatalf("List of an empty store = %v, %v", list, err)
	}
	swap(t, s.store, record("acme", 1, 1))
	wantNone(t, s.store, "acm")
	wantNone(t, s.store, "acme2")
}

func testSwap(t *testing.T, s *suite) {
	for revision := range uint64(3) {
		r := record("acme", revision+1, int(revision))
		for wrong := range uint64(5) {
			if wrong == revision {
				continue
			}
			err := s.store.Swap(t.Context(), "acme", wrong, record("acme", wrong+1, 99), nil)
			if !errors.Is(err, accounts.ErrConflict) {
				t.Fatalf("at revision %d, Swap of %d: %v, want ErrConflict", revision, wrong, err)
			}
			if revision == 0 {
				wantNone(t, s.store, "acme")
			} else {
				want(t, s.store, record("acme", revision, int(revision)-1))
			}
		}
		swap(t, s.store, r)
		want(t, s.store, r)
	}
	swap(t, s.store, record("other", 1, 7))
	want(t, s.store, record("acme", 3, 2))
	want(t, s.store, record("other", 1, 7))
}

func testArguments(t *testing.T, s *suite) {
	swap(t, s.store, record("acme", 1, 1))
	for name, next := range map[string]accounts.Record{
		"another account":    record("other", 2, 2),
		"the old revision":   record("acme", 1, 2),
		"a revision too far": record("acme", 3, 2),
		"revision 0":         record("acme", 0, 2),
		"no account":         record("", 2, 2),
	} {
		if err := s.store.Swap(t.Context(), "acme", 1, next, nil); err == nil || errors.Is(err, accounts.ErrConflict) {
			t.Errorf("%s: Swap = %v, want an error other than ErrConflict", name, err)
		}
		want(t, s.store, record("acme", 1, 1))
		wantNone(t, s.store, "other")
	}
}

func testIsolation(t *testing.T, s *suite) {
	given := record("acme", 1, 1)
	swap(t, s.store, given)
	clear(given.Data)
	want(t, s.store, record("acme", 1, 1))
	got, err := s.store.Load(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	clear(got.Data)
	want(t, s.store, record("acme", 1, 1))
	list, err := s.store.List(t.Context(), "", 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("List = %v, %v", list, err)
	}
	clear(list[0].Data)
	want(t, s.store, record("acme", 1, 1))
}

// names are in the order of their bytes, which is no language's. Some differ in
// what a database may not look at.
func names() []string {
	return []string{
		" ", " leading", "%", "'; DROP TABLE accounts; --", "0", "10", "2", "A", "ACME", "Acme", "B", "\\",
		"_", "a", "a ", "a b", "ab", "acme", "acme ", "b", "https://id.example.com/users/7?x=\"y\"",
		strings.Repeat("n", 512), "z", "\u00c4", "\u00e4", "\u00e9", "e\u0301", "\u4f01\u696d", "\U0001f512",
	}
}

func testNames(t *testing.T, s *suite) {
	for i, name := range names() {
		wantNone(t, s.store, name)
		swap(t, s.store, record(name, 1, i))
	}
	for i, name := range names() {
		want(t, s.store, record(name, 1, i))
	}
}

func testList(t *testing.T, s *suite) {
	all := names()
	for i, name := range all {
		swap(t, s.store, record(name, 1, i))
	}
	swap(t, s.store, record(all[3], 2, 1003))
	sorted := slices.Sorted(slices.Values(all))
	for _, limit := range []int{1, 2, 7, len(all) - 1, len(all), len(all) + 1} {
		var got []string
		after := ""
		for {
			list, err := s.store.List(t.Context(), after, limit)
			if err != nil {
				t.Fatalf("List(%q, %d): %v", after, limit, err)
			}
			if len(list) > limit {
				t.Fatalf("List(%q, %d) gave %d records", after, limit, len(list))
			}
			for _, r := range list {
				want(t, s.store, r)
				got = append(got, r.Account)
				after = r.Account
			}
			if len(got) > len(all) {
				t.Fatalf("List with limit %d gave\n%q, want\n%q", limit, got, sorted)
			}
			if len(list) < limit {
				break
			}
		}
		if !slices.Equal(got, sorted) {
			t.Fatalf("List with limit %d gave\n%q, want\n%q", limit, got, sorted)
		}
	}
	list, err := s.store.List(t.Context(), "Acmf", 1) // there is no such account
	if err != nil || len(list) != 1 || list[0].Account != "B" {
		t.Fatalf(`List after "Acmf" = %v, %v, want B`, list, err)
	}
}

func testLargeRecord(t *testing.T, s *suite) {
	data, err := json.Marshal(map[string]string{"text": strings.Repeat("x", 64<<10)})
	if err != nil {
		t.Fatal(err)
	}
	r := accounts.Record{Account: "acme", Revision: 1, Data: data}
	swap(t, s.store, r)
	want(t, s.store, r)
}

func testContext(t *testing.T, s *suite) {
	swap(t, s.store, record("acme", 1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.store.Load(ctx, "acme"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with an ended context: %v", err)
	}
	if _, err := s.store.List(ctx, "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("List with an ended context: %v", err)
	}
	if err := s.store.Swap(ctx, "acme", 1, record("acme", 2, 2), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Swap with an ended context: %v", err)
	}
	want(t, s.store, record("acme", 1, 1))
}

func testReplicas(t *testing.T, s *suite) {
	a, b := s.store, s.Open(t)
	wantNone(t, b, "acme")
	swap(t, a, record("acme", 1, 1))
	want(t, b, record("acme", 1, 1))
	swap(t, b, record("acme", 2, 2))
	want(t, a, record("acme", 2, 2))
	if err := a.Swap(t.Context(), "acme", 1, record("acme", 2, 3), nil); !errors.Is(err, accounts.ErrConflict) {
		t.Fatalf("Swap of what another replica has changed: %v, want ErrConflict", err)
	}
	want(t, b, record("acme", 2, 2))
	want(t, s.Open(t), record("acme", 2, 2))
}

// testConcurrency counts on three replicas at once: each Swap that was taken has
// added one.
func testConcurrency(t *testing.T, s *suite) {
	const replicas, goroutines, each = 3, 4, 5
	var wg sync.WaitGroup
	for range replicas {
		store := s.Open(t)
		for range goroutines {
			wg.Go(func() {
				for taken := 0; taken < each; {
					revision := uint64(0)
					r, err := store.Load(t.Context(), "acme")
					if err == nil {
						revision = r.Revision
					} else if !errors.Is(err, accounts.ErrNotFound) {
						t.Error(err)
						return
					}
					err = store.Swap(t.Context(), "acme", revision, record("acme", revision+1, int(revision)+1),
						[]accounts.Event{event("acme", int(revision)+1)})
					if err == nil {
						taken++
					} else if !errors.Is(err, accounts.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	const total = replicas * goroutines * each
	want(t, s.store, record("acme", total, total))
	if s.Events == nil {
		return
	}
	events := s.Events(t)
	if len(events) != total {
		t.Fatalf("%d events of %d changes", len(events), total)
	}
	for i, e := range events {
		if !sameEvent(e, event("acme", i+1)) {
			t.Fatalf("event %d is %+v, want %+v", i, e, event("acme", i+1))
		}
	}
}

// testEvents checks that the events are stored if the record is, and only then.
func testEvents(t *testing.T, s *suite) {
	swap(t, s.store, record("acme", 1, 1), event("acme", 1), event("acme", 2))
	if err := s.store.Swap(t.Context(), "acme", 0, record("acme", 1, 9), []accounts.Event{event("acme", 9)}); !errors.Is(err, accounts.ErrConflict) {
		t.Fatalf("Swap of an old revision: %v, want ErrConflict", err)
	}
	swap(t, s.store, record("other", 1, 1), event("other", 3))
	bare := accounts.Event{Time: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Type: accounts.EventPolicyChanged, Account: "acme"}
	swap(t, s.store, record("acme", 2, 2), bare)
	swap(t, s.store, record("acme", 3, 3))
	want(t, s.store, record("acme", 3, 3))
	if s.Events == nil {
		return
	}
	expected := []accounts.Event{event("acme", 1), event("acme", 2), event("other", 3), bare}
	if got := s.Events(t); !slices.EqualFunc(got, expected, sameEvent) {
		t.Fatalf("the events are\n%+v, want\n%+v", got, expected)
	}
}
