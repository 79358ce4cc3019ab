package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/internal/exchangeparty"
	"github.com/sealhttp/sealhttp/seal"
)

// pass gives the caller the service's answer.
func pass(w hopWriter, genuine *reply) { w.reply(genuine) }

// forge gives it one of the hop's own, in clear.
func forge(status int, code sealhttp.Code) reaction {
	return func(w hopWriter, _ *reply) {
		r := &reply{status: status, header: make(http.Header), body: []byte("forged")}
		if code != "" {
			r.header.Set("Sealed-Error", string(code))
		}
		w.reply(r)
	}
}

// reset ends the stream.
func reset(code http2.ErrCode) reaction {
	return func(w hopWriter, _ *reply) {
		w.frame(func(f *http2.Framer, stream uint32) error { return f.WriteRSTStream(stream, code) })
	}
}

func hangUp(w hopWriter, _ *reply) { w.hangUp() }

// goAway says that the stream was not looked at, and ends the connection.
func goAway(w hopWriter, _ *reply) {
	w.frame(func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) })
}

// reactions are what the hop lets the caller see instead of an answer.
var reactions = map[string]struct {
	react reaction
	http1 bool // possible there
	cold  bool // on a new connection; net/http tries again by itself on one that was kept
	again bool // something sends the request again, if it can
	clear bool // an answer that nothing authenticates
}{
	"unknown_key":         {react: forge(400, sealhttp.CodeUnknownKey), http1: true, again: true, clear: true},
	"stale":               {react: forge(400, sealhttp.CodeStale), http1: true, clear: true},
	"503":                 {react: forge(503, sealhttp.CodeReplayGuardUnavailable), http1: true, again: true, clear: true},
	"502":                 {react: forge(502, ""), http1: true, clear: true},
	"200":                 {react: forge(200, ""), http1: true, clear: true},
	"replayed":            {react: forge(409, sealhttp.CodeReplayed), http1: true, clear: true},
	"a broken connection": {react: hangUp, http1: true, cold: true, again: true},
	"a kept connection":   {react: hangUp, http1: true, again: true},
	"GOAWAY":              {react: goAway, again: true},
	"REFUSED_STREAM":      {react: reset(http2.ErrCodeRefusedStream), again: true},
	"INTERNAL_ERROR":      {react: reset(http2.ErrCodeInternal), again: true},
}

// heldHow is what the hop does with a call's requests, besides what it lets the caller see.
var heldHow = map[string]func(reaction) []act{
	"executed, then honest": func(r reaction) []act { return []act{{deliver: true, react: r}, {deliver: true, react: pass}} },
	"executed":              func(r reaction) []act { return []act{{deliver: true, react: r}} },
	"kept, then honest":     func(r reaction) []act { return []act{{react: r}, {deliver: true, react: pass}} },
	"kept":                  func(r reaction) []act { return []act{{react: r}} },
}

// A hop has a POST executed and holds back the answer, or keeps the request, and shows the
// caller something else. Whatever that is, and whatever the caller's clock says, the request
// is executed once at most, by the caller's and the transport's further tries and by what
// the hop delivers later; and the caller is told that the outcome is unknown.
func TestExchangeHeldBack(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	keys, public := newKeys(t, 2) // so that unknown_key is worth another try
	config := serviceConfig{Keys: keys}
	redis.configure(&config)
	services := []*service{startService(t, config), startService(t, config)}
	redis.age(t, public[0], services...)
	clock, err := exchangeparty.NewPrivateKey(public[0].Suite().String(), keys[0].ID, keys[0].Raw)
	check(t, err)
	offsets := []time.Duration{-(4*time.Minute + 59*time.Second), 0, 4*time.Minute + 59*time.Second}
	if testing.Short() {
		offsets = offsets[1:2]
	}
	run := newGroup(t, 16)
	for what, r := range reactions {
		for how, acts := range heldHow {
			for _, offset := range offsets {
				for _, body := range heldBodies {
					for _, http2 := range []bool{false, true} {
						if !http2 && !r.http1 {
							continue
						}
						name := fmt.Sprintf("%s/%s/%v/%s/%s", what, how, offset, body.name, protocolName(http2))
						run.start(name, func(t *testing.T) {
							h := startHop(t, http2, services, acts(r.react)...)
							h.clock, h.offset = clock, offset
							c := newHeldCaller(t, h, http2, public)
							if r.cold {
								c.base.CloseIdleConnections()
							}
							again := r.again && body.again
							var want error
							switch {
							case how == "executed, then honest" && again:
								want = sealhttp.CodeReplayed
							case how == "kept, then honest" && again:
							case r.clear:
								want = sealhttp.ErrUnauthenticated
							default:
								want = sealhttp.ErrOutcomeUnknown
							}
							c.expect(t, body, acts(nil)[0].deliver, want)
						})
					}
				}
			}
		}
	}
	run.wait()
	t.Logf("%d calls", run.started)
}

// A hop lets through an answer but for its last byte: the caller knows that it was
// executed, and that the answer is not whole.
func TestExchangeAnswerCutOff(t *testing.T) {
	keys, public := newKeys(t, 1)
	s := startService(t, serviceConfig{Keys: keys})
	for _, http2 := range []bool{false, true} {
		t.Run(protocolName(http2), func(t *testing.T) {
			h := startHop(t, http2, []*service{s}, act{deliver: true, react: func(w hopWriter, genuine *reply) { w.cut(genuine) }})
			c := newHeldCaller(t, h, http2, public)
			if got, err := c.call(t, heldBodies[0]); !errors.Is(err, seal.ErrTruncated) {
				t.Errorf("got %q and %v, want ErrTruncated", got, err)
			}
			h.replay()
			if n := runs(t, c.name, s); n != 1 {
				t.Errorf("executed %d times", n)
			}
		})
	}
}
