// Package tinkcaller is a caller that has nothing but Tink. What it does is what one in
// Java, Python or C++ does.
package tinkcaller

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Sealed is the media type of what Tink's hybrid encryption makes.
const Sealed = "application/octet-stream+hpke"

// Transport is an http.RoundTripper that seals bodies and asks for sealed answers.
type Transport struct {
	Base    http.RoundTripper
	Encrypt tink.HybridEncrypt
	Decrypt tink.HybridDecrypt
}

// New makes a Transport with a new key, and returns the public keyset to register.
// server is the service's public keyset. Both are Tink's JSON.
func New(server []byte, base http.RoundTripper) (t Transport, public []byte, err error) {
	private, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		return t, nil, err
	}
	publicHandle, err := private.Public()
	if err != nil {
		return t, nil, err
	}
	var json bytes.Buffer
	if err := publicHandle.WriteWithNoSecrets(keyset.NewJSONWriter(&json)); err != nil {
		return t, nil, err
	}
	serverHandle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(server)))
	if err != nil {
		return t, nil, err
	}
	t.Base = base
	if t.Encrypt, err = hybrid.NewHybridEncrypt(serverHandle); err != nil {
		return t, nil, err
	}
	if t.Decrypt, err = hybrid.NewHybridDecrypt(private); err != nil {
		return t, nil, err
	}
	return t, json.Bytes(), nil
}

// RoundTrip makes a call sealed. An error may come in plaintext, since it may be a
// gateway's, but no success.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.GetBody = nil // it has the plaintext
	req.Header.Set("Accept", Sealed)
	if req.Body != nil && req.Body != http.NoBody {
		plaintext, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		sealed, err := t.Encrypt.Encrypt(plaintext, nil)
		if err != nil {
			return nil, err
		}
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(sealed)), int64(len(sealed))
		req.Header.Set("Sealed-Content-Type", req.Header.Get("Content-Type"))
		req.Header.Set("Content-Type", Sealed)
	}
	resp, err := t.Base.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusNoContent {
		return resp, err
	}
	if resp.Header.Get("Content-Type") != Sealed {
		if resp.StatusCode < 300 {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("a %d in plaintext, asked for sealed", resp.StatusCode)
		}
		return resp, nil
	}
	defer resp.Body.Close()
	sealed, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	plaintext, err := t.Decrypt.Decrypt(sealed, nil)
	if err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(plaintext)), int64(len(plaintext))
	resp.Header.Set("Content-Type", resp.Header.Get("Sealed-Content-Type"))
	return resp, nil
}
