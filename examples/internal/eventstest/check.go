package eventstest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/examples/internal/events"
	"github.com/sealhttp/sealhttp/examples/internal/tinkcaller"
)

// canary is in every payload of a caller, and is to be seen on the wire only in calls
// in plaintext.
const canary = "canary"

// check tests a server that has just been started.
func check(t *testing.T, server *Server, wire *wire) {
	plain := &wire.transport
	shop := caller{server.URL, "shop-token", plain}
	legacy := caller{server.URL, "legacy-token", plain}
	clinic := caller{server.URL, "clinic-token", plain}

	sealing, shopKey, shopKeyset := newTransport(t, server, plain)
	sealedShop := caller{server.URL, "shop-token", sealing}
	sealedLegacy := caller{server.URL, "legacy-token", sealing}
	tink, clinicKeyset, err := tinkcaller.New([]byte(server.Keyset), plain)
	if err != nil {
		t.Fatal(err)
	}
	sealedClinic := caller{server.URL, "clinic-token", tink}

	t.Run("no token", func(t *testing.T) {
		nobody := caller{server.URL, "guessed", plain}
		a := nobody.want(t, http.StatusUnauthorized, call{method: "GET", target: "/events"}, nil)
		if a.header.Get("WWW-Authenticate") != "Bearer" || a.header.Get("Content-Type") != events.ProblemType {
			t.Errorf("got %v", a.header)
		}
		caller{server.URL, "guessed", sealing}.want(t, http.StatusUnauthorized, newEvent(), nil)
	})

	t.Run("no key", func(t *testing.T) {
		sealedShop.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeNoClientKey, newEvent())
		sealedClinic.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeNoClientKey, call{method: "GET", target: "/events"})
		shop.want(t, http.StatusUnprocessableEntity, call{method: "PUT", target: "/key", body: "{}"}, nil)
		if got := shop.register(t, shopKeyset); got.ID != shopKey.ID() || got.Fingerprint != shopKey.Fingerprint() {
			t.Errorf("registered %v, want %v %s", got, shopKey.ID(), shopKey.Fingerprint())
		}
		clinic.register(t, clinicKeyset) // in plaintext, though all else it does must be sealed
	})

	wire.taken()
	t.Run("sealed", func(t *testing.T) {
		for name, c := range map[string]caller{"Transport": sealedShop, "Tink": sealedClinic} {
			t.Run(name, func(t *testing.T) { roundtrip(t, c) })
		}
		if seen := wire.taken(); len(seen) == 0 || bytes.Contains(seen, []byte(canary)) {
			t.Errorf("of %d bytes on the wire, some are plaintext", len(seen))
		}
	})

	t.Run("plain", func(t *testing.T) {
		for name, c := range map[string]caller{"sealing is optional": shop, "encryption is off": legacy} {
			t.Run(name, func(t *testing.T) { roundtrip(t, c) })
		}
		if !bytes.Contains(wire.taken(), []byte(canary)) {
			t.Error("the canary is not on the wire: the test above tells nothing")
		}
	})

	t.Run("half sealed", func(t *testing.T) {
		asking := newEvent()
		asking.header = map[string]string{"Accept": sealhttp.MediaType}
		if a := shop.want(t, http.StatusCreated, asking, nil); a.header.Get("Content-Type") != sealhttp.MediaType || !strings.HasPrefix(a.header.Get("Sealed-Content-Type"), "application/json") {
			t.Errorf("asked for a sealed response: got %v", a.header)
		}
		if a := shop.want(t, http.StatusCreated, sealedOnly(t, tink, newEvent()), nil); !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Errorf("asked for a plaintext response: got %v", a.header)
		}
	})

	t.Run("same answer", func(t *testing.T) {
		var e events.Event
		shop.want(t, http.StatusCreated, newEvent(), &e)
		for name, call := range map[string]call{
			"event":         {method: "GET", target: fmt.Sprintf("/events/%d", e.ID)},
			"list":          {method: "GET", target: "/events"},
			"page":          {method: "GET", target: "/events?limit=1"},
			"no such event": {method: "GET", target: "/events/999999"},
			"no number":     {method: "GET", target: "/events/x"},
			"deleted twice": {method: "DELETE", target: "/events/999999"},
			"bad query":     {method: "GET", target: "/events?limit=1000"},
			"worse query":   {method: "GET", target: "/events?limit=x"},
			"not JSON":      {method: "POST", target: "/events", body: `{"type":`},
			"invalid event": {method: "POST", target: "/events", body: `{"email":"` + canary + `"}`},
			"no route":      {method: "GET", target: "/nothing"},
			"no method":     {method: "PATCH", target: "/events", body: `{}`},
		} {
			t.Run(name, func(t *testing.T) {
				want, got := shop.do(t, call), sealedShop.do(t, call)
				if want.status == 0 || got.status != want.status || got.body != want.body {
					t.Errorf("got %d %q, in plaintext %d %q", got.status, got.body, want.status, want.body)
				}
				slices.Sort(got.header["Allow"]) // chi has it in any order
				slices.Sort(want.header["Allow"])
				for _, name := range []string{"Content-Type", "Content-Length", "Location", "Allow"} {
					if !slices.Equal(got.header[name], want.header[name]) {
						t.Errorf("%s: got %q, in plaintext %q", name, got.header[name], want.header[name])
					}
				}
				if !got.sealed || want.sealed {
					t.Errorf("sealed: got %t, in plaintext %t", got.sealed, want.sealed)
				}
			})
		}
		for target, status := range map[string]int{"/nothing": http.StatusNotFound, "/events": http.StatusMethodNotAllowed} {
			sealedShop.want(t, status, call{method: "PATCH", target: target, body: "{}"}, nil)
		}
	})

	t.Run("invalid", func(t *testing.T) {
		var p events.Problem
		invalid := call{method: "POST", target: "/events", body: `{"email":"` + canary + `"}`}
		wire.taken()
		a := sealedShop.want(t, http.StatusUnprocessableEntity, invalid, &p)
		if !a.sealed || a.header.Get("Content-Type") != events.ProblemType || len(p.Errors) != 2 || !strings.Contains(p.Errors["email"], canary) {
			t.Errorf("got %v %s", a.header, a.body)
		}
		if bytes.Contains(wire.taken(), []byte(canary)) {
			t.Error("an error tells what was sealed")
		}
	})

	t.Run("pages", func(t *testing.T) {
		plainIDs, sealedIDs := list(t, shop), list(t, sealedShop)
		if len(plainIDs) < 3 || !slices.IsSorted(plainIDs) || !slices.Equal(plainIDs, sealedIDs) {
			t.Errorf("got %v sealed, %v in plaintext", sealedIDs, plainIDs)
		}
	})

	t.Run("route that must be sealed", func(t *testing.T) {
		search := call{method: "POST", target: "/searches", body: newEvent().body}
		shop.wantRefused(t, http.StatusUnsupportedMediaType, sealhttp.CodeEncryptionRequired, search)
		shop.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeEncryptionRequired, sealedOnly(t, tink, search))
		var page events.Page
		if a := sealedShop.want(t, http.StatusOK, search, &page); !a.sealed || len(page.Events) == 0 {
			t.Errorf("got %v", a)
		}
		sealedShop.want(t, http.StatusUnprocessableEntity, call{method: "POST", target: "/searches", body: `{}`}, nil)
		legacy.wantRefused(t, http.StatusUnsupportedMediaType, sealhttp.CodeEncryptionRequired, search)
	})

	t.Run("account that must be sealed", func(t *testing.T) {
		clinic.wantRefused(t, http.StatusUnsupportedMediaType, sealhttp.CodeEncryptionRequired, newEvent())
		clinic.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeEncryptionRequired, call{method: "GET", target: "/events"})
		clinic.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeEncryptionRequired, call{method: "GET", target: "/nothing"})
		sealedClinic.want(t, http.StatusOK, call{method: "GET", target: "/events"}, nil)
	})

	t.Run("account without encryption", func(t *testing.T) {
		sealedLegacy.wantRefused(t, http.StatusUnsupportedMediaType, sealhttp.CodeEncryptionDisabled, newEvent())
		sealedLegacy.wantRefused(t, http.StatusNotAcceptable, sealhttp.CodeEncryptionDisabled, call{method: "GET", target: "/events"})
	})

	t.Run("bad messages", func(t *testing.T) {
		unknown := []byte{1, 0, 0, 0, 1}
		for _, bad := range []struct {
			body   string
			status int
			code   sealhttp.Code
		}{
			{"short", http.StatusBadRequest, sealhttp.CodeMalformed},
			{strings.Repeat("x", 100), http.StatusBadRequest, sealhttp.CodeDecryptionFailed},
			{string(unknown) + strings.Repeat("x", 100), http.StatusBadRequest, sealhttp.CodeUnknownKey},
			{strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge, sealhttp.CodeTooLarge},
		} {
			shop.wantRefused(t, bad.status, bad.code, call{
				method: "POST", target: "/events", body: bad.body, header: map[string]string{"Content-Type": sealhttp.MediaType}})
		}
	})

	if log := server.output.String(); strings.Contains(log, canary) {
		t.Errorf("the log tells what was in payloads:\n%s", log)
	}
}

func newEvent() call {
	return call{method: "POST", target: "/events", body: `{"type":"signup","email":"` + canary + `@example.com","name":"Ada L."}`}
}

// roundtrip creates an event, finds it again and deletes it.
func roundtrip(t *testing.T, c caller) {
	var created, got events.Event
	a := c.want(t, http.StatusCreated, newEvent(), &created)
	target := fmt.Sprintf("/events/%d", created.ID)
	if a.header.Get("Location") != target || created.Email != canary+"@example.com" || created.Time.IsZero() {
		t.Errorf("got %v %s", a.header, a.body)
	}
	c.want(t, http.StatusOK, call{method: "GET", target: target}, &got)
	if got != created {
		t.Errorf("got %v, created %v", got, created)
	}
	if ids := list(t, c); !slices.Contains(ids, created.ID) {
		t.Errorf("%d is not among %v", created.ID, ids)
	}
	if a := c.want(t, http.StatusNoContent, call{method: "DELETE", target: target}, nil); a.body != "" {
		t.Errorf("got %q", a.body)
	}
	c.want(t, http.StatusNotFound, call{method: "GET", target: target}, nil)
	for range 3 {
		c.want(t, http.StatusCreated, newEvent(), nil)
	}
}

// list reads all pages of the caller's events.
func list(t *testing.T, c caller) (ids []int64) {
	t.Helper()
	for target := "/events?limit=2"; target != ""; {
		var page events.Page
		c.want(t, http.StatusOK, call{method: "GET", target: target}, &page)
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		target = ""
		if page.Next != 0 {
			target = fmt.Sprintf("/events?limit=2&after=%d", page.Next)
		}
	}
	return ids
}

// sealedOnly makes a call one whose body is sealed, and whose response is not to be.
func sealedOnly(t *testing.T, transport tinkcaller.Transport, call call) call {
	t.Helper()
	body, err := transport.Encrypt.Encrypt([]byte(call.body), nil)
	if err != nil {
		t.Fatal(err)
	}
	call.body = string(body)
	call.header = map[string]string{"Content-Type": sealhttp.MediaType}
	return call
}
