// Gin mounts the events API in a gin router:
//
//	go run ./examples/gin
package main

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
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

	h := handlers{service}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.Use(gin.Logger(), h.Authenticate, ginseal.Middleware(m, ginseal.WithAccount(account)), gin.Recovery(), renderError)
	r.POST("/events", h.Create)
	r.GET("/events", h.List)
	r.GET("/events/:id", h.Get)
	r.DELETE("/events/:id", h.Delete)
	r.POST("/searches", ginseal.Middleware(required), h.Search)
	r.PUT("/key", h.PutKey)
	return r, nil
}
