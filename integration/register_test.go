package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// register registers a public key and proves it, each step at any replica. The key
// replaces another one unless that is 0.
func register(f *fleet, account string, keyset []byte, replaces uint32, open func(*accounts.Challenge) ([]byte, error)) error {
	step := func(path string, body, answer any) error {
		r, err := f.any()
		if err != nil {
			return err
		}
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		got, err := post(&http.Client{Transport: base}, r.url+"/encryption/keys"+path, account, string(encoded))
		if err != nil {
			return err
		}
		return json.Unmarshal(got, answer)
	}
	type form struct {
		accounts.KeyForm
		Replaces uint32 `json:"replaces,omitempty"`
	}
	var key struct {
		ID    uint32
		State accounts.KeyState
	}
	if err := step("", form{accounts.KeyForm{Tink: keyset}, replaces}, &key); err != nil {
		return fmt.Errorf("registering: %w", err)
	}
	var challenge struct {
		KeyID    uint32 `json:"key_id"`
		Approver uint32
		Message  []byte
	}
	path := fmt.Sprintf("/%d/", key.ID)
	if err := step(path+"challenge", struct{}{}, &challenge); err != nil {
		return fmt.Errorf("asking for a challenge: %w", err)
	}
	opened, err := open(&accounts.Challenge{KeyID: challenge.KeyID, Approver: challenge.Approver, Message: challenge.Message})
	if err != nil {
		return err
	}
	proof := struct {
		Proof []byte `json:"proof"`
	}{opened}
	if err := step(path+"proof", proof, &key); err != nil {
		return fmt.Errorf("proving: %w", err)
	}
	if key.State != accounts.Current {
		return fmt.Errorf("the key is %s, not current", key.State)
	}
	return nil
}

// registerPrivate registers the public half of a key. With old, that approves it.
func registerPrivate(f *fleet, account string, key *seal.PrivateKey, old *seal.PrivateKey) error {
	keyset, err := tinkkeys.Public(key.Public())
	if err != nil {
		return err
	}
	var replaces uint32
	if old != nil {
		replaces = old.ID()
	}
	return register(f, account, keyset, replaces, func(c *accounts.Challenge) ([]byte, error) {
		return c.Open(account, key, old)
	})
}
