package sqlstore_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// A standby that is promoted has none of the ids, and begins anew.
func TestReplayGuardPromotion(t *testing.T) {
	server := postgres.Start(t)
	db := server.Open("promotion")
	migrated(t, db, sqlstore.PostgreSQL)
	replayInsert(t, replayGuard(t, db, sqlstore.PostgreSQL), replayEntry("ada"), nil)
	addr, promote := standby(t, server)
	awaitSecond()
	lost(t, db, func(db *sql.DB, last func()) *sql.DB {
		last()
		promote()
		db, err := sql.Open("pgx", postgres.DSN(addr, "promotion"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		var rows int
		if err := reconnected(t, db).QueryRow(`SELECT count(*) FROM sealhttp_replay`).Scan(&rows); err != nil || rows != 0 {
			t.Fatalf("after the promotion there are %d rows, %v; want none", rows, err)
		}
		return db
	})
}

// standby starts a standby of a server, and returns where it listens and how to promote
// it.
func standby(t *testing.T, server *postgres.Server) (addr string, promote func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealhttp-standby")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cred := new(syscall.SysProcAttr)
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		cred.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data, log := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	run := func(program string, args ...string) {
		t.Helper()
		if path, err := exec.LookPath(program); err == nil {
			program = path
		} else if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program); len(found) > 0 {
			program = found[len(found)-1]
		}
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.SysProcAttr = dir, cred
		if err := cmd.Run(); err != nil {
			out, _ := os.ReadFile(log)
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	port := free.Addr().(*net.TCPAddr).Port
	run("pg_basebackup", "--dbname", postgres.DSN(server.Addr(), "postgres"), "-D", data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	run("pg_ctl", "-D", data, "-w", "-l", log, "-o",
		fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200", port), "start")
	t.Cleanup(func() { run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop") })
	return free.Addr().String(), func() { run("pg_ctl", "-D", data, "-w", "promote") }
}
