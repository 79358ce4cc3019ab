package integration_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// load is callers that call until they are stopped, each any replica that lives.
type load struct {
	t        *testing.T
	fleet    *fleet
	callers  []caller
	started  time.Time
	stopping atomic.Bool
	group    sync.WaitGroup

	done   atomic.Int64 // answered as they should be
	lost   atomic.Int64 // on their way when their replica was killed
	failed atomic.Int64
}

// newLoad registers callers, half of which have a Transport, half Tink.
func newLoad(t *testing.T, f *fleet, callers int) *load {
	t.Helper()
	l := &load{t: t, fleet: f}
	t.Cleanup(l.end)
	for i := range callers {
		var c caller
		var err error
		if i%2 == 0 {
			c, err = newSealingCaller(f, fmt.Sprintf("transport-%d", i))
		} else {
			c, err = newTinkCaller(f, fmt.Sprintf("tink-%d", i))
		}
		check(t, err)
		l.callers = append(l.callers, c)
	}
	return l
}

// start begins to call, with a pause between two calls of each caller.
func (l *load) start(pause time.Duration) {
	l.started = time.Now()
	for _, c := range l.callers {
		l.group.Go(func() {
			for n := 0; !l.stopping.Load(); n++ {
				l.call(c, fmt.Sprintf("call %d of %s", n, c.name()))
				time.Sleep(pause)
			}
		})
	}
}

func (l *load) call(c caller, body string) {
	r, err := l.fleet.any()
	if err == nil {
		err = c.call(r.url, body)
	}
	switch {
	case err == nil:
		l.done.Add(1)
	case r != nil && r.dying.Load() && isLost(err):
		l.lost.Add(1)
	default:
		if l.failed.Add(1) < 10 {
			l.t.Errorf("%s: %v", c.name(), err)
		}
	}
}

// isLost reports whether a call ended without an answer.
func isLost(err error) bool {
	var refused *sealhttp.Error
	return !errors.As(err, &refused) && !errors.Is(err, errAnswer)
}

// end ends the calls.
func (l *load) end() {
	l.stopping.Store(true)
	l.group.Wait()
}

// stop ends the calls, and reports how they went.
func (l *load) stop() {
	l.t.Helper()
	l.end()
	seconds := time.Since(l.started).Seconds()
	l.t.Logf("%d calls in %.1f s, %.0f a second; %d failed, %d were on their way to a replica that was killed",
		l.done.Load()+l.failed.Load(), seconds, float64(l.done.Load())/seconds, l.failed.Load(), l.lost.Load())
	if n := l.failed.Load(); n > 0 {
		l.t.Errorf("%d calls failed", n)
	}
	for _, kind := range []string{"Transport", "Tink"} {
		var fetches []int64
		for _, c := range l.callers {
			if _, sealing := c.(*sealingCaller); sealing == (kind == "Transport") {
				fetches = append(fetches, c.fetches())
			}
		}
		slices.Sort(fetches)
		l.t.Logf("each of %d callers with %s fetched the keys %d to %d times, %d in the median",
			len(fetches), kind, fetches[0], fetches[len(fetches)-1], fetches[len(fetches)/2])
	}
}
