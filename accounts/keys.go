package accounts

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// Key is a registered key.
type Key struct {
	// Public is the key itself: its ID, Suite and Fingerprint, which is for the
	// caller to compare with that of its own.
	Public *seal.PublicKey
	// State says how far the key has come.
	State KeyState
	// Approver is the id of the key that is to approve it, or has, 0 if none.
	Approver uint32
	// Registered is when the key was registered.
	Registered time.Time
	// Proved is when the caller has shown the private half, or zero.
	Proved time.Time
}

// ID returns the key's id.
func (k Key) ID() uint32 { return k.Public.ID() }

// Fingerprint returns the key's fingerprint: see [seal.PublicKey.Fingerprint].
func (k Key) Fingerprint() string { return k.Public.Fingerprint() }

func (k *keyRecord) asKey() Key {
	key := Key{Public: k.key, State: k.State, Approver: k.Approver, Registered: k.Registered}
	if k.Proved != nil {
		key.Proved = *k.Proved
	}
	return key
}

// Account is what a store has of an account.
type Account struct {
	// Name is the account's name, as authentication gives it.
	Name string
	// Policy is the account's own policy, or the default.
	Policy sealhttp.Policy
	// OwnPolicy says that it is its own.
	OwnPolicy bool
	// Keys are the current key, the previous one, and those that wait to be proved
	// or confirmed.
	Keys []Key
}

func (r *Registry) asAccount(rec *record) Account {
	a := Account{Name: rec.Account, Policy: r.policyOf(rec), OwnPolicy: rec.policy != 0}
	for _, k := range rec.Keys {
		a.Keys = append(a.Keys, k.asKey())
	}
	return a
}

// Register stores the first key of an account, as [Pending], and returns it. It is
// not used before it was proved: see [Registry.Challenge]. An account whose key is
// in use gets [ErrApprovalNeeded]: see [Registry.Replace].
//
// A key that breaks a rule is refused with the rule's error, one of this package's
// or of package seal's, and [EventRefusedRegistration]. Nothing of what was given
// is stored then, or a part of the error.
func (r *Registry) Register(ctx context.Context, account string, form KeyForm) (Key, error) {
	return r.register(ctx, account, 0, form)
}

// Replace stores another key of an account, as [Pending], which the current or the
// previous key is to approve; approver is its id. The new key's challenge is
// opened with both: see [Challenge.Open]. Otherwise Replace is [Registry.Register].
func (r *Registry) Replace(ctx context.Context, account string, approver uint32, form KeyForm) (Key, error) {
	if approver == 0 {
		return Key{}, r.refuse(ctx, account, nil, fmt.Errorf("accounts: key 0: %w", ErrApprover))
	}
	return r.register(ctx, account, approver, form)
}

func (r *Registry) register(ctx context.Context, account string, approver uint32, form KeyForm) (Key, error) {
	if err := checkAccount(account); err != nil {
		return Key{}, err
	}
	key, err := form.parse()
	if err == nil {
		err = r.checkServerKeys(ctx, key)
	}
	if err != nil {
		return Key{}, r.refuse(ctx, account, key, err)
	}
	var k *keyRecord
	err = r.change(ctx, account, func(rec *record) ([]Event, error) {
		if err := rec.admit(key); err != nil {
			return nil, err
		}
		k = newKeyRecord(key, approver, now())
		if err := rec.checkApproval(k); err != nil {
			return nil, err
		}
		rec.Keys = append(rec.Keys, k)
		return []Event{k.event(EventRegistered, approver)}, nil
	})
	if err != nil {
		return Key{}, r.refuse(ctx, account, key, err)
	}
	return k.asKey(), nil
}

func (r *Registry) checkServerKeys(ctx context.Context, key *seal.PublicKey) error {
	if r.serverKeys == nil {
		return nil
	}
	set, err := r.serverKeys.ServerKeys(ctx)
	if err == nil && set == nil {
		err = errors.New("the key set is nil")
	}
	if err != nil {
		return fmt.Errorf("accounts: the server's keys: %w", err)
	}
	if set.Holds(key) {
		return fmt.Errorf("accounts: key %d: %w", key.ID(), ErrServerKey)
	}
	return nil
}

// refuse records that a registration was refused, and returns why. What is the
// store's fault is no refusal.
func (r *Registry) refuse(ctx context.Context, account string, key *seal.PublicKey, cause error) error {
	rule := ruleOf(cause)
	if rule.status >= 500 || checkAccount(account) != nil {
		return cause
	}
	e := Event{Type: EventRefusedRegistration, Reason: rule.code}
	if key != nil {
		e.KeyID, e.Fingerprint = key.ID(), key.Fingerprint()
	}
	events := []Event{e}
	err := r.change(ctx, account, func(*record) ([]Event, error) { return []Event{e}, nil })
	if err != nil { // the refusal stands, and is told
		r.sign(ctx, account, events)
		r.audit(ctx, events[0])
	}
	return cause
}

// Challenge makes a challenge for a pending key. The one before it can no longer
// be answered.
func (r *Registry) Challenge(ctx context.Context, account string, id uint32) (*Challenge, error) {
	var c *Challenge
	err := r.change(ctx, account, func(rec *record) ([]Event, error) {
		k := rec.lookup(id)
		if k == nil {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrNoKey)
		}
		if k.State != Pending {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrAlreadyProved)
		}
		if err := rec.checkApproval(k); err != nil {
			return nil, err
		}
		var approver *seal.PublicKey
		if k.Approver != 0 {
			approver = rec.approver(k.Approver).key
		}
		var err error
		if c, k.Challenge, err = newChallenge(account, k.key, approver, now()); err != nil {
			return nil, err
		}
		return []Event{k.event(EventChallenged, k.Approver)}, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Prove takes what was in a key's challenge. If it is right, the key becomes the
// [Current] one: at once if a key in use has approved it, or as [WithConfirmation]
// says; otherwise it is [Proved], until it is confirmed.
//
// A wrong proof costs one of the challenge's attempts.
func (r *Registry) Prove(ctx context.Context, account string, id uint32, opened []byte) (Key, error) {
	var k *keyRecord
	err := r.change(ctx, account, func(rec *record) ([]Event, error) {
		if k = rec.lookup(id); k == nil {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrNoKey)
		}
		if k.Challenge == nil {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrNoChallenge)
		}
		if err := rec.checkApproval(k); err != nil {
			return nil, err
		}
		t := now()
		if !t.Before(k.Challenge.Expires) {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrChallengeExpired)
		}
		if !k.Challenge.answers(opened) {
			if k.Challenge.Tries--; k.Challenge.Tries == 0 {
				k.Challenge = nil
			}
			err := fmt.Errorf("accounts: key %d: %w", id, ErrWrongProof)
			return []Event{k.failure(err)}, err
		}
		k.Challenge, k.Proved = nil, &t
		events := []Event{k.event(EventProved, k.Approver)}
		if k.Approver == 0 && r.mustConfirm(rec) {
			k.State = Proved
			return events, nil
		}
		return append(events, rec.use(k)...), nil
	})
	if err != nil {
		return Key{}, err
	}
	return k.asKey(), nil
}

// mustConfirm reports whether a proved key that none has approved waits for an
// operator.
func (r *Registry) mustConfirm(rec *record) bool {
	switch r.confirmation {
	case ConfirmNever:
		return false
	case ConfirmAlways:
		return true
	}
	return len(rec.Revoked) > 0
}

// Confirm makes a [Proved] key the current one. It is for an operator, who gives
// the fingerprint that the caller's own people have told by another way than the
// API: over the telephone, say.
func (r *Registry) Confirm(ctx context.Context, account string, id uint32, fingerprint string) (Key, error) {
	var k *keyRecord
	err := r.change(ctx, account, func(rec *record) ([]Event, error) {
		if k = rec.lookup(id); k == nil {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrNoKey)
		}
		if k.State != Proved {
			return nil, fmt.Errorf("accounts: key %d is %s: %w", id, k.State, ErrNotProved)
		}
		if subtle.ConstantTimeCompare([]byte(k.Fingerprint), []byte(fingerprint)) != 1 {
			err := fmt.Errorf("accounts: key %d: %w", id, ErrFingerprint)
			return []Event{k.failure(err)}, err
		}
		return append([]Event{k.event(EventConfirmed, 0)}, rec.use(k)...), nil
	})
	if err != nil {
		return Key{}, err
	}
	return k.asKey(), nil
}

// Revoke ends a key, in whatever state. It is for the account, and for an operator
// when the account's credentials are lost. After the current key the previous one
// is current again; if that cannot be trusted either, revoke it first. After the
// last key, no response can be sealed to the account: [Registry.ClientKey] returns
// sealhttp.ErrNoClientKey, and with policy Required all its calls are refused until
// it has another key, which an operator has to confirm (see [WithConfirmation]). A
// revoked key cannot be registered again.
func (r *Registry) Revoke(ctx context.Context, account string, id uint32) error {
	return r.change(ctx, account, func(rec *record) ([]Event, error) {
		k := rec.lookup(id)
		if k == nil {
			return nil, fmt.Errorf("accounts: key %d: %w", id, ErrNoKey)
		}
		return rec.revoke(k, now()), nil
	})
}

// A PolicyOption is an option of [Registry.SetPolicy].
type PolicyOption func(*policyOptions)

type policyOptions struct{ withoutKey bool }

// EvenWithoutKey lets [Registry.SetPolicy] set Required for an account without a
// key in use. All its calls are refused until it has one; its registration must
// therefore not go through a route with this policy.
func EvenWithoutKey() PolicyOption {
	return func(o *policyOptions) { o.withoutKey = true }
}

// SetPolicy sets an account's own policy. It is for an operator. sealhttp.Required
// is refused with [ErrNoKeyInUse] for an account without a key in use, unless
// [EvenWithoutKey] is given.
func (r *Registry) SetPolicy(ctx context.Context, account string, policy sealhttp.Policy, opts ...PolicyOption) error {
	if err := checkPolicy(policy); err != nil {
		return err
	}
	return r.setPolicy(ctx, account, policy.String(), policy, opts)
}

// ClearPolicy lets an account have the default policy again. It is for an operator,
// and refuses what [Registry.SetPolicy] would refuse.
func (r *Registry) ClearPolicy(ctx context.Context, account string, opts ...PolicyOption) error {
	return r.setPolicy(ctx, account, "", r.defaultPolicy, opts)
}

// setPolicy stores the name of a policy, or "" for the default; effective is what
// it comes to.
func (r *Registry) setPolicy(ctx context.Context, account, policy string, effective sealhttp.Policy, opts []PolicyOption) error {
	var o policyOptions
	for _, opt := range opts {
		opt(&o)
	}
	return r.change(ctx, account, func(rec *record) ([]Event, error) {
		if rec.Policy == policy {
			return nil, nil
		}
		if effective == sealhttp.Required && rec.current() == nil && !o.withoutKey {
			return nil, fmt.Errorf("accounts: account %q: %w", account, ErrNoKeyInUse)
		}
		rec.Policy = policy
		e := Event{Type: EventPolicyChanged, Policy: policy}
		if policy == "" {
			e.Policy = "default"
		}
		return []Event{e}, nil
	})
}

// List returns what the store has of an account: its policy and keys. An account
// without a record has the default policy and no keys.
func (r *Registry) List(ctx context.Context, account string) (Account, error) {
	rec, _, err := r.read(ctx, account)
	if err != nil {
		return Account{}, err
	}
	return r.asAccount(rec), nil
}

// pageSize is how many records All reads at once.
const pageSize = 100

// All yields all accounts that have a record, in the order of their names, for an
// operator. A record that cannot be read is yielded as an Account with nothing but
// its name and an error, and the others follow; an error without a name is the
// store's, and the last.
func (r *Registry) All(ctx context.Context) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		after := ""
		for {
			page, err := r.store.List(ctx, after, pageSize)
			if err != nil {
				yield(Account{}, fmt.Errorf("accounts: list accounts: %w", err))
				return
			}
			for _, stored := range page {
				after = stored.Account
				rec, err := readRecord(stored)
				a := Account{Name: stored.Account}
				if err == nil {
					a = r.asAccount(rec)
				}
				if !yield(a, err) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}
