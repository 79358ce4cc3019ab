// Package sqlstore keeps in one SQL database what many replicas of a service
// share: key rings, callers' accounts, the audit trail of both, and the replay guard. It
// speaks PostgreSQL and SQLite through database/sql and brings no driver.
//
//	db, err := sql.Open("pgx", "postgres://...")
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
//	err = store.Migrate(ctx)
//	ring, err := keyring.Open(ctx, store.Keyring("payments"), kek)
//	registry, err := accounts.New(store.Accounts())
//	m, err := sealhttp.New(ring, sealhttp.WithReplayGuard(store.ReplayGuard()))
//
// # Consistency
//
// A state is one row with a revision, and it is changed by one conditional write of
// that row: of many replicas that try, one succeeds. The audit events of a change
// are rows of the same transaction, numbered by its revision, so that none is
// missing and a gap would show. A state that is written back over a lost or restored
// row repeats revisions; the ids of the rows tell which came later. Nothing needs more than the isolation level READ
// COMMITTED, and no lock outlives a transaction.
//
// Clocks of replicas do not matter here; only the replay guard asks a clock, the
// database's.
//
// # What is stored
//
// Private keys are in here only as the key ring encrypted them. Public keys,
// names of accounts and events are readable; see the table sealhttp_audit.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Dialect is a kind of database.
type Dialect uint8

const (
	// PostgreSQL is tested with github.com/jackc/pgx/v5/stdlib.
	PostgreSQL Dialect = 1 + iota
	// SQLite is tested with modernc.org/sqlite. Give it a busy timeout, so that
	// writers wait for each other: "file:keys.db?_pragma=busy_timeout(5000)".
	SQLite
)

// String returns the dialect's name, which is that of its folder of migrations.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "postgresql"
	case SQLite:
		return "sqlite"
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}

// Store is a database. It is safe for use by several goroutines and processes at
// once.
type Store struct {
	db             *sql.DB
	dialect        Dialect
	timeout        time.Duration
	replayCapacity int
}

// An Option is an option of [New].
type Option func(*Store) error

// WithTimeout sets how long one operation may take, so that a database that hangs
// counts as one that is down. The default is 10 seconds.
func WithTimeout(d time.Duration) Option {
	return func(s *Store) error {
		if d <= 0 {
			return fmt.Errorf("sqlstore: WithTimeout: %v is no time", d)
		}
		s.timeout = d
		return nil
	}
}

// New makes a Store of a database that has, or will get, the tables of
// [Migrations]. It does not connect. The database stays the caller's to close.
func New(db *sql.DB, dialect Dialect, opts ...Option) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: New: the database is nil")
	}
	if dialect != PostgreSQL && dialect != SQLite {
		return nil, fmt.Errorf("sqlstore: New: %v is none", dialect)
	}
	s := &Store{db: db, dialect: dialect, timeout: 10 * time.Second, replayCapacity: defaultReplayCapacity}
	for _, opt := range opts {
		if err := opt(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// query returns a query in the dialect's form. Ours are written as PostgreSQL has
// them.
func (s *Store) query(q string) string {
	if s.dialect == SQLite {
		return strings.ReplaceAll(q, "$", "?")
	}
	return q
}

func (s *Store) context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// inTransaction runs a function in a transaction, and commits it if the function
// returns nil. Its first statement must be a write: SQLite cannot turn a reading
// transaction into a writing one when others write.
func (s *Store) inTransaction(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	ctx, cancel := s.context(ctx)
	defer cancel()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// errRevision is a conditional write that changed no row.
var errRevision = errors.New("the stored revision is another")

// swap writes a row of a table whose key column is named key, on the condition
// that its revision is old, or that there is none if old is 0.
func (s *Store) swap(ctx context.Context, tx *sql.Tx, table, key, name string, old, revision uint64, data []byte) error {
	var result sql.Result
	var err error
	if old == 0 {
		result, err = tx.ExecContext(ctx, s.query(
			`INSERT INTO `+table+` (`+key+`, revision, data) VALUES ($1, $2, $3) ON CONFLICT (`+key+`) DO NOTHING`),
			name, int64(revision), data)
	} else {
		result, err = tx.ExecContext(ctx, s.query(
			`UPDATE `+table+` SET revision = $1, data = $2 WHERE `+key+` = $3 AND revision = $4`),
			int64(revision), data, name, int64(old))
	}
	if err != nil {
		return err
	}
	rows, err := result.RowsAffected()
	if err == nil && rows == 0 {
		err = errRevision
	}
	return err
}

// auditRow is one row of the audit trail.
type auditRow struct {
	kind     string // "keyring" or "account"
	subject  string
	revision uint64
	n        int // within the revision, from 0
	time     time.Time
	event    string
	keyID    uint32
	print    string
	actor    string
	by       uint32
	reason   string
	policy   string
}

func (s *Store) audit(ctx context.Context, tx *sql.Tx, r auditRow) error {
	_, err := tx.ExecContext(ctx, s.query(
		`INSERT INTO sealhttp_audit (kind, subject, revision, n, at, event, key_id, fingerprint, actor, by_key_id, reason, policy)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`),
		r.kind, r.subject, int64(r.revision), r.n, r.time.UTC(), r.event, int64(r.keyID), r.print, r.actor, int64(r.by), r.reason, r.policy)
	return err
}
