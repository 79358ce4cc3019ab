package sealhttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
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
	first   attemptTime // when the first attempt under the id began
	clock   int64       // what the service's is ahead of ours, in seconds
	retried bool        // under the same id
	renewed bool        // under a second id
	sent    bool        // something may have left
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
	c.first, c.clock = attemptTime{time.Now(), c.t.wall()}, c.t.clock.Load()
	c.binding.timestamp = c.timestamp(0)
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
	if strings.IndexByte(target, '#') >= 0 {
		return errors.New("sealhttp: the URL's RawQuery or Opaque has a #, which no request target has: write it as %23")
	}
	authority := c.host
	if named, _, absolute := cutAuthority(target); absolute {
		if strings.IndexByte(named, '@') >= 0 { // net/http would send it
			return errors.New("sealhttp: the URL's Opaque has user information, which no request target has")
		}
		authority = named
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
		if host[i] >= 0x80 {
			return fmt.Errorf("sealhttp: the host %q is not in ASCII: write it in its xn-- form", host)
		}
	}
	if host != "" && !isHost(host) {
		return fmt.Errorf("sealhttp: the host %q is none", host)
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
		return newError(CodeUnsupportedProfile, 0, errSealedEncoded)
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
	b.kid, b.id = key.ID(), c.id
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
