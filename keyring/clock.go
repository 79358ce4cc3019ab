package keyring

import "time"

// ringClock is the clock by which a replica follows the schedule: the wall clock as
// it was once the replica had settled, carried on by the monotonic clock. So what
// happens to the wall clock while the replica runs makes no step come early.
type ringClock struct {
	wall    func() time.Time
	started time.Time
	settled time.Duration // the uptime at which the wall clock is read for good
	final   bool          // whether that has been done
	origin  time.Time     // the wall clock's time at an uptime of 0
}

func newRingClock(wall func() time.Time, settled time.Duration) *ringClock {
	c := &ringClock{wall: wall, started: time.Now(), settled: settled}
	c.set()
	return c
}

// uptime is the time since the clock was made, which no jump touches.
func (c *ringClock) uptime() time.Duration { return time.Since(c.started) }

// set takes the wall clock for right.
func (c *ringClock) set() { c.origin = c.wall().Round(0).Add(-c.uptime()) }

func (c *ringClock) now() time.Time {
	if !c.final {
		c.set()
		c.final = c.uptime() >= c.settled
	}
	return c.origin.Add(c.uptime()).UTC()
}
