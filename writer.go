package sealhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/sealhttp/sealhttp/seal"
)

// sealingWriter holds a response in memory until the handler has returned, and
// then sends it sealed.
type sealingWriter struct {
	responseHead
	key         *seal.PublicKey
	info        []byte
	head        bool  // the request is HEAD: nothing is sent of what is written
	limit       int64 // bytes of plaintext
	requestBody *openedBody

	// Under the head's lock.
	buf      *buffer // the message once it is sealed, before that room for its header and the plaintext
	sealed   bool
	sniffed  bool
	tooLarge bool

	sentStatus int
	sentBytes  int64
}

// errEncodedInside is a response that a handler, or a compressor in front of it, encoded.
var errEncodedInside = errors.New("the handler set a Content-Encoding: what is sealed is not compressed before")

// errShortResponse is a response with fewer bytes than its Content-Length.
var errShortResponse = errors.New("sealhttp: the handler wrote less than the Content-Length it declared")

func (s *sealingWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepare(len(p)); err != nil {
		return 0, err
	}
	switch {
	case s.head:
	case len(p) > 0 && int64(len(p)) == s.declared && s.seal(p) == nil:
		// This was all of it: sealed from where it is, it need not be copied. If that fails,
		// finish will see.
	default:
		s.buf.b = appendPieces(s.buf.b, p)
	}
	return len(p), nil
}

// WriteString is for io.WriteString.
func (s *sealingWriter) WriteString(p string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepare(len(p)); err != nil {
		return 0, err
	}
	if !s.head {
		s.buf.b = appendPieces(s.buf.b, p)
	}
	return len(p), nil
}

// prepare does all of a Write of n bytes but the copy.
func (s *sealingWriter) prepare(n int) error {
	if s.closed {
		return ErrCallClosed
	}
	if s.status == 0 {
		s.commit(http.StatusOK)
	}
	if !hasContent(s.status) {
		return http.ErrBodyNotAllowed
	}
	if s.tooLarge {
		return newError(CodeResponseTooLarge, http.StatusInternalServerError, nil)
	}
	s.written += int64(n)
	if s.declared >= 0 && s.written > s.declared {
		return http.ErrContentLength
	}
	if s.head {
		return nil
	}
	if s.sealed { // and n is 0, as all that was declared is there
		return nil
	}
	if s.written > s.limit {
		s.tooLarge = true
		s.freeBuffer()
		return newError(CodeResponseTooLarge, http.StatusInternalServerError, nil)
	}
	declared, most := s.declared >= 0, s.limit
	if declared {
		most = min(most, s.declared)
	}
	if s.buf == nil {
		s.reserve(max(n, int(min(s.declared, s.limit, firstReading))))
	}
	s.buf.grow(n+s.key.Overhead()-s.key.HeaderLen(), declared, most+int64(s.key.Overhead()))
	return nil
}

// reserve makes a buffer with room for n bytes of plaintext: the request's, if that was
// read to its end.
func (s *sealingWriter) reserve(n int) {
	size := n + s.key.Overhead()
	if s.buf = s.requestBody.takeBuffer(size); s.buf == nil {
		s.buf = newBuffer(size)
	}
	s.buf.b = s.buf.b[:s.key.HeaderLen()]
}

// seal seals a plaintext that stands in the buffer, behind the header, or anywhere else.
func (s *sealingWriter) seal(plaintext []byte) error {
	s.sniff(plaintext)
	message, err := s.key.Seal(s.buf.b[:0], plaintext, s.info)
	if err != nil {
		return newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	}
	s.buf.b, s.sealed = message, true
	return nil
}

// Flush commits the header. It cannot send anything: a message is sealed whole.
func (s *sealingWriter) Flush() { _ = s.FlushError() }

// FlushError is what http.ResponseController looks for.
func (s *sealingWriter) FlushError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrCallClosed
	}
	if s.status == 0 {
		s.commit(http.StatusOK)
	}
	if !s.sealed {
		s.sniff(s.plaintext()) // net/http sniffs what there is at the first flush
	}
	return nil
}

// plaintext is what the handler has written.
func (s *sealingWriter) plaintext() []byte {
	if s.buf == nil {
		return nil
	}
	return s.buf.b[s.key.HeaderLen():]
}

// sniff finds out the content type as net/http would, from the plaintext. A nil
// Content-Type is a handler's wish to send none.
func (s *sealingWriter) sniff(plaintext []byte) {
	if s.sniffed {
		return
	}
	s.sniffed = true
	if _, has := s.header["Content-Type"]; !has && len(plaintext) > 0 {
		s.header["Content-Type"] = []string{http.DetectContentType(plaintext)}
	}
}

func (s *sealingWriter) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrCallClosed
	}
	s.closed = true
	defer s.freeBuffer()
	if s.status == 0 {
		s.commit(http.StatusOK)
	}
	s.restore()
	encoded := s.isEncodedInside()
	s.takeEncodingBack()
	if s.tooLarge {
		return newError(CodeResponseTooLarge, http.StatusInternalServerError, fmt.Errorf("the handler wrote more than %d bytes", s.limit))
	}
	if encoded {
		return newError(CodeUnsupportedContentEncoding, http.StatusInternalServerError, errEncodedInside)
	}
	if s.head || !hasContent(s.status) {
		s.sendWithoutContent()
		return nil
	}
	if !s.sealed && int64(len(s.plaintext())) < s.declared {
		return errShortResponse
	}
	return s.sendSealed()
}

func (s *sealingWriter) sendWithoutContent() {
	length := s.header["Content-Length"]
	makeSealedHeader(s.header)
	if s.declared == 0 {
		s.header["Content-Length"] = length
	}
	s.sendHeader()
}

func (s *sealingWriter) sendSealed() error {
	if s.buf == nil { // a response of no bytes is sealed too
		s.reserve(0)
	}
	if !s.sealed {
		if err := s.seal(s.plaintext()); err != nil {
			return err
		}
	}
	contentType := s.header.Get("Content-Type")
	makeSealedHeader(s.header)
	s.header["Content-Type"] = sealedContentType
	if contentType != "" {
		s.header["Sealed-Content-Type"] = []string{contentType}
	}
	s.header["Content-Length"] = []string{strconv.Itoa(len(s.buf.b))}
	s.sendHeader()
	n, err := s.w.Write(s.buf.b)
	s.sentBytes = int64(n)
	s.buf.freeCiphertext()
	s.buf = nil
	return err
}

var sealedContentType = []string{MediaType}

func (s *sealingWriter) sendHeader() {
	s.w.WriteHeader(s.status)
	s.sentStatus = s.status
}

func (s *sealingWriter) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.freeBuffer()
}

// freeBuffer gives the buffer back, cleared.
func (s *sealingWriter) freeBuffer() {
	if s.buf != nil {
		s.buf.free()
		s.buf = nil
	}
}

func (s *sealingWriter) sent() (status int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sentStatus, s.sentBytes
}
