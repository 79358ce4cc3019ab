package integration_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// What nginx answers itself is never a response in the exchange profile, whatever its
// status. In the message profile it is, but one that says it is no one's, or an error.
func TestExchangeAnsweredByNginx(t *testing.T) {
	const gzip = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1;"
	rows := map[string]struct {
		directives string // of the location
		target     string
		body       int // bytes
		gzip       bool
		status     int
		code       sealhttp.Code
		runs       int
		message    error // what the message profile makes of it, nil for a response
	}{
		"nothing listens":        {directives: "proxy_pass http://127.0.0.1:1;", target: "/run?", body: 9, status: 502},
		"the service hangs":      {directives: "proxy_pass http://plain; proxy_read_timeout 200ms;", target: "/stalled?", body: 9, status: 504},
		"the service breaks off": {directives: "proxy_pass http://plain;", target: "/abort?", body: 9, status: 502, runs: 1},
		"too large":              {directives: "proxy_pass http://plain; client_max_body_size 1k;", target: "/run?", body: 2000, status: 413},
		"too large by far":       {directives: "proxy_pass http://plain; client_max_body_size 1k;", target: "/run?", body: 5 << 20, status: 413},
		"out of order":           {directives: "return 503;", target: "/run?", body: 9, status: 503},
		"another's 200":          {directives: "return 200 fine;", target: "/run?", body: 9, status: 200, message: sealhttp.ErrPlaintextResponse},
		"another's 204":          {directives: "return 204;", target: "/run?", status: 204},
		"a redirect":             {directives: "return 307 /elsewhere;", target: "/run?", body: 9, status: 307, message: sealhttp.ErrRedirect},
		"an error page":          {directives: "proxy_pass http://plain; proxy_intercept_errors on; error_page 500 =200 /page;", target: "/status?code=500&", body: 9, status: 200, message: sealhttp.ErrPlaintextResponse},
		"gzip, asked for":        {directives: "proxy_pass http://plain;" + gzip, target: "/run?", body: 9, gzip: true, status: 200, code: sealhttp.CodeUnsupportedContentEncoding, runs: 1, message: sealhttp.CodeUnsupportedContentEncoding},
	}
	servers := make(map[string]string)
	for server, row := range rows {
		servers[server] = "location / { " + row.directives + " } location /page { return 200 fine; }"
	}
	g := startGateway(t, nginxServers{servers: servers})
	for server, row := range rows {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				t.Parallel()
				call := newCall()
				req, err := http.NewRequest(http.MethodPost, c.url(row.target+"call="+call), strings.NewReader(strings.Repeat("x", row.body)))
				check(t, err)
				if row.gzip {
					req.Header.Set("Accept-Encoding", "gzip")
				}
				resp, err := c.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				switch {
				case c.sealsExchanges():
					wantUnauthenticated(t, err, row.code, row.status)
				case row.message != nil:
					if !errors.Is(err, row.message) {
						t.Errorf("got %v, want %v", err, row.message)
					}
				default:
					check(t, err)
					if info, sealed := sealhttp.FromResponse(resp); sealed || resp.StatusCode != row.status {
						t.Errorf("%s, %+v, %t", resp.Status, info, sealed)
					}
				}
				if n := runs(t, call, g.s); n != row.runs {
					t.Errorf("it was executed %d times, want %d", n, row.runs)
				}
			})
		})
	}
}

// A service that breaks off in the middle of its answer is noticed, even where nginx has
// no way to know, and to tell.
func TestExchangeBrokenOffBehindNginx(t *testing.T) {
	g := startGateway(t, nginxServers{servers: buffering})
	for server := range buffering {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				resp, text, err := c.send(http.MethodPost, "/abort?late=1&call="+newCall(), "text")
				if !c.sealsExchanges() { // none of the answer was sent
					check(t, err)
					if _, sealed := sealhttp.FromResponse(resp); sealed || resp.StatusCode != http.StatusBadGateway {
						t.Errorf("%s, sealed: %t", resp.Status, sealed)
					}
					return
				}
				if !errors.Is(err, seal.ErrTruncated) || text != "half an answer" {
					t.Errorf("%q and %v, want half an answer and ErrTruncated", text, err)
				}
			})
		})
	}
}

// An nginx that caches what must not be cached answers with what is another call's. In
// the message profile nothing tells.
func TestExchangeCachedByNginx(t *testing.T) {
	g := startGateway(t, nginxServers{
		shared: "proxy_cache_path cache keys_zone=all:1m;",
		servers: map[string]string{"caches": `location / {
			proxy_pass http://plain;
			proxy_cache all;
			proxy_cache_key $request_uri;
			proxy_cache_valid any 1m;
			proxy_cache_methods GET HEAD POST;
			proxy_ignore_headers Cache-Control Vary;
		}`},
	})
	g.each(t, "caches", func(t *testing.T, c *gatewayCaller) {
		call := newCall()
		want := call + ": 1, with 4 bytes"
		_, text, err := c.send(http.MethodPost, "/run?call="+call, "text")
		check(t, err)
		if text != want {
			t.Errorf("%q, want %q", text, want)
		}
		_, text, err = c.send(http.MethodPost, "/run?call="+call, "another")
		if c.sealsExchanges() {
			wantUnauthenticated(t, err, sealhttp.CodeDecryptionFailed, http.StatusOK)
		} else if check(t, err); text != want {
			t.Errorf("%q, want %q", text, want)
		}
		if n := runs(t, call, g.s); n != 1 {
			t.Errorf("executed %d times, the cache has not worked", n)
		}
	})
}
