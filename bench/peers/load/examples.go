package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// event is the body of a call of the examples. They keep all events in memory.
var event = []byte(fmt.Sprintf(`{"type":"signup","email":"ada@example.com","name":%q}`, strings.Repeat("Ada L. ", 25)))

const token = "Bearer shop-token"

// examples measures the four examples, in plaintext, half and half, and sealed, in both
// profiles. Each measurement has a new process.
func (r *run) examples() ([]row, error) {
	names := []string{"nethttp", "chi", "echo", "gin"}
	for _, name := range names {
		build := exec.Command("go", "build", "-o", filepath.Join(r.dir, name), "github.com/sealhttp/sealhttp/examples/"+name)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return nil, err
		}
	}
	return r.middle(func() (rows []row, err error) {
		for _, name := range names {
			for _, made := range []row{
				{Profile: "message", Sealed: 0},
				{Profile: "message", Sealed: 50},
				{Profile: "message", Sealed: 100},
				{Profile: "exchange", Sealed: 50},
				{Profile: "exchange", Sealed: 100},
			} {
				made.Server = name
				if made, err = r.example(filepath.Join(r.dir, name), made); err != nil {
					return nil, fmt.Errorf("%s, %s, %d %%: %w", name, made.Profile, made.Sealed, err)
				}
				rows = append(rows, made)
				report(made)
			}
		}
		return rows, nil
	})
}

func (r *run) example(program string, made row) (row, error) {
	s, err := r.start(nil, program, "-addr", "127.0.0.1:0")
	if err != nil {
		return made, err
	}
	defer s.stop()
	calls, err := r.exampleCalls(s, made)
	if err != nil {
		return made, err
	}
	return attack(s, made, calls)
}

// exampleCalls registers the caller's key and makes the calls.
func (r *run) exampleCalls(s *server, made row) ([]*harness.Call, error) {
	if err := r.register(s); err != nil {
		return nil, err
	}
	served, err := tinkkeys.ParsePublic([]byte(s.publicKey))
	if err != nil {
		return nil, err
	}
	capture := func(client func(http.RoundTripper) (http.RoundTripper, error)) func() (*harness.Call, error) {
		return func() (*harness.Call, error) {
			req := post(s.url, event)
			req.Header.Set("Authorization", token)
			return harness.Capture(client, req)
		}
	}
	plain, err := r.callsOf(false, capture(func(base http.RoundTripper) (http.RoundTripper, error) { return base, nil }))
	if err != nil {
		return nil, err
	}
	sealed, err := r.callsOf(made.Profile == "exchange" && made.Sealed > 0, capture(func(base http.RoundTripper) (http.RoundTripper, error) {
		return r.transport(served[0], made.Profile, base)
	}))
	if err != nil {
		return nil, err
	}
	for i := range plain {
		if i%100*made.Sealed/100 != (i%100+1)*made.Sealed/100 { // evenly
			plain[i] = sealed[i]
		}
	}
	return plain, nil
}

func (r *run) transport(to *seal.PublicKey, profile string, base http.RoundTripper) (http.RoundTripper, error) {
	p := sealhttp.MessageProfile
	if profile == "exchange" {
		p = sealhttp.ExchangeProfile
	}
	return sealhttp.NewTransport(sealhttp.StaticPublicKey(to), sealhttp.WithProfile(p),
		sealhttp.WithPrivateKeys(r.keys.Client.HPKE), sealhttp.WithBase(base))
}

func (r *run) register(s *server) error {
	keyset, err := tinkkeys.Public(r.keys.Client.HPKE.Public())
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPut, s.url+"/key", bytes.NewReader(keyset))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT /key: %s", resp.Status)
	}
	return nil
}
