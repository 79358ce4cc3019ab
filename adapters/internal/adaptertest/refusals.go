package adaptertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"testing"

	"github.com/coder/websocket"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// refusal is a call that is not served, or whose response cannot be sealed.
type refusal struct {
	name    string
	options []sealhttp.Option
	keys    sealhttp.ServerKeys // nil: those of NewMiddleware
	method  string
	target  string
	header  http.Header // Accept asks for a sealed response unless it is here
	body    []byte
	chunked bool
	status  int
	code    sealhttp.Code
	served  bool // the handler runs
}

var errUnavailable = errors.New("the database is down")

// refusals are all codes of the message profile, each for all that leads to it.
func refusals(t testing.TB) []refusal {
	t.Helper()
	policy := func(p sealhttp.Policy, err error) []sealhttp.Option {
		return []sealhttp.Option{sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return p, err })}
	}
	limit := []sealhttp.Option{sealhttp.WithMaxRequestBytes(10)}
	message := sealed(t, person)
	changed := bytes.Clone(message)
	changed[len(changed)-1] ^= 1
	unknown, err := mustGenerate().Public().Seal(nil, person, nil)
	if err != nil {
		t.Fatal(err)
	}
	isSealed := http.Header{"Content-Type": {sealhttp.MediaType}}
	isPlain := http.Header{"Content-Type": {"application/json"}}
	inClear := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	with := func(h http.Header, name string, lines ...string) http.Header {
		h = h.Clone()
		h[name] = lines
		return h
	}
	post := func(r refusal) refusal {
		r.method, r.target = http.MethodPost, "/echo"
		if r.body == nil {
			r.body = message
		}
		if r.header == nil {
			r.header = isSealed
		}
		return r
	}
	get := func(r refusal) refusal {
		r.method = http.MethodGet
		if r.target == "" {
			r.target = "/text"
		}
		if r.header == nil {
			r.header = http.Header{}
		}
		return r
	}
	return []refusal{
		post(refusal{name: "too short", body: []byte("short"), status: 400, code: sealhttp.CodeMalformed}),
		post(refusal{name: "two types", header: with(isSealed, "Content-Type", sealhttp.MediaType, "application/json"), status: 400, code: sealhttp.CodeMalformed}),
		post(refusal{name: "two plaintext types", header: with(isSealed, "Sealed-Content-Type", "application/json", "text/plain"), status: 400, code: sealhttp.CodeMalformed}),
		post(refusal{name: "changed", body: changed, status: 400, code: sealhttp.CodeDecryptionFailed}),
		post(refusal{name: "changed, to a missing route", body: changed, target: "/missing", status: 400, code: sealhttp.CodeDecryptionFailed}),
		post(refusal{name: "unknown key", body: unknown, status: 400, code: sealhttp.CodeUnknownKey}),
		post(refusal{name: "plaintext under RequestRequired", options: policy(sealhttp.RequestRequired, nil), header: isPlain, body: person, status: 415, code: sealhttp.CodeEncryptionRequired}),
		post(refusal{name: "plaintext under Required", options: policy(sealhttp.Required, nil), header: inClear, body: person, status: 415, code: sealhttp.CodeEncryptionRequired}),
		post(refusal{name: "no body under Required", options: policy(sealhttp.Required, nil), body: []byte{}, status: 415, code: sealhttp.CodeEncryptionRequired}),
		post(refusal{name: "sealed body, reply in plaintext under Required", options: policy(sealhttp.Required, nil), header: with(isSealed, "Accept", "*/*"), status: 406, code: sealhttp.CodeEncryptionRequired}),
		get(refusal{name: "reply in plaintext under Required", options: policy(sealhttp.Required, nil), header: http.Header{"Accept": {"*/*"}}, status: 406, code: sealhttp.CodeEncryptionRequired}),
		post(refusal{name: "sealed body under Disabled", options: policy(sealhttp.Disabled, nil), status: 415, code: sealhttp.CodeEncryptionDisabled}),
		get(refusal{name: "sealed reply under Disabled", options: policy(sealhttp.Disabled, nil), status: 406, code: sealhttp.CodeEncryptionDisabled}),
		post(refusal{name: "exchange type", header: with(isSealed, "Content-Type", sealhttp.ExchangeMediaType), status: 400, code: sealhttp.CodeMalformed}),
		get(refusal{name: "exchange field", header: http.Header{"Sealed-Exchange": {"v=2"}}, status: 415, code: sealhttp.CodeUnsupportedProfile}),
		post(refusal{name: "compressed", header: with(isSealed, "Content-Encoding", "gzip"), status: 415, code: sealhttp.CodeUnsupportedProfile}),
		get(refusal{name: "caller without a key", header: http.Header{"X-Account": {"initech"}}, status: 406, code: sealhttp.CodeNoClientKey}),
		get(refusal{name: "no account", header: http.Header{"X-Account": nil}, status: 406, code: sealhttp.CodeNoClientKey}),
		post(refusal{name: "too large by its length", options: limit, status: 413, code: sealhttp.CodeTooLarge}),
		post(refusal{name: "too large in chunks", options: limit, chunked: true, status: 413, code: sealhttp.CodeTooLarge}),
		post(refusal{name: "much too large", options: limit, body: Large, status: 413, code: sealhttp.CodeTooLarge}),
		get(refusal{name: "policy not found out", options: policy(sealhttp.Optional, errUnavailable), status: 503, code: sealhttp.CodePolicyUnavailable}),
		get(refusal{name: "zero policy", options: policy(0, nil), status: 503, code: sealhttp.CodePolicyUnavailable}),
		get(refusal{name: "policy that does not exist", options: policy(99, nil), header: http.Header{"Accept": {"*/*"}}, status: 503, code: sealhttp.CodePolicyUnavailable}),
		get(refusal{name: "server's keys not found out", status: 503, code: sealhttp.CodeKeyStoreUnavailable, keys: sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			return nil, errUnavailable
		})}),
		get(refusal{name: "caller's key not found out", status: 503, code: sealhttp.CodeKeyStoreUnavailable, options: []sealhttp.Option{
			sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, errUnavailable })),
		}}),
		get(refusal{name: "info not found out", status: 503, code: sealhttp.CodeKeyStoreUnavailable, options: []sealhttp.Option{
			sealhttp.WithInfoFunc(func(*http.Request) (request, response []byte, err error) { return nil, nil, errUnavailable }),
		}}),
		get(refusal{name: "response too large", target: "/large", options: []sealhttp.Option{sealhttp.WithMaxResponseBytes(1000)}, status: 500, code: sealhttp.CodeResponseTooLarge, served: true}),
		get(refusal{name: "response compressed", target: "/gzipped", status: 500, code: sealhttp.CodeUnsupportedContentEncoding, served: true}),
	}
}

// RunRefusals refuses calls for every reason, rendered by sealhttp and by the router.
func RunRefusals(t *testing.T, router Router) {
	calls := 0
	for _, r := range refusals(t) {
		t.Run(r.name, func(t *testing.T) {
			for _, proto := range Protocols {
				for _, render := range []bool{false, true} {
					name := proto + " by sealhttp"
					if render {
						name = proto + " by the router"
					}
					t.Run(name, func(t *testing.T) { r.run(t, router, proto, render) })
					calls++
				}
			}
		})
	}
	t.Logf("%s: %d calls refused", router.Name, calls)
}

func (r *refusal) run(t *testing.T, router Router, proto string, render bool) {
	var events []sealhttp.Event
	options := append([]sealhttp.Option{
		sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
		sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }),
	}, r.options...)
	site := &Site{M: NewMiddleware(t, options...), Render: render}
	if r.keys != nil {
		m, err := sealhttp.New(r.keys, options...)
		if err != nil {
			t.Fatal(err)
		}
		site.M = m
	}
	c := call{method: r.method, target: r.target, header: r.header.Clone(), body: r.body, chunked: r.chunked}
	if c.header["Accept"] == nil {
		c.header.Set("Accept", sealhttp.MediaType)
	}
	if _, has := c.header["X-Account"]; !has {
		c.header.Set("X-Account", Account)
	}
	got := do(t, router, site, proto, c)
	if got.Err != nil {
		t.Fatalf("no whole response: %v", got.Err)
	}
	if got.Status != r.status || got.Header.Get("Sealed-Error") != string(r.code) {
		t.Errorf("refused with %d %q, want %d %q", got.Status, got.Header.Get("Sealed-Error"), r.status, r.code)
	}
	if bytes.Contains(got.Out, []byte(Canary)) {
		t.Error("the canary is in a refusal")
	}
	if n := headers(got.Out); proto == Protocols[0] && n != 1 {
		t.Errorf("%d responses on the socket", n)
	}
	if (got.Sight != nil) != r.served {
		t.Errorf("the handler ran: %t, want %t", got.Sight != nil, r.served)
	}
	if got.Logged != nil && *got.Logged != (Logged{got.Status, int64(len(got.Body))}) {
		t.Errorf("the router's accounting says %+v, on the wire is %d with %d bytes", *got.Logged, got.Status, len(got.Body))
	}
	r.checkHeader(t, got, render)
	body := json.NewDecoder(bytes.NewReader(got.Body))
	var v map[string]any
	if err := body.Decode(&v); err != nil {
		t.Errorf("the body %q: %v", got.Body, err)
	}
	if err := body.Decode(&v); err != io.EOF {
		t.Errorf("more than one body: %q", got.Body)
	}
	if bytes.Count(got.Body, []byte(r.code)) < 1 {
		t.Errorf("the body does not name the code: %q", got.Body)
	}
	if len(events) != 1 || events[0].Code != r.code || events[0].Status != r.status {
		t.Errorf("observed %+v, want one event of %q", events, r.code)
	}
}

func (r *refusal) checkHeader(t *testing.T, got *Answer, render bool) {
	h := got.Header
	if isProblem := h.Get("Content-Type") == "application/problem+json"; isProblem == render {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	if h.Get("Cache-Control") != "no-store, no-transform" {
		t.Errorf("Cache-Control %q", h.Get("Cache-Control"))
	}
	if !slices.Contains(tokens(h["Vary"]), "sealed-exchange") {
		t.Errorf("Vary %q", h["Vary"])
	}
	if (h.Get("Retry-After") != "") != (r.status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After %q with %d", h.Get("Retry-After"), r.status)
	}
	for _, name := range []string{"Content-Encoding", "Sealed-Content-Type", "Etag"} {
		if h[name] != nil {
			t.Errorf("a refusal has %s: %q", name, h[name])
		}
	}
}

// RunWebSocket upgrades a connection behind the middleware, where that is in plaintext,
// and is refused where the response is to be sealed.
func RunWebSocket(t *testing.T, router Router) {
	dial := func(t *testing.T, header http.Header) (*host, *websocket.Conn, *http.Response, error) {
		h := serve(t, router.New(&Site{M: NewMiddleware(t)}))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		t.Cleanup(cancel)
		header.Set("X-Account", Account)
		transport, closeAll := newTransport(Protocols[0])
		t.Cleanup(closeAll)
		conn, resp, err := websocket.Dial(ctx, "ws://"+h.addr+"/websocket", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header,
		})
		return h, conn, resp, err
	}
	t.Run("plain", func(t *testing.T) {
		_, conn, _, err := dial(t, http.Header{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(Canary)); err != nil {
			t.Fatal(err)
		}
		if _, message, err := conn.Read(t.Context()); err != nil || string(message) != Canary {
			t.Errorf("the message came back as %q, %v", message, err)
		}
		if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("sealed", func(t *testing.T) {
		h, _, resp, err := dial(t, http.Header{"Accept": {sealhttp.MediaType}})
		if err == nil || resp == nil {
			t.Fatalf("upgraded, though the response is to be sealed: %v, %v", resp, err)
		}
		if resp.StatusCode != http.StatusNotImplemented || resp.Header.Get("Content-Type") != sealhttp.MediaType {
			t.Errorf("answered with %d, %v", resp.StatusCode, resp.Header)
		}
		h.settle(t, "handlers", &h.handlers)
	})
}
