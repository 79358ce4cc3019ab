// Package adapters_test runs calls of the exchange profile through every router.
package adapters_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// canary is in all that must not go out in clear.
const canary = "canary-7193"

// app is one application, for every router.
type app struct {
	m      *sealhttp.Middleware
	render bool // refusals are the router's own to render
	// recoverer is where one is mounted: "inside", "outside" or nowhere.
	recoverer string
	next      chan struct{} // lets the next event of /events go

	logged chan logged // one for each call
}

// logged is what a router tells of a call outside of the middleware.
type logged struct {
	status int
	size   int64
}

func (a *app) log(status int, size int64) { a.logged <- logged{status, max(size, 0)} } // gin has -1 for none

// handlers are those of net/http, which all routers can mount.
func (a *app) handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /echo": func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %v", canary, b, err)
		},
		"POST /silent": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
		"POST /ignore": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, canary) },
		"GET /events": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for range a.next {
				fmt.Fprintf(w, "data: %s\n\n", canary)
				w.(http.Flusher).Flush()
			}
		},
		"GET /panic":      func(http.ResponseWriter, *http.Request) { panic("a bug") },
		"GET /panic-late": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, canary); panic("a bug") },
		"GET /panic-flushed": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, canary)
			w.(http.Flusher).Flush()
			panic("a bug")
		},
		"GET /abort": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"GET /compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, canary)
		},
		"DELETE /204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
	}
}

type router struct {
	name string
	make func(a *app) http.Handler
}

var routers = []router{{"chi", chiApp}, {"echo", echoApp}, {"gin", ginApp}}

func authenticated(ctx context.Context) context.Context {
	return sealhttp.ContextWithAccount(ctx, "acme")
}

func chiApp(a *app) http.Handler {
	r := chi.NewRouter()
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
			defer func() { a.log(ww.Status(), int64(ww.BytesWritten())) }()
			next.ServeHTTP(ww, r.WithContext(authenticated(r.Context())))
		})
	})
	recoverer := func(next http.Handler) http.Handler { // chi's own prints
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				switch v := recover(); v {
				case nil:
				case http.ErrAbortHandler:
					panic(v)
				default:
					w.WriteHeader(http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
	if a.recoverer == "outside" {
		r.Use(recoverer)
	}
	m := a.m
	if a.render {
		m = sealhttp.Must(m.With(sealhttp.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "rendered: "+err.Error(), http.StatusTeapot)
		})))
	}
	r.Use(chiseal.Middleware(m))
	if a.recoverer == "inside" {
		r.Use(recoverer)
	}
	for path, h := range a.handlers() {
		method, path, _ := strings.Cut(path, " ")
		r.Method(method, path, h)
	}
	r.Get("/error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, canary, http.StatusConflict) })
	return r
}

func echoApp(a *app) http.Handler {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	opts := []echoseal.Option{echoseal.WithAccount(func(echo.Context) string { return "acme" })}
	if a.render {
		opts = append(opts, echoseal.WithErrorHandler(func(_ echo.Context, err error) error { return err }))
		e.HTTPErrorHandler = func(err error, c echo.Context) { // does not look whether something was sent
			_ = c.String(418, "rendered: "+err.Error())
		}
	}
	quiet := echomiddleware.RecoverWithConfig(echomiddleware.RecoverConfig{DisablePrintStack: true})
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			defer func() { a.log(c.Response().Status, c.Response().Size) }()
			return next(c)
		}
	})
	if a.recoverer == "outside" {
		e.Use(quiet)
	}
	e.Use(echoseal.Middleware(a.m, opts...))
	if a.recoverer == "inside" {
		e.Use(quiet)
	}
	for path, h := range a.handlers() {
		method, path, _ := strings.Cut(path, " ")
		e.Add(method, path, echo.WrapHandler(h))
	}
	e.GET("/error", func(echo.Context) error { return echo.NewHTTPError(http.StatusConflict, canary) })
	return e
}

func ginApp(a *app) http.Handler {
	gin.SetMode(gin.TestMode)
	r := gin.New()
	opts := []ginseal.Option{ginseal.WithAccount(func(*gin.Context) string { return "acme" })}
	if a.render {
		opts = append(opts, ginseal.WithErrorHandler(func(c *gin.Context, err error) { _ = c.Error(err) }))
	}
	r.Use(func(c *gin.Context) {
		defer func() { a.log(c.Writer.Status(), int64(c.Writer.Size())) }()
		c.Next()
		if a.render && len(c.Errors) > 0 { // does not look whether something was sent
			c.String(418, "rendered: "+c.Errors.String())
		}
	})
	quiet := gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.AbortWithStatus(http.StatusInternalServerError) })
	if a.recoverer == "outside" {
		r.Use(quiet)
	}
	r.Use(ginseal.Middleware(a.m, opts...))
	if a.recoverer == "inside" {
		r.Use(quiet)
	}
	r.HandleMethodNotAllowed = true
	for path, h := range a.handlers() {
		method, path, _ := strings.Cut(path, " ")
		r.Handle(method, path, gin.WrapF(h))
	}
	r.GET("/error", func(c *gin.Context) { c.String(http.StatusConflict, canary) })
	return r
}

// The keys of both sides.
var serverKey, callerKey = generate(), generate()

func generate() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	return key
}

func party(key *seal.PrivateKey) *exchangeparty.PrivateKey {
	k, err := exchangeparty.NewPrivateKey(key.Suite().String(), key.ID(), key.Bytes())
	if err != nil {
		panic(err)
	}
	return k
}

func middleware(t testing.TB, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	set, err := seal.NewKeySet(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealhttp.New(
		sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil }),
		append([]sealhttp.Option{
			sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
			sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
				if sealhttp.Account(r.Context()) != "acme" {
					t.Error("the account is not in the request's context")
				}
				return callerKey.Public(), nil
			})),
		}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// service is an app that is served.
type service struct {
	*httptest.Server
	app *app
}

// each runs a test with every router, on both protocols.
func each(t *testing.T, newApp func(t testing.TB) *app, run func(t *testing.T, s *service)) {
	for _, router := range routers {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/HTTP2 %t", router.name, http2), func(t *testing.T) {
				a := newApp(t)
				a.next, a.logged = make(chan struct{}), make(chan logged, 100)
				server := httptest.NewUnstartedServer(router.make(a))
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.EnableHTTP2 = http2
				server.StartTLS()
				defer server.Close()
				server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				run(t, &service{server, a})
			})
		}
	}
}

// call is a caller's end of one call.
type call struct {
	*exchangeparty.Call
	field exchangeparty.RequestField
	resp  *http.Response
	body  []byte // what came of the response's body
}

// begin sends a request whose body is text, nil for none.
func (s *service) begin(t testing.TB, method, target string, text []byte, edit func(c *call, body []byte) []byte) (*call, error) {
	t.Helper()
	c := &call{field: exchangeparty.RequestField{Timestamp: time.Now().Unix()}}
	rand.Read(c.field.ID[:])
	if edit != nil {
		edit(c, nil)
	}
	var err error
	c.Call, err = exchangeparty.NewCall(party(serverKey).Public(), &exchangeparty.Request{Method: method, Host: "127.0.0.1", Target: target, Body: text != nil}, c.field)
	if err != nil {
		t.Fatal(err)
	}
	var body io.Reader
	if text != nil {
		b := c.Body(exchangeparty.Record{Data: text})
		if edit != nil {
			b = edit(c, b)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, body)
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil // what breaks is not to be sent again
	req.Header.Set("Sealed-Exchange", c.Field.String())
	if text != nil {
		req.Header.Set("Content-Type", sealhttp.ExchangeMediaType)
	}
	c.resp, err = s.Client().Do(req)
	return c, err
}

// open opens what came so far. Before the end, its error is exchangeparty.ErrTruncated.
func (c *call) open() (*exchangeparty.Response, []exchangeparty.Record, error) {
	f, err := exchangeparty.ParseResponseField(c.resp.Header["Sealed-Exchange"])
	if err != nil {
		return nil, nil, err
	}
	r := &exchangeparty.Response{
		Status: c.resp.StatusCode, Body: c.resp.Header.Get("Content-Type") == sealhttp.ExchangeMediaType,
		ContentType: c.resp.Header.Get("Sealed-Content-Type"), Error: c.resp.Header.Get("Sealed-Error"),
	}
	if f.CallerEnc == nil {
		return nil, nil, errors.New("it is not for the caller's key")
	}
	records, err := c.Open(f, party(callerKey), r, c.body)
	return r, records, err
}

// finish reads the response to its end.
func (c *call) finish() error {
	defer c.resp.Body.Close()
	b, err := io.ReadAll(c.resp.Body)
	c.body = append(c.body, b...)
	return err
}

// do makes a whole call. Its response must authenticate, and hold nothing in clear.
func (s *service) do(t testing.TB, method, target string, text []byte, edit func(c *call, body []byte) []byte) (*exchangeparty.Response, string) {
	t.Helper()
	c, err := s.begin(t, method, target, text, edit)
	if err == nil {
		err = c.finish()
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	if bytes.Contains(c.body, []byte(canary)) {
		t.Errorf("%s %s: it is in clear: %q", method, target, c.body)
	}
	r, records, err := c.open()
	if err != nil {
		t.Fatalf("%s %s: status %d, header %v, body %.200q: %v", method, target, c.resp.StatusCode, c.resp.Header, c.body, err)
	}
	if got, want := <-s.app.logged, (logged{r.Status, int64(len(c.body))}); got != want {
		t.Errorf("%s %s: the router tells %+v, %+v was sent", method, target, got, want)
	}
	return r, string(exchangeparty.Data(records))
}

// What handlers and the routers themselves answer is sealed.
func TestExchangeAnswers(t *testing.T) {
	each(t, func(t testing.TB) *app { return &app{m: middleware(t)} }, func(t *testing.T, s *service) {
		for _, tt := range []struct {
			method, target string
			text           []byte
			status         int
			want           string // "-" for anything
		}{
			{"POST", "/echo", []byte("hello"), 200, canary + " hello <nil>"},
			{"POST", "/echo", bytes.Repeat([]byte("x"), 16384), 200, canary + " " + strings.Repeat("x", 16384) + " <nil>"},
			{"POST", "/silent", []byte("hello"), 200, ""},
			{"POST", "/ignore", []byte("hello"), 200, canary},
			{"DELETE", "/204", nil, 204, ""},
			{"GET", "/error", nil, 409, "-"},
			{"GET", "/missing", nil, 404, "-"},
			{"POST", "/missing", []byte("hello"), 404, "-"},
			{"POST", "/events", []byte("hello"), 405, "-"},
			{"HEAD", "/missing", nil, 404, ""},
		} {
			r, got := s.do(t, tt.method, tt.target, tt.text, nil)
			if r.Status != tt.status || tt.want != "-" && got != tt.want {
				t.Errorf("%s %s: status %d, %.100q; want %d, %.100q", tt.method, tt.target, r.Status, got, tt.status, tt.want)
			}
		}
		r, got := s.do(t, "GET", "/compressed", nil, nil)
		if r.Status != 500 || r.Error != "unsupported_content_encoding" || strings.Contains(got, canary) {
			t.Errorf("compressed: status %d, error %q, %q", r.Status, r.Error, got)
		}
	})
}

// Events come when they are flushed.
func TestExchangeEvents(t *testing.T) {
	each(t, func(t testing.TB) *app { return &app{m: middleware(t)} }, func(t *testing.T, s *service) {
		c, err := s.begin(t, "GET", "/events", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			s.app.next <- struct{}{}
			for {
				chunk := make([]byte, 4096)
				n, err := c.resp.Body.Read(chunk)
				c.body = append(c.body, chunk[:n]...)
				r, records, openErr := c.open()
				if !errors.Is(openErr, exchangeparty.ErrTruncated) || err != nil {
					t.Fatalf("event %d: %v, %v", i, err, openErr)
				}
				if len(records) == i+1 && string(records[i].Data) == "data: "+canary+"\n\n" && r.ContentType == "text/event-stream" {
					break
				}
			}
		}
		close(s.app.next)
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		if _, records, err := c.open(); err != nil || len(records) != 6 || bytes.Contains(c.body, []byte(canary)) {
			t.Errorf("%d records, %v", len(records), err)
		}
	})
}

// guard is one that fails, or knows everything.
type guard struct{ err error }

func (g guard) Insert(context.Context, sealhttp.ReplayEntry) error { return g.err }
func (g guard) Contains(context.Context, [16]byte) (bool, error)   { return false, nil }

// What is refused after the tag has verified is sealed, however the router renders
// errors, and nothing follows it.
func TestExchangeRefusals(t *testing.T) {
	noKey := sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return callerKey.Public(), nil }))
	for _, tt := range []struct {
		code   sealhttp.Code
		status int
		opts   []sealhttp.Option
		edit   func(c *call, body []byte) []byte
	}{
		{sealhttp.CodeStale, 400, nil, func(c *call, body []byte) []byte { c.field.Timestamp -= 1000; return body }},
		{sealhttp.CodeBindingRequired, 400, nil, func(c *call, body []byte) []byte { c.field.Bind = []string{}; return body }},
		{sealhttp.CodeReplayed, 409, []sealhttp.Option{sealhttp.WithReplayGuard(guard{sealhttp.CodeReplayed})}, nil},
		{sealhttp.CodeReplayGuardUnavailable, 503, []sealhttp.Option{sealhttp.WithReplayGuard(guard{errors.New("down")})}, nil},
		{sealhttp.CodeTooLarge, 413, []sealhttp.Option{sealhttp.WithMaxStreamBytes(2000)}, nil},
		{sealhttp.CodeRequestIncomplete, 400, nil, func(_ *call, body []byte) []byte { return append(body, 0) }},
	} {
		for _, render := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rendered by the router %t", tt.code, render), func(t *testing.T) {
				each(t, func(t testing.TB) *app {
					return &app{m: middleware(t, append(tt.opts, noKey)...), render: render}
				}, func(t *testing.T, s *service) {
					r, got := s.do(t, "POST", "/silent", bytes.Repeat([]byte("x"), 3000), tt.edit)
					if r.Error != string(tt.code) {
						t.Errorf("status %d, error %q, %q", r.Status, r.Error, got)
					}
					if strings.HasPrefix(got, "rendered") { // chi has no other way to render
						return
					}
					var p struct {
						Code   sealhttp.Code
						Status int
					}
					if err := json.Unmarshal([]byte(got), &p); err != nil || p.Code != tt.code || p.Status != tt.status || r.Status != tt.status {
						t.Errorf("status %d, %q, %v", r.Status, got, err)
					}
				})
			})
		}
	}
}

// What is refused before is for the router to render, in clear.
func TestExchangeRefusalsInClear(t *testing.T) {
	for _, render := range []bool{false, true} {
		each(t, func(t testing.TB) *app {
			return &app{m: middleware(t, sealhttp.WithAuthority("elsewhere.example.com")), render: render}
		}, func(t *testing.T, s *service) {
			c, err := s.begin(t, "POST", "/silent", []byte("hello"), nil)
			if err == nil {
				err = c.finish()
			}
			want := 400
			if render {
				want = 418
			}
			if err != nil || c.resp.StatusCode != want || c.resp.Header.Get("Sealed-Error") != "decryption_failed" || c.resp.Header["Sealed-Exchange"] != nil ||
				render != strings.HasPrefix(string(c.body), "rendered") {
				t.Errorf("rendered by the router %t: %v, status %d, header %v, %q", render, err, c.resp.StatusCode, c.resp.Header, c.body)
			}
		})
	}
}

// A panic's half response is never complete, and is never followed by plaintext of the
// handler's; a recoverer's own answer comes sealed from inside, and in clear from outside.
func TestExchangePanics(t *testing.T) {
	for _, recoverer := range []string{"", "inside", "outside"} {
		each(t, func(t testing.TB) *app { return &app{m: middleware(t), recoverer: recoverer} }, func(t *testing.T, s *service) {
			for _, target := range []string{"/panic", "/panic-late", "/panic-flushed", "/abort"} {
				s.Client().CloseIdleConnections() // a call that breaks on a new one is not sent again
				c, err := s.begin(t, "GET", target, nil, nil)
				if err != nil {
					c.resp = &http.Response{}
				} else {
					err = c.finish()
				}
				if bytes.Contains(c.body, []byte(canary)) {
					t.Errorf("%s: it is in clear: %q", target, c.body)
				}
				r, records, openErr := c.open()
				what := fmt.Sprintf("recoverer %q, %s: %v, status %d, body %q, opened %v, %v", recoverer, target, err, c.resp.StatusCode, c.body, r, openErr)
				switch {
				case recoverer == "inside" && target == "/panic":
					if err != nil || openErr != nil || r.Status != 500 {
						t.Error(what)
					}
				case recoverer == "inside" && target == "/abort" && strings.HasPrefix(t.Name(), "TestExchangePanics/gin"):
					// To gin it is a panic like any other.
				case recoverer == "inside" && target != "/abort":
					// What was written before the panic stands, as in plaintext.
					if err != nil || openErr != nil || r.Status != 200 || !strings.HasPrefix(string(exchangeparty.Data(records)), canary) {
						t.Error(what)
					}
				case recoverer == "outside" && (target == "/panic" || target == "/panic-late"):
					if err != nil || openErr == nil || c.resp.StatusCode != 500 {
						t.Error(what)
					}
				default:
					if err == nil && openErr == nil {
						t.Error(what)
					}
				}
			}
		})
	}
}
