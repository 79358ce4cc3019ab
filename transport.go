package sealhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// What a [Transport]'s calls can end with, besides an [*Error] with the Code of a
// refusal, errors of its key sources, and those of the transport below.
var (
	// ErrRefused is wrapped by the [*Error] of a call that the server refused: its
	// Code says why.
	//
	// In the message profile the handler has not run, but for [CodeResponseTooLarge]
	// and [CodeUnsupportedContentEncoding], which are of its response. Nothing
	// authenticates the refusal; trust it no more than a dropped connection.
	//
	// In the exchange profile the refusal is authenticated: the attempt that it answers
	// did not reach the handler, but for [CodeTooLarge], where the handler may have been
	// reading. An earlier attempt may have: see [ErrOutcomeUnknown]. It is not wrapped
	// for [CodeReplayed], [CodeRequestIncomplete], [CodeResponseTooLarge] and
	// [CodeUnsupportedContentEncoding], which say that a handler has or may have run.
	ErrRefused = errors.New("the server refused the call")

	// ErrResponseNotOpened is wrapped by the [*Error] of a sealed response that
	// could not be opened. [CodeUnknownKey] is one for a key that is not held,
	// [CodeDecryptionFailed] one for another key without a prefix, or one that was
	// changed on its way.
	ErrResponseNotOpened = errors.New("the sealed response could not be opened")

	// ErrPlaintextResponse is a response with a status of 2xx in plaintext where a
	// sealed one was asked for: it may be anyone's.
	ErrPlaintextResponse = errors.New("sealhttp: a response in plaintext where a sealed one was asked for")

	// ErrRedirect is a redirect that was to be followed. Whoever sent it would
	// choose where the request is sealed to. Programs that want it follow it by hand.
	ErrRedirect = errors.New("sealhttp: redirects are not followed")
)

// transportConfig is what a Transport is made of.
type transportConfig struct {
	settings
	base        http.RoundTripper
	profile     Profile
	privateKeys ServerKeys // nil: responses are not asked for sealed
}

// Transport is an http.RoundTripper that seals requests and opens responses, for
// use in an http.Client. It is safe for use by several goroutines at once.
//
// Transports that add credentials go outside of it, those that speak to the
// network below: see [WithBase]. No byte of a plaintext body reaches the network,
// whatever is done to send it again: the copies that net/http makes are of the sealed
// body.
//
// # The message profile
//
// It is the default. A request's body is read into memory, sealed, and sent as
// [MediaType] with the plaintext's Content-Type in Sealed-Content-Type. Everything else
// of the request travels in clear. With private keys, a sealed response is asked for,
// opened, and returned as the handler made it; [FromResponse] tells what was sealed.
// Without, responses come in plaintext.
//
// RoundTrip itself sends a request a second time in one case only: the server answers
// unknown_key (for a key without a prefix also decryption_failed, since such a key
// cannot be told unknown) and the [ServerPublicKeys] then has another key.
//
// Responses come back as they are, with these exceptions: a refusal by a
// Middleware is an [*Error] with its Code that wraps [ErrRefused]; a response in
// plaintext with a status of 2xx where a sealed one was due is
// [ErrPlaintextResponse]; one that does not open wraps [ErrResponseNotOpened]; a
// redirected request is [ErrRedirect]; a body or response past its limit is an
// [*Error] of [CodeTooLarge] or [CodeResponseTooLarge]. Other responses in
// plaintext, as a gateway's 502, come through, and FromResponse says that nothing
// authenticates them.
//
// # The exchange profile
//
// With [WithProfile] and [ExchangeProfile] both bodies are streamed, the request is bound
// to its method, host, target, type, time and credentials, and only a response that is
// authenticated and belongs to it is ever returned. All other answers, whatever their
// status, are errors: an [*Error] that wraps [ErrUnauthenticated], with the status and
// the Code that the answer claims, and without its body and header. An authenticated
// refusal wraps [ErrRefused], but for replayed, request_incomplete, response_too_large
// and unsupported_content_encoding, which say that a handler has or may have run.
// Private keys are not needed; with some, only responses that are sealed to one of them
// are taken.
//
// The service executes a request at most once, if its replicas share a guard
// ([WithReplayGuard]). So it is sent again, once and within a minute, after unknown_key,
// a connection that broke, a 503, and a time that the service finds too old. That needs
// the body: one of up to 64 KiB of ciphertext is kept, for a longer one the request's
// GetBody is asked. GET, HEAD and OPTIONS are sent once more, as
// another request, when the service says that it has seen them before, or finds their
// time too early, unless a field as X-HTTP-Method-Override names another method. From stale on the Transport goes by the service's clock. net/http
// itself may send the same bytes again, of any method, and as often as a hop makes it:
// give calls a deadline.
//
// Each error says whether the request can have been executed: [ErrNotProcessed] or
// [ErrOutcomeUnknown]. It goes by the hooks of net/http/httptrace; a base transport that
// has none may have sent whatever it was given.
//
// A body whose length is not known is sent as it comes, so that a request can be written
// while its response is read, in HTTP/2. Reading a response that ends too early gives
// [seal.ErrTruncated].
type Transport struct {
	keys  ServerPublicKeys
	clock atomic.Int64 // what the service's is ahead of ours, in seconds
	wall  func() time.Time
	transportConfig
}

// WithPrivateKeys sets the caller's private keys, whose public halves the server
// has registered: the current one, then previous ones. Of several options with
// private keys the last one wins. The errors are those of [seal.NewKeySet].
func WithPrivateKeys(keys ...*seal.PrivateKey) TransportOption {
	return transportOption(func(c *transportConfig) error {
		if len(keys) == 0 {
			return errors.New("sealhttp: WithPrivateKeys: no key is given")
		}
		set, err := seal.NewKeySet(keys[0], keys[1:]...)
		if err != nil {
			return fmt.Errorf("sealhttp: WithPrivateKeys: %w", err)
		}
		c.privateKeys = ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil })
		return nil
	})
}

// WithPrivateKeySource sets where the caller's private keys come from, if they
// change while the program runs: a *keyring.Keyring, say. It is asked before a
// request is sent and again when a sealed response has come.
func WithPrivateKeySource(keys ServerKeys) TransportOption {
	return transportOption(func(c *transportConfig) error {
		if keys == nil {
			return errors.New("sealhttp: WithPrivateKeySource: the source is nil")
		}
		c.privateKeys = keys
		return nil
	})
}

// WithBase sets the transport that sends what is sealed. The default is
// http.DefaultTransport.
func WithBase(base http.RoundTripper) TransportOption {
	return transportOption(func(c *transportConfig) error {
		if base == nil {
			return errors.New("sealhttp: WithBase: the transport is nil")
		}
		c.base = base
		return nil
	})
}

// WithProfile sets the profile of the calls. The default is [MessageProfile].
func WithProfile(p Profile) TransportOption {
	return transportOption(func(c *transportConfig) error {
		if !p.valid() {
			return fmt.Errorf("sealhttp: WithProfile: Profile(%d) does not exist", p)
		}
		c.profile = p
		return nil
	})
}

// NewTransport makes a Transport that seals to the keys of a source. It returns an
// error for an option that is not valid.
func NewTransport(keys ServerPublicKeys, opts ...TransportOption) (*Transport, error) {
	if keys == nil {
		return nil, errors.New("sealhttp: NewTransport: keys are nil")
	}
	t := &Transport{keys: keys, wall: wallTime, transportConfig: transportConfig{settings: defaultSettings(), base: http.DefaultTransport, profile: MessageProfile}}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("sealhttp: an option is nil")
		}
		if err := opt.applyTransport(&t.transportConfig); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// CloseIdleConnections closes those of the transport below, for http.Client.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends a request sealed. See [Transport] for what it does and for its
// errors. It does not change the request, but for reading and closing its body.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Response != nil {
		closeBody(req)
		return nil, fmt.Errorf("%w: %s to %s://%s%s", ErrRedirect, req.Method, req.URL.Scheme, req.URL.Host, req.URL.EscapedPath())
	}
	if t.profile == ExchangeProfile {
		return t.exchange(req)
	}
	plaintext, err := t.readBody(req)
	if err != nil {
		return nil, err
	}
	infoRequest, infoResponse, err := t.info(req)
	if err != nil {
		return nil, newError(CodeKeyStoreUnavailable, 0, err)
	}
	if t.privateKeys != nil {
		if _, err := t.openingKeys(req.Context()); err != nil {
			return nil, err
		}
	}
	key, err := t.sealingKey(req.Context(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.attempt(req, plaintext, infoRequest, key)
	if plaintext != nil && mayKnowOtherKey(err, key) {
		other, keyErr := t.sealingKey(req.Context(), key)
		switch {
		case keyErr != nil:
			return nil, fmt.Errorf("%w; asked for another key: %w", err, keyErr)
		case other.Equal(key):
			return nil, err
		}
		key = other
		resp, err = t.attempt(req, plaintext, infoRequest, key)
	}
	if err != nil {
		return nil, err
	}
	info := CallInfo{RequestSealed: plaintext != nil}
	if info.RequestSealed {
		info.Profile, info.KeyID = MessageProfile, key.ID()
	}
	return t.openResponse(req, resp, infoResponse, info)
}

// mayKnowOtherKey reports whether a call was refused for a reason that another key
// may mend.
func mayKnowOtherKey(err error, key *seal.PublicKey) bool {
	return errors.Is(err, ErrRefused) &&
		(errors.Is(err, CodeUnknownKey) || errors.Is(err, CodeDecryptionFailed) && !key.HasPrefix())
}

func (t *Transport) sealingKey(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
	key, err := t.keys.PublicKey(ctx, refused)
	if err == nil && key == nil {
		err = errors.New("the server's public key is nil")
	}
	if err != nil {
		return nil, newError(CodeKeyStoreUnavailable, 0, err)
	}
	return key, nil
}

func (t *Transport) openingKeys(ctx context.Context) (*seal.KeySet, error) {
	keys, err := t.privateKeys.ServerKeys(ctx)
	if err == nil && keys == nil {
		err = errors.New("the caller's key set is nil")
	}
	if err != nil {
		return nil, newError(CodeKeyStoreUnavailable, 0, err)
	}
	return keys, nil
}

// readBody reads and closes the request's body. It returns nil for a request that
// carries no message. A method that is refused without content where encryption
// is required gets a message of no bytes.
func (t *Transport) readBody(req *http.Request) ([]byte, error) {
	closing := sync.OnceFunc(func() { closeBody(req) })
	defer closing()
	var plaintext []byte
	if req.Body != nil && req.Body != http.NoBody {
		if req.ContentLength > t.maxRequest {
			return nil, newError(CodeTooLarge, 0, nil)
		}
		// A body that stalls is closed when its call ends. That may look like its end.
		ctx := req.Context()
		stop := context.AfterFunc(ctx, closing)
		defer stop()
		expected := req.ContentLength
		if expected == 0 {
			expected = -1 // as http.Request has it where there is a body
		}
		buf := newReadBuffer(expected) // never freed: it may have to be sealed again
		more, err := buf.readFrom(req.Body, expected, t.maxRequest)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("sealhttp: reading the request's body: %w", err)
		case more:
			return nil, newError(CodeTooLarge, 0, nil)
		case req.ContentLength > 0 && int64(len(buf.b)) != req.ContentLength:
			// Sealed, a part would pass for the whole.
			return nil, fmt.Errorf("sealhttp: the request has ContentLength=%d with a body of %d bytes", req.ContentLength, len(buf.b))
		}
		plaintext = buf.b
	}
	switch {
	case len(plaintext) > 0:
		return plaintext, nil
	case needsContent(req.Method):
		return []byte{}, nil
	}
	return nil, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// attempt seals and sends a request once. A refusal by a Middleware is an error.
func (t *Transport) attempt(req *http.Request, plaintext, info []byte, key *seal.PublicKey) (*http.Response, error) {
	out := req.WithContext(req.Context())
	out.Header = req.Header.Clone()
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	// With a Trailer but no body, net/http would never end an HTTP/2 stream.
	out.Body, out.GetBody, out.ContentLength, out.TransferEncoding, out.Trailer = nil, nil, 0, nil, nil
	if plaintext != nil {
		message, err := key.Seal(nil, plaintext, info)
		if err != nil {
			return nil, newError(CodeKeyStoreUnavailable, 0, err)
		}
		// net/http asks for the body again when a kept connection turns out dead. The
		// GetBody of req would put the plaintext on the wire.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
		out.Body, _ = out.GetBody()
		out.ContentLength = int64(len(message))
		out.Header.Del("Content-Length")
		if contentType := req.Header.Get("Content-Type"); contentType != "" {
			out.Header.Set("Sealed-Content-Type", contentType)
		} else {
			out.Header.Del("Sealed-Content-Type")
		}
		out.Header["Content-Type"] = sealedContentType
	}
	if t.privateKeys != nil {
		// Ours first: it has the highest quality whatever the rest says.
		out.Header["Accept"] = append([]string{MediaType}, withoutSealed(req.Header["Accept"])...)
	}
	resp, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	code := Code(resp.Header.Get("Sealed-Error"))
	if _, known := problems[code]; known && resp.StatusCode >= 400 && !isSealed(resp) {
		discard(resp)
		return nil, newError(code, resp.StatusCode, ErrRefused)
	}
	return resp, nil
}

// discard closes a response's body, read so far that its connection can be kept, but not
// waited for much longer than it would take to make another.
func discard(resp *http.Response) {
	const (
		enough = 4 << 10
		within = time.Second
	)
	timer := time.AfterFunc(within, func() { _ = resp.Body.Close() }) // ends a Read that waits
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, enough)
	_ = resp.Body.Close()
}

// isSealed reports whether a response is a message.
func isSealed(resp *http.Response) bool {
	lines := resp.Header["Content-Type"]
	return len(lines) == 1 && mediaTypeIs(lines[0], MediaType)
}

// openResponse returns the response for the caller: opened, or in plaintext where
// that is due or harmless.
func (t *Transport) openResponse(req *http.Request, resp *http.Response, info []byte, call CallInfo) (*http.Response, error) {
	switch {
	case t.privateKeys == nil:
		return markResponse(resp, req, nil), nil
	case resp.StatusCode == http.StatusSwitchingProtocols:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: status 101", ErrPlaintextResponse)
	case req.Method == http.MethodHead || !hasContent(resp.StatusCode):
		// Content that is there all the same, as net/http takes it behind a 205, would
		// be anyone's.
		discard(resp)
		resp.Body = http.NoBody
		if req.Method != http.MethodHead {
			resp.ContentLength = 0
		}
		return markResponse(resp, req, nil), nil
	case isSealed(resp):
		return t.openMessage(req, resp, info, call)
	case resp.StatusCode < 300:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: status %d", ErrPlaintextResponse, resp.StatusCode)
	}
	return markResponse(resp, req, nil), nil
}

// openMessage opens a sealed response.
func (t *Transport) openMessage(req *http.Request, resp *http.Response, info []byte, call CallInfo) (*http.Response, error) {
	defer resp.Body.Close()
	keys, err := t.openingKeys(req.Context())
	if err != nil {
		return nil, err
	}
	notOpened := func(code Code, cause error) error {
		return newError(code, resp.StatusCode, errors.Join(ErrResponseNotOpened, cause))
	}
	if isEncoded(resp.Header) {
		return nil, notOpened(CodeUnsupportedContentEncoding, nil)
	}
	limit := t.maxResponse + int64(keys.MaxOverhead())
	if resp.ContentLength > limit {
		return nil, notOpened(CodeResponseTooLarge, nil)
	}
	buf := newReadBuffer(resp.ContentLength)
	more, err := buf.readFrom(resp.Body, resp.ContentLength, limit)
	switch {
	case err != nil:
		buf.free()
		return nil, fmt.Errorf("sealhttp: reading the response: %w", err)
	case more:
		buf.free()
		return nil, notOpened(CodeResponseTooLarge, nil)
	}
	plaintext, key, err := keys.OpenInPlace(buf.b, info)
	if err == nil && int64(len(plaintext)) > t.maxResponse {
		buf.free()
		return nil, notOpened(CodeResponseTooLarge, nil)
	}
	if err != nil {
		buf.free()
		return nil, notOpened(codeOfOpening(err), nil)
	}
	resp.Body = &openedBody{buf: buf, rest: plaintext}
	resp.ContentLength = int64(len(plaintext))
	resp.TransferEncoding = nil
	resp.Trailer = nil
	resp.Header["Content-Length"] = []string{strconv.Itoa(len(plaintext))}
	delete(resp.Header, "Content-Type")
	if contentType := resp.Header["Sealed-Content-Type"]; contentType != nil {
		resp.Header["Content-Type"] = contentType
		delete(resp.Header, "Sealed-Content-Type")
	}
	call.Profile, call.ResponseSealed, call.CallerKeyID = MessageProfile, true, key.ID()
	return markResponse(resp, req, &call), nil
}

// markResponse makes req the response's request, and notes in its context, which
// is where [FromResponse] looks, how the response was sealed.
func markResponse(resp *http.Response, req *http.Request, call *CallInfo) *http.Response {
	info := &responseInfo{call: call}
	info.request = req.WithContext(context.WithValue(req.Context(), responseInfoKey{}, info))
	resp.Request = info.request
	return resp
}
