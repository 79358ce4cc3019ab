package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sealhttp/sealhttp/accounts"
)

// Accounts returns the store of all accounts.
func (s *Store) Accounts() accounts.Store { return &accountStore{s} }

type accountStore struct{ *Store }

func (s *accountStore) Load(ctx context.Context, account string) (accounts.Record, error) {
	ctx, cancel := s.context(ctx)
	defer cancel()
	r := accounts.Record{Account: account}
	var revision int64
	err := s.db.QueryRowContext(ctx, s.query(`SELECT revision, data FROM sealhttp_accounts WHERE account = $1`), account).Scan(&revision, &r.Data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return accounts.Record{}, fmt.Errorf("sqlstore: account %q: %w", account, accounts.ErrNotFound)
	case err != nil:
		return accounts.Record{}, fmt.Errorf("sqlstore: load account %q: %w", account, err)
	}
	r.Revision = uint64(revision)
	return r, nil
}

func (s *accountStore) Swap(ctx context.Context, account string, old uint64, next accounts.Record, events []accounts.Event) error {
	if err := accounts.CheckSwap(account, old, next); err != nil {
		return err
	}
	err := s.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.swap(ctx, tx, "sealhttp_accounts", "account", account, old, next.Revision, next.Data); err != nil {
			return err
		}
		for i, e := range events {
			row := auditRow{
				kind: "account", subject: account, revision: next.Revision, n: i, time: e.Time,
				event: string(e.Type), keyID: e.KeyID, print: e.Fingerprint, actor: e.Actor,
				by: e.By, reason: e.Reason, policy: e.Policy,
			}
			if err := s.audit(ctx, tx, row); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errRevision):
		return fmt.Errorf("sqlstore: account %q is not at revision %d: %w", account, old, accounts.ErrConflict)
	case err != nil:
		return fmt.Errorf("sqlstore: store account %q: %w", account, err)
	}
	return nil
}

func (s *accountStore) List(ctx context.Context, after string, limit int) ([]accounts.Record, error) {
	ctx, cancel := s.context(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, s.query(
		`SELECT account, revision, data FROM sealhttp_accounts WHERE account > $1 ORDER BY account LIMIT $2`), after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("sqlstore: list accounts: %w", err)
	}
	defer rows.Close()
	var list []accounts.Record
	for rows.Next() {
		var r accounts.Record
		var revision int64
		if err := rows.Scan(&r.Account, &revision, &r.Data); err != nil {
			return nil, fmt.Errorf("sqlstore: list accounts: %w", err)
		}
		r.Revision = uint64(revision)
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sqlstore: list accounts: %w", err)
	}
	return list, nil
}
