package integration_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// Two replicas share a replay guard. A request that was recorded is executed once, however
// often and wherever it is sent again: at once, while the guard's store is down, and when
// that is there again and has forgotten everything.
func TestExchangeOnceOnReplicas(t *testing.T) {
	t.Parallel()
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const times = 64
			s := start(t)
			keys, public := newKeys(t, 1)
			config := serviceConfig{Keys: keys}
			s.configure(&config)
			a, b := startService(t, config), startService(t, config)
			want := func(what string, r *recorded, answers, want map[answer]int, executed int) {
				t.Helper()
				if !maps.Equal(answers, want) {
					t.Errorf("%s: the answers %v, want %v", what, answers, want)
				}
				if n := runs(t, r.name, a, b); n != executed {
					t.Errorf("%s: executed %d times, want %d", what, n, executed)
				}
			}
			rounds := 0
			flood := func(what string, at time.Time) (all []*recorded) {
				t.Helper()
				for _, method := range []string{"POST", "GET", "POST", "DELETE"} {
					r := record(t, public[0], method, at)
					want(what, r, r.flood(t, times, a, b), map[answer]int{r.executed(): 1, replayed: times - 1}, 1)
					all = append(all, r)
					rounds++
				}
				return all
			}
			s.begin(t, public[0], a, b)
			before := flood("at first", time.Now())

			refused := []*recorded{record(t, public[0], "POST", time.Now()), record(t, public[0], "POST", time.Now().Add(-time.Hour))}
			s.Stop()
			for _, r := range refused {
				want("the store is down", r, r.flood(t, 8, a, b), map[answer]int{noGuard: 8}, 0)
			}
			for _, r := range before[:2] {
				want("the store is down, replayed", r, r.flood(t, 8, a, b), map[answer]int{noGuard: 8}, 1)
			}
			c := connection{address: a.Plain}
			call := newCall()
			_, _, err := send(newClient(t, "exchange", c.base(t), public[0], nil), "POST", c.url("/run?call="+call), strings.NewReader("text"))
			if !errors.Is(err, sealhttp.CodeReplayGuardUnavailable) || !errors.Is(err, sealhttp.ErrRefused) {
				t.Errorf("got %v", err)
			}
			wantOutcome(t, err, sealhttp.ErrOutcomeUnknown)
			if n := runs(t, call, a, b); n != 0 {
				t.Errorf("executed %d times without a guard", n)
			}

			time.Sleep(1100 * time.Millisecond) // what was made in the second of a start can be taken once more
			s.StartAgain()
			s.begin(t, public[0], a, b)
			for _, r := range before {
				want("before a restart", r, r.flood(t, times, a, b), map[answer]int{stale: times}, 1)
			}
			for _, r := range refused {
				want("refused before a restart", r, r.flood(t, times, a, b), map[answer]int{stale: times}, 0)
			}
			flood("after a restart", time.Now())
			if !t.Failed() {
				t.Logf("%d requests, each sent %d times at once to two replicas, were executed once each", rounds, times)
			}
		})
	}
}

// A guard in memory takes as many ids as it has room for, of unknown callers a quarter of
// them, and refuses the others.
func TestExchangeGuardFull(t *testing.T) {
	const slots = 1024
	keys, public := newKeys(t, 1)
	s := startService(t, serviceConfig{Keys: keys, GuardBytes: slots * 44})
	taken := make(map[string]int)
	for _, caller := range []string{"", "ada", "ben", "cy", "dora"} {
		for i := 0; ; i++ {
			r := record(t, public[0], "POST", time.Now())
			got := r.once(t, s, caller)
			if got == r.executed() && i < slots {
				taken[caller]++
				continue
			}
			if got != noGuard {
				t.Fatalf("%q: call %d: %v, want %v", caller, i, got, noGuard)
			}
			if n := runs(t, r.name, s); n != 0 {
				t.Errorf("%q: executed %d times without a guard", caller, n)
			}
			break
		}
	}
	for _, caller := range []string{"", "ada", "ben"} {
		if taken[caller] != slots/4 {
			t.Errorf("of %q %d were taken, want %d", caller, taken[caller], slots/4)
		}
	}
	// Each caller takes a slot, too.
	if n := taken["cy"]; n > slots/4-4 || n < slots/4-16 || taken["dora"] != 0 {
		t.Errorf("of the last ones %d and %d were taken", n, taken["dora"])
	}
	t.Logf("taken were %v", taken)
}

// An nginx that sends what has failed to another replica, and one that mirrors calls, do
// not have them executed twice. In the message profile they do.
func TestExchangeRepeatedByNginx(t *testing.T) {
	redis := startRedis(t)
	keys, public := newKeys(t, 1)
	own := newCallerKey(t)
	config := serviceConfig{Keys: keys, Caller: own.Public().Bytes()}
	redis.configure(&config)
	a, b := startService(t, config), startService(t, config)
	n := startNginx(t, nginxServers{
		shared: fmt.Sprintf("upstream both { server %s max_fails=0; server %s max_fails=0; } upstream a { server %[1]s; } upstream b { server %[2]s; }", a.Plain, b.Plain),
		servers: map[string]string{
			"fails over": "location / { proxy_pass http://both; proxy_next_upstream error timeout http_500 http_503 non_idempotent; }",
			"mirrors":    "location / { proxy_pass http://a; mirror /mirrored; } location = /mirrored { internal; proxy_pass http://b$request_uri; }",
		},
	})
	for server, target := range map[string]string{"fails over": "/abort?", "mirrors": "/run?"} {
		t.Run(server, func(t *testing.T) {
			g := &gateway{nginx: n, s: a, key: public[0], own: own}
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				call := newCall()
				_, text, err := c.send(http.MethodPost, target+"call="+call, "text")
				switch {
				case !c.sealsExchanges():
					eventually(t, "it is executed twice", func() bool { return runs(t, call, a, b) == 2 })
					return
				case err == nil && server == "mirrors": // the other one came later
					if want := call + ": 1, with 4 bytes"; text != want {
						t.Errorf("%q, want %q", text, want)
					}
				case !errors.Is(err, sealhttp.CodeReplayed):
					t.Errorf("got %v, want %v", err, sealhttp.CodeReplayed)
				default:
					wantOutcome(t, err, sealhttp.ErrOutcomeUnknown)
				}
				// Who was first may have taken it, and not executed it yet.
				eventually(t, "it is executed", func() bool { return runs(t, call, a, b) > 0 })
				if n := runs(t, call, a, b); n != 1 {
					t.Errorf("it was executed %d times", n)
				}
			})
		})
	}
}
