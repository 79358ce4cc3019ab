package sealhttp_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// txDefaultBound is the wire format's default list, written down once more.
var txDefaultBound = []string{
	"authorization", "idempotency-key", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "x-http-method-override",
}

// txRequest is a request of the exchange profile, as this server of the tests' own reads
// it: from the wire format's text, not with the package's code.
type txRequest struct {
	r           *http.Request
	kid         uint32
	id          [16]byte
	ts          int64
	enc         []byte
	bind        []string // nil for the default list
	body        bool
	contentType string
	x           *seal.Exchange
	plaintext   []byte
}

// txOpen opens a request up to its tag.
func txOpen(r *http.Request, keys ...*seal.PrivateKey) (*txRequest, error) {
	lines := r.Header["Sealed-Exchange"]
	if len(lines) != 1 {
		return nil, fmt.Errorf("%d Sealed-Exchange", len(lines))
	}
	d, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil, err
	}
	q := &txRequest{r: r}
	var auth []byte
	for _, name := range d.Names() {
		m, _ := d.Get(name)
		item, _ := m.(httpsfv.Item)
		switch name {
		case "v":
			if item.Value != int64(1) {
				return nil, fmt.Errorf("v=%v", item.Value)
			}
		case "kid":
			q.kid = uint32(item.Value.(int64))
		case "id":
			copy(q.id[:], item.Value.([]byte))
		case "ts":
			q.ts = item.Value.(int64)
		case "enc":
			q.enc = item.Value.([]byte)
		case "auth":
			auth = item.Value.([]byte)
		case "bind":
			q.bind = []string{}
			for _, name := range m.(httpsfv.InnerList).Items {
				q.bind = append(q.bind, name.Value.(string))
			}
		default:
			return nil, fmt.Errorf("the member %q", name)
		}
	}
	q.body = r.Header.Get("Content-Type") == sealhttp.ExchangeMediaType
	q.contentType = r.Header.Get("Sealed-Content-Type")
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	if strings.HasPrefix(r.Host, "[") {
		host, _, _ = strings.Cut(r.Host, "]")
		host += "]"
	}
	lp := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	info := bytes.Join([][]byte{[]byte("sealhttp exchange v1 request\x00"), lp(r.Method), lp(host), lp(r.RequestURI), {0}, lp(q.contentType)}, nil)
	if q.body {
		info[len(info)-len(q.contentType)-3] = 1
	}
	info = binary.BigEndian.AppendUint32(info, q.kid)
	info = append(info, q.id[:]...)
	info = binary.BigEndian.AppendUint64(info, uint64(q.ts))
	info = append(info, lp("")...)
	bind := q.bind
	if bind == nil {
		bind = txDefaultBound
	}
	var bound []byte
	for _, name := range bind {
		value := strings.Join(r.Header.Values(name), "\n")
		bound = append(bound, lp(name)...)
		bound = append(binary.BigEndian.AppendUint32(bound, uint32(len(value))), value...)
	}
	sum := sha256.Sum256(bound)
	info = append(info, sum[:]...)
	for _, key := range keys {
		if key.ID() == q.kid {
			q.x, err = key.OpenExchange(q.enc, auth, info)
			return q, err
		}
	}
	return q, errTxKey
}

var errTxKey = errors.New("the key is not known")

// read reads the body.
func (q *txRequest) read() error {
	if !q.body {
		return nil
	}
	var err error
	q.plaintext, err = io.ReadAll(q.x.Records().NewReader(q.r.Body))
	return err
}

// txAnswer is what the tests' server answers.
type txAnswer struct {
	status      int
	sent        int // the status that is sent, if not that
	code        string
	contentType string
	body        string
	bodiless    bool
	caller      *seal.PublicKey
	ckid        uint32 // the caller's key's own if 0
	edit        func(h http.Header)
	cut         bool // leave the last record out
	padding     seal.Padding
}

func (a txAnswer) write(w http.ResponseWriter, q *txRequest) {
	if a.status == 0 {
		a.status = 200
	}
	aad := binary.BigEndian.AppendUint16(nil, uint16(a.status))
	aad = append(aad, 1)
	if a.bodiless {
		aad[2] = 0
	}
	for _, s := range []string{a.contentType, a.code} {
		aad = append(binary.BigEndian.AppendUint16(aad, uint16(len(s))), s...)
	}
	header, records, err := q.x.SealResponse(a.caller, aad)
	if err != nil {
		panic(err)
	}
	field := httpsfv.NewDictionary()
	field.Add("v", httpsfv.NewItem(1))
	field.Add("nonce", httpsfv.NewItem(header.Nonce))
	if a.caller != nil {
		if a.ckid == 0 {
			a.ckid = a.caller.ID()
		}
		field.Add("ckid", httpsfv.NewItem(int64(a.ckid)))
		field.Add("cenc", httpsfv.NewItem(header.CallerEnc))
	}
	field.Add("auth", httpsfv.NewItem(header.Auth))
	line, err := httpsfv.Marshal(field)
	if err != nil {
		panic(err)
	}
	h := w.Header()
	h.Set("Sealed-Exchange", line)
	if a.code != "" {
		h.Set("Sealed-Error", a.code)
	}
	if !a.bodiless {
		h.Set("Content-Type", sealhttp.ExchangeMediaType)
		if a.contentType != "" {
			h.Set("Sealed-Content-Type", a.contentType)
		}
	}
	if a.edit != nil {
		a.edit(h)
	}
	if a.sent == 0 {
		a.sent = a.status
	}
	w.WriteHeader(a.sent)
	if a.bodiless {
		return
	}
	out := records.NewWriter(w, a.padding)
	_, _ = io.WriteString(out, a.body)
	if a.cut {
		_ = out.Flush()
		return
	}
	_ = out.Close()
}

// txServer is a handler of the tests' own. It remembers what came, and answers the n-th
// request with the n-th answer, the last one for all that follow.
type txServer struct {
	keys    []*seal.PrivateKey
	answers []func(w http.ResponseWriter, q *txRequest)

	mu  sync.Mutex
	got []*txRequest
	err []error
}

func (s *txServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := txOpen(r, s.keys...)
	if err == nil {
		err = q.read()
	} else {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	s.mu.Lock()
	n := len(s.got)
	s.got, s.err = append(s.got, q), append(s.err, err)
	s.mu.Unlock()
	s.answers[min(n, len(s.answers)-1)](w, q)
}

func (s *txServer) requests() []*txRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*txRequest(nil), s.got...)
}

// check checks that n requests came, and that all of them opened.
func (s *txServer) check(t testing.TB, n int) []*txRequest {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != n {
		t.Errorf("%d requests came, want %d", len(s.got), n)
	}
	for i, err := range s.err {
		if err != nil && !errors.Is(err, errTxKey) {
			t.Errorf("request %d: %v", i+1, err)
		}
	}
	return s.got
}

// txSealed answers sealed.
func txSealed(a txAnswer) func(http.ResponseWriter, *txRequest) {
	return func(w http.ResponseWriter, q *txRequest) { a.write(w, q) }
}

// txOK answers as a handler would that has worked.
func txOK(w http.ResponseWriter, q *txRequest) {
	if q.r.Method == http.MethodHead {
		txAnswer{bodiless: true}.write(w, q)
		return
	}
	txAnswer{contentType: "text/plain", body: "done"}.write(w, q)
}

// txClear answers as anyone could.
func txClear(status int, code string) func(http.ResponseWriter, *txRequest) {
	return func(w http.ResponseWriter, _ *txRequest) {
		if code != "" {
			w.Header().Set("Sealed-Error", code)
		}
		w.WriteHeader(status)
		if status >= 200 && status != 204 && status != 304 {
			_, _ = io.WriteString(w, "in clear")
		}
	}
}

// txBreak closes the connection.
func txBreak(http.ResponseWriter, *txRequest) { panic(http.ErrAbortHandler) }

func txTransport(t testing.TB, key *seal.PublicKey, base http.RoundTripper, opts ...sealhttp.TransportOption) *sealhttp.Transport {
	t.Helper()
	return trTransport(t, sealhttp.StaticPublicKey(key), append([]sealhttp.TransportOption{
		sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base)}, opts...)...)
}

// txOutcome checks which of the two an error is.
func txOutcome(t testing.TB, err, want error) {
	t.Helper()
	for _, outcome := range []error{sealhttp.ErrNotProcessed, sealhttp.ErrOutcomeUnknown} {
		if errors.Is(err, outcome) != (outcome == want) {
			t.Errorf("%v: is it %q: %t", err, outcome, errors.Is(err, outcome))
		}
	}
}

// txIs checks an *Error, with all of these causes and no other sentinel.
func txIs(t testing.TB, err error, code sealhttp.Code, status int, causes ...error) {
	t.Helper()
	var e *sealhttp.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of %q", err, code)
	}
	if e.Code != code || e.Status != status {
		t.Errorf("got code %q and status %d, want %q and %d (%v)", e.Code, e.Status, code, status, err)
	}
	for _, sentinel := range []error{
		sealhttp.ErrRefused, sealhttp.ErrResponseNotOpened, sealhttp.ErrPlaintextResponse, sealhttp.ErrRedirect,
		sealhttp.ErrUnauthenticated, sealhttp.ErrNotProcessed, sealhttp.ErrOutcomeUnknown,
	} {
		if want := trContains(causes, sentinel); errors.Is(err, sentinel) != want {
			t.Errorf("%v: is it %q: %t", err, sentinel, !want)
		}
	}
}

// txLeaks checks at the end of a test that it has left no goroutine behind.
func txLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 500 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, txStacks())
	})
}

func txStacks() []byte {
	stacks := make([]byte, 1<<20)
	return stacks[:runtime.Stack(stacks, true)]
}
