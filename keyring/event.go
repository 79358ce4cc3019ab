package keyring

import (
	"context"
	"log/slog"
	"time"
)

// EventType says what an [Event] is.
type EventType string

// What changes a ring. These events are stored with the change.
const (
	// EventGenerated is a new key, which is held from now on and told to nobody yet.
	EventGenerated EventType = "generated"
	// EventPublished is a key that callers are told of from now on.
	EventPublished EventType = "published"
	// EventPromoted is a key that callers are told to use from now on.
	EventPromoted EventType = "promoted"
	// EventRetired is a key whose private half was deleted, since every caller had
	// time to refresh.
	EventRetired EventType = "retired"
	// EventRevoked is a key whose private half was deleted by [Keyring.Revoke].
	EventRevoked EventType = "revoked"
	// EventRewrapped is a key whose private half was encrypted under another
	// key-encryption key.
	EventRewrapped EventType = "rewrapped"
	// EventPostponed is a pending key that a replica could not decrypt yet, so that
	// its Lead begins anew.
	EventPostponed EventType = "postponed"
	// EventReinstated is a ring that a replica wrote back over an older state, or
	// into an empty store: see the package documentation on backups.
	EventReinstated EventType = "reinstated"
)

// What happens to one replica. These events are not stored. Each of the conditions
// is told once when it begins, and once when it has ended.
const (
	// EventStoreUnreachable is a store that answers with errors or not in time. The
	// keys that are loaded go on serving.
	EventStoreUnreachable EventType = "store_unreachable"
	// EventStoreReachable is a store that answers again.
	EventStoreReachable EventType = "store_reachable"
	// EventKEKUnreachable is a key-encryption key that fails to encrypt or decrypt:
	// the KMS cannot be reached or refuses, or the key is another one. The keys that
	// are decrypted go on serving.
	EventKEKUnreachable EventType = "kek_unreachable"
	// EventKEKReachable is a key-encryption key that works again.
	EventKEKReachable EventType = "kek_reachable"
	// EventStateRefused is a stored state that was altered, or that is of another
	// version or ring. The keys that are loaded go on serving, and nothing is
	// overwritten.
	EventStateRefused EventType = "state_refused"
	// EventStateAccepted is a stored state that can be read again.
	EventStateAccepted EventType = "state_accepted"
	// EventClockBehind is a clock that stands before the ring's last step: it is
	// wrong, or the one that stamped the step was. This replica does nothing on
	// schedule until it has caught up.
	EventClockBehind EventType = "clock_behind"
	// EventClockCaughtUp is a clock that has caught up.
	EventClockCaughtUp EventType = "clock_caught_up"
	// EventPreviousKeyUsed is a request that was sealed to a previous key, told by
	// [Keyring.Used] once a day, key and replica.
	EventPreviousKeyUsed EventType = "previous_key_used"
)

// Event is something that an operator, or an auditor, may want to know of a ring.
// It holds nothing secret.
type Event struct {
	// Time is when it happened, by the clock of the replica that tells it.
	Time time.Time
	// Type is what happened.
	Type EventType
	// Ring is the ring's name.
	Ring string
	// Revision is the stored revision that the change made, 0 if nothing changed or
	// the ring is in memory.
	Revision uint64
	// KeyID is the id of the key concerned, 0 if none is.
	KeyID uint32
	// Fingerprint is the fingerprint of that key, empty if there is none.
	Fingerprint string
	// Actor is who asked for it, from [ContextWithActor]. It is empty for what was
	// done on schedule.
	Actor string
	// Err says what failed. It is nil in what is stored.
	Err error
}

// LogValue makes an Event an argument of log/slog.
func (e Event) LogValue() slog.Value { return slog.GroupValue(e.attrs()...) }

func (e Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("ring", e.Ring)}
	if e.KeyID != 0 {
		attrs = append(attrs, slog.Uint64("key_id", uint64(e.KeyID)))
	}
	if e.Fingerprint != "" {
		attrs = append(attrs, slog.String("fingerprint", e.Fingerprint))
	}
	if e.Revision != 0 {
		attrs = append(attrs, slog.Uint64("revision", e.Revision))
	}
	if e.Actor != "" {
		attrs = append(attrs, slog.String("actor", e.Actor))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	return attrs
}

// level is that of a warning for what an operator may have to mend.
func (e Event) level() slog.Level {
	switch e.Type {
	case EventPostponed, EventReinstated, EventStoreUnreachable, EventKEKUnreachable, EventStateRefused, EventClockBehind:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// LogTo makes a function for [WithAudit] that logs to a logger, to slog.Default()
// if it is nil: what needs an operator as a warning, the rest as information.
func LogTo(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		l := logger
		if l == nil {
			l = slog.Default()
		}
		l.LogAttrs(ctx, e.level(), "keyring: "+string(e.Type), e.attrs()...)
	}
}

type actorKey struct{}

// ContextWithActor returns a context that says who asks, for the events of what is
// done with it.
func ContextWithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actor(ctx context.Context) string {
	a, _ := ctx.Value(actorKey{}).(string)
	return a
}
