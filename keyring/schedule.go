package keyring

import (
	"fmt"
	"time"
)

// Schedule says when keys change. A zero field is the default.
type Schedule struct {
	// Every is the time from one primary to the next: 365 days by default.
	Every time.Duration
	// Lead is how long a key is pending, so that every replica holds it before the
	// first caller uses it. It is at least two reload intervals, the default.
	Lead time.Duration
	// Overlap is how long a previous key still opens: the longest time that a
	// caller may take to refresh. By default it is 30 days, or the publication
	// validity if that is longer.
	Overlap time.Duration
}

const (
	defaultEvery   = 365 * 24 * time.Hour
	defaultOverlap = 30 * 24 * time.Hour
	defaultReload  = time.Minute
	minReload      = time.Millisecond
)

// timing is a Schedule with all its defaults, and what goes with it.
type timing struct {
	Schedule
	interval time.Duration // between two reloads, at the longest
	validity time.Duration // of what is published; 0: unknown
}

// complete fills in the defaults and refuses what cannot work. raw says that the
// ring's keys have no prefix.
func (t timing) complete(raw bool) (timing, error) {
	if d := min(t.Every, t.Lead, t.Overlap, t.interval, t.validity); d < 0 {
		return t, fmt.Errorf("keyring: schedule: a duration is negative: %v", d)
	}
	if t.Every == 0 {
		t.Every = defaultEvery
	}
	if t.Overlap == 0 {
		t.Overlap = max(defaultOverlap, t.validity)
	}
	if t.interval == 0 {
		t.interval = defaultReload
		if t.Lead != 0 {
			t.interval = min(t.interval, t.Lead/2)
		}
	}
	if t.Lead == 0 {
		t.Lead = 2 * t.interval
	}
	switch {
	case t.interval < minReload:
		return t, fmt.Errorf("keyring: schedule: a reload interval of %v is below %v", t.interval, minReload)
	case t.Lead < 2*t.interval:
		return t, fmt.Errorf("keyring: schedule: Lead %v is below two reload intervals of %v: a replica could miss the new key", t.Lead, t.interval)
	case t.Overlap < t.validity:
		return t, fmt.Errorf("keyring: schedule: Overlap %v is below the publication validity of %v: callers would use a key that is gone", t.Overlap, t.validity)
	case t.Every <= t.Lead:
		return t, fmt.Errorf("keyring: schedule: Every %v is not above Lead %v", t.Every, t.Lead)
	case raw && t.Every < t.Lead+t.Overlap:
		return t, fmt.Errorf("keyring: schedule: Every %v is below Lead %v + Overlap %v: without a prefix a ring holds two keys, so the previous one must retire before the next one comes", t.Every, t.Lead, t.Overlap)
	case t.Overlap/t.Every >= maxLive-3: // primary, pending, and one more previous than the quotient, rounded up
		return t, fmt.Errorf("keyring: schedule: with Every %v and Overlap %v more than %d keys would be live at once", t.Every, t.Overlap, maxLive)
	}
	return t, nil
}

// A step is what the schedule asks for.
type step struct {
	do stepKind
	id uint32 // of the key to retire
}

type stepKind string

const (
	stepRetire   stepKind = "retire"
	stepPromote  stepKind = "promote"
	stepPostpone stepKind = "postpone"
	stepGenerate stepKind = "generate"
)

// view is what one replica knows of time, and of the keys.
type view struct {
	now    time.Time            // by the wall clock, which may jump
	uptime time.Duration        // by the monotonic clock, which does not
	steady time.Duration        // the uptime since when the store answers and nothing was written back
	seen   map[uint32]sighting  // when this replica saw each key's state
	held   func(id uint32) bool // whether this replica has the private half
	prefix bool                 // whether a new key has a prefix
}

// sighting is when a replica first saw a key in its state.
type sighting struct {
	state KeyState
	stamp time.Time
	at    time.Duration // uptime
	// witnessed says that the replica saw the ring before, so that the state began
	// about then; otherwise only the stamp tells.
	witnessed bool
}

// age returns how long a key has been in its state. What a replica has witnessed it
// has measured itself, whatever the clock of the one that stamped it said. For the
// rest it has the stamp.
func (v *view) age(k *key) time.Duration {
	if s := v.seen[k.id]; s.witnessed {
		return v.uptime - s.at
	}
	return max(v.now.Sub(k.stamp()), 0)
}

// until returns how long it is until a key has been in its state for d. A replica
// that has just begun watches for two reload intervals first: its clock may not
// have been set yet, and others may not have seen what it sees. It does the same
// after an outage of the store, and when a state was written back: others may know
// of something newer.
func (v *view) until(k *key, d time.Duration, t *timing) time.Duration {
	return max(d-v.age(k), 2*t.interval-(v.uptime-max(v.seen[k.id].at, v.steady)))
}

// behind returns by how much the clock stands before the ring's last step.
func (v *view) behind(r *ring) time.Duration {
	var last time.Time
	for _, state := range []KeyState{Primary, Pending} {
		if k := r.in(state); k != nil && k.stamp().After(last) {
			last = k.stamp()
		}
	}
	return max(last.Sub(v.now), 0)
}

// plan returns the steps that are due, in order, and how long it is until the next
// one, if none of them is taken.
func (t *timing) plan(r *ring, v *view) (steps []step, wait time.Duration) {
	if b := v.behind(r); b > 0 {
		return nil, b
	}
	wait = t.Every
	due := func(s step, in time.Duration) {
		if in <= 0 {
			steps = append(steps, s)
		} else {
			wait = min(wait, in)
		}
	}
	for i := range r.keys {
		if k := &r.keys[i]; k.state == Previous {
			due(step{stepRetire, k.id}, v.until(k, t.Overlap, t))
		}
	}
	switch k := r.in(Pending); {
	case k == nil:
		if r.room(v.prefix) == nil {
			due(step{do: stepGenerate}, v.until(r.in(Primary), t.Every-t.Lead, t))
		}
	case v.held(k.id):
		due(step{do: stepPromote}, v.until(k, t.Lead, t))
	default:
		// Others promote when Lead has passed for them, who may have seen the key a
		// reload earlier; this replica looks again within another.
		age := max(v.age(k), v.now.Sub(k.created))
		due(step{do: stepPostpone}, t.Lead-t.interval*3/2-age)
	}
	return steps, wait
}
