package keyring

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// KeyState is where a key is in its life. A key only ever moves forward through
// the states, and may skip some.
type KeyState string

const (
	// Pending is a key that every replica can open with, and that nobody is told of.
	Pending KeyState = "pending"
	// Primary is the one key that callers are told to use.
	Primary KeyState = "primary"
	// Previous is a key that was primary, and that still opens.
	Previous KeyState = "previous"
	// Retired is a key whose private half is gone. What is left is history.
	Retired KeyState = "retired"
)

// order is that of keys in a ring.
func (s KeyState) order() int {
	return slices.Index([]KeyState{Primary, Pending, Previous, Retired}, s)
}

// What a ring may hold.
const (
	maxLive    = 64 // keys that are not retired
	maxRaw     = 2  // of them without a prefix: as many as seal.NewKeySet tries
	maxHistory = 64 // retired keys
)

// What a change of a ring can be refused with.
var (
	// ErrUnknownKey is a key id that the ring has never had, or no longer remembers.
	ErrUnknownKey = errors.New("the ring has no such key")
	// ErrFull is a ring that can take no further key until one retires.
	ErrFull = errors.New("the ring is full")
)

// key is a key and its life, without its private half in clear.
type key struct {
	id          uint32
	suite       seal.Suite
	prefix      bool
	state       KeyState
	fingerprint string
	public      *seal.PublicKey // nil once retired
	wrapped     []byte          // the private half, encrypted; nil once retired, and in memory
	created     time.Time
	promoted    time.Time // zero: never
	replaced    time.Time // zero: never
	retired     time.Time // zero: not yet
	revoked     bool
}

// stamp is when the key's state began.
func (k *key) stamp() time.Time {
	switch k.state {
	case Pending:
		return k.created
	case Primary:
		return k.promoted
	case Previous:
		return k.replaced
	}
	return k.retired
}

// ring is the state of a key ring: what is stored, and what the rules are about.
// It is a value; a draft changes a copy.
type ring struct {
	name    string
	created time.Time
	// serial orders the states of a ring, whatever store they come from: it is the
	// Unix time of the change, or one more than the last.
	serial    uint64
	keys      []key  // primary, pending, previous, retired, each newest first
	integrity []byte // the key of the stored state's MAC, encrypted
}

func (r *ring) find(id uint32) *key {
	for i := range r.keys {
		if r.keys[i].id == id {
			return &r.keys[i]
		}
	}
	return nil
}

func (r *ring) in(state KeyState) *key {
	for i := range r.keys {
		if r.keys[i].state == state {
			return &r.keys[i]
		}
	}
	return nil
}

// live returns the keys that are not retired.
func (r *ring) live() iter.Seq[*key] {
	return func(yield func(*key) bool) {
		for i := range r.keys {
			if k := &r.keys[i]; k.state != Retired && !yield(k) {
				return
			}
		}
	}
}

// count returns how many keys are live, and how many of them have no prefix.
func (r *ring) count() (live, raw int) {
	for k := range r.live() {
		live++
		if !k.prefix {
			raw++
		}
	}
	return live, raw
}

// room returns an error that wraps ErrFull if the ring cannot take another key.
func (r *ring) room(prefix bool) error {
	live, raw := r.count()
	if live >= maxLive {
		return fmt.Errorf("%w: %d keys are live", ErrFull, live)
	}
	if !prefix && raw >= maxRaw {
		return fmt.Errorf("%w: %d keys without a prefix, and each costs a trial: one must retire or be revoked first", ErrFull, raw)
	}
	return nil
}

// sort puts the keys in order, and forgets the oldest of those that are retired.
func (r *ring) sort() {
	slices.SortStableFunc(r.keys, func(a, b key) int {
		return cmp.Or(a.state.order()-b.state.order(), b.stamp().Compare(a.stamp()))
	})
	live, _ := r.count()
	r.keys = r.keys[:min(len(r.keys), live+maxHistory)]
}

// draft is a copy of a ring under change at a moment, and what has happened to it.
type draft struct {
	ring
	now         time.Time
	reinstating bool
	events      []Event // none: nothing has changed
}

func (r ring) draft(now time.Time) *draft {
	r.keys = slices.Clone(r.keys)
	return &draft{ring: r, now: now}
}

// done returns the changed ring.
func (d *draft) done() (ring, []Event) {
	d.serial++
	// What is written back is no newer than it was: a replica that knows of a later
	// change must see that.
	if !d.reinstating {
		d.serial = max(d.serial, uint64(max(d.now.Unix(), 0)))
	}
	d.sort()
	return d.ring, d.events
}

func (d *draft) event(t EventType, k *key) {
	d.events = append(d.events, Event{Time: d.now, Type: t, Ring: d.name, KeyID: k.id, Fingerprint: k.fingerprint})
}

// add takes a new key in, as pending.
func (d *draft) add(private *seal.PrivateKey, wrapped []byte) {
	public := private.Public()
	d.keys = append(d.keys, key{
		id:          public.ID(),
		suite:       public.Suite(),
		prefix:      public.HasPrefix(),
		state:       Pending,
		fingerprint: public.Fingerprint(),
		public:      public,
		wrapped:     wrapped,
		created:     d.now,
	})
	d.event(EventGenerated, &d.keys[len(d.keys)-1])
}

// promote makes the pending key the primary, and the primary a previous key.
func (d *draft) promote() {
	old, next := d.in(Primary), d.in(Pending)
	if old != nil {
		old.state, old.replaced = Previous, d.now
	}
	next.state, next.promoted = Primary, d.now
	d.event(EventPublished, next)
	d.event(EventPromoted, next)
}

// postpone starts the pending key's time anew.
func (d *draft) postpone() {
	k := d.in(Pending)
	k.created = d.now
	d.event(EventPostponed, k)
}

// retire deletes the private half of a previous key.
func (d *draft) retire(id uint32) {
	if k := d.find(id); k != nil && k.state == Previous {
		d.end(k)
		d.event(EventRetired, k)
	}
}

// revoke deletes the private half of a key in whatever state. Revoking the primary
// leaves the ring without one.
func (d *draft) revoke(id uint32) {
	if k := d.find(id); k != nil && k.state != Retired {
		d.end(k)
		k.revoked = true
		d.event(EventRevoked, k)
	}
}

func (d *draft) end(k *key) {
	k.state, k.retired = Retired, d.now
	k.public, k.wrapped = nil, nil
}

// settle makes times that are yet to come now: who acts by hand takes this machine's
// clock for right.
func (d *draft) settle() {
	if k := d.in(Primary); k.promoted.After(d.now) {
		k.promoted = d.now
	}
	if k := d.in(Pending); k != nil && k.created.After(d.now) {
		d.postpone()
	}
}
