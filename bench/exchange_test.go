package bench

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// The two ways to answer an exchange.
const (
	noCallerKey = false
	callerKey   = true
)

// takesAll is a replay guard that lets one request be served again and again.
type takesAll struct{}

func (takesAll) Insert(context.Context, sealhttp.ReplayEntry) error       { return nil }
func (takesAll) Contains(context.Context, [16]byte) (known bool, _ error) { return false, nil }

// renaming is a replay guard that gives each request the id that it would have had, were
// it another one.
type renaming struct {
	sealhttp.ReplayGuard
	n *atomic.Uint64
}

func (g renaming) Insert(ctx context.Context, e sealhttp.ReplayEntry) error {
	e.ID = replayID(g.n.Add(1))
	return g.ReplayGuard.Insert(ctx, e)
}

// memoryGuard is the guard that a Middleware has by default, large enough for a row.
func memoryGuard(b testing.TB) sealhttp.ReplayGuard {
	b.Helper()
	guard, err := sealhttp.NewMemoryReplayGuard(1 << 30)
	if err != nil {
		b.Fatal(err)
	}
	return renaming{guard, new(atomic.Uint64)}
}

// exchangeMiddleware is what a service mounts, with a key for every caller or for none.
func (p *party) exchangeMiddleware(b testing.TB, registered bool, guard sealhttp.ReplayGuard) *sealhttp.Middleware {
	b.Helper()
	ring, err := keyring.New(p.server)
	if err != nil {
		b.Fatal(err)
	}
	opts := []sealhttp.Option{sealhttp.WithReplayGuard(guard)}
	if registered {
		client := p.client.Public()
		opts = append(opts, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(
			func(*http.Request) (*seal.PublicKey, error) { return client, nil })))
	}
	m, err := sealhttp.New(ring, opts...)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// exchangeCall is a call of the exchange profile, as a Transport makes it. It is fresh for
// five minutes.
func (p *party) exchangeCall(b testing.TB, size int) *harness.Call {
	b.Helper()
	call, err := harness.Capture(func(base http.RoundTripper) (http.RoundTripper, error) {
		return sealhttp.NewTransport(sealhttp.StaticPublicKey(p.server.Public()),
			sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
	}, harness.Post("/events", size))
	if err != nil {
		b.Fatal(err)
	}
	return call
}

// recordsLen is how long a body of n bytes is in records.
func recordsLen(n int) int {
	const overhead = 1 + seal.ExchangeTagLen
	sum := 0
	for n > seal.MaxRecordData {
		sum += 4 + seal.MaxRecordData + overhead
		n -= seal.MaxRecordData
	}
	last := n + overhead
	return sum + len(varint(last)) + last
}

// varint is the shortest of RFC 9000, section 16.
func varint(n int) []byte {
	switch {
	case n < 1<<6:
		return []byte{byte(n)}
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(nil, uint16(n)|1<<14)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(n)|2<<30)
}

// BenchmarkExchange is one call through the handler, request opened and response sealed,
// without sockets: with no key of the caller's (by=sealhttp), with one
// (by=sealhttp-callerkey), and at 1 KiB with the replay guard in memory
// (by=sealhttp-guarded), in place of one that takes all. Beside it stand its floors: one
// decapsulation (by=kem), and AES-256-GCM in place over the bytes of both directions, in
// records' pieces (by=aead).
func BenchmarkExchange(b *testing.B) {
	for _, suite := range seal.Suites() {
		p := newParty(b, suite)
		for _, size := range sizes {
			name := fmt.Sprintf("profile=exchange/suite=%v/size=%s", suite, size.name)
			row := func(by string, registered bool, guard sealhttp.ReplayGuard) {
				b.Run(name+"/by="+by, func(b *testing.B) {
					handler := p.exchangeMiddleware(b, registered, guard).Handler(harness.Reply(size.bytes))
					call, want := p.exchangeCall(b, size.bytes), recordsLen(size.bytes)
					measure(b, 2*size.bytes, func() { serve(b, call, handler, want) })
				})
			}
			row("sealhttp", noCallerKey, takesAll{})
			row("sealhttp-callerkey", callerKey, takesAll{})
			if size.name == "1KiB" {
				row("sealhttp-guarded", noCallerKey, memoryGuard(b))
			}
			b.Run(name+"/by=kem", func(b *testing.B) { p.bareKEM(b, size.bytes) })
			if suite == seal.X25519AES256GCM {
				b.Run(name+"/by=aead", func(b *testing.B) { pieces(b, size.bytes) })
			}
		}
	}
}

// bareKEM is circl's decapsulation alone.
func (p *party) bareKEM(b *testing.B, size int) {
	id, _, _ := p.circl.Params()
	scheme := id.Scheme()
	enc := p.message(b, 0)[len("\x01")+4:][:scheme.CiphertextSize()]
	measure(b, 2*size, func() {
		if _, err := scheme.Decapsulate(p.serverKEM, enc); err != nil {
			b.Fatal(err)
		}
	})
}

// pieces is AES-256-GCM in place over the bytes of both directions, a record's data at a
// time.
func pieces(b *testing.B, size int) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	buf := make([]byte, seal.MaxRecordData, seal.MaxRecordData+aead.Overhead())
	measure(b, 2*size, func() {
		for left := size; ; left -= seal.MaxRecordData {
			piece := buf[:min(left, seal.MaxRecordData)]
			sealed := aead.Seal(piece[:0], nonce, piece, nil)
			if _, err := aead.Open(sealed[:0], nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
			if left <= seal.MaxRecordData {
				return
			}
		}
	})
}
