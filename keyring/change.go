package keyring

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealhttp/sealhttp/seal"
)

// Rotate asks for a new primary, of the same kind as the old one unless
// [WithSuite] or [WithoutPrefix] say otherwise. It makes the pending key, which
// [Keyring.Run] of any replica makes the primary once Lead has passed; the old
// primary stays as a previous key for the time of Overlap. If there is a pending
// key already, a rotation is under way and Rotate changes nothing. Rotate takes
// this machine's clock for right, and mends times in the ring that are yet to come.
//
// A Keyring in memory has a new primary at once. The old one stays as the previous
// key, and keys older than that are dropped: callers must have refreshed their keys
// between two rotations.
//
// Requests under way keep the key set that they started with. Rotate returns an
// error that wraps [ErrFull] if another key must retire first, and the error of ctx
// if it has ended. On an error nothing has changed, unless the store has not
// answered.
func (k *Keyring) Rotate(ctx context.Context) error {
	return k.change(ctx, "rotate", nil, func(d *draft) (*seal.PrivateKey, error) {
		if k.store == nil {
			return k.rotateNow(ctx, d)
		}
		d.settle()
		if d.in(Pending) != nil {
			return nil, nil
		}
		return k.generate(ctx, d, k.newKeys(&d.ring))
	})
}

// rotateNow is Rotate of a Keyring in memory.
func (k *Keyring) rotateNow(ctx context.Context, d *draft) (*seal.PrivateKey, error) {
	for key := range d.live() {
		d.retire(key.id)
	}
	private, err := k.generate(ctx, d, k.newKeys(&d.ring))
	if err != nil {
		return nil, err
	}
	d.promote()
	return private, nil
}

// Revoke deletes the private half of a key that is compromised. On this replica it
// is gone when Revoke returns, on the others with their next reload. If it is the
// primary, the pending key takes its place, or else a new one, at once.
//
// Callers that use the key are answered unknown_key from then on: sealhttp's
// Transport gets the current keys and calls once more. The replicas that have not
// reloaded yet do not know a new primary either, so in that time, up to one reload
// interval, they refuse those calls.
//
// Revoke of a key that is retired already changes nothing. The error wraps
// [ErrUnknownKey] for an id that the ring does not know. On an error nothing has
// changed, unless the store has not answered: revoke again until there is none.
func (k *Keyring) Revoke(ctx context.Context, id uint32) error {
	return k.change(ctx, "revoke", nil, func(d *draft) (*seal.PrivateKey, error) {
		key := d.find(id)
		if key == nil {
			return nil, fmt.Errorf("key %d: %w", id, ErrUnknownKey)
		}
		primary, kind := key.state == Primary, k.newKeys(&d.ring)
		d.revoke(id)
		if !primary {
			return nil, nil
		}
		var private *seal.PrivateKey
		if pending := d.in(Pending); pending == nil {
			var err error
			if private, err = k.generate(ctx, d, kind); err != nil {
				return nil, err
			}
		} else if k.held[pending.id] == nil {
			return nil, fmt.Errorf("the pending key is to take its place: %w", k.missing)
		}
		d.promote()
		return private, nil
	})
}

// Rewrap encrypts what is stored under another key-encryption key, and uses that
// for new keys. Before it is called every replica must be able to decrypt with it,
// and afterwards none may encrypt with the old one:
//
//  1. Start every replica with KEKs(old, new).
//  2. Start every replica with KEKs(new, old).
//  3. Call Rewrap(ctx, new) on one of them.
//  4. Start every replica with new alone, and destroy old. Backups from before step
//     3 need it.
//
// A replica that has only the old one goes on with the keys that it holds, and
// keeps the next rotation from taking place until it can decrypt the new key.
//
// The private keys stay the same: if old was compromised, together with a copy of
// the store, they are too, and need Rotate or Revoke.
func (k *Keyring) Rewrap(ctx context.Context, kek AEAD) error {
	if k.store == nil {
		return errors.New("keyring: rewrap: the ring is in memory, where nothing is encrypted")
	}
	if kek == nil {
		return errors.New("keyring: rewrap: the key-encryption key is nil")
	}
	return k.change(ctx, "rewrap", kek, func(d *draft) (*seal.PrivateKey, error) {
		if k.missing != nil {
			return nil, k.missing
		}
		var err error
		if d.integrity, err = encryptChecked(ctx, kek, k.integrity, integrityData(d.name)); err != nil {
			return nil, fmt.Errorf("the integrity key: %w", err)
		}
		for key := range d.live() {
			wrapped, err := wrapPrivate(ctx, kek, d.name, k.held[key.id])
			if err != nil {
				return nil, err
			}
			key.wrapped = wrapped
			d.event(EventRewrapped, key)
		}
		return nil, nil
	})
}

// change loads the current state, lets f draft another, and stores it, until no
// other replica comes first. f returns the private key that it added, if any. With
// a kek, that is used from then on.
func (k *Keyring) change(ctx context.Context, verb string, kek AEAD, f func(*draft) (*seal.PrivateKey, error)) error {
	err := k.lock(ctx)
	if err != nil {
		return fmt.Errorf("keyring: %s: %w", verb, err)
	}
	defer k.unlock()
	for range maxTries {
		err = k.changeOnce(ctx, kek, f)
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("keyring: %s: %w", verb, err)
	}
	return nil
}

func (k *Keyring) changeOnce(ctx context.Context, kek AEAD, f func(*draft) (*seal.PrivateKey, error)) error {
	if k.store != nil {
		if err := k.reload(ctx); err != nil {
			return err
		}
	}
	k.time.set()
	d := k.ring.draft(k.time.now())
	private, err := f(d)
	if err != nil || len(d.events) == 0 {
		return err
	}
	var fresh []*seal.PrivateKey
	if private != nil {
		fresh = append(fresh, private)
	}
	if err := k.commit(ctx, k.state.Revision, d, fresh...); err != nil && !k.done(ctx) {
		return err
	}
	if kek != nil {
		k.kek = KEKs(kek, k.kek)
	}
	return nil
}
