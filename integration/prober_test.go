package integration_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
)

// prober looks whether everything that was published opens until its overlap has
// ended. It calls with keys of all ages, and without a second try.
type prober struct {
	fleet   *fleet
	account string
	own     *seal.PrivateKey
	*balancer

	stopping chan struct{}
	end      func() // stops it
	group    sync.WaitGroup
	first    map[uint32]time.Time // when a key was seen for the first time
	keys     map[uint32]*seal.PublicKey
	opened   map[uint32]time.Time // the last time
	refused  map[uint32]time.Time // the first time
	errs     []error
}

func startProber(t *testing.T, f *fleet) *prober {
	t.Helper()
	own, err := seal.GenerateKey(seal.X25519AES256GCM)
	check(t, err)
	p := &prober{
		fleet: f, account: "prober", own: own, balancer: &balancer{fleet: f},
		stopping: make(chan struct{}),
		first:    make(map[uint32]time.Time),
		keys:     make(map[uint32]*seal.PublicKey),
		opened:   make(map[uint32]time.Time),
		refused:  make(map[uint32]time.Time),
	}
	check(t, registerPrivate(f, p.account, own, nil))
	p.end = sync.OnceFunc(func() {
		close(p.stopping)
		p.group.Wait()
	})
	t.Cleanup(p.end)
	p.group.Go(func() {
		for {
			select {
			case <-p.stopping:
				return
			case <-time.After(10 * time.Millisecond):
				if err := p.probe(); err != nil {
					p.errs = append(p.errs, err)
				}
			}
		}
	})
	return p
}

// probe notes what is published, and calls with any key that it has noted.
func (p *prober) probe() error {
	set, err := published(p.balancer)
	if err != nil {
		return err
	}
	for _, k := range set.Keys {
		if _, ok := p.first[k.ID()]; !ok {
			p.first[k.ID()], p.keys[k.ID()] = time.Now(), k
		}
	}
	ids := slices.Collect(maps.Keys(p.keys))
	key := p.keys[ids[rand.IntN(len(ids))]]
	r, err := p.fleet.any()
	if err != nil {
		return err
	}
	err = callWith(key, p.own, r.url, p.account)
	switch {
	case errors.Is(err, sealhttp.CodeUnknownKey):
		if _, ok := p.refused[key.ID()]; !ok {
			p.refused[key.ID()] = time.Now()
		}
		delete(p.keys, key.ID()) // what is gone stays gone
	case err == nil:
		p.opened[key.ID()] = time.Now()
	case !r.dying.Load() || !isLost(err):
		return fmt.Errorf("with key %d: %w", key.ID(), err)
	}
	return nil
}

// compare compares what was found with the ring's history.
func (p *prober) compare(t *testing.T, states []state, overlap time.Duration) {
	t.Helper()
	for _, err := range p.errs {
		t.Errorf("a probe: %v", err)
	}
	replaced, revoked := make(map[uint32]time.Time), make(map[uint32]bool)
	for _, s := range states {
		for _, k := range s.Keys {
			replaced[k.ID] = k.Replaced
			revoked[k.ID] = revoked[k.ID] || k.Revoked
		}
	}
	late := 0
	for id, at := range p.refused {
		end := replaced[id].Add(overlap)
		if !revoked[id] && (replaced[id].IsZero() || at.Before(end)) {
			t.Errorf("key %d was refused %v before its overlap ended", id, end.Sub(at))
		}
	}
	for id, at := range p.opened {
		if !replaced[id].IsZero() && at.Sub(replaced[id]) > overlap*3/4 {
			late++
		}
	}
	t.Logf("%d keys were probed, %d of them in the last quarter of their overlap, and %d until they were gone", len(p.first), late, len(p.refused))
	if !testing.Short() && (late == 0 || len(p.refused) == 0) {
		t.Error("that is too little to show anything")
	}
}

// callWith calls with one key, and without a second try.
func callWith(key *seal.PublicKey, own *seal.PrivateKey, url, account string) error {
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(key), sealhttp.WithPrivateKeys(own), sealhttp.WithBase(base))
	if err != nil {
		return err
	}
	return callSealed(&http.Client{Transport: transport, Timeout: callTimeout}, url, account, "with one key")
}

// published returns what any replica publishes.
func published(b *balancer) (*publish.Set, error) {
	document, err := b.fetch("/keys")
	if err != nil {
		return nil, err
	}
	return publish.Verify(document, serviceName, time.Now(), b.fleet.pin())
}
