package bench

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// BenchmarkReplayGuard is one insert into the guard in memory, where 300,000 ids of all
// ages are, beside its floor (by=map): a map under one mutex, which neither forgets nor
// counts. With goroutines=all, all insert at once.
func BenchmarkReplayGuard(b *testing.B) {
	const held = 300_000
	for _, goroutines := range []string{"1", "all"} {
		b.Run("goroutines="+goroutines+"/by=sealhttp", func(b *testing.B) {
			guard, err := sealhttp.NewMemoryReplayGuard(1 << 30)
			if err != nil {
				b.Fatal(err)
			}
			callers := make([]string, 64)
			for i := range callers {
				callers[i] = fmt.Sprint("caller", i)
			}
			fresh := time.Now().Add(time.Second)
			insert := func(n uint64) {
				e := sealhttp.ReplayEntry{ID: replayID(n), Caller: callers[n%uint64(len(callers))], Time: fresh, TTL: 720 * time.Second}
				if n < held { // in all generations
					e.TTL -= time.Duration(n%5) * 180 * time.Second
				}
				if err := guard.Insert(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
			measureInserts(b, held, goroutines, insert)
		})
		b.Run("goroutines="+goroutines+"/by=map", func(b *testing.B) {
			var mu sync.Mutex
			ids := make(map[[16]byte]struct{})
			insert := func(n uint64) {
				id := replayID(n)
				mu.Lock()
				defer mu.Unlock()
				if _, found := ids[id]; found {
					b.Fatal("found")
				}
				ids[id] = struct{}{}
			}
			measureInserts(b, held, goroutines, insert)
		})
	}
}

func measureInserts(b *testing.B, held uint64, goroutines string, insert func(n uint64)) {
	for n := range held {
		insert(n)
	}
	runtime.GC()
	b.ReportAllocs()
	var n atomic.Uint64
	n.Store(held)
	b.ResetTimer()
	if goroutines == "1" {
		for range b.N {
			insert(n.Add(1))
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			insert(n.Add(1))
		}
	})
}

var replayIDs = func() (seed [8]byte) { _, _ = rand.Read(seed[:]); return seed }()

// replayID is the n-th of many ids that look random.
func replayID(n uint64) (id [16]byte) {
	x := n*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(replayIDs[:])
	x ^= x >> 31
	binary.LittleEndian.PutUint64(id[:8], x*0xbf58476d1ce4e5b9)
	binary.LittleEndian.PutUint64(id[8:], n)
	return id
}
