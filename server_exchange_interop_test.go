package sealhttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// partyKey is one key as both implementations have it.
type partyKey struct {
	ours   *seal.PrivateKey
	theirs *exchangeparty.PrivateKey
}

func newPartyKey(t testing.TB, suite seal.Suite) *partyKey {
	t.Helper()
	ours := srvGenerate(suite)
	theirs, err := exchangeparty.NewPrivateKey(suite.String(), ours.ID(), ours.Bytes())
	srvCheck(t, err)
	return &partyKey{ours, theirs}
}

// partyCall is a call of internal/exchangeparty, an implementation of the exchange
// profile that shares no code with this module, over a real connection.
type partyCall struct {
	server *exchangeparty.PublicKey
	own    *exchangeparty.PrivateKey // nil for none
	host   *srvHost

	method, target string
	header         map[string]string // by lower-case names
	bind           []string
	info           []byte
	contentType    string
	records        []exchangeparty.Record // nil for no body
	id             [16]byte
	ts             int64
	authority      string // that the caller believes in
}

func (c partyCall) with(method, target string, records ...exchangeparty.Record) partyCall {
	c.method, c.target, c.records = method, target, records
	rand.Read(c.id[:])
	c.ts = time.Now().Unix()
	if c.authority == "" {
		c.authority = "127.0.0.1"
	}
	return c
}

// partyAnswer is a response that has authenticated.
type partyAnswer struct {
	exchangeparty.Response
	data    []byte
	records []exchangeparty.Record
	forKey  bool // it is sealed to the caller's key
}

var errPartyRefuses = errors.New("no answer of the server's")

// request makes the HTTP request.
func (c *partyCall) request(t testing.TB) (*exchangeparty.Call, *http.Request) {
	t.Helper()
	header := map[string][]string{}
	for name, value := range c.header {
		header[name] = []string{value}
	}
	call, err := exchangeparty.NewCall(c.server, &exchangeparty.Request{
		Method: c.method, Host: c.authority, Target: c.target, Body: c.records != nil, ContentType: c.contentType, Info: c.info, Header: header,
	}, exchangeparty.RequestField{ID: c.id, Timestamp: c.ts, Bind: c.bind})
	srvCheck(t, err)
	var body io.Reader
	sent := http.Header{"Sealed-Exchange": {call.Field.String()}}
	if c.records != nil {
		body = bytes.NewReader(call.Body(c.records...))
		sent.Set("Content-Type", "application/sealed-exchange+hpke")
	}
	if c.contentType != "" {
		sent.Set("Sealed-Content-Type", c.contentType)
	}
	for name, value := range c.header {
		sent.Set(name, value)
	}
	return call, c.host.request(t, c.method, c.target, body, sent)
}

// open does what a caller must with a response. The error is errPartyRefuses if nothing
// of the response is to be believed.
func (c *partyCall) open(call *exchangeparty.Call, a *srvAnswer) (*partyAnswer, error) {
	f, err := exchangeparty.ParseResponseField(a.header["Sealed-Exchange"])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errPartyRefuses, err)
	}
	r := exchangeparty.Response{
		Status: a.status, Body: a.header.Get("Content-Type") == "application/sealed-exchange+hpke",
		ContentType: a.header.Get("Sealed-Content-Type"), Error: a.header.Get("Sealed-Error"),
	}
	if c.own != nil && f.CallerEnc == nil && r.Error != "no_client_key" && r.Error != "key_store_unavailable" {
		return nil, fmt.Errorf("%w: it is not for the caller's key", errPartyRefuses)
	}
	records, err := call.Open(f, c.own, &r, a.body)
	answer := &partyAnswer{r, exchangeparty.Data(records), records, f.CallerEnc != nil}
	if errors.Is(err, exchangeparty.ErrDecryptionFailed) && records == nil {
		return nil, fmt.Errorf("%w: %v", errPartyRefuses, err)
	}
	return answer, err
}

// do makes the call and fails the test unless it has an answer that authenticates.
func (c partyCall) do(t testing.TB) *partyAnswer {
	t.Helper()
	call, req := c.request(t)
	a := c.host.do(t, req)
	srvCheck(t, a.err)
	answer, err := c.open(call, a)
	if err != nil {
		t.Fatalf("%s %s: %v; status %d, header %v, body %.200q", c.method, c.target, err, a.status, a.header, a.body)
	}
	if lines := a.header["Cache-Control"]; !slices.Equal(lines, []string{"no-store, no-transform"}) {
		t.Errorf("%s %s: Cache-Control is %q", c.method, c.target, lines)
	}
	if answer.forKey != (c.own != nil) {
		t.Errorf("%s %s: sealed to the caller's key: %v", c.method, c.target, answer.forKey)
	}
	return answer
}

// partyService is a handler that answers with what it sees, or as its target says.
var partyService = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	switch r.URL.Path {
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
		return
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
		return
	case "/fails":
		w.Header().Set("Sealed-Error", "made up") // a handler's is removed
		http.Error(w, "it failed", http.StatusInternalServerError)
		return
	case "/empty":
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Seen", fmt.Sprintf("%s %d %v", r.Method, r.ContentLength, r.Header["Sealed-Exchange"]))
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body)
})

func partyMiddleware(t testing.TB, server *partyKey, caller *partyKey, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	opts = append([]sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	if caller != nil {
		opts = append(opts, srvClientKeys(caller.ours.Public()))
	} else {
		opts = append(opts, sealhttp.WithProfiles(sealhttp.ExchangeProfile))
	}
	m, err := sealhttp.New(srvKeys(server.ours), opts...)
	srvCheck(t, err)
	return m
}

// Every suite, with a caller key of every suite and with none, on both protocols.
func TestServerExchangeInterop(t *testing.T) {
	calls := 0
	long := bytes.Repeat([]byte("0123456789abcdef"), 3000)
	for _, proto := range srvProtos {
		swap := new(srvSwap)
		host := srvServe(t, proto, swap)
		for _, suite := range seal.Suites() {
			for _, callerSuite := range append(seal.Suites(), 0) {
				t.Run(fmt.Sprintf("%s/%v/caller %v", proto, suite, callerSuite), func(t *testing.T) {
					server := newPartyKey(t, suite)
					var caller *partyKey
					c := partyCall{server: server.theirs.Public(), host: host, info: []byte("info"), header: map[string]string{"authorization": "Bearer x", "idempotency-key": "17"}}
					if callerSuite != 0 {
						caller = newPartyKey(t, callerSuite)
						c.own = caller.theirs
					}
					swap.set(partyMiddleware(t, server, caller, sealhttp.WithInfo([]byte("info"), nil)).Handler(partyService))
					check := func(a *partyAnswer, status int, body bool, contentType, code, data string) {
						t.Helper()
						if a.Status != status || a.Body != body || a.ContentType != contentType || a.Error != code || string(a.data) != data {
							t.Errorf("status %d, body %v, type %q, error %q, %.80q", a.Status, a.Body, a.ContentType, a.Error, a.data)
						}
						calls++
					}
					for _, records := range [][]exchangeparty.Record{
						{{Data: []byte("all in one")}},
						{{}}, // a body of no bytes
						{{Data: []byte("a")}, {Data: []byte("b"), Padding: 900}, {Padding: 65535}},
						{{Data: long[:16384]}, {Data: long[16384:32768]}, {Data: long[32768:]}},
					} {
						post := c.with("POST", "/echo?a=b%20c&d", records...)
						post.contentType = "image/x-row"
						check(post.do(t), 201, true, "image/x-row", "", string(exchangeparty.Data(records)))
					}
					// Without a type it is the default one; a list of one's own, and in another order.
					put := c.with("PUT", "/echo", exchangeparty.Record{Data: []byte("x")})
					put.bind = partyBackward(exchangeparty.DefaultBind)
					check(put.do(t), 201, true, "application/json", "", "x")
					check(c.with("GET", "/echo").do(t), 201, true, "", "", "")
					check(c.with("DELETE", "/nothing").do(t), 204, false, "", "", "")
					check(c.with("HEAD", "/echo").do(t), 201, false, "", "", "")
					check(c.with("GET", "/fails").do(t), 500, true, "text/plain; charset=utf-8", "", "it failed\n")
					check(c.with("POST", "/empty", exchangeparty.Record{Data: []byte("x")}).do(t), 202, true, "", "", "")
					events := c.with("GET", "/events").do(t)
					check(events, 200, true, "text/event-stream", "", "data: 0\n\ndata: 1\n\ndata: 2\n\n")
					if len(events.records) != 4 { // one a flush, and the last
						t.Errorf("%d records for three flushes", len(events.records))
					}

					// Refusals of the server, sealed.
					once := c.with("POST", "/echo", exchangeparty.Record{Data: []byte("once")})
					check(once.do(t), 201, true, "application/json", "", "once")
					again := once.do(t) // the same id in another context
					check(again, 409, true, "application/problem+json", "replayed", string(again.data))
					short := c.with("GET", "/echo")
					short.bind = []string{"authorization"}
					missing := short.do(t)
					check(missing, 400, true, "application/problem+json", "binding_required", string(missing.data))
					old := c.with("GET", "/echo")
					old.ts -= 3600
					stale := old.do(t)
					check(stale, 400, true, "application/problem+json", "stale", string(stale.data))
					var problem struct{ Now int64 }
					if err := json.Unmarshal(stale.data, &problem); err != nil || problem.Now < old.ts+3590 || problem.Now > old.ts+3700 {
						t.Errorf("now is %d, %v", problem.Now, err)
					}
				})
			}
		}
	}
	if t.Logf("%d calls", calls); calls != 2*6*7*15 {
		t.Errorf("want %d", 2*6*7*15)
	}
}

// A caller whose key is not registered, or cannot be found, is told so in a response
// that only its own context opens.
func TestServerExchangeInteropWithoutClientKey(t *testing.T) {
	for err, want := range map[error]partyAnswer{
		sealhttp.ErrNoClientKey:   {Response: exchangeparty.Response{Status: 406, Error: "no_client_key"}},
		errors.New("unreachable"): {Response: exchangeparty.Response{Status: 503, Error: "key_store_unavailable"}},
	} {
		server := newPartyKey(t, seal.P256AES128GCM)
		m := partyMiddleware(t, server, nil, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, err })))
		c := partyCall{server: server.theirs.Public(), own: newPartyKey(t, seal.X25519AES256GCM).theirs, host: srvServe(t, "HTTP/2.0", m.Handler(partyService))}.with("GET", "/echo")
		call, req := c.request(t)
		answer, openErr := c.open(call, c.host.do(t, req))
		if openErr != nil {
			t.Fatal(openErr)
		}
		if answer.Status != want.Status || answer.Error != want.Error || answer.forKey {
			t.Errorf("%v: status %d, %q, for the caller's key: %v", err, answer.Status, answer.Error, answer.forKey)
		}
	}
}

// A gateway that terminates TLS, rewrites Host, cuts a prefix off the path, speaks
// HTTP/1.1 to the service and adds the fields that gateways add.
func TestServerExchangeInteropBehindAGateway(t *testing.T) {
	server, caller := newPartyKey(t, seal.XWingAES256GCM), newPartyKey(t, seal.P256AES256GCM)
	m := partyMiddleware(t, server, caller, sealhttp.WithAuthority("API.example.com:443"), sealhttp.WithTargetPrefix("/public"))
	origin := srvServe(t, "HTTP/1.1", m.Handler(partyService))
	to, err := url.Parse(origin.URL)
	srvCheck(t, err)
	gateway := &httputil.ReverseProxy{
		Transport: origin.client.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
			r.Out.Host = "internal-7.cluster.local"
			r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, "/public")
			r.Out.Header.Set("Via", "2 gateway")
			r.Out.Header.Set("Cookie", "gateway=1")
			r.Out.Header.Set("User-Agent", "gateway")
		},
	}
	for _, proto := range srvProtos {
		c := partyCall{server: server.theirs.Public(), own: caller.theirs, host: srvServe(t, proto, gateway), authority: "api.example.com"}
		data := bytes.Repeat([]byte("x"), 50000)
		a := c.with("POST", "/public/echo?q=1", exchangeparty.Record{Data: data[:16384]}, exchangeparty.Record{Data: data[:16384]}, exchangeparty.Record{Data: data[:1000]}).do(t)
		if a.Status != 201 || len(a.data) != 2*16384+1000 {
			t.Errorf("status %d, %d bytes", a.Status, len(a.data))
		}
		if a := c.with("GET", "/public/events").do(t); a.Status != 200 || !strings.HasSuffix(string(a.data), "data: 2\n\n") {
			t.Errorf("status %d, %q", a.Status, a.data)
		}
	}
}

// partyHop ends TLS between the two sides, and reads and changes what it likes.
type partyHop struct {
	next    http.Handler
	request func(r *http.Request, body []byte) []byte
	answer  func(a *partyHopAnswer)
}

type partyHopAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (h *partyHop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if h.request != nil {
		body = h.request(r, body)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if r.Method == "HEAD" || r.Method == "GET" {
		r.Body = http.NoBody
	}
	a := &partyHopAnswer{status: 200, header: http.Header{}}
	recorder := &partyRecorder{a: a}
	h.next.ServeHTTP(recorder, r)
	if h.answer != nil {
		h.answer(a)
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

type partyRecorder struct{ a *partyHopAnswer }

func (r *partyRecorder) Header() http.Header    { return r.a.header }
func (r *partyRecorder) WriteHeader(status int) { r.a.status = status }
func (r *partyRecorder) Write(p []byte) (int, error) {
	r.a.body = append(r.a.body, p...)
	return len(p), nil
}

// What a hop changes of an answer, whole answers to others among it, is either not an
// answer to this caller or, in the middle of a body, the end of what is believed.
func TestServerExchangeHostileAnswers(t *testing.T) {
	server, caller, thief := newPartyKey(t, seal.X25519AES256GCM), newPartyKey(t, seal.X25519AES256GCM), newPartyKey(t, seal.X25519AES256GCM)
	keys := sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
		if r.Header.Get("Authorization") == "Bearer thief" {
			return thief.ours.Public(), nil
		}
		return caller.ours.Public(), nil
	}))
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "part %d of %s;", i, r.URL.Path)
			w.(http.Flusher).Flush()
		}
	})
	hop := &partyHop{next: partyMiddleware(t, server, nil, keys).Handler(service)}
	host := srvServe(t, "HTTP/2.0", hop)
	c := partyCall{server: server.theirs.Public(), own: caller.theirs, host: host, header: map[string]string{"authorization": "Bearer x"}}
	const text = "part 0 of /a;part 1 of /a;part 2 of /a;"

	// What the hop has: an answer to another call of this caller, and one to its own.
	var other, own *partyHopAnswer
	hop.answer = func(a *partyHopAnswer) { other = a }
	c.with("GET", "/a").do(t)
	hop.answer = func(a *partyHopAnswer) { own = a }
	stolen := c
	stolen.own, stolen.header = thief.theirs, map[string]string{"authorization": "Bearer thief"}
	stolen.with("GET", "/a").do(t)

	cuts := func(body []byte) (records [][]byte) {
		for len(body) > 0 {
			records = append(records, body[:1+int(body[0])]) // all are short
			body = body[1+int(body[0]):]
		}
		return records
	}
	cases := []struct {
		name     string
		change   func(a *partyHopAnswer)
		readable string // "" if nothing of the answer is to be believed
	}{
		{"another status", func(a *partyHopAnswer) { a.status = 201 }, ""},
		{"204 with the body gone", func(a *partyHopAnswer) { a.status = 204; a.body = nil; delete(a.header, "Content-Type") }, ""},
		{"the body gone", func(a *partyHopAnswer) { a.body = nil; delete(a.header, "Content-Type") }, ""},
		{"another type", func(a *partyHopAnswer) { a.header.Set("Sealed-Content-Type", "text/html") }, ""},
		{"no type", func(a *partyHopAnswer) { delete(a.header, "Sealed-Content-Type") }, ""},
		{"an error", func(a *partyHopAnswer) { a.header.Set("Sealed-Error", "replayed") }, ""},
		{"no field", func(a *partyHopAnswer) { delete(a.header, "Sealed-Exchange") }, ""},
		{"two fields", func(a *partyHopAnswer) { a.header.Add("Sealed-Exchange", a.header.Get("Sealed-Exchange")) }, ""},
		{"plaintext", func(a *partyHopAnswer) { a.header = http.Header{"Content-Type": {"text/plain"}}; a.body = []byte(text) }, ""},
		{"a message", func(a *partyHopAnswer) {
			a.body, _ = caller.ours.Public().Seal(nil, []byte(text), nil)
			a.header = http.Header{"Content-Type": {sealhttp.MediaType}}
		}, ""},
		{"the answer to another call", func(a *partyHopAnswer) { *a = *other }, ""},
		{"the answer to the hop's own call", func(a *partyHopAnswer) { *a = *own }, ""},
		{"the field of another answer", func(a *partyHopAnswer) { a.header.Set("Sealed-Exchange", other.header.Get("Sealed-Exchange")) }, ""},
		{"without the caller's key", func(a *partyHopAnswer) {
			f, _ := exchangeparty.ParseResponseField(a.header["Sealed-Exchange"])
			f.CallerEnc = nil
			a.header.Set("Sealed-Exchange", f.String())
		}, ""},
		{"the records of another answer", func(a *partyHopAnswer) { a.body = other.body }, "-"},
		{"cut after the first record", func(a *partyHopAnswer) { a.body = cuts(a.body)[0] }, "part 0 of /a;"},
		{"cut before the last record", func(a *partyHopAnswer) { all := cuts(a.body); a.body = bytes.Join(all[:len(all)-1], nil) }, text},
		{"a record left out", func(a *partyHopAnswer) { all := cuts(a.body); a.body = slices.Concat(all[0], all[2], all[3]) }, "part 0 of /a;"},
		{"records swapped", func(a *partyHopAnswer) { all := cuts(a.body); a.body = slices.Concat(all[0], all[2], all[1], all[3]) }, "part 0 of /a;"},
		{"a record twice", func(a *partyHopAnswer) { all := cuts(a.body); a.body = slices.Concat(all[0], all[0], all[1]) }, "part 0 of /a;"},
		{"a record of another answer", func(a *partyHopAnswer) { all := cuts(a.body); a.body = slices.Concat(all[0], cuts(other.body)[1]) }, "part 0 of /a;"},
		{"bytes behind the last", func(a *partyHopAnswer) { a.body = append(a.body, 0) }, text},
		{"a bit of the last", func(a *partyHopAnswer) { a.body[len(a.body)-1] ^= 1 }, text},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			hop.answer = func(a *partyHopAnswer) {
				a.body = bytes.Clone(a.body)
				k.change(a)
			}
			call := c.with("GET", "/a")
			sent, req := call.request(t)
			a := host.do(t, req)
			srvCheck(t, a.err)
			answer, err := call.open(sent, a)
			switch {
			case err == nil:
				t.Errorf("taken: %+v", answer)
			case k.readable == "" && !errors.Is(err, errPartyRefuses):
				t.Errorf("%v", err)
			case answer != nil && string(answer.data) != strings.Trim(k.readable, "-"):
				t.Errorf("%q, %v", answer.data, err)
			}
		})
	}
	hop.answer = nil
	if a := c.with("GET", "/a").do(t); string(a.data) != text {
		t.Errorf("unchanged: %q", a.data)
	}
}

// A request that a hop has recorded or changed is executed once at most, as it was made,
// and under the account that made it.
func TestServerExchangeHostileRequests(t *testing.T) {
	server := newPartyKey(t, seal.X25519ChaCha20Poly1305)
	var executed []string
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		executed = append(executed, fmt.Sprintf("%s %s %s %s %s", r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body))
		_, _ = w.Write([]byte("done"))
	})
	hop := &partyHop{next: partyMiddleware(t, server, nil).Handler(service)}
	host := srvServe(t, "HTTP/1.1", hop)
	c := partyCall{server: server.theirs.Public(), host: host, contentType: "text/plain", header: map[string]string{"authorization": "Bearer x", "if-match": `"1"`}}
	cases := []struct {
		name   string
		change func(r *http.Request, body []byte) []byte
		status int
		code   string
	}{
		{"method", func(r *http.Request, b []byte) []byte { r.Method = "PUT"; return b }, 400, "decryption_failed"},
		{"path", func(r *http.Request, b []byte) []byte { r.RequestURI = "/other"; return b }, 400, "decryption_failed"},
		{"query", func(r *http.Request, b []byte) []byte { r.RequestURI += "&b=2"; return b }, 400, "decryption_failed"},
		{"fragment", func(r *http.Request, b []byte) []byte { r.RequestURI += "#&b=2"; return b }, 400, "malformed"},
		{"another's absolute form", func(r *http.Request, b []byte) []byte {
			r.RequestURI = "http://another.example" + r.RequestURI
			return b
		}, 400, "malformed"},
		{"port", func(r *http.Request, b []byte) []byte { r.Host += ".another.example"; return b }, 400, "malformed"},
		{"host", func(r *http.Request, b []byte) []byte { r.Host = "another.example"; return b }, 400, "decryption_failed"},
		{"account", func(r *http.Request, b []byte) []byte { r.Header.Set("Authorization", "Bearer thief"); return b }, 400, "decryption_failed"},
		{"account dropped", func(r *http.Request, b []byte) []byte { r.Header.Del("Authorization"); return b }, 400, "decryption_failed"},
		{"account twice", func(r *http.Request, b []byte) []byte { r.Header.Add("Authorization", "Bearer thief"); return b }, 400, "malformed"},
		{"precondition dropped", func(r *http.Request, b []byte) []byte { r.Header.Del("If-Match"); return b }, 400, "decryption_failed"},
		{"precondition added", func(r *http.Request, b []byte) []byte { r.Header.Set("If-None-Match", "*"); return b }, 400, "decryption_failed"},
		{"key of the idempotency", func(r *http.Request, b []byte) []byte { r.Header.Set("Idempotency-Key", "18"); return b }, 400, "decryption_failed"},
		{"method override", func(r *http.Request, b []byte) []byte { r.Header.Set("X-HTTP-Method-Override", "DELETE"); return b }, 400, "decryption_failed"},
		{"type", func(r *http.Request, b []byte) []byte { r.Header.Set("Sealed-Content-Type", "text/html"); return b }, 400, "decryption_failed"},
		{"body dropped", func(r *http.Request, b []byte) []byte { r.Header.Del("Content-Type"); return nil }, 400, "decryption_failed"},
		{"body of another type", func(r *http.Request, b []byte) []byte { r.Header.Set("Content-Type", "text/plain"); return b }, 400, "malformed"},
		{"body emptied", func(r *http.Request, b []byte) []byte { return nil }, 400, "request_incomplete"},
		{"body changed", func(r *http.Request, b []byte) []byte { b[len(b)-1] ^= 1; return b }, 400, "request_incomplete"},
		{"body cut", func(r *http.Request, b []byte) []byte { return b[:len(b)-1] }, 400, "request_incomplete"},
		{"body lengthened", func(r *http.Request, b []byte) []byte { return append(b, 0) }, 400, "request_incomplete"},
		{"field twice", func(r *http.Request, b []byte) []byte {
			r.Header.Add("Sealed-Exchange", r.Header.Get("Sealed-Exchange"))
			return b
		}, 400, "malformed"},
		{"field gone", func(r *http.Request, b []byte) []byte { r.Header.Del("Sealed-Exchange"); return b }, 400, "malformed"},
		{"another time", func(r *http.Request, b []byte) []byte {
			field := r.Header.Get("Sealed-Exchange")
			at := strings.Index(field, "ts=")
			r.Header.Set("Sealed-Exchange", field[:at+3]+strconv.FormatInt(time.Now().Unix()+7, 10)+field[strings.Index(field[at:], ",")+at:])
			return b
		}, 400, "decryption_failed"},
		{"version 2", func(r *http.Request, b []byte) []byte {
			r.Header.Set("Sealed-Exchange", strings.Replace(r.Header.Get("Sealed-Exchange"), "v=1", "v=2", 1))
			return b
		}, 415, "unsupported_profile"},
		{"nothing", nil, 200, ""},
		{"things that change on the way", func(r *http.Request, b []byte) []byte {
			r.Header.Set("Cookie", "a=b")
			r.Header.Set("Via", "1.1 hop")
			r.Header.Set("Accept", "text/html")
			r.Header.Set("User-Agent", "hop")
			r.RequestURI = "http://127.0.0.1" + r.RequestURI
			return b
		}, 200, ""},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			executed = nil
			hop.request = k.change
			call := c.with("POST", "/a?b=1", exchangeparty.Record{Data: []byte("body")})
			sent, req := call.request(t)
			a := host.do(t, req)
			srvCheck(t, a.err)
			if a.status != k.status || a.header.Get("Sealed-Error") != k.code {
				t.Errorf("status %d, %q, %.200q", a.status, a.header.Get("Sealed-Error"), a.body)
			}
			answer, err := call.open(sent, a)
			if sealed := k.code == "" || k.code == "request_incomplete"; (err == nil) != sealed {
				t.Errorf("%+v, %v", answer, err)
			}
			var want []string
			if k.status == 200 {
				want = []string{"POST " + req.URL.RequestURI() + " Bearer x text/plain body"}
				for i := range executed { // a gateway may use the absolute form
					executed[i] = strings.Replace(executed[i], "http://127.0.0.1", "", 1)
				}
			}
			if !slices.Equal(executed, want) {
				t.Errorf("executed %q, want %q", executed, want)
			}
		})
	}

	// The same bytes again, later, and as often as the hop likes.
	executed = nil
	var recorded []*http.Request
	var bodies [][]byte
	hop.request = func(r *http.Request, body []byte) []byte {
		recorded = append(recorded, r.Clone(context.Background()))
		bodies = append(bodies, bytes.Clone(body))
		return body
	}
	c.with("POST", "/a", exchangeparty.Record{Data: []byte("body")}).do(t)
	for range 3 {
		r := recorded[0].Clone(t.Context())
		r.Body = io.NopCloser(bytes.NewReader(bodies[0]))
		a := &partyHopAnswer{header: http.Header{}}
		hop.next.ServeHTTP(&partyRecorder{a}, r)
		if a.status != 409 || a.header.Get("Sealed-Error") != "replayed" {
			t.Errorf("status %d, header %v", a.status, a.header)
		}
	}
	if len(executed) != 1 {
		t.Errorf("executed %d times", len(executed))
	}
}

// partyBackward returns names in the other order, and one more.
func partyBackward(names []string) []string {
	backward := slices.Clone(names)
	slices.Reverse(backward)
	return append(backward, "x-absent")
}
