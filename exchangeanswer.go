package sealhttp

import (
	"encoding/json"
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

// ErrUnauthenticated is wrapped by the [*Error] of a call of the exchange profile whose
// answer is not the service's, or not to this request, as far as can be told: one
// without a tag that verifies, whatever its status. The handler may or may not have
// run. Code and Status are what the answer claims.
var ErrUnauthenticated = errors.New("nothing authenticates the answer")

// answer is a response whose tag has verified.
type answer struct {
	resp        *http.Response
	code        Code // of Sealed-Error
	body        bool
	contentType string
	records     *seal.Records
	info        CallInfo
}

// open returns the response as the handler made it, if it is one.
func (c *exchangeCall) open(resp *http.Response, x *seal.Exchange, key *seal.PublicKey) (*http.Response, *attemptError) {
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	a, err := c.authenticate(resp, x)
	if err != nil {
		failed := &attemptError{cause: err}
		switch {
		case err.Code == CodeUnknownKey && resp.Header[exchangeHeader] == nil:
			failed.remedy = anotherKey
		case resp.StatusCode == http.StatusServiceUnavailable:
			failed.remedy = laterTry
		}
		drop(resp)
		return nil, failed
	}
	a.info.Profile, a.info.KeyID = ExchangeProfile, key.ID()
	a.info.RequestSealed, a.info.ResponseSealed = true, true
	if a.code != "" {
		return nil, c.refused(a)
	}
	return c.handlers(a), nil
}

// drop closes a response that no one gets.
func drop(resp *http.Response) {
	if resp.StatusCode < http.StatusOK { // 101: what follows may never end
		_ = resp.Body.Close()
		return
	}
	discard(resp)
}

// authenticate verifies that a response is the service's, to this request, with this
// status, type and error.
func (c *exchangeCall) authenticate(resp *http.Response, x *seal.Exchange) (*answer, *Error) {
	h := resp.Header
	if h[exchangeHeader] == nil {
		code := Code(h.Get("Sealed-Error"))
		if _, known := problems[code]; !known {
			code = ""
		}
		cause := ErrUnauthenticated
		if code == CodeDecryptionFailed { // to be compared with what the service logs that it bound
			cause = fmt.Errorf("%w; %s", cause, &c.binding)
		}
		return nil, newError(code, resp.StatusCode, cause)
	}
	notOpened := func(code Code, cause error) (*answer, *Error) {
		err := fmt.Errorf("%w: %w", ErrUnauthenticated, ErrResponseNotOpened)
		if cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return nil, newError(code, resp.StatusCode, err)
	}
	field, err := parseResponseField(h[exchangeHeader])
	switch {
	case errors.Is(err, errExchangeVersion):
		return notOpened(CodeUnsupportedProfile, err)
	case err != nil:
		return notOpened(CodeMalformed, err)
	case isEncoded(h):
		return notOpened(CodeUnsupportedContentEncoding, nil)
	}
	a := &answer{resp: resp}
	if a.contentType, err = exchangeContentType(h); err != nil {
		return notOpened(CodeMalformed, err)
	}
	types := h["Content-Type"]
	a.body = len(types) == 1 && mediaTypeIs(types[0], ExchangeMediaType)
	errorLines := h["Sealed-Error"]
	if len(errorLines) == 1 {
		a.code = Code(errorLines[0])
	}
	mayHaveBody := c.req.Method != http.MethodHead && hasContent(resp.StatusCode)
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 999:
		return notOpened(CodeMalformed, errors.New("the status is none of a response"))
	case len(errorLines) > 1 || len(a.code) > maxPart:
		return notOpened(CodeMalformed, errors.New("more than one Sealed-Error, or one that is too long"))
	case a.body && !mayHaveBody:
		return notOpened(CodeMalformed, errors.New("a body where there can be none"))
	case !a.body && a.contentType != "":
		return notOpened(CodeMalformed, errors.New("Sealed-Content-Type without a body"))
	}
	var callerKey *seal.PrivateKey
	if field.CallerEnc != nil {
		var known bool
		if callerKey, known, err = c.callerKey(field.ckid); err != nil {
			return notOpened(CodeKeyStoreUnavailable, err)
		} else if !known {
			return notOpened(CodeUnknownKey, fmt.Errorf("it is sealed to key %d", field.ckid))
		}
		a.info.CallerKeyID = field.ckid
	}
	aad := responseAAD(resp.StatusCode, a.body, a.contentType, a.code)
	if a.records, err = x.OpenResponse(field.ResponseHeader, callerKey, aad); err != nil {
		return notOpened(CodeDecryptionFailed, nil)
	}
	if callerKey == nil && c.t.privateKeys != nil && a.code != CodeNoClientKey && a.code != CodeKeyStoreUnavailable {
		return notOpened(CodeNoClientKey, errors.New("it is not sealed to a key of the caller's"))
	}
	return a, nil
}

// callerKey returns the caller's key with an id.
func (c *exchangeCall) callerKey(id uint32) (key *seal.PrivateKey, known bool, err error) {
	if c.t.privateKeys == nil {
		return nil, false, nil
	}
	keys, err := c.t.openingKeys(c.req.Context())
	if err != nil {
		return nil, false, err
	}
	key, known = keys.Lookup(id)
	return key, known, nil
}

// refused makes an answer of the Middleware's own an error.
func (c *exchangeCall) refused(a *answer) *attemptError {
	failed := &attemptError{}
	var cause error
	switch a.code {
	case CodeReplayed:
		failed.remedy = anotherID
	case CodeRequestIncomplete, CodeResponseTooLarge, CodeUnsupportedContentEncoding:
	case CodeStale:
		cause = ErrRefused
		switch {
		case !c.correctClock(a):
		case c.timestamp(c.first.elapsed(c.t)) >= c.binding.timestamp:
			failed.remedy = anotherTry
		default:
			// What was sent becomes good later, and would outlast the service's memory of
			// another attempt that is executed now.
			failed.remedy = anotherID
		}
	case CodeKeyStoreUnavailable, CodeReplayGuardUnavailable:
		cause, failed.remedy = ErrRefused, laterTry
	default:
		if _, known := problems[a.code]; known {
			cause = ErrRefused
		}
	}
	failed.cause = newError(a.code, a.resp.StatusCode, cause)
	drop(a.resp)
	return failed
}

// maxProblem is how many bytes of a refusal's body are read.
const maxProblem = 4 << 10

// correctClock takes the service's time out of a refusal. One that was long on its way
// tells it wrongly.
func (c *exchangeCall) correctClock(a *answer) bool {
	if !a.body {
		return false
	}
	// Whoever holds the rest back would else hold the call.
	timer := time.AfterFunc(retryWithin-c.first.elapsed(c.t), func() { _ = a.resp.Body.Close() })
	defer timer.Stop()
	reader := a.records.NewReader(a.resp.Body)
	defer reader.Close()
	body, err := io.ReadAll(io.LimitReader(reader, maxProblem))
	if err != nil || len(body) == maxProblem || !c.inTime() {
		return false
	}
	var p struct{ Now *int64 }
	if json.Unmarshal(body, &p) != nil || p.Now == nil || *p.Now < 0 || *p.Now > maxTimestamp {
		return false
	}
	c.clock = *p.Now - c.first.wall.Add(c.first.elapsed(c.t)).Unix()
	c.t.clock.Store(*p.Now - c.t.wall().Unix())
	return true
}

// handlers makes an answer the response that the handler made.
func (c *exchangeCall) handlers(a *answer) *http.Response {
	// A copy: at the body's end net/http puts the trailers, which are anyone's, into
	// its own.
	made := *a.resp
	resp := &made
	resp.Status = strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode) // the reason is anyone's too
	for _, name := range [...]string{exchangeHeader, "Sealed-Content-Type", "Sealed-Error", "Content-Type", "Content-Length", "Trailer"} {
		delete(resp.Header, name)
	}
	resp.ContentLength, resp.TransferEncoding, resp.Trailer, resp.Uncompressed = -1, nil, nil, false
	if a.body {
		if a.contentType != "" {
			resp.Header["Content-Type"] = []string{a.contentType}
		}
		resp.Body = &answerBody{
			body: resp.Body, records: a.records.NewReader(resp.Body), limit: c.t.maxStream, status: resp.StatusCode,
		}
	} else {
		discard(resp) // it would be anyone's
		resp.Body = http.NoBody
		if c.req.Method != http.MethodHead {
			resp.ContentLength = 0
		}
	}
	return markResponse(resp, c.req, &a.info)
}

// answerBody is the Body of a response, opened as it is read. Close may be called while
// another goroutine reads.
type answerBody struct {
	body   io.ReadCloser
	limit  int64 // bytes, 0 for none
	status int
	closed atomic.Bool

	mu      sync.Mutex // held while reading
	records *seal.RecordReader
	err     error
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.records.Read(p)
	switch {
	case b.closed.Load():
		n, b.err = 0, http.ErrBodyReadAfterClose
	case b.limit > 0 && b.records.Padded() > b.limit:
		n, b.err = 0, newError(CodeResponseTooLarge, b.status, ErrResponseNotOpened)
	case err == nil || err == io.EOF:
		b.err = err
	case errors.Is(err, seal.ErrDecryptionFailed) || errors.Is(err, seal.ErrMalformed):
		b.err = newError(codeOfOpening(err), b.status, fmt.Errorf("%w: %w", ErrResponseNotOpened, err))
	case errors.Is(err, seal.ErrTruncated):
		b.err = fmt.Errorf("sealhttp: reading the response: %w", err)
	default: // the connection failed
		b.err = fmt.Errorf("sealhttp: reading the response: %w: %w", seal.ErrTruncated, err)
	}
	if b.err != nil {
		_ = b.records.Close()
	}
	return n, b.err
}

// Close closes the connection's body, which ends a Read that waits.
func (b *answerBody) Close() error {
	b.closed.Store(true)
	err := b.body.Close()
	if b.mu.TryLock() {
		defer b.mu.Unlock()
		b.err = http.ErrBodyReadAfterClose
		_ = b.records.Close()
	}
	return err
}
