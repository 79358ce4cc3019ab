package peers

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
)

// maxBody is how much a side reads of a body, in bytes. Base64 is a third longer than
// the 10 MiB that are measured.
const maxBody = 16 << 20

// oneShot is both sides of a peer that seals a body as a whole: code that a user writes
// by hand, around a library's two functions.
type oneShot struct {
	contentType string
	// open and seal are the service's side, sealTo and openFrom the caller's.
	open, seal       func([]byte) ([]byte, error)
	sealTo, openFrom func([]byte) ([]byte, error)
}

// serve opens requests and seals responses.
func (o oneShot) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, err := readAll(http.MaxBytesReader(w, r.Body, maxBody), r.ContentLength)
		if err != nil {
			http.Error(w, "reading the body", http.StatusBadRequest)
			return
		}
		plaintext, err := o.open(message)
		if err != nil {
			http.Error(w, "opening the body", http.StatusBadRequest)
			return
		}
		in := r.WithContext(r.Context())
		in.Header = r.Header.Clone()
		in.Header.Set("Content-Type", "application/json")
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(plaintext)), int64(len(plaintext))
		answer := &recorded{ResponseWriter: w}
		next.ServeHTTP(answer, in)
		sealed, err := o.seal(answer.body)
		if err != nil {
			http.Error(w, "sealing the body", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", o.contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(sealed)))
		w.WriteHeader(answer.status)
		_, _ = w.Write(sealed)
	})
}

// recorded is an http.ResponseWriter that keeps what is to be sealed.
type recorded struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (w *recorded) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		if n, err := strconv.Atoi(w.Header().Get("Content-Length")); err == nil && n <= maxBody {
			w.body = make([]byte, 0, n)
		}
	}
}

func (w *recorded) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

// call seals requests and opens responses.
func (o oneShot) call(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		plaintext, err := readAll(req.Body, req.ContentLength)
		if err != nil {
			return nil, err
		}
		message, err := o.sealTo(plaintext)
		if err != nil {
			return nil, err
		}
		out := req.Clone(req.Context())
		out.Header.Set("Content-Type", o.contentType)
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
		out.Body, _ = out.GetBody()
		out.ContentLength = int64(len(message))
		resp, err := base.RoundTrip(out)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		sealed, err := readAll(http.MaxBytesReader(nil, resp.Body, maxBody), resp.ContentLength)
		if err != nil {
			return nil, err
		}
		if plaintext, err = o.openFrom(sealed); err != nil {
			return nil, err
		}
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(plaintext)), int64(len(plaintext))
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// readAll reads a body whose length may have been told.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < 0 || length > maxBody {
		return io.ReadAll(r)
	}
	b := make([]byte, length)
	_, err := io.ReadFull(r, b)
	return b, err
}

// oneShotPeer completes a peer whose two sides are by hand.
func oneShotPeer(p Peer, sides func(*Keys) (oneShot, error)) Peer {
	p.Serve = func(k *Keys, next http.Handler) (http.Handler, error) {
		o, err := sides(k)
		return o.serve(next), err
	}
	p.Call = func(k *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) {
		o, err := sides(k)
		return o.call(base), err
	}
	return p
}
