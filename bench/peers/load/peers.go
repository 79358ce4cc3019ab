package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/bench/peers"
)

// bodySize is how long the bodies of calls of peers are, both ways.
const bodySize = 1 << 10

// serve serves one peer's handler, in a process of its own. It gets the keys from its
// standard input.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	name := flags.String("peer", "plain", "the peer")
	handler := flags.String("handler", "reply", "what it mounts: reply, meet or stream")
	if err := flags.Parse(args); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // a peer logs each call
	var keys peers.Keys
	if err := json.NewDecoder(os.Stdin).Decode(&keys); err != nil {
		return err
	}
	peer, err := peers.Named(*name)
	if err != nil {
		return err
	}
	inner := map[string]func() http.Handler{
		"reply":  func() http.Handler { return harness.Reply(bodySize) },
		"meet":   meet,
		"stream": stream,
	}[*handler]
	served, err := peer.Serve(&keys, inner())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	return http.Serve(listener, served)
}

// startPeer starts serve.
func (r *run) startPeer(name, handler string) (*server, error) {
	keys, err := json.Marshal(r.keys)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return r.start(keys, self, "serve", "-peer", name, "-handler", handler)
}

// peers measures each peer.
func (r *run) peers() ([]row, error) {
	return r.middle(func() (rows []row, err error) {
		for _, p := range peers.All() {
			made := row{Server: "nethttp", Profile: p.Name, Sealed: 100}
			if p.Name == "plain" {
				made.Sealed = 0
			}
			if made, err = r.peer(p, made); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			rows = append(rows, made)
			report(made)
		}
		return rows, nil
	})
}

func (r *run) peer(p peers.Peer, made row) (row, error) {
	s, err := r.startPeer(p.Name, "reply")
	if err != nil {
		return made, err
	}
	defer s.stop()
	calls, err := r.peerCalls(p, s.url)
	if err != nil {
		return made, err
	}
	return attack(s, made, calls)
}

// peerCalls makes calls of one peer: each its own where a service takes a request once.
func (r *run) peerCalls(p peers.Peer, url string) ([]*harness.Call, error) {
	capture := func() (*harness.Call, error) {
		return harness.Capture(func(base http.RoundTripper) (http.RoundTripper, error) {
			return p.Call(r.keys, base, url+"/events")
		}, post(url, make([]byte, bodySize)))
	}
	return r.callsOf(p.Once == "yes", capture)
}

// callsOf makes the calls of a measurement.
func (r *run) callsOf(distinct bool, capture func() (*harness.Call, error)) ([]*harness.Call, error) {
	calls := make([]*harness.Call, r.calls)
	for i := range calls {
		if i > 0 && !distinct {
			calls[i] = calls[0]
			continue
		}
		var err error
		if calls[i], err = capture(); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// post makes a request of a body.
func post(url string, body []byte) *http.Request {
	req, err := http.NewRequest(http.MethodPost, url+"/events", strings.NewReader(string(body)))
	if err != nil {
		panic(err) // the URL is a server's own
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func report(r row) {
	log.Printf("%-8s %-28s %3d %% sealed  %7.0f calls/s  busy %.2f  %6.1f core-s/million  peak %5.1f MiB  at %5d/s: p50 %.2f p99 %.2f p99.9 %.2f ms",
		r.Server, r.Profile, r.Sealed, r.CallsPerSecond, r.Busy, r.CoreSecondsPerMillion, float64(r.PeakKiB)/1024, r.Rate, r.P50, r.P99, r.P999)
}
