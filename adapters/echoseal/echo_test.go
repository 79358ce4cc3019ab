package echoseal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

var person = []byte(`{"name":"Ada ` + canary + `","age":36}`)

// What only echo has, around the middleware.
const (
	handler        adaptertest.Stack = "own HTTPErrorHandler"
	handlerTwice   adaptertest.Stack = "own HTTPErrorHandler that answers twice"
	handlerSilent  adaptertest.Stack = "own HTTPErrorHandler that answers nothing"
	handlerPanics  adaptertest.Stack = "own HTTPErrorHandler that panics, Recover outside"
	wrapped        adaptertest.Stack = "Middleware.Handler in WrapMiddleware"
	wrapInside     adaptertest.Stack = "WrapMiddleware inside"
	wrapOutside    adaptertest.Stack = "WrapMiddleware outside"
	timeoutOutside adaptertest.Stack = "Timeout outside"
	timeoutInside  adaptertest.Stack = "Timeout inside"
	secure         adaptertest.Stack = "Secure and CSRF outside"
	override       adaptertest.Stack = "MethodOverride, AddTrailingSlash and Rewrite before routing"
	hooks          adaptertest.Stack = "Before and After"
	atGroup        adaptertest.Stack = "mounted at a group of a prefix"
	skipped        adaptertest.Stack = "skipped"
	limitedOutside adaptertest.Stack = "BodyLimit outside"
	decompressOut  adaptertest.Stack = "Decompress outside"
	static         adaptertest.Stack = "Static inside"
	recoverSilent  adaptertest.Stack = "Recover outside that leaves errors to others"
	recoverWrapped adaptertest.Stack = "Recover outside, WrapMiddleware inside"
)

func passOn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Wrapped", "yes")
		next.ServeHTTP(w, r)
	})
}

func echoOnly(s *adaptertest.Site) http.Handler {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	var seal echo.MiddlewareFunc = echoseal.Middleware(s.M, echoseal.WithAccount(account), echoseal.WithSkipper(func(c echo.Context) bool {
		return s.Stack == skipped
	}))
	use := func(middlewares ...echo.MiddlewareFunc) {
		e.Use(append([]echo.MiddlewareFunc{logged(s), authenticate}, middlewares...)...)
	}
	quiet := middleware.RecoverWithConfig(middleware.RecoverConfig{DisablePrintStack: true})
	//lint:ignore SA1019 what users still mount must not break
	timeout := middleware.TimeoutWithConfig(middleware.TimeoutConfig{Timeout: time.Hour})
	switch s.Stack {
	case wrapped:
		use(echo.WrapMiddleware(adaptertest.Authenticate), echo.WrapMiddleware(s.M.Handler))
	case wrapInside:
		use(seal, echo.WrapMiddleware(passOn))
	case wrapOutside:
		use(echo.WrapMiddleware(passOn), seal)
	case timeoutOutside:
		use(timeout, seal)
	case timeoutInside:
		use(seal, timeout)
	case secure:
		use(middleware.Secure(), middleware.CSRFWithConfig(middleware.CSRFConfig{Skipper: func(c echo.Context) bool { return c.Request().Method == "POST" }}), seal)
	case override:
		e.Pre(middleware.MethodOverride(), middleware.RemoveTrailingSlash(), middleware.Rewrite(map[string]string{"/old": "/json"}))
		use(seal)
	case hooks:
		use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				c.Response().Before(func() { c.Response().Header().Set("X-Before", "yes") })
				c.Response().After(func() { s.Note("after", c.Response().Committed) })
				return next(c)
			}
		}, seal)
	case limitedOutside:
		use(middleware.BodyLimit("10"), seal)
	case decompressOut:
		use(middleware.Decompress(), seal)
	case static:
		use(seal, middleware.Static(filepath.Dir(s.File)))
	case handlerPanics:
		use(quiet, seal)
	case recoverSilent:
		use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) (err error) {
				defer func() {
					if v := recover(); v != nil {
						err = echo.NewHTTPError(http.StatusServiceUnavailable, "try again")
					}
				}()
				return next(c)
			}
		}, seal)
	case recoverWrapped:
		use(quiet, seal, echo.WrapMiddleware(passOn))
	case atGroup:
		use()
	default:
		use(seal)
	}
	switch s.Stack {
	case handler:
		e.HTTPErrorHandler = func(err error, c echo.Context) {
			if c.Response().Committed {
				return
			}
			s.Note("error", err)
			_ = c.JSON(http.StatusTeapot, map[string]string{"own": canary})
		}
	case handlerTwice:
		e.HTTPErrorHandler = func(err error, c echo.Context) {
			_ = c.String(http.StatusTeapot, canary)
			_ = c.String(http.StatusTeapot, canary)
		}
	case handlerSilent:
		e.HTTPErrorHandler = func(error, echo.Context) {}
	case handlerPanics:
		e.HTTPErrorHandler = func(err error, c echo.Context) {
			if err.Error() == "a bug in the handler" {
				_ = c.String(http.StatusInternalServerError, "recovered")
				return
			}
			panic("a bug in the handler")
		}
	}
	g := e.Group("")
	if s.Stack == atGroup {
		g = e.Group("/v1", seal)
	}
	see := func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			s.See(c.Request())
			return next(c)
		}
	}
	for path, h := range special(s, e) {
		method, path, _ := strings.Cut(path, " ")
		g.Add(method, path, h, see)
	}
	return e
}

// special are handlers of things that only echo has, or has in its own way.
func special(s *adaptertest.Site, e *echo.Echo) map[string]echo.HandlerFunc {
	greeting := adaptertest.Greet(adaptertest.Person{Name: "Ada", Age: 36})
	inner := echo.New()
	inner.GET("/inner", func(c echo.Context) error { return c.String(http.StatusOK, "inner "+canary) })
	inside := func(c echo.Context) {
		s.Note("response", []any{c.Response().Status, c.Response().Size, c.Response().Committed})
	}
	return map[string]echo.HandlerFunc{
		"GET /json":   func(c echo.Context) error { return c.JSON(http.StatusOK, greeting) },
		"GET /pretty": func(c echo.Context) error { return c.JSONPretty(http.StatusOK, greeting, "  ") },
		"GET /jsonp":  func(c echo.Context) error { return c.JSONP(http.StatusOK, "f", greeting) },
		"GET /xml":    func(c echo.Context) error { return c.XMLPretty(http.StatusOK, greeting, "  ") },
		"GET /raw":    func(c echo.Context) error { return c.JSONBlob(http.StatusOK, person) },
		"GET /inline": func(c echo.Context) error {
			e.Filesystem = os.DirFS(filepath.Dir(s.File))
			return c.Inline(filepath.Base(s.File), "report.txt")
		},
		"POST /bind": func(c echo.Context) error {
			var p adaptertest.Person
			if err := c.Bind(&p); err != nil {
				return err
			}
			return c.JSON(http.StatusOK, adaptertest.Greet(p))
		},
		"PUT /bind": func(c echo.Context) error {
			body, err := io.ReadAll(c.Request().Body)
			s.Note("read", err)
			return c.String(http.StatusOK, "by PUT: "+string(body))
		},
		"GET /http-error": func(echo.Context) error { return echo.NewHTTPError(http.StatusConflict, canary) },
		"GET /wrapped-error": func(echo.Context) error {
			return fmt.Errorf("wrapped: %w", echo.NewHTTPError(http.StatusConflict, canary))
		},
		"GET /internal": func(echo.Context) error {
			return echo.NewHTTPError(http.StatusConflict, "no").SetInternal(echo.NewHTTPError(http.StatusGone, canary))
		},
		"GET /error-after-answer": func(c echo.Context) error {
			if err := c.String(http.StatusOK, canary); err != nil {
				return err
			}
			inside(c)
			return echo.NewHTTPError(http.StatusConflict, "too late")
		},
		"GET /context-error": func(c echo.Context) error {
			c.Error(echo.NewHTTPError(http.StatusConflict, canary))
			inside(c)
			return nil
		},
		"GET /panic":              func(echo.Context) error { panic("a bug") },
		"GET /panic-after-answer": func(c echo.Context) error { _ = c.String(http.StatusOK, canary); panic("a bug") },
		"GET /writer":             func(c echo.Context) error { return c.Stream(http.StatusOK, "text/plain", strings.NewReader(canary)) },
		"GET /inner": func(c echo.Context) error {
			inner.ServeHTTP(c.Response(), c.Request())
			return nil
		},
		"GET /hijack": func(c echo.Context) error {
			_, _, err := c.Response().Hijack()
			s.Note("hijack", errors.Is(err, http.ErrNotSupported))
			return echo.NewHTTPError(http.StatusNotImplemented, canary)
		},
		"GET /direct": func(c echo.Context) error {
			_, err := io.WriteString(c.Response().Writer, canary)
			return err
		},
		"GET /unwrapped": func(c echo.Context) error {
			_, err := io.WriteString(c.Response().Unwrap(), canary)
			return err
		},
		"GET /no-body": func(c echo.Context) error { return c.JSON(http.StatusNoContent, greeting) },
	}
}

func TestEchoOnly(t *testing.T) {
	const none = "-"
	want := func(status int, contains ...string) adaptertest.Want {
		return adaptertest.Want{Status: status, Contains: strings.Join(contains, "")}
	}
	get := func(target string, want adaptertest.Want) adaptertest.Row {
		return adaptertest.Row{Name: target, Target: target, Want: want}
	}
	at := func(stack adaptertest.Stack, target string, want adaptertest.Want, reply *adaptertest.Want) adaptertest.Row {
		return adaptertest.Row{Name: string(stack) + ", " + target, Stack: stack, Target: target, Want: want, WantReply: reply}
	}
	bind := func(stack adaptertest.Stack) adaptertest.Row {
		return adaptertest.Row{Name: string(stack) + ", bind", Stack: stack, Method: "POST", Target: "/bind", Body: person, Want: want(200)}
	}
	notLogged := func(row adaptertest.Row) adaptertest.Row {
		row.NotLogged = true
		return row
	}
	overridden := bind(override)
	overridden.Header = map[string]string{"X-HTTP-Method-Override": "PUT"}
	overridden.Want = want(200, "by PUT: ")
	tooLarge := bind(limitedOutside)
	tooLarge.Chunked, tooLarge.HandlerDiffers = true, true
	tooLarge.Want = want(200) // all of it came with the read that was one too far, and was enough for the JSON decoder
	tooLarge.WantOpened = &adaptertest.Want{Status: 413, Code: sealhttp.CodeTooLarge, Contains: "too_large", InClear: true}
	tooLarge.WantSealed = tooLarge.WantOpened
	notSkipped := bind(skipped)
	notSkipped.HandlerDiffers = true
	notSkipped.WantOpened = &adaptertest.Want{Status: 415, Contains: none, Differs: true}
	notSkipped.WantReply = &adaptertest.Want{InClear: true}
	notSkipped.WantSealed = &adaptertest.Want{Status: 415, Contains: none, InClear: true, Differs: true}
	doubled := at(handlerTwice, "/http-error", want(418, canary, canary, canary, canary), &adaptertest.Want{Contains: canary + canary, Differs: true})
	doubled.NotLoggedInClear = true
	adaptertest.Run(t, adaptertest.Router{Name: "echo", New: echoOnly}, []adaptertest.Row{
		get("/json", want(200)),
		get("/pretty", want(200)),
		get("/jsonp", want(200)),
		get("/xml", want(200)),
		get("/raw", want(200)),
		get("/inline", want(200)),
		get("/no-body", want(204)),
		bind(adaptertest.Bare),
		get("/http-error", want(409)),
		get("/wrapped-error", want(500, none)),
		get("/internal", want(410)),
		get("/error-after-answer", want(200)),
		get("/context-error", want(409)),
		get("/inner", want(200, "inner ")),
		{Name: "/hijack", Target: "/hijack", OnlySealed: true, Want: want(501), Check: func(t *testing.T, _ adaptertest.Mode, a *adaptertest.Answer) {
			if a.Notes["hijack"] != "true\n" {
				t.Errorf("Hijack is not refused as not supported: %v", a.Notes)
			}
		}},
		{Name: "/direct", Target: "/direct", Want: want(200), NotLoggedInClear: true},
		{Name: "/unwrapped", Target: "/unwrapped", Want: want(200), NotLoggedInClear: true},

		at(handler, "/http-error", want(418), nil),
		at(handler, "/missing", want(418), nil),
		// In plaintext a logger in front makes it four: the handler does not look at Committed.
		doubled,
		at(handlerSilent, "/http-error", want(200, none), nil),
		// It runs inside, and so within what recovers.
		at(handlerPanics, "/http-error", adaptertest.Want{Aborted: true}, &adaptertest.Want{Status: 500, Contains: "recovered", InClear: true, Differs: true}),

		bind(wrapInside),
		notLogged(at(wrapInside, "/http-error", want(409), nil)),
		at(wrapInside, "/missing", want(404, none), nil),
		bind(wrapOutside),
		at(wrapOutside, "/http-error", want(409), nil),
		// What net/http's mounting of a Middleware makes of echo's errors: they are lost.
		notLogged(at(wrapped, "/http-error", want(409), &adaptertest.Want{Status: 200, Contains: none, Differs: true})),

		bind(timeoutInside),
		at(timeoutInside, "/http-error", want(409), nil),
		notLogged(bind(timeoutOutside)),
		// Timeout throws away what was answered when an error is returned to it.
		notLogged(at(timeoutOutside, "/http-error", want(409), &adaptertest.Want{Aborted: true})),

		bind(secure),
		overridden,
		at(override, "/json/", want(200), nil),
		at(override, "/old", want(200), nil),
		{Name: string(hooks), Stack: hooks, Target: "/json", Want: want(200), Check: func(t *testing.T, _ adaptertest.Mode, a *adaptertest.Answer) {
			if a.Header.Get("X-Before") != "yes" || a.Notes["after"] != "true\n" {
				t.Errorf("header %v, notes %v", a.Header, a.Notes)
			}
		}},
		tooLarge,
		{Name: string(decompressOut), Stack: decompressOut, Method: "POST", Target: "/bind", Body: person, Want: want(200)},
		at(static, "/file.txt", want(200, "A file"), nil),
		at(recoverSilent, "/panic", want(503, "try again"), &adaptertest.Want{Contains: "try again", InClear: true, Differs: true}),
		at(recoverSilent, "/panic-after-answer", want(200), &adaptertest.Want{Status: 503, Contains: "try again", InClear: true, Differs: true}),
		at(recoverWrapped, "/panic-after-answer", want(200), &adaptertest.Want{Status: 500, Contains: none, InClear: true, Differs: true}),
		{Name: "group, not found", Stack: atGroup, Target: "/v1/missing", Want: want(404, none)},
		{Name: "group, elsewhere not found", Stack: atGroup, Target: "/missing", Want: want(404, none), WantReply: &adaptertest.Want{Contains: none, InClear: true}},
		{Name: "group, method not allowed", Stack: atGroup, Method: "DELETE", Target: "/v1/json", Want: want(404, none)},
		notSkipped,
	})
}

func serveOnce(t *testing.T, e *echo.Echo, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = header
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func TestWithPolicy(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithPolicy(sealhttp.Disabled), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	for _, row := range []struct {
		name   string
		policy sealhttp.Policy
		err    error
		accept string
		status int
		code   sealhttp.Code
	}{
		{"Optional, plain", sealhttp.Optional, nil, "*/*", 200, ""},
		{"Optional, sealed", sealhttp.Optional, nil, sealhttp.MediaType, 200, ""},
		{"Required, plain", sealhttp.Required, nil, "*/*", 406, sealhttp.CodeEncryptionRequired},
		{"Required, sealed", sealhttp.Required, nil, sealhttp.MediaType, 200, ""},
		{"Disabled, sealed", sealhttp.Disabled, nil, sealhttp.MediaType, 406, sealhttp.CodeEncryptionDisabled},
		{"zero", 0, nil, "*/*", 503, sealhttp.CodePolicyUnavailable},
		{"none", 77, nil, "*/*", 503, sealhttp.CodePolicyUnavailable},
		{"error", sealhttp.Optional, errors.New("down"), "*/*", 503, sealhttp.CodePolicyUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := echo.New()
			e.Use(authenticate, echoseal.Middleware(m, echoseal.WithAccount(account), echoseal.WithPolicy(func(c echo.Context) (sealhttp.Policy, error) {
				if c.Path() != "/" || sealhttp.Account(c.Request().Context()) != adaptertest.Account {
					t.Errorf("the policy is asked for %q of %q", c.Path(), sealhttp.Account(c.Request().Context()))
				}
				return row.policy, row.err
			})))
			e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "hello") })
			w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {row.accept}})
			if w.Code != row.status || w.Header().Get("Sealed-Error") != string(row.code) {
				t.Errorf("answered with %d %q, want %d %q", w.Code, w.Header().Get("Sealed-Error"), row.status, row.code)
			}
			if sealed := row.accept == sealhttp.MediaType && row.code == ""; (w.Header().Get("Content-Type") == sealhttp.MediaType) != sealed {
				t.Errorf("Content-Type %q", w.Header().Get("Content-Type"))
			}
		})
	}
}

// What c.Set stores is not in the request's context. That is said once.
func TestWithoutAccount(t *testing.T) {
	var log bytes.Buffer
	m := adaptertest.NewMiddleware(t, sealhttp.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	header := http.Header{"X-Account": {adaptertest.Account}, "Accept": {sealhttp.MediaType}}
	for _, row := range []struct {
		name    string
		options []echoseal.Option
		status  int
		said    int
	}{
		{"with WithAccount", []echoseal.Option{echoseal.WithAccount(account)}, 200, 0},
		{"without", nil, 406, 1},
		{"without, again", nil, 406, 1},
	} {
		e := echo.New()
		e.Use(authenticate, echoseal.Middleware(m, row.options...))
		e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "hello") })
		if w := serveOnce(t, e, header.Clone()); w.Code != row.status {
			t.Errorf("%s: status %d, want %d", row.name, w.Code, row.status)
		}
		if said := strings.Count(log.String(), "level=WARN"); said != row.said {
			t.Errorf("%s: said %d times, want %d: %s", row.name, said, row.said, &log)
		}
	}
}

// A refusal that the error handler has answered itself, and what it is given.
func TestWithErrorHandler(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithMaxResponseBytes(10), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	for _, row := range []struct {
		accept string
		status int
		code   sealhttp.Code
	}{
		{"*/*", 406, sealhttp.CodeEncryptionRequired},
		{sealhttp.MediaType, 500, sealhttp.CodeResponseTooLarge},
	} {
		e := echo.New()
		var size int64
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				err := next(c)
				size = c.Response().Size
				return err
			}
		}, authenticate, echoseal.Middleware(m, echoseal.WithAccount(account), echoseal.WithErrorHandler(func(c echo.Context, err error) error {
			he, ok := errors.AsType[*echo.HTTPError](err)
			if !ok || he.Code != row.status || !errors.Is(err, row.code) {
				t.Errorf("the error is %v", err)
			}
			return c.String(he.Code, fmt.Sprint("no: ", he.Message))
		})))
		e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, strings.Repeat(canary, 10)) })
		w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {row.accept}})
		if w.Code != row.status || w.Body.String() != fmt.Sprint("no: ", row.code) || w.Header().Get("Sealed-Error") != string(row.code) {
			t.Errorf("answered with %d %q %v", w.Code, w.Body, w.Header())
		}
		if size != int64(w.Body.Len()) {
			t.Errorf("echo's size is %d, want %d", size, w.Body.Len())
		}
	}
}

// A handler's error is still there for loggers further out, rendered or not.
func TestErrorIsReturned(t *testing.T) {
	m := adaptertest.NewMiddleware(t)
	for _, accept := range []string{"*/*", sealhttp.MediaType} {
		var got error
		e := echo.New()
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				got = next(c)
				return got
			}
		}, authenticate, echoseal.Middleware(m, echoseal.WithAccount(account)))
		want := echo.NewHTTPError(http.StatusConflict, "no")
		e.GET("/", func(echo.Context) error { return want })
		w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {accept}})
		if w.Code != http.StatusConflict || got != error(want) {
			t.Errorf("%s: answered with %d, and outside is %v", accept, w.Code, got)
		}
	}
}

// A call in plaintext costs no allocation.
func TestPlaintextAllocations(t *testing.T) {
	h := echoseal.Middleware(adaptertest.NewMiddleware(t))(func(echo.Context) error { return nil })
	w := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest("GET", "/", nil), w)
	allocations := testing.AllocsPerRun(200, func() {
		clear(w.Header())
		if err := h(c); err != nil {
			t.Error(err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}
