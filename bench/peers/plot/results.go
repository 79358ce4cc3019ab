package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// measured is all of bench/results.
type measured struct {
	bench, peers *benchmarks
	examples     load[server]
	services     load[server] // one for each peer
	memory       load[memory]
}

// load is a file of bench/peers/load.
type load[R any] struct {
	Machine struct {
		Go, CPU, Load string
		Cores         int
		Pinned        bool
	}
	Rows []R
}

type server struct {
	Server, Profile           string
	Sealed                    int
	CallsPerSecond, Busy      float64
	CoreSecondsPerMillion     float64
	PeakKiB                   int64
	LostThroughput, CoreRatio float64
	Rate                      int
	P50, P99, P999            float64
}

type memory struct {
	Profile, Load          string
	IdleKiB, PeakKiB       int64
	MiBPerMiB, OverIdleMiB float64
}

func read(dir string) (*measured, error) {
	var r measured
	var err error
	if r.bench, err = readBenchmarks(filepath.Join(dir, "bench.txt")); err != nil {
		return nil, err
	}
	if r.peers, err = readBenchmarks(filepath.Join(dir, "peers.txt")); err != nil {
		return nil, err
	}
	for name, to := range map[string]any{"examples": &r.examples, "peers": &r.services, "memory": &r.memory} {
		text, err := os.ReadFile(filepath.Join(dir, "load-"+name+".json"))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, to); err != nil {
			return nil, fmt.Errorf("load-%s.json: %w", name, err)
		}
	}
	return &r, nil
}

// benchmarks are the values of all runs of each benchmark, by its name without the number
// of cores, and by their unit.
type benchmarks struct {
	values map[string]map[string][]float64
	runs   int // the fewest of any
}

func readBenchmarks(path string) (*benchmarks, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := &benchmarks{values: make(map[string]map[string][]float64)}
	reader := benchfmt.NewReader(file, path)
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, rec
		case *benchfmt.Result:
			name, parts := rec.Name.Parts()
			full := string(name)
			for _, part := range parts {
				if !strings.HasPrefix(string(part), "-") {
					full += string(part)
				}
			}
			if b.values[full] == nil {
				b.values[full] = make(map[string][]float64)
			}
			for _, v := range rec.Values {
				b.values[full][v.Unit] = append(b.values[full][v.Unit], v.Value)
			}
		}
	}
	for _, units := range b.values {
		if n := len(units["sec/op"]); b.runs == 0 || n < b.runs {
			b.runs = n
		}
	}
	return b, reader.Err()
}

// median returns the median of a benchmark's runs, 0 for one that was not run.
func (b *benchmarks) median(name, unit string) float64 {
	return summary(slices.Clone(b.values[name][unit])).Center
}

// seconds is the median of a benchmark's time for one call.
func (b *benchmarks) seconds(name string) float64 { return b.median(name, "sec/op") }

// ratio is the median of ratios.
func (b *benchmarks) ratio(name, to string) float64 { return b.ratios(name, to).Center }

// ratios is how often longer one benchmark took than another in the same run, over the
// runs: a machine that was slow for a while was slow for both.
func (b *benchmarks) ratios(name, to string) benchmath.Summary {
	return b.compared(name, to, func(x, y float64) float64 { return x / y })
}

// differences is how many seconds longer.
func (b *benchmarks) differences(name, to string) benchmath.Summary {
	return b.compared(name, to, func(x, y float64) float64 { return x - y })
}

// compared is the summary of what f makes of each run.
func (b *benchmarks) compared(name, to string, f func(x, y float64) float64) benchmath.Summary {
	x, y := b.values[name]["sec/op"], b.values[to]["sec/op"]
	var all []float64
	for i := range min(len(x), len(y)) {
		all = append(all, f(x[i], y[i]))
	}
	return summary(all)
}

// summary is the median, in the interval that it is in with 95 % confidence, as benchstat
// has both. It sorts the values. Of none it is 0.
func summary(values []float64) benchmath.Summary {
	if len(values) == 0 {
		return benchmath.Summary{}
	}
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, nil), 0.95)
}

// The sizes that are measured.
var sizes = []struct {
	name  string
	bytes float64
}{{"0B", 0}, {"1KiB", 1 << 10}, {"16KiB", 16 << 10}, {"1MiB", 1 << 20}, {"10MiB", 10 << 20}}

const suite = "X25519-AES256GCM"

func messageRow(size, by string) string {
	return fmt.Sprintf("Message/profile=message/suite=%s/size=%s/by=%s", suite, size, by)
}

func exchangeRow(size, by string) string {
	return fmt.Sprintf("Exchange/profile=exchange/suite=%s/size=%s/by=%s", suite, size, by)
}

func peerRow(size, by string) string { return fmt.Sprintf("Peer/size=%s/by=%s", size, by) }
