package integration_test

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// registrar registers one account after the other, whatever happens.
type registrar struct {
	stopping   chan struct{}
	end        func() // stops it
	group      sync.WaitGroup
	registered map[string]uint32 // accounts that were told that this key is in use
}

func startRegistrar(t *testing.T, f *fleet) *registrar {
	t.Helper()
	key, err := seal.GenerateKey(seal.X25519AES128GCM)
	check(t, err)
	r := &registrar{stopping: make(chan struct{}), registered: make(map[string]uint32)}
	r.end = sync.OnceFunc(func() {
		close(r.stopping)
		r.group.Wait()
	})
	t.Cleanup(r.end)
	r.group.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-r.stopping:
				return
			case <-time.After(50 * time.Millisecond):
			}
			account := fmt.Sprintf("late-%d", n)
			if err := registerPrivate(f, account, key, nil); err == nil { // errors are to be expected
				r.registered[account] = key.ID()
			}
		}
	})
	return r
}

// compare checks that what was told to be registered is.
func (r *registrar) compare(t *testing.T, db *sql.DB) {
	t.Helper()
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	check(t, err)
	registry, err := accounts.New(store.Accounts())
	check(t, err)
	for account, id := range r.registered {
		a, err := registry.List(t.Context(), account)
		if err != nil || len(a.Keys) != 1 || a.Keys[0].ID() != id || a.Keys[0].State != accounts.Current {
			t.Errorf("account %q was registered, and has %+v, %v", account, a.Keys, err)
		}
	}
	if len(r.registered) == 0 {
		t.Error("no account was registered meanwhile")
	}
}
