// Package docs checks that the documentation holds.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = ".."

// files returns the paths of all files with an extension.
func files(t *testing.T, extension string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == extension {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no %s files below %s", extension, root)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	fence   = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```")
	link    = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	nonSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestLinks checks that each relative link leads to a file, and to a heading of it
// where it names one.
func TestLinks(t *testing.T) {
	n := 0
	for _, path := range files(t, ".md") {
		text := fence.ReplaceAllString(read(t, path), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			n++
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s leads nowhere", path, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s: %s has no such heading", path, m[1])
			}
		}
	}
	if n == 0 {
		t.Error("no link was checked")
	}
}

// anchors returns the anchors that GitHub gives to the headings of a text.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := nonSlug.ReplaceAllString(strings.ToLower(strings.ReplaceAll(m[1], "`", "")), "")
		all = append(all, strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

// TestAccountsCodes checks that each code of the accounts API has a heading in
// errors.md, where the "type" of its problems leads, with its status and no other one
// below; and that each of the headings there is a code.
func TestAccountsCodes(t *testing.T) {
	statuses := accountsCodes(t)
	if len(statuses) < 30 {
		t.Fatalf("only %d codes were found", len(statuses))
	}
	text := read(t, "errors.md")
	all := anchors(text)
	for code := range statuses {
		if n := len(slices.DeleteFunc(slices.Clone(all), func(a string) bool { return a != code })); n != 1 {
			t.Errorf("errors.md has %d headings for the code %s of accounts, want 1", n, code)
		}
	}
	_, part, found := strings.Cut(text, "\n# Errors of the accounts API\n")
	if !found {
		t.Fatal("errors.md has no part on the accounts API")
	}
	for _, section := range strings.Split(part, "\n### ")[1:] {
		code, body, _ := strings.Cut(section, "\n")
		if status, ok := statuses[code]; !ok {
			t.Errorf("errors.md: %s is no code of accounts", code)
		} else if !strings.HasPrefix(body, "\n`"+status+"`") {
			t.Errorf("errors.md: the section on %s does not begin with its status, %s", code, status)
		}
	}
}

// accountsCodes returns the codes that accounts/errors.go gives to its rules, and their
// statuses.
func accountsCodes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "accounts", "errors.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	statuses := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		rule, ok := n.(*ast.CompositeLit)
		if !ok || len(rule.Elts) != 5 { // error, code, status, title, detail
			return true
		}
		literal, ok := rule.Elts[1].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		code, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		switch status := rule.Elts[2].(type) {
		case *ast.BasicLit:
			statuses[code] = status.Value
		case *ast.SelectorExpr: // of package http
			statuses[code] = map[string]string{"StatusServiceUnavailable": "503"}[status.Sel.Name]
		}
		return true
	})
	return statuses
}

// TestNamedTests checks that the tests that pages name, as package.Test, are there.
func TestNamedTests(t *testing.T) {
	declared := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, path := range files(t, ".go") {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, m := range function.FindAllStringSubmatch(read(t, path), -1) {
			declared[packageOf(path)+"."+m[1]] = true
		}
	}
	for _, page := range []string{"keys.md", "threat-model.md"} {
		named := regexp.MustCompile("`(\\w+\\.Test\\w+)`").FindAllStringSubmatch(read(t, page), -1)
		for _, m := range named {
			if !declared[m[1]] {
				t.Errorf("%s names %s, and there is none", page, m[1])
			}
		}
		if len(named) < 20 {
			t.Errorf("%s names %d tests", page, len(named))
		}
	}
}

// packageOf is what a file's package is called in the pages.
func packageOf(path string) string {
	if folder := filepath.Dir(path); folder != root {
		return filepath.Base(folder)
	}
	return "sealhttp"
}

// TestEvents checks that each audit event has its row in keys.md.
func TestEvents(t *testing.T) {
	text := read(t, "keys.md")
	n := 0
	for _, pkg := range []string{"keyring", "accounts"} {
		source := read(t, filepath.Join(root, pkg, "event.go"))
		for _, m := range regexp.MustCompile(`EventType = "(\w+)"`).FindAllStringSubmatch(source, -1) {
			n++
			if !regexp.MustCompile("(?m)^\\| [^|]*`" + m[1] + "`[^|]* \\|").MatchString(text) {
				t.Errorf("keys.md has no row for %s of %s", m[1], pkg)
			}
		}
	}
	if n < 25 {
		t.Errorf("only %d events were found", n)
	}
}

// TestGoBlocks checks that each block of Go is a program that compiles, or a quote
// of a Go file in the tree, which does.
func TestGoBlocks(t *testing.T) {
	var sources []string
	for _, path := range files(t, ".go") {
		sources = append(sources, flat(read(t, path)))
	}
	n := 0
	for _, path := range files(t, ".md") {
		for _, m := range fence.FindAllStringSubmatch(read(t, path), -1) {
			if m[1] != "go" {
				continue
			}
			n++
			code := m[2]
			if strings.HasPrefix(code, "package ") {
				compile(t, path, code)
				continue
			}
			quote := flat(code)
			if !slices.ContainsFunc(sources, func(s string) bool { return strings.Contains(s, quote) }) {
				t.Errorf("%s: no Go file of the tree contains\n%s", path, code)
			}
		}
	}
	if n == 0 {
		t.Error("no block was checked")
	}
}

// flat returns the lines of a text without their indentation, so that a quote may
// be indented otherwise.
func flat(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// compile builds a program inside the module, where it finds its packages.
func compile(t *testing.T, path, code string) {
	t.Helper()
	dir, err := os.MkdirTemp(".", "block")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%s: a program does not compile: %v\n%s\n%s", path, err, out, code)
	}
}
