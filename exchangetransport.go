package sealhttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// Whether a call of the exchange profile that ended with an error was executed. Each
// such error wraps exactly one of the two, whatever else it is, but for [ErrRedirect].
// A program that is to repeat what was not done asks for ErrNotProcessed, not for the
// absence of the other: a Timeout of http.Client replaces the error by its own.
var (
	// ErrNotProcessed is a call of which nothing was sent: it was not executed, and
	// will not be.
	ErrNotProcessed = errors.New("the request was not processed")

	// ErrOutcomeUnknown is a call that may have been executed, or may still be, once at
	// most. Whoever ends TLS before the service may have held an answer back, or keep
	// what was sent and deliver it later, even if the service has refused it the first
	// time. What was sent is good until its time has left the service's replay window.
	// Another call has another id: find out what has happened before it asks for
	// the same.
	ErrOutcomeUnknown = errors.New("the outcome is unknown: the request may have been executed, or may still be")
)

const (
	// retryWithin is how long after the first attempt another may begin.
	retryWithin = time.Minute
	// retryPause is how long a 503 is waited out, give or take a half.
	retryPause = time.Second
)

// exchangeCall is one call of a Transport in the exchange profile.
type exchangeCall struct {
	t       *Transport
	req     *http.Request
	host    string          // as it is sent
	header  http.Header     // as it is sent, but for Sealed-Exchange
	binding exchangeBinding // but for what each attempt has of its own
	upload  *upload         // nil for no body

	id      exchangeID
	first   time.Time // when the first attempt under the id began
	clock   int64     // what the service's is ahead of ours, in seconds
	retried bool      // under the same id
	renewed bool      // under a second id
	sent    bool      // something may have left
}

// remedy is what may help a call that has failed.
type remedy uint8

const (
	noRemedy   remedy = iota
	anotherKey        // the service does not know this one
	anotherTry        // the connection broke, or the clock was wrong
	laterTry          // 503
	anotherID         // replayed
)

// attemptError is what an attempt has ended with.
type attemptError struct {
	cause  error
	remedy remedy
}

// exchange is RoundTrip in the exchange profile.
func (t *Transport) exchange(req *http.Request) (*http.Response, error) {
	c := &exchangeCall{t: t, req: req}
	resp, err := c.do()
	if err != nil {
		return nil, c.outcome(err)
	}
	return resp, nil
}

func (c *exchangeCall) do() (*http.Response, error) {
	key, err := c.prepare()
	if err != nil {
		closeBody(c.req)
		return nil, err
	}
	if c.upload, err = c.t.newUpload(c.req); err != nil {
		return nil, err
	}
	responded := false
	defer func() { c.upload.release(responded) }()
	if c.upload != nil {
		c.binding.body = true
		c.header["Content-Type"] = exchangeContentTypeLine
	}
	c.newID()
	for {
		resp, failed := c.attempt(key)
		if failed == nil {
			responded = true
			return resp, nil
		}
		if key, err = c.mend(failed, key); err != nil {
			return nil, err
		}
	}
}

// newID makes what follows another logical request.
func (c *exchangeCall) newID() {
	rand.Read(c.id[:]) // never fails, see crypto/rand
	c.first, c.clock = time.Now(), c.t.clock.Load()
}

// now returns the time of the next attempt. Within a call it goes by the monotonic clock,
// so that no attempt has an earlier time than one before it under the same id, nor one
// that is much later. The service remembers the id of an attempt that it takes for twice
// its window: that covers another attempt only if its time is about the same.
func (c *exchangeCall) now() int64 {
	now := c.first.Add(time.Since(c.first)).Unix() + c.clock
	return min(max(now, 0), maxTimestamp)
}

// prepare finds out all that is to be sent but for the body, and the key.
func (c *exchangeCall) prepare() (*seal.PublicKey, error) {
	if err := c.prepareTarget(); err != nil {
		return nil, err
	}
	if err := c.prepareHeader(); err != nil {
		return nil, err
	}
	var err error
	if c.binding.info, _, err = c.t.info(c.req); err != nil {
		return nil, newError(CodeKeyStoreUnavailable, 0, err)
	}
	if c.t.privateKeys != nil {
		if _, err := c.t.openingKeys(c.req.Context()); err != nil {
			return nil, err
		}
	}
	return c.t.sealingKey(c.req.Context(), nil)
}

// prepareTarget binds method, authority and target as net/http is going to send them.
func (c *exchangeCall) prepareTarget() error {
	req := c.req
	if req.URL == nil {
		return errors.New("sealhttp: the request has no URL")
	}
	c.binding.method = req.Method
	switch req.Method {
	case "":
		c.binding.method = http.MethodGet
	case http.MethodConnect:
		return errors.New("sealhttp: a CONNECT request cannot be sealed")
	}
	c.host = withoutZone(req.Host)
	if c.host == "" {
		c.host = withoutZone(req.URL.Host)
	}
	target := req.URL.RequestURI()
	authority := c.host
	if rest, absolute := cutScheme(target); absolute {
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			rest = rest[:end]
		}
		authority = rest[strings.LastIndexByte(rest, '@')+1:]
	}
	for _, host := range [...]string{c.host, authority} {
		if err := checkHost(host); err != nil {
			return err
		}
	}
	c.binding.authority, c.binding.target = normalAuthority(authority), reducedTarget(target)
	return nil
}

// withoutZone removes the zone of an IPv6 address, which means nothing elsewhere. In
// HTTP/1 net/http does so, in HTTP/2 it does not.
func withoutZone(host string) string {
	end := strings.LastIndexByte(host, ']')
	if !strings.HasPrefix(host, "[") || end < 0 {
		return host
	}
	if zone := strings.LastIndexByte(host[:end], '%'); zone >= 0 {
		return host[:zone] + host[end:]
	}
	return host
}

// checkHost refuses what net/http would send in another form, or not at all.
func checkHost(host string) error {
	for i := range len(host) {
		switch b := host[i]; {
		case b >= 0x80:
			return fmt.Errorf("sealhttp: the host %q is not in ASCII: write it in its xn-- form", host)
		case b <= ' ' || b == 0x7f || strings.IndexByte(`/\?#@"<>^{|}`+"`", b) >= 0:
			return fmt.Errorf("sealhttp: the host %q is none", host)
		}
	}
	return nil
}

// prepareHeader makes the header that is sent, and binds what of it is bound.
func (c *exchangeCall) prepareHeader() error {
	h := make(http.Header, len(c.req.Header)+4)
	for name, lines := range c.req.Header {
		// Both sides look bound fields up in this form.
		name = http.CanonicalHeaderKey(name)
		h[name] = slices.Concat(h[name], lines)
	}
	if isEncoded(h) {
		return newError(CodeUnsupportedProfile, 0, errors.New("a Content-Encoding over a sealed body"))
	}
	lines := h["Content-Type"]
	if len(lines) > 1 {
		return errors.New("sealhttp: the request has more than one Content-Type")
	}
	for _, name := range notOnExchange {
		delete(h, name)
	}
	if len(lines) == 1 {
		if c.binding.contentType = trimOWS(lines[0]); !isContentType(c.binding.contentType) {
			return errors.New("sealhttp: the request's Content-Type has other bytes than visible ASCII, or is too long")
		}
		if c.binding.contentType != "" {
			h["Sealed-Content-Type"] = []string{c.binding.contentType}
		}
	}
	if h["Accept-Encoding"] == nil {
		// Left to itself, net/http would ask for gzip: time spent on bytes that do not get
		// shorter, and bytes of anyone's to be decompressed before they are authenticated.
		h["Accept-Encoding"] = []string{"identity"}
	}
	if h["X-Idempotency-Key"] == nil {
		// Tells net/http that any request may be sent again on another connection, and is
		// not sent itself. The service takes an id once.
		h["X-Idempotency-Key"] = nil
	}
	c.header = h
	if err := c.binding.bindHeader(h, c.t.boundNames); err != nil {
		return fmt.Errorf("sealhttp: %w", err)
	}
	return nil
}

// notOnExchange are fields of a program's request that speak of the plaintext, or ask
// for a part of a sealed body, and those that sealhttp alone sets.
var notOnExchange = [...]string{
	"Content-Type",
	"Content-Length",
	"Transfer-Encoding",
	"Trailer",
	"Range",
	"If-Range",
	"Sealed-Exchange",
	"Sealed-Content-Type",
	"Sealed-Error",
}

// attempt seals the request, sends it, and authenticates what comes back.
func (c *exchangeCall) attempt(key *seal.PublicKey) (*http.Response, *attemptError) {
	failed := func(err error) (*http.Response, *attemptError) { return nil, &attemptError{cause: err} }
	if err := c.req.Context().Err(); err != nil {
		return failed(context.Cause(c.req.Context()))
	}
	b := &c.binding
	b.kid, b.id, b.timestamp = key.ID(), c.id, c.now()
	info, err := b.hpkeInfo()
	if err != nil {
		return failed(fmt.Errorf("sealhttp: %w", err))
	}
	x, enc, auth, err := key.NewExchange(info)
	if err != nil {
		return failed(newError(CodeKeyStoreUnavailable, 0, err))
	}
	field := requestField{kid: b.kid, id: b.id, timestamp: b.timestamp, enc: enc, auth: auth}
	if !slices.Equal(b.names, defaultBoundNames) {
		field.bind = b.names
	}

	var watch connWatch
	out := c.req.WithContext(httptrace.WithClientTrace(c.req.Context(), watch.trace()))
	out.Host = c.host
	out.Header = maps.Clone(c.header)
	out.Header[exchangeHeader] = []string{field.String()}
	out.Body, out.GetBody, out.ContentLength, out.TransferEncoding, out.Trailer = nil, nil, 0, nil, nil
	if err := c.upload.seal(out, x.Records()); err != nil {
		return failed(newError(CodeKeyStoreUnavailable, 0, err))
	}
	resp, err := c.t.base.RoundTrip(out)
	c.sent = c.sent || err == nil || watch.mayHaveSent()
	if err == nil {
		return c.open(resp, x, key)
	}
	if c.req.Context().Err() != nil {
		return failed(context.Cause(c.req.Context()))
	}
	if own := c.upload.failure(); own != nil {
		return failed(own)
	}
	if watch.mayHaveSent() && !isTimeout(err) {
		return nil, &attemptError{err, anotherTry}
	}
	return failed(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// connWatch finds out whether a request can have been sent: an error alone does not say
// so, since net/http may have tried before.
type connWatch struct{ asked, got atomic.Bool }

func (w *connWatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.got.Store(true) },
	}
}

// mayHaveSent is true for a transport that does not tell.
func (w *connWatch) mayHaveSent() bool { return w.got.Load() || !w.asked.Load() }

// mend does what may help after a failed attempt, and returns the key for another. Its
// error is what the call ends with.
//
// Under one id there is one more attempt, within a minute. An attempt that was answered
// with replayed is followed by one under another id, if the method is safe.
func (c *exchangeCall) mend(failed *attemptError, key *seal.PublicKey) (*seal.PublicKey, error) {
	ctx := c.req.Context()
	switch {
	case ctx.Err() != nil:
		return nil, c.ended(failed.cause)
	case failed.remedy == noRemedy:
		return nil, failed.cause
	case failed.remedy == anotherID:
		if c.renewed || !isSafe(c.binding.method) || !c.upload.again() {
			return nil, failed.cause
		}
		c.renewed = true
		c.newID()
		return key, nil
	case c.retried || time.Since(c.first) >= retryWithin:
		return nil, failed.cause
	}
	if failed.remedy == anotherKey {
		other, err := c.t.sealingKey(ctx, key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w; asked for another key: %w", failed.cause, err)
		case other.Equal(key):
			return nil, failed.cause
		}
		key = other
	}
	if !c.upload.again() {
		return nil, failed.cause
	}
	if failed.remedy == laterTry && !c.pause() {
		return nil, c.ended(failed.cause)
	}
	c.retried = true
	return key, nil
}

// ended adds to an error that the call's context has ended: the error may come of that.
func (c *exchangeCall) ended(err error) error {
	if cause := context.Cause(c.req.Context()); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w; %w", err, cause)
	}
	return err
}

// isSafe reports whether a method may be executed twice (RFC 9110, section 9.2.1).
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// pause waits, unless the call would end meanwhile. Retry-After is not looked at: it is
// not authenticated.
func (c *exchangeCall) pause() bool {
	pause := retryPause/2 + mathrand.N(retryPause)
	ctx := c.req.Context()
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// outcome adds to an error whether the request may have been executed.
//
// Only a call of which nothing was sent was certainly not. An answer that nothing
// authenticates says nothing: a hop can hold back the true one. One that is
// authenticated and refuses says that this delivery was not executed: the service
// remembers no id that it refuses, so a hop can deliver the same bytes again, or those
// of an earlier attempt, while their time is in the replay window. An authenticated
// response of the handler does settle it: its attempt was executed, so no other
// attempt under the id was, or will be.
func (c *exchangeCall) outcome(err error) error {
	o := &outcomeError{err: err, outcome: ErrNotProcessed}
	if c.sent {
		o.outcome = ErrOutcomeUnknown
	}
	if e, ok := err.(*Error); ok {
		o.err = e.Err
		return newError(e.Code, e.Status, o)
	}
	return o
}

// outcomeError is an error, nil for no more than an Error's code, with what is known of
// its call's outcome.
type outcomeError struct {
	err     error
	outcome error
}

func (e *outcomeError) Error() string {
	if e.err == nil {
		return e.outcome.Error()
	}
	return e.err.Error() + "; " + e.outcome.Error()
}

func (e *outcomeError) Unwrap() []error {
	if e.err == nil {
		return []error{e.outcome}
	}
	return []error{e.err, e.outcome}
}

// Timeout is for http.Client, whose errors ask for it.
func (e *outcomeError) Timeout() bool { return e.err != nil && isTimeout(e.err) }
