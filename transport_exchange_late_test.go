package sealhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// The minute counts when the second attempt starts, not when the first has failed: a key
// source and a GetBody may take long.
func TestExchangeRetryAfterPreparing(t *testing.T) {
	const none = 0
	for name, row := range map[string]struct {
		answer    txHandler
		key, body time.Duration // what they take
		requests  int
		sent      int64 // seconds from the first to the second
		want      error
	}{
		"a key in time":   {txUnknownKey, 59 * time.Second, none, 2, 59, nil},
		"a key too late":  {txUnknownKey, time.Minute, none, 1, 0, sealhttp.CodeUnknownKey},
		"a key after all": {txUnknownKey, 16 * time.Minute, none, 1, 0, sealhttp.CodeUnknownKey},
		"a body in time":  {txNoGuard, none, 57 * time.Second, 2, 58, nil},
		"a body too late": {txNoGuard, none, time.Minute, 1, 0, sealhttp.CodeReplayGuardUnavailable},
		"both too late":   {txUnknownKey, 31 * time.Second, 31 * time.Second, 1, 0, sealhttp.CodeUnknownKey},
		"stale, too late": {txStale(9), none, time.Minute, 1, 0, sealhttp.CodeStale},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := []*seal.PrivateKey{trDefaultKey(t), trDefaultKey(t)}
				server := &txServer{keys: keys, answers: []txHandler{row.answer, txOK}}
				source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
					if refused == nil {
						return keys[0].Public(), nil
					}
					time.Sleep(row.key)
					return keys[1].Public(), nil
				})
				tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(txInMemory(t, server)))
				long := trBodyOf(1 << 20)
				req := trRequest(t, "POST", "http://a.example/", strings.NewReader(long))
				req.GetBody = func() (io.ReadCloser, error) {
					time.Sleep(row.body)
					return io.NopCloser(strings.NewReader(long)), nil
				}
				resp, err := tr.RoundTrip(req)
				got := server.check(t, row.requests)
				if row.want != nil {
					if !errors.Is(err, row.want) {
						t.Errorf("got %v, want %v", err, row.want)
					}
					txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				trRead(t, resp)
				if d := got[1].ts - got[0].ts; got[0].id != got[1].id || d < row.sent-1 || d > row.sent+1 {
					t.Errorf("the second attempt's time is %d s after the first one's, want %d", d, row.sent)
				}
			})
		})
	}
}

// A machine that was suspended sees its monotonic clock stand still. What was executed
// before must not be executed again after the service has forgotten it.
func TestExchangeSuspended(t *testing.T) {
	for name, row := range map[string]struct {
		answer   txHandler
		jump     time.Duration // of the wall clock, ahead of the monotonic one
		waits    time.Duration
		requests int
	}{
		"not":                         {txBreak, 0, 0, 2},
		"a little":                    {txBreak, 2 * time.Second, 0, 2},
		"a little, at the end":        {txBreak, 2 * time.Second, 58 * time.Second, 1},
		"some seconds":                {txBreak, 10 * time.Second, 0, 1},
		"long":                        {txBreak, 16 * time.Minute, 0, 1},
		"long, stale":                 {txStale(0), 16 * time.Minute, 0, 1},
		"long, 503":                   {txNoGuard, 16 * time.Minute, 0, 1},
		"long, unknown_key":           {txUnknownKey, 16 * time.Minute, 0, 1},
		"the wall clock was set back": {txBreak, -10 * time.Second, 0, 1},
		"set back, stale":             {txStale(0), -time.Hour, 0, 1},
		"set back a little, no guard": {txNoGuard, -2 * time.Second, 0, 2},
		"set back, and then a minute": {txBreak, -2 * time.Second, time.Minute, 1},
		"while a gateway's 503 waits": {txClear(503, ""), time.Minute, 0, 1},
		"a refusal that is not stale": {txRefused(413, "too_large"), 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := []*seal.PrivateKey{trDefaultKey(t), trDefaultKey(t)}
				var jumped time.Duration
				server := &txServer{keys: keys, answers: []txHandler{func(w http.ResponseWriter, q *txRequest) {
					time.Sleep(row.waits)
					jumped = row.jump
					row.answer(w, q)
				}, txOK}}
				source := sealhttp.ServerPublicKeysFunc(func(_ context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
					if refused != nil {
						return keys[1].Public(), nil
					}
					return keys[0].Public(), nil
				})
				base := txInMemory(t, server)
				breaking := trBase(func(req *http.Request) (resp *http.Response, err error) {
					defer func() {
						if recover() != nil {
							err = errTxHop
						}
					}()
					return base(req)
				})
				tr := trTransport(t, source, sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(breaking))
				sealhttp.SetWall(tr, func() time.Time { return time.Now().Round(0).Add(jumped) })
				_, err := tr.RoundTrip(trRequest(t, "POST", "http://a.example/", strings.NewReader("text")))
				got := server.check(t, row.requests)
				if row.requests == 1 {
					txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
				} else if err != nil {
					t.Errorf("got %v", err)
				} else if d := got[1].ts - got[0].ts; d < 0 || d > 60 {
					t.Errorf("the second attempt's time is %d s after the first one's", d)
				}
				if jumped != row.jump {
					t.Error("nothing jumped")
				}
			})
		})
	}
	t.Run("the answer of before does not set the clock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			key := trDefaultKey(t)
			var jumped time.Duration
			server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{func(w http.ResponseWriter, q *txRequest) {
				jumped = time.Hour
				txStale(0)(w, q)
			}, txOK}}
			tr := txTransport(t, key.Public(), txInMemory(t, server))
			sealhttp.SetWall(tr, func() time.Time { return time.Now().Round(0).Add(jumped) })
			trFail(t, tr, trRequest(t, "GET", "http://a.example/", nil))
			trDo(t, tr, trRequest(t, "GET", "http://a.example/", nil))
			if q := server.check(t, 2)[1]; q.ts != time.Now().Add(jumped).Unix() {
				t.Errorf("the time is %d s off", q.ts-time.Now().Add(jumped).Unix())
			}
		})
	})
}

// A GET that asks to be taken for another method is not called again under another id.
func TestExchangeMethodOverride(t *testing.T) {
	for name, row := range map[string]struct {
		header   http.Header
		requests int
	}{
		"none":                        {http.Header{}, 2},
		"empty":                       {http.Header{"X-Http-Method-Override": {""}}, 2},
		"another field":               {http.Header{"X-Method": {"DELETE"}}, 2},
		"X-HTTP-Method-Override":      {http.Header{"X-Http-Method-Override": {"DELETE"}}, 1},
		"the second line":             {http.Header{"X-Http-Method": {"", "DELETE"}}, 1},
		"X-HTTP-Method":               {http.Header{"X-Http-Method": {"MERGE"}}, 1},
		"X-Method-Override":           {http.Header{"X-Method-Override": {"PUT"}}, 1},
		"a name that isn't canonical": {http.Header{"x-http-method-override": {"DELETE"}}, 1},
	} {
		for answer, then := range map[string]txHandler{"replayed": txReplayed, "stale, too early": txStale(-7)} {
			t.Run(name+", "+answer, func(t *testing.T) {
				key := trDefaultKey(t)
				server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{then, txOK}}
				req := trRequest(t, "GET", "http://a.example/", nil)
				req.Header = row.header
				_, err := txTransport(t, key.Public(), txInMemory(t, server)).RoundTrip(req)
				server.check(t, row.requests)
				if row.requests == 1 {
					txOutcome(t, err, sealhttp.ErrOutcomeUnknown)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The trailers and the reason phrase are whoever's on the way.
func TestExchangeNoTrailers(t *testing.T) {
	trailers := func(announced bool, then txHandler) txHandler {
		return func(w http.ResponseWriter, q *txRequest) {
			if announced {
				w.Header().Set("Trailer", "X-Hop")
			}
			then(w, q)
			name := http.TrailerPrefix + "X-Hop"
			if announced {
				name = "X-Hop"
			}
			w.Header().Set(name, "unauthenticated")
		}
	}
	for _, announced := range []bool{false, true} {
		trBothProtocols(t, func(t *testing.T, h2 bool) {
			for _, body := range []string{"done", trBodyOf(100_000)} {
				resp, _, err := txCall(t, h2, "POST", nil, trailers(announced, func(w http.ResponseWriter, q *txRequest) {
					txAnswer{body: body}.write(w, q)
					_ = http.NewResponseController(w).Flush()
				}))
				if err != nil {
					t.Fatal(err)
				}
				if got := trRead(t, resp); got != body || resp.Trailer != nil {
					t.Errorf("announced %t: %d bytes, then the trailers %v", announced, len(got), resp.Trailer)
				}
			}
		})
	}
	for name, row := range map[string]struct {
		status int
		want   string
	}{"known": {200, "200 OK"}, "refused": {404, "404 Not Found"}, "unknown": {799, "799 "}} {
		t.Run("the reason, "+name, func(t *testing.T) {
			key := trDefaultKey(t)
			base := txInMemory(t, &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txSealed(txAnswer{status: row.status})}})
			hop := trBase(func(req *http.Request) (*http.Response, error) {
				resp, err := base(req)
				resp.Status = "200 call this number"
				return resp, err
			})
			resp, err := txTransport(t, key.Public(), hop).RoundTrip(trRequest(t, "POST", "http://a.example/", nil))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != row.want {
				t.Errorf("got %q, want %q", resp.Status, row.want)
			}
		})
	}
}

// The message profile reads a sealed response to its end, trailers and all, before they
// are dropped.
func TestTransportNoTrailers(t *testing.T) {
	server, caller := trDefaultKey(t), trDefaultKey(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			message, err := caller.Public().Seal(nil, []byte("text"), nil)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", sealhttp.MediaType)
			_, _ = w.Write(message)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Hop", "unauthenticated")
		}))
		tr := trTransport(t, sealhttp.StaticPublicKey(server.Public()), sealhttp.WithBase(base), sealhttp.WithPrivateKeys(caller))
		resp, got := trDo(t, tr, trRequest(t, "GET", srv.URL, nil))
		if got != "text" || resp.Trailer != nil {
			t.Errorf("got %q and the trailers %v", got, resp.Trailer)
		}
	})
}

// An answer that is thrown away is not waited for, in either profile.
func TestTransportEndlessAnswers(t *testing.T) {
	caller := trDefaultKey(t)
	exchange := sealhttp.WithProfile(sealhttp.ExchangeProfile)
	endless := func(head func(w http.ResponseWriter, q *txRequest)) txHandler {
		return func(w http.ResponseWriter, q *txRequest) {
			head(w, q)
			_ = http.NewResponseController(w).Flush()
			<-q.r.Context().Done()
		}
	}
	for name, row := range map[string]struct {
		answer txHandler
		opts   []sealhttp.TransportOption
		ok     bool
	}{
		"a gateway's 502": {endless(func(w http.ResponseWriter, _ *txRequest) { w.WriteHeader(502) }), []sealhttp.TransportOption{exchange}, false},
		"a trickle": {func(w http.ResponseWriter, q *txRequest) {
			w.WriteHeader(502)
			for q.r.Context().Err() == nil {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}, []sealhttp.TransportOption{exchange}, false},
		"a refusal, sealed": {endless(func(w http.ResponseWriter, q *txRequest) {
			txAnswer{status: 413, code: "too_large", cut: true}.write(w, q)
		}), []sealhttp.TransportOption{exchange}, false},
		"no body, sealed": {endless(func(w http.ResponseWriter, q *txRequest) {
			txAnswer{bodiless: true, edit: func(h http.Header) { h.Set("Content-Type", "text/plain") }}.write(w, q)
		}), []sealhttp.TransportOption{exchange}, true},
		"message, a refusal": {endless(func(w http.ResponseWriter, _ *txRequest) {
			w.Header().Set("Sealed-Error", "too_large")
			w.WriteHeader(413)
		}), nil, false},
		"message, a 205": {endless(func(w http.ResponseWriter, _ *txRequest) { w.WriteHeader(205) }),
			[]sealhttp.TransportOption{sealhttp.WithPrivateKeys(caller)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				key := trDefaultKey(t)
				srv, base := trServe(t, h2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					q, err := txOpen(r, key)
					if err != nil {
						q = &txRequest{r: r} // the message profile
					} else if err := q.read(); err != nil {
						t.Error(err)
					}
					row.answer(w, q)
				}))
				tr := trTransport(t, sealhttp.StaticPublicKey(key.Public()), append(row.opts, sealhttp.WithBase(base))...)
				begin := time.Now()
				resp, err := tr.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader("text")))
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				if (err == nil) != row.ok {
					t.Errorf("got %v", err)
				}
				if err == nil {
					_ = resp.Body.Close()
				}
			})
		})
	}
}

// A stale whose body is held back holds the call back for a minute at most.
func TestExchangeStaleHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := trDefaultKey(t)
		server := &txServer{keys: []*seal.PrivateKey{key}, answers: []txHandler{txStale(9), txOK}}
		base := txInMemory(t, server)
		hop := trBase(func(req *http.Request) (*http.Response, error) {
			resp, err := base(req)
			resp.Body, _ = io.Pipe()
			return resp, err
		})
		begin := time.Now()
		err := trFail(t, txTransport(t, key.Public(), hop), trRequest(t, "POST", "http://a.example/", strings.NewReader("text")))
		txIs(t, err, sealhttp.CodeStale, 400, sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown)
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		server.check(t, 1)
	})
}
