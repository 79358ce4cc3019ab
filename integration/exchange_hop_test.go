package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
)

// hop is who ends TLS between a caller and some replicas, and is no friend. It reads each
// request to its end, keeps it, and does what its acts say.
type hop struct {
	t        *testing.T
	services []*service
	client   *http.Client // to them
	acts     []act        // for the first request, the second and so on; the last for all that follow
	address  string

	// clock answers GET /clock, as the service does with a caller whose clock is off.
	clock  *exchangeparty.PrivateKey
	offset time.Duration

	mu   sync.Mutex
	kept []*delivery
}

// delivery is a request as it was sent.
type delivery struct {
	method, target, host string
	header               http.Header
	body                 []byte
}

// act is what the hop does with one request: it waits, delivers it, or not, does something
// else, and reacts.
type act struct {
	wait    time.Duration
	deliver bool
	then    func() // nil for nothing
	react   reaction
}

// reaction is what a caller gets to see. genuine is the service's answer, nil if there is
// none.
type reaction func(w hopWriter, genuine *reply)

// startHop starts a hop. It ends with the test.
func startHop(t *testing.T, http2 bool, services []*service, acts ...act) *hop {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	base := new(http.Transport)
	h := &hop{t: t, services: services, client: &http.Client{Transport: base}, acts: acts, address: listener.Addr().String()}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	over := false
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			if over {
				_ = conn.Close()
			}
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				if http2 {
					h.serveHTTP2(conn)
				} else {
					h.serveHTTP1(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		over = true
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
		base.CloseIdleConnections()
	})
	return h
}

// enoughTries is after how many requests the hop says nothing any more: what a GOAWAY gives
// back, net/http sends again at once, for as long as its context lets it.
const enoughTries = 20

// handle is what the hop does with a request.
func (h *hop) handle(w hopWriter, d *delivery) {
	if d.target == "/clock" {
		w.reply(h.tell(d))
		return
	}
	h.mu.Lock()
	n := len(h.kept)
	h.kept = append(h.kept, d)
	h.mu.Unlock()
	if n >= enoughTries {
		return
	}
	a := h.acts[min(n, len(h.acts)-1)]
	time.Sleep(a.wait)
	var genuine *reply
	if a.deliver {
		var err error
		if genuine, err = h.deliver(d, h.services[n%len(h.services)]); err != nil {
			h.t.Error(err)
			w.hangUp()
			return
		}
	}
	if a.then != nil {
		a.then()
	}
	a.react(w, genuine)
}

// deliver sends a request on, as it is.
func (h *hop) deliver(d *delivery, s *service) (*reply, error) {
	req, err := http.NewRequest(d.method, "http://"+s.Plain+d.target, bytes.NewReader(d.body))
	if err != nil {
		return nil, err
	}
	req.Host, req.Header = d.host, d.header.Clone()
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &reply{resp.StatusCode, resp.Header, body}, err
}

// all returns what the hop has kept.
func (h *hop) all() []*delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*delivery(nil), h.kept...)
}

// replay sends all that was kept to all services, twice and at once, and counts the codes
// of the answers.
func (h *hop) replay() map[sealhttp.Code]int {
	codes := make(map[sealhttp.Code]int)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, d := range h.all() {
		for i := range 2 * len(h.services) {
			all.Go(func() {
				got, err := h.deliver(d, h.services[i%len(h.services)])
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					h.t.Error(err)
					return
				}
				codes[sealhttp.Code(got.header.Get("Sealed-Error"))]++
			})
		}
	}
	all.Wait()
	return codes
}

// tell says, sealed, what time it is: the first time as a refusal.
func (h *hop) tell(d *delivery) *reply {
	field, err := exchangeparty.ParseRequestField(d.header["Sealed-Exchange"])
	if err != nil {
		h.t.Error(err)
		return &reply{status: http.StatusInternalServerError}
	}
	serving, err := exchangeparty.NewServing(h.clock, &exchangeparty.Request{Method: d.method, Host: d.host, Target: d.target}, field)
	if err != nil {
		h.t.Error(err)
		return &reply{status: http.StatusInternalServerError}
	}
	now := time.Now().Add(h.offset).Unix()
	answer := &exchangeparty.Response{Status: http.StatusOK, Body: true}
	if off := field.Timestamp - now; off < -1 || off > 1 {
		answer.Status, answer.Error = http.StatusBadRequest, string(sealhttp.CodeStale)
	}
	sealed, body, err := serving.Respond(nil, answer, exchangeparty.Record{Data: fmt.Appendf(nil, `{"now":%d}`, now)})
	if err != nil {
		h.t.Error(err)
	}
	r := &reply{status: answer.Status, header: make(http.Header), body: body}
	r.header.Set("Sealed-Exchange", sealed.String())
	r.header.Set("Content-Type", sealhttp.ExchangeMediaType)
	if answer.Error != "" {
		r.header.Set("Sealed-Error", answer.Error)
	}
	return r
}
