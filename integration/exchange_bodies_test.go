package integration_test

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// stream is how far a handler has come with a body.
type stream struct {
	Bytes   atomic.Int64
	Waiting atomic.Int64 // since when it waits for the other side, in Unix nanoseconds; 0 if it does not
	Ended   atomic.Bool  // the handler
}

// streamState is how far a body has come, and how long its side has been waiting for the
// other.
type streamState struct {
	Begun   bool
	Bytes   int64
	Waiting time.Duration
	Ended   bool
}

func (s *stream) state() streamState {
	state := streamState{Begun: true, Bytes: s.Bytes.Load(), Ended: s.Ended.Load()}
	if since := s.Waiting.Load(); since != 0 {
		state.Waiting = time.Since(time.Unix(0, since))
	}
	return state
}

// reading tells of what is read through it, writing of what is written.
func (s *stream) reading(from io.Reader) io.Reader { return streamReader{s, from} }
func (s *stream) writing(to io.Writer) io.Writer   { return streamWriter{s, to} }

type streamReader struct {
	s    *stream
	from io.Reader
}

func (r streamReader) Read(p []byte) (int, error) {
	return r.s.step(func() (int, error) { return r.from.Read(p) })
}

type streamWriter struct {
	s  *stream
	to io.Writer
}

func (w streamWriter) Write(p []byte) (int, error) {
	return w.s.step(func() (int, error) { return w.to.Write(p) })
}

func (s *stream) step(do func() (int, error)) (int, error) {
	s.Waiting.Store(time.Now().UnixNano())
	n, err := do()
	s.Waiting.Store(0)
	s.Bytes.Add(int64(n))
	return n, err
}

// pattern is bytes that no compression makes shorter, the same ones in every process.
type pattern struct {
	left int64
	at   int
}

var patternBlock = sync.OnceValue(func() []byte {
	block := make([]byte, 1<<20-7) // of a length that no buffer has
	_, _ = rand.NewChaCha8([32]byte{'p'}).Read(block)
	return block
})

func newPattern(n int64) *pattern { return &pattern{left: n} }

func (p *pattern) Read(to []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	block := patternBlock()
	n := copy(to[:min(int64(len(to)), p.left)], block[p.at:])
	p.at, p.left = (p.at+n)%len(block), p.left-int64(n)
	return n, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(r io.Reader) (sum uint32, n int64, err error) {
	h := crc32.New(castagnoli)
	n, err = io.Copy(h, r)
	return h.Sum32(), n, err
}

func summary(n int64, sum uint32) string { return fmt.Sprintf("%d bytes, %08x", n, sum) }

// patternSummary is the summary of so many bytes of the pattern.
func patternSummary(n int64) string {
	sum, n, _ := sumOf(newPattern(n))
	return summary(n, sum)
}
