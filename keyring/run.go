package keyring

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// How long Run waits for its store and key-encryption key.
const (
	minPatience = 2 * time.Second
	maxPatience = 10 * time.Second
)

// clockTolerance is how far a replica's clock may stand behind the ring's last step
// without being suspect.
const clockTolerance = time.Minute

// Run keeps the Keyring up to date until ctx ends: it loads what other replicas
// have changed, at least once a reload interval, and takes the steps of the
// schedule as they fall due. It is to be called once, on every replica:
//
//	go ring.Run(ctx)
//
// Replicas need no leader. Each takes the steps that it finds due; one succeeds,
// since a [Store] swaps a state only once, and the others load what it stored. While
// the store cannot be reached, or what it holds cannot be read, the keys that are
// loaded go on serving; an event tells when that begins and when it has ended.
//
// Run returns nil when ctx has ended, and an error only if it is running already.
func (k *Keyring) Run(ctx context.Context) error {
	if !k.running.CompareAndSwap(false, true) {
		return errors.New("keyring: Run is running already")
	}
	defer k.running.Store(false)
	if k.store == nil {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(k.tick(ctx))
		}
	}
}

// tick reloads, takes the steps that are due, and returns how long to wait until
// the next time.
func (k *Keyring) tick(ctx context.Context) time.Duration {
	// Replicas that were started together do not stay together.
	wait := k.interval - rand.N(k.interval/4+1)
	limited, cancel := context.WithTimeout(ctx, max(minPatience, min(k.interval, maxPatience)))
	defer cancel()
	if k.lock(limited) != nil {
		return wait
	}
	defer k.unlock()
	for range maxTries {
		next, err := k.advance(limited)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if ctx.Err() == nil {
			k.report(ctx, err)
		}
		if err == nil {
			wait = min(wait, next)
		}
		break
	}
	return wait
}

// advance reloads, takes the steps that are due, and returns how long it is until
// the next one.
func (k *Keyring) advance(ctx context.Context) (time.Duration, error) {
	if err := k.reload(ctx); err != nil {
		return 0, err
	}
	wait := k.interval
	for range maxTries {
		v := k.view()
		var steps []step
		if steps, wait = k.timing.plan(&k.ring, &v); len(steps) == 0 {
			break
		}
		d := k.ring.draft(v.now)
		private, failed := k.apply(ctx, d, steps)
		if len(d.events) > 0 {
			var fresh []*seal.PrivateKey
			if private != nil {
				fresh = append(fresh, private)
			}
			if err := k.commit(ctx, k.state.Revision, d, fresh...); err != nil && !k.done(ctx) {
				return 0, err
			}
		}
		if failed != nil {
			return 0, failed
		}
	}
	return wait, nil
}

// apply takes steps in the draft. It returns the private key that one of them made.
// A step that fails does not keep the others from being taken.
func (k *Keyring) apply(ctx context.Context, d *draft, steps []step) (private *seal.PrivateKey, failed error) {
	for _, s := range steps {
		switch s.do {
		case stepRetire:
			d.retire(s.id)
		case stepPromote:
			d.promote()
		case stepPostpone:
			d.postpone()
		case stepGenerate:
			ctx, cancel := half(ctx)
			defer cancel()
			private, failed = k.generate(ctx, d, k.newKeys(&d.ring))
		}
	}
	return private, failed
}

func (k *Keyring) view() view {
	v := view{
		now:    k.time.now(),
		uptime: k.time.uptime(),
		steady: k.steady,
		seen:   k.seen,
		held:   func(id uint32) bool { return k.held[id] != nil },
		prefix: k.newKeys(&k.ring).prefix,
	}
	if v.behind(&k.ring) > clockTolerance { // the wall clock may have been put right
		k.time.set()
		v.now = k.time.now()
	}
	return v
}

// report tells how the last tick went, where that differs from the one before.
func (k *Keyring) report(ctx context.Context, err error) {
	storeFailed := err != nil && !errors.Is(err, ErrKEK) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion)
	k.condition(ctx, storeFailed, err, EventStoreUnreachable, EventStoreReachable)
	if storeFailed {
		return // nothing is known of the rest
	}
	refused := errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion)
	k.condition(ctx, refused, err, EventStateRefused, EventStateAccepted)
	if refused {
		return
	}
	if err == nil {
		err = k.missing
	}
	k.condition(ctx, err != nil, err, EventKEKUnreachable, EventKEKReachable)
	v := k.view()
	behind := v.behind(&k.ring)
	k.condition(ctx, behind > clockTolerance, fmt.Errorf("the clock stands %v before the ring's last step", behind), EventClockBehind, EventClockCaughtUp)
}

// condition tells that something began or ended.
func (k *Keyring) condition(ctx context.Context, is bool, err error, begins, ends EventType) {
	if is == k.told[begins] {
		return
	}
	k.told[begins] = is
	e := Event{Time: k.clock().UTC(), Type: begins, Ring: k.name, Err: err}
	if !is {
		e.Type, e.Err = ends, nil
	}
	k.audit(ctx, e)
}
