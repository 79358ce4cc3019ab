package accounts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

func TestNew(t *testing.T) {
	for name, opt := range map[string]accounts.Option{
		"server keys": accounts.WithServerKeys(nil),
		"policy":      accounts.WithDefaultPolicy(0),
		"policy 99":   accounts.WithDefaultPolicy(99),
		"size":        accounts.WithCacheSize(0),
		"actor":       accounts.WithActor(nil),
		"confirm":     accounts.WithConfirmation(0),
		"confirm 4":   accounts.WithConfirmation(4),
		"audit":       accounts.WithAudit(nil),
		"logger":      accounts.WithLogger(nil),
		"origin":      accounts.WithTrustedOrigins("https://example.com/path"),
	} {
		if r, err := accounts.New(accounts.NewMemoryStore(), opt); err == nil || r != nil {
			t.Errorf("%s: New = %v, %v", name, r, err)
		}
	}
	if r, err := accounts.New(nil); err == nil || r != nil {
		t.Errorf("New(nil) = %v, %v", r, err)
	}
}

// TestWay follows a key of each suite, from registration to use.
func TestWay(t *testing.T) {
	for _, suite := range seal.Suites() {
		t.Run(suite.String(), func(t *testing.T) {
			f := newFixture(t)
			ctx := ctxOf("acme")
			key := generate(t, suite)
			wantKeys(t, f.Registry, "acme")

			registered, err := f.Register(ctx, "acme", tinkForm(t, key))
			check(t, err)
			if !registered.Public.Equal(key.Public()) || registered.State != accounts.Pending || registered.Fingerprint() != key.Public().Fingerprint() ||
				registered.Registered.IsZero() || !registered.Proved.IsZero() {
				t.Fatalf("Register = %+v", registered)
			}
			wantKeys(t, f.Registry, "acme", key, accounts.Pending)

			challenge, err := f.Challenge(ctx, "acme", key.ID())
			check(t, err)
			if challenge.KeyID != key.ID() || challenge.Approver != 0 || !challenge.Expires.After(time.Now().Add(9*time.Minute)) {
				t.Fatalf("Challenge = %+v", challenge)
			}
			// Tink, or any library, opens it with the info that is documented.
			opened, err := key.Open(nil, challenge.Message, accounts.ChallengeInfo("acme", key.Public()))
			check(t, err)
			if len(opened) != 32 {
				t.Fatalf("%d bytes in the challenge", len(opened))
			}
			wantKeys(t, f.Registry, "acme", key, accounts.Pending)

			proved, err := f.Prove(ctx, "acme", key.ID(), opened)
			check(t, err)
			if proved.State != accounts.Current || proved.Proved.IsZero() {
				t.Fatalf("Prove = %+v", proved)
			}
			wantKeys(t, f.Registry, "acme", key, accounts.Current)
			f.trail.want(t, accounts.EventRegistered, accounts.EventChallenged, accounts.EventProved)

			check(t, f.Revoke(ctx, "acme", key.ID()))
			wantKeys(t, f.Registry, "acme")
			f.trail.want(t, accounts.EventKeyRevoked)
		})
	}
}

func TestChallengeInfo(t *testing.T) {
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, 4242, bytes.Repeat([]byte{1}, 32))
	check(t, err)
	const tail = " v1\x00acme\x004242\x00"
	if got, want := string(accounts.ChallengeInfo("acme", key.Public())), "sealhttp accounts challenge"+tail+key.Public().Fingerprint(); got != want {
		t.Errorf("ChallengeInfo = %q, want %q", got, want)
	}
	if got, want := string(accounts.ApprovalInfo("acme", key.Public())), "sealhttp accounts approval"+tail+key.Public().Fingerprint(); got != want {
		t.Errorf("ApprovalInfo = %q, want %q", got, want)
	}
	// No Middleware or Transport can be made to use it.
	if _, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(key.Public()), sealhttp.WithInfo(accounts.ChallengeInfo("acme", key.Public()), nil)); err == nil {
		t.Error("a Transport took the info of a challenge")
	}
}

// TestReplace replaces a key twice, once approved by the current and once by the
// previous one.
func TestReplace(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	first, second, third := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM), generate(t, seal.XWingAES256GCM)
	enrol(t, f.Registry, "acme", first)
	f.trail.take()

	_, err := f.Register(ctx, "acme", tinkForm(t, second))
	wantIs(t, "Register with a key in use", err, accounts.ErrApprovalNeeded)
	f.trail.want(t, accounts.EventRefusedRegistration)

	replacement, err := f.Replace(ctx, "acme", first.ID(), tinkForm(t, second))
	check(t, err)
	if replacement.Approver != first.ID() || replacement.State != accounts.Pending {
		t.Fatalf("Replace = %+v", replacement)
	}
	c, err := f.Challenge(ctx, "acme", second.ID())
	check(t, err)
	if c.Approver != first.ID() {
		t.Fatalf("the approver is %d", c.Approver)
	}
	if _, err := second.Open(nil, c.Message, accounts.ChallengeInfo("acme", second.Public())); err == nil {
		t.Fatal("the new key alone opens the challenge")
	}
	inner, err := first.Open(nil, c.Message, accounts.ApprovalInfo("acme", second.Public()))
	check(t, err)
	opened, err := second.Open(nil, inner, accounts.ChallengeInfo("acme", second.Public()))
	check(t, err)
	_, err = f.Prove(ctx, "acme", second.ID(), inner)
	wantIs(t, "Prove with what the approver alone has", err, accounts.ErrWrongProof)
	_, err = f.Prove(ctx, "acme", second.ID(), opened)
	check(t, err)
	wantKeys(t, f.Registry, "acme", second, accounts.Current, first, accounts.Previous)
	f.trail.want(t, accounts.EventRegistered, accounts.EventChallenged, accounts.EventProofFailed, accounts.EventProved, accounts.EventReplaced)

	// The previous key still approves, and is retired by the third one.
	enrol(t, f.Registry, "acme", third, first)
	wantKeys(t, f.Registry, "acme", third, accounts.Current, second, accounts.Previous)
	events := f.trail.take()
	if got, want := types(events), []accounts.EventType{accounts.EventRegistered, accounts.EventChallenged,
		accounts.EventProved, accounts.EventRetired, accounts.EventReplaced}; !slices.Equal(got, want) {
		t.Fatalf("the events are %q, want %q", got, want)
	}
	for _, e := range events[3:] {
		wanted := map[accounts.EventType]uint32{accounts.EventRetired: first.ID(), accounts.EventReplaced: second.ID()}[e.Type]
		if e.KeyID != wanted || e.By != third.ID() {
			t.Errorf("%s of key %d by %d, want key %d by %d", e.Type, e.KeyID, e.By, wanted, third.ID())
		}
	}

	// A retired key approves no more.
	_, err = f.Replace(ctx, "acme", first.ID(), tinkForm(t, generate(t, seal.X25519AES256GCM)))
	wantIs(t, "approved by a retired key", err, accounts.ErrApprover)
	_, err = f.Replace(ctx, "acme", 0, tinkForm(t, generate(t, seal.X25519AES256GCM)))
	wantIs(t, "approved by key 0", err, accounts.ErrApprover)
}

// TestSwappedReplacement: whoever is on the way puts a key of its own in the place
// of the caller's new one, and hands its challenge on. The caller's old key opens
// it only for the caller's new key.
func TestSwappedReplacement(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	old, mine, theirs := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", old)
	theirsAsMine, err := seal.NewPrivateKey(seal.X25519AES256GCM, mine.ID(), theirs.Bytes())
	check(t, err)
	_, err = f.Replace(ctx, "acme", old.ID(), tinkForm(t, theirsAsMine))
	check(t, err)
	c, err := f.Challenge(ctx, "acme", mine.ID())
	check(t, err)
	if opened, err := c.Open("acme", mine, old); !errors.Is(err, seal.ErrDecryptionFailed) {
		t.Fatalf("the caller has approved another key: %x, %v", opened, err)
	}
	if _, err := c.Open("acme", theirsAsMine, theirs); err == nil {
		t.Fatal("opened without the approver")
	}
	if _, err := c.Open("acme", theirsAsMine); err == nil {
		t.Fatal("opened without the approver")
	}
	wantKeys(t, f.Registry, "acme", old, accounts.Current, theirsAsMine, accounts.Pending)
}

// TestRelayedChallenge: an account registers somebody else's key, and has its
// owner open the challenge, who believes it to be their own.
func TestRelayedChallenge(t *testing.T) {
	f := newFixture(t)
	key := generate(t, seal.X25519AES256GCM)
	_, err := f.Register(ctxOf("mallory"), "mallory", tinkForm(t, key))
	check(t, err)
	c, err := f.Challenge(ctxOf("mallory"), "mallory", key.ID())
	check(t, err)
	if opened, err := c.Open("acme", key); !errors.Is(err, seal.ErrDecryptionFailed) {
		t.Fatalf("the owner answers for another account: %x, %v", opened, err)
	}
	if _, err := c.Open("mallory", key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open("mallory", nil); err == nil {
		t.Fatal("opened without a key")
	}
	if _, err := c.Open("mallory", generate(t, seal.X25519AES256GCM)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is for key %d", key.ID())) {
		t.Fatalf("opened with another key: %v", err)
	}
	short := *c
	short.Message, err = key.Public().Seal(nil, make([]byte, 31), accounts.ChallengeInfo("mallory", key.Public()))
	check(t, err)
	if opened, err := short.Open("mallory", key); err == nil {
		t.Fatalf("a challenge of 31 bytes was opened: %x", opened)
	}
}

// TestProof has the ways in which a proof is none.
func TestProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx := ctxOf("acme")
		key, other := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
		for _, k := range []*seal.PrivateKey{key, other} {
			_, err := f.Register(ctx, "acme", tinkForm(t, k))
			check(t, err)
		}
		prove := func(id uint32, opened []byte) error {
			_, err := f.Prove(ctx, "acme", id, opened)
			return err
		}
		wantIs(t, "without a challenge", prove(key.ID(), make([]byte, 32)), accounts.ErrNoChallenge)
		wantIs(t, "of no key", prove(1, make([]byte, 32)), accounts.ErrNoKey)
		_, err := f.Challenge(ctx, "acme", 1)
		wantIs(t, "challenge of no key", err, accounts.ErrNoKey)

		// Three attempts.
		opened := challenged(t, f.Registry, "acme", key)
		otherOpened := challenged(t, f.Registry, "acme", other)
		for _, wrong := range [][]byte{nil, otherOpened, append(bytes.Clone(opened), 0)} {
			wantIs(t, "wrong", prove(key.ID(), wrong), accounts.ErrWrongProof)
		}
		wantIs(t, "right, after three wrong ones", prove(key.ID(), opened), accounts.ErrNoChallenge)
		wantIs(t, "on another key", prove(other.ID(), opened), accounts.ErrWrongProof)

		// The newest challenge counts.
		opened = challenged(t, f.Registry, "acme", key)
		newer := challenged(t, f.Registry, "acme", key)
		wantIs(t, "of the challenge before", prove(key.ID(), opened), accounts.ErrWrongProof)

		// Ten minutes.
		time.Sleep(10 * time.Minute)
		wantIs(t, "late", prove(key.ID(), newer), accounts.ErrChallengeExpired)
		opened = challenged(t, f.Registry, "acme", key)
		time.Sleep(10*time.Minute - time.Nanosecond)
		wantIs(t, "by another account", func() error {
			_, err := f.Prove(ctx, "other", key.ID(), opened)
			return err
		}(), accounts.ErrNoKey)
		check(t, prove(key.ID(), opened))

		// Once.
		wantIs(t, "again", prove(key.ID(), opened), accounts.ErrNoChallenge)
		_, err = f.Challenge(ctx, "acme", key.ID())
		wantIs(t, "challenge of a proved key", err, accounts.ErrAlreadyProved)
	})
}

// TestFirstOfMany: keys that were registered side by side do not outlive the first
// one that is proved, since nothing approves them.
func TestFirstOfMany(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	mine, theirs := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	for _, k := range []*seal.PrivateKey{theirs, mine} {
		_, err := f.Register(ctx, "acme", tinkForm(t, k))
		check(t, err)
	}
	theirProof := challenged(t, f.Registry, "acme", theirs)
	myProof := challenged(t, f.Registry, "acme", mine)
	_, err := f.Prove(ctx, "acme", mine.ID(), myProof)
	check(t, err)
	_, err = f.Prove(ctx, "acme", theirs.ID(), theirProof)
	wantIs(t, "the second proof", err, accounts.ErrNoKey)
	wantKeys(t, f.Registry, "acme", mine, accounts.Current)
	events := f.trail.take()
	if last := events[len(events)-1]; last.Type != accounts.EventRetired || last.KeyID != theirs.ID() || last.By != mine.ID() {
		t.Fatalf("the last event is %+v", last)
	}
}

func TestRevoke(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	first, second, third := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", first)
	enrol(t, f.Registry, "acme", second, first)
	_, err := f.Replace(ctx, "acme", second.ID(), tinkForm(t, third))
	check(t, err)
	wantIs(t, "a key that is none", f.Revoke(ctx, "acme", 1), accounts.ErrNoKey)
	wantIs(t, "another account's key", f.Revoke(ctx, "other", first.ID()), accounts.ErrNoKey)
	f.trail.take()

	// The current one: the previous is current again, and what it was to approve goes.
	check(t, f.Revoke(ctx, "acme", second.ID()))
	wantKeys(t, f.Registry, "acme", first, accounts.Current)
	f.trail.want(t, accounts.EventKeyRevoked, accounts.EventRetired)
	_, err = f.Replace(ctx, "acme", first.ID(), tinkForm(t, second))
	wantIs(t, "a revoked key again", err, accounts.ErrRevokedKey)
	again, err := seal.NewPrivateKey(seal.X25519AES128GCM, 77, second.Bytes())
	check(t, err)
	_, err = f.Replace(ctx, "acme", first.ID(), tinkForm(t, again))
	wantIs(t, "a revoked key under another id and suite", err, accounts.ErrRevokedKey)

	// The previous one.
	enrol(t, f.Registry, "acme", third, first)
	pendingBeside := generate(t, seal.X25519AES256GCM)
	_, err = f.Replace(ctx, "acme", first.ID(), tinkForm(t, pendingBeside))
	check(t, err)
	check(t, f.Revoke(ctx, "acme", pendingBeside.ID()))
	wantKeys(t, f.Registry, "acme", third, accounts.Current, first, accounts.Previous)
	check(t, f.Revoke(ctx, "acme", first.ID()))
	wantKeys(t, f.Registry, "acme", third, accounts.Current)
	_, err = f.Replace(ctx, "acme", third.ID(), tinkForm(t, first))
	wantIs(t, "a revoked previous key again", err, accounts.ErrRevokedKey)

	// A pending one may come again: it was never in use.
	pending := generate(t, seal.X25519AES256GCM)
	for range 2 {
		_, err = f.Replace(ctx, "acme", third.ID(), tinkForm(t, pending))
		check(t, err)
		check(t, f.Revoke(ctx, "acme", pending.ID()))
	}

	// The last one. Then there is nobody to approve, and a first key is taken.
	check(t, f.SetPolicy(ctx, "acme", sealhttp.Required))
	check(t, f.Revoke(ctx, "acme", third.ID()))
	wantKeys(t, f.Registry, "acme")
	if p, err := f.Policy(requestOf("acme")); p != sealhttp.Required || err != nil {
		t.Fatalf("Policy = %v, %v", p, err)
	}
	_, err = f.Replace(ctx, "acme", third.ID(), tinkForm(t, generate(t, seal.X25519AES256GCM)))
	wantIs(t, "approved by a revoked key", err, accounts.ErrApprover)
	// It has to be confirmed, so that credentials alone do not replace a key.
	next := generate(t, seal.X25519AES256GCM)
	if k := enrol(t, f.Registry, "acme", next); k.State != accounts.Proved {
		t.Fatalf("the next key is %s", k.State)
	}
	wantKeys(t, f.Registry, "acme", next, accounts.Proved)
	check(t, f.Revoke(ctx, "acme", next.ID()))
	_, err = f.Register(ctx, "acme", tinkForm(t, next))
	wantIs(t, "a revoked proved key again", err, accounts.ErrRevokedKey)
	next = generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", next)
	_, err = f.Confirm(ctx, "acme", next.ID(), next.Public().Fingerprint())
	check(t, err)
	wantKeys(t, f.Registry, "acme", next, accounts.Current)
}

// TestConfirmNever: without operators, credentials do.
func TestConfirmNever(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmNever))
	for range 2 {
		key := generate(t, seal.X25519AES256GCM)
		enrol(t, f.Registry, "acme", key)
		wantKeys(t, f.Registry, "acme", key, accounts.Current)
		check(t, f.Revoke(ctxOf("acme"), "acme", key.ID()))
	}
}

// TestPendingRevoked: a key that was never in use is no reason for confirmation.
func TestPendingRevoked(t *testing.T) {
	f := newFixture(t)
	_, err := f.Register(ctxOf("acme"), "acme", tinkForm(t, generate(t, seal.X25519AES256GCM)))
	check(t, err)
	a, err := f.List(t.Context(), "acme")
	check(t, err)
	check(t, f.Revoke(ctxOf("acme"), "acme", a.Keys[0].ID()))
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", key)
	wantKeys(t, f.Registry, "acme", key, accounts.Current)
}

// TestManyRevoked keeps the newest 64.
func TestManyRevoked(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmNever))
	ctx := ctxOf("acme")
	var all []*seal.PrivateKey
	for range 65 {
		key := generate(t, seal.X25519AES256GCM)
		enrol(t, f.Registry, "acme", key)
		check(t, f.Revoke(ctx, "acme", key.ID()))
		all = append(all, key)
	}
	for i, key := range all {
		_, err := f.Register(ctx, "acme", tinkForm(t, key))
		if i == 0 {
			check(t, err)
		} else {
			wantIs(t, "a revoked key again", err, accounts.ErrRevokedKey)
		}
	}
}

func TestConfirmation(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmAlways))
	ctx := ctxOf("acme")
	first, second := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	_, err := f.Register(ctx, "acme", tinkForm(t, first))
	check(t, err)
	_, err = f.Confirm(ctx, "acme", first.ID(), first.Public().Fingerprint())
	wantIs(t, "before it was proved", err, accounts.ErrNotProved)
	proved, err := f.Prove(ctx, "acme", first.ID(), challenged(t, f.Registry, "acme", first))
	check(t, err)
	if proved.State != accounts.Proved {
		t.Fatalf("the key is %s", proved.State)
	}
	wantKeys(t, f.Registry, "acme", first, accounts.Proved)
	_, err = f.Challenge(ctx, "acme", first.ID())
	wantIs(t, "challenge of a proved key", err, accounts.ErrAlreadyProved)
	_, err = f.Replace(ctx, "acme", first.ID(), tinkForm(t, second))
	wantIs(t, "approved by a key that is not confirmed", err, accounts.ErrApprover)
	f.trail.take()
	for _, wrong := range []string{"", second.Public().Fingerprint(), strings.ReplaceAll(first.Public().Fingerprint(), "-", ""), first.Public().Fingerprint()[:46]} {
		_, err = f.Confirm(ctx, "acme", first.ID(), wrong)
		wantIs(t, "another fingerprint", err, accounts.ErrFingerprint)
		if e := f.trail.take(); len(e) != 1 || e[0].Type != accounts.EventProofFailed || e[0].Reason != "wrong_fingerprint" {
			t.Fatalf("the events are %+v", e)
		}
	}
	_, err = f.Confirm(ctx, "acme", 1, first.Public().Fingerprint())
	wantIs(t, "no key", err, accounts.ErrNoKey)
	confirmed, err := f.Confirm(ctx, "acme", first.ID(), first.Public().Fingerprint())
	check(t, err)
	if confirmed.State != accounts.Current {
		t.Fatalf("the key is %s", confirmed.State)
	}
	f.trail.want(t, accounts.EventConfirmed)
	wantKeys(t, f.Registry, "acme", first, accounts.Current)

	// What a key in use approves needs no operator.
	enrol(t, f.Registry, "acme", second, first)
	wantKeys(t, f.Registry, "acme", second, accounts.Current, first, accounts.Previous)
}

// TestConfirmLater: an operator can confirm a proved key beside one in use: another
// replica had it confirmed first.
func TestConfirmLater(t *testing.T) {
	f := newFixture(t, accounts.WithConfirmation(accounts.ConfirmAlways))
	ctx := ctxOf("acme")
	keys := []*seal.PrivateKey{generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)}
	for _, k := range keys {
		_, err := f.Register(ctx, "acme", tinkForm(t, k))
		check(t, err)
		_, err = f.Prove(ctx, "acme", k.ID(), challenged(t, f.Registry, "acme", k))
		check(t, err)
	}
	for _, k := range keys {
		_, err := f.Confirm(ctx, "acme", k.ID(), k.Public().Fingerprint())
		check(t, err)
	}
	wantKeys(t, f.Registry, "acme", keys[1], accounts.Current, keys[0], accounts.Previous)
}

func TestPolicy(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("operator")
	key := generate(t, seal.X25519AES256GCM)
	want := func(expected sealhttp.Policy, own bool) {
		t.Helper()
		if p, err := f.Policy(requestOf("acme")); p != expected || err != nil {
			t.Fatalf("Policy = %v, %v, want %v", p, err, expected)
		}
		if a, err := f.List(ctx, "acme"); err != nil || a.Policy != expected || a.OwnPolicy != own || a.Name != "acme" {
			t.Fatalf("List = %+v, %v", a, err)
		}
	}
	want(sealhttp.Optional, false)
	for _, none := range []sealhttp.Policy{0, 5, 255} {
		if err := f.SetPolicy(ctx, "acme", none); err == nil {
			t.Fatalf("SetPolicy took %d", none)
		}
	}
	wantIs(t, "Required without a key", f.SetPolicy(ctx, "acme", sealhttp.Required), accounts.ErrNoKeyInUse)
	check(t, f.ClearPolicy(ctx, "acme"))
	if e := f.trail.take(); len(e) != 0 {
		t.Fatalf("nothing has changed, but %+v", e)
	}
	for _, p := range []sealhttp.Policy{sealhttp.Disabled, sealhttp.RequestRequired, sealhttp.Optional} {
		check(t, f.SetPolicy(ctx, "acme", p))
		want(p, true)
		e := f.trail.take()
		if len(e) != 1 || e[0].Type != accounts.EventPolicyChanged || e[0].Policy != p.String() || e[0].Actor != "operator" || e[0].Account != "acme" {
			t.Fatalf("the events are %+v", e)
		}
		check(t, f.SetPolicy(ctx, "acme", p))
		if e := f.trail.take(); len(e) != 0 {
			t.Fatalf("nothing has changed, but %+v", e)
		}
	}
	check(t, f.SetPolicy(ctx, "acme", sealhttp.Required, accounts.EvenWithoutKey()))
	want(sealhttp.Required, true)
	check(t, f.ClearPolicy(ctx, "acme"))
	want(sealhttp.Optional, false)
	if e := f.trail.take(); len(e) != 2 || e[1].Policy != "default" {
		t.Fatalf("the events are %+v", e)
	}
	// A key that is not proved is none.
	_, err := f.Register(ctx, "acme", tinkForm(t, key))
	check(t, err)
	wantIs(t, "Required with a pending key", f.SetPolicy(ctx, "acme", sealhttp.Required), accounts.ErrNoKeyInUse)
	_, err = f.Prove(ctx, "acme", key.ID(), challenged(t, f.Registry, "acme", key))
	check(t, err)
	check(t, f.SetPolicy(ctx, "acme", sealhttp.Required))
	want(sealhttp.Required, true)
	wantKeys(t, f.Registry, "acme", key, accounts.Current)
}

func TestDefaultPolicy(t *testing.T) {
	f := newFixture(t, accounts.WithDefaultPolicy(sealhttp.Required))
	ctx := ctxOf("acme")
	for _, account := range []string{"acme", ""} {
		if p, err := f.Policy(requestOf(account)); p != sealhttp.Required || err != nil {
			t.Fatalf("Policy of %q = %v, %v", account, p, err)
		}
	}
	check(t, f.SetPolicy(ctx, "acme", sealhttp.Optional))
	wantIs(t, "back to Required without a key", f.ClearPolicy(ctx, "acme"), accounts.ErrNoKeyInUse)
	check(t, f.ClearPolicy(ctx, "acme", accounts.EvenWithoutKey()))
}

func TestWithoutAccount(t *testing.T) {
	f := newFixture(t)
	_, err := f.ClientKey(requestOf(""))
	wantIs(t, "ClientKey", err, sealhttp.ErrNoClientKey)
	if loads, _ := f.store.counts(); loads != 0 {
		t.Fatalf("the store was asked %d times", loads)
	}
	for _, name := range []string{"", strings.Repeat("x", 513), "a\x00b", "a\nb", "a\u0085b", "\xff", "\x7f"} {
		ctx := t.Context()
		_, err := f.Register(ctx, name, tinkForm(t, generate(t, seal.X25519AES256GCM)))
		wantIs(t, "Register", err, accounts.ErrAccount)
		_, err = f.Replace(ctx, name, 0, accounts.KeyForm{})
		wantIs(t, "Replace", err, accounts.ErrApprover)
		_, err = f.Challenge(ctx, name, 1)
		wantIs(t, "Challenge", err, accounts.ErrAccount)
		wantIs(t, "Revoke", f.Revoke(ctx, name, 1), accounts.ErrAccount)
		wantIs(t, "SetPolicy", f.SetPolicy(ctx, name, sealhttp.Optional), accounts.ErrAccount)
		_, err = f.List(ctx, name)
		wantIs(t, "List", err, accounts.ErrAccount)
		if name != "" {
			// Authentication gives a name that no account can have: nothing is known of it.
			if _, err = f.ClientKey(requestOf(name)); err == nil || errors.Is(err, sealhttp.ErrNoClientKey) {
				t.Errorf("ClientKey of %q: %v", name, err)
			}
			if p, err := f.Policy(requestOf(name)); err == nil {
				t.Errorf("Policy of %q = %v", name, p)
			}
		}
	}
	if loads, swaps := f.store.counts(); loads != 0 || swaps != 0 {
		t.Fatalf("the store was asked: %d, %d", loads, swaps)
	}
}

func TestAll(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("operator")
	var names []string
	for i := range 250 {
		name := "account " + string(rune('a'+i%25)) + strings.Repeat("x", i/25)
		check(t, f.SetPolicy(ctx, name, sealhttp.Disabled))
		names = append(names, name)
	}
	check(t, f.store.MemoryStore.Swap(ctx, "account m bad", 0, accounts.Record{Account: "account m bad", Revision: 1, Data: []byte(`{}`)}, nil))
	seen := make(map[string]bool)
	last := ""
	for a, err := range f.All(ctx) {
		if a.Name <= last || seen[a.Name] {
			t.Fatalf("%q after %q", a.Name, last)
		}
		last = a.Name
		seen[a.Name] = true
		if a.Name == "account m bad" {
			wantIs(t, "the bad record", err, accounts.ErrRecord)
			continue
		}
		check(t, err)
		if a.Policy != sealhttp.Disabled || !a.OwnPolicy {
			t.Fatalf("%+v", a)
		}
	}
	if len(seen) != len(names)+1 {
		t.Fatalf("%d accounts, want %d", len(seen), len(names)+1)
	}
	n := 0
	for range f.All(ctx) {
		if n++; n == 3 {
			break
		}
	}
	f.store.fail(errBoom)
	n = 0
	for a, err := range f.All(ctx) {
		n++
		wantIs(t, "List", err, errBoom)
		if a.Name != "" {
			t.Errorf("account %q", a.Name)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

var errBoom = errors.New("boom")

// TestStoreFails: what a store cannot say is no "no", of no method.
func TestStoreFails(t *testing.T) {
	f := newFixture(t)
	ctx := ctxOf("acme")
	key := generate(t, seal.X25519AES256GCM)
	f.store.fail(errBoom)
	_, err := f.ClientKey(requestOf("acme"))
	wantIs(t, "ClientKey", err, errBoom)
	if errors.Is(err, sealhttp.ErrNoClientKey) {
		t.Error("ClientKey says that there is no key")
	}
	p, err := f.Policy(requestOf("acme"))
	wantIs(t, "Policy", err, errBoom)
	if p != 0 {
		t.Errorf("Policy = %v", p)
	}
	_, err = f.Register(ctx, "acme", tinkForm(t, key))
	wantIs(t, "Register", err, errBoom)
	_, err = f.Replace(ctx, "acme", 1, tinkForm(t, key))
	wantIs(t, "Replace", err, errBoom)
	_, err = f.Challenge(ctx, "acme", 1)
	wantIs(t, "Challenge", err, errBoom)
	_, err = f.Prove(ctx, "acme", 1, nil)
	wantIs(t, "Prove", err, errBoom)
	_, err = f.Confirm(ctx, "acme", 1, "")
	wantIs(t, "Confirm", err, errBoom)
	wantIs(t, "Revoke", f.Revoke(ctx, "acme", 1), errBoom)
	wantIs(t, "SetPolicy", f.SetPolicy(ctx, "acme", sealhttp.Disabled), errBoom)
	wantIs(t, "ClearPolicy", f.ClearPolicy(ctx, "acme"), errBoom)
	_, err = f.List(ctx, "acme")
	wantIs(t, "List", err, errBoom)
	f.trail.want(t)

	// A refusal stands, and is told, with the store down.
	_, err = f.Register(ctx, "acme", accounts.KeyForm{})
	wantIs(t, "Register of no key", err, accounts.ErrKeyForm)
	if e := f.trail.take(); len(e) != 1 || e[0].Type != accounts.EventRefusedRegistration || e[0].Account != "acme" || e[0].Actor != "acme" || e[0].Time.IsZero() {
		t.Fatalf("the events are %+v", e)
	}
	f.store.fail(nil)
	enrol(t, f.Registry, "acme", key)
}

func TestServerKeys(t *testing.T) {
	server, previous := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM)
	set, err := seal.NewKeySet(server, previous)
	check(t, err)
	var serverErr error
	f := newFixture(t, accounts.WithServerKeys(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, serverErr })))
	ctx := ctxOf("acme")
	for _, k := range []*seal.PrivateKey{server, previous} {
		again, err := seal.NewPrivateKey(k.Suite(), 99, k.Bytes())
		check(t, err)
		for _, k := range []*seal.PrivateKey{k, again} {
			_, err := f.Register(ctx, "acme", tinkForm(t, k))
			wantIs(t, "the server's key", err, accounts.ErrServerKey)
			if e := f.trail.take(); len(e) != 1 || e[0].Reason != "server_key" || e[0].KeyID != k.ID() || e[0].Fingerprint != k.Public().Fingerprint() {
				t.Fatalf("the events are %+v", e)
			}
		}
	}
	mine := tinkForm(t, generate(t, seal.X25519AES256GCM))
	serverErr = errBoom
	_, err = f.Register(ctx, "acme", mine)
	wantIs(t, "without the server's keys", err, errBoom)
	set, serverErr = nil, nil
	if _, err = f.Register(ctx, "acme", mine); err == nil {
		t.Fatal("registered without the server's keys")
	}
	f.trail.want(t)
	wantKeys(t, f.Registry, "acme")
}

// TestAudit: every event is stored with the change, then told, with who did it and
// what it was about.
func TestAudit(t *testing.T) {
	type actorKey struct{}
	f := newFixture(t, accounts.WithActor(func(ctx context.Context) string {
		actor, _ := ctx.Value(actorKey{}).(string)
		return actor
	}))
	ctx := context.WithValue(t.Context(), actorKey{}, "carol")
	key, next := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	before := time.Now()
	enrol := func(k *seal.PrivateKey, approver ...*seal.PrivateKey) {
		var err error
		if len(approver) > 0 {
			_, err = f.Replace(ctx, "acme", approver[0].ID(), tinkForm(t, k))
		} else {
			_, err = f.Register(ctx, "acme", tinkForm(t, k))
		}
		check(t, err)
		c, err := f.Challenge(ctx, "acme", k.ID())
		check(t, err)
		_, err = f.Prove(ctx, "acme", k.ID(), []byte("wrong"))
		wantIs(t, "a wrong proof", err, accounts.ErrWrongProof)
		opened, err := c.Open("acme", k, approver...)
		check(t, err)
		_, err = f.Prove(ctx, "acme", k.ID(), opened)
		check(t, err)
	}
	enrol(key)
	enrol(next, key)
	_, err := f.Register(ctx, "acme", accounts.KeyForm{Raw: "AA", Suite: "X25519-AES256GCM"})
	wantIs(t, "a short key", err, seal.ErrKeyLength)
	check(t, f.SetPolicy(ctx, "acme", sealhttp.Required))
	check(t, f.Revoke(ctx, "acme", next.ID()))

	told := f.trail.take()
	if stored := f.store.stored(); !slices.Equal(told, stored) {
		t.Fatalf("told were\n%+v, stored are\n%+v", told, stored)
	}
	type line struct {
		Type   accounts.EventType
		Key    *seal.PrivateKey
		By     *seal.PrivateKey
		Reason string
		Policy string
	}
	lines := []line{
		{Type: accounts.EventRegistered, Key: key},
		{Type: accounts.EventChallenged, Key: key},
		{Type: accounts.EventProofFailed, Key: key, Reason: "wrong_proof"},
		{Type: accounts.EventProved, Key: key},
		{Type: accounts.EventRegistered, Key: next, By: key},
		{Type: accounts.EventChallenged, Key: next, By: key},
		{Type: accounts.EventProofFailed, Key: next, Reason: "wrong_proof"},
		{Type: accounts.EventProved, Key: next, By: key},
		{Type: accounts.EventReplaced, Key: key, By: next},
		{Type: accounts.EventRefusedRegistration, Reason: "key_length"},
		{Type: accounts.EventPolicyChanged, Policy: "Required"},
		{Type: accounts.EventKeyRevoked, Key: next},
	}
	if len(told) != len(lines) {
		t.Fatalf("%d events, want %d: %q", len(told), len(lines), types(told))
	}
	for i, l := range lines {
		want := accounts.Event{Time: told[i].Time, Type: l.Type, Account: "acme", Actor: "carol", Reason: l.Reason, Policy: l.Policy}
		if l.Key != nil {
			want.KeyID, want.Fingerprint = l.Key.ID(), l.Key.Public().Fingerprint()
		}
		if l.By != nil {
			want.By = l.By.ID()
		}
		if told[i] != want || told[i].Time.Before(before.Add(-time.Second)) || told[i].Time.Location() != time.UTC {
			t.Errorf("event %d is %+v, want %+v", i, told[i], want)
		}
	}
}

func TestDefaultAudit(t *testing.T) {
	var out bytes.Buffer
	r := newRegistry(t, accounts.NewMemoryStore(), accounts.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	ctx := ctxOf("acme")
	key := generate(t, seal.X25519AES256GCM)
	_, err := r.Register(ctx, "acme", tinkForm(t, key))
	check(t, err)
	_, err = r.Register(ctx, "acme", tinkForm(t, key))
	wantIs(t, "again", err, seal.ErrDuplicateKey)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("the log is\n%s", out.String())
	}
	for i, parts := range [][]string{
		{"level=INFO", `msg="accounts: registered"`, "event.account=acme", "event.actor=acme", "event.fingerprint=" + key.Public().Fingerprint()},
		{"level=WARN", `msg="accounts: refused_registration"`, "event.reason=duplicate_key"},
	} {
		for _, part := range parts {
			if !strings.Contains(lines[i], part) {
				t.Errorf("%q is not in\n%s", part, lines[i])
			}
		}
		if strings.Contains(lines[i], "event.policy") || strings.Contains(lines[i], "event.by") {
			t.Errorf("unset fields are in\n%s", lines[i])
		}
	}
}
