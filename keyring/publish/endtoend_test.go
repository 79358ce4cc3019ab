package publish_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
)

// replica is a server's keyring with what it publishes. Its keys change by rotation,
// or as one when all are replaced.
type replica struct {
	mu       sync.Mutex
	keyring  *keyring.Keyring
	revision uint64
}

func newReplica(t testing.TB) *replica {
	r := new(replica)
	r.replace(t)
	return r
}

// replace makes a new ring that has none of the old keys.
func (r *replica) replace(t testing.TB) {
	t.Helper()
	k, err := keyring.New(newKey(t, seal.X25519AES256GCM))
	check(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keyring, r.revision = k, r.revision+1
}

func (r *replica) rotate(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.keyring.Rotate(ctx); err != nil {
		return err
	}
	r.revision++
	return nil
}

func (r *replica) Published() (uint64, []*seal.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision, r.keyring.PublicKeys()
}

func (r *replica) ServerKeys(ctx context.Context) (*seal.KeySet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keyring.ServerKeys(ctx)
}

// A Transport with a Source, a Middleware with a keyring, and the publication, over
// TLS: calls go on through rotations, and through a key that is gone at once.
func TestEndToEnd(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			keys := newReplica(t)
			var refused atomic.Int64
			m, err := sealhttp.New(keys, sealhttp.WithPolicy(sealhttp.RequestRequired), sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) {
				if e.Code == sealhttp.CodeUnknownKey {
					refused.Add(1)
				}
			}))
			check(t, err)
			publication := newSite(newHandler(t, keys))
			mux := http.NewServeMux()
			mux.Handle("/keys", publication)
			mux.Handle("/api", m.Handler(echo))
			server := httptest.NewUnstartedServer(mux)
			server.EnableHTTP2 = h2
			server.StartTLS()
			defer server.Close()

			source := newSource(t, server.URL+"/keys", publish.WithHTTPClient(server.Client()), publish.WithRefusedInterval(1))
			base := server.Client().Transport.(*http.Transport)
			base.MaxIdleConnsPerHost = 30
			client := sealing(t, source, base)
			api := server.URL + "/api"
			check(t, call(t, client, api))
			publication.wantFetches(t, 1)

			// The previous key still opens: no call fails, nothing is fetched.
			check(t, keys.rotate(t.Context()))
			check(t, call(t, client, api))
			publication.wantFetches(t, 1)

			// unknown_key, one fetch, one more try.
			keys.replace(t)
			check(t, call(t, client, api))
			publication.wantFetches(t, 2)
			if n := refused.Load(); n != 1 {
				t.Errorf("%d calls were refused, want 1", n)
			}

			// The same for many calls at once: one fetch for all of them.
			for range 5 {
				keys.replace(t)
				before := publication.fetches.Load()
				var wg sync.WaitGroup
				for range 30 {
					wg.Go(func() {
						if err := call(t, client, api); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				publication.wantFetches(t, before+1)
			}
		})
	}
}
