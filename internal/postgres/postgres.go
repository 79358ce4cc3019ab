//go:build unix

// Package postgres runs a PostgreSQL server for tests, on loopback, with the
// programs of the system's packages. It speaks through the driver "pgx", which the
// tests import: github.com/jackc/pgx/v5/stdlib.
package postgres

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Server is a PostgreSQL server that can be stopped and started again.
type Server struct {
	t    testing.TB
	bin  string
	dir  string
	port int
	cred *syscall.Credential
}

// Start makes a new cluster and starts it. It is stopped and removed with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, bin: programs(t), port: freePort(t)}
	dir, err := os.MkdirTemp("", "sealhttp-postgres")
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() {
		s.run("pg_ctl", "-D", s.dir, "-m", "immediate", "stop")
		_ = os.RemoveAll(s.dir)
	})
	if os.Getuid() == 0 { // the server refuses to run as root
		s.cred = credential(t)
		if err := os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.must("initdb", "-D", s.dir, "-A", "trust", "-U", "postgres", "--no-sync")
	s.StartAgain()
	return s
}

// programs returns the folder of PostgreSQL's programs, which the system's package
// keeps out of PATH.
func programs(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: these tests need a real one (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(slices.Max(found))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func credential(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// StartAgain starts the server after [Server.Stop].
func (s *Server) StartAgain() {
	s.t.Helper()
	s.must("pg_ctl", "-D", s.dir, "-w", "-l", filepath.Join(s.dir, "log"), "-o",
		fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200", s.port), "start")
}

// Stop stops the server at once, as a crash does.
func (s *Server) Stop() {
	s.t.Helper()
	s.must("pg_ctl", "-D", s.dir, "-m", "immediate", "-w", "stop")
}

// Addr is where the server listens.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// DSN is the data source name, for the driver "pgx", of a database of a server that is
// reached at an address: its own, or that of a proxy before it.
func DSN(addr, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=2", addr, database)
}

// Open connects to a new database of the server.
func (s *Server) Open(name string) *sql.DB {
	s.t.Helper()
	admin, err := sql.Open("pgx", DSN(s.Addr(), "postgres"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(`CREATE DATABASE "` + name + `"`); err != nil {
		s.t.Fatal(err)
	}
	db, err := sql.Open("pgx", DSN(s.Addr(), name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (s *Server) must(program string, args ...string) {
	s.t.Helper()
	if out, err := s.run(program, args...); err != nil {
		s.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (s *Server) run(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	// The server inherits what pg_ctl has: a pipe would never be closed.
	log, err := os.CreateTemp("", "sealhttp-"+program)
	if err != nil {
		return nil, err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	out, _ := os.ReadFile(log.Name())
	return out, err
}
