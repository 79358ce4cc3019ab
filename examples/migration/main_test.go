package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestMigration checks that no call fails but those that are to be refused, and that
// the callers and the observer have seen the same.
func TestMigration(t *testing.T) {
	const calls = 40
	var out bytes.Buffer
	m, err := migrate(&out, calls)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", out.String())

	const clear, half, sealed, refused = "clear", "clear half", "sealed", "clear refused"
	accounts := []string{"clinic", "lab", "shop", "kiosk"}
	for i, want := range [][]string{ // by account
		nil,
		{clear, clear, clear, clear},
		{sealed, sealed, half, clear},
		{sealed, sealed, sealed, clear},
		{sealed, sealed, sealed, clear},
		{sealed, sealed, sealed, refused},
		{clear, sealed, sealed, clear},
		{sealed, sealed, sealed, sealed},
		{sealed, sealed, sealed, sealed},
	} {
		if i >= len(m.steps) {
			t.Fatalf("%d steps", len(m.steps))
		}
		step := m.steps[i]
		if want == nil && len(step.before)+len(step.after) > 0 {
			t.Errorf("%s: seen %v", step.name, step.after)
		}
		for j, want := range want {
			got := step.after[accounts[j]]
			if kinds(got) != want || got.all() < calls-1 {
				t.Errorf("%s: %s made %+v calls, want all %s", step.name, accounts[j], got, want)
			}
			// What was under way is refused only where the enforcement begins or ends.
			mayBe := accounts[j] == "kiosk" && strings.ContainsAny(step.name[:1], "45")
			if before := step.before[accounts[j]]; before.failed > 0 && !mayBe {
				t.Errorf("%s: when it began, %s was refused %d calls", step.name, accounts[j], before.failed)
			}
		}
	}

	ended := 0
	for _, c := range m.callers {
		ended += c.count()
		for _, err := range c.failed {
			t.Error(err)
		}
		var want []string
		if c.account == "kiosk" {
			want = []string{"POST /records: 415 encryption_required"}
		}
		if got := slices.Collect(maps.Keys(c.refused)); !slices.Equal(got, want) {
			t.Errorf("%s was refused %v, want %v", c.account, got, want)
		}
		for what, n := range c.refused {
			if n != m.total[c.account].failed {
				t.Errorf("%s: %s %d times, the observer says %d", c.account, what, n, m.total[c.account].failed)
			}
		}
	}
	seen := int(m.unseen)
	for _, t := range m.total {
		seen += t.all()
	}
	if seen != ended || m.unseen == 0 {
		t.Errorf("the callers have made %d calls, the service has seen %d", ended, seen)
	}
	if !strings.HasSuffix(out.String(), " refused (kiosk, in step 4), 0 failed\n") {
		t.Error("the output does not end with what the callers say")
	}
}

// kinds names the kinds of calls that were counted.
func kinds(t tally) string {
	var all []string
	for kind, n := range map[string]int{"clear": t.clear, "half": t.half, "sealed": t.sealed, "refused": t.failed} {
		if n > 0 {
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
