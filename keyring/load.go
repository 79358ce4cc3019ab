package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// maxTries bounds how often a change is tried again because another replica was
// first.
const maxTries = 50

// attempt is a Swap that ended with an error, and may have been done all the same:
// the connection broke before the answer came, say.
type attempt struct {
	state  State
	events []Event
}

// reload makes what is stored the current state.
func (k *Keyring) reload(ctx context.Context) error {
	state, err := k.store.Load(ctx)
	switch {
	case errors.Is(err, ErrNotFound) && k.state.Revision != 0:
		return k.reinstate(ctx, 0, 0)
	case err != nil:
		k.outage = true
		return fmt.Errorf("loading: %w", err)
	}
	if k.outage {
		k.outage, k.steady = false, k.time.uptime()
	}
	if k.missing == nil && k.isCurrent(state) {
		return nil
	}
	return k.adopt(ctx, state)
}

func (k *Keyring) isCurrent(s State) bool {
	return s.Revision == k.state.Revision && bytes.Equal(s.Data, k.state.Data)
}

// adopt makes a loaded state the current one, after checking it. Keys of it that
// cannot be decrypted now are noted in k.missing.
func (k *Keyring) adopt(ctx context.Context, state State) error {
	d, err := decode(state.Data)
	switch {
	case err != nil:
		return err
	case d.Ring != k.name:
		return corrupt("it is ring %q's, not %q's", d.Ring, k.name)
	case d.Revision != state.Revision:
		return corrupt("it is of revision %d and was stored as %d", d.Revision, state.Revision)
	}
	integrity, err := k.verify(ctx, d)
	if err != nil {
		return err
	}
	r, err := d.ring()
	if err != nil {
		return err
	}
	if k.state.Revision != 0 && !k.isCurrent(state) {
		// Another ring, not as old as this one, was made in place of a store that was
		// lost, by a replica that was started before this one wrote back what it had.
		usurper := !bytes.Equal(integrity, k.integrity) && r.created.After(k.ring.created)
		if usurper || r.serial <= k.ring.serial {
			return k.reinstate(ctx, state.Revision, r.serial)
		}
		if state.Revision <= k.state.Revision { // another replica has written it back
			k.steady = k.time.uptime()
		}
	}
	held, missing := k.open(ctx, &r)
	if err := k.set(state, r, held); err != nil {
		if missing == nil {
			return corrupt("%v", err)
		}
		return fmt.Errorf("%w: %w", err, missing)
	}
	k.integrity, k.missing = integrity, missing
	if a := k.unsure; a != nil && k.isCurrent(a.state) {
		k.tell(ctx, a.events)
	}
	k.unsure = nil
	return nil
}

// verify checks a document's MAC, and returns its key. An unchanged key is not
// decrypted again.
func (k *Keyring) verify(ctx context.Context, d *document) ([]byte, error) {
	if k.integrity != nil && d.verify(k.integrity) {
		return k.integrity, nil
	}
	if k.integrity == nil || !bytes.Equal(d.IntegrityKey, k.ring.integrity) {
		integrity, err := decrypt(ctx, k.kek, d.IntegrityKey, integrityData(k.name))
		if err == nil && d.verify(integrity) {
			return integrity, nil
		}
		if err != nil && k.integrity == nil {
			return nil, fmt.Errorf("the integrity key: %w", err)
		}
	}
	return nil, corrupt("its MAC does not fit: it was edited or damaged")
}

// open returns the private halves of a ring's live keys. A key that is held already
// is not decrypted again. The error says which are missing, and why.
func (k *Keyring) open(ctx context.Context, r *ring) (map[uint32]*seal.PrivateKey, error) {
	ctx, cancel := half(ctx)
	defer cancel()
	held := make(map[uint32]*seal.PrivateKey)
	var missing []error
	for key := range r.live() {
		private := k.held[key.id]
		if private == nil || !private.Public().Equal(key.public) {
			var err error
			if private, err = unwrapPrivate(ctx, k.kek, r.name, key); err != nil {
				missing = append(missing, err)
				continue
			}
		}
		held[key.id] = private
	}
	return held, errors.Join(missing...)
}

// half is for calls of the key-encryption key: one that hangs leaves half of the time
// for what can be done without it.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// set makes a stored state the current one.
func (k *Keyring) set(state State, r ring, held map[uint32]*seal.PrivateKey) error {
	before := k.state
	k.state = State{state.Revision, bytes.Clone(state.Data)}
	if err := k.take(r, held); err != nil {
		k.state = before
		return err
	}
	return nil
}

// commit stores a changed ring in place of revision old, makes it the current one,
// and tells of it. fresh are the private keys that are new in it.
func (k *Keyring) commit(ctx context.Context, old uint64, d *draft, fresh ...*seal.PrivateKey) error {
	r, events := d.done()
	held := make(map[uint32]*seal.PrivateKey)
	for key := range r.live() {
		if private := k.held[key.id]; private != nil {
			held[key.id] = private
		}
		for _, private := range fresh {
			if private.ID() == key.id {
				held[key.id] = private
			}
		}
	}
	state := State{Revision: old + 1}
	for i := range events {
		events[i].Actor = actor(ctx)
		if k.store != nil {
			events[i].Revision = state.Revision
		}
	}
	if k.store != nil {
		var err error
		if state.Data, err = newDocument(&r, state.Revision).sign(k.integrity); err != nil {
			return err
		}
		if err := k.store.Swap(ctx, old, state, slices.Clone(events)); err != nil {
			k.unsure = &attempt{state, events}
			return fmt.Errorf("storing: %w", err)
		}
		if err := k.set(state, r, held); err != nil {
			return err
		}
	} else if err := k.take(r, held); err != nil {
		return err
	}
	k.unsure = nil
	k.tell(ctx, events)
	return nil
}

// done reports whether a Swap that ended with an error was done all the same.
func (k *Keyring) done(ctx context.Context) bool {
	a := k.unsure
	if a == nil {
		return false
	}
	state, err := k.store.Load(ctx)
	if err != nil || state.Revision != a.state.Revision || !bytes.Equal(state.Data, a.state.Data) {
		return false
	}
	return k.adopt(ctx, state) == nil
}

// reinstate writes the current state back over one that is not to replace it: the
// store was restored from a backup, or lost. old and serial are that state's.
func (k *Keyring) reinstate(ctx context.Context, old, serial uint64) error {
	d := k.ring.draft(k.time.now())
	d.serial, d.reinstating = max(d.serial, serial), true
	d.event(EventReinstated, d.in(Primary))
	if err := k.commit(ctx, old, d); err != nil {
		return fmt.Errorf("writing the newer state back: %w", err)
	}
	k.steady = k.time.uptime()
	return nil
}

// generate adds a new key to the draft, as pending.
func (k *Keyring) generate(ctx context.Context, d *draft, kind keyKind) (*seal.PrivateKey, error) {
	if err := d.room(kind.prefix); err != nil {
		return nil, err
	}
	for {
		private, err := seal.GenerateKey(kind.suite, prefixOption(kind.prefix)...)
		if err != nil {
			return nil, err
		}
		if d.find(private.ID()) != nil {
			continue // of 2^32 ids, the random one is in use
		}
		var wrapped []byte
		if k.store != nil {
			if wrapped, err = wrapPrivate(ctx, k.kek, d.name, private); err != nil {
				return nil, err
			}
		}
		d.add(private, wrapped)
		return private, nil
	}
}

// tell hands events to the audit function.
func (k *Keyring) tell(ctx context.Context, events []Event) {
	for _, e := range events {
		k.audit(ctx, e)
	}
}
