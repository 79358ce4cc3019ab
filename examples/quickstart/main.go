// Quickstart plays four calls to an API that mounts sealhttp, and prints what the
// caller, an intermediary and the handler saw of each. It needs nothing but
// loopback:
//
//	go run ./examples/quickstart
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	// The callers' keys. The clinic uses sealhttp; the lab has nothing but Tink.
	clinicKey, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return err
	}
	labKeyset, labPublic, err := newTinkKeyset()
	if err != nil {
		return err
	}
	registered := map[string]*seal.PublicKey{"clinic": clinicKey.Public(), "lab": labPublic}

	// The service.
	serverKey, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return err
	}
	ring, err := keyring.New(serverKey)
	if err != nil {
		return err
	}
	story := &story{out: out}
	api, err := newAPI(ring, registered, story)
	if err != nil {
		return err
	}
	service := httptest.NewServer(api)
	defer service.Close()

	// Whatever stands between: a CDN, a WAF, a gateway. It ends TLS, so it reads along.
	proxy := httptest.NewServer(story.intermediary(service.URL))
	defer proxy.Close()

	story.title("POST /records, sealed by sealhttp's Transport")
	transport, err := sealhttp.NewTransport(
		sealhttp.StaticPublicKey(serverKey.Public()),
		sealhttp.WithPrivateKeys(clinicKey))
	if err != nil {
		return err
	}
	sealing := &http.Client{Transport: transport}
	if err := story.call(sealing, "clinic", proxy.URL+"/records", `{"patient":"Ada L.","finding":"allergic to penicillin"}`); err != nil {
		return err
	}

	story.title("POST /records, sealed by Tink alone")
	published, err := tinkkeys.Public(ring.PublicKeys()...)
	if err != nil {
		return err
	}
	if err := callWithTink(story, published, labKeyset, proxy.URL+"/records", `{"patient":"Ada L.","finding":"glucose 5.4 mmol/l"}`); err != nil {
		return err
	}

	story.title("POST /visits, in plaintext: the route takes both")
	if err := story.call(http.DefaultClient, "clinic", proxy.URL+"/visits", `{"patient":"Ada L.","room":"12"}`); err != nil {
		return err
	}

	story.title("POST /records, in plaintext: refused, the route takes sealed calls only")
	return story.call(http.DefaultClient, "clinic", proxy.URL+"/records", `{"patient":"Ada L.","finding":"none"}`)
}

// newAPI mounts sealhttp on two routes of an API that knows nothing of it: one
// where sealing is up to the caller, one where it is required.
func newAPI(keys sealhttp.ServerKeys, registered map[string]*seal.PublicKey, story *story) (http.Handler, error) {
	optional, err := sealhttp.New(keys, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(
		func(r *http.Request) (*seal.PublicKey, error) {
			return registered[sealhttp.Account(r.Context())], nil
		})))
	if err != nil {
		return nil, err
	}
	required, err := optional.With(sealhttp.WithPolicy(sealhttp.Required))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /visits", optional.Handler(story.handler()))
	mux.Handle("POST /records", required.Handler(story.handler()))
	return authenticate(mux), nil
}

// authenticate stands for the API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, _, ok := r.BasicAuth()
		if !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

// newTinkKeyset makes a caller's keys with Tink, and reads its public keyset as
// the service does when the caller registers it.
func newTinkKeyset() (*keyset.Handle, *seal.PublicKey, error) {
	private, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		return nil, nil, err
	}
	public, err := private.Public()
	if err != nil {
		return nil, nil, err
	}
	var json bytes.Buffer
	if err := public.WriteWithNoSecrets(keyset.NewJSONWriter(&json)); err != nil {
		return nil, nil, err
	}
	keys, err := tinkkeys.ParsePublic(json.Bytes())
	if err != nil {
		return nil, nil, err
	}
	return private, keys[0], nil
}

// callWithTink is all that a caller without sealhttp does, in any language that
// Tink has. published is the service's Tink keyset in JSON.
func callWithTink(story *story, published []byte, private *keyset.Handle, url, body string) error {
	public, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(published)))
	if err != nil {
		return err
	}
	encrypt, err := hybrid.NewHybridEncrypt(public)
	if err != nil {
		return err
	}
	decrypt, err := hybrid.NewHybridDecrypt(private)
	if err != nil {
		return err
	}
	sealed, err := encrypt.Encrypt([]byte(body), nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequest("POST", url, bytes.NewReader(sealed))
	if err != nil {
		return err
	}
	req.SetBasicAuth("lab", "secret")
	req.Header.Set("Content-Type", sealhttp.MediaType)
	req.Header.Set("Accept", sealhttp.MediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	opened, err := decrypt.Decrypt(answer, nil)
	if err != nil {
		return err
	}
	story.print("caller sent", "application/json", []byte(body))
	story.printCall()
	story.print("caller got", fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("Sealed-Content-Type")), opened)
	return nil
}
