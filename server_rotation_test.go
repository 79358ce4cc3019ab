package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// srvRotor rotates a key ring as often as its users allow: as the documentation has
// it, they have refreshed their keys between two rotations.
type srvRotor struct {
	ring *keyring.Keyring

	mu       sync.Mutex
	idle     *sync.Cond
	inUse    map[uint32]int
	retiring uint32
	ended    int // calls
}

func newSrvRotor(t testing.TB, opts ...seal.KeyOption) *srvRotor {
	t.Helper()
	ring, err := keyring.New(srvGenerate(seal.X25519AES256GCM, opts...), srvGenerate(seal.X25519AES256GCM, opts...))
	srvCheck(t, err)
	r := &srvRotor{ring: ring, inUse: map[uint32]int{}}
	r.idle = sync.NewCond(&r.mu)
	return r
}

// use gives the primary, or the previous key where it is not about to be dropped,
// and keeps it from being dropped until done is called.
func (r *srvRotor) use(previous bool) (key *seal.PublicKey, wasPrevious bool, done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.ring.PublicKeys()
	key = keys[0]
	if previous && keys[1].ID() != r.retiring {
		key = keys[1]
	}
	r.inUse[key.ID()]++
	return key, key != keys[0], func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inUse[key.ID()]--
		r.ended++
		r.idle.Broadcast()
	}
}

// rotate rotates once some calls have ended, unless ctx ends first.
func (r *srvRotor) rotate(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.idle.Broadcast()
	})()
	r.mu.Lock()
	defer r.mu.Unlock()
	for enough := r.ended + 25; r.ended < enough; {
		if ctx.Err() != nil {
			return nil
		}
		r.idle.Wait()
	}
	r.retiring = r.ring.PublicKeys()[1].ID()
	for r.inUse[r.retiring] > 0 {
		r.idle.Wait()
	}
	return r.ring.Rotate(context.WithoutCancel(ctx))
}

// srvQuiet discards what a key ring logs of each rotation.
func srvQuiet(t *testing.T) {
	t.Helper()
	logger, flags, output := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetFlags(flags)
		log.SetOutput(output)
	})
	slog.SetDefault(slog.New(slog.DiscardHandler))
}

// The server's and the caller's keys rotate all the time, and no call fails: not
// those sealed to the previous key either.
func TestServerRotation(t *testing.T) {
	srvQuiet(t)
	const workers, each = 50, 20
	for _, proto := range srvProtos {
		t.Run(proto, func(t *testing.T) {
			var opts []seal.KeyOption
			if proto == "HTTP/2.0" {
				opts = append(opts, seal.WithoutPrefix())
			}
			server, caller := newSrvRotor(t, opts...), newSrvRotor(t)
			m, err := sealhttp.New(server.ring, sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithClientKeys(
				sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return caller.ring.PublicKeys()[0], nil })))
			srvCheck(t, err)
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				before, _ := sealhttp.FromContext(r.Context())
				body, err := io.ReadAll(r.Body)
				after, _ := sealhttp.FromContext(r.Context())
				if err != nil || before != after {
					t.Errorf("%v; %+v, then %+v", err, before, after)
				}
				w.Header().Set("X-Caller-Key", fmt.Sprint(after.CallerKeyID))
				_, _ = w.Write(binary.BigEndian.AppendUint32(body, after.KeyID))
			})))
			host.client.Transport.(*http.Transport).MaxIdleConnsPerHost = workers

			var rotations, calls, previous, failed atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var rotating, calling sync.WaitGroup
			for _, r := range []*srvRotor{server, caller} {
				rotating.Go(func() {
					for ctx.Err() == nil {
						if err := r.rotate(ctx); err != nil {
							t.Error(err)
						}
						rotations.Add(1)
					}
				})
			}
			for worker := range workers {
				calling.Go(func() {
					for i := range each {
						key, wasPrevious, done := server.use((worker+i)%2 == 0)
						_, _, openable := caller.use(false)
						if wasPrevious {
							previous.Add(1)
						}
						plaintext := fmt.Appendf(nil, "call %d of %d ", i, worker)
						message, err := key.Seal(nil, plaintext, nil)
						if err != nil {
							t.Error(err)
						}
						a := host.do(t, host.request(t, "POST", "/", bytes.NewReader(message), http.Header{
							"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType},
						}))
						opened, err := caller.ring.KeySet().Open(nil, a.body, nil)
						if want := binary.BigEndian.AppendUint32(plaintext, key.ID()); err != nil || !bytes.Equal(opened, want) {
							t.Errorf("to key %d: status %d, %q, opened to %q, %v, %v", key.ID(), a.status, a.header, opened, err, a.err)
							failed.Add(1)
						}
						calls.Add(1)
						openable()
						done()
					}
				})
			}
			calling.Wait()
			cancel()
			rotating.Wait()
			t.Logf("%d calls, %d to the previous key, %d rotations, %d failures", calls.Load(), previous.Load(), rotations.Load(), failed.Load())
			if previous.Load() == 0 || rotations.Load() < 4 {
				t.Errorf("too few for a test: %d calls to the previous key, %d rotations", previous.Load(), rotations.Load())
			}
		})
	}
}

// A call under way keeps the keys that it started with, even if both sides drop them.
func TestServerCallKeepsItsKeys(t *testing.T) {
	srvQuiet(t)
	for _, proto := range srvProtos {
		t.Run(proto, func(t *testing.T) {
			server, err := keyring.New(srvGenerate(seal.X25519AES256GCM))
			srvCheck(t, err)
			caller, err := keyring.New(srvGenerate(seal.X25519AES256GCM))
			srvCheck(t, err)
			first, callerFirst := server.PublicKeys()[0], caller.KeySet()
			m, err := sealhttp.New(server, sealhttp.WithLogger(slog.New(slog.DiscardHandler)), sealhttp.WithClientKeys(
				sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return caller.PublicKeys()[0], nil })))
			srvCheck(t, err)
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 2 { // the keys of the start are dropped
					srvCheck(t, server.Rotate(r.Context()))
					srvCheck(t, caller.Rotate(r.Context()))
				}
				_, _ = io.Copy(w, r.Body)
				info, _ := sealhttp.FromContext(r.Context())
				if info.KeyID != first.ID() || info.CallerKeyID != callerFirst.Primary().ID() {
					t.Errorf("the call is now told to be %+v", info)
				}
			})))
			message, err := first.Seal(nil, []byte("from before"), nil)
			srvCheck(t, err)
			header := http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}
			a := host.do(t, host.request(t, "POST", "/", bytes.NewReader(message), header)).openWith(t, "POST", callerFirst.Primary(), nil)
			if string(a.body) != "from before" {
				t.Errorf("opened to %q", a.body)
			}
			host.do(t, host.request(t, "POST", "/", bytes.NewReader(message), header)).refused(t, sealhttp.CodeUnknownKey, 400)
		})
	}
}
