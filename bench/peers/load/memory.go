package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/bench/peers"
)

// What is measured of memory.
const (
	messages    = 8        // at once
	messageSize = 10 << 20 // bytes, each way: the limit of the message profile by default
	rounds      = 3
	streamSize  = 1 << 30 // bytes, each way
)

// memoryRow is how much memory a server has taken.
type memoryRow struct {
	Profile         string
	Load            string
	IdleKiB         int64
	PeakKiB         int64
	MiBPerMiB       float64 `json:",omitempty"` // of memory, for each MiB of bodies one way
	OverIdleMiB     float64
	SentMiB, GotMiB int64 // by one caller
}

// memory measures the peak of messages at once, and of a stream.
func (r *run) memory() ([]memoryRow, error) {
	var rows []memoryRow
	for _, m := range []struct {
		peer, handler string
		load          func(*server, peers.Peer) error
	}{
		{"plain", "meet", r.loadMessages},
		{"sealhttp-message", "meet", r.loadMessages},
		{"plain", "stream", r.loadStream},
		{"sealhttp-exchange", "stream", r.loadStream},
	} {
		made, err := r.memoryOf(m.peer, m.handler, m.load)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", m.peer, m.handler, err)
		}
		log.Printf("%-18s %-50s idle %5.1f MiB, peak %6.1f MiB", made.Profile, made.Load, float64(made.IdleKiB)/1024, float64(made.PeakKiB)/1024)
		rows = append(rows, made)
	}
	return rows, nil
}

func (r *run) memoryOf(name, handler string, load func(*server, peers.Peer) error) (made memoryRow, err error) {
	peer, err := peers.Named(name)
	if err != nil {
		return made, err
	}
	s, err := r.startPeer(name, handler)
	if err != nil {
		return made, err
	}
	defer s.stop()
	made.Profile = name
	if made.IdleKiB, err = s.peak(); err != nil {
		return made, err
	}
	if err = load(s, peer); err != nil {
		return made, err
	}
	if made.PeakKiB, err = s.peak(); err != nil {
		return made, err
	}
	made.OverIdleMiB = float64(made.PeakKiB-made.IdleKiB) / 1024
	if handler == "meet" {
		made.Load = fmt.Sprintf("%d calls at once, %d times, 10 MiB each way", messages, rounds)
		made.SentMiB, made.GotMiB = messageSize>>20, messageSize>>20
		made.MiBPerMiB = made.OverIdleMiB / (messages * messageSize >> 20)
		return made, nil
	}
	made.Load = "one call, 1 GiB each way"
	made.SentMiB, made.GotMiB = streamSize>>20, streamSize>>20
	return made, nil
}

// meet is a handler whose calls wait for each other when all have come, and when all were
// answered: the most is held at once that can be.
func meet() http.Handler {
	reply := harness.Reply(messageSize)
	var mu sync.Mutex
	arrived := sync.NewCond(&mu)
	n := 0
	wait := func() {
		mu.Lock()
		defer mu.Unlock()
		n++
		for until := (n + messages - 1) / messages * messages; n < until; {
			arrived.Wait()
		}
		arrived.Broadcast()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait()
		reply.ServeHTTP(w, r)
		wait()
	})
}

func (r *run) loadMessages(s *server, p peers.Peer) error {
	call, err := harness.Capture(func(base http.RoundTripper) (http.RoundTripper, error) {
		return p.Call(r.keys, base, s.url+"/events")
	}, post(s.url, make([]byte, messageSize)))
	if err != nil {
		return err
	}
	header, body := call.Sent()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: messages}}
	for range rounds {
		failed := make(chan error)
		for range messages {
			go func() {
				req := post(s.url, body)
				req.Header = header.Clone()
				failed <- discard(client.Do(req))
			}()
		}
		var all error
		for range messages {
			all = errors.Join(all, <-failed)
		}
		if all != nil {
			return all
		}
	}
	return nil
}

// stream is a handler that reads a body and writes as much, and holds none of it.
func stream() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.CopyN(w, zeros{}, n) // the caller finds out
	})
}

// zeros is a reader of zeros without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (r *run) loadStream(s *server, p peers.Peer) error {
	transport, err := p.Call(r.keys, http.DefaultTransport, s.url+"/events")
	if err != nil {
		return err
	}
	req := post(s.url, nil)
	req.Body, req.ContentLength = io.NopCloser(io.LimitReader(zeros{}, streamSize)), streamSize
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != streamSize {
		err = fmt.Errorf("%d bytes came back", n)
	}
	return err
}

func discard(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered with %s", strings.TrimSpace(resp.Status))
	}
	return nil
}
