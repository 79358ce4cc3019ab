package sealhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// policyTable is what becomes of every call.
//
// A body is none, plain, or sealed. A sealed reply is "no": not named in Accept;
// "q=0": refused there; "lower": accepted, but something else preferred; "asked".
//
//	plain           the handler gets the call as it is, and answers in plaintext
//	opened          the handler gets the opened request, and answers in plaintext
//	sealed          the handler gets the call as it is, its response is sealed
//	opened, sealed  both
//	415, 406        refused with this status and code, the handler does not run
//
// Where the response would be sealed, and there is no key of the caller's to seal
// it to, the call is refused with 406 no_client_key.
const policyTable = `
body   | reply | method                        | Disabled                | Optional       | RequestRequired         | Required
none   | no    | GET HEAD DELETE OPTIONS PURGE | plain                   | plain          | plain                   | 406 encryption_required
none   | no    | POST PUT PATCH                | plain                   | plain          | 415 encryption_required | 415 encryption_required
none   | q=0   | GET HEAD DELETE OPTIONS PURGE | plain                   | plain          | plain                   | 406 encryption_required
none   | q=0   | POST PUT PATCH                | plain                   | plain          | 415 encryption_required | 415 encryption_required
none   | lower | GET HEAD DELETE OPTIONS PURGE | plain                   | plain          | plain                   | sealed
none   | lower | POST PUT PATCH                | plain                   | plain          | 415 encryption_required | 415 encryption_required
none   | asked | GET HEAD DELETE OPTIONS PURGE | 406 encryption_disabled | sealed         | sealed                  | sealed
none   | asked | POST PUT PATCH                | 406 encryption_disabled | sealed         | 415 encryption_required | 415 encryption_required
plain  | no    | any                           | plain                   | plain          | 415 encryption_required | 415 encryption_required
plain  | q=0   | any                           | plain                   | plain          | 415 encryption_required | 415 encryption_required
plain  | lower | any                           | plain                   | plain          | 415 encryption_required | 415 encryption_required
plain  | asked | any                           | 406 encryption_disabled | sealed         | 415 encryption_required | 415 encryption_required
sealed | no    | any                           | 415 encryption_disabled | opened         | opened                  | 406 encryption_required
sealed | q=0   | any                           | 415 encryption_disabled | opened         | opened                  | 406 encryption_required
sealed | lower | any                           | 415 encryption_disabled | opened         | opened                  | opened, sealed
sealed | asked | any                           | 415 encryption_disabled | opened, sealed | opened, sealed          | opened, sealed
`

var (
	policyAll     = []sealhttp.Policy{sealhttp.Disabled, sealhttp.Optional, sealhttp.RequestRequired, sealhttp.Required}
	policyMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"}
	policyAccept  = map[string][]string{
		"no":    {"application/json", "*/*;q=0.5"},
		"q=0":   {sealhttp.MediaType + ";q=0", "*/*"},
		"lower": {sealhttp.MediaType + ";q=0.8, application/json"},
		"asked": {"application/json;q=0.8", sealhttp.MediaType},
	}
)

const (
	policyPlaintext = `{"question":"?"}`
	policyAnswer    = "the answer"
)

// policyCallers are what the Middleware knows of the caller's key.
var policyCallers = []string{"registered", "none registered", "no ClientKeys"}

// policySight is what a handler saw.
type policySight struct {
	method      string
	body        string
	length      int64
	contentType []string
	inner       []string // Sealed-Content-Type
	accept      []string
	info        sealhttp.CallInfo
	sealed      bool // what FromContext reports
}

// policyHandler notes what it sees.
type policyHandler struct {
	mu   sync.Mutex
	seen []policySight
}

func (h *policyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	sight := policySight{
		method:      r.Method,
		body:        string(body),
		length:      r.ContentLength,
		contentType: r.Header["Content-Type"],
		inner:       r.Header["Sealed-Content-Type"],
		accept:      r.Header["Accept"],
	}
	sight.info, sight.sealed = sealhttp.FromContext(r.Context())
	h.mu.Lock()
	h.seen = append(h.seen, sight)
	h.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, policyAnswer)
}

// take returns what the handler saw since it was last asked.
func (h *policyHandler) take() []policySight {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = nil
	return seen
}

// TestPolicyTable makes every call that the table has a row for, over HTTP/1.1 and
// HTTP/2.
func TestPolicyTable(t *testing.T) {
	var lookups, policies atomic.Int32
	h := new(policyHandler)
	mux := http.NewServeMux()
	for _, p := range policyAll {
		for i, caller := range policyCallers {
			opts := []sealhttp.Option{sealhttp.WithPolicy(p)}
			if caller == "no ClientKeys" {
				// New refuses a static Required without ClientKeys.
				opts = []sealhttp.Option{sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) {
					policies.Add(1)
					return p, nil
				})}
			} else {
				opts = append(opts, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) {
					lookups.Add(1)
					if caller == "registered" {
						return negoCallerKey.Public(), nil
					}
					return nil, sealhttp.ErrNoClientKey
				})))
			}
			m, err := sealhttp.New(negoKeys(negoServerKey), append(opts, optionsQuiet)...)
			if err != nil {
				t.Fatal(err)
			}
			mux.Handle(fmt.Sprintf("/%v/%d", p, i), m.Handler(h))
		}
	}
	message := negoSeal(t, negoServerKey, policyPlaintext)

	for _, srv := range negoServers(t, mux) {
		t.Run(srv.proto, func(t *testing.T) {
			n := 0
			for _, line := range strings.Split(strings.TrimSpace(policyTable), "\n")[1:] {
				cells := strings.Split(line, "|")
				for i := range cells {
					cells[i] = strings.TrimSpace(cells[i])
				}
				body, reply, methods := cells[0], cells[1], strings.Fields(cells[2])
				if cells[2] == "any" {
					methods = policyMethods
				}
				t.Run(fmt.Sprintf("%s/%s/%s", body, reply, methods[0]), func(t *testing.T) {
					for i, p := range policyAll {
						for caller := range policyCallers {
							for _, method := range methods {
								n++
								req := policyRequest(t, method, fmt.Sprintf("%s/%v/%d", srv.url, p, caller), body, message)
								req.Header["Accept"] = policyAccept[reply]
								lookups.Store(0)
								policies.Store(0)
								resp, content := srv.do(t, req)
								call := policyCall{method, body, reply, policyCallers[caller], cells[3+i], resp, content, h.take()}
								if err := call.check(t); err != nil {
									t.Errorf("%v, %s: %s: %v", p, policyCallers[caller], method, err)
								}
								// Keys are looked up only where a response is to be sealed, once.
								due := int32(0)
								if strings.HasSuffix(cells[3+i], "sealed") && policyCallers[caller] != "no ClientKeys" {
									due = 1
								}
								if got := lookups.Load(); got != due {
									t.Errorf("%v, %s: %s: the caller's key was looked up %d times, want %d", p, policyCallers[caller], method, got, due)
								}
								if got := policies.Load(); policyCallers[caller] == "no ClientKeys" && got != 1 {
									t.Errorf("%v: %s: the policy was asked for %d times", p, method, got)
								}
							}
						}
					}
				})
			}
			if want := 3 * 4 * len(policyMethods) * len(policyAll) * len(policyCallers); n != want {
				t.Errorf("the table has %d calls, want %d", n, want)
			}
		})
	}
}

// policyRequest makes a request with a body that is none, plain or sealed.
func policyRequest(t testing.TB, method, url, body string, message []byte) *http.Request {
	t.Helper()
	var content io.Reader
	switch body {
	case "plain":
		content = strings.NewReader(policyPlaintext)
	case "sealed":
		content = bytes.NewReader(message)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	switch body {
	case "none":
		req.Body = http.NoBody // as servers have it
	case "plain":
		req.Header.Set("Content-Type", "application/x-question")
	case "sealed":
		req.Header.Set("Content-Type", sealhttp.MediaType)
		req.Header.Set("Sealed-Content-Type", "application/x-question")
	}
	return req
}

// policyCall is a call that was made, and what the table says of it.
type policyCall struct {
	method, body, reply, caller string
	want                        string
	resp                        *http.Response
	content                     []byte
	seen                        []policySight
}

func (c *policyCall) check(t *testing.T) error {
	want := c.want
	opened, sealed := strings.HasPrefix(want, "opened"), strings.HasSuffix(want, "sealed")
	if sealed && c.caller != "registered" {
		want = "406 no_client_key"
	}
	if status, code, refused := strings.Cut(want, " "); refused && status != "opened," {
		return policyRefused(c.method, c.resp, c.content, status, code, c.seen)
	}

	if len(c.seen) != 1 {
		return fmt.Errorf("the handler ran %d times: %d %s", len(c.seen), c.resp.StatusCode, c.content)
	}
	saw := c.seen[0]
	wantSight := policySight{method: c.method, accept: policyAccept[c.reply]}
	if c.body != "none" {
		wantSight.body, wantSight.length = policyPlaintext, int64(len(policyPlaintext))
		wantSight.contentType = []string{"application/x-question"}
	}
	if opened {
		wantSight.sealed = true
		wantSight.info.Profile = sealhttp.MessageProfile
		wantSight.info.RequestSealed = true
		wantSight.info.KeyID = negoServerKey.ID()
	}
	if sealed {
		wantSight.sealed = true
		wantSight.info.Profile = sealhttp.MessageProfile
		wantSight.info.ResponseSealed = true
		wantSight.info.CallerKeyID = negoCallerKey.ID()
		wantSight.accept = map[string][]string{"lower": {"application/json"}, "asked": {"application/json;q=0.8"}}[c.reply]
	}
	if !reflect.DeepEqual(saw, wantSight) {
		return fmt.Errorf("the handler saw\n%+v, want\n%+v", saw, wantSight)
	}

	header := c.resp.Header
	if c.resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("got %d", c.resp.StatusCode)
	}
	if !slices.Contains(header["Vary"], "Accept, Sealed-Exchange") {
		return fmt.Errorf("got Vary %q", header["Vary"])
	}
	if header.Get("Sealed-Error") != "" {
		return fmt.Errorf("got Sealed-Error %q", header.Get("Sealed-Error"))
	}
	contentType, inner, cache, answer := "text/plain", "", "", policyAnswer
	if sealed {
		contentType, inner, cache = sealhttp.MediaType, "text/plain", "no-store, no-transform"
	}
	if c.method == "HEAD" {
		answer = ""
		if sealed { // there is no message, so nothing says that there is one
			contentType, inner = "", ""
			if header["Content-Length"] != nil {
				return fmt.Errorf("got Content-Length %q", header["Content-Length"])
			}
		}
	} else if sealed {
		c.content = []byte(negoOpen(t, negoCallerKey, c.content))
	}
	if got := header.Get("Content-Type"); got != contentType {
		return fmt.Errorf("got Content-Type %q, want %q", got, contentType)
	}
	if got := header.Get("Sealed-Content-Type"); got != inner {
		return fmt.Errorf("got Sealed-Content-Type %q, want %q", got, inner)
	}
	if got := header.Get("Cache-Control"); got != cache {
		return fmt.Errorf("got Cache-Control %q, want %q", got, cache)
	}
	if string(c.content) != answer {
		return fmt.Errorf("got the body %q, want %q", c.content, answer)
	}
	return nil
}

// policyRefused checks a refusal.
func policyRefused(method string, resp *http.Response, content []byte, status, code string, seen []policySight) error {
	if len(seen) > 0 {
		return fmt.Errorf("the handler saw %+v, want %s %s", seen, status, code)
	}
	if got := strconv.Itoa(resp.StatusCode) + " " + resp.Header.Get("Sealed-Error"); got != status+" "+code {
		return fmt.Errorf("got %s, want %s %s", got, status, code)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		return fmt.Errorf("%s: got Content-Type %q", code, got)
	}
	if method == "HEAD" {
		if len(content) > 0 {
			return fmt.Errorf("%s: a HEAD was answered with %q", code, content)
		}
		return nil
	}
	var problem struct {
		Code   string
		Status int
	}
	if err := json.Unmarshal(content, &problem); err != nil || problem.Code != code || strconv.Itoa(problem.Status) != status {
		return fmt.Errorf("%s: got the body %s: %v", code, content, err)
	}
	return nil
}

// TestPolicyOfExchangeRequests is how broken requests of the exchange profile are
// refused, and all of them where it is not offered. The policy comes first, then what
// is offered.
func TestPolicyOfExchangeRequests(t *testing.T) {
	const x = sealhttp.ExchangeMediaType
	h := new(policyHandler)
	mux := http.NewServeMux()
	for _, p := range policyAll {
		mux.Handle("/both/"+p.String(), negoMiddleware(t, sealhttp.WithPolicy(p)).Handler(h))
		mux.Handle("/message/"+p.String(), negoMiddleware(t, sealhttp.WithPolicy(p), sealhttp.WithProfiles(sealhttp.MessageProfile)).Handler(h))
	}
	for _, srv := range negoServers(t, mux) {
		t.Run(srv.proto, func(t *testing.T) {
			for _, route := range []string{"/both/", "/message/"} {
				for _, p := range policyAll {
					status, want := "400", "malformed"
					switch {
					case p == sealhttp.Disabled:
						status, want = "415", "encryption_disabled"
					case route == "/message/":
						status, want = "415", "unsupported_profile"
					}
					for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS"} {
						for name, header := range map[string]http.Header{
							"field":                      {"Sealed-Exchange": {"v=1, kid=1"}},
							"empty field":                {"Sealed-Exchange": {""}},
							"two fields":                 {"Sealed-Exchange": {"v=1", "v=2"}},
							"content type":               {"Content-Type": {x}},
							"content type, other case":   {"Content-Type": {"APPLICATION/sealed-exchange+HPKE ; v=1"}},
							"both":                       {"Sealed-Exchange": {"v=1"}, "Content-Type": {x}},
							"both, a sealed reply asked": {"Sealed-Exchange": {"v=1"}, "Content-Type": {x}, "Accept": {sealhttp.MediaType}},
							"field and a message":        {"Sealed-Exchange": {"v=1"}, "Content-Type": {sealhttp.MediaType}},
							"field and plaintext":        {"Sealed-Exchange": {"v=1"}, "Content-Type": {"text/plain"}},
							"two content types":          {"Content-Type": {x, "text/plain"}},
						} {
							for _, content := range []string{"", "some content"} {
								req, err := http.NewRequestWithContext(t.Context(), method, srv.url+route+p.String(), strings.NewReader(content))
								if err != nil {
									t.Fatal(err)
								}
								req.Header = header.Clone()
								resp, body := srv.do(t, req)
								if err := policyRefused(method, resp, body, status, want, h.take()); err != nil {
									t.Errorf("%s%v: %s, %s, content %q: %v", route, p, method, name, content, err)
								}
							}
						}
					}
				}
			}
		})
	}
}

// TestPolicyOfSeveralContentTypes: a body is sealed if there is exactly one line
// and it says so. With another beside it, whoever comes behind could read the
// other, so nobody gets it.
func TestPolicyOfSeveralContentTypes(t *testing.T) {
	const s, j = sealhttp.MediaType, "application/json"
	message := negoSeal(t, negoServerKey, policyPlaintext)
	h := new(policyHandler)
	for _, p := range policyAll {
		m := negoMiddleware(t, sealhttp.WithPolicy(p)).Handler(h)
		for _, tt := range []struct {
			lines   []string
			refused bool
		}{
			{[]string{s, s}, true},
			{[]string{s, j}, true},
			{[]string{j, s}, true},
			{[]string{j, "text/plain", s}, true},
			{[]string{j, "text/plain"}, false},
		} {
			for _, content := range [][]byte{nil, message} {
				r := httptest.NewRequest("POST", "/", bytes.NewReader(content))
				r.Header["Content-Type"] = tt.lines
				w := httptest.NewRecorder()
				m.ServeHTTP(w, r)
				seen := h.take()
				var err error
				switch {
				case tt.refused:
					err = policyRefused("POST", w.Result(), w.Body.Bytes(), "400", "malformed", seen)
				case p == sealhttp.RequestRequired || p == sealhttp.Required:
					err = policyRefused("POST", w.Result(), w.Body.Bytes(), "415", "encryption_required", seen)
				case len(seen) != 1 || seen[0].body != string(content) || !slices.Equal(seen[0].contentType, tt.lines):
					err = fmt.Errorf("the handler saw %+v", seen)
				}
				if err != nil {
					t.Errorf("%v: Content-Type %q, %d bytes: %v", p, tt.lines, len(content), err)
				}
			}
		}
	}
}

// TestPolicyOfEmptyMessages: a body of no bytes is no message, whether the header
// tells (Content-Length: 0) or only reading it (chunked, or DATA frames of HTTP/2).
// Where the length is not known before, Disabled goes by the Content-Type.
func TestPolicyOfEmptyMessages(t *testing.T) {
	h := new(policyHandler)
	mux := http.NewServeMux()
	for _, p := range policyAll {
		mux.Handle("/"+p.String(), negoMiddleware(t, sealhttp.WithPolicy(p), sealhttp.WithDefaultContentType("text/csv")).Handler(h))
	}
	servers := negoServers(t, mux)

	const asIs, empty, sealed = "as it is", "empty", "empty, sealed"
	for _, tt := range []struct {
		method, reply string
		framing       string
		want          [4]string // by policy
	}{
		{"GET", "no", "Content-Length", [...]string{asIs, empty, empty, "406 encryption_required"}},
		{"POST", "no", "Content-Length", [...]string{asIs, empty, "415 encryption_required", "415 encryption_required"}},
		{"GET", "asked", "Content-Length", [...]string{"406 encryption_disabled", sealed, sealed, sealed}},
		{"PUT", "asked", "Content-Length", [...]string{"406 encryption_disabled", sealed, "415 encryption_required", "415 encryption_required"}},
		{"DELETE", "no", "stream", [...]string{"415 encryption_disabled", empty, empty, "406 encryption_required"}},
		{"POST", "no", "stream", [...]string{"415 encryption_disabled", empty, "415 encryption_required", "406 encryption_required"}},
		{"DELETE", "asked", "stream", [...]string{"415 encryption_disabled", sealed, sealed, sealed}},
		{"PATCH", "asked", "stream", [...]string{"415 encryption_disabled", sealed, "415 encryption_required", "415 encryption_required"}},
	} {
		for i, p := range policyAll {
			for _, inner := range []string{"", "application/x-question"} {
				for _, srv := range servers {
					t.Run(fmt.Sprintf("%s/%v/%s/%s/%s/%s", srv.proto, p, tt.method, tt.reply, tt.framing, inner), func(t *testing.T) {
						header := http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": policyAccept[tt.reply]}
						if inner != "" {
							header["Sealed-Content-Type"] = []string{inner}
						}
						resp, content := policySendEmpty(t, srv, tt.method, "/"+p.String(), tt.framing, header)
						seen := h.take()
						if status, code, _ := strings.Cut(tt.want[i], " "); status[0] == '4' {
							if err := policyRefused(tt.method, resp, content, status, code, seen); err != nil {
								t.Error(err)
							}
							return
						}
						if len(seen) != 1 || resp.StatusCode != http.StatusAccepted {
							t.Fatalf("got %d %s, the handler saw %+v", resp.StatusCode, content, seen)
						}
						saw := seen[0]
						if saw.body != "" || saw.length != 0 || saw.info.RequestSealed {
							t.Errorf("the handler saw %+v", saw)
						}
						wantType, wantInner := []string{"text/csv"}, []string(nil)
						if inner != "" {
							wantType = []string{inner}
						}
						if tt.want[i] == asIs {
							wantType, wantInner = header["Content-Type"], header["Sealed-Content-Type"]
						}
						if !slices.Equal(saw.contentType, wantType) || !slices.Equal(saw.inner, wantInner) {
							t.Errorf("the handler saw Content-Type %q and Sealed-Content-Type %q, want %q and %q", saw.contentType, saw.inner, wantType, wantInner)
						}
						if tt.want[i] == sealed {
							content = []byte(negoOpen(t, negoCallerKey, content))
						}
						if saw.info.ResponseSealed != (tt.want[i] == sealed) || string(content) != policyAnswer {
							t.Errorf("got %q, %+v", content, saw.info)
						}
					})
				}
			}
		}
	}
}

// policySendEmpty sends a request with an empty body. Over HTTP/1.1 it is written
// by hand, since Go's client looks into a body of unknown length and then sends
// none.
func policySendEmpty(t *testing.T, srv negoServer, method, path, framing string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	if srv.major == 2 {
		if framing == "stream" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader("")), -1
		}
		return srv.do(t, req)
	}
	conn, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, path, req.URL.Host)
	if err := header.Write(&b); err != nil {
		t.Fatal(err)
	}
	if framing == "stream" {
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	} else {
		b.WriteString("Content-Length: 0\r\n\r\n")
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, content
}

// TestPolicyFunc: what is no policy is never plaintext.
func TestPolicyFunc(t *testing.T) {
	errDown := errors.New("the database at 10.0.0.7 is down")
	message := negoSeal(t, negoServerKey, policyPlaintext)
	for _, tt := range []struct {
		name   string
		policy sealhttp.Policy
		err    error
		is     error
	}{
		{"error", 0, errDown, errDown},
		{"error with a policy", sealhttp.Disabled, errDown, errDown},
		{"zero", 0, nil, sealhttp.CodePolicyUnavailable},
		{"unknown", sealhttp.Required + 1, nil, sealhttp.CodePolicyUnavailable},
		{"unknown", 255, nil, sealhttp.CodePolicyUnavailable},
		{"context", 0, context.Canceled, context.Canceled},
	} {
		var events []sealhttp.Event
		h := new(policyHandler)
		m := negoMiddleware(t,
			sealhttp.WithPolicy(sealhttp.Disabled),
			sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return tt.policy, tt.err }),
			sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }),
		).Handler(h)
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			for _, body := range []string{"none", "plain", "sealed"} {
				for reply, accept := range policyAccept {
					events = nil
					req := policyRequest(t, method, "http://api.example/", body, message)
					req.Header["Accept"] = accept
					w := httptest.NewRecorder()
					m.ServeHTTP(w, req)
					name := fmt.Sprintf("%s: %s, %s, %s", tt.name, method, body, reply)
					if err := policyRefused(method, w.Result(), w.Body.Bytes(), "503", "policy_unavailable", h.take()); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if w.Header().Get("Retry-After") == "" {
						t.Errorf("%s: no Retry-After", name)
					}
					if strings.Contains(w.Body.String(), "10.0.0.7") {
						t.Errorf("%s: the caller is told %s", name, w.Body)
					}
					if len(events) != 1 || events[0].Code != sealhttp.CodePolicyUnavailable || events[0].Status != 503 || !errors.Is(events[0].Err, tt.is) {
						t.Errorf("%s: the observer was told %+v", name, events)
					}
				}
			}
		}
	}
}

// TestPolicyFuncRequest: the function gets the request as it came in, and decides
// call by call.
func TestPolicyFuncRequest(t *testing.T) {
	h := new(policyHandler)
	m := negoMiddleware(t, sealhttp.WithPolicyFunc(func(r *http.Request) (sealhttp.Policy, error) {
		if got := r.Header.Get("Content-Type"); got != sealhttp.MediaType {
			t.Errorf("the function saw Content-Type %q", got)
		}
		return map[string]sealhttp.Policy{"on": sealhttp.RequestRequired, "off": sealhttp.Disabled}[sealhttp.Account(r.Context())], nil
	})).Handler(h)
	for account, want := range map[string]string{"on": "202 ", "off": "415 encryption_disabled", "nobody": "503 policy_unavailable", "": "503 policy_unavailable"} {
		r := policyRequest(t, "POST", "http://api.example/", "sealed", negoSeal(t, negoServerKey, policyPlaintext))
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error")); got != want {
			t.Errorf("account %q: got %s, want %s", account, got, want)
		}
	}
}

// TestPolicyFuncPanics: a panic goes through as it is.
func TestPolicyFuncPanics(t *testing.T) {
	h := new(policyHandler)
	for _, value := range []any{http.ErrAbortHandler, "a bug", errors.New("another")} {
		m := negoMiddleware(t, sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { panic(value) })).Handler(h)
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("the panic is %v, want %v", got, value)
				}
			}()
			m.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		}()
		if w.Body.Len() > 0 || len(h.take()) > 0 {
			t.Errorf("after a panic: %s", w.Body)
		}
	}
}

// policyPreflightHandler writes all that a handler can.
func policyPreflightHandler(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if r.Body != http.NoBody || r.ContentLength != 0 || len(content) > 0 || err != nil {
			t.Errorf("%s: the handler got the body %T of %d bytes, %q, %v", r.URL.Path, r.Body, r.ContentLength, content, err)
		}
		if info, sealed := sealhttp.FromContext(r.Context()); sealed {
			t.Errorf("%s: the handler was told %+v", r.URL.Path, info)
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		const secret = "secret"
		switch r.URL.Path {
		case "/write":
			if n, err := io.WriteString(w, secret); n != len(secret) || err != nil {
				t.Errorf("a write is answered with %d, %v", n, err)
			}
		case "/typed":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(secret)))
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(secret))
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(secret))
		case "/error":
			http.Error(w, secret, http.StatusMethodNotAllowed)
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set(http.TrailerPrefix+"X-Other", secret)
			io.WriteString(w, secret)
			w.Header().Set("X-Sum", secret)
		case "/flush":
			io.WriteString(w, secret)
			w.(http.Flusher).Flush()
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			io.WriteString(w, secret)
		case "/copy":
			if _, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(secret)}); err != nil {
				t.Error(err)
			}
		case "/nothing":
		case "/no-content":
			w.WriteHeader(http.StatusNoContent)
		case "/twice":
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		case "/hint":
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, secret)
		case "/hijack":
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack is answered with %v", err)
			}
			if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
				t.Error("the writer unwraps")
			}
		default:
			t.Errorf("unexpected %s", r.URL.Path)
		}
	})
}

// TestPolicyPreflight: a preflight passes whatever the policy is, and nothing with
// it.
func TestPolicyPreflight(t *testing.T) {
	asked := false
	unavailable := sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) {
		asked = true
		return 0, errors.New("down")
	})
	middlewares := map[string]*sealhttp.Middleware{"unavailable": negoMiddleware(t, unavailable)}
	for _, p := range policyAll {
		middlewares[p.String()] = negoMiddleware(t, sealhttp.WithPolicy(p))
	}
	statuses := map[string]int{
		"/write": 200, "/typed": 403, "/error": 405, "/trailer": 200, "/flush": 200, "/copy": 200,
		"/nothing": 200, "/no-content": 204, "/twice": 418, "/hint": 200, "/hijack": 200,
	}
	for policy, m := range middlewares {
		nested := m.Handler(middlewares["Required"].Handler(policyPreflightHandler(t)))
		for depth, h := range map[string]http.Handler{"alone": m.Handler(policyPreflightHandler(t)), "around another": nested} {
			for _, srv := range negoServers(t, h) {
				t.Run(policy+"/"+depth+"/"+srv.proto, func(t *testing.T) {
					for path, status := range statuses {
						for name, header := range map[string]http.Header{
							"plain":       {},
							"all fields":  {"Access-Control-Request-Headers": {"content-type, sealed-content-type"}, "Accept": {"*/*"}, "Sec-Fetch-Mode": {"cors"}},
							"null origin": {"Origin": {"null"}},
							// Browsers send none of these. What passes is as harmless with them.
							"a reply asked": {"Accept": {sealhttp.MediaType}},
							"content type":  {"Content-Type": {sealhttp.MediaType}},
							"exchange":      {"Sealed-Exchange": {"v=1"}},
							"other proxy":   {"Proxy-Authorization": {"Basic eDp5"}},
						} {
							req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", srv.url+path, nil)
							if err != nil {
								t.Fatal(err)
							}
							req.Header.Set("Origin", "https://app.example")
							req.Header.Set("Access-Control-Request-Method", "POST")
							for field, lines := range header {
								req.Header[field] = lines
							}
							resp, content := srv.do(t, req)
							if resp.StatusCode != status || len(content) > 0 {
								t.Errorf("%s, %s: got %d %q, want %d and no body", path, name, resp.StatusCode, content, status)
							}
							if got := resp.Header["Content-Type"]; got != nil {
								t.Errorf("%s, %s: got Content-Type %q", path, name, got)
							}
							if got := resp.Header.Get("Content-Length"); got != "" && got != "0" {
								t.Errorf("%s, %s: got Content-Length %q", path, name, got)
							}
							if len(resp.Trailer) > 0 {
								t.Errorf("%s, %s: got the trailers %q", path, name, resp.Trailer)
							}
							if resp.Header.Get("Access-Control-Allow-Origin") != "*" || !slices.Contains(resp.Header["Vary"], "Accept, Sealed-Exchange") {
								t.Errorf("%s, %s: got the header %q", path, name, resp.Header)
							}
						}
					}
				})
			}
		}
	}
	if asked {
		t.Error("the policy of a preflight was asked for")
	}
}

// TestPolicyPreflightPanics: a preflight's handler may panic as any other.
func TestPolicyPreflightPanics(t *testing.T) {
	m := negoMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	r := httptest.NewRequest("OPTIONS", "/", nil)
	r.Header.Set("Origin", "https://app.example")
	r.Header.Set("Access-Control-Request-Method", "POST")
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("the panic is %v", got)
		}
	}()
	m.ServeHTTP(httptest.NewRecorder(), r)
}

// TestPolicyNearPreflight: whatever is not quite a preflight is a call like any
// other.
func TestPolicyNearPreflight(t *testing.T) {
	h := new(policyHandler)
	const bodyless, withBody = "406 encryption_required", "415 encryption_required"
	for _, srv := range negoServers(t, negoMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(h)) {
		t.Run(srv.proto, func(t *testing.T) {
			for _, tt := range []struct {
				name   string
				change func(*http.Request)
				want   string
			}{
				{"Authorization", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, bodyless},
				{"an empty Authorization", func(r *http.Request) { r.Header.Set("Authorization", "") }, bodyless},
				{"Cookie", func(r *http.Request) { r.Header.Set("Cookie", "session=x") }, bodyless},
				{"a method override", func(r *http.Request) { r.Header.Set("X-Http-Method-Override", "DELETE") }, bodyless},
				{"If-Match", func(r *http.Request) { r.Header.Set("If-Match", "*") }, bodyless},
				{"no Origin", func(r *http.Request) { r.Header.Del("Origin") }, bodyless},
				{"no method", func(r *http.Request) { r.Header.Del("Access-Control-Request-Method") }, bodyless},
				{"neither", func(r *http.Request) { clear(r.Header) }, bodyless},
				{"content", func(r *http.Request) {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1
				}, withBody},
				{"content of unknown length", func(r *http.Request) {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1
				}, withBody},
				{"GET", func(r *http.Request) { r.Method = "GET" }, bodyless},
				{"HEAD", func(r *http.Request) { r.Method = "HEAD" }, bodyless},
				{"POST", func(r *http.Request) { r.Method = "POST" }, withBody},
				{"TRACE", func(r *http.Request) { r.Method = "TRACE" }, bodyless},
				{"options", func(r *http.Request) { r.Method = "options" }, bodyless},
			} {
				req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", srv.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", "https://app.example")
				req.Header.Set("Access-Control-Request-Method", "POST")
				tt.change(req)
				resp, content := srv.do(t, req)
				status, code, _ := strings.Cut(tt.want, " ")
				if err := policyRefused(req.Method, resp, content, status, code, h.take()); err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
		})
	}
}

// TestPolicyNested: a Middleware inside another passes through what is already
// opened or sealed, and applies its own policy to what is not.
func TestPolicyNested(t *testing.T) {
	const (
		dis = sealhttp.Disabled
		opt = sealhttp.Optional
		rr  = sealhttp.RequestRequired
		req = sealhttp.Required
	)
	type chain []sealhttp.Policy
	message := negoSeal(t, negoServerKey, policyPlaintext)
	for _, tt := range []struct {
		policies            chain // the outermost first
		method, body, reply string
		want                string // as in policyTable; "sealed 415 ..." for a refusal inside that goes out sealed
	}{
		// Opened and sealed once, whoever does it.
		{chain{opt, req}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, opt}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, rr}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{req, req}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{req, opt}, "POST", "sealed", "lower", "opened, sealed"},
		{chain{req, dis}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, dis}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, opt, opt}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, dis, req}, "POST", "sealed", "asked", "opened, sealed"},
		{chain{opt, req}, "GET", "none", "asked", "sealed"},
		{chain{opt, dis}, "GET", "none", "asked", "sealed"},
		{chain{opt, rr}, "HEAD", "none", "asked", "sealed"},

		// What the outer one left in plaintext is the inner one's to decide.
		{chain{opt, req}, "POST", "sealed", "lower", "opened, sealed"},
		{chain{rr, req}, "POST", "sealed", "lower", "opened, sealed"},
		{chain{opt, opt, req}, "POST", "sealed", "lower", "opened, sealed"},
		{chain{opt, req}, "GET", "none", "lower", "sealed"},
		{chain{dis, req}, "GET", "none", "lower", "sealed"},
		{chain{opt, rr}, "POST", "sealed", "lower", "opened"},
		{chain{opt, rr}, "POST", "sealed", "no", "opened"},
		{chain{opt, dis}, "POST", "sealed", "no", "opened"},
		{chain{opt, dis}, "POST", "sealed", "lower", "opened"},
		{chain{opt, dis}, "POST", "plain", "no", "plain"},
		{chain{dis, opt}, "POST", "plain", "lower", "plain"},
		{chain{opt, rr}, "GET", "none", "no", "plain"},

		{chain{opt, req}, "POST", "plain", "no", "415 encryption_required"},
		{chain{opt, rr}, "PUT", "plain", "no", "415 encryption_required"},
		{chain{opt, rr}, "POST", "none", "no", "415 encryption_required"},
		{chain{opt, req}, "POST", "sealed", "no", "406 encryption_required"},
		{chain{opt, req}, "POST", "sealed", "q=0", "406 encryption_required"},
		{chain{opt, req}, "GET", "none", "no", "406 encryption_required"},
		{chain{dis, req}, "GET", "none", "no", "406 encryption_required"},

		// What the outer one refuses does not reach the inner one.
		{chain{dis, opt}, "POST", "sealed", "no", "415 encryption_disabled"},
		{chain{dis, req}, "GET", "none", "asked", "406 encryption_disabled"},
		{chain{req, opt}, "POST", "plain", "asked", "415 encryption_required"},
		{chain{req, dis}, "GET", "none", "no", "406 encryption_required"},

		// A refusal inside of an outer one that seals is a response like any other.
		{chain{opt, req}, "POST", "plain", "asked", "sealed 415 encryption_required"},
		{chain{opt, rr}, "PATCH", "none", "asked", "sealed 415 encryption_required"},
	} {
		h := new(policyHandler)
		var handler http.Handler = h
		for _, p := range slices.Backward(tt.policies) {
			handler = negoMiddleware(t, sealhttp.WithPolicy(p)).Handler(handler)
		}
		for _, srv := range negoServers(t, handler) {
			t.Run(fmt.Sprintf("%v/%s/%s/%s/%s", tt.policies, tt.method, tt.body, tt.reply, srv.proto), func(t *testing.T) {
				r := policyRequest(t, tt.method, srv.url, tt.body, message)
				r.Header["Accept"] = policyAccept[tt.reply]
				resp, content := srv.do(t, r)
				want, inside := strings.CutPrefix(tt.want, "sealed ")
				if inside {
					if got := resp.Header.Get("Sealed-Content-Type"); got != "application/problem+json" {
						t.Errorf("got Sealed-Content-Type %q", got)
					}
					if got := resp.Header["Sealed-Error"]; got != nil {
						t.Errorf("got Sealed-Error %q on a sealed response", got)
					}
					content = []byte(negoOpen(t, negoCallerKey, content))
					var problem struct{ Code string }
					if err := json.Unmarshal(content, &problem); err != nil {
						t.Fatal(err)
					}
					if got := fmt.Sprintf("%d %s", resp.StatusCode, problem.Code); got != want || len(h.take()) > 0 {
						t.Errorf("got %s, want %s", got, want)
					}
					return
				}
				call := policyCall{tt.method, tt.body, tt.reply, "registered", want, resp, content, h.take()}
				if err := call.check(t); err != nil {
					t.Error(err)
				}
				if got := len(resp.Header["Vary"]); got != 1 {
					t.Errorf("got Vary %q", resp.Header["Vary"])
				}
			})
		}
	}
}

// TestPolicyNestedKeys: each Middleware has keys of its own, and the one that does
// the work decides.
func TestPolicyNestedKeys(t *testing.T) {
	inner, err := sealhttp.New(negoKeys(negoKey()), sealhttp.WithPolicy(sealhttp.RequestRequired))
	if err != nil {
		t.Fatal(err)
	}
	message := negoSeal(t, negoServerKey, policyPlaintext)
	h := new(policyHandler)

	// The inner one has neither the server's key nor client keys, and needs none.
	r := policyRequest(t, "POST", "http://api.example/", "sealed", message)
	r.Header["Accept"] = policyAccept["asked"]
	w := httptest.NewRecorder()
	negoMiddleware(t).Handler(inner.Handler(h)).ServeHTTP(w, r)
	call := policyCall{"POST", "sealed", "asked", "registered", "opened, sealed", w.Result(), w.Body.Bytes(), h.take()}
	if err := call.check(t); err != nil {
		t.Error(err)
	}

	// An outer one without client keys refuses what the inner one could seal: it
	// cannot know.
	outer, err := sealhttp.New(negoKeys(negoServerKey))
	if err != nil {
		t.Fatal(err)
	}
	r = policyRequest(t, "POST", "http://api.example/", "sealed", message)
	r.Header["Accept"] = policyAccept["asked"]
	w = httptest.NewRecorder()
	outer.Handler(negoMiddleware(t).Handler(h)).ServeHTTP(w, r)
	if err := policyRefused("POST", w.Result(), w.Body.Bytes(), "406", "no_client_key", h.take()); err != nil {
		t.Error(err)
	}
}

func TestPolicyString(t *testing.T) {
	for p, want := range map[sealhttp.Policy]string{
		0:                        "no policy",
		sealhttp.Disabled:        "Disabled",
		sealhttp.Optional:        "Optional",
		sealhttp.RequestRequired: "RequestRequired",
		sealhttp.Required:        "Required",
		sealhttp.Required + 1:    "no policy",
	} {
		if got := p.String(); got != want {
			t.Errorf("Policy(%d) is %q, want %q", uint8(p), got, want)
		}
	}
	var zero sealhttp.Policy
	if zero == sealhttp.Disabled || zero == sealhttp.Optional {
		t.Error("the zero Policy is one")
	}
}
