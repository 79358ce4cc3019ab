// Package mounting holds the examples of docs/mounting.md.
package mounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

func init() { gin.SetMode(gin.ReleaseMode) }

var serverKey, callerKey = mustGenerate(), mustGenerate()

func mustGenerate() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func newMiddleware(opts ...sealhttp.Option) *sealhttp.Middleware {
	ring, err := keyring.New(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	clientKeys := sealhttp.CacheClientKeys(nil, func(_ context.Context, account string) (*seal.PublicKey, error) {
		if account == "acme" {
			return callerKey.Public(), nil
		}
		return nil, sealhttp.ErrNoClientKey
	})
	return sealhttp.Must(sealhttp.New(ring, append(opts, sealhttp.WithClientKeys(clientKeys))...))
}

func newClient() *http.Client {
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(callerKey))
	if err != nil {
		log.Fatal(err)
	}
	return &http.Client{Transport: transport}
}

// authenticate stands for an API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), r.Header.Get("X-Account"))))
	})
}

func echoAuthenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set("account", c.Request().Header.Get("X-Account"))
		return next(c)
	}
}

func echoAccount(c echo.Context) string {
	account, _ := c.Get("account").(string)
	return account
}

func ginAuthenticate(c *gin.Context) { c.Set("account", c.GetHeader("X-Account")) }

func ginAccount(c *gin.Context) string { return c.GetString("account") }

// answer is the handler of all routes. It tells whether its call is sealed.
func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	info, _ := sealhttp.FromContext(r.Context())
	fmt.Fprintf(w, "%s%s sealed=%t/%t", r.URL.Path, body, info.RequestSealed, info.ResponseSealed)
}

func echoAnswer(c echo.Context) error {
	answer(c.Response(), c.Request())
	return nil
}

func ginAnswer(c *gin.Context) { answer(c.Writer, c.Request) }

// try makes the calls, each in plaintext and sealed, and prints the answers.
func try(handler http.Handler, calls ...string) {
	server := httptest.NewServer(handler)
	defer server.Close()
	for _, call := range calls {
		method, target, _ := strings.Cut(call, " ")
		for _, client := range []*http.Client{http.DefaultClient, newClient()} {
			var body io.Reader
			if method != http.MethodGet {
				body = strings.NewReader("!")
			}
			req, err := http.NewRequest(method, server.URL+target, body)
			if err != nil {
				log.Fatal(err)
			}
			req.Header.Set("X-Account", "acme")
			req.Header.Set("Origin", "https://app.example.com")
			print(client.Do(req))
		}
	}
}

func print(resp *http.Response, err error) {
	if refusal, ok := errors.AsType[*sealhttp.Error](err); ok {
		fmt.Println(refusal.Status, refusal.Code)
		return
	} else if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, strings.TrimSpace(string(body)))
}

// Groups, in net/http: a router behind a router.
func Example_groupNetHTTP() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))

	admin := http.NewServeMux()
	admin.HandleFunc("POST /admin/refunds", answer)
	mux := http.NewServeMux()
	mux.Handle("/admin/", required.Handler(admin))
	mux.HandleFunc("POST /events", answer)
	handler := authenticate(m.Handler(mux))

	try(handler, "POST /events", "POST /admin/refunds")
	// Output:
	// 200 /events! sealed=false/false
	// 200 /events! sealed=true/true
	// 415 {"error":"encryption_required"}
	// 200 /admin/refunds! sealed=true/true
}

func Example_groupChi() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))

	r := chi.NewRouter()
	r.Use(authenticate, chiseal.Middleware(m))
	r.Post("/events", answer)
	r.Route("/admin", func(r chi.Router) {
		r.Use(chiseal.Middleware(required))
		r.Post("/refunds", answer)
	})

	try(r, "POST /events", "POST /admin/refunds")
	// Output:
	// 200 /events! sealed=false/false
	// 200 /events! sealed=true/true
	// 415 {"error":"encryption_required"}
	// 200 /admin/refunds! sealed=true/true
}

func Example_groupEcho() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))

	e := echo.New()
	e.Use(echoAuthenticate, echoseal.Middleware(m, echoseal.WithAccount(echoAccount)))
	e.POST("/events", echoAnswer)
	admin := e.Group("/admin", echoseal.Middleware(required))
	admin.POST("/refunds", echoAnswer)

	try(e, "POST /events", "POST /admin/refunds")
	// Output:
	// 200 /events! sealed=false/false
	// 200 /events! sealed=true/true
	// 415 {"error":"encryption_required"}
	// 200 /admin/refunds! sealed=true/true
}

func Example_groupGin() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	required := sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required)))

	r := gin.New()
	r.Use(ginAuthenticate, ginseal.Middleware(m, ginseal.WithAccount(ginAccount)))
	r.POST("/events", ginAnswer)
	admin := r.Group("/admin", ginseal.Middleware(required))
	admin.POST("/refunds", ginAnswer)

	try(r, "POST /events", "POST /admin/refunds")
	// Output:
	// 200 /events! sealed=false/false
	// 200 /events! sealed=true/true
	// 415 {"error":"encryption_required"}
	// 200 /admin/refunds! sealed=true/true
}

// A policy that looks at what the router knows.
func Example_policyEcho() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	policy := func(c echo.Context) (sealhttp.Policy, error) {
		if c.Path() == "/refunds/:id" {
			return sealhttp.Required, nil
		}
		return sealhttp.Optional, nil
	}
	e := echo.New()
	e.Use(echoAuthenticate, echoseal.Middleware(m, echoseal.WithAccount(echoAccount), echoseal.WithPolicy(policy)))
	e.POST("/refunds/:id", echoAnswer)

	try(e, "POST /refunds/7")
	// Output:
	// 415 {"error":"encryption_required"}
	// 200 /refunds/7! sealed=true/true
}

func Example_policyGin() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	policy := func(c *gin.Context) (sealhttp.Policy, error) {
		if c.FullPath() == "/refunds/:id" {
			return sealhttp.Required, nil
		}
		return sealhttp.Optional, nil
	}
	r := gin.New()
	r.Use(ginAuthenticate, ginseal.Middleware(m, ginseal.WithAccount(ginAccount), ginseal.WithPolicy(policy)))
	r.POST("/refunds/:id", ginAnswer)

	try(r, "POST /refunds/7")
	// Output:
	// 415 {"error":"encryption_required"}
	// 200 /refunds/7! sealed=true/true
}

// brief is how an API of its own answers with errors.
func brief(w http.ResponseWriter, r *http.Request, err error) {
	refusal, ok := errors.AsType[*sealhttp.Error](err)
	if !ok {
		sealhttp.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refusal.Status)
	fmt.Fprintf(w, "{\"error\":%q}\n", refusal.Code)
}

func Example_errors() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.Disabled), sealhttp.WithErrorHandler(brief))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/events", strings.NewReader("!"))
	r.Header.Set("Content-Type", sealhttp.MediaType)
	m.Handler(http.HandlerFunc(answer)).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("Sealed-Error"), w.Body)
	// Output: 415 encryption_disabled {"error":"encryption_disabled"}
}

// Refusals by echo's own error handler.
func Example_errorsEcho() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.RequestRequired))
	render := echoseal.WithErrorHandler(func(_ echo.Context, err error) error { return err })

	e := echo.New()
	e.Use(echoAuthenticate, echoseal.Middleware(m, echoseal.WithAccount(echoAccount), render))
	e.POST("/events", echoAnswer)

	try(e, "POST /events")
	// Output:
	// 415 {"message":"encryption_required"}
	// 200 /events! sealed=true/true
}

// Refusals by a gin middleware that renders all errors.
func Example_errorsGin() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.RequestRequired))
	render := ginseal.WithErrorHandler(func(c *gin.Context, err error) {
		refusal, _ := errors.AsType[*sealhttp.Error](err)
		c.JSON(refusal.Status, gin.H{"error": refusal.Code})
	})

	r := gin.New()
	r.Use(ginAuthenticate, ginseal.Middleware(m, ginseal.WithAccount(ginAccount), render))
	r.POST("/events", ginAnswer)

	try(r, "POST /events")
	// Output:
	// 415 {"error":"encryption_required"}
	// 200 /events! sealed=true/true
}

// CORS goes outside of everything, so that refusals have its fields too.
func Example_cors() {
	m := newMiddleware()
	allow := cors.Handler(cors.Options{
		AllowedOrigins: []string{"https://app.example.com"},
		AllowedMethods: []string{"GET", "POST", "PUT", "DELETE"},
		AllowedHeaders: append([]string{"Authorization"}, sealhttp.CORSHeaders.Allow...),
		ExposedHeaders: sealhttp.CORSHeaders.Expose,
	})
	r := chi.NewRouter()
	r.Use(allow, authenticate, chiseal.Middleware(m))
	r.Post("/events", answer)

	request := httptest.NewRequest("OPTIONS", "/events", nil)
	request.Header.Set("Origin", "https://app.example.com")
	request.Header.Set("Access-Control-Request-Method", "POST")
	request.Header.Set("Access-Control-Request-Headers", "content-type, sealed-content-type")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, request)
	fmt.Println(w.Code, w.Header().Get("Access-Control-Allow-Headers"))
	// Output: 200 Content-Type, Sealed-Content-Type
}

func Example_corsEcho() {
	m := newMiddleware()
	allow := middleware.CORSWithConfig(middleware.CORSConfig{
		AllowOrigins:  []string{"https://app.example.com"},
		AllowHeaders:  append([]string{"Authorization"}, sealhttp.CORSHeaders.Allow...),
		ExposeHeaders: sealhttp.CORSHeaders.Expose,
	})
	e := echo.New()
	e.Use(allow, echoAuthenticate, echoseal.Middleware(m, echoseal.WithAccount(echoAccount)))
	e.POST("/events", echoAnswer)

	r := httptest.NewRequest("POST", "/events", strings.NewReader("short"))
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Content-Type", sealhttp.MediaType)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	fmt.Println(w.Header().Get("Sealed-Error"), w.Header().Get("Access-Control-Expose-Headers"))
	// Output: malformed Sealed-Exchange,Sealed-Content-Type,Sealed-Error,Retry-After,Date
}

// Limits of sealed calls, per route.
func Example_limits() {
	m := newMiddleware(sealhttp.WithErrorHandler(brief))
	uploads := sealhttp.Must(m.With(sealhttp.WithMaxRequestBytes(64 << 20)))
	small := sealhttp.Must(m.With(sealhttp.WithMaxRequestBytes(16)))

	mux := http.NewServeMux()
	mux.Handle("POST /uploads", uploads.Handler(http.HandlerFunc(answer)))
	mux.Handle("POST /events", small.Handler(http.HandlerFunc(answer)))
	server := httptest.NewServer(authenticate(mux))
	defer server.Close()

	for _, target := range []string{"/uploads", "/events"} {
		req, err := http.NewRequest("POST", server.URL+target, bytes.NewReader(make([]byte, 17)))
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("X-Account", "acme")
		resp, err := newClient().Do(req)
		if err == nil {
			resp.Body.Close()
		}
		fmt.Println(target, err == nil, errors.Is(err, sealhttp.CodeTooLarge))
	}
	// Output:
	// /uploads true false
	// /events false true
}
