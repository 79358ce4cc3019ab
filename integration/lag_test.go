package integration_test

import (
	"slices"
	"testing"
	"time"
)

// logLags reports how long the replicas took to follow each rotation: from the
// compare-and-swap that made a key the primary to the last replica's publishing it. A
// process that ended before it followed is left out.
func logLags(t *testing.T, f *fleet) {
	t.Helper()
	var swaps []report
	processes := make([][]report, 0)
	for _, r := range f.processes() {
		told := r.told()
		processes = append(processes, told)
		for _, p := range told {
			if p.Kind == swapped && p.Revision > 1 {
				swaps = append(swaps, p)
			}
		}
	}
	var lags []time.Duration
	for _, swap := range swaps {
		lag := time.Duration(-1)
		for _, told := range processes {
			if at, ok := followed(told, swap); ok {
				lag = max(lag, at.Sub(swap.At))
			}
		}
		if lag >= 0 {
			lags = append(lags, lag)
		}
	}
	if len(lags) == 0 {
		t.Error("no rotation was seen")
		return
	}
	slices.Sort(lags)
	t.Logf("%d rotations; from a compare-and-swap to the last replica's switch %v in the median, %v at most",
		len(lags), lags[len(lags)/2].Round(time.Millisecond), lags[len(lags)-1].Round(time.Millisecond))
}

// followed returns when a process published what was swapped, or something newer, if
// it served before that and lived until then.
func followed(told []report, swap report) (at time.Time, ok bool) {
	serves := false
	for _, p := range told {
		serves = serves || p.Kind == ready && p.At.Before(swap.At)
		if serves && p.Kind == switched && p.Revision >= swap.Revision {
			return p.At, true
		}
	}
	return time.Time{}, false
}
