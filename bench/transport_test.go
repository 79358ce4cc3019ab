package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/seal"
)

// BenchmarkTransport is a call on both sides, the caller's Transport and the service's
// Middleware: with the service in the same process (socket=none), and over HTTP/1.1 on
// loopback (socket=tcp). The floor is the same call in plaintext, without either
// (by=http).
func BenchmarkTransport(b *testing.B) {
	p := newParty(b, seal.X25519AES256GCM)
	for _, socket := range []string{"none", "tcp"} {
		for _, size := range sizes[1:4] {
			for _, row := range []struct {
				profile, by string
				m           *sealhttp.Middleware
				opts        []sealhttp.TransportOption // nil for no Transport
			}{
				{"none", "http", nil, nil},
				{"message", "sealhttp", p.middleware(b), []sealhttp.TransportOption{sealhttp.WithPrivateKeys(p.client)}},
				{"exchange", "sealhttp", p.exchangeMiddleware(b, noCallerKey, memoryGuard(b)), []sealhttp.TransportOption{sealhttp.WithProfile(sealhttp.ExchangeProfile)}},
				{"exchange", "sealhttp-callerkey", p.exchangeMiddleware(b, callerKey, memoryGuard(b)), []sealhttp.TransportOption{sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithPrivateKeys(p.client)}},
			} {
				name := fmt.Sprintf("socket=%s/profile=%s/size=%s/by=%s", socket, row.profile, size.name, row.by)
				b.Run(name, func(b *testing.B) {
					handler := harness.Reply(size.bytes)
					if row.m != nil {
						handler = row.m.Handler(handler)
					}
					var base http.RoundTripper = harness.InMemory{Handler: handler}
					url := "http://" + harness.Host + "/events"
					if socket == "tcp" {
						server := httptest.NewServer(handler)
						b.Cleanup(server.Close)
						base, url = server.Client().Transport, server.URL+"/events"
					}
					transport := base
					if row.opts != nil {
						var err error
						transport, err = sealhttp.NewTransport(sealhttp.StaticPublicKey(p.server.Public()),
							append(row.opts, sealhttp.WithBase(base))...)
						if err != nil {
							b.Fatal(err)
						}
					}
					content := make([]byte, size.bytes)
					measure(b, 2*size.bytes, func() { roundTrip(b, transport, url, content) })
				})
			}
		}
	}
}

// roundTrip makes a call that is to be answered with as many bytes as it sends.
func roundTrip(b *testing.B, transport http.RoundTripper, url string, content []byte) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || n != int64(len(content)) {
		b.Fatalf("status %d, %d bytes, %v", resp.StatusCode, n, err)
	}
}
