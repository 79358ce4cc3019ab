package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// heldBody is a body, and whether it can be sent again.
type heldBody struct {
	name  string
	bytes int
	again bool
	make  func(n int) io.Reader
}

var heldBodies = []heldBody{
	{"short", 100, true, func(n int) io.Reader { return bytes.NewReader(make([]byte, n)) }},
	{"long", 200_000, true, func(n int) io.Reader { return bytes.NewReader(make([]byte, n)) }},
	{"long, once", 200_000, false, func(n int) io.Reader { return io.NopCloser(bytes.NewReader(make([]byte, n))) }},
}

// heldCaller is a caller behind a hop.
type heldCaller struct {
	hop    *hop
	base   *http.Transport
	client *http.Client
	url    string
	name   string // of its call

	timeout time.Duration
}

// newHeldCaller makes one that has the hop's clock.
func newHeldCaller(t *testing.T, h *hop, http2 bool, public []*seal.PublicKey) *heldCaller {
	t.Helper()
	c := connection{address: h.address, http2: http2}
	base := c.base(t)
	source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
		if refused != nil {
			return public[1], nil
		}
		return public[0], nil
	})
	transport, err := sealhttp.NewTransport(source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
	check(t, err)
	client := &http.Client{Transport: transport}
	if h.clock != nil {
		resp, err := client.Get(c.url("/clock"))
		_, err = content(resp, err)
		check(t, err)
	}
	name := newCall()
	return &heldCaller{h, base, client, c.url("/run?call=" + name), name, 3 * time.Second}
}

// ended checks how the call has ended: with its answer if want is nil.
func (c *heldCaller) ended(t *testing.T, body heldBody, got string, err, want error) {
	t.Helper()
	switch {
	case want != nil:
		if !errors.Is(err, want) {
			t.Errorf("got %q and %v, want %v", got, err, want)
		}
		wantOutcome(t, err, sealhttp.ErrOutcomeUnknown)
	case err != nil:
		t.Error(err)
	default:
		if want := c.name + fmt.Sprintf(": 1, with %d bytes", body.bytes); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// call makes the call. net/http waits longer and longer with a stream that is refused.
func (c *heldCaller) call(t *testing.T, body heldBody) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, body.make(body.bytes))
	check(t, err)
	resp, err := c.client.Do(req)
	text, err := content(resp, err)
	return string(text), err
}

// expect makes the call, delivers once more what the hop has kept of it, and looks at what
// was executed, and at what the caller was told.
func (c *heldCaller) expect(t *testing.T, body heldBody, executed bool, want error) {
	t.Helper()
	begun := time.Now()
	got, err := c.call(t, body)
	c.ended(t, body, got, err, want)
	executed = executed || want == nil
	if n := runs(t, c.name, c.hop.services...); n > 1 || executed && n == 0 {
		t.Errorf("executed %d times", n)
	}
	kept := c.hop.all()
	field, err := exchangeparty.ParseRequestField(kept[0].header["Sealed-Exchange"])
	check(t, err)
	if off := time.Unix(field.Timestamp, 0).Sub(begun) - c.hop.offset; off < -2*time.Second || off > 2*time.Second {
		t.Errorf("the request's time is %v off what it should be", off)
	}
	codes := c.hop.replay()
	n := runs(t, c.name, c.hop.services...)
	if n > 1 || executed && n == 0 {
		t.Errorf("executed %d times, with the hop's own", n)
	}
	// Of what was not executed, one replay is; unless it has become stale.
	replays := 2 * len(c.hop.services) * len(kept)
	if executed && codes[sealhttp.CodeReplayed] != replays || codes[""] > 1 || codes[""]+codes[sealhttp.CodeReplayed]+codes[sealhttp.CodeStale] != replays {
		t.Errorf("%d replays were answered with %v", replays, codes)
	}
	if n == 0 && codes[sealhttp.CodeStale] != replays {
		t.Errorf("executed %d times, and the replays were answered with %v", n, codes)
	}
}
