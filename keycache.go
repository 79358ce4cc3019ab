package sealhttp

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// The defaults of [CacheClientKeys].
const (
	defaultCacheTTL      = time.Minute
	defaultCacheNoKeyTTL = 5 * time.Second
	defaultCacheSize     = 10_000
)

// A CacheOption is an option of [CacheClientKeys].
type CacheOption func(*ClientKeyCache)

// WithCacheTTL sets how long a key is used before it is looked up again: the
// longest time until a key that was replaced is seen. The default is one minute;
// 0 and less keep nothing.
func WithCacheTTL(d time.Duration) CacheOption { return func(c *ClientKeyCache) { c.ttl = d } }

// WithCacheNoKeyTTL sets how long "no key is registered" is believed: the longest
// time until a registration is seen. The default is 5 seconds; 0 and less keep
// nothing.
func WithCacheNoKeyTTL(d time.Duration) CacheOption {
	return func(c *ClientKeyCache) { c.noKeyTTL = d }
}

// WithCacheSize sets how many accounts are kept at most, the least recently used
// making way. The default is 10,000. Less than 1 is 1.
func WithCacheSize(accounts int) CacheOption {
	return func(c *ClientKeyCache) { c.size = max(accounts, 1) }
}

// ClientKeyCache is a [ClientKeys] that remembers. It is safe for use by several
// goroutines at once.
type ClientKeyCache struct {
	account  func(*http.Request) string
	lookup   func(context.Context, string) (*seal.PublicKey, error)
	ttl      time.Duration
	noKeyTTL time.Duration
	size     int

	mu      sync.Mutex
	entries map[string]*list.Element // of *cacheEntry
	recent  *list.List               // most recently used first
	flights map[string]*flight
}

type cacheEntry struct {
	account string
	key     *seal.PublicKey // nil: none is registered
	expires time.Time
}

// flight is a lookup under way.
type flight struct {
	done    chan struct{} // closed when the fields below are set
	key     *seal.PublicKey
	err     error
	panicV  any
	stack   []byte // of the panic
	cancel  context.CancelFunc
	waiting int // guarded by the cache's mu
}

// CacheClientKeys makes a [ClientKeys] of two functions: one that tells a
// request's account, and one that looks up an account's key, in a database say.
// A nil account function is [Account] of the request's context. For the account
// "" lookup is not asked: the caller has no key.
//
// For no key, lookup returns nil and nil, or an error that wraps [ErrNoClientKey].
// Other errors are passed on and not remembered. Callers who miss at the same time
// share one lookup, whose context carries the values of the first caller's and
// ends when the last of them is gone. A panic in lookup is passed on to each.
func CacheClientKeys(account func(*http.Request) string, lookup func(ctx context.Context, account string) (*seal.PublicKey, error), opts ...CacheOption) *ClientKeyCache {
	if account == nil {
		account = func(r *http.Request) string { return Account(r.Context()) }
	}
	c := &ClientKeyCache{
		account:  account,
		lookup:   lookup,
		ttl:      defaultCacheTTL,
		noKeyTTL: defaultCacheNoKeyTTL,
		size:     defaultCacheSize,
		entries:  make(map[string]*list.Element),
		recent:   list.New(),
		flights:  make(map[string]*flight),
	}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// ClientKey returns the key of the request's account. Its errors are those of
// lookup, [ErrNoClientKey], and those of the request's context.
func (c *ClientKeyCache) ClientKey(r *http.Request) (*seal.PublicKey, error) {
	account := c.account(r)
	if account == "" {
		return nil, ErrNoClientKey
	}
	c.mu.Lock()
	if key, ok := c.cached(account); ok {
		c.mu.Unlock()
		if key == nil {
			return nil, ErrNoClientKey
		}
		return key, nil
	}
	f := c.flights[account]
	if f == nil {
		f = c.start(r.Context(), account)
	}
	f.waiting++
	c.mu.Unlock()
	return c.wait(r.Context(), account, f)
}

// Forget drops what is remembered of an account, and what a lookup under way will
// find: the next request looks the account up anew.
func (c *ClientKeyCache) Forget(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[account]; e != nil {
		c.remove(e)
	}
	delete(c.flights, account)
}

// cached returns what is remembered of an account and still believed.
func (c *ClientKeyCache) cached(account string) (*seal.PublicKey, bool) {
	e := c.entries[account]
	if e == nil {
		return nil, false
	}
	entry := e.Value.(*cacheEntry)
	if !time.Now().Before(entry.expires) {
		c.remove(e)
		return nil, false
	}
	c.recent.MoveToFront(e)
	return entry.key, true
}

func (c *ClientKeyCache) remove(e *list.Element) {
	delete(c.entries, c.recent.Remove(e).(*cacheEntry).account)
}

// start looks an account up in a goroutine of its own, so that a caller who gives
// up does not take the others' answer along.
func (c *ClientKeyCache) start(ctx context.Context, account string) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	c.flights[account] = f
	go func() {
		defer cancel()
		defer close(f.done)
		defer func() {
			if v := recover(); v != nil {
				f.panicV, f.stack = v, debug.Stack()
			}
			c.land(account, f)
		}()
		f.err = errLookupExited // stays if lookup ends the goroutine
		f.key, f.err = c.lookup(ctx, account)
	}()
	return f
}

var errLookupExited = errors.New("sealhttp: the lookup of a client key did not return")

// land remembers what a lookup found, unless it was forgotten meanwhile.
func (c *ClientKeyCache) land(account string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[account] != f {
		return
	}
	delete(c.flights, account)
	if f.panicV != nil || f.err != nil && !errors.Is(f.err, ErrNoClientKey) {
		return
	}
	entry, ttl := &cacheEntry{account: account}, c.noKeyTTL
	if f.err == nil && f.key != nil {
		entry.key, ttl = f.key, c.ttl
	}
	if ttl <= 0 { // kept, it would push out what is believed
		return
	}
	entry.expires = time.Now().Add(ttl)
	c.entries[account] = c.recent.PushFront(entry)
	if c.recent.Len() > c.size {
		c.remove(c.recent.Back())
	}
}

// wait returns what a lookup finds, or the error of ctx if that ends first.
func (c *ClientKeyCache) wait(ctx context.Context, account string, f *flight) (*seal.PublicKey, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
			if c.flights[account] == f { // who comes now must not wait for the cancelled
				delete(c.flights, account)
			}
		}
		return nil, ctx.Err()
	}
	if f.panicV != nil {
		panic(fmt.Sprintf("sealhttp: panic in the lookup of a client key: %v\n\n%s", f.panicV, f.stack))
	}
	if f.err == nil && f.key == nil {
		return nil, ErrNoClientKey
	}
	return f.key, f.err
}
