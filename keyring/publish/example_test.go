package publish_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// exampleRing stands for a *keyring.Keyring: keys with a revision.
type exampleRing struct{ keys *seal.KeySet }

func newExampleRing() exampleRing {
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, 4242, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := seal.NewKeySet(key)
	if err != nil {
		log.Fatal(err)
	}
	return exampleRing{keys}
}

func (r exampleRing) ServerKeys(context.Context) (*seal.KeySet, error) { return r.keys, nil }

func (r exampleRing) Published() (uint64, []*seal.PublicKey) {
	return 1, []*seal.PublicKey{r.keys.Primary().Public()}
}

// exampleSigner is a signing key that is the same in every run. A real one comes from
// a KMS, or from ed25519.GenerateKey.
func exampleSigner() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
}

func examplePin() ed25519.PublicKey { return exampleSigner().Public().(ed25519.PublicKey) }

// A service publishes its keys beside its API, and a caller takes them from there.
func Example() {
	// The service. The publication stands outside of the Middleware.
	ring := newExampleRing()
	m, err := sealhttp.New(ring, sealhttp.WithPolicy(sealhttp.RequestRequired))
	if err != nil {
		log.Fatal(err)
	}
	publication, err := publish.NewHandler(ring, "api.example.com", exampleSigner())
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/keys", publication)
	mux.Handle("/hello", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "Hello, %s", name)
	})))
	server := httptest.NewTLSServer(mux)
	defer server.Close()

	// The caller. It has the pin from its configuration.
	pin, err := base64.StdEncoding.DecodeString("gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q=")
	if err != nil {
		log.Fatal(err)
	}
	source, err := publish.NewSource(server.URL+"/keys", "api.example.com", []ed25519.PublicKey{pin},
		publish.WithHTTPClient(server.Client())) // only for the test server's certificate
	if err != nil {
		log.Fatal(err)
	}
	transport, err := sealhttp.NewTransport(source, sealhttp.WithBase(server.Client().Transport))
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Post(server.URL+"/hello", "text/plain", strings.NewReader("caller"))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: Hello, caller
}

func ExampleNewHandler() {
	handler, err := publish.NewHandler(newExampleRing(), "api.example.com", exampleSigner())
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/keys", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"), w.Header().Get("Cache-Control"))
	// Output: 200 application/sealhttp-keys+jwt public, max-age=300
}

// Who has the document already is told so.
func ExampleHandler_ServeHTTP() {
	handler, err := publish.NewHandler(newExampleRing(), "api.example.com", exampleSigner())
	if err != nil {
		log.Fatal(err)
	}
	first := httptest.NewRecorder()
	handler.ServeHTTP(first, httptest.NewRequest("GET", "/keys", nil))

	again := httptest.NewRequest("GET", "/keys", nil)
	again.Header.Set("If-None-Match", first.Header().Get("Etag"))
	second := httptest.NewRecorder()
	handler.ServeHTTP(second, again)
	fmt.Println(first.Code, second.Code, second.Body.Len())
	// Output: 200 304 0
}

// The same keys for programs that know only Tink.
func ExampleNewTinkHandler() {
	handler, err := publish.NewTinkHandler(newExampleRing())
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/keys.json", nil))
	keys, err := tinkkeys.ParsePublic(w.Body.Bytes())
	fmt.Println(len(keys), "key of id", keys[0].ID(), err)
	// Output: 1 key of id 4242 <nil>
}

// exampleSite serves the signed keys of a service.
func exampleSite(opts ...publish.HandlerOption) *httptest.Server {
	handler, err := publish.NewHandler(newExampleRing(), "api.example.com", exampleSigner(), opts...)
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewServer(handler)
}

func exampleSource(url string, opts ...publish.SourceOption) *publish.Source {
	source, err := publish.NewSource(url, "api.example.com", []ed25519.PublicKey{examplePin()}, opts...)
	if err != nil {
		log.Fatal(err)
	}
	return source
}

// The second pin is the key that will sign one day.
func ExampleNewSource() {
	server := exampleSite()
	defer server.Close()
	successor, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	source, err := publish.NewSource(server.URL, "api.example.com", []ed25519.PublicKey{examplePin(), successor})
	if err != nil {
		log.Fatal(err)
	}
	key, err := source.PublicKey(context.Background(), nil)
	fmt.Println(key, err)
	// Output: PublicKey(X25519-AES256GCM, id 4242, 15761-33681-03625-12558-65418-04594-25971-10957) <nil>
}

func ExampleSource_PublicKey() {
	server := exampleSite()
	defer server.Close()
	source := exampleSource(server.URL)
	key, err := source.PublicKey(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	// The server says that it does not know the key. There is no other, as one fetch
	// shows.
	other, err := source.PublicKey(context.Background(), key)
	fmt.Println(other.Equal(key), err)
	// Output: true <nil>
}

func ExampleSource_Set() {
	server := exampleSite()
	defer server.Close()
	set, err := exampleSource(server.URL).Set(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Name, "revision", set.Revision, "keys", len(set.Keys), "valid for", set.Expires.Sub(set.Issued))
	// Output: api.example.com revision 1 keys 1 valid for 24h0m0s
}

// For programs in which no call may wait for keys.
func ExampleSource_Run() {
	server := exampleSite()
	defer server.Close()
	source := exampleSource(server.URL)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()

	_, err := source.PublicKey(ctx, nil)
	fmt.Println(err)
	cancel()
	fmt.Println(<-ended)
	// Output:
	// <nil>
	// context canceled
}

func ExampleNewInsecureHTTPSOnlySource() {
	handler, err := publish.NewTinkHandler(newExampleRing())
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	source, err := publish.NewInsecureHTTPSOnlySource(server.URL, publish.WithHTTPClient(server.Client()))
	if err != nil {
		log.Fatal(err)
	}
	key, err := source.PublicKey(context.Background(), nil)
	fmt.Println(key.ID(), err)

	_, err = publish.NewInsecureHTTPSOnlySource("http://api.example.com/keys.json")
	fmt.Println(err)
	// Output:
	// 4242 <nil>
	// publish: the URL is not a whole one of https
}

// A document that is signed where the key is kept, and served as a file.
func ExampleSign() {
	_, keys := newExampleRing().Published()
	issued := time.Unix(1764000000, 0)
	document, err := publish.Sign(exampleSigner(), publish.Set{
		Name: "api.example.com", Revision: 1, Issued: issued, Expires: issued.Add(24 * time.Hour), Keys: keys,
	})
	if err != nil {
		log.Fatal(err)
	}
	for i, part := range strings.Split(string(document), ".")[:2] {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %.90s\n", i, decoded)
	}
	// Output:
	// 0: {"alg":"EdDSA","kid":"aVBtapLd11SUVKIMGJfPzOEDuN0sXcmzJQNVT-_sKEU","typ":"sealhttp-keys+jw
	// 1: {"ver":1,"sub":"api.example.com","rev":1,"iat":1764000000,"exp":1764086400,"keys":{"primar
}

func ExampleVerify() {
	_, keys := newExampleRing().Published()
	issued := time.Unix(1764000000, 0)
	document, err := publish.Sign(exampleSigner(), publish.Set{
		Name: "api.example.com", Revision: 1, Issued: issued, Expires: issued.Add(24 * time.Hour), Keys: keys,
	})
	if err != nil {
		log.Fatal(err)
	}
	set, err := publish.Verify(document, "api.example.com", issued.Add(time.Hour), examplePin())
	fmt.Println(set.Keys[0].ID(), err)

	_, err = publish.Verify(document, "api.example.com", issued.Add(25*time.Hour), examplePin())
	fmt.Println(errors.Is(err, publish.ErrExpired), err)
	_, err = publish.Verify(document, "other.example.com", issued.Add(time.Hour), examplePin())
	fmt.Println(errors.Is(err, publish.ErrOtherName), err)
	// Output:
	// 4242 <nil>
	// true publish: the key set is refused: it has expired at 2025-11-25T16:00:00Z
	// true publish: the key set is refused: it is another service's
}

func ExampleWithValidity() {
	server := exampleSite(publish.WithValidity(time.Hour))
	defer server.Close()
	set, err := exampleSource(server.URL).Set(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Expires.Sub(set.Issued))
	// Output: 1h0m0s
}

func ExampleWithHTTPClient() {
	server := exampleSite()
	defer server.Close()
	source := exampleSource(server.URL, publish.WithHTTPClient(&http.Client{Timeout: 2 * time.Second}))
	_, err := source.PublicKey(context.Background(), nil)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWithRefusedInterval() {
	server := exampleSite()
	defer server.Close()
	source := exampleSource(server.URL, publish.WithRefusedInterval(10*time.Second))
	_, err := source.PublicKey(context.Background(), nil)
	fmt.Println(err)
	// Output: <nil>
}

// A process that starts again has the keys of the last one.
func ExampleWithStateFile() {
	folder, err := os.MkdirTemp("", "publish")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	kept := publish.WithStateFile(filepath.Join(folder, "keys.jws"))

	server := exampleSite()
	_, err = exampleSource(server.URL, kept).PublicKey(context.Background(), nil)
	fmt.Println(err)
	server.Close()

	key, err := exampleSource(server.URL, kept).PublicKey(context.Background(), nil)
	fmt.Println(key.ID(), err)
	// Output:
	// <nil>
	// 4242 <nil>
}

func ExampleWithLogger() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "expires" {
				return slog.Attr{}
			}
			return a
		},
	}))
	server := exampleSite()
	defer server.Close()
	_, err := exampleSource(server.URL, publish.WithLogger(logger)).PublicKey(context.Background(), nil)
	fmt.Println(err)
	// Output:
	// level=DEBUG msg="publish: new key set" revision=1 primary=4242
	// <nil>
}
