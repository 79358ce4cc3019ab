package sealhttp

import (
	"io"
	"net/http"
	"sync"
)

// openedBody is the Body of an opened request or response. A handler may leave
// goroutines behind that still read it, so what it stands on is freed under a lock.
type openedBody struct {
	mu     sync.Mutex
	buf    *buffer // nil once freed or taken
	rest   []byte  // of the plaintext in buf, not yet read
	lent   bool    // WriteTo has a part of rest, without the lock
	closed bool
}

func (b *openedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo is for io.Copy: what is written is not copied before.
func (b *openedBody) WriteTo(w io.Writer) (n int64, err error) {
	for err == nil {
		var piece []byte
		if piece, err = b.lend(); len(piece) == 0 {
			return n, err
		}
		var written int
		written, err = b.writeLent(w, piece)
		n += int64(written)
	}
	return n, err
}

// lend returns bytes that nobody frees until they were returned, none at the end.
func (b *openedBody) lend() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, http.ErrBodyReadAfterClose
	}
	b.lent = len(b.rest) > 0
	return b.rest[:min(len(b.rest), copyPiece)], nil
}

// writeLent writes what was lent, and returns it, even if w panics. Close does not wait
// for w, which may never come back.
func (b *openedBody) writeLent(w io.Writer, piece []byte) (n int, err error) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lent = false
		b.rest = b.rest[max(0, min(n, len(piece))):]
		if b.closed {
			b.free()
		}
	}()
	n, err = w.Write(piece)
	if err == nil && n < len(piece) {
		err = io.ErrShortWrite
	}
	return n, err
}

// take returns the buffer, empty, for the response to use, if all was read and it has
// room for n bytes. Otherwise it returns nil.
func (b *openedBody) take(n int) *buffer {
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
	buf.truncate(0)
	return buf
}

// Close clears the plaintext and gives its memory back.
func (b *openedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if !b.lent {
		b.free()
	}
	return nil
}

func (b *openedBody) free() {
	if b.buf != nil {
		b.buf.free()
		b.buf, b.rest = nil, nil
	}
}
