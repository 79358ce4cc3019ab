package peers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/bench/peers"
)

// openpcc/ohttp logs each call, which is not to be measured.
func init() { slog.SetDefault(slog.New(slog.DiscardHandler)) }

func newKeys(t testing.TB) *peers.Keys {
	t.Helper()
	keys, err := peers.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestPeers checks that what is measured works: over a socket the handler gets what the
// caller sent, the caller what the handler wrote, and no one between them either, but in
// plaintext.
func TestPeers(t *testing.T) {
	keys := handedOver(t, newKeys(t))
	for _, p := range peers.All() {
		for _, size := range []int{1, 1 << 10, 100_000} {
			t.Run(fmt.Sprint(p.Name, "/", size), func(t *testing.T) {
				said, heard := bytes.Repeat([]byte("S"), size), bytes.Repeat([]byte("H"), size)
				var got []byte
				handler, err := p.Serve(keys, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					got, _ = io.ReadAll(r.Body)
					w.WriteHeader(http.StatusOK)
					_, _ = w.Write(heard)
				}))
				if err != nil {
					t.Fatal(err)
				}
				var wire bytes.Buffer
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					wire.Write(body)
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
					handler.ServeHTTP(tee{w, &wire}, r)
				}))
				defer server.Close()
				transport, err := p.Call(keys, server.Client().Transport, server.URL+"/events")
				if err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequest(http.MethodPost, server.URL+"/events", bytes.NewReader(said))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, heard) || !bytes.Equal(got, said) {
					t.Fatalf("the caller got %s with %d bytes, %v; the handler %d bytes", resp.Status, len(body), err, len(got))
				}
				if size < 100 {
					return // too short to be told apart from chance
				}
				shown := bytes.Contains(wire.Bytes(), said[:100]) || bytes.Contains(wire.Bytes(), heard[:100])
				if shown != (p.Name == "plain") {
					t.Errorf("the wire shows plaintext: %t", shown)
				}
			})
		}
	}
}

// handedOver returns keys as another process gets them.
func handedOver(t *testing.T, keys *peers.Keys) *peers.Keys {
	t.Helper()
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	out := new(peers.Keys)
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// tee is an http.ResponseWriter that copies the body.
type tee struct {
	http.ResponseWriter
	to *bytes.Buffer
}

func (w tee) Write(p []byte) (int, error) {
	w.to.Write(p)
	return w.ResponseWriter.Write(p)
}

// BenchmarkPeer is what a service does for one call: the request opened and the response
// sealed around the same handler, without sockets.
func BenchmarkPeer(b *testing.B) {
	keys := newKeys(b)
	for _, size := range []struct {
		name  string
		bytes int
	}{{"0B", 0}, {"1KiB", 1 << 10}, {"16KiB", 16 << 10}, {"1MiB", 1 << 20}, {"10MiB", 10 << 20}} {
		reply := harness.Reply(size.bytes)
		for _, p := range peers.All() {
			b.Run(fmt.Sprintf("size=%s/by=%s", size.name, p.Name), func(b *testing.B) {
				handler, err := p.Serve(keys, reply)
				if err != nil {
					b.Fatal(err)
				}
				next := calls(b, p, keys, size.bytes)
				b.ReportAllocs()
				b.SetBytes(int64(2 * size.bytes))
				for b.Loop() {
					if status, n := next().Serve(handler); status != http.StatusOK || n < size.bytes {
						b.Fatalf("status %d, %d bytes", status, n)
					}
				}
			})
		}
	}
}

// calls returns calls to be served. Where a service executes a request once, each is
// another; they are made while the timer stands.
func calls(b *testing.B, p peers.Peer, keys *peers.Keys, size int) func() *harness.Call {
	capture := func() *harness.Call {
		call, err := harness.Capture(func(base http.RoundTripper) (http.RoundTripper, error) {
			return p.Call(keys, base, "http://"+harness.Host+"/events")
		}, harness.Post("/events", size))
		if err != nil {
			b.Fatal(err)
		}
		return call
	}
	if p.Once != "yes" {
		call := capture()
		return func() *harness.Call { return call }
	}
	var pool []*harness.Call
	return func() *harness.Call {
		if len(pool) == 0 {
			b.StopTimer()
			for range max(1, min(256, (32<<20)/(size+1))) {
				pool = append(pool, capture())
			}
			b.StartTimer()
		}
		call := pool[len(pool)-1]
		pool = pool[:len(pool)-1]
		return call
	}
}
