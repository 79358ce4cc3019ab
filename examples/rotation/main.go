// Rotation plays in seconds what takes a year: three replicas of a service share a
// key ring, and replace its key while callers call all the while. It prints what
// happens, and how many calls each key opened until then. It needs nothing but
// loopback:
//
//	go run ./examples/rotation
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// schedule is that of a year and a month, in a hurry. A reload interval is at most
// half of Lead.
var schedule = keyring.Schedule{
	Every:   4 * time.Second,
	Lead:    1500 * time.Millisecond,
	Overlap: 2 * time.Second,
}

const reload = 250 * time.Millisecond

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "rotation")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	kek, err := keyring.LocalKeyFile(filepath.Join(dir, "ring.kek"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "A new key every %v. It is pending for %v, and the old one opens for another %v.\n\n",
		schedule.Every, schedule.Lead, schedule.Overlap)

	// The service: three replicas of one ring. One of them takes each step, and tells.
	line := newTimeline(out)
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	var replicas []string
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for n := range 3 {
		ring, err := keyring.OpenFile(ctx, filepath.Join(dir, "ring"), kek,
			keyring.WithSchedule(schedule),
			keyring.WithReloadInterval(reload),
			keyring.WithAudit(line.replica(n+1)))
		if err != nil {
			return err
		}
		running.Go(func() { _ = ring.Run(ctx) }) // returns when ctx ends
		service, err := newService(ring, line)
		if err != nil {
			return err
		}
		server := httptest.NewServer(service)
		defer server.Close()
		replicas = append(replicas, server.URL)
	}

	// Its callers: one that refreshes its keys by itself, and one with a fixed Tink
	// keyset, which somebody replaces by hand some time after the rotation.
	callers := []caller{newSealingCaller(replicas), newTinkCaller(replicas, line.promoted(2))}
	calling, hangUp := context.WithCancel(ctx)
	var conversations sync.WaitGroup
	defer conversations.Wait()
	defer hangUp()
	for _, c := range callers {
		conversations.Go(func() {
			for n := 0; calling.Err() == nil; n++ {
				err := c.call(ctx, replicas[n%len(replicas)]+"/events", fmt.Sprint("event ", n))
				line.called(c.name(), err)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}

	select { // the first key has retired: the rotation is over
	case <-line.retired(1):
	case <-ctx.Done():
		return errors.New("the rotation has not ended within a minute")
	}
	time.Sleep(reload) // the other replicas have seen it too
	hangUp()
	conversations.Wait()
	return line.sum()
}

// newService makes one replica's handler: an API behind sealhttp, and its public keys
// as a Tink keyset. A real service signs them: see package publish.
func newService(ring *keyring.Keyring, line *timeline) (http.Handler, error) {
	m, err := sealhttp.New(ring,
		sealhttp.WithPolicy(sealhttp.RequestRequired),
		sealhttp.WithObserver(func(r *http.Request, e sealhttp.Event) {
			if e.RequestSealed {
				line.opened(e.KeyID)
			}
			ring.Used(r.Context(), e.KeyID) // tells of callers that have not refreshed
		}))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /events", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	})))
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		keys, err := tinkkeys.Public(ring.PublicKeys()...)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(keys)
	})
	return mux, nil
}
