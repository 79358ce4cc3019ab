package exchangeparty_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"testing"

	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// both is one key, as either side has it.
type both struct {
	ours   *seal.PrivateKey
	theirs *exchangeparty.PrivateKey
}

func newKey(t *testing.T, suite seal.Suite) *both {
	t.Helper()
	ours, err := seal.GenerateKey(suite)
	check(t, err)
	theirs, err := exchangeparty.NewPrivateKey(suite.String(), ours.ID(), ours.Bytes())
	check(t, err)
	return &both{ours, theirs}
}

// The package seal and this one, each as the caller of the other: all suites, without a
// caller key and with one of each suite.
func TestSeal(t *testing.T) {
	exchanges := 0
	data := make([]byte, 40000)
	rand.Read(data)
	request := &exchangeparty.Request{Method: "POST", Host: "api.example.com", Target: "/", Body: true}
	response := &exchangeparty.Response{Status: 200, Body: true, ContentType: "text/plain"}
	for _, suite := range seal.Suites() {
		for _, callerSuite := range append(seal.Suites(), 0) {
			t.Run(fmt.Sprint(suite, callerSuite), func(t *testing.T) {
				server, caller := newKey(t, suite), new(both)
				if callerSuite != 0 {
					caller = newKey(t, callerSuite)
				}
				t.Run("its caller, our server", func(t *testing.T) {
					call, err := exchangeparty.NewCall(server.theirs.Public(), request, exchangeparty.RequestField{Timestamp: 1})
					check(t, err)
					info, err := request.HPKEInfo(&call.Field)
					check(t, err)
					x, err := server.ours.OpenExchange(call.Field.Enc, call.Field.Auth, info)
					check(t, err)
					body := call.Body(exchangeparty.Record{Data: data[:5]}, exchangeparty.Record{Data: data[5:1000], Padding: 65000 - 995}, exchangeparty.Record{Data: data[1000:17384]}, exchangeparty.Record{Padding: 3})
					got, err := io.ReadAll(x.Records().NewReader(bytes.NewReader(body)))
					check(t, err)
					same(t, "the request", got, data[:17384])

					var to *seal.PublicKey
					if caller.ours != nil {
						to = caller.ours.Public()
					}
					h, records, err := x.SealResponse(to, response.AAD())
					check(t, err)
					var sealed bytes.Buffer
					w := records.NewWriter(&sealed, seal.Padme)
					_, err = w.Write(data)
					check(t, err)
					check(t, w.Close())
					f := &exchangeparty.ResponseField{Nonce: h.Nonce, CallerEnc: h.CallerEnc, Auth: h.Auth}
					if to != nil {
						f.CallerKeyID = to.ID()
					}
					opened, err := call.Open(f, caller.theirs, response, sealed.Bytes())
					check(t, err)
					same(t, "the response", exchangeparty.Data(opened), data)
					exchanges++
				})
				t.Run("our caller, its server", func(t *testing.T) {
					f := &exchangeparty.RequestField{KeyID: server.ours.ID(), Timestamp: 1}
					info, err := request.HPKEInfo(f)
					check(t, err)
					var x *seal.Exchange
					x, f.Enc, f.Auth, err = server.ours.Public().NewExchange(info)
					check(t, err)
					var sealed bytes.Buffer
					w := x.Records().NewWriter(&sealed, nil)
					_, err = w.Write(data)
					check(t, err)
					check(t, w.Close())
					serving, err := exchangeparty.NewServing(server.theirs, request, f)
					check(t, err)
					opened, err := serving.Open(sealed.Bytes())
					check(t, err)
					same(t, "the request", exchangeparty.Data(opened), data)

					var to *exchangeparty.PublicKey
					if caller.theirs != nil {
						to = caller.theirs.Public()
					}
					g, body, err := serving.Respond(to, response, exchangeparty.Record{Data: data[:9000], Padding: 9}, exchangeparty.Record{Data: data[9000:]})
					check(t, err)
					records, err := x.OpenResponse(seal.ResponseHeader{Nonce: g.Nonce, CallerEnc: g.CallerEnc, Auth: g.Auth}, caller.ours, response.AAD())
					check(t, err)
					got, err := io.ReadAll(records.NewReader(bytes.NewReader(body)))
					check(t, err)
					same(t, "the response", got, data)
					exchanges++
				})
			})
		}
	}
	if t.Logf("%d exchanges", exchanges); exchanges != 6*7*2 {
		t.Errorf("want %d", 6*7*2)
	}
}
