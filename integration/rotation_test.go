package integration_test

import (
	"flag"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/keyring"
)

var callsFlag = flag.Int("calls", 20_000, "how many calls TestRotation makes at least; TestFaults makes a quarter of them")

// calls is how many calls a test is to make.
func calls() int64 {
	if testing.Short() {
		return int64(*callsFlag / 10)
	}
	return int64(*callsFlag)
}

// What a year, a week and a month are here.
var schedule = keyring.Schedule{Every: time.Second, Lead: 700 * time.Millisecond, Overlap: 6 * time.Second}

const (
	reload   = 150 * time.Millisecond
	validity = 5 * time.Second
)

// Three replicas replace their key every second, an operator revokes keys that callers
// still have, callers replace theirs, and no call fails.
func TestRotation(t *testing.T) {
	server := postgres.Start(t)
	db := server.Open("rotation")
	newDatabase(t, db)
	f := startFleet(t, 3, postgres.DSN(server.Addr(), "rotation"), schedule, reload, validity, time.Second)
	l := newLoad(t, f, 24)
	p := startProber(t, f)
	began, least := time.Now(), schedule.Overlap+3*time.Second
	if testing.Short() {
		least = 4 * time.Second
	}
	l.start(10 * time.Millisecond)
	for second := 1; l.done.Load() < calls() || time.Since(began) < least; second++ {
		time.Sleep(time.Second)
		if second%3 == 0 {
			revokePrevious(t, f)
		}
		if c, ok := l.callers[second%len(l.callers)].(*sealingCaller); ok {
			check(t, c.replaceKey())
		}
	}
	p.end()
	l.stop()
	f.stop()

	states := history(t, db)
	checkHistory(t, states, schedule.Overlap)
	checkAudit(t, states)
	checkAccounts(t, db)
	p.compare(t, states, schedule.Overlap)
	logLags(t, f)
	logTold(t, f)
	for event, n := range f.events() {
		switch event {
		case keyring.EventGenerated, keyring.EventPublished, keyring.EventPromoted, keyring.EventRetired, keyring.EventRevoked, keyring.EventPreviousKeyUsed:
		case keyring.EventStoreUnreachable, keyring.EventStoreReachable: // on a machine that is very busy
		default:
			t.Errorf("%d times %s, where nothing goes wrong", n, event)
		}
	}
}

// revokePrevious revokes the key that was replaced before the last one. Replicas that
// have not heard of it yet publish the last two at most.
func revokePrevious(t *testing.T, f *fleet) {
	t.Helper()
	set, err := published(&balancer{fleet: f})
	check(t, err)
	const before = 2 // the primary and the one that it has replaced
	if len(set.Keys) <= before {
		return
	}
	r, err := f.any()
	check(t, err)
	_, err = post(&http.Client{Transport: base}, fmt.Sprintf("%s/operator/revoke/%d", r.url, set.Keys[before].ID()), "operator", "")
	check(t, err)
}

// logTold reports what the replicas have told of their rings and calls.
func logTold(t *testing.T, f *fleet) {
	t.Helper()
	t.Logf("the rings told %v", f.events())
	t.Logf("the replicas refused %v", f.refusals())
	for code, n := range f.refusals() {
		if code != "unknown_key" {
			t.Errorf("%d calls were refused with %s", n, code)
		}
	}
}
