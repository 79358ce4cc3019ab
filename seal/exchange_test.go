package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// exchange is one exchange, as both sides have it.
type exchange struct {
	key            *seal.PrivateKey
	info           []byte
	enc, auth      []byte
	caller, server *seal.Exchange
}

func newExchange(t testing.TB, key *seal.PrivateKey, info []byte) *exchange {
	t.Helper()
	x := &exchange{key: key, info: info}
	var err error
	if x.caller, x.enc, x.auth, err = key.Public().NewExchange(info); err != nil {
		t.Fatal(err)
	}
	if x.server, err = key.OpenExchange(x.enc, x.auth, info); err != nil {
		t.Fatal(err)
	}
	return x
}

// respond begins a response on the server's side.
func (x *exchange) respond(t testing.TB, to *seal.PublicKey, aad []byte) (seal.ResponseHeader, *seal.Records) {
	t.Helper()
	h, records, err := x.server.SealResponse(to, aad)
	if err != nil {
		t.Fatal(err)
	}
	return h, records
}

// body seals data in records of the given lengths, the rest in the last.
func body(t testing.TB, r *seal.Records, data []byte, lengths ...int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := r.NewWriter(&out, nil)
	for _, n := range lengths {
		if _, err := w.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readBody(r *seal.Records, sealed []byte) ([]byte, error) {
	return io.ReadAll(r.NewReader(bytes.NewReader(sealed)))
}

// refusedExchange fails the test unless the error is ErrDecryptionFailed and nothing
// came with it: no cause is told from another.
func refusedExchange(t testing.TB, what string, got any, nothing bool, err error) {
	t.Helper()
	if err != seal.ErrDecryptionFailed || !nothing {
		t.Errorf("%s: %v, %v, want nothing but %v", what, got, err, seal.ErrDecryptionFailed)
	}
}

// callerKeys are what a response can be sealed to: no key, and one of each suite.
func callerKeys(t testing.TB) map[string]*seal.PrivateKey {
	t.Helper()
	keys := map[string]*seal.PrivateKey{"no caller key": nil}
	for _, sp := range specs {
		keys[sp.name] = newKey(t, sp.suite)
	}
	return keys
}

func publicOf(k *seal.PrivateKey) *seal.PublicKey {
	if k == nil {
		return nil
	}
	return k.Public()
}

func TestExchange(t *testing.T) {
	exchanges := 0
	callers := callerKeys(t)
	for _, sp := range specs {
		for name, caller := range callers {
			t.Run(sp.name+"/"+name, func(t *testing.T) {
				x := newExchange(t, newKey(t, sp.suite), []byte("info"))
				if len(x.enc) != sp.enc || len(x.enc) != sp.suite.EncLen() || len(x.auth) != seal.ExchangeTagLen {
					t.Errorf("enc of %d bytes and auth of %d", len(x.enc), len(x.auth))
				}
				if x.caller.Suite() != sp.suite || x.server.Suite() != sp.suite {
					t.Errorf("suites %v and %v", x.caller.Suite(), x.server.Suite())
				}
				request, response := pattern(20000), pattern(40000)[10:]
				got, err := readBody(x.server.Records(), body(t, x.caller.Records(), request, 1, 300))
				if err != nil || !bytes.Equal(got, request) {
					t.Fatalf("the request is %d bytes, %v", len(got), err)
				}
				h, w := x.respond(t, publicOf(caller), []byte("aad"))
				if len(h.Nonce) != seal.ExchangeNonceLen || len(h.Auth) != seal.ExchangeTagLen {
					t.Errorf("nonce of %d bytes and auth of %d", len(h.Nonce), len(h.Auth))
				}
				if (h.CallerEnc != nil) != (caller != nil) || caller != nil && len(h.CallerEnc) != caller.Suite().EncLen() {
					t.Errorf("cenc of %d bytes", len(h.CallerEnc))
				}
				r, err := x.caller.OpenResponse(h, caller, []byte("aad"))
				if err != nil {
					t.Fatal(err)
				}
				if got, err = readBody(r, body(t, w, response, 5)); err != nil || !bytes.Equal(got, response) {
					t.Fatalf("the response is %d bytes, %v", len(got), err)
				}
				exchanges++
			})
		}
	}
	if t.Logf("%d exchanges", exchanges); exchanges != 6*7 {
		t.Errorf("want %d", 6*7)
	}
	if n := seal.Suite(0).EncLen() + seal.Suite(99).EncLen(); n != 0 {
		t.Errorf("a suite that is none has an enc of %d bytes", n)
	}
}

// A caller with a registered key takes an answer without cenc, too, as far as this
// package goes; which of them it believes is not for here.
func TestExchangeResponseWithoutCallerKey(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	h, w := x.respond(t, nil, nil)
	r, err := x.caller.OpenResponse(h, newKey(t, seal.P256AES128GCM), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readBody(r, body(t, w, []byte("data"))); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
}

// A response that was begun and not sent does no harm: the next has another nonce,
// and another enc to the caller.
func TestExchangeResponsesDiffer(t *testing.T) {
	key, caller := newKey(t, seal.X25519AES128GCM), newKey(t, seal.X25519ChaCha20Poly1305)
	x := newExchange(t, key, nil)
	h1, w1 := x.respond(t, caller.Public(), nil)
	h2, w2 := x.respond(t, caller.Public(), nil)
	if bytes.Equal(h1.Nonce, h2.Nonce) || bytes.Equal(h1.CallerEnc, h2.CallerEnc) || bytes.Equal(h1.Auth, h2.Auth) {
		t.Error("two responses have something in common")
	}
	b1, b2 := body(t, w1, []byte("data")), body(t, w2, []byte("data"))
	if bytes.Equal(b1, b2) {
		t.Error("two responses are sealed alike")
	}
	for i, h := range []seal.ResponseHeader{h1, h2} {
		r, err := x.caller.OpenResponse(h, caller, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readBody(r, [][]byte{b1, b2}[i]); err != nil || string(got) != "data" {
			t.Errorf("response %d: %q, %v", i, got, err)
		}
		r, err = x.caller.OpenResponse(h, caller, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readBody(r, [][]byte{b2, b1}[i]); len(got) != 0 || err != seal.ErrDecryptionFailed {
			t.Errorf("the records of the other response: %q, %v", got, err)
		}
	}
	// Two exchanges with one key and info have nothing in common either.
	y := newExchange(t, key, nil)
	if bytes.Equal(x.enc, y.enc) || bytes.Equal(x.auth, y.auth) {
		t.Error("two exchanges have something in common")
	}
	if _, err := y.caller.OpenResponse(h1, caller, nil); err != seal.ErrDecryptionFailed {
		t.Errorf("the response to another exchange: %v", err)
	}
}

// altered yields a value with each of its bytes changed, shortened and lengthened. In
// a short value it changes each bit.
func altered(value []byte, yield func(what string, changed []byte)) {
	for at := range value {
		for bit := range 8 {
			if len(value) > 16 && bit != at%8 {
				continue
			}
			changed := bytes.Clone(value)
			changed[at] ^= 1 << bit
			yield(fmt.Sprintf("bit %d of byte %d", bit, at), changed)
		}
	}
	for _, n := range []int{0, 1, len(value) / 2, len(value) - 1} {
		if n < len(value) {
			yield(fmt.Sprintf("the first %d of %d bytes", n, len(value)), value[:n])
			yield(fmt.Sprintf("the last %d of %d bytes", n, len(value)), value[len(value)-n:])
		}
	}
	yield("a zero more", append(bytes.Clone(value), 0))
	yield("a zero before", append([]byte{0}, value...))
	yield("twice", append(bytes.Clone(value), value...))
}

func TestExchangeRequestAltered(t *testing.T) {
	refused := 0
	for _, sp := range specs {
		t.Run(sp.name, func(t *testing.T) {
			x := newExchange(t, newKey(t, sp.suite), []byte("some info"))
			try := func(what string, key *seal.PrivateKey, enc, auth, info []byte) {
				t.Helper()
				got, err := key.OpenExchange(enc, auth, info)
				refusedExchange(t, what, got, got == nil, err)
				refused++
			}
			altered(x.enc, func(what string, enc []byte) { try("enc, "+what, x.key, enc, x.auth, x.info) })
			altered(x.auth, func(what string, auth []byte) { try("auth, "+what, x.key, x.enc, auth, x.info) })
			altered(x.info, func(what string, info []byte) { try("info, "+what, x.key, x.enc, x.auth, info) })
			try("nothing", x.key, nil, nil, nil)
			try("no info", x.key, x.enc, x.auth, nil)
			for _, other := range specs {
				try("a key of "+other.name, newKey(t, other.suite), x.enc, x.auth, x.info)
				if other.kem == sp.kem && other.suite != sp.suite {
					try("the same key as one of "+other.name, privateKey(t, other.suite, x.key.ID(), x.key.Bytes()), x.enc, x.auth, x.info)
				}
			}
			y := newExchange(t, x.key, x.info)
			try("another's auth", x.key, x.enc, y.auth, x.info)
			try("another's enc", x.key, y.enc, x.auth, x.info)
			if _, err := x.key.OpenExchange(x.enc, x.auth, x.info); err != nil {
				t.Errorf("as it was: %v", err)
			}
		})
	}
	t.Logf("%d refused", refused)
}

func TestExchangeResponseAltered(t *testing.T) {
	refused := 0
	callers := callerKeys(t)
	for _, sp := range specs {
		for name, caller := range callers {
			t.Run(sp.name+"/"+name, func(t *testing.T) {
				x := newExchange(t, newKey(t, sp.suite), nil)
				aad := []byte{0, 200, 1, 0, 2, 'a', 'b', 0, 0}
				h, _ := x.respond(t, publicOf(caller), aad)
				try := func(what string, h seal.ResponseHeader, caller *seal.PrivateKey, aad []byte) {
					t.Helper()
					got, err := x.caller.OpenResponse(h, caller, aad)
					refusedExchange(t, what, got, got == nil, err)
					refused++
				}
				altered(h.Nonce, func(what string, v []byte) {
					try("nonce, "+what, seal.ResponseHeader{Nonce: v, CallerEnc: h.CallerEnc, Auth: h.Auth}, caller, aad)
				})
				altered(h.Auth, func(what string, v []byte) {
					try("auth, "+what, seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: h.CallerEnc, Auth: v}, caller, aad)
				})
				altered(aad, func(what string, v []byte) { try("aad, "+what, h, caller, v) })
				try("nothing", seal.ResponseHeader{}, caller, aad)
				if caller == nil {
					other := newKey(t, sp.suite)
					enc := newExchange(t, other, nil).enc
					try("a cenc", seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: enc, Auth: h.Auth}, other, aad)
					try("a cenc, and no key", seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: enc, Auth: h.Auth}, nil, aad)
					return
				}
				altered(h.CallerEnc, func(what string, v []byte) {
					if len(v) == len(h.CallerEnc) && len(v) > 100 && sp.suite != caller.Suite() {
						return // a KEM of 1120 bytes: once each, not for every suite
					}
					if len(v) == 0 {
						v = []byte{} // there, and empty
					}
					try("cenc, "+what, seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: v, Auth: h.Auth}, caller, aad)
				})
				try("no cenc", seal.ResponseHeader{Nonce: h.Nonce, Auth: h.Auth}, caller, aad)
				try("no key", h, nil, aad)
				try("another key", h, newKey(t, caller.Suite()), aad)
				for _, other := range callers {
					if other != caller && other != nil {
						try("a key of "+other.Suite().String(), h, other, aad)
					}
				}
				// What another response to the same exchange, and the same caller, begins with.
				h2, _ := x.respond(t, caller.Public(), aad)
				try("another's cenc", seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: h2.CallerEnc, Auth: h.Auth}, caller, aad)
				try("another's nonce", seal.ResponseHeader{Nonce: h2.Nonce, CallerEnc: h.CallerEnc, Auth: h.Auth}, caller, aad)
				try("another's auth", seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: h.CallerEnc, Auth: h2.Auth}, caller, aad)
				// A response to another exchange, whole.
				h3, _ := newExchange(t, x.key, nil).respond(t, caller.Public(), aad)
				try("the response to another exchange", h3, caller, aad)
				if _, err := x.caller.OpenResponse(h, caller, aad); err != nil {
					t.Errorf("as it was: %v", err)
				}
			})
		}
	}
	t.Logf("%d refused", refused)
}

// Points with which every secret is known must not begin an exchange or a response.
func TestExchangeLowOrder(t *testing.T) {
	for _, sp := range specs {
		if sp.kem != 0x0020 {
			continue
		}
		key := newKey(t, sp.suite)
		x := newExchange(t, key, nil)
		h, _ := x.respond(t, key.Public(), nil)
		for _, point := range lowOrder(t) {
			got, err := key.OpenExchange(point, x.auth, nil)
			refusedExchange(t, "enc", got, got == nil, err)
			r, err := x.caller.OpenResponse(seal.ResponseHeader{Nonce: h.Nonce, CallerEnc: point, Auth: h.Auth}, key, nil)
			refusedExchange(t, "cenc", r, r == nil, err)
		}
	}
}

// Whoever took a caller's credential can make a request of its own. The answer, which
// is sealed to the caller's registered key, opens neither without a key nor with
// another's, the server's own among them.
func TestExchangeResponseIsTheCallers(t *testing.T) {
	key, caller := newKey(t, seal.X25519AES256GCM), newKey(t, seal.X25519AES256GCM)
	x := newExchange(t, key, []byte("info"))
	h, _ := x.respond(t, caller.Public(), nil)
	for _, k := range []*seal.PrivateKey{nil, newKey(t, seal.X25519AES256GCM), key} {
		if r, err := x.caller.OpenResponse(h, k, nil); r != nil || !errors.Is(err, seal.ErrDecryptionFailed) {
			t.Errorf("opened with %v: %v", k, err)
		}
	}
}
