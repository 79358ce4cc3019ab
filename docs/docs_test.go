// Package docs checks that the documentation holds.
package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
