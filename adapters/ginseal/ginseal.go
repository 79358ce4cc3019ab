// Package ginseal mounts sealhttp in a gin router:
//
//	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
//	r := gin.New()
//	r.Use(gin.Logger(), authenticate, ginseal.Middleware(m, ginseal.WithAccount(account)), gin.Recovery())
//
// Authentication goes in front of it, and [WithAccount] says whom it has found. What
// reads or writes bodies, or turns c.Errors into responses, goes behind it.
//
// Mounted with Use on the engine, it also covers gin's 404 and 405 responses; on a group
// it does not. Of two, the inner one passes on what the outer one has opened, and applies
// its own policy to the rest.
package ginseal

import (
	"bufio"
	"context"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sealhttp/sealhttp"
)

// An Option is an option of [Middleware].
type Option func(*adapter)

// WithAccount sets a function that says which account authentication has found, "" for
// none. Resolvers of keys, policies and info read it with [sealhttp.Account]; they see
// nothing that c.Set stores.
func WithAccount(account func(*gin.Context) string) Option {
	return func(a *adapter) { a.account = account }
}

// WithPolicy sets a function that finds a call's policy, in place of the Middleware's own:
// see [sealhttp.WithPolicyFunc]. It is called for CORS preflights too, which pass anyway.
func WithPolicy(policy func(*gin.Context) (sealhttp.Policy, error)) Option {
	return func(a *adapter) { a.policy = policy }
}

// WithSkipper sets which calls are passed on as they came, sealed or not.
func WithSkipper(skipper func(*gin.Context) bool) Option {
	return func(a *adapter) { a.skipper = skipper }
}

// WithErrorHandler sets how refused calls are answered, in place of the Middleware; the
// handlers that follow do not run. err wraps an [*sealhttp.Error]. The header, with
// Sealed-Error, is set already. To have a middleware further out render them:
//
//	ginseal.WithErrorHandler(func(c *gin.Context, err error) { _ = c.Error(err) })
func WithErrorHandler(handler func(c *gin.Context, err error)) Option {
	return func(a *adapter) {
		headerOnly := sealhttp.WithErrorHandler(func(http.ResponseWriter, *http.Request, error) {})
		a.m, a.onError = sealhttp.Must(a.m.With(headerOnly)), handler
	}
}

// Middleware returns m as gin takes it, for the engine, groups and routes. After a sealed
// call c.Writer has the status and size that were sent, and takes no more. A panic goes
// through, and nothing of the response is sent.
func Middleware(m *sealhttp.Middleware, opts ...Option) gin.HandlerFunc {
	a := &adapter{m: m, onError: func(c *gin.Context, _ error) { c.Writer.WriteHeaderNow() }}
	for _, opt := range opts {
		opt(a)
	}
	return a.serve
}

type adapter struct {
	m       *sealhttp.Middleware
	account func(*gin.Context) string
	policy  func(*gin.Context) (sealhttp.Policy, error)
	skipper func(*gin.Context) bool
	onError func(*gin.Context, error) // answers, or completes the answer, after Refuse
}

func (a *adapter) serve(c *gin.Context) {
	// gin's HandleContext, which serves c anew, puts gin's own writer in the place of ours.
	if w, ok := c.Request.Context().Value(writerKey{}).(*writer); ok && w.context == c && !c.GetBool(writerKey{}) {
		a.seal(c, w)
		return
	}
	if a.skipper != nil && a.skipper(c) {
		return
	}
	call, err := a.begin(c)
	if err != nil {
		c.Abort()
		if !c.Writer.Written() { // else a limit on bodies, further out, has answered from within Read
			a.m.Refuse(c.Writer, c.Request, err)
			a.onError(c, err)
		}
	}
	if call == nil {
		return
	}
	defer call.Close()
	c.Request = call.Request
	if !call.OwnWriter() {
		c.Next()
		_ = call.Finish()
		return
	}
	w := &writer{ResponseWriter: call.Writer, call: call, raw: c.Writer, context: c, size: -1}
	*c.Request = *c.Request.WithContext(context.WithValue(c.Request.Context(), writerKey{}, w))
	a.seal(c, w)
}

func (a *adapter) begin(c *gin.Context) (*sealhttp.Call, error) {
	if a.account != nil { // in place: of a copy's form, net/http would leave temporary files behind
		*c.Request = *c.Request.WithContext(sealhttp.ContextWithAccount(c.Request.Context(), a.account(c)))
	}
	if a.policy == nil {
		return a.m.Begin(c.Writer, c.Request)
	}
	p, err := a.policy(c)
	return a.m.BeginWithPolicy(c.Writer, c.Request, p, err)
}

// seal runs the handlers that follow, on w, and ends the call, if HandleContext has not.
func (a *adapter) seal(c *gin.Context, w *writer) {
	defer func() {
		if !w.done { // a panic, nothing was sent: a recoverer further out answers, but not with a 200
			c.Writer = w.raw
			w.raw.WriteHeader(http.StatusInternalServerError)
		}
	}()
	w.WriteHeader(w.raw.Status())
	c.Writer = w // closed by Finish, it stays: nothing may follow a sealed body
	c.Set(writerKey{}, true)
	c.Next()
	if w.raw.Written() && !w.done { // within HandleContext, for a route without this middleware
		panic(http.ErrAbortHandler)
	}
	if body, ok := defaultBodies[w.status]; ok && c.FullPath() == "" && !w.Written() { // gin would write it too late
		w.Header()["Content-Type"] = []string{gin.MIMEPlain}
		_, _ = c.Writer.WriteString(body)
	} else if len(c.Errors) > 0 && w.status == http.StatusOK { // so would what renders errors further out
		w.WriteHeader(http.StatusInternalServerError)
	}
	w.WriteHeaderNow()
	refusal := w.call.Finish()
	w.done = true
	if status, _ := w.call.Sent(); status == 0 && refusal != nil { // it is still to be rendered
		c.Writer = w.raw
		a.onError(c, refusal)
		return
	}
	w.raw.WriteHeaderNow()
	w.status, w.size = w.raw.Status(), w.raw.Size()
}

// defaultBodies are gin's own where it finds no route.
var defaultBodies = map[int]string{404: "404 page not found", 405: "405 method not allowed"}

type writerKey struct{}

// writer is the gin.ResponseWriter of a Call. It does not embed the raw one: a method
// that gin may add must not get to that unseen.
type writer struct {
	http.ResponseWriter // the Call's
	call                *sealhttp.Call
	raw                 gin.ResponseWriter
	context             *gin.Context
	status, size        int // the handler's, -1 for nothing; once done, those of what was sent
	done                bool
}

// Unwrap is for http.ResponseController. What is found there seals too.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader commits nothing: in gin the last status before the first byte wins.
func (w *writer) WriteHeader(status int) {
	if status > 0 && !w.Written() {
		w.status = status
	}
}

func (w *writer) WriteHeaderNow() {
	if !w.Written() {
		w.size = 0
		w.ResponseWriter.WriteHeader(w.status)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeaderNow()
	n, err := w.ResponseWriter.Write(p)
	w.size += n
	return n, err
}

func (w *writer) Flush() {
	w.WriteHeaderNow()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack would let plaintext past.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }
func (w *writer) Status() int                       { return w.status }
func (w *writer) Size() int                         { return w.size }
func (w *writer) Written() bool                     { return w.size >= 0 }
func (w *writer) CloseNotify() <-chan bool          { return w.raw.CloseNotify() }
func (w *writer) Pusher() http.Pusher               { return nil }
