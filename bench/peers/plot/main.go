// Plot makes the pictures and the tables of docs/performance.md from bench/results:
//
//	go run ./bench/peers/plot
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	results := flag.String("results", "bench/results", "the directory with the results")
	docs := flag.String("docs", "docs", "the directory with performance.md")
	flag.Parse()
	if err := run(*results, *docs); err != nil {
		log.Fatal(err)
	}
}

func run(results, docs string) error {
	r, err := read(results)
	if err != nil {
		return err
	}
	for name, draw := range map[string]func(string, *measured) error{
		"perf-cost.svg":  drawCost,
		"perf-peers.svg": drawPeers,
		"perf-load.svg":  drawLoad,
	} {
		if err := draw(filepath.Join(docs, name), r); err != nil {
			return err
		}
	}
	page := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	out, err := fill(string(text), r)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(out), 0o644)
}
