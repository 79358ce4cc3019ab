package sealhttp

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// ErrReplayGuardFull is what a [ReplayGuard] returns when it has no room for an id:
// its capacity, or what one caller may use of it, is used up. Nothing was inserted.
var ErrReplayGuardFull = errors.New("sealhttp: the replay guard is full: its capacity or the caller's quota is used up")

const (
	// defaultReplayGuardBytes is for 1,600 requests a second, 400 of them from one caller.
	defaultReplayGuardBytes = 64 << 20
	// replaySlotBytes is what an id takes at most, and so does a caller's counter: Go's
	// maps are between 7/16 and 7/8 full. It was measured.
	replaySlotBytes = 44
	// minReplaySlots is what a shard, and so a guard, has at the least.
	minReplaySlots = 1024
	// maxReplayShards is how many goroutines can insert at once, at most.
	maxReplayShards = 64
	// replayQuota is the part of the slots that one caller's ids may use: a quarter.
	replayQuota = 4
	// replayLateness is the part of its TTL that an id is forgotten late, at most: a
	// quarter. A smaller part would take more generations to look through.
	replayLateness = 4
)

// MemoryReplayGuard is a [ReplayGuard] in the memory of one process. It is safe for
// use by several goroutines at once.
type MemoryReplayGuard struct {
	start time.Time // of the monotonic clock that expiry goes by
	since time.Time // the whole second in which the memory began
	seed  maphash.Seed

	shards   []replayShard
	capacity int // of a shard, in slots
}

// NewMemoryReplayGuard makes a guard that is a mistake on more than one replica: each
// would take once what is to be taken once in all. Use a shared one there, of the
// module redisguard or sqlstore.
//
// It takes memory only as ids come, at most 44 bytes for each, and as much again for a
// caller of whom it had none in a while; maxBytes is the most that it takes in all. Of
// that, the ids of one caller get a quarter at most, and so do those of all unknown
// callers together; the others find room still. Beyond it, Insert returns
// [ErrReplayGuardFull]. So maxBytes is to be 44 x requests a second x the seconds that
// an id is remembered, 900 by default, and 4 times as much if one caller makes them all:
// 64 MiB are for 1,600 a second, 400 of them from one caller. Less than 45,056 is an
// error: 1,024 ids.
//
// An id is never forgotten before its TTL has passed, and at most a quarter of the TTL
// after. The memory begins now, and so it does with every restart: what may have been
// taken before is refused as [CodeStale] then. What was made in this very second, or by
// a clock that runs ahead, could be taken once more.
func NewMemoryReplayGuard(maxBytes int64) (*MemoryReplayGuard, error) {
	slots := maxBytes / replaySlotBytes
	if slots < minReplaySlots {
		return nil, fmt.Errorf("sealhttp: NewMemoryReplayGuard: %d bytes are too few: at least %d", maxBytes, minReplaySlots*replaySlotBytes)
	}
	shards := maxReplayShards
	for shards > 1 && slots/int64(shards) < minReplaySlots {
		shards /= 2
	}
	now := time.Now()
	return &MemoryReplayGuard{
		start: now, since: now.Truncate(time.Second), seed: maphash.MakeSeed(),
		shards: make([]replayShard, shards), capacity: int(slots / int64(shards)),
	}, nil
}

// Insert is as [ReplayGuard] has it. A context that has ended is the only error that it
// returns besides [CodeReplayed], [CodeStale] and [ErrReplayGuardFull].
func (g *MemoryReplayGuard) Insert(ctx context.Context, e ReplayEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	caller := maphash.String(g.seed, e.Caller)
	s := g.shard(&e.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(g.start)
	s.forget(now)
	switch {
	case s.contains(&e.ID):
		return CodeReplayed
	case e.Time.Before(g.since):
		return CodeStale
	case s.slots()+2 > g.capacity || s.held(caller) >= g.capacity/replayQuota:
		return ErrReplayGuardFull
	}
	gen := s.generation(now+e.TTL, e.TTL/replayLateness)
	gen.ids[e.ID] = struct{}{}
	gen.callers[caller]++
	return nil
}

// Contains is as [ReplayGuard] has it. A context that has ended is its only error.
func (g *MemoryReplayGuard) Contains(ctx context.Context, id [16]byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s := g.shard(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Since(g.start))
	return s.contains(&id), nil
}

// shard returns the shard of an id. Who chooses the id cannot choose the shard: the
// hash is seeded.
func (g *MemoryReplayGuard) shard(id *[16]byte) *replayShard {
	return &g.shards[maphash.Bytes(g.seed, id[:])%uint64(len(g.shards))]
}

// replayShard is a part of the ids, in generations.
type replayShard struct {
	mu          sync.Mutex
	generations []replayGeneration
	_           [32]byte // a cache line a shard
}

// replayGeneration is the ids that expire at about the same time. They are forgotten
// together, by dropping the maps: nothing is swept. There are about five, and whatever
// is counted is counted in each, so that nothing is left to correct.
type replayGeneration struct {
	end     time.Duration // on the guard's clock
	ids     map[[16]byte]struct{}
	callers map[uint64]uint32 // how many of the ids, by the caller's seeded hash
}

// forget drops what has expired.
func (s *replayShard) forget(now time.Duration) {
	kept := s.generations[:0]
	for _, gen := range s.generations {
		if gen.end > now {
			kept = append(kept, gen)
		}
	}
	clear(s.generations[len(kept):]) // lets go of the maps
	s.generations = kept
}

func (s *replayShard) contains(id *[16]byte) bool {
	for i := range s.generations {
		if _, found := s.generations[i].ids[*id]; found {
			return true
		}
	}
	return false
}

// slots counts what is in the maps.
func (s *replayShard) slots() int {
	n := 0
	for i := range s.generations {
		n += len(s.generations[i].ids) + len(s.generations[i].callers)
	}
	return n
}

// held counts a caller's ids.
func (s *replayShard) held(caller uint64) int {
	n := 0
	for i := range s.generations {
		n += int(s.generations[i].callers[caller])
	}
	return n
}

// generation returns one that ends no earlier than expiry, and at most late after it.
func (s *replayShard) generation(expiry, late time.Duration) *replayGeneration {
	for i := range s.generations {
		if gen := &s.generations[i]; gen.end >= expiry && gen.end <= expiry+late {
			return gen
		}
	}
	s.generations = append(s.generations, replayGeneration{
		end: expiry + late, ids: make(map[[16]byte]struct{}), callers: make(map[uint64]uint32),
	})
	return &s.generations[len(s.generations)-1]
}
