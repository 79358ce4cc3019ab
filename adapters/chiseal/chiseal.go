// Package chiseal mounts sealhttp in a chi router:
//
//	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
//	r := chi.NewRouter()
//	r.Use(middleware.Logger, authenticate, chiseal.Middleware(m), middleware.Recoverer)
//
// Authentication goes in front of it and calls [sealhttp.ContextWithAccount] for
// whom it has found. What reads or writes bodies, or renders errors, goes behind it.
//
// Mounted with Use on the root router, the middleware also covers chi's own 404 and
// 405 responses; with With, Group and Route it covers the routes that are declared
// there. A route with a policy of its own takes a Middleware of its own:
//
//	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))
//	r.With(chiseal.Middleware(required)).Post("/refunds", refund)
//
// It may be mounted both at the root and at a route: what the outer one has opened,
// the inner one passes on, and applies its own policy to the rest. Loosening a policy
// that way does not work, since the outer one refuses first.
package chiseal

import (
	"net/http"

	"github.com/sealhttp/sealhttp"
)

// Middleware returns m as chi takes it, for Use and With. It is m.Handler: chi's
// handlers are those of net/http, and its WrapResponseWriter works on both sides of it.
func Middleware(m *sealhttp.Middleware) func(http.Handler) http.Handler { return m.Handler }
