package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealhttp/sealhttp/seal"
)

// An Option is an option of [Open] and [OpenFile].
type Option func(*config) error

type config struct {
	timing
	name  string
	suite seal.Suite // 0: as the primary
	raw   bool
	audit func(context.Context, Event)
	clock func() time.Time
}

const maxName = 128 // bytes

// WithName sets the ring's name: "default" if it is not given. What is encrypted at
// rest is bound to it, so that a ring cannot be passed off as another one.
func WithName(name string) Option {
	return func(c *config) error {
		if name == "" || len(name) > maxName || !utf8.ValidString(name) {
			return fmt.Errorf("keyring: WithName: %q is not UTF-8 of 1 to %d bytes", name, maxName)
		}
		for _, r := range name {
			if !unicode.IsPrint(r) {
				return fmt.Errorf("keyring: WithName: %q has a character that does not print", name)
			}
		}
		c.name = name
		return nil
	}
}

// WithSuite sets the suite of new keys, and that they have a prefix unless
// [WithoutPrefix] is given too. Without it new keys are like the ring's primary, and
// the first one is of [seal.X25519AES256GCM].
func WithSuite(suite seal.Suite) Option {
	return func(c *config) error {
		if _, err := seal.ParseSuite(suite.String()); err != nil {
			return fmt.Errorf("keyring: WithSuite: %w", err)
		}
		c.suite = suite
		return nil
	}
}

// WithoutPrefix makes new keys without a prefix: see [seal.WithoutPrefix], and the
// package documentation for what that means to a ring.
func WithoutPrefix() Option {
	return func(c *config) error {
		c.raw = true
		return nil
	}
}

// WithSchedule sets when keys change. It must be the same on every replica.
func WithSchedule(s Schedule) Option {
	return func(c *config) error {
		c.Schedule = s
		return nil
	}
}

// WithReloadInterval sets how often [Keyring.Run] looks for changes by other
// replicas, at the latest: one minute by default, and less if Lead of
// [WithSchedule] asks for it. It must be the same on every replica.
func WithReloadInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < minReload {
			return fmt.Errorf("keyring: WithReloadInterval: %v is below %v", d, minReload)
		}
		c.interval = d
		return nil
	}
}

// WithPublicationValidity tells how long callers may use what they have fetched.
// Overlap of [WithSchedule] must not be shorter.
func WithPublicationValidity(d time.Duration) Option {
	return func(c *config) error {
		c.validity = d
		return nil
	}
}

// WithAudit sets what is called with every event of this replica: [LogTo](nil) if
// it is not given. A change is told by the replica that made it, after it was
// stored, in the order of changes.
//
// The function is called by who makes the change, [Keyring.Used] included, so it
// should not wait for anything. It must be safe for use by several goroutines at
// once, and must not call Rotate, Revoke or Rewrap.
func WithAudit(f func(context.Context, Event)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("keyring: WithAudit: the function is nil")
		}
		c.audit = f
		return nil
	}
}

func newConfig(opts ...Option) (config, error) {
	c := config{name: "default", audit: LogTo(nil), clock: time.Now}
	for _, opt := range opts {
		if opt == nil {
			return c, errors.New("keyring: an option is nil")
		}
		if err := opt(&c); err != nil {
			return c, err
		}
	}
	var err error
	c.timing, err = c.timing.complete(c.raw)
	return c, err
}

// keyKind is what a new key is made by.
type keyKind struct {
	suite  seal.Suite
	prefix bool
}

// newKeys returns the kind of new keys, which are like the primary if nothing else is asked for.
func (c *config) newKeys(r *ring) keyKind {
	kind := keyKind{seal.X25519AES256GCM, true}
	if k := r.in(Primary); k != nil {
		kind = keyKind{k.suite, k.prefix}
	}
	if c.suite != 0 {
		kind = keyKind{c.suite, true}
	}
	kind.prefix = kind.prefix && !c.raw
	return kind
}

// Open loads a ring from a store, or makes a new one if nothing is stored yet. Of
// several replicas that do so at once one wins, and all have its ring. The private
// keys are encrypted with kek before they are stored: see [LocalKeyFile], [KEKs]
// and [InsecurePlaintext]. Without [Keyring.Run] the Keyring stays as it is.
//
// The error wraps [ErrKEK] if kek does not decrypt what is stored, [ErrCorrupt] or
// [ErrVersion] if that is not what this package wrote; nothing is overwritten then.
func Open(ctx context.Context, store Store, kek AEAD, opts ...Option) (*Keyring, error) {
	switch {
	case store == nil:
		return nil, errors.New("keyring: Open: the store is nil")
	case kek == nil:
		return nil, errors.New("keyring: Open: the key-encryption key is nil: see LocalKeyFile and InsecurePlaintext")
	}
	c, err := newConfig(opts...)
	if err != nil {
		return nil, err
	}
	k := newKeyring(c, store, kek)
	for range maxTries {
		if err = k.reload(ctx); errors.Is(err, ErrNotFound) {
			err = k.create(ctx)
		}
		if err == nil {
			err = k.missing
		}
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: opening ring %q: %w", k.name, err)
	}
	return k, nil
}

// OpenFile is [Open] with a [FileStore]: the ring of one machine, in one file.
func OpenFile(ctx context.Context, path string, kek AEAD, opts ...Option) (*Keyring, error) {
	store, err := NewFileStore(path)
	if err != nil {
		return nil, err
	}
	return Open(ctx, store, kek, opts...)
}

// create makes the first state of a ring.
func (k *Keyring) create(ctx context.Context) error {
	k.integrity = make([]byte, 32)
	rand.Read(k.integrity) // never fails, see crypto/rand
	wrapped, err := encryptChecked(ctx, k.kek, k.integrity, integrityData(k.name))
	if err != nil {
		return err
	}
	k.seen = map[uint32]sighting{} // this replica sees the ring begin
	d := k.ring.draft(k.time.now())
	d.integrity, d.created = wrapped, d.now
	private, err := k.generate(ctx, d, k.newKeys(&d.ring))
	if err != nil {
		return err
	}
	d.promote()
	return k.commit(ctx, 0, d, private)
}
