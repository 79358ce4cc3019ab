package chiseal_test

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

type handlerFunc = func(http.Handler) http.Handler

// stack is the site's, with chi's own middlewares where chi has them.
func stack(s *adaptertest.Site) (outside, inside []handlerFunc) {
	for _, own := range []struct {
		outside, inside adaptertest.Stack
		m               handlerFunc
	}{
		{adaptertest.RecoverOutside, adaptertest.RecoverInside, recoverer(s)},
		{adaptertest.GzipOutside, adaptertest.GzipInside, middleware.Compress(5)},
		{adaptertest.LoggerOutside, adaptertest.LoggerInside, middleware.RequestLogger(noteFormatter{s})},
		{adaptertest.TimeoutOutside, adaptertest.TimeoutInside, middleware.Timeout(adaptertest.SoonOver)},
		{adaptertest.BasicAuthOutside, adaptertest.BasicAuthInside, middleware.BasicAuth("test", map[string]string{
			adaptertest.CredentialUser: adaptertest.CredentialPassword,
		})},
		{adaptertest.BodyLimitOutside, adaptertest.BodyLimitInside, middleware.RequestSize(adaptertest.BodyLimit)},
	} {
		if s.Stack == own.outside || s.Stack == own.inside {
			return adaptertest.Place(s, own.outside, own.inside, own.m)
		}
	}
	return s.Middlewares()
}

// account is chi's accounting, outermost.
func account(s *adaptertest.Site) handlerFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(ww, r)
			s.Log(cmp.Or(ww.Status(), http.StatusOK), int64(ww.BytesWritten())) // chi has 0 for an implied 200
		})
	}
}

// router is the site's application.
func router(s *adaptertest.Site) http.Handler {
	m := s.M
	if s.Render {
		m = sealhttp.Must(m.With(sealhttp.WithErrorHandler(adaptertest.RenderError)))
	}
	root, group, route := []handlerFunc{chiseal.Middleware(m)}, []handlerFunc(nil), []handlerFunc(nil)
	switch s.Stack {
	case adaptertest.AtGroup:
		root, group = nil, root
	case adaptertest.AtRoute:
		root, route = nil, root
	case adaptertest.Twice:
		group, route = root, root
	case adaptertest.RequiredAtRoute:
		route = []handlerFunc{chiseal.Middleware(sealhttp.Must(m.With(sealhttp.WithPolicy(sealhttp.Required))))}
	}
	outside, inside := stack(s)
	r := chi.NewRouter()
	r.Use(account(s), adaptertest.Authenticate)
	r.Use(outside...)
	r.Use(root...)
	r.Use(inside...)
	r.Group(func(r chi.Router) {
		r.Use(group...)
		for _, one := range s.Routes() {
			r.With(route...).Method(one.Method, one.Path, see(s, one.Handler))
		}
	})
	if s.Stack == adaptertest.TimeoutHandler {
		return http.TimeoutHandler(r, adaptertest.SoonOver, adaptertest.Canary)
	}
	return r
}

func see(s *adaptertest.Site, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.See(r)
		s.Note("chi", []any{chi.URLParam(r, "id"), chi.RouteContext(r.Context()).RoutePattern()})
		next.ServeHTTP(w, r)
	})
}

var shared = adaptertest.Router{Name: "chi", New: router, CopiesRequests: true}

func TestScenarios(t *testing.T) { adaptertest.Run(t, shared, adaptertest.Rows()) }

// noteFormatter is a log formatter of chi's.
type noteFormatter struct{ s *adaptertest.Site }

func (f noteFormatter) NewLogEntry(r *http.Request) middleware.LogEntry {
	f.s.Note("log", []any{r.Method, r.URL.String(), r.Host})
	return noteEntry(f)
}

// noteEntry is what chi's Recoverer tells of a panic.
type noteEntry struct{ s *adaptertest.Site }

func (e noteEntry) Write(status, bytes int, header http.Header, elapsed time.Duration, extra any) {}

func (e noteEntry) Panic(v any, _ []byte) { e.s.Note("panic", v) }

// recoverer is chi's, without a stack on standard error.
func recoverer(s *adaptertest.Site) handlerFunc {
	return func(next http.Handler) http.Handler {
		next = middleware.Recoverer(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, middleware.WithLogEntry(r, noteEntry{s}))
		})
	}
}

func TestRefusals(t *testing.T) { adaptertest.RunRefusals(t, shared) }

func TestWebSocket(t *testing.T) { adaptertest.RunWebSocket(t, shared) }

func newRecorder(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}
