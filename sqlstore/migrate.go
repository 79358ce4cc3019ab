package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the migrations of a dialect: SQL files, to be applied once
// each in the order of their names. They are for a migration tool of the user's
// own; [Store.Migrate] is for who has none.
func Migrations(dialect Dialect) (fs.FS, error) {
	sub, err := fs.Sub(migrations, path.Join("migrations", dialect.String()))
	if err == nil {
		_, err = fs.Stat(sub, ".")
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %v has no migrations: %w", dialect, err)
	}
	return sub, nil
}

// migrationLock is the key of the advisory lock that migrating replicas queue at.
// It is the first 8 bytes of SHA-256 of "sealhttp migrations", without the sign.
const migrationLock = 0x039a5771effbb156

// Migrate applies the migrations that the database has not yet, all in one
// transaction. Replicas may call it at the same time. Which were applied is in the
// table sealhttp_migrations.
func (s *Store) Migrate(ctx context.Context) error {
	files, err := Migrations(s.dialect)
	if err != nil {
		return err
	}
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("sqlstore: migrate: %w", err)
	}
	const table = `CREATE TABLE IF NOT EXISTS sealhttp_migrations (name TEXT PRIMARY KEY)`
	if s.dialect == SQLite {
		// Where the table exists, this only reads: it must not begin the transaction.
		ctx, cancel := s.context(ctx)
		defer cancel()
		if _, err := s.db.ExecContext(ctx, table); err != nil {
			return fmt.Errorf("sqlstore: migrate: %w", err)
		}
	}
	err = s.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if s.dialect == PostgreSQL {
			// Without the lock, two replicas that create the table together fail.
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, table); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := s.apply(ctx, tx, files, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlstore: migrate: %w", err)
	}
	return nil
}

// apply applies one migration, if that was not done before.
func (s *Store) apply(ctx context.Context, tx *sql.Tx, files fs.FS, name string) error {
	result, err := tx.ExecContext(ctx, s.query(`INSERT INTO sealhttp_migrations (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`), name)
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		return err
	}
	statements, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(statements))
	return err
}
