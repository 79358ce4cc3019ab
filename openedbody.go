package sealhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// openedBody is the Body of an opened request or response. A handler may leave
// goroutines behind that still read it, so what it stands on is freed under a lock.
type openedBody struct {
	mu     sync.Mutex
	buf    *buffer // nil once freed or taken, and while WriteTo has it
	rest   []byte  // of the plaintext in buf, not yet read
	lent   bool    // WriteTo has both
	closed bool
}

var errBodyLent = errors.New("sealhttp: the body is being copied by another goroutine")

func (b *openedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.unavailable(); err != nil {
		return 0, err
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo is for io.Copy: what is written is not copied before. It takes all out of the
// body meanwhile, so that Close need not wait for w, which may never come back. Behind
// Close, the write that is under way is the last.
func (b *openedBody) WriteTo(w io.Writer) (n int64, err error) {
	buf, rest, err := b.lend()
	if buf == nil {
		return 0, err
	}
	defer func() { b.giveBack(buf, rest) }() // even if w panics
	for len(rest) > 0 {
		if b.isClosed() {
			return n, http.ErrBodyReadAfterClose
		}
		piece := rest[:min(len(rest), copyPiece)]
		written, err := w.Write(piece)
		written = max(0, min(written, len(piece)))
		rest = rest[written:]
		n += int64(written)
		if err == nil && written < len(piece) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (b *openedBody) lend() (buf *buffer, rest []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.unavailable(); err != nil || b.buf == nil { // the response has taken it
		return nil, nil, err
	}
	buf, rest = b.buf, b.rest
	b.buf, b.rest, b.lent = nil, nil, true
	return buf, rest, nil
}

// unavailable says why nothing can be read, under the lock.
func (b *openedBody) unavailable() error {
	switch {
	case b.closed:
		return http.ErrBodyReadAfterClose
	case b.lent:
		return errBodyLent
	}
	return nil
}

func (b *openedBody) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// giveBack returns what WriteTo has taken, with what is left to read.
func (b *openedBody) giveBack(buf *buffer, rest []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent = false
	if b.closed {
		buf.free()
		return
	}
	b.buf, b.rest = buf, rest
}

// takeBuffer returns the buffer, empty, for the response to use, if all was read and it
// has room for n bytes. Otherwise it returns nil.
func (b *openedBody) takeBuffer(n int) *buffer {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	buf := b.buf
	if buf == nil || len(b.rest) > 0 || cap(buf.b) < n {
		return nil
	}
	b.buf, b.rest = nil, nil
	buf.empty()
	return buf
}

// Close clears the plaintext and gives its memory back.
func (b *openedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.buf != nil {
		b.buf.free()
		b.buf, b.rest = nil, nil
	}
	return nil
}
