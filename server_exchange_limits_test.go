package sealhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// WithMaxStreamBytes bounds what a handler can read, whatever Content-Length says, and
// padding counts.
func TestServerExchangeRequestLimit(t *testing.T) {
	const limit = 20_000
	type body func(t testing.TB, x *srvExchange) []byte
	records := func(n, size int) body {
		return func(t testing.TB, x *srvExchange) []byte { return bytes.Join(x.records(t, make([]byte, n), size), nil) }
	}
	padded := func(n, zeros int) body {
		return func(t testing.TB, x *srvExchange) []byte { return x.record(t, make([]byte, n), 2, zeros) }
	}
	for _, duplex := range srvDuplexes {
		var current srvSwap
		host := srvServe(t, duplex.proto, &current)
		for _, tt := range []struct {
			name    string
			body    body
			chunked bool
			ran     bool // the handler
			taken   bool // all of the body
		}{
			{"the limit", records(limit, srvRecordData), false, true, true},
			{"the limit, chunked", records(limit, srvRecordData), true, true, true},
			{"the limit with padding, chunked", padded(limit-5000, 5000), true, true, true},
			{"a byte more", records(limit+1, srvRecordData), false, true, false}, // lengths of records could take more
			{"some bytes more", records(limit+10, srvRecordData), false, false, false},
			{"a byte more, chunked", records(limit+1, srvRecordData), true, true, false},
			{"a byte more by padding", padded(10, limit-9), false, true, false}, // Content-Length could still fit
			{"a byte more by padding, chunked", padded(10, limit-9), true, true, false},
			{"the limit in short records", records(limit, 7), true, true, true},
			{"far more", records(10*limit, srvRecordData), false, false, false},
			{"far more, chunked", records(10*limit, srvRecordData), true, true, false},
		} {
			for _, answer := range []string{"silent", "answers", "answers 413", "does not read"} {
				t.Run(duplex.name+"/"+tt.name+"/"+answer, func(t *testing.T) {
					ran := false
					var read int
					var err error
					var events []sealhttp.Event
					m := srvMiddleware(t, sealhttp.WithMaxStreamBytes(limit), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
						sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
					current.set(m.Handler(duplex.handler(t, func(w http.ResponseWriter, r *http.Request) {
						ran = true
						if answer != "does not read" {
							var b []byte
							b, err = io.ReadAll(r.Body)
							read = len(b)
						}
						switch answer {
						case "answers", "does not read":
							fmt.Fprint(w, "done")
						case "answers 413":
							http.Error(w, "too much for me", http.StatusRequestEntityTooLarge)
						}
					})))
					x := srvTurn("POST", "/")
					x.body = true
					x.seal(t)
					req := x.streamed(t, host, bytes.NewReader(tt.body(t, x)))
					if tt.chunked {
						req.ContentLength = -1
					}
					a := host.do(t, req)
					host.wait()
					host.client.CloseIdleConnections() // which the server does too, where it has not read all
					if ran != tt.ran {
						t.Fatalf("the handler ran: %v", ran)
					}
					event := sealhttp.Code("")
					switch {
					case !tt.ran:
						event = sealhttp.CodeTooLarge
						x.refused(t, a, event, 413, srvCallerKey)
					case answer == "silent" && !tt.taken:
						event = sealhttp.CodeTooLarge
						x.refused(t, a, event, 413, srvCallerKey)
					default:
						want := 200
						if answer == "answers 413" {
							want = 413
						}
						if got := x.open(t, a); got.status != want || got.code != "" {
							t.Errorf("status %d, code %q", got.status, got.code)
						}
					}
					if len(events) != 1 || events[0].Code != event {
						t.Errorf("events %+v", events)
					}
					if !tt.ran || answer == "does not read" {
						return
					}
					var tooLarge *http.MaxBytesError
					if tt.taken != (err == nil) || err != nil && (!errors.As(err, &tooLarge) || tooLarge.Limit != limit || !errors.Is(err, sealhttp.CodeTooLarge)) {
						t.Errorf("reading ended with %v", err)
					}
					if read > limit {
						t.Errorf("%d bytes were read", read)
					}
				})
			}
		}
	}
}

// A limit of net/http's further out is one, too.
func TestServerExchangeLimitOutside(t *testing.T) {
	for _, proto := range srvProtos {
		for _, answer := range []string{"", "done"} {
			m := srvMiddleware(t, sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
			host := srvServe(t, proto, http.MaxBytesHandler(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var tooLarge *http.MaxBytesError
				if b, err := io.ReadAll(r.Body); len(b) > 10_000 || !errors.As(err, &tooLarge) || !errors.Is(err, sealhttp.CodeTooLarge) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
				if answer != "" {
					fmt.Fprint(w, answer)
				}
			})), 10_000))
			x := srvTurn("POST", "/")
			x.body = true
			req := x.streamed(t, host, bytes.NewReader(bytes.Join(x.records(t, make([]byte, 20_000), 1000), nil)))
			req.ContentLength = -1
			a := host.do(t, req)
			if answer == "" {
				x.refused(t, a, sealhttp.CodeTooLarge, 413, srvCallerKey)
			} else if got := x.open(t, a); string(got.body) != answer {
				t.Errorf("%s: %q", proto, got.body)
			}
		}
	}
}

// WithMaxStreamBytes bounds what a handler can write.
func TestServerExchangeResponseLimit(t *testing.T) {
	const limit = 20_000
	for _, proto := range srvProtos {
		var current srvSwap
		host := srvServe(t, proto, &current)
		for _, tt := range []struct {
			name   string
			writes []int
			flush  bool
			want   int // bytes that arrive, -1 for a refusal
			whole  bool
		}{
			{"the limit", []int{limit}, false, limit, true},
			{"the limit in two", []int{limit - 1, 1}, true, limit, true},
			{"more at once", []int{limit + 1}, false, -1, false},
			{"more in two, nothing sent", []int{100, limit}, false, -1, false},
			{"more in two, flushed", []int{100, limit}, true, 100, false},
			{"more, and then little", []int{100, limit, 1}, true, 100, false},
		} {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				var events []sealhttp.Event
				m := srvMiddleware(t, sealhttp.WithMaxStreamBytes(limit), sealhttp.WithLogger(slog.New(slog.DiscardHandler)),
					sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { events = append(events, e) }))
				current.set(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					total, failed := 0, false
					for _, n := range tt.writes {
						total += n
						failed = failed || total > limit
						written, err := w.Write(make([]byte, n))
						if failed && (written != 0 || !errors.Is(err, sealhttp.CodeResponseTooLarge)) || !failed && err != nil {
							t.Errorf("after %d bytes: %d, %v", total, written, err)
						}
						if tt.flush {
							if err := http.NewResponseController(w).Flush(); failed != errors.Is(err, sealhttp.CodeResponseTooLarge) {
								t.Errorf("after %d bytes, Flush: %v", total, err)
							}
						}
					}
				})))
				x := srvTurn("GET", "/")
				a := host.do(t, x.request(t, host, nil))
				host.wait()
				code := sealhttp.CodeResponseTooLarge
				if tt.want < 0 {
					x.refused(t, a, code, 500, srvCallerKey)
				} else if got := x.broken(t, a, srvCallerKey); len(got.body) != tt.want || tt.whole != (got.err == nil) {
					t.Errorf("%d bytes, %v", len(got.body), got.err)
				}
				if tt.whole {
					code = ""
				}
				if len(events) != 1 || events[0].Code != code {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
}

// Nothing of a body is held but a record, either way.
func TestServerExchangeHoldsOneRecord(t *testing.T) {
	const size = 32 << 20
	host := srvServe(t, "HTTP/2.0", srvMiddleware(t).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(w, r.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})))
	x := srvTurn("POST", "/")
	x.body = true
	x.seal(t)
	sent := 0
	var record []byte
	req := x.streamed(t, host, srvReader(func(p []byte) (int, error) {
		if len(record) == 0 {
			if sent > size {
				return 0, io.EOF
			}
			n, delimiter := min(srvRecordData, size-sent), byte(1)
			if n == 0 {
				delimiter, sent = 2, sent+1
			}
			record = x.record(t, make([]byte, n), delimiter, 0)
			sent += n
		}
		n := copy(p, record)
		record = record[n:]
		return n, nil
	}))
	resp, err := host.client.Do(req)
	reply := srvReceive(t, x, resp, err)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	received, most := 0, uint64(0)
	for {
		data, err := reply.record()
		received += len(data)
		if err == io.EOF {
			break
		}
		srvCheck(t, err)
		if reply.sequence%256 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	if received != size {
		t.Errorf("%d bytes came back", received)
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > size/2 { // HTTP/2 has buffers, too
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
