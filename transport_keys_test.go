package sealhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// An option that is not valid is an error of NewTransport's.
func TestTransportOptions(t *testing.T) {
	key := trDefaultKey(t)
	keys := sealhttp.StaticPublicKey(key.Public())
	for name, row := range map[string]struct {
		keys sealhttp.ServerPublicKeys
		opt  sealhttp.TransportOption
		want string
		is   error
	}{
		"no keys":                   {nil, sealhttp.WithInfo(nil, nil), "NewTransport", nil},
		"a nil option":              {keys, nil, "an option is nil", nil},
		"no private key":            {keys, sealhttp.WithPrivateKeys(), "WithPrivateKeys", nil},
		"a nil private key":         {keys, sealhttp.WithPrivateKeys(nil), "WithPrivateKeys", seal.ErrInvalidKey},
		"a private key twice":       {keys, sealhttp.WithPrivateKeys(key, key), "WithPrivateKeys", seal.ErrDuplicateKey},
		"no private key source":     {keys, sealhttp.WithPrivateKeySource(nil), "WithPrivateKeySource", nil},
		"no base":                   {keys, sealhttp.WithBase(nil), "WithBase", nil},
		"the zero profile":          {keys, sealhttp.WithProfile(0), "WithProfile", nil},
		"an unknown profile":        {keys, sealhttp.WithProfile(3), "WithProfile", nil},
		"no request limit":          {keys, sealhttp.WithMaxRequestBytes(0), "WithMaxRequestBytes", nil},
		"a negative response limit": {keys, sealhttp.WithMaxResponseBytes(-1), "WithMaxResponseBytes", nil},
		"info of another profile":   {keys, sealhttp.WithInfo([]byte("sealhttp x"), nil), "sealhttp", nil},
		"no info function":          {keys, sealhttp.WithInfoFunc(nil), "WithInfoFunc", nil},
		"no logger":                 {keys, sealhttp.WithLogger(nil), "WithLogger", nil},
	} {
		transport, err := sealhttp.NewTransport(row.keys, row.opt)
		if transport != nil || err == nil || !strings.Contains(err.Error(), row.want) || row.is != nil && !errors.Is(err, row.is) {
			t.Errorf("%s: got %v, %v", name, transport, err)
		}
	}
	if transport, err := sealhttp.NewTransport(keys, sealhttp.WithProfile(sealhttp.MessageProfile), sealhttp.WithPrivateKeys(key)); transport == nil || err != nil {
		t.Errorf("got %v, %v", transport, err)
	}
}

// Without WithBase the default transport is used, as in http.Client.
func TestTransportDefaultBase(t *testing.T) {
	server := trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server))
	srv, _, _ := trServeClear(t, false, m.Handler(trEcho))
	own := http.DefaultTransport
	defer func() { http.DefaultTransport = own }()
	calls := 0
	http.DefaultTransport = trBase(func(req *http.Request) (*http.Response, error) {
		calls++
		return own.RoundTrip(req)
	})
	transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()))
	if _, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text"))); body != "text" || calls != 1 {
		t.Errorf("got %q through %d calls of the default transport", body, calls)
	}
}

// A response may be sealed to any of the caller's keys.
func TestTransportSeveralPrivateKeys(t *testing.T) {
	server := trDefaultKey(t)
	current, previous := trDefaultKey(t), trKey(t, seal.P256AES128GCM)
	raw, otherRaw := trKey(t, seal.X25519ChaCha20Poly1305, seal.WithoutPrefix()), trKey(t, seal.X25519AES256GCM, seal.WithoutPrefix())
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for name, registered := range map[string]*seal.PrivateKey{"current": current, "previous": previous, "RAW": raw, "other RAW": otherRaw} {
			t.Run(name, func(t *testing.T) {
				m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), trClientKey(registered.Public()))
				srv, base := trServe(t, h2, m.Handler(trEcho))
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(current, previous, raw, otherRaw), sealhttp.WithBase(base))
				resp, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				if info, ok := sealhttp.FromResponse(resp); body != "text" || !ok || info.CallerKeyID != registered.ID() {
					t.Errorf("got %q, %+v, %v, want key %d", body, info, ok, registered.ID())
				}
			})
		}
	})
}

// Of several options with private keys the last one wins.
func TestTransportLastPrivateKeysWin(t *testing.T) {
	server, caller, other := trDefaultKey(t), trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	srv, base := trServe(t, false, m.Handler(trEcho))
	source := func(key *seal.PrivateKey) sealhttp.TransportOption {
		return sealhttp.WithPrivateKeySource(trKeys(t, key))
	}
	for name, opts := range map[string][]sealhttp.TransportOption{
		"keys, keys":     {sealhttp.WithPrivateKeys(other), sealhttp.WithPrivateKeys(caller)},
		"source, keys":   {source(other), sealhttp.WithPrivateKeys(caller)},
		"keys, source":   {sealhttp.WithPrivateKeys(other), source(caller)},
		"source, source": {source(other), source(caller)},
	} {
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), append(opts, sealhttp.WithBase(base))...)
		if _, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text"))); body != "text" {
			t.Errorf("%s: got %q", name, body)
		}
	}
}

// A source is asked before a call and when its response has come, so that a key
// which is replaced meanwhile does no harm.
func TestTransportPrivateKeySourceChanges(t *testing.T) {
	server := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		t.Run("rotated while the call is under way", func(t *testing.T) {
			ring, err := keyring.New(trDefaultKey(t))
			if err != nil {
				t.Fatal(err)
			}
			old := ring.PublicKeys()[0]
			for _, toNew := range []bool{true, false} {
				m := trMiddleware(t, trKeys(t, server), sealhttp.WithPolicy(sealhttp.Required), sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
					if toNew {
						if err := ring.Rotate(r.Context()); err != nil {
							return nil, err
						}
					}
					return ring.PublicKeys()[map[bool]int{true: 0, false: 1}[toNew]], nil
				})))
				srv, base := trServe(t, h2, m.Handler(trEcho))
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeySource(ring), sealhttp.WithBase(base))
				resp, body := trDo(t, transport, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				info, ok := sealhttp.FromResponse(resp)
				if body != "text" || !ok || (info.CallerKeyID == old.ID()) == toNew {
					t.Errorf("to the new key %v: got %q, %+v, %v", toNew, body, info, ok)
				}
			}
		})

		t.Run("the key is dropped while the call is under way", func(t *testing.T) {
			ring, err := keyring.New(trDefaultKey(t))
			if err != nil {
				t.Fatal(err)
			}
			old := ring.PublicKeys()[0]
			m := trMiddleware(t, trKeys(t, server), trClientKey(old))
			srv, base := trServe(t, h2, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 2 {
					if err := ring.Rotate(r.Context()); err != nil {
						t.Error(err)
					}
				}
			})))
			tracking := &trTracking{RoundTripper: base}
			transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeySource(ring), sealhttp.WithBase(tracking))
			err = trFail(t, transport, trRequest(t, "GET", srv.URL, nil))
			trIs(t, err, sealhttp.CodeUnknownKey, 200, sealhttp.ErrResponseNotOpened)
			tracking.check(t, 1)
		})
	})
}

// How often the private keys are asked for.
func TestTransportAsksPrivateKeySource(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	set, err := seal.NewKeySet(caller)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("down")
	var asked, fails atomic.Int64 // fails: the time at which it does
	source := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
		switch asked.Add(1) {
		case fails.Load():
			return nil, down
		case -fails.Load():
			return nil, nil
		}
		return set, nil
	})
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		counting := &trCounting{Handler: m.Handler(trEcho)}
		srv, base := trServe(t, h2, counting)
		tracking := &trTracking{RoundTripper: base}
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeySource(source), sealhttp.WithBase(tracking))
		responses := 0
		for _, row := range []struct {
			method       string
			fails        int64
			asked, calls int64
			want         error
		}{
			{"GET", 0, 2, 1, nil},
			{"POST", 0, 2, 1, nil},
			{"HEAD", 0, 1, 1, nil},
			{"GET", 1, 1, 0, down},
			{"POST", 1, 1, 0, down},
			{"POST", -1, 1, 0, sealhttp.CodeKeyStoreUnavailable},
			{"GET", 2, 2, 1, down},
			{"POST", -2, 2, 1, sealhttp.CodeKeyStoreUnavailable},
		} {
			asked.Store(0)
			fails.Store(row.fails)
			counting.n.Store(0)
			resp, err := transport.RoundTrip(trRequest(t, row.method, srv.URL, nil))
			if resp != nil {
				_ = resp.Body.Close()
			}
			if row.want == nil {
				if err != nil {
					t.Errorf("%+v: %v", row, err)
				}
			} else {
				trIs(t, err, sealhttp.CodeKeyStoreUnavailable, 0, row.want)
			}
			if asked.Load() != row.asked || counting.n.Load() != row.calls {
				t.Errorf("%+v: asked %d times, %d calls", row, asked.Load(), counting.n.Load())
			}
			responses += int(row.calls)
		}
		tracking.check(t, responses)
	})
}

// Both sides must give HPKE's info alike, for each direction.
func TestTransportInfo(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	perAccount := sealhttp.WithInfoFunc(func(r *http.Request) (request, response []byte, err error) {
		account := r.Header.Get("X-Account")
		return []byte("to " + account), []byte("from " + account), nil
	})
	for name, row := range map[string]struct {
		server, caller sealhttp.CommonOption
		code           sealhttp.Code
		status         int
		cause          error
	}{
		"equal":                       {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo([]byte("a"), []byte("b")), "", 0, nil},
		"equal functions":             {perAccount, perAccount, "", 0, nil},
		"equal, by different options": {sealhttp.WithInfo([]byte("to acme"), []byte("from acme")), perAccount, "", 0, nil},
		"another for requests":        {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo([]byte("x"), []byte("b")), sealhttp.CodeDecryptionFailed, 400, sealhttp.ErrRefused},
		"none for requests":           {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo(nil, []byte("b")), sealhttp.CodeDecryptionFailed, 400, sealhttp.ErrRefused},
		"another for responses":       {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo([]byte("a"), []byte("x")), sealhttp.CodeDecryptionFailed, 200, sealhttp.ErrResponseNotOpened},
		"none for responses":          {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo([]byte("a"), nil), sealhttp.CodeDecryptionFailed, 200, sealhttp.ErrResponseNotOpened},
		"the wrong way round":         {sealhttp.WithInfo([]byte("a"), []byte("b")), sealhttp.WithInfo([]byte("b"), []byte("a")), sealhttp.CodeDecryptionFailed, 400, sealhttp.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()), row.server)
				srv, base := trServe(t, h2, m.Handler(trEcho))
				transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base), row.caller)
				req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
				req.Header.Set("X-Account", "acme")
				if row.code != "" {
					trIs(t, trFail(t, transport, req), row.code, row.status, row.cause)
					return
				}
				if _, body := trDo(t, transport, req); body != "text" {
					t.Errorf("got %q", body)
				}
			})
		})
	}
}

// The function is asked once a call, with the request, and also if it is made again.
func TestTransportAsksInfoOnce(t *testing.T) {
	old, current, caller := trDefaultKey(t), trDefaultKey(t), trDefaultKey(t)
	info := func(r *http.Request) ([]byte, []byte, error) { return []byte("a"), []byte("b"), nil }
	var asked []*http.Request
	counted := sealhttp.WithInfoFunc(func(r *http.Request) ([]byte, []byte, error) {
		asked = append(asked, r)
		return info(r)
	})
	m := trMiddleware(t, trKeys(t, current), trClientKey(caller.Public()), sealhttp.WithInfoFunc(info))
	srv, base := trServe(t, false, m.Handler(trEcho))
	source := &trSource{answer: func(refused *seal.PublicKey) (*seal.PublicKey, error) {
		if refused == nil {
			return old.Public(), nil
		}
		return current.Public(), nil
	}}
	transport := trTransport(t, source, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base), counted)
	req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
	if _, body := trDo(t, transport, req); body != "text" || len(source.asked()) != 2 {
		t.Errorf("got %q, the source was asked %d times", body, len(source.asked()))
	}
	if len(asked) != 1 || asked[0] != req {
		t.Errorf("asked %d times, want once with the request", len(asked))
	}
}

// FromResponse speaks of the response that it is given, whatever its context was
// used for before.
func TestTransportFromResponse(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	keys := sealhttp.StaticPublicKey(server.Public())
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	for name, resp := range map[string]*http.Response{"nil": nil, "without a request": {}, "from elsewhere": {Request: trRequest(t, "GET", "/", nil)}} {
		if info, ok := sealhttp.FromResponse(resp); ok || info != (sealhttp.CallInfo{}) {
			t.Errorf("%s: got %+v, %v", name, info, ok)
		}
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		plain, plainBase := trServe(t, h2, http.NotFoundHandler())
		client := &http.Client{Transport: trTransport(t, keys, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base)), Timeout: time.Minute}
		resp, err := client.Do(trRequest(t, "GET", srv.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		trRead(t, resp)
		want := sealhttp.CallInfo{Profile: sealhttp.MessageProfile, CallerKeyID: caller.ID(), ResponseSealed: true}
		if info, ok := sealhttp.FromResponse(resp); !ok || info != want {
			t.Fatalf("got %+v, %v, want %+v", info, ok, want)
		}

		// Calls made in the context of that response's request.
		inherited := context.WithoutCancel(resp.Request.Context())
		for name, opts := range map[string][]sealhttp.TransportOption{"with private keys": {sealhttp.WithPrivateKeys(caller)}, "without": nil} {
			transport := trTransport(t, keys, append(opts, sealhttp.WithBase(plainBase))...)
			notFound, _ := trDo(t, transport, trRequest(t, "POST", plain.URL, strings.NewReader("text")).WithContext(inherited))
			if info, ok := sealhttp.FromResponse(notFound); ok {
				t.Errorf("%s: a plaintext response has %+v", name, info)
			}
		}

		// A handler hands the context of the call that it serves on.
		served := trRequest(t, "GET", plain.URL, nil)
		served = served.WithContext(sealhttp.NewContext(served.Context(), sealhttp.CallInfo{RequestSealed: true, ResponseSealed: true}))
		notFound, _ := trDo(t, trTransport(t, keys, sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(plainBase)), served)
		if info, ok := sealhttp.FromResponse(notFound); ok {
			t.Errorf("the served call's %+v was taken for the response's", info)
		}
		if _, ok := sealhttp.FromContext(resp.Request.Context()); ok {
			t.Error("FromContext takes a response's CallInfo for a served call's")
		}
	})
}

// A caller without private keys that asks for a sealed response gets it as it is.
func TestTransportWithoutPrivateKeysPassesMessage(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
		req := trRequest(t, "POST", srv.URL, strings.NewReader("text"))
		req.Header.Set("Accept", sealhttp.MediaType)
		resp, message := trDo(t, transport, req)
		if plaintext, err := caller.Open(nil, []byte(message), nil); err != nil || string(plaintext) != "text" {
			t.Errorf("got %q, %v", plaintext, err)
		}
		if info, ok := sealhttp.FromResponse(resp); ok || resp.Header.Get("Content-Type") != sealhttp.MediaType {
			t.Errorf("got %+v, %v, %v", info, ok, resp.Header)
		}
	})
}

// A message that is a body of the caller's own is sealed like any other.
func TestTransportSealsMessages(t *testing.T) {
	server := trDefaultKey(t)
	watch := new(trWatch)
	srv, base := trServe(t, false, watch.handler(trMiddleware(t, trKeys(t, server)), trEcho))
	transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base))
	inner, err := trDefaultKey(t).Public().Seal(nil, []byte("for someone else"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req := trRequest(t, "POST", srv.URL, strings.NewReader(string(inner)))
	req.Header.Set("Content-Type", sealhttp.MediaType)
	trDo(t, transport, req)
	if seen := watch.last(t); seen.body != string(inner) || seen.header.Get("Content-Type") != sealhttp.MediaType || seen.info.KeyID != server.ID() {
		t.Errorf("the handler got %d bytes of %q, %+v", len(seen.body), seen.header.Get("Content-Type"), seen.info)
	}
}

// trClosing counts calls of CloseIdleConnections.
type trClosing struct {
	http.RoundTripper
	n int
}

func (c *trClosing) CloseIdleConnections() { c.n++ }

func TestTransportClosesIdleConnections(t *testing.T) {
	keys := sealhttp.StaticPublicKey(trDefaultKey(t).Public())
	closing := new(trClosing)
	client := &http.Client{Transport: trTransport(t, keys, sealhttp.WithBase(closing))}
	client.CloseIdleConnections()
	if closing.n != 1 {
		t.Errorf("the base transport was told %d times", closing.n)
	}
	// One without the method has nothing to close.
	trTransport(t, keys, sealhttp.WithBase(trBase(nil))).CloseIdleConnections()

	srv, base, wire := trServeClear(t, false, trEcho)
	transport := trTransport(t, keys, sealhttp.WithBase(base))
	for range 2 {
		trDo(t, transport, trRequest(t, "GET", srv.URL, nil))
		transport.CloseIdleConnections()
	}
	if n := len(wire.addresses()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// Connections are kept after calls of every outcome that leaves them whole.
func TestTransportKeepsConnections(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, server), trClientKey(caller.Public()))
	for name, row := range map[string]struct {
		handler http.Handler
		ok      bool
	}{
		"opened":  {m.Handler(trEcho), true},
		"refused": {trRefuse(sealhttp.CodeNoClientKey, 406), false},
		"205": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(205)
			_, _ = io.WriteString(w, "anyone's")
		}), true},
	} {
		srv, base, wire := trServeClear(t, false, row.handler)
		transport := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithPrivateKeys(caller), sealhttp.WithBase(base))
		for i := range 3 {
			resp, err := transport.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader(fmt.Sprint(i))))
			if (err == nil) != row.ok {
				t.Errorf("%s: got %v", name, err)
			}
			if err == nil {
				trRead(t, resp)
			}
		}
		if n := len(wire.addresses()); n != 1 {
			t.Errorf("%s: %d connections, want 1", name, n)
		}
	}
}
