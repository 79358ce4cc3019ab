package integration_test

import (
	"strings"
	"testing"
)

// The wire format: "When auth fails, the server's debug log and the caller's error tell
// what each bound (method, authority, target, type, names; never values)".
func TestCallerErrorTellsBinding(t *testing.T) {
	g := startGateway(t, nginxServers{servers: map[string]string{
		"sets Host": "location / { proxy_pass http://plain; proxy_set_header Host inner.example; }",
	}})
	c := connection{address: g.plain["sets Host"]}
	_, _, err := send(newClient(t, "exchange", c.base(t), g.key, nil), "POST", c.url("/run?call=1"), strings.NewReader("text"))
	if err == nil || !strings.Contains(err.Error(), `authority "api.example.com"`) {
		t.Errorf("the caller's error does not tell what was bound: %v", err)
	}
}
