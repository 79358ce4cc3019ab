package integration_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
)

// fleet is the replicas of a service, each a process, and who starts those again that
// were killed.
type fleet struct {
	t      *testing.T
	config replicaConfig
	signer ed25519.PrivateKey

	mu       sync.Mutex
	living   []*replica // they serve
	all      []*replica
	restarts sync.WaitGroup
	over     atomic.Bool
}

// replica is one process.
type replica struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
	// dying is set before the process is killed. A call to it that finds no answer
	// from then on says nothing.
	dying atomic.Bool

	mu      sync.Mutex
	reports []report
	stderr  lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startFleet starts replicas on a database.
func startFleet(t *testing.T, n int, dsn string, schedule keyring.Schedule, reload, validity, accountTTL time.Duration) *fleet {
	t.Helper()
	_, signer, err := ed25519.GenerateKey(nil)
	check(t, err)
	f := &fleet{t: t, signer: signer, config: replicaConfig{
		DSN:         dsn,
		KEKFile:     filepath.Join(t.TempDir(), "kek"),
		SigningSeed: signer.Seed(),
		Schedule:    schedule,
		Reload:      reload,
		Validity:    validity,
		AccountTTL:  accountTTL,
	}}
	t.Cleanup(f.stop)
	for range n {
		_, err := f.start()
		check(t, err)
	}
	return f
}

// pin is what callers verify the publication with.
func (f *fleet) pin() ed25519.PublicKey { return f.signer.Public().(ed25519.PublicKey) }

// start starts a replica, and waits until it serves.
func (f *fleet) start() (*replica, error) {
	config, err := json.Marshal(f.config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaVariable+"="+string(config))
	r := &replica{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &r.stderr
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	serves := make(chan string, 1)
	go func() {
		defer close(r.ended)
		r.read(stdout, serves)
		_ = cmd.Wait()
	}()
	select {
	case r.url = <-serves:
	case <-r.ended:
		return nil, fmt.Errorf("the replica has ended before it served: %s", &r.stderr)
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-r.ended
		return nil, fmt.Errorf("the replica does not serve: %s", &r.stderr)
	}
	f.mu.Lock()
	f.living = append(f.living, r)
	f.all = append(f.all, r)
	f.mu.Unlock()
	go func() {
		<-r.ended
		if !r.dying.Load() {
			f.t.Errorf("a replica has ended by itself: %s", &r.stderr)
		}
	}()
	return r, nil
}

// read takes a process's reports until its end.
func (r *replica) read(stdout io.Reader, serves chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var told report
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			_, _ = fmt.Fprintf(&r.stderr, "not a report: %q", lines.Text())
			continue
		}
		r.mu.Lock()
		r.reports = append(r.reports, told)
		r.mu.Unlock()
		if told.Kind == ready {
			serves <- told.URL
		}
	}
}

// told returns what a process has told so far.
func (r *replica) told() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reports)
}

// kill ends a process as a crash does.
func (f *fleet) kill(r *replica) {
	r.dying.Store(true)
	f.mu.Lock()
	f.living = slices.DeleteFunc(f.living, func(l *replica) bool { return l == r })
	f.mu.Unlock()
	_ = r.cmd.Process.Kill() // SIGKILL
	<-r.ended
}

// killAny kills any replica but the last one, and has another started in its place, as
// what supervises services does: again and again, until it serves.
func (f *fleet) killAny() {
	f.mu.Lock()
	var r *replica
	if len(f.living) > 1 {
		r = f.living[rand.IntN(len(f.living))]
	}
	f.mu.Unlock()
	if r == nil {
		return
	}
	f.kill(r)
	f.restarts.Go(func() {
		for !f.over.Load() {
			time.Sleep(200 * time.Millisecond)
			if _, err := f.start(); err == nil {
				return
			}
		}
	})
}

// signal sends a signal to replicas.
func (f *fleet) signal(s syscall.Signal, replicas ...*replica) {
	f.t.Helper()
	for _, r := range replicas {
		check(f.t, r.cmd.Process.Signal(s))
	}
}

// stop ends all processes.
func (f *fleet) stop() {
	f.over.Store(true)
	f.restarts.Wait()
	for _, r := range f.replicas() {
		f.kill(r)
	}
}

// replicas returns those that live.
func (f *fleet) replicas() []*replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.living)
}

// processes returns all that have ever served.
func (f *fleet) processes() []*replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

var errNoneLives = errors.New("no replica lives")

// any returns one of those that live, at random.
func (f *fleet) any() (*replica, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.living) == 0 {
		return nil, errNoneLives
	}
	return f.living[rand.IntN(len(f.living))], nil
}

// events counts what the replicas have told of their rings, by type.
func (f *fleet) events() map[keyring.EventType]int {
	n := make(map[keyring.EventType]int)
	for _, r := range f.processes() {
		for _, told := range r.told() {
			if told.Kind == happened {
				n[told.Event]++
			}
		}
	}
	return n
}

// refusals counts the calls that the replicas have refused, by code.
func (f *fleet) refusals() map[string]int {
	n := make(map[string]int)
	for _, r := range f.processes() {
		for _, told := range r.told() {
			if told.Kind == refused {
				n[told.Error]++
			}
		}
	}
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
