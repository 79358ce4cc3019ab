package echoseal_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/seal"
)

func newKey() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// serverKey and callerKey stand for keys that were generated once, and stored.
var serverKey, callerKey = newKey(), newKey()

// newMiddleware is a Middleware with the server's key and those of its callers.
func newMiddleware(opts ...sealhttp.Option) *sealhttp.Middleware {
	keys, err := seal.NewKeySet(serverKey)
	if err != nil {
		log.Fatal(err)
	}
	serverKeys := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return keys, nil })
	clientKeys := sealhttp.CacheClientKeys(nil, func(_ context.Context, account string) (*seal.PublicKey, error) {
		if account == "acme" {
			return callerKey.Public(), nil
		}
		return nil, sealhttp.ErrNoClientKey
	})
	return sealhttp.Must(sealhttp.New(serverKeys, append(opts, sealhttp.WithClientKeys(clientKeys))...))
}

// basicAuth stands for an API's own authentication.
func basicAuth() echo.MiddlewareFunc {
	return middleware.BasicAuth(func(user, _ string, c echo.Context) (bool, error) {
		c.Set("account", user)
		return true, nil
	})
}

// accountOf finds what basicAuth has found.
func accountOf(c echo.Context) string {
	account, _ := c.Get("account").(string)
	return account
}

// echoBody is a handler that knows nothing of encryption.
func echoBody(c echo.Context) error {
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	return c.String(http.StatusOK, c.Path()+": "+string(body))
}

// call sends a body as the account acme, sealed or not, and prints the answer.
func call(server *httptest.Server, sealed bool, path, body string) {
	client := server.Client()
	if sealed {
		transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey.Public()), sealhttp.WithPrivateKeys(callerKey))
		if err != nil {
			log.Fatal(err)
		}
		client = &http.Client{Transport: transport}
	}
	req, err := http.NewRequest("POST", server.URL+path, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.SetBasicAuth("acme", "secret")
	req.Header.Set("Content-Type", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	_, wasSealed := sealhttp.FromResponse(resp)
	if code := resp.Header.Get("Sealed-Error"); code != "" {
		answer = []byte(code)
	}
	fmt.Println(resp.StatusCode, "sealed:", wasSealed, string(answer))
}

// Mounted behind authentication.
func ExampleMiddleware() {
	e := echo.New()
	e.Use(basicAuth(), echoseal.Middleware(newMiddleware(), echoseal.WithAccount(accountOf)), middleware.Recover())
	e.POST("/events", echoBody)

	server := httptest.NewServer(e)
	defer server.Close()
	call(server, true, "/events", "ada@example.com")
	call(server, false, "/events", "ada@example.com")
	call(server, true, "/missing", "")
	// Output:
	// 200 sealed: true /events: ada@example.com
	// 200 sealed: false /events: ada@example.com
	// 404 sealed: true {"message":"Not Found"}
}

// The policy goes by account and by route.
func ExampleWithPolicy() {
	policy := func(c echo.Context) (sealhttp.Policy, error) {
		if accountOf(c) == "acme" && c.Path() == "/refunds" {
			return sealhttp.Required, nil
		}
		return sealhttp.Optional, nil
	}
	e := echo.New()
	e.Use(basicAuth(), echoseal.Middleware(newMiddleware(), echoseal.WithAccount(accountOf), echoseal.WithPolicy(policy)))
	e.POST("/events", echoBody)
	e.POST("/refunds", echoBody)

	server := httptest.NewServer(e)
	defer server.Close()
	call(server, false, "/events", "ada@example.com")
	call(server, false, "/refunds", "7 EUR")
	call(server, true, "/refunds", "7 EUR")
	// Output:
	// 200 sealed: false /events: ada@example.com
	// 415 sealed: false encryption_required
	// 200 sealed: true /refunds: 7 EUR
}

// Some calls are not looked at.
func ExampleWithSkipper() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.Required))
	e := echo.New()
	e.Use(basicAuth(), echoseal.Middleware(m, echoseal.WithAccount(accountOf), echoseal.WithSkipper(func(c echo.Context) bool {
		return c.Path() == "/hooks"
	})))
	e.POST("/hooks", echoBody)

	server := httptest.NewServer(e)
	defer server.Close()
	call(server, false, "/hooks", "paid")
	// Output: 200 sealed: false /hooks: paid
}

// echo's HTTPErrorHandler renders all errors of the API, refusals too.
func ExampleWithErrorHandler() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.Required))
	e := echo.New()
	e.Use(basicAuth(), echoseal.Middleware(m, echoseal.WithAccount(accountOf), echoseal.WithErrorHandler(
		func(_ echo.Context, err error) error { return err },
	)))
	e.POST("/events", echoBody)

	r := httptest.NewRequest("POST", "/events", strings.NewReader("ada@example.com"))
	r.SetBasicAuth("acme", "secret")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Header().Get("Sealed-Error"), " ", w.Body)
	// Output: 415 encryption_required {"message":"encryption_required"}
}
