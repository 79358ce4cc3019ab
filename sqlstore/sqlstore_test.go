package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/accounts/accountstest"
	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/keyring/storetest"
	"github.com/sealhttp/sealhttp/sqlstore"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// database makes a new, empty database a call.
type database struct {
	dialect sqlstore.Dialect
	open    func(t *testing.T) *sql.DB
}

// databases returns one of each kind. The PostgreSQL server is real.
func databases(t *testing.T) []database {
	t.Helper()
	server := postgres.Start(t)
	var n atomic.Int32
	return []database{
		{sqlstore.PostgreSQL, func(t *testing.T) *sql.DB {
			t.Helper()
			return server.Open(fmt.Sprintf("test%d", n.Add(1)))
		}},
		{sqlstore.SQLite, func(t *testing.T) *sql.DB {
			t.Helper()
			db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "test.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			// Of several connections that turn a new file to WAL at once, SQLite lets some
			// fail, whatever their timeout.
			if err := db.Ping(); err != nil {
				t.Fatal(err)
			}
			return db
		}},
	}
}

func migrated(t *testing.T, db *sql.DB, dialect sqlstore.Dialect) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

func TestKeyring(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) keyring.Store {
				return migrated(t, d.open(t), d.dialect).Keyring("default")
			})
		})
	}
}

func TestAccounts(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			accountstest.Run(t, func(t *testing.T) accountstest.Fixture {
				db := d.open(t)
				migrated(t, db, d.dialect)
				return accountstest.Fixture{
					Open: func(t *testing.T) accounts.Store {
						store, err := sqlstore.New(db, d.dialect)
						if err != nil {
							t.Fatal(err)
						}
						return store.Accounts()
					},
					Events: func(t *testing.T) []accounts.Event { return accountEvents(t, db) },
				}
			})
		})
	}
}

func accountEvents(t *testing.T, db *sql.DB) []accounts.Event {
	t.Helper()
	rows, err := db.Query(`SELECT subject, at, event, key_id, fingerprint, actor, by_key_id, reason, policy
		FROM sealhttp_audit WHERE kind = 'account' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var events []accounts.Event
	for rows.Next() {
		var e accounts.Event
		if err := rows.Scan(&e.Account, &e.Time, &e.Type, &e.KeyID, &e.Fingerprint, &e.Actor, &e.By, &e.Reason, &e.Policy); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// Replicas start together, and each migrates.
func TestMigrateTogether(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			db := d.open(t)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					store, err := sqlstore.New(db, d.dialect)
					if err == nil {
						err = store.Migrate(context.Background())
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			var n int
			if err := db.QueryRow(`SELECT count(*) FROM sealhttp_migrations`).Scan(&n); err != nil || n != 2 {
				t.Errorf("%d migrations are noted, %v; want 2", n, err)
			}
		})
	}
}

// Without tables a store answers with an error, not as if it were empty.
func TestNotMigrated(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			store, err := sqlstore.New(d.open(t), d.dialect)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Keyring("a").Load(t.Context()); err == nil || errors.Is(err, keyring.ErrNotFound) {
				t.Errorf("key ring: got %v, want another error than ErrNotFound", err)
			}
			if _, err := store.Accounts().Load(t.Context(), "a"); err == nil || errors.Is(err, accounts.ErrNotFound) {
				t.Errorf("account: got %v, want another error than ErrNotFound", err)
			}
		})
	}
}

// An audit event that cannot be stored takes the change with it.
func TestAuditInTheSameTransaction(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			db := d.open(t)
			store := migrated(t, db, d.dialect)
			ring := store.Keyring("a")
			first := keyring.State{Revision: 1, Data: []byte("one")}
			event := keyring.Event{Time: time.Unix(1e9, 0), Type: keyring.EventGenerated, Ring: "a", KeyID: 4294967295, Fingerprint: "00001", Actor: "ada"}
			if err := ring.Swap(t.Context(), 0, first, []keyring.Event{event, event}); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(`ALTER TABLE sealhttp_audit RENAME TO elsewhere`); err != nil {
				t.Fatal(err)
			}
			if err := ring.Swap(t.Context(), 1, keyring.State{Revision: 2, Data: []byte("two")}, []keyring.Event{event}); err == nil {
				t.Error("a change without its audit event was stored")
			}
			if got, err := ring.Load(t.Context()); err != nil || got.Revision != 1 || !bytes.Equal(got.Data, first.Data) {
				t.Errorf("got %d %q %v, want the first state", got.Revision, got.Data, err)
			}
			var kind, subject, typ, fingerprint, actor string
			var revision, n, keyID int64
			row := db.QueryRow(`SELECT kind, subject, revision, n, event, key_id, fingerprint, actor FROM elsewhere ORDER BY id DESC`)
			if err := row.Scan(&kind, &subject, &revision, &n, &typ, &keyID, &fingerprint, &actor); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(kind, subject, revision, n, typ, keyID, fingerprint, actor); got != "keyringa1 1generated429496729500001ada" {
				t.Errorf("the audit row is %q", got)
			}
		})
	}
}

// A database that hangs counts as one that is down.
func TestTimeout(t *testing.T) {
	d := databases(t)[0]
	db := d.open(t)
	migrated(t, db, d.dialect)
	store, err := sqlstore.New(db, d.dialect, sqlstore.WithTimeout(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	blocker, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Rollback() //nolint:errcheck
	if _, err := blocker.Exec(`LOCK TABLE sealhttp_keyrings, sealhttp_accounts IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	_, errLoad := store.Keyring("a").Load(context.Background())
	errSwap := store.Keyring("a").Swap(context.Background(), 0, keyring.State{Revision: 1, Data: []byte("x")}, nil)
	_, errList := store.Accounts().List(context.Background(), "", 10)
	for what, err := range map[string]error{"Load": errLoad, "Swap": errSwap, "List": errList} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want context.DeadlineExceeded", what, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, test := range map[string]struct {
		db      *sql.DB
		dialect sqlstore.Dialect
		opts    []sqlstore.Option
		says    string
	}{
		"no database": {nil, sqlstore.SQLite, nil, "nil"},
		"no dialect":  {db, 0, nil, "Dialect(0)"},
		"unknown":     {db, 9, nil, "Dialect(9)"},
		"no time":     {db, sqlstore.SQLite, []sqlstore.Option{sqlstore.WithTimeout(0)}, "WithTimeout"},
	} {
		if _, err := sqlstore.New(test.db, test.dialect, test.opts...); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, test.says)
		}
	}
	if _, err := sqlstore.Migrations(9); err == nil {
		t.Error("Migrations of no dialect: no error")
	}
}

// Only the ring's row is lost, or restored from a backup, and its audit trail stays:
// the replica that writes the ring back repeats revisions that the trail has.
func TestRowLostBesideItsAuditTrail(t *testing.T) {
	for _, d := range databases(t) {
		t.Run(d.dialect.String(), func(t *testing.T) {
			db := d.open(t)
			ring := migrated(t, db, d.dialect).Keyring("a")
			swap := func(old uint64) {
				t.Helper()
				event := keyring.Event{Time: time.Unix(1e9, 0), Type: keyring.EventGenerated, Ring: "a", Revision: old + 1, KeyID: 1}
				if err := ring.Swap(t.Context(), old, keyring.State{Revision: old + 1, Data: []byte("x")}, []keyring.Event{event}); err != nil {
					t.Fatal(err)
				}
			}
			swap(0)
			swap(1)
			if _, err := db.Exec(`DELETE FROM sealhttp_keyrings`); err != nil {
				t.Fatal(err)
			}
			swap(0)
			var n int
			if err := db.QueryRow(`SELECT count(*) FROM sealhttp_audit WHERE subject = 'a'`).Scan(&n); err != nil || n != 3 {
				t.Errorf("the trail has %d events, %v; want all 3", n, err)
			}
		})
	}
}
