package sealhttp

import (
	"io"
	"math/bits"
	"sync"
)

// buffer is bytes that go back to a pool, cleared. The pool gives what is not used to
// the garbage collector, so that a few large bodies take no memory for good.
type buffer struct {
	b    []byte
	used int // how many bytes of the array may hold plaintext, besides those of b
}

const (
	minBuffer    = 4 << 10
	maxPooled    = 32 << 20
	firstReading = 64 << 10 // what is allocated for a body on its header's word alone
	growth       = 4

	// copyPiece is how much is copied at once. A longer copy, from about 1 MiB, would go
	// past the processor's caches, and sealing would fetch it from memory again.
	copyPiece = 256 << 10
)

// buffers has, at index i, buffers of at least 2^i bytes and less than 2^(i+1).
var buffers [26]sync.Pool

// pooledBuffer takes an empty buffer with room for at least n bytes, of about that size,
// out of the pool. It returns nil if there is none.
func pooledBuffer(n int) *buffer {
	class := bits.Len(uint(max(n, minBuffer))) - 1
	for i := class; i <= class+1 && i < len(buffers); i++ {
		buf, _ := buffers[i].Get().(*buffer)
		switch {
		case buf == nil:
		case cap(buf.b) >= n:
			return buf
		default:
			buffers[i].Put(buf)
		}
	}
	return nil
}

// newBuffer returns an empty buffer with room for at least n bytes.
func newBuffer(n int) *buffer {
	if buf := pooledBuffer(n); buf != nil {
		return buf
	}
	return &buffer{b: make([]byte, 0, max(n, minBuffer))}
}

// truncate keeps the first n bytes. What was behind them is cleared when the buffer is.
func (buf *buffer) truncate(n int) {
	buf.used = max(buf.used, len(buf.b))
	buf.b = buf.b[:n]
}

// sealed says that b holds ciphertext now, which nobody need clear.
func (buf *buffer) sealed() {
	if n := len(buf.b); n < buf.used {
		clear(buf.b[n:buf.used])
	}
	buf.b, buf.used = buf.b[:0], 0
}

// free clears the buffer and puts it into the pool.
func (buf *buffer) free() {
	buf.truncate(0)
	clear(buf.b[:buf.used])
	buf.used = 0
	if class := bits.Len(uint(cap(buf.b))) - 1; cap(buf.b) >= minBuffer && cap(buf.b) <= maxPooled {
		buffers[class].Put(buf)
	}
}

// grow makes room for n bytes more, and for many more, but not for more than most in all.
func (buf *buffer) grow(n, most int) {
	if need := len(buf.b) + n; need > cap(buf.b) {
		buf.resize(max(need, min(growth*cap(buf.b), most)))
	}
}

// resize moves what is in the buffer into an array of size bytes at least.
func (buf *buffer) resize(size int) {
	larger := newBuffer(size)
	larger.b = appendPieces(larger.b, buf.b)
	*buf, *larger = *larger, *buf
	larger.free()
}

// appendPieces is append, a piece at a time.
func appendPieces[T []byte | string](dst []byte, p T) []byte {
	for len(p) > copyPiece {
		dst = append(dst, p[:copyPiece]...)
		p = p[copyPiece:]
	}
	return append(dst, p...)
}

// newReadBuffer returns a buffer to read a body into of which expected bytes are to
// come, -1 for unknown. What was only announced takes no memory that is not there.
func newReadBuffer(expected, limit int64) *buffer {
	if expected < 0 {
		return newBuffer(minBuffer)
	}
	size := int(min(expected, limit)) + 1 // enough to see the end
	if buf := pooledBuffer(size); buf != nil {
		return buf
	}
	return newBuffer(min(size, firstReading))
}

// readFrom appends all that r has, up to limit bytes. It reports whether there was
// more. expected is what r is said to have, -1 for unknown: what is allocated
// grows with what has come, but not past that.
func (buf *buffer) readFrom(r io.Reader, expected, limit int64) (more bool, err error) {
	if expected < 0 || expected > limit {
		expected = limit
	}
	for {
		if len(buf.b) == cap(buf.b) {
			size := growth * int64(cap(buf.b))
			if end := expected + 1; int64(len(buf.b)) < end && size > end {
				size = end
			}
			buf.resize(int(max(size, minBuffer)))
		}
		n, err := r.Read(buf.b[len(buf.b):min(cap(buf.b), len(buf.b)+copyPiece)])
		buf.b = buf.b[:len(buf.b)+n]
		switch {
		case int64(len(buf.b)) > limit:
			return true, nil
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}
