package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/examples/internal/eventstest"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// TestProgram calls the API through the proxy, as the page does: page.test.mjs does so
// in a browser.
func TestProgram(t *testing.T) {
	scripts := t.TempDir() // with no packages in it, so that no npm is needed
	if err := os.MkdirAll(filepath.Join(scripts, "node_modules", "@hpke", "core"), 0o700); err != nil {
		t.Fatal(err)
	}
	const script = "export const here = 1;\n"
	if err := os.WriteFile(filepath.Join(scripts, "sealhttp.js"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	page := start(t, eventstest.Build(t, "."), scripts)

	for path, want := range map[string]struct{ contentType, text string }{
		"/":               {"text/html; charset=utf-8", `<script type="importmap" nonce="`},
		"/app.js":         {"text/javascript; charset=utf-8", "sealedFetch"},
		"/style.css":      {"text/css; charset=utf-8", "color-scheme"},
		"/js/sealhttp.js": {"text/javascript; charset=utf-8", script},
	} {
		resp, body := get(t, page+path)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != want.contentType || !strings.Contains(body, want.text) {
			t.Errorf("GET %s: %s, %s, %.100q", path, resp.Status, got, body)
		}
	}
	resp, body := get(t, page+"/")
	_, nonce, _ := strings.Cut(body, `nonce="`)
	nonce, _, _ = strings.Cut(nonce, `"`)
	if policy := resp.Header.Get("Content-Security-Policy"); nonce == "" || !strings.Contains(policy, "'nonce-"+nonce+"'") {
		t.Errorf("the policy %q is not for the nonce %q", policy, nonce)
	}

	var session struct {
		API, Token string
		Keyset     json.RawMessage
	}
	resp, err := http.Post(page+"/session", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	decode(t, resp, &session)
	keys, err := tinkkeys.ParsePublic(session.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 6 {
		t.Errorf("got %d keys, want one of each suite", len(keys))
	}

	preflight(t, session.API, page)
	for _, key := range keys {
		t.Run(key.Suite().String(), func(t *testing.T) { callThroughProxy(t, page, session.API, session.Token, key) })
	}
}

// callThroughProxy seals the request, and checks what was seen of it.
func callThroughProxy(t *testing.T, page, api, token string, key *seal.PublicKey) {
	const note = `{"name":"Ada L.","note":"canary: allergic to penicillin"}`
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(key))
	if err != nil {
		t.Fatal(err)
	}
	id := key.Suite().String()
	req, err := http.NewRequest("POST", api+"/notes", strings.NewReader(note))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Answer string }
	decode(t, resp, &answer)
	if resp.StatusCode != http.StatusCreated || answer.Answer != "noted for Ada L." {
		t.Errorf("got %s, %q", resp.Status, answer.Answer)
	}

	type message struct {
		Start  string
		Header [][2]string
		Body   []byte
	}
	type exchange struct{ Request, Response message }
	var seen struct{ Proxy, Handler exchange }
	resp, err = http.Get(page + "/calls/" + id)
	if err != nil {
		t.Fatal(err)
	}
	decode(t, resp, &seen)
	if got := seen.Proxy.Request; got.Start != "POST /notes" || len(got.Body) == 0 || strings.Contains(string(got.Body), "canary") {
		t.Errorf("the proxy saw %q, %q", got.Start, got.Body)
	}
	if got := string(seen.Handler.Request.Body); got != note {
		t.Errorf("the handler saw %q", got)
	}
}

// preflight asks what a browser asks before it calls another origin.
func preflight(t *testing.T, api, page string) {
	for origin, allowed := range map[string]bool{page: true, "http://other.example": false} {
		req, err := http.NewRequest("OPTIONS", api+"/notes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,idempotency-key,sealed-content-type,sealed-exchange")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin") == origin; got != allowed {
			t.Errorf("%s may call the API: %t", origin, got)
		}
	}
}

func TestPackagesMissing(t *testing.T) {
	out, err := exec.Command(eventstest.Build(t, "."), "-js", t.TempDir(), "-addr", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "npm ci") {
		t.Errorf("got %v, %s", err, out)
	}
}

// start starts the program, and returns where its page is.
func start(t *testing.T, program, scripts string) (page string) {
	t.Helper()
	cmd := exec.Command(program, "-addr", "127.0.0.1:0", "-js", scripts)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v", err)
		}
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "the page "); ok {
			return strings.TrimSpace(url)
		}
	}
	t.Fatal("the program does not listen")
	return ""
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func decode(t *testing.T, resp *http.Response, v any) {
	t.Helper()
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
}
