package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/replaytest"
	"github.com/sealhttp/sealhttp/sqlstore"
)

func replayGuard(t testing.TB, db *sql.DB, dialect sqlstore.Dialect, opts ...sqlstore.Option) sealhttp.ReplayGuard {
	t.Helper()
	store, err := sqlstore.New(db, dialect, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return store.ReplayGuard()
}

func replayEntry(caller string) sealhttp.ReplayEntry {
	e := sealhttp.ReplayEntry{Caller: caller, Time: time.Now().Add(time.Minute), TTL: 12 * time.Minute}
	_, _ = rand.Read(e.ID[:])
	return e
}

func replayInsert(t testing.TB, g sealhttp.ReplayGuard, e sealhttp.ReplayEntry, want error) {
	t.Helper()
	if err := g.Insert(t.Context(), e); !errors.Is(err, want) {
		t.Fatalf("Insert: got %v, want %v", err, want)
	}
}

func TestReplayGuard(t *testing.T) {
	server := postgres.Start(t)
	n := 0
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			replaytest.Test(t, func(t *testing.T) replaytest.Fixture {
				f := replaytest.Fixture{Capacity: 1024}
				var db *sql.DB
				if d.dialect == sqlstore.PostgreSQL {
					n++
					db = server.Open(fmt.Sprint("replay", n))
					f.Disconnect = func(t *testing.T) {
						server.Stop()
						t.Cleanup(server.StartAgain)
					}
				} else {
					db = d.open(t)
					f.Disconnect = func(t *testing.T) { _ = db.Close() }
				}
				migrated(t, db, d.dialect)
				f.Open = func(t *testing.T) sealhttp.ReplayGuard {
					return replayGuard(t, db, d.dialect, sqlstore.WithReplayCapacity(1024))
				}
				return f
			})
		})
	}
}

// awaitSecond waits until a whole second has begun since now.
func awaitSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

// Whatever takes the memory, or a part of it, what was taken is not taken again.
func TestReplayGuardLoss(t *testing.T) {
	server := postgres.Start(t)
	newMemory := func(t *testing.T, name string) *sql.DB {
		db := server.Open(name)
		migrated(t, db, sqlstore.PostgreSQL)
		return db
	}
	for name, lose := range map[string]func(t *testing.T, db *sql.DB, name string, last func()) *sql.DB{
		"crash": func(t *testing.T, db *sql.DB, name string, last func()) *sql.DB {
			last()
			server.Stop()
			server.StartAgain()
			var rows int
			if err := reconnected(t, db).QueryRow(`SELECT count(*) FROM sealhttp_replay`).Scan(&rows); err != nil || rows != 0 {
				t.Fatalf("after a crash there are %d rows, %v; want none", rows, err)
			}
			return db
		},
		"truncated": func(t *testing.T, db *sql.DB, name string, last func()) *sql.DB {
			last()
			mustExec(t, db, `TRUNCATE sealhttp_replay`)
			return db
		},
		// A dump, of which the old server has taken one more since.
		"restored from a dump": func(t *testing.T, db *sql.DB, name string, last func()) *sql.DB {
			dump, err := exec.Command("pg_dump", "--dbname", postgres.DSN(server.Addr(), name)).Output()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(dump), "infinity") {
				t.Fatal("the dump has not got the memory in it")
			}
			last()
			other := server.Open(name + "_restored")
			psql := exec.Command("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", postgres.DSN(server.Addr(), name+"_restored"))
			psql.Stdin = strings.NewReader(string(dump))
			if out, err := psql.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return other
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := strings.ReplaceAll("loss_"+name, " ", "_")
			db := newMemory(t, base)
			for range 10 {
				replayInsert(t, replayGuard(t, db, sqlstore.PostgreSQL), replayEntry("ada"), nil)
			}
			awaitSecond()
			lost(t, db, func(db *sql.DB, last func()) *sql.DB { return lose(t, db, base, last) })
		})
	}
}

// lost inserts an id, lets it be lost, and wants it not to be taken again.
func lost(t *testing.T, db *sql.DB, lose func(db *sql.DB, last func()) *sql.DB) {
	t.Helper()
	e := replayEntry("ada")
	db = lose(db, func() {
		e.Time = time.Now()
		replayInsert(t, replayGuard(t, db, sqlstore.PostgreSQL), e, nil)
	})
	g := replayGuard(t, db, sqlstore.PostgreSQL)
	if found, err := g.Contains(t.Context(), e.ID); err != nil || found {
		t.Fatalf("nothing was lost: Contains is %v, %v", found, err)
	}
	awaitSecond()
	// The memory begins with many at once, and none of them takes it.
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := g.Insert(t.Context(), e); !errors.Is(err, sealhttp.CodeStale) {
				t.Errorf("Insert: got %v, want CodeStale", err)
			}
		})
	}
	wg.Wait()
	e.Time = time.Now()
	replayInsert(t, g, e, nil)
	replayInsert(t, g, e, sealhttp.CodeReplayed)
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

// reconnected waits until a server that was started again is ready.
func reconnected(t *testing.T, db *sql.DB) *sql.DB {
	t.Helper()
	for range 1000 {
		if db.Ping() == nil {
			return db
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server is not ready")
	return nil
}

// A server that was stopped in good order keeps its unlogged tables. So does a copy of
// its files, which may be older than the last request that was taken.
func TestReplayGuardServerStart(t *testing.T) {
	server := postgres.Start(t)
	db := server.Open("start")
	migrated(t, db, sqlstore.PostgreSQL)
	g := replayGuard(t, db, sqlstore.PostgreSQL)
	e := replayEntry("ada")
	replayInsert(t, g, e, nil)
	mustExec(t, db, `UPDATE sealhttp_replay SET server = server - interval '1 day', written = pg_current_xact_id() WHERE id = ''`)
	awaitSecond()
	other := replayEntry("ada")
	other.Time = time.Now().Add(-time.Second)
	replayInsert(t, g, other, sealhttp.CodeStale)
	replayInsert(t, g, e, sealhttp.CodeReplayed)
	other.Time = time.Now()
	replayInsert(t, g, other, nil)
}

// On SQLite each process begins a memory, for what a power failure took from the last.
func TestReplayGuardSQLiteProcesses(t *testing.T) {
	db := databases(t)[1].open(t)
	migrated(t, db, sqlstore.SQLite)
	first := replayGuard(t, db, sqlstore.SQLite)
	taken, other := replayEntry("ada"), replayEntry("ada")
	taken.Time, other.Time = time.Now(), time.Now()
	replayInsert(t, first, taken, nil)
	awaitSecond()
	second := replayGuard(t, db, sqlstore.SQLite)
	replayInsert(t, second, other, sealhttp.CodeStale)
	replayInsert(t, first, other, sealhttp.CodeStale) // they share it
	replayInsert(t, second, taken, sealhttp.CodeReplayed)
	other.Time = time.Now()
	replayInsert(t, first, other, nil)

	// Someone empties the table.
	mustExec(t, db, `DELETE FROM sealhttp_replay`)
	taken.Time = time.Now()
	awaitSecond()
	replayInsert(t, first, taken, sealhttp.CodeStale)
	replayInsert(t, second, replayEntry("ada"), nil)
}

// replayFill inserts for five callers until so many ids are in, and then no more fit.
func replayFill(t *testing.T, g sealhttp.ReplayGuard, ttl time.Duration, want int) {
	t.Helper()
	n := 0
	for i, over := 0, 0; i < 5000 && over < 50; i++ {
		e := replayEntry(fmt.Sprint("caller", i%5))
		e.TTL = ttl
		err := g.Insert(t.Context(), e)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, sealhttp.ErrReplayGuardFull):
			t.Fatal(err)
		}
		if n == want {
			over++
		}
	}
	if n != want {
		t.Fatalf("%d ids fit, want %d", n, want)
	}
}

// What has expired makes room, for its caller and for all, and its rows go.
func TestReplayGuardRoomAgain(t *testing.T) {
	const slice = 500 * time.Millisecond
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			t.Parallel()
			db := d.open(t)
			migrated(t, db, d.dialect)
			g := replayGuard(t, db, d.dialect, sqlstore.WithReplayCapacity(1024))
			sqlstore.SetReplaySlice(g, slice)
			if d.dialect == sqlstore.SQLite {
				db.SetMaxOpenConns(1)
				mustExec(t, db, `PRAGMA synchronous=off`)
			}
			const others = 100
			start := time.Now()
			for i := range others {
				replayInsert(t, g, replayEntry(fmt.Sprint("caller", i%5)), nil)
			}
			ttl := max(4*time.Second, 20*time.Since(start)) // twice as long as the rest takes
			for range 2 {
				replayFill(t, g, ttl, 1024-others)
				time.Sleep(ttl + slice)
			}
			// Each insert, on average, takes more away than it brings.
			rows := 2 * 1024
			for range 3000 {
				e := replayEntry("joan")
				e.TTL = time.Millisecond
				replayInsert(t, g, e, nil)
				if err := db.QueryRow(`SELECT count(*) FROM sealhttp_replay`).Scan(&rows); err != nil {
					t.Fatal(err)
				}
				if rows < others+200 {
					break
				}
				time.Sleep(2 * time.Millisecond)
			}
			if rows >= others+200 {
				t.Errorf("%d rows are left", rows)
			}
			var counts int
			if err := db.QueryRow(`SELECT count(*) FROM sealhttp_replay_counts`).Scan(&counts); err != nil || counts > 100 {
				t.Errorf("%d rows of counts are left, %v", counts, err)
			}
		})
	}
}

// Over a capacity of 4096 ids are counted by sample.
func TestReplayGuardSample(t *testing.T) {
	d := databases(t)[0]
	db := d.open(t)
	migrated(t, db, d.dialect)
	const capacity = 40_000
	g := replayGuard(t, db, d.dialect, sqlstore.WithReplayCapacity(capacity))
	var mu sync.Mutex
	n := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range capacity / 8 {
				err := g.Insert(t.Context(), replayEntry("ada"))
				if errors.Is(err, sealhttp.ErrReplayGuardFull) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n < capacity/4*85/100 || n > capacity/4*115/100 {
		t.Errorf("one caller got %d of %d, want a quarter to within 10 percent or so", n, capacity)
	}
	var bytes int
	if err := db.QueryRow(`SELECT pg_total_relation_size('sealhttp_replay')`).Scan(&bytes); err != nil || bytes/n < 100 || bytes/n > 300 {
		t.Errorf("an id takes %d bytes, %v; said to be some 140", bytes/n, err)
	}
}

// A database that hangs counts as one that is down.
func TestReplayGuardTimeout(t *testing.T) {
	d := databases(t)[0]
	db := d.open(t)
	migrated(t, db, d.dialect)
	g := replayGuard(t, db, d.dialect, sqlstore.WithTimeout(200*time.Millisecond))
	blocker, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Rollback() //nolint:errcheck
	if _, err := blocker.Exec(`LOCK TABLE sealhttp_replay IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if err := g.Insert(t.Context(), replayEntry("ada")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Insert: got %v, want context.DeadlineExceeded", err)
	}
	if _, err := g.Contains(t.Context(), [16]byte{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Contains: got %v, want context.DeadlineExceeded", err)
	}
}

func TestReplayGuardNotMigrated(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			g := replayGuard(t, d.open(t), d.dialect)
			err := g.Insert(t.Context(), replayEntry("ada"))
			if err == nil || errors.Is(err, sealhttp.CodeReplayed) || errors.Is(err, sealhttp.CodeStale) {
				t.Errorf("Insert: got %v, want another error", err)
			}
			if found, err := g.Contains(t.Context(), [16]byte{}); err == nil {
				t.Errorf("Contains: got %v, want an error", found)
			}
		})
	}
}

func TestReplayCapacityTooSmall(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.WithReplayCapacity(1023)); err == nil || !strings.Contains(err.Error(), "WithReplayCapacity") {
		t.Errorf("got %v, want an error that says WithReplayCapacity", err)
	}
}

// An insert writes nothing ahead, and waits for no disk.
func TestReplayGuardWAL(t *testing.T) {
	d := databases(t)[0]
	db := d.open(t)
	migrated(t, db, d.dialect)
	g := replayGuard(t, db, d.dialect)
	replayInsert(t, g, replayEntry("ada"), nil)
	position := func() (bytes int64) {
		if err := db.QueryRow(`SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	before := position()
	const ids = 1000
	for range ids {
		replayInsert(t, g, replayEntry("ada"), nil)
	}
	if each := (position() - before) / ids; each > 100 {
		t.Errorf("an insert writes %d bytes ahead, want no more than the commit", each)
	}
}

// BenchmarkReplayGuard is one insert on a server of this machine, beside its floor:
// SELECT 1. With goroutines=all, many are under way at once. SQLite's floor is a row
// that is replaced.
func BenchmarkReplayGuard(b *testing.B) {
	server := postgres.Start(b)
	pg := server.Open("bench")
	pg.SetMaxIdleConns(32)
	lite, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "bench.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		b.Fatal(err)
	}
	defer lite.Close()
	lite.SetMaxOpenConns(1)
	for _, d := range []struct {
		dialect sqlstore.Dialect
		db      *sql.DB
		floor   string
	}{
		{sqlstore.PostgreSQL, pg, `SELECT 1`},
		{sqlstore.SQLite, lite, `REPLACE INTO sealhttp_migrations (name) VALUES ('x')`},
	} {
		store, err := sqlstore.New(d.db, d.dialect)
		if err != nil {
			b.Fatal(err)
		}
		if err := store.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		g := store.ReplayGuard()
		for by, op := range map[string]func() error{
			"sealhttp": func() error { return g.Insert(b.Context(), replayEntry("ada")) },
			"floor":    func() error { _, err := d.db.ExecContext(b.Context(), d.floor); return err },
		} {
			name := fmt.Sprintf("database=%v/goroutines=", d.dialect)
			b.Run(name+"1/by="+by, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := op(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"all/by="+by, func(b *testing.B) {
				b.SetParallelism(8)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := op(); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
