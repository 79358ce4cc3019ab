package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server is a process under load.
type server struct {
	cmd       *exec.Cmd
	output    string // a file
	url       string
	publicKey string // a Tink keyset, of the examples
}

// start starts a program that prints where it listens.
func (r *run) start(stdin []byte, program string, args ...string) (*server, error) {
	if r.pinned {
		program, args = "taskset", append([]string{"-c", serverCores, program}, args...)
	}
	file, err := os.CreateTemp(r.dir, "output")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	s := &server{cmd: exec.Command(program, args...), output: file.Name()}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = bytes.NewReader(stdin), file, file
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		text, err := os.ReadFile(s.output)
		if err != nil {
			s.stop()
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if url, ok := strings.CutPrefix(line, "listening on "); ok {
				s.url = strings.TrimSpace(url)
			}
			if key, ok := strings.CutPrefix(line, "public key "); ok {
				s.publicKey = strings.TrimSpace(key)
			}
		}
		if s.url != "" && strings.HasSuffix(string(text), "\n") {
			return s, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	text, _ := os.ReadFile(s.output)
	return nil, fmt.Errorf("%s does not say where it listens: %s", filepath.Base(program), text)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait() // it was told to end
}

// cpu returns the time that the process has spent on cores.
func (s *server) cpu() (time.Duration, error) {
	const scheduled = 2                               // to the nanosecond
	clock := int32(^s.cmd.Process.Pid<<3 | scheduled) // clock_getcpuclockid(3)
	var t unix.Timespec
	err := unix.ClockGettime(clock, &t)
	return time.Duration(t.Nano()), err
}

// peak returns the most memory that the process has had resident, in KiB.
func (s *server) peak() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		}
	}
	return 0, errors.New("/proc/PID/status has no VmHWM")
}
