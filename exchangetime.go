package sealhttp

import "time"

// clockTolerance is how far the monotonic and the wall clock may part within a call
// before neither is trusted.
const clockTolerance = 3 * time.Second

// attemptTime is a time by both clocks. The monotonic one may stand still while the
// machine is suspended, and the wall clock may be set: each alone can take hours for
// a moment.
type attemptTime struct {
	monotonic time.Time
	wall      time.Time // without a monotonic reading
}

// wallTime is the time without a monotonic reading.
func wallTime() time.Time { return time.Now().Round(0) }

// elapsed returns how long ago it was, by the clock that says longer.
func (a attemptTime) elapsed(t *Transport) time.Duration {
	return max(time.Since(a.monotonic), t.wall().Sub(a.wall))
}

// isSteady reports whether both clocks say about the same.
func (a attemptTime) isSteady(t *Transport) bool {
	return (time.Since(a.monotonic) - t.wall().Sub(a.wall)).Abs() <= clockTolerance
}

// inTime reports whether another attempt may begin now under the call's id.
func (c *exchangeCall) inTime() bool {
	return c.first.isSteady(c.t) && c.first.elapsed(c.t) < retryWithin
}

// timestamp returns the service's time, in seconds, so long after the first attempt.
func (c *exchangeCall) timestamp(elapsed time.Duration) int64 {
	now := c.first.wall.Add(elapsed).Unix() + c.clock
	return min(max(now, 0), maxTimestamp)
}

// stamp sets the time of another attempt under the call's id, and reports whether there
// may be one.
//
// The service remembers the id of an attempt that it executes for twice its window and a
// little more. That covers another attempt only if its time is not earlier, and about a
// minute later at most, or else is the service's own of this minute. It is the time that
// is sent which counts, however long the sending takes.
func (c *exchangeCall) stamp() bool {
	elapsed := c.first.elapsed(c.t)
	if !c.first.isSteady(c.t) || elapsed >= retryWithin {
		return false
	}
	ts := c.timestamp(elapsed)
	if ts < c.binding.timestamp {
		return false
	}
	c.binding.timestamp = ts
	return true
}
