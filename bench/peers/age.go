package peers

import (
	"io"
	"net/http"

	"filippo.io/age"
)

// agePeer is age's format as a stream, each way, in handlers of one's own.
func agePeer() Peer {
	return Peer{
		Name: "age", Title: "[age](https://github.com/FiloSottile/age) as a stream, by hand",
		Adopted: "every handler, or a middleware of your own",
		Streams: "yes", Response: "no", Request: "no", Once: "no", CallerKey: "yes", Metadata: "no",
		Standard: "age's format",
		Serve: func(k *Keys, next http.Handler) (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				plaintext, err := age.Decrypt(r.Body, k.Server.Age)
				if err != nil {
					http.Error(w, "opening the body", http.StatusBadRequest)
					return
				}
				in := r.WithContext(r.Context())
				in.Header = r.Header.Clone()
				in.Header.Set("Content-Type", "application/json")
				in.Body, in.ContentLength = readCloser{plaintext, r.Body}, -1
				answer := &ageWriter{ResponseWriter: w, to: k.Client.Age.Recipient()}
				next.ServeHTTP(answer, in)
				answer.close()
			}), nil
		},
		Call: func(k *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				sealed, err := age.EncryptReader(req.Body, k.Server.Age.Recipient())
				if err != nil {
					return nil, err
				}
				out := req.Clone(req.Context())
				out.Header.Set("Content-Type", ageType)
				out.Body, out.GetBody, out.ContentLength = readCloser{sealed, req.Body}, nil, -1
				resp, err := base.RoundTrip(out)
				if err != nil {
					return nil, err
				}
				plaintext, err := age.Decrypt(resp.Body, k.Client.Age)
				if err != nil {
					_ = resp.Body.Close()
					return nil, err
				}
				resp.Body, resp.ContentLength = readCloser{plaintext, resp.Body}, -1
				return resp, nil
			}), nil
		},
	}
}

const ageType = "application/age"

type readCloser struct {
	io.Reader
	io.Closer
}

// ageWriter seals what a handler writes. Like those of the other peers it keeps the
// connection's Flusher for itself.
type ageWriter struct {
	http.ResponseWriter
	to   age.Recipient
	body io.WriteCloser // nil before the header
	err  error
}

func (w *ageWriter) WriteHeader(status int) {
	if w.body != nil || w.err != nil {
		return
	}
	w.Header().Set("Content-Type", ageType)
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
	w.body, w.err = age.Encrypt(w.ResponseWriter, w.to)
}

func (w *ageWriter) Write(p []byte) (int, error) {
	if w.WriteHeader(http.StatusOK); w.err != nil {
		return 0, w.err
	}
	return w.body.Write(p)
}

// close ends the stream. One that is not ended does not open.
func (w *ageWriter) close() {
	if w.WriteHeader(http.StatusOK); w.err == nil {
		_ = w.body.Close()
	}
}
