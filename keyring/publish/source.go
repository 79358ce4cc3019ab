package publish

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

const (
	// fetchTimeout bounds a fetch, and with it the life of its goroutine.
	fetchTimeout = 10 * time.Second
	// After a fetch that failed, the next one waits for the first of these, after each
	// further one for twice as long, up to the second; half to one and a half times
	// that, at random.
	firstPause = time.Second
	maxPause   = time.Minute
)

// Source fetches a service's public keys for its callers. It is a
// sealhttp.ServerPublicKeys, and safe for use by several goroutines at once.
//
// A key set is fetched by the first call that needs one, and again, in the background,
// by the first call after a random time between a quarter and half of what is left of
// its validity: with the defaults about three times a day. However many calls wait,
// there is one fetch at a time; a call that gives up ends nothing but itself. A fetch
// takes 10 seconds at most. One that fails is tried again by a later call, after a
// pause that grows from one second to a minute; until the set expires, calls go on
// with it, and after that they fail.
//
// There is nothing to close: a Source has no goroutine but that of a fetch.
// [Source.Run] is for programs that want no call ever to wait.
//
// What was fetched is used if a pinned key has signed it for the pinned name, it has
// not expired, and it is not older than what was seen before, also not after that has
// expired. Whatever else is served leaves things as they are.
type Source struct {
	sourceConfig
	url       string
	mediaType string
	trust     *trust // nil: HTTPS alone is trusted
	newest    atomic.Pointer[held]

	mu          sync.Mutex
	flight      *flight
	failures    int // in a row
	lastErr     error
	notBefore   time.Time // the pause after failures
	nextRefused time.Time // when a refused key may lead to a fetch again
}

// held is the newest key set. It stays when it has expired, for its revision.
type held struct {
	set      *Set
	document []byte
	due      time.Time // when to fetch again
}

func (h *held) valid(now time.Time) bool { return h != nil && now.Before(h.set.Expires) }

// flight is a fetch under way.
type flight struct {
	done    chan struct{} // closed when err is set
	err     error
	refused bool // it was started for a refused key, past all caches
}

// NewSource makes a Source for the keys that a [Handler] of that name serves at a URL.
// One of the pins must have signed them; with two, the signing key can be replaced:
// callers pin old and new, then the service changes over, then callers drop the old.
//
// The URL may be one of plain HTTP, since nothing depends on it but that answers come.
// Redirects are refused.
func NewSource(url, name string, pins []ed25519.PublicKey, opts ...SourceOption) (*Source, error) {
	t, err := newTrust(name, pins)
	if err != nil {
		return nil, err
	}
	s, err := newSource(url, []string{"https", "http"}, opts)
	if err != nil {
		return nil, err
	}
	s.trust, s.mediaType = t, MediaType
	if s.stateFile != "" {
		if err := s.loadState(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// NewInsecureHTTPSOnlySource makes a Source for an unsigned Tink keyset, which trusts
// HTTPS alone: whoever ends TLS before the service (a CDN, a WAF, a gateway), or can
// get a certificate for its name, can put in a key of their own, and read what is
// sealed to it. That is who payload encryption is there to keep out, so this is for
// services that do not sign their keys yet.
//
// The URL must be one of HTTPS. A keyset is used for [DefaultValidity] from its fetch,
// which the service must be ready to open for, and nothing protects from older ones.
// Its [Set] has no name, and revision 0.
func NewInsecureHTTPSOnlySource(url string, opts ...SourceOption) (*Source, error) {
	s, err := newSource(url, []string{"https"}, opts)
	if err != nil {
		return nil, err
	}
	if s.stateFile != "" {
		return nil, errors.New("publish: WithStateFile: what is not signed is not kept")
	}
	s.mediaType = tinkMediaType
	return s, nil
}

func newSource(rawURL string, schemes []string, opts []SourceOption) (*Source, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("publish: the URL is not a whole one of %s", strings.Join(schemes, " or "))
	}
	c := sourceConfig{client: new(http.Client), refusedInterval: defaultRefusedInterval}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("publish: an option is nil")
		}
		if err := opt.applySource(&c); err != nil {
			return nil, err
		}
	}
	client := *c.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.client = &client
	return &Source{sourceConfig: c, url: u.String()}, nil
}

// PublicKey returns the primary of [Source.Set].
//
// If refused is that key, because the server has just answered unknown_key for it,
// the set is fetched once more, with no-cache for caches on the way: once for all calls
// that wait, and not again before the interval of [WithRefusedInterval] is over. If there is no other key
// then, PublicKey returns refused again.
func (s *Source) PublicKey(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
	set, err := s.get(ctx, refused)
	if err != nil {
		return nil, err
	}
	return set.Keys[0], nil
}

// Set returns the newest key set, which has not expired. Without one it waits for a
// fetch, and returns the error of ctx if that ends first.
//
// Its errors are those of the last fetch, and wrap [ErrUnavailable] or [ErrRefused];
// if a set was held that has expired, also [ErrExpired].
func (s *Source) Set(ctx context.Context) (*Set, error) {
	set, err := s.get(ctx, nil)
	if err != nil {
		return nil, err
	}
	return set.clone(), nil
}

func (s *Source) get(ctx context.Context, refused *seal.PublicKey) (*Set, error) {
	now := time.Now()
	if h := s.newest.Load(); h.valid(now) && now.Before(h.due) && !h.set.Keys[0].Equal(refused) {
		return h.set, nil
	}
	for {
		set, f, err := s.look(refused)
		if f == nil {
			return set, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.err != nil {
			return s.after(f.err, refused)
		}
		if f.refused || refused == nil {
			return s.after(nil, refused)
		}
		// It was under way before the key was refused, and may have been answered before.
	}
}

// look returns the set to be used, or an error, or what to wait for.
func (s *Source) look(refused *seal.PublicKey) (*Set, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	h := s.newest.Load()
	switch {
	case !h.valid(now):
		if s.flight != nil {
			return nil, s.flight, nil
		}
		if now.Before(s.notBefore) {
			return nil, nil, none(h, now, s.lastErr)
		}
		return nil, s.start(now, false), nil
	case !h.set.Keys[0].Equal(refused):
		if s.flight == nil && !now.Before(h.due) && !now.Before(s.notBefore) {
			s.start(now, false)
		}
		return h.set, nil, nil
	case s.flight != nil:
		return nil, s.flight, nil
	case now.Before(s.nextRefused):
		return h.set, nil, nil
	}
	return nil, s.start(now, true), nil
}

// after returns what there is after a fetch that ended with err.
func (s *Source) after(err error, refused *seal.PublicKey) (*Set, error) {
	now := time.Now()
	h := s.newest.Load()
	switch {
	case !h.valid(now):
		return nil, none(h, now, err)
	case err != nil && h.set.Keys[0].Equal(refused):
		return nil, err
	}
	return h.set, nil
}

// none is the error of having no key set to use: h, if there was one, has expired, and
// fetching another ended with err.
func none(h *held, now time.Time, err error) error {
	switch {
	case h == nil:
		return err
	case err == nil: // a key set that expired as soon as it came
		return h.set.checkTime(now)
	}
	return fmt.Errorf("%w; of the last one: %w", err, h.set.checkTime(now))
}

// start begins a fetch, in a goroutine of its own, so that a caller who gives up does
// not take the others' answer along. s.mu is held.
func (s *Source) start(now time.Time, refused bool) *flight {
	f := &flight{done: make(chan struct{}), refused: refused, err: errors.New("publish: the fetch did not return")}
	s.flight = f
	if refused {
		s.nextRefused = now.Add(between(s.refusedInterval, s.refusedInterval*3/2))
	}
	go func() {
		defer s.land(f)
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		document, err := s.fetch(ctx, refused)
		if err == nil {
			err = s.accept(document)
		}
		f.err = err
	}()
	return f
}

// land notes how a fetch went, and tells who waits for it.
func (s *Source) land(f *flight) {
	s.mu.Lock()
	s.flight, s.lastErr = nil, f.err
	if f.err == nil {
		s.failures, s.notBefore = 0, time.Time{}
	} else {
		pause := maxPause
		if s.failures < 6 { // 2^6 seconds are more
			pause = firstPause << s.failures
		}
		s.failures++
		s.notBefore = time.Now().Add(between(pause/2, pause*3/2))
	}
	failures := s.failures
	s.mu.Unlock()
	close(f.done)
	if f.err == nil {
		return
	}
	attrs := []slog.Attr{slog.Any("error", f.err), slog.Int("failures", failures)}
	if h := s.newest.Load(); h != nil {
		attrs = append(attrs, slog.Uint64("revision", h.set.Revision), slog.Time("expires", h.set.Expires))
	}
	s.log().LogAttrs(context.Background(), slog.LevelWarn, "publish: the key set could not be fetched", attrs...)
}

// accept makes a document that was served the newest key set, or refuses it. There is
// one fetch at a time, so nobody else changes s.newest.
func (s *Source) accept(document []byte) error {
	now := time.Now()
	set, err := s.read(document, now)
	if err != nil {
		return err
	}
	if err := set.checkTime(now); err != nil {
		return err
	}
	old := s.newest.Load()
	if old != nil && s.trust != nil {
		switch {
		case set.Revision < old.set.Revision:
			return fmt.Errorf("publish: %w: revision %d, after revision %d", ErrRollback, set.Revision, old.set.Revision)
		case set.Revision == old.set.Revision && !slices.EqualFunc(set.Keys, old.set.Keys, (*seal.PublicKey).Equal):
			return fmt.Errorf("publish: %w: revision %d with other keys", ErrRollback, set.Revision)
		case set.Revision == old.set.Revision && !set.Expires.After(old.set.Expires):
			set, document = old.set, old.document // an older signature, from a cache
		}
	}
	left := set.Expires.Sub(now)
	next := &held{set: set, document: document, due: now.Add(max(between(left/4, left/2), firstPause))}
	s.newest.Store(next)
	level := slog.LevelInfo
	if old == nil {
		level = slog.LevelDebug // as each start of a program brings
	}
	if old == nil || old.set.Revision != set.Revision || !old.set.Keys[0].Equal(set.Keys[0]) {
		s.log().LogAttrs(context.Background(), level, "publish: new key set",
			slog.Uint64("revision", set.Revision), slog.Uint64("primary", uint64(set.Keys[0].ID())), slog.Time("expires", set.Expires))
	}
	if s.stateFile != "" && (old == nil || old.set != set) {
		s.saveState(next)
	}
	return nil
}

// read parses what was served.
func (s *Source) read(document []byte, now time.Time) (*Set, error) {
	if s.trust != nil {
		return s.trust.read(document)
	}
	keys, err := tinkkeys.ParsePublic(document)
	if err != nil {
		return nil, fmt.Errorf("publish: %w: %w", ErrMalformed, err)
	}
	now = now.Round(0) // by the wall clock, as what is signed: the other one may stop while a machine sleeps
	return &Set{Issued: now, Expires: now.Add(DefaultValidity), Keys: keys}, nil
}

// Run keeps the key set fresh until ctx ends, and returns its error. With it no call
// waits for a fetch, once the first has succeeded and as long as the service can be
// reached before the set expires. Without it, a program that makes no call for as long
// as a set is valid waits once when it makes one.
func (s *Source) Run(ctx context.Context) error {
	for {
		f, wait := s.next()
		var done <-chan struct{}
		var elapsed <-chan time.Time
		if f != nil {
			done = f.done
		} else {
			elapsed = time.After(wait)
		}
		select {
		case <-done:
		case <-elapsed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns the fetch that is under way or has become due, or how long there is
// none to be started.
func (s *Source) next() (*flight, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, 0
	}
	now := time.Now()
	at := s.notBefore
	if h := s.newest.Load(); h.valid(now) && h.due.After(at) {
		at = h.due
	}
	if now.Before(at) {
		return nil, at.Sub(now)
	}
	return s.start(now, false), 0
}

// between returns a random duration from a to b.
func between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + rand.N(b-a)
}
