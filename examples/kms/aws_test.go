package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

const awsKeys = "arn:aws:kms:eu-central-1:111122223333:key/"

// awsKMS is AWS KMS on loopback, to which the AWS SDK is led by its environment.
func awsKMS(t *testing.T) *fake {
	h := newHSM(t, awsKeys+"one", awsKeys+"two")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveAWS(w, r, h) }))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, file := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(file, filepath.Join(t.TempDir(), "none"))
	}
	return &fake{hsm: h, name: awsKeys + "one", kek: "aws-kms://" + awsKeys + "one", other: "aws-kms://" + awsKeys + "two"}
}

// serveAWS answers Encrypt and Decrypt:
// https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html
func serveAWS(w http.ResponseWriter, r *http.Request, h *hsm) {
	var in struct {
		KeyID             string `json:"KeyId"`
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	out := make(map[string]any)
	err := json.NewDecoder(r.Body).Decode(&in)
	data, err2 := hex.DecodeString(in.EncryptionContext["associatedData"]) // as Tink has it
	switch {
	case err != nil || err2 != nil || len(in.EncryptionContext) > 1:
		err = errors.New("malformed")
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIATEST/"):
		err = errDenied
	case r.Header.Get("X-Amz-Target") == "TrentService.Encrypt" && len(in.Plaintext) <= 4096:
		var version int
		var ciphertext []byte
		version, ciphertext, err = h.encrypt(in.KeyID, in.Plaintext, data)
		out["CiphertextBlob"] = append([]byte{byte(version)}, ciphertext...)
	case r.Header.Get("X-Amz-Target") == "TrentService.Decrypt" && len(in.CiphertextBlob) > 1:
		out["Plaintext"], err = h.decrypt(in.KeyID, int(in.CiphertextBlob[0]), in.CiphertextBlob[1:], data)
	default:
		err = errors.New("another call")
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	out["KeyId"] = in.KeyID
	if err != nil {
		types := map[error]string{errDenied: "AccessDeniedException", errNoSuchKey: "NotFoundException", errCiphertext: "InvalidCiphertextException"}
		out = map[string]any{"__type": types[err], "message": err.Error()}
		w.WriteHeader(http.StatusBadRequest)
	}
	_ = json.NewEncoder(w).Encode(out)
}
