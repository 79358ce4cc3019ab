package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// base is the connections of all callers.
var base = &http.Transport{MaxIdleConnsPerHost: 64}

// balancer sends what asks for the service by its name to any replica that lives, as a
// load balancer does. What is lost with a replica it asks another one.
type balancer struct {
	fleet   *fleet
	fetches atomic.Int64
}

func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	b.fetches.Add(1)
	for {
		r, err := b.fleet.any()
		if err != nil {
			return nil, err
		}
		at, err := url.Parse(r.url)
		if err != nil {
			return nil, err
		}
		out := req.Clone(req.Context())
		out.URL.Scheme, out.URL.Host = at.Scheme, at.Host
		resp, err := base.RoundTrip(out)
		if err == nil {
			err = buffer(resp)
		}
		if err == nil || !r.dying.Load() {
			return resp, err
		}
	}
}

// buffer reads a whole body.
func buffer(resp *http.Response) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return err
}

// fetch gets something of the service in plaintext.
func (b *balancer) fetch(path string) ([]byte, error) {
	resp, err := (&http.Client{Transport: b}).Get("http://" + serviceName + path)
	return content(resp, err)
}

// errAnswer is wrapped by the error for a call that was answered, and wrongly.
var errAnswer = errors.New("the wrong answer")

// content returns the body of a successful answer.
func content(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%w: %s: %s", errAnswer, resp.Status, body)
	}
	return body, err
}

// post sends JSON as an account.
func post(client *http.Client, url, account, body string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Account", account)
	req.Header.Set("Content-Type", "application/json")
	return content(client.Do(req))
}
