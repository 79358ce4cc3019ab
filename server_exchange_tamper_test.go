package sealhttp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// Each bit of the values of Sealed-Exchange, when it is flipped, makes a request that
// does not authenticate.
func TestServerExchangeTamperedField(t *testing.T) {
	calls, ran := 0, 0
	guard := new(srvGuard)
	m := srvMiddleware(t, sealhttp.WithReplayGuard(guard), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
	current := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ }))
	host := srvServe(t, "HTTP/2.0", current)
	send := func(change func(x *srvExchange), code sealhttp.Code) {
		x := srvTurn("POST", "/")
		req := x.request(t, host, []byte("hello"))
		change(x)
		req.Header["Sealed-Exchange"] = []string{strings.Join(x.members(), ", ")}
		x.refusedInClear(t, host.do(t, req), code, 400)
		calls++
	}
	for i := range 16 {
		for bit := range 8 {
			send(func(x *srvExchange) { x.id[i] ^= 1 << bit }, sealhttp.CodeDecryptionFailed)
			send(func(x *srvExchange) { x.auth[i] ^= 1 << bit }, sealhttp.CodeDecryptionFailed)
		}
	}
	for i := range 32 {
		for bit := range 8 {
			send(func(x *srvExchange) { x.enc[i] ^= 1 << bit }, sealhttp.CodeDecryptionFailed)
		}
	}
	for bit := range 32 {
		send(func(x *srvExchange) { x.kid ^= 1 << bit }, sealhttp.CodeUnknownKey)
	}
	for bit := range 39 {
		if changed := time.Now().Unix() ^ 1<<bit; changed > 999_999_999_999 {
			continue // malformed
		}
		send(func(x *srvExchange) { x.ts ^= 1 << bit }, sealhttp.CodeDecryptionFailed)
	}
	if inserts, lookups := guard.operations(); ran > 0 || inserts > 0 || lookups > 0 {
		t.Errorf("the handler ran %d times, the guard had %d inserts and %d lookups", ran, inserts, lookups)
	}
	t.Logf("%d flipped bits", calls)
}

// srvBody is a body of records that was changed on its way. make makes it, anew for each
// exchange; readable is how much of the plaintext a handler may see at most.
type srvBody struct {
	name     string
	readable int
	byByte   bool // one of many, for each byte
	make     func(t testing.TB, x *srvExchange) []byte
}

var srvTamperedText = []byte("first record, second record, third record")

// srvThree cuts srvTamperedText into three records.
func srvThree(t testing.TB, x *srvExchange) [][]byte {
	t.Helper()
	x.body = true
	return x.records(t, srvTamperedText, srvThird)
}

const srvThird = 14

func srvTamperedBodies(t testing.TB) []srvBody {
	t.Helper()
	join := func(r ...[]byte) []byte { return bytes.Join(r, nil) }
	var all []srvBody
	edit := func(name string, readable int, edit func(r [][]byte) []byte) {
		byByte := strings.HasPrefix(name, "byte ") || strings.HasPrefix(name, "first ")
		all = append(all, srvBody{name, readable, byByte, func(t testing.TB, x *srvExchange) []byte { return edit(srvThree(t, x)) }})
	}
	end, at := 0, 0
	for i, record := range srvThree(t, srvTurn("POST", "/")) {
		for end += len(record); at < end; at++ {
			at := at
			edit(fmt.Sprintf("byte %d", at), i*srvThird, func(r [][]byte) []byte {
				b := join(r...)
				b[at] ^= 1 << (at % 8)
				return b
			})
			edit(fmt.Sprintf("first %d bytes", at), i*srvThird, func(r [][]byte) []byte { return join(r...)[:at] })
		}
	}
	another := srvThree(t, srvTurn("POST", "/"))
	const one, two, three = srvThird, 2 * srvThird, 3*srvThird - 1
	edit("the first dropped", 0, func(r [][]byte) []byte { return join(r[1], r[2]) })
	edit("the second dropped", one, func(r [][]byte) []byte { return join(r[0], r[2]) })
	edit("the last dropped", two, func(r [][]byte) []byte { return join(r[0], r[1]) })
	edit("the first twice", one, func(r [][]byte) []byte { return join(r[0], r[0], r[1], r[2]) })
	edit("the last twice", three, func(r [][]byte) []byte { return join(r[0], r[1], r[2], r[2]) })
	edit("swapped", 0, func(r [][]byte) []byte { return join(r[1], r[0], r[2]) })
	edit("the last two swapped", one, func(r [][]byte) []byte { return join(r[0], r[2], r[1]) })
	edit("all of another exchange", 0, func([][]byte) []byte { return join(another...) })
	edit("one of another exchange", one, func(r [][]byte) []byte { return join(r[0], another[1], r[2]) })
	edit("the last of another exchange", two, func(r [][]byte) []byte { return join(r[0], r[1], another[2]) })
	edit("another exchange's behind", three, func(r [][]byte) []byte { return join(r[0], r[1], r[2], another[0]) })
	edit("a byte behind", three, func(r [][]byte) []byte { return join(r[0], r[1], r[2], []byte{0}) })
	edit("a request behind", three, func(r [][]byte) []byte { return join(r[0], r[1], r[2], []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")) })
	edit("many bytes behind", three, func(r [][]byte) []byte { return join(r[0], r[1], r[2], make([]byte, 100<<10)) })
	edit("a length of 2^62-1", one, func(r [][]byte) []byte { return join(r[0], binary.BigEndian.AppendUint64(nil, 1<<64-1), r[1], r[2]) })
	edit("a length of 0", one, func(r [][]byte) []byte { return join(r[0], []byte{0}, r[1], r[2]) })
	edit("a length of 16", one, func(r [][]byte) []byte { return join(r[0], []byte{16}, r[1], r[2]) })

	// What only the caller itself can make.
	text, rest := srvTamperedText[:srvThird], srvTamperedText[srvThird:]
	own := func(name string, readable int, make func(t testing.TB, x *srvExchange) []byte) {
		all = append(all, srvBody{name, readable, false, func(t testing.TB, x *srvExchange) []byte {
			x.body = true
			x.seal(t)
			return make(t, x)
		}})
	}
	own("a record behind the last", three, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, srvTamperedText, 2, 0), x.record(t, []byte("more"), 2, 0))
	})
	own("an empty record in between", one, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, text, 1, 0), x.record(t, nil, 1, 0), x.record(t, rest, 2, 0))
	})
	own("an empty record with zeros in between", one, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, text, 1, 0), x.record(t, nil, 1, 9), x.record(t, rest, 2, 0))
	})
	own("a record of zeros only", one, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, text, 1, 0), x.rawRecord(t, make([]byte, 20)), x.record(t, rest, 2, 0))
	})
	own("a record of nothing", one, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, text, 1, 0), x.rawRecord(t, nil), x.record(t, rest, 2, 0))
	})
	for _, delimiter := range []byte{3, 4, 0x80, 0xff} {
		own(fmt.Sprint("the delimiter ", delimiter), one, func(t testing.TB, x *srvExchange) []byte {
			return join(x.record(t, text, 1, 0), x.record(t, rest, delimiter, 0))
		})
	}
	own("a record of 65,537 bytes", one, func(t testing.TB, x *srvExchange) []byte {
		return join(x.record(t, text, 1, 0), x.record(t, rest, 2, 65536-len(rest)))
	})
	return all
}

// srvSeen is what a handler read of its body.
type srvSeen struct {
	mu   sync.Mutex
	ran  int
	data []byte
	err  error
}

func (s *srvSeen) set(data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran++
	s.data, s.err = data, err
}

func (s *srvSeen) get() (int, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran, s.data, s.err
}

// Whatever is done to a body, the handler sees no byte that was not authenticated, and no
// clean end; and its caller learns of it, whatever the handler answers.
func TestServerExchangeTamperedBody(t *testing.T) {
	bodies := srvTamperedBodies(t)
	handlers := []struct {
		name   string
		h      func(w http.ResponseWriter, r *http.Request, s *srvSeen)
		silent bool
		byByte bool
	}{
		{"reads and is silent", func(_ http.ResponseWriter, r *http.Request, s *srvSeen) {
			s.set(io.ReadAll(r.Body))
		}, true, true},
		{"reads and answers", func(w http.ResponseWriter, r *http.Request, s *srvSeen) {
			s.set(io.ReadAll(r.Body))
			fmt.Fprint(w, "done")
		}, false, true},
		{"reads and flushes", func(w http.ResponseWriter, r *http.Request, s *srvSeen) {
			s.set(io.ReadAll(r.Body))
			fmt.Fprint(w, "done")
			_ = http.NewResponseController(w).Flush()
		}, false, false},
		{"does not read and is silent", func(_ http.ResponseWriter, _ *http.Request, s *srvSeen) { s.set(nil, nil) }, true, false},
		{"does not read and answers", func(w http.ResponseWriter, _ *http.Request, s *srvSeen) {
			s.set(nil, nil)
			fmt.Fprint(w, "done")
		}, false, false},
	}
	calls := 0
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, h := range handlers {
			reads := !strings.Contains(h.name, "not read")
			for _, body := range bodies {
				if body.byByte && !h.byByte {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", proto, h.name, body.name), func(t *testing.T) {
					var seen srvSeen
					var events []sealhttp.Event
					m := srvMiddleware(t, sealhttp.WithReplayGuard(new(srvGuard)), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
						sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
					current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.h(w, r, &seen) })))
					x := srvTurn("POST", "/")
					a := host.do(t, x.streamed(t, host, bytes.NewReader(body.make(t, x))))
					host.wait()
					ran, data, err := seen.get()
					if ran != 1 {
						t.Fatalf("the handler ran %d times", ran)
					}
					if reads && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, sealhttp.CodeRequestIncomplete)) {
						t.Errorf("reading ended with %v", err)
					}
					if len(data) > body.readable || !bytes.HasPrefix(srvTamperedText, data) {
						t.Errorf("the handler read %q, of which %d bytes authenticate", data, body.readable)
					}
					if h.silent {
						x.refused(t, a, sealhttp.CodeRequestIncomplete, 400, srvCallerKey)
					} else if got := x.broken(t, a, srvCallerKey); !errors.Is(got.err, errSrvTruncated) || got.status != 200 {
						t.Errorf("the caller got status %d, %q, and the end %v", got.status, got.body, got.err)
					}
					if len(events) != 1 || events[0].Code != sealhttp.CodeRequestIncomplete || events[0].Status != a.status || events[0].Err == nil {
						t.Errorf("events %+v", events)
					}
				})
				calls++
			}
		}
	}
	t.Logf("%d changed bodies, %d calls", len(bodies), calls)
}

// The same bodies unchanged, and cut and padded in every way that is allowed.
func TestServerExchangeWholeBodies(t *testing.T) {
	type cutter func(t testing.TB, x *srvExchange) []byte
	lengthOf := func(size int, record []byte) []byte { // with a length of so many bytes
		n, used := 0, 1<<(record[0]>>6)
		for i, c := range record[:used] {
			if i == 0 {
				c &= 0x3f
			}
			n = n<<8 | int(c)
		}
		var b []byte
		switch size {
		case 2:
			b = binary.BigEndian.AppendUint16(nil, uint16(n)|1<<14)
		case 4:
			b = binary.BigEndian.AppendUint32(nil, uint32(n)|2<<30)
		case 8:
			b = binary.BigEndian.AppendUint64(nil, uint64(n)|3<<62)
		}
		return append(b, record[used:]...)
	}
	text := srvTamperedText
	for _, proto := range srvProtos {
		var seen srvSeen
		host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data, err := io.ReadAll(r.Body)
			seen.set(data, err)
			_, _ = w.Write(data)
		})))
		for name, make := range map[string]cutter{
			"one byte a record": func(t testing.TB, x *srvExchange) []byte { return bytes.Join(x.records(t, text, 1), nil) },
			"three records":     func(t testing.TB, x *srvExchange) []byte { return bytes.Join(srvThree(t, x), nil) },
			"an empty last record": func(t testing.TB, x *srvExchange) []byte {
				return slices.Concat(x.record(t, text, 1, 0), x.record(t, nil, 2, 0))
			},
			"padded": func(t testing.TB, x *srvExchange) []byte {
				return slices.Concat(x.record(t, text[:5], 1, 1000), x.record(t, text[5:], 2, 5))
			},
			"padded to the longest record": func(t testing.TB, x *srvExchange) []byte {
				return x.record(t, text, 2, 65535-len(text))
			},
			"an empty last record of zeros": func(t testing.TB, x *srvExchange) []byte {
				return slices.Concat(x.record(t, text, 1, 0), x.record(t, nil, 2, 500))
			},
			"lengths of 2 bytes": func(t testing.TB, x *srvExchange) []byte { return lengthOf(2, x.record(t, text, 2, 0)) },
			"lengths of 4 bytes": func(t testing.TB, x *srvExchange) []byte { return lengthOf(4, x.record(t, text, 2, 0)) },
			"lengths of 8 bytes": func(t testing.TB, x *srvExchange) []byte { return lengthOf(8, x.record(t, text, 2, 0)) },
		} {
			x := srvTurn("POST", "/")
			x.body = true
			x.seal(t)
			got := x.open(t, host.do(t, x.streamed(t, host, bytes.NewReader(make(t, x)))))
			if _, data, err := seen.get(); err != nil || !bytes.Equal(data, text) || !bytes.Equal(got.body, text) {
				t.Errorf("%s, %s: the handler read %q, %v; the caller %q", proto, name, data, err, got.body)
			}
		}
		for _, size := range []int{0, 1, 16383, 16384, 16385, 32768, 100_000, 1 << 20} {
			x := srvTurn("POST", "/")
			text := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
			if got := x.open(t, host.do(t, x.request(t, host, text))); !bytes.Equal(got.body, text) {
				t.Errorf("%s: %d bytes came back as %d", proto, size, len(got.body))
			}
		}
	}
}

// The connection breaks in the middle of the body.
func TestServerExchangeBodyBreaksOff(t *testing.T) {
	for _, lines := range []string{"Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"} {
		var seen srvSeen
		done := make(chan struct{})
		m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
		conn := srvDial(t, m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			defer close(done)
			seen.set(io.ReadAll(r.Body))
		})))
		x := srvTurn("POST", "/")
		x.authority, x.body = "test", true
		records := x.records(t, srvTamperedText, srvThird)
		var head bytes.Buffer
		head.WriteString("POST / HTTP/1.1\r\nHost: test\r\n" + lines)
		srvCheck(t, x.head().Write(&head))
		head.WriteString("\r\n")
		if strings.HasPrefix(lines, "Transfer") {
			fmt.Fprintf(&head, "%x\r\n%s\r\n", len(records[0]), records[0])
		} else {
			head.Write(records[0])
		}
		_, err := conn.Write(head.Bytes())
		srvCheck(t, err)
		srvCheck(t, conn.Conn.(interface{ CloseWrite() error }).CloseWrite())
		srvWithin(t, "the handler", func() { <-done })
		if _, data, err := seen.get(); !bytes.Equal(data, srvTamperedText[:srvThird]) || !errors.Is(err, seal.ErrTruncated) ||
			errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, sealhttp.CodeRequestIncomplete) {
			t.Errorf("%q: the handler read %q, %v", lines, data, err)
		}
		x.refused(t, conn.answer(), sealhttp.CodeRequestIncomplete, 400, srvCallerKey)
	}
}

// srvSealExchange begins an exchange with package seal's own caller, in place of the
// harness's: for what is to be read from responses that were changed.
func srvSealExchange(t testing.TB, x *srvExchange) *seal.Exchange {
	t.Helper()
	sealed, enc, auth, err := x.server.NewExchange(x.hpkeInfo())
	srvCheck(t, err)
	x.enc, x.auth = enc, auth
	return sealed
}

// srvOpenSealed opens a response with package seal's own caller. It returns what was
// read, and what reading ended with.
func srvOpenSealed(x *seal.Exchange, a *srvAnswer) ([]byte, error) {
	lines := a.header["Sealed-Exchange"]
	if len(lines) != 1 {
		return nil, errSrvField
	}
	m := srvResponseField.FindStringSubmatch(lines[0])
	if m == nil {
		return nil, errSrvField
	}
	decode := func(s string) []byte {
		b, _ := base64.StdEncoding.DecodeString(s)
		return b
	}
	h := seal.ResponseHeader{Nonce: decode(m[1]), CallerEnc: decode(m[3]), Auth: decode(m[4])}
	if m[2] != "" && m[2] != strconv.FormatUint(uint64(srvCallerKey.ID()), 10) {
		return nil, errSrvField
	}
	if m[2] == "" {
		h.CallerEnc = nil
	}
	aad := binary.BigEndian.AppendUint16(nil, uint16(a.status))
	if a.header.Get("Content-Type") == sealhttp.ExchangeMediaType {
		aad = append(aad, 1)
	} else {
		aad = append(aad, 0)
	}
	aad = srvPart(srvPart(aad, a.header.Get("Sealed-Content-Type")), a.header.Get("Sealed-Error"))
	records, err := x.OpenResponse(h, srvCallerKey, aad)
	if err != nil {
		return nil, err
	}
	r := records.NewReader(bytes.NewReader(a.body))
	defer r.Close()
	return io.ReadAll(r)
}

// A response that was changed on its way, or is another's, does not open, or not to its
// end; what is read of it is what was sent.
func TestServerExchangeTamperedResponse(t *testing.T) {
	m := srvMiddleware(t)
	host := srvServe(t, "HTTP/2.0", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Free", "a")
		for chunk := range slices.Chunk(srvTamperedText, srvThird) {
			_, _ = w.Write(chunk)
			if len(chunk) == srvThird {
				w.(http.Flusher).Flush()
			}
		}
	})))
	call := func() (*seal.Exchange, *srvAnswer) {
		x := srvTurn("GET", "/")
		sealed := srvSealExchange(t, x)
		a := host.do(t, host.request(t, x.method, x.target, nil, x.head()))
		if data, err := srvOpenSealed(sealed, a); err != nil || !bytes.Equal(data, srvTamperedText) {
			t.Fatalf("unchanged: %q, %v", data, err)
		}
		return sealed, a
	}
	x, a := call()
	otherX, other := call()
	calls := 0
	fails := func(name string, readable int, edit func(a *srvAnswer)) {
		t.Helper()
		calls++
		changed := *a
		changed.header, changed.body = a.header.Clone(), bytes.Clone(a.body)
		edit(&changed)
		data, err := srvOpenSealed(x, &changed)
		if err == nil || errors.Is(err, io.EOF) || len(data) > readable || !bytes.HasPrefix(srvTamperedText, data) {
			t.Errorf("%s: %q, %v; %d bytes are readable", name, data, err, readable)
		}
	}
	setHeader := func(name string, lines ...string) func(*srvAnswer) {
		return func(a *srvAnswer) { a.header[name] = lines }
	}
	head := srvResponseField.FindStringSubmatch(a.header.Get("Sealed-Exchange"))
	for group, name := range map[int]string{1: "nonce", 3: "cenc", 4: "auth"} {
		value, _ := base64.StdEncoding.DecodeString(head[group])
		for i := range value {
			for bit := range 8 {
				changed := bytes.Clone(value)
				changed[i] ^= 1 << bit
				fails(fmt.Sprintf("%s, byte %d, bit %d", name, i, bit), 0, setHeader("Sealed-Exchange",
					strings.Replace(a.header.Get("Sealed-Exchange"), head[group], base64.StdEncoding.EncodeToString(changed), 1)))
			}
		}
	}
	fails("without cenc", 0, setHeader("Sealed-Exchange", fmt.Sprintf("v=1, nonce=:%s:, auth=:%s:", head[1], head[4])))
	for status := 100; status < 1000; status++ {
		if status != a.status {
			fails(fmt.Sprint("status ", status), 0, func(a *srvAnswer) { a.status = status })
		}
	}
	fails("Sealed-Content-Type", 0, setHeader("Sealed-Content-Type", "text/html"))
	fails("no Sealed-Content-Type", 0, func(a *srvAnswer) { delete(a.header, "Sealed-Content-Type") })
	fails("Sealed-Error", 0, setHeader("Sealed-Error", "stale"))
	fails("no body", 0, func(a *srvAnswer) { delete(a.header, "Content-Type"); a.body = nil })
	fails("another's", 0, func(a *srvAnswer) { *a = *other })
	fails("another's header", 0, func(a *srvAnswer) { a.header = other.header })
	fails("another's body", 0, func(a *srvAnswer) { a.body = other.body })
	if _, err := srvOpenSealed(otherX, a); err == nil {
		t.Error("a response opens for another request")
	}
	third := len(srvVarint(srvThird+17)) + srvThird + 17
	for i := range a.body {
		for bit := range 8 {
			fails(fmt.Sprintf("byte %d, bit %d", i, bit), i/third*srvThird, func(a *srvAnswer) { a.body[i] ^= 1 << bit })
		}
		fails(fmt.Sprintf("first %d bytes", i), i/third*srvThird, func(a *srvAnswer) { a.body = a.body[:i] })
	}
	one, two, three := a.body[:third], a.body[third:2*third], a.body[2*third:]
	for name, body := range map[string][][]byte{
		"first dropped": {two, three}, "second dropped": {one, three}, "last dropped": {one, two}, "first twice": {one, one, two, three},
		"last twice": {one, two, three, three}, "swapped": {two, one, three}, "another's record": {one, other.body[third : 2*third], three},
		"a byte behind": {one, two, three, {0}},
	} {
		fails(name, len(srvTamperedText), func(a *srvAnswer) { a.body = bytes.Join(body, nil) })
	}
	t.Logf("%d changed responses", calls)
}
