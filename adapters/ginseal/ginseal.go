// Package ginseal mounts sealhttp in a gin router:
//
//	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
//	r := gin.New()
//	r.Use(gin.Logger(), authenticate, ginseal.Middleware(m, ginseal.WithAccount(account)), gin.Recovery())
//
// Authentication goes in front of it; what reads or writes bodies, or turns c.Errors into
// responses, goes behind it. Mounted with Use on the engine, it also covers gin's 404 and
// 405 responses; on a group it does not. Of two, the inner one passes on what the outer one
// has opened, and applies its own policy to the rest.
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
func WithAccount(find func(*gin.Context) string) Option { return func(a *adapter) { a.Account = find } }

// WithPolicy sets a function that finds a call's policy, in place of the Middleware's own:
// see [sealhttp.WithPolicyFunc]. It is called for CORS preflights too, which pass anyway.
func WithPolicy(policy func(*gin.Context) (sealhttp.Policy, error)) Option {
	return func(a *adapter) { a.Policy = policy }
}

// WithSkipper sets which calls are passed on as they came, sealed or not.
func WithSkipper(skip func(*gin.Context) bool) Option { return func(a *adapter) { a.Skip = skip } }

// WithErrorHandler sets how refusals are answered, in place of the Middleware, but for sealed
// ones; no handler follows. err wraps an [*sealhttp.Error], and the header is set already.
// One that calls c.Error leaves the rest to who is further out.
func WithErrorHandler(handler func(c *gin.Context, err error)) Option {
	return func(a *adapter) {
		headerOnly := sealhttp.WithErrorHandler(func(http.ResponseWriter, *http.Request, error) {})
		a.Middleware, a.onError = sealhttp.Must(a.Middleware.With(headerOnly)), handler
	}
}

// Middleware returns m as gin takes it, for the engine, groups and routes. After a sealed
// call c.Writer has the status and size that were sent, and takes no more. A panic goes
// through, and nothing more of the response is sent.
func Middleware(m *sealhttp.Middleware, opts ...Option) gin.HandlerFunc {
	a := &adapter{sealhttp.Mount[*gin.Context]{Middleware: m}, func(c *gin.Context, _ error) { c.Writer.WriteHeaderNow() }}
	for _, opt := range opts {
		opt(a)
	}
	return a.serve
}

type adapter struct {
	sealhttp.Mount[*gin.Context]
	onError func(*gin.Context, error) // answers, or completes the answer, after Refuse
}

func (a *adapter) serve(c *gin.Context) {
	if w, ok := c.Request.Context().Value(c).(*writer); ok && !c.GetBool(w) {
		a.seal(c, w) // HandleContext, which serves c anew, has put gin's own writer in the place of w
		c.Writer = w // whoever has called it may write on, but not in plaintext
		return
	}
	call, err := a.Begin(c, c.Writer, c.Request)
	if err != nil {
		c.Abort()
		if !c.Writer.Written() { // else a limit on bodies, further out, has answered from within Read
			a.Middleware.Refuse(c.Writer, c.Request, err)
		}
		if !c.Writer.Written() && c.Writer.Header().Get("Sealed-Exchange") == "" { // else the refusal is sealed
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
	own := gin.CreateTestContextOnly(call.Writer, new(gin.Engine)).Writer // made for tests, but gin has no other way
	w := &writer{ResponseWriter: own, raw: c.Writer, told: own, call: call}
	*c.Request = *c.Request.WithContext(context.WithValue(c.Request.Context(), c, w)) // an engine further in has another c
	a.seal(c, w)
}

// seal runs the handlers that follow, on w, and ends the call, if HandleContext has not.
func (a *adapter) seal(c *gin.Context, w *writer) {
	defer func() {
		if sent, _ := w.call.Sent(); sent == 0 && !w.done { // a panic, nothing was sent: a recoverer further out answers, but not with a 200
			c.Writer = w.raw
			w.raw.WriteHeader(http.StatusInternalServerError)
		}
	}()
	w.WriteHeader(w.raw.Status())
	c.Writer = w   // closed by Finish, it stays: nothing may follow a sealed body
	c.Set(w, true) // what is set is gone after HandleContext
	c.Next()
	body := map[int]string{404: "404 page not found", 405: "405 method not allowed"}[w.Status()] // as gin has it
	switch sent, _ := w.call.Sent(); {
	case w.done: // by HandleContext
		return
	case sent == 0 && w.raw.Written(): // within HandleContext, for a route without this middleware
		panic(http.ErrAbortHandler)
	case !w.Written() && body != "" && c.FullPath() == "": // no route; gin would write it too late
		w.Header()["Content-Type"] = []string{gin.MIMEPlain}
		_, _ = c.Writer.WriteString(body)
	case !w.Written() && len(c.Errors) > 0 && w.Status() == http.StatusOK: // so would what renders errors further out
		w.WriteHeader(http.StatusInternalServerError)
	}
	if w.Status() != http.StatusOK {
		w.WriteHeaderNow() // else, if nothing was written, Finish says what it is
	}
	refusal := w.call.Finish()
	w.done, w.told = true, w.raw
	if sent, _ := w.call.Sent(); sent == 0 { // the refusal is still to be rendered
		c.Writer = w.raw
		a.onError(c, refusal)
		return
	}
	w.raw.WriteHeaderNow()
}

// writer is gin's own on top of a Call's, not of the raw one: whatever gin may add to it seals too.
type writer struct {
	gin.ResponseWriter
	raw, told gin.ResponseWriter // the one further out; the one whose status and size are told
	call      *sealhttp.Call
	done      bool
}

// Hijack would let plaintext past. Unwrap is for http.ResponseController.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }
func (w *writer) Unwrap() http.ResponseWriter                  { return w.call.Writer }
func (w *writer) CloseNotify() <-chan bool                     { return w.raw.CloseNotify() }
func (w *writer) Status() int                                  { return w.told.Status() }
func (w *writer) Size() int                                    { return w.told.Size() }
