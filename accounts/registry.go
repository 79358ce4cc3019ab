package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// Registry keeps accounts in a [Store]. It is safe for use by several goroutines
// at once, and several, on as many machines, can share a store.
type Registry struct {
	store         Store
	cache         *cache
	serverKeys    sealhttp.ServerKeys
	defaultPolicy sealhttp.Policy
	confirmation  Confirmation
	actor         func(context.Context) string
	audit         func(context.Context, Event)
	logger        *slog.Logger // nil: slog.Default() at the time of logging
	crossOrigin   http.CrossOriginProtection
}

// An Option is an option of [New].
type Option func(*Registry) error

// WithServerKeys sets the server's own keys. They are asked at each registration,
// so that none of them is registered as a caller's.
func WithServerKeys(keys sealhttp.ServerKeys) Option {
	return func(r *Registry) error {
		if keys == nil {
			return errors.New("accounts: WithServerKeys: keys are nil")
		}
		r.serverKeys = keys
		return nil
	}
}

// WithDefaultPolicy sets the policy of accounts that have none of their own, and
// of calls without an account. The default is sealhttp.Optional.
func WithDefaultPolicy(p sealhttp.Policy) Option {
	return func(r *Registry) error {
		r.defaultPolicy = p
		return checkPolicy(p)
	}
}

func checkPolicy(p sealhttp.Policy) error {
	if _, ok := parsePolicy(p.String()); !ok {
		return fmt.Errorf("accounts: Policy(%d) is none: use sealhttp.Disabled, Optional, RequestRequired or Required", p)
	}
	return nil
}

// Confirmation says which keys an operator has to confirm before they are used, of
// those that no key in use has approved: see [Registry.Confirm].
type Confirmation uint8

const (
	// ConfirmNever: whoever has an account's credentials can register a key for it,
	// and another one after having revoked that.
	ConfirmNever Confirmation = 1 + iota
	// ConfirmAfterUse, the default: the first key of an account needs nobody. Once
	// one was in use and all were revoked, the next one needs an operator.
	ConfirmAfterUse
	// ConfirmAlways: the first one needs an operator too.
	ConfirmAlways
)

// WithConfirmation sets which keys an operator has to confirm. The default is
// [ConfirmAfterUse].
func WithConfirmation(c Confirmation) Option {
	return func(r *Registry) error {
		if c < ConfirmNever || c > ConfirmAlways {
			return fmt.Errorf("accounts: WithConfirmation: Confirmation(%d) is none", c)
		}
		r.confirmation = c
		return nil
	}
}

// WithCacheTTL sets for how long what was read of an account is used: the longest
// time until a change by another replica is seen. The default is one minute; 0 and
// less keep nothing.
func WithCacheTTL(d time.Duration) Option {
	return func(r *Registry) error {
		r.cache.ttl = d
		return nil
	}
}

// WithCacheNoKeyTTL sets the same for accounts without a key in use. The default
// is 5 seconds, so that a key is used soon after it was proved on another replica.
// It is never longer than [WithCacheTTL].
func WithCacheNoKeyTTL(d time.Duration) Option {
	return func(r *Registry) error {
		r.cache.noKeyTTL = d
		return nil
	}
}

// WithCacheSize sets how many accounts are cached at most; one at random makes
// way. The default is 10,000.
func WithCacheSize(accounts int) Option {
	return func(r *Registry) error {
		if accounts < 1 {
			return fmt.Errorf("accounts: WithCacheSize: %d accounts", accounts)
		}
		r.cache.size = accounts
		return nil
	}
}

// WithActor sets a function that tells who makes a change, for its [Event]. The
// default is sealhttp.Account.
func WithActor(actor func(context.Context) string) Option {
	return func(r *Registry) error {
		if actor == nil {
			return errors.New("accounts: WithActor: the function is nil")
		}
		r.actor = actor
		return nil
	}
}

// WithAudit sets a function that is told of every event, after it was stored. It
// runs on the goroutine of who made the change, and must be safe for use by
// several. The default writes to the log: slog.LevelWarn for what was refused,
// slog.LevelInfo for all else.
func WithAudit(audit func(context.Context, Event)) Option {
	return func(r *Registry) error {
		if audit == nil {
			return errors.New("accounts: WithAudit: the function is nil")
		}
		r.audit = audit
		return nil
	}
}

// WithLogger sets where events, if [WithAudit] sets nothing else, and errors of
// the [Registry.Handler] are logged. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(r *Registry) error {
		if logger == nil {
			return errors.New("accounts: WithLogger: the logger is nil; use slog.New(slog.DiscardHandler) for none")
		}
		r.logger = logger
		return nil
	}
}

// WithTrustedOrigins sets origins other than the handler's own whose pages may
// make changes through the [Registry.Handler], such as "https://example.com".
func WithTrustedOrigins(origins ...string) Option {
	return func(r *Registry) error {
		for _, origin := range origins {
			if err := r.crossOrigin.AddTrustedOrigin(origin); err != nil {
				return fmt.Errorf("accounts: WithTrustedOrigins: %w", err)
			}
		}
		return nil
	}
}

// New makes a Registry over a store.
func New(store Store, opts ...Option) (*Registry, error) {
	if store == nil {
		return nil, errors.New("accounts: the store is nil")
	}
	r := &Registry{
		store:         store,
		defaultPolicy: sealhttp.Optional,
		confirmation:  ConfirmAfterUse,
		actor:         sealhttp.Account,
	}
	r.audit = logEvents(r.log)
	r.cache = &cache{
		load:     r.readView,
		ttl:      time.Minute,
		noKeyTTL: 5 * time.Second,
		size:     10_000,
		entries:  make(map[string]entry),
		flights:  make(map[string]*flight),
	}
	for _, opt := range opts {
		if err := opt(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Registry) log() *slog.Logger {
	if r.logger == nil {
		return slog.Default()
	}
	return r.logger
}

// ClientKey returns the current key of the request's account: it makes a Registry
// a sealhttp.ClientKeys. For an account without one, and for a request without an
// account, it returns sealhttp.ErrNoClientKey; any other error means that it could
// not be found out.
func (r *Registry) ClientKey(req *http.Request) (*seal.PublicKey, error) {
	v, err := r.view(req)
	if err == nil && v.key == nil {
		err = sealhttp.ErrNoClientKey
	}
	return v.key, err
}

// Policy returns the policy of the request's account, for sealhttp.WithPolicyFunc.
// An error means that it could not be found out.
func (r *Registry) Policy(req *http.Request) (sealhttp.Policy, error) {
	v, err := r.view(req)
	return v.policy, err
}

func (r *Registry) view(req *http.Request) (view, error) {
	account := sealhttp.Account(req.Context())
	if account == "" {
		return view{policy: r.defaultPolicy}, nil
	}
	return r.cache.get(req.Context(), account)
}

func (r *Registry) readView(ctx context.Context, account string) (view, error) {
	rec, _, err := r.read(ctx, account)
	if err != nil {
		return view{}, err
	}
	v := view{policy: r.policyOf(rec)}
	if k := rec.current(); k != nil {
		v.key = k.key
	}
	return v, nil
}

func (r *Registry) policyOf(rec *record) sealhttp.Policy {
	if rec.policy != 0 {
		return rec.policy
	}
	return r.defaultPolicy
}

// read returns an account's record and its revision: a new record and 0 if there
// is none.
func (r *Registry) read(ctx context.Context, account string) (*record, uint64, error) {
	if err := checkAccount(account); err != nil {
		return nil, 0, err
	}
	stored, err := r.store.Load(ctx, account)
	if errors.Is(err, ErrNotFound) {
		return newRecord(account), 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("accounts: load account %q: %w", account, err)
	}
	if stored.Account != account || stored.Revision == 0 {
		return nil, 0, fmt.Errorf("accounts: load account %q: %w: the store gave account %q at revision %d",
			account, ErrRecord, stored.Account, stored.Revision)
	}
	rec, err := readRecord(stored)
	return rec, stored.Revision, err
}

const maxAccountLen = 512

func checkAccount(account string) error {
	if account == "" || len(account) > maxAccountLen || !utf8.ValidString(account) {
		return fmt.Errorf("accounts: %w", ErrAccount)
	}
	for _, c := range account {
		if unicode.IsControl(c) {
			return fmt.Errorf("accounts: %w", ErrAccount)
		}
	}
	return nil
}

// How often a change is tried again if others were faster, and how long to wait
// before, at most.
const (
	maxAttempts = 25
	maxBackoff  = 50 * time.Millisecond
)

// change edits an account's record. edit is given a record of its own, several
// times if others were faster. What it changed is stored if it returns events,
// with them, whatever its error: a wrong proof changes something too. The error is
// edit's, or the store's.
func (r *Registry) change(ctx context.Context, account string, edit func(*record) ([]Event, error)) error {
	for attempt := range maxAttempts {
		rec, revision, err := r.read(ctx, account)
		if err != nil {
			return err
		}
		events, editErr := edit(rec)
		if len(events) == 0 {
			return editErr
		}
		r.sign(ctx, account, events)
		next, err := rec.write(revision + 1)
		if err != nil {
			return err
		}
		err = r.store.Swap(ctx, account, revision, next, events)
		r.cache.forget(account) // with an error too: it may have been stored all the same
		switch {
		case err == nil:
			for _, e := range events {
				r.audit(ctx, e)
			}
			return editErr
		case !errors.Is(err, ErrConflict):
			return fmt.Errorf("accounts: store account %q: %w", account, err)
		}
		if err := sleep(ctx, rand.N(min(time.Millisecond<<attempt, maxBackoff))); err != nil {
			return err
		}
	}
	return fmt.Errorf("accounts: account %q, %d attempts: %w", account, maxAttempts, ErrConflict)
}

// sign writes into events what they have in common.
func (r *Registry) sign(ctx context.Context, account string, events []Event) {
	t, actor := now(), r.actor(ctx)
	for i := range events {
		events[i].Time, events[i].Account, events[i].Actor = t, account, actor
	}
}

// now is the time as it is stored.
func now() time.Time { return time.Now().UTC().Round(0) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
