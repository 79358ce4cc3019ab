package main

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// service is one address, behind which an API is deployed in several versions.
type service struct {
	*httptest.Server
	version atomic.Pointer[http.Handler]
	serving sync.RWMutex // read-locked by each call
	unseen  atomic.Int64 // calls before sealhttp was mounted

	keys     *keyring.Keyring
	clients  *registry
	policies *policies
	adoption *adoption
}

func newService() (*service, error) {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return nil, err
	}
	ring, err := keyring.New(key)
	if err != nil {
		return nil, err
	}
	s := &service{
		keys:     ring,
		clients:  newRegistry(),
		policies: &policies{ofAccount: make(map[string]sealhttp.Policy)},
		adoption: &adoption{calls: make(map[string]tally)},
	}
	s.deploy(s.inClear())
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		(*s.version.Load()).ServeHTTP(w, r)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	return s, nil
}

// deploy puts a version in the place of the one that serves. Calls under way end where
// they have begun.
func (s *service) deploy(version http.Handler) { s.version.Store(&version) }

// measure returns the counts since it was called last, of all calls that have ended for
// their callers: the observer hears of a sealed one after its answer was sent.
func (s *service) measure() map[string]tally {
	s.serving.Lock()
	defer s.serving.Unlock()
	return s.adoption.take()
}

// inClear is the API as it was.
func (s *service) inClear() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /visits", visits)
	mux.HandleFunc("POST /visits", create)
	mux.HandleFunc("POST /records", create)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.unseen.Add(1)
		authenticate(mux).ServeHTTP(w, r)
	})
}

// shadow is the API with sealhttp mounted. Until a policy says otherwise, nothing
// changes for anyone.
func (s *service) shadow() (*sealhttp.Middleware, http.Handler, error) {
	m, err := sealhttp.New(s.keys,
		sealhttp.WithClientKeys(s.clients.keys),
		sealhttp.WithPolicyFunc(s.policies.of),
		sealhttp.WithObserver(s.adoption.observe))
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /visits", m.Handler(http.HandlerFunc(visits)))
	mux.Handle("POST /visits", m.Handler(http.HandlerFunc(create)))
	mux.Handle("POST /records", m.Handler(http.HandlerFunc(create)))
	return m, authenticate(mux), nil
}

// enforced is the API with one route that takes sealed calls only, from every account.
func (s *service) enforced(m *sealhttp.Middleware) (http.Handler, error) {
	required, err := m.With(sealhttp.WithPolicy(sealhttp.Required))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /visits", m.Handler(http.HandlerFunc(visits)))
	mux.Handle("POST /visits", m.Handler(http.HandlerFunc(create)))
	mux.Handle("POST /records", required.Handler(http.HandlerFunc(create)))
	return authenticate(mux), nil
}

// authenticate stands for the API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, ok := r.BasicAuth()
		if !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

func visits(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `[{"patient":"Ada L."}]`)
}

func create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "send application/json", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body)
}

// policies stands for a column of the table of accounts.
type policies struct {
	mu        sync.RWMutex
	ofAccount map[string]sealhttp.Policy
}

// of is for sealhttp.WithPolicyFunc.
func (p *policies) of(r *http.Request) (sealhttp.Policy, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if policy, set := p.ofAccount[sealhttp.Account(r.Context())]; set {
		return policy, nil
	}
	return sealhttp.Optional, nil // said, not left to the zero Policy, which is refused
}

func (p *policies) set(account string, policy sealhttp.Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ofAccount[account] = policy
}

// tally counts an account's calls.
type tally struct {
	clear  int // nothing of it sealed
	half   int // body or response, where Required wants both
	sealed int // as Required wants it
	failed int // refused, or not answered
}

// ready reports whether policy Required would have refused none of the calls.
func (t tally) ready() bool { return t.sealed > 0 && t.clear+t.half+t.failed == 0 }

func (t tally) all() int { return t.clear + t.half + t.sealed + t.failed }

// adoption counts the calls of each account, as a service's metrics do.
type adoption struct {
	mu    sync.Mutex
	calls map[string]tally
}

// observe is for sealhttp.WithObserver.
func (a *adoption) observe(r *http.Request, e sealhttp.Event) {
	account := sealhttp.Account(r.Context())
	requestReady := e.RequestSealed || r.Method == http.MethodGet && r.ContentLength == 0
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.calls[account]
	switch {
	case e.Err != nil:
		t.failed++
	case requestReady && e.ResponseSealed:
		t.sealed++
	case e.RequestSealed || e.ResponseSealed:
		t.half++
	default:
		t.clear++
	}
	a.calls[account] = t
}

// take returns the counts since it was called last.
func (a *adoption) take() map[string]tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := maps.Clone(a.calls)
	clear(a.calls)
	return taken
}

// registry stands for the table of callers' keys.
type registry struct {
	mu     sync.RWMutex
	public map[string]*seal.PublicKey
	keys   *sealhttp.ClientKeyCache
}

func newRegistry() *registry {
	r := &registry{public: make(map[string]*seal.PublicKey)}
	r.keys = sealhttp.CacheClientKeys(nil, r.lookup)
	return r
}

func (r *registry) lookup(_ context.Context, account string) (*seal.PublicKey, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.public[account], nil // nil: none is registered
}

func (r *registry) register(account string, key *seal.PublicKey) {
	r.mu.Lock()
	r.public[account] = key
	r.mu.Unlock()
	r.keys.Forget(account)
}
