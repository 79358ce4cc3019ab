package ginseal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/binding"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

var person = []byte(`{"name":"Ada ` + canary + `","age":36}`)

// What only gin has, around the middleware.
const (
	errorLogger  adaptertest.Stack = "ErrorLogger outside"
	limiter      adaptertest.Stack = "a limit that answers from within Read, outside"
	atGroup      adaptertest.Stack = "mounted at a group"
	atRoute      adaptertest.Stack = "mounted at a route"
	noRouteJSON  adaptertest.Stack = "NoRoute and NoMethod answer"
	noRouteState adaptertest.Stack = "NoRoute and NoMethod set the status"
	noRouteAbort adaptertest.Stack = "NoRoute and NoMethod abort"
	noRouteFound adaptertest.Stack = "NoRoute and NoMethod set another status"
	skipped      adaptertest.Stack = "skipped"
	dumped       adaptertest.Stack = "outer writer"
	twice        adaptertest.Stack = "mounted twice"
)

// limitedBody answers when it has been read too far, as limiters for gin do.
type limitedBody struct {
	io.ReadCloser
	c    *gin.Context
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		err = errors.New("HTTP request too large")
		_ = b.c.Error(err)
		b.c.String(http.StatusRequestEntityTooLarge, "request too large")
		b.c.Abort()
		return 0, err
	}
	return n, err
}

func ginOnly(s *adaptertest.Site) http.Handler {
	seal := ginseal.Middleware(s.M, ginseal.WithAccount(account), ginseal.WithSkipper(func(c *gin.Context) bool {
		return s.Stack == skipped
	}))
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.Use(logged(s), authenticate)
	switch s.Stack {
	case errorLogger:
		e.Use(gin.ErrorLogger(), seal)
	case limiter:
		e.Use(func(c *gin.Context) { c.Request.Body = &limitedBody{c.Request.Body, c, 10} }, seal)
	case dumped:
		e.Use(dump(s), seal)
	case twice:
		e.Use(seal, seal)
	case atGroup, atRoute:
	default:
		e.Use(seal)
	}
	switch s.Stack {
	case noRouteJSON:
		h := func(c *gin.Context) { c.JSON(c.Writer.Status(), gin.H{"nothing": canary}) }
		e.NoRoute(h)
		e.NoMethod(h)
	case noRouteState:
		h := func(c *gin.Context) { c.Status(c.Writer.Status()) }
		e.NoRoute(h)
		e.NoMethod(h)
	case noRouteAbort:
		h := func(c *gin.Context) { c.AbortWithStatus(http.StatusNotFound) }
		e.NoRoute(h)
		e.NoMethod(h)
	case noRouteFound:
		h := func(c *gin.Context) { c.Status(http.StatusGone) }
		e.NoRoute(h)
		e.NoMethod(h)
	}
	g := e.Group("/")
	if s.Stack == atGroup {
		g.Use(seal)
	}
	for path, h := range special(s, e) {
		method, path, _ := strings.Cut(path, " ")
		chain := []gin.HandlerFunc{func(c *gin.Context) { s.See(c.Request) }, h}
		if s.Stack == atRoute && path != "/json" {
			chain = append([]gin.HandlerFunc{seal}, chain...)
		}
		g.Handle(method, path, chain...)
	}
	return e
}

// inside notes what a handler can ask the writer.
func inside(s *adaptertest.Site, c *gin.Context) {
	s.Note("writer", []any{c.Writer.Status(), c.Writer.Size(), c.Writer.Written()})
}

// special are handlers of things that only gin has, or has in its own way.
func special(s *adaptertest.Site, e *gin.Engine) map[string]gin.HandlerFunc {
	greeting := adaptertest.Greet(adaptertest.Person{Name: "Ada", Age: 36})
	inner := gin.New()
	inner.Use(authenticate, ginseal.Middleware(s.M, ginseal.WithAccount(account)))
	inner.GET("/inner", func(c *gin.Context) { c.String(http.StatusOK, "inner "+canary) })
	return map[string]gin.HandlerFunc{
		"GET /json":   func(c *gin.Context) { c.JSON(http.StatusOK, greeting) },
		"GET /pure":   func(c *gin.Context) { c.PureJSON(http.StatusOK, greeting) },
		"GET /ascii":  func(c *gin.Context) { c.AsciiJSON(http.StatusOK, greeting) },
		"GET /secure": func(c *gin.Context) { c.SecureJSON(http.StatusOK, []string{canary}) },
		"GET /jsonp":  func(c *gin.Context) { c.JSONP(http.StatusOK, greeting) },
		"GET /yaml":   func(c *gin.Context) { c.YAML(http.StatusOK, gin.H{"canary": canary}) },
		"GET /toml":   func(c *gin.Context) { c.TOML(http.StatusOK, gin.H{"canary": canary}) },
		"GET /negotiated": func(c *gin.Context) {
			c.Negotiate(http.StatusOK, gin.Negotiate{Offered: []string{gin.MIMEJSON, gin.MIMEXML}, Data: greeting})
		},
		"POST /bind": func(c *gin.Context) {
			var p adaptertest.Person
			if c.BindJSON(&p) == nil {
				c.JSON(http.StatusOK, adaptertest.Greet(p))
			}
		},
		"POST /bind-twice": func(c *gin.Context) {
			var p, q adaptertest.Person
			s.Note("bind", []any{c.ShouldBindBodyWith(&p, binding.JSON), c.ShouldBindBodyWith(&q, binding.JSON)})
			c.JSON(http.StatusOK, adaptertest.Greet(q))
		},
		"GET /uri/:name/:age": func(c *gin.Context) {
			var p struct {
				Name string `uri:"name" binding:"required"`
				Age  int    `uri:"age" binding:"max=150"`
			}
			if err := c.BindUri(&p); err != nil {
				return
			}
			c.JSON(http.StatusOK, adaptertest.Greet(adaptertest.Person{Name: p.Name, Age: p.Age}))
		},
		"POST /save": func(c *gin.Context) {
			file, err := c.FormFile("file")
			if err != nil {
				_ = c.AbortWithError(http.StatusBadRequest, err)
				return
			}
			s.Note("saved", c.SaveUploadedFile(file, filepath.Join(filepath.Dir(s.File), "saved.csv")))
			c.String(http.StatusOK, "%s %s", file.Filename, canary)
		},
		"GET /last-status": func(c *gin.Context) {
			c.Status(http.StatusConflict)
			inside(s, c)
			c.Status(http.StatusCreated)
			c.Status(0)
			c.Status(-1)
			inside(s, c)
			_, _ = c.Writer.WriteString(canary)
			c.Status(http.StatusConflict)
			inside(s, c)
		},
		"GET /status-now": func(c *gin.Context) {
			c.Status(http.StatusAccepted)
			c.Writer.WriteHeaderNow()
			inside(s, c)
			c.JSON(http.StatusConflict, greeting)
			inside(s, c)
		},
		"GET /flush-first": func(c *gin.Context) {
			c.Status(http.StatusCreated)
			c.Writer.Flush()
			c.Header("X-Late", "yes")
			inside(s, c)
			c.String(http.StatusConflict, canary)
		},
		"GET /own-404":     func(c *gin.Context) { c.Status(http.StatusNotFound) },
		"GET /no-body":     func(c *gin.Context) { c.JSON(http.StatusNoContent, greeting) },
		"GET /no-change":   func(c *gin.Context) { c.JSON(http.StatusNotModified, greeting) },
		"GET /created":     func(c *gin.Context) { c.Redirect(http.StatusCreated, "/json") },
		"GET /rendered":    func(c *gin.Context) { c.Status(http.StatusAccepted); c.SSEvent("message", canary) },
		"GET /bad-request": func(c *gin.Context) { _ = c.AbortWithError(http.StatusBadRequest, errors.New(canary)) },
		"GET /warned": func(c *gin.Context) {
			_ = c.Error(errors.New("a warning"))
			c.String(http.StatusOK, canary)
		},
		"GET /accepted-with-error": func(c *gin.Context) {
			_ = c.Error(errors.New("a warning"))
			c.Status(http.StatusAccepted)
		},
		"GET /from-fs": func(c *gin.Context) {
			c.FileFromFS(filepath.Base(s.File), http.Dir(filepath.Dir(s.File)))
		},
		"GET /engine": func(c *gin.Context) {
			c.Request.URL.Path = "/inner"
			gin.WrapH(inner)(c)
			_, err := c.Writer.WriteString(", and outer")
			s.Note("outer", err)
		},
		"GET /elsewhere": func(c *gin.Context) {
			c.Request.URL.Path = "/json"
			e.HandleContext(c)
		},
		"GET /nowhere": func(c *gin.Context) {
			c.Request.URL.Path = "/missing"
			e.HandleContext(c)
		},
		"GET /unwrapped": func(c *gin.Context) {
			u, ok := c.Writer.(interface{ Unwrap() http.ResponseWriter })
			s.Note("unwrap", ok)
			_, _ = io.WriteString(u.Unwrap(), canary)
		},
		"GET /pusher": func(c *gin.Context) {
			c.String(http.StatusOK, "%s %t", canary, c.Writer.Pusher() == nil)
		},
	}
}

func TestGinOnly(t *testing.T) {
	want := func(status int, contains ...string) adaptertest.Want {
		return adaptertest.Want{Status: status, Contains: strings.Join(contains, "")}
	}
	const none = "-"
	inClear := func(status int) *adaptertest.Want {
		return &adaptertest.Want{Status: status, Contains: none, InClear: true}
	}
	get := func(target string, want adaptertest.Want) adaptertest.Row {
		return adaptertest.Row{Name: target, Target: target, Want: want}
	}
	missing := func(stack adaptertest.Stack, method, target string, want adaptertest.Want) adaptertest.Row {
		return adaptertest.Row{Name: string(stack) + ", " + method + " " + target, Stack: stack, Method: method, Target: target, Want: want, NotLoggedInClear: true}
	}
	upload := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\n" + canary + "\r\n--x--\r\n"
	adaptertest.Run(t, adaptertest.Router{Name: "gin", New: ginOnly}, []adaptertest.Row{
		get("/json", want(200)),
		get("/pure", want(200)),
		get("/ascii", want(200)),
		get("/secure", want(200)),
		get("/jsonp?callback=f", want(200)),
		get("/yaml", want(200)),
		get("/toml", want(200)),
		{Name: "negotiated", Target: "/negotiated", Header: map[string]string{"Accept": "application/xml"}, Want: want(200, "<text>")},
		{Name: "bound", Method: "POST", Target: "/bind", Body: person, Want: want(200)},
		{Name: "not bound", Method: "POST", Target: "/bind", Body: []byte(canary), Want: want(400, none)},
		{Name: "bound twice", Method: "POST", Target: "/bind-twice", Body: person, Want: want(200)},
		get("/uri/Ada/36", want(200)),
		get("/uri/Ada/236", want(400, none)),
		{Name: "saved", Method: "POST", Target: "/save", Body: []byte(upload), ContentType: "multipart/form-data; boundary=x", Want: want(200)},
		get("/last-status", want(201)),
		get("/status-now", want(202)),
		get("/flush-first", want(201)),
		get("/own-404", want(404, none)),
		get("/no-body", want(204)),
		get("/no-change", want(304)),
		get("/created", want(201, none)),
		get("/rendered", want(202, "event:message")),
		get("/warned", want(200)),
		get("/accepted-with-error", want(202, none)),
		get("/from-fs", want(200)),
		get("/engine", want(200, "inner ", canary, ", and outer")),
		{Name: "/unwrapped", Target: "/unwrapped", Want: want(200), NotLoggedInClear: true},
		{Name: "pusher", Target: "/pusher", OnlySealed: true, Want: want(200, "true")},
		{Name: "an outer writer by value", Stack: dumped, Method: "POST", Target: "/bind", Body: person, Want: want(200), HandlerDiffers: true},
		{Name: "mounted twice", Stack: twice, Method: "POST", Target: "/bind", Body: person, Want: want(200)},

		missing(noRouteJSON, "GET", "/missing", want(404)),
		missing(noRouteJSON, "PUT", "/json", want(405)),
		missing(noRouteState, "GET", "/missing", want(404, "404 page not found")),
		missing(noRouteState, "PUT", "/json", want(405, "405 method not allowed")),
		missing(noRouteAbort, "GET", "/missing", want(404, none)),
		missing(noRouteAbort, "PUT", "/json", want(404, none)),
		missing(noRouteFound, "GET", "/missing", want(410, none)),
		missing(noRouteFound, "PUT", "/json", want(410, none)),
		missing(noRouteFound, "HEAD", "/missing", want(410)),

		// Below the engine, what is not found is not seen.
		{Name: "mounted at a group, not found", Stack: atGroup, Target: "/missing", Want: want(404, none), WantReply: inClear(404), NotLogged: true},
		// gin redirects before any middleware runs.
		{Name: "trailing slash", Target: "/json/", Want: want(301, none), WantReply: inClear(301)},
		// It writes behind the response of another, which it may not.
		{Name: "ErrorLogger outside", Stack: errorLogger, Target: "/bad-request", Want: want(400), WantReply: &adaptertest.Want{Contains: none, Differs: true}},
		{Name: "ErrorLogger outside, no error", Stack: errorLogger, Target: "/json", Want: want(200)},
		{Name: "a limit that answers from within Read", Stack: limiter, Method: "POST", Target: "/bind", Body: person, Want: want(413, "request too large"),
			WantReply: &adaptertest.Want{Contains: "request too large", Differs: true}, WantOpened: inClear(413), WantSealed: inClear(413), HandlerDiffers: true},
		{Name: "skipped", Stack: skipped, Method: "POST", Target: "/bind", Body: person, Want: want(200), WantOpened: &adaptertest.Want{Status: 400, Contains: none, Differs: true},
			WantReply: &adaptertest.Want{InClear: true}, WantSealed: &adaptertest.Want{Status: 400, Contains: none, InClear: true, Differs: true}, HandlerDiffers: true},

		// HandleContext puts gin's own writer back.
		get("/elsewhere", want(200)),
		{Name: "/nowhere", Target: "/nowhere", Want: want(404, "404 page not found"), NotLoggedInClear: true},
		{Name: "HandleContext, mounted twice", Stack: twice, Target: "/elsewhere", Want: want(200)},
		{Name: "HandleContext, to a route without the middleware", Stack: atRoute, Target: "/elsewhere", Want: want(200), WantReply: &adaptertest.Want{Aborted: true}},
	})
}

func serveOnce(t *testing.T, e *gin.Engine, header http.Header) *httptest.ResponseRecorder {
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
			e := gin.New()
			e.Use(authenticate, ginseal.Middleware(m, ginseal.WithAccount(account), ginseal.WithPolicy(func(c *gin.Context) (sealhttp.Policy, error) {
				if c.FullPath() != "/" || sealhttp.Account(c.Request.Context()) != adaptertest.Account {
					t.Errorf("the policy is asked for %q of %q", c.FullPath(), sealhttp.Account(c.Request.Context()))
				}
				return row.policy, row.err
			})))
			e.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
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
		options []ginseal.Option
		status  int
		said    int
	}{
		{"with WithAccount", []ginseal.Option{ginseal.WithAccount(account)}, 200, 0},
		{"without", nil, 406, 1},
		{"without, again", nil, 406, 1},
	} {
		e := gin.New()
		e.Use(authenticate, ginseal.Middleware(m, row.options...))
		e.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
		if w := serveOnce(t, e, header.Clone()); w.Code != row.status {
			t.Errorf("%s: status %d, want %d", row.name, w.Code, row.status)
		}
		if said := strings.Count(log.String(), "level=WARN"); said != row.said {
			t.Errorf("%s: said %d times, want %d: %s", row.name, said, row.said, &log)
		}
	}
}

// A refusal that the error handler has answered, and one that it leaves to others.
func TestWithErrorHandler(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithMaxResponseBytes(10), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	ran := false
	e := gin.New()
	e.Use(authenticate, ginseal.Middleware(m, ginseal.WithAccount(account), ginseal.WithErrorHandler(func(c *gin.Context, err error) {
		e, _ := errors.AsType[*sealhttp.Error](err)
		c.String(e.Status, "no: %s", e.Code)
	})))
	e.GET("/", func(c *gin.Context) {
		ran = true
		c.String(http.StatusOK, strings.Repeat(canary, 10))
	})
	for _, row := range []struct {
		accept string
		status int
		code   sealhttp.Code
		ran    bool
	}{
		{"*/*", 406, sealhttp.CodeEncryptionRequired, false},
		{sealhttp.MediaType, 500, sealhttp.CodeResponseTooLarge, true},
	} {
		ran = false
		w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {row.accept}})
		if w.Code != row.status || w.Body.String() != fmt.Sprint("no: ", row.code) || w.Header().Get("Sealed-Error") != string(row.code) {
			t.Errorf("answered with %d %q %v", w.Code, w.Body, w.Header())
		}
		if ran != row.ran {
			t.Errorf("%s: the handler ran: %t, want %t", row.code, ran, row.ran)
		}
	}
}

// A refusal within HandleContext is rendered once.
func TestWithErrorHandlerInHandleContext(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithMaxResponseBytes(10), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	var rendered []error
	e := gin.New()
	e.Use(authenticate, ginseal.Middleware(m, ginseal.WithAccount(account), ginseal.WithErrorHandler(func(c *gin.Context, err error) {
		rendered = append(rendered, err)
		c.String(http.StatusInternalServerError, "no")
	})))
	e.GET("/", func(c *gin.Context) {
		c.Request.URL.Path = "/large"
		e.HandleContext(c)
	})
	e.GET("/large", func(c *gin.Context) { c.String(http.StatusOK, strings.Repeat(canary, 10)) })
	w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {sealhttp.MediaType}})
	if len(rendered) != 1 || !errors.Is(rendered[0], sealhttp.CodeResponseTooLarge) {
		t.Errorf("rendered: %v", rendered)
	}
	if w.Code != http.StatusInternalServerError || w.Body.String() != "no" {
		t.Errorf("answered with %d %q", w.Code, w.Body)
	}
}

// What a handler writes after HandleContext does not follow a refusal in plaintext,
// rendered or not.
func TestWriteAfterHandleContext(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithMaxResponseBytes(10), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	for name, handler := range map[string]func(*gin.Context, error){
		"rendered": func(c *gin.Context, _ error) { c.String(http.StatusInternalServerError, "no") },
		"left":     func(c *gin.Context, err error) { _ = c.Error(err) },
	} {
		e := gin.New()
		e.Use(authenticate, ginseal.Middleware(m, ginseal.WithAccount(account), ginseal.WithErrorHandler(handler)))
		e.GET("/", func(c *gin.Context) {
			c.Request.URL.Path = "/large"
			e.HandleContext(c)
			if _, err := c.Writer.WriteString(canary); !errors.Is(err, sealhttp.ErrCallClosed) {
				t.Errorf("%s: writing on: %v", name, err)
			}
		})
		e.GET("/large", func(c *gin.Context) { c.String(http.StatusOK, strings.Repeat(canary, 10)) })
		w := serveOnce(t, e, http.Header{"X-Account": {adaptertest.Account}, "Accept": {sealhttp.MediaType}})
		if strings.Contains(w.Body.String(), canary) {
			t.Errorf("%s: answered with %d %q", name, w.Code, w.Body)
		}
		if w.Header().Get("Sealed-Error") != string(sealhttp.CodeResponseTooLarge) {
			t.Errorf("%s: Sealed-Error %q", name, w.Header().Get("Sealed-Error"))
		}
	}
}

// A call in plaintext costs no allocation.
func TestPlaintextAllocations(t *testing.T) {
	m := ginseal.Middleware(adaptertest.NewMiddleware(t))
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest("GET", "/", nil)
	allocations := testing.AllocsPerRun(200, func() {
		clear(w.Header())
		m(c)
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}
