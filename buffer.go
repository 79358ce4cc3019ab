package sealhttp

import (
	"io"
	"math/bits"
	"sync"
)

// buffer is bytes that go back to a pool, cleared. The pool gives what is not used to
// the garbage collector, so that a few large bodies take no memory for good.
type buffer struct {
	b     []byte
	dirty int // how many bytes of the array may hold plaintext, besides those of b
}

const (
	minBuffer = 4 << 10

	// firstReading is what is allocated for a body on its header's word alone.
	firstReading = 64 << 10
	// announcedFactor is the factor by which a full buffer grows at most, up to a length that
	// was announced: 18 x 64 KiB has room for a message of 1 MiB.
	announcedFactor = 18

	// maxOutgrown is the largest array that is kept when a body has outgrown it.
	maxOutgrown = 2 << 20

	// copyPiece is how much is copied at once. A longer copy, from about 1 MiB, would go
	// past the processor's caches, and sealing would fetch it from memory again.
	copyPiece = 256 << 10
)

// buffers are pools by sizeClass, up to 12 MiB: messages within the default limit. What is
// larger would have the garbage collector wait for twice as much. Those below minBuffer's
// are not used.
var buffers [20*8 + 4]sync.Pool

// sizeClass returns the size that n bytes are rounded up to, one of eight between a power
// of two and the next, and its number. n is at least minBuffer.
func sizeClass(n int) (class, size int) {
	shift := bits.Len(uint(n-1)) - 4
	eighths := (n-1)>>shift + 1 // 9 to 16
	return shift*8 + eighths - 9, eighths << shift
}

// newBuffer returns an empty buffer with room for at least n bytes.
func newBuffer(n int) *buffer {
	class, size := sizeClass(max(n, minBuffer))
	if class < len(buffers) {
		if buf, ok := buffers[class].Get().(*buffer); ok {
			return buf
		}
	}
	return &buffer{b: make([]byte, 0, size)}
}

// empty makes room in the buffer. What was in it is cleared when it is freed.
func (buf *buffer) empty() {
	buf.dirty = max(buf.dirty, len(buf.b))
	buf.b = buf.b[:0]
}

// freeCiphertext frees a buffer whose b is ciphertext, which need not be cleared.
func (buf *buffer) freeCiphertext() {
	if n := len(buf.b); n < buf.dirty {
		clear(buf.b[n:buf.dirty])
	}
	buf.b, buf.dirty = buf.b[:0], 0
	buf.free()
}

// free clears the buffer and puts it into the pool.
func (buf *buffer) free() {
	buf.empty()
	clear(buf.b[:buf.dirty])
	buf.dirty = 0
	if n := cap(buf.b); n >= minBuffer {
		if class, size := sizeClass(n); size == n && class < len(buffers) {
			buffers[class].Put(buf)
		}
	}
}

// grow makes room for n bytes more, and for what comes behind them: up to most in all if
// that was announced, and never beyond most. Otherwise nobody knows how far it goes, and
// beyond a MiB it is better to copy once more than to have too much.
func (buf *buffer) grow(n int, announced bool, most int64) {
	need, room := len(buf.b)+n, int64(cap(buf.b))
	if need <= cap(buf.b) {
		return
	}
	size := 2 * room
	switch {
	case announced:
		size = announcedFactor * room
	case room < 1<<20:
		size = 4 * room
	}
	buf.resize(max(need, int(min(size, most))))
}

// resize moves what is in the buffer into an array of size bytes at least. The old one is
// for others, but not if it is large: a body has outgrown several of those, and the pool
// should not have them all.
func (buf *buffer) resize(size int) {
	larger := newBuffer(size)
	larger.b = appendPieces(larger.b, buf.b)
	*buf, *larger = *larger, *buf
	if cap(larger.b) > maxOutgrown {
		clear(larger.b)
		return
	}
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

// newReadBuffer returns a buffer for what comes first of a body that is said to have
// expected bytes, -1 for unknown.
func newReadBuffer(expected int64) *buffer {
	return newBuffer(int(min(max(expected+1, minBuffer), firstReading)))
}

// readFrom appends all that r has. It stops behind limit bytes, and reports whether there
// was more. expected is what r is said to have, -1 for unknown: what is allocated grows
// with what has come, up to one byte more than that, which is to see the end.
func (buf *buffer) readFrom(r io.Reader, expected, limit int64) (more bool, err error) {
	announced, end := true, expected+1
	if expected < 0 || expected > limit {
		announced, end = false, limit+1
	}
	for idle := 0; idle < 100; {
		if n := int64(len(buf.b)); len(buf.b) == cap(buf.b) {
			if n >= end { // there is more than was said
				announced, end = false, limit+1
			}
			buf.grow(1, announced, end)
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
		case n == 0:
			idle++
		default:
			idle = 0
		}
	}
	return false, io.ErrNoProgress
}
