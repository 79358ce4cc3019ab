package publish_test

import (
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

var (
	_ publish.Keys              = (*keyring.Keyring)(nil)
	_ sealhttp.ServerPublicKeys = (*publish.Source)(nil)
)

// A Transport with a Source, a Middleware with a keyring, and the publication, over
// TLS: calls go on through rotations, and when the key they use is revoked.
func TestEndToEnd(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			keys, err := keyring.New(newKey(t, seal.X25519AES256GCM))
			check(t, err)
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
			revoke := func() { // the key that the caller seals to
				t.Helper()
				key, err := source.PublicKey(t.Context(), nil)
				check(t, err)
				check(t, keys.Revoke(t.Context(), key.ID()))
			}
			check(t, call(t, client, api))
			publication.wantFetches(t, 1)

			// The previous key still opens: no call fails, nothing is fetched.
			check(t, keys.Rotate(t.Context()))
			check(t, call(t, client, api))
			publication.wantFetches(t, 1)

			// unknown_key, one fetch, one more try.
			revoke()
			check(t, call(t, client, api))
			publication.wantFetches(t, 2)
			if n := refused.Load(); n != 1 {
				t.Errorf("%d calls were refused, want 1", n)
			}

			// The same for many calls at once: one fetch for all of them.
			for range 5 {
				revoke()
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
