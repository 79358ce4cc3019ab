package sealhttp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// The keys of the tests of negotiation, policies, options and events.
var (
	negoServerKey = negoKey()
	negoCallerKey = negoKey()
)

func negoKey(opts ...seal.KeyOption) *seal.PrivateKey {
	k, err := seal.GenerateKey(seal.X25519AES256GCM, opts...)
	if err != nil {
		panic(err)
	}
	return k
}

// negoKeys is what a Middleware or Transport opens with.
func negoKeys(keys ...*seal.PrivateKey) sealhttp.ServerKeys {
	set, err := seal.NewKeySet(keys[0], keys[1:]...)
	if err != nil {
		panic(err)
	}
	return sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil })
}

// negoMiddleware has the server's key, and the caller's for everyone.
func negoMiddleware(t testing.TB, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	clientKeys := sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) {
		return negoCallerKey.Public(), nil
	})
	fixed := []sealhttp.Option{sealhttp.WithClientKeys(clientKeys), sealhttp.WithLogger(slog.New(slog.DiscardHandler))}
	m, err := sealhttp.New(negoKeys(negoServerKey), append(fixed, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func negoSeal(t testing.TB, key *seal.PrivateKey, plaintext string) []byte {
	t.Helper()
	message, err := key.Public().Seal(nil, []byte(plaintext), nil)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func negoOpen(t testing.TB, key *seal.PrivateKey, message []byte) string {
	t.Helper()
	plaintext, err := key.Open(nil, message, nil)
	if err != nil {
		t.Fatalf("the body is no message to the caller: %v: %q", err, message)
	}
	return string(plaintext)
}

// negoServer is a server over loopback and a client that speaks its protocol.
type negoServer struct {
	proto  string
	major  int
	url    string
	client *http.Client
	close  func() // waits for the calls under way
}

// negoServers serves h over HTTP/1.1 and HTTP/2.
func negoServers(t testing.TB, h http.Handler) []negoServer {
	t.Helper()
	one := httptest.NewServer(h)
	t.Cleanup(one.Close)
	two := httptest.NewUnstartedServer(h)
	two.EnableHTTP2 = true
	two.StartTLS()
	t.Cleanup(two.Close)
	return []negoServer{{"HTTP1", 1, one.URL, one.Client(), one.Close}, {"HTTP2", 2, two.URL, two.Client(), two.Close}}
}

// do sends a request and reads its response, whose Body then is gone.
func (s negoServer) do(t testing.TB, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != s.major {
		t.Fatalf("the call went over %s, want %s", resp.Proto, s.proto)
	}
	return resp, body
}

type negoWish string

const (
	negoNot      negoWish = "not asked"
	negoAccepted negoWish = "accepted, plaintext preferred"
	negoAsked    negoWish = "asked"
)

// negoRow is what is asked for by some lines of Accept. sees is what the handler of
// a sealed response finds there.
type negoRow struct {
	lines []string
	wish  negoWish
	sees  []string
}

type negoGroup struct {
	name string
	rows []negoRow
}

// negoAccept is "What a request asks for" of the wire format, and section 12.5.1 of
// RFC 9110, spelled out.
func negoAccept() []negoGroup {
	const (
		s = sealhttp.MediaType
		x = sealhttp.ExchangeMediaType
		h = "text/html"
		j = "application/json"
	)
	l := func(lines ...string) []string { return lines }
	row := func(accept string, wish negoWish, sees ...string) negoRow { return negoRow{l(accept), wish, sees} }
	not := func(accept string) negoRow { return row(accept, negoNot) }
	asked := func(accept string, sees ...string) negoRow { return row(accept, negoAsked, sees...) }
	accepted := func(accept string, sees ...string) negoRow { return row(accept, negoAccepted, sees...) }
	lines := func(wish negoWish, sees []string, lines ...string) negoRow { return negoRow{lines, wish, sees} }

	return []negoGroup{
		{"nothing is named", []negoRow{
			lines(negoNot, nil),
			not(""),
			not(" \t "),
			not(","),
			not(" , ,\t,"),
			lines(negoNot, nil, "", "", ""),
			not(j),
			not(h + ", " + j + ";q=0.9"),
			not("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
			not("application/json, text/plain, */*"),
		}},
		{"the type alone", []negoRow{
			asked(s),
			asked("APPLICATION/OCTET-STREAM+HPKE"),
			asked("Application/Octet-Stream+Hpke"),
			asked("  " + s + "  "),
			asked("\t" + s + "\t"),
			asked(" \t " + s + "\t \t"),
		}},
		{"wildcards never ask", []negoRow{
			not("*/*"),
			not("*/*;q=1"),
			not("application/*"),
			not("application/*;q=1.000, */*;q=0.1"),
			not("*"),
			not("application/*+hpke"),
			not("*/octet-stream+hpke"),
			not("application/octet-stream+*"),
			not("application/octet-stream"),
		}},
		{"quality by the grammar", []negoRow{
			asked(s + ";q=1"),
			asked(s + ";q=1."),
			asked(s + ";q=1.0"),
			asked(s + ";q=1.00"),
			asked(s + ";q=1.000"),
			asked(s + ";q=0.5"),
			asked(s + ";q=0.50"),
			asked(s + ";q=0.500"),
			asked(s + ";q=0.1"),
			asked(s + ";q=0.01"),
			asked(s + ";q=0.001"),
			asked(s + ";Q=0.001"),
			not(s + ";q=0"),
			not(s + ";q=0."),
			not(s + ";q=0.0"),
			not(s + ";q=0.00"),
			not(s + ";q=0.000"),
			not(s + ";Q=0"),
			not(s + ";q=0,0"), // a decimal comma is a comma: q=0, and the element "0"
			not(s + ";q=0,5"),
			not("APPLICATION/OCTET-STREAM+HPKE;Q=0.0"),
		}},
		// A typo never turns encryption off.
		{"a broken quality asks", []negoRow{
			asked(s + ";q"),
			asked(s + ";q="),
			asked(s + ";q=;"),
			asked(s + ";q=."),
			asked(s + ";q=.0"),
			asked(s + ";q=.5"),
			asked(s + ";q=0.0000"),
			asked(s + ";q=0.5000"),
			asked(s + ";q=1.0000"),
			asked(s + ";q=1.001"),
			asked(s + ";q=1.1"),
			asked(s + ";q=2"),
			asked(s + ";q=00"),
			asked(s + ";q=0.."),
			asked(s + ";q=0.0.0"),
			asked(s + ";q=0.-1"),
			asked(s + ";q=0.0a"),
			asked(s + ";q=+0"),
			asked(s + ";q=-0"),
			asked(s + ";q=-1"),
			asked(s + ";q=abc"),
			asked(s + ";q=NaN"),
			asked(s + ";q=0e0"),
			asked(s + ";q=0x0"),
			asked(s + ";q=0%"),
			asked(s + ";q=0 0"),
			asked(s + ";q==0"),
			asked(s + ";q=0=0"),
			asked(s + ";q= 0"),
			asked(s + ";q =0"),
			asked(s + ";q\t=\t0"),
			asked(s + `;q="0"`),
			asked(s + `;q="0.0`),
			asked(s + ";q='0'"),
			asked(s + ";q=\u0660"),       // a digit, but not ASCII's
			asked(s + ";q=0\u00a0"),      // a space, but not OWS
			asked(s + ";q=0\x00"),        //
			asked(s + ";q=0\v"),          //
			asked(s+";q=.1, "+h, h),      // it counts as 1, so nothing is preferred to it
			asked(s+";q=0.0000, "+h, h),  //
			asked(s+";q=1.5, "+h, h),     //
			asked(s+`;q="0,5", `+h, h),   //
			asked(s + ";q=0;q=0"),        // two are broken, even of one mind
			asked(s + ";q=0;q=1"),        //
			asked(s + ";q=0;Q=0.5"),      //
			asked(s + ";q=0;a=b;q=0"),    //
			asked(s+";q=1;q=0.1, "+h, h), //
		}},
		{"white space, parameters and empty ones", []negoRow{
			asked(s + ";"),
			asked(s + ";;;"),
			asked(s + " ; ; "),
			not(s + ";;q=0"),
			not(s + ";q=0;"),
			not(s + " ;q=0"),
			not(s + "; q=0"),
			not(s + "\t;\tq=0\t"),
			not("\t " + s + " \t ; \t q=0.0 \t ;\t"),
			asked(s + ";v=1"),
			asked(s + ";v=1;q=0.5"),
			asked(s + ";q=0.5;v=1"),
			not(s + ";v=1;q=0"),
			not(s + ";v=1;w=2;q=0"),
			not(s + ";q=0;v=1"),
			not(s + ";q=0;v"),
			not(s + ";v;q=0"),
			not(s + ";=;q=0"),
			asked(s + ";qs=0"),
			asked(s + ";q*=0"),
			asked(s + ";x-q=0"),
			asked(s + ";q:0"),
			asked(s + ";\x00q=0"),
			accepted(s+";v=1;q=0.5, "+h, h),
			accepted(s+";q=0.5;v=1, "+h, h),
		}},
		{"quoted strings", []negoRow{
			asked(s + `;v="a,b"`),
			asked(s + `;v="a;q=0"`),
			not(s + `;v="a";q=0`),
			not(s + `;v="";q=0`),
			not(s + `;v="a;b";q=0`),
			not(s + `;v="a,b";q=0`),
			not(s + `;v="a;q=1,b;q=1";q=0;w="c"`),
			asked(s + `;v="\";q=0"`),
			not(s + `;v="\\";q=0`),
			not(s + `;v="\"";q=0`),
			asked(s + `;v="\\\";q=0"`),
			asked(s + `;"q=0"`),
			not(`text/html;v="` + s + `"`),
			not(`text/html;v="a, ` + s + `, b"`),
			not(`text/html;v="\", ` + s + `, \\\""`),
			not(`"` + s + `"`),
			asked(`text/html;v="a\\", `+s, `text/html;v="a\\"`),
			asked(`text/html;v="a,b;c" , `+s+`, text/plain;v=","`, `text/html;v="a,b;c", text/plain;v=","`),
			accepted(`text/html;v=";q=0.1", `+s+`;q=0.9`, `text/html;v=";q=0.1"`),
			asked(`text/html;v=";q=1";q=0.1, `+s+`;q=0.9`, `text/html;v=";q=1";q=0.1`),
		}},
		// Chosen: a quote that is never closed quotes nothing, so that junk in one
		// element does not swallow those behind it.
		{"quotes that are not closed", []negoRow{
			asked(s + `;v="a`),
			asked(s + `;v="`),
			not(s + `;v="a;q=0`),
			not(s + `;q=0;v="`),
			asked(`text/html;v="a, `+s, `text/html;v="a`),
			asked(`text/html;v="a\", `+s, `text/html;v="a\"`),
			asked(`text/html;v="a\\\", `+s+`, b/c;v=\"`, `text/html;v="a\\\", b/c;v=\"`),
			asked(`", `+s, `"`),
			not(`", ` + s + `, "`),
			asked(s+`, "`, `"`),
			not(s + `"`),
			not(s + `"";q=1`),
			not(`"` + s),
		}},
		{"beside other ranges", []negoRow{
			asked(s+", "+h, h),
			asked(h+", "+s, h),
			asked(h+","+s+","+j, h+", "+j),
			asked(s+", */*", "*/*"),
			asked("*/*,"+s+";q=1.000", "*/*"),
			accepted(s+";q=0.999, */*", "*/*"),
			accepted("application/*, "+s+";q=0.999", "application/*"),
			accepted(s+";q=0.5, "+j, j),
			asked(s+";q=0.5, "+j+";q=0.5", j+";q=0.5"),
			asked(s+";q=0.5, "+j+";q=0.500", j+";q=0.500"),
			asked(s+";q=0.5, "+j+";q=0.4", j+";q=0.4"),
			asked(s+";q=0.5, "+j+";q=0.499", j+";q=0.499"),
			accepted(s+";q=0.5, "+j+";q=0.501", j+";q=0.501"),
			accepted(s+";q=0.001, */*;q=0.002", "*/*;q=0.002"),
			accepted(s+";q=0.5, "+h+";q=0.1, "+j+";q=0.6, */*;q=0.2", h+";q=0.1, "+j+";q=0.6, */*;q=0.2"),
			asked(s+";q=0.6, "+h+";q=0.1, "+j+";q=0.6, */*;q=0.2", h+";q=0.1, "+j+";q=0.6, */*;q=0.2"),
			asked(s+";q=0.001, "+h+";q=0, */*;q=0", h+";q=0, */*;q=0"),
			not(s + ";q=0, */*"),
			not("*/*, " + s + ";q=0"),
			not(s + ";q=0, " + h + ";q=0"),
			accepted(s+";q=0.5, "+h+";level=1", h+";level=1"),
			asked(s+";q=0.5, "+h+";level=1;q=0.4", h+";level=1;q=0.4"),
			asked(s+";q=0.5, "+h+";q=0.4;level=1", h+";q=0.4;level=1"),
			accepted(s+";q=0.5, "+h+";level", h+";level"),
			asked("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2, "+s, "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), // Java's default
			accepted("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2, "+s+"; q=0.9", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"),
		}},
		// Chosen: what is no range, or has a broken quality, prefers nothing.
		{"beside junk", []negoRow{
			asked(s+";q=0.1, "+j+";q=", j+";q="),
			asked(s+";q=0.1, "+j+";q=abc", j+";q=abc"),
			asked(s+";q=0.1, "+j+";q=1.001", j+";q=1.001"),
			asked(s+";q=0.1, "+j+`;q="1"`, j+`;q="1"`),
			asked(s+";q=0.1, "+j+";q=1;q=1", j+";q=1;q=1"),
			asked(s+";q=0.1, "+j+";q =1", j+";q =1"),
			asked(s+";q=0.1, json", "json"),
			asked(s+";q=0.1, *", "*"),
			asked(s+";q=0.1, */json", "*/json"),
			asked(s+";q=0.1, text/", "text/"),
			asked(s+";q=0.1, /html", "/html"),
			asked(s+";q=0.1, /", "/"),
			asked(s+";q=0.1, text/html/x", "text/html/x"),
			asked(s+";q=0.1, text /html", "text /html"),
			asked(s+";q=0.1, text/ht ml", "text/ht ml"),
			asked(s+";q=0.1, te\u00e9t/html", "te\u00e9t/html"),
			asked(s+";q=0.1, text/html\x00", "text/html\x00"),
			asked(s+";q=0.1, \x80\xff", "\x80\xff"),
			asked(s+";q=0.1, ;q=1", ";q=1"),
			asked(s+";q=0.1, =", "="),
			accepted(s+";q=0.1, x/y;;;a", "x/y;;;a"),
			accepted(s+";q=0.1, x*/!#$%&'*+-.^_`|~", "x*/!#$%&'*+-.^_`|~"),
		}},
		{"named more than once: the highest counts", []negoRow{
			asked(s + ", " + s),
			asked(s + ";q=0, " + s),
			asked(s + ", " + s + ";q=0"),
			asked(s + ";q=0, " + s + ";q=0.001"),
			not(s + ";q=0, " + s + ";q=0.000"),
			asked(s + ";q=0, " + s + ";q=x"),
			asked(s+";q=0.2, "+h+";q=0.5, "+s+";q=0.8;v=1", h+";q=0.5"),
			accepted(s+";q=0.2, "+h+";q=0.5, "+s+";q=0.4;v=1", h+";q=0.5"),
		}},
		// The exchange profile's responses are not asked for by Accept, so its type is
		// no other range, and the handler does not see it either.
		{"the exchange type", []negoRow{
			not(x),
			not(x + ", */*;q=0.1"),
			not(x + ", " + s + ";q=0"),
			asked(x + ", " + s),
			asked(x + ";q=1, " + s + ";q=0.1"),
			asked(strings.ToUpper(x)+";v=1, "+s+";q=0.1, "+j+";q=0.1", j+";q=0.1"),
			accepted(x+", "+s+";q=0.1, "+j, j),
		}},
		{"empty elements", []negoRow{
			asked("," + s),
			asked(s + ","),
			asked(",, ,\t," + s + " , ,,"),
			asked(", "+h+" ,, "+s+", ,"+j+",", h+", "+j),
			not(",," + s + ";q=0,,"),
		}},
		{"several lines", []negoRow{
			lines(negoAsked, l(h), s, h),
			lines(negoAsked, l(h), h, s),
			lines(negoAsked, l(h, j), h, s, j),
			lines(negoAsked, l(h, j), h+","+s, s+", "+j),
			lines(negoAsked, nil, "", s, "", ","),
			lines(negoAccepted, l("*/*"), "*/*", s+";q=0.9"),
			lines(negoAccepted, l(h+";q=0.1", j), s+";q=0.9", h+";q=0.1", j),
			lines(negoAsked, l(h+";q=0.1", j+";q=0.9"), s+";q=0.9", h+";q=0.1", j+";q=0.9"),
			lines(negoNot, nil, s+";q=0", "*/*"),
			lines(negoAsked, nil, s+";q=0", s),
			lines(negoAsked, l(";q=0"), s, ";q=0"), // joined with a comma, the weight is of another element
			lines(negoNot, nil, "application/octet-stream", "+hpke"),
			lines(negoNot, nil, "application/", "octet-stream+hpke"),
			// Chosen: a quoted string does not go on in the next line, so that a line
			// added by an intermediary does not swallow the caller's.
			lines(negoAsked, l(`text/html;v="a`, `b"`), `text/html;v="a`, s, `b"`),
			lines(negoAsked, l(`text/html;v="a`), `text/html;v="a`, s+`;v="`),
		}},
		{"near misses", []negoRow{
			not(s + "2"),
			not("x" + s),
			not(s[:len(s)-1]),
			not(s[1:]),
			not(s + "/"),
			not(s + "/x"),
			not(s + "+hpke"),
			not(s + " q=0.5"),
			not(s + ":q=1"),
			not(s + "=1"),
			not(s + " " + s),
			not(s + "." + h),
			not("octet-stream+hpke"),
			not("/octet-stream+hpke"),
			not("application/+hpke"),
			not("+hpke"),
			not("application//octet-stream+hpke"),
			not("application\\octet-stream+hpke"),
			not("application /octet-stream+hpke"),
			not("application/ octet-stream+hpke"),
			not("application/octet-stream +hpke"),
			not("application/octet-stream+ hpke"),
			not("application/octet-stream hpke"),
			not("application/octet-stream%2Bhpke"),
			not("application%2Foctet-stream+hpke"),
			not("application/octet-stream-hpke"),
			not("application/octet_stream+hpke"),
			not("application/x.octet-stream+hpke"),
			not("application/sealed-exchange"),
			not("text/octet-stream+hpke"),
			not("message/ohttp-req"),
			not("application/octet\u2011stream+hpke"), // a hyphen, but not ASCII's
			not("application/octet-\u017ftream+hpke"), // the long s folds to s
			not("application/octet-stream+hp\u212ae"), // the Kelvin sign folds to k
			not("\u00a0" + s),
			not(s + "\u00a0"),
			not("\ufeff" + s),
			not("\v" + s),
			not(s + "\x00"),
			not("\x00" + s),
			not(s + "\x7f"),
			not("\r\n" + s),
			not(s + "\r"),
		}},
		{"very long", []negoRow{
			asked(strings.Repeat("text/html;q=0.1,", 4000)+s+";q=0.1", strings.TrimSuffix(strings.Repeat("text/html;q=0.1, ", 4000), ", ")),
			accepted(strings.Repeat("text/html;q=0.1,", 4000)+s+";q=0.1,"+h, strings.Repeat("text/html;q=0.1, ", 4000)+h),
			asked(s + ";q=0." + strings.Repeat("0", 60_000)),
			asked(s + ";q=" + strings.Repeat("9", 60_000)),
			not(s + strings.Repeat(";", 60_000) + "q=0"),
			asked(strings.Repeat(",", 60_000) + s),
			not(s + strings.Repeat(" ", 60_000) + ";q=0"),
			not(s + ";v=" + strings.Repeat("x", 60_000) + ";q=0"),
			not(s + `;v="` + strings.Repeat(`\"`, 30_000) + `";q=0`),
			not(s + `;v="` + strings.Repeat(`\"`, 30_000) + `;q=0`),
			not(strings.Repeat("+hpke", 12_000)),
			not(strings.Repeat(s, 2_000)),
		}},
	}
}

func (r negoRow) String() string {
	s := fmt.Sprintf("%q", r.lines)
	if len(s) > 100 {
		s = s[:100] + "..." + strconv.Itoa(len(s))
	}
	return s
}

// negoHandler notes the Accept that it is given.
type negoHandler struct {
	runs   int
	accept []string
}

const negoAnswer = "the answer"

func (h *negoHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.runs++
	h.accept = r.Header["Accept"]
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, negoAnswer)
}

// TestAccept sends every row to a handler behind Optional and behind Required.
func TestAccept(t *testing.T) {
	h := new(negoHandler)
	optional := negoMiddleware(t).Handler(h)
	required := negoMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(h)
	n := 0
	for _, group := range negoAccept() {
		t.Run(group.name, func(t *testing.T) {
			for _, row := range group.rows {
				n++
				call := func(handler http.Handler) *httptest.ResponseRecorder {
					*h = negoHandler{}
					r := httptest.NewRequest("GET", "/", nil)
					if row.lines != nil {
						r.Header["Accept"] = slices.Clone(row.lines)
					}
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					return w
				}
				w := call(optional)
				negoCheck(t, "Optional", row, row.wish == negoAsked, w.Result(), w.Body.Bytes(), h)
				w = call(required)
				if row.wish != negoNot {
					negoCheck(t, "Required", row, true, w.Result(), w.Body.Bytes(), h)
				} else if w.Code != 406 || w.Header().Get("Sealed-Error") != "encryption_required" || h.runs != 0 {
					t.Errorf("Required: %v: got %d %q, the handler ran %d times; want 406 encryption_required", row, w.Code, w.Header().Get("Sealed-Error"), h.runs)
				}
			}
		})
	}
	if n < 180 {
		t.Errorf("only %d rows", n)
	}
}

// negoCheck checks the answer to a row that is served.
func negoCheck(t *testing.T, policy string, row negoRow, sealed bool, resp *http.Response, body []byte, h *negoHandler) {
	t.Helper()
	if resp.StatusCode != 200 || h.runs != 1 {
		t.Errorf("%s: %v: got %d, the handler ran %d times; want 200", policy, row, resp.StatusCode, h.runs)
		return
	}
	if isSealed := resp.Header.Get("Content-Type") == sealhttp.MediaType; isSealed != sealed {
		t.Errorf("%s: %v: the response is sealed: %v, want %v", policy, row, isSealed, sealed)
		return
	}
	sees := row.lines
	if sealed {
		sees = row.sees
		body = []byte(negoOpen(t, negoCallerKey, body))
	}
	if string(body) != negoAnswer {
		t.Errorf("%s: %v: got %q", policy, row, body)
	}
	// HTTP/1 and clients drop the white space around a line.
	trim := func(lines []string) (trimmed []string) {
		for _, line := range lines {
			trimmed = append(trimmed, strings.Trim(line, " \t"))
		}
		return trimmed
	}
	if got, want := trim(h.accept), trim(sees); !slices.Equal(got, want) {
		t.Errorf("%s: %v: the handler sees Accept %.200q, want %.200q", policy, row, got, want)
	}
}

// TestAcceptOverHTTP sends what can be sent: Go's server answers 400 to control
// characters in a field, and its client does not send them.
func TestAcceptOverHTTP(t *testing.T) {
	h := new(negoHandler)
	for _, srv := range negoServers(t, negoMiddleware(t).Handler(h)) {
		t.Run(srv.proto, func(t *testing.T) {
			n := 0
			for _, group := range negoAccept() {
				for _, row := range group.rows {
					if slices.ContainsFunc(row.lines, func(line string) bool {
						return strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
					}) {
						continue
					}
					n++
					*h = negoHandler{}
					req, err := http.NewRequestWithContext(t.Context(), "GET", srv.url, nil)
					if err != nil {
						t.Fatal(err)
					}
					if row.lines != nil {
						req.Header["Accept"] = row.lines
					}
					resp, body := srv.do(t, req)
					negoCheck(t, "Optional", row, row.wish == negoAsked, resp, body, h)
				}
			}
			if n < 170 {
				t.Errorf("only %d rows could be sent", n)
			}
		})
	}
}

// TestAcceptManyQuotes sends two million quotes of which none is closed. Looking for
// the end of each would take many minutes.
func TestAcceptManyQuotes(t *testing.T) {
	h := new(negoHandler)
	quotes := strings.Repeat(`"\`, 2<<20)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", sealhttp.MediaType+";v="+quotes+";q=0.5, text/html")
	w := httptest.NewRecorder()
	negoMiddleware(t, sealhttp.WithPolicy(sealhttp.Required)).Handler(h).ServeHTTP(w, r)
	row := negoRow{wish: negoAccepted, sees: []string{"text/html"}}
	negoCheck(t, "Required", row, true, w.Result(), w.Body.Bytes(), h)
}

// TestContentTypeOfRequests is which Content-Type marks a body as sealed.
func TestContentTypeOfRequests(t *testing.T) {
	const (
		s = sealhttp.MediaType
		x = sealhttp.ExchangeMediaType
		j = "application/json"
	)
	type outcome string
	const (
		opened    outcome = "opened"
		plain     outcome = "plaintext"
		malformed outcome = "400 malformed"
	)
	l := func(lines ...string) []string { return lines }
	message := negoSeal(t, negoServerKey, "the question")
	var got outcome
	m := negoMiddleware(t)
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		info, _ := sealhttp.FromContext(r.Context())
		switch {
		case err != nil:
			t.Error(err)
		case string(body) == "the question" && info.RequestSealed && r.Header.Get("Content-Type") == j:
			got = opened
		case bytes.Equal(body, message) && !info.RequestSealed:
			got = plain
		default:
			t.Errorf("the handler got %q, %+v, %q", body, info, r.Header["Content-Type"])
		}
	}))
	for _, tt := range []struct {
		lines []string
		want  outcome
	}{
		{l(s), opened},
		{l("Application/OCTET-Stream+hPKE"), opened},
		{l(" \t" + s + "\t "), opened},
		{l(s + ";charset=utf-8"), opened},
		{l(s + " ; v=\"a;b,c\" ; q=0"), opened},
		{l(s + ";"), opened},
		{l(s + ";;junk\"\x00"), opened},

		{nil, plain},
		{l(""), plain},
		{l(j), plain},
		{l("application/octet-stream"), plain},
		{l(s + ", " + j), plain}, // no list: it names neither
		{l(j + ", " + s), plain},
		{l(s + " x"), plain},
		{l(s + "2"), plain},
		{l("x" + s), plain},
		{l(`"` + s + `"`), plain},
		{l(s + "\u00a0"), plain},
		{l("\v" + s), plain},
		{l("application/*"), plain},
		{l("*/*"), plain},
		{l(j + "; v=" + s), plain},
		{l("application/octet-\u017ftream+hpke"), plain},
		{l("application/octet-stream+hp\u212ae"), plain},
		{l("application/\u017fealed-exchange+hpke"), plain},
		{l(j, "text/plain"), plain},
		{l("", ""), plain},

		{l(s, s), malformed},
		{l(s, j), malformed},
		{l(j, s), malformed},
		{l("", s), malformed},
		{l(s, ""), malformed},
		{l(j, "text/plain", strings.ToUpper(s)+";v=1"), malformed},

		{l(x), malformed},
		{l("Application/Sealed-EXCHANGE+hpke; v=1"), malformed},
		{l(x, x), malformed},
		{l(x, j), malformed},
		{l(j, x), malformed},
	} {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(message))
		if tt.lines != nil {
			r.Header["Content-Type"] = tt.lines
		}
		w := httptest.NewRecorder()
		got = ""
		h.ServeHTTP(w, r)
		if got == "" {
			got = outcome(fmt.Sprintf("%d %s", w.Code, w.Header().Get("Sealed-Error")))
		}
		if got != tt.want {
			t.Errorf("Content-Type %q: %s, want %s", tt.lines, got, tt.want)
		}
	}
}

// FuzzAccept compares the reading of Accept with one that was written from RFC 9110
// and the wire format alone, with regular expressions and copies where the other
// has neither. Lines are separated by LF, which no field can hold.
func FuzzAccept(f *testing.F) {
	for _, group := range negoAccept() {
		for _, row := range group.rows {
			if seed := strings.Join(row.lines, "\n"); len(seed) < 1<<10 { // long ones cost the fuzzer its pace
				f.Add(seed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, accept string) {
		lines := strings.Split(accept, "\n")
		before := slices.Clone(lines)
		var got negoWish = negoNot
		switch asked, accepted := sealhttp.ReadAccept(lines); {
		case asked:
			got = negoAsked
		case accepted:
			got = negoAccepted
		}
		want, others := negoNaive(lines)
		if got != want {
			t.Errorf("%q: %s, want %s", lines, got, want)
		}
		left := sealhttp.WithoutSealed(lines)
		if !slices.Equal(lines, before) {
			t.Errorf("%q became %q", before, lines)
		}
		if wish, elements := negoNaive(left); wish != negoNot || !slices.Equal(elements, others) {
			t.Errorf("%q: the handler sees %q: %s, elements %q, want %q", lines, left, wish, elements, others)
		}
		if asked, accepted := sealhttp.ReadAccept(left); asked || accepted {
			t.Errorf("%q: what is left still asks: %q", lines, left)
		}
	})
}

var (
	negoQuoted    = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"`)
	negoRange     = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+)/([!#$%&'*+.^_`|~0-9A-Za-z-]+)$")
	negoWeighs    = regexp.MustCompile(`^[qQ][ \t]*(=|$)`)
	negoWeight    = regexp.MustCompile(`^[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)$`)
	negoASCIIonly = regexp.MustCompile(`^[\x00-\x7f]*$`)
)

// negoNaive says what some lines of Accept ask for, and which elements do not name
// a sealed media type. On junk it chooses as follows:
//   - each line is a list of its own: a quoted string ends with its line;
//   - a quote that is not closed quotes nothing;
//   - an element that is no media range, or has a weight that is none or two of
//     them, prefers nothing; if it names the sealed type, it asks for it as with q=1;
//   - of several elements that name the sealed type the highest counts;
//   - "*/json" is no media range;
//   - the exchange type is no other range.
func negoNaive(lines []string) (negoWish, []string) {
	var sealed, other float64
	var others []string
	for _, line := range lines {
		for _, element := range negoSplit(line, ',') {
			element = strings.Trim(element, " \t")
			if element == "" {
				continue
			}
			parts := negoSplit(element, ';')
			name := strings.Trim(parts[0], " \t")
			weight, weights, broken := 1.0, 0, false
			for _, parameter := range parts[1:] {
				parameter = strings.Trim(parameter, " \t")
				if !negoWeighs.MatchString(parameter) {
					continue
				}
				weights++
				if m := negoWeight.FindStringSubmatch(parameter); m != nil {
					weight, _ = strconv.ParseFloat(m[1], 64)
				} else {
					broken = true
				}
			}
			broken = broken || weights > 1
			is := func(mediaType string) bool {
				return negoASCIIonly.MatchString(name) && strings.ToLower(name) == mediaType
			}
			if is("application/octet-stream+hpke") {
				if broken {
					weight = 1
				}
				sealed = max(sealed, weight)
				continue
			}
			if is("application/sealed-exchange+hpke") {
				continue
			}
			others = append(others, element)
			m := negoRange.FindStringSubmatch(name)
			if m == nil || m[1] == "*" && m[2] != "*" || broken {
				continue
			}
			other = max(other, weight)
		}
	}
	switch {
	case sealed == 0:
		return negoNot, others
	case sealed < other:
		return negoAccepted, others
	}
	return negoAsked, others
}

// negoSplit splits s at the separators outside of quoted strings.
func negoSplit(s string, separator byte) (parts []string) {
	masked := negoQuoted.ReplaceAllStringFunc(s, func(quoted string) string { return strings.Repeat("x", len(quoted)) })
	for {
		i := strings.IndexByte(masked, separator)
		if i < 0 {
			return append(parts, s)
		}
		parts = append(parts, s[:i])
		s, masked = s[i+1:], masked[i+1:]
	}
}
