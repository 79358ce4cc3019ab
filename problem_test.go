package sealhttp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// problemStatuses is the wire format's table of errors.
var problemStatuses = map[sealhttp.Code][]int{
	sealhttp.CodeMalformed:                  {400},
	sealhttp.CodeDecryptionFailed:           {400},
	sealhttp.CodeUnknownKey:                 {400},
	sealhttp.CodeEncryptionRequired:         {415, 406},
	sealhttp.CodeEncryptionDisabled:         {415, 406},
	sealhttp.CodeUnsupportedProfile:         {415, 406},
	sealhttp.CodeNoClientKey:                {406},
	sealhttp.CodeTooLarge:                   {413},
	sealhttp.CodeResponseTooLarge:           {500},
	sealhttp.CodeUnsupportedContentEncoding: {500},
	sealhttp.CodePolicyUnavailable:          {503},
	sealhttp.CodeKeyStoreUnavailable:        {503},
	sealhttp.CodeBindingRequired:            {400},
	sealhttp.CodeStale:                      {400},
	sealhttp.CodeReplayed:                   {409},
	sealhttp.CodeRequestIncomplete:          {400},
	sealhttp.CodeReplayGuardUnavailable:     {503},
}

const problemDocs = "docs/errors.md"

// TestProblemCodes: there is no code that the tests or the documentation do not
// know, nor the other way round.
func TestProblemCodes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && fmt.Sprint(spec.Type) == "Code" {
			for _, value := range spec.Values {
				code, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				declared = append(declared, code)
			}
		}
		return true
	})
	var tested []string
	for code := range problemStatuses {
		tested = append(tested, string(code))
	}
	docs, err := os.ReadFile(problemDocs)
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, section := range strings.Split(string(docs), "\n## ")[1:] {
		code, text, _ := strings.Cut(section, "\n")
		documented = append(documented, code)
		for _, status := range problemStatuses[sealhttp.Code(code)] {
			if !strings.Contains(text, "`"+strconv.Itoa(status)+"`") {
				t.Errorf("%s: the section on %s does not name %d", problemDocs, code, status)
			}
		}
		for _, who := range []string{"- Caller: ", "- Operator: "} {
			if strings.Count(text, who) != 1 {
				t.Errorf("%s: the section on %s has no %q", problemDocs, code, who)
			}
		}
	}
	slices.Sort(declared)
	slices.Sort(tested)
	slices.Sort(documented)
	if len(declared) < 12 || !slices.Equal(declared, tested) || !slices.Equal(declared, documented) {
		t.Errorf("codes declared:\n%q, tested:\n%q, documented:\n%q", declared, tested, documented)
	}
}

// TestProblemDocsExample makes the call at the head of the documentation, and
// compares the answer.
func TestProblemDocsExample(t *testing.T) {
	docs, err := os.ReadFile(problemDocs)
	if err != nil {
		t.Fatal(err)
	}
	curl := regexp.MustCompile("```sh\ncurl -i http://localhost:8080(\\S+) -H '(\\S+): (\\S+)' -d '(.*)'\n```").FindSubmatch(docs)
	answer := regexp.MustCompile("(?s)```http\n(.*?)\n```").FindSubmatch(docs)
	if curl == nil || answer == nil {
		t.Fatal("no example")
	}
	m, err := sealhttp.New(negoKeys(negoServerKey))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(m.Handler(http.NotFoundHandler()))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+string(curl[1]), bytes.NewReader(curl[4]))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(string(curl[2]), string(curl[3]))
	got, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	got.Header.Del("Date")
	want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(answer[1], '\n'))), req)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Body.Close()
	if got.Status != want.Status || !reflect.DeepEqual(got.Header, want.Header) {
		t.Errorf("got %s %q\nwant %s %q", got.Status, got.Header, want.Status, want.Header)
	}
	gotBody, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantBody, err := io.ReadAll(want.Body)
	if err != nil || string(gotBody) != string(wantBody) {
		t.Errorf("got  %s\nwant %s, %v", gotBody, wantBody, err)
	}
}

// problemBody is a problem as callers read it.
type problemBody struct {
	Type, Title, Detail, Code string
	Status                    int
}

func problemParse(t *testing.T, body []byte) problemBody {
	t.Helper()
	var p problemBody
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return p
}

// TestProblemWriteError writes each code, over HTTP/1.1 and HTTP/2.
func TestProblemWriteError(t *testing.T) {
	const cause = "sk_live_4242 is the secret cause"
	var written error
	for _, srv := range negoServers(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sealhttp.WriteError(w, r, written)
	})) {
		titles := map[string]sealhttp.Code{}
		for code, statuses := range problemStatuses {
			for _, status := range statuses {
				for form, err := range map[string]error{
					"alone":   &sealhttp.Error{Code: code, Status: status},
					"caused":  &sealhttp.Error{Code: code, Status: status, Err: errors.New(cause)},
					"wrapped": fmt.Errorf("%s: %w", cause, &sealhttp.Error{Code: code, Status: status}),
					"joined":  errors.Join(errors.New(cause), &sealhttp.Error{Code: code, Status: status}),
				} {
					written = err
					for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS"} {
						t.Run(fmt.Sprintf("%s/%s/%d/%s/%s", srv.proto, code, status, form, method), func(t *testing.T) {
							req, err := http.NewRequestWithContext(t.Context(), method, srv.url, nil)
							if err != nil {
								t.Fatal(err)
							}
							resp, body := srv.do(t, req)
							if resp.StatusCode != status {
								t.Errorf("got %d, want %d", resp.StatusCode, status)
							}
							want := http.Header{
								"Content-Type":   {"application/problem+json"},
								"Sealed-Error":   {string(code)},
								"Cache-Control":  {"no-store, no-transform"},
								"Vary":           {"Accept, Sealed-Exchange"},
								"Content-Length": resp.Header["Content-Length"],
							}
							if status == 503 {
								want["Retry-After"] = []string{"5"}
							}
							resp.Header.Del("Date")
							if !reflect.DeepEqual(resp.Header, want) || want["Content-Length"] == nil {
								t.Errorf("got the header\n%q, want\n%q", resp.Header, want)
							}
							if method == "HEAD" {
								if len(body) > 0 {
									t.Errorf("got the body %q", body)
								}
								return
							}
							if strings.Contains(string(body), "4242") {
								t.Errorf("the cause is in %s", body)
							}
							if !bytes.HasSuffix(body, []byte("}\n")) {
								t.Errorf("the body ends in %q", body[len(body)-2:])
							}
							p := problemParse(t, body)
							if p.Code != string(code) || p.Status != status || p.Title == "" || p.Detail == "" {
								t.Errorf("got %+v", p)
							}
							if other, ok := titles[p.Title]; ok && other != code {
								t.Errorf("%s and %s have one title", other, code)
							}
							titles[p.Title] = code
							if u, err := url.Parse(p.Type); err != nil || u.Scheme != "https" || u.Fragment != string(code) || !strings.HasSuffix(u.Path, "/"+problemDocs) {
								t.Errorf("got the type %s", p.Type)
							}
						})
					}
				}
			}
		}
	}
}

// TestProblemForeignErrors: of an error that is not ours to tell, nothing is told.
// One without the status of an error is the caller's side's.
func TestProblemForeignErrors(t *testing.T) {
	const secret = "4242"
	for name, err := range map[string]error{
		"foreign":              errors.New(secret),
		"nil":                  nil,
		"no client key":        fmt.Errorf("%s: %w", secret, sealhttp.ErrNoClientKey),
		"a code alone":         sealhttp.CodeUnknownKey,
		"nothing was received": &sealhttp.Error{Code: sealhttp.CodeTooLarge, Err: errors.New(secret)},
		"a sealed 200":         &sealhttp.Error{Code: sealhttp.CodeDecryptionFailed, Status: 200, Err: errors.New(secret)},
		"a redirect":           &sealhttp.Error{Code: sealhttp.CodeDecryptionFailed, Status: 302},
		"no status":            &sealhttp.Error{Code: sealhttp.CodeDecryptionFailed, Status: 99},
		"negative":             &sealhttp.Error{Code: sealhttp.CodeDecryptionFailed, Status: -1},
		"past all":             &sealhttp.Error{Code: sealhttp.CodeDecryptionFailed, Status: 600},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Sealed-Error", "stale")
		sealhttp.WriteError(w, httptest.NewRequest("GET", "/", nil), err)
		want := problemBody{Type: "about:blank", Title: "Internal Server Error", Status: 500}
		if got := problemParse(t, w.Body.Bytes()); w.Code != 500 || got != want {
			t.Errorf("%s: got %d %+v", name, w.Code, got)
		}
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: told %s", name, w.Body)
		}
		if got := w.Header()["Sealed-Error"]; got != nil {
			t.Errorf("%s: got Sealed-Error %q", name, got)
		}
		if w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store, no-transform" || w.Header().Get("Retry-After") != "" {
			t.Errorf("%s: got the header %q", name, w.Header())
		}
	}
}

// TestProblemHeader: what speaks of another body goes, what speaks of the call stays.
func TestProblemHeader(t *testing.T) {
	gone := http.Header{
		"Content-Type":          {"text/html"},
		"Content-Length":        {"3"},
		"Content-Encoding":      {"gzip"},
		"Content-Language":      {"de"},
		"Content-Location":      {"/x"},
		"Content-Disposition":   {"attachment"},
		"Content-Range":         {"bytes 0-1/2"},
		"Content-Md5":           {"x"},
		"Content-Digest":        {"x"},
		"Repr-Digest":           {"x"},
		"Digest":                {"x"},
		"Accept-Ranges":         {"bytes"},
		"Etag":                  {`"x"`},
		"Last-Modified":         {"x"},
		"Cache-Control":         {"public, max-age=3600"},
		"Cdn-Cache-Control":     {"max-age=3600"},
		"Surrogate-Control":     {"max-age=3600"},
		"Sealed-Content-Type":   {"text/html"},
		"Sealed-Exchange":       {"v=1"},
		"Sealed-Error":          {"stale", "replayed"},
		"Retry-After":           {"3600"},
		"Trailer":               {"X-Sum"},
		"Trailer:X-Undeclared":  {"x"},
		"Trailer:Content-Type":  {"x"},
		"Transfer-Encoding":     {"gzip"},
		"Trailer:Sealed-Error2": {"x"},
	}
	kept := http.Header{
		"Set-Cookie":                  {"a=b", "c=d"},
		"Access-Control-Allow-Origin": {"*"},
		"X-Request-Id":                {"1"},
		"Www-Authenticate":            {"Basic"},
		"Strict-Transport-Security":   {"max-age=1"},
		"Vary":                        {"Origin", "Accept-Encoding"},
		"Date":                        {"x"},
	}
	for status, retry := range map[int][]string{400: nil, 503: {"5"}, 500: nil} {
		w := httptest.NewRecorder()
		maps.Copy(w.Header(), gone)
		maps.Copy(w.Header(), kept)
		sealhttp.WriteError(w, httptest.NewRequest("GET", "/", nil), &sealhttp.Error{Code: sealhttp.CodeMalformed, Status: status})
		want := kept.Clone()
		want["Vary"] = []string{"Origin", "Accept-Encoding", "Accept, Sealed-Exchange"}
		want["Content-Type"] = []string{"application/problem+json"}
		want["Content-Length"] = []string{strconv.Itoa(w.Body.Len())}
		want["Cache-Control"] = []string{"no-store, no-transform"}
		want["Sealed-Error"] = []string{"malformed"}
		if retry != nil {
			want["Retry-After"] = retry
		}
		for name, lines := range want {
			if !slices.Equal(w.Header()[name], lines) {
				t.Errorf("%d: got %s: %q, want %q", status, name, w.Header()[name], lines)
			}
		}
		for name, lines := range w.Header() {
			if want[name] == nil {
				t.Errorf("%d: got %s: %q", status, name, lines)
			}
		}
	}

	// The lines that all responses share stay as they are.
	w := httptest.NewRecorder()
	sealhttp.WriteError(w, httptest.NewRequest("GET", "/", nil), nil)
	w.Header().Add("Vary", "Origin")
	w.Header().Add("Cache-Control", "private")
	w = httptest.NewRecorder()
	sealhttp.WriteError(w, httptest.NewRequest("GET", "/", nil), nil)
	if v, c := w.Header()["Vary"], w.Header()["Cache-Control"]; len(v) != 1 || len(c) != 1 {
		t.Errorf("got Vary %q, Cache-Control %q", v, c)
	}
}

// TestProblemTrailers: the trailers of a response that could not be sealed do not
// follow the problem, as HTTP/2 would let them.
func TestProblemTrailers(t *testing.T) {
	const secret = "sum of the plaintext"
	custom := sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, _ error) {
		http.Error(w, "no", http.StatusInternalServerError)
	})
	for name, opts := range map[string][]sealhttp.Option{"WriteError": nil, "an error handler": {custom}} {
		m := negoMiddleware(t, append(opts, sealhttp.WithMaxResponseBytes(3))...)
		for _, srv := range negoServers(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			if r.URL.Path == "/encoded" {
				w.Header().Set("Content-Encoding", "br")
				io.WriteString(w, "x")
			} else {
				io.WriteString(w, "too long")
			}
			w.Header().Set("X-Sum", secret)
			w.Header().Set(http.TrailerPrefix+"X-Other", secret)
		}))) {
			for path, code := range map[string]string{"/long": "response_too_large", "/encoded": "unsupported_content_encoding"} {
				req, err := http.NewRequestWithContext(t.Context(), "GET", srv.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", sealhttp.MediaType)
				resp, body := srv.do(t, req)
				if resp.StatusCode != 500 || resp.Header.Get("Sealed-Error") != code {
					t.Errorf("%s, %s, %s: got %d %s", name, srv.proto, path, resp.StatusCode, body)
				}
				if len(resp.Trailer) > 0 {
					t.Errorf("%s, %s, %s: got the trailers %q", name, srv.proto, path, resp.Trailer)
				}
			}
		}
	}
}

// TestProblemErrorsIs: programs find codes and causes however errors are wrapped.
func TestProblemErrorsIs(t *testing.T) {
	cause := errors.New("a cause")
	for _, tt := range []struct {
		name     string
		err      error
		is, isNo []error
	}{
		{"an Error", &sealhttp.Error{Code: sealhttp.CodeUnknownKey},
			[]error{sealhttp.CodeUnknownKey},
			[]error{sealhttp.CodeMalformed, sealhttp.Code(""), sealhttp.ErrNoClientKey, sealhttp.ErrRefused, cause, errors.New("unknown_key")}},
		{"with a cause", &sealhttp.Error{Code: sealhttp.CodeMalformed, Err: cause},
			[]error{sealhttp.CodeMalformed, cause},
			[]error{sealhttp.CodeUnknownKey}},
		{"with several", &sealhttp.Error{Code: sealhttp.CodeMalformed, Err: errors.Join(sealhttp.ErrRefused, cause)},
			[]error{sealhttp.CodeMalformed, cause, sealhttp.ErrRefused},
			[]error{sealhttp.ErrResponseNotOpened}},
		{"as http.Client returns it", &url.Error{Op: "Get", URL: "x", Err: &sealhttp.Error{Code: sealhttp.CodeTooLarge, Err: cause}},
			[]error{sealhttp.CodeTooLarge, cause},
			[]error{sealhttp.CodeMalformed}},
		{"no client key", &sealhttp.Error{Code: sealhttp.CodeNoClientKey},
			[]error{sealhttp.CodeNoClientKey, sealhttp.ErrNoClientKey}, nil},
		{"another code, for want of a client key", &sealhttp.Error{Code: sealhttp.CodeKeyStoreUnavailable, Err: sealhttp.ErrNoClientKey},
			[]error{sealhttp.CodeKeyStoreUnavailable, sealhttp.ErrNoClientKey},
			[]error{sealhttp.CodeNoClientKey}},
		{"a code of one's own", &sealhttp.Error{Code: "teapot"},
			[]error{sealhttp.Code("teapot")},
			[]error{sealhttp.CodeMalformed}},
		{"a Code", sealhttp.CodeNoClientKey,
			[]error{sealhttp.CodeNoClientKey, sealhttp.Code("no_client_key")},
			[]error{sealhttp.ErrNoClientKey}},
		{"ErrNoClientKey", sealhttp.ErrNoClientKey,
			[]error{sealhttp.ErrNoClientKey},
			[]error{sealhttp.CodeNoClientKey, sealhttp.ErrCallClosed}},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("wrapped: %w", tt.err), errors.Join(errors.New("x"), tt.err)} {
			for _, target := range tt.is {
				if !errors.Is(err, target) {
					t.Errorf("%s: %v is not %v", tt.name, err, target)
				}
			}
			for _, target := range tt.isNo {
				if errors.Is(err, target) {
					t.Errorf("%s: %v is %v", tt.name, err, target)
				}
			}
			var want, got *sealhttp.Error
			if has := errors.As(tt.err, &want); errors.As(err, &got) != has || got != want {
				t.Errorf("%s: errors.As finds %v", tt.name, got)
			}
		}
	}
}

func TestProblemErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&sealhttp.Error{Code: sealhttp.CodeUnknownKey, Status: 400}, "sealhttp: unknown_key (400): The key is not known"},
		{&sealhttp.Error{Code: sealhttp.CodeUnknownKey}, "sealhttp: unknown_key: The key is not known"},
		{&sealhttp.Error{Code: sealhttp.CodeUnknownKey, Status: 400, Err: errors.New("a cause")}, "sealhttp: unknown_key (400): a cause"},
		{&sealhttp.Error{Code: "teapot", Status: 418}, "sealhttp: teapot (418)"},
		{&sealhttp.Error{Status: 404, Err: errors.New("a cause")}, "sealhttp: status 404: a cause"},
		{sealhttp.CodeUnknownKey, "unknown_key"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// What a handler's own Transport was refused with is not the handler's answer: its
// caller would take it for a refusal of its own call, and may try again.
func TestProblemOfAnotherCall(t *testing.T) {
	for _, cause := range []error{sealhttp.ErrRefused, sealhttp.ErrResponseNotOpened, sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown, sealhttp.ErrNotProcessed} {
		w := httptest.NewRecorder()
		sealhttp.WriteError(w, httptest.NewRequest("GET", "/", nil), &sealhttp.Error{Code: sealhttp.CodeUnknownKey, Status: 400, Err: cause})
		if w.Code != 500 || w.Header().Get("Sealed-Error") != "" || strings.Contains(w.Body.String(), "unknown_key") {
			t.Errorf("%v: got %d %v %s, want a 500 that tells nothing", cause, w.Code, w.Header(), w.Body)
		}
	}
}
