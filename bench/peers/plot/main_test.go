package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPage checks that the page and its pictures show the results that are kept.
func TestPage(t *testing.T) {
	const docs = "../../../docs"
	dir := t.TempDir()
	page, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "performance.md"), page, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run("../../results", dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"performance.md", "perf-cost.svg", "perf-peers.svg", "perf-load.svg"} {
		made, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(made) != string(kept) {
			t.Errorf("%s is not of bench/results: run go run ./bench/peers/plot", name)
		}
	}
}
