package publish_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// counting is a signer that counts, and fails when it is told to.
type counting struct {
	ed25519.PrivateKey
	signatures atomic.Int64
	fail       atomic.Pointer[error]
	takes      time.Duration
}

func (c *counting) Sign(r io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.signatures.Add(1)
	time.Sleep(c.takes)
	if err := c.fail.Load(); err != nil {
		return nil, *err
	}
	return c.PrivateKey.Sign(r, message, opts)
}

func newTinkHandler(t testing.TB, keys publish.Keys) http.Handler {
	t.Helper()
	h, err := publish.NewTinkHandler(keys, quiet)
	check(t, err)
	return h
}

// Both handlers over HTTP/1.1 and HTTP/2.
func TestHandlersOverHTTP(t *testing.T) {
	keys := newRing(t)
	keys.rotate()
	_, want := keys.Published()
	mux := http.NewServeMux()
	mux.Handle("/signed", newHandler(t, keys))
	mux.Handle("/plain", newTinkHandler(t, keys))
	for _, h2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(mux)
		server.EnableHTTP2 = h2
		server.StartTLS()
		defer server.Close()
		client := server.Client()
		for path, test := range map[string]struct {
			mediaType string
			parse     func([]byte) ([]*seal.PublicKey, error)
		}{
			"/signed": {"application/sealhttp-keys+jwt", func(b []byte) ([]*seal.PublicKey, error) {
				set, err := publish.Verify(b, service, time.Now(), pin)
				if err != nil {
					return nil, err
				}
				return set.Keys, nil
			}},
			"/plain": {"application/json", tinkkeys.ParsePublic},
		} {
			do := func(method string, header ...string) *http.Response {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
				check(t, err)
				for i := 0; i < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				resp, err := client.Do(req)
				check(t, err)
				if h2 != (resp.ProtoMajor == 2) {
					t.Errorf("spoke %s", resp.Proto)
				}
				return resp
			}
			resp := do("GET")
			body, etag := read(t, resp), resp.Header.Get("Etag")
			found, err := test.parse(body)
			check(t, err)
			sameKeys(t, found, want)
			for name, value := range map[string]string{
				"Content-Type":           test.mediaType,
				"Cache-Control":          "public, max-age=300",
				"X-Content-Type-Options": "nosniff",
				"Content-Length":         strconv.Itoa(len(body)),
				"Last-Modified":          "",
			} {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s %s: %q, want %q", path, name, got, value)
				}
			}

			head := do("HEAD")
			if head.StatusCode != 200 || len(read(t, head)) != 0 || head.ContentLength != int64(len(body)) || head.Header.Get("Etag") != etag {
				t.Errorf("%s HEAD: status %d, length %d, ETag %q", path, head.StatusCode, head.ContentLength, head.Header.Get("Etag"))
			}
			for _, match := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
				resp := do("GET", "If-None-Match", match)
				if resp.StatusCode != 304 || len(read(t, resp)) != 0 || resp.Header.Get("Etag") != etag || resp.Header.Get("Cache-Control") == "" {
					t.Errorf("%s If-None-Match %s: status %d, header %v", path, match, resp.StatusCode, resp.Header)
				}
			}
			other := do("GET", "If-None-Match", `"x"`)
			if other.StatusCode != 200 || !bytes.Equal(read(t, other), body) {
				t.Errorf("%s If-None-Match of another: status %d", path, other.StatusCode)
			}
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
				resp := do(method)
				if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" || resp.Header.Get("Etag") != "" {
					t.Errorf("%s %s: status %d, Allow %q", path, method, resp.StatusCode, resp.Header.Get("Allow"))
				}
				read(t, resp)
			}
		}
	}
}

// What Tink itself makes of the plain keyset.
func TestTinkReadsThePlainKeyset(t *testing.T) {
	keys := newRing(t)
	keys.rotate()
	body := read(t, get(t, newTinkHandler(t, keys), "GET"))
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(body)))
	check(t, err)
	encrypter, err := hybrid.NewHybridEncrypt(handle)
	check(t, err)
	message, err := encrypter.Encrypt([]byte("from Tink"), nil)
	check(t, err)
	set, err := keys.ServerKeys(t.Context())
	check(t, err)
	if plaintext, err := set.Primary().Open(nil, message, nil); err != nil || string(plaintext) != "from Tink" {
		t.Errorf("the primary opens %q, %v", plaintext, err)
	}
}

// A change shows in the next answer, in both forms, with another ETag.
func TestChangeShowsAtOnce(t *testing.T) {
	keys := newRing(t)
	signed, plain := newHandler(t, keys), newTinkHandler(t, keys)
	for _, change := range []func(){keys.rotate, keys.revoke, keys.rotate} {
		before := []*http.Response{get(t, signed, "GET"), get(t, plain, "GET")}
		change()
		revision, want := keys.Published()
		after := []*http.Response{get(t, signed, "GET", "If-None-Match", before[0].Header.Get("Etag")), get(t, plain, "GET", "If-None-Match", before[1].Header.Get("Etag"))}
		set, err := publish.Verify(read(t, after[0]), service, time.Now(), pin)
		check(t, err)
		sameKeys(t, set.Keys, want)
		if set.Revision != revision {
			t.Errorf("revision %d, want %d", set.Revision, revision)
		}
		found, err := tinkkeys.ParsePublic(read(t, after[1]))
		check(t, err)
		sameKeys(t, found, want)
	}
}

// However often it is asked, it signs when the keys change, and once in an eighth of
// the validity.
func TestSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, s := newRing(t), &counting{PrivateKey: signer, takes: time.Millisecond}
		h, err := publish.NewHandler(keys, service, s, quiet)
		check(t, err)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if resp := get(t, h, "GET"); resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
			})
		}
		wg.Wait()
		if n := s.signatures.Load(); n != 1 {
			t.Fatalf("%d signatures for 1000 requests at once", n)
		}
		for range 24 * 6 { // a day, a request every ten minutes
			time.Sleep(10 * time.Minute)
			set, err := publish.Verify(read(t, get(t, h, "GET")), service, time.Now(), pin)
			check(t, err)
			if left := time.Until(set.Expires); left < 21*time.Hour-time.Second || left > 24*time.Hour {
				t.Fatalf("%v of the validity are left", left)
			}
		}
		if n := s.signatures.Load(); n != 1+8 {
			t.Errorf("%d signatures in a day, want 9", n)
		}
		for range 5 {
			keys.rotate()
			get(t, h, "GET")
			get(t, h, "HEAD")
		}
		if n := s.signatures.Load(); n != 1+8+5 {
			t.Errorf("%d signatures after five changes, want 14", n)
		}
	})
}

// Replicas that do not speak to each other give the same bytes.
func TestReplicasAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		time.Sleep(time.Hour + time.Second/2)
		a := newHandler(t, keys)
		first := get(t, a, "GET")
		time.Sleep(time.Hour)
		b := newHandler(t, keys)
		second := get(t, b, "GET")
		if !bytes.Equal(read(t, first), read(t, second)) || first.Header.Get("Etag") != second.Header.Get("Etag") {
			t.Error("two replicas have different documents in the same period")
		}
		time.Sleep(2 * time.Hour)
		if get(t, a, "GET").Header.Get("Etag") == first.Header.Get("Etag") {
			t.Error("nothing was signed in the next period")
		}
	})
}

func TestValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			validity, signed time.Duration
			maxAge           string
		}{
			{2 * time.Second, 2 * time.Second, "0"},
			{3500 * time.Millisecond, 3 * time.Second, "0"},
			{time.Minute, time.Minute, "2"},
			{time.Hour, time.Hour, "150"},
			{30 * 24 * time.Hour, 30 * 24 * time.Hour, "300"},
		} {
			h := newHandler(t, newRing(t), publish.WithValidity(test.validity))
			resp := get(t, h, "GET")
			set, err := publish.Verify(read(t, resp), service, time.Now(), pin)
			check(t, err)
			if got := set.Expires.Sub(set.Issued); got != test.signed {
				t.Errorf("validity %v: signed for %v", test.validity, got)
			}
			if got := resp.Header.Get("Cache-Control"); got != "public, max-age="+test.maxAge {
				t.Errorf("validity %v: %q", test.validity, got)
			}
			// At any time at least seven eighths are left, but for the whole second.
			for range 50 {
				time.Sleep(test.validity / 30)
				set, err := publish.Verify(read(t, get(t, h, "GET")), service, time.Now(), pin)
				check(t, err)
				if left := time.Until(set.Expires); left < test.signed-max(test.signed/8, time.Second) {
					t.Fatalf("validity %v: %v left", test.validity, left)
				}
			}
		}
	})
}

// While the signer fails, callers get the last document as long as it does no harm.
func TestSignerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, s := newRing(t), &counting{PrivateKey: signer}
		h, err := publish.NewHandler(keys, service, s, quiet)
		check(t, err)
		first := read(t, get(t, h, "GET"))
		kms := errors.New("the KMS cannot be reached")
		s.fail.Store(&kms)

		// It is asked again every ten seconds, and not by every request.
		time.Sleep(4 * time.Hour)
		before := s.signatures.Load()
		for range 600 {
			if !bytes.Equal(read(t, get(t, h, "GET")), first) {
				t.Fatal("not the last document")
			}
			time.Sleep(time.Second)
		}
		if n := s.signatures.Load() - before; n != 60 {
			t.Errorf("the signer was asked %d times in 10 minutes", n)
		}

		keys.rotate() // the old primary is still published
		if resp := get(t, h, "GET"); !bytes.Equal(read(t, resp), first) {
			t.Errorf("after a rotation: status %d", resp.StatusCode)
		}
		// A cache must not keep it past its time.
		time.Sleep(20*time.Hour - 10*time.Minute - time.Minute)
		if got := get(t, h, "GET").Header.Get("Cache-Control"); got != "public, max-age=60" {
			t.Errorf("a minute before it expires: %q", got)
		}
		time.Sleep(time.Minute)
		wantUnavailable(t, get(t, h, "GET"), "once it has expired")

		s.fail.Store(nil)
		wantUnavailable(t, get(t, h, "GET"), "within ten seconds of the failure")
		time.Sleep(10 * time.Second)
		if resp := get(t, h, "GET"); resp.StatusCode != 200 {
			t.Errorf("the signer is back: status %d", resp.StatusCode)
		}

		s.fail.Store(&kms)
		keys.revoke()
		wantUnavailable(t, get(t, h, "GET"), "after a revocation") // never what was revoked
		if n := s.signatures.Load(); get(t, h, "GET").StatusCode != 503 || s.signatures.Load() != n {
			t.Error("the signer is asked by every request")
		}
	})
}

// The last document is served on to the second at which it expires, which is a whole
// one.
func TestSignerFailsToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counting{PrivateKey: signer}
		h, err := publish.NewHandler(newRing(t), service, s, quiet, publish.WithValidity(3500*time.Millisecond))
		check(t, err)
		document := read(t, get(t, h, "GET"))
		kms := errors.New("the KMS cannot be reached")
		s.fail.Store(&kms)
		for range 35 {
			resp := get(t, h, "GET")
			if _, err := publish.Verify(document, service, time.Now(), pin); err != nil {
				wantUnavailable(t, resp, "once it has expired")
			} else if !bytes.Equal(read(t, resp), document) {
				t.Errorf("status %d", resp.StatusCode)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func wantUnavailable(t testing.TB, resp *http.Response, when string) {
	t.Helper()
	body := string(read(t, resp))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "10" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Etag") != "" {
		t.Errorf("%s: status %d, header %v", when, resp.StatusCode, resp.Header)
	}
	if body != "the key set is not available\n" {
		t.Errorf("%s: body %q", when, body)
	}
}

// A signer that hangs holds up one request, not those that can do without.
func TestSignerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newRing(t)
		var hang chan struct{}
		kms := opaque{pin, func(m []byte, o crypto.SignerOpts) ([]byte, error) {
			if hang != nil {
				<-hang
			}
			return signer.Sign(nil, m, o)
		}}
		h, err := publish.NewHandler(keys, service, kms, quiet)
		check(t, err)
		first := read(t, get(t, h, "GET"))
		time.Sleep(4 * time.Hour)
		hang = make(chan struct{})
		held := make(chan []byte)
		go func() { held <- read(t, get(t, h, "GET")) }()
		synctest.Wait()
		if !bytes.Equal(read(t, get(t, h, "GET")), first) {
			t.Error("the last document is not served")
		}

		// With nothing to serve they wait, as long as their clients do.
		keys.revoke()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/keys", nil))
		wantUnavailable(t, w.Result(), "while the signer hangs")

		close(hang)
		if set, err := publish.Verify(<-held, service, time.Now(), pin); err != nil || len(set.Keys) != 1 {
			t.Errorf("the request that was held up: %v, %v", set, err)
		}
		set, err := publish.Verify(read(t, get(t, h, "GET")), service, time.Now(), pin)
		check(t, err)
		if !set.Keys[0].Equal(keys.primary()) {
			t.Error("the revoked key is served")
		}
	})
}

func TestNothingPublishedYet(t *testing.T) {
	for name, keys := range map[string]publish.Keys{
		"no keys": publishedFunc(func() (uint64, []*seal.PublicKey) { return 1, nil }),
		"revision 0": publishedFunc(func() (uint64, []*seal.PublicKey) {
			return 0, []*seal.PublicKey{newKey(t, seal.X25519AES256GCM).Public()}
		}),
	} {
		wantUnavailable(t, get(t, newHandler(t, keys), "GET"), name)
	}
	none := publishedFunc(func() (uint64, []*seal.PublicKey) { return 0, nil })
	wantUnavailable(t, get(t, newTinkHandler(t, none), "GET"), "Tink, no keys")
}

type publishedFunc func() (uint64, []*seal.PublicKey)

func (f publishedFunc) Published() (uint64, []*seal.PublicKey) { return f() }

func TestHandlerArguments(t *testing.T) {
	keys := newRing(t)
	ecSigner := opaque{public: "no key"}
	for name, make := range map[string]func() (any, error){
		"no keys":        func() (any, error) { return publish.NewHandler(nil, service, signer) },
		"no name":        func() (any, error) { return publish.NewHandler(keys, "", signer) },
		"no signer":      func() (any, error) { return publish.NewHandler(keys, service, nil) },
		"another signer": func() (any, error) { return publish.NewHandler(keys, service, ecSigner) },
		"a nil key":      func() (any, error) { return publish.NewHandler(keys, service, ed25519.PrivateKey(nil)) },
		"a nil option":   func() (any, error) { return publish.NewHandler(keys, service, signer, nil) },
		"a short time": func() (any, error) {
			return publish.NewHandler(keys, service, signer, publish.WithValidity(2*time.Second-1))
		},
		"no logger":       func() (any, error) { return publish.NewHandler(keys, service, signer, publish.WithLogger(nil)) },
		"Tink, no keys":   func() (any, error) { return publish.NewTinkHandler(nil) },
		"Tink, no option": func() (any, error) { return publish.NewTinkHandler(keys, nil) },
	} {
		if _, err := make(); err == nil || !strings.HasPrefix(err.Error(), "publish: ") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}
