package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// Who does not read holds back who sends: what is on its way between them is bounded by
// the buffers of the connection, whatever the body's length. When it is read, all of it
// comes.
func TestExchangeSlowReader(t *testing.T) {
	const (
		bytes    = 128 << 20
		underway = 24 << 20               // what the system's buffers may hold
		blocked  = 500 * time.Millisecond // and no byte more
	)
	keys, public := newKeys(t, 1)
	s := startService(t, serviceConfig{Keys: keys})
	want := patternSummary(bytes)
	for _, http2 := range []bool{false, true} {
		t.Run("the service/"+protocolName(http2), func(t *testing.T) {
			c := connection{address: s.Plain, http2: http2}
			client := newClient(t, "exchange", c.base(t), public[0], nil)
			call := "slow-service-" + protocolName(http2)
			sent := new(stream)
			answer := make(chan error, 1)
			go func() {
				_, got, err := send(client, http.MethodPost, c.url("/sink?gate&call="+call), sent.reading(newPattern(bytes)))
				if err == nil && got != want {
					err = fmt.Errorf("%q, want %q", got, want)
				}
				answer <- err
			}()
			eventually(t, "the handler runs", func() bool { return s.stream(t, call).Begun })
			n := settled(t, blocked, sent.Bytes.Load)
			t.Logf("the caller is blocked after %d KiB of %d", n>>10, bytes>>10)
			if n == 0 || n > underway {
				t.Errorf("%d bytes were taken of the caller, and nothing was read of them", n)
			}
			s.open(t, call)
			check(t, <-answer)
		})
		t.Run("the caller/"+protocolName(http2), func(t *testing.T) {
			c := connection{address: s.Plain, http2: http2}
			client := newClient(t, "exchange", c.base(t), public[0], nil)
			call := "slow-caller-" + protocolName(http2)
			req, err := http.NewRequest(http.MethodGet, c.url(fmt.Sprintf("/source?bytes=%d&call=%s", bytes, call)), nil)
			check(t, err)
			resp, err := client.Do(req)
			check(t, err)
			defer resp.Body.Close()
			var state streamState
			eventually(t, "the handler waits in Write", func() bool {
				state = s.stream(t, call)
				return state.Waiting > blocked
			})
			t.Logf("the handler is blocked in Write for %v after %d KiB of %d", state.Waiting.Round(time.Millisecond), state.Bytes>>10, bytes>>10)
			if state.Bytes == 0 || state.Bytes > underway {
				t.Errorf("%d bytes were taken of the handler, and nothing was read of them", state.Bytes)
			}
			sum, n, err := sumOf(io.Reader(resp.Body))
			check(t, err)
			if got := summary(n, sum); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// settled returns a number once it has not changed for so long.
func settled(t *testing.T, quiet time.Duration, number func() int64) int64 {
	t.Helper()
	last, since := number(), time.Now()
	eventually(t, "a number stays the same", func() bool {
		if n := number(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > quiet
	})
	return last
}
