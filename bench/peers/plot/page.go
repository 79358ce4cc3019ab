package main

import (
	"fmt"
	"strings"

	"golang.org/x/perf/benchmath"

	"github.com/sealhttp/sealhttp/bench/peers"
)

// fill puts the tables between their marks in the page:
//
//	<!-- cost: begin, made by bench/peers/plot -->
//	<!-- cost: end -->
func fill(page string, r *measured) (string, error) {
	for _, table := range []struct {
		name string
		made string
	}{
		{"machine", machineLine(r)},
		{"cost", costTable(r)},
		{"suites", suitesTable(r)},
		{"bars", barsTable(r)},
		{"setup", setupTable(r)},
		{"cores", coresTable(r)},
		{"gives", givesTable()},
		{"peers", peersTable(r)},
		{"examples", serversTable(r.examples.Rows, true)},
		{"services", serversTable(r.services.Rows, false)},
		{"memory", memoryTable(r)},
	} {
		begin := fmt.Sprintf("<!-- %s: begin, made by bench/peers/plot -->\n", table.name)
		end := fmt.Sprintf("<!-- %s: end -->", table.name)
		before, rest, ok := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			return "", fmt.Errorf("performance.md has no marks for the table %s", table.name)
		}
		page = before + begin + table.made + end + after
	}
	return page, nil
}

func machineLine(r *measured) string {
	m := r.services.Machine
	pinned := "servers and callers on a core each"
	if !m.Pinned {
		pinned = "servers and callers on the same cores"
	}
	return fmt.Sprintf("%d interleaved runs (peers: %d), %s, %s, %d cores; under load, %s.\nLoad averages before the services' runs: %s.\n",
		r.bench.runs, r.peers.runs, m.Go, m.CPU, m.Cores, pinned, m.Load)
}

// seconds writes a time in three digits.
func seconds(s float64) string {
	for _, unit := range []struct {
		name string
		of   float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}, {"ns", 1e-9}} {
		if v := s / unit.of; v >= 1 {
			digits := 0
			for limit := v; limit < 100 && digits < 2; limit *= 10 {
				digits++
			}
			return fmt.Sprintf("%.*f %s", digits, v, unit.name)
		}
	}
	return "0"
}

func costTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| body, each way | message | of its floor | exchange | of its floor | exchange, with a caller's key | allocations: message, exchange, with key |\n|---|---|---|---|---|---|---|\n")
	for _, size := range sizes {
		message, exchange, withKey := messageRow(size.name, "sealhttp"), exchangeRow(size.name, "sealhttp"), exchangeRow(size.name, "sealhttp-callerkey")
		fmt.Fprintf(&b, "| %s | %s | %.2f x circl | %s | %.2f x decapsulation | %s | %.0f, %.0f, %.0f |\n", size.name,
			seconds(r.bench.seconds(message)), r.bench.ratio(message, messageRow(size.name, "circl")),
			seconds(r.bench.seconds(exchange)), r.bench.ratio(exchange, exchangeRow(size.name, "kem")),
			seconds(r.bench.seconds(withKey)),
			r.bench.median(message, "allocs/op"), r.bench.median(exchange, "allocs/op"), r.bench.median(withKey, "allocs/op"))
	}
	return b.String()
}

func suitesTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| suite | message, 1 KiB | of circl alone | exchange, 1 KiB | of one decapsulation | message, 1 MiB | exchange, 1 MiB |\n|---|---|---|---|---|---|---|\n")
	for _, name := range suiteNames {
		row := func(format, size, by string) string {
			profile := strings.ToLower(format)
			return fmt.Sprintf("%s/profile=%s/suite=%s/size=%s/by=%s", format, profile, name, size, by)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %.2f | %s | %.2f | %s | %s |\n", name,
			seconds(r.bench.seconds(row("Message", "1KiB", "sealhttp"))), r.bench.ratio(row("Message", "1KiB", "sealhttp"), row("Message", "1KiB", "circl")),
			seconds(r.bench.seconds(row("Exchange", "1KiB", "sealhttp"))), r.bench.ratio(row("Exchange", "1KiB", "sealhttp"), row("Exchange", "1KiB", "kem")),
			seconds(r.bench.seconds(row("Message", "1MiB", "sealhttp"))), seconds(r.bench.seconds(row("Exchange", "1MiB", "sealhttp"))))
	}
	return b.String()
}

var suiteNames = []string{"X25519-AES256GCM", "X25519-AES128GCM", "X25519-CHACHA20POLY1305", "P256-AES256GCM", "P256-AES128GCM", "XWING-AES256GCM"}

// barsTable is what the project holds itself to.
func barsTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| | measured | within | to be at most | |\n|---|---|---|---|---|\n")
	row := func(what, format string, got benchmath.Summary, bar float64) {
		verdict := "holds"
		if got.Center > bar {
			verdict = "**missed**"
		}
		within := ""
		if got.Lo < got.Hi {
			within = fmt.Sprintf(format+" to "+format, got.Lo, got.Hi)
		}
		fmt.Fprintf(&b, "| %s | "+format+" | %s | "+format+" | %s |\n", what, got.Center, within, bar, verdict)
	}
	count := func(n float64) benchmath.Summary { return benchmath.Summary{Center: n} }
	row("message, 1 KiB, to circl alone", "%.2f", r.bench.ratios(messageRow("1KiB", "sealhttp"), messageRow("1KiB", "circl")), 1.10)
	row("message, 1 MiB, to AES-256-GCM in place both ways", "%.2f", r.bench.ratios(messageRow("1MiB", "sealhttp"), messageRow("1MiB", "aead")), 1.60)
	row("exchange, 1 KiB, without a caller's key, to message", "%.2f", r.bench.ratios(exchangeRow("1KiB", "sealhttp"), messageRow("1KiB", "sealhttp")), 0.55)
	row("exchange, 1 MiB, to AES-256-GCM in pieces of 16 KiB both ways", "%.2f", r.bench.ratios(exchangeRow("1MiB", "sealhttp"), exchangeRow("1MiB", "aead")), 1.50)
	byHand := []string{"tink", "crypto-hpke", "jwe-p256", "jwe-rsa", "age"}
	row("message, to the fastest peer that seals to a caller's key, at the worst size", "%.2f", r.behind("sealhttp-message", byHand), 1)
	row("exchange, to the fastest peer of all, at the worst size", "%.2f", r.behind("sealhttp-exchange", append(byHand, "ohttp")), 1)
	row("allocations of a message call, 1 KiB", "%.0f", count(r.bench.median(messageRow("1KiB", "sealhttp"), "allocs/op")), 110)
	plain, handler := "Plaintext/method=POST/by=sealhttp", "Plaintext/method=POST/by=handler"
	row("allocations of a call in plaintext, above the handler's", "%.0f", count(r.bench.median(plain, "allocs/op")-r.bench.median(handler, "allocs/op")), 0)
	row("nanoseconds of a call in plaintext, above the handler's", "%.0f", scaled(r.bench.differences(plain, handler), 1e9), 150)
	for _, m := range r.memory.Rows {
		switch {
		case m.Profile == "sealhttp-message":
			row("memory of 8 messages of 10 MiB at once, to their bytes one way", "%.2f", count(m.MiBPerMiB), 2.2)
		case m.Profile == "sealhttp-exchange":
			row("MiB of memory of an exchange of 1 GiB each way, above idle", "%.0f", count(m.OverIdleMiB), 64)
		}
	}
	return b.String()
}

// setupTable is what circl takes, beside what else could do it.
func setupTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| | circl | | to circl | within |\n|---|---|---|---|---|\n")
	row := func(what, benchmark, other, by string) {
		circl := benchmark + "/by=circl"
		ratio := r.bench.ratios(benchmark+"/by="+by, circl)
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.2f to %.2f |\n", what, seconds(r.bench.seconds(circl)), other, ratio.Center, ratio.Lo, ratio.Hi)
	}
	for _, kem := range []string{"X25519", "P256", "XWING"} {
		row(kem+", open", "Setup/kem="+kem+"/op=open", "`crypto/hpke`", "crypto-hpke")
		row(kem+", seal", "Setup/kem="+kem+"/op=seal", "`crypto/hpke`", "crypto-hpke")
	}
	row("an X25519 key pair", "X25519/op=generate", "`crypto/ecdh`", "crypto-ecdh")
	row("an X25519 shared secret", "X25519/op=share", "`crypto/ecdh`", "crypto-ecdh")
	return b.String()
}

func scaled(s benchmath.Summary, by float64) benchmath.Summary {
	return benchmath.Summary{Center: s.Center * by, Lo: s.Lo * by, Hi: s.Hi * by}
}

// behind is how often longer ours takes than the fastest of the others, at the size where
// that is most.
func (r *measured) behind(ours string, others []string) (worst benchmath.Summary) {
	for _, size := range sizes {
		for _, other := range others {
			if at := r.peers.ratios(peerRow(size.name, ours), peerRow(size.name, other)); at.Center > worst.Center {
				worst = at
			}
		}
	}
	return worst
}

// coresTable is how many cores a rate of calls takes, from what a call costs under load.
func coresTable(r *measured) string {
	var b strings.Builder
	rates := []float64{100, 1000, 5000, 20_000}
	b.WriteString("| calls a second, 1 KiB each way |")
	for _, rate := range rates {
		fmt.Fprintf(&b, " %.0f |", rate)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(rates)) + "\n")
	for _, row := range r.services.Rows {
		if row.Profile != "plain" && !strings.HasPrefix(row.Profile, "sealhttp") {
			continue
		}
		fmt.Fprintf(&b, "| %s |", row.Profile)
		for _, rate := range rates {
			fmt.Fprintf(&b, " %.2f |", rate*row.CoreSecondsPerMillion/1e6)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func givesTable() string {
	var b strings.Builder
	b.WriteString("| | to adopt | streams | response tied to its request | request bound to method, target, credentials | executed once | response opens for a registered key only | method, target, header secret | standard |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range peers.All() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", p.Title, p.Adopted, p.Streams, p.Response, p.Request, p.Once, p.CallerKey, p.Metadata, p.Standard)
	}
	return b.String()
}

func peersTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, size := range sizes {
		fmt.Fprintf(&b, " %s |", size.name)
	}
	b.WriteString(" allocations, 1 KiB |\n|---|" + strings.Repeat("---|", len(sizes)+1) + "\n")
	for _, p := range peers.All()[1:] {
		fmt.Fprintf(&b, "| %s |", p.Name)
		for _, size := range sizes {
			name := peerRow(size.name, p.Name)
			fmt.Fprintf(&b, " %s (%.2f, %.2f) |", seconds(r.peers.seconds(name)), r.peers.ratio(name, peerRow(size.name, "sealhttp-message")), r.peers.ratio(name, peerRow(size.name, "sealhttp-exchange")))
		}
		fmt.Fprintf(&b, " %.0f |\n", r.peers.median(peerRow("1KiB", p.Name), "allocs/op"))
	}
	return b.String()
}

func serversTable(rows []server, examples bool) string {
	var b strings.Builder
	first := "seals by"
	if examples {
		first = "example, profile, sealed"
	}
	fmt.Fprintf(&b, "| %s | calls/s on one core | of plaintext's | core-seconds a million | times plaintext | p50, p99, p99.9 in ms | at calls/s | peak MiB |\n|---|---|---|---|---|---|---|---|\n", first)
	for _, row := range rows {
		name := row.Profile
		if examples {
			name = fmt.Sprintf("%s, %s, %d %%", row.Server, row.Profile, row.Sealed)
			if row.Sealed == 0 {
				name = row.Server + ", plaintext"
			}
		}
		callers := ""
		if row.Busy < 0.9 {
			callers = "+" // the server had time left
		}
		fmt.Fprintf(&b, "| %s | %.0f%s | %.0f %% | %.0f | %.1f | %.2f, %.2f, %.2f | %d | %.0f |\n", name, row.CallsPerSecond, callers, 100-row.LostThroughput,
			row.CoreSecondsPerMillion, row.CoreRatio, row.P50, row.P99, row.P999, row.Rate, float64(row.PeakKiB)/1024)
	}
	return b.String()
}

func memoryTable(r *measured) string {
	var b strings.Builder
	b.WriteString("| | | idle, MiB | peak, MiB | above idle, to all bodies one way |\n|---|---|---|---|---|\n")
	for _, m := range r.memory.Rows {
		times := ""
		if m.MiBPerMiB > 0 {
			times = fmt.Sprintf("%.2f", m.MiBPerMiB)
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %s |\n", m.Profile, m.Load, float64(m.IdleKiB)/1024, float64(m.PeakKiB)/1024, times)
	}
	return b.String()
}
