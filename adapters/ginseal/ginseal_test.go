package ginseal_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/cors"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

const canary = adaptertest.Canary

// accountKey is where authentication puts the account, as gin's middlewares do.
const accountKey = "account"

func init() { gin.SetMode(gin.ReleaseMode) }

func authenticate(c *gin.Context) { c.Set(accountKey, c.GetHeader("X-Account")) }

func account(c *gin.Context) string { return c.GetString(accountKey) }

// logged is gin's accounting, outermost, as gin's Logger reads it.
func logged(s *adaptertest.Site) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Next()
		s.Log(c.Writer.Status(), int64(c.Writer.Size()))
	}
}

// stack is the site's, with gin's own middlewares where gin has them.
func stack(s *adaptertest.Site) (outside, inside []gin.HandlerFunc) {
	for _, own := range []struct {
		outside, inside adaptertest.Stack
		m               gin.HandlerFunc
	}{
		{adaptertest.RecoverOutside, adaptertest.RecoverInside, gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, err any) {
			s.Note("panic", err)
			c.AbortWithStatus(http.StatusInternalServerError)
		})},
		{adaptertest.DumpOutside, adaptertest.DumpInside, dump(s)},
		{adaptertest.LoggerOutside, adaptertest.LoggerInside, gin.LoggerWithConfig(gin.LoggerConfig{Output: io.Discard, Formatter: func(p gin.LogFormatterParams) string {
			s.Note("log", []any{p.Method, p.Path, p.StatusCode, p.ErrorMessage})
			return ""
		}})},
		{adaptertest.GzipOutside, adaptertest.GzipInside, gzip.Gzip(gzip.BestSpeed)},
		{adaptertest.CORSOutside, adaptertest.CORSInside, wrap(cors.Handler(adaptertest.CORS))},
		{adaptertest.LimiterOutside, adaptertest.LimiterInside, func(c *gin.Context) {
			c.Header("Retry-After", "7")
			c.AbortWithStatusJSON(http.StatusTooManyRequests, gin.H{"error": canary})
		}},
		{adaptertest.RequestIDOutside, adaptertest.RequestIDInside, func(c *gin.Context) { c.Header("X-Request-Id", c.GetHeader("X-Request-Id")) }},
		{adaptertest.TimeoutOutside, adaptertest.TimeoutInside, timeout},
		{adaptertest.BasicAuthOutside, adaptertest.BasicAuthInside, gin.BasicAuth(gin.Accounts{
			adaptertest.CredentialUser: adaptertest.CredentialPassword,
		})},
		{adaptertest.BearerAuthOutside, adaptertest.BearerAuthInside, func(c *gin.Context) {
			if c.GetHeader("Authorization") != "Bearer "+adaptertest.CredentialPassword {
				c.AbortWithStatus(http.StatusUnauthorized)
			}
		}},
		{adaptertest.SessionOutside, adaptertest.SessionInside, func(c *gin.Context) {
			c.SetCookie("session", "s3", 60, "/", "", false, true)
		}},
		{adaptertest.BodyLimitOutside, adaptertest.BodyLimitInside, func(c *gin.Context) {
			c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, adaptertest.BodyLimit)
		}},
		{adaptertest.ErrorsOutside, adaptertest.ErrorsInside, renderErrors},
	} {
		if s.Stack == own.outside || s.Stack == own.inside {
			return adaptertest.Place(s, own.outside, own.inside, own.m)
		}
	}
	return nil, nil
}

// wrap makes a middleware of net/http's one of gin's, as packages for CORS do.
func wrap(m func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		m(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
			c.Writer.WriteHeaderNow()
		}
	}
}

// dumpWriter is how gin's users dump bodies.
type dumpWriter struct {
	gin.ResponseWriter
	kept *bytes.Buffer
}

func (w dumpWriter) Write(p []byte) (int, error) {
	w.kept.Write(p)
	return w.ResponseWriter.Write(p)
}

func (w dumpWriter) WriteString(s string) (int, error) {
	w.kept.WriteString(s)
	return w.ResponseWriter.WriteString(s)
}

func dump(s *adaptertest.Site) gin.HandlerFunc {
	return func(c *gin.Context) {
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			_ = c.AbortWithError(http.StatusBadRequest, err)
			return
		}
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
		kept := new(bytes.Buffer)
		c.Writer = dumpWriter{c.Writer, kept}
		c.Next()
		s.Dump(string(body), kept.String())
	}
}

func timeout(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), adaptertest.SoonOver)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.AbortWithStatus(http.StatusGatewayTimeout)
	}
}

// renderErrors turns c.Errors into responses.
func renderErrors(c *gin.Context) {
	c.Next()
	if len(c.Errors) == 0 {
		return
	}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*sealhttp.Error](c.Errors.Last()); ok {
		status = e.Status
	} else if code, ok := c.Errors.Last().Meta.(int); ok {
		status = code
	}
	c.JSON(status, gin.H{"page": canaryOf(c), "errors": c.Errors.Errors()})
}

// canaryOf is the canary for what a handler has failed with, not for refusals.
func canaryOf(c *gin.Context) string {
	if _, ok := errors.AsType[*sealhttp.Error](c.Errors.Last()); ok {
		return ""
	}
	return canary
}

// router is the site's application.
func router(s *adaptertest.Site) http.Handler {
	options := []ginseal.Option{ginseal.WithAccount(account)}
	var outermost []gin.HandlerFunc
	if s.Render {
		options = append(options, ginseal.WithErrorHandler(func(c *gin.Context, err error) { _ = c.Error(err) }))
		outermost = []gin.HandlerFunc{renderErrors}
	}
	root, group, route := []gin.HandlerFunc{ginseal.Middleware(s.M, options...)}, []gin.HandlerFunc(nil), []gin.HandlerFunc(nil)
	switch s.Stack {
	case adaptertest.AtGroup:
		root, group = nil, root
	case adaptertest.AtRoute:
		root, route = nil, root
	case adaptertest.Twice:
		group, route = root, root
	case adaptertest.RequiredAtRoute:
		route = []gin.HandlerFunc{ginseal.Middleware(s.M, append(options, ginseal.WithPolicy(func(*gin.Context) (sealhttp.Policy, error) {
			return sealhttp.Required, nil
		}))...)}
	}
	outside, inside := stack(s)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.MaxMultipartMemory = 32 << 10
	e.SetHTMLTemplate(adaptertest.Page)
	e.Use(logged(s))
	e.Use(outermost...)
	e.Use(authenticate)
	e.Use(outside...)
	e.Use(root...)
	e.Use(inside...)
	g := e.Group("", group...)
	see := func(c *gin.Context) {
		s.See(c.Request)
		s.Note("gin", []any{c.FullPath(), c.Params, c.HandlerNames() != nil})
	}
	own := handlers(s)
	for _, r := range s.Routes() {
		h, has := own[r.Method+" "+r.Path]
		if !has {
			h = gin.WrapF(r.Handler)
		}
		path := strings.NewReplacer("{id}", ":id", "{note}", ":note").Replace(r.Path)
		g.Handle(r.Method, path, append(append([]gin.HandlerFunc{}, route...), see, h)...)
	}
	if s.Stack == adaptertest.TimeoutHandler {
		return http.TimeoutHandler(e, adaptertest.SoonOver, canary)
	}
	return e
}

// handlers are the routes that are written another way for gin.
func handlers(s *adaptertest.Site) map[string]gin.HandlerFunc {
	return map[string]gin.HandlerFunc{
		"POST /json":  bindJSON,
		"PUT /json":   bindJSON,
		"PATCH /json": bindJSON,
		"POST /form": func(c *gin.Context) {
			var p adaptertest.Person
			if err := c.ShouldBind(&p); err != nil {
				c.AbortWithStatusJSON(http.StatusBadRequest, gin.H{"error": err.Error()})
				return
			}
			s.Note("form", []any{c.PostFormArray("name"), p})
			c.JSON(http.StatusOK, adaptertest.Greet(p))
		},
		"POST /upload": func(c *gin.Context) {
			form, err := c.MultipartForm()
			if err != nil {
				_ = c.AbortWithError(http.StatusBadRequest, err)
				return
			}
			c.JSON(http.StatusOK, adaptertest.Uploads(form))
		},
		"POST /xml": func(c *gin.Context) {
			var p adaptertest.Person
			if err := c.ShouldBindXML(&p); err != nil {
				_ = c.AbortWithError(http.StatusBadRequest, err)
				return
			}
			c.XML(http.StatusOK, adaptertest.Greet(p))
		},
		"GET /query": func(c *gin.Context) {
			var p adaptertest.Person
			if err := c.ShouldBindQuery(&p); err != nil {
				_ = c.AbortWithError(http.StatusBadRequest, err)
				return
			}
			c.IndentedJSON(http.StatusOK, adaptertest.Greet(p))
		},
		"GET /users/{id}/notes/{note}": func(c *gin.Context) {
			c.String(http.StatusOK, "%s: %s %s", canary, c.Param("id"), c.Param("note"))
		},
		"GET /text":      func(c *gin.Context) { c.String(http.StatusOK, canary) },
		"HEAD /text":     func(c *gin.Context) { c.String(http.StatusOK, canary) },
		"DELETE /text":   func(c *gin.Context) { c.Status(http.StatusNoContent) },
		"GET /html":      func(c *gin.Context) { c.HTML(http.StatusOK, "page", canary) },
		"GET /blob":      func(c *gin.Context) { c.Data(http.StatusOK, "image/png", []byte(canary)) },
		"GET /redirect":  func(c *gin.Context) { c.Redirect(http.StatusFound, "/text") },
		"POST /redirect": func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/text") },
		"GET /stream": func(c *gin.Context) {
			c.DataFromReader(http.StatusOK, 100_000, "text/csv", bytes.NewReader(adaptertest.Large[:100_000]), map[string]string{"X-Extra": "yes"})
		},
		"GET /file":       func(c *gin.Context) { c.File(s.File) },
		"GET /attachment": func(c *gin.Context) { c.FileAttachment(s.File, "report.txt") },
		"GET /events": func(c *gin.Context) {
			i := 0
			s.Note("gone", c.Stream(func(w io.Writer) bool {
				fmt.Fprintf(w, "id: %d\ndata: %s\n\n", i, canary)
				i++
				return i < 3
			}))
		},
		"GET /fail": func(c *gin.Context) {
			c.Header("X-Kept", "yes")
			if s.Stack == adaptertest.ErrorsOutside || s.Stack == adaptertest.ErrorsInside {
				_ = c.Error(errors.New("no")).SetMeta(http.StatusConflict)
				c.Abort()
				return
			}
			c.AbortWithStatusJSON(http.StatusConflict, gin.H{"error": "no: " + canary})
		},
		"POST /fail": func(c *gin.Context) {
			c.AbortWithStatusJSON(http.StatusUnprocessableEntity, gin.H{"error": canary})
		},
		"GET /broken":    func(c *gin.Context) { _ = c.AbortWithError(http.StatusInternalServerError, errors.New(canary)) },
		"GET /forbidden": func(c *gin.Context) { c.AbortWithStatus(http.StatusForbidden) },
		"POST /echo": func(c *gin.Context) {
			body, err := c.GetRawData()
			if err != nil {
				status := http.StatusBadRequest
				if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
					status = http.StatusRequestEntityTooLarge
				}
				c.AbortWithStatusJSON(status, gin.H{"error": err.Error()})
				return
			}
			c.Data(http.StatusOK, c.GetHeader("Content-Type"), body)
		},
		"POST /unread":  func(c *gin.Context) { c.String(http.StatusOK, canary) },
		"GET /nothing":  func(*gin.Context) {},
		"GET /accepted": func(c *gin.Context) { c.Status(http.StatusAccepted) },
		"GET /header": func(c *gin.Context) {
			adaptertest.ManyFields(c.Writer.Header())
			c.String(http.StatusOK, canary)
		},
		"GET /session": func(c *gin.Context) {
			visits := 1
			if cookie, err := c.Cookie("visits"); err == nil {
				n := 0
				fmt.Sscan(cookie, &n)
				visits += n
			}
			c.SetCookie("visits", fmt.Sprint(visits), 0, "/", "", false, true)
			c.String(http.StatusOK, "%s has come %d times", canary, visits)
		},
		"GET /account": func(c *gin.Context) {
			c.String(http.StatusOK, "%s for %s", canary, cmp.Or(account(c), sealhttp.Account(c.Request.Context())))
		},
	}
}

func bindJSON(c *gin.Context) {
	var p adaptertest.Person
	if err := c.ShouldBindJSON(&p); err != nil {
		c.AbortWithStatusJSON(http.StatusBadRequest, gin.H{"error": err.Error() + canary})
		return
	}
	c.Header("Location", "/people/1")
	c.JSON(http.StatusCreated, adaptertest.Greet(p))
}

var shared = adaptertest.Router{Name: "gin", New: router}

func TestScenarios(t *testing.T) { adaptertest.Run(t, shared, adaptertest.Rows()) }

func TestRefusals(t *testing.T) { adaptertest.RunRefusals(t, shared) }

func TestWebSocket(t *testing.T) { adaptertest.RunWebSocket(t, shared) }
