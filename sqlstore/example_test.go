package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// A ring and the accounts in one database. The key-encryption key is any Tink AEAD.
func Example() {
	dir, err := os.MkdirTemp("", "sqlstore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "keys.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ctx := context.Background()
	store, err := sqlstore.New(db, sqlstore.SQLite)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	quiet := keyring.WithAudit(func(context.Context, keyring.Event) {})
	ring, err := keyring.Open(ctx, store.Keyring("default"), keyring.InsecurePlaintext(), quiet)
	if err != nil {
		log.Fatal(err)
	}
	registry, err := accounts.New(store.Accounts())
	if err != nil {
		log.Fatal(err)
	}
	account, err := registry.List(ctx, "acme")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(ring.PublicKeys()), "public key of the server,", len(account.Keys), "of acme")

	// A second replica has the same key.
	other, err := keyring.Open(ctx, store.Keyring("default"), keyring.InsecurePlaintext(), quiet)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(other.PublicKeys()[0].Equal(ring.PublicKeys()[0]))
	// Output:
	// 1 public key of the server, 0 of acme
	// true
}

// The migrations, for a tool of the user's own.
func ExampleMigrations() {
	files, err := sqlstore.Migrations(sqlstore.PostgreSQL)
	if err != nil {
		log.Fatal(err)
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(names)
	// Output: [0001_keyrings_accounts_audit.sql 0002_replay_guard.sql]
}
