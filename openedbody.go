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
	buf    *buffer // nil once closed
	used   int     // bytes of buf that hold plaintext or ciphertext
	rest   []byte  // of the plaintext, not yet read
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

// Close clears the plaintext and gives its memory back.
func (b *openedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.buf != nil {
		b.buf.free(b.used)
		b.buf, b.rest = nil, nil
	}
	return nil
}
