package sealhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// srvDuplex are the ways in which a request may be read after the response has begun.
type srvDuplex struct {
	name, proto string
	full        bool // EnableFullDuplex
}

var srvDuplexes = []srvDuplex{
	{"HTTP/1.1", "HTTP/1.1", false},
	{"HTTP/1.1, full duplex", "HTTP/1.1", true},
	{"HTTP/2.0", "HTTP/2.0", false},
}

// handler makes h one that has full duplex where this is it.
func (d srvDuplex) handler(t testing.TB, h http.HandlerFunc) http.HandlerFunc {
	if !d.full {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		h(w, r)
	}
}

// later reports whether the handler can read on after it has begun to answer.
func (d srvDuplex) later() bool { return d.full || d.proto == "HTTP/2.0" }

// What a handler leaves of a body must authenticate before the caller gets a complete
// response, whatever the response is.
func TestServerExchangeDrain(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 3000) // three records
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	answers := []struct {
		name     string
		method   string
		status   int
		bodiless bool
		silent   bool
		answer   func(w http.ResponseWriter)
	}{
		{"silent", "POST", 200, false, true, func(http.ResponseWriter) {}},
		{"silent but for 103", "POST", 200, false, true, func(w http.ResponseWriter) { w.WriteHeader(103) }},
		{"silent, to HEAD", "HEAD", 200, true, true, func(http.ResponseWriter) {}},
		{"a body", "POST", 200, false, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
		{"a status", "POST", 201, false, false, func(w http.ResponseWriter) { w.WriteHeader(201) }},
		{"a large body", "POST", 200, false, false, func(w http.ResponseWriter) { _, _ = w.Write(text) }},
		{"a flushed status", "POST", 200, false, false, func(w http.ResponseWriter) { flush(w) }},
		{"a flushed body", "POST", 200, false, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done"); flush(w) }},
		{"204", "POST", 204, true, false, func(w http.ResponseWriter) { w.WriteHeader(204) }},
		{"304", "POST", 304, true, false, func(w http.ResponseWriter) { w.WriteHeader(304) }},
		{"204, flushed", "POST", 204, true, false, func(w http.ResponseWriter) { w.WriteHeader(204); flush(w) }},
		{"to HEAD", "HEAD", 200, true, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
		{"a large one to HEAD", "HEAD", 200, true, false, func(w http.ResponseWriter) { _, _ = w.Write(text) }},
		{"to HEAD, flushed", "HEAD", 200, true, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done"); flush(w) }},
	}
	reads := []struct {
		name string
		n    int
	}{{"nothing", 0}, {"half", len(text) / 2}, {"all but the end", len(text)}}
	rests := []struct {
		name   string
		broken bool
		edit   func(body []byte) []byte
	}{
		{"good", false, func(b []byte) []byte { return b }},
		{"changed", true, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"cut", true, func(b []byte) []byte { return b[:len(b)-1] }},
		{"continued", true, func(b []byte) []byte { return append(b, 0) }},
	}
	calls := 0
	for _, duplex := range srvDuplexes {
		var current srvSwap
		host := srvServe(t, duplex.proto, &current)
		for _, answer := range answers {
			for _, read := range reads {
				for _, rest := range rests {
					if read.n == len(text) && rest.broken && rest.name != "continued" {
						continue // then it could not have been read
					}
					t.Run(fmt.Sprintf("%s/%s/reads %s, the rest is %s", duplex.name, answer.name, read.name, rest.name), func(t *testing.T) {
						var events []sealhttp.Event
						m := srvMiddleware(t, sealhttp.WithReplayGuard(new(srvGuard)), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
							sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
						current.set(m.Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
							got := make([]byte, read.n)
							if _, err := io.ReadFull(r.Body, got); err != nil || !bytes.Equal(got, text[:read.n]) {
								t.Errorf("the handler could not read what is good: %v", err)
							}
							answer.answer(w)
						})))
						x := srvTurn(answer.method, "/")
						x.body = true
						body := rest.edit(bytes.Join(x.records(t, text, srvRecordData), nil))
						req := x.streamed(t, host, bytes.NewReader(body))
						req.GetBody = nil // or net/http sends it again when the connection breaks
						a := host.do(t, req)
						host.wait()
						event := sealhttp.Event{Status: answer.status}
						switch {
						case !rest.broken:
							if got := x.open(t, a); got.status != answer.status {
								t.Errorf("status %d", got.status)
							}
						case answer.silent:
							x.refused(t, a, sealhttp.CodeRequestIncomplete, 400, srvCallerKey)
							event = sealhttp.Event{Status: 400, Code: sealhttp.CodeRequestIncomplete}
						case answer.bodiless:
							if a.err == nil {
								t.Errorf("a complete response: status %d, header %v", a.status, a.header)
							}
							event = sealhttp.Event{Code: sealhttp.CodeRequestIncomplete}
						default:
							if got := x.broken(t, a, srvCallerKey); !errors.Is(got.err, errSrvTruncated) || got.status != answer.status {
								t.Errorf("status %d, the end %v", got.status, got.err)
							}
							event.Code = sealhttp.CodeRequestIncomplete
						}
						event.CallInfo = sealhttp.CallInfo{Profile: sealhttp.ExchangeProfile, KeyID: srvKey.ID(), CallerKeyID: srvCallerKey.ID(), RequestSealed: true, ResponseSealed: true}
						if len(events) != 1 || (events[0].Err != nil) != rest.broken {
							t.Fatalf("events %+v", events)
						}
						events[0].Err = nil
						if events[0] != event {
							t.Errorf("event %+v, want %+v", events[0], event)
						}
					})
					calls++
				}
			}
		}
	}
	t.Logf("%d calls", calls)
}

// srvUpload is a body that a test sends piece by piece.
type srvUpload struct {
	*io.PipeWriter
	x *srvExchange
	t testing.TB
}

func (u *srvUpload) send(data string, delimiter byte) {
	u.t.Helper()
	if _, err := u.Write(u.x.record(u.t, []byte(data), delimiter, 0)); err != nil {
		u.t.Errorf("sending %q: %v", data, err)
	}
}

// upload begins a call whose body is to come. The response comes when the function is
// called that it returns.
func (h *srvHost) upload(t testing.TB, ctx context.Context, x *srvExchange) (*srvUpload, func() (*http.Response, error)) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.CloseWithError(errors.New("the test is over")) })
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) }) // net/http waits for a read of the body to return
	req := x.streamed(t, h, r).WithContext(ctx)
	type result struct {
		resp *http.Response
		err  error
	}
	results := make(chan result, 1)
	go func() {
		resp, err := h.client.Do(req)
		results <- result{resp, err}
	}()
	return &srvUpload{w, x, t}, func() (*http.Response, error) {
		select {
		case r := <-results:
			return r.resp, r.err
		case <-time.After(srvTimeout):
			t.Fatal("no response")
			return nil, nil
		}
	}
}

// srvReceive begins to open a response.
func srvReceive(t testing.TB, x *srvExchange, resp *http.Response, err error) *srvIncoming {
	t.Helper()
	srvCheck(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	reply, err := x.openHead(resp.StatusCode, resp.Header, resp.Body, srvCallerKey)
	srvCheck(t, err)
	return reply
}

// A handler that answers each line as it comes gets each line as it comes.
func TestServerExchangeDuplex(t *testing.T) {
	const rounds = 50
	for _, duplex := range srvDuplexes[1:] {
		t.Run(duplex.name, func(t *testing.T) {
			host := srvServe(t, duplex.proto, srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				if err := rc.Flush(); err != nil {
					t.Error(err)
				}
				lines := bufio.NewScanner(r.Body)
				for lines.Scan() {
					fmt.Fprintf(w, "you said %s\n", lines.Text())
					if err := rc.Flush(); err != nil {
						t.Error(err)
					}
				}
				fmt.Fprint(w, "bye ", lines.Err())
			})))
			x := srvTurn("POST", "/")
			start := time.Now()
			up, response := host.upload(t, t.Context(), x)
			resp, err := response()
			reply := srvReceive(t, x, resp, err)
			for i := range rounds {
				line := fmt.Sprint("line ", i)
				up.send(line+"\n", 1)
				if got, err := reply.record(); err != nil || string(got) != "you said "+line+"\n" {
					t.Fatalf("line %d: %q, %v", i, got, err)
				}
			}
			up.send("", 2)
			srvCheck(t, up.Close())
			if got, err := reply.record(); err != nil || string(got) != "bye <nil>" || !reply.ended {
				t.Errorf("the end: %q, %v", got, err)
			}
			if took := time.Since(start); took > srvDrainTime {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// The last record is not the end: the transport's is.
func TestServerExchangeEndOfBody(t *testing.T) {
	for _, duplex := range srvDuplexes {
		for _, more := range []bool{false, true} {
			read := make(chan error, 1)
			host := srvServe(t, duplex.proto, srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
				b := make([]byte, 5)
				if _, err := io.ReadFull(r.Body, b); err != nil || string(b) != "hello" {
					t.Errorf("%q, %v", b, err)
				}
				_, err := io.Copy(io.Discard, r.Body)
				read <- err
			})))
			x := srvTurn("POST", "/")
			up, response := host.upload(t, t.Context(), x)
			up.send("hello", 2)
			select {
			case err := <-read:
				t.Errorf("%s: before the end, reading has ended: %v", duplex.name, err)
			case <-time.After(20 * time.Millisecond):
			}
			if more {
				_, err := up.Write([]byte{0})
				srvCheck(t, err)
			}
			srvCheck(t, up.Close())
			resp, err := response()
			reply := srvReceive(t, x, resp, err)
			if err := <-read; more != errors.Is(err, sealhttp.CodeRequestIncomplete) || more != (reply.code == sealhttp.CodeRequestIncomplete) {
				t.Errorf("%s, more %t: %v, code %q", duplex.name, more, err, reply.code)
			}
		}
	}
}

// The bounds of draining.
const (
	srvDrainTime  = 5 * time.Second
	srvDrainBytes = 256 << 10
)

// A rest that does not come is waited for 5 seconds, while what was written is on its
// way already where that can be. Then the response is completed, and on HTTP/1.1 its
// connection closed.
func TestServerExchangeStalledRest(t *testing.T) {
	branches := map[string]func(t testing.TB){}
	for _, duplex := range srvDuplexes {
		for _, tt := range []struct {
			name     string
			read     int
			leave    bool // a goroutine that reads on
			bodiless bool
			answer   func(w http.ResponseWriter)
		}{
			{"reads nothing, answers", 0, false, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
			{"reads something, answers", 5, false, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
			{"reads something, flushes", 5, false, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done"); w.(http.Flusher).Flush() }},
			{"reads nothing, silent", 0, false, false, func(http.ResponseWriter) {}},
			{"reads something, 204", 5, false, true, func(w http.ResponseWriter) { w.WriteHeader(204) }},
			{"leaves a reader behind, answers", 23, true, false, func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
			{"leaves a reader behind, silent", 23, true, false, func(http.ResponseWriter) {}},
		} {
			branches[duplex.name+"/"+tt.name] = func(t testing.TB) {
				var late atomic.Int32 // readers that were left behind
				left := make(chan struct{})
				answered := make(chan struct{}, 1)
				h := srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadFull(r.Body, make([]byte, tt.read)); err != nil {
						t.Error(err)
					}
					if tt.leave {
						late.Add(1)
						go func() {
							defer late.Add(-1)
							defer close(left)
							if n, err := r.Body.Read(make([]byte, 10)); n > 0 || err == nil || errors.Is(err, io.EOF) {
								t.Errorf("what was left behind read %d bytes, %v", n, err)
							}
						}()
						time.Sleep(50 * time.Millisecond) // until it waits
					}
					tt.answer(w)
				}))
				host := srvServe(t, duplex.proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					h.ServeHTTP(w, r)
					answered <- struct{}{}
				}))
				x := srvTurn("POST", "/")
				start := time.Now()
				up, response := host.upload(t, t.Context(), x)
				up.send("hello, and more to come", 1)
				resp, err := response()
				head := time.Since(start)
				reply := srvReceive(t, x, resp, err)
				if reply.hasBody == tt.bodiless {
					t.Errorf("it has a body: %v", reply.hasBody)
				}
				var got []byte
				var first time.Duration
				for reply.hasBody {
					data, err := reply.record()
					if first == 0 {
						first = time.Since(start)
					}
					got = append(got, data...)
					if err == io.EOF {
						break
					}
					srvCheck(t, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				whole := time.Since(start)
				silent := strings.HasSuffix(tt.name, "silent")
				if want := "done"; !silent && !tt.bodiless && string(got) != want || silent && len(got) > 0 {
					t.Errorf("the body is %q", got)
				}
				if whole < srvDrainTime-time.Second/2 || whole > 2*srvDrainTime {
					t.Errorf("the response was whole after %v", whole)
				}
				early := duplex.later() && !silent && !tt.bodiless
				if duplex.proto == "HTTP/2.0" && tt.read == 0 {
					early = false // a caller that waits for 100 must get it before the header
				}
				if early != (first > 0 && first < srvDrainTime/2) {
					t.Errorf("the header came after %v, the first record after %v", head, first)
				}
				srvWithin(t, "the handler", func() { <-answered })
				if tt.leave {
					srvWithin(t, "what was left behind", func() { <-left })
				}
				if duplex.proto == "HTTP/1.1" && !duplex.full && !resp.Close {
					t.Error("the connection is not closed")
				}
			}
		}
	}
	srvAtOnce(t, branches)
	t.Logf("%d calls", len(branches))
}

// srvEndless are good records without end.
type srvEndless struct {
	t    testing.TB
	x    *srvExchange
	rest []byte
	sent atomic.Int64
}

func (e *srvEndless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.x.record(e.t, make([]byte, srvRecordData), 1, 0)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	e.sent.Add(int64(n))
	return n, nil
}

// A rest that does not end is read for 256 KiB.
func TestServerExchangeEndlessRest(t *testing.T) {
	branches := map[string]func(t testing.TB){}
	for _, duplex := range srvDuplexes {
		for name, answer := range map[string]func(w http.ResponseWriter){
			"silent":  func(http.ResponseWriter) {},
			"answers": func(w http.ResponseWriter) { fmt.Fprint(w, "done") },
			"flushes": func(w http.ResponseWriter) { fmt.Fprint(w, "done"); w.(http.Flusher).Flush() },
			"204":     func(w http.ResponseWriter) { w.WriteHeader(204) },
		} {
			branches[duplex.name+"/"+name] = func(t testing.TB) {
				var remotes []string
				host := srvServe(t, duplex.proto, srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
					remotes = append(remotes, r.RemoteAddr)
					_, _ = r.Body.Read(make([]byte, 10))
					answer(w)
				})))
				x := srvTurn("POST", "/")
				x.body = true
				x.seal(t)
				body := &srvEndless{t: t, x: x}
				start := time.Now()
				a := host.do(t, x.streamed(t, host, body))
				x.open(t, a)
				if took := time.Since(start); took > srvDrainTime-time.Second {
					t.Errorf("it took %v", took)
				}
				if sent := body.sent.Load(); sent < srvDrainBytes {
					t.Errorf("%d bytes were read", sent)
				}
				if duplex.proto == "HTTP/1.1" && !duplex.full && !a.closing {
					t.Error("the connection is not closed")
				}
				x = srvTurn("GET", "/")
				x.open(t, host.do(t, x.request(t, host, nil)))
				if duplex.proto == "HTTP/1.1" && (len(remotes) != 2 || remotes[0] == remotes[1]) {
					t.Errorf("the connection was used again: %v", remotes)
				}
			}
		}
	}
	srvAtOnce(t, branches)
}

// A caller that waits to be asked for the body is not asked by a handler that does not
// want it. On HTTP/2 it is asked all the same: net/http hides that it waits. (A handler
// that flushes there before it has read leaves no time to ask.)
func TestServerExchangeExpectContinue(t *testing.T) {
	for _, proto := range srvProtos {
		for name, answer := range map[string]struct {
			method string
			answer func(w http.ResponseWriter)
		}{
			"silent":  {"POST", func(http.ResponseWriter) {}},
			"answers": {"POST", func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
			"flushes": {"POST", func(w http.ResponseWriter) { fmt.Fprint(w, "done"); w.(http.Flusher).Flush() }},
			"204":     {"POST", func(w http.ResponseWriter) { w.WriteHeader(204) }},
			"HEAD":    {"HEAD", func(w http.ResponseWriter) { fmt.Fprint(w, "done") }},
		} {
			if proto == "HTTP/2.0" && name == "flushes" {
				continue
			}
			t.Run(proto+"/"+name, func(t *testing.T) {
				host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer.answer(w) })))
				x := srvTurn(answer.method, "/")
				x.header.Set("Expect", "100-continue")
				start := time.Now()
				req := x.request(t, host, []byte("hello"))
				if proto == "HTTP/1.1" {
					req.Body = srvUnread(t)
				}
				a := host.do(t, req)
				x.open(t, a)
				if took := time.Since(start); took > srvDrainTime-time.Second {
					t.Errorf("it took %v", took)
				}
				if proto == "HTTP/1.1" && !a.closing {
					t.Error("the connection is not closed")
				}
			})
		}
		t.Run(proto+"/read in part", func(t *testing.T) {
			host := srvServe(t, proto, srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b := make([]byte, 5)
				_, err := io.ReadFull(r.Body, b)
				fmt.Fprint(w, string(b), err)
			})))
			for _, broken := range []bool{false, true} {
				x := srvTurn("POST", "/")
				x.header.Set("Expect", "100-continue")
				x.body = true
				body := bytes.Join(x.records(t, []byte("hello world"), 5), nil)
				if broken {
					body[len(body)-1] ^= 1
				}
				got := x.broken(t, host.do(t, x.streamed(t, host, bytes.NewReader(body))), srvCallerKey)
				if string(got.body) != "hello<nil>" || broken != errors.Is(got.err, errSrvTruncated) {
					t.Errorf("broken %t: %q, %v", broken, got.body, got.err)
				}
			}
		})
		t.Run(proto+"/refused", func(t *testing.T) {
			m := srvMiddleware(t, sealhttp.WithMaxStreamBytes(100), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
			host := srvServe(t, proto, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })))
			x := srvTurn("POST", "/")
			x.header.Set("Expect", "100-continue")
			req := x.streamed(t, host, srvUnread(t))
			req.ContentLength = 1000
			x.refused(t, host.do(t, req), sealhttp.CodeTooLarge, 413, srvCallerKey)
		})
	}
}

// A connection is used again after a call, whether the handler has read the body or not.
func TestServerExchangeKeepsConnections(t *testing.T) {
	for _, duplex := range srvDuplexes {
		var remotes []string
		host := srvServe(t, duplex.proto, srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
			remotes = append(remotes, r.RemoteAddr)
			switch r.URL.Path {
			case "/all":
				_, _ = io.Copy(io.Discard, r.Body)
			case "/some":
				_, _ = r.Body.Read(make([]byte, 10))
			case "/close":
				_ = r.Body.Close()
			}
			fmt.Fprint(w, "done")
		})))
		for _, path := range []string{"/all", "/some", "/none", "/close", "/all", "/refused", "/all"} {
			for _, size := range []int{100, 100_000} {
				x := srvTurn("POST", path)
				if path == "/refused" {
					x.ts = 0
				}
				if got := x.open(t, host.do(t, x.request(t, host, make([]byte, size)))); got.closing {
					t.Errorf("%s%s: the connection is closed", duplex.name, path)
				}
			}
		}
		for _, remote := range remotes {
			if remote != remotes[0] {
				t.Errorf("%s: more than one connection: %v", duplex.name, remotes)
				break
			}
		}
	}
}

// Whenever a caller leaves, what served it ends.
func TestServerExchangeCancelled(t *testing.T) {
	big := make([]byte, 1<<20)
	for _, duplex := range srvDuplexes {
		for _, tt := range []struct {
			name  string
			serve func(w http.ResponseWriter, r *http.Request, reached chan<- struct{})
		}{
			{"while the handler reads", func(_ http.ResponseWriter, r *http.Request, reached chan<- struct{}) {
				close(reached)
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					t.Error("a body that was not sent has an end")
				}
			}},
			{"while the handler waits", func(_ http.ResponseWriter, r *http.Request, reached chan<- struct{}) {
				close(reached)
				if duplex.proto == "HTTP/1.1" { // where net/http sees that the caller has left only when it reads
					_, _ = io.Copy(io.Discard, r.Body)
				}
				<-r.Context().Done()
			}},
			{"while the handler writes", func(w http.ResponseWriter, r *http.Request, reached chan<- struct{}) {
				_, _ = r.Body.Read(make([]byte, 5))
				close(reached)
				for {
					if _, err := w.Write(big); err != nil {
						return
					}
				}
			}},
			{"while the handler flushes", func(w http.ResponseWriter, r *http.Request, reached chan<- struct{}) {
				_, _ = r.Body.Read(make([]byte, 5))
				close(reached)
				for {
					if _, err := w.Write([]byte("x")); err != nil {
						return
					}
					if err := http.NewResponseController(w).Flush(); err != nil {
						return
					}
				}
			}},
			{"while the rest is drained", func(w http.ResponseWriter, _ *http.Request, reached chan<- struct{}) {
				close(reached)
				fmt.Fprint(w, "done")
			}},
			{"while a reader is left behind", func(w http.ResponseWriter, r *http.Request, reached chan<- struct{}) {
				go func() { _, _ = io.Copy(io.Discard, r.Body) }()
				close(reached)
				fmt.Fprint(w, "done")
			}},
		} {
			t.Run(duplex.name+"/"+tt.name, func(t *testing.T) {
				before := runtime.NumGoroutine()
				reached := make(chan struct{})
				var events []sealhttp.Event
				m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
					sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
				host := srvServe(t, duplex.proto, m.Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
					tt.serve(w, r, reached)
				})))
				x := srvTurn("POST", "/")
				ctx, cancel := context.WithCancel(t.Context())
				up, response := host.upload(t, ctx, x)
				up.send("hello", 1)
				srvWithin(t, "the handler", func() { <-reached })
				time.Sleep(10 * time.Millisecond)
				start := time.Now()
				cancel()
				if resp, err := response(); err == nil {
					_ = resp.Body.Close()
				}
				srvWithin(t, "serving", host.wait)
				if took := time.Since(start); took > srvDrainTime-time.Second {
					t.Errorf("it went on for %v", took)
				}
				_ = up.Close()
				host.Close()
				host.client.CloseIdleConnections()
				for deadline := time.Now().Add(srvTimeout); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						stacks := make([]byte, 1<<20)
						t.Fatalf("%d goroutines, before there were %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
					}
				}
				if len(events) != 1 {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
}

// An answer that is ready before the body was read does not wait for the bound of
// draining, however callers take it: Go's client stops sending on HTTP/2 when it is told
// of an error.
func TestServerExchangeEarlyAnswers(t *testing.T) {
	for _, duplex := range srvDuplexes {
		host := srvServe(t, duplex.proto, srvMiddleware(t).Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("read") {
				_, _ = r.Body.Read(make([]byte, 10))
			}
			status, _ := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
			http.Error(w, "an early answer", status)
		})))
		for _, status := range []int{200, 307, 404, 500} {
			for _, size := range []int{100, 200_000, 1 << 20} {
				for _, query := range []string{"", "?read"} {
					x := srvTurn("POST", fmt.Sprint("/", status, query))
					start := time.Now()
					got := x.open(t, host.do(t, x.request(t, host, make([]byte, size))))
					if duplex.full { // the header was sent before it was known that the connection would be closed
						host.client.CloseIdleConnections()
					}
					if took := time.Since(start); got.status != status || took > srvDrainTime-time.Second {
						t.Errorf("%s, %d bytes to %s: status %d after %v", duplex.name, size, x.target, got.status, took)
					}
				}
			}
		}
	}
}
