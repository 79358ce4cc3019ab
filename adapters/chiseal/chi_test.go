package chiseal_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/adapters/chiseal"
	"github.com/sealhttp/sealhttp/adapters/internal/adaptertest"
)

// What only chi has.
const (
	allowTypeOutside adaptertest.Stack = "AllowContentType outside"
	allowTypeInside  adaptertest.Stack = "AllowContentType inside"
	getHead          adaptertest.Stack = "GetHead"
	stripSlashes     adaptertest.Stack = "StripSlashes"
	redirectSlashes  adaptertest.Stack = "RedirectSlashes"
	heartbeat        adaptertest.Stack = "Heartbeat"
	noCache          adaptertest.Stack = "NoCache"
	throttle         adaptertest.Stack = "Throttle"
	mounted          adaptertest.Stack = "mounted sub-router"
	ownErrors        adaptertest.Stack = "own NotFound and MethodNotAllowed"
	withOnly         adaptertest.Stack = "With at the route only"
	unwrapped        adaptertest.Stack = "WrapResponseWriter inside"
)

var json = []byte(`{"name":"` + adaptertest.Canary + `"}`)

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	var b [1000]byte
	n, _ := r.Body.Read(b[:])
	fmt.Fprintf(w, "%s %s %s %s", adaptertest.Canary, r.URL.Path, chi.RouteContext(r.Context()).RoutePattern(), b[:n])
}

func chiOnly(s *adaptertest.Site) http.Handler {
	r := chi.NewRouter()
	seal := chiseal.Middleware(s.M)
	use := func(outside, inside handlerFunc) {
		r.Use(account(s), adaptertest.Authenticate)
		for _, m := range []handlerFunc{outside, seal, inside} {
			if m != nil {
				r.Use(m)
			}
		}
	}
	routes := func() {
		r.Method("GET", "/plain", see(s, http.HandlerFunc(echo)))
		r.Method("POST", "/echo", see(s, http.HandlerFunc(echo)))
	}
	switch s.Stack {
	case allowTypeOutside:
		use(middleware.AllowContentType("application/json"), nil)
	case allowTypeInside:
		use(nil, middleware.AllowContentType("application/json"))
	case getHead:
		use(nil, middleware.GetHead)
	case stripSlashes:
		use(middleware.StripSlashes, nil)
	case redirectSlashes:
		use(nil, middleware.RedirectSlashes)
	case heartbeat:
		use(nil, middleware.Heartbeat("/ping"))
	case noCache:
		use(nil, middleware.NoCache)
	case throttle:
		use(middleware.Throttle(1), nil)
	case mounted:
		use(nil, nil)
		sub := chi.NewRouter()
		sub.Method("POST", "/echo/{id}", see(s, http.HandlerFunc(echo)))
		r.Mount("/v1", sub)
	case ownErrors:
		use(nil, nil)
		r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "nothing here, "+adaptertest.Canary)
		})
		r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusMethodNotAllowed)
			fmt.Fprint(w, "not so, "+adaptertest.Canary)
		})
	case withOnly:
		r.Use(account(s), adaptertest.Authenticate)
		r.With(seal).Method("POST", "/echo", see(s, http.HandlerFunc(echo)))
		return r
	case unwrapped:
		use(nil, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
				next.ServeHTTP(ww, r)
				s.Note("inside", []any{ww.Status(), ww.BytesWritten()})
				_, err := ww.Unwrap().Write(nil)
				s.Note("unwrapped", err)
			})
		})
	}
	routes()
	return r
}

func TestChiOnly(t *testing.T) {
	ok := adaptertest.Want{Status: http.StatusOK}
	status := func(status int) adaptertest.Want { return adaptertest.Want{Status: status, Contains: "-"} }
	inClear := func(status int) *adaptertest.Want {
		return &adaptertest.Want{Status: status, Contains: "-", InClear: true}
	}
	post := func(stack adaptertest.Stack) adaptertest.Row {
		return adaptertest.Row{Name: string(stack), Stack: stack, Method: "POST", Target: "/echo", Body: json, Want: ok}
	}
	// The types that it allows are those of the plaintext.
	tooEarly := post(allowTypeOutside)
	tooEarly.WantOpened, tooEarly.WantSealed, tooEarly.HandlerDiffers = inClear(415), inClear(415), true
	tooEarly.WantOpened.Differs, tooEarly.WantSealed.Differs = true, true
	// Groups and routes never see what is not found.
	missed := adaptertest.Row{Name: "With at the route, not found", Stack: withOnly, Target: "/missing", Want: status(404), WantReply: inClear(404)}
	adaptertest.Run(t, adaptertest.Router{Name: "chi", New: chiOnly}, []adaptertest.Row{
		tooEarly,
		post(allowTypeInside),
		{Name: "AllowContentType inside, refused", Stack: allowTypeInside, Method: "POST", Target: "/echo", Body: json, ContentType: "text/csv", Want: status(415)},
		{Name: "GetHead", Stack: getHead, Method: "HEAD", Target: "/plain", Want: ok},
		{Name: "StripSlashes", Stack: stripSlashes, Method: "POST", Target: "/echo/", Body: json, Want: ok},
		{Name: "RedirectSlashes", Stack: redirectSlashes, Target: "/plain/", Want: status(301)},
		{Name: "Heartbeat", Stack: heartbeat, Target: "/ping", Want: status(200)},
		{Name: "NoCache", Stack: noCache, Target: "/plain", Want: ok},
		post(throttle),
		{Name: "mounted sub-router", Stack: mounted, Method: "POST", Target: "/v1/echo/7", Body: json, Want: adaptertest.Want{Status: 200, Contains: "/v1/echo/{id}"}},
		{Name: "mounted sub-router, not found", Stack: mounted, Target: "/v1/missing", Want: status(404)},
		{Name: "own NotFound", Stack: ownErrors, Target: "/missing", Want: adaptertest.Want{Status: 404}},
		{Name: "own MethodNotAllowed", Stack: ownErrors, Method: "PUT", Target: "/plain", Want: adaptertest.Want{Status: 405}},
		post(withOnly),
		missed,
		post(unwrapped),
	})
}

// A Middleware is the Handler of what it was given.
func TestMiddlewareIsHandler(t *testing.T) {
	m := adaptertest.NewMiddleware(t, sealhttp.WithPolicy(sealhttp.Required))
	h := chiseal.Middleware(m)(http.NotFoundHandler())
	w := newRecorder(h, "GET", "/")
	if w.Code != http.StatusNotAcceptable || w.Header().Get("Sealed-Error") != string(sealhttp.CodeEncryptionRequired) {
		t.Errorf("answered with %d, %v", w.Code, w.Header())
	}
}

// A call in plaintext costs no allocation.
func TestPlaintextAllocations(t *testing.T) {
	h := chiseal.Middleware(adaptertest.NewMiddleware(t))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	allocations := testing.AllocsPerRun(200, func() {
		clear(w.Header())
		h.ServeHTTP(w, r)
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}
