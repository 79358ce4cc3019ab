// Package eventstest tests the programs that mount the events API: each as a
// process, called over HTTP/1.1 and HTTP/2, in plaintext and sealed.
package eventstest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Run builds the program in the working directory and tests it.
func Run(t *testing.T) {
	program := Build(t, ".")
	for name, protocols := range map[string]func(*http.Protocols, bool){
		"HTTP/1.1": (*http.Protocols).SetHTTP1,
		"HTTP/2":   (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			wire := &wire{transport: http.Transport{Protocols: new(http.Protocols)}}
			protocols(wire.transport.Protocols, true)
			wire.transport.DialContext = wire.dial
			t.Cleanup(wire.transport.CloseIdleConnections)
			check(t, Start(t, program), wire)
		})
	}
}

// Build builds the program in a directory, with the race detector if the test has it.
func Build(t *testing.T, dir string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "program")
	args := []string{"build", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return program
}

// Server is a program that serves.
type Server struct {
	URL    string
	Keyset string // its public key, as a Tink keyset
	output output
}

// Start starts a program that [Build] has built, on a free port, and waits until it
// listens. At the end of the test it is told to stop, and must do so without an error.
func Start(t *testing.T, program string) *Server {
	t.Helper()
	s := new(Server)
	cmd := exec.Command(program, "-addr", "127.0.0.1:0")
	cmd.Stderr = &s.output
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for s.URL == "" || s.Keyset == "" {
		if !lines.Scan() {
			t.Fatalf("the program does not listen: %v\n%s", cmd.Wait(), s.output.String())
		}
		if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			s.URL = url
		}
		if keyset, ok := strings.CutPrefix(lines.Text(), "public key "); ok {
			s.Keyset = keyset
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			fmt.Fprintln(&s.output, lines.Text())
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		defer kill.Stop()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended with %v\n%s", err, s.output.String())
		}
	})
	return s
}

// output is what a program has printed since it listens.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wire is a transport that keeps what goes over its connections, both ways.
type wire struct {
	transport http.Transport
	mu        sync.Mutex
	bytes     []byte
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return tapped{conn, w}, err
}

// taken returns what went over since it was called last.
func (w *wire) taken() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.bytes
	w.bytes = nil
	return b
}

func (w *wire) keep(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes = append(w.bytes, p...)
}

type tapped struct {
	net.Conn
	wire *wire
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.keep(p[:n])
	return n, err
}

func (c tapped) Write(p []byte) (int, error) {
	c.wire.keep(p)
	return c.Conn.Write(p)
}
