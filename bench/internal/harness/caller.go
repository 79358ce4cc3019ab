package harness

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
)

// Post is a request of a POST of size bytes to [Host].
func Post(target string, size int) *http.Request {
	req, err := http.NewRequest(http.MethodPost, "http://"+Host+target, bytes.NewReader(make([]byte, size)))
	if err != nil {
		panic(err) // the target is none
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// Capture makes a call of what a caller's transport sends for a request. client puts the
// transport on the base that it is given.
func Capture(client func(base http.RoundTripper) (http.RoundTripper, error), req *http.Request) (*Call, error) {
	var sent recorder
	transport, err := client(&sent)
	if err != nil {
		return nil, err
	}
	_, err = transport.RoundTrip(req)
	switch {
	case sent.err != nil:
		return nil, sent.err
	case sent.request == nil:
		return nil, fmt.Errorf("the transport has sent nothing: %w", err)
	}
	c := NewCall(sent.request.Method, sent.request.URL.Path, sent.body)
	maps.Copy(c.request.Header, sent.request.Header)
	return c, nil
}

// Sent returns the header and the body that were captured.
func (c *Call) Sent() (http.Header, []byte) { return c.request.Header, c.message }

// recorder is a transport that keeps what it is to send.
type recorder struct {
	request *http.Request
	body    []byte
	err     error
}

func (s *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.request = r; r.Body != nil {
		s.body, s.err = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	return nil, os.ErrDeadlineExceeded // which no transport answers with another attempt
}

// InMemory is a transport whose service is a handler in the same process: no socket, and
// no HTTP syntax.
type InMemory struct{ Handler http.Handler }

// RoundTrip calls the handler.
func (t InMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.WithContext(r.Context())
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	in.RequestURI = r.URL.RequestURI()
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answer{header: make(http.Header)}
	t.Handler.ServeHTTP(w, in)
	w.WriteHeader(http.StatusOK) // as net/http, for a handler that has not
	_ = in.Body.Close()
	return &http.Response{
		StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// answer is an http.ResponseWriter that keeps the body.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
