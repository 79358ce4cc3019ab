// Package redisserver runs Redis or Valkey servers for tests, on loopback, with the
// programs of the system's packages.
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a server that can be stopped and started again.
type Server struct {
	Addr string // host and port

	t       testing.TB
	program string
	dir     string
	args    []string
	cmd     *exec.Cmd
}

// Programs returns the servers that are installed: redis-server, valkey-server or both.
// That there is none fails the test.
func Programs(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"redis-server", "valkey-server"} {
		if _, err := exec.LookPath(name); err == nil {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		t.Fatal("neither Redis nor Valkey is installed: these tests need a real one (Debian: apt-get install redis-server)")
	}
	return found
}

// Start starts a server with an empty memory, which it does not persist, unless args
// say so: "--appendonly", "yes". It is stopped and removed with the test.
func Start(t testing.TB, program string, args ...string) *Server {
	t.Helper()
	port := freePort(t)
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), t: t, program: program}
	dir, err := os.MkdirTemp("", "sealhttp-redis")
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	s.args = append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--daemonize", "no", "--logfile", "log"}, args...)
	t.Cleanup(func() {
		s.Stop()
		_ = os.RemoveAll(dir)
	})
	s.StartAgain()
	return s
}

// freePort returns a port that is free, and the port 10,000 above it, which a cluster's
// servers speak to each other on.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(12_000)
		a, errA := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		b, errB := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10_000))
		if errA == nil {
			_ = a.Close()
		}
		if errB == nil {
			_ = b.Close()
		}
		if errA == nil && errB == nil {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// StartAgain starts the server after [Server.Stop], with what it has on disk.
func (s *Server) StartAgain() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Dir = s.dir
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 1000 {
		if out, err := s.ask("PING"); err == nil && strings.HasPrefix(out, "+PONG") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("%s does not answer:\n%s", s.program, log)
}

// ask sends a command and returns the first bytes of the answer.
func (s *Server) ask(command string) (string, error) {
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// Stop stops the server at once, as a crash does.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Hang makes the server do nothing, with its connections open, until the function that
// it returns is called.
func (s *Server) Hang() (resume func()) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Error(err)
		}
	}
}

// Dir is the folder of what the server has on disk.
func (s *Server) Dir() string { return s.dir }

// StartCluster starts a cluster of three masters.
func StartCluster(t testing.TB, program string) []*Server {
	t.Helper()
	var servers []*Server
	args := []string{"--cluster", "create"}
	for range 3 {
		s := Start(t, program, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
		servers = append(servers, s)
		args = append(args, s.Addr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cli := strings.Replace(program, "-server", "-cli", 1)
	out, err := exec.CommandContext(ctx, cli, append(args, "--cluster-yes")...).CombinedOutput()
	if err != nil {
		t.Fatal(errors.Join(err, errors.New(string(out))))
	}
	AwaitCluster(t, servers)
	return servers
}

// AwaitCluster waits until all servers of a cluster say that it is whole.
func AwaitCluster(t testing.TB, servers []*Server) {
	t.Helper()
	for _, s := range servers {
		for i := 0; ; i++ {
			if out, err := s.ask("CLUSTER INFO"); err == nil && strings.Contains(out, "cluster_state:ok") {
				break
			}
			if i == 3000 {
				t.Fatal("the cluster does not become whole")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
