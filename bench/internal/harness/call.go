// Package harness serves HTTP calls without sockets, at almost no cost of its own, so that
// a benchmark shows what serving costs and not what making requests does.
package harness

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
)

// Call is one request and its writer, used again and again. It is for use by one
// goroutine at a time.
type Call struct {
	request *http.Request
	message []byte
	body    body
	writer  discardWriter
}

type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

// discardWriter is an http.ResponseWriter that counts.
type discardWriter struct {
	header http.Header
	status int
	n      int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }
func (w *discardWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

// NewCall makes a call of a service at [Host]. A nil message is no body.
func NewCall(method, target string, message []byte) *Call {
	c := &Call{message: message, writer: discardWriter{header: make(http.Header)}}
	c.request = &http.Request{
		Method: method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Host: Host, RequestURI: target, URL: &url.URL{Path: target},
		Body: http.NoBody, ContentLength: int64(len(message)),
	}
	return c
}

// Host is the name of the service that is called.
const Host = "api.example.com"

// Header is the request's.
func (c *Call) Header() http.Header { return c.request.Header }

// Serve has a handler serve the call and returns the response's status and the length of
// its body.
func (c *Call) Serve(handler http.Handler) (status, n int) {
	clear(c.writer.header)
	c.writer.status, c.writer.n = 0, 0
	if c.message != nil {
		c.body.Reset(c.message)
		c.request.Body = &c.body
	}
	handler.ServeHTTP(&c.writer, c.request)
	return c.writer.status, c.writer.n
}

// nowhere is io.Discard, but that it does not read by itself, in small pieces.
var nowhere io.Writer = struct{ io.Writer }{io.Discard}

type piece [32 << 10]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

// Reply is a handler that copies the request's body to nowhere, declares a response of size
// bytes, and writes it at once.
func Reply(size int) http.Handler {
	content := make([]byte, size)
	contentType := []string{"application/octet-stream"}
	contentLength := []string{strconv.Itoa(size)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := pieces.Get().(*piece)
		defer pieces.Put(buf)
		if _, err := io.CopyBuffer(nowhere, r.Body, buf[:]); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h := w.Header()
		h["Content-Type"] = contentType
		h["Content-Length"] = contentLength
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(content)
	})
}

// ReplyInPieces is a handler that reads and writes as much as Reply, in pieces of its own,
// and declares nothing.
func ReplyInPieces(size int) http.Handler {
	contentType := []string{"application/octet-stream"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := pieces.Get().(*piece)
		defer pieces.Put(buf)
		for {
			if _, err := r.Body.Read(buf[:]); err == io.EOF {
				break
			} else if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
		}
		w.Header()["Content-Type"] = contentType
		for left := size; left > 0; left -= len(buf) {
			_, _ = w.Write(buf[:min(left, len(buf))])
		}
	})
}
