package bench

import (
	"net/http"
	"testing"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/seal"
)

// BenchmarkParallel is a call of 1 KiB through one handler on all cores at once, as a
// server makes it. What the cores share shows with
//
//	go test -bench Parallel -cpu 1,2 ./bench
func BenchmarkParallel(b *testing.B) {
	const size = 1 << 10
	p := newParty(b, seal.X25519AES256GCM)
	reply := harness.Reply(size)
	for _, row := range []struct {
		name    string
		handler http.Handler
		call    func() *harness.Call
		want    int
	}{
		{"profile=none", p.middleware(b).Handler(reply), func() *harness.Call { return plainCall(http.MethodPost, size) }, size},
		{"profile=message", p.middleware(b).Handler(reply), func() *harness.Call { return p.messageCall(b, size) }, size + p.client.Public().Overhead()},
		{"profile=exchange", p.exchangeMiddleware(b, noCallerKey, memoryGuard(b)).Handler(reply), func() *harness.Call { return p.exchangeCall(b, size) }, recordsLen(size)},
	} {
		b.Run(row.name+"/by=sealhttp", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				call := row.call()
				for pb.Next() {
					serve(b, call, row.handler, row.want)
				}
			})
		})
	}
}
