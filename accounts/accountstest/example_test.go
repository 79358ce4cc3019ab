package accountstest_test

import (
	"testing"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/accounts/accountstest"
)

// In a test of its own package, a store is tested so.
func ExampleRun() {
	testStore := func(t *testing.T) {
		accountstest.Run(t, func(t *testing.T) accountstest.Fixture {
			store := accounts.NewMemoryStore() // or a connection to a database of its own
			return accountstest.Fixture{
				Open: func(*testing.T) accounts.Store { return store },
			}
		})
	}
	_ = testing.InternalTest{Name: "TestStore", F: testStore}
	// Output:
}
