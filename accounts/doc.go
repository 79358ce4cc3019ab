// Package accounts keeps the public keys of an API's callers, and for each account
// whether its calls are to be encrypted. A [Registry] gives a sealhttp.Middleware
// both:
//
//	store, err := accounts.OpenFileStore("accounts.json")
//	registry, err := accounts.New(store, accounts.WithServerKeys(ring))
//	m, err := sealhttp.New(ring,
//		sealhttp.WithClientKeys(registry),
//		sealhttp.WithPolicyFunc(registry.Policy))
//
// The account of a call is sealhttp.Account of its context: what the API's own
// authentication has put there. An account is a name of 1 to 512 bytes of UTF-8
// without control characters.
//
// # A key's way
//
// A caller registers a public key in one of three forms ([KeyForm]): a Tink
// keyset, base64 with the name of a suite, or a JWK. The key is validated before it
// is stored, and it is used only after the caller has shown that it can open what
// is sealed to it:
//
//	key, err := registry.Register(ctx, account, form)       // pending
//	challenge, err := registry.Challenge(ctx, account, key.ID())
//	opened, err := challenge.Open(account, privateKey)      // on the caller's side
//	key, err = registry.Prove(ctx, account, key.ID(), opened) // current: responses are sealed to it
//
// An account whose key is in use replaces it with Replace instead of Register.
// The new key's challenge is then sealed twice, to the new key and around that to
// the one that approves it, so that only the holder of both can prove. What the
// outer layer is bound to names the new key: a gateway that puts a key of its own
// in the new one's place gets no approval for it.
//
//	key, err := registry.Replace(ctx, account, oldID, form)
//	challenge, err := registry.Challenge(ctx, account, key.ID())
//	opened, err := challenge.Open(account, newKey, oldKey)
//	key, err = registry.Prove(ctx, account, key.ID(), opened)
//
// The new key is then [Current], and the one before it is [Previous]: nothing is
// sealed to it any more, but it can still approve another replacement. A third one
// retires it. [Registry.Revoke] ends a key at once; if it was the current one, the
// previous one is current again.
//
// # What a registration rests on
//
// Whoever ends TLS before the service sees an account's credentials, and can call
// with them. So no key comes into use by them alone, but for the first one: another
// key is approved by one in use, or, if all were revoked, by an operator, who gives
// the fingerprint that the caller's people have told by another way to
// [Registry.Confirm].
//
// The first key has nothing to rest on but the credentials. If somebody else has
// registered it, the account's own registration is refused with [ErrApprovalNeeded],
// which is to be looked into; both sides should compare the fingerprint. With
// [WithConfirmation] and [ConfirmAlways] it needs an operator too.
//
// The store is trusted: who can write to it can put in a key, and an account whose
// record is gone has the default policy again, and no key. It holds nothing secret:
// public keys, and hashes of open challenges.
//
// A raw X25519 private key looks like a public one. Registered by mistake, it is
// stored as one, and fails its proof. Private keys in every other form (Tink, JWK,
// PEM, PKCS #8, raw for the other suites) are refused, stored nowhere and repeated
// in no error; such a key has been shown to others, and must not be used any more.
//
// # Many replicas
//
// All state is in the [Store], challenges included: a call can be answered by any
// replica. A change is a compare-and-swap of the account's record; who comes second
// does it again on the new one. A replica that changes an account sees it at once;
// the others within [WithCacheTTL], one minute by default, and where no key was in
// use within [WithCacheNoKeyTTL], 5 seconds. When the store cannot be reached, what
// is cached is used until then, and no longer: calls are then answered with 503,
// never in plaintext.
package accounts
