package keyring_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

func TestRunEnds(t *testing.T) {
	memory, err := keyring.New(generate(t, seal.X25519AES256GCM))
	if err != nil {
		t.Fatal(err)
	}
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		stored := open(t, keyring.NewMemoryStore(), kek, quiet())
		for _, ring := range []*keyring.Keyring{stored} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- ring.Run(ctx) }()
			synctest.Wait()
			if err := ring.Run(ctx); err == nil {
				t.Error("running twice: no error")
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if err := ring.Run(ctx); err != nil { // again, with a context that has ended
				t.Errorf("got %v, want nil", err)
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := memory.Run(ctx); err != nil {
		t.Errorf("in memory: got %v, want nil", err)
	}
}

// Three replicas rotate on schedule: each step once, at its time to the nanosecond,
// and on every replica within a reload interval.
func TestSchedule(t *testing.T) {
	kek := newKEK(t)
	for name, opts := range map[string][]keyring.Option{
		"tink": nil,
		"raw":  {keyring.WithoutPrefix()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events journal
				store := keyring.NewMemoryStore()
				opts := append(opts, keyring.WithAudit(events.add), keyring.WithReloadInterval(hour),
					keyring.WithSchedule(keyring.Schedule{Every: 100 * day, Lead: day, Overlap: 10 * day}))
				start := time.Now()
				var rings []*keyring.Keyring
				for range 3 {
					rings = append(rings, open(t, store, kek, opts...))
				}
				stop := run(t, rings...)
				defer stop()
				sleep(350 * day)
				type at struct {
					what keyring.EventType
					when time.Duration
				}
				want := []at{
					{keyring.EventGenerated, 0}, {keyring.EventPublished, 0}, {keyring.EventPromoted, 0},
					{keyring.EventGenerated, 99 * day}, {keyring.EventPublished, 100 * day}, {keyring.EventPromoted, 100 * day}, {keyring.EventRetired, 110 * day},
					{keyring.EventGenerated, 199 * day}, {keyring.EventPublished, 200 * day}, {keyring.EventPromoted, 200 * day}, {keyring.EventRetired, 210 * day},
					{keyring.EventGenerated, 299 * day}, {keyring.EventPublished, 300 * day}, {keyring.EventPromoted, 300 * day}, {keyring.EventRetired, 310 * day},
				}
				var got []at
				for _, e := range events.take() {
					got = append(got, at{e.Type, e.Time.Sub(start)})
				}
				if !slices.Equal(got, want) {
					t.Errorf("got  %v\nwant %v", got, want)
				}
				for _, ring := range rings {
					expectKeys(t, ring, 0, 0, 3)
					if s := ring.Status(); s.Revision != 10 || s.Serial != rings[0].Status().Serial {
						t.Errorf("got revision %d, serial %d", s.Revision, s.Serial)
					}
				}
			})
		})
	}
}

// One replica's way to the store breaks: its keys go on serving, and one event tells
// when that begins and when it is over.
func TestStoreOutage(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		broken := &link{Store: store}
		a := open(t, store, kek, quiet())
		b := open(t, broken, kek, keyring.WithAudit(events.add))
		defer run(t, a, b)()
		sleep(hour)
		events.expect(t)
		broken.fail(errStore)
		sleep(hour)
		got := events.take()
		if len(got) != 1 || got[0].Type != keyring.EventStoreUnreachable || !errors.Is(got[0].Err, errStore) || got[0].Revision != 0 {
			t.Errorf("got %+v, want one store_unreachable", got)
		}
		expectOpens(t, b, a.PublicKeys()[0], nil)
		rotate(t, a)
		expectKeys(t, a, 0, 1, 0)
		expectKeys(t, b, 0, 0, 0)
		broken.fail(nil)
		sleep(minute)
		events.expect(t, keyring.EventStoreReachable)
		expectKeys(t, b, 0, 1, 0)
	})
}

// A store that never answers costs a replica its news, not its keys, and Run ends
// with its context all the same.
func TestHangingStore(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := &hangingStore{Store: keyring.NewMemoryStore()}
		ring := open(t, store, kek, keyring.WithAudit(events.add))
		events.take()
		store.hang = true
		stop := run(t, ring)
		sleep(hour)
		events.expect(t, keyring.EventStoreUnreachable)
		expectOpens(t, ring, ring.PublicKeys()[0], nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := ring.Rotate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		stop()
	})
}

type hangingStore struct {
	keyring.Store
	hang bool
}

func (s *hangingStore) Load(ctx context.Context) (keyring.State, error) {
	if s.hang {
		<-ctx.Done()
		return keyring.State{}, ctx.Err()
	}
	return s.Store.Load(ctx)
}

// The KMS of one replica is down while another rotates: the key is not promoted
// until that replica has it too, and a KMS that is down for all postpones the
// rotation. No call fails.
func TestKMSOutage(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		kmsA, kmsB := &kms{AEAD: kek}, &kms{AEAD: kek}
		a := open(t, store, kmsA, quiet(), keyring.WithReloadInterval(hour))
		b := open(t, store, kmsB, keyring.WithAudit(events.add), keyring.WithReloadInterval(hour))
		defer run(t, a, b)()
		first := a.PublicKeys()[0]
		sleep(day)
		events.take()

		kmsB.fail(errKMS)
		sleep(day)
		events.expect(t) // nothing was asked of it
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		sleep(day)
		expectKeys(t, a, 1, 0, 0)
		got := events.types()
		if slices.Index(got, keyring.EventKEKUnreachable) < 0 || slices.Index(got, keyring.EventPostponed) < 0 || slices.Contains(got, keyring.EventPromoted) {
			t.Errorf("got events %q", got)
		}
		if n := len(slices.DeleteFunc(got, func(e keyring.EventType) bool { return e == keyring.EventPostponed })); n != 1 {
			t.Errorf("the outage was told %d times", n)
		}
		for _, ring := range []*keyring.Keyring{a, b} {
			expectOpens(t, ring, first, nil)
			if p := ring.PublicKeys(); len(p) != 1 || !p[0].Equal(first) {
				t.Errorf("published %v", p)
			}
		}

		kmsB.fail(nil)
		sleep(hour)
		events.expect(t, keyring.EventKEKReachable)
		sleep(2 * hour)
		expectKeys(t, a, 0, 1, 0)
		sleep(hour)
		expectKeys(t, b, 0, 1, 0)

		// A rotation falls due while no KMS works.
		kmsA.fail(errKMS)
		kmsB.fail(errKMS)
		sleep(366 * day)
		expectKeys(t, a, 0, 0, 1)
		expectOpens(t, b, a.PublicKeys()[0], nil)
		events.take()
		kmsA.fail(nil)
		kmsB.fail(nil)
		sleep(5 * hour)
		expectKeys(t, a, 0, 1, 1)
		expectKeys(t, b, 0, 1, 1)
	})
}

// A KMS that never answers is one that is down: the promotion is held up all the same.
func TestHangingKMS(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		hang := &hangingKEK{AEAD: kek}
		a := open(t, store, kek, quiet())
		b := open(t, store, hang, keyring.WithAudit(events.add))
		defer run(t, a, b)()
		release := make(chan struct{})
		defer close(release)
		hang.set(release)
		events.take()
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		sleep(hour)
		expectKeys(t, a, 1, 0, 0)
		got := events.types()
		if !slices.Contains(got, keyring.EventKEKUnreachable) || !slices.Contains(got, keyring.EventPostponed) || slices.Contains(got, keyring.EventStoreUnreachable) {
			t.Errorf("got events %q", got)
		}
		hang.set(nil)
		sleep(4 * minute)
		expectKeys(t, a, 0, 1, 0)
		expectKeys(t, b, 0, 1, 0)
	})
}

// hangingKEK waits for a channel before it decrypts.
type hangingKEK struct {
	keyring.AEAD
	mu      sync.Mutex
	release chan struct{}
}

func (h *hangingKEK) set(release chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.release = release
}

func (h *hangingKEK) Decrypt(ciphertext, data []byte) ([]byte, error) {
	h.mu.Lock()
	release := h.release
	h.mu.Unlock()
	if release != nil {
		<-release
	}
	return h.AEAD.Decrypt(ciphertext, data)
}

// Another replica revokes the primary while this one cannot decrypt what takes its
// place: it goes on with what it may still use.
func TestRevokeDuringKMSOutage(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		store := keyring.NewMemoryStore()
		kmsB := &kms{AEAD: kek}
		a := open(t, store, kek, quiet(), keyring.WithReloadInterval(hour))
		b := open(t, store, kmsB, quiet(), keyring.WithReloadInterval(hour))
		defer run(t, a, b)()
		rotate(t, a)
		sleep(hour)
		keys := b.PublicKeys()
		kmsB.fail(errKMS)
		if err := a.Revoke(t.Context(), keys[0].ID()); err != nil {
			t.Fatal(err)
		}
		sleep(hour)
		expectOpens(t, b, keys[0], seal.ErrUnknownKey)
		expectOpens(t, b, keys[1], nil)
		if p := b.PublicKeys(); len(p) != 1 || !p[0].Equal(keys[1]) {
			t.Errorf("published %v, want the previous key", p)
		}
		// Nothing at all that it could use: it keeps what it has.
		if err := a.Revoke(t.Context(), keys[1].ID()); err != nil {
			t.Fatal(err)
		}
		sleep(hour)
		expectOpens(t, b, keys[1], nil)
		if err := b.Revoke(t.Context(), b.Status().Keys[0].ID); !errors.Is(err, errKMS) {
			t.Errorf("got %v, want the KMS's error", err)
		}
		kmsB.fail(nil)
		sleep(hour)
		expectKeys(t, b, 0, 0, 2)
		expectOpens(t, b, keys[1], seal.ErrUnknownKey)
		expectOpens(t, b, a.PublicKeys()[0], nil)
	})
}

// Any replica's Rotate fails while its KMS is down, and changes nothing.
func TestRotateDuringKMSOutage(t *testing.T) {
	store, k := keyring.NewMemoryStore(), newKMS(t)
	ring := open(t, store, k, quiet())
	k.fail(errKMS)
	if err := ring.Rotate(t.Context()); !errors.Is(err, errKMS) || !errors.Is(err, keyring.ErrKEK) {
		t.Errorf("got %v, want ErrKEK and the KMS's error", err)
	}
	if load(t, store).Revision != 1 {
		t.Error("something was stored")
	}
}

func TestAuditDefault(t *testing.T) {
	var got []string
	logger := newLogger(func(line string) { got = append(got, line) })
	audit := keyring.LogTo(logger)
	audit(t.Context(), keyring.Event{Type: keyring.EventPromoted, Ring: "r", KeyID: 7, Fingerprint: "f", Revision: 3, Actor: "alice"})
	audit(t.Context(), keyring.Event{Type: keyring.EventStoreUnreachable, Ring: "r", Err: errStore})
	want := []string{
		`level=INFO msg="keyring: promoted" ring=r key_id=7 fingerprint=f revision=3 actor=alice`,
		`level=WARN msg="keyring: store_unreachable" ring=r error="the store is down"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = nil
	logger.Info("x", "event", keyring.Event{Ring: "r", KeyID: 7})
	if want := []string{`level=INFO msg=x event.ring=r event.key_id=7`}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A caller that still uses a previous key is told of once a day.
func TestUsed(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		ring := open(t, keyring.NewMemoryStore(), kek, keyring.WithAudit(events.add), keyring.WithReloadInterval(hour))
		defer run(t, ring)()
		first := ring.PublicKeys()[0]
		ctx := keyring.ContextWithActor(t.Context(), "caller 7")
		ring.Used(ctx, first.ID())
		rotate(t, ring)
		rotate(t, ring)
		events.take()
		for _, id := range []uint32{0, ring.PublicKeys()[0].ID(), first.ID() ^ 1} {
			ring.Used(ctx, id)
		}
		events.expect(t)
		for range 10 {
			ring.Used(ctx, first.ID())
		}
		got := events.take()
		if len(got) != 1 || got[0].Type != keyring.EventPreviousKeyUsed || got[0].KeyID != first.ID() || got[0].Fingerprint != first.Fingerprint() || got[0].Actor != "caller 7" {
			t.Errorf("got %+v", got)
		}
		ring.Used(ctx, ring.PublicKeys()[1].ID())
		events.expect(t, keyring.EventPreviousKeyUsed) // another key
		sleep(day - 1)
		rotate(t, ring) // a change of the ring does not make it forget
		events.take()
		sleep(day - 1 - ring.Schedule().Lead)
		ring.Used(ctx, first.ID())
		events.expect(t, keyring.EventPreviousKeyUsed)
		ring.Used(ctx, first.ID())
		events.expect(t)
		sleep(30 * day)
		events.take()
		ring.Used(ctx, first.ID()) // it has retired
		events.expect(t)
		if n := testing.AllocsPerRun(100, func() { ring.Used(ctx, 1) }); n != 0 {
			t.Errorf("Used allocates %v times", n)
		}
	})
}
