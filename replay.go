package sealhttp

import (
	"context"
	"time"
)

// ReplayGuard remembers the ids of exchange requests, so that each is executed at
// most once. All replicas of a service must share one: a request that one of them has
// taken is taken again by any that does not know of it.
//
// Implementations must be safe for use by several goroutines at once. The in-memory
// default is [NewMemoryReplayGuard]; others are in the modules redisguard and sqlstore.
type ReplayGuard interface {
	// Insert remembers an id in one atomic step. It returns [CodeReplayed] if the id
	// is remembered already, and else [CodeStale], without inserting, if the request
	// was made before the whole second in which the guard's memory began: it may
	// have been taken before that. For any other error, as when the guard is full, its
	// store is unreachable or the caller's quota is used up, the request is refused
	// with 503 replay_guard_unavailable.
	Insert(ctx context.Context, e ReplayEntry) error
	// Contains reports whether an id is remembered. It inserts nothing.
	Contains(ctx context.Context, id [16]byte) (bool, error)
}

// ReplayEntry is one exchange request, as a [ReplayGuard] is told of it. Its tag has
// been verified: whoever made the request chose all of it but the Caller and the TTL.
type ReplayEntry struct {
	// ID names the logical request. A retry has the same.
	ID [16]byte
	// Caller says whose quota the entry counts towards: the account of the request's
	// context, or else the fingerprint of the caller's registered key. It is empty
	// for an unknown caller; all of those share one quota.
	Caller string
	// Time is when the caller made the request, by its own clock, in whole seconds.
	Time time.Time
	// TTL is how long the entry is to be remembered from now on, by the guard's own
	// clock. It is twice the replay window and two minutes more, for the clocks of
	// replicas to differ by.
	TTL time.Duration
}
