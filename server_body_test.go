package sealhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"github.com/sealhttp/sealhttp"
)

// srvPattern is n bytes of which no two parts are alike.
func srvPattern(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d ", i)
	}
	return b[:n]
}

// An opened body can be read and copied in any mixture, to the same bytes.
func TestServerBodyCopied(t *testing.T) {
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, size := range []int{1, 1000, 256 << 10, 256<<10 + 1, 1 << 20} {
			want := srvPattern(size)
			for name, read := range map[string]func(r io.Reader) ([]byte, error){
				"io.Copy": func(r io.Reader) ([]byte, error) {
					var b bytes.Buffer
					_, err := io.Copy(struct{ io.Writer }{&b}, r)
					return b.Bytes(), err
				},
				"read, then copied": func(r io.Reader) ([]byte, error) {
					b := bytes.NewBuffer(make([]byte, size/3))
					if _, err := io.ReadFull(r, b.Bytes()); err != nil {
						return nil, err
					}
					_, err := r.(io.WriterTo).WriteTo(b)
					return b.Bytes(), err
				},
				"copied in parts": func(r io.Reader) ([]byte, error) {
					var b bytes.Buffer
					for range 1000 {
						w := &srvFailingWriter{w: &b, left: 10_000}
						n, err := r.(io.WriterTo).WriteTo(w)
						if n < 10_000 && err == nil {
							break
						}
						if err != nil && !errors.Is(err, errSrv) {
							return nil, err
						}
					}
					_, err := io.Copy(&b, r)
					return b.Bytes(), err
				},
				"short writes": func(r io.Reader) ([]byte, error) {
					var b bytes.Buffer
					for left := size; left > 0; left = size - b.Len() {
						n, err := r.(io.WriterTo).WriteTo(srvShortWriter{&b})
						if n == 0 || left > 1 && err != io.ErrShortWrite || left == 1 && err != nil {
							return nil, fmt.Errorf("%d of %d, %w", n, left, err)
						}
					}
					return b.Bytes(), nil
				},
				"byte by byte": func(r io.Reader) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(r)) },
			} {
				if testing.Short() && size > 1000 && name == "byte by byte" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/%s", proto, size, name), func(t *testing.T) {
					var got []byte
					var err, after error
					current.set(srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						got, err = read(r.Body)
						_, after = r.Body.Read(make([]byte, 1))
						w.WriteHeader(204)
					})))
					if a := host.call(t, "POST", "/", want); a.status != 204 {
						t.Fatalf("status %d, %v", a.status, a.err)
					}
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
					}
					if after != io.EOF {
						t.Errorf("behind the end: %v", after)
					}
				})
			}
		}
	}
}

// srvFailingWriter takes so many bytes and fails.
type srvFailingWriter struct {
	w    io.Writer
	left int
}

func (f *srvFailingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p[:min(len(p), f.left)])
	if f.left -= n; err == nil && n < len(p) {
		err = errSrv
	}
	return n, err
}

// srvShortWriter breaks io.Writer's rules.
type srvShortWriter struct{ w io.Writer }

func (s srvShortWriter) Write(p []byte) (int, error) { return s.w.Write(p[:(len(p)+1)/2]) }

// A copy of the body that a handler leaves behind, or that panics, holds nothing up, and
// gets no other call's bytes.
func TestServerBodyCopyLeftBehind(t *testing.T) {
	for _, proto := range srvProtos {
		for _, row := range []struct {
			size   int
			others bool // read at the same time
		}{{10, false}, {10, true}, {1 << 20, false}, {1 << 20, true}} {
			size, others := row.size, row.others
			t.Run(fmt.Sprintf("%s/%d/others %v", proto, size, others), func(t *testing.T) {
				var current srvSwap
				host := srvServe(t, proto, &current)
				type result struct {
					n   int64
					err error
				}
				copied := make(chan result, 1)
				pr, pw := io.Pipe()
				m := srvMiddleware(t)
				current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					go func() {
						n, err := io.Copy(pw, r.Body)
						_ = pw.CloseWithError(err)
						copied <- result{n, err}
					}()
					_, _ = io.ReadFull(pr, make([]byte, 1)) // it is in the middle of a write
					if others {                             // they get neither these bytes nor an end
						n, err := io.Copy(io.Discard, r.Body)
						got, readErr := r.Body.Read(make([]byte, 10))
						if n != 0 || err == nil || got != 0 || readErr == nil || readErr == io.EOF {
							t.Errorf("copied %d, %v, read %d, %v", n, err, got, readErr)
						}
					}
					_, _ = w.Write(bytes.Repeat([]byte("r"), size))
				})))
				want := srvPattern(size)
				srvWithin(t, "a call whose body is still being copied", func() {
					if a := host.call(t, "POST", "/", want).open(t, "POST"); len(a.body) != size {
						t.Errorf("%d bytes, %v", len(a.body), a.err)
					}
				})
				current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = w.Write(bytes.Repeat([]byte("s"), size))
				})))
				for range 20 { // these would take the buffer
					host.call(t, "POST", "/", bytes.Repeat([]byte("q"), size)).open(t, "POST")
				}
				rest, err := io.ReadAll(pr)
				if !bytes.Equal(rest, want[1:][:len(rest)]) {
					t.Error("the copy got other bytes")
				}
				got := <-copied
				if size <= 256<<10 && got.err == nil { // it was all handed out before
					return
				}
				if !errors.Is(got.err, http.ErrBodyReadAfterClose) || !errors.Is(err, http.ErrBodyReadAfterClose) {
					t.Errorf("%d bytes, %v, want ErrBodyReadAfterClose", got.n, got.err)
				}
			})
		}
		t.Run(proto+"/panic", func(t *testing.T) {
			m := srvMiddleware(t)
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					_ = recover()
					rest, err := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %v", rest, err)
				}()
				_, _ = io.Copy(srvPanickingWriter{}, r.Body)
			})))
			a := host.call(t, "POST", "/", []byte("a body")).open(t, "POST")
			if string(a.body) != "a body <nil>" {
				t.Errorf("%q", a.body)
			}
		})
	}
}

type srvPanickingWriter struct{}

func (srvPanickingWriter) Write([]byte) (int, error) { panic("boom") }

// A body that gives nothing, again and again, is not asked for ever.
func TestServerBodyWithoutProgress(t *testing.T) {
	m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Content-Type", sealhttp.MediaType)
	r.Body, r.ContentLength = io.NopCloser(srvReader(func([]byte) (int, error) { return 0, nil })), -1
	srvWithin(t, "Begin", func() {
		call, err := m.Begin(httptest.NewRecorder(), r)
		if call != nil || !errors.Is(err, sealhttp.CodeMalformed) || !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%v, %v", call, err)
		}
	})
}

// A response takes memory as it is written, not as it was declared.
func TestServerResponseMemory(t *testing.T) {
	const declared = 1 << 40
	m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(declared), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", sealhttp.MediaType)
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { // it was shorter than declared
			t.Errorf("panics with %v", v)
		}
	}()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(declared))
		for range 300 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// What a handler has not read when it begins to answer, it can read after.
func TestServerBodyReadWhileAnswering(t *testing.T) {
	for _, proto := range srvProtos {
		for _, size := range []int{100, 10_000, 1 << 20} {
			for _, first := range []int{0, 1, size / 2, size - 1, size} {
				t.Run(fmt.Sprintf("%s/%d of %d", proto, first, size), func(t *testing.T) {
					want, answer := srvPattern(size), bytes.Repeat([]byte("answer "), size/7)
					var got []byte
					host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						got = make([]byte, first)
						_, _ = io.ReadFull(r.Body, got)
						_, _ = w.Write(answer)
						rest, _ := io.ReadAll(r.Body)
						got = append(got, rest...)
					})))
					if a := host.call(t, "POST", "/", want).open(t, "POST"); !bytes.Equal(a.body, answer) {
						t.Errorf("the answer has %d bytes, want %d", len(a.body), len(answer))
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%d bytes were read, want %d", len(got), len(want))
					}
				})
			}
		}
	}
}

// A response that was declared and is written at once is sealed at once; what is written
// behind it, or what was declared and is not written, is what it is in plaintext.
func TestServerResponseDeclared(t *testing.T) {
	for _, proto := range srvProtos {
		for _, size := range []int{1, 1000, 300 << 10} {
			content := srvPattern(size)
			text := string(content)
			for _, row := range []struct {
				name  string
				write func(w http.ResponseWriter) error
				want  error
			}{
				{"at once", func(w http.ResponseWriter) error { _, err := w.Write(content); return err }, nil},
				{"as text", func(w http.ResponseWriter) error { _, err := io.WriteString(w, text); return err }, nil},
				{"behind nothing", func(w http.ResponseWriter) error {
					_, _ = w.Write(nil)
					w.(http.Flusher).Flush()
					_, err := w.Write(content)
					w.(http.Flusher).Flush()
					return err
				}, nil},
				{"and nothing more", func(w http.ResponseWriter) error {
					_, err := w.Write(content)
					_, empty := w.Write(nil)
					_, text := io.WriteString(w, "")
					return errors.Join(err, empty, text)
				}, nil},
				{"and more", func(w http.ResponseWriter) error {
					_, _ = w.Write(content)
					_, err := w.Write([]byte("more"))
					return err
				}, http.ErrContentLength},
				{"and overwritten", func(w http.ResponseWriter) error {
					p := bytes.Clone(content)
					_, err := w.Write(p)
					clear(p)
					w.Header().Set("Content-Length", "5")
					w.Header().Set("Content-Type", "b/c")
					return err
				}, nil},
			} {
				t.Run(fmt.Sprintf("%s/%d/%s", proto, size, row.name), func(t *testing.T) {
					var err error
					host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						w.Header().Set("Content-Length", fmt.Sprint(size))
						err = row.write(w)
					})))
					a := host.call(t, "POST", "/", srvPattern(2*size)).open(t, "POST")
					contentType := http.DetectContentType(content)
					if row.name == "behind nothing" {
						contentType = "" // there was nothing to find it out from, as in plaintext
					}
					if !bytes.Equal(a.body, content) || a.header.Get("Content-Type") != contentType {
						t.Errorf("%d bytes of %q, %v", len(a.body), a.header.Get("Content-Type"), a.err)
					}
					if !errors.Is(err, row.want) {
						t.Errorf("writing: %v, want %v", err, row.want)
					}
				})
			}
		}
	}
}
