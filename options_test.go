package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

var (
	optionsClientKeys = sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return negoCallerKey.Public(), nil })
	optionsQuiet      = sealhttp.WithLogger(slog.New(slog.DiscardHandler))
)

// optionsCommon are the errors of the options that both sides have. Each says which
// option it is of.
var optionsCommon = map[string]struct {
	option sealhttp.CommonOption
	says   string
}{
	"no request limit":              {sealhttp.WithMaxRequestBytes(0), "WithMaxRequestBytes: 0 bytes"},
	"negative request limit":        {sealhttp.WithMaxRequestBytes(-1), "WithMaxRequestBytes: -1 bytes"},
	"request limit too large":       {sealhttp.WithMaxRequestBytes(math.MaxInt64>>1 + 1), "WithMaxRequestBytes"},
	"largest request limit":         {sealhttp.WithMaxRequestBytes(math.MaxInt64), "WithMaxRequestBytes"},
	"least request limit":           {sealhttp.WithMaxRequestBytes(math.MinInt64), "WithMaxRequestBytes"},
	"no response limit":             {sealhttp.WithMaxResponseBytes(0), "WithMaxResponseBytes: 0 bytes"},
	"negative response limit":       {sealhttp.WithMaxResponseBytes(-1), "WithMaxResponseBytes: -1 bytes"},
	"response limit too large":      {sealhttp.WithMaxResponseBytes(math.MaxInt64), "WithMaxResponseBytes"},
	"reserved info of the request":  {sealhttp.WithInfo([]byte("sealhttp x"), nil), `must not start with "sealhttp "`},
	"reserved info of the response": {sealhttp.WithInfo(nil, []byte("sealhttp ")), `must not start with "sealhttp "`},
	"nil info function":             {sealhttp.WithInfoFunc(nil), "WithInfoFunc"},
	"nil logger":                    {sealhttp.WithLogger(nil), "WithLogger: the logger is nil; use slog.New(slog.DiscardHandler)"},
	"a header field never bound":    {sealhttp.WithBoundHeaders("Cookie"), "WithBoundHeaders: the header field cookie cannot be bound"},
	"a bound field twice":           {sealhttp.WithBoundHeaders("x-a", "X-A"), "WithBoundHeaders: the header field x-a is bound twice"},
	"no name of a field":            {sealhttp.WithBoundHeaders("x a"), "WithBoundHeaders: the name of a bound header field is no token"},
	"an empty name of a field":      {sealhttp.WithBoundHeaders(""), "WithBoundHeaders"},
	"17 bound fields": {sealhttp.WithBoundHeaders("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"),
		"WithBoundHeaders: 17 bound header fields, at most 16"},
	"no stream limit":        {sealhttp.WithMaxStreamBytes(0), "WithMaxStreamBytes: 0 bytes"},
	"stream limit too large": {sealhttp.WithMaxStreamBytes(math.MaxInt64), "WithMaxStreamBytes"},
	"nil padding":            {sealhttp.WithPadding(nil), "WithPadding: the padding is nil"},
}

// optionsServer are the errors of those that only New and With have.
var optionsServer = map[string]struct {
	option sealhttp.Option
	says   string
}{
	"nil":                          {nil, "an option is nil"},
	"nil common option":            {sealhttp.CommonOption(nil), "an option is nil"},
	"nil client keys":              {sealhttp.WithClientKeys(nil), "WithClientKeys"},
	"zero policy":                  {sealhttp.WithPolicy(0), "WithPolicy: Policy(0) is none: use Disabled, Optional, RequestRequired or Required"},
	"unknown policy":               {sealhttp.WithPolicy(sealhttp.Required + 1), "WithPolicy: Policy(5)"},
	"nil policy function":          {sealhttp.WithPolicyFunc(nil), "WithPolicyFunc"},
	"no profile":                   {sealhttp.WithProfiles(), "or use WithPolicy(Disabled)"},
	"zero profile":                 {sealhttp.WithProfiles(0), "WithProfiles: Profile(0)"},
	"a profile, and one unknown":   {sealhttp.WithProfiles(sealhttp.MessageProfile, 77), "WithProfiles: Profile(77)"},
	"no default content type":      {sealhttp.WithDefaultContentType(""), "WithDefaultContentType"},
	"broken default content type":  {sealhttp.WithDefaultContentType("text/"), "WithDefaultContentType"},
	"broken parameter":             {sealhttp.WithDefaultContentType("text/plain; charset"), "WithDefaultContentType"},
	"field in the content type":    {sealhttp.WithDefaultContentType("text/plain\r\nX: y"), "WithDefaultContentType"},
	"sealed default content type":  {sealhttp.WithDefaultContentType("Application/Octet-Stream+HPKE; a=b"), "the type of the plaintext"},
	"exchange as the content type": {sealhttp.WithDefaultContentType(sealhttp.ExchangeMediaType), "the type of the plaintext"},
	"nil error handler":            {sealhttp.WithErrorHandler(nil), "WithErrorHandler"},
	"nil observer":                 {sealhttp.WithObserver(nil), "WithObserver"},
	"no authority":                 {sealhttp.WithAuthority(""), "WithAuthority"},
	"a URL as the authority":       {sealhttp.WithAuthority("https://api.example.com"), "WithAuthority"},
	"an authority with no port":    {sealhttp.WithAuthority("api.example.com:evil"), "WithAuthority"},
	"an authority not in ASCII":    {sealhttp.WithAuthority("bücher.example"), "WithAuthority"},
	"a prefix without a slash":     {sealhttp.WithTargetPrefix("public"), "WithTargetPrefix"},
	"a prefix with a query":        {sealhttp.WithTargetPrefix("/public?a"), "WithTargetPrefix"},
	"nil replay guard":             {sealhttp.WithReplayGuard(nil), "WithReplayGuard: the guard is nil"},
	"no replay window":             {sealhttp.WithReplayWindow(0), "WithReplayWindow"},
	"half a second of window":      {sealhttp.WithReplayWindow(1500 * time.Millisecond), "WithReplayWindow: 1.5s"},
	"more than a day of window":    {sealhttp.WithReplayWindow(25 * time.Hour), "WithReplayWindow"},
}

func TestOptionsOfNewRefused(t *testing.T) {
	rows := maps.Clone(optionsServer)
	for name, row := range optionsCommon {
		rows[name] = struct {
			option sealhttp.Option
			says   string
		}{row.option, row.says}
	}
	good := []sealhttp.Option{sealhttp.WithClientKeys(optionsClientKeys), sealhttp.WithPolicy(sealhttp.Required)}
	for name, row := range rows {
		for _, opts := range [][]sealhttp.Option{
			{row.option},
			{row.option, good[0], good[1]},
			{good[0], row.option, good[1]},
			{good[0], good[1], row.option},
		} {
			m, err := sealhttp.New(negoKeys(negoServerKey), opts...)
			optionsErr(t, name, m == nil, err, row.says)
			m, err = negoMiddleware(t).With(opts...)
			optionsErr(t, name+", With", m == nil, err, row.says)
		}
	}
}

// optionsErr checks that there is nothing but an error, and that it says who it is
// from and something more.
func optionsErr(t *testing.T, name string, isNil bool, err error, says string) {
	t.Helper()
	if !isNil || err == nil || !strings.HasPrefix(err.Error(), "sealhttp: ") || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: got %v (and nothing else: %v), want an error that says %q", name, err, isNil, says)
	}
}

func TestOptionsNilKeys(t *testing.T) {
	m, err := sealhttp.New(nil)
	optionsErr(t, "New", m == nil, err, "keys are nil")
	m, err = sealhttp.New(nil, nil)
	optionsErr(t, "New, a nil option", m == nil, err, "keys are nil")
	tr, err := sealhttp.NewTransport(nil)
	optionsErr(t, "NewTransport", tr == nil, err, "keys are nil")
}

// TestOptionsThatCannotWork: the error says what to do.
func TestOptionsThatCannotWork(t *testing.T) {
	required := sealhttp.WithPolicy(sealhttp.Required)
	keys := sealhttp.WithClientKeys(optionsClientKeys)
	byFunc := sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return sealhttp.Required, nil })
	for _, tt := range []struct {
		name        string
		parent, opt []sealhttp.Option
		works       bool
	}{
		{"Required without client keys", nil, []sealhttp.Option{required}, false},
		{"after another policy", nil, []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Optional), required}, false},
		{"after a function", nil, []sealhttp.Option{byFunc, required}, false},
		{"the keys first", nil, []sealhttp.Option{keys, required}, true},
		{"the keys last", nil, []sealhttp.Option{required, keys}, true},
		{"the keys before", []sealhttp.Option{keys}, []sealhttp.Option{required}, true},
		{"the policy before, replaced", nil, []sealhttp.Option{required, sealhttp.WithPolicy(sealhttp.RequestRequired)}, true},
		{"replaced by a function", nil, []sealhttp.Option{required, byFunc}, true},
		{"a function's is not known", nil, []sealhttp.Option{byFunc}, true},
		{"RequestRequired", nil, []sealhttp.Option{sealhttp.WithPolicy(sealhttp.RequestRequired)}, true},
	} {
		parent, err := sealhttp.New(negoKeys(negoServerKey), tt.parent...)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := sealhttp.New(negoKeys(negoServerKey), append(tt.parent, tt.opt...)...)
		with, withErr := parent.With(tt.opt...)
		if tt.works {
			if direct == nil || err != nil || with == nil || withErr != nil {
				t.Errorf("%s: got %v, %v", tt.name, err, withErr)
			}
			continue
		}
		optionsErr(t, tt.name, direct == nil, err, "add WithClientKeys")
		optionsErr(t, tt.name+", With", with == nil, withErr, "add WithClientKeys")
	}
}

func TestOptionsOfNewTransportRefused(t *testing.T) {
	raw := func() *seal.PrivateKey { return negoKey(seal.WithoutPrefix()) }
	rows := map[string]struct {
		option sealhttp.TransportOption
		says   string
		is     error
	}{
		"nil":               {nil, "an option is nil", nil},
		"nil common option": {sealhttp.CommonOption(nil), "an option is nil", nil},
		"no private key":    {sealhttp.WithPrivateKeys(), "WithPrivateKeys: no key is given", nil},
		"nil private key":   {sealhttp.WithPrivateKeys(nil), "WithPrivateKeys", seal.ErrInvalidKey},
		"a key twice":       {sealhttp.WithPrivateKeys(negoCallerKey, negoCallerKey), "WithPrivateKeys", seal.ErrDuplicateKey},
		"three RAW keys":    {sealhttp.WithPrivateKeys(raw(), raw(), raw()), "WithPrivateKeys", seal.ErrTooManyRawKeys},
		"nil source":        {sealhttp.WithPrivateKeySource(nil), "WithPrivateKeySource", nil},
		"nil base":          {sealhttp.WithBase(nil), "WithBase", nil},
		"zero profile":      {sealhttp.WithProfile(0), "WithProfile: Profile(0)", nil},
		"unknown profile":   {sealhttp.WithProfile(77), "WithProfile: Profile(77)", nil},
	}
	for name, row := range optionsCommon {
		rows[name] = struct {
			option sealhttp.TransportOption
			says   string
			is     error
		}{row.option, row.says, nil}
	}
	for name, row := range rows {
		for _, opts := range [][]sealhttp.TransportOption{{row.option}, {sealhttp.WithPrivateKeys(negoCallerKey), row.option, sealhttp.WithBase(http.DefaultTransport)}} {
			tr, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(negoServerKey.Public()), opts...)
			optionsErr(t, name, tr == nil, err, row.says)
			if row.is != nil && !errors.Is(err, row.is) {
				t.Errorf("%s: %v is not %v", name, err, row.is)
			}
		}
	}
}

// TestOptionsLastPolicyWins: of WithPolicy and WithPolicyFunc, in New and in With.
func TestOptionsLastPolicyWins(t *testing.T) {
	byFunc := func(p sealhttp.Policy) sealhttp.Option {
		return sealhttp.WithPolicyFunc(func(*http.Request) (sealhttp.Policy, error) { return p, nil })
	}
	static := sealhttp.WithPolicy
	for _, tt := range []struct {
		name      string
		opts, and []sealhttp.Option // of New, and of With
		want      sealhttp.Policy
	}{
		{"the default", nil, nil, sealhttp.Optional},
		{"one", []sealhttp.Option{static(sealhttp.RequestRequired)}, nil, sealhttp.RequestRequired},
		{"static, static", []sealhttp.Option{static(sealhttp.RequestRequired), static(sealhttp.Disabled)}, nil, sealhttp.Disabled},
		{"static, function", []sealhttp.Option{static(sealhttp.RequestRequired), byFunc(sealhttp.Disabled)}, nil, sealhttp.Disabled},
		{"function, static", []sealhttp.Option{byFunc(sealhttp.RequestRequired), static(sealhttp.Disabled)}, nil, sealhttp.Disabled},
		{"function, function", []sealhttp.Option{byFunc(sealhttp.RequestRequired), byFunc(sealhttp.Disabled)}, nil, sealhttp.Disabled},
		{"With keeps", []sealhttp.Option{static(sealhttp.Required)}, []sealhttp.Option{optionsQuiet}, sealhttp.Required},
		{"With keeps a function", []sealhttp.Option{byFunc(sealhttp.Required)}, nil, sealhttp.Required},
		{"With: static over static", []sealhttp.Option{static(sealhttp.Required)}, []sealhttp.Option{static(sealhttp.Disabled)}, sealhttp.Disabled},
		{"With: static over function", []sealhttp.Option{byFunc(sealhttp.Required)}, []sealhttp.Option{static(sealhttp.Disabled)}, sealhttp.Disabled},
		{"With: function over static", []sealhttp.Option{static(sealhttp.Disabled)}, []sealhttp.Option{byFunc(sealhttp.Required)}, sealhttp.Required},
	} {
		m := sealhttp.Must(negoMiddleware(t, tt.opts...).With(tt.and...))
		if got := optionsPolicy(t, m); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// optionsPolicy finds out a Middleware's policy by what it does.
func optionsPolicy(t *testing.T, m *sealhttp.Middleware) sealhttp.Policy {
	t.Helper()
	h := m.Handler(new(policyHandler))
	call := func(body, reply string) int {
		r := policyRequest(t, "POST", "http://api.example/", body, negoSeal(t, negoServerKey, policyPlaintext))
		r.Header["Accept"] = policyAccept[reply]
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	switch got := [...]int{call("plain", "no"), call("sealed", "no"), call("sealed", "asked")}; got {
	case [...]int{202, 415, 415}:
		return sealhttp.Disabled
	case [...]int{202, 202, 202}:
		return sealhttp.Optional
	case [...]int{415, 202, 202}:
		return sealhttp.RequestRequired
	case [...]int{415, 406, 202}:
		return sealhttp.Required
	default:
		t.Errorf("no policy answers %v", got)
		return 0
	}
}

// TestOptionsWithLeavesItsParent: With makes another Middleware, whatever becomes
// of that.
func TestOptionsWithLeavesItsParent(t *testing.T) {
	var parentSaw, childSaw []sealhttp.Event
	parent := negoMiddleware(t,
		sealhttp.WithMaxRequestBytes(1000),
		sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { parentSaw = append(parentSaw, e) }))
	child := sealhttp.Must(parent.With(
		sealhttp.WithPolicy(sealhttp.Required),
		sealhttp.WithMaxRequestBytes(1),
		sealhttp.WithMaxResponseBytes(1),
		sealhttp.WithInfo([]byte("a"), []byte("b")),
		sealhttp.WithDefaultContentType("text/csv"),
		sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return nil, nil })),
		sealhttp.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(599) }),
		sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { childSaw = append(childSaw, e) })))
	if _, err := parent.With(sealhttp.WithPolicy(sealhttp.Disabled), sealhttp.WithMaxRequestBytes(0)); err == nil {
		t.Error("an option that is not valid is taken")
	}
	if got := optionsPolicy(t, parent); got != sealhttp.Optional {
		t.Errorf("the parent's policy is %v", got)
	}
	if len(parentSaw) != 3 || len(childSaw) > 0 {
		t.Errorf("the parent's observer was told %v, the child's %v", parentSaw, childSaw)
	}
	w := httptest.NewRecorder()
	child.Handler(new(policyHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 599 || len(parentSaw) != 3 || len(childSaw) != 1 {
		t.Errorf("the child answered %d; told %v, %v", w.Code, parentSaw, childSaw)
	}
}

func TestOptionsMust(t *testing.T) {
	m := negoMiddleware(t)
	if sealhttp.Must(m, nil) != m {
		t.Error("Must returns another Middleware")
	}
	want := errors.New("no")
	defer func() {
		if got := recover(); got != want {
			t.Errorf("Must panics with %v", got)
		}
	}()
	sealhttp.Must(m, want)
	t.Error("Must returned")
}

// optionsCall sends content to a handler that answers with what it read and the
// Content-Type that it saw.
func optionsCall(t *testing.T, m *sealhttp.Middleware, header http.Header, content io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", content)
	r.Header = header
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Saw", r.Header.Get("Content-Type"))
		if _, err := w.Write(body); err != nil && !errors.Is(err, sealhttp.CodeResponseTooLarge) {
			t.Error(err)
		}
	})).ServeHTTP(w, r)
	return w
}

func optionsSealed() http.Header {
	return http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}
}

// TestOptionsLimits: a limit is of plaintext bytes, and the last byte of it is
// within.
func TestOptionsLimits(t *testing.T) {
	unsized := func(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }
	sized := func(b []byte) io.Reader { return bytes.NewReader(b) }
	for _, tt := range []struct {
		name    string
		opts    []sealhttp.Option
		n       int
		content func([]byte) io.Reader
		want    string
	}{
		{"request at the limit", []sealhttp.Option{sealhttp.WithMaxRequestBytes(100)}, 100, sized, "200 "},
		{"request past it", []sealhttp.Option{sealhttp.WithMaxRequestBytes(100)}, 101, sized, "413 too_large"},
		{"at the limit, of unknown length", []sealhttp.Option{sealhttp.WithMaxRequestBytes(100)}, 100, unsized, "200 "},
		{"past it, of unknown length", []sealhttp.Option{sealhttp.WithMaxRequestBytes(100)}, 101, unsized, "413 too_large"},
		{"one byte", []sealhttp.Option{sealhttp.WithMaxRequestBytes(1)}, 1, sized, "200 "},
		{"two bytes", []sealhttp.Option{sealhttp.WithMaxRequestBytes(1)}, 2, sized, "413 too_large"},
		{"the largest limit", []sealhttp.Option{sealhttp.WithMaxRequestBytes(math.MaxInt64 >> 1), sealhttp.WithMaxResponseBytes(math.MaxInt64 >> 1)}, 5000, unsized, "200 "},
		{"the last limit", []sealhttp.Option{sealhttp.WithMaxRequestBytes(1), sealhttp.WithMaxRequestBytes(100)}, 100, sized, "200 "},
		{"the default", nil, 10 << 20, sized, "200 "},
		{"past the default", nil, 10<<20 + 1, sized, "413 too_large"},
		{"response at the limit", []sealhttp.Option{sealhttp.WithMaxResponseBytes(100)}, 100, sized, "200 "},
		{"response past it", []sealhttp.Option{sealhttp.WithMaxResponseBytes(100)}, 101, sized, "500 response_too_large"},
		{"response past the default", []sealhttp.Option{sealhttp.WithMaxRequestBytes(11 << 20)}, 10<<20 + 1, sized, "500 response_too_large"},
	} {
		plaintext := strings.Repeat("x", tt.n)
		w := optionsCall(t, negoMiddleware(t, tt.opts...), optionsSealed(), tt.content(negoSeal(t, negoServerKey, plaintext)))
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error")); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		} else if w.Code == 200 && negoOpen(t, negoCallerKey, w.Body.Bytes()) != plaintext {
			t.Errorf("%s: got another body", tt.name)
		}
	}
}

// optionsServe serves a handler that answers sealed with what it read.
func optionsServe(t *testing.T, opts ...sealhttp.Option) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(negoMiddleware(t, opts...).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	})))
	t.Cleanup(srv.Close)
	return srv
}

func optionsTransport(t *testing.T, opts ...sealhttp.TransportOption) *sealhttp.Transport {
	t.Helper()
	tr, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(negoServerKey.Public()), append([]sealhttp.TransportOption{sealhttp.WithPrivateKeys(negoCallerKey)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// optionsPost posts through a transport.
func optionsPost(t *testing.T, tr *sealhttp.Transport, url string, content io.Reader) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, content)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), nil
}

func TestOptionsLimitsOfTransport(t *testing.T) {
	srv := optionsServe(t)
	errSent := errors.New("it was sent")
	sending := sealhttp.WithBase(optionsRoundTripper(func(*http.Request) (*http.Response, error) { return nil, errSent }))
	for _, tt := range []struct {
		name string
		opts []sealhttp.TransportOption
		n    int
		want error
	}{
		{"request at the limit", []sealhttp.TransportOption{sealhttp.WithMaxRequestBytes(100)}, 100, nil},
		{"request past it is not sent", []sealhttp.TransportOption{sealhttp.WithMaxRequestBytes(100), sending}, 101, sealhttp.CodeTooLarge},
		{"request at the limit is sent", []sealhttp.TransportOption{sealhttp.WithMaxRequestBytes(100), sending}, 100, errSent},
		{"response at the limit", []sealhttp.TransportOption{sealhttp.WithMaxResponseBytes(100)}, 100, nil},
		{"response past it", []sealhttp.TransportOption{sealhttp.WithMaxResponseBytes(100)}, 101, sealhttp.CodeResponseTooLarge},
		{"past the default", []sealhttp.TransportOption{sending}, 10<<20 + 1, sealhttp.CodeTooLarge},
		{"the largest limits", []sealhttp.TransportOption{sealhttp.WithMaxRequestBytes(math.MaxInt64 >> 1), sealhttp.WithMaxResponseBytes(math.MaxInt64 >> 1)}, 100, nil},
	} {
		plaintext := strings.Repeat("x", tt.n)
		for name, content := range map[string]io.Reader{"sized": strings.NewReader(plaintext), "unsized": io.MultiReader(strings.NewReader(plaintext))} {
			got, err := optionsPost(t, optionsTransport(t, tt.opts...), srv.URL, content)
			if !errors.Is(err, tt.want) || err == nil && got != plaintext {
				t.Errorf("%s, %s: got %d bytes, %v; want %v", tt.name, name, len(got), err, tt.want)
			}
		}
	}
}

type optionsRoundTripper func(*http.Request) (*http.Response, error)

func (f optionsRoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOptionsInfo: a message opens where both sides have the same info.
func TestOptionsInfo(t *testing.T) {
	opts := func(request, response string) sealhttp.CommonOption {
		return sealhttp.WithInfo([]byte(request), []byte(response))
	}
	byFunc := func(request, response string) sealhttp.CommonOption {
		return sealhttp.WithInfoFunc(func(r *http.Request) ([]byte, []byte, error) {
			if r.Method != "POST" {
				return nil, nil, errors.New("no request is given")
			}
			return []byte(request), []byte(response), nil
		})
	}
	for _, tt := range []struct {
		name           string
		server, client sealhttp.CommonOption
		want           error
		also           error
	}{
		{"alike", opts("a", "b"), opts("a", "b"), nil, nil},
		{"alike, a function", opts("a", "b"), byFunc("a", "b"), nil, nil},
		{"alike, functions", byFunc("a", "b"), byFunc("a", "b"), nil, nil},
		{"nearly reserved", opts("sealhttp", "Sealhttp "), opts("sealhttp", "Sealhttp "), nil, nil},
		{"none", opts("", ""), sealhttp.WithInfo(nil, nil), nil, nil},
		{"another for the request", opts("a", "b"), opts("x", "b"), sealhttp.CodeDecryptionFailed, sealhttp.ErrRefused},
		{"none for the request", opts("a", "b"), opts("", "b"), sealhttp.CodeDecryptionFailed, sealhttp.ErrRefused},
		{"another for the response", opts("a", "b"), opts("a", "x"), sealhttp.CodeDecryptionFailed, sealhttp.ErrResponseNotOpened},
		{"the other way round", opts("a", "b"), opts("b", "a"), sealhttp.CodeDecryptionFailed, sealhttp.ErrRefused},
	} {
		got, err := optionsPost(t, optionsTransport(t, tt.client), optionsServe(t, tt.server).URL, strings.NewReader("x"))
		if !errors.Is(err, tt.want) || !errors.Is(err, tt.also) || err == nil && got != "x" {
			t.Errorf("%s: got %q, %v; want %v, %v", tt.name, got, err, tt.want, tt.also)
		}
	}
}

// TestOptionsInfoIsCopied: what becomes of the slices after WithInfo is nothing to
// it.
func TestOptionsInfoIsCopied(t *testing.T) {
	request, response := []byte("request"), []byte("response")
	option := sealhttp.WithInfo(request, response)
	clear(request)
	m := negoMiddleware(t, option)
	tr := optionsTransport(t, option)
	clear(response)
	message, err := negoServerKey.Public().Seal(nil, []byte("x"), []byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	w := optionsCall(t, m, optionsSealed(), bytes.NewReader(message))
	if got, err := negoCallerKey.Open(nil, w.Body.Bytes(), []byte("response")); string(got) != "x" || err != nil {
		t.Errorf("got %d %q, %v", w.Code, got, err)
	}
	if got, err := optionsPost(t, tr, optionsServe(t, option).URL, strings.NewReader("x")); got != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestOptionsInfoFunc: the function is asked once a sealed call, gets the request as
// it came, and an error of its is 503.
func TestOptionsInfoFunc(t *testing.T) {
	var asked []string
	m := negoMiddleware(t, sealhttp.WithInfoFunc(func(r *http.Request) ([]byte, []byte, error) {
		asked = append(asked, r.Header.Get("Content-Type"))
		switch account := r.Header.Get("X-Account"); account {
		case "down":
			return nil, nil, errors.New("10.0.0.7 is down")
		case "reserved":
			return []byte("sealhttp x"), nil, nil
		default:
			return []byte(account), nil, nil
		}
	}))
	message, err := negoServerKey.Public().Seal(nil, []byte("x"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	for account, want := range map[string]string{
		"a": "200 ",
		"b": "400 decryption_failed", // a body recorded from a
		"":  "400 decryption_failed", "down": "503 key_store_unavailable", "reserved": "503 key_store_unavailable",
	} {
		asked = nil
		header := optionsSealed()
		header.Set("X-Account", account)
		w := optionsCall(t, m, header, bytes.NewReader(message))
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error")); got != want || len(asked) != 1 || asked[0] != sealhttp.MediaType {
			t.Errorf("account %q: got %s, want %s; asked %q", account, got, want, asked)
		}
		if strings.Contains(w.Body.String(), "10.0.0.7") {
			t.Errorf("the caller is told %s", w.Body)
		}
	}
	asked = nil
	if w := optionsCall(t, m, http.Header{"X-Account": {"down"}}, strings.NewReader("x")); w.Code != 200 || len(asked) > 0 {
		t.Errorf("in plaintext: got %d, asked %q", w.Code, asked)
	}

	// On the caller's side nothing is sent.
	errDown := errors.New("down")
	for _, info := range []func(*http.Request) ([]byte, []byte, error){
		func(*http.Request) ([]byte, []byte, error) { return nil, nil, errDown },
		func(*http.Request) ([]byte, []byte, error) { return nil, []byte("sealhttp "), nil },
	} {
		tr := optionsTransport(t, sealhttp.WithInfoFunc(info), sealhttp.WithBase(optionsRoundTripper(func(*http.Request) (*http.Response, error) {
			t.Error("it was sent")
			return nil, errors.New("sent")
		})))
		_, err := optionsPost(t, tr, "http://api.example/", strings.NewReader("x"))
		var e *sealhttp.Error
		if !errors.As(err, &e) || e.Code != sealhttp.CodeKeyStoreUnavailable || e.Status != 0 {
			t.Errorf("got %v", err)
		}
	}
}

func TestOptionsDefaultContentType(t *testing.T) {
	for _, tt := range []struct {
		opts []sealhttp.Option
		sent []string
		want string
	}{
		{nil, nil, "application/json"},
		{[]sealhttp.Option{sealhttp.WithDefaultContentType("text/csv; charset=utf-8")}, nil, "text/csv; charset=utf-8"},
		{[]sealhttp.Option{sealhttp.WithDefaultContentType("text/csv")}, []string{""}, "text/csv"},
		{[]sealhttp.Option{sealhttp.WithDefaultContentType("text/csv")}, []string{"image/png"}, "image/png"},
	} {
		header := optionsSealed()
		if tt.sent != nil {
			header["Sealed-Content-Type"] = tt.sent
		}
		w := optionsCall(t, negoMiddleware(t, tt.opts...), header, bytes.NewReader(negoSeal(t, negoServerKey, "x")))
		if got := w.Header().Get("X-Saw"); got != tt.want {
			t.Errorf("Sealed-Content-Type %q: the handler saw %q, want %q", tt.sent, got, tt.want)
		}
	}
}

func TestOptionsProfiles(t *testing.T) {
	m := negoMiddleware(t, sealhttp.WithProfiles(sealhttp.MessageProfile), sealhttp.WithProfiles(sealhttp.MessageProfile, sealhttp.MessageProfile))
	if got := optionsPolicy(t, m); got != sealhttp.Optional {
		t.Errorf("got %v", got)
	}
	if got, err := optionsPost(t, optionsTransport(t, sealhttp.WithProfile(sealhttp.MessageProfile)), optionsServe(t).URL, strings.NewReader("x")); got != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestOptionsLogger: refusals of what callers do are for debugging, failures of the
// server's own side are warnings and errors.
func TestOptionsLogger(t *testing.T) {
	down := sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) {
		return nil, errors.New("the database is down")
	}))
	for _, tt := range []struct {
		name string
		opts []sealhttp.Option
		says []string
	}{
		{"refused", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}, []string{"level=DEBUG", "code=encryption_disabled", "status=415"}},
		{"unavailable", []sealhttp.Option{down}, []string{"level=WARN", "code=key_store_unavailable", "status=503", "the database is down"}},
		{"too large", []sealhttp.Option{sealhttp.WithMaxResponseBytes(1)}, []string{"level=ERROR", "code=response_too_large"}},
		{"served", nil, nil},
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		m := negoMiddleware(t, append(tt.opts, sealhttp.WithLogger(logger))...)
		optionsCall(t, m, optionsSealed(), bytes.NewReader(negoSeal(t, negoServerKey, "plaintext")))
		if lines := strings.Count(log.String(), "\n"); lines != min(len(tt.says), 1) {
			t.Errorf("%s: %d lines: %s", tt.name, lines, log.String())
		}
		for _, says := range tt.says {
			if !strings.Contains(log.String(), says) {
				t.Errorf("%s: no %q in %s", tt.name, says, log.String())
			}
		}
		if strings.Contains(log.String(), "plaintext") {
			t.Errorf("%s: the plaintext is in %s", tt.name, log.String())
		}

		// Levels that the logger drops cost nothing, and are not logged.
		log.Reset()
		logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError + 1}))
		m = negoMiddleware(t, append(tt.opts, sealhttp.WithLogger(logger))...)
		optionsCall(t, m, optionsSealed(), bytes.NewReader(negoSeal(t, negoServerKey, "plaintext")))
		if log.Len() > 0 {
			t.Errorf("%s: logged %s", tt.name, log.String())
		}
	}
}

// TestOptionsErrorHandler: the handler gets the error, and its answer goes out.
func TestOptionsErrorHandler(t *testing.T) {
	errTold := errors.New("nothing told")
	handler := sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
		errTold = err
		if errors.Is(err, sealhttp.CodeTooLarge) {
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, r.Method+" is too long")
			return
		}
		sealhttp.WriteError(w, r, err)
	})
	for _, tt := range []struct {
		name string
		opts []sealhttp.Option
		code sealhttp.Code
		want string
	}{
		{"by itself", []sealhttp.Option{sealhttp.WithMaxRequestBytes(1)}, sealhttp.CodeTooLarge, "418 POST is too long"},
		{"by WriteError", []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Disabled)}, sealhttp.CodeEncryptionDisabled, `415 {"type":"https:`},
		{"of a response", []sealhttp.Option{sealhttp.WithMaxResponseBytes(1)}, sealhttp.CodeResponseTooLarge, `500 {"type":"https:`},
	} {
		errTold = nil
		w := optionsCall(t, negoMiddleware(t, append(tt.opts, handler)...), optionsSealed(), bytes.NewReader(negoSeal(t, negoServerKey, "xyz")))
		var e *sealhttp.Error
		if !errors.As(errTold, &e) || e.Code != tt.code {
			t.Errorf("%s: the handler was told %v", tt.name, errTold)
		}
		if got := fmt.Sprintf("%d %s", w.Code, w.Body); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestOptionsPrivateKeys: of several options the last one wins, and of several keys
// each opens.
func TestOptionsPrivateKeys(t *testing.T) {
	other := negoKey()
	srv := optionsServe(t) // seals to negoCallerKey
	source := func(keys ...*seal.PrivateKey) sealhttp.TransportOption {
		return sealhttp.WithPrivateKeySource(negoKeys(keys...))
	}
	errDown := errors.New("down")
	for _, tt := range []struct {
		name string
		opts []sealhttp.TransportOption
		want error
	}{
		{"one", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(negoCallerKey)}, nil},
		{"the current one", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(negoCallerKey, other)}, nil},
		{"a previous one", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(other, negoCallerKey)}, nil},
		{"another", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(other)}, sealhttp.CodeUnknownKey},
		{"a source", []sealhttp.TransportOption{source(negoCallerKey)}, nil},
		{"keys, then keys", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(other), sealhttp.WithPrivateKeys(negoCallerKey)}, nil},
		{"keys, then a source", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(other), source(negoCallerKey)}, nil},
		{"a source, then keys", []sealhttp.TransportOption{source(negoCallerKey), sealhttp.WithPrivateKeys(other)}, sealhttp.CodeUnknownKey},
		{"a source that is down", []sealhttp.TransportOption{sealhttp.WithPrivateKeySource(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			return nil, errDown
		}))}, errDown},
		{"a source without keys", []sealhttp.TransportOption{sealhttp.WithPrivateKeySource(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			return nil, nil
		}))}, sealhttp.CodeKeyStoreUnavailable},
	} {
		got, err := optionsPost(t, optionsTransport(t, tt.opts...), srv.URL, strings.NewReader("x"))
		if !errors.Is(err, tt.want) || err == nil && got != "x" {
			t.Errorf("%s: got %q, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

// TestOptionsServerKeys: keys that cannot be had are 503, and are not asked for
// where nothing is sealed.
func TestOptionsServerKeys(t *testing.T) {
	for name, f := range map[string]func() (*seal.KeySet, error){
		"an error": func() (*seal.KeySet, error) { return nil, errors.New("10.0.0.7 is down") },
		"nil":      func() (*seal.KeySet, error) { return nil, nil },
	} {
		asked := 0
		m, err := sealhttp.New(sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			asked++
			return f()
		}), sealhttp.WithClientKeys(optionsClientKeys), optionsQuiet)
		if err != nil {
			t.Fatal(err)
		}
		for _, header := range []http.Header{optionsSealed(), {"Content-Type": {sealhttp.MediaType}}, {"Accept": {sealhttp.MediaType}}} {
			asked = 0
			w := optionsCall(t, m, header, strings.NewReader("x"))
			if w.Code != 503 || w.Header().Get("Sealed-Error") != "key_store_unavailable" || asked != 1 || strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Errorf("%s: got %d %s, asked %d times", name, w.Code, w.Body, asked)
			}
		}
		asked = 0
		if w := optionsCall(t, m, http.Header{}, strings.NewReader("x")); w.Code != 200 || asked != 0 {
			t.Errorf("%s: in plaintext: got %d, asked %d times", name, w.Code, asked)
		}
	}
}

// TestOptionsClientKeys: what the resolver says, and what becomes of it.
func TestOptionsClientKeys(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  *seal.PublicKey
		err  error
		want string
	}{
		{"a key", negoCallerKey.Public(), nil, "200 "},
		{"nil", nil, nil, "406 no_client_key"},
		{"ErrNoClientKey", nil, sealhttp.ErrNoClientKey, "406 no_client_key"},
		{"wrapped", nil, fmt.Errorf("account: %w", sealhttp.ErrNoClientKey), "406 no_client_key"},
		{"an error", nil, errors.New("sql: no rows in result set"), "503 key_store_unavailable"},
		{"an error beside a key", negoCallerKey.Public(), errors.New("down"), "503 key_store_unavailable"},
		{"the context's", nil, context.Canceled, "503 key_store_unavailable"},
		{"the server's own key", negoServerKey.Public(), nil, "406 no_client_key"},
	} {
		m := negoMiddleware(t, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return tt.key, tt.err })))
		w := optionsCall(t, m, optionsSealed(), bytes.NewReader(negoSeal(t, negoServerKey, "x")))
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error")); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		// Without a sealed reply nobody is asked.
		header := optionsSealed()
		header.Del("Accept")
		if w := optionsCall(t, m, header, bytes.NewReader(negoSeal(t, negoServerKey, "x"))); w.Code != 200 {
			t.Errorf("%s: answered in plaintext: got %d", tt.name, w.Code)
		}
	}
}
