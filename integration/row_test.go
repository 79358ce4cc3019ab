package integration_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
)

func TestRow(t *testing.T) {
	server := postgres.Start(t)
	for name, test := range map[string]func(*testing.T, *postgres.Server){
		"deleted":              testRowDeleted,
		"deleted and remade":   testRowDeletedAndRemade,
		"deleted after revoke": testRowDeletedAfterRevoke,
		"restored":             testRowRestored,
		"altered":              testRowAltered,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// rare is a schedule by which nothing happens in a test.
var rare = keyring.Schedule{Every: 2 * time.Hour, Lead: 500 * time.Millisecond, Overlap: time.Hour}

// The ring's row is deleted under replicas that run, again and again. They go on with
// the keys that they have; one of them writes them back, and tells so.
func testRowDeleted(t *testing.T, server *postgres.Server) {
	db := server.Open("deleted")
	newDatabase(t, db)
	f := startFleet(t, 3, postgres.DSN(server.Addr(), "deleted"), schedule, reload, validity, time.Hour)
	l := newLoad(t, f, 12)
	l.start(20 * time.Millisecond)
	times := 6
	if testing.Short() {
		times = 2
	}
	for range times {
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		_, err := db.Exec(`DELETE FROM sealhttp_keyrings`)
		check(t, err)
		eventually(t, "the row is back", func() bool { return len(row(t, db)) > 0 })
	}
	time.Sleep(4 * reload) // for all to see it
	seen := primary(t, f)
	eventually(t, "the ring rotates", func() bool { return primary(t, f) != seen })
	l.stop()
	f.stop()

	states := history(t, db)
	checkHistory(t, states, schedule.Overlap)
	checkAudit(t, states)
	reinstated := 0
	for i := range states {
		if states[i].reinstated() {
			reinstated++
		}
	}
	if told := f.events()[keyring.EventReinstated]; reinstated < times || told != reinstated {
		t.Errorf("the row was deleted %d times, written back %d times, and told of %d times", times, reinstated, told)
	}
	t.Logf("%d times deleted, and %d times written back", times, reinstated)
	logTold(t, f)
}

// ringer is a fleet whose ring changes only when an operator says so, and a caller that
// calls with any key.
type ringer struct {
	t  *testing.T
	db *sql.DB
	*fleet
	own *seal.PrivateKey
}

const ringerAccount = "ringer"

func newRinger(t *testing.T, server *postgres.Server, database string) *ringer {
	t.Helper()
	db := server.Open(database)
	newDatabase(t, db)
	f := startFleet(t, 3, postgres.DSN(server.Addr(), database), rare, reload, validity, time.Hour)
	own, err := seal.GenerateKey(seal.X25519AES256GCM)
	check(t, err)
	check(t, registerPrivate(f, ringerAccount, own, nil))
	return &ringer{t, db, f, own}
}

// key returns the primary that a replica publishes.
func (r *ringer) key(of *replica) *seal.PublicKey {
	r.t.Helper()
	resp, err := http.Get(of.url + "/keys")
	document, err := content(resp, err)
	check(r.t, err)
	set, err := publish.Verify(document, serviceName, time.Now(), r.pin())
	check(r.t, err)
	return set.Keys[0]
}

// agree waits until all replicas publish one primary, and returns it.
func (r *ringer) agree(want func(*seal.PublicKey) bool) *seal.PublicKey {
	r.t.Helper()
	var key *seal.PublicKey
	eventually(r.t, "the replicas agree", func() bool {
		replicas := r.replicas()
		key = r.key(replicas[0])
		for _, other := range replicas[1:] {
			if !key.Equal(r.key(other)) {
				return false
			}
		}
		return want(key)
	})
	return key
}

// opens checks that every replica opens what is sealed to a key, or that none does.
func (r *ringer) opens(key *seal.PublicKey, want bool) {
	r.t.Helper()
	for i, replica := range r.replicas() {
		err := callWith(key, r.own, replica.url, ringerAccount)
		if want && err != nil || !want && !errors.Is(err, sealhttp.CodeUnknownKey) {
			r.t.Errorf("replica %d, key %d: %v; want it to open: %v", i, key.ID(), err, want)
		}
	}
}

// revoke has an operator revoke a key at a replica.
func (r *ringer) revoke(key *seal.PublicKey, at *replica) {
	r.t.Helper()
	_, err := post(http.DefaultClient, fmt.Sprintf("%s/operator/revoke/%d", at.url, key.ID()), "operator", "")
	check(r.t, err)
}

// saw waits until so many of the replicas have told an event.
func (r *ringer) saw(event keyring.EventType, times int) {
	r.t.Helper()
	eventually(r.t, "the replicas tell "+string(event), func() bool { return r.events()[event] >= times })
}

func anyKey(*seal.PublicKey) bool { return true }

func not(key *seal.PublicKey) func(*seal.PublicKey) bool {
	return func(k *seal.PublicKey) bool { return !k.Equal(key) }
}

// The row is deleted, and before the replicas that run have seen it, another one starts
// and makes a ring of its own. It has to give way.
func testRowDeletedAndRemade(t *testing.T, server *postgres.Server) {
	r := newRinger(t, server, "remade")
	key := r.agree(anyKey)
	before := r.replicas()
	r.signal(syscall.SIGSTOP, before...)
	_, err := r.db.Exec(`DELETE FROM sealhttp_keyrings`)
	check(t, err)
	time.Sleep(time.Second) // serials count seconds: the new ring's is the greater one
	newcomer, err := r.start()
	check(t, err)
	wrong := r.key(newcomer)
	if wrong.Equal(key) {
		t.Fatal("the test shows nothing")
	}
	r.signal(syscall.SIGCONT, before...)
	r.agree(key.Equal)
	r.opens(key, true)
	r.opens(wrong, false)
	r.saw(keyring.EventReinstated, 1)
	late, err := r.start()
	check(t, err)
	if got := r.key(late); !got.Equal(key) {
		t.Errorf("who starts now has key %d, not %d", got.ID(), key.ID())
	}
}

// A key is revoked at one replica, and before the others have heard of it the row is
// deleted, and one of them writes it back. What was revoked stays revoked.
func testRowDeletedAfterRevoke(t *testing.T, server *postgres.Server) {
	r := newRinger(t, server, "revoked")
	first := r.agree(anyKey)
	knows, others := r.replicas()[0], r.replicas()[1:]
	r.signal(syscall.SIGSTOP, others...)
	r.revoke(first, knows)
	second := r.key(knows)
	r.signal(syscall.SIGSTOP, knows)
	_, err := r.db.Exec(`DELETE FROM sealhttp_keyrings`)
	check(t, err)
	time.Sleep(2 * time.Second) // serials count seconds: what is written now is not to be newer
	r.signal(syscall.SIGCONT, others...)
	r.saw(keyring.EventReinstated, 1)
	r.signal(syscall.SIGCONT, knows)
	r.saw(keyring.EventReinstated, 2)
	r.agree(second.Equal)
	r.opens(second, true)
	r.opens(first, false)
}

// An older state of the row is put back, as from a backup. What was revoked since stays
// revoked, and what was made since is not lost.
func testRowRestored(t *testing.T, server *postgres.Server) {
	r := newRinger(t, server, "restored")
	first := r.agree(anyKey)
	backup := row(t, r.db)
	revision := revisionOf(t, r.db)
	r.revoke(first, r.replicas()[0])
	second := r.agree(not(first))
	l := newLoad(t, r.fleet, 4)
	l.start(10 * time.Millisecond)
	_, err := r.db.Exec(`UPDATE sealhttp_keyrings SET revision = $1, data = $2`, revision, backup)
	check(t, err)
	r.saw(keyring.EventReinstated, 1)
	r.agree(second.Equal)
	r.opens(second, true)
	r.opens(first, false)
	l.stop()
	if n := r.refusals()["unknown_key"]; n != len(r.replicas()) {
		t.Errorf("%d calls were refused, not only those that were to be", n)
	}
}

// The row is altered. The replicas that run refuse it, say so, overwrite nothing, and go
// on; who starts does not. When it is put right, all is as it was.
func testRowAltered(t *testing.T, server *postgres.Server) {
	r := newRinger(t, server, "altered")
	key := r.agree(anyKey)
	l := newLoad(t, r.fleet, 4)
	l.start(10 * time.Millisecond)
	right := row(t, r.db)
	newer := bytes.Replace(right, []byte(`"serial": 1`), []byte(`"serial": 2`), 1)
	for _, data := range [][]byte{newer, []byte("{}"), {}} {
		before := r.events()
		_, err := r.db.Exec(`UPDATE sealhttp_keyrings SET data = $1`, data)
		check(t, err)
		replicas := len(r.replicas())
		r.saw(keyring.EventStateRefused, before[keyring.EventStateRefused]+replicas)
		if _, err := r.start(); err == nil || !strings.Contains(err.Error(), keyring.ErrCorrupt.Error()) {
			t.Errorf("one that starts says %v", err)
		}
		if now := row(t, r.db); !bytes.Equal(now, data) {
			t.Errorf("what was altered was overwritten with %q", now)
		}
		r.opens(key, true)
		_, err = r.db.Exec(`UPDATE sealhttp_keyrings SET data = $1`, right)
		check(t, err)
		r.saw(keyring.EventStateAccepted, before[keyring.EventStateAccepted]+replicas)
	}
	l.stop()
	r.revoke(key, r.replicas()[0])
	r.opens(r.agree(not(key)), true)
}

// row returns what is stored of the ring, nil if nothing is.
func row(t *testing.T, db *sql.DB) (data []byte) {
	t.Helper()
	err := db.QueryRow(`SELECT data FROM sealhttp_keyrings`).Scan(&data)
	if !errors.Is(err, sql.ErrNoRows) {
		check(t, err)
	}
	return data
}

func revisionOf(t *testing.T, db *sql.DB) (revision int64) {
	t.Helper()
	check(t, db.QueryRow(`SELECT revision FROM sealhttp_keyrings`).Scan(&revision))
	return revision
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never comes to that %s", what)
		}
	}
}
