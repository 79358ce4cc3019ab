package sealhttp

import (
	"errors"
	"net/http"
)

// Middleware opens sealed requests for a handler and seals its responses. It is
// immutable and safe for use by several goroutines at once.
//
// It goes behind what authenticates the caller, and in front of what reads or
// writes bodies. Mounted twice, one inside the other, the inner one passes on what
// the outer one has opened, and applies its own policy to what it has not.
type Middleware struct {
	keys ServerKeys
	config
}

// New makes a Middleware that opens with the given keys. By default, plaintext
// and sealed calls are both taken ([Optional]): messages up to 10 MiB each way,
// exchanges of any length ([WithMaxStreamBytes]).
//
// It returns an error for an option that is not valid, and for policy [Required] with
// the message profile on and without [WithClientKeys], which would refuse every call of
// that profile: see [WithPolicy].
func New(keys ServerKeys, opts ...Option) (*Middleware, error) {
	if keys == nil {
		return nil, errors.New("sealhttp: New: keys are nil")
	}
	m, err := (&Middleware{keys: keys, config: defaultConfig()}).With(opts...)
	if err == nil && m.guard == nil {
		m.guard, err = NewMemoryReplayGuard(defaultReplayGuardBytes)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// With returns a Middleware with the same keys and options, and others on top: for
// a route with a policy or limits of its own. It returns the errors of [New].
func (m *Middleware) With(opts ...Option) (*Middleware, error) {
	with := *m
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("sealhttp: an option is nil")
		}
		if err := opt.applyServer(&with.config); err != nil {
			return nil, err
		}
	}
	if err := with.check(); err != nil {
		return nil, err
	}
	return &with, nil
}

// Must returns m, or panics if err is not nil: as template.Must, for options that
// are fixed in the program.
//
//	mux.Handle("POST /refunds", sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required))).Handler(refunds))
func Must(m *Middleware, err error) *Middleware {
	if err != nil {
		panic(err)
	}
	return m
}

// Handler returns a handler that serves calls through next: sealed ones opened,
// with their responses sealed, plaintext ones as they are, and those that the
// policy does not take refused before next runs.
//
// A panic in next goes through untouched, and nothing of its response is sent, but for
// what an exchange has streamed already, which then breaks off.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, err := m.Begin(w, r)
		if err != nil {
			m.Refuse(w, r, err)
			return
		}
		if call == nil {
			next.ServeHTTP(w, r)
			return
		}
		defer call.Close()
		next.ServeHTTP(call.Writer, call.Request)
		_ = call.Finish() // logged and observed there; the connection is gone
	})
}
