package adaptertest_test

import (
	"compress/gzip"
	"net/http"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

type middleware = func(http.Handler) http.Handler

// mount is an adapter by hand, which notes what Sent says.
func mount(s *adaptertest.Site, m *sealhttp.Middleware) middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			call, err := m.Begin(w, r)
			if err != nil {
				m.Refuse(w, r, err)
				return
			}
			if call == nil {
				next.ServeHTTP(w, r)
				return
			}
			defer call.Close()
			next.ServeHTTP(call.Writer, call.Request)
			_ = call.Finish()
			if call.OwnWriter() {
				s.Log(call.Sent())
			}
		})
	}
}

// serveMux is net/http's own router.
func serveMux(s *adaptertest.Site) http.Handler {
	outside, inside := s.Middlewares()
	see := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.See(r)
			next.ServeHTTP(w, r)
		})
	}
	m := s.M
	if s.Render {
		m = sealhttp.Must(m.With(sealhttp.WithErrorHandler(adaptertest.RenderError)))
	}
	root, group, route := []middleware{mount(s, m)}, []middleware(nil), []middleware(nil)
	switch s.Stack {
	case adaptertest.AtGroup:
		root, group = nil, root
	case adaptertest.AtRoute:
		root, route = nil, root
	case adaptertest.Twice:
		group, route = root, root
	case adaptertest.RequiredAtRoute:
		route = []middleware{mount(s, sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required))))}
	}
	mux := http.NewServeMux()
	for _, r := range s.Routes() {
		mux.Handle(r.Method+" "+r.Path, adaptertest.Chain(see(r.Handler), route...))
	}
	all := append([]middleware{adaptertest.Authenticate}, outside...)
	all = append(append(append(all, root...), inside...), group...)
	if s.Stack == adaptertest.TimeoutHandler {
		all = append([]middleware{func(next http.Handler) http.Handler {
			return http.TimeoutHandler(next, adaptertest.SoonOver, adaptertest.Canary)
		}}, all...)
	}
	return adaptertest.Chain(mux, all...)
}

func TestNetHTTP(t *testing.T) {
	adaptertest.Run(t, adaptertest.Router{Name: "net/http", New: serveMux}, adaptertest.Rows())
}

func TestNetHTTPRefusals(t *testing.T) {
	adaptertest.RunRefusals(t, adaptertest.Router{Name: "net/http", New: serveMux})
}

func TestNetHTTPWebSocket(t *testing.T) {
	adaptertest.RunWebSocket(t, adaptertest.Router{Name: "net/http", New: serveMux})
}

// announcing compresses as some middlewares do, with Content-Encoding set in front of
// the handler.
func announcing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zw := gzip.NewWriter(w)
		w.Header().Set("Content-Encoding", "gzip")
		next.ServeHTTP(announced{w, zw}, r)
		_ = zw.Close()
	})
}

type announced struct {
	http.ResponseWriter
	zw *gzip.Writer
}

func (w announced) WriteHeader(status int) {
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w announced) Write(p []byte) (int, error) {
	w.Header().Del("Content-Length")
	return w.zw.Write(p)
}

// What compresses outside may say so before the handler runs.
func TestNetHTTPAnnouncedCompression(t *testing.T) {
	router := adaptertest.Router{Name: "net/http", New: func(s *adaptertest.Site) http.Handler { return announcing(serveMux(s)) }}
	row := func(target string, status int, reply *adaptertest.Want) adaptertest.Row {
		return adaptertest.Row{
			Name: target, Target: target, NotLogged: true,
			Want: adaptertest.Want{Status: status, Contains: "-"}, WantReply: reply,
			Check: func(t *testing.T, _ adaptertest.Mode, a *adaptertest.Answer) {
				if got, want := a.Header.Get("Content-Encoding"), "gzip"; got != want && a.Header.Get("Sealed-Error") == "" {
					t.Errorf("Content-Encoding %q, want %q", got, want)
				}
			},
		}
	}
	sealed := &adaptertest.Want{Differs: true}
	adaptertest.Run(t, router, []adaptertest.Row{row("/text", 200, sealed), row("/large", 200, sealed), row("/fail", 409, sealed)})
}
