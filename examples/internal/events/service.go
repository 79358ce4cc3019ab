// Package events is a small API that four routers mount: events with personal data
// in them, a store, authentication, validation and pagination. It is the same code
// for all of them, and knows of sealhttp only what each such service must have:
// keys, and a policy.
package events

import (
	"context"
	"net/http"
	"net/mail"
	"strings"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// Service is the API without HTTP. It is safe for use by several goroutines at once.
type Service struct {
	// Keys are the service's private keys.
	Keys *keyring.Keyring
	// ClientKeys finds the registered key of a caller.
	ClientKeys *sealhttp.ClientKeyCache

	store store

	mu         sync.RWMutex
	registered map[string]*seal.PublicKey // by account
}

// account is one that may call. They stand for rows of a database.
type account struct {
	name   string
	policy sealhttp.Policy
}

var accounts = map[string]account{ // by bearer token
	"shop-token":   {"shop", sealhttp.Optional},
	"legacy-token": {"legacy", sealhttp.Disabled},
	"clinic-token": {"clinic", sealhttp.Required},
}

// NewService makes a Service with a new key and without events. A real one would
// load both.
func NewService() (*Service, error) {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return nil, err
	}
	ring, err := keyring.New(key)
	if err != nil {
		return nil, err
	}
	s := &Service{
		Keys:       ring,
		store:      store{events: make(map[string][]Event)},
		registered: make(map[string]*seal.PublicKey),
	}
	s.ClientKeys = sealhttp.CacheClientKeys(nil, s.registeredKey)
	return s, nil
}

// Policy says what a caller's account is set to. Where a caller registers its key,
// plaintext is taken from all: before that, it cannot be answered sealed.
func (s *Service) Policy(r *http.Request) (sealhttp.Policy, error) {
	if r.Method == http.MethodPut && r.URL.Path == "/key" {
		return sealhttp.Optional, nil
	}
	caller := sealhttp.Account(r.Context())
	for _, a := range accounts {
		if a.name == caller {
			return a.policy, nil
		}
	}
	return 0, NewProblem(http.StatusInternalServerError, "no such account: "+caller)
}

// Account returns the account whose bearer token a request has.
func (s *Service) Account(r *http.Request) (string, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, known := accounts[token]
	if !ok || !known {
		return "", NewProblem(http.StatusUnauthorized, "a bearer token is missing or wrong")
	}
	return a.name, nil
}

// NewEvent is what a caller says of an event.
type NewEvent struct {
	Type  string `json:"type"`
	Email string `json:"email"`
	Name  string `json:"name"`
}

// Create stores an event.
func (s *Service) Create(account string, in NewEvent) (Event, error) {
	wrong := make(map[string]string)
	if in.Type == "" || len(in.Type) > 64 {
		wrong["type"] = "1 to 64 bytes, please"
	}
	if !isEmail(in.Email) {
		wrong["email"] = "not an email address: " + in.Email
	}
	if len(in.Name) > 200 {
		wrong["name"] = "200 bytes at most, please"
	}
	if len(wrong) > 0 {
		p := NewProblem(http.StatusUnprocessableEntity, "the event is not valid")
		p.Errors = wrong
		return Event{}, p
	}
	return s.store.add(account, Event{Time: time.Now().UTC(), Type: in.Type, Email: in.Email, Name: in.Name}), nil
}

// Get returns an event.
func (s *Service) Get(account string, id int64) (Event, error) {
	e, found := s.store.get(account, id)
	if !found {
		return Event{}, NewProblem(http.StatusNotFound, "no such event")
	}
	return e, nil
}

// Delete removes an event.
func (s *Service) Delete(account string, id int64) error {
	if !s.store.delete(account, id) {
		return NewProblem(http.StatusNotFound, "no such event")
	}
	return nil
}

// List returns a page of all events.
func (s *Service) List(account string, q Query) (Page, error) {
	q, err := q.checked()
	if err != nil {
		return Page{}, err
	}
	return s.store.page(account, "", q), nil
}

// PersonQuery asks for the events of one person. It comes as a body: what is in a
// target travels in clear.
type PersonQuery struct {
	Email string `json:"email"`
	Query
}

// Search returns a page of one person's events.
func (s *Service) Search(account string, in PersonQuery) (Page, error) {
	q, err := in.checked()
	if err != nil {
		return Page{}, err
	}
	if !isEmail(in.Email) {
		p := NewProblem(http.StatusUnprocessableEntity, "the search is not valid")
		p.Errors = map[string]string{"email": "not an email address: " + in.Email}
		return Page{}, p
	}
	return s.store.page(account, in.Email, q), nil
}

func (q Query) checked() (Query, error) {
	const usual, most = 20, 100
	if q.Limit == 0 {
		q.Limit = usual
	}
	if q.After < 0 || q.Limit < 0 || q.Limit > most {
		return q, NewProblem(http.StatusBadRequest, "after is an id, limit is 1 to 100")
	}
	return q, nil
}

func isEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	return err == nil && address.Address == s
}

// RegisteredKey is what a caller is told of its key, to compare.
type RegisteredKey struct {
	ID          uint32 `json:"id"`
	Fingerprint string `json:"fingerprint"`
}

// Register makes the primary of a Tink keyset the key that a caller's responses are
// sealed to. Whoever can do this reads them: a real service has the fingerprint
// confirmed on another way before it uses the key.
func (s *Service) Register(account string, keyset []byte) (RegisteredKey, error) {
	keys, err := tinkkeys.ParsePublic(keyset)
	if err != nil {
		return RegisteredKey{}, NewProblem(http.StatusUnprocessableEntity, err.Error())
	}
	s.mu.Lock()
	s.registered[account] = keys[0]
	s.mu.Unlock()
	s.ClientKeys.Forget(account)
	return RegisteredKey{keys[0].ID(), keys[0].Fingerprint()}, nil
}

func (s *Service) registeredKey(_ context.Context, account string) (*seal.PublicKey, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.registered[account], nil // nil: none is registered
}
