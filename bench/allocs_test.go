//go:build !race

package bench

import (
	"net/http"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// TestPlaintextAllocates holds what a call in plaintext may allocate behind a
// Middleware, more than without it. echo wraps its handler anew for each call.
func TestPlaintextAllocates(t *testing.T) {
	limits := map[string]float64{"nethttp": 0, "chi": 0, "echo": 1, "gin": 0}
	p := newParty(t, seal.X25519AES256GCM)
	for _, router := range routers {
		allocs := func(served http.Handler) float64 {
			call := newCall(http.MethodPost, "/events", make([]byte, 64))
			call.request.Header.Set("Content-Type", "application/json")
			return testing.AllocsPerRun(1000, func() { call.serve(served) })
		}
		handler := reply(64).ServeHTTP
		without, behind := allocs(router.mount(nil, handler)), allocs(router.mount(p.middleware(t), handler))
		if more := behind - without; more > limits[router.name] {
			t.Errorf("%s: %v allocations more than without sealhttp, want at most %v", router.name, more, limits[router.name])
		}
	}
}
