package accounts_test

import (
	"testing"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/accounts/accountstest"
)

func TestMemoryStore(t *testing.T) {
	accountstest.Run(t, func(*testing.T) accountstest.Fixture {
		store := accounts.NewMemoryStore()
		return accountstest.Fixture{Open: func(*testing.T) accounts.Store { return store }}
	})
}

// TestKitEvents runs the kit over the store of the other tests, which keeps events.
func TestKitEvents(t *testing.T) {
	accountstest.Run(t, func(*testing.T) accountstest.Fixture {
		store := newTestStore()
		return accountstest.Fixture{
			Open:   func(*testing.T) accounts.Store { return store },
			Events: func(*testing.T) []accounts.Event { return store.stored() },
		}
	})
}
