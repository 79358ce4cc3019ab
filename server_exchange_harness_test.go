package sealhttp_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvExchange is one exchange as a caller makes it, written after the wire format with
// crypto/hpke: nothing of package seal but its keys is in it.
type srvExchange struct {
	server *seal.PublicKey

	// What is bound, and what is sent if a test does not change it.
	method, authority, target string
	body                      bool
	contentType               string // Sealed-Content-Type
	kid                       uint32
	id                        [16]byte
	ts                        int64
	info                      []byte
	header                    http.Header // fields besides sealhttp's own
	names                     []string    // of bound fields, nil for the default list

	// What sealing made.
	sender    *hpke.Sender
	enc, auth []byte
}

// srvDefaultBound is the wire format's default list.
var srvDefaultBound = []string{
	"authorization", "idempotency-key", "if-match", "if-none-match",
	"if-modified-since", "if-unmodified-since", "x-http-method-override",
}

// srvTurn makes an exchange with srvKey that is fresh and all else as it should be.
func srvTurn(method, target string) *srvExchange {
	x := &srvExchange{
		server: srvKey.Public(), method: method, authority: "127.0.0.1", target: target,
		kid: srvKey.ID(), ts: time.Now().Unix(), header: http.Header{},
	}
	rand.Read(x.id[:])
	return x
}

// srvHPKE returns crypto/hpke's parts of a suite.
func srvHPKE(suite seal.Suite) (hpke.KEM, hpke.KDF, hpke.AEAD) {
	kdf := hpke.HKDFSHA256()
	switch suite {
	case seal.X25519AES256GCM:
		return hpke.DHKEM(ecdh.X25519()), kdf, hpke.AES256GCM()
	case seal.X25519AES128GCM:
		return hpke.DHKEM(ecdh.X25519()), kdf, hpke.AES128GCM()
	case seal.X25519ChaCha20Poly1305:
		return hpke.DHKEM(ecdh.X25519()), kdf, hpke.ChaCha20Poly1305()
	case seal.P256AES256GCM:
		return hpke.DHKEM(ecdh.P256()), kdf, hpke.AES256GCM()
	case seal.P256AES128GCM:
		return hpke.DHKEM(ecdh.P256()), kdf, hpke.AES128GCM()
	case seal.XWingAES256GCM:
		return hpke.MLKEM768X25519(), kdf, hpke.AES256GCM()
	}
	panic("no suite")
}

func srvPart(out []byte, part string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(part))), part...)
}

// hpkeInfo is what the request's tag binds.
func (x *srvExchange) hpkeInfo() []byte {
	out := []byte("sealhttp exchange v1 request\x00")
	out = srvPart(srvPart(srvPart(out, x.method), x.authority), x.target)
	if x.body {
		out = append(out, 1)
	} else {
		out = append(out, 0)
	}
	out = srvPart(out, x.contentType)
	out = binary.BigEndian.AppendUint32(out, x.kid)
	out = append(out, x.id[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(x.ts))
	out = srvPart(out, string(x.info))
	names := x.names
	if names == nil {
		names = srvDefaultBound
	}
	hash := sha256.New()
	for _, name := range names {
		value := strings.Trim(x.header.Get(name), " \t")
		hash.Write(srvPart(nil, name))
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(value))))
		hash.Write([]byte(value))
	}
	return hash.Sum(out)
}

// seal begins the exchange, once.
func (x *srvExchange) seal(t testing.TB) {
	t.Helper()
	if x.sender != nil {
		return
	}
	kem, kdf, aead := srvHPKE(x.server.Suite())
	public, err := kem.NewPublicKey(x.server.Bytes())
	srvCheck(t, err)
	x.enc, x.sender, err = hpke.NewSender(public, kdf, aead, x.hpkeInfo())
	srvCheck(t, err)
	x.auth, err = x.sender.Seal(nil, nil)
	srvCheck(t, err)
}

func srvBytes(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }

// members are those of Sealed-Exchange, in the wire format's order.
func (x *srvExchange) members() []string {
	all := []string{
		"v=1", fmt.Sprint("kid=", x.kid), "id=" + srvBytes(x.id[:]), fmt.Sprint("ts=", x.ts),
		"enc=" + srvBytes(x.enc), "auth=" + srvBytes(x.auth),
	}
	if x.names != nil {
		quoted := make([]string, len(x.names))
		for i, name := range x.names {
			quoted[i] = strconv.Quote(name)
		}
		all = append(all, "bind=("+strings.Join(quoted, " ")+")")
	}
	return all
}

// record makes one record.
func (x *srvExchange) record(t testing.TB, data []byte, delimiter byte, zeros int) []byte {
	t.Helper()
	return x.rawRecord(t, append(append(bytes.Clone(data), delimiter), make([]byte, zeros)...))
}

// rawRecord makes a record of a plaintext that may break the rules.
func (x *srvExchange) rawRecord(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	ciphertext, err := x.sender.Seal(nil, plaintext)
	srvCheck(t, err)
	return append(srvVarint(len(ciphertext)), ciphertext...)
}

// srvVarint is RFC 9000's, as short as can be.
func srvVarint(n int) []byte {
	switch {
	case n < 1<<6:
		return []byte{byte(n)}
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(nil, uint16(n)|1<<14)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(n)|2<<30)
}

const srvRecordData = 16384

// records cuts a plaintext into records of at most size bytes of data.
func (x *srvExchange) records(t testing.TB, plaintext []byte, size int) [][]byte {
	t.Helper()
	x.seal(t)
	var all [][]byte
	for chunk := range slices.Chunk(plaintext, size) {
		delimiter := byte(1)
		if len(all) == (len(plaintext)-1)/size {
			delimiter = 2
		}
		all = append(all, x.record(t, chunk, delimiter, 0))
	}
	if all == nil {
		all = [][]byte{x.record(t, nil, 2, 0)}
	}
	return all
}

// head makes a request's header.
func (x *srvExchange) head() http.Header {
	h := x.header.Clone()
	h["Sealed-Exchange"] = []string{strings.Join(x.members(), ", ")}
	if x.body {
		h["Content-Type"] = []string{sealhttp.ExchangeMediaType}
	}
	if x.contentType != "" {
		h["Sealed-Content-Type"] = []string{x.contentType}
	}
	return h
}

// request makes the request with a plaintext, nil for no body.
func (x *srvExchange) request(t testing.TB, host *srvHost, plaintext []byte) *http.Request {
	t.Helper()
	if plaintext == nil {
		return x.streamed(t, host, nil)
	}
	x.body = true
	return x.streamed(t, host, bytes.NewReader(bytes.Join(x.records(t, plaintext, srvRecordData), nil)))
}

// streamed makes the request with a body that is records, nil for none.
func (x *srvExchange) streamed(t testing.TB, host *srvHost, records io.Reader) *http.Request {
	t.Helper()
	x.body = records != nil
	x.seal(t)
	return host.request(t, x.method, x.target, records, x.head())
}

// srvAnswered is a response that authenticated, as the caller's program is to see it.
type srvAnswered struct {
	status      int
	header      http.Header
	body        []byte
	contentType string
	code        sealhttp.Code
	err         error // what reading ended with, nil if the body is whole
	ckid        uint32
	records     []int // bytes of data in each record
	closing     bool
	reused      bool
}

var srvResponseField = regexp.MustCompile(`^v=1, nonce=:([A-Za-z0-9+/=]+):(?:, ckid=([0-9]+), cenc=:([A-Za-z0-9+/=]+):)?, auth=:([A-Za-z0-9+/=]+):$`)

// srvIncoming is the caller's end of a response: its key, and the records to come.
type srvIncoming struct {
	srvAnswered
	aead     cipher.AEAD
	nonce    []byte
	sequence uint64
	hasBody  bool
	r        io.Reader
	ended    bool
}

var (
	errSrvField     = errors.New("not one Sealed-Exchange that is well formed")
	errSrvAuth      = errors.New("the response's tag does not verify")
	errSrvRecord    = errors.New("a record does not open")
	errSrvTruncated = errors.New("there is no last record")
)

// openHead verifies a response up to its first record.
func (x *srvExchange) openHead(status int, h http.Header, r io.Reader, caller *seal.PrivateKey) (*srvIncoming, error) {
	lines := h["Sealed-Exchange"]
	if len(lines) != 1 {
		return nil, errSrvField
	}
	m := srvResponseField.FindStringSubmatch(lines[0])
	if m == nil {
		return nil, errSrvField
	}
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	nonce, auth := decode(m[1]), decode(m[4])
	if len(nonce) != 32 || len(auth) != 16 {
		return nil, errSrvField
	}
	a := &srvIncoming{r: r, srvAnswered: srvAnswered{
		status: status, header: h, contentType: h.Get("Sealed-Content-Type"), code: sealhttp.Code(h.Get("Sealed-Error")),
	}}
	const label = "sealhttp exchange v1 response"
	secret, err := x.sender.Export(label, 32)
	if err != nil {
		return nil, err
	}
	if m[2] != "" {
		ckid, err := strconv.ParseUint(m[2], 10, 32)
		if err != nil || caller == nil || uint32(ckid) != caller.ID() {
			return nil, fmt.Errorf("sealed to key %s: %w", m[2], errSrvAuth)
		}
		a.ckid = uint32(ckid)
		kem, kdf, aead := srvHPKE(caller.Suite())
		private, err := kem.NewPrivateKey(caller.Bytes())
		if err != nil {
			return nil, err
		}
		c, err := hpke.NewRecipient(decode(m[3]), private, kdf, aead, append([]byte("sealhttp exchange v1 caller\x00"), x.enc...))
		if err != nil {
			return nil, errSrvAuth
		}
		more, err := c.Export(label, 32)
		if err != nil {
			return nil, err
		}
		secret = append(secret, more...)
	}
	prk, err := hkdf.Extract(sha256.New, secret, append(bytes.Clone(x.enc), nonce...))
	if err != nil {
		return nil, err
	}
	if a.aead, err = srvAEAD(x.server.Suite(), prk); err != nil {
		return nil, err
	}
	if a.nonce, err = hkdf.Expand(sha256.New, prk, "nonce", a.aead.NonceSize()); err != nil {
		return nil, err
	}
	a.hasBody = h.Get("Content-Type") == sealhttp.ExchangeMediaType
	aad := binary.BigEndian.AppendUint16(nil, uint16(status))
	if a.hasBody {
		aad = append(aad, 1)
	} else {
		aad = append(aad, 0)
	}
	aad = srvPart(srvPart(aad, a.contentType), string(a.code))
	if _, err := a.aead.Open(nil, a.next(), auth, aad); err != nil {
		return nil, errSrvAuth
	}
	return a, nil
}

func srvAEAD(suite seal.Suite, prk []byte) (cipher.AEAD, error) {
	size := 32
	if suite == seal.X25519AES128GCM || suite == seal.P256AES128GCM {
		size = 16
	}
	key, err := hkdf.Expand(sha256.New, prk, "key", size)
	if err != nil {
		return nil, err
	}
	if suite == seal.X25519ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (a *srvIncoming) next() []byte {
	nonce := bytes.Clone(a.nonce)
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^a.sequence)
	a.sequence++
	return nonce
}

// record reads one record. After the last it returns io.EOF.
func (a *srvIncoming) record() ([]byte, error) {
	if a.ended {
		return nil, io.EOF
	}
	var first [8]byte
	if _, err := io.ReadFull(a.r, first[:1]); err != nil {
		return nil, fmt.Errorf("%w: %w", errSrvTruncated, err)
	}
	size := 1 << (first[0] >> 6)
	if _, err := io.ReadFull(a.r, first[1:size]); err != nil {
		return nil, fmt.Errorf("%w: %w", errSrvTruncated, err)
	}
	first[0] &= 0x3f
	n := binary.BigEndian.Uint64(append(make([]byte, 8-size), first[:size]...))
	if n < 17 || n > 65552 {
		return nil, errSrvRecord
	}
	ciphertext := make([]byte, n)
	if _, err := io.ReadFull(a.r, ciphertext); err != nil {
		return nil, fmt.Errorf("%w: %w", errSrvTruncated, err)
	}
	plaintext, err := a.aead.Open(nil, a.next(), ciphertext, nil)
	if err != nil {
		return nil, errSrvRecord
	}
	data := bytes.TrimRight(plaintext, "\x00")
	if len(data) == 0 {
		return nil, errSrvRecord
	}
	delimiter := data[len(data)-1]
	data = data[:len(data)-1]
	a.ended = delimiter == 2
	if !a.ended && (delimiter != 1 || len(data) == 0) || len(data) > srvRecordData {
		return nil, errSrvRecord
	}
	a.records = append(a.records, len(data))
	return data, nil
}

// openWith opens a response. An error is one that authenticates nothing.
func (x *srvExchange) openWith(a *srvAnswer, caller *seal.PrivateKey) (*srvAnswered, error) {
	if a.header == nil {
		return nil, a.err
	}
	wire := bytes.NewReader(a.body)
	reply, err := x.openHead(a.status, a.header, wire, caller)
	if err != nil {
		return nil, err
	}
	reply.closing, reply.reused = a.closing, a.reused
	if !reply.hasBody {
		if len(a.body) > 0 {
			return nil, errors.New("bytes after a response without a body")
		}
		reply.err = a.err
		return &reply.srvAnswered, nil
	}
	for {
		data, err := reply.record()
		reply.body = append(reply.body, data...)
		if err == nil {
			continue
		}
		switch {
		case err != io.EOF:
			reply.err = err
		case wire.Len() > 0:
			reply.err = errors.New("bytes after the last record")
		default:
			reply.err = a.err
		}
		return &reply.srvAnswered, nil
	}
}

// open opens a response that must be whole and sealed to srvCallerKey, and checks the
// rules for the header of all sealed ones.
func (x *srvExchange) open(t testing.TB, a *srvAnswer) *srvAnswered {
	t.Helper()
	return x.openAs(t, a, srvCallerKey)
}

func (x *srvExchange) openAs(t testing.TB, a *srvAnswer, caller *seal.PrivateKey) *srvAnswered {
	t.Helper()
	got := x.broken(t, a, caller)
	if got.err != nil {
		t.Fatalf("status %d: the response is not whole: %v", got.status, got.err)
	}
	return got
}

// broken is openAs for a response that need not be whole.
func (x *srvExchange) broken(t testing.TB, a *srvAnswer, caller *seal.PrivateKey) *srvAnswered {
	t.Helper()
	got, err := x.openWith(a, caller)
	if err != nil {
		t.Fatalf("status %d, header %v, body %.300q, %v: the response does not open: %v", a.status, a.header, a.body, a.err, err)
	}
	if want := caller != nil; want != (got.ckid != 0) {
		t.Errorf("ckid is %d", got.ckid)
	}
	for _, name := range srvRemoved {
		if name == "Sealed-Error" || name == "Sealed-Exchange" || name == "Content-Encoding" && got.err != nil {
			continue
		}
		if lines, has := a.header[http.CanonicalHeaderKey(name)]; has {
			t.Errorf("the sealed response has %s: %q", name, lines)
		}
	}
	if got := a.header["Cache-Control"]; !slices.Equal(got, []string{"no-store, no-transform"}) {
		t.Errorf("Cache-Control is %q", got)
	}
	if a.vary() != 1 {
		t.Errorf("Vary is %q", a.header["Vary"])
	}
	if len(a.trailer) > 0 {
		t.Errorf("the sealed response has trailers: %v", a.trailer)
	}
	bodiless := x.method == "HEAD" || a.status == 204 || a.status == 205 || a.status == 304
	switch lines := a.header["Content-Type"]; {
	case bodiless && (lines != nil || a.header["Sealed-Content-Type"] != nil || len(a.body) > 0):
		t.Errorf("a response without content: %d bytes, header %v", len(a.body), a.header)
	case !bodiless && !slices.Equal(lines, []string{sealhttp.ExchangeMediaType}):
		t.Errorf("Content-Type is %q", lines)
	}
	if length := a.header.Get("Content-Length"); bodiless && length != "" && length != "0" {
		t.Errorf("Content-Length is %q", length)
	}
	return got
}

// refused checks a sealed answer of the middleware's own.
func (x *srvExchange) refused(t testing.TB, a *srvAnswer, code sealhttp.Code, status int, caller *seal.PrivateKey) *srvProblem {
	t.Helper()
	got := x.openAs(t, a, caller)
	if got.code != code || got.status != status {
		t.Errorf("status %d, code %q, body %q; want %d %s", got.status, got.code, got.body, status, code)
	}
	if (status == 503) != (got.header.Get("Retry-After") != "") {
		t.Errorf("%s: Retry-After is %q", code, got.header["Retry-After"])
	}
	p := new(srvProblem)
	if x.method == "HEAD" {
		return p
	}
	if err := json.Unmarshal(got.body, p); err != nil || p.Code != code || p.Status != status || got.contentType != "application/problem+json" {
		t.Errorf("the sealed problem: %v, %q, content type %q", err, got.body, got.contentType)
	}
	return p
}

// srvProblem is the body of a refusal.
type srvProblem struct {
	Code   sealhttp.Code
	Status int
	Now    int64
}

// refusedInClear checks an answer to a request whose tag did not verify.
func (x *srvExchange) refusedInClear(t testing.TB, a *srvAnswer, code sealhttp.Code, status int) {
	t.Helper()
	a.refused(t, code, status)
	if lines := a.header["Sealed-Exchange"]; lines != nil {
		t.Errorf("%s: the refusal is sealed: %q", code, lines)
	}
	if (status == 503) != (a.header.Get("Retry-After") != "") {
		t.Errorf("%s: Retry-After is %q", code, a.header["Retry-After"])
	}
	if x.method == "HEAD" {
		return
	}
	var p srvProblem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Code != code || p.Status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the problem: %v, %q, content type %q", err, a.body, a.header["Content-Type"])
	}
}

// srvAtOnce runs what takes its time, but no work, all at the same time: of parallel
// subtests only as many run as there are processors.
func srvAtOnce(t testing.TB, branches map[string]func(t testing.TB)) {
	t.Helper()
	var wg sync.WaitGroup
	for name, f := range branches {
		wg.Go(func() { f(srvBranch{t, name}) })
	}
	wg.Wait()
}

// srvBranch is a test that fails by its name, and ends its own goroutine only.
type srvBranch struct {
	testing.TB
	name string
}

func (b srvBranch) Error(args ...any) {
	b.Helper()
	b.TB.Errorf("%s: %s", b.name, fmt.Sprint(args...))
}

func (b srvBranch) Errorf(format string, args ...any) {
	b.Helper()
	b.TB.Errorf("%s: %s", b.name, fmt.Sprintf(format, args...))
}

func (b srvBranch) Fatal(args ...any) {
	b.Helper()
	b.Error(args...)
	runtime.Goexit()
}

func (b srvBranch) Fatalf(format string, args ...any) {
	b.Helper()
	b.Errorf(format, args...)
	runtime.Goexit()
}

// srvGuard is a replay guard that tells what was done with it.
type srvGuard struct {
	mu       sync.Mutex
	known    map[[16]byte]bool
	inserts  []sealhttp.ReplayEntry
	lookups  int
	insert   error // what Insert returns, if it is set
	contains error
}

func (g *srvGuard) Insert(_ context.Context, e sealhttp.ReplayEntry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.insert != nil:
		return g.insert
	case g.known[e.ID]:
		return sealhttp.CodeReplayed
	}
	if g.known == nil {
		g.known = map[[16]byte]bool{}
	}
	g.known[e.ID] = true
	g.inserts = append(g.inserts, e)
	return nil
}

func (g *srvGuard) Contains(_ context.Context, id [16]byte) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lookups++
	return g.known[id], g.contains
}

func (g *srvGuard) operations() (inserts, lookups int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.inserts), g.lookups
}

// The server takes what this other implementation of the wire format makes, in all
// suites, and makes what it takes. The caller's key is of another suite each time.
func TestServerExchangeSuites(t *testing.T) {
	suites := []seal.Suite{
		seal.X25519AES256GCM, seal.X25519AES128GCM, seal.X25519ChaCha20Poly1305,
		seal.P256AES256GCM, seal.P256AES128GCM, seal.XWingAES256GCM,
	}
	calls := 0
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for i, suite := range suites {
			server, caller := srvGenerate(suite), srvGenerate(suites[(i+1)%len(suites)])
			for _, callerKey := range []*seal.PrivateKey{nil, caller} {
				m, err := sealhttp.New(srvKeys(server))
				srvCheck(t, err)
				if callerKey != nil {
					m = sealhttp.Must(m.With(srvClientKeys(callerKey.Public())))
				}
				current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %v", b, err)
				})))
				x := srvTurn("POST", "/a?b=c")
				x.server, x.kid = server.Public(), server.ID()
				got := x.openAs(t, host.do(t, x.request(t, host, []byte("hello"))), callerKey)
				if got.status != 200 || string(got.body) != "hello <nil>" {
					t.Errorf("%s, %v: status %d, %q", proto, suite, got.status, got.body)
				}
				calls++
			}
		}
	}
	t.Logf("%d calls of %d suites, with and without a caller's key", calls, len(suites))
}
