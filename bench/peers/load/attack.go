package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
)

// row is what one server did under one load.
type row struct {
	Server  string
	Profile string
	Sealed  int // per cent of calls

	// With as many calls as eight connections take.
	CallsPerSecond            float64
	Busy                      float64 // how much of its core the server had; below 1, the caller was slower
	CoreSecondsPerMillion     float64
	PeakKiB                   int64
	LostThroughput, CoreRatio float64 // against plaintext in the same run: per cent, and as a factor

	// At the same rate for all, or half of what this one takes if that is less.
	Rate           int
	P50, P99, P999 float64 // milliseconds
}

const (
	connections = 8
	pacedRate   = 1000
)

// attack loads a server with calls that were made before.
func attack(s *server, r row, calls []*harness.Call) (row, error) {
	if _, err := fire(s, calls[:len(calls)/10], 0); err != nil { // to warm up
		return r, err
	}
	calls = calls[len(calls)/10:]
	half := len(calls) / 2
	before, err := s.cpu()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if _, err := fire(s, calls[:half], 0); err != nil {
		return r, err
	}
	elapsed := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return r, err
	}
	r.CallsPerSecond = float64(half) / elapsed.Seconds()
	r.Busy = (after - before).Seconds() / elapsed.Seconds()
	r.CoreSecondsPerMillion = (after - before).Seconds() / float64(half) * 1e6
	r.Rate = min(int(r.CallsPerSecond/2), pacedRate)
	paced, err := fire(s, calls[half:], r.Rate)
	if err != nil {
		return r, err
	}
	ms := func(q float64) float64 { return float64(paced.Latencies.Quantile(q)) / float64(time.Millisecond) }
	r.P50, r.P99, r.P999 = ms(0.5), ms(0.99), ms(0.999)
	r.PeakKiB, err = s.peak()
	return r, err
}

// fire makes each call once, at a rate or, for 0, as fast as the connections take them.
func fire(s *server, calls []*harness.Call, rate int) (*vegeta.Metrics, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1 << 10}}
	defer client.CloseIdleConnections()
	workers := uint64(connections)
	if rate > 0 {
		workers = 1 << 10 // a call that is due is made, whatever the others wait for
	}
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(connections), vegeta.MaxWorkers(workers))
	var next atomic.Int64
	targeter := func(t *vegeta.Target) error {
		n := int(next.Add(1)) - 1
		if n >= len(calls) {
			return vegeta.ErrNoTargets
		}
		t.Method, t.URL = http.MethodPost, s.url+"/events"
		t.Header, t.Body = calls[n].Sent()
		return nil
	}
	var metrics vegeta.Metrics
	for result := range attacker.Attack(targeter, vegeta.Rate{Freq: rate, Per: time.Second}, 0, "") {
		if result.Error == vegeta.ErrNoTargets.Error() {
			continue
		}
		if result.Error != "" {
			attacker.Stop()
			return nil, fmt.Errorf("a call failed: %s: %.200s", result.Error, result.Body)
		}
		metrics.Add(result)
	}
	metrics.Close()
	if int(metrics.Requests) != len(calls) {
		return nil, fmt.Errorf("%d of %d calls were made", metrics.Requests, len(calls))
	}
	return &metrics, nil
}

// middle measures all rows in turns, and returns the middle of each figure, with what it
// loses against the plaintext before it.
func (r *run) middle(measure func() ([]row, error)) ([]row, error) {
	var all [][]row
	for range r.rounds {
		rows, err := measure()
		if err != nil {
			return nil, err
		}
		all = append(all, rows)
	}
	rows := all[0]
	var plain row
	for i := range rows {
		figure := func(of func(*row) float64) float64 {
			var values []float64
			for _, round := range all {
				values = append(values, of(&round[i]))
			}
			slices.Sort(values)
			return values[(len(values)-1)/2]
		}
		middle := rows[i]
		middle.CallsPerSecond = figure(func(r *row) float64 { return r.CallsPerSecond })
		middle.Busy = figure(func(r *row) float64 { return r.Busy })
		middle.CoreSecondsPerMillion = figure(func(r *row) float64 { return r.CoreSecondsPerMillion })
		middle.PeakKiB = int64(figure(func(r *row) float64 { return float64(r.PeakKiB) }))
		middle.Rate = int(figure(func(r *row) float64 { return float64(r.Rate) }))
		middle.P50 = figure(func(r *row) float64 { return r.P50 })
		middle.P99 = figure(func(r *row) float64 { return r.P99 })
		middle.P999 = figure(func(r *row) float64 { return r.P999 })
		if middle.Sealed == 0 {
			plain = middle
		}
		middle.LostThroughput = 100 * (1 - middle.CallsPerSecond/plain.CallsPerSecond)
		middle.CoreRatio = middle.CoreSecondsPerMillion / plain.CoreSecondsPerMillion
		rows[i] = middle
	}
	return rows, nil
}
