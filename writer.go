package sealhttp

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// sealingWriter holds a response in memory until the handler has returned, and
// then sends it sealed.
//
// It has no Unwrap, ReadFrom, Hijack or Push: each would let plaintext past it.
// What http.ResponseController may do all the same is forwarded one by one.
type sealingWriter struct {
	w    http.ResponseWriter
	key  *seal.PublicKey
	info []byte
	// coding is the Content-Encoding that was there before the handler: announced by
	// what compresses further out, and so to be kept, as http.Error keeps it.
	coding []string
	head   bool  // the request is HEAD: nothing is sent of what is written
	limit  int64 // bytes of plaintext

	// A handler may leave goroutines behind that still write.
	mu       sync.Mutex
	status   int         // 0 until the header is committed
	header   http.Header // as it was then
	declared int64       // the handler's Content-Length, -1 for none
	written  int64       // bytes that the handler wrote or tried to
	buf      *buffer     // room for the message's header, then the plaintext
	sniffed  bool
	tooLarge bool
	closed   bool

	sentStatus int
	sentBytes  int64
}

// errEncodedInside is a response that a handler, or a compressor in front of it, encoded.
var errEncodedInside = errors.New("the handler set a Content-Encoding: what is sealed is not compressed before")

// errShortResponse is a response with fewer bytes than its Content-Length.
var errShortResponse = errors.New("sealhttp: the handler wrote less than the Content-Length it declared")

func (s *sealingWriter) Header() http.Header { return s.w.Header() }

func (s *sealingWriter) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.status != 0 {
		return // as in net/http, the first wins
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http
	}
	switch {
	case status == http.StatusSwitchingProtocols:
		// The connection is not for the handler to take: see Hijack above. A caller that
		// was told otherwise would wait for ever.
		s.commit(http.StatusNotImplemented)
	case status < 200:
		writeInformational(s.w, status)
	default:
		s.commit(status)
	}
}

// writeInformational passes a 1xx response through, which is not the response yet.
func writeInformational(w http.ResponseWriter, status int) {
	h := w.Header()
	kept := make(http.Header, 3)
	for _, name := range [...]string{"Content-Type", "Content-Length", "Sealed-Content-Type"} {
		if lines, ok := h[name]; ok {
			kept[name] = lines
			delete(h, name)
		}
	}
	w.WriteHeader(status)
	maps.Copy(h, kept)
}

func (s *sealingWriter) commit(status int) {
	s.status = status
	s.header = s.w.Header().Clone()
	if n, err := strconv.ParseInt(s.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		s.declared = n
	}
}

func (s *sealingWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepare(len(p)); err != nil {
		return 0, err
	}
	if !s.head {
		s.buf.b = append(s.buf.b, p...)
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
		s.buf.b = append(s.buf.b, p...)
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
	if s.written > s.limit {
		s.tooLarge = true
		s.freeBuffer()
		return newError(CodeResponseTooLarge, http.StatusInternalServerError, nil)
	}
	if s.buf == nil {
		expected := max(int64(n), min(s.declared, s.limit))
		s.buf = newBuffer(s.key.Overhead() + int(expected))
		s.buf.b = s.buf.b[:s.key.HeaderLen()]
	}
	s.buf.grow(n + s.key.Overhead() - s.key.HeaderLen())
	return nil
}

// hasContent reports whether a response of the status has content at all.
func hasContent(status int) bool {
	switch status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return false
	}
	return status >= 200
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
	s.sniff() // net/http sniffs what there is at the first flush
	return nil
}

// SetReadDeadline is for http.ResponseController.
func (s *sealingWriter) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(s.w).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (s *sealingWriter) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(s.w).SetWriteDeadline(t)
}

// EnableFullDuplex is for http.ResponseController.
func (s *sealingWriter) EnableFullDuplex() error {
	return http.NewResponseController(s.w).EnableFullDuplex()
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
func (s *sealingWriter) sniff() {
	if s.sniffed {
		return
	}
	s.sniffed = true
	if _, has := s.header["Content-Type"]; !has && len(s.plaintext()) > 0 {
		s.header["Content-Type"] = []string{http.DetectContentType(s.plaintext())}
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
	s.restoreHeader()
	encoded := !slices.Equal(s.header["Content-Encoding"], s.coding)
	if encoded {
		encoded = isEncoded(s.header)
		delete(s.header, "Content-Encoding")
		if encoded && s.coding != nil {
			s.header["Content-Encoding"] = s.coding
		}
	}
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
	if s.declared >= 0 && int64(len(s.plaintext())) < s.declared {
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
	s.sniff()
	contentType := s.header.Get("Content-Type")
	if s.buf == nil { // a response of no bytes is sealed too
		s.buf = newBuffer(s.key.Overhead())
		s.buf.b = s.buf.b[:s.key.HeaderLen()]
	}
	message, err := s.key.Seal(s.buf.b[:0], s.plaintext(), s.info)
	if err != nil {
		return newError(CodeKeyStoreUnavailable, http.StatusServiceUnavailable, err)
	}
	s.buf.b = message
	makeSealedHeader(s.header)
	s.header["Content-Type"] = sealedContentType
	if contentType != "" {
		s.header["Sealed-Content-Type"] = []string{contentType}
	}
	s.header["Content-Length"] = []string{strconv.Itoa(len(message))}
	s.sendHeader()
	n, err := s.w.Write(message)
	s.sentBytes = int64(n)
	return err
}

var sealedContentType = []string{MediaType}

// restoreHeader makes the header what it was when the handler committed it: what was
// done to it since counts for nothing, and may be trailers, made of the plaintext.
func (s *sealingWriter) restoreHeader() {
	h := s.w.Header()
	clear(h)
	maps.Copy(h, s.header)
	s.header = h
}

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
		s.buf.free(len(s.buf.b))
		s.buf = nil
	}
}

func (s *sealingWriter) sent() (status int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sentStatus, s.sentBytes
}
