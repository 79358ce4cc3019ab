package redisguard_test

import (
	"testing"

	"github.com/sealhttp/sealhttp/redisguard/internal/redisserver"
)

// BenchmarkInsert is one insert on a server of this machine, beside its floor: a PING.
// With goroutines=all, many are under way at once.
func BenchmarkInsert(b *testing.B) {
	client := connect(b, redisserver.Start(b, redisserver.Programs(b)[0]))
	g := newGuard(b, client)
	for by, op := range map[string]func(){
		"sealhttp": func() {
			if err := g.Insert(b.Context(), entry("ada")); err != nil {
				b.Error(err)
			}
		},
		"ping": func() {
			if err := client.Ping(b.Context()).Err(); err != nil {
				b.Error(err)
			}
		},
	} {
		b.Run("goroutines=1/by="+by, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				op()
			}
		})
		b.Run("goroutines=all/by="+by, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					op()
				}
			})
		})
	}
}
