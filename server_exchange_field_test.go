package sealhttp_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// srvFieldRow is a Sealed-Exchange that is not as it must be.
type srvFieldRow struct {
	name   string
	change func(members []string) []string // lines
}

// srvReplace replaces the members that it is given, by name.
func srvReplace(replacements ...string) func([]string) []string {
	return func(members []string) []string {
		members = slices.Clone(members)
		for _, r := range replacements {
			name, _, _ := strings.Cut(r, "=")
			i := slices.IndexFunc(members, func(m string) bool { return strings.HasPrefix(m, name+"=") })
			if i < 0 {
				members = append(members, r)
			} else {
				members[i] = r
			}
		}
		return []string{strings.Join(members, ", ")}
	}
}

// srvAdd puts members in front and behind.
func srvAdd(front, behind string) func([]string) []string {
	return func(members []string) []string { return []string{front + strings.Join(members, ", ") + behind} }
}

// srvMember edits one member's text.
func srvMember(name string, edit func(string) string) func([]string) []string {
	return func(members []string) []string {
		members = slices.Clone(members)
		for i, m := range members {
			if strings.HasPrefix(m, name+"=") {
				members[i] = edit(m)
			}
		}
		return []string{strings.Join(slices.DeleteFunc(members, func(m string) bool { return m == "" }), ", ")}
	}
}

func srvAppend(s string) func(string) string { return func(m string) string { return m + s } }
func srvConst(s string) func(string) string  { return func(string) string { return s } }

// srvFieldRows are malformed fields.
func srvFieldRows() []srvFieldRow {
	rows := []srvFieldRow{
		{"empty", func([]string) []string { return []string{""} }},
		{"two lines, each whole", func(m []string) []string { s := strings.Join(m, ", "); return []string{s, s} }},
		{"two lines, together whole", func(m []string) []string { return []string{m[0], strings.Join(m[1:], ", ")} }},
		{"a second, empty line", func(m []string) []string { return []string{strings.Join(m, ", "), ""} }},
		{"two lines, of other versions", func(m []string) []string { return []string{"v=2", "v=2"} }},
		{"a trailing comma", srvAdd("", ",")},
		{"a leading comma", srvAdd(",", "")},
		{"a doubled comma", func(m []string) []string { return []string{strings.Join(m, ",, ")} }},
		{"semicolons", func(m []string) []string { return []string{strings.Join(m, "; ")} }},
		{"no commas", func(m []string) []string { return []string{strings.Join(m, " ")} }},
		{"junk behind", srvAdd("", " x")},
		{"not ASCII", srvAdd("", ", x=\"\u00e9\"")},
		{"no dictionary", func([]string) []string { return []string{"(1 2)"} }},
		{"a list", func([]string) []string { return []string{":AAAA:, :BBBB:"} }},
		{"JSON", func([]string) []string { return []string{`{"v":1}`} }},
		{"an unknown member", srvAdd("", ", x=1")},
		{"an unknown member in front", srvAdd("x=1, ", "")},
		{"an unknown member without a value", srvAdd("", ", x")},
		{"an unknown inner list", srvAdd("", ", x=()")},
		{"a response's member", srvAdd("", ", nonce=:AAAA:")},
		{"an upper-case name", srvMember("kid", func(m string) string { return "K" + m[1:] })},
		{"a string that is never closed", srvAdd("", `, x="`)},
		{"a string with a comma and a member", srvAdd("", `, x=", v=1"`)},
		{"v: none", srvMember("v", srvConst(""))},
		{"v: a string", srvReplace(`v="1"`)},
		{"v: a token", srvReplace(`v=one`)},
		{"v: a decimal", srvReplace(`v=1.0`)},
		{"v: another decimal", srvReplace(`v=2.5`)},
		{"v: true", srvMember("v", srvConst("v"))},
		{"v: bytes", srvReplace(`v=:AQ==:`)},
		{"v: a list", srvReplace(`v=(1)`)},
		{"v: a parameter", srvReplace(`v=1;x`)},
		{"v: a date", srvReplace(`v=@1`)},
	}
	for _, name := range []string{"v", "kid", "id", "ts", "enc", "auth"} {
		rows = append(rows,
			srvFieldRow{name + ": twice, alike", func(m []string) []string {
				i := slices.IndexFunc(m, func(m string) bool { return strings.HasPrefix(m, name+"=") })
				return []string{strings.Join(append(slices.Clone(m), m[i]), ", ")}
			}},
			srvFieldRow{name + ": twice, the first is junk", srvAdd(name+"=x, ", "")},
			srvFieldRow{name + ": twice, the first has no value", srvAdd(name+", ", "")},
		)
		if name == "v" {
			continue
		}
		rows = append(rows,
			srvFieldRow{name + ": none", srvMember(name, srvConst(""))},
			srvFieldRow{name + ": a parameter", srvMember(name, srvAppend(";x=1"))},
			srvFieldRow{name + ": a flag", srvMember(name, srvAppend(";x"))},
			srvFieldRow{name + ": no value", srvMember(name, srvConst(name))},
			srvFieldRow{name + ": a list", srvMember(name, func(m string) string { n, v, _ := strings.Cut(m, "="); return n + "=(" + v + ")" })},
			srvFieldRow{name + ": a string", srvMember(name, func(m string) string { n, v, _ := strings.Cut(m, "="); return n + `="` + v + `"` })},
			srvFieldRow{name + ": a token", srvMember(name, srvConst(name+"=x"))},
			srvFieldRow{name + ": a display string", srvMember(name, srvConst(name+`=%"x"`))},
			srvFieldRow{name + ": a date", srvMember(name, srvConst(name+`=@1764000000`))},
		)
	}
	for _, bad := range []string{"0", "-1", "4294967296", "999999999999999", "1000000000000000", "1.0", "1e3", "0x10", ":AAAAAA==:", `"1"`} {
		rows = append(rows, srvFieldRow{"kid: " + bad, srvReplace("kid=" + bad)})
	}
	for _, bad := range []string{"-1", "1000000000000", "999999999999999", "9999999999999999", "1764000000.5", "?1"} {
		rows = append(rows, srvFieldRow{"ts: " + bad, srvReplace("ts=" + bad)})
	}
	for name, lengths := range map[string][]int{"id": {0, 1, 15, 17, 32}, "auth": {0, 1, 15, 17, 32}} {
		for _, n := range lengths {
			rows = append(rows, srvFieldRow{fmt.Sprintf("%s: %d bytes", name, n), srvReplace(name + "=" + srvBytes(make([]byte, n)))})
		}
	}
	for _, bad := range []string{":AAAA", "AAAA:", ":A:", ":AA=A:", ":AA A=:", ":__--:", "1"} {
		rows = append(rows, srvFieldRow{"id: " + bad, srvReplace("id=" + bad)}, srvFieldRow{"enc: " + bad, srvReplace("enc=" + bad)})
	}
	var many []string
	for i := range 17 {
		many = append(many, fmt.Sprintf(`"x-%d"`, i))
	}
	for name, bind := range map[string]string{
		"no list": `"authorization"`, "true": "?1", "tokens": "(authorization)", "a token among strings": `("x-a" authorization)`,
		"numbers": "(1)", "bytes": "(:AAAA:)", "a display string": `(%"x-a")`, "commas": `("x-a", "x-b")`,
		"upper case": `("Authorization")`, "twice": `("x-a" "x-b" "x-a")`, "a parameter": `("x-a");x`, "a parameter within": `("x-a";x)`,
		"17 names": "(" + strings.Join(many, " ") + ")", "an empty name": `("")`, "a space": `("x a")`, "a colon": `(":authority")`,
		"no token": `("x/a")`, "never closed": `("x-a"`, "nested": `(("x-a"))`, "escaped": `("x\"a")`, "a dot of the Turkish i": `("x-\304\260")`,
		"two": `("x-a"), bind=("x-a")`,
	} {
		rows = append(rows, srvFieldRow{"bind: " + name, srvReplace("bind=" + bind)})
	}
	for _, name := range []string{
		"host", "cookie", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type",
		"expect", "range", "te", "trailer", "transfer-encoding", "sealed-exchange", "sealed-content-type",
	} {
		rows = append(rows, srvFieldRow{"bind: never " + name, srvReplace(fmt.Sprintf("bind=(%q)", name))})
	}
	return rows
}

// A field that is not as it must be is refused in clear, and the handler does not run.
func TestServerExchangeFieldMalformed(t *testing.T) {
	rows := srvFieldRows()
	calls := 0
	for _, proto := range srvProtos {
		ran := 0
		guard := new(srvGuard)
		m := srvMiddleware(t, sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })))
		for _, row := range rows {
			for _, plaintext := range [][]byte{nil, []byte("hello")} {
				x := srvTurn("POST", "/")
				req := x.request(t, host, plaintext)
				req.Header["Sealed-Exchange"] = row.change(x.members())
				t.Run(fmt.Sprintf("%s/%s, body %t", proto, row.name, plaintext != nil), func(t *testing.T) {
					x.refusedInClear(t, host.do(t, req), sealhttp.CodeMalformed, 400)
				})
				calls++
			}
		}
		if inserts, lookups := guard.operations(); ran > 0 || inserts > 0 || lookups > 0 {
			t.Errorf("%s: the handler ran %d times, the guard had %d inserts and %d lookups", proto, ran, inserts, lookups)
		}
	}
	t.Logf("%d malformed fields, %d calls", len(rows), calls)
}

// Another version is said to be one, whatever else is in the field.
func TestServerExchangeFieldVersion(t *testing.T) {
	calls := 0
	for _, proto := range srvProtos {
		ran := 0
		m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })))
		for name, lines := range map[string]func(members []string) []string{
			"2":              srvReplace("v=2"),
			"0":              srvReplace("v=0"),
			"-1":             srvReplace("v=-1"),
			"large":          srvReplace("v=999999999999999"),
			"alone":          func([]string) []string { return []string{"v=2"} },
			"unknown member": func([]string) []string { return []string{`v=2, suite="x", kid=0`} },
			"wrong types":    func([]string) []string { return []string{`kid="x", id=?1, ts=-1, enc=(), auth=1, bind=1, v=2`} },
			"twice":          func([]string) []string { return []string{"v=1, v=2"} },
			"parameters":     func([]string) []string { return []string{"v=2, kid=1;x"} },
		} {
			x := srvTurn("POST", "/")
			req := x.request(t, host, []byte("hello"))
			req.Header["Sealed-Exchange"] = lines(x.members())
			if len(name) > 3 { // what else is wrong does not count either
				req.Header["Sealed-Content-Type"] = []string{"a", "b"}
				req.Header["If-Match"] = []string{"a", "b"}
			}
			t.Run(proto+"/"+name, func(t *testing.T) {
				x.refusedInClear(t, host.do(t, req), sealhttp.CodeUnsupportedProfile, 415)
			})
			calls++
		}
		if ran > 0 {
			t.Errorf("%s: the handler ran %d times", proto, ran)
		}
	}
	t.Logf("%d calls", calls)
}

// What is malformed besides the field.
func TestServerExchangeRequestMalformed(t *testing.T) {
	const exchange, message = sealhttp.ExchangeMediaType, sealhttp.MediaType
	type change func(h http.Header)
	set := func(name string, lines ...string) change { return func(h http.Header) { h[name] = lines } }
	for _, proto := range srvProtos {
		ran := 0
		m := srvMiddleware(t, sealhttp.WithBoundHeaders("x-account"), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })))
		for _, tt := range []struct {
			name   string
			body   bool // in what is bound
			send   []byte
			change change
		}{
			{"the exchange type without the field", true, []byte("x"), set("Sealed-Exchange")},
			{"the exchange type without the field, no body", true, nil, set("Sealed-Exchange")},
			{"the exchange type twice", true, []byte("x"), set("Content-Type", exchange, exchange)},
			{"the exchange type and another", true, []byte("x"), set("Content-Type", exchange, "text/plain")},
			{"another and the exchange type", true, []byte("x"), set("Content-Type", "text/plain", exchange)},
			{"the exchange type and a message's", true, []byte("x"), set("Content-Type", exchange, message)},
			{"a message's and the exchange type", true, []byte("x"), set("Content-Type", message, exchange)},
			{"a body without a type", false, []byte("x"), set("Content-Type")},
			{"a body of another type", false, []byte("x"), set("Content-Type", "application/json")},
			{"a body of a message's type", false, []byte("x"), set("Content-Type", message)},
			{"a message's type without a body", false, nil, set("Content-Type", message)},
			{"a message's type among others without a body", false, nil, set("Content-Type", "text/plain", message)},
			{"Sealed-Content-Type twice", true, []byte("x"), set("Sealed-Content-Type", "a/b", "a/b")},
			{"Sealed-Content-Type twice, without a body", false, nil, set("Sealed-Content-Type", "a/b", "a/b")},
			{"Sealed-Content-Type not ASCII", true, []byte("x"), set("Sealed-Content-Type", "a/\u00e9")},
			{"Sealed-Content-Type with a tab", true, []byte("x"), set("Sealed-Content-Type", "a/b;\tc=d")},
			{"Sealed-Content-Type too long", true, []byte("x"), set("Sealed-Content-Type", "a/"+strings.Repeat("b", 1023))},
			{"a bound field twice", true, []byte("x"), set("X-Account", "a", "a")},
			{"a bound field twice, empty", false, nil, set("X-Account", "", "")},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				x := srvTurn("POST", "/")
				x.names, x.body = []string{"x-account"}, tt.body
				x.seal(t)
				h := x.head()
				tt.change(h)
				maps.DeleteFunc(h, func(_ string, lines []string) bool { return len(lines) == 0 })
				var body *bytes.Reader
				var req *http.Request
				if tt.send != nil {
					body = bytes.NewReader(bytes.Join(x.records(t, tt.send, 100), nil))
					req = host.request(t, x.method, x.target, body, h)
				} else {
					req = host.request(t, x.method, x.target, nil, h)
				}
				x.refusedInClear(t, host.do(t, req), sealhttp.CodeMalformed, 400)
			})
		}
		for n, long := range []string{strings.Repeat("a", 8191), strings.Repeat("a", 8192)} {
			x := srvTurn("GET", "/"+long)
			x.names = []string{"x-account"}
			a := host.do(t, x.request(t, host, nil))
			if n == 0 {
				x.open(t, a) // 8192 bytes are taken
				continue
			}
			x.refusedInClear(t, a, sealhttp.CodeMalformed, 400)
		}
		if ran != 1 {
			t.Errorf("%s: the handler ran %d times, want once", proto, ran)
		}
	}
}

// What a field may look like and still be taken.
func TestServerExchangeFieldTaken(t *testing.T) {
	var sixteen []string
	for i := range 16 - len(srvDefaultBound) {
		sixteen = append(sixteen, fmt.Sprint("x-", i, "!#$%&'*+.^_`|~"))
	}
	for _, proto := range srvProtos {
		ran := 0
		m := srvMiddleware(t)
		host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ })))
		rows := []struct {
			name   string
			names  []string
			change func([]string) []string
		}{
			{"any order", nil, func(m []string) []string { slices.Reverse(m); return []string{strings.Join(m, ",")} }},
			{"white space", nil, func(m []string) []string { return []string{strings.Join(m, " \t,\t ")} }},
			{"the default list spelled out", srvDefaultBound, nil},
			{"more names", append(slices.Clone(sixteen), srvDefaultBound...), nil},
			{"another order", append([]string{"if-match", "authorization"}, slices.DeleteFunc(slices.Clone(srvDefaultBound), func(n string) bool { return n == "if-match" || n == "authorization" })...), nil},
			{"leading zeros", nil, srvMember("ts", func(m string) string { return strings.Replace(m, "=", "=00", 1) })},
		}
		for _, row := range rows {
			t.Run(proto+"/"+row.name, func(t *testing.T) {
				x := srvTurn("POST", "/")
				x.names = row.names
				x.header.Set("X-0!#$%&'*+.^_`|~", "a value")
				req := x.request(t, host, []byte("hello"))
				if row.change != nil {
					req.Header["Sealed-Exchange"] = row.change(x.members())
				}
				x.open(t, host.do(t, req))
			})
		}
		for _, contentType := range []string{strings.ToUpper(sealhttp.ExchangeMediaType), sealhttp.ExchangeMediaType + "; a=b", " " + sealhttp.ExchangeMediaType + "\t"} {
			x := srvTurn("POST", "/")
			req := x.request(t, host, []byte("hello"))
			req.Header["Content-Type"] = []string{contentType}
			x.open(t, host.do(t, req))
		}
		if want := len(rows) + 3; ran != want {
			t.Errorf("%s: the handler ran %d times, want %d", proto, ran, want)
		}
	}
}

// A key without a prefix is found by its id, too.
func TestServerExchangeFieldFindsRAWKeys(t *testing.T) {
	raw := srvGenerate(srvKey.Suite(), seal.WithoutPrefix())
	m, err := sealhttp.New(srvKeys(srvKey, raw))
	srvCheck(t, err)
	host := srvServe(t, "HTTP/1.1", m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	x := srvTurn("GET", "/")
	x.server, x.kid = raw.Public(), raw.ID()
	x.openAs(t, host.do(t, x.request(t, host, nil)), nil)

	// The id of one key with what was sealed to another; and one that is too short or long.
	for _, enc := range [][]byte{nil, {}, make([]byte, 31), make([]byte, 33), make([]byte, 65), make([]byte, 32)} {
		x = srvTurn("GET", "/")
		x.kid = raw.ID()
		req := x.request(t, host, nil)
		if enc != nil {
			req.Header["Sealed-Exchange"] = srvReplace("enc=" + srvBytes(enc))(x.members())
		}
		x.refusedInClear(t, host.do(t, req), sealhttp.CodeDecryptionFailed, 400)
	}
	x = srvTurn("GET", "/")
	x.kid = srvCallerKey.ID()
	x.refusedInClear(t, host.do(t, x.request(t, host, nil)), sealhttp.CodeUnknownKey, 400)
}
