package sealhttp_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sealhttp/sealhttp"
)

// srvEdit is one thing that someone on the way does to a request.
type srvEdit struct {
	name string
	edit func(req *http.Request)
	only string // the one protocol to run on
	code sealhttp.Code
}

// srvField edits Sealed-Exchange of a request on its way.
func srvField(edit func([]string) []string) func(*http.Request) {
	return func(req *http.Request) {
		req.Header["Sealed-Exchange"] = edit(strings.Split(req.Header["Sealed-Exchange"][0], ", "))
	}
}

func srvSetHeader(name string, lines ...string) func(*http.Request) {
	return func(req *http.Request) {
		if lines == nil {
			delete(req.Header, name)
		} else {
			req.Header[name] = lines
		}
	}
}

// srvOpaque sends another request target than the URL's, byte for byte.
func srvOpaque(target string) func(*http.Request) {
	return func(req *http.Request) {
		req.URL = &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Opaque: target}
	}
}

func srvHostHeader(host string) func(*http.Request) {
	return func(req *http.Request) { req.Host = host }
}

const srvSecret = "bearer-of-a-secret"

// srvBound makes the exchange that the edits are done to: it has a value for each bound
// field, but for one.
func srvBound() *srvExchange {
	x := srvTurn("PUT", "/orders/1?x=1&y=%2f")
	x.authority = "api.example.com"
	x.contentType = "text/plain"
	x.names = append(slices.Clone(srvDefaultBound), "x-account")
	for _, name := range x.names {
		x.header.Set(name, srvSecret+" of "+name)
	}
	x.header.Del("if-none-match")
	x.header.Set("X-Other", "other")
	return x
}

// srvHostileEdits change what is bound.
func srvHostileEdits() []srvEdit {
	const failed, malformed = sealhttp.CodeDecryptionFailed, sealhttp.CodeMalformed
	edits := []srvEdit{
		{"method", func(req *http.Request) { req.Method = "POST" }, "", failed},
		{"method, GET", func(req *http.Request) { req.Method = "GET" }, "", failed},
		{"method in lower case", func(req *http.Request) { req.Method = "put" }, "", failed},
		{"authority", srvHostHeader("evil.example.com"), "", failed},
		{"authority, a subdomain", srvHostHeader("a.api.example.com"), "", failed},
		{"authority, a dot behind", srvHostHeader("api.example.com."), "", failed},
		{"authority of the absolute form", func(req *http.Request) { srvOpaque("//evil.example.com/orders/1?x=1&y=%2f")(req) }, "HTTP/1.1", failed},
		{"path", srvOpaque("/orders/2?x=1&y=%2f"), "", failed},
		{"query", srvOpaque("/orders/1?x=2&y=%2f"), "", failed},
		{"query dropped", srvOpaque("/orders/1"), "", failed},
		{"query in another order", srvOpaque("/orders/1?y=%2f&x=1"), "", failed},
		{"query decoded", srvOpaque("/orders/1?x=1&y=/"), "", failed},
		{"query with upper-case hex", srvOpaque("/orders/1?x=1&y=%2F"), "", failed},
		{"path with a slash behind", srvOpaque("/orders/1/?x=1&y=%2f"), "", failed},
		{"path encoded", srvOpaque("/order%73/1?x=1&y=%2f"), "", failed},
		{"path with dots", srvOpaque("/./orders/1?x=1&y=%2f"), "", failed},
		{"two slashes", srvOpaque("/orders//1?x=1&y=%2f"), "", failed},
		{"a question mark behind the query", srvOpaque("/orders/1?x=1&y=%2f?"), "", failed},
		{"an absolute form with another path", srvOpaque("//api.example.com/orders/2?x=1&y=%2f"), "HTTP/1.1", failed},
		{"a fragment", srvOpaque("/orders/1?x=1&y=%2f#here"), "", malformed},
		{"more of a query behind a fragment", srvOpaque("/orders/1?x=1&y=%2f#&y=3"), "", malformed},
		{"an empty fragment", srvOpaque("/orders/1?x=1&y=%2f#"), "", malformed},
		{"a fragment in an absolute form", srvOpaque("//api.example.com/orders/1?x=1&y=%2f#here?#"), "HTTP/1.1", malformed},
		{"user information", srvOpaque("//user:pass@api.example.com/orders/1?x=1&y=%2f"), "HTTP/1.1", malformed},
		{"another host behind the port", srvHostHeader("api.example.com:443.evil.example"), "", malformed},
		{"a port that is none", srvHostHeader("api.example.com:evil.example"), "HTTP/1.1", malformed},
		{"two ports", srvHostHeader("api.example.com:80:90"), "HTTP/1.1", malformed},
		{"Sealed-Content-Type", srvSetHeader("Sealed-Content-Type", "text/html"), "", failed},
		{"Sealed-Content-Type in another case", srvSetHeader("Sealed-Content-Type", "text/Plain"), "", failed},
		{"Sealed-Content-Type dropped", srvSetHeader("Sealed-Content-Type"), "", failed},
		{"Sealed-Content-Type doubled", srvSetHeader("Sealed-Content-Type", "text/plain", "text/plain"), "", malformed},
		{"Content-Type dropped", srvSetHeader("Content-Type"), "", malformed},
		{"Content-Type changed", srvSetHeader("Content-Type", "application/json"), "", malformed},
		{"the body and its type dropped", func(req *http.Request) {
			delete(req.Header, "Content-Type")
			req.Body, req.ContentLength, req.GetBody = http.NoBody, 0, nil
		}, "", failed},
		{"kid", srvField(srvMember("kid", func(string) string { return fmt.Sprint("kid=", srvCallerKey.ID()) })), "", failed}, // which is held, here
		{"id", srvField(srvReplace("id=" + srvBytes(make([]byte, 16)))), "", failed},
		{"ts", srvField(srvMember("ts", func(s string) string { return s[:len(s)-1] + string(s[len(s)-1]^1) })), "", failed},
		{"enc", srvField(srvReplace("enc=" + srvBytes(srvKey.Public().Bytes()))), "", failed},
		{"auth", srvField(srvReplace("auth=" + srvBytes(make([]byte, 16)))), "", failed},
		{"bind dropped", srvField(srvMember("bind", srvConst(""))), "", failed},
		{"bind emptied", srvField(srvReplace("bind=()")), "", failed},
		{"a name dropped from bind", srvField(srvMember("bind", func(s string) string { return strings.Replace(s, ` "x-account"`, "", 1) })), "", failed},
		{"a name added to bind", srvField(srvMember("bind", func(s string) string { return strings.Replace(s, ")", ` "x-absent")`, 1) })), "", failed},
		{"a name changed in bind", srvField(srvMember("bind", func(s string) string { return strings.Replace(s, "if-none-match", "x-none-match", 1) })), "", failed},
		{"names swapped in bind", srvField(srvMember("bind", func(s string) string {
			return strings.NewReplacer("if-match", "if-none-match", "if-none-match", "if-match").Replace(s)
		})), "", failed},
	}
	for _, name := range append(slices.Clone(srvDefaultBound), "x-account") {
		key := http.CanonicalHeaderKey(name)
		value := srvSecret + " of " + name
		edits = append(edits,
			srvEdit{name + " changed", srvSetHeader(key, "another"), "", failed},
			srvEdit{name + " longer", srvSetHeader(key, value+" x"), "", failed},
			srvEdit{name + " in upper case", srvSetHeader(key, strings.ToUpper(value)), "", failed},
			srvEdit{name + " doubled", srvSetHeader(key, value, value), "", malformed},
			srvEdit{name + " split", srvSetHeader(key, srvSecret, "of "+name), "", malformed},
			srvEdit{name + " and an empty one", srvSetHeader(key, value, ""), "", malformed},
			srvEdit{name + " joined", srvSetHeader(key, value+", "+value), "", failed},
		)
		if name == "if-none-match" {
			continue
		}
		edits = append(edits,
			srvEdit{name + " dropped", srvSetHeader(key), "", failed},
			srvEdit{name + " emptied", srvSetHeader(key, ""), "", failed},
			srvEdit{name + " under another name", func(req *http.Request) {
				req.Header["X-"+key] = req.Header[key]
				delete(req.Header, key)
			}, "", failed},
			srvEdit{name + " swapped with another", func(req *http.Request) {
				req.Header[key] = []string{req.Header.Get("X-Other")}
				req.Header["X-Other"] = []string{value}
			}, "", failed},
		)
	}
	return edits
}

// srvHarmlessEdits change what the wire format leaves to whoever is on the way.
func srvHarmlessEdits() []srvEdit {
	edits := []srvEdit{
		{"nothing", func(*http.Request) {}, "", ""},
		{"a port", srvHostHeader("api.example.com:8443"), "", ""},
		{"an empty port", srvHostHeader("api.example.com:"), "", ""},
		{"upper case", srvHostHeader("API.Example.COM:443"), "", ""},
		{"an absolute form", srvOpaque("//api.example.com/orders/1?x=1&y=%2f"), "HTTP/1.1", ""},
		{"an absolute form with a port, in upper case", srvOpaque("//API.example.com:80/orders/1?x=1&y=%2f"), "HTTP/1.1", ""},
		{"an absolute form, with another Host", func(req *http.Request) {
			srvOpaque("//api.example.com/orders/1?x=1&y=%2f")(req)
			req.Host = "evil.example.com"
		}, "HTTP/1.1", ""},
		{"white space around a bound value", func(req *http.Request) {
			req.Header["Authorization"] = []string{" \t" + req.Header.Get("Authorization") + "\t "}
		}, "", ""},
		{"an absent bound field, empty", srvSetHeader("If-None-Match", ""), "", ""},
		{"a parameter of the type", srvSetHeader("Content-Type", "Application/Sealed-Exchange+HPKE; charset=utf-8"), "", ""},
		{"other fields", func(req *http.Request) {
			for i, name := range []string{
				"Accept", "Accept-Encoding", "Cookie", "User-Agent", "Range", "X-Forwarded-For", "Via", "Forwarded", "X-Other", "If-Range", "Traceparent",
			} {
				req.Header[name] = []string{fmt.Sprint("v", i), "again"}
			}
		}, "", ""},
		{"other fields dropped", srvSetHeader("X-Other"), "", ""},
		{"without Content-Length", func(req *http.Request) { req.ContentLength = -1 }, "", ""},
		{"the members in another order", srvField(func(m []string) []string { slices.Reverse(m); return []string{strings.Join(m, ",\t")} }), "", ""},
	}
	return edits
}

// Whatever is changed of what is bound, the request is refused before the handler runs.
// The debug log tells what was bound, and never a value of a header field.
func TestServerExchangeBinding(t *testing.T) {
	calls := 0
	for _, proto := range srvProtos {
		ran := 0
		guard, logged := new(srvGuard), new(srvBuffer)
		m, err := sealhttp.New(srvKeys(srvKey, srvCallerKey), sealhttp.WithReplayGuard(guard),
			sealhttp.WithLogger(slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		srvCheck(t, err)
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })))
		run := func(kind string, edits []srvEdit, check func(t *testing.T, x *srvExchange, a *srvAnswer, e srvEdit)) {
			for _, e := range edits {
				if e.only != "" && e.only != proto {
					continue
				}
				t.Run(proto+"/"+kind+"/"+e.name, func(t *testing.T) {
					x := srvBound()
					req := x.request(t, host, []byte("hello"))
					req.Host = "api.example.com"
					e.edit(req)
					check(t, x, host.do(t, req), e)
				})
				calls++
			}
		}
		run("hostile", srvHostileEdits(), func(t *testing.T, x *srvExchange, a *srvAnswer, e srvEdit) {
			x.refusedInClear(t, a, e.code, 400)
		})
		if inserts, _ := guard.operations(); ran > 0 || inserts > 0 {
			t.Errorf("%s: the handler ran %d times, the guard had %d inserts", proto, ran, inserts)
		}
		harmless := srvHarmlessEdits()
		run("harmless", harmless, func(t *testing.T, x *srvExchange, a *srvAnswer, _ srvEdit) { x.openAs(t, a, nil) })
		if ran == 0 {
			t.Errorf("%s: the handler never ran", proto)
		}
		log := logged.String()
		for _, bound := range []string{"PUT", "evil.example.com", "/orders/2?x=1&y=%2f", "body true", "body false", "text/html", "x-account", "x-http-method-override"} {
			if !strings.Contains(log, bound) {
				t.Errorf("%s: the log does not tell that %q was bound", proto, bound)
			}
		}
		if strings.Contains(log, srvSecret) || strings.Contains(strings.ToLower(log), srvSecret) {
			t.Errorf("%s: the log has a value of a header field", proto)
		}
	}
	t.Logf("%d calls", calls)
}

// What is configured on the server to undo what a gateway does.
func TestServerExchangeBindingBehindGateways(t *testing.T) {
	const failed = sealhttp.CodeDecryptionFailed
	for _, tt := range []struct {
		name      string
		opts      []sealhttp.Option
		authority string // as the caller has it
		target    string
		host      string // as it arrives
		arrives   string
		only      string
		code      sealhttp.Code
	}{
		{name: "a rewritten Host", opts: []sealhttp.Option{sealhttp.WithAuthority("API.example.com:443")}, authority: "api.example.com", target: "/a", host: "10.0.0.1:8080", arrives: "/a"},
		{name: "another service's ciphertext", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}, authority: "other.example.com", target: "/a", host: "api.example.com", arrives: "/a", code: failed},
		{name: "an absolute form against WithAuthority", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}, authority: "evil.example.com", target: "/a", host: "x", arrives: "//evil.example.com/a", only: "HTTP/1.1", code: failed},
		{name: "IPv6", authority: "[2001:db8::1]", target: "/a", host: "[2001:DB8::1]:8443", arrives: "/a"},
		{name: "WithAuthority of IPv6", opts: []sealhttp.Option{sealhttp.WithAuthority("[2001:DB8::1]:80")}, authority: "[2001:db8::1]", target: "/a", host: "x", arrives: "/a"},
		{name: "a trailing dot", authority: "api.example.com.", target: "/a", host: "api.example.com.:80", arrives: "/a"},
		{name: "punycode", authority: "xn--bcher-kva.example", target: "/a", host: "XN--bcher-kva.example", arrives: "/a"},
		{name: "a stripped prefix", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public")}, authority: "a", target: "/public/a?b=c", host: "a", arrives: "/a?b=c"},
		{name: "a stripped prefix with a slash behind", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public/")}, authority: "a", target: "/public/a", host: "a", arrives: "/a"},
		{name: "a stripped prefix, absolute form", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public")}, authority: "a", target: "/public/a", host: "a", arrives: "//a/a", only: "HTTP/1.1"},
		{name: "a prefix that was not stripped", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public")}, authority: "a", target: "/public/a", host: "a", arrives: "/public/a", code: failed},
		{name: "the prefix alone", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public")}, authority: "a", target: "/public/", host: "a", arrives: "/"},
		{name: "a lone question mark", authority: "a", target: "/a", host: "a", arrives: "/a?"},
		{name: "a fragment", authority: "a", target: "/a", host: "a", arrives: "/a?#f", code: sealhttp.CodeMalformed},
		{name: "WithAuthority and a Host that is none", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}, authority: "api.example.com", target: "/a", host: "10.0.0.1:80.evil.example", arrives: "/a", code: sealhttp.CodeMalformed},
		{name: "two question marks", authority: "a", target: "/a??", host: "a", arrives: "/a??"},
		{name: "two question marks are not one", authority: "a", target: "/a?", host: "a", arrives: "/a??", code: failed},
		{name: "two question marks are not none", authority: "a", target: "/a", host: "a", arrives: "/a??", code: failed},
		{name: "an absolute form without a path", authority: "a", target: "/", host: "x", arrives: "//a", only: "HTTP/1.1"},
		{name: "an absolute form with a query only", authority: "a", target: "/?b", host: "x", arrives: "//a?b", only: "HTTP/1.1"},
		{name: "a URL in the query", authority: "a", target: "/a?b=https://c/d", host: "a", arrives: "/a?b=https://c/d"},
		{name: "a path that looks like an authority", authority: "a", target: "/a//b://c/d", host: "a", arrives: "/a//b://c/d"},
		{name: "a target that is too long with its prefix", opts: []sealhttp.Option{sealhttp.WithTargetPrefix("/public")}, authority: "a", target: "/" + strings.Repeat("b", 8190), host: "a", arrives: "/" + strings.Repeat("b", 8190), code: sealhttp.CodeMalformed},
	} {
		for _, proto := range srvProtos {
			if tt.only != "" && tt.only != proto {
				continue
			}
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				ran := false
				m := srvMiddleware(t, append(tt.opts, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))...)
				host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true })))
				x := srvTurn("GET", tt.target)
				x.authority = tt.authority
				req := x.request(t, host, nil)
				req.Host = tt.host
				srvOpaque(tt.arrives)(req)
				a := host.do(t, req)
				if tt.code != "" {
					x.refusedInClear(t, a, tt.code, 400)
				} else {
					x.open(t, a)
				}
				if want := tt.code == ""; ran != want {
					t.Errorf("the handler ran: %v, want %v", ran, want)
				}
			})
		}
	}
}

// Targets that net/http's client does not send, and the asterisk form, which its server
// answers itself unless it is told not to.
func TestServerExchangeBindingOddTargets(t *testing.T) {
	m := srvMiddleware(t)
	conn := srvDial(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })))
	for _, tt := range []struct{ line, method, authority, target string }{
		{"GET http://h/a? HTTP/1.1\r\nHost: test\r\n", "GET", "h", "/a"},
		{"GET http://H:/a HTTP/1.1\r\nHost: test\r\n", "GET", "h", "/a"},
		{"GET http://H?a HTTP/1.1\r\nHost: test\r\n", "GET", "h", "/?a"},
		{"REPORT /a HTTP/1.1\r\nHost: test\r\n", "REPORT", "test", "/a"},
	} {
		x := srvTurn(tt.method, tt.target)
		x.authority = tt.authority
		x.seal(t)
		var head bytes.Buffer
		head.WriteString(tt.line)
		srvCheck(t, x.head().Write(&head))
		head.WriteString("\r\n")
		_, err := conn.Write(head.Bytes())
		srvCheck(t, err)
		if got := x.open(t, conn.answer()); got.status != 200 {
			t.Errorf("%q: status %d", tt.line, got.status)
		}
	}
	// HTTP/1.0 has no chunks: the end of the connection is the end of the body.
	x := srvTurn("GET", "/a")
	x.authority = "test"
	x.seal(t)
	var head bytes.Buffer
	head.WriteString("GET /a HTTP/1.0\r\nHost: test\r\n")
	srvCheck(t, x.head().Write(&head))
	head.WriteString("\r\n")
	_, err := conn.Write(head.Bytes())
	srvCheck(t, err)
	if got := x.open(t, conn.answer()); string(got.body) != "/a" {
		t.Errorf("HTTP/1.0: %q", got.body)
	}

	x = srvTurn("OPTIONS", "*")
	x.authority = "example.com"
	x.seal(t)
	w, r := httptest.NewRecorder(), httptest.NewRequest("OPTIONS", "*", nil)
	r.Header = x.head()
	m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
	x.open(t, &srvAnswer{status: w.Code, header: w.Header(), body: w.Body.Bytes()})
}

// Targets and hosts that net/http's client does not send, but its server takes, and of
// which a handler would see more than is bound.
func TestServerExchangeBindingHiddenTargets(t *testing.T) {
	for _, tt := range []struct {
		http2        bool
		host, target string // as they arrive
		opts         []sealhttp.Option
		taken        bool
	}{
		{host: "api.example.com:8443", target: "/a?x=1", taken: true},
		{host: "api.example.com:evil.example", target: "/a?x=1"},
		{host: "api.example.com:443(evil.example", target: "/a?x=1"},
		{host: "api.example.com:443.evil.example", target: "/a?x=1", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}},
		{host: "[api.example.com", target: "/a?x=1", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}},
		{host: "api.example.com", target: "http:///a?x=1"},
		{host: "api.example.com", target: "http://user@api.example.com/a?x=1"},
		{host: "api.example.com", target: "http://api.example.com:80@api.example.com/a?x=1"},
		{http2: true, host: "api.example.com:8443", target: "/a?x=1", taken: true},
		{http2: true, host: "api.example.com", target: "https://API.example.com:443/a?x=1", taken: true},
		{http2: true, host: "api.example.com", target: "https://evil.example/a?x=1"},
		{http2: true, host: "api.example.com", target: "https://evil.example/a?x=1", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}},
		{http2: true, host: "api.example.com", target: "https://evil@api.example.com/a?x=1"},
		{http2: true, host: "api.example.com", target: "/a?x=1#&x=2"},
		{http2: true, host: "api.example.com:443/../../x?y", target: "/a?x=1"},
		{http2: true, host: "evil.example/?", target: "/a?x=1", opts: []sealhttp.Option{sealhttp.WithAuthority("api.example.com")}},
	} {
		t.Run(fmt.Sprintf("%q at %q, HTTP/2 %v", tt.target, tt.host, tt.http2), func(t *testing.T) {
			ran := false
			m := srvMiddleware(t, append(tt.opts, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))...)
			h := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true }))
			x := srvTurn("GET", "/a?x=1")
			x.authority = "api.example.com"
			x.seal(t)
			var a *srvAnswer
			if tt.http2 {
				a = srvFrames(t, h, tt.host, tt.target, x.head())
			} else {
				conn := srvDial(t, h)
				var head bytes.Buffer
				fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\n", tt.target, tt.host)
				srvCheck(t, x.head().Write(&head))
				_, err := conn.Write(append(head.Bytes(), "\r\n"...))
				srvCheck(t, err)
				a = conn.answer()
			}
			if tt.taken {
				x.open(t, a)
			} else {
				x.refusedInClear(t, a, sealhttp.CodeMalformed, 400)
			}
			if ran != tt.taken {
				t.Errorf("the handler ran: %v", ran)
			}
		})
	}
}

// srvFrames sends a GET over HTTP/2, with :authority and :path as they are given.
func srvFrames(t *testing.T, h http.Handler, authority, path string, header http.Header) *srvAnswer {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), config)
	srvCheck(t, err)
	defer conn.Close()
	srvCheck(t, conn.SetDeadline(time.Now().Add(srvTimeout)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	srvCheck(t, err)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	srvCheck(t, framer.WriteSettings())
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", path}} {
		srvCheck(t, fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	for name, lines := range header {
		for _, line := range lines {
			srvCheck(t, fields.WriteField(hpack.HeaderField{Name: strings.ToLower(name), Value: line}))
		}
	}
	srvCheck(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	a := &srvAnswer{header: http.Header{}}
	for {
		frame, err := framer.ReadFrame()
		srvCheck(t, err)
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			a.status, err = strconv.Atoi(f.PseudoValue("status"))
			srvCheck(t, err)
			for _, field := range f.RegularFields() {
				a.header.Add(field.Name, field.Value)
			}
		case *http2.DataFrame:
			a.body = append(a.body, f.Data()...)
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("the server broke off: %v", frame)
		}
		if h := frame.Header(); h.StreamID == 1 && h.Flags.Has(http2.FlagDataEndStream) {
			return a
		}
	}
}

// The configured info is bound.
func TestServerExchangeBindingInfo(t *testing.T) {
	for _, tt := range []struct {
		server, caller string
		code           sealhttp.Code
	}{
		{"tenant-1", "tenant-1", ""},
		{"", "", ""},
		{"tenant-1", "tenant-2", sealhttp.CodeDecryptionFailed},
		{"tenant-1", "", sealhttp.CodeDecryptionFailed},
		{"", "tenant-1", sealhttp.CodeDecryptionFailed},
		{strings.Repeat("i", 1<<16-1), strings.Repeat("i", 1<<16-1), ""},
		{strings.Repeat("i", 1<<16), "", sealhttp.CodeMalformed},
	} {
		infos := map[string]sealhttp.Option{
			"WithInfo": sealhttp.WithInfo([]byte(tt.server), []byte("for responses of the message profile only")),
			"WithInfoFunc": sealhttp.WithInfoFunc(func(r *http.Request) (request, response []byte, err error) {
				return []byte(r.Header.Get("X-Tenant")), nil, nil
			}),
		}
		for name, opt := range infos {
			if name == "WithInfoFunc" && len(tt.server) > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%s, %.8s, %.8s", name, tt.server, tt.caller), func(t *testing.T) {
				m := srvMiddleware(t, opt, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
				host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
				x := srvTurn("GET", "/")
				x.info = []byte(tt.caller)
				req := x.request(t, host, nil)
				req.Header.Set("X-Tenant", tt.server)
				a := host.do(t, req)
				if tt.code != "" {
					x.refusedInClear(t, a, tt.code, 400)
				} else {
					x.open(t, a)
				}
			})
		}
	}
	m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)), sealhttp.WithInfoFunc(func(*http.Request) (request, response []byte, err error) { return nil, nil, errSrv }))
	host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
	x := srvTurn("GET", "/")
	x.refusedInClear(t, host.do(t, x.request(t, host, nil)), sealhttp.CodeKeyStoreUnavailable, 503)
}
