package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// cancellation is a call, and the moment at which it is cancelled.
type cancellation struct {
	target  string
	body    io.Reader
	keys    sealhttp.ServerPublicKeys
	base    http.RoundTripper
	reached func() bool // the moment
	read    func(*http.Response) error
	outcome error // of a call without an answer
	// The handler does not look at its caller until it is told to go on. On HTTP/1, net/http
	// itself looks only once the body was read.
	blind bool
}

// stage makes such a call. begun tells how far the handler has come.
type stage func(c *cancellation, begun func() streamState)

// moment is a moment that is told of.
func (c *cancellation) moment() (tell func()) {
	told := make(chan struct{})
	c.reached = func() bool {
		select {
		case <-told:
			return true
		default:
			return false
		}
	}
	return sync.OnceFunc(func() { close(told) })
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var stages = map[string]stage{
	"before the call": func(c *cancellation, _ func() streamState) {
		c.body, c.outcome = strings.NewReader("text"), sealhttp.ErrNotProcessed
	},
	"while the key is fetched": func(c *cancellation, _ func() streamState) {
		tell := c.moment()
		c.outcome = sealhttp.ErrNotProcessed
		c.keys = sealhttp.ServerPublicKeysFunc(func(ctx context.Context, _ *seal.PublicKey) (*seal.PublicKey, error) {
			tell()
			<-ctx.Done()
			return nil, ctx.Err()
		})
	},
	"while it is connected": func(c *cancellation, _ func() streamState) {
		tell := c.moment()
		c.outcome = sealhttp.ErrNotProcessed
		c.base = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			tell()
			// net/http lets a dial outlive its call, for the next one.
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			return nil, errors.New("no connection")
		}}
	},
	"while the first byte of its body is awaited": func(c *cancellation, begun func() streamState) {
		c.body, _ = io.Pipe()
		c.reached = func() bool { return begun().Begun }
	},
	"while the rest of its body is awaited": func(c *cancellation, begun func() streamState) {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "half a body") }()
		c.body = r
		c.reached = func() bool { return begun().Bytes > 0 }
	},
	"while its body is held back": func(c *cancellation, begun func() streamState) {
		c.target, c.body, c.blind = "/sink?gate", newPattern(64<<20), true
		c.reached = func() bool { return begun().Begun }
	},
	"while its answer is awaited": func(c *cancellation, begun func() streamState) {
		c.target, c.body = "/stalled?", strings.NewReader("text")
		c.reached = func() bool { return begun().Begun }
	},
	"while it waits to try again": func(c *cancellation, _ func() streamState) {
		tell := c.moment()
		c.base = roundTripper(func(*http.Request) (*http.Response, error) {
			tell()
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: make(http.Header), Body: http.NoBody}, nil
		})
	},
	"while its answer is read": func(c *cancellation, begun func() streamState) {
		c.target = "/stalled?late"
		c.reached = func() bool { return begun().Begun }
		c.read = func(resp *http.Response) error {
			_, err := io.Copy(io.Discard, resp.Body)
			return err
		}
	},
	"after its answer was closed": func(c *cancellation, _ func() streamState) {
		c.target = "/source?bytes=100000000"
		tell := c.moment()
		c.read = func(resp *http.Response) error {
			defer tell()
			return errors.Join(resp.Body.Close(), context.Canceled)
		}
	},
}

// A call is cancelled at each of its stages, ten times at once. It ends with the context's
// error and the right outcome, the handler ends, and neither side has a goroutine more
// than before.
func TestExchangeCancelled(t *testing.T) {
	keys, public := newKeys(t, 1)
	s := startService(t, serviceConfig{Keys: keys})
	for name, stage := range stages {
		for _, http2 := range []bool{false, true} {
			t.Run(name+"/"+protocolName(http2), func(t *testing.T) {
				before, beforeThere := runtime.NumGoroutine(), s.goroutines(t)
				base := connection{address: s.Plain, http2: http2}.base(t)
				var calls sync.WaitGroup
				for i := range 10 {
					c := cancellation{
						target: "/sink?", keys: sealhttp.StaticPublicKey(public[0]), base: base, outcome: sealhttp.ErrOutcomeUnknown,
					}
					call := fmt.Sprintf("%s/%d/%t", strings.ReplaceAll(name, " ", "-"), i, http2)
					begun := func() streamState { return s.stream(t, call) }
					stage(&c, begun)
					calls.Go(func() {
						c.run(t, call)
						if c.blind {
							s.open(t, call)
						}
						c.awaitHandler(t, begun)
					})
				}
				calls.Wait()
				base.CloseIdleConnections()
				awaitGoroutines(t, s, before, beforeThere)
			})
		}
	}
}

// run makes the call, and cancels it.
func (c *cancellation) run(t *testing.T, call string) {
	transport, err := sealhttp.NewTransport(c.keys, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(c.base))
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	if c.reached == nil {
		cancel()
	} else {
		go cancelWhen(c.reached, cancel, ended)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+serviceName+c.target+"&call="+call, c.body)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case err != nil:
		wantOutcome(t, err, c.outcome)
	case c.read == nil:
		t.Errorf("an answer came: %s", resp.Status)
	default:
		err = c.read(resp)
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// awaitHandler waits until the handler has ended, if it was called.
func (c *cancellation) awaitHandler(t *testing.T, begun func() streamState) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if state := begun(); !state.Begun || state.Ended {
			return
		}
		if time.Now().After(end) {
			t.Error("the handler does not end")
			return
		}
	}
}

// cancelWhen cancels a call once it has come so far.
func cancelWhen(reached func() bool, cancel func(), ended <-chan struct{}) {
	for !reached() {
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
}

// awaitGoroutines waits until both sides have as many goroutines as before.
func awaitGoroutines(t *testing.T, s *service, here, there int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > here || s.goroutines(t) > there; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			var others string
			s.ask(t, http.MethodGet, "/stacks", nil, &others)
			t.Fatalf("%d goroutines, %d before; in the service %d, %d before:\n%s\n\nin the service:\n%s",
				runtime.NumGoroutine(), here, s.goroutines(t), there, stacks(), others)
		}
	}
}
