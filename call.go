package sealhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"

	"github.com/sealhttp/sealhttp/seal"
)

// Call is one request that is not simply passed on: its body was opened, its
// response is to be sealed, or both. [Middleware.Handler] and the adapters of
// routers stand on it:
//
//	call, err := m.Begin(w, r)
//	if err != nil {
//		m.Refuse(w, r, err)
//		return
//	}
//	if call == nil { // in plaintext
//		next.ServeHTTP(w, r)
//		return
//	}
//	defer call.Close()
//	next.ServeHTTP(call.Writer, call.Request)
//	err = call.Finish()
//
// The methods of a nil *Call do nothing.
type Call struct {
	// Request is what the handler is to get: the opened request.
	Request *http.Request
	// Writer is what the handler is to write to. It is the w that Begin was given
	// if only the request was sealed.
	Writer http.ResponseWriter

	m        *Middleware
	w        http.ResponseWriter
	incoming *http.Request
	info     CallInfo // what the request's context points to
	body     *openedBody
	stream   *exchangeBody   // in the exchange profile, where there is a body
	exchange *exchange       // nil in the message profile
	response responseWriter  // nil if Writer is Begin's w
	refusal  *countingWriter // what Finish has refused through, or nil
	finished bool
	closed   bool
	err      error // why the response could not be sealed
}

// responseWriter is a Writer of ours.
type responseWriter interface {
	http.ResponseWriter
	// finish sends what is still to be sent. From then on, as from close on, the
	// writer refuses every byte.
	finish() error
	close()
	sent() (status int, bytes int64)
}

// Begin looks at a request and, if it is sealed, opens it. It returns a nil Call
// for a call in plaintext: go on with w and r. An error, which holds an [*Error],
// means that the call is to be refused: see [Middleware.Refuse]. Until then
// nothing was written to w but Vary.
//
// w must be the server's own writer, or one that hands on what is written to it, and
// has an Unwrap method as [http.ResponseController] wants: without one, nothing ends the
// wait for the rest of an exchange's body after five seconds.
func (m *Middleware) Begin(w http.ResponseWriter, r *http.Request) (*Call, error) {
	return m.beginWith(w, r, policyAnswer{})
}

// BeginWithPolicy is Begin with the answer of a policy function, in place of the
// Middleware's own: for adapters whose routers know more than the request does. For a
// preflight, which passes every policy, it makes no difference.
func (m *Middleware) BeginWithPolicy(w http.ResponseWriter, r *http.Request, p Policy, err error) (*Call, error) {
	return m.beginWith(w, r, policyAnswer{given: true, policy: p, err: err})
}

// policyAnswer is the policy that BeginWithPolicy was given.
type policyAnswer struct {
	given  bool
	policy Policy
	err    error
}

func (m *Middleware) beginWith(w http.ResponseWriter, r *http.Request, policy policyAnswer) (*Call, error) {
	addVary(w.Header())
	if m.isPreflight(r) {
		return m.beginPreflight(w, r), nil
	}
	outer, nested := FromContext(r.Context())
	call, err := m.begin(w, r, outer, policy)
	if err != nil {
		return nil, err
	}
	if call == nil && !nested {
		m.observe(r, Event{})
	}
	return call, nil
}

// Refuse answers a call with the error that [Middleware.Begin] returned, through
// the error handler if [WithErrorHandler] set one. Before that it sets the header
// fields that a refusal has whatever its body is: Sealed-Error, by which callers
// know it, Cache-Control, Vary and, with 503, Retry-After. Those that describe
// another body are removed. A refusal of an exchange whose tag has verified goes out
// sealed; if the error handler writes nothing, as [WriteError] has it.
//
// An adapter that knows better what is wrong, since a reader of its router's has
// failed, passes an [*Error] of its own.
func (m *Middleware) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	outer, _ := FromContext(r.Context())
	event := Event{CallInfo: outer, Status: http.StatusInternalServerError, Err: err}
	var sealed *sealedRefusal
	if errors.As(err, &sealed) {
		event.CallInfo = sealed.exchange.info
	}
	if e := asError(err); e != nil {
		m.logRefusal(r, e)
		event.Code, event.Status = e.Code, e.Status
	}
	m.observe(r, event)
	if sealed != nil {
		sealed.exchange.answer(w, r, err)
		return
	}
	m.answer(w, r, err)
}

func (m *Middleware) answer(w http.ResponseWriter, r *http.Request, err error) {
	setErrorHeader(w.Header(), err)
	m.errorHandler(w, r, err)
}

// begin is Begin for all but preflights. outer is what a Middleware further out
// has done.
func (m *Middleware) begin(w http.ResponseWriter, r *http.Request, outer CallInfo, answer policyAnswer) (*Call, error) {
	a, err := readAsks(r, outer)
	if err != nil {
		return nil, err
	}
	policy, err := m.policyOf(r, answer)
	if err != nil {
		return nil, newError(CodePolicyUnavailable, http.StatusServiceUnavailable, err)
	}
	v, err := m.decide(policy, r.Method, a)
	if err != nil {
		return nil, err
	}
	switch {
	case v == verdict{}:
		return nil, nil
	case v.exchange:
		return m.beginExchange(w, r, policy)
	}

	call := &Call{m: m, w: w, incoming: r, info: outer, Writer: w}
	infoRequest, infoResponse, err := m.info(r)
	if err != nil {
		return nil, newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	}
	keys, err := m.serverKeys(r.Context())
	if err != nil {
		return nil, err
	}
	var clientKey *seal.PublicKey
	if v.seal {
		var e *Error
		if clientKey, e = m.clientKey(r, keys); e != nil {
			return nil, e
		}
		call.info.Profile = MessageProfile
		call.info.ResponseSealed = true
		call.info.CallerKeyID = clientKey.ID()
	}
	if v.open {
		if e := call.open(w, keys, infoRequest, policy); e != nil {
			return nil, e
		}
	}
	call.Request = call.openedRequest(v)
	if v.seal {
		call.response = &sealingWriter{
			responseHead: newResponseHead(w),
			key:          clientKey,
			info:         infoResponse,
			head:         r.Method == http.MethodHead,
			limit:        m.maxResponse,
			requestBody:  call.body,
		}
		call.Writer = call.response
	}
	return call, nil
}

func (m *Middleware) serverKeys(ctx context.Context) (*seal.KeySet, error) {
	keys, err := m.keys.ServerKeys(ctx)
	if err == nil && keys == nil {
		err = errors.New("the server's key set is nil")
	}
	if err != nil {
		return nil, newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	}
	return keys, nil
}

func (m *Middleware) policyOf(r *http.Request, answer policyAnswer) (Policy, error) {
	p, err := answer.policy, answer.err
	switch {
	case answer.given:
	case m.policyFunc == nil:
		return m.policy, nil
	default:
		p, err = m.policyFunc(r)
	}
	if err == nil && !p.valid() {
		err = fmt.Errorf("Policy(%d) is no policy", p)
	}
	return p, err
}

// clientKey finds the key to seal the response to.
func (m *Middleware) clientKey(r *http.Request, keys *seal.KeySet) (*seal.PublicKey, *Error) {
	if m.clientKeys == nil {
		return nil, newError(CodeNoClientKey, http.StatusNotAcceptable, errors.New("the Middleware has no client keys: see WithClientKeys"))
	}
	key, err := m.clientKeys.ClientKey(r)
	switch {
	case errors.Is(err, ErrNoClientKey) || err == nil && key == nil:
		if Account(r.Context()) == "" {
			m.noAccount.Do(func() { m.log().Warn(noAccount) })
		}
		return nil, newError(CodeNoClientKey, http.StatusNotAcceptable, err)
	case err != nil:
		return nil, newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	case keys.Holds(key):
		return nil, newError(CodeNoClientKey, http.StatusNotAcceptable, fmt.Errorf("the caller's key %d is a key of this server, which the caller cannot have", key.ID()))
	}
	return key, nil
}

// noAccount is said once. A router's own way to store what authentication found, as
// the Set of echo's and gin's contexts, never reaches the request's context.
const noAccount = "sealhttp: no client key was found for a call without an account in its request's context; " +
	"authentication puts it there with sealhttp.ContextWithAccount, or the router's adapter WithAccount"

// open reads the request's body and opens it in place. A body that turns out to
// have no byte is no message.
func (c *Call) open(w http.ResponseWriter, keys *seal.KeySet, info []byte, policy Policy) *Error {
	r := c.incoming
	if isEncoded(r.Header) {
		return newError(CodeUnsupportedProfile, http.StatusUnsupportedMediaType, errSealedEncoded)
	}
	if len(r.Header["Sealed-Content-Type"]) > 1 {
		return newError(CodeMalformed, http.StatusBadRequest, errSealedContentTypeLines)
	}
	limit := c.m.maxRequest + int64(keys.MaxOverhead())
	if r.ContentLength > limit {
		return newError(CodeTooLarge, http.StatusRequestEntityTooLarge, nil)
	}
	buf := newReadBuffer(r.ContentLength)
	_, err := buf.readFrom(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, limit)
	if err != nil {
		buf.free()
		if isTooLarge(err) {
			return newError(CodeTooLarge, http.StatusRequestEntityTooLarge, err)
		}
		return newError(CodeMalformed, http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	if len(buf.b) == 0 {
		buf.free()
		_, err := c.m.decide(policy, r.Method, asks{reply: replySealed})
		if err != nil {
			return asError(err)
		}
		return nil
	}
	plaintext, key, err := keys.OpenInPlace(buf.b, info)
	if err != nil {
		buf.free()
		return newError(codeOfOpening(err), http.StatusBadRequest, err)
	}
	if int64(len(plaintext)) > c.m.maxRequest {
		buf.free()
		return newError(CodeTooLarge, http.StatusRequestEntityTooLarge, nil)
	}
	c.info.Profile = MessageProfile
	c.info.RequestSealed = true
	c.info.KeyID = key.ID()
	c.body = &openedBody{buf: buf, rest: plaintext}
	return nil
}

// codeOfOpening tells the errors of [seal.KeySet.Open] apart as the wire format does.
func codeOfOpening(err error) Code {
	switch {
	case errors.Is(err, seal.ErrMalformed):
		return CodeMalformed
	case errors.Is(err, seal.ErrUnknownKey):
		return CodeUnknownKey
	}
	return CodeDecryptionFailed
}

// openedRequest makes the request for the handler: what it would have been in
// plaintext.
func (c *Call) openedRequest(v verdict) *http.Request {
	r := c.incoming.WithContext(context.WithValue(c.incoming.Context(), callInfoKey{}, &c.info))
	r.Header = maps.Clone(r.Header)
	if v.open || v.retype {
		n := 0
		r.Body = http.NoBody
		if c.body != nil {
			if n = len(c.body.rest); n > 0 {
				r.Body = c.body
			}
		}
		// What was parsed outside had only the query to parse.
		r.Form, r.PostForm, r.MultipartForm = nil, nil, nil
		r.ContentLength = int64(n)
		r.Header["Content-Length"] = []string{strconv.Itoa(n)}
		r.TransferEncoding = nil
		r.Trailer = nil
		delete(r.Header, "Trailer")
		contentType := c.m.defaultContentType
		if sealed := r.Header.Get("Sealed-Content-Type"); sealed != "" {
			contentType = sealed
		}
		r.Header["Content-Type"] = []string{contentType}
	}
	delete(r.Header, "Sealed-Content-Type")
	if v.seal {
		hideFromHandler(r.Header)
	}
	return r
}

// hideFromHandler takes out of a request's header what a sealed reply cannot follow:
// what the handler would make of it could not be sealed, or would be part of a
// plaintext that the caller never sees as one.
func hideFromHandler(h http.Header) {
	delete(h, "Accept-Encoding")
	delete(h, "Range")
	delete(h, "If-Range")
	if accept := withoutSealed(h["Accept"]); accept != nil {
		h["Accept"] = accept
	} else {
		delete(h, "Accept")
	}
}

// Finish seals the response and sends it. It is for a normal return of the
// handler only: after a panic, a half response would look whole.
//
// It returns an error that holds an [*Error] of [CodeResponseTooLarge],
// [CodeUnsupportedContentEncoding] or, in the exchange profile,
// [CodeRequestIncomplete] after it has answered so, where it still could, and
// otherwise errors of the connection. If the handler declared a Content-Length and wrote less,
// Finish panics with http.ErrAbortHandler, since a plaintext caller would see the
// connection break. So it does where a response without content, as one to HEAD, must not
// be sent, since the request's body did not authenticate to its end. Finish may be called
// once.
func (c *Call) Finish() error {
	if c == nil || c.finished {
		return nil
	}
	c.finished = true
	if c.response == nil {
		return nil
	}
	err := c.response.finish()
	if err == nil {
		return nil
	}
	c.err = err
	var e *Error
	switch {
	case errors.Is(err, errShortResponse), errors.Is(err, errHeaderHeld):
		panic(http.ErrAbortHandler)
	case errors.As(err, &e):
		c.logUnsealed(e)
		if status, _ := c.response.sent(); status != 0 {
			return err // a stream that broke off: its end says so
		}
		c.refusal = &countingWriter{ResponseWriter: c.w}
		if c.exchange != nil {
			c.exchange.answer(c.refusal, c.incoming, err)
		} else {
			c.m.answer(c.refusal, c.incoming, err)
		}
	}
	return err
}

// logUnsealed logs why the response could not be sealed. What the caller's side has done,
// as a refusal's cause, is of interest to who looks for it only.
func (c *Call) logUnsealed(e *Error) {
	if e.Status < http.StatusInternalServerError {
		c.m.logRefusal(c.incoming, e)
		return
	}
	c.m.log().LogAttrs(c.incoming.Context(), slog.LevelError, "sealhttp: the response could not be sealed",
		slog.String("code", string(e.Code)), slog.Any("error", e))
}

// Close ends the call. It is to be deferred, since a handler may panic: from then
// on the Writer refuses every byte with [ErrCallClosed] and the opened body every
// read, and temporary files of a parsed multipart form are removed.
func (c *Call) Close() {
	if c == nil || c.closed {
		return
	}
	c.closed = true
	if c.response != nil {
		c.response.close()
		if !c.finished {
			makeBodiless(c.response.Header()) // a recoverer further out answers with a body of its own
		}
	}
	if c.body != nil {
		_ = c.body.Close()
	}
	if c.stream != nil {
		c.stream.end()
	}
	if form := c.Request.MultipartForm; form != nil && form != c.incoming.MultipartForm {
		_ = form.RemoveAll()
	}
	if !c.finished && c.err == nil {
		c.err = errNotFinished
	}
	c.incoming.Pattern = c.Request.Pattern // a router inside has set it; loggers outside read it
	event := Event{CallInfo: c.info, Err: c.err}
	var e *Error
	if errors.As(c.err, &e) {
		event.Code, event.Status = e.Code, e.Status
		if status, _ := c.Sent(); status != 0 || c.refusal == nil {
			event.Status = status
		}
		if c.exchange == nil { // else the error was sealed, too
			event.ResponseSealed, event.CallerKeyID = false, 0
		}
	} else {
		event.Status, _ = c.Sent()
	}
	c.m.observe(c.incoming, event)
}

var errNotFinished = errors.New("sealhttp: the handler did not return normally")

// Sent tells the status and the number of body bytes that were sent, sealed, for
// loggers outside. Both are 0 until the header has gone out, in the message profile
// within Finish, and where the Writer is Begin's own w.
func (c *Call) Sent() (status int, bytes int64) {
	switch {
	case c == nil || c.response == nil:
		return 0, 0
	case c.refusal != nil:
		return c.refusal.status, c.refusal.bytes
	}
	return c.response.sent()
}

// OwnWriter reports whether Writer is one of the Call's own, rather than the w that
// Begin was given. To compare the two would panic where w's type has no equality.
func (c *Call) OwnWriter() bool { return c != nil && c.response != nil }

func (m *Middleware) observe(r *http.Request, e Event) {
	if m.observer != nil {
		m.observer(r, e)
	}
}

func (m *Middleware) logRefusal(r *http.Request, e *Error) {
	level := slog.LevelDebug
	if e.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	logger := m.log()
	if !logger.Enabled(r.Context(), level) {
		return
	}
	logger.LogAttrs(r.Context(), level, "sealhttp: call refused",
		slog.String("code", string(e.Code)), slog.Int("status", e.Status), slog.Any("error", e))
}

// asError returns the *Error in an error of ours.
func asError(err error) *Error {
	var e *Error
	errors.As(err, &e)
	return e
}
