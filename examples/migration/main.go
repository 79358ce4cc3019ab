// Migration takes an API from plaintext to enforced encryption, and back, while its
// callers call without a pause:
//
//	go run ./examples/migration
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/sealhttp/sealhttp"
)

func main() {
	const calls = 300 // of each caller in each step
	if _, err := migrate(os.Stdout, calls); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// migration is what happened.
type migration struct {
	steps   []step
	callers []*caller
	unseen  int64            // calls before sealhttp was mounted
	total   map[string]tally // what the observer has told of all others
}

// step is what the observer has told while a step lasted: of the calls that were still
// under way when it began, and of those that came after.
type step struct {
	name          string
	before, after map[string]tally
}

func migrate(out io.Writer, calls int) (*migration, error) {
	s, err := newService()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	mounted, shadow, err := s.shadow()
	if err != nil {
		return nil, err
	}
	enforced, err := s.enforced(mounted)
	if err != nil {
		return nil, err
	}

	http1, http2 := new(http.Protocols), new(http.Protocols)
	http1.SetHTTP1(true)
	http2.SetUnencryptedHTTP2(true)
	clinic := newCaller("clinic", s.URL, &http.Transport{Protocols: http1})
	lab := newCaller("lab", s.URL, &http.Transport{Protocols: http2})
	shop := newCaller("shop", s.URL, &http.Transport{Protocols: http2})
	kiosk := newCaller("kiosk", s.URL, &http.Transport{Protocols: http1})
	m := &migration{callers: []*caller{clinic, lab, shop, kiosk}, total: make(map[string]tally)}

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, c := range m.callers {
		running.Go(func() { c.run(ctx) })
	}

	// do changes something and reports what happens then.
	do := func(name string, change func() error) {
		if err == nil {
			err = change()
		}
		if err != nil {
			return
		}
		m.wait(2) // what was under way has ended
		before := s.measure()
		m.wait(calls)
		m.add(out, step{name, before, s.measure()})
	}

	do("0 plaintext: sealhttp is not mounted", func() error { return nil })
	do("1 shadow: it is mounted, and nobody notices", func() error {
		s.deploy(shadow)
		return nil
	})
	do("2 adoption: clinic and lab seal all, shop its bodies", func() error {
		return errors.Join(clinic.sealAll(s), lab.sealAllWithTink(s), shop.sealBodies(s))
	})
	do("2 adoption: shop seals all", func() error { return shop.sealAll(s) })
	do("3 enforced for the accounts that are ready", func() error {
		for account, t := range m.last() {
			if t.ready() {
				s.policies.set(account, sealhttp.Required)
			}
		}
		return nil
	})
	do("4 enforced for POST /records: kiosk is refused there", func() error {
		s.deploy(enforced)
		return nil
	})
	do("5 rolled back: the route, and clinic", func() error {
		s.deploy(shadow)
		s.policies.set("clinic", sealhttp.Optional) // first the policy, then the caller
		clinic.use(clinic.network)
		return nil
	})
	do("6 again: clinic and kiosk seal all", func() error {
		return errors.Join(clinic.sealAll(s), kiosk.sealAll(s))
	})
	do("6 again: enforced for all", func() error {
		for account, t := range m.last() {
			if !t.ready() {
				return fmt.Errorf("%s is not ready: %+v", account, t)
			}
			s.policies.set(account, sealhttp.Required)
		}
		s.deploy(enforced)
		return nil
	})

	stop()
	running.Wait()
	if err == nil {
		m.sum(s.measure())
		m.unseen = s.unseen.Load()
		m.conclude(out)
	}
	return m, err
}

// wait waits until each caller has made n more calls.
func (m *migration) wait(n int) {
	var all sync.WaitGroup
	for _, c := range m.callers {
		all.Go(func() { c.wait(n) })
	}
	all.Wait()
}

// last returns the counts of the last step.
func (m *migration) last() map[string]tally { return m.steps[len(m.steps)-1].after }

// add prints and keeps a step.
func (m *migration) add(out io.Writer, s step) {
	m.steps = append(m.steps, s)
	m.sum(s.before)
	m.sum(s.after)
	fmt.Fprintln(out, s.name)
	if len(s.after) == 0 {
		fmt.Fprintf(out, "   nothing is measured\n\n")
		return
	}
	fmt.Fprintf(out, "   %-8s %7s %9s %7s %7s %8s %7s\n", "account", "calls", "in clear", "half", "sealed", "refused", "ready")
	for _, c := range m.callers {
		t := s.after[c.account]
		fmt.Fprintf(out, "   %-8s %7d %9d %7d %7d %8d %5d %%\n", c.account, t.all(), t.clear, t.half, t.sealed, t.failed, 100*t.sealed/t.all())
	}
	fmt.Fprintln(out)
}

func (m *migration) sum(counts map[string]tally) {
	for account, t := range counts {
		sum := m.total[account]
		m.total[account] = tally{sum.clear + t.clear, sum.half + t.half, sum.sealed + t.sealed, sum.failed + t.failed}
	}
}

// conclude prints what the callers have to say.
func (m *migration) conclude(out io.Writer) {
	answered, refused, failed := 0, 0, 0
	for _, c := range m.callers {
		answered += c.answered
		failed += len(c.failed)
		for _, n := range c.refused {
			refused += n
		}
	}
	fmt.Fprintf(out, "the callers: %d calls answered, %d refused (kiosk, in step 4), %d failed\n", answered, refused, failed)
	for _, c := range m.callers {
		for _, err := range c.failed {
			fmt.Fprintln(out, "  ", err)
		}
	}
}
