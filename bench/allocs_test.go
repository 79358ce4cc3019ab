//go:build !race

package bench

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/seal"
)

// TestPlaintextAllocates holds what a call in plaintext may allocate behind a
// Middleware, more than without it. echo wraps its handler anew for each call.
func TestPlaintextAllocates(t *testing.T) {
	limits := map[string]float64{"nethttp": 0, "chi": 0, "echo": 1, "gin": 0}
	p := newParty(t, seal.X25519AES256GCM)
	for _, router := range routers {
		allocs := func(served http.Handler) float64 {
			call := plainCall(http.MethodPost, 64)
			return testing.AllocsPerRun(1000, func() { call.Serve(served) })
		}
		handler := harness.Reply(64).ServeHTTP
		without, behind := allocs(router.mount(nil, handler)), allocs(router.mount(p.middleware(t), handler))
		if more := behind - without; more > limits[router.name] {
			t.Errorf("%s: %v allocations more than without sealhttp, want at most %v", router.name, more, limits[router.name])
		}
	}
}

// What a call of 1 KiB may allocate, sealed both ways: what it did when this was
// written. Most of it is circl's, which alone makes 208 allocations for a message call.
const (
	messageAllocs       = 252
	exchangeAllocs      = 233
	callerKeyAllocs     = 391
	largeExchangeAllocs = 233
)

// TestSealedAllocates holds what a call may allocate, sealed both ways. An exchange of
// 1 MiB is 64 records each way, none of which is to add to it.
func TestSealedAllocates(t *testing.T) {
	const size, large = 1 << 10, 1 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty pools, now and then
	p := newParty(t, seal.X25519AES256GCM)
	reply := harness.Reply(size)
	for _, row := range []struct {
		name    string
		handler http.Handler
		call    *harness.Call
		want    int
		limit   float64
	}{
		{"message", p.middleware(t).Handler(reply), p.messageCall(t, size), size + p.client.Public().Overhead(), messageAllocs},
		{"exchange", p.exchangeMiddleware(t, noCallerKey, takesAll{}).Handler(reply), p.exchangeCall(t, size), recordsLen(size), exchangeAllocs},
		{"exchange to a caller's key", p.exchangeMiddleware(t, callerKey, takesAll{}).Handler(reply), p.exchangeCall(t, size), recordsLen(size), callerKeyAllocs},
		{"exchange of 1 MiB", p.exchangeMiddleware(t, noCallerKey, takesAll{}).Handler(harness.Reply(large)), p.exchangeCall(t, large), recordsLen(large), largeExchangeAllocs},
	} {
		allocs := testing.AllocsPerRun(1000, func() { serve(t, row.call, row.handler, row.want) })
		if allocs > row.limit {
			t.Errorf("%s: %v allocations, want at most %v", row.name, allocs, row.limit)
		}
	}
}

// TestLargeMessagesAllocate holds that a call of 10 MiB, once another was served, takes no
// memory that grows with its bodies.
func TestLargeMessagesAllocate(t *testing.T) {
	const size, calls, limit = 10 << 20, 10, 64 << 10
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the pool is to keep what it has,
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))  // and not to have it elsewhere
	p := newParty(t, seal.X25519AES256GCM)
	handler, call, want := p.middleware(t).Handler(harness.Reply(size)), p.messageCall(t, size), size+p.client.Public().Overhead()
	serve(t, call, handler, want)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		serve(t, call, handler, want)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / calls; each > limit {
		t.Errorf("%d bytes allocated by each call, want at most %d", each, limit)
	}
}

// TestRecordsAllocate holds that records after a body's first allocate nothing, however
// many there are.
func TestRecordsAllocate(t *testing.T) {
	const records = 500
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		t.Fatal(err)
	}
	caller, enc, auth, err := key.Public().NewExchange(nil)
	if err != nil {
		t.Fatal(err)
	}
	service, err := key.OpenExchange(enc, auth, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	wire.Grow(records * (seal.MaxRecordData + 64))
	writer := caller.Records().NewWriter(&wire, nil)
	data := make([]byte, seal.MaxRecordData)
	write := func() {
		if _, err := writer.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	write() // this one stays in the buffer
	if allocs := testing.AllocsPerRun(records-2, write); allocs > 0 {
		t.Errorf("sealing a record allocates %v times", allocs)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	reader := service.Records().NewReader(&wire)
	read := func() {
		if _, err := io.ReadFull(reader, data); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if allocs := testing.AllocsPerRun(records-2, read); allocs > 0 {
		t.Errorf("opening a record allocates %v times", allocs)
	}
}
