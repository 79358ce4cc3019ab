// Echo mounts the events API in an echo router:
//
//	go run ./examples/echo
package main

import (
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
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
	e := echo.New()
	e.HTTPErrorHandler = renderError
	e.Use(middleware.RequestLogger(), h.Authenticate, echoseal.Middleware(m, echoseal.WithAccount(account)), middleware.Recover())
	e.POST("/events", h.Create)
	e.GET("/events", h.List)
	e.GET("/events/:id", h.Get)
	e.DELETE("/events/:id", h.Delete)
	e.POST("/searches", h.Search, echoseal.Middleware(required))
	e.PUT("/key", h.PutKey)
	return e, nil
}
