package sealhttp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

type txHandler = func(http.ResponseWriter, *txRequest)

// txStale is a sealed stale with the server's time, off by so many seconds.
func txStale(off int64) txHandler {
	return func(w http.ResponseWriter, q *txRequest) {
		a := txAnswer{status: 400, code: "stale", bodiless: q.r.Method == http.MethodHead}
		if !a.bodiless {
			a.contentType, a.body = "application/problem+json", fmt.Sprintf(`{"code":"stale","now":%d}`, time.Now().Unix()+off)
		}
		a.write(w, q)
	}
}

func txRefused(status int, code string) txHandler {
	return func(w http.ResponseWriter, q *txRequest) {
		txAnswer{status: status, code: code, bodiless: q.r.Method == "HEAD"}.write(w, q)
	}
}

var (
	txUnknownKey = txClear(400, "unknown_key")
	txReplayed   = txRefused(409, "replayed")
	txNoGuard    = txRefused(503, "replay_guard_unavailable")
	txNoStore    = txRefused(503, "key_store_unavailable")
)

// How often a request is sent, under which ids, and how the call ends.
func TestExchangeRetries(t *testing.T) {
	outcomeUnknown := []error{sealhttp.ErrOutcomeUnknown}
	unauthenticated := []error{sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown}
	refused := []error{sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown}
	const get, post, both, few = "GET OPTIONS HEAD", "POST PUT PATCH DELETE", "GET OPTIONS HEAD POST PUT PATCH DELETE", "POST"
	for name, row := range map[string]struct {
		methods string
		answers []txHandler
		ids     string // which of the ids each request has
		code    sealhttp.Code
		status  int
		causes  []error // nil: the call succeeds; empty: an error that is no *Error
	}{
		"once":                              {both, []txHandler{txOK}, "a", "", 0, nil},
		"unknown_key":                       {both, []txHandler{txUnknownKey, txOK}, "aa", "", 0, nil},
		"unknown_key twice":                 {both, []txHandler{txUnknownKey, txUnknownKey, txOK}, "aa", sealhttp.CodeUnknownKey, 400, unauthenticated},
		"sealed unknown_key":                {both, []txHandler{txRefused(400, "unknown_key"), txOK}, "a", sealhttp.CodeUnknownKey, 400, refused},
		"unknown_key, then broken":          {both, []txHandler{txUnknownKey, txBreak, txOK}, "aa", "", 0, []error{}},
		"stale":                             {"GET OPTIONS", []txHandler{txStale(7), txOK}, "aa", "", 0, nil},
		"stale, body":                       {post, []txHandler{txStale(7), txOK}, "aa", "", 0, nil},
		"stale, too early":                  {post, []txHandler{txStale(-7), txOK}, "a", sealhttp.CodeStale, 400, refused},
		"stale, too early, safe":            {"GET OPTIONS", []txHandler{txStale(-7), txOK}, "ab", "", 0, nil},
		"stale, too early twice":            {"GET OPTIONS", []txHandler{txStale(-7), txStale(-14), txOK}, "ab", sealhttp.CodeStale, 400, refused},
		"stale twice":                       {post, []txHandler{txStale(0), txStale(0), txOK}, "aa", sealhttp.CodeStale, 400, refused},
		"stale without now":                 {both, []txHandler{txRefused(400, "stale"), txOK}, "a", sealhttp.CodeStale, 400, refused},
		"stale in clear":                    {both, []txHandler{txClear(400, "stale"), txOK}, "a", sealhttp.CodeStale, 400, unauthenticated},
		"no guard":                          {few, []txHandler{txNoGuard, txOK}, "aa", "", 0, nil},
		"no guard twice":                    {few, []txHandler{txNoGuard, txNoGuard, txOK}, "aa", sealhttp.CodeReplayGuardUnavailable, 503, refused},
		"no store":                          {few, []txHandler{txNoStore, txOK}, "aa", "", 0, nil},
		"a gateway's 503":                   {few, []txHandler{txClear(503, ""), txOK}, "aa", "", 0, nil},
		"a gateway's 503, then 502":         {few, []txHandler{txClear(503, ""), txClear(502, ""), txOK}, "aa", "", 502, unauthenticated},
		"the handler's 503":                 {get, []txHandler{txRefused(503, ""), txBreak}, "a", "", 0, nil},
		"policy_unavailable":                {few, []txHandler{txClear(503, "policy_unavailable"), txOK}, "aa", "", 0, nil},
		"decryption_failed":                 {both, []txHandler{txClear(400, "decryption_failed"), txOK}, "a", sealhttp.CodeDecryptionFailed, 400, unauthenticated},
		"broken":                            {both, []txHandler{txBreak, txOK}, "aa", "", 0, nil},
		"broken twice":                      {both, []txHandler{txBreak, txBreak, txOK}, "aa", "", 0, []error{}},
		"broken, then stale":                {post, []txHandler{txBreak, txStale(0), txOK}, "aa", sealhttp.CodeStale, 400, refused},
		"broken, then refused":              {post, []txHandler{txBreak, txRefused(413, "too_large")}, "aa", sealhttp.CodeTooLarge, 413, refused},
		"replayed":                          {get, []txHandler{txReplayed, txOK}, "ab", "", 0, nil},
		"replayed twice":                    {get, []txHandler{txReplayed, txReplayed, txOK}, "ab", sealhttp.CodeReplayed, 409, outcomeUnknown},
		"replayed, not safe":                {post, []txHandler{txReplayed, txOK}, "a", sealhttp.CodeReplayed, 409, outcomeUnknown},
		"broken, then replayed":             {get, []txHandler{txBreak, txReplayed, txOK}, "aab", "", 0, nil},
		"broken, then replayed, not safe":   {post, []txHandler{txBreak, txReplayed, txOK}, "aa", sealhttp.CodeReplayed, 409, outcomeUnknown},
		"replayed, then broken":             {get, []txHandler{txReplayed, txBreak, txOK}, "abb", "", 0, nil},
		"broken, replayed, broken":          {get, []txHandler{txBreak, txReplayed, txBreak, txOK}, "aab", "", 0, []error{}},
		"unknown_key, then replayed":        {get, []txHandler{txUnknownKey, txReplayed, txOK}, "aab", "", 0, nil},
		"replayed in clear":                 {both, []txHandler{txClear(409, "replayed"), txOK}, "a", sealhttp.CodeReplayed, 409, unauthenticated},
		"request_incomplete":                {both, []txHandler{txRefused(400, "request_incomplete"), txOK}, "a", sealhttp.CodeRequestIncomplete, 400, outcomeUnknown},
		"broken, then done by the first":    {post, []txHandler{txBreak, txReplayed}, "aa", sealhttp.CodeReplayed, 409, outcomeUnknown},
		"unknown_key, then a refusal":       {post, []txHandler{txUnknownKey, txRefused(400, "binding_required")}, "aa", sealhttp.CodeBindingRequired, 400, refused},
		"unknown_key under a forged status": {post, []txHandler{txClear(200, "unknown_key"), txOK}, "aa", "", 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, h2 := range []bool{false, true} {
				for method := range strings.FieldsSeq(row.methods) {
					keys := []*seal.PrivateKey{trDefaultKey(t), trDefaultKey(t)}
					server := &txServer{keys: keys, answers: row.answers}
					srv, base := trServe(t, h2, server)
					base.DisableKeepAlives = true // net/http is not to send it again by itself
					source := &trSource{answer: func(refused *seal.PublicKey) (*seal.PublicKey, error) {
						if refused != nil {
							return keys[1].Public(), nil
						}
						return keys[0].Public(), nil
					}}
					tracking := &trTracking{RoundTripper: base}
					tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(tracking))
					body := trNewBody("text")
					req := trRequest(t, method, srv.URL, body)
					req.ContentLength = 4
					resp, err := tr.RoundTrip(req)
					got := server.check(t, len(row.ids))
					ids := map[[16]byte]byte{}
					for i, q := range got {
						if ids[q.id] == 0 {
							ids[q.id] = byte('a' + len(ids))
						}
						if i < len(row.ids) && ids[q.id] != row.ids[i] {
							t.Errorf("%s: request %d has id %c of %s", method, i+1, ids[q.id], row.ids)
						}
						if q.err(server) == nil && string(q.plaintext) != "text" {
							t.Errorf("%s: request %d has %q", method, i+1, q.plaintext)
						}
						if i > 0 && bytes.Equal(q.enc, got[i-1].enc) {
							t.Errorf("%s: request %d has the context of the one before", method, i+1)
						}
					}
					if n := body.closed.Load(); n != 1 {
						t.Errorf("%s: the body was closed %d times", method, n)
					}
					switch {
					case row.causes == nil && err != nil:
						t.Errorf("%s: %v", method, err)
					case row.causes == nil:
						trRead(t, resp)
					case err == nil:
						t.Errorf("%s: a response came", method)
					case len(row.causes) == 0:
						txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
						if e := new(sealhttp.Error); errors.As(err, &e) {
							t.Errorf("%s: %v is an *Error", method, err)
						}
					default:
						txIs(t, err, row.code, row.status, row.causes...)
					}
					tracking.check(t, len(tracking.bodies))
				}
			}
		})
	}
}

// A response to HEAD has no body to tell the time.
func TestExchangeStaleHead(t *testing.T) {
	_, server, err := txCall(t, false, "HEAD", nil, txStale(5), txOK)
	txIs(t, err, sealhttp.CodeStale, 400, sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown)
	server.check(t, 1)
}

// Another key is asked for once, and what is not another is not tried.
func TestExchangeOtherKey(t *testing.T) {
	key, down := trDefaultKey(t), errors.New("the source is down")
	for name, row := range map[string]struct {
		answer func() (*seal.PublicKey, error)
		want   error
	}{
		"the same": {func() (*seal.PublicKey, error) { return key.Public(), nil }, nil},
		"equal":    {func() (*seal.PublicKey, error) { return trCopyOf(t, key.Public()), nil }, nil},
		"an error": {func() (*seal.PublicKey, error) { return nil, down }, down},
		"nil":      {func() (*seal.PublicKey, error) { return nil, nil }, sealhttp.CodeKeyStoreUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				server := &txServer{answers: []txHandler{txUnknownKey}}
				srv, base := trServe(t, h2, server)
				source := &trSource{answer: func(refused *seal.PublicKey) (*seal.PublicKey, error) {
					if refused == nil {
						return key.Public(), nil
					}
					return row.answer()
				}}
				tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
				err := trFail(t, tr, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				txIs(t, err, sealhttp.CodeUnknownKey, 400, sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown)
				if row.want != nil && !errors.Is(err, row.want) {
					t.Errorf("%v is not %v", err, row.want)
				}
				server.check(t, 1)
				if asked := source.asked(); len(asked) != 2 || asked[1] != key.Public() {
					t.Errorf("the source was asked with %v", asked)
				}
			})
		})
	}
}

// The clock is corrected from the sealed now only, and for later calls too.
func TestExchangeClock(t *testing.T) {
	key := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{
			txClear(400, "stale"), txStale(-3600), txOK, txStale(7200), txOK, txSealed(txAnswer{status: 400, code: "stale", body: `{"now":-1}`}),
			txSealed(txAnswer{status: 400, code: "stale", body: `{"now":1e12}`}), txSealed(txAnswer{status: 400, code: "stale", body: `{"now":12`}),
			txSealed(txAnswer{status: 400, code: "stale", body: `{"now":12}` + strings.Repeat(" ", 5000)}),
			txSealed(txAnswer{status: 400, code: "stale", body: `{"now":12}`, cut: true}), txOK,
		}}
		srv, base := trServe(t, h2, server)
		tr := txTransport(t, key.Public(), base)
		for i, row := range []struct {
			requests int
			off      int64 // of the last of them
			ok       bool
		}{
			{1, 0, false}, {1, 0, false}, {1, -3600, true}, {2, 7200, true}, {1, 7200, false}, {1, 7200, false}, {1, 7200, false}, {1, 7200, false}, {1, 7200, false}, {1, 7200, true},
		} {
			before := len(server.requests())
			resp, err := tr.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader("text")))
			if (err == nil) != row.ok {
				t.Errorf("call %d: %v", i, err)
			}
			if err == nil {
				trRead(t, resp)
			}
			got := server.check(t, before+row.requests)
			if off := got[len(got)-1].ts - time.Now().Unix() - row.off; off < -5 || off > 0 {
				t.Errorf("call %d: the time is %d s off", i, off)
			}
		}
	})
}

// Where the body cannot be made again, there is no second attempt; where the program's
// GetBody makes it, it is sealed anew.
func TestExchangeBodyAgain(t *testing.T) {
	long := trBodyOf(3 << 20)
	for name, row := range map[string]struct {
		text    string
		length  int64
		getBody bool
		again   bool
	}{
		"short":                     {trCanary, int64(len(trCanary)), false, true},
		"short, of unknown length":  {trCanary, -1, false, true},
		"at the bound":              {long[:65000], 65000, false, true},
		"at the bound, unknown":     {long[:65000], -1, false, true},
		"long":                      {long, int64(len(long)), false, false},
		"long, unknown":             {long, -1, false, false},
		"long, GetBody":             {long, int64(len(long)), true, true},
		"long, unknown, GetBody":    {long, -1, true, true},
		"short, of unknown GetBody": {trCanary, -1, true, true},
	} {
		for how, first := range map[string]txHandler{
			"broken": txBreak, "stale": txStale(0), "unknown_key": txUnknownKey,
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				for _, h2 := range []bool{false, true} {
					keys := []*seal.PrivateKey{trDefaultKey(t), trDefaultKey(t)}
					server := &txServer{keys: keys, answers: []txHandler{first, txOK}}
					srv, base, wire := trServeClear(t, h2, server)
					source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
						if refused != nil {
							return keys[1].Public(), nil
						}
						return keys[0].Public(), nil
					})
					tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
					bodies := []*trBody{trNewBody(row.text)}
					req := trRequest(t, "POST", srv.URL, bodies[0])
					req.ContentLength = row.length
					if row.getBody {
						req.GetBody = func() (io.ReadCloser, error) {
							bodies = append(bodies, trNewBody(row.text))
							return bodies[len(bodies)-1], nil
						}
					}
					resp, err := tr.RoundTrip(req)
					if (err == nil) != row.again {
						t.Errorf("got %v", err)
					}
					requests := 1
					if err == nil {
						requests++
						trRead(t, resp)
					} else {
						txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
					}
					got := server.check(t, requests)
					if last := got[len(got)-1]; row.again && (string(last.plaintext) != row.text || last.id != got[0].id || bytes.Equal(last.enc, got[0].enc)) {
						t.Errorf("%d bytes came, under the same id: %t, with the same enc: %t", len(last.plaintext), last.id == got[0].id, bytes.Equal(last.enc, got[0].enc))
					}
					for i, body := range bodies {
						if n := body.closed.Load(); n != 1 {
							t.Errorf("body %d was closed %d times", i, n)
						}
					}
					wire.check(t)
				}
			})
		}
	}
}

// Where the program's GetBody fails, the first attempt's end is the call's.
func TestExchangeGetBodyFails(t *testing.T) {
	key, gone := trDefaultKey(t), errors.New("the file is gone")
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txNoGuard, txOK}}
		srv, base := trServe(t, h2, server)
		body := trNewBody(trBodyOf(1 << 20))
		req := trRequest(t, "POST", srv.URL, body)
		req.GetBody = func() (io.ReadCloser, error) { return nil, gone }
		err := trFail(t, txTransport(t, key.Public(), base), req)
		txIs(t, err, sealhttp.CodeReplayGuardUnavailable, 503, sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown)
		server.check(t, 1)
		if n := body.closed.Load(); n != 1 {
			t.Errorf("the body was closed %d times", n)
		}
	})
}

// A body that was made again for an attempt that is not made any more is closed.
func TestExchangeBodyOfNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := trDefaultKey(t)
		server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txNoGuard, txOK}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
		defer cancel()
		bodies := []*trBody{trNewBody(trBodyOf(1 << 20)), trNewBody("again")}
		req := trRequest(t, "POST", "http://a.example/", bodies[0]).WithContext(ctx)
		req.GetBody = func() (io.ReadCloser, error) { return bodies[1], nil }
		err := trFail(t, txTransport(t, key.Public(), txInMemory(t, server)), req)
		txIs(t, err, sealhttp.CodeReplayGuardUnavailable, 503, sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown)
		server.check(t, 1)
		for i, body := range bodies {
			if n := body.closed.Load(); n != 1 {
				t.Errorf("body %d was closed %d times", i, n)
			}
		}
	})
}

// A kept connection turns out dead: net/http sends the same bytes on another, of any
// method. Where they are gone, another context takes the same id.
func TestExchangeDeadConnection(t *testing.T) {
	long := trBodyOf(3 << 20)
	for name, row := range map[string]struct {
		text    string
		length  int64
		getBody bool
		same    bool // bytes
		lost    bool
	}{
		"none":                   {"", 0, false, true, false},
		"short":                  {trCanary, int64(len(trCanary)), false, true, false},
		"short, unknown":         {trCanary, -1, false, true, false},
		"at the bound, unknown":  {long[:65000], -1, false, true, false},
		"long":                   {long, int64(len(long)), false, false, true},
		"long, unknown":          {long, -1, false, false, true},
		"long, GetBody":          {long, int64(len(long)), true, false, false},
		"long, unknown, GetBody": {long, -1, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				key := trDefaultKey(t)
				server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txOK, txBreak, txOK}}
				srv, base, wire := trServeClear(t, false, server)
				tr := txTransport(t, key.Public(), base)
				trDo(t, tr, trRequest(t, "POST", srv.URL, nil))
				req := trRequest(t, method, srv.URL, nil)
				if row.length != 0 {
					req.Body, req.ContentLength = trNewBody(row.text), row.length
				}
				if row.getBody {
					req.GetBody = func() (io.ReadCloser, error) { return trNewBody(row.text), nil }
				}
				resp, err := tr.RoundTrip(req)
				if row.lost {
					if err == nil || !strings.Contains(err.Error(), "cannot be sent again") {
						t.Errorf("%s: got %v", method, err)
					}
					txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
					server.check(t, 2)
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				trRead(t, resp)
				got := server.check(t, 3)
				if same := bytes.Equal(got[1].enc, got[2].enc); same != row.same || got[1].id != got[2].id || string(got[2].plaintext) != row.text {
					t.Errorf("%s: the same context: %t, the same id: %t, %d bytes", method, same, got[1].id == got[2].id, len(got[2].plaintext))
				}
				if len(wire.addresses()) != 2 {
					t.Errorf("%d connections", len(wire.addresses()))
				}
			}
		})
	}
}

// txRefusingH2 is an HTTP/2 server with prior knowledge whose first connection refuses
// the first stream once so many bytes of its body have come, -1 for at its end. The
// others go to a real one.
func txRefusingH2(t *testing.T, to string, after int, refuse func(conn net.Conn, stream uint32)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for first := true; ; first = false {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if first {
				go txRefuseH2(conn, after, refuse)
				continue
			}
			go func() {
				defer conn.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()
				go func() { _, _ = io.Copy(server, conn) }()
				_, _ = io.Copy(conn, server)
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

func txRefuseH2(conn net.Conn, after int, refuse func(net.Conn, uint32)) {
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	// Flow control is opened wide: 1 MiB a stream, and as much for the connection.
	_, _ = conn.Write(txFrame(4, 0, 0, []byte{0, 4, 0, 16, 0, 0}))
	_, _ = conn.Write(txFrame(8, 0, 0, []byte{0, 16, 0, 0}))
	got, refused := 0, false
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(append([]byte{0}, head[:3]...)))
		if _, err := io.CopyN(io.Discard, conn, int64(size)); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		if kind == 4 && flags == 0 {
			_, _ = conn.Write(txFrame(4, 1, 0, nil))
		}
		if kind == 0 {
			got += size
		}
		ended := kind <= 1 && flags&1 != 0
		if !refused && stream != 0 && (ended || after >= 0 && got >= after) {
			refused = true
			refuse(conn, stream)
		}
	}
}

func txFrame(kind, flags byte, stream uint32, payload []byte) []byte {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	frame = append(frame, kind, flags)
	return append(binary.BigEndian.AppendUint32(frame, stream), payload...)
}

func txGoAway(conn net.Conn, _ uint32) {
	_, _ = conn.Write(txFrame(7, 0, 0, make([]byte, 8))) // the last stream is 0
}

// txReset resets a stream, and has the next go to another connection.
func txReset(code byte) func(net.Conn, uint32) {
	return func(conn net.Conn, stream uint32) {
		_, _ = conn.Write(txFrame(7, 0, 0, binary.BigEndian.AppendUint64(nil, uint64(stream)<<32)))
		_, _ = conn.Write(txFrame(3, 0, stream, []byte{0, 0, 0, code}))
	}
}

func txHangUp(conn net.Conn, _ uint32) { _ = conn.Close() }

// An HTTP/2 server refuses a stream, goes away, or breaks off, with more or less of the
// body sent.
func TestExchangeRefusedStream(t *testing.T) {
	long := trBodyOf(900_000)
	for name, refuse := range map[string]func(net.Conn, uint32){"REFUSED_STREAM": txReset(7), "GOAWAY": txGoAway, "RST_STREAM": txReset(2), "closed": txHangUp} {
		for body, row := range map[string]struct {
			text    string
			length  int64
			after   int
			getBody bool
			lost    bool
		}{
			"none":                       {"", 0, -1, false, false},
			"short":                      {trCanary, int64(len(trCanary)), -1, false, false},
			"short, header only":         {trCanary, int64(len(trCanary)), 0, false, false},
			"short, unknown":             {trCanary, -1, -1, false, false},
			"bound, unknown, a part":     {long[:65000], -1, 20_000, false, false},
			"long, header only, GetBody": {long, int64(len(long)), 0, true, false},
			"long, most of it":           {long, int64(len(long)), 500_000, false, true},
			"long, unknown, most of it":  {long, -1, 500_000, false, true},
			"long, GetBody":              {long, int64(len(long)), 500_000, true, false},
			"long, unknown, GetBody":     {long, -1, 500_000, true, false},
		} {
			t.Run(name+", "+body, func(t *testing.T) {
				key := trDefaultKey(t)
				server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txOK}}
				real := httptest.NewUnstartedServer(server)
				real.Config.Protocols = trProtocols(true)
				real.Start()
				defer real.Close()
				url := txRefusingH2(t, real.Listener.Addr().String(), row.after, refuse)
				base, _ := trWiretap(t, true)
				defer base.CloseIdleConnections()
				plain := trNewBody(row.text)
				req := trRequest(t, "POST", url, nil)
				if row.length != 0 {
					req.Body, req.ContentLength = plain, row.length
				}
				if row.getBody {
					req.GetBody = func() (io.ReadCloser, error) { return trNewBody(row.text), nil }
				}
				resp, err := txTransport(t, key.Public(), base).RoundTrip(req)
				if row.lost {
					if err == nil {
						t.Fatal("a response came")
					}
					if rewound := name == "REFUSED_STREAM" || name == "GOAWAY"; rewound != strings.Contains(err.Error(), "cannot be sent again") {
						t.Errorf("got %v", err)
					}
					txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
					server.check(t, 0)
				} else {
					if err != nil {
						t.Fatal(err)
					}
					trRead(t, resp)
					if got := server.check(t, 1)[0]; string(got.plaintext) != row.text {
						t.Errorf("%d bytes came", len(got.plaintext))
					}
				}
				if row.length != 0 && plain.closed.Load() != 1 {
					t.Errorf("the body was closed %d times", plain.closed.Load())
				}
			})
		}
	}
}

// txInMemory is a base transport that hands requests to the tests' server without a
// network, for fake time.
func txInMemory(t testing.TB, server *txServer) trBase {
	return func(req *http.Request) (*http.Response, error) {
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		r := req.Clone(req.Context())
		r.RequestURI = req.URL.RequestURI()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		_ = r.Body.Close()
		return w.Result(), nil
	}
}

// No attempt begins later than a minute after the first, and none waits longer than its
// call.
func TestExchangeRetryTimes(t *testing.T) {
	slow := func(d time.Duration, then txHandler) txHandler {
		return func(w http.ResponseWriter, q *txRequest) {
			time.Sleep(d)
			then(w, q)
		}
	}
	for name, row := range map[string]struct {
		answers  []txHandler
		deadline time.Duration
		requests int
		least    time.Duration // that the call takes
		most     time.Duration
	}{
		"503":                         {[]txHandler{txClear(503, ""), txOK}, 0, 2, time.Second / 2, 3 * time.Second / 2},
		"503 after 58 s":              {[]txHandler{slow(58*time.Second, txClear(503, "")), txOK}, 0, 2, 58 * time.Second, 60 * time.Second},
		"503 after a minute":          {[]txHandler{slow(time.Minute, txClear(503, "")), txOK}, 0, 1, time.Minute, time.Minute},
		"unknown_key after a minute":  {[]txHandler{slow(time.Minute, txUnknownKey), txOK}, 0, 1, time.Minute, time.Minute},
		"stale after a minute":        {[]txHandler{slow(time.Minute, txStale(9)), txOK}, 0, 1, time.Minute, time.Minute},
		"stale after 59 s":            {[]txHandler{slow(59*time.Second, txStale(9)), txOK}, 0, 2, 59 * time.Second, 59 * time.Second},
		"replayed after a minute":     {[]txHandler{slow(time.Minute, txReplayed), txOK}, 0, 2, time.Minute, time.Minute},
		"no time to wait":             {[]txHandler{txClear(503, ""), txOK}, time.Second / 2, 1, 0, 0},
		"cancelled while it waits":    {[]txHandler{txClear(503, ""), txOK}, -time.Second / 4, 1, time.Second / 4, time.Second / 4},
		"ended when the answer comes": {[]txHandler{slow(time.Second, txUnknownKey), txOK}, time.Second / 2, 1, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := []*seal.PrivateKey{trDefaultKey(t), trDefaultKey(t)}
				server := &txServer{keys: keys, answers: row.answers}
				source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
					if refused != nil {
						return keys[1].Public(), nil
					}
					return keys[0].Public(), nil
				})
				tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(txInMemory(t, server)))
				req := trRequest(t, "GET", "http://a.example/", nil)
				switch {
				case row.deadline > 0:
					ctx, cancel := context.WithTimeout(t.Context(), row.deadline)
					defer cancel()
					req = req.WithContext(ctx)
				case row.deadline < 0:
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					time.AfterFunc(-row.deadline, cancel)
					req = req.WithContext(ctx)
				}
				begin := time.Now()
				_, err := tr.RoundTrip(req)
				if took := time.Since(begin); took < row.least || took > row.most {
					t.Errorf("it took %v, want %v to %v", took, row.least, row.most)
				}
				if ok := row.requests == 2; (err == nil) != ok {
					t.Errorf("got %v", err)
				}
				server.check(t, row.requests)
			})
		})
	}
	t.Run("a late answer does not set the clock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			key := trDefaultKey(t)
			late := func(w http.ResponseWriter, q *txRequest) { slow(time.Hour, txStale(-3600))(w, q) }
			server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{late, txOK}}
			tr := txTransport(t, key.Public(), txInMemory(t, server))
			trFail(t, tr, trRequest(t, "GET", "http://a.example/", nil))
			trDo(t, tr, trRequest(t, "GET", "http://a.example/", nil))
			if q := server.check(t, 2)[1]; q.ts != time.Now().Unix() {
				t.Errorf("the time is %d s off", q.ts-time.Now().Unix())
			}
		})
	})
}

// A timeout is no broken connection: it is not waited out twice. The error is a timeout
// for who asks.
func TestExchangeTimeout(t *testing.T) {
	key := trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		var n atomic.Int64
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}))
		base.ResponseHeaderTimeout = 50 * time.Millisecond
		_, err := (&http.Client{Transport: txTransport(t, key.Public(), base)}).Do(trRequest(t, "POST", srv.URL, nil))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || n.Load() != 1 {
			t.Errorf("got %v after %d requests", err, n.Load())
		}
		txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
	})
}

// A body of the program's that fails on its way is the call's error, and never looks
// whole.
func TestExchangeBodyFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	long := trBodyOf(500_000)
	for name, row := range map[string]struct {
		text   string
		then   error // instead of the end
		length int64
		opts   []sealhttp.TransportOption
		want   func(error) bool
	}{
		"fails":          {long, broken, -1, nil, func(err error) bool { return errors.Is(err, broken) }},
		"fails at once":  {"", broken, -1, nil, func(err error) bool { return errors.Is(err, broken) }},
		"fails, known":   {long, broken, int64(len(long)) + 1, nil, func(err error) bool { return errors.Is(err, broken) }},
		"shorter":        {long, io.EOF, int64(len(long)) + 1, nil, func(err error) bool { return strings.Contains(err.Error(), "another length") }},
		"longer":         {long, io.EOF, int64(len(long)) - 1, nil, func(err error) bool { return strings.Contains(err.Error(), "another length") }},
		"too large":      {long, io.EOF, -1, []sealhttp.TransportOption{sealhttp.WithMaxStreamBytes(400_000)}, func(err error) bool { return errors.Is(err, sealhttp.CodeTooLarge) }},
		"unexpected EOF": {long, io.ErrUnexpectedEOF, -1, nil, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				key := trDefaultKey(t)
				ends := make(chan error, 10)
				srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					q, err := txOpen(r, key)
					if err != nil {
						t.Error(err)
						return
					}
					ends <- q.read()
					<-r.Context().Done()
				}))
				body := &trBody{Reader: io.MultiReader(strings.NewReader(row.text), txFailing{row.then})}
				req := trRequest(t, "POST", srv.URL, body)
				req.ContentLength = row.length
				err := trFail(t, txTransport(t, key.Public(), base, row.opts...), req)
				if !row.want(err) {
					t.Errorf("got %v", err)
				}
				txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
				if end := <-ends; end == nil {
					t.Error("the server saw a whole body")
				}
				if len(ends) != 0 {
					t.Error("it was sent again")
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("the body was closed %d times", n)
				}
			})
		})
	}
}
