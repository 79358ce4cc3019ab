package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// The keys of most tests: srvKey is the server's, srvCallerKey the caller's.
var (
	srvKey       = srvGenerate(seal.X25519AES256GCM)
	srvCallerKey = srvGenerate(seal.X25519AES256GCM)
)

// srvProtos are what every test of a wire runs on.
var srvProtos = []string{"HTTP/1.1", "HTTP/2.0"}

func srvGenerate(suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	key, err := seal.GenerateKey(suite, opts...)
	if err != nil {
		panic(err)
	}
	return key
}

func srvCheck(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// srvKeys is a ServerKeys of fixed keys.
func srvKeys(keys ...*seal.PrivateKey) sealhttp.ServerKeys {
	set, err := seal.NewKeySet(keys[0], keys[1:]...)
	return sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, err })
}

// srvClientKeys is a ClientKeys of one fixed key.
func srvClientKeys(key *seal.PublicKey) sealhttp.Option {
	return sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return key, nil }))
}

// srvMiddleware makes a Middleware with srvKey and srvCallerKey.
func srvMiddleware(t testing.TB, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	m, err := sealhttp.New(srvKeys(srvKey), append([]sealhttp.Option{srvClientKeys(srvCallerKey.Public())}, opts...)...)
	srvCheck(t, err)
	return m
}

// srvSeal seals what a caller sends.
func srvSeal(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	message, err := srvKey.Public().Seal(nil, plaintext, nil)
	srvCheck(t, err)
	return message
}

// srvBuffer is a bytes.Buffer for several goroutines.
type srvBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *srvBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *srvBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// srvHost is a server on loopback and a client of it.
type srvHost struct {
	*httptest.Server
	client *http.Client
	errors *srvBuffer // net/http's error log

	mu      sync.Mutex
	running int // calls
	idle    *sync.Cond
}

// wait returns when no call is being served: a caller may have its response, or the
// lack of one, before the handler has returned.
func (h *srvHost) wait() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.running > 0 {
		h.idle.Wait()
	}
}

func (h *srvHost) count(by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running += by
	h.idle.Broadcast()
}

// srvServe serves h over TLS until the test ends.
func srvServe(t testing.TB, proto string, h http.Handler) *srvHost {
	t.Helper()
	host := &srvHost{errors: new(srvBuffer)}
	host.idle = sync.NewCond(&host.mu)
	host.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.count(1)
		defer host.count(-1)
		h.ServeHTTP(w, r)
	}))
	host.Config.ErrorLog = log.New(host.errors, "", 0)
	host.EnableHTTP2 = proto == "HTTP/2.0"
	host.StartTLS()
	t.Cleanup(host.Close)
	host.client = host.Client()
	transport := host.client.Transport.(*http.Transport)
	transport.DisableCompression = true
	transport.ExpectContinueTimeout = srvTimeout // a body is not sent before 100
	host.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return host
}

// logged checks that net/http's error log has a text, which may take a moment, or
// has it not.
func (h *srvHost) logged(t testing.TB, want bool, text string) {
	t.Helper()
	h.Close()
	for deadline := time.Now().Add(srvTimeout); want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if strings.Contains(h.errors.String(), text) {
			return
		}
	}
	if want || strings.Contains(h.errors.String(), text) {
		t.Errorf("net/http logged %q; with %q: %v", h.errors, text, want)
	}
}

// srvSwap is a handler that changes between calls: a server for each case of a table
// would spend the time on TLS handshakes.
type srvSwap struct {
	mu sync.Mutex
	h  http.Handler
}

func (s *srvSwap) set(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.h = h
}

func (s *srvSwap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.h
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

// srvAnswer is all that a caller sees of a response.
type srvAnswer struct {
	err     error // of RoundTrip, or of reading the body
	proto   string
	status  int
	header  http.Header
	body    []byte
	trailer http.Header
	length  int64
	hints   []string // 1xx responses
	reused  bool     // it came over a kept connection
	closing bool     // HTTP/1.1: the server closes the connection
}

// do sends a request and reads the response.
func (h *srvHost) do(t testing.TB, req *http.Request) *srvAnswer {
	t.Helper()
	a := new(srvAnswer)
	var mu sync.Mutex
	trace := &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if code != http.StatusContinue {
				a.hints = append(a.hints, fmt.Sprint(code, header))
			}
			return nil
		},
		GotConn: func(info httptrace.GotConnInfo) {
			mu.Lock()
			defer mu.Unlock()
			a.reused = info.Reused
		},
	}
	resp, err := h.client.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.body, a.err = io.ReadAll(resp.Body)
	a.proto, a.status, a.header, a.trailer = resp.Proto, resp.StatusCode, resp.Header, resp.Trailer
	a.length, a.closing = resp.ContentLength, resp.Close
	return a
}

// srvRequest makes a request to a path of the host.
func (h *srvHost) request(t testing.TB, method, target string, body io.Reader, header http.Header) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+target, body)
	srvCheck(t, err)
	for name, lines := range header {
		req.Header[name] = slices.Clone(lines)
	}
	return req
}

// call sends a sealed body, nil for none, and asks for a sealed response.
func (h *srvHost) call(t testing.TB, method, target string, plaintext []byte) *srvAnswer {
	t.Helper()
	header := http.Header{"Accept": {sealhttp.MediaType}}
	var body io.Reader
	if plaintext != nil {
		header["Content-Type"] = []string{sealhttp.MediaType}
		body = bytes.NewReader(srvSeal(t, plaintext))
	}
	return h.do(t, h.request(t, method, target, body, header))
}

// srvRemoved are the fields that the wire format removes from sealed responses,
// besides what open checks.
var srvRemoved = []string{
	"Content-MD5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges", "Content-Range",
	"CDN-Cache-Control", "Surrogate-Control", "Content-Encoding",
	"Sealed-Error", "Sealed-Exchange", "Trailer", "Transfer-Encoding",
}

const srvVary = "Accept, Sealed-Exchange"

// vary reports how many times Vary has what sealhttp adds.
func (a *srvAnswer) vary() int {
	n := 0
	for _, line := range a.header["Vary"] {
		if line == srvVary {
			n++
		}
	}
	return n
}

// open checks a response against the wire format's rules for sealed ones, and
// returns it as the caller's program is to see it.
func (a *srvAnswer) open(t testing.TB, method string) *srvAnswer {
	t.Helper()
	return a.openWith(t, method, srvCallerKey, nil)
}

func (a *srvAnswer) openWith(t testing.TB, method string, key *seal.PrivateKey, info []byte) *srvAnswer {
	t.Helper()
	if a.err != nil {
		t.Fatalf("no response: %v", a.err)
	}
	for _, name := range srvRemoved {
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
	opened := *a
	opened.header = a.header.Clone()
	delete(opened.header, "Content-Type")
	delete(opened.header, "Sealed-Content-Type")
	if method == http.MethodHead || a.status == 204 || a.status == 205 || a.status == 304 {
		if length := a.header.Get("Content-Length"); len(a.body) > 0 || length != "" && length != "0" ||
			a.header["Content-Type"] != nil || a.header["Sealed-Content-Type"] != nil {
			t.Errorf("a response without content: %d bytes, header %v", len(a.body), a.header)
		}
		return &opened
	}
	if got := a.header["Content-Type"]; !slices.Equal(got, []string{sealhttp.MediaType}) {
		t.Fatalf("status %d, Content-Type %q, body %.200q: not sealed", a.status, got, a.body)
	}
	if got := a.header["Content-Length"]; !slices.Equal(got, []string{strconv.Itoa(len(a.body))}) {
		t.Errorf("Content-Length is %q for %d bytes", got, len(a.body))
	}
	var err error
	opened.body, err = key.Open(nil, a.body, info)
	if err != nil {
		t.Fatalf("the response does not open: %v", err)
	}
	if lines := a.header["Sealed-Content-Type"]; lines != nil {
		opened.header["Content-Type"] = lines
	}
	return &opened
}

// refused checks an answer of the middleware's own.
func (a *srvAnswer) refused(t testing.TB, code sealhttp.Code, status int) {
	t.Helper()
	if a.err != nil {
		t.Fatalf("no response: %v, want %s", a.err, code)
	}
	if a.status != status || a.header.Get("Sealed-Error") != string(code) {
		t.Errorf("status %d, Sealed-Error %q, body %.300q; want %d %s", a.status, a.header["Sealed-Error"], a.body, status, code)
	}
}

// srvMode is how a call of the differential tests is sent.
type srvMode int

const (
	srvBare   srvMode = iota // in plaintext, to the handler without a middleware
	srvClear                 // in plaintext, through the middleware
	srvOpened                // the request sealed
	srvSealed                // a sealed response asked for
	srvBoth
)

func (m srvMode) String() string {
	return [...]string{"bare", "clear", "opened", "sealed", "both"}[m]
}

func (m srvMode) request() bool  { return m == srvOpened || m == srvBoth }
func (m srvMode) response() bool { return m == srvSealed || m == srvBoth }

// srvNotes are what a handler has to say of what it saw.
type srvNotes struct {
	mu    sync.Mutex
	notes map[string]string
}

func (n *srvNotes) set(name string, values ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notes == nil {
		n.notes = map[string]string{}
	}
	n.notes[name] = fmt.Sprintf("%q", fmt.Sprint(values...))
}

// srvRow is one case of the differential tests: one request to one handler, in all modes.
type srvRow struct {
	name    string
	method  string // "" is GET, or POST with a body
	target  string // "" is /
	header  http.Header
	hidden  http.Header // only sent where a sealed response is asked for, in which case no handler sees it
	content string      // Content-Type
	body    []byte      // nil for none
	chunked bool        // without Content-Length
	trailer http.Header // of the request
	expect  bool        // Expect: 100-continue

	opts    []sealhttp.Option
	outer   func(*srvNotes, http.Handler) http.Handler // what stands outside of the middleware
	handler func(n *srvNotes, w http.ResponseWriter, r *http.Request)

	// on is what the response is in plaintext: so that a row shows what it is named for.
	on func(t *testing.T, bare *srvAnswer)
	// wire changes what is wanted in plaintext into what the wire format wants of a mode.
	wire func(m srvMode, want *srvAnswer, notes map[string]string)
	// ownVary: the handler replaces Vary, so that in plaintext ours is gone.
	ownVary bool
	broken  bool   // in plaintext, the response does not arrive whole
	outside bool   // what is sent is not the handler's, but comes from outside of the middleware
	only    string // the one protocol to run on
}

func (row *srvRow) verb() string {
	switch {
	case row.method != "":
		return row.method
	case row.body != nil:
		return http.MethodPost
	}
	return http.MethodGet
}

// send sends the row's request in a mode.
func (row *srvRow) send(t testing.TB, host *srvHost, mode srvMode) *srvAnswer {
	t.Helper()
	target := row.target
	if target == "" {
		target = "/"
	}
	header := row.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	var body io.Reader
	content := row.content
	if row.body != nil {
		b := row.body
		if mode.request() {
			b = srvSeal(t, b)
			if content != "" {
				header.Set("Sealed-Content-Type", content)
			}
			content = sealhttp.MediaType
		}
		body = bytes.NewReader(b)
		if row.chunked {
			body = io.MultiReader(body)
		}
		if content != "" {
			header.Set("Content-Type", content)
		}
	}
	if mode.response() {
		header["Accept"] = append([]string{sealhttp.MediaType}, header["Accept"]...)
		maps.Copy(header, row.hidden)
	}
	if row.expect {
		header.Set("Expect", "100-continue")
	}
	req := host.request(t, row.verb(), target, body, header)
	req.Trailer = row.trailer.Clone()
	return host.do(t, req)
}

// srvDifferential runs rows: what a handler sees and what its caller gets must be
// the same in all modes, but for what the wire format says.
func srvDifferential(t *testing.T, rows []srvRow) {
	calls := 0
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, row := range rows {
			if row.only != "" && row.only != proto {
				continue
			}
			t.Run(proto+"/"+row.name, func(t *testing.T) {
				modes := []srvMode{srvBare, srvClear, srvSealed}
				if row.body != nil {
					modes = append(modes, srvOpened, srvBoth)
				}
				var bare *srvAnswer
				var bareNotes map[string]string
				m := srvMiddleware(t, row.opts...)
				for _, mode := range modes {
					notes := new(srvNotes)
					var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { row.handler(notes, w, r) })
					if mode != srvBare {
						h = m.Handler(h)
					}
					if row.outer != nil {
						h = row.outer(notes, h)
					}
					current.set(h)
					answer := row.send(t, host, mode)
					host.wait()
					calls++
					if mode == srvBare {
						bare, bareNotes = answer, notes.notes
						if row.broken != (answer.err != nil) {
							t.Fatalf("in plaintext: %v", answer.err)
						}
						if row.on != nil {
							row.on(t, bare)
						}
						continue
					}
					t.Run(mode.String(), func(t *testing.T) { row.compare(t, mode, answer, notes.notes, bare, bareNotes) })
				}
			})
		}
	}
	t.Logf("%d calls", calls)
}

func (row *srvRow) compare(t *testing.T, mode srvMode, got *srvAnswer, notes map[string]string, bare *srvAnswer, bareNotes map[string]string) {
	want := *bare
	want.header = bare.header.Clone()
	want.trailer = bare.trailer.Clone()
	wantNotes := maps.Clone(bareNotes)
	if row.body != nil && mode.request() {
		row.asOpened(wantNotes)
	}
	if row.broken {
		if got.err == nil {
			t.Errorf("got status %d and %d bytes; in plaintext the connection breaks", got.status, len(got.body))
		}
		if mode.response() && got.header != nil && len(got.body) > 0 {
			t.Errorf("%d bytes of a response that is not whole", len(got.body))
		}
		srvSameNotes(t, notes, wantNotes)
		return
	}
	if mode.response() && !row.outside {
		for _, name := range srvRemoved {
			want.header.Del(name)
		}
		want.header.Del("Sealed-Content-Type")
		want.header["Cache-Control"] = []string{"no-store, no-transform"}
		want.trailer = nil
		if got.err == nil && got.header.Get("Sealed-Error") == "" {
			got = got.open(t, row.verb())
		}
		if row.verb() == http.MethodHead || want.status == 204 || want.status == 205 || want.status == 304 {
			want.header.Del("Content-Type")
			if length := want.header.Get("Content-Length"); length == "0" && got.header.Get("Content-Length") != length {
				t.Errorf("Content-Length is %q, want %s", got.header["Content-Length"], length)
			}
		}
	} else if n := got.vary(); n != 1 && !row.ownVary {
		t.Errorf("Vary is %q", got.header["Vary"])
	}
	if row.wire != nil {
		row.wire(mode, &want, wantNotes)
	}
	if got.err != nil {
		t.Fatalf("no response: %v", got.err)
	}
	if got.status != want.status || got.proto != want.proto {
		t.Errorf("%s %d, want %s %d", got.proto, got.status, want.proto, want.status)
	}
	if !bytes.Equal(got.body, want.body) {
		t.Errorf("body of %d bytes %.300q, want %d bytes %.300q", len(got.body), got.body, len(want.body), want.body)
	}
	gotHeader, wantHeader := srvComparable(got.header), srvComparable(want.header)
	if !maps.EqualFunc(gotHeader, wantHeader, slices.Equal) {
		t.Errorf("header\n%v, want\n%v", gotHeader, wantHeader)
	}
	if !maps.EqualFunc(got.trailer, want.trailer, slices.Equal) {
		t.Errorf("trailer %v, want %v", got.trailer, want.trailer)
	}
	if !slices.Equal(got.hints, want.hints) {
		t.Errorf("hints %q, want %q", got.hints, want.hints)
	}
	srvSameNotes(t, notes, wantNotes)
}

// asOpened changes what a handler sees of a plaintext request into what it sees of
// an opened one: its length is always known.
func (row *srvRow) asOpened(notes map[string]string) {
	if _, has := notes["ContentLength"]; !has {
		return
	}
	n := strconv.Itoa(len(row.body))
	notes["ContentLength"] = strconv.Quote(n)
	notes["header Content-Length"] = strconv.Quote("[" + n + "]")
	notes["TransferEncoding"] = strconv.Quote("[]")
	notes["Trailer"] = strconv.Quote("map[] true")
	notes["Trailer afterwards"] = notes["Trailer"]
	delete(notes, "header Trailer")
	if row.content == "" {
		notes["header Content-Type"] = strconv.Quote("[application/json]")
	}
}

func srvSameNotes(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("the handler saw %s: %.500s, want %.500s", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, has := want[name]; !has {
			t.Errorf("the handler saw %s: %.500s, want none", name, got[name])
		}
	}
}

// srvComparable leaves out of a header what is compared otherwise.
func srvComparable(h http.Header) map[string][]string {
	out := maps.Clone(h)
	delete(out, "Content-Length") // is that of the body, which is compared
	if out["Date"] != nil && !strings.HasPrefix(out.Get("Date"), "Thu, 01 Jan 1970") {
		out["Date"] = []string{"now"}
	}
	if lines := slices.DeleteFunc(slices.Clone(out["Vary"]), func(line string) bool { return line == srvVary }); len(lines) > 0 {
		out["Vary"] = lines
	} else {
		delete(out, "Vary")
	}
	return out
}

// srvTimeout is for what never takes that long, unless it hangs.
const srvTimeout = 30 * time.Second

// srvWithin fails the test if f has not returned in time.
func srvWithin(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(srvTimeout):
		t.Fatalf("%s takes longer than %v", what, srvTimeout)
	}
}

// errSrv is for resolvers that fail.
var errSrv = errors.New("the database is down")
