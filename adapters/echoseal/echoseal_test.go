package echoseal_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-playground/validator/v10"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

const canary = adaptertest.Canary

// accountKey is where authentication puts the account, as echo's middlewares do.
const accountKey = "account"

func authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set(accountKey, c.Request().Header.Get("X-Account"))
		return next(c)
	}
}

func account(c echo.Context) string {
	account, _ := c.Get(accountKey).(string)
	return account
}

type validate struct{ v *validator.Validate }

func (v validate) Validate(i any) error { return v.v.Struct(i) }

type renderer struct{ *template.Template }

func (r renderer) Render(w io.Writer, _ string, data any, _ echo.Context) error {
	return r.Execute(w, data)
}

// logged is echo's accounting, outermost, as echo's Logger reads it.
func logged(s *adaptertest.Site) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			if err != nil {
				c.Error(err)
			}
			s.Log(c.Response().Status, c.Response().Size)
			return err
		}
	}
}

// stack is the site's, with echo's own middlewares where echo has them.
func stack(s *adaptertest.Site) (outside, inside []echo.MiddlewareFunc) {
	for _, own := range []struct {
		outside, inside adaptertest.Stack
		m               func() echo.MiddlewareFunc
	}{
		{adaptertest.RecoverOutside, adaptertest.RecoverInside, func() echo.MiddlewareFunc {
			return middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: func(_ echo.Context, err error, _ []byte) error {
				s.Note("panic", err)
				return err
			}})
		}},
		{adaptertest.DumpOutside, adaptertest.DumpInside, func() echo.MiddlewareFunc {
			return middleware.BodyDump(func(_ echo.Context, request, response []byte) { s.Dump(string(request), string(response)) })
		}},
		{adaptertest.LoggerOutside, adaptertest.LoggerInside, func() echo.MiddlewareFunc {
			return middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
				HandleError: true, LogMethod: true, LogURI: true, LogStatus: true, LogHost: true, LogError: true,
				LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error {
					s.Note("log", []any{v.Method, v.URI, v.Status, v.Host, v.Error})
					return nil
				},
			})
		}},
		{adaptertest.GzipOutside, adaptertest.GzipInside, middleware.Gzip},
		{adaptertest.CORSOutside, adaptertest.CORSInside, func() echo.MiddlewareFunc {
			return middleware.CORSWithConfig(middleware.CORSConfig{
				AllowOrigins: adaptertest.CORS.AllowedOrigins, AllowMethods: adaptertest.CORS.AllowedMethods,
				AllowHeaders: adaptertest.CORS.AllowedHeaders, ExposeHeaders: adaptertest.CORS.ExposedHeaders,
				AllowCredentials: true, MaxAge: adaptertest.CORS.MaxAge,
			})
		}},
		{adaptertest.LimiterOutside, adaptertest.LimiterInside, func() echo.MiddlewareFunc {
			return middleware.RateLimiterWithConfig(middleware.RateLimiterConfig{
				Store:        none{},
				DenyHandler:  func(echo.Context, string, error) error { return echo.NewHTTPError(429, "too many, "+canary) },
				ErrorHandler: func(_ echo.Context, err error) error { return err },
			})
		}},
		{adaptertest.RequestIDOutside, adaptertest.RequestIDInside, middleware.RequestID},
		{adaptertest.TimeoutOutside, adaptertest.TimeoutInside, func() echo.MiddlewareFunc {
			return middleware.ContextTimeoutWithConfig(middleware.ContextTimeoutConfig{
				Timeout: adaptertest.SoonOver,
				ErrorHandler: func(err error, _ echo.Context) error {
					return echo.NewHTTPError(http.StatusGatewayTimeout).SetInternal(err)
				},
			})
		}},
		{adaptertest.BasicAuthOutside, adaptertest.BasicAuthInside, func() echo.MiddlewareFunc {
			return middleware.BasicAuth(func(user, password string, _ echo.Context) (bool, error) {
				return user == adaptertest.CredentialUser && password == adaptertest.CredentialPassword, nil
			})
		}},
		{adaptertest.BearerAuthOutside, adaptertest.BearerAuthInside, func() echo.MiddlewareFunc {
			return middleware.KeyAuth(func(key string, _ echo.Context) (bool, error) {
				return key == adaptertest.CredentialPassword, nil
			})
		}},
		{adaptertest.SessionOutside, adaptertest.SessionInside, func() echo.MiddlewareFunc { return session }},
		{adaptertest.BodyLimitOutside, adaptertest.BodyLimitInside, func() echo.MiddlewareFunc {
			return middleware.BodyLimit(fmt.Sprint(adaptertest.BodyLimit))
		}},
		{adaptertest.ErrorsOutside, adaptertest.ErrorsInside, func() echo.MiddlewareFunc { return renderErrors }},
	} {
		if s.Stack == own.outside || s.Stack == own.inside {
			return adaptertest.Place(s, own.outside, own.inside, own.m())
		}
	}
	return nil, nil
}

// none is a rate limiter's store that allows nothing.
type none struct{}

func (none) Allow(string) (bool, error) { return false, nil }

// session sets its cookie when the response is committed, as session stores for echo do.
func session(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Before(func() { c.SetCookie(&http.Cookie{Name: "session", Value: "s3", HttpOnly: true}) })
		return next(c)
	}
}

// renderErrors turns errors into responses.
func renderErrors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		if he, ok := errors.AsType[*echo.HTTPError](err); ok {
			return c.JSON(he.Code, map[string]any{"page": canary})
		}
		return err
	}
}

// router is the site's application.
func router(s *adaptertest.Site) http.Handler {
	options := []echoseal.Option{echoseal.WithAccount(account)}
	if s.Render {
		options = append(options, echoseal.WithErrorHandler(func(_ echo.Context, err error) error { return err }))
	}
	root, group, route := []echo.MiddlewareFunc{echoseal.Middleware(s.M, options...)}, []echo.MiddlewareFunc(nil), []echo.MiddlewareFunc(nil)
	switch s.Stack {
	case adaptertest.AtGroup:
		root, group = nil, root
	case adaptertest.AtRoute:
		root, route = nil, root
	case adaptertest.Twice:
		group, route = root, root
	case adaptertest.RequiredAtRoute:
		route = []echo.MiddlewareFunc{echoseal.Middleware(s.M, append(options, echoseal.WithPolicy(func(echo.Context) (sealhttp.Policy, error) {
			return sealhttp.Required, nil
		}))...)}
	}
	outside, inside := stack(s)
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.Validator = validate{validator.New()}
	e.Renderer = renderer{adaptertest.Page}
	e.Filesystem = os.DirFS(filepath.Dir(s.File))
	e.Use(logged(s), authenticate)
	e.Use(outside...)
	e.Use(root...)
	e.Use(inside...)
	g := e.Group("", group...)
	see := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			s.See(c.Request())
			s.Note("echo", []any{c.Path(), c.ParamNames(), c.ParamValues()})
			return next(c)
		}
	}
	own := handlers(s)
	for _, r := range s.Routes() {
		h, has := own[r.Method+" "+r.Path]
		if !has {
			h = echo.WrapHandler(r.Handler)
		}
		path := strings.NewReplacer("{id}", ":id", "{note}", ":note").Replace(r.Path)
		g.Add(r.Method, path, h, append(route, see)...)
	}
	if s.Stack == adaptertest.TimeoutHandler {
		return http.TimeoutHandler(e, adaptertest.SoonOver, canary)
	}
	return e
}

// handlers are the routes that are written another way for echo.
func handlers(s *adaptertest.Site) map[string]echo.HandlerFunc {
	return map[string]echo.HandlerFunc{
		"POST /json":  bindJSON,
		"PUT /json":   bindJSON,
		"PATCH /json": bindJSON,
		"POST /form": func(c echo.Context) error {
			var p adaptertest.Person
			if err := c.Bind(&p); err != nil {
				return err
			}
			s.Note("form", []any{c.FormValue("name"), p})
			return c.JSON(http.StatusOK, adaptertest.Greet(p))
		},
		"POST /upload": func(c echo.Context) error {
			if err := c.Request().ParseMultipartForm(32 << 10); err != nil {
				return err
			}
			form, err := c.MultipartForm()
			if err != nil {
				return err
			}
			return c.JSON(http.StatusOK, adaptertest.Uploads(form))
		},
		"POST /xml": func(c echo.Context) error {
			var p adaptertest.Person
			if err := c.Bind(&p); err != nil {
				return err
			}
			return c.XML(http.StatusOK, adaptertest.Greet(p))
		},
		"GET /query": func(c echo.Context) error {
			var p adaptertest.Person
			if err := c.Bind(&p); err != nil {
				return err
			}
			return c.JSONPretty(http.StatusOK, adaptertest.Greet(p), " ")
		},
		"GET /users/{id}/notes/{note}": func(c echo.Context) error {
			return c.String(http.StatusOK, canary+": "+c.Param("id")+" "+c.Param("note"))
		},
		"GET /text":     func(c echo.Context) error { return c.String(http.StatusOK, canary) },
		"HEAD /text":    func(c echo.Context) error { return c.String(http.StatusOK, canary) },
		"DELETE /text":  func(c echo.Context) error { return c.NoContent(http.StatusNoContent) },
		"GET /html":     func(c echo.Context) error { return c.Render(http.StatusOK, "page", canary) },
		"GET /blob":     func(c echo.Context) error { return c.Blob(http.StatusOK, "image/png", []byte(canary)) },
		"GET /redirect": func(c echo.Context) error { return c.Redirect(http.StatusFound, "/text") },
		"POST /redirect": func(c echo.Context) error {
			return c.Redirect(http.StatusSeeOther, "/text")
		},
		"GET /stream": func(c echo.Context) error {
			return c.Stream(http.StatusOK, "text/csv", bytes.NewReader(adaptertest.Large[:100_000]))
		},
		"GET /file":       func(c echo.Context) error { return c.File(filepath.Base(s.File)) },
		"GET /attachment": func(c echo.Context) error { return c.Attachment(filepath.Base(s.File), "report.txt") },
		"GET /events": func(c echo.Context) error {
			c.Response().Header().Set(echo.HeaderContentType, "text/event-stream")
			c.Response().WriteHeader(http.StatusOK)
			for i := range 3 {
				fmt.Fprintf(c.Response(), "id: %d\ndata: %s\n\n", i, canary)
				c.Response().Flush()
			}
			return nil
		},
		"GET /fail": func(c echo.Context) error {
			c.Response().Header().Set("X-Kept", "yes")
			return echo.NewHTTPError(http.StatusConflict, "no: "+canary)
		},
		"POST /fail": func(c echo.Context) error {
			return echo.NewHTTPError(http.StatusUnprocessableEntity, map[string]string{"error": canary}).SetInternal(errors.New("internal"))
		},
		"GET /broken":    func(echo.Context) error { return errors.New("a secret of the database: " + canary) },
		"GET /forbidden": func(c echo.Context) error { return c.NoContent(http.StatusForbidden) },
		"POST /echo": func(c echo.Context) error {
			body, err := io.ReadAll(c.Request().Body)
			if he, ok := errors.AsType[*echo.HTTPError](err); ok {
				return he
			} else if err != nil {
				return echo.ErrBadRequest.WithInternal(err)
			}
			return c.Blob(http.StatusOK, c.Request().Header.Get(echo.HeaderContentType), body)
		},
		"POST /unread":  func(c echo.Context) error { return c.String(http.StatusOK, canary) },
		"GET /nothing":  func(echo.Context) error { return nil },
		"GET /accepted": func(c echo.Context) error { return c.NoContent(http.StatusAccepted) },
		"GET /late": func(c echo.Context) error {
			s.Late(c.Response().Writer, c.Request()) // the context is not the handler's any more, then
			return nil
		},
		"GET /header": func(c echo.Context) error {
			adaptertest.ManyFields(c.Response().Header())
			return c.Blob(http.StatusOK, "application/vnd.api+json; charset=utf-8", []byte(canary))
		},
		// Through Response, a 1xx would be the response.
		"GET /hints": func(c echo.Context) error {
			s.Hints(c.Response().Writer, c.Request())
			return nil
		},
		"GET /session": func(c echo.Context) error {
			visits := 1
			if cookie, err := c.Cookie("visits"); err == nil {
				n := 0
				fmt.Sscan(cookie.Value, &n)
				visits += n
			}
			c.SetCookie(&http.Cookie{Name: "visits", Value: fmt.Sprint(visits), Path: "/", HttpOnly: true})
			return c.String(http.StatusOK, fmt.Sprint(canary, " has come ", visits, " times"))
		},
		"GET /slow": func(c echo.Context) error {
			s.Slow(c.Request())
			return c.Request().Context().Err()
		},
		"GET /account": func(c echo.Context) error {
			return c.String(http.StatusOK, canary+" for "+cmp.Or(account(c), sealhttp.Account(c.Request().Context())))
		},
	}
}

func bindJSON(c echo.Context) error {
	var p adaptertest.Person
	err := c.Bind(&p)
	if err == nil {
		err = c.Validate(&p)
	}
	if err != nil {
		code := http.StatusBadRequest
		if he, ok := errors.AsType[*echo.HTTPError](err); ok {
			code = he.Code
		}
		return echo.NewHTTPError(code, canary+err.Error())
	}
	c.Response().Header().Set(echo.HeaderLocation, "/people/1")
	return c.JSON(http.StatusCreated, adaptertest.Greet(p))
}

var shared = adaptertest.Router{Name: "echo", New: router}

func TestScenarios(t *testing.T) { adaptertest.Run(t, shared, adaptertest.Rows()) }

func TestRefusals(t *testing.T) { adaptertest.RunRefusals(t, shared) }

func TestWebSocket(t *testing.T) { adaptertest.RunWebSocket(t, shared) }
