// Package echoseal mounts sealhttp in an echo (v4) router:
//
//	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
//	e := echo.New()
//	e.Use(middleware.Logger(), authenticate, echoseal.Middleware(m, echoseal.WithAccount(account)), middleware.Recover())
//
// Authentication goes in front of it, and [WithAccount] says whom it has found. What
// reads or writes bodies, or turns errors into responses, goes behind it.
//
// Mounted with Use on the router or a group, it also covers the 404 and 405 responses
// there. Of two, the inner one passes on what the outer one has opened, and applies its
// own policy to the rest. echo.WrapMiddleware is no way to mount a Middleware: the errors
// of handlers would be lost.
package echoseal

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
)

// An Option is an option of [Middleware].
type Option func(*adapter)

// WithAccount sets a function that says which account authentication has found, "" for
// none. Resolvers of keys, policies and info read it with [sealhttp.Account]; they see
// nothing that c.Set stores.
func WithAccount(account func(echo.Context) string) Option {
	return func(a *adapter) { a.Account = account }
}

// WithPolicy sets a function that finds a call's policy, in place of the Middleware's own:
// see [sealhttp.WithPolicyFunc]. It is called for CORS preflights too, which pass anyway.
func WithPolicy(policy func(echo.Context) (sealhttp.Policy, error)) Option {
	return func(a *adapter) { a.Policy = policy }
}

// WithSkipper sets which calls are passed on as they came, sealed or not.
func WithSkipper(skip middleware.Skipper) Option { return func(a *adapter) { a.Skip = skip } }

// WithErrorHandler sets how refused calls are answered, in place of the Middleware, as
// ErrorHandler does for echo's own middlewares: what it returns goes to echo's
// HTTPErrorHandler, nil if it has answered itself. To have echo render them all:
//
//	echoseal.WithErrorHandler(func(_ echo.Context, err error) error { return err })
//
// err is an *echo.HTTPError with the refusal's status and, as its message, its code; it
// wraps the [*sealhttp.Error]. The header, with Sealed-Error, is set already.
func WithErrorHandler(handler func(c echo.Context, err error) error) Option {
	return func(a *adapter) {
		headerOnly := sealhttp.WithErrorHandler(func(http.ResponseWriter, *http.Request, error) {})
		a.Middleware, a.onError = sealhttp.Must(a.Middleware.With(headerOnly)), handler
	}
}

// Middleware returns m as echo takes it, for the router, groups and routes. A handler's
// error is rendered by echo's HTTPErrorHandler, sealed, and still returned, for loggers;
// c.Response() then has the status and size that were sent. A panic goes through, and
// nothing more of the response is sent.
func Middleware(m *sealhttp.Middleware, opts ...Option) echo.MiddlewareFunc {
	a := new(adapter)
	a.Middleware = m
	for _, opt := range opts {
		opt(a)
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error { return a.serve(c, next) }
	}
}

type adapter struct {
	sealhttp.Mount[echo.Context]
	onError func(echo.Context, error) error
}

func (a *adapter) serve(c echo.Context, next echo.HandlerFunc) error {
	res := c.Response()
	call, err := a.Begin(c, res.Writer, c.Request()) // not res: it writes to what it holds, which is to be ours
	if err != nil {
		if limit, ok := errors.AsType[*echo.HTTPError](err); ok && limit.Code == http.StatusRequestEntityTooLarge { // BodyLimit, further out
			err = &sealhttp.Error{Code: sealhttp.CodeTooLarge, Status: limit.Code, Err: err}
		}
		a.Middleware.Refuse(res, c.Request(), err)
		if res.Committed { // by a refusal that is sealed, or without an error handler
			return nil
		}
		return a.render(c, err)
	}
	if call == nil {
		return next(c)
	}
	defer call.Close()
	c.SetRequest(call.Request)
	if !call.OwnWriter() {
		err = next(c)
		_ = call.Finish()
		return err
	}

	before, panics := *res, true
	defer func() {
		if sent, _ := call.Sent(); panics && sent == 0 { // a recoverer further out may answer
			*res = before
			c.SetResponse(res)
		}
	}()
	res.Writer = call.Writer // closed by Finish, it stays: nothing may follow a sealed body
	if err = next(c); err != nil {
		c.Error(err) // echo would do so too late
	}
	refusal := call.Finish()
	panics = false
	c.SetResponse(res) // an echo.WrapMiddleware further in leaves another in its place
	if status, n := call.Sent(); status != 0 {
		res.Status, res.Size, res.Committed = status, n, true
		return err
	}
	*res = before // a refusal is still to be rendered, or the connection is gone
	return a.render(c, refusal)
}

// render answers a refusal through the error handler, if there is one.
func (a *adapter) render(c echo.Context, refusal error) error {
	e, ok := errors.AsType[*sealhttp.Error](refusal)
	if !ok || a.onError == nil {
		return nil
	}
	return a.onError(c, echo.NewHTTPError(e.Status, string(e.Code)).SetInternal(e))
}
