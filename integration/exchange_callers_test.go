package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// connection is how callers connect.
type connection struct {
	address string
	http2   bool
	roots   *x509.CertPool // nil for no TLS
}

// url is that of a path. Whatever the address, callers know the service by its name.
func (c connection) url(path string) string {
	if c.roots != nil {
		return "https://" + serviceName + path
	}
	return "http://" + serviceName + path
}

// base returns the transport below a caller's.
func (c connection) base(t *testing.T) *http.Transport {
	protocols := new(http.Protocols)
	switch {
	case !c.http2:
		protocols.SetHTTP1(true)
	case c.roots != nil:
		protocols.SetHTTP2(true)
	default:
		protocols.SetUnencryptedHTTP2(true)
	}
	base := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{RootCAs: c.roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.address)
		},
	}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

func protocolName(http2 bool) string {
	if http2 {
		return "HTTP2"
	}
	return "HTTP1"
}

// profiles are the ways in which callers seal.
var profiles = []string{"exchange", "exchange, to a registered key", "message"}

// newClient makes a caller that seals in one of the profiles.
func newClient(t *testing.T, profile string, base http.RoundTripper, key *seal.PublicKey, own *seal.PrivateKey) *http.Client {
	t.Helper()
	opts := []sealhttp.TransportOption{sealhttp.WithBase(base)}
	if profile == "message" {
		opts = append(opts, sealhttp.WithMaxRequestBytes(32<<20), sealhttp.WithMaxResponseBytes(32<<20))
	} else {
		opts = append(opts, sealhttp.WithProfile(sealhttp.ExchangeProfile))
	}
	if profile != "exchange" {
		opts = append(opts, sealhttp.WithPrivateKeys(own))
	}
	transport, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(key), opts...)
	check(t, err)
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	if profile != "exchange" {
		client.Transport = asAccount{transport}
	}
	return client
}

// asAccount adds a credential, as it were.
type asAccount struct{ http.RoundTripper }

func (a asAccount) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Header.Set("X-Account", callerAccount)
	return a.RoundTripper.RoundTrip(out)
}

// send sends a request, and reads the answer.
func send(client *http.Client, method, url string, body io.Reader) (resp *http.Response, text string, err error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, "", err
	}
	if body != nil {
		req.Header.Set("Content-Type", "text/plain")
	}
	if resp, err = client.Do(req); err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	return resp, string(read), err
}

// wantOutcome checks which of the two an error of the exchange profile is.
func wantOutcome(t *testing.T, err, want error) {
	t.Helper()
	for _, outcome := range []error{sealhttp.ErrNotProcessed, sealhttp.ErrOutcomeUnknown} {
		if errors.Is(err, outcome) != (outcome == want) {
			t.Errorf("%v: is it %q: %t", err, outcome, errors.Is(err, outcome))
		}
	}
}

// newCallerKey makes the key that the account callerAccount registers.
func newCallerKey(t *testing.T) *seal.PrivateKey {
	t.Helper()
	generated, err := seal.GenerateKey(seal.X25519AES256GCM)
	check(t, err)
	key, err := seal.NewPrivateKey(seal.X25519AES256GCM, 1, generated.Bytes())
	check(t, err)
	return key
}
