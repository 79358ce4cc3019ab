package sealhttp

import (
	"net/http"
	"sync"
)

// beginPreflight lets a CORS preflight pass, whatever the policy, and nothing
// with it: the handler gets no content, and its response goes out without any.
func (m *Middleware) beginPreflight(w http.ResponseWriter, r *http.Request) *Call {
	through := *r
	through.Body = http.NoBody
	through.ContentLength = 0
	writer := &preflightWriter{w: w}
	return &Call{Request: &through, Writer: writer, m: m, incoming: r, response: writer}
}

// preflightWriter sends status and header, and drops all content.
type preflightWriter struct {
	w      http.ResponseWriter
	mu     sync.Mutex
	status int // 0 until the header was sent
	closed bool
}

func (p *preflightWriter) Header() http.Header { return p.w.Header() }

func (p *preflightWriter) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.status != 0 {
		return
	}
	p.send(status)
}

func (p *preflightWriter) send(status int) {
	h := p.w.Header()
	delete(h, "Content-Type")
	makeBodiless(h)
	addVary(h)
	p.w.WriteHeader(status)
	if status >= 200 || status == http.StatusSwitchingProtocols {
		p.status = status
	}
}

func (p *preflightWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, ErrCallClosed
	}
	if p.status == 0 {
		p.send(http.StatusOK)
	}
	return len(b), nil
}

// FlushError is what http.ResponseController looks for.
func (p *preflightWriter) FlushError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrCallClosed
	}
	if p.status == 0 {
		p.send(http.StatusOK)
	}
	return http.NewResponseController(p.w).Flush()
}

// Flush is for handlers that look for an http.Flusher.
func (p *preflightWriter) Flush() { _ = p.FlushError() }

func (p *preflightWriter) finish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == 0 && !p.closed {
		p.send(http.StatusOK)
	}
	makeBodiless(p.w.Header()) // trailers that were set since
	p.closed = true
	return nil
}

func (p *preflightWriter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (p *preflightWriter) sent() (status int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, 0
}
