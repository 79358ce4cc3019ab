package keyring_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

const year = 365 * day

// wallClock can be wrong.
type wallClock struct{ off atomic.Int64 }

func (c *wallClock) jump(d time.Duration) { c.off.Add(int64(d)) }
func (c *wallClock) now() time.Time       { return time.Now().Add(time.Duration(c.off.Load())) }

// A reload interval at which years pass quickly.
const interval = 6 * hour

var seldom = keyring.WithReloadInterval(interval)

// A clock that jumps while a replica runs changes nothing: every step comes at its
// time, with the right stamp, also if the replica does not know the beginning of
// what it finds.
func TestClockJumpsWhileRunning(t *testing.T) {
	kek := newKEK(t)
	for _, jump := range []time.Duration{20 * year, -20 * year, 40 * day, -40 * day} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(jump, restarted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var events journal
					var clock wallClock
					store := keyring.NewMemoryStore()
					opts := []keyring.Option{keyring.WithAudit(events.add), keyring.WithClock(clock.now), seldom}
					start := time.Now()
					ring := open(t, store, kek, opts...)
					stop := run(t, ring)
					if restarted {
						sleep(100 * day)
						stop()
						ring = open(t, store, kek, opts...)
						stop = run(t, ring)
					}
					sleep(day)
					defer func() { stop() }()
					clock.jump(jump)
					sleep(year - time.Since(start) - 2*interval - 1)
					events.expect(t, keyring.EventGenerated, keyring.EventPublished, keyring.EventPromoted)
					sleep(1)
					clock.jump(-2 * jump)
					events.expect(t, keyring.EventGenerated)
					sleep(2 * interval)
					clock.jump(jump)
					expectKeys(t, ring, 0, 1, 0)
					clock.jump(jump)
					sleep(30*day - 1)
					expectKeys(t, ring, 0, 1, 0)
					sleep(1)
					expectKeys(t, ring, 0, 0, 1)
					for _, e := range events.take() {
						if want := start.Add(year); e.Type == keyring.EventPromoted && !e.Time.Equal(want) {
							t.Errorf("promoted with stamp %v, want %v", e.Time, want)
						}
					}
				})
			})
		}
	}
}

// A clock that is wrong when a replica starts, and put right at once, does nothing.
func TestClockSetSoonAfterStart(t *testing.T) {
	kek := newKEK(t)
	for _, jump := range []time.Duration{20 * year, -20 * year} {
		synctest.Test(t, func(t *testing.T) {
			var clock wallClock
			store := keyring.NewMemoryStore()
			ring := open(t, store, kek, quiet(), seldom)
			stop := run(t, ring)
			rotate(t, ring)
			stop()
			clock.jump(jump)
			ring = open(t, store, kek, quiet(), seldom, keyring.WithClock(clock.now))
			defer run(t, ring)()
			sleep(2*interval - 1)
			clock.jump(-jump)
			sleep(30*day - 3*interval)
			expectKeys(t, ring, 0, 1, 0)
			sleep(2 * interval)
			expectKeys(t, ring, 0, 0, 1)
			sleep(year - 31*day)
			expectKeys(t, ring, 0, 0, 1)
			sleep(2 * day)
			expectKeys(t, ring, 0, 1, 1)
		})
	}
}

// A replica whose clock is behind waits, says so, and goes on when it is put right.
func TestClockBehind(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		var clock wallClock
		store := keyring.NewMemoryStore()
		open(t, store, kek, quiet())
		clock.jump(-20 * year)
		ring := open(t, store, kek, seldom, keyring.WithAudit(events.add), keyring.WithClock(clock.now))
		defer run(t, ring)()
		sleep(2 * year)
		events.expect(t, keyring.EventClockBehind)
		expectKeys(t, ring, 0, 0, 0)
		clock.jump(20 * year)
		sleep(2 * day)
		got := events.types()
		if !slices.Equal(got, []keyring.EventType{keyring.EventClockCaughtUp, keyring.EventGenerated, keyring.EventPublished, keyring.EventPromoted}) &&
			!slices.Equal(got, []keyring.EventType{keyring.EventGenerated, keyring.EventClockCaughtUp, keyring.EventPublished, keyring.EventPromoted}) {
			t.Errorf("got events %q", got)
		}
	})
}

// A replica that starts with a clock ahead may hurry. It takes no key away from
// callers of the others, deletes no last key, and Rotate on one whose clock is right
// sets the ring's times right.
func TestClockAheadAtStart(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		var clock wallClock
		store := keyring.NewMemoryStore()
		right := open(t, store, kek, seldom, keyring.WithAudit(events.add))
		stop := run(t, right)
		defer stop()
		sleep(day)
		first := right.PublicKeys()[0]

		clock.jump(20 * year)
		wrong := open(t, store, kek, seldom, quiet(), keyring.WithClock(clock.now))
		stopWrong := run(t, wrong)
		sleep(2 * day)
		expectKeys(t, wrong, 0, 1, 0) // rotated early, which harms nobody
		expectKeys(t, right, 0, 1, 0)
		stopWrong()
		sleep(day)
		got := events.types()
		if !slices.Contains(got, keyring.EventClockBehind) {
			t.Errorf("got events %q, want clock_behind among them", got)
		}

		// Restarted, the wrong one does not know when the key was replaced.
		wrong = open(t, store, kek, seldom, quiet(), keyring.WithClock(clock.now))
		stopWrong = run(t, wrong)
		clock.jump(year)
		sleep(40 * day)
		stopWrong()
		for _, ring := range []*keyring.Keyring{right, wrong} {
			expectOpens(t, ring, ring.PublicKeys()[0], nil)
		}
		expectOpens(t, wrong, first, seal.ErrUnknownKey)

		// Nothing more happens on schedule, until somebody rotates.
		events.take()
		sleep(2 * year)
		events.expect(t)
		rotate(t, right)
		sleep(day)
		promoted := time.Now()
		if got := events.types(); !slices.Contains(got, keyring.EventClockCaughtUp) || !slices.Contains(got, keyring.EventPromoted) {
			t.Errorf("got events %q", got)
		}
		sleep(2 * year)
		for _, e := range events.take() {
			if e.Type == keyring.EventPromoted && (e.Time.After(time.Now()) || e.Time.Before(promoted)) {
				t.Errorf("promoted at %v", e.Time)
			}
		}
		if n := len(states(t, right)[keyring.Retired]); n < 3 {
			t.Errorf("%d keys have retired, want the schedule to go on", n)
		}
	})
}

// A replica whose clock is behind rotates, and stamps the old key as long replaced.
// Those who have seen it replaced give its callers their time all the same.
func TestStampFromClockBehind(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var clock wallClock
		store := keyring.NewMemoryStore()
		right := open(t, store, kek, seldom, quiet())
		defer run(t, right)()
		sleep(100 * day)
		clock.jump(-40 * day)
		wrong := open(t, store, kek, seldom, quiet(), keyring.WithClock(clock.now))
		defer run(t, wrong)()
		rotate(t, wrong)
		expectKeys(t, wrong, 0, 1, 0)
		if replaced := wrong.Status().Keys[1].Replaced; time.Since(replaced) < 39*day {
			t.Fatalf("replaced at %v: the test shows nothing", replaced)
		}
		sleep(29 * day)
		expectKeys(t, right, 0, 1, 0)
		sleep(2 * day)
		expectKeys(t, right, 0, 0, 1)
	})
}

// Rotate takes the clock as it is then, though the replica follows it no longer.
func TestRotateReadsClock(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var clock wallClock
		clock.jump(20 * year)
		ring := open(t, keyring.NewMemoryStore(), kek, seldom, quiet(), keyring.WithClock(clock.now))
		defer run(t, ring)()
		sleep(10 * day)
		clock.jump(-20 * year)
		rotate(t, ring)
		expectKeys(t, ring, 0, 1, 0)
		if promoted := ring.Status().Keys[0].Promoted; time.Since(promoted).Abs() > day {
			t.Errorf("promoted at %v, which is %v ago", promoted, time.Since(promoted))
		}
	})
}

// A pending key that a clock ahead has stamped does not stop the schedule for good
// either.
func TestPendingFromClockAhead(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var clock wallClock
		store := keyring.NewMemoryStore()
		right := open(t, store, kek, seldom, quiet())
		clock.jump(20 * year)
		wrong := open(t, store, kek, seldom, quiet(), keyring.WithClock(clock.now))
		if err := wrong.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer run(t, right)()
		sleep(2 * year)
		expectKeys(t, right, 1, 0, 0)
		rotate(t, right)
		expectKeys(t, right, 0, 1, 0)
		sleep(year)
		expectKeys(t, right, 0, 1, 1)
	})
}

// Whatever the clocks do, and whoever is restarted: what any replica publishes as
// its primary every replica opens.
func TestClockStorm(t *testing.T) {
	kek := newKEK(t)
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			store := keyring.NewMemoryStore()
			type replica struct {
				*keyring.Keyring
				clock *wallClock
				stop  func()
			}
			start := func(clock *wallClock) *replica {
				ring := open(t, store, kek, seldom, quiet(), keyring.WithClock(clock.now),
					keyring.WithSchedule(keyring.Schedule{Every: 30 * day, Overlap: 5 * day}))
				return &replica{ring, clock, run(t, ring)}
			}
			replicas := make([]*replica, 3)
			for i := range replicas {
				replicas[i] = start(new(wallClock))
			}
			defer func() {
				for _, r := range replicas {
					r.stop()
				}
			}()
			primaries := make(map[uint32]bool)
			for range 500 {
				sleep(rand1(random, 2*day))
				r := replicas[random.IntN(len(replicas))]
				switch random.IntN(10) {
				case 0:
					r.clock.jump(rand1(random, 2*year) - year)
				case 1:
					r.clock.jump(-time.Duration(r.clock.off.Load())) // put right
				case 2:
					r.stop()
					*r = *start(r.clock)
				case 3:
					if random.IntN(20) == 0 {
						if err := r.Rotate(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, from := range replicas {
					states(t, from.Keyring)
					key := from.PublicKeys()[0]
					primaries[key.ID()] = true
					for _, to := range replicas {
						if _, held := to.KeySet().Lookup(key.ID()); !held {
							t.Fatalf("seed %d: a replica does not hold key %d, which another publishes", seed, key.ID())
						}
					}
				}
			}
			if len(primaries) < 4 {
				t.Errorf("seed %d: only %d primaries", seed, len(primaries))
			}
		})
	}
}

func rand1(r *rand.Rand, max time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(max)))
}
