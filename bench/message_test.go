// Package bench measures what sealhttp costs, each row beside its floor in the
// same run:
//
//	go test -bench . ./bench
//
// Rows are named so that benchstat can compare and pivot them:
//
//	go test -bench Message -count 10 ./bench | benchstat -col /by -
package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/http"
	"testing"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

type size struct {
	name  string
	bytes int
}

var sizes = []size{{"0B", 0}, {"1KiB", 1 << 10}, {"16KiB", 16 << 10}, {"1MiB", 1 << 20}, {"10MiB", 10 << 20}}

// party is both ends of a call in one suite, for sealhttp and for bare circl.
type party struct {
	suite          seal.Suite
	server, client *seal.PrivateKey
	circl          hpke.Suite
	serverKEM      kem.PrivateKey
	clientKEM      kem.PublicKey
}

func newParty(b testing.TB, suite seal.Suite) *party {
	b.Helper()
	p := &party{suite: suite}
	var err error
	if p.server, err = seal.GenerateKey(suite); err != nil {
		b.Fatal(err)
	}
	if p.client, err = seal.GenerateKey(suite); err != nil {
		b.Fatal(err)
	}
	p.circl = map[seal.Suite]hpke.Suite{
		seal.X25519AES256GCM:        hpke.NewSuite(hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM),
		seal.X25519AES128GCM:        hpke.NewSuite(hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES128GCM),
		seal.X25519ChaCha20Poly1305: hpke.NewSuite(hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_ChaCha20Poly1305),
		seal.P256AES256GCM:          hpke.NewSuite(hpke.KEM_P256_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM),
		seal.P256AES128GCM:          hpke.NewSuite(hpke.KEM_P256_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES128GCM),
		seal.XWingAES256GCM:         hpke.NewSuite(hpke.KEM_XWING, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM),
	}[suite]
	id, _, _ := p.circl.Params()
	if p.serverKEM, err = id.Scheme().UnmarshalBinaryPrivateKey(p.server.Bytes()); err != nil {
		b.Fatal(err)
	}
	p.serverKEM.Public() // computed on first use
	if p.clientKEM, err = id.Scheme().UnmarshalBinaryPublicKey(p.client.Public().Bytes()); err != nil {
		b.Fatal(err)
	}
	return p
}

// middleware is what a service mounts, with a key for every caller.
func (p *party) middleware(b testing.TB) *sealhttp.Middleware {
	b.Helper()
	ring, err := keyring.New(p.server)
	if err != nil {
		b.Fatal(err)
	}
	client := p.client.Public()
	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(
		func(*http.Request) (*seal.PublicKey, error) { return client, nil })))
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// messageCall is a call of the message profile, sealed both ways.
func (p *party) messageCall(b testing.TB, size int) *harness.Call {
	b.Helper()
	call := harness.NewCall(http.MethodPost, "/events", p.message(b, size))
	call.Header().Set("Content-Type", sealhttp.MediaType)
	call.Header().Set("Accept", sealhttp.MediaType)
	return call
}

// message seals a request's body.
func (p *party) message(b testing.TB, size int) []byte {
	b.Helper()
	message, err := p.server.Public().Seal(nil, make([]byte, size), nil)
	if err != nil {
		b.Fatal(err)
	}
	return message
}

// BenchmarkMessage is one call through the handler, request opened and response
// sealed, without sockets, beside its floors: circl alone on the same bytes
// (by=circl), and, for AES, the AEAD alone, in place (by=aead). Large bodies are also read
// and written in pieces, by a handler that declares no length (by=sealhttp-pieces).
func BenchmarkMessage(b *testing.B) {
	for _, suite := range seal.Suites() {
		p := newParty(b, suite)
		for _, size := range sizes {
			name := fmt.Sprintf("profile=message/suite=%v/size=%s", suite, size.name)
			serves := func(by string, reply http.Handler) {
				b.Run(name+"/by="+by, func(b *testing.B) {
					handler := p.middleware(b).Handler(reply)
					call, want := p.messageCall(b, size.bytes), size.bytes+p.client.Public().Overhead()
					measure(b, 2*size.bytes, func() { serve(b, call, handler, want) })
				})
			}
			serves("sealhttp", harness.Reply(size.bytes))
			if size.bytes >= 1<<20 {
				serves("sealhttp-pieces", harness.ReplyInPieces(size.bytes))
			}
			b.Run(name+"/by=circl", func(b *testing.B) { p.bareCircl(b, size.bytes) })
			if suite == seal.X25519AES256GCM {
				b.Run(name+"/by=aead", func(b *testing.B) { rawAEAD(b, size.bytes) })
			}
		}
	}
}

// bareCircl opens and seals with circl's own API, as a handler by hand would.
func (p *party) bareCircl(b *testing.B, size int) {
	message := p.message(b, size)[len("\x01")+4:]
	encLen := len(message) - size - 16
	body := make([]byte, size)
	measure(b, 2*size, func() {
		receiver, err := p.circl.NewReceiver(p.serverKEM, nil)
		if err != nil {
			b.Fatal(err)
		}
		opener, err := receiver.Setup(message[:encLen])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := opener.Open(message[encLen:], nil); err != nil {
			b.Fatal(err)
		}
		sender, err := p.circl.NewSender(p.clientKEM, nil)
		if err != nil {
			b.Fatal(err)
		}
		_, sealer, err := sender.Setup(nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := sealer.Seal(body, nil); err != nil {
			b.Fatal(err)
		}
	})
}

// rawAEAD is AES-256-GCM in place over the bytes of both directions.
func rawAEAD(b *testing.B, size int) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	buf := make([]byte, size, size+aead.Overhead())
	measure(b, 2*size, func() {
		sealed := aead.Seal(buf[:0], nonce, buf, nil)
		if _, err := aead.Open(buf[:0], nonce, sealed, nil); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkPlaintext is a call in plaintext: the handler alone, and behind a
// Middleware.
func BenchmarkPlaintext(b *testing.B) {
	p := newParty(b, seal.X25519AES256GCM)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, by := range []string{"handler", "sealhttp"} {
			b.Run(fmt.Sprintf("method=%s/by=%s", method, by), func(b *testing.B) {
				handler := harness.Reply(64)
				if by == "sealhttp" {
					handler = p.middleware(b).Handler(handler)
				}
				call := plainCall(method, 64)
				measure(b, 0, func() { serve(b, call, handler, 64) })
			})
		}
	}
}

// plainCall is a call in plaintext, with a body of size bytes if it is a POST.
func plainCall(method string, size int) *harness.Call {
	var body []byte
	if method == http.MethodPost {
		body = make([]byte, size)
	}
	call := harness.NewCall(method, "/events", body)
	call.Header().Set("Content-Type", "application/json")
	call.Header().Set("Accept", "application/json, text/plain;q=0.9, */*;q=0.8")
	return call
}

// serve serves a call that is to be answered with 200 and a body of want bytes.
func serve(b testing.TB, call *harness.Call, handler http.Handler, want int) {
	if status, n := call.Serve(handler); status != http.StatusOK || n != want {
		b.Fatalf("status %d, %d bytes", status, n)
	}
}

func measure(b *testing.B, bytes int, op func()) {
	b.ReportAllocs()
	b.SetBytes(int64(bytes))
	for b.Loop() {
		op()
	}
}
