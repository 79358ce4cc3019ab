package adaptertest

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// ok is what most rows expect.
var ok = Want{Status: http.StatusOK}

// whole is what a handler answers that may not see a Range.
var whole = &Want{Status: http.StatusOK, Differs: true}

// inClear is an answer of what is outside of sealhttp.
func inClear(status int) *Want { return &Want{Status: status, InClear: true} }

// refused is an answer of sealhttp's own.
func refused(status int, code sealhttp.Code) *Want {
	return &Want{Status: status, Code: code, Contains: string(code), InClear: true}
}

var (
	person    = []byte(`{"name":"Ada ` + Canary + `","age":36}`)
	preflight = map[string]string{
		"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST",
		"Access-Control-Request-Headers": "content-type, sealed-content-type",
	}
	crossOrigin = map[string]string{"Origin": "https://app.example.com"}
	gzipWanted  = map[string]string{"Accept-Encoding": "gzip"}
	basicOK     = map[string]string{"Authorization": "Basic YWRhOmxvdmVsYWNl"}
	basicWrong  = map[string]string{"Authorization": "Basic YWRhOndyb25n"}
	bearerOK    = map[string]string{"Authorization": "Bearer " + CredentialPassword}
	bearerWrong = map[string]string{"Authorization": "Bearer wrong"}
)

// form makes a multipart form with files of the given contents.
func form(files ...string) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField("title", "Report "+Canary)
	for i, content := range files {
		h := make(textproto.MIMEHeader)
		h.Set("Content-Disposition", fmt.Sprintf(`form-data; name="file"; filename="report%d.csv"`, i))
		h.Set("Content-Type", "text/csv")
		part, _ := w.CreatePart(h)
		_, _ = part.Write([]byte(content))
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

// dumped checks what a body dump saw: in sealed calls nothing, if it is outside.
func dumped(outside bool) func(*testing.T, Mode, *Answer) {
	return func(t *testing.T, mode Mode, a *Answer) {
		want := fmt.Sprintln([]any{
			"canary in the request", !outside || !mode.request(),
			"in the response", !outside || !mode.response(),
		})
		if a.Notes["dump"] != want {
			t.Errorf("the dump noted %q, want %q", a.Notes["dump"], want)
		}
	}
}

// compressed checks which responses came compressed.
func compressed(plain, sealed bool) func(*testing.T, Mode, *Answer) {
	return func(t *testing.T, mode Mode, a *Answer) {
		want := plain
		if mode.response() {
			want = sealed
		}
		if got := a.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("the response is compressed: %t, want %t", got, want)
		}
	}
}

// has checks that a response has a header field, in all modes.
func has(name string) func(*testing.T, Mode, *Answer) {
	return func(t *testing.T, _ Mode, a *Answer) {
		if a.Header.Get(name) == "" {
			t.Errorf("no %s: %v", name, a.Header)
		}
	}
}

// noContent is for routers whose CORS answers a preflight with 204.
var noContent = map[string]func(*Row){
	"echo": func(row *Row) { row.Want.Status = http.StatusNoContent },
}

// lateBody is for gin's 404 and 405, which it writes when its middlewares are done.
var lateBody = map[string]func(*Row){"gin": func(row *Row) { row.NotLoggedInClear = true }}

// Rows are the scenarios of all routers.
func Rows() []Row {
	upload, uploadType := form("one " + Canary)
	uploads, uploadsType := form("one "+Canary, strings.Repeat("two "+Canary+"\n", 10_000), "")
	over := bytes.Repeat([]byte(Canary+" "), BodyLimit/len(Canary))

	var rows []Row
	add := func(more ...Row) { rows = append(rows, more...) }

	// Bodies that are bound and validated.
	created := Want{Status: http.StatusCreated}
	invalid := Want{Status: http.StatusBadRequest}
	add(
		Row{Name: "JSON", Method: "POST", Target: "/json", Body: person, Want: created, Check: has("Location")},
		Row{Name: "JSON by PUT", Method: "PUT", Target: "/json", Body: person, Want: created},
		Row{Name: "JSON by PATCH", Method: "PATCH", Target: "/json", Body: person, Want: created},
		Row{Name: "JSON with a charset", Method: "POST", Target: "/json", Body: person, ContentType: "application/json; charset=utf-8", Want: created},
		Row{Name: "JSON in chunks", Method: "POST", Target: "/json", Body: person, Chunked: true, Want: created},
		Row{Name: "JSON that is not valid", Method: "POST", Target: "/json", Body: []byte(`{"name":"` + Canary + `","age":-1}`), Want: invalid},
		Row{Name: "JSON that does not parse", Method: "POST", Target: "/json", Body: []byte(`{"name":` + Canary), Want: invalid},
		Row{Name: "JSON of another type", Method: "POST", Target: "/json", Body: []byte(`{"name":{},"age":"` + Canary + `"}`), Want: invalid},
		Row{Name: "JSON that ends early", Method: "POST", Target: "/json", Body: []byte(`{"name":"` + Canary + `"`), Want: invalid},
		Row{Name: "form", Method: "POST", Target: "/form", Body: []byte("name=Ada+" + Canary + "&age=36&name=Bob"), ContentType: "application/x-www-form-urlencoded", Want: ok},
		Row{Name: "form and query", Method: "POST", Target: "/form?name=Zoe&age=7", Body: []byte("name=" + Canary + "&age=36"), ContentType: "application/x-www-form-urlencoded", Want: ok},
		Row{Name: "multipart, one file", Method: "POST", Target: "/upload", Body: upload, ContentType: uploadType, Want: Want{Status: 200, Contains: `["report0.csv","text/csv",16,true]`}},
		Row{Name: "multipart, files on disk", Method: "POST", Target: "/upload", Body: uploads, ContentType: uploadsType, Want: Want{Status: 200, Contains: `["report1.csv","text/csv",170000,true]`}},
		Row{Name: "multipart in chunks", Method: "POST", Target: "/upload", Body: upload, ContentType: uploadType, Chunked: true, Want: ok},
		Row{Name: "XML", Method: "POST", Target: "/xml", Body: []byte("<person><name>Ada " + Canary + "</name><age>36</age></person>"), ContentType: "application/xml", Want: Want{Status: 200, Contains: "<greeting>"}},
		Row{Name: "query", Target: "/query?name=Ada%20Lovelace&age=36", Want: Want{Status: 200, Contains: "Ada Lovelace"}},
		Row{Name: "path parameters", Target: "/users/42/notes/seven", Want: Want{Status: 200, Contains: "42 seven"}},
		Row{Name: "path parameters, escaped", Target: "/users/a%20b/notes/%C3%A9", Want: Want{Status: 200, Contains: "a b é"}},
		Row{Name: "account", Target: "/account", Want: Want{Status: 200, Contains: "for " + Account}},
	)

	// What handlers answer.
	add(
		Row{Name: "string", Target: "/text", Want: ok},
		Row{Name: "string, with a list of other types in Accept", Target: "/text", Header: map[string]string{"Accept": "application/json, text/*;q=0.5"}, Want: ok},
		Row{Name: "HTML", Target: "/html", Want: Want{Status: 200, Contains: "<p>" + Canary + "</p>"}},
		Row{Name: "blob", Target: "/blob", Want: ok},
		Row{Name: "stream", Target: "/stream", Want: ok},
		Row{Name: "file", Target: "/file", Want: ok, Check: has("Last-Modified")},
		Row{Name: "file, a range", Target: "/file", Header: map[string]string{"Range": "bytes=0-5"}, Want: Want{Status: 206, Contains: "A file"}, WantReply: whole},
		Row{Name: "file, not modified", Target: "/file", Header: map[string]string{"If-Modified-Since": "Thu, 02 Jan 2025 03:04:05 GMT"}, Want: Want{Status: 304}},
		Row{Name: "attachment", Target: "/attachment", Want: ok, Check: has("Content-Disposition")},
		Row{Name: "redirect", Target: "/redirect", Want: Want{Status: 302, Contains: "-"}, Check: has("Location")},
		Row{Name: "redirect of a POST", Method: "POST", Target: "/redirect", Body: person, Want: Want{Status: 303, Contains: "-"}, Check: has("Location")},
		Row{Name: "no content", Method: "DELETE", Target: "/text", Want: Want{Status: 204}},
		Row{Name: "reset content", Target: "/reset", Want: Want{Status: 205}},
		Row{Name: "content", Target: "/content", Want: ok, Check: has("Etag")},
		Row{Name: "content, a range", Target: "/content", Header: map[string]string{"Range": "bytes=2-4"}, Want: Want{Status: 206, Contains: "234"}, WantReply: whole},
		Row{Name: "content, two ranges", Target: "/content", Header: map[string]string{"Range": "bytes=2-4,6-7"}, Want: Want{Status: 206, Contains: "234"}, WantReply: whole},
		Row{Name: "content, a range that is none", Target: "/content", Header: map[string]string{"Range": "bytes=900-"}, Want: Want{Status: 416, Contains: "-"}, WantReply: whole},
		Row{Name: "content, If-Range", Target: "/content", Header: map[string]string{"Range": "bytes=2-4", "If-Range": `"v1"`}, Want: Want{Status: 206, Contains: "234"}, WantReply: whole},
		Row{Name: "content, If-None-Match", Target: "/content", Header: map[string]string{"If-None-Match": `"v1"`}, Want: Want{Status: 304}, Check: has("Etag")},
		Row{Name: "content, If-None-Match of another", Target: "/content", Header: map[string]string{"If-None-Match": `"v0"`}, Want: ok},
		Row{Name: "content, If-Match of another", Target: "/content", Header: map[string]string{"If-Match": `"v0"`}, Want: Want{Status: 412, Contains: "-"}},
		Row{Name: "server-sent events", Target: "/events", Want: Want{Status: 200, Contains: "id: 2\ndata: " + Canary}},
		Row{Name: "nothing", Target: "/nothing", Want: Want{Status: 200, Contains: "-"}},
		Row{Name: "a status only", Target: "/accepted", Want: Want{Status: 202, Contains: "-"}},
		Row{Name: "many header fields", Target: "/header", Want: ok, Check: has("Set-Cookie")},
		Row{Name: "trailers", Target: "/trailers", Want: ok},
		Row{Name: "early hints", Target: "/hints", Want: created, In: map[string]func(*Row){
			"echo": func(row *Row) { row.NotLogged = true }, // its Response takes a 1xx for the response, so handlers go past it
		}},
		Row{Name: "a large response", Target: "/large", Want: ok},
		Row{Name: "status and header twice", Target: "/twice", Want: Want{Status: 202}},
		Row{Name: "sniffed type", Target: "/sniffed", Want: ok},
		Row{Name: "no type", Target: "/untyped", Want: ok},
		Row{Name: "less than declared", Target: "/short", Want: Want{Aborted: true}},
		Row{Name: "more than declared", Target: "/long", Want: ok, InHTTP2: func(row *Row) { // it sends all, and the caller breaks off
			row.Want, row.WantReply, row.HandlerDiffers = Want{Aborted: true}, &Want{Status: 200, Differs: true}, true
		}},
		Row{Name: "deadlines, full duplex and flush", Target: "/control", Want: ok},
		Row{Name: "HEAD", Method: "HEAD", Target: "/text", Want: ok},
		Row{Name: "HEAD of content", Method: "HEAD", Target: "/content", Want: ok, Check: has("Etag")},
		Row{Name: "OPTIONS", Method: "OPTIONS", Target: "/text", Want: Want{Status: 204}, Check: has("Allow")},
		Row{Name: "compressed by the handler", Target: "/gzipped", Want: Want{Status: 200, Contains: "-"}, WantReply: refused(500, sealhttp.CodeUnsupportedContentEncoding)},
		Row{Name: "more than may be buffered", Target: "/large", Options: []sealhttp.Option{sealhttp.WithMaxResponseBytes(1000)}, Want: ok,
			WantReply: refused(500, sealhttp.CodeResponseTooLarge), HandlerDiffers: true},
		Row{Name: "written after the return", Target: "/late", OnlySealed: true, Want: ok, Check: func(t *testing.T, _ Mode, a *Answer) {
			if want := strings.Repeat(fmt.Sprintln(true), 3); a.Notes["late"] != want {
				t.Errorf("late writes that got ErrCallClosed: %q, want %q", a.Notes["late"], want)
			}
		}},
	)

	// Request bodies that are read in other ways.
	add(
		Row{Name: "echo", Method: "POST", Target: "/echo", Body: []byte("any " + Canary), ContentType: "text/x-any", Want: ok},
		Row{Name: "echo of binary", Method: "POST", Target: "/echo", Body: append([]byte{1, 0, 0xff}, Canary...), ContentType: "application/octet-stream", Want: ok},
		Row{Name: "echo of what has no type", Method: "POST", Target: "/echo", Body: person, ContentType: "-", Want: ok,
			HandlerDiffers: true, WantOpened: &Want{Differs: true}, WantReply: &Want{Differs: true}},
		Row{Name: "a large request", Method: "POST", Target: "/echo", Body: Large, ContentType: "text/plain", Want: ok},
		Row{Name: "a large request in chunks", Method: "POST", Target: "/echo", Body: Large, ContentType: "text/plain", Chunked: true, Want: ok},
		Row{Name: "with 100-continue", Method: "POST", Target: "/echo", Body: person, Header: map[string]string{"Expect": "100-continue"}, Want: ok},
		Row{Name: "half of the request is read", Method: "POST", Target: "/half", Body: person, Want: ok},
		Row{Name: "none of the request is read", Method: "POST", Target: "/unread", Body: person, Want: ok},
		Row{Name: "none of a large request is read", Method: "POST", Target: "/unread", Body: Large[:100_000], Want: ok},
		Row{Name: "an empty body", Method: "POST", Target: "/unread", Body: []byte{}, Want: ok},
		Row{Name: "a body with GET", Target: "/text", Body: person, Want: ok},
		Row{Name: "a body with DELETE", Method: "DELETE", Target: "/text", Body: person, Want: Want{Status: 204}},
		Row{Name: "a session's first cookie", Target: "/session", Want: Want{Status: 200, Contains: "1 times"}, Check: has("Set-Cookie")},
		Row{Name: "a session's next cookie", Target: "/session", Header: map[string]string{"Cookie": "visits=41"}, Want: Want{Status: 200, Contains: "42 times"}},
	)

	// Errors.
	add(
		Row{Name: "handler's error", Target: "/fail", Want: Want{Status: 409}, Check: has("X-Kept")},
		Row{Name: "handler's error to a POST", Method: "POST", Target: "/fail", Body: person, Want: Want{Status: 422}},
		Row{Name: "handler's unnamed error", Target: "/broken", Want: Want{Status: 500, Contains: "-"}},
		Row{Name: "handler's status of an error", Target: "/forbidden", Want: Want{Status: 403, Contains: "-"}},
		Row{Name: "not found", Target: "/missing", Want: Want{Status: 404, Contains: "-"}, In: lateBody},
		Row{Name: "not found, HEAD", Method: "HEAD", Target: "/missing", Want: Want{Status: 404}},
		Row{Name: "not found, POST", Method: "POST", Target: "/missing", Body: person, Want: Want{Status: 404, Contains: "-"}, In: lateBody},
		Row{Name: "method not allowed", Method: "PUT", Target: "/text", Body: person, Want: Want{Status: 405, Contains: "-"}, Check: has("Allow"), In: lateBody},
		Row{Name: "panic", Target: "/panic", Want: Want{Aborted: true}},
		Row{Name: "panic after a write", Target: "/panic-after-write", Want: Want{Aborted: true}},
		Row{Name: "panic to abort", Target: "/panic-abort", Want: Want{Aborted: true}},
		Row{Name: "panic, recoverer outside", Stack: RecoverOutside, Target: "/panic", Want: Want{Status: 500, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true, Differs: true}},
		Row{Name: "panic, recoverer inside", Stack: RecoverInside, Target: "/panic", Want: Want{Status: 500, Contains: "-"}},
		// Most recoverers leave Content-Length as it is. A sealed call is answered all the same.
		Row{Name: "panic behind a declared length, recoverer outside", Stack: RecoverOutside, Target: "/panic-declared", Want: Want{Aborted: true},
			WantReply: &Want{Status: 500, Contains: "-", InClear: true, Differs: true}, In: map[string]func(*Row){
				"net/http": func(row *Row) { row.Want = Want{Status: 500, Contains: "-"} },
			}},
		Row{Name: "panic after a write, recoverer outside", Stack: RecoverOutside, Target: "/panic-after-write", Want: Want{Status: 200},
			WantReply: &Want{Status: 500, Contains: "-", InClear: true, Differs: true}},
		Row{Name: "panic after a write, recoverer inside", Stack: RecoverInside, Target: "/panic-after-write", Want: Want{Status: 200}},
		Row{Name: "panic to abort, recoverer outside", Stack: RecoverOutside, Target: "/panic-abort", Want: Want{Aborted: true}, In: map[string]func(*Row){
			// gin's Recovery takes it for a dead connection, and so answers 200 with nothing.
			"gin": func(row *Row) {
				row.Want, row.WantReply = Want{Status: 200, Contains: "-"}, &Want{Status: 500, Contains: "-", InClear: true, Differs: true}
			},
		}},
		Row{Name: "panic to abort, recoverer inside", Stack: RecoverInside, Target: "/panic-abort", Want: Want{Aborted: true}, In: map[string]func(*Row){
			"gin": func(row *Row) {
				row.Want, row.WantReply = Want{Status: 200, Contains: "-"}, &Want{Status: 500, Contains: "-", Differs: true}
			},
		}},
		Row{Name: "less than declared, recoverer outside", Stack: RecoverOutside, Target: "/short", Want: Want{Aborted: true}},
		Row{Name: "less than declared, recoverer inside", Stack: RecoverInside, Target: "/short", Want: Want{Aborted: true}},
		Row{Name: "error renderer outside", Stack: ErrorsOutside, Target: "/fail", Want: Want{Status: 409}, WantReply: &Want{InClear: true, Differs: true}, NotLogged: true, In: map[string]func(*Row){
			// The error is rendered inside already, and what comes later is not taken.
			"echo": func(row *Row) { row.WantReply, row.NotLogged = &Want{Contains: "no: " + Canary, Differs: true}, false },
			// The handler has answered nothing, and what comes later is not taken.
			"gin": func(row *Row) { row.WantReply, row.NotLogged = &Want{Status: 500, Contains: "-", Differs: true}, false },
		}},
		Row{Name: "error renderer inside", Stack: ErrorsInside, Target: "/fail", Want: Want{Status: 409}},
		Row{Name: "error renderer inside, not found", Stack: ErrorsInside, Target: "/missing", Want: Want{Status: 404}, In: map[string]func(*Row){
			"gin": func(row *Row) { row.Want.Contains, row.NotLoggedInClear = "-", true }, // what is not found is no error there
		}},
	)

	// Common middlewares, on both sides.
	add(
		Row{Name: "body dump outside", Stack: DumpOutside, Method: "POST", Target: "/echo", Body: person, Want: ok, HandlerDiffers: true, Check: dumped(true)},
		Row{Name: "body dump inside", Stack: DumpInside, Method: "POST", Target: "/echo", Body: person, Want: ok, Check: dumped(false)},
		Row{Name: "logger outside", Stack: LoggerOutside, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "logger inside", Stack: LoggerInside, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "gzip outside", Stack: GzipOutside, Target: "/text", Header: gzipWanted, Want: Want{Status: 200, Contains: "-"}, WantReply: &Want{Differs: true}, NotLogged: true, Check: compressed(true, true), In: map[string]func(*Row){
			"chi": func(row *Row) { row.Check = compressed(true, false) }, // it knows which types are worth it
		}},
		Row{Name: "gzip inside", Stack: GzipInside, Target: "/text", Header: gzipWanted, Want: Want{Status: 200, Contains: "-"}, WantReply: &Want{Differs: true}, NotLogged: true, Check: compressed(true, false)},
		Row{Name: "CORS outside", Stack: CORSOutside, Method: "POST", Target: "/echo", Body: person, Header: crossOrigin, Want: ok, Check: has("Access-Control-Allow-Origin")},
		Row{Name: "CORS inside", Stack: CORSInside, Method: "POST", Target: "/echo", Body: person, Header: crossOrigin, Want: ok, Check: has("Access-Control-Allow-Origin")},
		Row{Name: "CORS outside, preflight", Stack: CORSOutside, Method: "OPTIONS", Target: "/echo", Header: preflight, Want: Want{Status: 200, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true}, Check: has("Access-Control-Allow-Headers"), In: noContent},
		Row{Name: "CORS inside, preflight", Stack: CORSInside, Method: "OPTIONS", Target: "/echo", Header: preflight, Want: Want{Status: 200, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true}, Check: has("Access-Control-Allow-Headers"), In: noContent},
		Row{Name: "CORS inside, preflight under Required", Stack: CORSInside, Options: []sealhttp.Option{sealhttp.WithPolicy(sealhttp.Required)},
			Method: "OPTIONS", Target: "/echo", Header: preflight, Want: Want{Status: 200, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true}, Check: has("Access-Control-Allow-Headers"), In: noContent},
		Row{Name: "preflight that is answered with content", Method: "OPTIONS", Target: "/missing", Header: preflight, Want: Want{Status: 404, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true},
			Check: func(t *testing.T, _ Mode, a *Answer) {
				if len(a.Body) > 0 {
					t.Errorf("content: %q", a.Body)
				}
			}},
		Row{Name: "rate limiter outside", Stack: LimiterOutside, Target: "/text", Want: Want{Status: 429}, WantReply: inClear(429)},
		Row{Name: "rate limiter inside", Stack: LimiterInside, Target: "/text", Want: Want{Status: 429}},
		Row{Name: "request id outside", Stack: RequestIDOutside, Target: "/text", Header: map[string]string{"X-Request-Id": "r-7"}, Want: ok, Check: has("X-Request-Id")},
		Row{Name: "request id inside", Stack: RequestIDInside, Target: "/text", Header: map[string]string{"X-Request-Id": "r-7"}, Want: ok, Check: has("X-Request-Id")},
		// A handler that answers nothing has answered 200: only who is inside can tell.
		Row{Name: "timeout outside", Stack: TimeoutOutside, Target: "/slow", Want: Want{Status: 504, Contains: "-"}, WantReply: &Want{Status: 200, Contains: "-", Differs: true}, In: map[string]func(*Row){
			"echo": func(row *Row) { row.WantReply.Status = http.StatusInternalServerError }, // what becomes of context.DeadlineExceeded
		}},
		Row{Name: "timeout inside", Stack: TimeoutInside, Target: "/slow", Want: Want{Status: 504, Contains: "-"}},
		Row{Name: "http.TimeoutHandler outside", Stack: TimeoutHandler, Target: "/slow", Want: Want{Status: 503}, WantReply: inClear(503), NotLogged: true, HandlerDiffers: true},
		Row{Name: "http.TimeoutHandler inside", Target: "/slow-handler", Want: Want{Status: 503}},
		Row{Name: "basic auth outside", Stack: BasicAuthOutside, Target: "/text", Header: basicOK, Want: ok},
		Row{Name: "basic auth outside, refused", Stack: BasicAuthOutside, Target: "/text", Header: basicWrong, Want: Want{Status: 401, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true}, Check: has("Www-Authenticate")},
		Row{Name: "basic auth inside", Stack: BasicAuthInside, Target: "/text", Header: basicOK, Want: ok},
		Row{Name: "basic auth inside, refused", Stack: BasicAuthInside, Target: "/text", Header: basicWrong, Want: Want{Status: 401, Contains: "-"}, Check: has("Www-Authenticate")},
		Row{Name: "bearer auth outside", Stack: BearerAuthOutside, Method: "POST", Target: "/echo", Body: person, Header: bearerOK, Want: ok},
		Row{Name: "bearer auth outside, refused", Stack: BearerAuthOutside, Method: "POST", Target: "/echo", Body: person, Header: bearerWrong, Want: Want{Status: 401, Contains: "-"}, WantReply: &Want{Contains: "-", InClear: true}},
		Row{Name: "bearer auth inside", Stack: BearerAuthInside, Method: "POST", Target: "/echo", Body: person, Header: bearerOK, Want: ok},
		Row{Name: "bearer auth inside, refused", Stack: BearerAuthInside, Method: "POST", Target: "/echo", Body: person, Header: bearerWrong, Want: Want{Status: 401, Contains: "-"}},
		Row{Name: "session outside", Stack: SessionOutside, Target: "/text", Want: ok, Check: has("Set-Cookie")},
		Row{Name: "session inside", Stack: SessionInside, Target: "/text", Want: ok, Check: has("Set-Cookie")},
		Row{Name: "body limit outside", Stack: BodyLimitOutside, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "body limit outside, too large", Stack: BodyLimitOutside, Method: "POST", Target: "/echo", Body: over, Want: Want{Status: 413, Contains: "-"},
			WantOpened: refused(413, sealhttp.CodeTooLarge), WantSealed: refused(413, sealhttp.CodeTooLarge), HandlerDiffers: true, In: map[string]func(*Row){
				"echo": func(row *Row) { // it looks at Content-Length itself
					row.WantOpened, row.WantSealed, row.WantReply = nil, nil, &Want{Contains: "-", InClear: true}
				},
			}},
		Row{Name: "body limit outside, too large in chunks", Stack: BodyLimitOutside, Method: "POST", Target: "/echo", Body: over, Chunked: true, Want: Want{Status: 413, Contains: "-"},
			WantOpened: refused(413, sealhttp.CodeTooLarge), WantSealed: refused(413, sealhttp.CodeTooLarge), HandlerDiffers: true},
		Row{Name: "body limit inside, too large", Stack: BodyLimitInside, Method: "POST", Target: "/echo", Body: over, Want: Want{Status: 413, Contains: "-"}},
		Row{Name: "body limit inside, too large in chunks", Stack: BodyLimitInside, Method: "POST", Target: "/echo", Body: over, Chunked: true, Want: Want{Status: 413, Contains: "-"}, In: map[string]func(*Row){
			"echo": func(row *Row) { row.HandlerDiffers = true }, // the length of what was opened is known
		}},
	)

	// Connections that are taken over. Over HTTP/2 there is nothing to take.
	add(
		Row{Name: "hijack", Target: "/hijack", Want: ok, WantReply: &Want{Status: 501, Differs: true, Contains: "no hijack"}, NotLogged: true, HandlerDiffers: true,
			InHTTP2: func(row *Row) { row.Want = Want{Status: 501, Contains: "no hijack"} },
			In: map[string]func(*Row){
				"gin": func(row *Row) { row.InHTTP2 = func(row *Row) { row.Want = Want{Aborted: true} } }, // its Hijack panics
			}},
	)

	// Where it is mounted.
	add(
		Row{Name: "mounted three times", Stack: Twice, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "mounted at a group", Stack: AtGroup, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "mounted at a group, handler's error", Stack: AtGroup, Target: "/fail", Want: Want{Status: 409}},
		Row{Name: "mounted at a route", Stack: AtRoute, Method: "POST", Target: "/echo", Body: person, Want: ok},
		Row{Name: "mounted at a route, handler's error", Stack: AtRoute, Target: "/fail", Want: Want{Status: 409}},
		Row{Name: "Required at a route", Stack: RequiredAtRoute, Method: "POST", Target: "/echo", Body: person, HandlerDiffers: true,
			Want: *refused(415, sealhttp.CodeEncryptionRequired), WantOpened: refused(406, sealhttp.CodeEncryptionRequired), WantReply: &Want{Contains: string(sealhttp.CodeEncryptionRequired), Differs: true}, WantSealed: &Want{Status: 200, Differs: true}},
	)
	return rows
}
