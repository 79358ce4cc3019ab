package peers

import (
	"net/http"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
)

// sealhttpPeers are both profiles, the exchange profile with and without a registered key
// of the caller's, as they are by default. That includes the replay guard.
func sealhttpPeers() []Peer {
	message := Peer{
		Name: "sealhttp-message", Title: "**sealhttp**, message profile", Adopted: "a middleware",
		Streams: "no", Response: "no", Request: "no", Once: "no", CallerKey: "yes", Metadata: "no",
		Standard: "HPKE as Tink makes it",
		Serve:    func(k *Keys, next http.Handler) (http.Handler, error) { return serveSealhttp(k, true, next) },
		Call: func(k *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) {
			return sealhttp.NewTransport(sealhttp.StaticPublicKey(k.Server.HPKE.Public()),
				sealhttp.WithPrivateKeys(k.Client.HPKE), sealhttp.WithBase(base))
		},
	}
	exchange := Peer{
		Name: "sealhttp-exchange", Title: "**sealhttp**, exchange profile", Adopted: "a middleware",
		Streams: "yes", Response: "yes", Request: "yes", Once: "yes", CallerKey: "no", Metadata: "no",
		Standard: "ours, of RFC 9180, 9458, 8188 and 9651",
		Serve:    func(k *Keys, next http.Handler) (http.Handler, error) { return serveSealhttp(k, false, next) },
		Call: func(k *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) {
			return sealhttp.NewTransport(sealhttp.StaticPublicKey(k.Server.HPKE.Public()),
				sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithBase(base))
		},
	}
	withKey := exchange
	withKey.Name, withKey.Title, withKey.CallerKey = "sealhttp-exchange-callerkey", "**sealhttp**, exchange profile with a caller's key", "yes"
	withKey.Serve = func(k *Keys, next http.Handler) (http.Handler, error) { return serveSealhttp(k, true, next) }
	withKey.Call = func(k *Keys, base http.RoundTripper, _ string) (http.RoundTripper, error) {
		return sealhttp.NewTransport(sealhttp.StaticPublicKey(k.Server.HPKE.Public()),
			sealhttp.WithProfile(sealhttp.ExchangeProfile), sealhttp.WithPrivateKeys(k.Client.HPKE), sealhttp.WithBase(base))
	}
	return []Peer{message, exchange, withKey}
}

func serveSealhttp(k *Keys, registered bool, next http.Handler) (http.Handler, error) {
	ring, err := keyring.New(k.Server.HPKE)
	if err != nil {
		return nil, err
	}
	guard, err := sealhttp.NewMemoryReplayGuard(1 << 30) // a measurement makes more calls than a day
	if err != nil {
		return nil, err
	}
	opts := []sealhttp.Option{sealhttp.WithReplayGuard(guard)}
	if registered {
		client := k.Client.HPKE.Public()
		opts = append(opts, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(
			func(*http.Request) (*seal.PublicKey, error) { return client, nil })))
	}
	m, err := sealhttp.New(ring, opts...)
	if err != nil {
		return nil, err
	}
	return m.Handler(next), nil
}
