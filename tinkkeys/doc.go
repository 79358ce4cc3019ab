// Package tinkkeys turns the keys of package seal into Tink keysets and back, so
// that a Tink in any language can be the other side.
//
//	                               JSON                            binary
//	public keys                    Public                          PublicBinary
//	                               ParsePublic                     ParsePublicBinary
//	private keys, encrypted        EncryptPrivate                  EncryptPrivateBinary
//	                               DecryptPrivate                  DecryptPrivateBinary
//	private keys, in clear         InsecureCleartextPrivate        InsecureCleartextPrivateBinary
//	                               ParseInsecureCleartextPrivate   ParseInsecureCleartextPrivateBinary
//
// The formats are Tink's own: the messages Keyset and EncryptedKeyset of
// [tink.proto] with HPKE keys of [hpke.proto] in them, as protocol buffers or
// their JSON mapping. What this package writes is what tink-go's
// keyset.NewJSONWriter and keyset.NewBinaryWriter write, without their optional
// white space, so that the same keys always give the same JSON.
//
// # What is read
//
// All six suites, with the output prefix types TINK and RAW
// ([seal.WithoutPrefix]). Keys that are DISABLED or DESTROYED are skipped. The
// primary comes first, the others follow in the order of the keyset. Everything
// else is an error, among it:
//
//   - a keyset without a primary, or with one that is not enabled
//   - two keys of one id, even if one of them is disabled
//   - other output prefix types, key types, KEMs, KDFs, AEADs and versions
//   - private or symmetric keys in a public keyset, even if disabled
//   - a private key that comes with another key's public half
//   - keys that seal refuses. tink-go takes X25519 points of low order and X-Wing
//     keys of any 1216 bytes, and fails, if at all, when it encrypts
//   - fields that are not Tink's, bytes after the end, more than 1 MiB
//
// No error of this package contains bytes of a key or any text of the input; an
// AEAD's own error is passed on as it is. (tink-go's JSON reader quotes what it
// cannot read: a private key, where its base64 is broken.)
//
// # What is lost
//
// A seal key knows neither a status nor the keys that were skipped, so reading a
// keyset and writing it again drops the keys that are not enabled.
//
// All functions are safe for use by several goroutines at once, provided that
// the AEAD they are given is, as Tink's are.
//
// [tink.proto]: https://github.com/tink-crypto/tink-go/blob/v2.9.0/proto/tink.proto
// [hpke.proto]: https://github.com/tink-crypto/tink-go/blob/v2.9.0/proto/hpke.proto
package tinkkeys
