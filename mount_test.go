package sealhttp_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/sealhttp/sealhttp"
)

// mountContext stands for a router's context.
type mountContext struct{ account string }

// A Mount asks what it has, of the router's context, and leaves the rest to its Middleware.
func TestMount(t *testing.T) {
	type context = *mountContext
	down := errors.New("down")
	account := func(c context) string { return c.account }
	policy := func(p sealhttp.Policy, err error) func(context) (sealhttp.Policy, error) {
		return func(c context) (sealhttp.Policy, error) {
			if c.account != "acme" {
				t.Errorf("the policy is asked for %q", c.account)
			}
			return p, err
		}
	}
	for _, row := range []struct {
		name    string
		mount   sealhttp.Mount[context]
		account string // as the request has it then
		code    sealhttp.Code
		cause   error
	}{
		{name: "nothing of its own", code: sealhttp.CodeEncryptionRequired},
		{name: "account", mount: sealhttp.Mount[context]{Account: account}, account: "acme", code: sealhttp.CodeEncryptionRequired},
		{name: "policy", mount: sealhttp.Mount[context]{Policy: policy(sealhttp.Optional, nil)}},
		{name: "policy and account", mount: sealhttp.Mount[context]{Account: account, Policy: policy(sealhttp.Optional, nil)}, account: "acme"},
		{name: "no policy", mount: sealhttp.Mount[context]{Policy: policy(0, nil)}, code: sealhttp.CodePolicyUnavailable},
		{name: "policy that fails", mount: sealhttp.Mount[context]{Policy: policy(sealhttp.Optional, down)}, code: sealhttp.CodePolicyUnavailable, cause: down},
		{name: "skipped", mount: sealhttp.Mount[context]{Account: account, Skip: func(c context) bool { return c.account == "acme" }}},
		{name: "not skipped", mount: sealhttp.Mount[context]{Skip: func(context) bool { return false }}, code: sealhttp.CodeEncryptionRequired},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.mount.Middleware = srvMiddleware(t, sealhttp.WithPolicy(sealhttp.Required))
			r := httptest.NewRequest("GET", "/", nil)
			call, err := row.mount.Begin(&mountContext{"acme"}, httptest.NewRecorder(), r)
			if call != nil {
				t.Errorf("a Call for plaintext: %+v", call)
			}
			var code sealhttp.Code
			if e, ok := errors.AsType[*sealhttp.Error](err); ok {
				code = e.Code
			}
			if code != row.code || row.cause != nil && !errors.Is(err, row.cause) {
				t.Errorf("Begin: %v, want code %q", err, row.code)
			}
			if got := sealhttp.Account(r.Context()); got != row.account {
				t.Errorf("the request's account is %q, want %q", got, row.account)
			}
		})
	}
}

// It opens sealed calls, and costs one in plaintext nothing.
func TestMountPassesCalls(t *testing.T) {
	mount := &sealhttp.Mount[*mountContext]{Middleware: srvMiddleware(t), Policy: func(*mountContext) (sealhttp.Policy, error) {
		return sealhttp.Optional, nil
	}}
	c, w, r := new(mountContext), httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	allocations := testing.AllocsPerRun(200, func() {
		clear(w.Header())
		if call, err := mount.Begin(c, w, r); call != nil || err != nil {
			t.Errorf("in plaintext: %v, %v", call, err)
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
	r.Header.Set("Accept", sealhttp.MediaType)
	call, err := mount.Begin(c, w, r)
	if err != nil || !call.OwnWriter() {
		t.Errorf("sealed: %v, %v", call, err)
	}
	call.Close()
}
