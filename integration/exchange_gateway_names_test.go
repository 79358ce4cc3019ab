package integration_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// A gateway that changes what a request is bound to makes it fail, in a way that is found
// in the service's debug log, until the service is told of it.
func TestExchangeChangedByNginx(t *testing.T) {
	const ours = " proxy_set_header Connection ''; proxy_set_header Host " // those further out count no more
	rows := map[string]struct {
		directives string // of the location
		location   string // "/" if empty
		get        bool   // and not a POST
		code       sealhttp.Code
		status     int    // of an error; 0 for none
		log        string // what the service's debug log says, quoted as there
		runs       int
	}{
		"nothing":                {directives: "proxy_pass http://plain;", runs: 1},
		"Host's port":            {directives: "proxy_pass http://plain;" + ours + "$http_host;", runs: 1},
		"Host":                   {directives: "proxy_pass http://plain;" + ours + "inner.example;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `authority \"inner.example\"`},
		"Host, mended":           {directives: "proxy_pass http://variant0;" + ours + "inner.example;", runs: 1},
		"Host, by nginx itself":  {directives: "proxy_pass http://plain; proxy_set_header Connection '';", code: sealhttp.CodeDecryptionFailed, status: 400, log: `authority \"plain\"`},
		"the path":               {location: "/public/", directives: "proxy_pass http://plain/;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `target \"/run?`},
		"the path, mended":       {location: "/public/", directives: "proxy_pass http://variant1/;", runs: 1},
		"Host and path, mended":  {location: "/public/", directives: "proxy_pass http://variant2/;" + ours + "inner.example;", runs: 1},
		"the query":              {directives: "proxy_pass http://plain/run?$args&from=nginx;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `from=nginx\"`},
		"the method":             {directives: "proxy_pass http://plain; proxy_method PUT;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `method \"PUT\"`},
		"the credentials":        {directives: "proxy_pass http://plain; proxy_set_header Authorization 'Bearer nginx';" + ours + "$host;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `\"authorization\"`},
		"Idempotency-Key":        {directives: "proxy_pass http://plain; proxy_set_header Idempotency-Key '';" + ours + "$host;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `\"idempotency-key\"`},
		"the type":               {directives: "proxy_pass http://plain; proxy_set_header Sealed-Content-Type text/html;" + ours + "$host;", code: sealhttp.CodeDecryptionFailed, status: 400, log: `content type \"text/html\"`},
		"that it is sealed":      {directives: "proxy_pass http://plain; proxy_set_header Sealed-Exchange '';" + ours + "$host;", code: sealhttp.CodeMalformed, status: 400},
		"that it is sealed, GET": {directives: "proxy_pass http://plain; proxy_set_header Sealed-Exchange '';" + ours + "$host;", get: true, status: 200, runs: 1},
		"that the answer is":     {directives: "proxy_pass http://plain; proxy_hide_header Sealed-Exchange;", status: 200, runs: 1},
		"the answer's type":      {directives: "proxy_pass http://plain; proxy_hide_header Sealed-Content-Type;", code: sealhttp.CodeDecryptionFailed, status: 200, runs: 1},
	}
	servers := make(map[string]string)
	for server, row := range rows {
		if row.location == "" {
			row.location = "/"
		}
		servers[server] = "location " + row.location + " { " + row.directives + " }"
	}
	g := startGateway(t, nginxServers{servers: servers},
		variant{Authority: serviceName}, variant{TargetPrefix: "/public"}, variant{Authority: serviceName, TargetPrefix: "/public"})
	for server, row := range rows {
		t.Run(server, func(t *testing.T) {
			g.each(t, server, func(t *testing.T, c *gatewayCaller) {
				call, method, want := newCall(), http.MethodPost, ": 1, with 4 bytes"
				body := strings.NewReader("text")
				if row.get {
					method, body, want = http.MethodGet, strings.NewReader(""), ": 1, with 0 bytes"
				}
				req, err := http.NewRequest(method, c.url(strings.TrimSuffix(row.location, "/")+"/run?call="+call), body)
				check(t, err)
				req.Header.Set("Content-Type", "text/plain")
				req.Header.Set("Authorization", "Bearer caller")
				req.Header.Set("Idempotency-Key", "key of the caller")
				resp, err := c.Do(req)
				text, err := content(resp, err)
				if row.status == 0 || !c.sealsExchanges() { // a message is bound to none of it
					check(t, err)
					if string(text) != call+want {
						t.Errorf("%q, want %q", text, call+want)
					}
					return
				}
				wantUnauthenticated(t, err, row.code, row.status)
				if n := runs(t, call, g.s); n != row.runs {
					t.Errorf("it was executed %d times, want %d", n, row.runs)
				}
				if log := g.s.stderr.String(); !strings.Contains(log, row.log) {
					t.Errorf("the log does not say %s:\n%s", row.log, log)
				}
			})
		})
	}
	for _, value := range []string{"Bearer", "key of"} {
		if strings.Contains(g.s.stderr.String(), value) {
			t.Errorf("the log has the value of a header field: %q", value)
		}
	}
}

// wantUnauthenticated checks the error for an answer that is not the service's, or cannot
// be told to be.
func wantUnauthenticated(t *testing.T, err error, code sealhttp.Code, status int) {
	t.Helper()
	var e *sealhttp.Error
	if !errors.As(err, &e) || !errors.Is(err, sealhttp.ErrUnauthenticated) {
		t.Fatalf("got %v, want an *Error that is ErrUnauthenticated", err)
	}
	if e.Code != code || e.Status != status {
		t.Errorf("got code %q and status %d, want %q and %d", e.Code, e.Status, code, status)
	}
	wantOutcome(t, err, sealhttp.ErrOutcomeUnknown)
}

// What nginx leaves out of a body is missed: the handler reads an error, and the caller
// does.
func TestExchangeBodyDroppedByNginx(t *testing.T) {
	g := startGateway(t, nginxServers{servers: map[string]string{
		"drops": "location / { proxy_pass http://plain; proxy_pass_request_body off; proxy_set_header Content-Length ''; proxy_set_header Host $host; }",
	}})
	g.each(t, "drops", func(t *testing.T, c *gatewayCaller) {
		if !c.sealsExchanges() {
			return // without a body there is no message, and nothing to miss it by
		}
		_, _, err := c.send(http.MethodPost, "/run?call="+newCall(), "text")
		if !errors.Is(err, seal.ErrTruncated) {
			t.Errorf("got %v, want ErrTruncated", err)
		}
	})
}
