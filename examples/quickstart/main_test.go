package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestOutput runs the program as the README says, and checks that its output
// shows what it claims to show.
func TestOutput(t *testing.T) {
	out, err := exec.Command("go", "run", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls := regexp.MustCompile(`(?m)^\d\. `).Split(string(out), -1)[1:]
	if len(calls) != 4 {
		t.Fatalf("got %d calls, want 4:\n%s", len(calls), out)
	}
	sealed := "application/octet-stream+hpke"
	for i, want := range [][]string{
		{
			`caller sent *application/json\n.*penicillin`,
			`proxy saw *POST /records ` + regexp.QuoteMeta(sealed) + `\n *01[0-9a-f]+\.\.\. \(\d+ bytes\)`,
			`handler saw *application/json\n.*penicillin`,
			`proxy saw *201 ` + regexp.QuoteMeta(sealed) + `\n *01[0-9a-f]+\.\.\. \(\d+ bytes\)`,
			`caller got *201 application/json \(opened with key \d+\)\n *\{"stored":55,"for":"Ada L\."\}`,
		},
		{
			`proxy saw *POST /records ` + regexp.QuoteMeta(sealed),
			`handler saw *application/json\n.*glucose`,
			`caller got *201 application/json\n *\{"stored":51,"for":"Ada L\."\}`,
		},
		{
			`proxy saw *POST /visits application/json\n.*Ada L\.`,
			`handler saw *application/json\n.*Ada L\.`,
			`caller got *201 application/json\n`,
		},
		{
			`caller got *415 application/problem\+json\n.*"code":"encryption_required"`,
		},
	} {
		for _, pattern := range want {
			if !regexp.MustCompile(pattern).MatchString(calls[i]) {
				t.Errorf("call %d: nothing matches %s in:\n%s", i+1, pattern, calls[i])
			}
		}
	}
	for _, call := range calls[:2] {
		for _, seen := range strings.Split(call, "proxy saw")[1:] {
			seen, _, _ = strings.Cut(seen, " saw ")
			seen, _, _ = strings.Cut(seen, "caller got")
			if strings.Contains(seen, "Ada") {
				t.Errorf("the proxy read along:\n%s", call)
			}
		}
	}
	if strings.Contains(calls[3], "handler saw") {
		t.Error("the refused call reached the handler")
	}
}
