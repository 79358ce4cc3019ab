package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp"
)

const (
	defaultReplayCapacity = 1_000_000
	minReplayCapacity     = 1024
	// replayQuota is the part of the capacity that one caller may use: a quarter.
	replayQuota = 4
	// replayCounts is how often a caller is counted until its quota is used up. Each
	// insert counted would be a row updated, by all replicas at once.
	replayCounts = 1024
	// replaySlice is how long ids are counted together.
	replaySlice = time.Minute
)

// WithReplayCapacity sets how many ids the store's [Store.ReplayGuard] remembers at most.
// The default is 1,000,000, the least 1024. One caller's ids get a quarter of it, and
// those of all unknown callers together another; the others find room still. Beyond
// that, Insert returns [sealhttp.ErrReplayGuardFull]. So the capacity is to be requests
// a second x 780 (the TTL of 720 seconds, by default, and a minute more, by which an id
// is counted too long at most), and 4 times that if one caller makes them all.
//
// On PostgreSQL, a capacity of more than 4096 is counted by sample: what a caller gets is
// a quarter to within some 10 percent. An id takes some 140 bytes of disk, with its
// indexes; one that has expired takes as much until it is vacuumed.
func WithReplayCapacity(ids int) Option {
	return func(s *Store) error {
		if ids < minReplayCapacity {
			return fmt.Errorf("sqlstore: WithReplayCapacity: %d ids are too few: at least %d", ids, minReplayCapacity)
		}
		s.replayCapacity = ids
		return nil
	}
}

// ReplayGuard returns a replay guard that all replicas share which use the database. A
// call is one statement, and one round trip, on PostgreSQL.
//
// On PostgreSQL the ids are in an unlogged table: an insert waits for no disk, and neither
// a crash nor a failover to a standby leaves any of them, nor the row that says since
// when they are remembered. The memory begins anew then, and also after any start of
// the server and where the row was restored from a dump; what was made before that second,
// by the clock of the database, is refused as [sealhttp.CodeStale]. A request that was
// made by a clock that runs ahead of the database's can be taken once before, and once
// after. Keep the clocks in step, and do not set the database's forward by two minutes
// or more: ids would expire early. The default isolation level must be READ COMMITTED,
// as PostgreSQL has it.
//
// On SQLite the guard is for the processes of one machine, by the machine's clock. The
// memory begins anew with the first insert of each process, so that what a power failure
// took does not matter, whatever the pragma synchronous is; with synchronous=normal and
// a WAL an insert waits for no disk. Call ReplayGuard once in a process.
//
// The error of a call that could not be made within [WithTimeout] says so; the id may
// be inserted then.
func (s *Store) ReplayGuard() sealhttp.ReplayGuard {
	g := replayGuard{Store: s, slice: replaySlice}
	if s.dialect == SQLite {
		return &sqliteReplayGuard{replayGuard: g}
	}
	return &g
}

// replayGuard is the guard on PostgreSQL.
type replayGuard struct {
	*Store
	slice time.Duration
}

func (g *replayGuard) Insert(ctx context.Context, e sealhttp.ReplayEntry) error {
	ctx, cancel := g.context(ctx)
	defer cancel()
	var result string
	err := g.db.QueryRowContext(ctx,
		`SELECT sealhttp_replay_insert($1, $2, $3, $4 * interval '1 microsecond', $5, $6, $7, $8)`,
		e.ID[:], replayCaller(e.Caller), e.Time.Unix(), (e.TTL + time.Microsecond - 1).Microseconds(),
		g.replayCapacity, g.replayCapacity/replayQuota, max(1, g.replayCapacity/replayQuota/replayCounts), g.slice.Milliseconds(),
	).Scan(&result)
	if err != nil {
		return fmt.Errorf("sqlstore: replay guard: insert: %w", err)
	}
	switch result {
	case "inserted":
		return nil
	case "replayed":
		return sealhttp.CodeReplayed
	case "stale":
		return sealhttp.CodeStale
	case "full":
		return errReplayFull
	}
	return fmt.Errorf("sqlstore: replay guard: insert: the database returned %q", result)
}

var errReplayFull = fmt.Errorf("sqlstore: replay guard: insert: %w", sealhttp.ErrReplayGuardFull)

func (g *replayGuard) Contains(ctx context.Context, id [16]byte) (found bool, err error) {
	ctx, cancel := g.context(ctx)
	defer cancel()
	err = g.db.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM sealhttp_replay WHERE id = $1 AND expires > clock_timestamp())`, id[:]).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("sqlstore: replay guard: contains: %w", err)
	}
	return found, nil
}

// replayCaller is what a caller is counted by: as long as any other, and never empty.
func replayCaller(caller string) []byte {
	sum := sha256.Sum256([]byte(caller))
	return sum[:16]
}

// sqliteReplayGuard is the guard on SQLite.
type sqliteReplayGuard struct {
	replayGuard

	mu    sync.Mutex
	begun bool
}

func (g *sqliteReplayGuard) Insert(ctx context.Context, e sealhttp.ReplayEntry) error {
	if err := g.begin(ctx); err != nil {
		return fmt.Errorf("sqlstore: replay guard: insert: %w", err)
	}
	err := g.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error { return g.insert(ctx, tx, e, time.Now()) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sealhttp.CodeReplayed), errors.Is(err, sealhttp.CodeStale), errors.Is(err, sealhttp.ErrReplayGuardFull):
		return err
	}
	return fmt.Errorf("sqlstore: replay guard: insert: %w", err)
}

func (g *sqliteReplayGuard) insert(ctx context.Context, tx *sql.Tx, e sealhttp.ReplayEntry, now time.Time) error {
	// A write first, which makes this the only transaction. A refusal takes it back.
	expires := now.Add(e.TTL + time.Millisecond - 1)
	result, err := tx.ExecContext(ctx, g.query(`INSERT INTO sealhttp_replay AS r (id, expires) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET expires = excluded.expires WHERE r.expires <= $3`),
		e.ID[:], expires.UnixMilli(), now.UnixMilli())
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil {
		return err
	} else if rows == 0 {
		return sealhttp.CodeReplayed
	}

	var since sql.NullInt64
	var ofAll, ofCaller int64
	caller := replayCaller(e.Caller)
	err = tx.QueryRowContext(ctx, g.query(`SELECT
		(SELECT since FROM sealhttp_replay WHERE id = x''),
		(SELECT coalesce(sum(n), 0) FROM sealhttp_replay_counts WHERE caller = x'' AND slice >= $1),
		(SELECT coalesce(sum(n), 0) FROM sealhttp_replay_counts WHERE caller = $2 AND slice >= $1)`),
		g.sliceOf(now), caller).Scan(&since, &ofAll, &ofCaller)
	if err == nil && !since.Valid { // someone emptied the table
		since.Int64 = now.Unix()
		_, err = tx.ExecContext(ctx, g.query(sqliteBegin), since.Int64)
	}
	switch {
	case err != nil:
		return err
	case e.Time.Unix() < since.Int64:
		return sealhttp.CodeStale
	case ofAll >= int64(g.replayCapacity), ofCaller >= int64(g.replayCapacity/replayQuota):
		return errReplayFull
	}
	if _, err := tx.ExecContext(ctx, g.query(`INSERT INTO sealhttp_replay_counts (caller, slice, n) VALUES (x'', $1, 1), ($2, $1, 1)
		ON CONFLICT (caller, slice) DO UPDATE SET n = n + 1`), g.sliceOf(expires), caller); err != nil {
		return err
	}
	if rand.N(32) > 0 {
		return nil
	}
	// Now and then, some of what has expired goes.
	if _, err := tx.ExecContext(ctx, g.query(`DELETE FROM sealhttp_replay WHERE id IN
		(SELECT id FROM sealhttp_replay WHERE expires <= $1 ORDER BY expires LIMIT 128)`), now.UnixMilli()); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, g.query(`DELETE FROM sealhttp_replay_counts WHERE (caller, slice) IN
		(SELECT caller, slice FROM sealhttp_replay_counts WHERE slice < $1 ORDER BY slice LIMIT 128)`), g.sliceOf(now))
	return err
}

const sqliteBegin = `INSERT INTO sealhttp_replay (id, expires, since) VALUES (x'', 9223372036854775807, $1)
	ON CONFLICT (id) DO UPDATE SET since = excluded.since`

// begin begins the memory anew before the first insert of this process.
func (g *sqliteReplayGuard) begin(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun {
		return nil
	}
	ctx, cancel := g.context(ctx)
	defer cancel()
	_, err := g.db.ExecContext(ctx, g.query(sqliteBegin), time.Now().Unix())
	g.begun = err == nil
	return err
}

func (g *sqliteReplayGuard) Contains(ctx context.Context, id [16]byte) (found bool, err error) {
	ctx, cancel := g.context(ctx)
	defer cancel()
	err = g.db.QueryRowContext(ctx,
		g.query(`SELECT EXISTS (SELECT 1 FROM sealhttp_replay WHERE id = $1 AND expires > $2)`), id[:], time.Now().UnixMilli()).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("sqlstore: replay guard: contains: %w", err)
	}
	return found, nil
}

func (g *sqliteReplayGuard) sliceOf(t time.Time) int64 {
	return t.UnixMilli() / g.slice.Milliseconds()
}
