package exchangeparty

import (
	"encoding/hex"
	"encoding/json"
	"os"
)

// Hex is bytes that JSON has as hexadecimal digits.
type Hex []byte

// MarshalText writes the digits.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads them.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Vectors is a file of test vectors. What its members mean is in docs/protocol.md.
type Vectors struct {
	Comment string   `json:"comment"`
	Vectors []Vector `json:"vectors"`
}

// Vector is one exchange.
type Vector struct {
	Name     string         `json:"name"`
	Server   KeyVector      `json:"server_key"`
	Caller   *KeyVector     `json:"caller_key,omitempty"`
	Request  RequestVector  `json:"request"`
	Response ResponseVector `json:"response"`
}

// KeyVector is a key pair.
type KeyVector struct {
	Suite   string `json:"suite"`
	KEM     uint16 `json:"kem_id"`
	KDF     uint16 `json:"kdf_id"`
	AEAD    uint16 `json:"aead_id"`
	ID      uint32 `json:"id"`
	Private Hex    `json:"private"`
	Public  Hex    `json:"public"`
}

// ContextVector is what HPKE makes of a key, a seed and an info.
type ContextVector struct {
	Info           Hex `json:"info"`
	Seed           Hex `json:"encapsulation_seed"`
	Enc            Hex `json:"enc"`
	SharedSecret   Hex `json:"shared_secret"`
	ExporterSecret Hex `json:"exporter_secret"`
	Key            Hex `json:"key"`
	BaseNonce      Hex `json:"base_nonce"`
	Export         Hex `json:"export"`
}

// RequestVector is a request.
type RequestVector struct {
	Method         string            `json:"method"`
	Host           string            `json:"host"`
	RequestTarget  string            `json:"request_target"`
	Header         map[string]string `json:"header"`
	Authority      string            `json:"authority"`
	Target         string            `json:"target"`
	Body           bool              `json:"body"`
	ContentType    string            `json:"content_type"`
	ConfiguredInfo Hex               `json:"configured_info"`
	ID             Hex               `json:"id"`
	Timestamp      int64             `json:"ts"`
	Bind           []string          `json:"bind"`
	BoundInput     Hex               `json:"bound_input"`
	Bound          Hex               `json:"bound"`
	Context        ContextVector     `json:"context"`
	Auth           Hex               `json:"auth"`
	Records        []RecordVector    `json:"records"`
}

// ResponseVector is a response.
type ResponseVector struct {
	Status        int               `json:"status"`
	Header        map[string]string `json:"header"`
	Body          bool              `json:"body"`
	ContentType   string            `json:"content_type"`
	Error         string            `json:"error"`
	AAD           Hex               `json:"aad"`
	Nonce         Hex               `json:"nonce"`
	CallerContext *ContextVector    `json:"caller_context,omitempty"`
	Secret        Hex               `json:"secret"`
	PRK           Hex               `json:"prk"`
	Key           Hex               `json:"key"`
	BaseNonce     Hex               `json:"base_nonce"`
	Auth          Hex               `json:"auth"`
	Records       []RecordVector    `json:"records"`
}

// RecordVector is a record. On the wire it is Length || Ciphertext.
type RecordVector struct {
	Sequence   uint64 `json:"sequence"`
	Nonce      Hex    `json:"nonce"`
	DataLen    int    `json:"data_length"`
	Padding    int    `json:"padding"`
	Plaintext  Hex    `json:"plaintext"`
	Length     Hex    `json:"length"`
	Ciphertext Hex    `json:"ciphertext"`
}

// ReadVectors reads a file of them.
func ReadVectors(path string) ([]Vector, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var v Vectors
	err = json.Unmarshal(text, &v)
	return v.Vectors, err
}

// Wire returns a body as it is sent.
func Wire(records []RecordVector) []byte {
	var body []byte
	for _, r := range records {
		body = append(append(body, r.Length...), r.Ciphertext...)
	}
	return body
}

// Request returns what the request binds.
func (v *RequestVector) Request() *Request {
	header := map[string][]string{}
	for name, value := range v.Header {
		header[name] = []string{value}
	}
	return &Request{
		Method: v.Method, Host: v.Host, Target: v.RequestTarget, Body: v.Body,
		ContentType: v.ContentType, Info: v.ConfiguredInfo, Header: header,
	}
}
