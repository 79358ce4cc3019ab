package ginseal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
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
func basicAuth(c *gin.Context) {
	user, _, _ := c.Request.BasicAuth()
	c.Set(gin.AuthUserKey, user)
}

// accountOf finds what basicAuth, as gin.BasicAuth, has found.
func accountOf(c *gin.Context) string { return c.GetString(gin.AuthUserKey) }

// echoBody is a handler that knows nothing of encryption.
func echoBody(c *gin.Context) {
	body, err := c.GetRawData()
	if err != nil {
		_ = c.AbortWithError(http.StatusBadRequest, err)
		return
	}
	c.String(http.StatusOK, "%s: %s", c.FullPath(), body)
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
	r := gin.New()
	r.Use(basicAuth, ginseal.Middleware(newMiddleware(), ginseal.WithAccount(accountOf)), gin.Recovery())
	r.POST("/events", echoBody)

	server := httptest.NewServer(r)
	defer server.Close()
	call(server, true, "/events", "ada@example.com")
	call(server, false, "/events", "ada@example.com")
	call(server, true, "/missing", "")
	// Output:
	// 200 sealed: true /events: ada@example.com
	// 200 sealed: false /events: ada@example.com
	// 404 sealed: true 404 page not found
}

// The policy goes by account and by route.
func ExampleWithPolicy() {
	policy := func(c *gin.Context) (sealhttp.Policy, error) {
		if accountOf(c) == "acme" && c.FullPath() == "/refunds" {
			return sealhttp.Required, nil
		}
		return sealhttp.Optional, nil
	}
	r := gin.New()
	r.Use(basicAuth, ginseal.Middleware(newMiddleware(), ginseal.WithAccount(accountOf), ginseal.WithPolicy(policy)))
	r.POST("/events", echoBody)
	r.POST("/refunds", echoBody)

	server := httptest.NewServer(r)
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
	r := gin.New()
	r.Use(basicAuth, ginseal.Middleware(m, ginseal.WithAccount(accountOf), ginseal.WithSkipper(func(c *gin.Context) bool {
		return c.FullPath() == "/hooks"
	})))
	r.POST("/hooks", echoBody)

	server := httptest.NewServer(r)
	defer server.Close()
	call(server, false, "/hooks", "paid")
	// Output: 200 sealed: false /hooks: paid
}

// A middleware further out renders all errors of the API, refusals too.
func ExampleWithErrorHandler() {
	m := newMiddleware(sealhttp.WithPolicy(sealhttp.Required))
	r := gin.New()
	r.Use(func(c *gin.Context) {
		c.Next()
		if err := c.Errors.Last(); err != nil {
			refusal, _ := errors.AsType[*sealhttp.Error](err)
			c.JSON(refusal.Status, gin.H{"message": refusal.Code})
		}
	}, basicAuth, ginseal.Middleware(m, ginseal.WithAccount(accountOf), ginseal.WithErrorHandler(
		func(c *gin.Context, err error) { _ = c.Error(err) },
	)))
	r.POST("/events", echoBody)

	req := httptest.NewRequest("POST", "/events", strings.NewReader("ada@example.com"))
	req.SetBasicAuth("acme", "secret")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	fmt.Println(w.Code, w.Header().Get("Sealed-Error"), w.Body)
	// Output: 415 encryption_required {"message":"encryption_required"}
}
