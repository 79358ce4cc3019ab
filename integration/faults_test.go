package integration_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/internal/postgres"
)

// The database is slowed down, stopped and started again, replicas are killed at
// random and started again, and no call to a replica that lives fails. No key is lost,
// the ring has one primary at every moment, and the audit trail has no gap.
func TestFaults(t *testing.T) {
	server := postgres.Start(t)
	db := server.Open("faults")
	newDatabase(t, db)
	proxy := startProxy(t, server.Addr())
	// Callers live through an outage that is shorter than what is left of a publication
	// when they fetch another, and than what the replicas know of them is used for.
	schedule, validity := schedule, 10*time.Second
	schedule.Overlap = 12 * time.Second
	f := startFleet(t, 3, postgres.DSN(proxy.addr(), "faults"), schedule, reload, validity, time.Hour)
	l := newLoad(t, f, 16)
	p := startProber(t, f)
	r := startRegistrar(t, f)
	l.start(40 * time.Millisecond)
	time.Sleep(3 * time.Second) // until each replica knows each caller

	for round := 0; round < rounds() || l.done.Load() < calls()/4; round++ {
		inflict(t, f, server, proxy)
	}
	f.restarts.Wait()
	// Afterwards all is as it was: the ring rotates.
	for seen, end := primary(t, f), time.Now().Add(10*time.Second); primary(t, f) == seen; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no rotation after the last fault")
		}
	}
	r.end()
	p.end()
	l.stop()
	f.stop()

	states := history(t, db)
	checkHistory(t, states, schedule.Overlap)
	checkAudit(t, states)
	accounts := checkAccounts(t, db)
	r.compare(t, db)
	t.Logf("%d processes, %d revisions of the ring, %d accounts, of which %d were registered meanwhile",
		len(f.processes()), len(states), accounts, len(r.registered))
	p.compare(t, states, schedule.Overlap)
	logLags(t, f)
	logTold(t, f)
}

// rounds is how often each fault is inflicted.
func rounds() int {
	if testing.Short() {
		return 1
	}
	return 3
}

// inflict inflicts each fault once, or some of them, in a random order and at random
// moments.
func inflict(t *testing.T, f *fleet, server *postgres.Server, proxy *proxy) {
	t.Helper()
	const slow = 30 * time.Millisecond
	faults := []func(){
		func() { f.killAny() },
		func() { // what is written gets lost halfway
			proxy.slow(slow)
			time.Sleep(rand.N(time.Second))
			f.killAny()
			time.Sleep(time.Second)
			proxy.slow(0)
		},
		func() {
			server.Stop()
			time.Sleep(time.Second + rand.N(time.Second))
			server.StartAgain()
		},
		func() { // who is started finds no database
			server.Stop()
			f.killAny()
			time.Sleep(time.Second)
			server.StartAgain()
		},
		func() {
			server.Stop()
			server.StartAgain()
		},
		func() { proxy.drop() },
	}
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	if testing.Short() {
		faults = faults[:3]
	}
	for _, fault := range faults {
		fault()
		time.Sleep(rand.N(1500 * time.Millisecond))
	}
}

// primary returns the key that a replica publishes as its primary.
func primary(t *testing.T, f *fleet) uint32 {
	t.Helper()
	set, err := published(&balancer{fleet: f})
	check(t, err)
	return set.Keys[0].ID()
}
