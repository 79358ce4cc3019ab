package sealhttp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvTampered is a sealed request that was changed on its way, and what is wanted of it.
type srvTampered struct {
	name    string
	message []byte
	code    sealhttp.Code
	behind  bool // the prefix is that of a key that is held
}

const srvPrefix = 5 // bytes of Tink's prefix

// srvTamper makes every single-bit flip and every truncation of a message, and some
// that are longer. All keys are told to have other ids than a flip can make.
func srvTamper(t *testing.T, key *seal.PublicKey, plaintext []byte, shortest int) []srvTampered {
	t.Helper()
	message, err := key.Seal(nil, plaintext, nil)
	srvCheck(t, err)
	var all []srvTampered
	for i := range message {
		for bit := range 8 {
			changed := bytes.Clone(message)
			changed[i] ^= 1 << bit
			row := srvTampered{fmt.Sprintf("byte %d, bit %d", i, bit), changed, sealhttp.CodeDecryptionFailed, i >= srvPrefix}
			if i > 0 && i < srvPrefix {
				row.code = sealhttp.CodeUnknownKey
			}
			all = append(all, row)
		}
	}
	for n := 1; n < len(message); n++ { // a body of no bytes is no message
		row := srvTampered{fmt.Sprintf("first %d bytes", n), message[:n], sealhttp.CodeDecryptionFailed, true}
		if n < shortest {
			row.code, row.behind = sealhttp.CodeMalformed, false
		}
		all = append(all, row)
	}
	for n := 1; n < len(message); n++ {
		row := srvTampered{fmt.Sprintf("without the first %d bytes", n), message[n:], sealhttp.CodeDecryptionFailed, false}
		switch {
		case len(row.message) < shortest:
			row.code = sealhttp.CodeMalformed
		case row.message[0] == 1 && binary.BigEndian.Uint32(row.message[1:]) != key.ID():
			row.code = sealhttp.CodeUnknownKey
		}
		all = append(all, row)
	}
	for _, more := range [][]byte{{0}, make([]byte, 16), message} {
		all = append(all, srvTampered{fmt.Sprintf("%d bytes more", len(more)), append(bytes.Clone(message), more...), sealhttp.CodeDecryptionFailed, true})
	}
	return all
}

// srvKeyWithID makes a key with an id that is far from all that a flip makes of another.
func srvKeyWithID(t *testing.T, suite seal.Suite, id uint32, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	key, err := seal.NewPrivateKey(suite, id, srvGenerate(suite).Bytes(), opts...)
	srvCheck(t, err)
	return key
}

// Whatever is done to a sealed request, the handler does not run, the code is the
// wire format's, and behind the prefix all failures get one and the same answer.
func TestServerTampering(t *testing.T) {
	const suite = seal.X25519AES256GCM
	a := srvKeyWithID(t, suite, 0x0f0f0f0f)
	b := srvKeyWithID(t, suite, 0xf0f0f0f0)
	p256 := srvKeyWithID(t, seal.P256AES256GCM, 0xf0f0000f)
	raw := func(id uint32) *seal.PrivateKey { return srvKeyWithID(t, suite, id, seal.WithoutPrefix()) }
	prefixed := a.Public().Overhead()
	flips, truncations, others, real := 0, 0, 0, 0
	for _, tt := range []struct {
		name     string
		keys     []*seal.PrivateKey
		seal     *seal.PrivateKey
		shortest int
	}{
		{"primary", []*seal.PrivateKey{a}, a, prefixed},
		{"previous", []*seal.PrivateKey{p256, a}, a, prefixed},
		{"next to RAW keys", []*seal.PrivateKey{a, b, raw(0xaaaaaaaa), raw(0x55555555)}, a, prefixed - srvPrefix},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := 0
			m, err := sealhttp.New(srvKeys(tt.keys...), srvClientKeys(srvCallerKey.Public()), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
			srvCheck(t, err)
			h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				ran++
			}))
			hosts := []*srvHost{srvServe(t, srvProtos[0], h), srvServe(t, srvProtos[1], h)}
			header := http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}
			record := func(message []byte) *srvAnswer {
				w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(message))
				maps.Copy(r.Header, header)
				h.ServeHTTP(w, r)
				return &srvAnswer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
			}
			answers := map[sealhttp.Code]*srvAnswer{}
			onWire := map[sealhttp.Code]*srvAnswer{}
			same := func(t *testing.T, as map[sealhttp.Code]*srvAnswer, code sealhttp.Code, got *srvAnswer) {
				t.Helper()
				got.refused(t, code, 400)
				delete(got.header, "Date")
				first := as[code]
				if first == nil {
					as[code] = got
					return
				}
				if got.status != first.status || !maps.EqualFunc(got.header, first.header, slices.Equal) || !bytes.Equal(got.body, first.body) {
					t.Errorf("answers that differ: %d %v %q and %d %v %q", got.status, got.header, got.body, first.status, first.header, first.body)
				}
			}
			rows := srvTamper(t, tt.seal.Public(), []byte("plaintext of 24 bytes ..."), tt.shortest)
			size := len("plaintext of 24 bytes ...") + tt.seal.Public().Overhead()
			behind := 0
			for i, row := range rows {
				same(t, answers, row.code, record(row.message))
				if row.behind {
					behind++
					if row.code != sealhttp.CodeDecryptionFailed {
						t.Errorf("%s: the test wants %s behind the prefix", row.name, row.code)
					}
				}
				if i%37 == 0 || i%37 == 20 {
					for _, host := range hosts {
						same(t, onWire, row.code, host.do(t, host.request(t, "POST", "/", bytes.NewReader(row.message), header)))
						real++
					}
				}
				if t.Failed() {
					t.Fatalf("at %s", row.name)
				}
			}
			if ran != 0 {
				t.Errorf("the handler has run %d times", ran)
			}
			for code, answer := range onWire {
				if recorded := answers[code]; !bytes.Equal(answer.body, recorded.body) || !maps.EqualFunc(answer.header, recorded.header, slices.Equal) {
					t.Errorf("%s: on the wire %v %q, recorded %v %q", code, answer.header, answer.body, recorded.header, recorded.body)
				}
			}
			// The control: unchanged, it opens.
			if got := record(rows[0].message); got.status != 400 {
				t.Errorf("status %d", got.status)
			}
			whole := bytes.Clone(rows[0].message)
			whole[0] ^= 1
			if got := record(whole); got.status != 200 || ran != 1 {
				t.Errorf("unchanged: status %d, %q", got.status, got.body)
			}
			flips += 8 * size
			truncations += size - 1
			others += len(rows) - 8*size - (size - 1)
			t.Logf("%d changes, %d of them behind the prefix", len(rows), behind)
		})
	}
	t.Logf("%d flips, %d truncations, %d others; %d calls over real HTTP", flips, truncations, others, real)
}
