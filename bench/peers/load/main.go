// Load measures services as their operators see them: processes, each on a core of its
// own, under load from another core. For plaintext and for sealed calls it tells calls a
// second, latencies, core-seconds and peak memory, into ../results:
//
//	go run ./bench/peers/load -out bench/results
//
// Servers are the four examples, which mount sealhttp, and each peer in front of a handler
// that answers 1 KiB with 1 KiB.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sealhttp/sealhttp/bench/peers"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2:]); err != nil {
			log.Fatal(err)
		}
		return
	}
	out := flag.String("out", "bench/results", "the directory for the results")
	calls := flag.Int("calls", 20_000, "calls of each measurement")
	rounds := flag.Int("rounds", 3, "how often services are measured, in turns; the middle of each figure counts")
	only := flag.String("only", "", "measure only this: examples, peers or memory")
	flag.Parse()
	pinned, err := pin()
	if err != nil {
		log.Fatal(err)
	}
	for _, part := range []struct {
		name    string
		measure func(*run) (any, error)
	}{
		{"examples", func(r *run) (any, error) { return r.examples() }},
		{"peers", func(r *run) (any, error) { return r.peers() }},
		{"memory", func(r *run) (any, error) { return r.memory() }},
	} {
		if *only != "" && *only != part.name {
			continue
		}
		if err := measure(part.name, *out, &run{calls: *calls, rounds: *rounds, pinned: pinned}, part.measure); err != nil {
			log.Fatalf("%s: %v", part.name, err)
		}
	}
}

// run is one run of the program.
type run struct {
	keys   *peers.Keys
	calls  int
	rounds int
	pinned bool
	dir    string // for what lasts as long as the run
}

// measure measures one part and writes its results.
func measure(name, out string, r *run, part func(*run) (any, error)) (err error) {
	if r.dir, err = os.MkdirTemp("", "load"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	if r.keys, err = peers.NewKeys(); err != nil {
		return err
	}
	machine := thisMachine(r.pinned)
	rows, err := part(r)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(map[string]any{"machine": machine, "rows": rows}, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(out, fmt.Sprintf("load-%s.json", name))
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
