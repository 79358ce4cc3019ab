package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// callerConfig is what a caller that is a process of its own does.
type callerConfig struct {
	URL   string
	KeyID uint32
	Key   []byte
	HTTP2 bool
	Bytes int64
	Calls []string // "up", "down" or "up and down"
}

// callerResult is what it tells of each call, and at first of none.
type callerResult struct {
	Memory memory
	Took   time.Duration
	Error  string
}

// run makes the calls.
func (c *callerConfig) run() error {
	key, err := seal.NewPublicKey(seal.X25519AES256GCM, c.KeyID, c.Key)
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!c.HTTP2)
	protocols.SetUnencryptedHTTP2(c.HTTP2)
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(key),
		sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(&http.Transport{Protocols: protocols}))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport}
	calls := map[string]func(*http.Client) (string, error){"up": c.up, "down": c.down, "up and down": c.both}
	want := patternSummary(c.Bytes)
	tell := func(r callerResult) error {
		if r.Memory, err = readMemory(); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	if err := tell(callerResult{}); err != nil {
		return err
	}
	for _, call := range c.Calls {
		begun := time.Now()
		got, err := calls[call](client)
		r := callerResult{Took: time.Since(begun)}
		switch {
		case err != nil:
			r.Error = err.Error()
		case got != want:
			r.Error = fmt.Sprintf("%q, want %q", got, want)
		}
		if err := tell(r); err != nil {
			return err
		}
	}
	return nil
}

// up sends the bytes, and returns what the service says of them.
func (c *callerConfig) up(client *http.Client) (string, error) {
	resp, err := c.send(client, "/sink", io.NopCloser(newPattern(c.Bytes)))
	text, err := content(resp, err)
	return string(text), err
}

// down takes them.
func (c *callerConfig) down(client *http.Client) (string, error) {
	return c.receive(client, fmt.Sprintf("/source?bytes=%d", c.Bytes), nil)
}

// both does both at once.
func (c *callerConfig) both(client *http.Client) (string, error) {
	return c.receive(client, "/mirror", io.NopCloser(newPattern(c.Bytes)))
}

func (c *callerConfig) receive(client *http.Client, path string, body io.Reader) (string, error) {
	resp, err := c.send(client, path, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	sum, n, err := sumOf(resp.Body)
	return summary(n, sum), err
}

func (c *callerConfig) send(client *http.Client, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.URL+path, body)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// A gigabyte goes up and down, and neither side holds more of it than a few records.
func TestExchangeMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector needs more memory than is allowed")
	}
	const most = 64 << 20 // over what a process has when it does nothing
	bytes := int64(1 << 30)
	if testing.Short() {
		bytes = 64 << 20
	}
	for _, row := range []struct {
		http2 bool
		calls []string
	}{{false, []string{"up", "down"}}, {true, []string{"up and down"}}} {
		t.Run(protocolName(row.http2), func(t *testing.T) {
			keys, public := newKeys(t, 1)
			s := startService(t, serviceConfig{Keys: keys})
			var idle callerResult
			p := startProcess(t, exchangePart{Caller: &callerConfig{
				URL: "http://" + s.Plain, KeyID: public[0].ID(), Key: public[0].Bytes(), HTTP2: row.http2, Bytes: bytes, Calls: row.calls,
			}}, &idle)
			for _, call := range row.calls {
				var r callerResult
				p.tell(t, &r)
				if r.Error != "" {
					t.Fatalf("%s: %s\n%s", call, r.Error, &s.stderr)
				}
				caller, service := r.Memory.Peak-idle.Memory.Resident, s.memory(t).Peak-s.Memory.Resident
				t.Logf("%d MiB %s in %v: at its peak the caller has %d KiB more than idle, the service %d KiB (idle: %d and %d KiB)",
					bytes>>20, call, r.Took.Round(time.Millisecond), caller>>10, service>>10, idle.Memory.Resident>>10, s.Memory.Resident>>10)
				if caller > most || service > most {
					t.Errorf("that is more than %d KiB", most>>10)
				}
			}
		})
	}
}

// memory is what a process has in memory, in bytes.
type memory struct{ Resident, Peak int64 }

// readMemory reads this process's.
func readMemory() (memory, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return memory{}, fmt.Errorf("the peak of a process's memory is found on Linux only: %w", err)
	}
	m := memory{Resident: -1, Peak: -1}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		switch {
		case err != nil:
			return memory{}, err
		case fields[0] == "VmRSS:":
			m.Resident = n << 10
		case fields[0] == "VmHWM:":
			m.Peak = n << 10
		}
	}
	if m.Resident < 0 || m.Peak < 0 {
		return memory{}, fmt.Errorf("no VmRSS or VmHWM")
	}
	return m, nil
}
