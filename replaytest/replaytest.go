// Package replaytest tests implementations of sealhttp.ReplayGuard.
//
//	func TestGuard(t *testing.T) {
//		replaytest.Test(t, func(t *testing.T) replaytest.Fixture { ... })
//	}
package replaytest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// Fixture is a new memory, which nobody has used yet.
type Fixture struct {
	// Open returns a guard over the memory, as one more replica of a service makes it.
	// A guard of one process returns the same each time.
	Open func(t *testing.T) sealhttp.ReplayGuard
	// Capacity is how many ids the memory holds. It should be small: the memory is
	// filled. Of a guard that takes up to a certain number of bytes, it is the most
	// that can be in there.
	Capacity int
	// Disconnect makes the store unreachable for every guard, for good. It is nil
	// where there is nothing to be reached.
	Disconnect func(t *testing.T)
}

// Test tests a guard for all that sealhttp.ReplayGuard promises. newFixture is called
// at least once for each subtest; it cleans up with t.Cleanup. The guard must go by this
// machine's clock, and forget an id within 10 seconds of the end of a TTL of one second.
//
// Test cannot tell whether a memory that was lost in part begins anew, as it must.
func Test(t *testing.T, newFixture func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, f Fixture)
	}{
		{"Once", once},
		{"Contains", contains},
		{"Race", race},
		{"Expiry", expiry},
		{"ReplaceRace", replaceRace},
		{"Stale", stale},
		{"Quota", quota},
		{"Context", endedContext},
		{"Unreachable", unreachable},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t)) })
	}
	t.Run("Second", func(t *testing.T) { second(t, newFixture) })
}

// entry is a request that no memory is too young for.
func entry(caller string) sealhttp.ReplayEntry {
	e := sealhttp.ReplayEntry{Caller: caller, Time: time.Now().Add(time.Minute).Truncate(time.Second), TTL: 12 * time.Minute}
	_, _ = rand.Read(e.ID[:]) // never fails
	return e
}

// insert inserts, and fails the test if the result is another. A want of nil is success.
func insert(t *testing.T, g sealhttp.ReplayGuard, e sealhttp.ReplayEntry, want error) {
	t.Helper()
	if err := g.Insert(t.Context(), e); !errors.Is(err, want) {
		t.Fatalf("Insert: got %v, want %v", err, want)
	}
}

func expect(t *testing.T, g sealhttp.ReplayGuard, e sealhttp.ReplayEntry, want bool) {
	t.Helper()
	if got, err := g.Contains(t.Context(), e.ID); err != nil || got != want {
		t.Fatalf("Contains: got %v, %v; want %v", got, err, want)
	}
}

func once(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	e := entry("ada")
	insert(t, a, e, nil)
	insert(t, a, e, sealhttp.CodeReplayed)
	insert(t, b, e, sealhttp.CodeReplayed)
	// The id alone counts.
	other := entry("grace")
	other.ID, other.TTL = e.ID, time.Hour
	insert(t, b, other, sealhttp.CodeReplayed)
	// All of the id counts.
	for i := range e.ID {
		near := entry("ada")
		near.ID = e.ID
		near.ID[i] ^= 1
		insert(t, b, near, nil)
		insert(t, a, near, sealhttp.CodeReplayed)
	}
	for _, id := range [][16]byte{{}, {15: 1}, {0: 1}, [16]byte([]byte(strings.Repeat("\xff", 16)))} {
		special := entry("ada")
		special.ID = id
		insert(t, a, special, nil)
		insert(t, b, special, sealhttp.CodeReplayed)
	}
	for _, caller := range []string{"", "ada", `Zoë "Z" O'Neil; DROP TABLE ids`, "{1}:\x00\xff\r\n", strings.Repeat("x", 100_000)} {
		insert(t, a, entry(caller), nil)
	}
}

func contains(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	e := entry("")
	expect(t, a, e, false)
	expect(t, b, e, false)
	insert(t, a, e, nil) // neither of the two inserted it
	expect(t, a, e, true)
	expect(t, b, e, true)
	expect(t, b, entry(""), false)
}

// atOnce inserts an entry 64 times at once, over two guards, and wants one to succeed.
func atOnce(t *testing.T, f Fixture, e sealhttp.ReplayEntry) {
	t.Helper()
	guards := []sealhttp.ReplayGuard{f.Open(t), f.Open(t)}
	errs := make([]error, 64)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			<-start
			errs[i] = guards[i%len(guards)].Insert(t.Context(), e)
		})
	}
	close(start)
	wg.Wait()
	taken := 0
	for _, err := range errs {
		switch {
		case err == nil:
			taken++
		case !errors.Is(err, sealhttp.CodeReplayed):
			t.Errorf("Insert: got %v, want nil or CodeReplayed", err)
		}
	}
	if taken != 1 {
		t.Errorf("of 64 inserts at once %d succeeded, want 1", taken)
	}
}

func race(t *testing.T, f Fixture) {
	insert(t, f.Open(t), entry("ada"), nil) // the memory has begun
	for range 8 {
		atOnce(t, f, entry("ada"))
	}
}

// forgotten waits until an entry of TTL 1 s is forgotten.
func forgotten(t *testing.T, g sealhttp.ReplayGuard, e sealhttp.ReplayEntry, inserted time.Time) {
	t.Helper()
	for {
		asked := time.Now()
		found, err := g.Contains(t.Context(), e.ID)
		answered := time.Now()
		switch {
		case err != nil:
			t.Fatalf("Contains: %v", err)
		case !found && answered.Sub(inserted) < e.TTL:
			t.Fatalf("forgotten within %v of an insert for %v", answered.Sub(inserted), e.TTL)
		case !found:
			return
		case asked.Sub(inserted) > e.TTL+10*time.Second:
			t.Fatalf("remembered for %v, inserted for %v", asked.Sub(inserted), e.TTL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func expiry(t *testing.T, f Fixture) {
	g := f.Open(t)
	before, short, after := entry("ada"), entry("ada"), entry("ada")
	short.TTL = time.Second
	insert(t, g, before, nil)
	inserted := time.Now()
	insert(t, g, short, nil)
	insert(t, g, after, nil)
	forgotten(t, g, short, inserted)
	expect(t, g, before, true)
	expect(t, g, after, true)
	short.TTL = time.Minute
	insert(t, g, short, nil)
	insert(t, g, short, sealhttp.CodeReplayed)
}

// What has expired may be in the store still when it is inserted again.
func replaceRace(t *testing.T, f Fixture) {
	g := f.Open(t)
	e := entry("ada")
	e.TTL = time.Second
	inserted := time.Now()
	insert(t, g, e, nil)
	forgotten(t, g, e, inserted)
	e.TTL = time.Minute
	atOnce(t, f, e)
}

func stale(t *testing.T, f Fixture) {
	a, b := f.Open(t), f.Open(t)
	e := entry("ada")
	old := e
	for _, old.Time = range []time.Time{time.Now().Add(-time.Hour), time.Unix(0, 0)} {
		insert(t, a, old, sealhttp.CodeStale)
		insert(t, b, old, sealhttp.CodeStale)
	}
	expect(t, a, e, false) // a refusal inserts nothing
	insert(t, a, e, nil)
	insert(t, a, old, sealhttp.CodeReplayed) // which is looked at first
	insert(t, b, old, sealhttp.CodeReplayed)
	future := entry("ada")
	future.Time = time.Unix(999999999999, 0)
	insert(t, a, future, nil)
}

// second tests that the memory begins with a whole second. A fixture whose first insert
// spans two is of no use.
func second(t *testing.T, newFixture func(t *testing.T) Fixture) {
	for range 10 {
		f := newFixture(t)
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 50*time.Millisecond)))
		began := time.Now()
		g := f.Open(t)
		first := g.Insert(t.Context(), entry("ada"))
		if time.Now().Unix() != began.Unix() {
			continue
		}
		if first != nil {
			t.Fatalf("Insert: %v", first)
		}
		e := entry("ada")
		e.Time = time.Unix(began.Unix()-1, 0)
		insert(t, g, e, sealhttp.CodeStale)
		e.Time = time.Unix(began.Unix(), 0)
		insert(t, g, e, nil)
		return
	}
	t.Fatal("each time, the memory took a second to begin")
}

// fill inserts for a caller what fits, and returns how many ids that were.
func fill(t *testing.T, f Fixture, caller string) (n int) {
	t.Helper()
	guards := []sealhttp.ReplayGuard{f.Open(t), f.Open(t)}
	var refused, taken sealhttp.ReplayEntry
	for i := range f.Capacity {
		e := entry(caller)
		err := guards[i%len(guards)].Insert(t.Context(), e)
		switch {
		case err == nil:
			n, taken = n+1, e
		case errors.Is(err, sealhttp.ErrReplayGuardFull) && !errors.Is(err, sealhttp.CodeReplayed) && !errors.Is(err, sealhttp.CodeStale):
			refused = e
		default:
			t.Fatalf("caller %q, insert %d: got %v, want nil or ErrReplayGuardFull", caller, i, err)
		}
	}
	if n == f.Capacity {
		t.Fatalf("caller %q filled all of the capacity", caller)
	}
	expect(t, guards[0], refused, false)
	if n > 0 {
		insert(t, guards[0], taken, sealhttp.CodeReplayed)
	}
	return n
}

func quota(t *testing.T, f Fixture) {
	all := 0
	for _, caller := range []string{"ada", "", "grace"} {
		n := fill(t, f, caller)
		if n > f.Capacity/4 || n < f.Capacity/8 {
			t.Errorf("caller %q got %d ids of a capacity of %d, want a quarter or a bit less", caller, n, f.Capacity)
		}
		all += n
	}
	for _, caller := range []string{"joan", "mary"} {
		all += fill(t, f, caller)
	}
	if all > f.Capacity || all < f.Capacity/2 {
		t.Errorf("%d ids in all of a capacity of %d", all, f.Capacity)
	}
}

func endedContext(t *testing.T, f Fixture) {
	g := f.Open(t)
	insert(t, g, entry("ada"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := entry("ada")
	if err := g.Insert(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("Insert: got %v, want context.Canceled", err)
	}
	if _, err := g.Contains(ctx, e.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("Contains: got %v, want context.Canceled", err)
	}
	insert(t, g, e, nil)
}

func unreachable(t *testing.T, f Fixture) {
	if f.Disconnect == nil {
		t.Skip("nothing is to be reached")
	}
	g := f.Open(t)
	known, unknown := entry("ada"), entry("ada")
	insert(t, g, known, nil)
	f.Disconnect(t)
	for _, e := range []sealhttp.ReplayEntry{known, unknown} {
		start := time.Now()
		switch err := g.Insert(t.Context(), e); {
		case err == nil:
			t.Error("Insert: no error from a store that is unreachable")
		case errors.Is(err, sealhttp.CodeReplayed), errors.Is(err, sealhttp.CodeStale), errors.Is(err, sealhttp.ErrReplayGuardFull):
			t.Errorf("Insert: got %v of a store that is unreachable", err)
		}
		if found, err := g.Contains(t.Context(), e.ID); err == nil {
			t.Errorf("Contains: got %v of a store that is unreachable", found)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("took %v to say so", d)
		}
	}
}
