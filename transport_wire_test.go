package sealhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// The searches below would be worth nothing if they did not find a plaintext.
func TestTransportWiretapFindsPlaintext(t *testing.T) {
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base, wire := trServeClear(t, h2, trEcho)
		trDo(t, base, trRequest(t, "POST", srv.URL, strings.NewReader("abc"+trCanary+"def")))
		if !trHolds(wire.all(), []byte(trCanary)) {
			t.Error("a plaintext body was not found")
		}
	})
	for _, form := range trForms([]byte(trCanary)) {
		if !trHolds(slices.Concat([]byte("x"), form, []byte("y")), []byte(trCanary)) {
			t.Errorf("%q was not found", form)
		}
	}
}

func TestTransportSendsNoPlaintext(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base, wire := trServeClear(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		for _, method := range []string{"POST", "PUT", "GET", "DELETE"} {
			for _, size := range []int{1, 200_000} {
				text := trBodyOf(size)
				for _, body := range []io.Reader{strings.NewReader(text), io.MultiReader(strings.NewReader(text))} {
					if _, got := trDo(t, transport, trRequest(t, method, srv.URL, body)); got != text {
						t.Errorf("%s: %d bytes came back of %d", method, len(got), len(text))
					}
				}
			}
		}
		wire.check(t)
	})
}

// trRaw is a server that speaks HTTP/1.1 by hand: serve gets each connection.
func trRaw(t *testing.T, serve func(n int, conn net.Conn, r *bufio.Reader)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(n, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return listener.Addr().String()
}

// trReadMessage reads a request from a connection, with its body.
func trReadMessage(t *testing.T, r *bufio.Reader) (*http.Request, []byte, bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Errorf("the server could not read the body: %v", err)
		return nil, nil, false
	}
	return req, body, true
}

const trOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// A kept connection that the server closes just when the next request is written:
// net/http makes a new one, and takes the body from GetBody.
func TestTransportRewindsOnDeadConnection(t *testing.T) {
	server := trDefaultKey(t)
	for name, row := range map[string]struct {
		method, idempotencyKey string
		size                   int
		whole                  bool // the server reads the whole request before it closes
	}{
		"GET with a body":            {"GET", "", 1, false},
		"POST with Idempotency-Key":  {"POST", "k", 1, false},
		"POST read whole":            {"POST", "k", 1, true},
		"large POST read whole":      {"POST", "k", 300_000, true},
		"PATCH with Idempotency-Key": {"PATCH", "k", 10_000, true},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var messages [][]byte
			kept := func(message []byte) {
				mu.Lock()
				defer mu.Unlock()
				messages = append(messages, message)
			}
			address := trRaw(t, func(n int, conn net.Conn, r *bufio.Reader) {
				if n > 0 { // the retry
					if req, message, ok := trReadMessage(t, r); ok {
						if req.Header.Get("Content-Type") != sealhttp.MediaType {
							t.Errorf("the retry has Content-Type %q", req.Header.Get("Content-Type"))
						}
						kept(message)
						_, _ = io.WriteString(conn, trOK)
						_, _ = r.Peek(1)
					}
					return
				}
				if _, _, ok := trReadMessage(t, r); ok {
					_, _ = io.WriteString(conn, trOK)
				}
				if row.whole {
					if _, message, ok := trReadMessage(t, r); ok {
						kept(message)
					}
					return
				}
				_, _ = r.Peek(1)
			})
			base, wire := trWiretap(t, false)
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
			client := &http.Client{Transport: transport}
			text := trBodyOf(row.size)
			for call := range 2 {
				req := trRequest(t, row.method, "http://"+address, strings.NewReader(text))
				if row.idempotencyKey != "" {
					req.Header.Set("Idempotency-Key", row.idempotencyKey)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatalf("call %d: %v", call+1, err)
				}
				if body := trRead(t, resp); body != "ok" {
					t.Errorf("call %d: got %q", call+1, body)
				}
			}
			wire.check(t)
			if got := len(wire.addresses()); got != 2 {
				t.Errorf("%d connections, want 2", got)
			}
			for i, message := range messages {
				plaintext, err := server.Open(nil, message, nil)
				if err != nil || string(plaintext) != text {
					t.Errorf("message %d does not open to the body: %v", i+1, err)
				}
				if !bytes.Equal(message, messages[0]) {
					t.Errorf("message %d is another than the first", i+1)
				}
			}
			if want := map[bool]int{false: 1, true: 2}[row.whole]; len(messages) != want {
				t.Errorf("%d messages came, want %d", len(messages), want)
			}
		})
	}
}

// The same with a connection on which nothing can be written any more: any method
// is sent again then.
func TestTransportRewindsWhenNothingWasWritten(t *testing.T) {
	server := trDefaultKey(t)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "GET"} {
		for _, size := range []int{1, 2000} { // net/http gives up on one that it had to write in parts
			srv, base, wire := trServeClear(t, false, trMiddleware(t, trKeys(t, server)).Handler(trEcho))
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
			trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
			var broken atomic.Int64
			wire.mu.Lock()
			wire.deny = func(conn, write int) error {
				if conn == 0 {
					broken.Add(1)
					return errors.New("the connection is dead")
				}
				return nil
			}
			wire.mu.Unlock()
			text := trBodyOf(size)
			if _, got := trDo(t, transport, trRequest(t, method, srv.URL, io.MultiReader(strings.NewReader(text)))); got != text {
				t.Errorf("%s: got %d bytes, want %d", method, len(got), len(text))
			}
			if broken.Load() == 0 || len(wire.addresses()) != 2 {
				t.Errorf("%s: %d writes failed, %d connections: the request was not sent again", method, broken.Load(), len(wire.addresses()))
			}
			wire.check(t)
		}
	}
}

// trFrames is a server that speaks HTTP/2 frames by hand. answer is called with
// each request, read whole, and writes to framer.
func trFrames(t *testing.T, answer func(conn int, stream uint32, message []byte, framer *http2.Framer)) (address string) {
	return trRaw(t, func(n int, conn net.Conn, r *bufio.Reader) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(r, preface); err != nil || string(preface) != http2.ClientPreface {
			t.Errorf("preface %q, %v", preface, err)
			return
		}
		framer := http2.NewFramer(conn, r)
		if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}); err != nil {
			t.Error(err)
			return
		}
		_ = framer.WriteWindowUpdate(0, 1<<24)
		bodies := make(map[uint32][]byte)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			ended := false
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				ended = f.StreamEnded()
			case *http2.DataFrame:
				bodies[f.StreamID] = append(bodies[f.StreamID], f.Data()...)
				ended = f.StreamEnded()
			}
			if ended {
				stream := frame.Header().StreamID
				answer(n, stream, bodies[stream], framer)
			}
		}
	})
}

// trFrameOK answers a stream with an empty 200.
func trFrameOK(framer *http2.Framer, stream uint32) {
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

// What HTTP/2 lets a client send again.
func TestTransportRetriesOfHTTP2(t *testing.T) {
	server := trDefaultKey(t)
	for name, refuse := range map[string]func(framer *http2.Framer, stream uint32){
		"REFUSED_STREAM": func(framer *http2.Framer, stream uint32) {
			_ = framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		},
		"GOAWAY": func(framer *http2.Framer, stream uint32) {
			_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
		},
	} {
		for _, size := range []int{1, 100_000} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				var mu sync.Mutex
				var messages [][]byte
				address := trFrames(t, func(_ int, stream uint32, message []byte, framer *http2.Framer) {
					mu.Lock()
					messages = append(messages, message)
					first := len(messages) == 1
					mu.Unlock()
					if first {
						refuse(framer, stream)
						return
					}
					trFrameOK(framer, stream)
				})
				base, wire := trWiretap(t, true)
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
				text := trBodyOf(size)
				req := trRequest(t, "POST", "http://"+address, strings.NewReader(text))
				resp, err := (&http.Client{Transport: transport}).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				trRead(t, resp)
				wire.check(t)
				mu.Lock()
				defer mu.Unlock()
				if len(messages) != 2 || !bytes.Equal(messages[0], messages[1]) {
					t.Fatalf("%d messages came, want the same one twice", len(messages))
				}
				if plaintext, err := server.Open(nil, messages[1], nil); err != nil || string(plaintext) != text {
					t.Errorf("the retry does not open to the body: %v", err)
				}
			})
		}
	}
}

// A redirect is never followed: nothing of the request, and no connection, goes
// to its target.
func TestTransportRefusesRedirects(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		target := &trCounting{Handler: trEcho}
		elsewhere, _, _ := trServeClear(t, h2, target)
		for _, status := range []int{301, 302, 303, 307, 308} {
			for _, by := range []string{"handler", "hop"} {
				for _, to := range []string{"same origin", "other origin"} {
					for _, method := range []string{"POST", "GET"} {
						t.Run(fmt.Sprintf("%d/%s/%s/%s", status, by, to, method), func(t *testing.T) {
							var origin string
							redirect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
								w.Header().Set("Location", origin+"/new%2Fplace?token=sesame#part")
								w.WriteHeader(status)
							})
							counting := &trCounting{Handler: redirect}
							if by == "handler" {
								counting = &trCounting{Handler: m.Handler(redirect)}
							}
							srv, base, wire := trServeClear(t, h2, counting)
							origin = srv.URL
							if to == "other origin" {
								origin = elsewhere.URL
							}
							origin = strings.Replace(origin, "://", "://user:open@", 1)
							host := strings.TrimPrefix(origin, "http://user:open@")
							transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
							var body io.Reader
							if method == "POST" {
								body = strings.NewReader(trCanary)
							}
							resp, err := (&http.Client{Transport: transport}).Do(trRequest(t, method, srv.URL+"/old", body))
							if resp != nil {
								t.Errorf("got %s", resp.Status)
							}
							if !errors.Is(err, sealhttp.ErrRedirect) {
								t.Fatalf("got %v, want ErrRedirect", err)
							}
							var urlErr *url.Error
							if !errors.As(err, &urlErr) {
								t.Fatalf("got %T, want *url.Error", err)
							}
							text := urlErr.Err.Error()
							again := method
							if status < 307 {
								again = "GET"
							}
							if !strings.Contains(text, again+" to http://"+host+"/new%2Fplace") {
								t.Errorf("%q does not name the target", text)
							}
							for _, secret := range []string{"token", "sesame", "user", "open", "part", "canary"} {
								if strings.Contains(text, secret) {
									t.Errorf("%q tells %q", text, secret)
								}
							}
							if counting.n.Load() != 1 || target.n.Load() != 0 {
								t.Errorf("%d requests, and %d to the target", counting.n.Load(), target.n.Load())
							}
							for _, address := range wire.addresses() {
								if to == "other origin" && address == host {
									t.Error("a connection to the target was made")
								}
							}
							if method == "POST" {
								wire.check(t)
							}
						})
					}
				}
			}
		}
	})
}

// Go's own ServeMux redirects POST /dir to /dir/.
func TestTransportRefusesServeMuxRedirect(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	reached := &trCounting{Handler: trEcho}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		outside, inside := http.NewServeMux(), http.NewServeMux()
		outside.Handle("/dir/", m.Handler(reached))
		inside.Handle("/dir/", reached)
		for name, handler := range map[string]http.Handler{"mux outside": outside, "mux inside": m.Handler(inside)} {
			t.Run(name, func(t *testing.T) {
				srv, base, wire := trServeClear(t, h2, handler)
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
				client := &http.Client{Transport: transport}
				_, err := client.Do(trRequest(t, "POST", srv.URL+"/dir", strings.NewReader(trCanary)))
				if !errors.Is(err, sealhttp.ErrRedirect) || !strings.Contains(err.Error(), srv.URL+"/dir/") {
					t.Errorf("got %v", err)
				}
				if reached.n.Load() != 0 {
					t.Error("the redirect was followed")
				}

				// Programs that want it follow it by hand.
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				resp, err := client.Do(trRequest(t, "POST", srv.URL+"/dir", strings.NewReader(trCanary)))
				if err != nil {
					t.Fatal(err)
				}
				trRead(t, resp)
				location, err := resp.Location()
				if err != nil || resp.StatusCode != 307 {
					t.Fatalf("got %s, %v", resp.Status, err)
				}
				if _, body := trDo(t, transport, trRequest(t, "POST", location.String(), strings.NewReader(trCanary))); body != trCanary {
					t.Errorf("got %q", body)
				}
				wire.check(t)
				reached.n.Store(0)
			})
		}
	})
}

// A call that is given up in the middle leaves no plaintext behind either.
func TestTransportCancelInTheMiddle(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, when := range []string{"while the request is read", "before the response", "while the response is read"} {
			t.Run(when, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				message, err := caller.Public().Seal(nil, []byte(trCanary), nil)
				if err != nil {
					t.Fatal(err)
				}
				srv, base, wire := trServeClear(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch when {
					case "while the request is read":
						_, _ = io.ReadFull(r.Body, make([]byte, 1000))
					case "before the response":
						_, _ = io.Copy(io.Discard, r.Body)
					default:
						_, _ = io.Copy(io.Discard, r.Body)
						w.Header().Set("Content-Type", sealhttp.MediaType)
						_, _ = w.Write(message[:len(message)/2])
						_ = http.NewResponseController(w).Flush()
						<-r.Context().Done()
						panic(http.ErrAbortHandler)
					}
					cancel()
					_, _ = io.Copy(io.Discard, r.Body) // only then a server of HTTP/1.1 sees that the caller is gone
					<-r.Context().Done()
					panic(http.ErrAbortHandler) // an answer could still reach the caller
				}))
				tracking := &trTracking{RoundTripper: base}
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
					resp, err := tracking.RoundTrip(req)
					if err == nil {
						cancel()
					}
					return resp, err
				})))
				body := trNewBody(trBodyOf(1 << 20))
				req := trRequest(t, "POST", srv.URL, body).WithContext(ctx)
				resp, err := (&http.Client{Transport: transport}).Do(req)
				if resp != nil || !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, %v, want context.Canceled", resp, err)
				}
				wire.check(t)
				if n := body.closed.Load(); n != 1 {
					t.Errorf("the body was closed %d times", n)
				}
				if when == "while the response is read" {
					tracking.check(t, 1)
				}
			})
		}
	})
}

// A second attempt with another key is as sealed as the first.
func TestTransportSecondAttemptIsSealed(t *testing.T) {
	old, current, caller := trDefaultKey(t), trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, current), sealhttp.WithPolicy(sealhttp.Required), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base, wire := trServeClear(t, h2, m.Handler(trEcho))
		source := &trSource{answer: func(refused *seal.PublicKey) (*seal.PublicKey, error) {
			if refused != nil {
				return current.Public(), nil
			}
			return old.Public(), nil
		}}
		transport := trTransport(t, source, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		text := trBodyOf(100_000)
		req := trRequest(t, "POST", srv.URL, strings.NewReader(text))
		req.GetBody = func() (io.ReadCloser, error) {
			t.Error("the plaintext was asked for again")
			return io.NopCloser(strings.NewReader(text)), nil
		}
		if _, got := trDo(t, transport, req); got != text {
			t.Errorf("got %d bytes", len(got))
		}
		wire.check(t)
	})
}

// What a base transport is given has nothing of the plaintext in it.
func TestTransportGivesBaseNoPlaintext(t *testing.T) {
	server := trDefaultKey(t)
	var given *http.Request
	transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(trBase(func(req *http.Request) (*http.Response, error) {
		given = req
		return trAnswer(req, 200, nil, http.NoBody), nil
	})))
	for _, body := range []io.Reader{strings.NewReader(trCanary), trNewBody(trCanary)} {
		req := trRequest(t, "POST", "http://127.0.0.1/", body)
		trDo(t, transport, req)
		if given == req {
			t.Fatal("the base transport was given the request itself")
		}
		first, err := io.ReadAll(given.Body)
		if err != nil {
			t.Fatal(err)
		}
		if given.GetBody == nil || given.ContentLength != int64(len(first)) {
			t.Fatalf("ContentLength is %d, the message has %d bytes, GetBody is nil: %v", given.ContentLength, len(first), given.GetBody == nil)
		}
		for range 3 {
			again, err := given.GetBody()
			if err != nil {
				t.Fatal(err)
			}
			if message, err := io.ReadAll(again); err != nil || !bytes.Equal(message, first) {
				t.Errorf("GetBody gives another message, or %v", err)
			}
		}
		if plaintext, err := server.Open(nil, first, nil); err != nil || string(plaintext) != trCanary {
			t.Errorf("the message opens to %q, %v", plaintext, err)
		}
	}
	req := trRequest(t, "GET", "http://127.0.0.1/", trNewBody(""))
	req.GetBody = func() (io.ReadCloser, error) { return trNewBody(trCanary), nil }
	trDo(t, transport, req)
	if given.Body != nil || given.GetBody != nil || given.ContentLength != 0 {
		t.Errorf("without content, the base transport was given Body %v, GetBody, ContentLength %d", given.Body, given.ContentLength)
	}
}
