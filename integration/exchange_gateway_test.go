package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// gateway is a service behind nginx.
type gateway struct {
	*nginx
	s   *service
	key *seal.PublicKey
	own *seal.PrivateKey // of callerAccount
}

// startGateway starts both. In nginx's directives, http://plain is the service, and
// http://variant0, http://variant1 are its variants.
func startGateway(t *testing.T, c nginxServers, variants ...variant) *gateway {
	t.Helper()
	keys, public := newKeys(t, 1)
	own := newCallerKey(t)
	g := &gateway{key: public[0], own: own}
	g.s = startService(t, serviceConfig{Keys: keys, Caller: own.Public().Bytes(), Variants: variants})
	upstream := func(name, address string) {
		c.shared += fmt.Sprintf("upstream %s { server %s; keepalive 8; }\n", name, address)
	}
	upstream("plain", g.s.Plain)
	for i, address := range g.s.Variants {
		upstream(fmt.Sprintf("variant%d", i), address)
	}
	g.nginx = startNginx(t, c)
	return g
}

// caller is one that calls through a server of nginx's.
type gatewayCaller struct {
	connection
	*http.Client
	profile string
}

// sealsExchanges reports which of the two profiles it has.
func (c *gatewayCaller) sealsExchanges() bool { return c.profile != "message" }

func (c *gatewayCaller) send(method, target, body string) (*http.Response, string, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return send(c.Client, method, c.url(target), r)
}

// each runs a test with callers over both protocols, in all profiles.
func (g *gateway) each(t *testing.T, server string, test func(*testing.T, *gatewayCaller)) {
	for _, c := range []connection{{address: g.plain[server]}, {address: g.tls[server], http2: true, roots: g.roots}} {
		for _, profile := range profiles {
			t.Run(protocolName(c.http2)+"/"+profile, func(t *testing.T) {
				test(t, &gatewayCaller{c, newClient(t, profile, c.base(t), g.key, g.own), profile})
			})
		}
	}
}

var callNames atomic.Int64

// newCall returns a name that no other call has.
func newCall() string { return fmt.Sprintf("call%d", callNames.Add(1)) }

// buffering is how nginx may hand on what it gets. By default it speaks HTTP/1.0 with a
// service, where nothing but the last record tells the end of a response from a broken
// connection.
var buffering = map[string]string{
	"buffers both":      "location / { proxy_pass http://plain; }",
	"buffers requests":  "location / { proxy_pass http://plain; proxy_buffering off; }",
	"buffers responses": "location / { proxy_pass http://plain; proxy_request_buffering off; }",
	"buffers nothing":   "location / { proxy_pass http://plain; proxy_request_buffering off; proxy_buffering off; }",
	"speaks HTTP1.0":    "location / { proxy_pass http://plain; proxy_http_version 1.0; }",
	"compresses":        "location / { proxy_pass http://plain; gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1; }",
}

// Calls of all kinds pass nginx, however it is set up.
func TestExchangeThroughNginx(t *testing.T) {
	g := startGateway(t, nginxServers{servers: buffering})
	long := strings.Repeat("a body of some packets ", 10_000)
	for server := range buffering {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				for _, row := range []struct {
					method, target, body string
					status               int
					answer               string
				}{
					{"GET", "/run?call=", "", 200, ": 1, with 0 bytes"},
					{"GET", "/run?x=%C3%A4;&y=?&z=a+b%20c&call=", "", 200, ": 1, with 0 bytes"},
					{"POST", "/run?call=", "", 200, ": 1, with 0 bytes"},
					{"POST", "/run?call=", "a small body", 200, ": 1, with 12 bytes"},
					{"DELETE", "/run?call=", "", 200, ": 1, with 0 bytes"},
					{"POST", "/echo", "a small body", 200, "a small body"},
					{"PUT", "/echo", long, 200, long},
					{"HEAD", "/source?bytes=100000", "", 200, ""},
					{"GET", "/status?code=204", "", 204, ""},
					{"POST", "/status?code=204", "body", 204, ""},
					{"GET", "/status?code=304", "", 304, ""},
					{"GET", "/status?code=404&text=none", "", 404, "none"},
					{"POST", "/status?code=418&text=teapot", "body", 418, "teapot"},
					{"GET", "/status?code=500&text=broken", "", 500, "broken"},
					{"POST", "/status?code=503&text=later", "body", 503, "later"},
				} {
					target, answer := row.target, row.answer
					if strings.HasSuffix(target, "call=") {
						call := newCall()
						target, answer = target+call, call+answer
					}
					resp, text, err := c.send(row.method, target, row.body)
					if err != nil {
						t.Errorf("%s %s: %v", row.method, target, err)
						continue
					}
					if resp.StatusCode != row.status || text != answer {
						t.Errorf("%s %s: %s, %d bytes %.40q, want %d and %.40q", row.method, target, resp.Status, len(text), text, row.status, answer)
					}
					hasContent := row.method != "HEAD" && row.status != 204 && row.status != 304
					if info, sealed := sealhttp.FromResponse(resp); sealed != (c.sealsExchanges() || hasContent) {
						t.Errorf("%s %s: %+v, %t", row.method, target, info, sealed)
					}
				}
			})
		})
	}
}

// A long body passes up and down, and the service holds no more of it than a few records;
// in the message profile it holds all of it, and some copies.
func TestExchangeLongThroughNginx(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("it takes some seconds, and with the race detector more memory than is allowed")
	}
	const bytes = 20 << 20
	want := patternSummary(bytes)
	for name, row := range map[string]struct {
		profiles []string
		most     int64 // over what the service has when it does nothing
	}{
		"exchange": {[]string{"exchange", "exchange, to a registered key"}, 24 << 20},
		"message":  {[]string{"message"}, 8 * bytes},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, nginxServers{servers: buffering})
			for _, server := range []string{"buffers both", "buffers nothing", "speaks HTTP1.0"} {
				g.each(t, server, func(t *testing.T, c *gatewayCaller) {
					if (c.profile == "message") != (name == "message") {
						return
					}
					for _, length := range []int64{bytes, -1} {
						req, err := http.NewRequest(http.MethodPost, c.url("/sink"), io.NopCloser(newPattern(bytes)))
						check(t, err)
						req.ContentLength = length
						resp, err := c.Do(req)
						text, err := content(resp, err)
						check(t, err)
						if got := string(text); got != want {
							t.Errorf("up: %q, want %q", got, want)
						}
					}
					resp, err := c.Get(c.url(fmt.Sprintf("/source?bytes=%d", bytes)))
					check(t, err)
					defer resp.Body.Close()
					sum, n, err := sumOf(resp.Body)
					check(t, err)
					if got := summary(n, sum); got != want {
						t.Errorf("down: %q, want %q", got, want)
					}
				})
			}
			peak := g.s.memory(t).Peak - g.s.Memory.Resident
			t.Logf("the service has %d KiB more than idle at its peak", peak>>10)
			if peak > row.most {
				t.Errorf("that is more than %d KiB", row.most>>10)
			}
		})
	}
}

// Events come one by one: each is sent only when the one before was received.
func TestExchangeEventsThroughNginx(t *testing.T) {
	g := startGateway(t, nginxServers{servers: buffering})
	for server, target := range map[string]string{
		"buffers nothing":  "/events?",
		"buffers requests": "/events?",
		"buffers both":     "/events?accel&", // the handler asks nginx not to
	} {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				if !c.sealsExchanges() {
					return // it seals a response as a whole
				}
				call := newCall()
				resp, err := c.Get(c.url(target + "events=5&text=happened&call=" + call))
				check(t, err)
				defer resp.Body.Close()
				if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
					t.Errorf("Content-Type %q", got)
				}
				for i := range 5 {
					want := fmt.Sprintf("data: event %d happened\n\n", i)
					got := make([]byte, len(want))
					_, err := io.ReadFull(resp.Body, got)
					check(t, err)
					if string(got) != want {
						t.Fatalf("%q, want %q", got, want)
					}
					g.s.open(t, call)
				}
				rest, err := io.ReadAll(resp.Body)
				check(t, err)
				if len(rest) > 0 {
					t.Errorf("%q follows", rest)
				}
			})
		})
	}
}
