package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// observeLog is an observer that keeps what it is told, by the call's X-Call.
type observeLog struct {
	mu    sync.Mutex
	calls map[string][]observed
}

type observed struct {
	sealhttp.Event
	contentType string // of the request that it was told of
}

func (l *observeLog) observe(r *http.Request, e sealhttp.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = make(map[string][]observed)
	}
	id := r.Header.Get("X-Call")
	l.calls[id] = append(l.calls[id], observed{e, r.Header.Get("Content-Type")})
}

func (l *observeLog) of(id string) []observed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[id]
}

// observeCall is a call and what the observer is to be told of it.
type observeCall struct {
	name    string
	opts    []sealhttp.Option
	method  string
	header  http.Header // beside Content-Type and Accept of the forms below
	sealed  bool        // the body is a message
	asked   bool        // a sealed reply is
	content string      // in place of a message
	handler http.HandlerFunc
	want    sealhttp.Event // but for Err
	err     error          // that Err is; errAny for some error
	broken  bool           // the caller gets no response
}

var errAny = errors.New("any error")

func observeCalls() []observeCall {
	opened := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: negoServerKey.ID(), RequestSealed: true}
	sealed := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, CallerKeyID: negoCallerKey.ID(), ResponseSealed: true}
	both := opened
	both.CallerKeyID, both.ResponseSealed = sealed.CallerKeyID, true
	answer := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "answer")
	}
	nothing := func(w http.ResponseWriter, r *http.Request) {}
	aborts := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half of the")
		panic(http.ErrAbortHandler)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
	}
	event := func(info sealhttp.CallInfo, status int, code sealhttp.Code) sealhttp.Event {
		return sealhttp.Event{CallInfo: info, Status: status, Code: code}
	}
	policy := func(p sealhttp.Policy) []sealhttp.Option { return []sealhttp.Option{sealhttp.WithPolicy(p)} }
	clientKeys := func(key *seal.PublicKey, err error) []sealhttp.Option {
		return []sealhttp.Option{sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return key, err }))}
	}
	errDown := errors.New("down")
	preflight := http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"POST"}}

	return []observeCall{
		{name: "in clear", method: "POST", content: "x", handler: answer},
		{name: "in clear, without content", method: "GET", handler: answer},
		{name: "in clear, nothing written", method: "GET", handler: nothing},
		{name: "in clear, where encryption is off", opts: policy(sealhttp.Disabled), method: "POST", content: "x", handler: answer},
		{name: "in clear, aborted", method: "GET", handler: aborts, broken: true},
		{name: "in clear, plaintext preferred", method: "GET", header: http.Header{"Accept": {sealhttp.MediaType + ";q=0.5, text/plain"}}, handler: answer},

		{name: "opened", method: "POST", sealed: true, handler: answer, want: event(opened, 0, "")},
		{name: "opened, nothing written", method: "POST", sealed: true, handler: nothing, want: event(opened, 0, "")},
		{name: "opened, aborted", method: "POST", sealed: true, handler: aborts, want: event(opened, 0, ""), err: errAny, broken: true},
		{name: "no message", method: "POST", header: http.Header{"Content-Type": {sealhttp.MediaType}}, handler: answer},

		{name: "sealed", method: "GET", asked: true, handler: answer, want: event(sealed, 202, "")},
		{name: "sealed, of no bytes", method: "GET", asked: true, handler: nothing, want: event(sealed, 200, "")},
		{name: "sealed, an error of the handler's", method: "GET", asked: true, handler: status(404), want: event(sealed, 404, "")},
		{name: "sealed, HEAD", method: "HEAD", asked: true, handler: answer, want: event(sealed, 202, "")},
		{name: "sealed, no content", method: "GET", asked: true, handler: status(204), want: event(sealed, 204, "")},
		{name: "sealed, aborted", method: "GET", asked: true, handler: aborts, want: event(sealed, 0, ""), err: errAny, broken: true},
		{name: "sealed, too short", method: "GET", asked: true, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "short")
		}, want: event(sealed, 0, ""), err: errAny, broken: true},
		{name: "both", method: "POST", sealed: true, asked: true, handler: answer, want: event(both, 202, "")},
		{name: "both, aborted", method: "POST", sealed: true, asked: true, handler: aborts, want: event(both, 0, ""), err: errAny, broken: true},

		{name: "response too large", opts: []sealhttp.Option{sealhttp.WithMaxResponseBytes(3)}, method: "GET", asked: true, handler: answer,
			want: event(sealhttp.CallInfo{Profile: sealhttp.MessageProfile}, 500, sealhttp.CodeResponseTooLarge), err: sealhttp.CodeResponseTooLarge},
		{name: "both, response too large", opts: []sealhttp.Option{sealhttp.WithMaxResponseBytes(3)}, method: "POST", sealed: true, asked: true, handler: answer,
			want: event(opened, 500, sealhttp.CodeResponseTooLarge), err: sealhttp.CodeResponseTooLarge},
		{name: "response compressed", method: "GET", asked: true, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			io.WriteString(w, "x")
		}, want: event(sealhttp.CallInfo{Profile: sealhttp.MessageProfile}, 500, sealhttp.CodeUnsupportedContentEncoding), err: sealhttp.CodeUnsupportedContentEncoding},

		{name: "refused: plaintext", opts: policy(sealhttp.RequestRequired), method: "POST", content: "x", want: event(sealhttp.CallInfo{}, 415, sealhttp.CodeEncryptionRequired), err: sealhttp.CodeEncryptionRequired},
		{name: "refused: no reply asked", opts: policy(sealhttp.Required), method: "POST", sealed: true, want: event(sealhttp.CallInfo{}, 406, sealhttp.CodeEncryptionRequired), err: sealhttp.CodeEncryptionRequired},
		{name: "refused: off", opts: policy(sealhttp.Disabled), method: "POST", sealed: true, want: event(sealhttp.CallInfo{}, 415, sealhttp.CodeEncryptionDisabled), err: sealhttp.CodeEncryptionDisabled},
		{name: "refused: exchange", method: "GET", header: http.Header{"Sealed-Exchange": {"v=2"}}, want: event(sealhttp.CallInfo{}, 415, sealhttp.CodeUnsupportedProfile), err: sealhttp.CodeUnsupportedProfile},
		{name: "refused: malformed", method: "POST", header: http.Header{"Content-Type": {sealhttp.MediaType}}, content: "x", want: event(sealhttp.CallInfo{}, 400, sealhttp.CodeMalformed), err: seal.ErrMalformed},
		{name: "refused: does not open", method: "POST", header: http.Header{"Content-Type": {sealhttp.MediaType}}, content: strings.Repeat("x", 100), want: event(sealhttp.CallInfo{}, 400, sealhttp.CodeDecryptionFailed), err: seal.ErrDecryptionFailed},
		{name: "refused: unknown key", method: "POST", header: http.Header{"Content-Type": {sealhttp.MediaType}}, content: "\x01" + strings.Repeat("x", 100), want: event(sealhttp.CallInfo{}, 400, sealhttp.CodeUnknownKey), err: seal.ErrUnknownKey},
		{name: "refused: too large", opts: []sealhttp.Option{sealhttp.WithMaxRequestBytes(1)}, method: "POST", sealed: true, want: event(sealhttp.CallInfo{}, 413, sealhttp.CodeTooLarge), err: sealhttp.CodeTooLarge},
		{name: "refused: no client key", opts: clientKeys(nil, nil), method: "GET", asked: true, want: event(sealhttp.CallInfo{}, 406, sealhttp.CodeNoClientKey), err: sealhttp.ErrNoClientKey},
		{name: "refused: client keys unavailable", opts: clientKeys(nil, errDown), method: "GET", asked: true, want: event(sealhttp.CallInfo{}, 503, sealhttp.CodeKeyStoreUnavailable), err: errDown},
		{name: "refused: policy unavailable", opts: []sealhttp.Option{sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return 0, errDown })},
			method: "GET", want: event(sealhttp.CallInfo{}, 503, sealhttp.CodePolicyUnavailable), err: errDown},

		{name: "preflight", opts: policy(sealhttp.Required), method: "OPTIONS", header: preflight, handler: status(204), want: event(sealhttp.CallInfo{}, 204, "")},
		{name: "preflight, written to", method: "OPTIONS", header: preflight, handler: answer, want: event(sealhttp.CallInfo{}, 202, "")},
		{name: "preflight, aborted", method: "OPTIONS", header: preflight, handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			want: event(sealhttp.CallInfo{}, 0, ""), err: errAny, broken: true},
	}
}

// TestObserver: the observer is told of every call, once, whatever becomes of it.
func TestObserver(t *testing.T) {
	log := new(observeLog)
	mux := http.NewServeMux()
	calls := observeCalls()
	for i, call := range calls {
		ran := call.handler
		if ran == nil {
			ran = func(http.ResponseWriter, *http.Request) { t.Errorf("%s: the handler ran", call.name) }
		}
		mux.Handle("/"+strconv.Itoa(i), negoMiddleware(t, append(call.opts, sealhttp.WithObserver(log.observe))...).Handler(ran))
	}
	const plaintext = "plaintext"
	message := negoSeal(t, negoServerKey, plaintext)

	servers := negoServers(t, mux)
	contentTypes := map[string]string{}
	for _, srv := range servers {
		if srv.major == 1 { // net/http sends a GET again if a kept connection breaks
			srv.client.Transport.(*http.Transport).DisableKeepAlives = true
		}
		for i, call := range calls {
			content := []byte(call.content)
			if call.sealed {
				content = message
			}
			req, err := http.NewRequestWithContext(t.Context(), call.method, srv.url+"/"+strconv.Itoa(i), bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if call.header != nil {
				req.Header = call.header.Clone()
			}
			if call.sealed {
				req.Header.Set("Content-Type", sealhttp.MediaType)
				req.Header.Set("Sealed-Content-Type", "text/plain")
			}
			if call.asked {
				req.Header.Set("Accept", sealhttp.MediaType)
			}
			req.Header.Set("X-Call", srv.proto+call.name)
			contentTypes[call.name] = req.Header.Get("Content-Type")
			resp, err := srv.client.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if (err != nil) != call.broken {
				t.Errorf("%s: %s: the caller got %v", srv.proto, call.name, err)
			}
		}
	}
	for _, srv := range servers {
		srv.close() // waits for the calls that are left
	}
	for _, srv := range servers {
		for _, call := range calls {
			events := log.of(srv.proto + call.name)
			if len(events) != 1 {
				t.Errorf("%s: %s: told %d times: %+v", srv.proto, call.name, len(events), events)
				continue
			}
			got, err := events[0].Event, events[0].Event.Err
			got.Err = nil
			if got != call.want {
				t.Errorf("%s: %s: told\n%+v, want\n%+v", srv.proto, call.name, got, call.want)
			}
			if call.err == errAny && err == nil || call.err != errAny && !errors.Is(err, call.err) {
				t.Errorf("%s: %s: told of the error %v, want %v", srv.proto, call.name, err, call.err)
			}
			var e *sealhttp.Error
			if has := errors.As(err, &e); has != (got.Code != "") || has && (e.Code != got.Code || e.Status != got.Status) {
				t.Errorf("%s: %s: told the code %q, and the error %v", srv.proto, call.name, got.Code, err)
			}
			// The request is the one that came in.
			if events[0].contentType != contentTypes[call.name] {
				t.Errorf("%s: %s: told of a request with Content-Type %q", srv.proto, call.name, events[0].contentType)
			}
			if err != nil && strings.Contains(err.Error(), plaintext) {
				t.Errorf("%s: %s: the plaintext is in %v", srv.proto, call.name, err)
			}
		}
	}
}

// TestObserverOfNested: of what an outer Middleware has opened or sealed, it tells,
// and the inner one does not tell it again.
func TestObserverOfNested(t *testing.T) {
	for _, tt := range []struct {
		body, reply string
		want        sealhttp.CallInfo
	}{
		{"sealed", "no", sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: negoServerKey.ID(), RequestSealed: true}},
		{"none", "asked", sealhttp.CallInfo{Profile: sealhttp.MessageProfile, CallerKeyID: negoCallerKey.ID(), ResponseSealed: true}},
		{"sealed", "asked", sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: negoServerKey.ID(), CallerKeyID: negoCallerKey.ID(), RequestSealed: true, ResponseSealed: true}},
	} {
		var events []sealhttp.Event
		m := negoMiddleware(t, sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
		r := policyRequest(t, "POST", "http://api.example/", tt.body, negoSeal(t, negoServerKey, policyPlaintext))
		r.Header["Accept"] = policyAccept[tt.reply]
		h := new(policyHandler)
		m.Handler(m.Handler(h)).ServeHTTP(httptest.NewRecorder(), r)
		if len(events) != 1 || events[0].CallInfo != tt.want || events[0].Err != nil {
			t.Errorf("%s, %s: told %+v", tt.body, tt.reply, events)
		}
		if seen := h.take(); len(seen) != 1 || seen[0].info != tt.want {
			t.Errorf("%s, %s: the handler saw %+v", tt.body, tt.reply, seen)
		}
	}

	// What the inner one refuses it tells, with what the outer one has done.
	var inner, outer []sealhttp.Event
	m := negoMiddleware(t, sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { outer = append(outer, e) }))
	in := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { inner = append(inner, e) })))
	r := policyRequest(t, "POST", "http://api.example/", "sealed", negoSeal(t, negoServerKey, policyPlaintext))
	m.Handler(in.Handler(new(policyHandler))).ServeHTTP(httptest.NewRecorder(), r)
	if len(inner) != 1 || inner[0].Code != sealhttp.CodeEncryptionRequired || inner[0].Status != 406 || inner[0].KeyID != negoServerKey.ID() || !inner[0].RequestSealed {
		t.Errorf("the inner observer was told %+v", inner)
	}
	if len(outer) != 1 || outer[0].Code != "" || !outer[0].RequestSealed || outer[0].Status != 0 {
		t.Errorf("the outer observer was told %+v", outer)
	}
}

func TestObserveFromContext(t *testing.T) {
	if info, ok := sealhttp.FromContext(t.Context()); ok || info != (sealhttp.CallInfo{}) {
		t.Errorf("nothing in the context: got %+v, %v", info, ok)
	}
	for _, tt := range []struct {
		info sealhttp.CallInfo
		want bool
	}{
		{sealhttp.CallInfo{}, false},
		{sealhttp.CallInfo{Profile: sealhttp.MessageProfile}, false},
		{sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: 1, RequestSealed: true}, true},
		{sealhttp.CallInfo{Profile: sealhttp.MessageProfile, CallerKeyID: 2, ResponseSealed: true}, true},
		{sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: 1, CallerKeyID: 2, RequestSealed: true, ResponseSealed: true}, true},
	} {
		ctx, cancel := context.WithCancel(sealhttp.NewContext(t.Context(), tt.info))
		cancel()
		if info, ok := sealhttp.FromContext(ctx); info != tt.info || ok != tt.want {
			t.Errorf("%+v: got %+v, %v", tt.info, info, ok)
		}
	}
	// The last one counts.
	ctx := sealhttp.NewContext(sealhttp.NewContext(t.Context(), sealhttp.CallInfo{KeyID: 1, RequestSealed: true}), sealhttp.CallInfo{})
	if info, ok := sealhttp.FromContext(ctx); ok || info != (sealhttp.CallInfo{}) {
		t.Errorf("got %+v, %v", info, ok)
	}
	for p, want := range map[sealhttp.Profile]string{0: "none", sealhttp.MessageProfile: "message", 77: "none"} {
		if got := p.String(); got != want {
			t.Errorf("Profile(%d) is %q, want %q", uint8(p), got, want)
		}
	}
}

// TestObserveFromContextLater: what a handler has left behind may ask while the
// response turns out not to be sealable.
func TestObserveFromContextLater(t *testing.T) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	m := negoMiddleware(t, sealhttp.WithMaxResponseBytes(1)).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asking := make(chan struct{})
		wg.Go(func() {
			for {
				if info, ok := sealhttp.FromContext(r.Context()); !ok || !info.RequestSealed {
					t.Errorf("got %+v, %v", info, ok)
				}
				select {
				case asking <- struct{}{}:
				case <-stop:
					return
				default:
				}
			}
		})
		<-asking
		io.WriteString(w, "too long")
	}))
	r := policyRequest(t, "POST", "http://api.example/", "sealed", negoSeal(t, negoServerKey, policyPlaintext))
	r.Header["Accept"] = policyAccept["asked"]
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	close(stop)
	wg.Wait()
	if w.Code != 500 {
		t.Errorf("got %d", w.Code)
	}
}

// TestObserveFromResponse: true is a response that was sealed to the caller, and
// nothing else.
func TestObserveFromResponse(t *testing.T) {
	api := httptest.NewServer(negoMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no-content" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, "answer")
	})))
	defer api.Close()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer gateway.Close()

	withKeys := &http.Client{Transport: optionsTransport(t)}
	hurried := &http.Client{Transport: optionsTransport(t), Timeout: time.Hour} // http.Client wraps the body
	sealingOnly, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(negoServerKey.Public()))
	if err != nil {
		t.Fatal(err)
	}
	withoutKeys := &http.Client{Transport: sealingOnly}

	both := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: negoServerKey.ID(), CallerKeyID: negoCallerKey.ID(), RequestSealed: true, ResponseSealed: true}
	replyOnly := both
	replyOnly.KeyID, replyOnly.RequestSealed = 0, false

	for _, tt := range []struct {
		name   string
		client *http.Client
		method string
		url    string
		want   sealhttp.CallInfo // the zero one for false
	}{
		{"both sealed", withKeys, "POST", api.URL, both},
		{"both sealed, with a timeout", hurried, "POST", api.URL, both},
		{"the response sealed", withKeys, "GET", api.URL, replyOnly},
		{"an error of the handler's, sealed", withKeys, "GET", api.URL + "/missing", replyOnly},
		{"HEAD", withKeys, "HEAD", api.URL, sealhttp.CallInfo{}},
		{"no content", withKeys, "POST", api.URL + "/no-content", sealhttp.CallInfo{}},
		{"a gateway's error", withKeys, "POST", gateway.URL, sealhttp.CallInfo{}},
		{"not asked for", withoutKeys, "POST", api.URL, sealhttp.CallInfo{}},
		{"another transport", http.DefaultClient, "GET", api.URL, sealhttp.CallInfo{}},
	} {
		// A handler passes its own context on when it calls another service. What that
		// says is of the call that the handler serves.
		served := sealhttp.NewContext(t.Context(), sealhttp.CallInfo{Profile: sealhttp.MessageProfile, KeyID: 1, CallerKeyID: 2, RequestSealed: true, ResponseSealed: true})
		for where, ctx := range map[string]context.Context{"": t.Context(), ", in a handler": served} {
			var body io.Reader
			if tt.method == "POST" {
				body = strings.NewReader("x")
			}
			req, err := http.NewRequestWithContext(ctx, tt.method, tt.url, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tt.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if info, ok := sealhttp.FromResponse(resp); info != tt.want || ok != (tt.want != sealhttp.CallInfo{}) {
				t.Errorf("%s%s: got %+v, %v; want %+v", tt.name, where, info, ok, tt.want)
			}
			// The other way round too: the response says nothing of the call being served.
			if info, ok := sealhttp.FromContext(resp.Request.Context()); ok != (where != "") || ok && info.KeyID != 1 {
				t.Errorf("%s%s: FromContext says %+v, %v", tt.name, where, info, ok)
			}
		}
	}

	// A program makes its next call with the context of the last one's response.
	sealed, err := withKeys.Get(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	sealed.Body.Close()
	next, err := http.NewRequestWithContext(sealed.Request.Context(), "GET", api.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]*http.Client{"another transport": http.DefaultClient, "not asked for": withoutKeys} {
		resp, err := client.Do(next)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if info, ok := sealhttp.FromResponse(resp); ok {
			t.Errorf("%s, in the context of a sealed response: got %+v", name, info)
		}
	}

	for name, resp := range map[string]*http.Response{
		"nil":               nil,
		"without a request": {},
		"without a context": {Request: &http.Request{}},
	} {
		if info, ok := sealhttp.FromResponse(resp); ok || info != (sealhttp.CallInfo{}) {
			t.Errorf("%s: got %+v, %v", name, info, ok)
		}
	}
}

// TestObserveHandlerCallsOn is the trap as it happens: a handler whose call is
// sealed gets a plaintext answer from another service.
func TestObserveHandlerCallsOn(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "plaintext") }))
	defer other.Close()
	ran := false
	h := negoMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ran = true
		if _, ok := sealhttp.FromContext(r.Context()); !ok {
			t.Error("the handler's call is sealed, and it is not told")
		}
		req, err := http.NewRequestWithContext(r.Context(), "GET", other.URL, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := other.Client().Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		if info, ok := sealhttp.FromResponse(resp); ok {
			t.Errorf("the plaintext answer counts as sealed: %+v", info)
		}
	}))
	r := policyRequest(t, "POST", "http://api.example/", "sealed", negoSeal(t, negoServerKey, policyPlaintext))
	r.Header["Accept"] = policyAccept["asked"]
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if !ran || w.Code != 200 || !slices.Equal(w.Header()["Content-Type"], []string{sealhttp.MediaType}) {
		t.Errorf("got %d %q", w.Code, w.Header())
	}
}
