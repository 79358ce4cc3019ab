package mounting

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
)

func newRouter() http.Handler {
	r := chi.NewRouter()
	r.Use(authenticate, chiseal.Middleware(newMiddleware()))
	r.Post("/events", answer)
	return r
}

// sealedRequest is what a handler is given in a sealed call.
func sealedRequest() *http.Request {
	r := httptest.NewRequest("POST", "/events", strings.NewReader("!"))
	return r.WithContext(sealhttp.NewContext(r.Context(), sealhttp.CallInfo{
		Profile: sealhttp.MessageProfile, RequestSealed: true, ResponseSealed: true,
	}))
}

func TestHandler(t *testing.T) {
	w := httptest.NewRecorder()
	answer(w, sealedRequest())
	if got := w.Body.String(); got != "/events! sealed=true/true" {
		t.Errorf("got %q", got)
	}
}

func TestEchoHandler(t *testing.T) {
	w := httptest.NewRecorder()
	c := echo.New().NewContext(sealedRequest(), w)
	if err := echoAnswer(c); err != nil || w.Body.String() != "/events! sealed=true/true" {
		t.Errorf("got %q, %v", w.Body, err)
	}
}

func TestGinHandler(t *testing.T) {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = sealedRequest()
	ginAnswer(c)
	if got := w.Body.String(); got != "/events! sealed=true/true" {
		t.Errorf("got %q", got)
	}
}

func TestSealedCall(t *testing.T) {
	server := httptest.NewServer(newRouter())
	defer server.Close()
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeys(callerKey), sealhttp.WithBase(server.Client().Transport))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", server.URL+"/events", strings.NewReader("!"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Account", "acme")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if info, _ := sealhttp.FromResponse(resp); resp.StatusCode != http.StatusOK || !info.RequestSealed || !info.ResponseSealed {
		t.Errorf("got %s, %+v", resp.Status, info)
	}
}
