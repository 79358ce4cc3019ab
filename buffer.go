package sealhttp

import (
	"io"
	"slices"
	"sync"
)

// buffer is bytes that go back to a pool. Only small ones do: what a few large
// bodies needed must not stay in memory for good.
type buffer struct{ b []byte }

const (
	minBuffer    = 4 << 10
	maxPooled    = 4 << 20
	firstReading = 64 << 10 // what is allocated for a body on its header's word alone
)

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// newBuffer returns an empty buffer with room for at least n bytes.
func newBuffer(n int) *buffer {
	buf := buffers.Get().(*buffer)
	if cap(buf.b) < n {
		buf.b = make([]byte, 0, max(n, minBuffer))
	}
	return buf
}

// free clears the buffer and puts it into the pool. used is how many of its bytes
// were ever written.
func (buf *buffer) free(used int) {
	clear(buf.b[:used])
	buf.b = buf.b[:0]
	if cap(buf.b) > maxPooled {
		buf.b = nil
	}
	buffers.Put(buf)
}

// grow makes room for n bytes more, if need be in an array of size at least, and
// clears the old array.
func (buf *buffer) grow(n int) {
	if cap(buf.b)-len(buf.b) >= n {
		return
	}
	old := buf.b
	buf.b = slices.Grow(old, n)
	clear(old)
}

// readFrom appends all that r has, up to limit bytes. It reports whether there was
// more. expected is what r is said to have, -1 for unknown: what is allocated
// grows with what has come, but never past it by more than half.
func (buf *buffer) readFrom(r io.Reader, expected, limit int64) (more bool, err error) {
	if expected < 0 || expected > limit {
		expected = limit
	}
	for {
		if len(buf.b) == cap(buf.b) {
			buf.growTowards(expected)
		}
		n, err := r.Read(buf.b[len(buf.b):cap(buf.b)])
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

// growTowards doubles the buffer, but stops at one byte past the expected size:
// enough to see the end.
func (buf *buffer) growTowards(expected int64) {
	size := max(2*int64(cap(buf.b)), firstReading)
	if end := expected + 1; int64(len(buf.b)) < end && size > end {
		size = end
	}
	grown := make([]byte, len(buf.b), size)
	copy(grown, buf.b)
	clear(buf.b)
	buf.b = grown
}
