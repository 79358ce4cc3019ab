package integration_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
)

// A hop delivers what it has kept of a call before, inside and after the time in which the
// service takes it, whatever the caller's clock was. It is executed once, and the guard
// knows it when the service no longer takes it.
func TestExchangeReplayedAroundWindow(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the window to pass")
	}
	t.Parallel()
	const window = 2 * time.Second
	redis := startRedis(t)
	keys, public := newKeys(t, 1)
	config := serviceConfig{Keys: keys, Window: window}
	redis.configure(&config)
	services := []*service{startService(t, config), startService(t, config)}
	redis.age(t, public[0], services...)
	clock, err := exchangeparty.NewPrivateKey(public[0].Suite().String(), keys[0].ID, keys[0].Raw)
	check(t, err)
	honest := act{deliver: true, react: pass}
	held := act{deliver: true, react: hangUp}
	kept := act{react: hangUp}
	late := act{wait: window + time.Second, deliver: true, react: pass}
	run := newGroup(t, 32)
	for name, row := range map[string]struct {
		offset time.Duration // of the caller's clock
		acts   []act
		want   error
		runs   [4]int // after the call, and after each of the replays
	}{
		"in time, held back":   {0, []act{held}, sealhttp.ErrOutcomeUnknown, [4]int{1, 1, 1, 1}},
		"in time":              {0, []act{honest}, nil, [4]int{1, 1, 1, 1}},
		"late":                 {0, []act{late, honest}, nil, [4]int{1, 1, 1, 1}},
		"late, then held back": {0, []act{late, held}, sealhttp.ErrOutcomeUnknown, [4]int{1, 1, 1, 1}},
		// What came too early becomes good later: another try would have two of them.
		"fast":                   {5 * time.Second, []act{honest}, sealhttp.CodeStale, [4]int{0, 0, 1, 1}},
		"fast, held back":        {5 * time.Second, []act{held}, sealhttp.ErrOutcomeUnknown, [4]int{0, 0, 1, 1}},
		"fast, kept":             {5 * time.Second, []act{kept}, sealhttp.ErrOutcomeUnknown, [4]int{0, 0, 1, 1}},
		"fast, kept, then stale": {5 * time.Second, []act{kept, honest}, sealhttp.CodeStale, [4]int{0, 0, 1, 1}},
		"slow":                   {-4 * time.Second, []act{honest}, nil, [4]int{1, 1, 1, 1}},
		"slow, then held back":   {-4 * time.Second, []act{honest, held}, sealhttp.ErrOutcomeUnknown, [4]int{1, 1, 1, 1}},
		"slow, kept":             {-4 * time.Second, []act{kept}, sealhttp.ErrOutcomeUnknown, [4]int{0, 0, 0, 0}},
	} {
		for _, http2 := range []bool{false, true} {
			run.start(name+"/"+protocolName(http2), func(t *testing.T) {
				h := startHop(t, http2, services, row.acts...)
				h.clock, h.offset = clock, row.offset
				c := newHeldCaller(t, h, http2, public)
				c.timeout = 20 * time.Second
				c.base.CloseIdleConnections() // so that net/http itself does not try again
				got, err := c.call(t, heldBodies[0])
				c.ended(t, heldBodies[0], got, err, row.want)
				counted := [4]int{runs(t, c.name, services...)}
				var codes []string
				for i, wait := range []time.Duration{0, window + time.Second, 2*window + time.Second} {
					time.Sleep(wait)
					codes = append(codes, fmt.Sprint(h.replay()))
					counted[i+1] = runs(t, c.name, services...)
				}
				if counted != row.runs {
					t.Errorf("executed %v times, want %v; the replays were answered with %v", counted, row.runs, codes)
				}
				if row.runs[0] == 1 && slices.ContainsFunc(codes, func(s string) bool {
					return s != fmt.Sprintf("map[%s:%d]", sealhttp.CodeReplayed, 4*len(h.all()))
				}) {
					t.Errorf("the replays were answered with %v", codes)
				}
			})
		}
	}
	run.wait()
}

// The service's key is replaced while a hop holds back an answer, or a request. Under the
// new key, the call is still the same one.
func TestExchangeHeldBackOverRotation(t *testing.T) {
	run := newGroup(t, 8)
	for what, r := range reactions {
		for how, acts := range heldHow {
			for _, gone := range []bool{false, true} {
				for _, http2 := range []bool{false, true} {
					if !http2 && !r.http1 || !r.again || (how != "executed, then honest" && how != "kept, then honest") {
						continue
					}
					run.start(fmt.Sprintf("%s/%s/the old key is gone: %t/%s", what, how, gone, protocolName(http2)), func(t *testing.T) {
						keys, public := newKeys(t, 2)
						s := startService(t, serviceConfig{Keys: keys[:1]})
						both := []keyConfig{keys[1], keys[0]}
						next := both
						if gone {
							next = both[:1]
						}
						acts := acts(r.react)
						acts[0].then = func() { s.ask(t, http.MethodPost, "/keys", next, nil) }
						h := startHop(t, http2, []*service{s}, acts...)
						c := newHeldCaller(t, h, http2, public)
						_, err := c.call(t, heldBodies[0])
						executed := acts[0].deliver
						if err == nil {
							executed = true
						} else {
							wantOutcome(t, err, sealhttp.ErrOutcomeUnknown)
						}
						// Another key is asked for once: after the hop's unknown_key, or the service's,
						// if net/http has delivered the same bytes again.
						ofHTTP := what == "GOAWAY" || what == "REFUSED_STREAM"
						if want := !acts[0].deliver && (!gone || what == "unknown_key" || ofHTTP); want != (err == nil) {
							t.Errorf("got %v", err)
						}
						if n := runs(t, c.name, s); n > 1 || executed && n == 0 {
							t.Errorf("executed %d times", n)
						}
						h.replay()
						s.ask(t, http.MethodPost, "/keys", both, nil)
						h.replay()
						if n := runs(t, c.name, s); n != 1 {
							t.Errorf("executed %d times, with the hop's own and under both keys", n)
						}
					})
				}
			}
		}
	}
	run.wait()
	t.Logf("%d calls", run.started)
}
