package integration_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// callTimeout is how long a caller waits for an answer.
const callTimeout = 20 * time.Second

// caller is an account that calls. One goroutine uses it.
type caller interface {
	name() string
	// call sends a body to a replica, and checks the answer.
	call(url, body string) error
	fetches() int64 // of the publication
}

// sealingCaller calls through a Transport, with keys from a Source.
type sealingCaller struct {
	account string
	fleet   *fleet
	keys    atomic.Pointer[seal.KeySet]
	client  *http.Client
	*balancer
}

func newSealingCaller(f *fleet, account string) (*sealingCaller, error) {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		return nil, err
	}
	if err := registerPrivate(f, account, key, nil); err != nil {
		return nil, err
	}
	c := &sealingCaller{account: account, fleet: f, balancer: &balancer{fleet: f}}
	if err := c.hold(key); err != nil {
		return nil, err
	}
	source, err := publish.NewSource("http://"+serviceName+"/keys", serviceName, []ed25519.PublicKey{f.pin()},
		publish.WithHTTPClient(&http.Client{Transport: c.balancer}),
		publish.WithRefusedInterval(time.Millisecond), // as rotations, refusals come fast here
		publish.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	own := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return c.keys.Load(), nil })
	transport, err := sealhttp.NewTransport(source, sealhttp.WithPrivateKeySource(own), sealhttp.WithBase(base))
	if err != nil {
		return nil, err
	}
	c.client = &http.Client{Transport: transport, Timeout: callTimeout}
	return c, nil
}

func (c *sealingCaller) hold(primary *seal.PrivateKey, others ...*seal.PrivateKey) error {
	keys, err := seal.NewKeySet(primary, others...)
	if err == nil {
		c.keys.Store(keys)
	}
	return err
}

// replaceKey registers another key of the caller's own while it calls.
func (c *sealingCaller) replaceKey() error {
	old := c.keys.Load().Primary()
	key, err := seal.GenerateKey(seal.P256AES256GCM)
	if err != nil {
		return err
	}
	if err := c.hold(key, old); err != nil {
		return err
	}
	return registerPrivate(c.fleet, c.account, key, old)
}

func (c *sealingCaller) name() string { return c.account }

func (c *sealingCaller) fetches() int64 { return c.balancer.fetches.Load() }

func (c *sealingCaller) call(url, body string) error {
	return callSealed(c.client, url, c.account, body)
}

// callSealed calls through a Transport.
func callSealed(client *http.Client, url, account, body string) error {
	req, err := http.NewRequest(http.MethodPost, url+"/api", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Account", account)
	resp, err := client.Do(req)
	answer, err := content(resp, err)
	if err != nil {
		return err
	}
	if info, ok := sealhttp.FromResponse(resp); !ok || !info.RequestSealed || !info.ResponseSealed {
		return fmt.Errorf("%w: the call was sealed so: %+v", errAnswer, info)
	}
	return expectAnswer(answer, account, body)
}

func expectAnswer(answer []byte, account, body string) error {
	if want := answerTo(account, body); string(answer) != want {
		return fmt.Errorf("%w: %q, want %q", errAnswer, answer, want)
	}
	return nil
}

// tinkCaller has Tink, and nothing of sealhttp. It fetches the keyset only when it is
// refused, so that it uses each key until that is gone.
type tinkCaller struct {
	account string
	client  *http.Client
	encrypt tink.HybridEncrypt
	decrypt tink.HybridDecrypt
	*balancer
}

func newTinkCaller(f *fleet, account string) (*tinkCaller, error) {
	private, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		return nil, err
	}
	public, err := private.Public()
	if err != nil {
		return nil, err
	}
	var json bytes.Buffer
	if err := public.WriteWithNoSecrets(keyset.NewJSONWriter(&json)); err != nil {
		return nil, err
	}
	c := &tinkCaller{account: account, balancer: &balancer{fleet: f}, client: &http.Client{Transport: base, Timeout: callTimeout}}
	if c.decrypt, err = hybrid.NewHybridDecrypt(private); err != nil {
		return nil, err
	}
	own, err := tinkkeys.ParsePublic(json.Bytes()) // what a challenge is bound to has the fingerprint
	if err != nil {
		return nil, err
	}
	err = register(f, account, json.Bytes(), 0, func(challenge *accounts.Challenge) ([]byte, error) {
		return c.decrypt.Decrypt(challenge.Message, accounts.ChallengeInfo(account, own[0]))
	})
	if err != nil {
		return nil, err
	}
	return c, c.fetchKeys()
}

func (c *tinkCaller) fetchKeys() error {
	published, err := c.fetch("/tink")
	if err != nil {
		return err
	}
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(published)))
	if err != nil {
		return err
	}
	c.encrypt, err = hybrid.NewHybridEncrypt(handle)
	return err
}

func (c *tinkCaller) name() string { return c.account }

func (c *tinkCaller) fetches() int64 { return c.balancer.fetches.Load() }

func (c *tinkCaller) call(url, body string) error {
	err := c.try(url, body)
	if !errors.Is(err, errUnknownKey) {
		return err
	}
	if err := c.fetchKeys(); err != nil {
		return err
	}
	return c.try(url, body)
}

var errUnknownKey = fmt.Errorf("%w: unknown_key", errAnswer)

func (c *tinkCaller) try(url, body string) error {
	const sealed = "application/octet-stream+hpke"
	message, err := c.encrypt.Encrypt([]byte(body), nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, url+"/api", bytes.NewReader(message))
	if err != nil {
		return err
	}
	req.Header.Set("X-Account", c.account)
	req.Header.Set("Content-Type", sealed)
	req.Header.Set("Accept", sealed)
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.Header.Get("Sealed-Error") == "unknown_key":
		return errUnknownKey
	case resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != sealed:
		return fmt.Errorf("%w: %s: %s", errAnswer, resp.Status, answer)
	}
	plaintext, err := c.decrypt.Decrypt(answer, nil)
	if err != nil {
		return err
	}
	return expectAnswer(plaintext, c.account, body)
}
