package accounts_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
)

var protos = []string{"HTTP/1.1", "HTTP/2.0"}

// authenticate stands for an API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, _ := r.BasicAuth()
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

// host serves a registry's handler under /encryption.
type host struct {
	*httptest.Server
}

func serve(t testing.TB, r *accounts.Registry, proto string) *host {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/encryption/", authenticate(http.StripPrefix("/encryption", r.Handler())))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = proto == "HTTP/2.0"
	server.StartTLS()
	t.Cleanup(server.Close)
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &host{server}
}

type answer struct {
	proto  string
	status int
	header http.Header
	body   []byte
}

func (h *host) do(t testing.TB, account, method, path, body string, header ...string) *answer {
	t.Helper()
	req, err := http.NewRequest(method, h.URL+"/encryption"+path, strings.NewReader(body))
	check(t, err)
	if account != "" {
		req.SetBasicAuth(account, "secret")
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := h.Client().Do(req)
	check(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	check(t, err)
	return &answer{resp.Proto, resp.StatusCode, resp.Header, got}
}

// wantJSON checks status and type, and decodes the body.
func (a *answer) wantJSON(t testing.TB, status int, v any) {
	t.Helper()
	if a.status != status || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d, %v, %s, want %d", a.status, a.header, a.body, status)
	}
	check(t, json.Unmarshal(a.body, v))
}

func (a *answer) wantProblem(t testing.TB, status int, code string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d, %v, %s, want %d %s", a.status, a.header, a.body, status, code)
	}
	check(t, json.Unmarshal(a.body, &p))
	if p.Status != status || p.Code != code || !strings.HasSuffix(p.Type, "#"+code) || p.Title == "" {
		t.Fatalf("the problem is %s, want %d %s", a.body, status, code)
	}
	if retry := a.header.Get("Retry-After"); (retry != "") != (status == 503) {
		t.Errorf("Retry-After of a %d is %q", status, retry)
	}
}

// keyBody is a key as the handler shows it.
type keyBody struct {
	ID          uint32
	Suite       string
	Prefix      bool
	Fingerprint string
	State       string
	Approver    uint32
	Registered  time.Time
	Proved      *time.Time
}

type challengeBody struct {
	KeyID    uint32 `json:"key_id"`
	Approver uint32
	Message  []byte
	Expires  time.Time
}

type accountBody struct {
	Account, Policy string
	Keys            []keyBody
}

// TestHandler goes a key's whole way over HTTP.
func TestHandler(t *testing.T) {
	for _, proto := range protos {
		t.Run(proto, func(t *testing.T) {
			f := newFixture(t)
			server := serve(t, f.Registry, proto)
			first, second := generate(t, seal.X25519AES256GCM), generate(t, seal.P256AES256GCM)

			var account accountBody
			a := server.do(t, "acme", "GET", "/keys", "")
			if a.proto != proto {
				t.Fatalf("it was %s", a.proto)
			}
			a.wantJSON(t, 200, &account)
			if account.Account != "acme" || account.Policy != "Optional" || account.Keys == nil || len(account.Keys) != 0 {
				t.Fatalf("the account is %s", a.body)
			}

			enrol := func(k *seal.PrivateKey, approver ...*seal.PrivateKey) {
				t.Helper()
				var replaces uint32
				if len(approver) > 0 {
					replaces = approver[0].ID()
				}
				var key keyBody
				server.do(t, "acme", "POST", "/keys", registrationBody(t, tinkForm(t, k), replaces)).wantJSON(t, 201, &key)
				if key.ID != k.ID() || key.Suite != k.Suite().String() || !key.Prefix || key.Fingerprint != k.Public().Fingerprint() ||
					key.State != "pending" || key.Approver != replaces || key.Registered.IsZero() || key.Proved != nil {
					t.Fatalf("registered was %+v", key)
				}
				path := fmt.Sprintf("/keys/%d", key.ID)
				var c challengeBody
				server.do(t, "acme", "POST", path+"/challenge", "").wantJSON(t, 200, &c)
				challenge := accounts.Challenge(c)
				opened, err := challenge.Open("acme", k, approver...)
				check(t, err)
				server.do(t, "acme", "POST", path+"/proof", `{"proof":"AAAA"}`).wantProblem(t, 422, "wrong_proof")
				server.do(t, "acme", "POST", path+"/proof", `{"proof":"`+base64.StdEncoding.EncodeToString(opened)+`"}`).wantJSON(t, 200, &key)
				if key.State != "current" || key.Proved == nil {
					t.Fatalf("proved was %+v", key)
				}
			}
			enrol(first)
			server.do(t, "acme", "POST", "/keys", registrationBody(t, tinkForm(t, second), 0)).wantProblem(t, 409, "approval_needed")
			server.do(t, "acme", "POST", "/keys", registrationBody(t, tinkForm(t, second), 7)).wantProblem(t, 409, "approver_not_in_use")
			enrol(second, first)
			wantKeys(t, f.Registry, "acme", second, accounts.Current, first, accounts.Previous)

			account = accountBody{}
			server.do(t, "acme", "GET", "/keys", "").wantJSON(t, 200, &account)
			if len(account.Keys) != 2 || account.Keys[0].ID != second.ID() || account.Keys[0].State != "current" ||
				account.Keys[1].ID != first.ID() || account.Keys[1].State != "previous" {
				t.Fatalf("the account is %+v", account)
			}
			// Another account sees and changes nothing of it.
			account = accountBody{}
			server.do(t, "other", "GET", "/keys", "").wantJSON(t, 200, &account)
			if account.Account != "other" || len(account.Keys) != 0 {
				t.Fatalf("the account is %+v", account)
			}
			path := fmt.Sprintf("/keys/%d", second.ID())
			server.do(t, "other", "DELETE", path, "").wantProblem(t, 404, "no_such_key")
			server.do(t, "other", "POST", path+"/challenge", "{}").wantProblem(t, 404, "no_such_key")
			server.do(t, "other", "POST", path+"/proof", `{"proof":""}`).wantProblem(t, 404, "no_such_key")

			server.do(t, "acme", "POST", path+"/challenge", "{}").wantProblem(t, 409, "already_proved")
			server.do(t, "acme", "POST", path+"/proof", `{"proof":"AAAA"}`).wantProblem(t, 409, "no_challenge")
			a = server.do(t, "acme", "DELETE", path, "", "Content-Type", "")
			if a.status != 204 || len(a.body) != 0 {
				t.Fatalf("DELETE = %d, %s", a.status, a.body)
			}
			server.do(t, "acme", "DELETE", path, "").wantProblem(t, 404, "no_such_key")
			wantKeys(t, f.Registry, "acme", first, accounts.Current)
			for _, e := range f.trail.take() {
				if e.Account != "acme" || e.Actor != "acme" {
					t.Errorf("an event of %q by %q", e.Account, e.Actor)
				}
			}
		})
	}
}

// TestHandlerChallengeIsChallenge: a Go caller reads the answer into a Challenge, and
// other callers find its members under the names that they are documented by.
func TestHandlerChallengeIsChallenge(t *testing.T) {
	f := newFixture(t)
	server := serve(t, f.Registry, protos[0])
	first, second := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	for _, tt := range []struct {
		key      *seal.PrivateKey
		approver []*seal.PrivateKey
		replaces uint32
		members  []string
	}{
		{first, nil, 0, []string{"expires", "key_id", "message"}},
		{second, []*seal.PrivateKey{first}, first.ID(), []string{"approver", "expires", "key_id", "message"}},
	} {
		var key keyBody
		server.do(t, "acme", "POST", "/keys", registrationBody(t, tinkForm(t, tt.key), tt.replaces)).wantJSON(t, 201, &key)
		a := server.do(t, "acme", "POST", fmt.Sprintf("/keys/%d/challenge", key.ID), "")
		var members map[string]json.RawMessage
		a.wantJSON(t, 200, &members)
		if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, tt.members) {
			t.Errorf("the challenge has %v, want %v", got, tt.members)
		}
		var challenge accounts.Challenge
		a.wantJSON(t, 200, &challenge)
		if challenge.KeyID != tt.key.ID() || challenge.Approver != tt.replaces || challenge.Expires.IsZero() {
			t.Errorf("it was read as %+v from %s", challenge, a.body)
		}
		opened, err := challenge.Open("acme", tt.key, tt.approver...)
		check(t, err)
		_, err = f.Prove(ctxOf("acme"), "acme", key.ID, opened)
		check(t, err)
	}
}

// TestHandlerRefuses has the requests that are none.
func TestHandlerRefuses(t *testing.T) {
	f := newFixture(t, accounts.WithTrustedOrigins("https://pages.example.com"))
	key, next := generate(t, seal.X25519AES256GCM), generate(t, seal.X25519AES256GCM)
	enrol(t, f.Registry, "acme", key)
	f.trail.take()
	register := registrationBody(t, tinkForm(t, next), key.ID())
	private := b64url(next.Bytes())
	id := fmt.Sprintf("/keys/%d", key.ID())
	var servers []*host
	for _, proto := range protos {
		servers = append(servers, serve(t, f.Registry, proto))
	}
	_, before := f.store.counts()
	for _, c := range []struct {
		name, account, method, path, body string
		header                            []string
		status                            int
		code                              string
	}{
		{"no account", "", "GET", "/keys", "", nil, 401, "unauthenticated"},
		{"no account, change", "", "DELETE", id, "", nil, 401, "unauthenticated"},
		{"an account that is none", "a\x01b", "GET", "/keys", "", nil, 400, "account"},
		{"nothing there", "acme", "GET", "/", "", nil, 404, "not_found"},
		{"nothing there either", "acme", "POST", "/key", register, nil, 404, "not_found"},
		{"deeper", "acme", "POST", id + "/challenge/x", "", nil, 404, "not_found"},
		{"method", "acme", "PUT", "/keys", register, nil, 405, "method_not_allowed"},
		{"method of a key", "acme", "GET", id, "", nil, 405, "method_not_allowed"},
		{"method of a challenge", "acme", "GET", id + "/challenge", "", nil, 405, "method_not_allowed"},
		{"method of a proof", "acme", "PUT", id + "/proof", "{}", nil, 405, "method_not_allowed"},
		{"an id that is none", "acme", "DELETE", "/keys/x", "", nil, 404, "no_such_key"},
		{"id 0", "acme", "DELETE", "/keys/0", "", nil, 404, "no_such_key"},
		{"an id past 32 bits", "acme", "DELETE", fmt.Sprintf("/keys/%d", uint64(key.ID())+1<<32), "", nil, 404, "no_such_key"},
		{"an id that is none, challenge", "acme", "POST", "/keys/7x/challenge", "{}", nil, 404, "no_such_key"},
		{"a negative id", "acme", "POST", "/keys/-1/proof", "{}", nil, 404, "no_such_key"},
		{"another site", "acme", "POST", "/keys", register, []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
		{"a sibling site", "acme", "DELETE", id, "", []string{"Sec-Fetch-Site", "same-site"}, 403, "cross_origin"},
		{"an old browser on another site", "acme", "DELETE", id, "", []string{"Origin", "https://evil.example.com"}, 403, "cross_origin"},
		{"an opaque origin", "acme", "DELETE", id, "", []string{"Origin", "null"}, 403, "cross_origin"},
		{"a form", "acme", "POST", "/keys", register, []string{"Content-Type", "text/plain"}, 415, "not_json"},
		{"an urlencoded form", "acme", "POST", id + "/challenge", "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "not_json"},
		{"no type", "acme", "POST", id + "/proof", "{}", []string{"Content-Type", ""}, 415, "not_json"},
		{"nearly JSON", "acme", "POST", "/keys", register, []string{"Content-Type", "application/json+x"}, 415, "not_json"},
		{"not JSON", "acme", "POST", "/keys", `{"raw":"` + private, nil, 400, "malformed_request"},
		{"an array", "acme", "POST", "/keys", `[]`, nil, 400, "malformed_request"},
		{"an unknown member", "acme", "POST", "/keys", `{"` + private + `":1}`, nil, 400, "malformed_request"},
		{"a member twice", "acme", "POST", "/keys", `{"raw":"` + private + `","raw":"AA"}`, nil, 400, "malformed_request"},
		{"a member twice, in upper case", "acme", "POST", "/keys", `{"raw":"` + private + `","RAW":"AA"}`, nil, 400, "malformed_request"},
		{"a member twice, inside", "acme", "POST", "/keys", `{"jwk":{"kty":"OKP","kty":"EC"}}`, nil, 400, "malformed_request"},
		{"two values", "acme", "POST", "/keys", `{} {}`, nil, 400, "malformed_request"},
		{"a number as raw", "acme", "POST", "/keys", `{"raw":123456789}`, nil, 400, "malformed_request"},
		{"an id past 32 bits in the body", "acme", "POST", "/keys", `{"raw":"AA","id":4294967296}`, nil, 400, "malformed_request"},
		{"a negative id in the body", "acme", "POST", "/keys", `{"raw":"AA","replaces":-1}`, nil, 400, "malformed_request"},
		{"a challenge with members", "acme", "POST", id + "/challenge", `{"key":1}`, nil, 400, "malformed_request"},
		{"a proof in hex?", "acme", "POST", id + "/proof", `{"proof":"***"}`, nil, 400, "malformed_request"},
		{"too large", "acme", "POST", "/keys", `{"raw":"` + strings.Repeat("A", 64<<10) + `"}`, nil, 413, "too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, server := range servers {
				a := server.do(t, c.account, c.method, c.path, c.body, c.header...)
				a.wantProblem(t, c.status, c.code)
				if strings.Contains(string(a.body), private[:20]) {
					t.Errorf("the problem has what was sent: %s", a.body)
				}
				if allow := a.header.Get("Allow"); (allow != "") != (c.status == 405) {
					t.Errorf("Allow is %q", allow)
				}
			}
		})
	}
	if _, swaps := f.store.counts(); swaps != before {
		t.Errorf("%d changes", swaps-before)
	}
	wantKeys(t, f.Registry, "acme", key, accounts.Current)

	server := servers[0]
	for name, header := range map[string][]string{
		"its own pages":    {"Sec-Fetch-Site", "same-origin"},
		"a trusted origin": {"Sec-Fetch-Site", "cross-site", "Origin", "https://pages.example.com"},
	} {
		server.do(t, "acme", "POST", "/keys", `{}`, header...).wantProblem(t, 422, "malformed_key")
		if e := f.trail.take(); len(e) != 1 {
			t.Errorf("%s: the events are %+v", name, e)
		}
	}
	var account accountBody
	server.do(t, "acme", "GET", "/keys", "", "Sec-Fetch-Site", "cross-site").wantJSON(t, 200, &account)
	if a := server.do(t, "acme", "HEAD", "/keys", ""); a.status != 200 || len(a.body) != 0 {
		t.Errorf("HEAD = %d, %s", a.status, a.body)
	}
}

// TestHandlerStoreFails: what the store says is for the log, not for the caller.
func TestHandlerStoreFails(t *testing.T) {
	var log lockedBuffer
	f := newFixture(t, accounts.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	server := serve(t, f.Registry, "HTTP/1.1")
	f.store.fail(fmt.Errorf("password of the database: %w", errBoom))
	for _, c := range [][3]string{
		{"GET", "/keys", ""},
		{"POST", "/keys", registrationBody(t, tinkForm(t, generate(t, seal.X25519AES256GCM)), 0)},
		{"POST", "/keys/7/challenge", ""},
		{"POST", "/keys/7/proof", `{"proof":""}`},
		{"DELETE", "/keys/7", ""},
	} {
		a := server.do(t, "acme", c[0], c[1], c[2])
		a.wantProblem(t, 503, "store_unavailable")
		if strings.Contains(string(a.body), "password") {
			t.Errorf("the problem is %s", a.body)
		}
	}
	if n := strings.Count(log.String(), "password of the database"); n != 5 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}

	f.store.fail(nil)
	check(t, f.store.MemoryStore.Swap(t.Context(), "acme", 0, accounts.Record{Account: "acme", Revision: 1, Data: []byte(`{"version":2}`)}, nil))
	server.do(t, "acme", "GET", "/keys", "").wantProblem(t, 500, "record_unreadable")
	f.store.fail(accounts.ErrConflict)
	server.do(t, "acme", "DELETE", "/keys/7", "").wantProblem(t, 503, "busy")
}
