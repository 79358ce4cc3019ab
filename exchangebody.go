package sealhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// exchangeBody is the Body of an exchange request: it is opened as it is read. A
// handler may leave goroutines behind that still read it, so it has a lock.
type exchangeBody struct {
	w http.ResponseWriter
	r *http.Request

	mu      sync.Mutex
	records *seal.RecordReader
	limit   int64 // plaintext bytes, 0 for none
	started bool  // something was read
	closed  bool  // the handler may read no more
	err     error // what reading ended with: io.EOF if the body was whole
}

// The bounds of draining what a handler has not read.
const (
	maxDrainBytes = 256 << 10
	maxDrainTime  = 5 * time.Second
)

func newExchangeBody(x *exchange, w http.ResponseWriter, r *http.Request) *exchangeBody {
	return &exchangeBody{w: w, r: r, records: x.x.Records().NewReader(r.Body), limit: x.m.maxStream}
}

// Read reads what is authenticated. All its errors but io.EOF hold an [*Error].
func (b *exchangeBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

func (b *exchangeBody) read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.started = true
	n, err := b.records.Read(p)
	switch {
	case b.limit > 0 && b.records.Padded() > b.limit:
		n = 0
		b.err = newError(CodeTooLarge, http.StatusRequestEntityTooLarge, &http.MaxBytesError{Limit: b.limit})
	case err == nil:
	case err == io.EOF:
		b.err = io.EOF
	case isTooLarge(err): // for a limit further out
		b.err = newError(CodeTooLarge, http.StatusRequestEntityTooLarge, err)
	default:
		b.err = newError(CodeRequestIncomplete, http.StatusBadRequest, err)
	}
	return n, b.err
}

// isTooLarge reports whether a reader was past its limit, ours or one further out.
func isTooLarge(err error) bool {
	var tooLarge *http.MaxBytesError
	return errors.As(err, &tooLarge)
}

// Close ends the handler's reading. The rest is still to be drained.
func (b *exchangeBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// end frees what the body stands on. A goroutine that the handler has left behind may
// be waiting in Read, and is not waited for.
func (b *exchangeBody) end() {
	if !b.mu.TryLock() {
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Now())
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	b.closed = true
	_ = b.records.Close()
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
	}
}

// drained is how the reading of a body has ended.
type drained uint8

const (
	drainedWhole  drained = iota // all of it is authenticated
	drainedBroken                // it is not
	drainedPast                  // it is longer, or takes longer, than it is waited for
)

// ended reports whether there is nothing to drain. It does not wait for a goroutine that
// the handler has left behind in Read.
func (b *exchangeBody) ended() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.err != nil
}

// begun reports whether the handler has read, or waits in Read.
func (b *exchangeBody) begun() bool {
	if !b.mu.TryLock() {
		return true
	}
	defer b.mu.Unlock()
	return b.started
}

// drain reads what the handler has not, up to bounds of bytes and time. From then on
// the handler's reads fail.
func (b *exchangeBody) drain() drained {
	if b.ended() {
		_ = b.Close()
		return b.outcome(false)
	}
	return b.drainRest()
}

func (b *exchangeBody) drainRest() drained {
	var late atomic.Bool
	ended := make(chan struct{})
	timer := time.AfterFunc(maxDrainTime, func() {
		defer close(ended)
		late.Store(true)
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Now()) // ends a Read that waits
	})
	defer func() {
		if !timer.Stop() {
			<-ended // the server's writer is not to be used after the handler has returned
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.err == nil && !b.started && expectsContinue(b.r) {
		return drainedPast // to read now would ask for what the handler did not want
	}
	var scratch [4 << 10]byte
	for until := b.records.Padded() + maxDrainBytes; b.err == nil; {
		if b.records.Padded() > until || late.Load() {
			return drainedPast
		}
		_, _ = b.read(scratch[:])
	}
	return b.outcome(late.Load())
}

// outcome tells how reading has ended: b.err is set by then, and never changes again.
func (b *exchangeBody) outcome(late bool) drained {
	switch {
	case b.err == io.EOF:
		return drainedWhole
	case late || errors.Is(b.err, CodeTooLarge):
		return drainedPast
	}
	return drainedBroken
}

// failure returns the error that the handler got, or would have got, from reading, nil
// for none.
func (b *exchangeBody) failure() *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return asError(b.err)
}
