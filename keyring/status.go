package keyring

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// Status is what a ring is at one moment, for operators and for publication.
type Status struct {
	// Ring is the ring's name.
	Ring string
	// Revision counts the writes of the ring's [Store]. In memory it is 0.
	Revision uint64
	// Serial grows with every change of the ring, and goes on growing when its store
	// is lost or restored from a backup, provided that the clocks are right: it is
	// the Unix time of the change, or one more than the last. It is what callers are
	// to be told, who must not go back to an older state.
	Serial uint64
	// Keys are the primary, the pending key, the previous ones and the retired ones,
	// each newest first. Of those that retired the last 64 are remembered.
	Keys []KeyStatus
}

// KeyStatus is a key and its life.
type KeyStatus struct {
	// ID is the key's id, as messages name it.
	ID uint32
	// Suite is the key's suite.
	Suite seal.Suite
	// State says where the key is in its life.
	State KeyState
	// Fingerprint is that of the public key: see [seal.PublicKey.Fingerprint].
	Fingerprint string
	// Public is nil for a retired key.
	Public *seal.PublicKey
	// Created, Promoted, Replaced and Retired are when the key became pending,
	// primary, previous and retired; zero if it did not.
	Created, Promoted, Replaced, Retired time.Time
	// Revoked says that the key was retired by [Keyring.Revoke].
	Revoked bool
}

// Status returns the state of this moment, in a copy of the caller's own.
func (k *Keyring) Status() Status {
	s := k.current.Load().status
	s.Keys = slices.Clone(s.Keys)
	return s
}

// Schedule returns the schedule with its defaults filled in.
func (k *Keyring) Schedule() Schedule { return k.timing.Schedule }

func (k *Keyring) newStatus(r *ring) Status {
	s := Status{Ring: r.name, Revision: k.state.Revision, Serial: r.serial}
	for _, key := range r.keys {
		s.Keys = append(s.Keys, KeyStatus{
			ID:          key.id,
			Suite:       key.suite,
			State:       key.state,
			Fingerprint: key.fingerprint,
			Public:      key.public,
			Created:     key.created,
			Promoted:    key.promoted,
			Replaced:    key.replaced,
			Retired:     key.retired,
			Revoked:     key.revoked,
		})
	}
	return s
}

// useInterval is how often the use of a previous key is told.
const useInterval = 24 * time.Hour

// use is when the use of a previous key was told last.
type use struct {
	id          uint32
	fingerprint string
	told        atomic.Int64 // uptime, 0: never
}

// Used is to be told the key id of requests, by sealhttp.WithObserver for example.
// If the key is a previous one, so that the caller has not refreshed its keys yet,
// an [EventPreviousKeyUsed] tells so, once a day, key and replica. Its context is
// the one given here, in which the function of [WithAudit] may find the caller. For
// every other id Used does nothing, in some nanoseconds.
func (k *Keyring) Used(ctx context.Context, id uint32) {
	for _, u := range k.current.Load().previous {
		if u.id != id {
			continue
		}
		now, told := max(int64(k.time.uptime()), 1), u.told.Load()
		if (told == 0 || now-told >= int64(useInterval)) && u.told.CompareAndSwap(told, now) {
			k.audit(ctx, Event{
				Time:        k.clock().UTC(),
				Type:        EventPreviousKeyUsed,
				Ring:        k.name,
				KeyID:       id,
				Fingerprint: u.fingerprint,
				Actor:       actor(ctx),
			})
		}
		return
	}
}
