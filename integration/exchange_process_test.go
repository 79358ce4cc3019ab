package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// exchangeVariable is the environment variable that makes this binary one of the
// processes that the tests of the exchange profile start. It holds an exchangePart.
const exchangeVariable = "SEALHTTP_INTEGRATION_EXCHANGE"

// exchangePart is what such a process is to be: a service, or a caller of one.
type exchangePart struct {
	Service *serviceConfig `json:",omitempty"`
	Caller  *callerConfig  `json:",omitempty"`
}

// TestMain looks for its own variable only.
func init() {
	encoded := os.Getenv(exchangeVariable)
	if encoded == "" {
		return
	}
	if err := runPart(encoded); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runPart is a process's life. It ends with the test that has started it.
func runPart(encoded string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var part exchangePart
	if err := json.Unmarshal([]byte(encoded), &part); err != nil {
		return err
	}
	if part.Caller != nil {
		return part.Caller.run()
	}
	return part.Service.run()
}

// process is a program that a test has started, and that ends with it.
type process struct {
	cmd    *exec.Cmd
	stderr lockedBuffer
	told   *json.Decoder // of its standard output
	ended  chan struct{}
}

// startProcess starts this binary as a part, and reads the first of what it tells.
func startProcess(t *testing.T, part exchangePart, first any) *process {
	t.Helper()
	config, err := json.Marshal(part)
	check(t, err)
	p := &process{cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), exchangeVariable+"="+string(config))
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe() // its end tells the process that this one has ended
	check(t, err)
	stdout, err := p.cmd.StdoutPipe()
	check(t, err)
	p.told = json.NewDecoder(bufio.NewReader(stdout))
	check(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		p.kill()
	})
	p.tell(t, first)
	return p
}

// tell reads the next of what the process tells.
func (p *process) tell(t *testing.T, v any) {
	t.Helper()
	read := make(chan error, 1)
	go func() { read <- p.told.Decode(v) }()
	select {
	case err := <-read:
		if err != nil {
			t.Fatalf("a process tells nothing: %v\n%s", err, &p.stderr)
		}
	case <-time.After(time.Minute):
		t.Fatalf("a process tells nothing for a minute:\n%s", &p.stderr)
	}
}

// kill ends the process as a crash does.
func (p *process) kill() {
	select {
	case <-p.ended:
	default:
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		close(p.ended)
	}
}

// usedPorts are those that this process has been given.
var usedPorts sync.Map

// freePort returns a port that is free, and that no connection is given by the system.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, used := usedPorts.LoadOrStore(port, true); !used {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
