package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// Keyring is a key set that changes. It is safe for use by several goroutines at
// once, and reading it takes no lock.
type Keyring struct {
	current atomic.Pointer[snapshot]
	running atomic.Bool
	config
	store Store // nil: in memory

	changing chan struct{} // a mutex for all below, whose waiting ends with a context

	time      *ringClock
	kek       AEAD
	ring      ring
	held      map[uint32]*seal.PrivateKey // of the ring's live keys, in clear
	missing   error                       // why not all of them are held
	state     State                       // what is stored; revision 0: nothing was loaded yet
	integrity []byte                      // the key of the state's MAC, in clear
	unsure    *attempt                    // a Swap that may have succeeded
	outage    bool                        // the last Load has failed
	steady    time.Duration               // the uptime since when Loads succeed and no state was written back
	seen      map[uint32]sighting
	told      map[EventType]bool // conditions that an event was sent of
	uses      map[uint32]*use    // of previous keys, the same one as long as a key is one
}

// snapshot is what a Keyring holds at one moment. It is immutable, but for the
// times in previous.
type snapshot struct {
	keys     *seal.KeySet
	public   []*seal.PublicKey
	previous []*use
	status   Status
}

func newKeyring(c config, store Store, kek AEAD) *Keyring {
	return &Keyring{
		config:   c,
		store:    store,
		kek:      kek,
		changing: make(chan struct{}, 1),
		time:     newRingClock(c.clock, 2*c.interval),
		ring:     ring{name: c.name},
		told:     make(map[EventType]bool),
	}
}

// New makes a Keyring in memory, of a primary and previous keys, newest first. It
// changes by [Keyring.Rotate] and [Keyring.Revoke] only, at once, and is gone with
// the process. Its events go to slog. The errors of New are those of
// [seal.NewKeySet].
func New(primary *seal.PrivateKey, previous ...*seal.PrivateKey) (*Keyring, error) {
	keys, err := seal.NewKeySet(primary, previous...)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	c, err := newConfig()
	if err != nil {
		return nil, err
	}
	k := newKeyring(c, nil, nil)
	d := k.ring.draft(k.time.now())
	held := make(map[uint32]*seal.PrivateKey)
	for i, key := range keys.Keys() {
		d.add(key, nil)
		held[key.ID()] = key
		added := d.find(key.ID())
		added.state, added.promoted = Primary, d.now
		if i > 0 {
			added.state, added.replaced = Previous, d.now
		}
	}
	r, _ := d.done()
	if err := k.take(r, held); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return k, nil
}

// KeySet returns the keys of this moment: the primary, the previous ones, and the
// pending one.
func (k *Keyring) KeySet() *seal.KeySet { return k.current.Load().keys }

// ServerKeys returns the keys of this moment, and no error.
func (k *Keyring) ServerKeys(context.Context) (*seal.KeySet, error) { return k.KeySet(), nil }

// PublicKeys returns what is to be published to callers at this moment: the public
// halves of the primary, which comes first, and of the previous keys.
func (k *Keyring) PublicKeys() []*seal.PublicKey { return slices.Clone(k.current.Load().public) }

// Published returns what [Keyring.PublicKeys] does, and the serial of that state (see
// [Status]), in one snapshot: a *Keyring is a publish.Keys.
func (k *Keyring) Published() (serial uint64, keys []*seal.PublicKey) {
	s := k.current.Load()
	return s.status.Serial, slices.Clone(s.public)
}

// lock waits until nobody else changes the Keyring, or ctx ends.
func (k *Keyring) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case k.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *Keyring) unlock() { <-k.changing }

// take makes a ring the current one, with those private halves of it that are held.
// It changes nothing if it returns an error.
func (k *Keyring) take(r ring, held map[uint32]*seal.PrivateKey) error {
	var serving, pending []*seal.PrivateKey
	uses := make(map[uint32]*use)
	var previous []*use
	for key := range r.live() {
		switch private := held[key.id]; {
		case private == nil:
		case key.state == Pending:
			pending = append(pending, private)
		default:
			serving = append(serving, private)
		}
		if key.state == Previous {
			u := k.uses[key.id]
			if u == nil {
				u = &use{id: key.id, fingerprint: key.fingerprint}
			}
			uses[key.id] = u
			previous = append(previous, u)
		}
	}
	if len(serving) == 0 {
		return errors.New("no key of the ring could be decrypted")
	}
	keys, err := seal.NewKeySet(serving[0], slices.Concat(serving[1:], pending)...)
	if err != nil {
		return err
	}
	public := make([]*seal.PublicKey, len(serving))
	for i, private := range serving {
		public[i] = private.Public()
	}
	k.sight(&r)
	k.ring, k.held, k.uses = r, held, uses
	k.current.Store(&snapshot{keys: keys, public: public, previous: previous, status: k.newStatus(&r)})
	return nil
}

// sight notes which keys have come to a new state.
func (k *Keyring) sight(r *ring) {
	seen := make(map[uint32]sighting)
	for key := range r.live() {
		s, ok := k.seen[key.id]
		if !ok || s.state != key.state || !s.stamp.Equal(key.stamp()) {
			s = sighting{key.state, key.stamp(), k.time.uptime(), k.seen != nil}
		}
		seen[key.id] = s
	}
	k.seen = seen
}
