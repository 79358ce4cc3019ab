package sealhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// maxKept is how many bytes of a request's ciphertext are kept, to be sent again.
const maxKept = 64 << 10

// errNoRewind is what net/http gets, and returns, where it wants to send a body again
// of which too much is gone.
var errNoRewind = errors.New("sealhttp: the connection broke, and the body cannot be sent again as it was")

// upload is the plaintext body of a call. Each attempt seals it anew. A nil upload is no
// body.
type upload struct {
	req     *http.Request
	size    int64 // bytes, -1 for unknown
	limit   int64 // bytes, 0 for none
	padding seal.Padding

	whole  []byte        // all of it, if it is short and was said to be
	source *plainSource  // of the next attempt, if whole is nil
	stream *sealedStream // of the last one
}

// newUpload returns the body of a request, nil for none. A short one is read here, and
// closed; on an error, any is. A method that is refused without content where encryption
// is required gets a body of no bytes.
func (t *Transport) newUpload(req *http.Request) (*upload, error) {
	u := &upload{req: req, size: req.ContentLength, limit: t.maxStream, padding: t.padding}
	if req.Body == nil || req.Body == http.NoBody {
		closeBody(req)
		if !needsContent(req.Method) {
			return nil, nil
		}
		u.size, u.whole = 0, []byte{}
		return u, nil
	}
	u.source = newPlainSource(req.Body)
	if u.size <= 0 {
		u.size = -1 // as net/http has it
	}
	var err error
	switch {
	case u.limit > 0 && u.size > u.limit:
		err = newError(CodeTooLarge, 0, nil)
	case u.size > 0 && sealedLen(u.size) <= maxKept:
		err = u.readWhole()
	case u.size < 0 && !needsContent(req.Method):
		// Whether there is content at all is bound.
		var empty bool
		if empty, err = u.peek(); err == nil && empty {
			u.source.close()
			return nil, nil
		}
	}
	if err != nil {
		u.source.close()
		return nil, err
	}
	return u, nil
}

// readWhole reads a body of a known length.
func (u *upload) readWhole() error {
	whole := make([]byte, u.size+1)
	n, err := u.read(func() (int, error) { return io.ReadFull(u.source, whole) })
	switch {
	case err == nil: // one byte more than there should be
		return errBodyLength(u.size)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("sealhttp: reading the request's body: %w", err)
	case int64(n) != u.size:
		return errBodyLength(u.size)
	}
	u.whole = whole[:n]
	u.source.close()
	return nil
}

func errBodyLength(size int64) error {
	return fmt.Errorf("sealhttp: the request has ContentLength=%d with a body of another length", size)
}

// peek reports whether the body has no byte.
func (u *upload) peek() (empty bool, err error) {
	first := make([]byte, 512)
	n, err := u.read(func() (n int, err error) {
		for n == 0 && err == nil {
			n, err = u.source.Read(first)
		}
		return n, err
	})
	switch {
	case n > 0:
		rest := u.source.Reader
		if err != nil {
			rest = failing{err}
		}
		u.source.Reader = io.MultiReader(bytes.NewReader(first[:n]), rest)
	case err == io.EOF:
		return true, nil
	default:
		return false, fmt.Errorf("sealhttp: reading the request's body: %w", err)
	}
	return false, nil
}

// failing is a reader that has ended.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// read reads from the source before anything is sent. A body that stalls must not
// outlast its call.
func (u *upload) read(read func() (int, error)) (int, error) {
	ctx := u.req.Context()
	stop := context.AfterFunc(ctx, u.source.close)
	defer stop()
	n, err := read()
	if ctx.Err() != nil { // that the body was closed may look like its end
		return 0, context.Cause(ctx)
	}
	return n, err
}

// seal gives an attempt's request its body.
func (u *upload) seal(out *http.Request, records *seal.Records) error {
	if u == nil {
		return nil
	}
	if u.whole == nil {
		s := newSealedStream(u, records)
		u.stream = s
		out.Body, out.ContentLength, out.GetBody = s.owner.Load(), -1, s.rewind
		if u.size > 0 && u.padding == nil {
			out.ContentLength = sealedLen(u.size)
		}
		return nil
	}
	var sealed bytes.Buffer
	w := records.NewWriter(&sealed, u.padding)
	if _, err := w.Write(u.whole); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	out.ContentLength = int64(sealed.Len())
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sealed.Bytes())), nil }
	out.Body, _ = out.GetBody()
	return nil
}

// again makes the plaintext ready for another attempt, and reports whether it could.
func (u *upload) again() bool {
	if u == nil || u.whole != nil || u.stream == nil {
		return true
	}
	if source := u.stream.takeOver(); source != nil {
		u.source, u.stream = source, nil
		return true
	}
	if u.req.GetBody == nil {
		return false
	}
	body, err := u.req.GetBody()
	if err != nil {
		return false
	}
	u.stream.abandon()
	u.source, u.stream = newPlainSource(body), nil
	return true
}

// failure returns the error of the program's own body that the last attempt ended with,
// nil for none.
func (u *upload) failure() error {
	if u == nil || u.stream == nil {
		return nil
	}
	if err := u.stream.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// release ends RoundTrip's part: with a response, net/http may read on; without, nothing
// does.
func (u *upload) release(responded bool) {
	switch {
	case u == nil || u.whole != nil:
	case u.stream == nil:
		u.source.close()
	case responded:
		u.stream.release()
	default:
		u.stream.abandon()
	}
}

// plainSource is plaintext to be read. It is closed once.
type plainSource struct {
	io.Reader
	body   io.Closer
	closed atomic.Bool
}

func newPlainSource(body io.ReadCloser) *plainSource {
	return &plainSource{Reader: body, body: body}
}

func (s *plainSource) close() {
	if s.closed.CompareAndSwap(false, true) {
		_ = s.body.Close()
	}
}

// sealedStream is the ciphertext of one attempt, sealed as net/http reads it. While no
// more than maxKept bytes were made, it can be read from its beginning again: the same
// bytes, whatever net/http does with the body that it has.
type sealedStream struct {
	size    int64
	limit   int64
	running atomic.Bool                  // RoundTrip has not returned
	failure atomic.Pointer[error]        // of the program's body
	source  atomic.Pointer[plainSource]  // nil once closed, or taken over
	owner   atomic.Pointer[streamReader] // the last that was made: only it reads

	stop func() bool // waiting for the call's context

	mu      sync.Mutex // held while reading, which may last
	writer  *seal.RecordWriter
	chunk   []byte
	taken   int64 // bytes read from source
	kept    bool  // plain and sealed begin at the beginning
	plain   []byte
	sealed  []byte
	dropped int64 // bytes of ciphertext before sealed
	err     error // io.EOF behind the last record
}

func newSealedStream(u *upload, records *seal.Records) *sealedStream {
	s := &sealedStream{size: u.size, limit: u.limit, chunk: make([]byte, seal.MaxRecordData), kept: true}
	s.source.Store(u.source)
	s.writer = records.NewWriter((*recordSink)(s), u.padding)
	s.running.Store(true)
	s.newReader()
	// In HTTP/1, net/http would wait for a Read of the program's body for ever.
	s.stop = context.AfterFunc(u.req.Context(), s.closeSource)
	return s
}

func (s *sealedStream) newReader() *streamReader {
	r := &streamReader{s: s}
	s.owner.Store(r)
	return r
}

// recordSink is where the records of a stream go.
type recordSink sealedStream

func (s *recordSink) Write(p []byte) (int, error) {
	s.sealed = append(s.sealed, p...)
	return len(p), nil
}

// fill reads plaintext once and seals it. All that was sealed before was read.
func (s *sealedStream) fill() {
	source := s.source.Load()
	if source == nil {
		s.fail(http.ErrBodyReadAfterClose)
		return
	}
	s.reuse()
	n, err := source.Read(s.chunk)
	data := s.chunk[:n]
	s.taken += int64(n)
	switch {
	case s.size >= 0 && (s.taken > s.size || err == io.EOF && s.taken < s.size):
		s.fail(errBodyLength(s.size))
		return
	case s.limit > 0 && s.taken > s.limit:
		s.fail(newError(CodeTooLarge, 0, nil))
		return
	case err != nil && err != io.EOF:
		s.fail(fmt.Errorf("sealhttp: reading the request's body: %w", err))
		return
	}
	if s.kept {
		s.plain = append(s.plain, data...)
	}
	_, _ = s.writer.Write(data) // errors are sticky, and recordSink has none
	var sealing error
	switch {
	case err == io.EOF:
		sealing = s.writer.Close()
	case s.size < 0 && n > 0:
		// Whoever writes the body may wait for an answer to this much.
		sealing = s.writer.Flush()
	}
	switch {
	case sealing != nil:
		s.fail(sealing)
	case err == io.EOF:
		s.err = io.EOF
	}
	if s.kept && len(s.sealed) > maxKept {
		s.kept = false
		s.forget()
	}
}

// reuse makes room for the next record, where none is kept.
func (s *sealedStream) reuse() {
	if s.kept {
		return
	}
	s.dropped += int64(len(s.sealed))
	if cap(s.sealed) > maxKept { // what was kept once
		s.sealed = nil
	}
	s.sealed = s.sealed[:0]
}

func (s *sealedStream) fail(err error) {
	if !s.owner.Load().closed.Load() { // else it was cut off on purpose
		s.failure.CompareAndSwap(nil, &err)
	}
	s.err = err
	s.end()
}

// end frees what the stream stands on.
func (s *sealedStream) end() {
	if s.err == nil {
		s.err = http.ErrBodyReadAfterClose
	}
	s.stop()
	s.writer.Abort()
	s.closeSource()
	s.forget()
	clear(s.chunk)
}

func (s *sealedStream) closeSource() {
	if source := s.source.Swap(nil); source != nil {
		source.close()
	}
}

func (s *sealedStream) forget() {
	clear(s.plain)
	s.plain = nil
}

// whole reports whether the stream can be had from its beginning.
func (s *sealedStream) whole() bool {
	return s.kept && (s.err == io.EOF || s.err == nil && s.source.Load() != nil)
}

// lockUnread ends the reading, and locks. It gives up on a body that does not even end
// when it is closed.
func (s *sealedStream) lockUnread() bool {
	_ = s.owner.Load().Close()
	for end := time.Now().Add(2 * readGrace); !s.mu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// rewind is net/http's GetBody.
func (s *sealedStream) rewind() (io.ReadCloser, error) {
	if !s.lockUnread() {
		return nil, errNoRewind
	}
	defer s.mu.Unlock()
	if !s.whole() {
		return nil, errNoRewind
	}
	return s.newReader(), nil
}

// takeOver ends the stream and returns its plaintext from the beginning, nil if that is
// not there any more.
func (s *sealedStream) takeOver() *plainSource {
	if !s.lockUnread() {
		return nil
	}
	defer s.mu.Unlock()
	if !s.whole() {
		return nil
	}
	plain := bytes.NewReader(s.plain)
	source := newPlainSource(io.NopCloser(plain))
	if s.err == nil {
		if source = s.source.Swap(nil); source == nil { // closed just now
			return nil
		}
		source.Reader = io.MultiReader(plain, source.Reader)
	}
	s.plain, s.kept, s.err = nil, false, http.ErrBodyReadAfterClose
	s.end()
	return source
}

// abandon closes everything, whoever may still be reading.
func (s *sealedStream) abandon() {
	s.running.Store(false)
	s.closeSource()
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		s.end()
	}
}

// release lets net/http's Close be the end of the stream.
func (s *sealedStream) release() {
	s.running.Store(false)
	if s.owner.Load().closed.Load() {
		s.abandon()
	}
}

// streamReader is a stream as net/http has it.
type streamReader struct {
	s      *sealedStream
	at     int64 // bytes of ciphertext read
	closed atomic.Bool
}

func (r *streamReader) Read(p []byte) (int, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		if s.owner.Load() != r || r.closed.Load() {
			return 0, http.ErrBodyReadAfterClose
		}
		if n := copy(p, s.sealed[r.at-s.dropped:]); n > 0 {
			r.at += int64(n)
			return n, nil
		}
		if s.err != nil {
			return 0, s.err
		}
		s.fill()
	}
	return 0, nil
}

// readGrace is how long a Read of the program's body may last once nobody waits for it.
const readGrace = 20 * time.Millisecond

// Close closes the program's body as soon as it is sure that the body is not to be sent
// again, or does not give anything. A Read that waits ends then.
func (r *streamReader) Close() error {
	if r.closed.CompareAndSwap(false, true) && !r.close() {
		time.AfterFunc(readGrace, func() {
			if !r.close() {
				r.s.closeSource()
			}
		})
	}
	return nil
}

// close reports whether nobody reads. Then it ends the stream, unless that is to be had
// from its beginning again.
func (r *streamReader) close() bool {
	s := r.s
	if s.owner.Load() != r {
		return true
	}
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if !s.kept || !s.running.Load() {
		s.end()
	}
	return true
}

// sealedLen returns how many bytes a body of n bytes takes, without padding.
func sealedLen(n int64) int64 {
	const overhead = 1 + seal.ExchangeTagLen // delimiter and tag
	full := max(n-1, 0) / seal.MaxRecordData
	last := n - full*seal.MaxRecordData + overhead
	length := int64(4) // of RFC 9000, section 16
	switch {
	case last < 1<<6:
		length = 1
	case last < 1<<14:
		length = 2
	}
	return full*(4+seal.MaxRecordData+overhead) + length + last
}
