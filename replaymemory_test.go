package sealhttp_test

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/replaytest"
)

func memoryGuard(t testing.TB, maxBytes int64) *sealhttp.MemoryReplayGuard {
	t.Helper()
	g, err := sealhttp.NewMemoryReplayGuard(maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func randomEntry(caller string) sealhttp.ReplayEntry {
	e := sealhttp.ReplayEntry{Caller: caller, Time: time.Now().Add(time.Second), TTL: 12 * time.Minute}
	_, _ = rand.Read(e.ID[:])
	return e
}

func TestMemoryReplayGuard(t *testing.T) {
	for _, maxBytes := range []int64{44 << 10, 44 << 13} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			replaytest.Test(t, func(t *testing.T) replaytest.Fixture {
				var g *sealhttp.MemoryReplayGuard
				return replaytest.Fixture{
					Capacity: int(maxBytes / 44),
					Open: func(t *testing.T) sealhttp.ReplayGuard {
						if g == nil {
							g = memoryGuard(t, maxBytes)
						}
						return g
					},
				}
			})
		})
	}
}

func TestMemoryReplayGuardTooSmall(t *testing.T) {
	for _, maxBytes := range []int64{-1, 0, 44<<10 - 1} {
		if g, err := sealhttp.NewMemoryReplayGuard(maxBytes); err == nil || g != nil {
			t.Errorf("%d bytes: got %v, %v; want an error", maxBytes, g, err)
		}
	}
}

// An id is never forgotten early, and at most a quarter of its TTL late, whatever other
// ids were inserted for.
func TestMemoryReplayGuardExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := memoryGuard(t, 1<<20)
		type inserted struct {
			e    sealhttp.ReplayEntry
			when time.Time
		}
		var all []inserted
		for i := range 3000 {
			e := randomEntry("ada")
			e.TTL = []time.Duration{time.Second, 12 * time.Minute, time.Hour, 12*time.Minute + time.Nanosecond}[i%4]
			if err := g.Insert(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			all = append(all, inserted{e, time.Now()})
			time.Sleep(777 * time.Millisecond)
			if i%50 != 0 {
				continue
			}
			for _, was := range all {
				found, err := g.Contains(t.Context(), was.e.ID)
				age := time.Since(was.when)
				if err != nil || found && age >= was.e.TTL+was.e.TTL/4 || !found && age < was.e.TTL {
					t.Fatalf("%v after an insert for %v: Contains is %v, %v", age, was.e.TTL, found, err)
				}
			}
		}
	})
}

// To the nanosecond, if it is the first of its generation.
func TestMemoryReplayGuardForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := memoryGuard(t, 1<<20)
		e := randomEntry("ada")
		last := e.TTL + e.TTL/4 - 1
		if err := g.Insert(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		time.Sleep(last)
		if err := g.Insert(t.Context(), e); !errors.Is(err, sealhttp.CodeReplayed) {
			t.Fatalf("after %v: got %v, want CodeReplayed", last, err)
		}
		time.Sleep(time.Nanosecond)
		e.Time = time.Now()
		if err := g.Insert(t.Context(), e); err != nil {
			t.Fatalf("after %v: got %v, want it forgotten", last+1, err)
		}
	})
}

// What has expired makes room, for its caller and for all.
func TestMemoryReplayGuardRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := memoryGuard(t, 44<<10)
		fill := func() (n int) {
			for i := range 4096 {
				switch err := g.Insert(t.Context(), randomEntry(fmt.Sprint(i%8))); {
				case err == nil:
					n++
				case !errors.Is(err, sealhttp.ErrReplayGuardFull):
					t.Fatal(err)
				}
			}
			return n
		}
		for range 3 {
			if n := fill(); n < 1000 || n > 1024 {
				t.Fatalf("%d ids fit, want nearly 1024", n)
			}
			time.Sleep(15 * time.Minute)
		}
	})
}

// The memory begins with New, not with its first use.
func TestMemoryReplayGuardBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1500 * time.Millisecond)
		second := time.Now().Truncate(time.Second)
		g := memoryGuard(t, 1<<20)
		time.Sleep(time.Minute)
		for when, want := range map[time.Time]error{second.Add(-1): sealhttp.CodeStale, second: nil} {
			e := randomEntry("")
			e.Time = when
			if err := g.Insert(t.Context(), e); !errors.Is(err, want) {
				t.Errorf("made at %v, where the memory began at %v: got %v, want %v", when, second, err, want)
			}
		}
	})
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The bound in bytes holds for the real heap, whoever the callers are and whenever they
// come, and nothing is taken before they do.
func TestMemoryReplayGuardBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("it fills a guard")
	}
	for _, maxBytes := range []int64{44 << 10, 100_000, 3 << 19, 1 << 21, 3 << 20} {
		for name, caller := range map[string]func(i int) string{
			"8 callers":           func(i int) string { return fmt.Sprint(i % 8) },
			"each another caller": func(i int) string { return fmt.Sprint(i) },
			"100 ids a caller":    func(i int) string { return fmt.Sprint(i / 100) },
		} {
			for _, generations := range []int{1, 5} {
				t.Run(fmt.Sprintf("%d/%s/%d", maxBytes, name, generations), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						before := heapInUse()
						g := memoryGuard(t, maxBytes)
						if empty := heapInUse() - before; empty > 8<<10 {
							t.Errorf("%d bytes when empty", empty)
						}
						tries, n := int(maxBytes/44)*2, 0
						for i := range tries {
							if i > 0 && i%(tries/generations+1) == 0 {
								time.Sleep(181 * time.Second)
							}
							if g.Insert(t.Context(), randomEntry(caller(i))) == nil {
								n++
							}
							if i%max(tries/10, 1000) == 0 || i == tries-1 {
								if took := heapInUse() - before; took > maxBytes {
									t.Fatalf("%d ids took %d bytes, %d at most", n, took, maxBytes)
								}
							}
						}
						t.Logf("%d ids, %.1f bytes each", n, float64(heapInUse()-before)/float64(n))
						runtime.KeepAlive(g)
					})
				})
			}
		}
	}
}

// An insert allocates nothing but the maps' growth.
func TestMemoryReplayGuardAllocs(t *testing.T) {
	g := memoryGuard(t, 1<<26)
	e := randomEntry("ada")
	var n uint64
	insert := func() {
		n++
		binary.LittleEndian.PutUint64(e.ID[:], n)
		if err := g.Insert(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for range 100_000 {
		insert()
	}
	if allocs := testing.AllocsPerRun(100_000, insert); allocs > 0 {
		t.Errorf("%v allocations an insert", allocs)
	}
	if allocs := testing.AllocsPerRun(1000, func() { _ = g.Insert(t.Context(), e) }); allocs > 0 {
		t.Errorf("%v allocations to refuse one", allocs)
	}
}

// Nobody can fill one shard and so keep others out: shards are not the caller's choice.
func TestMemoryReplayGuardAim(t *testing.T) {
	const slots = 1 << 16
	g := memoryGuard(t, 44*slots)
	n := 0
	for i := range slots {
		e := randomEntry(fmt.Sprint(i % 8))
		e.ID = [16]byte{}
		binary.LittleEndian.PutUint64(e.ID[:], uint64(i)<<40)
		if g.Insert(t.Context(), e) == nil {
			n++
		}
	}
	if n < slots*9/10 {
		t.Errorf("%d ids that differ in few bits fit, want nearly %d", n, slots)
	}
}

// Many at once, of ids that come more than once, while others expire.
func TestMemoryReplayGuardParallel(t *testing.T) {
	g := memoryGuard(t, 1<<24)
	const ids = 4000
	taken := make([]atomic.Int32, ids)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range ids {
				e := randomEntry(fmt.Sprint(w))
				e.ID = [16]byte{}
				binary.LittleEndian.PutUint64(e.ID[8:], uint64(i))
				if g.Insert(t.Context(), e) == nil {
					taken[i].Add(1)
				}
				passing := randomEntry(fmt.Sprint(w))
				passing.TTL = time.Millisecond
				if err := g.Insert(t.Context(), passing); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range taken {
		if n := taken[i].Load(); n != 1 {
			t.Errorf("id %d was taken %d times", i, n)
		}
	}
}
