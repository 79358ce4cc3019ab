// Chi mounts the events API in a chi router:
//
//	go run ./examples/chi
package main

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/examples/internal/events"
)

func main() { events.Main(mount) }

func mount(service *events.Service) (http.Handler, error) {
	m, err := sealhttp.New(service.Keys,
		sealhttp.WithClientKeys(service.ClientKeys),
		sealhttp.WithPolicyFunc(service.Policy)) // each account has its own
	if err != nil {
		return nil, err
	}
	required, err := m.With(sealhttp.WithPolicy(sealhttp.Required)) // for a route
	if err != nil {
		return nil, err
	}

	h := events.Handlers{Service: service}
	r := chi.NewRouter()
	r.Use(middleware.Logger, h.Authenticate, chiseal.Middleware(m), middleware.Recoverer)
	r.Post("/events", h.Create)
	r.Get("/events", h.List)
	r.Get("/events/{id}", h.Get)
	r.Delete("/events/{id}", h.Delete)
	r.With(chiseal.Middleware(required)).Post("/searches", h.Search)
	r.Put("/key", h.PutKey)
	return r, nil
}
