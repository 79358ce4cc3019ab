package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
)

// srvCanary is what must not be seen. No part of it of eight bytes occurs elsewhere.
const srvCanary = "k7Qz!c4n4ry?w0Jx/pl41ntext+Vb3~of=4_b0dy#Ny8%Lp5^s3cret&Rd2*"

// srvFound is how often parts of a secret occur, by what they are written in.
type srvFound map[string]int

// srvFind looks in a text for parts of secrets: eight bytes as they are, in hex and in
// the decimals that %v makes of bytes, or nine in base64, which covers every alignment.
func srvFind(text string, secrets map[string][]byte) map[string]srvFound {
	type needle struct{ secret, form string }
	needles := map[int]map[string]needle{} // by length
	add := func(part string, n needle) {
		if needles[len(part)] == nil {
			needles[len(part)] = map[string]needle{}
		}
		needles[len(part)][part] = n
	}
	for name, secret := range secrets {
		for i := 0; i+9 <= len(secret); i++ {
			eight, nine := secret[i:i+8], secret[i:i+9]
			add(string(eight), needle{name, "raw"})
			add(hex.EncodeToString(eight), needle{name, "hex"})
			add(strings.ToUpper(hex.EncodeToString(eight)), needle{name, "hex"})
			add(base64.StdEncoding.EncodeToString(nine), needle{name, "base64"})
			add(base64.URLEncoding.EncodeToString(nine), needle{name, "base64"})
		}
	}
	found := map[string]srvFound{}
	count := func(n needle) {
		if found[n.secret] == nil {
			found[n.secret] = srvFound{}
		}
		found[n.secret][n.form]++
	}
	for length, parts := range needles {
		for i := 0; i+length <= len(text); i++ {
			if n, ok := parts[text[i:i+length]]; ok {
				count(n)
			}
		}
	}
	for name, secret := range secrets {
		for i := 0; i+8 <= len(secret) && i < 64; i += 4 {
			if strings.Contains(text, strings.Trim(fmt.Sprint(secret[i:i+8]), "[]")) {
				count(needle{name, "decimal"})
			}
		}
	}
	return found
}

// The search itself must find what it looks for.
func TestServerCanaryIsFound(t *testing.T) {
	secret := []byte(srvCanary)
	for name, text := range map[string]string{
		"raw":       "x" + srvCanary[20:30] + "x",
		"hex":       "x" + hex.EncodeToString(secret[3:20]) + "x",
		"HEX":       fmt.Sprintf("%X", secret[3:20]),
		"base64":    base64.StdEncoding.EncodeToString(secret),
		"base64url": base64.RawURLEncoding.EncodeToString([]byte("x" + srvCanary)),
		"decimal":   fmt.Sprint(secret),
		"base64, 2": base64.StdEncoding.EncodeToString([]byte("xx" + srvCanary)),
	} {
		if len(srvFind(text, map[string][]byte{"canary": secret})) == 0 {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
}

// srvCanaryHandlers do with the canary what handlers do with plaintext.
var srvCanaryHandlers = map[string]http.HandlerFunc{
	"echo":  func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body); fmt.Fprint(w, srvCanary) },
	"error": func(w http.ResponseWriter, r *http.Request) { http.Error(w, srvCanary, http.StatusUnprocessableEntity) },
	"flushes": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, srvCanary)
		w.(http.Flusher).Flush()
		fmt.Fprint(w, srvCanary)
	},
	"serves": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(strings.Repeat(srvCanary, 100)))
	},
	"panics": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, srvCanary); panic(http.ErrAbortHandler) },
	"panics late": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat(srvCanary, 200))
		w.(http.Flusher).Flush()
		panic("x")
	},
	"declares more": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		fmt.Fprint(w, srvCanary)
	},
	"too large": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(srvCanary), 500)) },
	"encoded": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		fmt.Fprint(w, srvCanary)
	},
	"trailers": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set(http.TrailerPrefix+"X-A", srvCanary)
		fmt.Fprint(w, srvCanary)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", srvCanary)
		w.Header().Set(http.TrailerPrefix+"X-B", srvCanary)
	},
	"trailers, too large": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = w.Write(bytes.Repeat([]byte(srvCanary), 500))
		w.Header().Set("X-Sum", srvCanary)
		w.Header().Set(http.TrailerPrefix+"X-B", srvCanary)
	},
	"no content":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204); fmt.Fprint(w, srvCanary) },
	"not changed": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304); fmt.Fprint(w, srvCanary) },
	"reset":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(205); fmt.Fprint(w, srvCanary) },
	"late": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, srvCanary)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for {
				if _, err := fmt.Fprint(w, srvCanary); err != nil {
					return
				}
			}
		}()
	},
	"parses": func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseMultipartForm(1)
		fmt.Fprint(w, r.Form, r.MultipartForm)
	},
	"hints": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103); fmt.Fprint(w, srvCanary) },
	"copies": func(w http.ResponseWriter, r *http.Request) {
		if rf, ok := w.(io.ReaderFrom); ok {
			_, _ = rf.ReadFrom(strings.NewReader(srvCanary))
			return
		}
		_, _ = io.Copy(w, io.MultiReader(strings.NewReader(srvCanary)))
	},
	"hijacks": func(w http.ResponseWriter, r *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(conn, srvCanary)
			_ = conn.Close()
		}
	},
	"switches": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(101); fmt.Fprint(w, srvCanary) },
}

// Nothing secret is logged, reported or answered, at any level, whatever happens.
func TestServerLogsNothingSecret(t *testing.T) {
	logged, text, reported := new(srvBuffer), new(srvBuffer), new(srvBuffer)
	debug := &slog.HandlerOptions{Level: slog.LevelDebug - 100, AddSource: true}
	logger := slog.New(srvFanout{slog.NewJSONHandler(logged, debug), slog.NewTextHandler(text, debug)})
	report := func(values ...any) {
		for _, v := range values {
			fmt.Fprintf(reported, "%v %+v %#v\n", v, v, v)
		}
	}
	common := []sealhttp.Option{
		srvClientKeys(srvCallerKey.Public()),
		sealhttp.WithLogger(logger),
		sealhttp.WithObserver(func(_ *http.Request, e sealhttp.Event) { report(e, e.Err) }),
		sealhttp.WithErrorHandler(func(w http.ResponseWriter, r *http.Request, err error) {
			report(err)
			for e := err; e != nil; e = srvUnwrap(e) {
				report(e.Error())
			}
			sealhttp.WriteError(w, r, err)
		}),
	}
	calls := 0
	var messages [][]byte
	send := func(h http.Handler, method string, body []byte, header http.Header) {
		defer func() { _ = recover() }()
		if len(body) > 20 {
			messages = append(messages, body)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", bytes.NewReader(body))
		maps.Copy(r.Header, header)
		calls++
		defer func() { // an answer of the middleware's own
			if w.Header().Get("Sealed-Error") != "" {
				report(w.Header(), w.Body.String())
			}
		}()
		h.ServeHTTP(w, r)
	}
	both := http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}

	// What succeeds, and what handlers do wrong.
	m, err := sealhttp.New(srvKeys(srvKey), append(common, sealhttp.WithMaxResponseBytes(20_000))...)
	srvCheck(t, err)
	for _, handler := range srvCanaryHandlers {
		for _, method := range []string{"POST", "HEAD"} {
			send(m.Handler(handler), method, srvSeal(t, []byte(srvCanary)), both)
		}
	}
	// What is refused, by every row of the table.
	for _, bad := range srvBadCalls(t) {
		keys := bad.keys
		if keys == nil {
			keys = srvKeys(srvKey)
		}
		m, err := sealhttp.New(keys, append(common, bad.opts...)...)
		srvCheck(t, err)
		method := bad.method
		if method == "" {
			method = "POST"
		}
		handler := bad.handler
		if handler == nil {
			handler = srvCanaryHandlers["echo"]
		}
		send(m.Handler(handler), method, bad.body, bad.header)
	}
	// What was changed on its way, and what is plaintext by mistake.
	message := srvSeal(t, []byte(srvCanary))
	for i := range message {
		changed := bytes.Clone(message)
		changed[i] ^= 0x80
		send(m.Handler(srvCanaryHandlers["echo"]), "POST", changed, both)
		send(m.Handler(srvCanaryHandlers["echo"]), "POST", message[:i], both)
	}
	for _, body := range []string{srvCanary, `{"card":"` + srvCanary + `"}`, strings.Repeat(srvCanary, 100)} {
		send(m.Handler(srvCanaryHandlers["echo"]), "POST", []byte(body), both)
		for _, p := range []sealhttp.Policy{sealhttp.Required, sealhttp.RequestRequired, sealhttp.Disabled} {
			with, err := m.With(sealhttp.WithPolicy(p))
			srvCheck(t, err)
			send(with.Handler(srvCanaryHandlers["echo"]), "POST", []byte(body), http.Header{"Accept": {sealhttp.MediaType}})
			send(with.Handler(srvCanaryHandlers["echo"]), "POST", []byte(body), both)
		}
	}

	if logged.String() == "" || text.String() == "" || reported.String() == "" {
		t.Fatal("nothing was logged or reported")
	}
	all := logged.String() + text.String() + reported.String()
	secrets := map[string][]byte{
		"the plaintext":            []byte(srvCanary),
		"the server's private key": srvKey.Bytes(),
		"the server's public key":  srvKey.Public().Bytes(),
		"the caller's public key":  srvCallerKey.Public().Bytes(),
		"the caller's private key": srvCallerKey.Bytes(),
	}
	for i, message := range messages {
		secrets[fmt.Sprintf("request %d", i)] = message[:min(len(message), 500)]
	}
	for name, found := range srvFind(all, secrets) {
		t.Errorf("parts of %s occur: %v", name, found)
	}
	t.Logf("%d calls, %d messages, %d bytes logged and reported", calls, len(messages), len(all))
}

func srvUnwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}

// srvFanout hands each record to several handlers.
type srvFanout []slog.Handler

func (f srvFanout) Enabled(context.Context, slog.Level) bool { return true }

func (f srvFanout) Handle(ctx context.Context, r slog.Record) error {
	for _, h := range f {
		if err := h.Handle(ctx, r.Clone()); err != nil {
			return err
		}
	}
	return nil
}

func (f srvFanout) WithAttrs(attrs []slog.Attr) slog.Handler {
	var with srvFanout
	for _, h := range f {
		with = append(with, h.WithAttrs(attrs))
	}
	return with
}

func (f srvFanout) WithGroup(name string) slog.Handler {
	var with srvFanout
	for _, h := range f {
		with = append(with, h.WithGroup(name))
	}
	return with
}

// srvTap is a listener that keeps all that its connections read and write.
type srvTap struct {
	net.Listener
	bytes srvBuffer
}

func (l *srvTap) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &srvTapped{conn, l}, err
}

type srvTapped struct {
	net.Conn
	tap *srvTap
}

func (c *srvTapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_, _ = c.tap.bytes.Write(p[:n])
	return n, err
}

func (c *srvTapped) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	_, _ = c.tap.bytes.Write(p[:n])
	return n, err
}

// No byte of a plaintext is on the wire of a sealed call, whatever the handler does;
// with the same calls in plaintext it is.
func TestServerWireCanary(t *testing.T) {
	form, formType := srvForm(t, 100)
	form = bytes.ReplaceAll(form, []byte("Ada"), []byte(srvCanary))
	for _, proto := range srvProtos {
		for _, mode := range []srvMode{srvClear, srvBoth} {
			t.Run(fmt.Sprintf("%s/%v", proto, mode), func(t *testing.T) {
				var protocols http.Protocols
				protocols.SetHTTP1(proto == "HTTP/1.1")
				protocols.SetUnencryptedHTTP2(proto == "HTTP/2.0")
				m := srvMiddleware(t, sealhttp.WithMaxResponseBytes(20_000), sealhttp.WithLogger(slog.New(slog.DiscardHandler)))
				mux := http.NewServeMux()
				for name, handler := range srvCanaryHandlers {
					mux.Handle("/"+strings.ReplaceAll(name, " ", "-"), m.Handler(handler))
				}
				// A recoverer outside answers for what panics.
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if v := recover(); v != nil && v != http.ErrAbortHandler {
							http.Error(w, "recovered", 500)
						}
					}()
					mux.ServeHTTP(w, r)
				}))
				tap := &srvTap{Listener: s.Listener}
				s.Listener = tap
				s.Config.Protocols = &protocols
				s.Config.ErrorLog = log.New(io.Discard, "", 0)
				s.Start()
				defer s.Close()
				host := &srvHost{Server: s, client: &http.Client{Transport: &http.Transport{Protocols: &protocols, DisableCompression: true}}}
				calls, opened := 0, 0
				send := func(path, contentType string, body []byte, chunked bool) {
					if mode == srvClear && (path == "/late" || path == "/hijacks" || path == "/switches") {
						return // in plaintext these race, or never end
					}
					row := srvRow{target: path, content: contentType, body: body, chunked: chunked}
					a := row.send(t, host, mode)
					calls++
					if mode == srvBoth && a.err == nil && a.header.Get("Content-Type") == sealhttp.MediaType {
						if got := a.open(t, "POST"); bytes.Contains(got.body, []byte(srvCanary)) {
							opened++
						}
					}
				}
				for name := range srvCanaryHandlers {
					path := "/" + strings.ReplaceAll(name, " ", "-")
					send(path, "text/plain", []byte(srvCanary), false)
					send(path, "text/plain", bytes.Repeat([]byte(srvCanary), 100), true)
				}
				send("/parses", formType, form, false)
				send("/parses", "application/x-www-form-urlencoded", []byte("a="+srvCanary), false)
				host.client.CloseIdleConnections()
				s.Close()

				captured := tap.bytes.String()
				found := srvFind(captured, map[string][]byte{"canary": []byte(srvCanary)})["canary"]
				t.Logf("%d calls, %d opened with the canary, %d bytes captured; parts found: %v", calls, opened, len(captured), found)
				if !strings.Contains(captured, "HTTP/") || len(captured) < 10_000 {
					t.Fatal("the tap is not on the wire")
				}
				if mode == srvClear {
					if !strings.Contains(captured, srvCanary) || found["raw"] < 100 {
						t.Error("the control does not find the canary")
					}
					return
				}
				if len(found) > 0 {
					t.Errorf("parts of the plaintext are on the wire: %v", found)
				}
				if opened < 10 {
					t.Errorf("only %d responses were opened", opened)
				}
			})
		}
	}
}
