package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/examples/internal/tinkcaller"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// caller calls without a pause until it is stopped.
type caller struct {
	account string
	url     string
	network http.RoundTripper                 // in clear
	current atomic.Pointer[http.RoundTripper] // what it calls with

	mu       sync.Mutex
	more     *sync.Cond
	answered int            // as they should be
	refused  map[string]int // by sealhttp: by call and code
	failed   []error        // otherwise
}

func newCaller(account, url string, network http.RoundTripper) *caller {
	c := &caller{account: account, url: url, network: network, refused: make(map[string]int)}
	c.more = sync.NewCond(&c.mu)
	c.use(network)
	return c
}

// use makes a caller call in another way from its next call on.
func (c *caller) use(transport http.RoundTripper) { c.current.Store(&transport) }

// run calls until ctx ends, and then ends the call that it has begun.
func (c *caller) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		calls := [...]string{"GET /visits", "POST /visits", "POST /records"}
		name := calls[n%len(calls)]
		err := c.call(name, fmt.Sprintf(`{"patient":"Ada L.","n":%d}`, n))

		c.mu.Lock()
		if refusal, ok := errors.AsType[*sealhttp.Error](err); ok {
			c.refused[fmt.Sprintf("%s: %d %s", name, refusal.Status, refusal.Code)]++
		} else if err != nil {
			c.failed = append(c.failed, fmt.Errorf("%s: %s: %w", c.account, name, err))
		} else {
			c.answered++
		}
		c.more.Broadcast()
		c.mu.Unlock()
	}
}

// call makes one call, and is content with nothing but the right answer.
func (c *caller) call(name, body string) error {
	method, target, _ := strings.Cut(name, " ")
	wantStatus, wantBody := http.StatusCreated, body
	if method == "GET" {
		wantStatus, wantBody, body = http.StatusOK, `[{"patient":"Ada L."}]`, ""
	}
	req, err := http.NewRequest(method, c.url+target, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(c.account, "secret")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Transport: *c.current.Load()}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if code := resp.Header.Get("Sealed-Error"); code != "" {
		return &sealhttp.Error{Code: sealhttp.Code(code), Status: resp.StatusCode}
	}
	if resp.StatusCode != wantStatus || resp.Header.Get("Content-Type") != "application/json" || string(got) != wantBody {
		return fmt.Errorf("got %s %s %s", resp.Status, resp.Header.Get("Content-Type"), got)
	}
	return nil
}

// count returns how many calls have ended.
func (c *caller) count() int {
	n := c.answered + len(c.failed)
	for _, refused := range c.refused {
		n += refused
	}
	return n
}

// wait waits until n more calls have ended.
func (c *caller) wait(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for until := c.count() + n; c.count() < until; {
		c.more.Wait()
	}
}

// sealBodies makes a caller seal what it sends, and take answers in clear.
func (c *caller) sealBodies(s *service) error {
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(s.keys.PublicKeys()[0]), sealhttp.WithBase(c.network))
	if err != nil {
		return err
	}
	c.use(transport)
	return nil
}

// sealAll makes a caller seal what it sends, and ask for sealed answers. It registers
// its key first: what is asked for sealed and cannot be is refused.
func (c *caller) sealAll(s *service) error {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return err
	}
	s.clients.register(c.account, key.Public())
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(s.keys.PublicKeys()[0]),
		sealhttp.WithPrivateKeys(key), sealhttp.WithBase(c.network))
	if err != nil {
		return err
	}
	c.use(transport)
	return nil
}

// sealAllWithTink is sealAll for a caller that has no sealhttp.
func (c *caller) sealAllWithTink(s *service) error {
	published, err := tinkkeys.Public(s.keys.PublicKeys()...)
	if err != nil {
		return err
	}
	transport, keyset, err := tinkcaller.New(published, c.network)
	if err != nil {
		return err
	}
	keys, err := tinkkeys.ParsePublic(keyset)
	if err != nil {
		return err
	}
	s.clients.register(c.account, keys[0])
	c.use(transport)
	return nil
}
