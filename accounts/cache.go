package accounts

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// view is what calls need to know of an account, from one reading of its record.
type view struct {
	key    *seal.PublicKey // nil: none is in use
	policy sealhttp.Policy
}

// loadTimeout bounds a reading of the store that calls wait for.
const loadTimeout = 10 * time.Second

// cache remembers views. Calls that miss at the same time share one reading. What
// it remembers is as old as the start of that reading.
type cache struct {
	load     func(ctx context.Context, account string) (view, error)
	ttl      time.Duration
	noKeyTTL time.Duration
	size     int

	mu      sync.RWMutex
	entries map[string]entry
	flights map[string]*flight
}

type entry struct {
	view
	expires time.Time
}

// flight is a reading under way.
type flight struct {
	done chan struct{} // closed when the fields below are set
	view view
	err  error
}

func (c *cache) get(ctx context.Context, account string) (view, error) {
	c.mu.RLock()
	e, ok := c.entries[account]
	c.mu.RUnlock()
	if ok && time.Now().Before(e.expires) {
		return e.view, nil
	}
	f := c.flight(ctx, account)
	select {
	case <-f.done:
		return f.view, f.err
	case <-ctx.Done():
		return view{}, ctx.Err()
	}
}

// forget drops what is remembered of an account, and what a reading under way
// will find.
func (c *cache) forget(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, account)
	delete(c.flights, account)
}

// flight returns the reading under way of an account, and starts one if there is
// none. It has a goroutine of its own, so that a caller who gives up does not take
// the others' answer along.
func (c *cache) flight(ctx context.Context, account string) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[account]; f != nil {
		return f
	}
	f := &flight{done: make(chan struct{})}
	c.flights[account] = f
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	go func() {
		defer cancel()
		defer close(f.done)
		started := time.Now()
		f.view, f.err = c.loadSafely(ctx, account)
		c.land(account, f, started)
	}()
	return f
}

// loadSafely makes an error of a panic, which no handler's server could recover
// here.
func (c *cache) loadSafely(ctx context.Context, account string) (v view, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("accounts: panic in the store: %v", p)
		}
	}()
	return c.load(ctx, account)
}

// land remembers what a reading has found, unless it was forgotten meanwhile.
func (c *cache) land(account string, f *flight, started time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[account] != f {
		return
	}
	delete(c.flights, account)
	// An entry was found expired, or there was none; it is also what goes if
	// nothing new is kept.
	delete(c.entries, account)
	ttl := c.ttl
	if f.view.key == nil {
		ttl = min(c.noKeyTTL, c.ttl)
	}
	if f.err != nil || ttl <= 0 {
		return
	}
	if len(c.entries) >= c.size {
		for any := range c.entries { // Go starts at a random one
			delete(c.entries, any)
			break
		}
	}
	c.entries[account] = entry{f.view, started.Add(ttl)}
}
