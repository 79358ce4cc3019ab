package integration_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/sqlstore"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// secrets are what must not be found, by what they are.
type secrets map[string][]byte

// Rings and accounts of all kinds are used, and no private key is in the database
// afterwards, nor a key-encryption key, nor what was in a challenge.
func TestNoPrivateKeyInDatabase(t *testing.T) {
	server := postgres.Start(t)
	db, store := newStore(t, server, "encrypted")
	found := make(secrets)
	var public [][]byte
	for _, suite := range seal.Suites() {
		for _, opts := range [][]keyring.Option{nil, {keyring.WithoutPrefix()}} {
			kek, next := newKEK(t, found), newKEK(t, found)
			name := fmt.Sprintf("%v %d", suite, len(opts))
			ring := useRing(t, store, name, keyring.KEKs(kek, next), append(opts, keyring.WithSuite(suite)), found)
			check(t, ring.Rewrap(t.Context(), next))
			public = append(public, ring.PublicKeys()[0].Bytes())
		}
	}
	public = append(public, useAccounts(t, store, found)...)

	text, rows := dump(t, db)
	t.Logf("%d secrets, %d rows, %d bytes", len(found), rows, len(text))
	for what, secret := range found {
		if forms := find(text, secret); len(forms) > 0 {
			t.Errorf("%s is in the database: %v", what, forms)
		}
	}
	for _, key := range public {
		if len(find(text, key)) == 0 {
			t.Error("a public key is not found, which shows that the search finds nothing")
		}
	}
}

// The same search finds the keys of a ring that is not encrypted.
func TestPrivateKeyInDatabaseIsFound(t *testing.T) {
	server := postgres.Start(t)
	db, store := newStore(t, server, "plaintext")
	for _, suite := range seal.Suites() {
		ring := useRing(t, store, suite.String(), keyring.InsecurePlaintext(), []keyring.Option{keyring.WithSuite(suite)}, make(secrets))
		text, _ := dump(t, db)
		for _, key := range ring.KeySet().Keys() {
			if len(find(text, key.Bytes())) == 0 {
				t.Errorf("%v: key %d is stored in plaintext, and is not found", suite, key.ID())
			}
		}
	}
}

func newStore(t *testing.T, server *postgres.Server, database string) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db := server.Open(database)
	newDatabase(t, db) // which keeps every state that a ring has had
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	check(t, err)
	return db, store
}

// newKEK makes a key-encryption key, which is a secret too.
func newKEK(t *testing.T, found secrets) keyring.AEAD {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	kek, err := keyring.LocalKeyFile(path)
	check(t, err)
	file, err := os.ReadFile(path)
	check(t, err)
	fields := strings.Fields(string(file))
	key, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
	check(t, err)
	found["the key-encryption key of "+path] = key
	return kek
}

// useRing has a ring go through all that a ring goes through, and notes its keys.
func useRing(t *testing.T, store *sqlstore.Store, name string, kek keyring.AEAD, opts []keyring.Option, found secrets) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.Open(t.Context(), store.Keyring(name), kek, append(opts,
		keyring.WithName(name),
		keyring.WithSchedule(keyring.Schedule{Every: time.Hour, Lead: 20 * time.Millisecond, Overlap: 100 * time.Millisecond}),
		keyring.WithReloadInterval(5*time.Millisecond),
		keyring.WithAudit(func(context.Context, keyring.Event) {}))...)
	check(t, err)
	note := func() {
		for _, key := range ring.KeySet().Keys() {
			found[fmt.Sprintf("key %d of ring %s", key.ID(), name)] = key.Bytes()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go ring.Run(ctx) //nolint:errcheck // it is the only one
	retired := func() (n int) {
		for _, key := range ring.Status().Keys {
			if key.State == keyring.Retired {
				n++
			}
		}
		return n
	}
	check(t, ring.Rotate(t.Context()))
	note()
	eventually(t, "a key has retired", func() bool { return retired() == 1 })
	check(t, ring.Revoke(t.Context(), ring.PublicKeys()[0].ID()))
	note()
	check(t, ring.Rotate(t.Context()))
	note()
	eventually(t, "there is a previous key", func() bool { return len(ring.PublicKeys()) == 2 })
	return ring
}

// useAccounts has accounts go through all that an account goes through, and notes
// what is secret. It returns the public keys that are stored.
func useAccounts(t *testing.T, store *sqlstore.Store, found secrets) (public [][]byte) {
	t.Helper()
	registry, err := accounts.New(store.Accounts(), accounts.WithAudit(func(context.Context, accounts.Event) {}))
	check(t, err)
	for _, suite := range seal.Suites() {
		account := "account of " + suite.String()
		var keys []*seal.PrivateKey
		for n := range 3 {
			key, err := seal.GenerateKey(suite)
			check(t, err)
			keys = append(keys, key)
			found[fmt.Sprintf("key %d of %s", n, account)] = key.Bytes()
		}
		use := func(key, old *seal.PrivateKey) {
			keyset, err := tinkkeys.Public(key.Public())
			check(t, err)
			form := accounts.KeyForm{Tink: keyset}
			if old == nil {
				_, err = registry.Register(t.Context(), account, form)
			} else {
				_, err = registry.Replace(t.Context(), account, old.ID(), form)
			}
			check(t, err)
			challenge, err := registry.Challenge(t.Context(), account, key.ID())
			check(t, err)
			opened, err := challenge.Open(account, key, old)
			check(t, err)
			found[fmt.Sprintf("the proof of key %d of %s", key.ID(), account)] = opened
			_, err = registry.Prove(t.Context(), account, key.ID(), opened)
			check(t, err)
		}
		use(keys[0], nil)
		use(keys[1], keys[0])
		check(t, registry.Revoke(t.Context(), account, keys[0].ID()))
		public = append(public, keys[1].Public().Bytes())

		// By mistake, a private key.
		set, err := seal.NewKeySet(keys[2])
		check(t, err)
		keyset, err := tinkkeys.InsecureCleartextPrivate(set)
		check(t, err)
		refuse(t, registry, account, accounts.KeyForm{Tink: keyset})
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	check(t, err)
	x := key.Bytes()
	found["a private key on P-256"] = x
	encode := base64.RawURLEncoding.EncodeToString
	point := key.PublicKey().Bytes()
	refuse(t, registry, "mistaken", accounts.KeyForm{Raw: encode(x), Suite: "P256-AES256GCM"})
	refuse(t, registry, "mistaken", accounts.KeyForm{JWK: fmt.Appendf(nil, `{"kty":"EC","crv":"P-256","x":%q,"y":%q,"d":%q}`,
		encode(point[1:33]), encode(point[33:]), encode(x))})
	return public
}

// refuse checks that a private key is not registered.
func refuse(t *testing.T, registry *accounts.Registry, account string, form accounts.KeyForm) {
	t.Helper()
	_, err := registry.Register(t.Context(), account, form)
	if err == nil {
		t.Error("a private key was registered")
	}
}
