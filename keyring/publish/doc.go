// Package publish brings a service's public keys to its callers. A [Handler] serves
// them, signed; a [Source] fetches, verifies and refreshes them, and is what
// sealhttp.NewTransport takes.
//
//	// the service
//	handler, err := publish.NewHandler(ring, "api.example.com", signer)
//	mux.Handle("/keys", handler)
//
//	// its callers
//	source, err := publish.NewSource("https://api.example.com/keys", "api.example.com", pins)
//	transport, err := sealhttp.NewTransport(source)
//
// The signer is a crypto.Signer with an Ed25519 key: an ed25519.PrivateKey, or one of
// a KMS or HSM. The pins are its public key, and that of its successor, which callers
// get with their configuration. For programs that know only Tink, [NewTinkHandler]
// serves the same keys as a plain keyset.
//
// # Why signed
//
// Payload encryption is to keep out who ends TLS before the service: a CDN, a WAF, a
// gateway. The key set passes there too. Unsigned, it could be exchanged on its way,
// and everything sealed to it read. [NewInsecureHTTPSOnlySource] lives with that.
//
// # What an attacker on the way can do
//
// Who controls the answers of the publication URL, and not the signing key, can
//
//   - withhold them: callers go on with what they have until it expires, and then
//     fail. They never seal to a key that no pinned key vouches for;
//   - serve an older set as long as it has not expired, to a caller that has not seen
//     a newer one: a new process ([WithStateFile] makes it remember). So a revoked key
//     may be in use for the validity of a signature, 24 hours by default;
//   - answer calls with unknown_key: that costs a fetch a minute.
//
// It cannot put in a key, take one back to an earlier set that the caller has seen
// replaced, serve one service's keys for another's, have a caller use a set that has
// expired, follow a redirect, or read more than 64 KiB. Who can only ask the URL gets
// what is public. It cannot make the service sign: a signature is made when keys
// change, and every eighth of its validity.
//
// # Times
//
// With the default validity of 24 hours a signature is renewed every 3 hours, so what
// is fetched is valid for 21 to 24. Callers fetch again after 5 to 12 hours, at
// random; a caller whose fetches fail goes on with what it has for 10 hours at least. The
// ring's overlap, 30 days by default, must not be below the validity: previous keys
// open until the last caller has gone over.
//
// Clocks: a set may be used up to 5 minutes before it was issued ([ClockSkew]), and
// not a second after it expires.
//
// # Replacing the signing key
//
// Callers pin the old key and the new one; when all do, the service signs with the new
// one; then callers drop the old.
//
// # The format
//
// A compact JWS (RFC 7515) of a JWT (RFC 7519), at most 64 KiB, served as
// application/sealhttp-keys+jwt. Its header has exactly these members:
//
//	{"alg": "EdDSA", "kid": "<JWK thumbprint, RFC 7638>", "typ": "sealhttp-keys+jwt"}
//
// and its payload these, each once, the numbers as integers:
//
//	{
//	  "ver": 1,
//	  "sub": "api.example.com",    whose keys: the name that callers pin
//	  "rev": 7,                    the revision, 1 or more
//	  "iat": 1764000000,           issued and expires, in Unix seconds
//	  "exp": 1764086400,
//	  "keys": {"primaryKeyId": ..., "key": [...]}    a Tink keyset, public keys only
//	}
//
// The keyset's primary is the key to seal to; its other enabled keys still open.
// Readers refuse everything else, and base64url in another form than an encoder's.
package publish
