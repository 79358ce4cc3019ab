package accounts

import (
	"context"
	"log/slog"
	"time"
)

// EventType says what happened.
type EventType string

// The types of events.
const (
	// EventRegistered: a key was registered. By is the key that is to approve it.
	EventRegistered EventType = "registered"
	// EventRefusedRegistration: a key was not registered. Reason says why. Where it
	// could be read, KeyID and Fingerprint name it.
	EventRefusedRegistration EventType = "refused_registration"
	// EventChallenged: a challenge was made for a key.
	EventChallenged EventType = "challenged"
	// EventProofFailed: a proof, or the fingerprint of a confirmation, was wrong;
	// Reason says which.
	EventProofFailed EventType = "proof_failed"
	// EventProved: the caller has shown that it has the key's private half. By is
	// the key that has approved it.
	EventProved EventType = "proved"
	// EventConfirmed: an operator has confirmed a proved key.
	EventConfirmed EventType = "confirmed"
	// EventReplaced: responses are no longer sealed to the key, but to By.
	EventReplaced EventType = "replaced"
	// EventRetired: the key was dropped, since By came into use, or since what was
	// to approve it is no longer in use.
	EventRetired EventType = "retired"
	// EventKeyRevoked: the key was revoked.
	EventKeyRevoked EventType = "key_revoked"
	// EventPolicyChanged: the account has another policy.
	EventPolicyChanged EventType = "policy_changed"
)

// Event is one line of the audit trail. It holds nothing secret.
type Event struct {
	// Time is when it happened, by the clock of the replica that did it.
	Time time.Time `json:"time"`
	// Type is what happened.
	Type EventType `json:"type"`
	// Account is the name of the account that it happened to.
	Account string `json:"account"`
	// Actor is who did it, as far as it is known: see [WithActor].
	Actor string `json:"actor,omitempty"`
	// KeyID and Fingerprint name the key that it happened to.
	KeyID       uint32 `json:"key_id,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	// By is the id of the other key that had a part in it.
	By uint32 `json:"by,omitempty"`
	// Reason is the code of the rule that was broken, as the [Registry.Handler]
	// gives it.
	Reason string `json:"reason,omitempty"`
	// Policy is the name of the account's new policy; "default" if it has none of
	// its own any more.
	Policy string `json:"policy,omitempty"`
}

// LogValue gives log/slog the fields that are set.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Time("time", e.Time),
		slog.String("type", string(e.Type)),
		slog.String("account", e.Account),
	}
	for _, a := range []slog.Attr{
		slog.String("actor", e.Actor),
		slog.Uint64("key_id", uint64(e.KeyID)),
		slog.String("fingerprint", e.Fingerprint),
		slog.Uint64("by", uint64(e.By)),
		slog.String("reason", e.Reason),
		slog.String("policy", e.Policy),
	} {
		if s := a.Value.String(); s != "" && s != "0" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(attrs...)
}

// logEvents is the default of [WithAudit].
func logEvents(logger func() *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		level := slog.LevelInfo
		if e.Type == EventRefusedRegistration || e.Type == EventProofFailed {
			level = slog.LevelWarn
		}
		logger().LogAttrs(ctx, level, "accounts: "+string(e.Type), slog.Any("event", e))
	}
}
