package integration_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nginx logs the bodies of requests, keeps them in files, and stores the answers. Nothing
// of what was sealed is found in any of it; what was sent in clear is.
func TestExchangeLeavesNoPlaintextInNginx(t *testing.T) {
	const (
		sealedUp, sealedDown = "canary-sealed-on-its-way-up", "canary-sealed-on-its-way-down"
		clearUp, clearDown   = "canary-in-clear-on-its-way-up", "canary-in-clear-on-its-way-down"
	)
	g := startGateway(t, nginxServers{servers: map[string]string{
		"logs":   "error_log debug.log debug; location / { proxy_pass http://plain; client_body_buffer_size 1m; }",
		"files":  "error_log debug.log debug; location / { proxy_pass http://plain; client_body_in_file_only on; }",
		"stores": "error_log debug.log debug; location / { proxy_pass http://plain; proxy_store FOLDER/stored/$request_id; }",
	}})
	call := func(t *testing.T, c *gatewayCaller, up, down string) {
		for _, target := range []string{"/run?call=" + newCall(), "/status?code=200", "/status?code=404", "/status?code=500"} {
			_, _, err := c.send(http.MethodPost, target, strings.Repeat(up+" ", 1000))
			check(t, err)
		}
		_, text, err := c.send(http.MethodPost, "/echo", down)
		check(t, err)
		if text != down {
			t.Errorf("%q comes back", text)
		}
	}
	for server := range g.plain {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) { call(t, c, sealedUp, sealedDown) })
			c := connection{address: g.plain[server]}
			call(t, &gatewayCaller{c, &http.Client{Transport: c.base(t)}, "none"}, clearUp, clearDown)
		})
	}
	g.stop()

	left := g.left()
	for what, text := range left {
		for _, canary := range []string{sealedUp, sealedDown} {
			if forms := find(text, []byte(canary)); len(forms) > 0 {
				t.Errorf("%s has %q: %v", what, canary, forms)
			}
		}
	}
	for what, canary := range map[string]string{"access.log": clearUp, "body": clearUp, "stored": clearDown} {
		if len(find(left[what], []byte(canary))) == 0 {
			t.Errorf("%s has no %q, which shows that the search finds nothing", what, canary)
		}
	}
	if !bytes.Contains(left["debug.log"], []byte("Sealed-Exchange: v=1")) {
		t.Error("debug.log has no header")
	}
	logged := 0
	for line := range bytes.Lines(left["access.log"]) {
		var entry struct{ Body, Exchange string }
		check(t, json.Unmarshal(line, &entry))
		if entry.Exchange != "" && len(entry.Body) > 20_000 {
			logged++
		}
	}
	t.Logf("%d bodies of exchanges were logged; %d bytes of requests and %d of answers are in files", logged, len(left["body"]), len(left["stored"]))
	if logged < 4*4 { // that many callers, that many requests
		t.Error("that are too few")
	}
}

// left returns what nginx has left on disk, by the file's or folder's name.
func (n *nginx) left() map[string][]byte {
	n.t.Helper()
	left := make(map[string][]byte)
	check(n.t, filepath.WalkDir(n.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(n.dir, path)
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		left[top] = append(left[top], text...)
		return err
	}))
	return left
}
