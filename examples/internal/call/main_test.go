package main_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/sealhttp/sealhttp/examples/internal/eventstest"
)

// TestOutput calls one of the servers, and checks that what is printed shows what it
// claims to show.
func TestOutput(t *testing.T) {
	server := eventstest.Start(t, eventstest.Build(t, "../../nethttp"))
	program := eventstest.Build(t, ".")
	for _, call := range []struct {
		args    []string
		pattern string
	}{
		{
			[]string{"POST", "/events", `{"type":"signup","email":"ada@example.com"}`},
			`(?s)^wire > POST /events application/octet-stream\+hpke\n *01[0-9a-f]{38}\.\.\. \(\d+ bytes\)\n` +
				`wire < 201 Created application/octet-stream\+hpke\n *01[0-9a-f]{38}\.\.\. \(\d+ bytes\)\n` +
				`said +{"type":"signup","email":"ada@example.com"}\n` +
				`heard +201 Created application/json sealed=true\n *\{"id":1,.*"email":"ada@example.com".*\}\n$`,
		},
		{
			[]string{"GET", "/events"},
			`(?s)^wire > GET /events\nwire < 200 OK application/octet-stream\+hpke\n *01.*heard +200 OK application/json sealed=true\n *\{"events":\[\{"id":1,.*\]\}\n$`,
		},
	} {
		args := append([]string{"-url", server.URL, "-key", server.Keyset}, call.args...)
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil || !regexp.MustCompile(call.pattern).Match(out) {
			t.Errorf("%v: %v, nothing matches %s in:\n%s", call.args, err, call.pattern, out)
		}
	}
	for _, args := range [][]string{
		{"-url", server.URL, "-key", server.Keyset, "-token", "guessed", "GET", "/events"},
		{"-url", server.URL, "-key", server.Keyset, "-token", "legacy-token", "GET", "/events"},
		{"-url", server.URL, "-key", "{}", "GET", "/events"},
		{"-url", server.URL, "-key", server.Keyset, "GET"},
	} {
		if out, err := exec.Command(program, args...).CombinedOutput(); err == nil {
			t.Errorf("%v: no error, but:\n%s", args, out)
		}
	}
}
