package sealhttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

func vectorCheck(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func vectorSame(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %x, want %x", what, got, want)
	}
}

func vectorKey(t *testing.T, v *exchangeparty.KeyVector) *seal.PrivateKey {
	t.Helper()
	suite, err := seal.ParseSuite(v.Suite)
	vectorCheck(t, err)
	k, err := seal.NewPrivateKey(suite, v.ID, v.Private)
	vectorCheck(t, err)
	vectorSame(t, "public", k.Public().Bytes(), v.Public)
	return k
}

// vectorRequest is the request of a vector as net/http gives it to a server.
func vectorRequest(t *testing.T, v *exchangeparty.RequestVector) *http.Request {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: %s\r\n", v.Method, v.RequestTarget, v.Host)
	for _, name := range slices.Sorted(maps.Keys(v.Header)) {
		fmt.Fprintf(&text, "%s: %s\r\n", name, v.Header[name])
	}
	body := exchangeparty.Wire(v.Records)
	if v.Body {
		fmt.Fprintf(&text, "Content-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(&text, "\r\n%s", body)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text.String())))
	vectorCheck(t, err)
	return r
}

// Each value of each vector that this module makes, by its own code. The other
// implementation checks them all: see internal/exchangeparty.
func TestExchangeVectors(t *testing.T) {
	vectors, err := exchangeparty.ReadVectors("testdata/exchange-v1.json")
	vectorCheck(t, err)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			server := vectorKey(t, &v.Server)
			set, err := seal.NewKeySet(server)
			vectorCheck(t, err)
			m, err := New(ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil }), WithInfo(v.Request.ConfiguredInfo, nil))
			vectorCheck(t, err)

			r := vectorRequest(t, &v.Request)
			f, err := parseRequestField(r.Header[exchangeHeader])
			vectorCheck(t, err)
			if f.kid != v.Server.ID || !bytes.Equal(f.id[:], v.Request.ID) || f.timestamp != v.Request.Timestamp || !reflect.DeepEqual(f.bind, v.Request.Bind) {
				t.Errorf("the field is read as %+v", f)
			}
			vectorSame(t, "enc", f.enc, v.Request.Context.Enc)
			vectorSame(t, "auth", f.auth, v.Request.Auth)
			if f.String() != v.Request.Header["sealed-exchange"] {
				t.Errorf("the field is %s", f)
			}
			b, err := m.bindingOf(r, f)
			vectorCheck(t, err)
			b.info, _, err = m.info(r)
			vectorCheck(t, err)
			if b.authority != v.Request.Authority || b.target != v.Request.Target || b.body != v.Request.Body || b.contentType != v.Request.ContentType {
				t.Errorf("%v", b)
			}
			vectorSame(t, "bound_input", b.appendBoundHeader(nil), v.Request.BoundInput)
			bound := sha256.Sum256(b.appendBoundHeader(nil))
			vectorSame(t, "bound", bound[:], v.Request.Bound)
			info, err := b.hpkeInfo()
			vectorCheck(t, err)
			vectorSame(t, "info", info, v.Request.Context.Info)
			x, err := server.OpenExchange(f.enc, f.auth, info)
			vectorCheck(t, err)
			if v.Request.Body {
				vectorBody(t, x.Records(), r.Body, v.Request.Records)
			}

			g, err := parseResponseField([]string{v.Response.Header["sealed-exchange"]})
			vectorCheck(t, err)
			if g.String() != v.Response.Header["sealed-exchange"] {
				t.Errorf("the response's field is %s", g)
			}
			vectorSame(t, "nonce", g.Nonce, v.Response.Nonce)
			vectorSame(t, "the response's auth", g.Auth, v.Response.Auth)
			var caller *seal.PrivateKey
			if v.Caller != nil {
				caller = vectorKey(t, v.Caller)
				vectorSame(t, "cenc", g.CallerEnc, v.Response.CallerContext.Enc)
				if g.ckid != v.Caller.ID {
					t.Errorf("ckid is %d", g.ckid)
				}
			}
			aad := responseAAD(v.Response.Status, v.Response.Body, v.Response.ContentType, Code(v.Response.Error))
			vectorSame(t, "aad", aad, v.Response.AAD)
			// The caller's side of a response takes the request's context from either side.
			records, err := x.OpenResponse(g.ResponseHeader, caller, aad)
			vectorCheck(t, err)
			if v.Response.Body {
				vectorBody(t, records, bytes.NewReader(exchangeparty.Wire(v.Response.Records)), v.Response.Records)
			}
		})
	}
	t.Logf("%d vectors", len(vectors))
	if len(vectors) < 37 {
		t.Error("some are missing")
	}
}

func vectorBody(t *testing.T, records *seal.Records, body io.Reader, want []exchangeparty.RecordVector) {
	t.Helper()
	var data []byte
	padded := int64(0)
	for _, r := range want {
		data = append(data, r.Plaintext[:r.DataLen]...)
		padded += int64(r.DataLen + r.Padding)
	}
	reader := records.NewReader(body)
	got, err := io.ReadAll(reader)
	vectorCheck(t, err)
	vectorSame(t, "the data", got, data)
	if reader.Padded() != padded {
		t.Errorf("%d bytes with padding, want %d", reader.Padded(), padded)
	}
}

// The exchange that docs/protocol.md shows is the first vector, and it has a row for each
// error and suite.
func TestProtocolPage(t *testing.T) {
	text, err := os.ReadFile("docs/protocol.md")
	vectorCheck(t, err)
	vectors, err := exchangeparty.ReadVectors("testdata/exchange-v1.json")
	vectorCheck(t, err)
	has := func(line string) {
		t.Helper()
		if !bytes.Contains(text, []byte(line)) {
			t.Errorf("docs/protocol.md has not %q", line)
		}
	}
	v := vectors[0]
	has(fmt.Sprintf("\n%s %s HTTP/1.1\nHost: %s\n", v.Request.Method, v.Request.RequestTarget, v.Request.Host))
	has("\nSealed-Exchange: " + v.Request.Header["sealed-exchange"] + "\n")
	has("\nSealed-Exchange: " + v.Response.Header["sealed-exchange"] + "\n")
	for _, r := range slices.Concat(v.Request.Records, v.Response.Records) {
		has(fmt.Sprintf("\n%x %x\n", []byte(r.Length), []byte(r.Ciphertext)))
	}
	for code := range problems {
		has("\n| `" + string(code) + "` | ")
	}
	for _, name := range defaultBoundNames {
		has("`" + name + "`")
	}
	for _, name := range neverBound {
		has("`" + name + "`")
	}
	for _, s := range exchangeparty.Suites {
		has("\n| `" + s.Name + "`")
	}
}

// What is bound of a host and a target, by both implementations.
func FuzzExchangeTarget(f *testing.F) {
	for _, target := range []string{
		"/", "*", "", "?", "#", "/?", "/??", "/?a", "/?a?", "/a#b?", "/a?#", "//x/y", "/a://b", "http://x", "http://x/", "http://x?",
		"http://x#", "HTTP://X/a?b=c://d", "http://[::1]:80/a", "http://x:1:2/", "http://x:y?z", "http://[::1]x/", "http:///a", "://x", "1http://x", "h+-.1://x/y", "http://u@x:1/", "x:443", "/é",
	} {
		f.Add("API.Example.com:443", target)
	}
	for _, host := range []string{"", "x", "x.", "X:1", "[::1]", "[::A]:1", "[::1", "::1", "[]", "[::1]2", "x:1:2", "x:", "x:1a", ":1", "x@y", "x:y@z", "x/y", "x_y.%41", "É.example", "\xff"} {
		f.Add(host, "/")
	}
	f.Fuzz(func(t *testing.T, host, target string) {
		named, _, absolute := cutAuthority(target)
		if absolute {
			host = named // net/http takes it out
		}
		authority, reduced, err := (&exchangeparty.Request{Host: host, Target: target}).Reduced()
		if got := checkTarget(target, host); (got == nil) != (err == nil) {
			t.Errorf("%q at %q: %v here, %v there", target, host, got, err)
		}
		if err != nil {
			return
		}
		if got := reducedTarget(target); got != reduced {
			t.Errorf("%q is reduced to %q here, to %q there", target, got, reduced)
		}
		if again := reducedTarget(reduced); again != reduced && !strings.Contains(reduced, "://") && strings.Count(reduced, "?") != 1 {
			t.Errorf("%q is reduced to %q, and that to %q", target, reduced, again)
		}
		if got := normalAuthority(host); got != authority {
			t.Errorf("%q is %q here, %q there", host, got, authority)
		}
	})
}

// exchangeRefusal names what a field is refused with.
func exchangeRefusal(err error) string {
	switch {
	case err == nil:
		return "taken"
	case errors.Is(err, errExchangeVersion), errors.Is(err, exchangeparty.ErrUnsupportedProfile):
		return "unsupported_profile"
	}
	return "malformed"
}

var exchangeFieldSeeds = []string{
	"", "v", "v=1", "v=2", "v=-1", "v=1.0", "v=2;a", "v=1, v=2", "v=2, v=1", `v=2, a="x,y", b=tok/en:, c=?1, d=1.5, e=@7, f=%"%c3%a4", g=(1 "a");h=:AA==:, *i`,
	"v=1,", " v=1", "v=1 ", "\tv=1", "v=1\t", "v=1 , \t w=2", "v=1;a", "v=(1)", "V=1", "v = 1", "v=1,,w=1",
	"v=2, a=%\"%zz\"", `v=2, a="\"\\"`, `v=2, a="\x"`, "v=2, a=:AA:", "v=2, a=:A A=:", "v=2, a=:AB==:", "v=2, a=1234567890123456", "v=2, a=1234567890123.1", "v=2, a=1.2345", "v=2, a=--1", "v=2, a=@1.5", "v=2, a=()", "v=2, a=(1  2 )", "v=2, a=(1,2)", "v=2, a=(1;x 2;y=:AA==:)", "v=2;a=1;b", "v=2; a", "v=2 ;a", "v=2, a=?2", "v=2, a=()x",
}

// exchangeVariants are a field and what a mistake makes of it.
func exchangeVariants(field string) []string {
	all := []string{field}
	for _, change := range [][2]string{
		{"v=1", "v=01"}, {"v=1", "v=1;p"}, {"v=1, ", ""}, {", ", ","}, {", ", " ,\t"}, {":, ", "=:, "}, {"==:", ":"}, {"==:", "=:"}, {"kid=", "kid=-"}, {"kid=", "KID="},
		{"ts=", "ts=00000"}, {"ts=", "ts=999999"}, {"ts=1764000000", "ts=999999999999"}, {"ts=1764000000", "ts=1000000000000"}, {"ts=1764000000", "ts=-0"}, {"ts=1764000000", "ts=-1"},
		{"kid=305419896", "kid=0"}, {"kid=305419896", "kid=4294967295"}, {"kid=305419896", "kid=4294967296"}, {"kid=305419896", "kid=1.0"}, {"kid=305419896", `kid="1"`},
		{"auth=", "auth=:AA==:, auth="}, {"enc=:", "enc=::, enc=:"}, {"enc=:", "enc=::, x=:"}, {"auth=:", "auth=:AAAA"}, {"id=:", "id=:AAAA"},
		{"bind=(", "bind=( "}, {")", " )"}, {")", ");x"}, {")", `;x)`}, {")", ` "x-a" "x-b")`}, {")", ` "X-A")`}, {")", ` "host")`}, {")", ` "x a")`}, {")", ` "")`}, {")", " x-a)"}, {`" "`, `""`}, {"bind=", "bind"}, {"bind=(", `bind="x", b=(`},
		{")", ` "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n")`}, {")", ` "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m")`}, {")", ` "x-a" "x-a")`},
		{"ckid=4242, ", ""}, {"ckid=4242", "ckid=0"}, {"nonce=:", "nonce=:AAAA"},
	} {
		all = append(all, strings.Replace(field, change[0], change[1], 1))
	}
	return append(all, field+", x=1", field+", x", field+",", field+";x")
}

// Both implementations take the same fields, refuse the same, and read them alike. The
// one of this module stands on a library, the other has a parser of its own.
func FuzzExchangeField(f *testing.F) {
	vectors, err := exchangeparty.ReadVectors("testdata/exchange-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range exchangeFieldSeeds {
		f.Add(seed)
	}
	for _, v := range vectors[:6] {
		for _, field := range []string{v.Request.Header["sealed-exchange"], v.Response.Header["sealed-exchange"]} {
			for _, variant := range exchangeVariants(field) {
				f.Add(variant)
			}
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		lines := []string{line}
		ours, err := parseRequestField(lines)
		theirs, errTheirs := exchangeparty.ParseRequestField(lines)
		if got, want := exchangeRefusal(err), exchangeRefusal(errTheirs); got != want {
			t.Errorf("%q in a request: %s here (%v), %s there (%v)", line, got, err, want, errTheirs)
		} else if err == nil {
			if ours.kid != theirs.KeyID || ours.id != theirs.ID || ours.timestamp != theirs.Timestamp ||
				!bytes.Equal(ours.enc, theirs.Enc) || !bytes.Equal(ours.auth, theirs.Auth) || !reflect.DeepEqual(ours.bind, theirs.Bind) {
				t.Errorf("%q is %+v here, %+v there", line, ours, theirs)
			}
			if ours.String() != theirs.String() {
				t.Errorf("it is written as %s here, %s there", ours, theirs)
			}
			if again, err := parseRequestField([]string{ours.String()}); err != nil || !reflect.DeepEqual(again, ours) {
				t.Errorf("what is written of %q is read as %+v, %v", line, again, err)
			}
		}
		answer, err := parseResponseField(lines)
		theirAnswer, errTheirs := exchangeparty.ParseResponseField(lines)
		if got, want := exchangeRefusal(err), exchangeRefusal(errTheirs); got != want {
			t.Errorf("%q in a response: %s here (%v), %s there (%v)", line, got, err, want, errTheirs)
		} else if err == nil {
			if answer.ckid != theirAnswer.CallerKeyID || !bytes.Equal(answer.Nonce, theirAnswer.Nonce) || !bytes.Equal(answer.Auth, theirAnswer.Auth) || !bytes.Equal(answer.CallerEnc, theirAnswer.CallerEnc) || answer.String() != theirAnswer.String() {
				t.Errorf("%q is %+v here, %+v there", line, answer, theirAnswer)
			}
		}
	})
}

// One line, and no more: what a second one says is not looked at.
func TestExchangeFieldLines(t *testing.T) {
	vectors, err := exchangeparty.ReadVectors("testdata/exchange-v1.json")
	vectorCheck(t, err)
	field := vectors[0].Request.Header["sealed-exchange"]
	for _, lines := range [][]string{nil, {}, {field, field}, {"v=1", strings.TrimPrefix(field, "v=1, ")}, {"v=2", "v=2"}} {
		for _, err := range []error{second(parseRequestField(lines)), second(exchangeparty.ParseRequestField(lines)), second(parseResponseField(lines)), second(exchangeparty.ParseResponseField(lines))} {
			if exchangeRefusal(err) != "malformed" {
				t.Errorf("%d lines: %v", len(lines), err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }
