package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sealhttp/sealhttp/keyring"
)

// Keyring returns the store of one key ring. Rings of several names live beside
// each other; give the ring the same name, with keyring.WithName, so that its keys
// are bound to it.
func (s *Store) Keyring(name string) keyring.Store { return &ringStore{s, name} }

type ringStore struct {
	*Store
	name string
}

func (s *ringStore) Load(ctx context.Context) (keyring.State, error) {
	ctx, cancel := s.context(ctx)
	defer cancel()
	var revision int64
	var data []byte
	err := s.db.QueryRowContext(ctx, s.query(`SELECT revision, data FROM sealhttp_keyrings WHERE name = $1`), s.name).Scan(&revision, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return keyring.State{}, fmt.Errorf("sqlstore: key ring %q: %w", s.name, keyring.ErrNotFound)
	case err != nil:
		return keyring.State{}, fmt.Errorf("sqlstore: load key ring %q: %w", s.name, err)
	}
	return keyring.State{Revision: uint64(revision), Data: data}, nil
}

func (s *ringStore) Swap(ctx context.Context, old uint64, next keyring.State, events []keyring.Event) error {
	err := s.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.swap(ctx, tx, "sealhttp_keyrings", "name", s.name, old, next.Revision, next.Data); err != nil {
			return err
		}
		for i, e := range events {
			row := auditRow{
				kind: "keyring", subject: s.name, revision: next.Revision, n: i, time: e.Time,
				event: string(e.Type), keyID: e.KeyID, print: e.Fingerprint, actor: e.Actor,
			}
			if err := s.audit(ctx, tx, row); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errRevision):
		return fmt.Errorf("sqlstore: key ring %q is not at revision %d: %w", s.name, old, keyring.ErrConflict)
	case err != nil:
		return fmt.Errorf("sqlstore: store key ring %q: %w", s.name, err)
	}
	return nil
}
