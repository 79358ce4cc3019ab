package integration_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// recorded is a request of the exchange profile, byte for byte, as whoever is between
// caller and service may keep it. It was made by the second implementation, with the
// time that the test wants.
type recorded struct {
	call   *exchangeparty.Call
	method string
	target string
	body   []byte
	name   string // of the call, by which the service counts
}

// record makes a call that the service counts, as of a time.
func record(t *testing.T, key *seal.PublicKey, method string, at time.Time) *recorded {
	t.Helper()
	server, err := exchangeparty.NewPublicKey(key.Suite().String(), key.ID(), key.Bytes())
	check(t, err)
	r := &recorded{method: method, name: newCall()}
	r.target = "/run?call=" + r.name
	field := exchangeparty.RequestField{Timestamp: at.Unix()}
	_, _ = rand.Read(field.ID[:])
	r.call, err = exchangeparty.NewCall(server, &exchangeparty.Request{
		Method: method, Host: serviceName, Target: r.target, Body: method == http.MethodPost,
	}, field)
	check(t, err)
	if method == http.MethodPost {
		r.body = r.call.Body(exchangeparty.Record{Data: []byte("text")})
	}
	return r
}

// answer is what came back.
type answer struct {
	Status int
	Code   sealhttp.Code
	Sealed bool // and opened
	Text   string
}

// The answers that the tests look for.
var (
	replayed = answer{http.StatusConflict, sealhttp.CodeReplayed, true, ""}
	stale    = answer{http.StatusBadRequest, sealhttp.CodeStale, true, ""}
	noGuard  = answer{http.StatusServiceUnavailable, sealhttp.CodeReplayGuardUnavailable, true, ""}
)

// executed is the answer to a call that was executed for the first time.
func (r *recorded) executed() answer {
	if r.method == http.MethodPost {
		return answer{http.StatusOK, "", true, r.name + ": 1, with 4 bytes"}
	}
	return answer{http.StatusOK, "", true, r.name + ": 1, with 0 bytes"}
}

// deliver sends it to a service, as the given account.
func (r *recorded) deliver(client *http.Client, s *service, account string) (answer, error) {
	req, err := http.NewRequest(r.method, "http://"+s.Plain+r.target, nil)
	if err != nil {
		return answer{}, err
	}
	req.Host = serviceName
	req.Header.Set("Sealed-Exchange", r.call.Field.String())
	req.Header.Set("X-Account", account)
	if r.body != nil {
		req.Header.Set("Content-Type", sealhttp.ExchangeMediaType)
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return r.open(resp, body)
}

// open opens a response to it. Of a refusal, the text is left out.
func (r *recorded) open(resp *http.Response, body []byte) (answer, error) {
	a := answer{Status: resp.StatusCode, Code: sealhttp.Code(resp.Header.Get("Sealed-Error"))}
	if resp.Header["Sealed-Exchange"] == nil {
		return a, nil
	}
	field, err := exchangeparty.ParseResponseField(resp.Header["Sealed-Exchange"])
	if err != nil {
		return a, err
	}
	records, err := r.call.Open(field, nil, &exchangeparty.Response{
		Status: resp.StatusCode, Error: string(a.Code), ContentType: resp.Header.Get("Sealed-Content-Type"),
		Body: resp.Header.Get("Content-Type") == sealhttp.ExchangeMediaType,
	}, body)
	if err != nil {
		return a, err
	}
	a.Sealed = true
	if a.Code == "" {
		a.Text = string(exchangeparty.Data(records))
	}
	return a, nil
}

// flood sends it so many times at once, spread over some services, and counts the
// answers.
func (r *recorded) flood(t *testing.T, times int, services ...*service) map[answer]int {
	t.Helper()
	base := new(http.Transport)
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: base, Timeout: 20 * time.Second}
	answers := make(map[answer]int)
	var mu sync.Mutex
	var all sync.WaitGroup
	now := make(chan struct{})
	for i := range times {
		all.Go(func() {
			<-now
			a, err := r.deliver(client, services[i%len(services)], "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			answers[a]++
		})
	}
	close(now)
	all.Wait()
	return answers
}

// once sends it to one service.
func (r *recorded) once(t *testing.T, s *service, account string) answer {
	t.Helper()
	a, err := r.deliver(http.DefaultClient, s, account)
	check(t, err)
	return a
}
