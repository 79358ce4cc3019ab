package keyring_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
)

const day = 24 * time.Hour

func TestScheduleDefaults(t *testing.T) {
	for name, tc := range map[string]struct {
		given              keyring.Schedule
		interval, validity time.Duration
		raw                bool
		want               keyring.Schedule
		wantInterval       time.Duration
		wantErr            string
	}{
		"all":                     {want: keyring.Schedule{Every: 365 * day, Lead: 2 * time.Minute, Overlap: 30 * day}, wantInterval: time.Minute},
		"a reload interval":       {interval: time.Hour, want: keyring.Schedule{Every: 365 * day, Lead: 2 * time.Hour, Overlap: 30 * day}, wantInterval: time.Hour},
		"a short lead":            {given: keyring.Schedule{Lead: time.Second}, want: keyring.Schedule{Every: 365 * day, Lead: time.Second, Overlap: 30 * day}, wantInterval: time.Second / 2},
		"a long lead":             {given: keyring.Schedule{Lead: day}, want: keyring.Schedule{Every: 365 * day, Lead: day, Overlap: 30 * day}, wantInterval: time.Minute},
		"a long validity":         {validity: 60 * day, want: keyring.Schedule{Every: 365 * day, Lead: 2 * time.Minute, Overlap: 60 * day}, wantInterval: time.Minute},
		"a validity as overlap":   {given: keyring.Schedule{Overlap: day}, validity: day, want: keyring.Schedule{Every: 365 * day, Lead: 2 * time.Minute, Overlap: day}, wantInterval: time.Minute},
		"several previous keys":   {given: keyring.Schedule{Every: day}, want: keyring.Schedule{Every: day, Lead: 2 * time.Minute, Overlap: 30 * day}, wantInterval: time.Minute},
		"without prefix":          {raw: true, want: keyring.Schedule{Every: 365 * day, Lead: 2 * time.Minute, Overlap: 30 * day}, wantInterval: time.Minute},
		"without prefix, just so": {raw: true, given: keyring.Schedule{Every: 3 * day, Lead: day, Overlap: 2 * day}, want: keyring.Schedule{Every: 3 * day, Lead: day, Overlap: 2 * day}, wantInterval: time.Minute},

		"negative Every":        {given: keyring.Schedule{Every: -1}, wantErr: "negative"},
		"negative Lead":         {given: keyring.Schedule{Lead: -1}, wantErr: "negative"},
		"negative Overlap":      {given: keyring.Schedule{Overlap: -1}, wantErr: "negative"},
		"negative validity":     {validity: -1, wantErr: "negative"},
		"Lead below two":        {given: keyring.Schedule{Lead: 2*time.Minute - 1}, interval: time.Minute, wantErr: "below two reload intervals"},
		"Lead below all":        {given: keyring.Schedule{Lead: time.Millisecond}, wantErr: "below 1ms"},
		"Overlap below":         {given: keyring.Schedule{Overlap: day - 1}, validity: day, wantErr: "below the publication validity"},
		"Every not above Lead":  {given: keyring.Schedule{Every: day, Lead: day}, wantErr: "not above Lead"},
		"too many at once":      {given: keyring.Schedule{Every: time.Hour, Lead: time.Minute}, wantErr: "more than 64 keys"},
		"without prefix, below": {raw: true, given: keyring.Schedule{Every: 3*day - 1, Lead: day, Overlap: 2 * day}, wantErr: "below Lead"},
	} {
		got, interval, err := keyring.Complete(tc.given, tc.interval, tc.validity, tc.raw)
		switch {
		case tc.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("%s: got error %v, want %q", name, err, tc.wantErr)
			}
		case err != nil || got != tc.want || interval != tc.wantInterval:
			t.Errorf("%s: got %v, %v, %v, want %v, %v", name, got, interval, err, tc.want, tc.wantInterval)
		}
	}
}

// Every step, at the moment it falls due and not a nanosecond before, for what the
// replica has seen begin and for what it has only the stamps of.
func TestPlan(t *testing.T) {
	const (
		primary, pending, previous, retired = keyring.Primary, keyring.Pending, keyring.Previous, keyring.Retired
		r                                   = time.Minute
		long                                = 1000 * day // of watching
	)
	sched := keyring.Schedule{Every: 365 * day, Lead: 10 * r, Overlap: 30 * day}
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) time.Time { return t0.Add(-ago) }
	key := func(id uint32, state keyring.KeyState, age time.Duration) keyring.TestKey {
		return keyring.TestKey{ID: id, State: state, Stamp: at(age)}
	}
	witnessed := func(k keyring.TestKey, since time.Duration) keyring.TestKey {
		k.Seen, k.Witnessed = long-since, true
		return k
	}
	with := func(k keyring.TestKey, f func(*keyring.TestKey)) keyring.TestKey { f(&k); return k }
	raw := func(k *keyring.TestKey) { k.Raw = true }
	missing := func(k *keyring.TestKey) { k.Missing = true }

	for _, tc := range []struct {
		name  string
		keys  []keyring.TestKey
		since time.Duration // that the replica has watched, 0: long
		raw   bool
		want  []string
		wait  time.Duration // to the next step, where there is none now
	}{
		{name: "a young primary", keys: []keyring.TestKey{key(1, primary, day)}, wait: 364*day - 10*r},
		{name: "just before a rotation", keys: []keyring.TestKey{key(1, primary, 365*day-10*r-1)}, wait: 1},
		{name: "a rotation", keys: []keyring.TestKey{key(1, primary, 365*day-10*r)}, want: []string{"generate"}},
		{name: "a rotation long due", keys: []keyring.TestKey{key(1, primary, 3650*day)}, want: []string{"generate"}},
		{name: "just before a promotion", keys: []keyring.TestKey{key(1, primary, 365*day-1), key(2, pending, 10*r-1)}, wait: 1},
		{name: "a promotion", keys: []keyring.TestKey{key(1, primary, 365*day), key(2, pending, 10*r)}, want: []string{"promote"}},
		{name: "just before a retirement", keys: []keyring.TestKey{key(1, primary, 30*day-1), key(2, previous, 30*day-1)}, wait: 1},
		{name: "a retirement", keys: []keyring.TestKey{key(1, primary, 30*day), key(2, previous, 30*day)}, want: []string{"retire 2"}},
		{name: "only the old one of two", keys: []keyring.TestKey{key(1, primary, day), key(2, previous, day), key(3, previous, 31*day)}, want: []string{"retire 3"}},
		{name: "two at once", keys: []keyring.TestKey{key(1, primary, 31*day), key(2, previous, 31*day), key(3, previous, 40*day)}, want: []string{"retire 2", "retire 3"}},
		{name: "a retirement and a promotion", keys: []keyring.TestKey{key(1, primary, 365*day), key(2, pending, 10*r), key(3, previous, 365*day)}, want: []string{"retire 3", "promote"}},
		{name: "retired keys do nothing", keys: []keyring.TestKey{key(1, primary, 0), key(2, retired, 999*day)}, wait: 365*day - 10*r},

		{name: "a pending key that is not held", keys: []keyring.TestKey{key(1, primary, 365*day), with(key(2, pending, 20*r), missing)}, want: []string{"postpone"}},
		{name: "held up in time", keys: []keyring.TestKey{key(1, primary, 365*day), with(key(2, pending, 10*r-r*3/2), missing)}, want: []string{"postpone"}},
		{name: "not held, early", keys: []keyring.TestKey{key(1, primary, 364*day), with(key(2, pending, 8*r), missing)}, wait: r / 2},

		// A replica that has just begun looks on for two intervals.
		{name: "begun, generate", since: 2*r - 1, keys: []keyring.TestKey{key(1, primary, 999*day)}, wait: 1},
		{name: "begun, promote", since: 2*r - 1, keys: []keyring.TestKey{key(1, primary, 999*day), key(2, pending, day)}, wait: 1},
		{name: "begun, retire", since: 2*r - 1, keys: []keyring.TestKey{key(1, primary, 99*day), key(2, previous, 99*day)}, wait: 1},
		{name: "settled, promote", since: 2 * r, keys: []keyring.TestKey{key(1, primary, 999*day), key(2, pending, day)}, want: []string{"promote"}},

		// What was witnessed is as old as it was watched, whatever the stamp says.
		{name: "witnessed generate, stamp of another clock", keys: []keyring.TestKey{witnessed(key(1, primary, 999*day), 364*day)}, wait: day - 10*r},
		{name: "witnessed generate", keys: []keyring.TestKey{witnessed(key(1, primary, day), 365*day-10*r)}, want: []string{"generate"}},
		{name: "witnessed retirement, stamp of another clock", keys: []keyring.TestKey{key(1, primary, day), witnessed(key(2, previous, 9999*day), 29*day)}, wait: day},
		{name: "witnessed retirement", keys: []keyring.TestKey{key(1, primary, day), witnessed(key(2, previous, day), 30*day)}, want: []string{"retire 2"}},
		{name: "witnessed promotion, stamp of another clock", keys: []keyring.TestKey{key(1, primary, 365*day), witnessed(key(2, pending, 9999*day), 9*r)}, wait: r},

		// A clock behind the ring's last step does nothing.
		{name: "behind the primary", keys: []keyring.TestKey{witnessed(key(1, primary, -1), 999*day), key(2, previous, 99*day)}, wait: 1},
		{name: "behind the pending key", keys: []keyring.TestKey{key(1, primary, 999*day), witnessed(key(2, pending, -day), day)}, wait: day},

		// Keys without a prefix: two at most.
		{name: "raw, alone", raw: true, keys: []keyring.TestKey{with(key(1, primary, 365*day), raw)}, want: []string{"generate"}},
		{name: "raw, waits for the previous", raw: true, keys: []keyring.TestKey{with(key(1, primary, 365*day), raw), with(key(2, previous, 29*day), raw)}, wait: day},
		{name: "raw, retires first", raw: true, keys: []keyring.TestKey{with(key(1, primary, 365*day), raw), with(key(2, previous, 30*day), raw)}, want: []string{"retire 2"}},
		{name: "raw before, prefixed next", keys: []keyring.TestKey{with(key(1, primary, 365*day), raw), with(key(2, previous, day), raw)}, want: []string{"generate"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			uptime := long
			keys := slices.Clone(tc.keys)
			if tc.since != 0 {
				for i := range keys {
					keys[i].Seen = uptime - tc.since
				}
			}
			steps, wait := keyring.Plan(sched, r, keys, t0, uptime, tc.raw)
			if !slices.Equal(steps, tc.want) {
				t.Errorf("got steps %q, want %q", steps, tc.want)
			}
			if tc.want == nil && wait != tc.wait {
				t.Errorf("got %v to the next step, want %v", wait, tc.wait)
			}
		})
	}
}
