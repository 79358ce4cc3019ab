// Package storetest tests implementations of keyring.Store.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) keyring.Store { return newEmptyStore(t) })
//	}
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
)

// Run tests a store for all that keyring.Store promises, and then a ring over it.
// newStore is called once for each subtest, and returns a store in which nothing is
// stored yet; it should return as soon as it can, and clean up with t.Cleanup. Run
// cannot tell whether what is stored lasts, nor whether the audit events are stored
// with it.
func Run(t *testing.T, newStore func(t *testing.T) keyring.Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s keyring.Store)
	}{
		{"Empty", empty},
		{"Swap", swap},
		{"Conflict", conflict},
		{"Bytes", preservesBytes},
		{"Aliasing", aliasing},
		{"Context", endedContext},
		{"Race", race},
		{"FirstRace", firstRace},
		{"Ring", ring},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

// events are some, as a ring hands them over.
func events(revision uint64) []keyring.Event {
	return []keyring.Event{
		{Time: time.Unix(1764000000, 123456789).UTC(), Type: keyring.EventGenerated, Ring: "default", Revision: revision, KeyID: 1<<32 - 1, Fingerprint: "12345-12345-12345-12345-12345-12345-12345-12345"},
		{Time: time.Unix(1764000000, 123456789).UTC(), Type: keyring.EventPromoted, Ring: "default", Revision: revision, KeyID: 1, Actor: `Zoë "Z" O'Neil; DROP TABLE keys`},
	}
}

func state(revision uint64, data string) keyring.State {
	return keyring.State{Revision: revision, Data: []byte(data)}
}

// mustSwap swaps, and fails the test if that fails.
func mustSwap(t *testing.T, s keyring.Store, old uint64, next keyring.State) {
	t.Helper()
	if err := s.Swap(t.Context(), old, next, events(next.Revision)); err != nil {
		t.Fatalf("Swap(%d) to revision %d: %v", old, next.Revision, err)
	}
	expect(t, s, next)
}

// expect checks what is stored. Revision 0 is nothing.
func expect(t *testing.T, s keyring.Store, want keyring.State) {
	t.Helper()
	got, err := s.Load(t.Context())
	switch {
	case want.Revision == 0:
		if !errors.Is(err, keyring.ErrNotFound) {
			t.Fatalf("Load: got %v, want ErrNotFound", err)
		}
	case err != nil:
		t.Fatalf("Load: %v", err)
	case got.Revision != want.Revision || !bytes.Equal(got.Data, want.Data):
		t.Fatalf("Load: got revision %d of %d bytes, want revision %d of %d bytes, the same", got.Revision, len(got.Data), want.Revision, len(want.Data))
	}
}

func empty(t *testing.T, s keyring.Store) {
	expect(t, s, keyring.State{})
	if err := s.Swap(t.Context(), 1, state(2, "x"), events(2)); !errors.Is(err, keyring.ErrConflict) {
		t.Errorf("Swap of revision 1 where nothing is stored: got %v, want ErrConflict", err)
	}
	expect(t, s, keyring.State{})
}

func swap(t *testing.T, s keyring.Store) {
	for r := range uint64(20) {
		mustSwap(t, s, r, state(r+1, fmt.Sprint("state ", r+1)))
	}
	if err := s.Swap(t.Context(), 20, state(21, "without events"), nil); err != nil {
		t.Fatalf("Swap without events: %v", err)
	}
	expect(t, s, state(21, "without events"))
}

func conflict(t *testing.T, s keyring.Store) {
	mustSwap(t, s, 0, state(1, "one"))
	mustSwap(t, s, 1, state(2, "two"))
	for _, old := range []uint64{0, 1, 3, 1 << 40} {
		err := s.Swap(t.Context(), old, state(old+1, "wrong"), events(old+1))
		if !errors.Is(err, keyring.ErrConflict) {
			t.Errorf("Swap of revision %d where 2 is stored: got %v, want ErrConflict", old, err)
		}
		expect(t, s, state(2, "two"))
	}
	mustSwap(t, s, 2, state(3, "three"))
}

func preservesBytes(t *testing.T, s keyring.Store) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 1<<20)
	rand.Read(large)
	for i, data := range [][]byte{
		every,
		[]byte("{\n\t\"b\": 1,\n\t\"a\": 1.0, \"a\": 2\n}\n\n"),
		[]byte("\x00"),
		[]byte("\r\n"),
		[]byte(" \t"),
		[]byte("'; DROP TABLE keys; --"),
		[]byte("\xff\xfe\xc0\x80"),
		{},
		large,
		[]byte("small again"),
	} {
		mustSwap(t, s, uint64(i), keyring.State{Revision: uint64(i + 1), Data: data})
	}
}

func aliasing(t *testing.T, s keyring.Store) {
	given := state(1, "mine")
	if err := s.Swap(t.Context(), 0, given, nil); err != nil {
		t.Fatal(err)
	}
	copy(given.Data, "XXXX")
	expect(t, s, state(1, "mine"))
	got, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copy(got.Data, "XXXX")
	expect(t, s, state(1, "mine"))
}

func endedContext(t *testing.T, s keyring.Store) {
	mustSwap(t, s, 0, state(1, "one"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ended); err == nil || errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("Load with a context that has ended: got %v, want its error", err)
	}
	if err := s.Swap(ended, 1, state(2, "two"), events(2)); err == nil || errors.Is(err, keyring.ErrConflict) {
		t.Errorf("Swap with a context that has ended: got %v, want its error", err)
	}
	expect(t, s, state(1, "one"))
	mustSwap(t, s, 1, state(2, "two")) // nothing is left locked
}

// race has many swap as fast as they can. For each revision exactly one must succeed,
// and who loads must never see the state go back.
func race(t *testing.T, s keyring.Store) {
	const writers, each = 8, 10
	mustSwap(t, s, 0, state(1, "first"))
	var won [1 + writers*each + 1]atomic.Pointer[string]
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; n < each; {
				current, err := s.Load(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mine := fmt.Sprintf("writer %d, %d", w, n)
				next := current.Revision + 1
				if next >= uint64(len(won)) {
					t.Errorf("revision %d after fewer swaps", current.Revision)
					return
				}
				switch err := s.Swap(t.Context(), current.Revision, state(next, mine), events(next)); {
				case errors.Is(err, keyring.ErrConflict):
				case err != nil:
					t.Error(err)
					return
				case !won[next].CompareAndSwap(nil, &mine):
					t.Errorf("revision %d was swapped by two", next)
				default:
					n++
					// At once, or what others have made of it.
					after, err := s.Load(t.Context())
					if err != nil || after.Revision < next || after.Revision == next && string(after.Data) != mine {
						t.Errorf("after a Swap to revision %d Load returns %d, %q, %v", next, after.Revision, after.Data, err)
						return
					}
				}
			}
		})
	}
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		last := uint64(0)
		for {
			select {
			case <-done:
				return
			default:
			}
			got, err := s.Load(t.Context())
			if err != nil || got.Revision < last {
				t.Errorf("Load: got revision %d after %d, %v", got.Revision, last, err)
				return
			}
			last = got.Revision
		}
	})
	wg.Wait()
	close(done)
	reader.Wait()
	last, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last.Revision != 1+writers*each {
		t.Errorf("%d swaps ended at revision %d", writers*each, last.Revision)
	} else if mine := won[last.Revision].Load(); mine == nil || *mine != string(last.Data) {
		t.Errorf("the last state is %q, and not what was swapped last", last.Data)
	}
}

func firstRace(t *testing.T, s keyring.Store) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			switch err := s.Swap(t.Context(), 0, state(1, fmt.Sprint("writer ", w)), events(1)); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, keyring.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d made the first state, want 1", won.Load())
	}
}

// ring opens a ring on several replicas, and changes it.
func ring(t *testing.T, s keyring.Store) {
	options := []keyring.Option{
		keyring.WithAudit(func(context.Context, keyring.Event) {}),
		keyring.WithSchedule(keyring.Schedule{Lead: 2 * time.Millisecond}),
	}
	rings := make([]*keyring.Keyring, 4)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = keyring.Open(t.Context(), s, keyring.InsecurePlaintext(), options...); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
	}
	wg.Wait()
	if slices.Contains(rings, nil) {
		return
	}
	first := rings[0].PublicKeys()[0]
	if err := rings[0].Revoke(t.Context(), first.ID()); err != nil {
		t.Fatalf("Revoke: %v", err)
	}
	if err := rings[1].Rotate(t.Context()); err != nil {
		t.Fatalf("Rotate: %v", err)
	}
	want := rings[1].KeySet().Keys()[1].ID() // the pending key

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, r := range rings {
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	for i, r := range rings {
		for ctx.Err() == nil && r.PublicKeys()[0].ID() != want {
			time.Sleep(time.Millisecond)
		}
		if got := r.PublicKeys()[0].ID(); got != want {
			t.Errorf("replica %d has primary %d, want %d", i, got, want)
		}
		if _, held := r.KeySet().Lookup(first.ID()); held {
			t.Errorf("replica %d holds the revoked key", i)
		}
	}
	cancel()
	wg.Wait()
}
