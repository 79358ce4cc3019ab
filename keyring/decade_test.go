package keyring_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// caller seals to what it fetched last.
type caller struct {
	name    string
	key     *seal.PublicKey
	tink    tink.HybridEncrypt // instead of key
	refresh time.Time          // when it fetches next
	calls   int
}

func (c *caller) seal(t *testing.T, plaintext []byte) []byte {
	t.Helper()
	var message []byte
	var err error
	if c.tink != nil {
		message, err = c.tink.Encrypt(plaintext, nil)
	} else {
		message, err = c.key.Seal(nil, plaintext, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// tinkFrom is what a caller with nothing but Tink makes of a published keyset.
func tinkFrom(t *testing.T, keys []*seal.PublicKey) tink.HybridEncrypt {
	t.Helper()
	published, err := tinkkeys.Public(keys...)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(published)))
	if err != nil {
		t.Fatal(err)
	}
	encrypt, err := hybrid.NewHybridEncrypt(handle)
	if err != nil {
		t.Fatal(err)
	}
	return encrypt
}

// Ten years: three replicas that are restarted now and then, callers that refresh
// every day, callers that refresh as late as they may, and callers with a fixed Tink
// keyset that somebody replaces by hand once a year, some day within the overlap.
// Every call opens on every replica, and each step comes at its time.
func TestTenYears(t *testing.T) {
	kek := newKEK(t)
	synctest.Test(t, func(t *testing.T) {
		var events journal
		store := keyring.NewMemoryStore()
		random := rand.New(rand.NewPCG(1, 2))
		start := time.Now()

		type replica struct {
			*keyring.Keyring
			stop func()
		}
		launch := func() *replica {
			ring := open(t, store, kek, keyring.WithAudit(events.add), keyring.WithReloadInterval(6*hour))
			return &replica{ring, run(t, ring)}
		}
		replicas := []*replica{launch(), launch(), launch()}
		defer func() {
			for _, r := range replicas {
				r.stop()
			}
		}()
		any := func() *replica { return replicas[random.IntN(len(replicas))] }

		callers := []*caller{{name: "daily"}, {name: "late"}, {name: "Tink by hand"}, {name: "Tink on the last day"}}
		fetch := func(c *caller) {
			now, published := time.Now(), any().PublicKeys()
			switch c.name {
			case "daily":
				c.key, c.refresh = published[0], now.Add(20*hour+rand1(random, 8*hour))
			case "late":
				c.key, c.refresh = published[0], now.Add(30*day-7*hour)
			case "Tink by hand": // some day within the overlap of the next rotation
				c.tink, c.refresh = tinkFrom(t, published), nextRotation(start, now).Add(rand1(random, 29*day)+7*hour)
			case "Tink on the last day":
				c.tink, c.refresh = tinkFrom(t, published), nextRotation(start, now).Add(30*day-hour)
			}
		}
		for _, c := range callers {
			fetch(c)
		}

		failed := 0
		call := func() {
			for _, c := range callers {
				if !time.Now().Before(c.refresh) {
					fetch(c)
				}
				plaintext := fmt.Append(nil, c.name, c.calls)
				message := c.seal(t, plaintext)
				for _, r := range replicas {
					c.calls++
					if got, err := r.KeySet().Open(nil, message, nil); err != nil || !bytes.Equal(got, plaintext) {
						if failed++; failed < 10 {
							t.Errorf("%v: call %d of %q: %v", time.Since(start), c.calls, c.name, err)
						}
					}
				}
			}
		}
		end := start.Add(10*year + 31*day)
		for restart := 0; time.Now().Before(end); {
			// Every few days, and every half hour around each step.
			pause := 2*day + rand1(random, 4*day)
			phase := time.Since(start) % year
			for _, at := range []time.Duration{year - 12*hour, 0, 30 * day, year} {
				switch until := at - phase; {
				case until > -hour && until <= hour:
					pause = min(pause, 30*time.Minute)
				case until > hour:
					pause = min(pause, until-hour)
				}
			}
			sleep(pause)
			call()
			if n := int(time.Since(start) / (17 * day)); n > restart { // a deployment
				restart = n
				r := replicas[n%len(replicas)]
				r.stop()
				*r = *launch()
			}
		}

		calls := 0
		for _, c := range callers {
			calls += c.calls
		}
		t.Logf("%d calls, %d failed", calls, failed)
		if calls < 10_000 {
			t.Errorf("only %d calls", calls)
		}
		type at struct {
			what keyring.EventType
			when time.Duration
		}
		want := []at{{keyring.EventGenerated, 0}, {keyring.EventPublished, 0}, {keyring.EventPromoted, 0}}
		for y := year; y <= 10*year; y += year {
			want = append(want, at{keyring.EventGenerated, y - 12*hour},
				at{keyring.EventPublished, y}, at{keyring.EventPromoted, y}, at{keyring.EventRetired, y + 30*day})
		}
		var got []at
		for _, e := range events.take() {
			got = append(got, at{e.Type, e.Time.Sub(start)})
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		for _, r := range replicas {
			expectKeys(t, r.Keyring, 0, 0, 10)
		}
	})
}

// nextRotation returns when the key that is primary now is replaced. Who fetches in
// the last days of an overlap gets the key that was just promoted.
func nextRotation(start, now time.Time) time.Time {
	return start.Add((now.Sub(start)/year + 1) * year)
}
