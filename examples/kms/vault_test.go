package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vaultTransit is the transit engine of a Vault on loopback, with TLS.
func vaultTransit(t *testing.T) *fake {
	h := newHSM(t, "one", "two")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveVault(w, r, h) }))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_CACERT", ca)
	t.Setenv("VAULT_TOKEN", "test-token")
	for _, name := range []string{"VAULT_ADDR", "VAULT_AGENT_ADDR", "VAULT_NAMESPACE", "VAULT_CAPATH", "VAULT_SKIP_VERIFY"} {
		t.Setenv(name, "")
	}
	keys := "hcvault://" + strings.TrimPrefix(server.URL, "https://") + "/transit/keys/"
	return &fake{hsm: h, name: "one", kek: keys + "one", other: keys + "two"}
}

// serveVault answers encrypt and decrypt of a key that is not derived:
// https://developer.hashicorp.com/vault/api-docs/secret/transit
func serveVault(w http.ResponseWriter, r *http.Request, h *hsm) {
	var in struct {
		Plaintext      []byte `json:"plaintext"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData []byte `json:"associated_data"`
	}
	out := make(map[string]any)
	err := json.NewDecoder(r.Body).Decode(&in)
	encrypt, isEncrypt := strings.CutPrefix(r.URL.Path, "/v1/transit/encrypt/")
	decrypt, isDecrypt := strings.CutPrefix(r.URL.Path, "/v1/transit/decrypt/")
	switch {
	case err != nil || r.Method != http.MethodPut && r.Method != http.MethodPost:
		err = errors.New("malformed")
	case r.Header.Get("X-Vault-Token") != "test-token":
		err = errDenied
	case isEncrypt:
		var version int
		var ciphertext []byte
		version, ciphertext, err = h.encrypt(encrypt, in.Plaintext, in.AssociatedData)
		out["ciphertext"] = fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(ciphertext))
	case isDecrypt:
		var version int
		var ciphertext []byte
		if parts := strings.Split(in.Ciphertext, ":"); len(parts) == 3 {
			_, _ = fmt.Sscanf(parts[1], "v%d", &version)
			ciphertext, _ = base64.StdEncoding.DecodeString(parts[2])
		}
		out["plaintext"], err = h.decrypt(decrypt, version, ciphertext, in.AssociatedData)
	default:
		err = errNoSuchKey
	}
	body := map[string]any{"data": out}
	if err != nil {
		status := map[error]int{errDenied: http.StatusForbidden, errNoSuchKey: http.StatusNotFound}[err]
		body = map[string]any{"errors": []string{err.Error()}}
		w.WriteHeader(max(status, http.StatusBadRequest))
	}
	_ = json.NewEncoder(w).Encode(body)
}
