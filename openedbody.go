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
	buf    *buffer // nil once read to the end or closed
	rest   []byte  // of the plaintext in buf, not yet read
	closed bool
}

// Read clears what it has copied, while that is still in the processor's cache.
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
	clear(b.rest[:n])
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		b.free() // for the response to take
	}
	return n, nil
}

// Close clears the plaintext and gives its memory back.
func (b *openedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.free()
	return nil
}

func (b *openedBody) free() {
	if b.buf != nil {
		clear(b.rest)
		b.buf.free(0)
		b.buf, b.rest = nil, nil
	}
}
