package sealhttp

import "net/http"

// Mount is a [Middleware] together with what only C can tell of a call: the context that
// a router hands to its handlers. The adapters of such routers stand on it. What is nil is
// left to the Middleware. It is not to be changed while calls are served.
type Mount[C any] struct {
	// Middleware serves the calls. It must be set.
	Middleware *Middleware
	// Account says which account authentication has found, "" for none. If it is nil,
	// authentication calls [ContextWithAccount] itself.
	Account func(C) string
	// Policy finds a call's policy: see [Middleware.BeginWithPolicy].
	Policy func(C) (Policy, error)
	// Skip says which calls are passed on as they came, sealed or not.
	Skip func(C) bool
}

// Begin is [Middleware.Begin] for the call of the context c, whose writer and request are
// w and r. Its Call is nil, too, if the call is to be skipped. Account changes the context
// of r itself, not of a copy.
func (m *Mount[C]) Begin(c C, w http.ResponseWriter, r *http.Request) (*Call, error) {
	if m.Skip != nil && m.Skip(c) {
		return nil, nil
	}
	if m.Account != nil { // in place: of a copy's form, net/http would leave temporary files behind
		*r = *r.WithContext(ContextWithAccount(r.Context(), m.Account(c)))
	}
	if m.Policy == nil {
		return m.Middleware.Begin(w, r)
	}
	p, err := m.Policy(c)
	return m.Middleware.BeginWithPolicy(w, r, p, err)
}
