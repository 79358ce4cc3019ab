package main

import (
	"os/exec"
	"regexp"
	"testing"
)

// TestOutput runs the program as its documentation says, and checks that it shows a
// rotation from its beginning to its end, with callers that notice nothing.
func TestOutput(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	for _, pattern := range []string{
		`^A new key every 4s\. It is pending for 1\.5s, and the old one opens for another 2s\.\n`,
		`s  replica 1  key 1  generated .*\n`,
		`s  replica 1  key 1  promoted .*\n`,
		`s  replica \d  key 2  generated .*opened:  key 1 +[1-9]\d*  key 2 +0\n`,
		`s  replica \d  key 2  promoted .*opened:  key 1 +[1-9]\d*  key 2 +\d+\n`,
		`s  replica \d  key 1  previous_key_used .*\n`,
		`s  replica \d  key 1  retired .*opened:  key 1 +[1-9]\d*  key 2 +[1-9]\d*\n`,
		`s  the end .*\n`,
		`The caller with sealhttp: [1-9]\d+ calls, 0 failed\.\n`,
		`The caller with Tink: [1-9]\d+ calls, 0 failed\.\n$`,
	} {
		at := regexp.MustCompile(pattern).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("nothing matches %s in the rest of\n%s", pattern, out)
		}
		rest = rest[at[1]:]
	}
}
