package accounts_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// exampleKey is a private key that is the same in every run. A real one comes from
// seal.GenerateKey.
func exampleKey(n byte) *seal.PrivateKey {
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, uint32(n), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// exampleForm is what a caller with that key sends.
func exampleForm(key *seal.PrivateKey) accounts.KeyForm {
	keyset, err := tinkkeys.Public(key.Public())
	if err != nil {
		log.Fatal(err)
	}
	return accounts.KeyForm{Tink: keyset}
}

func exampleRegistry(opts ...accounts.Option) *accounts.Registry {
	quiet := accounts.WithLogger(slog.New(slog.DiscardHandler))
	registry, err := accounts.New(accounts.NewMemoryStore(), append([]accounts.Option{quiet}, opts...)...)
	if err != nil {
		log.Fatal(err)
	}
	return registry
}

// prove goes the way from a registered key to one in use.
func prove(registry *accounts.Registry, key *seal.PrivateKey, approver ...*seal.PrivateKey) {
	ctx := context.Background()
	challenge, err := registry.Challenge(ctx, "acme", key.ID())
	if err != nil {
		log.Fatal(err)
	}
	opened, err := challenge.Open("acme", key, approver...)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := registry.Prove(ctx, "acme", key.ID(), opened); err != nil {
		log.Fatal(err)
	}
}

func enrolExample(registry *accounts.Registry, key *seal.PrivateKey) {
	if _, err := registry.Register(context.Background(), "acme", exampleForm(key)); err != nil {
		log.Fatal(err)
	}
	prove(registry, key)
}

func exampleRequest(account string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	return r.WithContext(sealhttp.ContextWithAccount(r.Context(), account))
}

func printKeys(registry *accounts.Registry) {
	account, err := registry.List(context.Background(), "acme")
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range account.Keys {
		fmt.Println("key", key.ID(), key.State)
	}
}

// A service with accounts, and a caller that registers its key over HTTP and then
// calls sealed.
func Example() {
	// The service.
	serverKey, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	registry, err := accounts.New(accounts.NewMemoryStore(),
		accounts.WithServerKeys(ring),
		accounts.WithAudit(func(_ context.Context, e accounts.Event) { fmt.Println("audit:", e.Type, e.Account) }))
	if err != nil {
		log.Fatal(err)
	}
	m, err := sealhttp.New(ring,
		sealhttp.WithClientKeys(registry),
		sealhttp.WithPolicyFunc(registry.Policy))
	if err != nil {
		log.Fatal(err)
	}
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"events":[]}`)
	})
	mux := http.NewServeMux()
	mux.Handle("/events", m.Handler(events))
	mux.Handle("/encryption/", http.StripPrefix("/encryption", registry.Handler()))
	server := httptest.NewServer(authenticate(mux))
	defer server.Close()

	// The caller makes a key, registers it, opens the challenge and proves it.
	callerKey, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	keyset, err := tinkkeys.Public(callerKey.Public())
	if err != nil {
		log.Fatal(err)
	}
	keys := server.URL + "/encryption/keys"
	call("POST", keys, `{"tink":`+string(keyset)+`}`, nil)
	var challenge accounts.Challenge
	key := fmt.Sprintf("%s/%d", keys, callerKey.ID())
	call("POST", key+"/challenge", "{}", &challenge)
	opened, err := challenge.Open("acme", callerKey)
	if err != nil {
		log.Fatal(err)
	}
	call("POST", key+"/proof", `{"proof":"`+base64.StdEncoding.EncodeToString(opened)+`"}`, nil)

	// An operator lets the account have encrypted calls only.
	if err := registry.SetPolicy(context.Background(), "acme", sealhttp.Required); err != nil {
		log.Fatal(err)
	}

	// From now on it calls sealed.
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(callerKey))
	if err != nil {
		log.Fatal(err)
	}
	req, err := http.NewRequest("GET", server.URL+"/events", nil)
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	info, sealed := sealhttp.FromResponse(resp)
	fmt.Println(resp.StatusCode, string(body), sealed, info.CallerKeyID == callerKey.ID())

	// In plaintext it gets nothing any more.
	plain, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer plain.Body.Close()
	fmt.Println(plain.StatusCode, plain.Header.Get("Sealed-Error"))
	// Output:
	// audit: registered acme
	// audit: challenged acme
	// audit: proved acme
	// audit: policy_changed acme
	// 200 {"events":[]} true true
	// 406 encryption_required
}

// call makes a request in plaintext and reads the JSON of the answer into v.
func call(method, url, body string, v any) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		log.Fatal(resp.Status, err, string(answer))
	}
	if v != nil {
		if err := json.Unmarshal(answer, v); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleNew() {
	registry, err := accounts.New(accounts.NewMemoryStore())
	if err != nil {
		log.Fatal(err)
	}
	policy, err := registry.Policy(exampleRequest("acme"))
	fmt.Println(policy, err)
	// Output: Optional <nil>
}

func ExampleOpenFileStore() {
	dir, err := os.MkdirTemp("", "accounts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "accounts.json")

	store, err := accounts.OpenFileStore(path)
	if err != nil {
		log.Fatal(err)
	}
	registry, err := accounts.New(store, accounts.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	if err := registry.SetPolicy(context.Background(), "acme", sealhttp.RequestRequired); err != nil {
		log.Fatal(err)
	}

	// The program starts again.
	if store, err = accounts.OpenFileStore(path); err != nil {
		log.Fatal(err)
	}
	if registry, err = accounts.New(store); err != nil {
		log.Fatal(err)
	}
	policy, err := registry.Policy(exampleRequest("acme"))
	fmt.Println(policy, err)
	// Output: RequestRequired <nil>
}

func ExampleNewMemoryStore() {
	store := accounts.NewMemoryStore()
	_, err := store.Load(context.Background(), "acme")
	fmt.Println(errors.Is(err, accounts.ErrNotFound))
	// Output: true
}

// A store checks its arguments before it looks at what is stored.
func ExampleCheckSwap() {
	next := accounts.Record{Account: "acme", Revision: 5, Data: []byte(`{"version":1}`)}
	fmt.Println(accounts.CheckSwap("acme", 4, next))
	fmt.Println(accounts.CheckSwap("acme", 3, next))
	// Output:
	// <nil>
	// accounts: swap of revision 3 with revision 5, want 4
}

func ExampleRegistry_Register() {
	registry := exampleRegistry()
	ctx := context.Background()
	key, err := registry.Register(ctx, "acme", exampleForm(exampleKey(7)))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID(), key.State, key.Fingerprint())

	// What breaks a rule is refused, with the rule.
	_, err = registry.Register(ctx, "acme", accounts.KeyForm{
		Raw:   base64.StdEncoding.EncodeToString(make([]byte, 32)),
		Suite: "X25519-AES256GCM",
		ID:    8,
	})
	fmt.Println(errors.Is(err, seal.ErrLowOrder))
	// Output:
	// 7 pending 65374-28474-48019-01216-58043-01122-07886-01784
	// true
}

func ExampleRegistry_Challenge() {
	registry := exampleRegistry()
	ctx := context.Background()
	key := exampleKey(7) // the caller's
	if _, err := registry.Register(ctx, "acme", exampleForm(key)); err != nil {
		log.Fatal(err)
	}
	challenge, err := registry.Challenge(ctx, "acme", 7)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("for key", challenge.KeyID, time.Until(challenge.Expires).Round(time.Minute))

	// The caller's side. Any library can do it: see ChallengeInfo.
	opened, err := challenge.Open("acme", key)
	fmt.Println(len(opened), err)
	// Output:
	// for key 7 10m0s
	// 32 <nil>
}

func ExampleChallenge_Open() {
	registry := exampleRegistry()
	ctx := context.Background()
	key := exampleKey(7)
	if _, err := registry.Register(ctx, "mallory", exampleForm(key)); err != nil { // not theirs
		log.Fatal(err)
	}
	challenge, err := registry.Challenge(ctx, "mallory", 7)
	if err != nil {
		log.Fatal(err)
	}
	_, err = challenge.Open("acme", key)
	fmt.Println(err)
	// Output: accounts: the challenge is for another key or account: decryption failed
}

// What a program in another language opens a challenge with.
func ExampleChallengeInfo() {
	fmt.Printf("%q\n", accounts.ChallengeInfo("acme", exampleKey(7).Public()))
	// Output: "sealhttp accounts challenge v1\x00acme\x007\x0065374-28474-48019-01216-58043-01122-07886-01784"
}

// What it opens the outer layer of a replacement's challenge with, by the old key.
func ExampleApprovalInfo() {
	newKey := exampleKey(7)
	fmt.Printf("%q\n", accounts.ApprovalInfo("acme", newKey.Public()))
	// Output: "sealhttp accounts approval v1\x00acme\x007\x0065374-28474-48019-01216-58043-01122-07886-01784"
}

func ExampleRegistry_Prove() {
	registry := exampleRegistry()
	ctx := context.Background()
	key := exampleKey(7)
	if _, err := registry.Register(ctx, "acme", exampleForm(key)); err != nil {
		log.Fatal(err)
	}
	challenge, err := registry.Challenge(ctx, "acme", 7)
	if err != nil {
		log.Fatal(err)
	}
	_, err = registry.Prove(ctx, "acme", 7, []byte("a guess"))
	fmt.Println(err)
	opened, err := challenge.Open("acme", key)
	if err != nil {
		log.Fatal(err)
	}
	proved, err := registry.Prove(ctx, "acme", 7, opened)
	fmt.Println(proved.State, err)
	// Output:
	// accounts: key 7: the proof is wrong
	// current <nil>
}

// A caller changes its key: the new one is approved by the old one.
func ExampleRegistry_Replace() {
	registry := exampleRegistry()
	ctx := context.Background()
	oldKey, newKey := exampleKey(7), exampleKey(8)
	enrolExample(registry, oldKey)

	_, err := registry.Register(ctx, "acme", exampleForm(newKey))
	fmt.Println(err)
	if _, err := registry.Replace(ctx, "acme", oldKey.ID(), exampleForm(newKey)); err != nil {
		log.Fatal(err)
	}
	challenge, err := registry.Challenge(ctx, "acme", newKey.ID())
	if err != nil {
		log.Fatal(err)
	}
	opened, err := challenge.Open("acme", newKey, oldKey)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := registry.Prove(ctx, "acme", newKey.ID(), opened); err != nil {
		log.Fatal(err)
	}
	printKeys(registry)
	// Output:
	// accounts: key 8: the account has a key in use, which must approve another one
	// key 8 current
	// key 7 previous
}

// With ConfirmAlways an operator confirms the first key of an account.
func ExampleRegistry_Confirm() {
	registry := exampleRegistry(accounts.WithConfirmation(accounts.ConfirmAlways))
	enrolExample(registry, exampleKey(7))
	printKeys(registry)

	toldByTelephone := "65374-28474-48019-01216-58043-01122-07886-01784"
	if _, err := registry.Confirm(context.Background(), "acme", 7, toldByTelephone); err != nil {
		log.Fatal(err)
	}
	printKeys(registry)
	// Output:
	// key 7 proved
	// key 7 current
}

func ExampleWithConfirmation() {
	registry := exampleRegistry(accounts.WithConfirmation(accounts.ConfirmAlways))
	enrolExample(registry, exampleKey(7)) // registered and proved
	_, err := registry.ClientKey(exampleRequest("acme"))
	fmt.Println(err)
	// Output: sealhttp: no client key is registered
}

func ExampleRegistry_Revoke() {
	registry := exampleRegistry()
	ctx := context.Background()
	enrolExample(registry, exampleKey(7))
	if err := registry.Revoke(ctx, "acme", 7); err != nil {
		log.Fatal(err)
	}
	_, err := registry.ClientKey(exampleRequest("acme"))
	fmt.Println(err)
	_, err = registry.Register(ctx, "acme", exampleForm(exampleKey(7)))
	fmt.Println(err)
	// Output:
	// sealhttp: no client key is registered
	// accounts: key 7: the key was revoked
}

func ExampleRegistry_SetPolicy() {
	registry := exampleRegistry()
	ctx := context.Background()
	fmt.Println(registry.SetPolicy(ctx, "acme", sealhttp.Required))
	enrolExample(registry, exampleKey(7))
	fmt.Println(registry.SetPolicy(ctx, "acme", sealhttp.Required))
	policy, err := registry.Policy(exampleRequest("acme"))
	fmt.Println(policy, err)
	// Output:
	// accounts: account "acme": the account has no key in use, so that Required would refuse all its calls
	// <nil>
	// Required <nil>
}

func ExampleEvenWithoutKey() {
	registry := exampleRegistry()
	fmt.Println(registry.SetPolicy(context.Background(), "acme", sealhttp.Required, accounts.EvenWithoutKey()))
	// Output: <nil>
}

func ExampleRegistry_ClearPolicy() {
	registry := exampleRegistry(accounts.WithDefaultPolicy(sealhttp.RequestRequired))
	ctx := context.Background()
	if err := registry.SetPolicy(ctx, "acme", sealhttp.Disabled); err != nil {
		log.Fatal(err)
	}
	if err := registry.ClearPolicy(ctx, "acme"); err != nil {
		log.Fatal(err)
	}
	policy, err := registry.Policy(exampleRequest("acme"))
	fmt.Println(policy, err)
	// Output: RequestRequired <nil>
}

func ExampleRegistry_List() {
	registry := exampleRegistry()
	enrolExample(registry, exampleKey(7))
	account, err := registry.List(context.Background(), "acme")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(account.Name, account.Policy, account.OwnPolicy)
	for _, key := range account.Keys {
		fmt.Println(key.Public.Suite(), key.ID(), key.State, key.Fingerprint())
	}
	// Output:
	// acme Optional false
	// X25519-AES256GCM 7 current 65374-28474-48019-01216-58043-01122-07886-01784
}

func ExampleRegistry_All() {
	registry := exampleRegistry()
	ctx := context.Background()
	enrolExample(registry, exampleKey(7))
	if err := registry.SetPolicy(ctx, "bolt", sealhttp.Disabled); err != nil {
		log.Fatal(err)
	}
	for account, err := range registry.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(account.Name, account.Policy, len(account.Keys))
	}
	// Output:
	// acme Optional 1
	// bolt Disabled 0
}

// A Registry is what WithClientKeys takes.
func ExampleRegistry_ClientKey() {
	registry := exampleRegistry()
	enrolExample(registry, exampleKey(7))
	var clientKeys sealhttp.ClientKeys = registry
	key, err := clientKeys.ClientKey(exampleRequest("acme"))
	fmt.Println(key.ID(), err)
	_, err = clientKeys.ClientKey(exampleRequest("bolt"))
	fmt.Println(errors.Is(err, sealhttp.ErrNoClientKey))
	// Output:
	// 7 <nil>
	// true
}

// Its Policy is what WithPolicyFunc takes.
func ExampleRegistry_Policy() {
	registry := exampleRegistry()
	if err := registry.SetPolicy(context.Background(), "acme", sealhttp.Disabled); err != nil {
		log.Fatal(err)
	}
	policyFunc := sealhttp.WithPolicyFunc(registry.Policy)
	ring, err := keyring.New(exampleKey(1))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := sealhttp.New(ring, policyFunc); err != nil {
		log.Fatal(err)
	}
	policy, err := registry.Policy(exampleRequest("acme"))
	fmt.Println(policy, err)
	// Output: Disabled <nil>
}

func ExampleRegistry_Handler() {
	registry := exampleRegistry()
	mux := http.NewServeMux()
	mux.Handle("/encryption/", authenticate(http.StripPrefix("/encryption", registry.Handler())))
	server := httptest.NewServer(mux)
	defer server.Close()

	// A caller pastes a private JWK.
	body := `{"jwk":{"kty":"OKP","crv":"X25519","x":"AQ","d":"Ag"}}`
	req, err := http.NewRequest("POST", server.URL+"/encryption/keys", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct{ Code, Detail string }
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, problem.Code)
	fmt.Println(problem.Detail)
	// Output:
	// 422 private_key
	// Nothing was stored. The key has been shown to others: do not use it any more, make a new one, and register its public half.
}

func ExampleWithServerKeys() {
	ring, err := keyring.New(exampleKey(1))
	if err != nil {
		log.Fatal(err)
	}
	registry := exampleRegistry(accounts.WithServerKeys(ring))
	_, err = registry.Register(context.Background(), "acme", exampleForm(exampleKey(1)))
	fmt.Println(err)
	// Output: accounts: key 1: the key is the server's own
}

func ExampleWithDefaultPolicy() {
	registry := exampleRegistry(accounts.WithDefaultPolicy(sealhttp.RequestRequired))
	policy, err := registry.Policy(exampleRequest("new"))
	fmt.Println(policy, err)
	// Output: RequestRequired <nil>
}

func ExampleWithCacheTTL() {
	// A revocation by another replica is seen after ten seconds at the latest.
	registry := exampleRegistry(accounts.WithCacheTTL(10 * time.Second))
	_, err := registry.ClientKey(exampleRequest("acme"))
	fmt.Println(err)
	// Output: sealhttp: no client key is registered
}

func ExampleWithCacheNoKeyTTL() {
	// A first key that was proved on another replica is seen after a second.
	registry := exampleRegistry(accounts.WithCacheNoKeyTTL(time.Second))
	_, err := registry.ClientKey(exampleRequest("acme"))
	fmt.Println(err)
	// Output: sealhttp: no client key is registered
}

func ExampleWithCacheSize() {
	_, err := accounts.New(accounts.NewMemoryStore(), accounts.WithCacheSize(0))
	fmt.Println(err)
	// Output: accounts: WithCacheSize: 0 accounts
}

func ExampleWithActor() {
	type user struct{}
	registry := exampleRegistry(
		accounts.WithActor(func(ctx context.Context) string {
			name, _ := ctx.Value(user{}).(string)
			return name
		}),
		accounts.WithAudit(func(_ context.Context, e accounts.Event) { fmt.Println(e.Actor, e.Type, e.Policy) }))
	ctx := context.WithValue(context.Background(), user{}, "carol@example.com")
	if err := registry.SetPolicy(ctx, "acme", sealhttp.Disabled); err != nil {
		log.Fatal(err)
	}
	// Output: carol@example.com policy_changed Disabled
}

func ExampleWithAudit() {
	registry := exampleRegistry(accounts.WithAudit(func(_ context.Context, e accounts.Event) {
		fmt.Printf("%s %d %q\n", e.Type, e.KeyID, e.Reason)
	}))
	enrolExample(registry, exampleKey(7))
	if _, err := registry.Register(context.Background(), "acme", exampleForm(exampleKey(8))); err == nil {
		log.Fatal("registered")
	}
	// Output:
	// registered 7 ""
	// challenged 7 ""
	// proved 7 ""
	// refused_registration 8 "approval_needed"
}

func ExampleWithLogger() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	registry := exampleRegistry(accounts.WithLogger(logger))
	if err := registry.SetPolicy(context.Background(), "acme", sealhttp.Disabled); err != nil {
		log.Fatal(err)
	}
	// Output: level=INFO msg="accounts: policy_changed" event.type=policy_changed event.account=acme event.policy=Disabled
}

func ExampleWithTrustedOrigins() {
	registry := exampleRegistry(accounts.WithTrustedOrigins("https://pages.example.com"))
	for _, origin := range []string{"https://pages.example.com", "https://evil.example.com"} {
		r := httptest.NewRequest("DELETE", "https://api.example.com/keys/7", nil)
		r = r.WithContext(sealhttp.ContextWithAccount(r.Context(), "acme"))
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		registry.Handler().ServeHTTP(w, r)
		fmt.Println(origin, w.Code)
	}
	// Output:
	// https://pages.example.com 404
	// https://evil.example.com 403
}

func ExampleEvent_LogValue() {
	e := accounts.Event{Type: accounts.EventKeyRevoked, Account: "acme", KeyID: 7}
	fmt.Println(e.LogValue().Group()[1:])
	// Output: [type=key_revoked account=acme key_id=7]
}

func ExampleKey_ID() {
	registry := exampleRegistry()
	key, err := registry.Register(context.Background(), "acme", exampleForm(exampleKey(7)))
	fmt.Println(key.ID(), err)
	// Output: 7 <nil>
}

// The fingerprint is the same on both sides.
func ExampleKey_Fingerprint() {
	registry := exampleRegistry()
	key, err := registry.Register(context.Background(), "acme", exampleForm(exampleKey(7)))
	fmt.Println(key.Fingerprint() == exampleKey(7).Public().Fingerprint(), err)
	// Output: true <nil>
}

// The three forms of a key.
func ExampleKeyForm() {
	registry := exampleRegistry()
	raw := exampleKey(7).Public().Bytes()
	for _, form := range []accounts.KeyForm{
		exampleForm(exampleKey(6)),
		{Raw: base64.StdEncoding.EncodeToString(raw), Suite: "X25519-CHACHA20POLY1305", ID: 7},
		{JWK: []byte(`{"kty":"OKP","crv":"X25519","x":"MdSras7slhE3kXA3k25gcW-sVzr-lNnahKgCBEjfwRI"}`), ID: 8},
	} {
		key, err := registry.Register(context.Background(), "acme", form)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key.ID(), key.Public.Suite(), key.Public.HasPrefix())
	}
	// Output:
	// 6 X25519-AES256GCM true
	// 7 X25519-CHACHA20POLY1305 false
	// 8 X25519-AES256GCM false
}
