// Package sealhttp encrypts the payloads of HTTP APIs, so that what ends TLS
// before the service (CDNs, WAFs, gateways, log pipelines) sees who calls what, but
// not what is said.
//
// # On the server
//
// A [Middleware] goes in front of a handler that stays as it is:
//
//	key, err := seal.GenerateKey(seal.X25519AES256GCM)
//	ring, err := keyring.New(key)
//	m, err := sealhttp.New(ring, sealhttp.WithClientKeys(clientKeys))
//	http.Handle("/events", m.Handler(events))
//
// A request with Content-Type application/octet-stream+hpke is opened with the
// server's private key; the handler reads plaintext, with the Content-Type that
// the caller gave in Sealed-Content-Type. A request whose Accept names that media
// type is answered sealed, to the public key that the caller has registered and
// that clientKeys finds. The two are independent of each other, and plaintext
// calls pass as ever, until [WithPolicy] or [WithPolicyFunc] says otherwise, for a
// route ([Middleware.With]) or an account.
//
// The Middleware goes inside of what authenticates the caller, and outside of what
// reads, writes and compresses bodies. It fails closed: what was asked for sealed
// is never answered in plaintext, no byte reaches the handler that was not
// authenticated, and a policy or a key that cannot be found out is a 503.
//
// Routers have adapters: adapters/chiseal, adapters/echoseal, adapters/ginseal.
//
// # On the caller's side
//
// A [Transport] goes into an http.Client:
//
//	t, err := sealhttp.NewTransport(sealhttp.StaticPublicKey(serverKey), sealhttp.WithPrivateKeys(myKey))
//	client := &http.Client{Transport: t}
//
// Other languages need no sealhttp: a body is what Tink's hybrid encryption with
// HPKE makes, and what any library of RFC 9180 makes for keys without a prefix.
//
// # The exchange profile
//
// What is above is the message profile. A Middleware speaks a second one on the same
// routes, and a Transport made with WithProfile(ExchangeProfile) uses it: bodies are
// streamed, request and response belong to each other, what decides about a request is
// bound to it, and it is executed at most once. With more than one replica it needs a
// [ReplayGuard] that all of them share: see [WithReplayGuard]. docs/protocol.md
// describes it for others to implement.
//
// # What is protected, and what is not
//
// Bodies are secret from everyone but the holder of the private key, and arrive as
// they were sealed. In clear stay method, target, status and all header fields:
// routing, authentication, caching rules and rate limits live on them. So do
// lengths, and an ETag that is made from content tells when two bodies are equal.
//
// In the message profile, which is the deployed world's, a body says nothing about who
// sealed it. Whoever has the caller's public key can make a response that opens. A
// recorded request can be sent again, also under another account's credentials
// ([WithInfoFunc] with the account as info stops the latter). Under [Optional] an
// intermediary can strip Accept and get the response in plaintext; [Required] stops
// that. TLS covers all of this up to where it ends.
//
// In the exchange profile a response is the service's and answers this request, and a
// request is the caller's, once. Under Optional an intermediary that strips
// Sealed-Exchange still gets the answer to a call without a body in plaintext, which the
// caller refuses. docs/threat-model.md has all of it.
package sealhttp
