package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// caller calls the service. One goroutine uses it.
type caller interface {
	name() string
	call(ctx context.Context, url, body string) error
}

// fetchKeys gets the published keyset from one of the replicas.
func fetchKeys(ctx context.Context, replicas []string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", replicas[rand.IntN(len(replicas))]+"/keys", nil)
	if err != nil {
		return nil, err
	}
	return do(http.DefaultClient, req)
}

func do(client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// sealingCaller uses sealhttp's Transport.
type sealingCaller struct{ client *http.Client }

// newSealingCaller makes a caller that fetches keys again when it has had them for a
// while, as package publish does.
func newSealingCaller(replicas []string) caller {
	const enough = 500 * time.Millisecond
	var mu sync.Mutex
	var key *seal.PublicKey
	var fetched time.Time
	source := sealhttp.ServerPublicKeysFunc(func(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if key == nil || key == refused || time.Since(fetched) > enough {
			published, err := fetchKeys(ctx, replicas)
			if err != nil {
				return nil, err
			}
			keys, err := tinkkeys.ParsePublic(published)
			if err != nil {
				return nil, err
			}
			key, fetched = keys[0], time.Now()
		}
		return key, nil
	})
	transport, err := sealhttp.NewTransport(source)
	if err != nil {
		panic(err) // the options are constant
	}
	return &sealingCaller{&http.Client{Transport: transport}}
}

func (*sealingCaller) name() string { return "sealhttp" }

func (c *sealingCaller) call(ctx context.Context, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return err
	}
	return expect(c.client, req, body)
}

func expect(client *http.Client, req *http.Request, body string) error {
	answer, err := do(client, req)
	if err == nil && string(answer) != body {
		err = fmt.Errorf("sent %q and got %q", body, answer)
	}
	return err
}

// tinkCaller has a Tink keyset, and nothing else.
type tinkCaller struct {
	replicas []string
	replace  <-chan struct{} // when somebody replaces the keyset
	encrypt  tink.HybridEncrypt
	replaced bool
}

func newTinkCaller(replicas []string, promoted <-chan struct{}) caller {
	replace := make(chan struct{})
	go func() {
		<-promoted
		time.Sleep(schedule.Overlap / 2)
		close(replace)
	}()
	return &tinkCaller{replicas: replicas, replace: replace}
}

func (*tinkCaller) name() string { return "Tink" }

func (c *tinkCaller) call(ctx context.Context, url, body string) error {
	fetch := c.encrypt == nil
	select {
	case <-c.replace:
		fetch = fetch || !c.replaced
		c.replaced = true
	default:
	}
	if fetch {
		published, err := fetchKeys(ctx, c.replicas)
		if err != nil {
			return err
		}
		handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(published)))
		if err != nil {
			return err
		}
		if c.encrypt, err = hybrid.NewHybridEncrypt(handle); err != nil {
			return err
		}
	}
	sealed, err := c.encrypt.Encrypt([]byte(body), nil)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(sealed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", sealhttp.MediaType)
	return expect(http.DefaultClient, req, body)
}
