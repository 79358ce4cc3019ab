// Nethttp mounts the events API with net/http's own router:
//
//	go run ./examples/nethttp
package main

import (
	"net/http"

	"github.com/sealhttp/sealhttp"
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
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", h.Create)
	mux.HandleFunc("GET /events", h.List)
	mux.HandleFunc("GET /events/{id}", h.Get)
	mux.HandleFunc("DELETE /events/{id}", h.Delete)
	mux.Handle("POST /searches", required.Handler(http.HandlerFunc(h.Search)))
	mux.HandleFunc("PUT /key", h.PutKey)
	return h.Authenticate(m.Handler(mux)), nil
}
