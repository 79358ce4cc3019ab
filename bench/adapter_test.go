package bench

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/adapters/echoseal"
	"github.com/sealhttp/sealhttp/adapters/ginseal"
	"github.com/sealhttp/sealhttp/bench/internal/harness"
	"github.com/sealhttp/sealhttp/seal"
)

// routers mount one handler at /events, behind the Middleware unless that is nil.
var routers = []struct {
	name  string
	mount func(*sealhttp.Middleware, http.HandlerFunc) http.Handler
}{
	{"nethttp", func(m *sealhttp.Middleware, h http.HandlerFunc) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/events", h)
		if m == nil {
			return mux
		}
		return m.Handler(mux)
	}},
	{"chi", func(m *sealhttp.Middleware, h http.HandlerFunc) http.Handler {
		r := chi.NewRouter()
		if m != nil {
			r.Use(chiseal.Middleware(m))
		}
		r.HandleFunc("/events", h)
		return r
	}},
	{"echo", func(m *sealhttp.Middleware, h http.HandlerFunc) http.Handler {
		e := echo.New()
		if m != nil {
			e.Use(echoseal.Middleware(m))
		}
		e.Any("/events", func(c echo.Context) error { h(c.Response(), c.Request()); return nil })
		return e
	}},
	{"gin", func(m *sealhttp.Middleware, h http.HandlerFunc) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		if m != nil {
			r.Use(ginseal.Middleware(m))
		}
		r.Any("/events", func(c *gin.Context) { h(c.Writer, c.Request) })
		return r
	}},
}

// BenchmarkAdapter is a call of 1 KiB through each router: in plaintext, without and
// behind a Middleware, and sealed both ways in both profiles.
func BenchmarkAdapter(b *testing.B) {
	const size = 1 << 10
	p := newParty(b, seal.X25519AES256GCM)
	handler := harness.Reply(size).ServeHTTP
	for _, router := range routers {
		for _, row := range []struct {
			name string
			m    *sealhttp.Middleware
			call *harness.Call
			want int
		}{
			{"body=plain/by=router", nil, plainCall(http.MethodPost, size), size},
			{"body=plain/by=sealhttp", p.middleware(b), plainCall(http.MethodPost, size), size},
			{"body=message/by=sealhttp", p.middleware(b), p.messageCall(b, size), size + p.client.Public().Overhead()},
			{"body=exchange/by=sealhttp", p.exchangeMiddleware(b, noCallerKey, takesAll{}), p.exchangeCall(b, size), recordsLen(size)},
		} {
			b.Run(fmt.Sprintf("router=%s/%s", router.name, row.name), func(b *testing.B) {
				served := router.mount(row.m, handler)
				measure(b, 0, func() { serve(b, row.call, served, row.want) })
			})
		}
	}
}
