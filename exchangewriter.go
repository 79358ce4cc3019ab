package sealhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/sealhttp/sealhttp/seal"
)

// exchangeWriter seals a response in records as the handler writes it. Status, presence
// of a body and content type are authenticated ahead of them, so the header goes out
// with the first record, at a flush, or at the end.
type exchangeWriter struct {
	responseHead
	x     *exchange
	r     *http.Request
	body  *exchangeBody // the request's, nil for none
	code  Code          // for Sealed-Error
	limit int64         // plaintext bytes, 0 for none

	// Under the head's lock.
	records    *seal.RecordWriter
	begun      *seal.Records // nil until the header is sent
	fullDuplex bool          // the request may be read after that
	drained    bool          // what the handler left of it was read
	broken     bool          // it did not authenticate
	failure    error         // why the response cannot be completed
	sentBytes  int64
}

var (
	// errRequestBroken is a response that was not completed, since the request's body
	// broke off or was changed.
	errRequestBroken = errors.New("the response was not completed, since the request's body did not authenticate to its end")
	// errHeaderHeld is one that was not sent for that reason: without a body, it has no
	// last record to go without.
	errHeaderHeld = errors.New("the response was not sent, since the request's body did not authenticate to its end")
)

func newExchangeWriter(x *exchange, w http.ResponseWriter, r *http.Request, body *exchangeBody) *exchangeWriter {
	s := &exchangeWriter{responseHead: newResponseHead(w), x: x, r: r, body: body, limit: x.m.maxStream}
	s.fullDuplex = r.ProtoMajor >= 2
	s.records = seal.NewRecordWriter((*countedWriter)(s), x.m.padding, s.begin)
	return s
}

// countedWriter is the connection below the records.
type countedWriter exchangeWriter

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sentBytes += int64(n)
	return n, err
}

// committed reports whether anything but 1xx was answered.
func (s *exchangeWriter) committed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status != 0
}

// hasBody reports whether the response has content at all.
func (s *exchangeWriter) hasBody() bool {
	return s.r.Method != http.MethodHead && hasContent(s.status)
}

func (s *exchangeWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if skip, err := s.prepare(len(p)); skip || err != nil {
		return skipped(len(p), err)
	}
	return s.records.Write(p)
}

// WriteString is for io.WriteString.
func (s *exchangeWriter) WriteString(p string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if skip, err := s.prepare(len(p)); skip || err != nil {
		return skipped(len(p), err)
	}
	return s.records.WriteString(p)
}

func skipped(n int, err error) (int, error) {
	if err != nil {
		n = 0
	}
	return n, err
}

// prepare does all of a Write of n bytes but the writing, which is skipped in a
// response to HEAD.
func (s *exchangeWriter) prepare(n int) (skip bool, err error) {
	if s.closed {
		return false, ErrCallClosed
	}
	if s.status == 0 {
		s.commit(http.StatusOK)
	}
	if !hasContent(s.status) {
		return false, http.ErrBodyNotAllowed
	}
	if err := s.failed(); err != nil {
		return false, err
	}
	s.written += int64(n)
	if s.declared >= 0 && s.written > s.declared {
		return false, http.ErrContentLength
	}
	if s.limit > 0 && s.written > s.limit {
		s.failure = newError(CodeResponseTooLarge, http.StatusInternalServerError, fmt.Errorf("the handler wrote more than %d bytes", s.limit))
		return false, s.failure
	}
	return s.r.Method == http.MethodHead, nil
}

// Flush sends what was written, in a record of its own.
func (s *exchangeWriter) Flush() { _ = s.FlushError() }

// FlushError is what http.ResponseController looks for.
func (s *exchangeWriter) FlushError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrCallClosed
	}
	if s.status == 0 {
		s.commit(http.StatusOK)
	}
	if err := s.failed(); err != nil {
		return err
	}
	if s.body != nil && !s.hasBody() {
		return nil // the header is all there is, and waits until the request has authenticated
	}
	return s.flush()
}

func (s *exchangeWriter) flush() error {
	if _, err := s.begin(); err != nil {
		return err
	}
	if err := s.records.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// failed returns why the response, which is committed, cannot be completed.
func (s *exchangeWriter) failed() error {
	if s.failure == nil && s.begun == nil && s.isEncodedInside() {
		s.failure = newError(CodeUnsupportedContentEncoding, http.StatusInternalServerError, errEncodedInside)
	}
	return s.failure
}

// EnableFullDuplex is for http.ResponseController: it lets a handler on HTTP/1.1 read on
// after it has begun to answer.
func (s *exchangeWriter) EnableFullDuplex() error {
	err := s.responseHead.EnableFullDuplex()
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fullDuplex = true
	}
	return err
}

// begin sends the header, once, and returns the records that follow it.
func (s *exchangeWriter) begin() (*seal.Records, error) {
	if s.begun != nil {
		return s.begun, nil
	}
	if s.body != nil && !s.fullDuplex {
		// net/http throws away what is left of the request now, unauthenticated.
		s.drain()
	}
	contentType := ""
	if s.hasBody() {
		contentType = s.contentType()
	}
	aad := responseAAD(s.status, s.hasBody(), contentType, s.code)
	sealed, records, err := s.x.x.SealResponse(s.x.callerKey, aad)
	if err != nil {
		s.failure = newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
		return nil, s.failure
	}
	field := responseField{ResponseHeader: sealed, ckid: s.x.info.CallerKeyID}
	s.takeEncodingBack()
	s.restore()
	h := s.header
	makeSealedHeader(h)
	h[exchangeHeader] = []string{field.String()}
	if s.code != "" {
		h["Sealed-Error"] = []string{string(s.code)}
	}
	if s.hasBody() {
		h["Content-Type"] = exchangeContentTypeLine
		if contentType != "" {
			h["Sealed-Content-Type"] = []string{contentType}
		}
	}
	s.w.WriteHeader(s.status)
	s.begun = records
	return records, nil
}

var exchangeContentTypeLine = []string{ExchangeMediaType}

// contentType is the plaintext's, found out from its first bytes as net/http would. A
// nil Content-Type is a handler's wish to send none, and one that cannot be
// authenticated is not sent.
func (s *exchangeWriter) contentType() string {
	lines, has := s.header["Content-Type"]
	switch start := s.records.Buffered(); {
	case has && len(lines) == 0, !has && len(start) == 0:
		return ""
	case !has:
		return http.DetectContentType(start)
	}
	if v := trimOWS(lines[0]); isContentType(v) {
		return v
	}
	return ""
}

// drain reads what is left of the request, once.
func (s *exchangeWriter) drain() {
	if s.drained {
		return
	}
	s.drained = true
	switch s.body.drain() {
	case drainedBroken:
		s.broken = true
	case drainedPast:
		if s.begun == nil && s.r.ProtoMajor < 2 {
			h := s.header
			if h == nil {
				h = s.w.Header()
			}
			h["Connection"] = []string{"close"}
		}
	}
}

// finish sends what is left and the last record. What is left of the request is drained
// before that, and what was written goes out first, so that nothing waits on it.
func (s *exchangeWriter) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrCallClosed
	}
	s.closed = true
	defer s.records.Abort()
	defer func() { makeBodiless(s.w.Header()) }() // trailers that were set since
	silent := s.status == 0
	if s.body != nil && !s.drained {
		if !silent && s.failed() == nil && s.hasBody() && s.flushesFirst() {
			if err := s.flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		s.drain()
	}
	if silent && s.body != nil {
		if err := s.body.failure(); err != nil && (s.broken || err.Code == CodeTooLarge) {
			return err
		}
	}
	if silent {
		s.commit(http.StatusOK)
	}
	switch {
	case s.failed() != nil:
		return s.failure
	case s.broken:
		return s.breakOff()
	case s.declared >= 0 && s.written != s.declared && s.hasBody():
		return errShortResponse // more was refused, and so is missing, too
	case !s.hasBody():
		_, err := s.begin()
		return err
	}
	if _, err := s.begin(); err != nil { // a body without a byte asks for no record before Close
		return err
	}
	return s.records.Close()
}

// flushesFirst reports whether what was written is to go out before the request is
// drained. On HTTP/2, callers stop sending at the status of an error, Go's among them, so
// that the rest would never come; and one that waits for 100 (net/http hides that it does)
// must get it before the response.
func (s *exchangeWriter) flushesFirst() bool {
	switch {
	case !s.fullDuplex || s.body.ended():
		return false
	case s.r.ProtoMajor < 2 || s.begun != nil:
		return true
	}
	return s.status < 300 && s.body.begun()
}

// breakOff ends the response in a way that no caller takes for its end.
func (s *exchangeWriter) breakOff() error {
	if !s.hasBody() {
		return newError(CodeRequestIncomplete, http.StatusBadRequest, errHeaderHeld)
	}
	if err := s.flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return newError(CodeRequestIncomplete, http.StatusBadRequest, errRequestBroken)
}

func (s *exchangeWriter) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.records.Abort()
}

func (s *exchangeWriter) sent() (status int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun == nil {
		return 0, 0
	}
	return s.status, s.sentBytes
}
