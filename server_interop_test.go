package sealhttp_test

import (
	"bytes"
	stdhpke "crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	tinkhpke "github.com/tink-crypto/tink-go/v2/hybrid/hpke"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// srvSuite is what the registries of RFC 9180 and Tink call a suite.
type srvSuite struct {
	suite    seal.Suite
	kem      uint16
	aead     uint16
	tinkKEM  tinkhpke.KEMID
	tinkAEAD tinkhpke.AEADID
}

var srvSuites = []srvSuite{
	{seal.X25519AES256GCM, 0x0020, 0x0002, tinkhpke.DHKEM_X25519_HKDF_SHA256, tinkhpke.AES256GCM},
	{seal.X25519AES128GCM, 0x0020, 0x0001, tinkhpke.DHKEM_X25519_HKDF_SHA256, tinkhpke.AES128GCM},
	{seal.X25519ChaCha20Poly1305, 0x0020, 0x0003, tinkhpke.DHKEM_X25519_HKDF_SHA256, tinkhpke.ChaCha20Poly1305},
	{seal.P256AES256GCM, 0x0010, 0x0002, tinkhpke.DHKEM_P256_HKDF_SHA256, tinkhpke.AES256GCM},
	{seal.P256AES128GCM, 0x0010, 0x0001, tinkhpke.DHKEM_P256_HKDF_SHA256, tinkhpke.AES128GCM},
	{seal.XWingAES256GCM, 0x647a, 0x0002, tinkhpke.X_WING, tinkhpke.AES256GCM},
}

// srvPeer is a client that has nothing of this module but bytes: the server's public
// key goes in, its own public key comes out.
type srvPeer struct {
	public *seal.PublicKey // as the server has it registered
	seal   func(plaintext, info []byte) ([]byte, error)
	open   func(message, info []byte) ([]byte, error)
}

// srvTinkPeer is a client made of tink-go, which reads the server's key from a Tink
// keyset in JSON and gives its own as one.
func srvTinkPeer(t *testing.T, s srvSuite, raw bool, server *seal.PublicKey) srvPeer {
	t.Helper()
	published, err := tinkkeys.Public(server)
	srvCheck(t, err)
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(published)))
	srvCheck(t, err)
	encrypt, err := hybrid.NewHybridEncrypt(handle)
	srvCheck(t, err)

	opts := tinkhpke.ParametersOpts{KEMID: s.tinkKEM, KDFID: tinkhpke.HKDFSHA256, AEADID: s.tinkAEAD, Variant: tinkhpke.VariantTink}
	if raw {
		opts.Variant = tinkhpke.VariantNoPrefix
	}
	parameters, err := tinkhpke.NewParameters(opts)
	srvCheck(t, err)
	manager := keyset.NewManager()
	id, err := manager.AddNewKeyFromParameters(parameters)
	srvCheck(t, err)
	srvCheck(t, manager.SetPrimary(id))
	private, err := manager.Handle()
	srvCheck(t, err)
	decrypt, err := hybrid.NewHybridDecrypt(private)
	srvCheck(t, err)

	public, err := private.Public()
	srvCheck(t, err)
	var registered bytes.Buffer
	srvCheck(t, public.WriteWithNoSecrets(keyset.NewJSONWriter(&registered)))
	keys, err := tinkkeys.ParsePublic(registered.Bytes())
	srvCheck(t, err)
	return srvPeer{keys[0], encrypt.Encrypt, decrypt.Decrypt}
}

// srvStdPeer is a client made of crypto/hpke, which puts Tink's prefix before its
// messages by hand.
func srvStdPeer(t *testing.T, s srvSuite, raw bool, server *seal.PublicKey) srvPeer {
	t.Helper()
	const ownID = 0x01020304
	kem, err := stdhpke.NewKEM(s.kem)
	srvCheck(t, err)
	aead, err := stdhpke.NewAEAD(s.aead)
	srvCheck(t, err)
	to, err := kem.NewPublicKey(server.Bytes())
	srvCheck(t, err)
	own, err := kem.GenerateKey()
	srvCheck(t, err)
	var opts []seal.KeyOption
	prefix := func(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, id) }
	if raw {
		opts = append(opts, seal.WithoutPrefix())
		prefix = func(uint32) []byte { return nil }
	}
	public, err := seal.NewPublicKey(s.suite, ownID, own.PublicKey().Bytes(), opts...)
	srvCheck(t, err)
	return srvPeer{
		public: public,
		seal: func(plaintext, info []byte) ([]byte, error) {
			message, err := stdhpke.Seal(to, stdhpke.HKDFSHA256(), aead, info, plaintext)
			return append(prefix(server.ID()), message...), err
		},
		open: func(message, info []byte) ([]byte, error) {
			message, ok := bytes.CutPrefix(message, prefix(ownID))
			if !ok {
				return nil, errors.New("another prefix")
			}
			return stdhpke.Open(own, stdhpke.HKDFSHA256(), aead, info, message)
		},
	}
}

// Tink and crypto/hpke, as clients of a mounted middleware.
func TestServerInterop(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = io.Copy(w, r.Body)
	})
	infoRequest, infoResponse := []byte("request\x00of this API"), []byte("response\x00of this API")
	requests, responses := 0, 0
	for _, proto := range srvProtos {
		mux := http.NewServeMux()
		host := srvServe(t, proto, mux)
		for _, s := range srvSuites {
			for _, raw := range []bool{false, true} {
				var opts []seal.KeyOption
				if raw {
					opts = append(opts, seal.WithoutPrefix())
				}
				server := srvGenerate(s.suite, opts...)
				for name, make := range map[string]func(*testing.T, srvSuite, bool, *seal.PublicKey) srvPeer{"tink-go": srvTinkPeer, "crypto-hpke": srvStdPeer} {
					for _, withInfo := range []bool{false, true} {
						t.Run(fmt.Sprintf("%s/%v/raw=%v/%s/info=%v", proto, s.suite, raw, name, withInfo), func(t *testing.T) {
							peer := make(t, s, raw, server.Public())
							var option []sealhttp.Option
							var toServer, toCaller []byte
							if withInfo {
								toServer, toCaller = infoRequest, infoResponse
								option = append(option, sealhttp.WithInfo(infoRequest, infoResponse))
							}
							m, err := sealhttp.New(srvKeys(server), append(option, srvClientKeys(peer.public), sealhttp.WithPolicy(sealhttp.Required))...)
							srvCheck(t, err)
							path := "/" + strconv.Itoa(requests)
							mux.Handle(path, m.Handler(handler))
							for _, size := range []int{1, 1000, 40_000} {
								plaintext := bytes.Repeat([]byte{byte(size)}, size)
								message, err := peer.seal(plaintext, toServer)
								srvCheck(t, err)
								a := host.do(t, host.request(t, "POST", path, bytes.NewReader(message), http.Header{
									"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}, "Sealed-Content-Type": {"image/x-row"},
								}))
								if a.status != 200 || a.header.Get("Content-Type") != sealhttp.MediaType || a.header.Get("Sealed-Content-Type") != "image/x-row" {
									t.Fatalf("%d bytes: status %d, header %v, %.200q", size, a.status, a.header, a.body)
								}
								requests++
								opened, err := peer.open(a.body, toCaller)
								if err != nil || !bytes.Equal(opened, plaintext) {
									t.Errorf("%d bytes: opened to %d bytes, %v", size, len(opened), err)
								}
								responses++
								if _, err := peer.open(a.body, append(bytes.Clone(toCaller), 'x')); err == nil {
									t.Error("it opens with other info")
								}
							}
							// With other info the request does not open.
							message, err := peer.seal([]byte("x"), []byte("other"))
							srvCheck(t, err)
							a := host.do(t, host.request(t, "POST", path, bytes.NewReader(message), http.Header{"Content-Type": {sealhttp.MediaType}, "Accept": {sealhttp.MediaType}}))
							if code := sealhttp.Code(a.header.Get("Sealed-Error")); code != sealhttp.CodeDecryptionFailed && !(raw && message[0] == 1 && code == sealhttp.CodeUnknownKey) {
								t.Errorf("other info: status %d, %q", a.status, code)
							}
						})
					}
				}
			}
		}
	}
	t.Logf("%d requests and %d responses", requests, responses)
	if want := 2 * 6 * 2 * 2 * 2 * 3; requests != want || responses != want {
		t.Errorf("want %d of each", want)
	}
}
