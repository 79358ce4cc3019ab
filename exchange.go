package sealhttp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// exchange is a request of the exchange profile whose tag has verified: from here on
// everything is answered sealed, refusals too.
type exchange struct {
	m         *Middleware
	x         *seal.Exchange
	callerKey *seal.PublicKey // that the response is sealed to, nil for none
	info      CallInfo
}

// sealedRefusal is an error that is to be answered sealed.
type sealedRefusal struct {
	refusal  *Error
	exchange *exchange
}

func (r *sealedRefusal) Error() string { return r.refusal.Error() }
func (r *sealedRefusal) Unwrap() error { return r.refusal }

func (x *exchange) refuse(code Code, status int, cause error) *sealedRefusal {
	return &sealedRefusal{newError(code, status, cause), x}
}

// answer answers with an error, sealed. An error handler that has not answered, or not
// in a way that can be sealed, leaves it to WriteError: an answer in clear would be one
// that says nothing.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request, err error) {
	if !x.answerWith(x.m.errorHandler, w, r, err) {
		x.answerWith(WriteError, w, r, err)
	}
}

// answerWith reports whether anything was sent.
func (x *exchange) answerWith(handler func(http.ResponseWriter, *http.Request, error), w http.ResponseWriter, r *http.Request, err error) bool {
	writer := newExchangeWriter(x, w, r, nil)
	writer.limit = 0 // it is for what handlers write
	defer writer.close()
	if e := setErrorHeader(w.Header(), err); e != nil {
		writer.code = e.Code
	}
	handler(writer, r, err)
	if !writer.committed() {
		return false
	}
	_ = writer.finish() // the caller may be gone
	status, _ := writer.sent()
	return status != 0
}

// beginExchange is begin for a request of the exchange profile. The order of refusals
// is the wire format's: those before the tag is verified go out in clear.
func (m *Middleware) beginExchange(w http.ResponseWriter, r *http.Request, policy Policy) (*Call, error) {
	malformed := func(cause error) error { return newError(CodeMalformed, http.StatusBadRequest, cause) }
	field, err := parseRequestField(r.Header[exchangeHeader])
	if errors.Is(err, errExchangeVersion) {
		return nil, newError(CodeUnsupportedProfile, http.StatusUnsupportedMediaType, err)
	}
	if isEncoded(r.Header) {
		return nil, newError(CodeUnsupportedProfile, http.StatusUnsupportedMediaType, errSealedEncoded)
	}
	if err != nil {
		return nil, malformed(err)
	}
	binding, err := m.bindingOf(r, field)
	if err != nil {
		return nil, malformed(err)
	}
	if binding.info, _, err = m.info(r); err != nil {
		return nil, newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	}
	info, err := binding.hpkeInfo()
	if err != nil {
		return nil, malformed(err)
	}
	keys, err := m.serverKeys(r.Context())
	if err != nil {
		return nil, err
	}
	key, ok := keys.Lookup(field.kid)
	if !ok {
		return nil, newError(CodeUnknownKey, http.StatusBadRequest, nil)
	}
	opened, err := key.OpenExchange(field.enc, field.auth, info)
	if err != nil {
		return nil, newError(CodeDecryptionFailed, http.StatusBadRequest, &bindingError{binding})
	}

	x := &exchange{m: m, x: opened, info: CallInfo{Profile: ExchangeProfile, KeyID: key.ID(), RequestSealed: true, ResponseSealed: true}}
	if refusal := x.admit(r, field, binding, keys, policy); refusal != nil {
		return nil, refusal
	}
	return x.call(w, r, binding), nil
}

// bindingOf makes what the request binds from what came. Its errors are malformed
// requests.
func (m *Middleware) bindingOf(r *http.Request, f *requestField) (*exchangeBinding, error) {
	if err := checkTarget(r.RequestURI, r.Host); err != nil {
		return nil, err
	}
	b := &exchangeBinding{
		method: r.Method, authority: m.authority, target: m.targetPrefix + reducedTarget(r.RequestURI),
		kid: f.kid, id: f.id, timestamp: f.timestamp,
	}
	if b.method == "" {
		b.method = http.MethodGet
	}
	if b.authority == "" {
		b.authority = normalAuthority(r.Host)
	}
	lines := r.Header["Content-Type"]
	for _, line := range lines {
		switch {
		case mediaTypeIs(line, ExchangeMediaType):
			b.body = true
		case mediaTypeIs(line, MediaType):
			return nil, errors.New("an exchange request with the Content-Type of a message")
		}
	}
	switch {
	case b.body && len(lines) > 1:
		return nil, errContentTypeLines
	case !b.body && r.ContentLength != 0:
		return nil, errors.New("an exchange request with content of another type")
	}
	var err error
	if b.contentType, err = exchangeContentType(r.Header); err != nil {
		return nil, err
	}
	return b, b.bindHeader(r.Header, f.bind)
}

// admit does what comes between the tag and the handler. A request that it refuses is
// not remembered.
func (x *exchange) admit(r *http.Request, f *requestField, b *exchangeBinding, keys *seal.KeySet, policy Policy) error {
	m := x.m
	if m.clientKeys != nil {
		key, err := m.clientKey(r, keys)
		switch {
		case err == nil:
			x.callerKey, x.info.CallerKeyID = key, key.ID()
		case err.Code == CodeNoClientKey && policy != Required && (err.Err == nil || errors.Is(err.Err, ErrNoClientKey)):
			// Who has no key gets a response that only this request's context opens.
		default:
			return &sealedRefusal{err, x}
		}
	}
	caller := Account(r.Context())
	if caller == "" && x.callerKey != nil {
		caller = x.callerKey.Fingerprint()
	}
	now := time.Now().Unix()
	window := int64(m.window / time.Second)
	if name := m.missingName(b.names); name != "" {
		return x.unlessReplayed(r.Context(), f.id, x.refuse(CodeBindingRequired, http.StatusBadRequest, fmt.Errorf("the header field %s is not bound", name)))
	}
	if f.timestamp < now-window || f.timestamp > now+window {
		return x.unlessReplayed(r.Context(), f.id, x.stale(now))
	}
	if b.body && m.maxStream > 0 && r.ContentLength > longestRecords(m.maxStream) {
		return x.refuse(CodeTooLarge, http.StatusRequestEntityTooLarge, nil)
	}
	err := m.guard.Insert(r.Context(), ReplayEntry{ID: f.id, Caller: caller, Time: time.Unix(f.timestamp, 0), TTL: m.replayTTL()})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, CodeReplayed):
		return x.refuse(CodeReplayed, http.StatusConflict, nil)
	case errors.Is(err, CodeStale):
		return x.stale(now)
	}
	return x.refuse(CodeReplayGuardUnavailable, http.StatusServiceUnavailable, err)
}

func (x *exchange) stale(now int64) *sealedRefusal {
	refusal := x.refuse(CodeStale, http.StatusBadRequest, nil)
	refusal.refusal.now = now
	return refusal
}

// unlessReplayed returns a refusal, unless the id is known: then the request was
// executed before, and must not be said not to have been.
func (x *exchange) unlessReplayed(ctx context.Context, id exchangeID, refusal *sealedRefusal) error {
	known, err := x.m.guard.Contains(ctx, id)
	switch {
	case err != nil:
		return x.refuse(CodeReplayGuardUnavailable, http.StatusServiceUnavailable, err)
	case known:
		return x.refuse(CodeReplayed, http.StatusConflict, nil)
	}
	return refusal
}

// longestRecords returns how many bytes n bytes of data take at most in records that
// are full and not padded.
func longestRecords(n int64) int64 {
	const overhead = 4 + 1 + seal.ExchangeTagLen // length, delimiter, tag
	return n + (n/seal.MaxRecordData+1)*overhead
}

// call makes the Call for the handler.
func (x *exchange) call(w http.ResponseWriter, r *http.Request, b *exchangeBinding) *Call {
	call := &Call{m: x.m, w: w, incoming: r, info: x.info, exchange: x}
	if b.body {
		call.stream = newExchangeBody(x, w, r)
	}
	call.Request = x.request(r, b, call)
	call.response = newExchangeWriter(x, w, r, call.stream)
	call.Writer = call.response
	return call
}

// request makes the request for the handler: what it would have been in plaintext, but
// that its length is not known.
func (x *exchange) request(r *http.Request, b *exchangeBinding, call *Call) *http.Request {
	out := r.WithContext(context.WithValue(r.Context(), callInfoKey{}, &call.info))
	out.Header = maps.Clone(r.Header)
	out.Form, out.PostForm, out.MultipartForm = nil, nil, nil
	out.TransferEncoding, out.Trailer = nil, nil
	for _, name := range [...]string{"Trailer", "Content-Length", exchangeHeader, "Sealed-Content-Type"} {
		delete(out.Header, name)
	}
	contentType := b.contentType
	if b.body {
		out.Body, out.ContentLength = call.stream, -1
		if contentType == "" {
			contentType = x.m.defaultContentType
		}
	} else {
		out.Body, out.ContentLength = http.NoBody, 0
	}
	if contentType != "" {
		out.Header["Content-Type"] = []string{contentType}
	} else {
		delete(out.Header, "Content-Type")
	}
	hideFromHandler(out.Header)
	return out
}

// bindingError is a tag that does not verify, with what it had to bind: made into text
// only where it is logged.
type bindingError struct{ binding *exchangeBinding }

func (e *bindingError) Error() string {
	return "the request's tag does not verify: " + e.binding.String()
}

// expectsContinue reports whether the caller waits for a 100 before it sends the body.
func expectsContinue(r *http.Request) bool {
	for _, line := range r.Header["Expect"] {
		for element := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(trimOWS(element), "100-continue") {
				return true
			}
		}
	}
	return false
}
