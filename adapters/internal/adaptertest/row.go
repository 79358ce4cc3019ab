package adaptertest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// Row is one scenario: a call, what is expected of it in plaintext, and where a sealed
// call is meant to differ.
type Row struct {
	Name    string
	Stack   Stack
	Options []sealhttp.Option

	Method string // GET if empty
	Target string
	Header map[string]string
	Body   []byte // nil: none
	// ContentType is the body's, application/json if empty, none if "-".
	ContentType string
	Chunked     bool // no Content-Length is sent

	// Want is what is expected of the call in plaintext.
	Want Want
	// WantReply is what is expected, where it differs, if the response is sealed;
	// WantOpened if only the request is, WantSealed if both are.
	WantReply, WantOpened, WantSealed *Want
	// HandlerDiffers says that a sealed call shows the handler something else.
	HandlerDiffers bool
	// NotLogged says that the router's accounting cannot know what was sent, or
	// NotLoggedInClear that it does not where the response is in plaintext.
	NotLogged, NotLoggedInClear bool
	// OnlySealed leaves out what is not sealed, as undefined or pointless.
	OnlySealed bool
	// Check looks at an answer of any mode.
	Check func(t *testing.T, mode Mode, a *Answer)
	// In changes the row for a router, InHTTP2 for HTTP/2.
	In      map[string]func(*Row)
	InHTTP2 func(*Row)
}

// Want is what a caller is to get.
type Want struct {
	Status   int    // 0: as in plaintext
	Contains string // in the body's plaintext; the canary if empty, nothing if "-"
	Aborted  bool   // the connection breaks
	// InClear says that a sealed call is answered in plaintext, by what is outside of
	// sealhttp or by sealhttp itself, with this Code.
	InClear bool
	Code    sealhttp.Code
	// Differs says that body and header are not those of the call in plaintext.
	Differs bool
}

// Run runs rows on a router.
func Run(t *testing.T, router Router, rows []Row) {
	seen := make(map[string]bool)
	calls, file := 0, newFile(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, row := range rows {
		if seen[row.Name] {
			t.Fatalf("two rows are called %q", row.Name)
		}
		seen[row.Name] = true
		if change := row.In[router.Name]; change != nil {
			change(&row)
		}
		t.Run(row.Name, func(t *testing.T) {
			for _, proto := range Protocols {
				row := row
				if row.InHTTP2 != nil && proto == Protocols[1] {
					row.InHTTP2(&row)
				}
				t.Run(proto, func(t *testing.T) { calls += row.run(t, router, proto, file) })
			}
		})
	}
	t.Logf("%s: %d rows over %d protocols, %d calls", router.Name, len(rows), len(Protocols), calls)
}

func (row *Row) run(t *testing.T, router Router, proto, file string) (calls int) {
	var plain *Answer
	for _, mode := range row.modes() {
		site := &Site{M: NewMiddleware(t, row.Options...), Stack: row.Stack, File: file}
		answer := do(t, router, site, proto, row.call(t, mode))
		calls++
		if left, err := filepath.Glob(filepath.Join(os.TempDir(), "*")); err != nil || len(left) > 0 {
			for _, name := range left {
				err = errors.Join(err, os.Remove(name))
			}
			if mode != Plain || !router.CopiesRequests || err != nil {
				t.Errorf("%s: temporary files are left: %q, %v", mode, left, err)
			}
		}
		if mode == Plain {
			plain = answer
		}
		t.Run(mode.String(), func(t *testing.T) {
			row.check(t, mode, proto, answer, plain)
			if row.Check != nil {
				row.Check(t, mode, answer)
			}
		})
	}
	return calls
}

func (row *Row) modes() []Mode {
	switch {
	case row.OnlySealed:
		return []Mode{Sealed}
	case row.Body == nil:
		return []Mode{Plain, Sealed}
	}
	return []Mode{Plain, Opened, Asked, Sealed}
}

func (row *Row) method() string {
	if row.Method == "" {
		return http.MethodGet
	}
	return row.Method
}

func (row *Row) call(t testing.TB, mode Mode) call {
	t.Helper()
	c := call{method: row.method(), target: row.Target, header: make(http.Header), body: row.Body, chunked: row.Chunked}
	c.header.Set("X-Account", Account)
	c.header.Set("User-Agent", "adaptertest")
	if row.Body != nil && row.ContentType != "-" {
		c.header.Set("Content-Type", "application/json")
		if row.ContentType != "" {
			c.header.Set("Content-Type", row.ContentType)
		}
	}
	for name, value := range row.Header {
		c.header.Set(name, value)
	}
	if mode.request() && row.Body != nil {
		c.body = sealed(t, row.Body)
		if contentType := c.header.Get("Content-Type"); contentType != "" {
			c.header.Set("Sealed-Content-Type", contentType)
		}
		c.header.Set("Content-Type", sealhttp.MediaType)
	}
	if mode.response() {
		c.header["Accept"] = append([]string{sealhttp.MediaType}, c.header["Accept"]...)
	}
	return c
}

// want returns what is expected in a mode.
func (row *Row) want(mode Mode) Want {
	want := row.Want
	switch {
	case mode == Sealed && row.WantSealed != nil:
		want = *row.WantSealed
	case mode.response() && row.WantReply != nil:
		want = *row.WantReply
	case mode == Opened && row.WantOpened != nil:
		want = *row.WantOpened
	}
	if want.Status == 0 {
		want.Status = row.Want.Status
	}
	switch want.Contains {
	case "":
		want.Contains = Canary
	case "-":
		want.Contains = ""
	}
	return want
}

func (row *Row) check(t *testing.T, mode Mode, proto string, got, plain *Answer) {
	want := row.want(mode)
	row.checkSocket(t, mode, proto, want, got)
	if want.Aborted {
		if got.Err == nil {
			t.Errorf("the connection did not break: status %d, body %.200q", got.Status, got.Plaintext)
		}
		return
	}
	if got.Err != nil {
		t.Fatalf("no whole response: %v", got.Err)
	}
	if got.Status != want.Status {
		t.Errorf("status %d, want %d; body %.200q", got.Status, want.Status, got.Plaintext)
	}
	if got.Header.Get("Sealed-Error") != string(want.Code) {
		t.Errorf("Sealed-Error: %q, want %q", got.Header.Get("Sealed-Error"), want.Code)
	}
	content := hasContent(row.method(), got.Status)
	if content && !strings.Contains(string(got.Plaintext), want.Contains) {
		t.Errorf("%q is not in the body %.200q", want.Contains, got.Plaintext)
	}
	isSealed := mode.response() && !want.InClear
	if content && got.IsSealed() != isSealed {
		t.Errorf("the response is sealed: %t, want %t; %v", got.IsSealed(), isSealed, got.Header)
	}
	if isSealed {
		row.checkSealedHeader(t, got, content)
	}
	row.checkLogged(t, mode, got)
	if got.Sight != nil {
		info := got.Sight.Info
		if want := mode.request() && row.Body != nil; info.RequestSealed != want && !row.HandlerDiffers {
			t.Errorf("the handler is told RequestSealed %t, want %t", info.RequestSealed, want)
		}
	}
	if mode == Plain || plain == nil {
		return
	}
	if !row.HandlerDiffers {
		row.compareSight(t, mode, got.Sight, plain.Sight)
		if !reflect.DeepEqual(got.Notes, plain.Notes) {
			t.Errorf("noted in plaintext:\n%v\nand here:\n%v", plain.Notes, got.Notes)
		}
	}
	if want.Differs || want.Code != "" {
		return
	}
	if !bytes.Equal(got.Plaintext, plain.Plaintext) {
		t.Errorf("the body is %.300q, in plaintext it is %.300q", got.Plaintext, plain.Plaintext)
	}
	if !slices.Equal(got.Hints, plain.Hints) {
		t.Errorf("1xx responses: %q, in plaintext %q", got.Hints, plain.Hints)
	}
	row.compareHeader(t, isSealed, content, got, plain)
}

// checkSocket looks for the canary in every byte, where it may not be, and as a control
// where it must be.
func (row *Row) checkSocket(t *testing.T, mode Mode, proto string, want Want, got *Answer) {
	canary := []byte(Canary)
	in, out := bytes.Contains(got.In, canary), bytes.Contains(got.Out, canary)
	// HTTP/2 does not wait for a body that its handler does not read.
	hasBody := len(row.Body) > 0 && (proto == Protocols[0] || row.Target == "/echo" && got.Status == http.StatusOK)
	switch {
	case mode.request() && in:
		t.Error("the canary of a sealed request is on the socket")
	case !mode.request() && hasBody && !in && row.Header["Expect"] == "":
		t.Error("the control failed: the canary of a request in plaintext is not on the socket")
	}
	switch {
	case mode.response() && !want.InClear && out:
		t.Error("the canary of a sealed response is on the socket")
	case mode.response() && want.Code != "" && out:
		t.Error("the canary is in a refusal")
	case mode == Plain && !out && bytes.Contains(got.Body, canary):
		t.Error("the control failed: the canary of a response in plaintext is not on the socket")
	}
}

func (row *Row) checkSealedHeader(t *testing.T, got *Answer, content bool) {
	h := got.Header
	if h.Get("Cache-Control") != "no-store, no-transform" {
		t.Errorf("Cache-Control of a sealed response: %q", h.Get("Cache-Control"))
	}
	for _, name := range []string{"Content-Range", "Accept-Ranges", "Content-Md5", "Digest", "Trailer"} {
		if h[name] != nil {
			t.Errorf("a sealed response has %s: %q", name, h[name])
		}
	}
	if len(got.Trailer) > 0 {
		t.Errorf("a sealed response has trailers: %v", got.Trailer)
	}
	switch {
	case !content && (h["Content-Type"] != nil || h["Sealed-Content-Type"] != nil):
		t.Errorf("a response without content has a type: %v", h)
	case !content && h.Get("Content-Length") != "" && h.Get("Content-Length") != "0":
		t.Errorf("a response without content tells a length: %v", h)
	}
}

// checkLogged compares the router's accounting with the wire.
func (row *Row) checkLogged(t *testing.T, mode Mode, got *Answer) {
	if row.NotLogged || got.Logged == nil || row.NotLoggedInClear && !mode.response() {
		return
	}
	want := Logged{got.Status, int64(len(got.Body))}
	if !mode.response() && !hasContent(row.method(), got.Status) {
		want.Size = got.Logged.Size // what a HEAD's handler wrote is counted by some
	}
	if *got.Logged != want {
		t.Errorf("the router's accounting says %+v, on the wire is %+v", *got.Logged, want)
	}
}

// compareSight compares what the handler saw.
func (row *Row) compareSight(t *testing.T, mode Mode, got, plain *Sight) {
	if got == nil || plain == nil {
		if got != plain {
			t.Errorf("the handler ran: %t, in plaintext %t", got != nil, plain != nil)
		}
		return
	}
	a, b := *got, *plain
	a.Info, b.Info = sealhttp.CallInfo{}, sealhttp.CallInfo{}
	a.Sealed, b.Sealed = false, false
	a.Header, b.Header = a.Header.Clone(), b.Header.Clone()
	if mode.response() {
		for _, name := range []string{"Accept-Encoding", "Range", "If-Range"} {
			if a.Header[name] != nil {
				t.Errorf("the handler of a sealed response sees %s: %q", name, a.Header[name])
			}
			b.Header.Del(name)
		}
	}
	if len(row.Body) == 0 { // HTTP/2 has a body of no bytes
		a.HasBody, b.HasBody = false, false
	}
	if mode.request() && row.Chunked { // a message was read whole
		a.ContentLength, b.ContentLength = 0, 0
		a.TransferEncoding, b.TransferEncoding = nil, nil
		a.Header.Del("Content-Length")
	}
	a.Header.Del("Trailer")
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the handler saw\n%+v\nand in plaintext\n%+v", a, b)
	}
}

// compareHeader compares the response's header, and that of the call in plaintext.
func (row *Row) compareHeader(t *testing.T, isSealed, content bool, got, plain *Answer) {
	a, b := maps.Clone(got.Header), maps.Clone(plain.Header)
	delete(a, "Date")
	delete(b, "Date")
	if isSealed {
		if content && !slices.Equal(a["Sealed-Content-Type"], b["Content-Type"]) {
			t.Errorf("Sealed-Content-Type: %q, in plaintext Content-Type: %q", a["Sealed-Content-Type"], b["Content-Type"])
		}
		for _, name := range []string{
			"Content-Type", "Sealed-Content-Type", "Content-Length", "Cache-Control", "Accept-Ranges", "Content-Range", "Trailer", "Content-Md5",
		} {
			delete(a, name)
			delete(b, name)
		}
	}
	for _, name := range []string{"Vary", "Allow"} { // lists without an order
		a[name], b[name] = tokens(a[name]), tokens(b[name])
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the header is\n%v\nand in plaintext\n%v", a, b)
	}
}

// tokens splits a list-valued field, sorted.
func tokens(lines []string) []string {
	var all []string
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			all = append(all, strings.ToLower(strings.TrimSpace(token)))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func gunzip(t testing.TB, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(readAll(r))
}
