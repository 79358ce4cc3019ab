// Package peers is what one would pick instead of sealhttp, each mounted in front of the
// same handler and called by the same callers, so that all are measured alike:
//
//	go test -bench . ./bench/peers
//
// Those that need code by hand have it here, as a careful user would write it: sizes are
// bounded, and memory is taken once where a length is told.
package peers

import (
	"fmt"
	"net/http"
	"slices"
)

// Peer is a way to seal the bodies of calls.
type Peer struct {
	// Name is for rows of benchmarks.
	Name string
	// Title says what it is, in Markdown.
	Title string

	// What it gives. Each is "yes", "no", or a short answer.
	Adopted   string // what is to be written to adopt it
	Streams   string // bodies are not held in memory whole
	Response  string // the response is tied to its request
	Request   string // the request is bound to method, target and credentials
	Once      string // a request is executed at most once
	CallerKey string // the response opens for a registered key
	Metadata  string // method, target and header fields are secret, too
	Standard  string // what it is written in

	// Serve mounts it on the service's side, with the service's private keys and the
	// caller's public ones.
	Serve func(k *Keys, next http.Handler) (http.Handler, error)
	// Call mounts it on the caller's side, for calls of a service at url.
	Call func(k *Keys, base http.RoundTripper, url string) (http.RoundTripper, error)
}

// All returns all that are compared: plaintext first, sealhttp next.
func All() []Peer {
	return slices.Concat(
		[]Peer{plain()},
		sealhttpPeers(),
		[]Peer{tinkPeer(), hpkePeer()},
		josePeers(),
		[]Peer{ohttpPeer(), agePeer()},
	)
}

// Named returns the peer of a name.
func Named(name string) (Peer, error) {
	for _, p := range All() {
		if p.Name == name {
			return p, nil
		}
	}
	return Peer{}, fmt.Errorf("no peer is named %q", name)
}

func plain() Peer {
	return Peer{
		Name: "plain", Title: "plaintext", Adopted: "nothing", Streams: "yes", Response: "no", Request: "no", Once: "no",
		CallerKey: "no", Metadata: "no", Standard: "HTTP",
		Serve: func(_ *Keys, next http.Handler) (http.Handler, error) { return next, nil },
		Call:  func(_ *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) { return base, nil },
	}
}
