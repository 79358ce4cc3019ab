package sealhttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// However a call goes, what it leaves in the pool holds none of its plaintext, up to the
// last byte of the buffers' capacity.
func TestPooledBuffersHoldNoPlaintext(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the pool is to keep all
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))  // and to show all
	serverKey := newTestKey(t, seal.X25519AES256GCM)
	keys, err := seal.NewKeySet(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 3 << 20
	const canary = 0xa5
	var clientKey *seal.PublicKey
	m, err := New(ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return keys, nil }), WithMaxResponseBytes(limit), WithLogger(slog.New(slog.DiscardHandler)),
		WithClientKeys(ClientKeysFunc(func(*http.Request) (*seal.PublicKey, error) { return clientKey, nil })))
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]func(io.ReadCloser){
		"whole":                      func(r io.ReadCloser) { _, _ = io.Copy(io.Discard, r) },
		"half":                       func(r io.ReadCloser) { _, _ = io.CopyN(io.Discard, r, 1000) },
		"not":                        func(io.ReadCloser) {},
		"copied, and shut meanwhile": func(r io.ReadCloser) { _, _ = r.(io.WriterTo).WriteTo(closer{r}) },
		"shut":                       func(r io.ReadCloser) { _, _ = r.Read(make([]byte, 10)); _ = r.Close() },
	}
	write := map[string]func(http.ResponseWriter, []byte){
		"at once": func(w http.ResponseWriter, p []byte) { _, _ = w.Write(p) },
		"declared": func(w http.ResponseWriter, p []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(p)))
			_, _ = w.Write(p)
		},
		"less than declared": func(w http.ResponseWriter, p []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(p)+1))
			_, _ = w.Write(p)
		},
		"a little":  func(w http.ResponseWriter, p []byte) { _, _ = w.Write(p[:10]) },
		"nothing":   func(http.ResponseWriter, []byte) {},
		"in pieces": func(w http.ResponseWriter, p []byte) { _, _ = io.Copy(w, struct{ io.Reader }{bytes.NewReader(p)}) },
		"as text": func(w http.ResponseWriter, p []byte) {
			text := string(p)
			_, _ = io.WriteString(w, text)
		},
		"too long": func(w http.ResponseWriter, p []byte) {
			for n := 0; n <= limit; n += len(p) {
				_, _ = w.Write(p)
			}
		},
		"encoded": func(w http.ResponseWriter, p []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(p)
		},
		"a little, and panic": func(w http.ResponseWriter, p []byte) { _, _ = w.Write(p[:10]); panic(http.ErrAbortHandler) },
		"panic":               func(w http.ResponseWriter, p []byte) { _, _ = w.Write(p); panic(http.ErrAbortHandler) },
	}
	calls, pooled := 0, 0
	clientKeys := []*seal.PublicKey{ // with shorter and with longer messages than the server's
		newTestKey(t, seal.X25519AES256GCM, seal.WithoutPrefix()).Public(),
		newTestKey(t, seal.XWingAES256GCM).Public(),
	}
	for _, size := range []int{100, 5000, 100_000, 2 << 20} {
		plaintext := bytes.Repeat([]byte{canary}, size)
		message, err := serverKey.Public().Seal(nil, plaintext, nil)
		if err != nil {
			t.Fatal(err)
		}
		for reading, read := range read {
			for writing, write := range write {
				for _, announced := range []bool{true, false} {
					calls++
					clientKey = clientKeys[calls/2%2]
					handler := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						read(r.Body)
						write(w, plaintext)
					}))
					r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(message))
					r.Header.Set("Content-Type", MediaType)
					r.Header.Set("Accept", MediaType)
					if !announced {
						r.ContentLength = -1
					}
					func() {
						defer func() { _ = recover() }()
						handler.ServeHTTP(httptest.NewRecorder(), r)
					}()
					n, held := drainPool(bytes.Repeat([]byte{canary}, 6))
					if pooled += n; held {
						t.Errorf("%d bytes, read %s, written %s, announced %v: plaintext is in the pool", size, reading, writing, announced)
					}
				}
			}
		}
	}
	t.Logf("%d calls left %d buffers", calls, pooled)
	if pooled == 0 {
		t.Error("no call left a buffer: nothing was looked at")
	}
}

// closer closes what is copied to it, and forgets it.
type closer struct{ io.Closer }

func (c closer) Write(p []byte) (int, error) { return len(p), c.Close() }

// What a copy has while its body is closed is given back when the copy ends.
func TestCopiedBodyIsFreed(t *testing.T) {
	for _, size := range []int{10, copyPiece, copyPiece + 1, 3 * copyPiece} {
		buf := newBuffer(size)
		buf.b = append(buf.b, make([]byte, size)...)
		body := &openedBody{buf: buf, rest: buf.b}
		n, err := body.WriteTo(closer{body})
		var want error
		if size > copyPiece {
			want = http.ErrBodyReadAfterClose
		}
		if n != int64(min(size, copyPiece)) || err != want || body.buf != nil || body.rest != nil {
			t.Errorf("%d bytes: %d copied, %v, kept: %v", size, n, err, body.buf != nil)
		}
		if _, err := body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
			t.Errorf("%d bytes: Read: %v", size, err)
		}
	}
}

// drainPool empties the pool, and reports how many buffers it had and whether any holds
// the canary.
func drainPool(canary []byte) (n int, held bool) {
	for i := range buffers {
		for {
			buf, _ := buffers[i].Get().(*buffer)
			if buf == nil {
				break
			}
			n++
			held = held || bytes.Contains(buf.b[:cap(buf.b)], canary)
		}
	}
	return n, held
}

// A body that is expected to have as many bytes as one before is read into no new array.
// A short one takes no long one's buffer.
func TestBuffersAreUsedAgain(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const limit = 64 << 20
	for _, size := range []int{0, 10, minBuffer, minBuffer + 1, firstReading, 1 << 20, 1<<20 + 100, 10 << 20, 12<<20 - 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			drainPool(nil)
			body := make([]byte, size)
			var first *byte
			again := 0
			for range 20 { // under the race detector the pool loses some
				buf := newReadBuffer(int64(size))
				if more, err := buf.readFrom(bytes.NewReader(body), int64(size), limit); more || err != nil {
					t.Fatal(more, err)
				}
				if len(buf.b) != size || cap(buf.b) > max(minBuffer, (size+1)*9/8) {
					t.Fatalf("%d bytes in %d", len(buf.b), cap(buf.b))
				}
				if at := &buf.b[:1][0]; at == first {
					again++
				} else {
					first = at
				}
				buf.free()
			}
			if again == 0 {
				t.Error("each body was read into a new array")
			}
		})
	}
	large := newBuffer(1 << 20)
	large.free()
	if buf := newBuffer(10); cap(buf.b) != minBuffer {
		t.Errorf("a body of 10 bytes takes a buffer of %d", cap(buf.b))
	}
	past := newBuffer(12<<20 + 1)
	past.free()
	for i := range buffers {
		for buf, _ := buffers[i].Get().(*buffer); buf != nil; buf, _ = buffers[i].Get().(*buffer) {
			if buf == past {
				t.Error("the pool takes a buffer past its limit")
			}
		}
	}
}

// Sizes are rounded up to ever larger ones, by less than an eighth.
func TestSizeClass(t *testing.T) {
	last, lastSize := -1, 0
	check := func(n int) {
		class, size := sizeClass(n)
		again, same := sizeClass(size)
		if size < n || size >= n+n/8+1 || again != class || same != size {
			t.Fatalf("%d is rounded to %d, and that to %d", n, size, same)
		}
		if (class == last) != (size == lastSize) || class < last {
			t.Fatalf("%d has class %d of size %d, and one before had %d of %d", n, class, size, last, lastSize)
		}
		if (class < len(buffers)) != (size <= 12<<20) {
			t.Fatalf("class %d of size %d has a pool: %v", class, size, class < len(buffers))
		}
		last, lastSize = class, size
	}
	check(minBuffer)
	for base := minBuffer; base <= 1<<29; base *= 2 {
		for eighth := range 8 {
			edge := base + eighth*base/8
			for _, n := range []int{edge + 1, edge + base/16, edge + base/8 - 1, edge + base/8} {
				check(n)
			}
		}
	}
}

// What was only announced takes no memory, not even the pool's: who announces and does
// not send would take from the pool what others then have to allocate.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	const limit, first = 10 << 20, 64 << 10
	fillPool := func() {
		for _, n := range []int{minBuffer, first, 1 << 20, limit + 1} {
			for range 8 {
				defer newBuffer(n).free()
			}
		}
	}
	for _, announced := range []int64{-1, 100, first, 1 << 20, limit} {
		times := 18
		if announced < 0 {
			times = 4
		}
		for _, sent := range []int{0, 10, first - 1, first + 1, 300 << 10, 1 << 20, limit} {
			fillPool()
			came := 0
			buf := newReadBuffer(announced)
			check := func() {
				if room := cap(buf.b); room > max(first, times*came)*9/8+1 {
					t.Fatalf("announced %d, sent %d: after %d bytes the buffer has %d", announced, sent, came, room)
				}
			}
			check()
			_, err := buf.readFrom(readerFunc(func(p []byte) (int, error) {
				check()
				n := min(len(p), 1000, sent-came)
				if came += n; n == 0 {
					return 0, io.EOF
				}
				return n, nil
			}), announced, limit)
			if err != nil || len(buf.b) != sent {
				t.Fatalf("announced %d, sent %d: %d came, %v", announced, sent, len(buf.b), err)
			}
			buf.free()
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func newTestKey(t *testing.T, suite seal.Suite, opts ...seal.KeyOption) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey(suite, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
