package sealhttp_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
)

// Whatever stands in the field, and whatever the body is: there is no panic, the handler
// runs only for what its caller has sealed, and it reads nothing else. The field is given
// as it is to be sent, but for $enc, $auth and the like, which become those of a request
// that is good: most others end at the first tag.
func FuzzExchangeRequest(f *testing.F) {
	const good = "v=1, $kid, $id, $ts, $enc, $auth"
	text := []byte("some plaintext of the caller's")
	for _, field := range []string{
		good, "$auth,$enc,$ts,$id,$kid,v=1", good + ", $bind", good + ", bind=()", good + `, bind=("a" "b")`, good + ", x=1", good + ", $id", good + ";x",
		"", "v=2", "v=1", "v=1, kid=1, id=:AAAAAAAAAAAAAAAAAAAAAA==:, ts=1, enc=:AAAA:, auth=:AAAAAAAAAAAAAAAAAAAAAA==:", `v="`, "v=1;v=2", "(((", `%"%ff"`, "@1", "?",
	} {
		for _, body := range []string{"$", "", "$$", "\x00", "\xff", "x$", "$x", strings.Repeat("\x11", 100)} {
			f.Add(field, []byte(body), body != "", "text/plain")
		}
	}
	m := srvMiddleware(f, sealhttp.WithReplayGuard(new(srvGuard)), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	f.Fuzz(func(t *testing.T, field string, body []byte, hasBody bool, contentType string) {
		x := srvTurn("POST", "/")
		x.authority, x.body, x.contentType = "example.com", hasBody, "text/plain"
		x.names = srvDefaultBound
		x.seal(t)
		var pairs []string
		for _, member := range x.members() {
			name, _, _ := strings.Cut(member, "=")
			pairs = append(pairs, "$"+name, member)
		}
		field = strings.NewReplacer(pairs...).Replace(field)
		sealed := bytes.Join(x.records(t, text, 7), nil)
		body = bytes.ReplaceAll(body, []byte("$"), sealed)

		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header["Sealed-Exchange"] = []string{field}
		r.Header["Sealed-Content-Type"] = []string{contentType}
		if hasBody {
			r.Header["Content-Type"] = []string{sealhttp.ExchangeMediaType}
		}
		ran := false
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ran = true
			if strings.Trim(contentType, " \t") != "text/plain" || !hasBody && len(body) > 0 {
				t.Errorf("the handler runs with the type %q, body %t of %d bytes", contentType, hasBody, len(body))
			}
			f, err := exchangeparty.ParseRequestField([]string{field})
			if err != nil {
				t.Fatalf("the handler runs for %q: %v", field, err)
			}
			if f.KeyID != x.kid || f.ID != x.id || f.Timestamp != x.ts || !bytes.Equal(f.Enc, x.enc) || !bytes.Equal(f.Auth, x.auth) || f.Bind != nil && !slices.Equal(f.Bind, x.names) {
				t.Errorf("the handler runs for %q", field)
			}
			var b []byte
			b, err = io.ReadAll(r.Body)
			if !bytes.HasPrefix(text, b) {
				t.Errorf("the handler read %q", b)
			}
			if whole := !hasBody || bytes.Equal(b, text); err == nil && !whole || bytes.Equal(body, sealed) && hasBody && err != nil || errors.Is(err, io.EOF) {
				t.Errorf("the handler read %q, %v", b, err)
			}
			_, _ = io.WriteString(w, "done")
		})).ServeHTTP(w, r)
		a := &srvAnswer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
		if ran {
			x.broken(t, a, srvCallerKey)
			return
		}
		if a.status < 400 || a.header.Get("Sealed-Error") == "" {
			t.Errorf("status %d, Sealed-Error %q", a.status, a.header["Sealed-Error"])
		}
	})
}
