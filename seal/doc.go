// Package seal holds HPKE keys, checks them, and turns bytes into sealed
// messages and back. It knows nothing of HTTP.
//
// A message is what Google's Tink calls hybrid encryption with HPKE, and for
// keys made [WithoutPrefix] it is byte for byte the single-shot API of RFC 9180,
// section 6.1, in base mode with empty associated data:
//
//	message = [ 0x01 || key id, 4 bytes, big-endian ] || enc || ct
//
// So a Tink in any language, or any HPKE library, can seal for a [PrivateKey] of
// this package and open what a [PublicKey] of it sealed.
//
// # Keys
//
// A key belongs to one [Suite] for life, and its id tells which key a message is
// for. No suite is ever negotiated, so none can be talked down. Every key is
// validated when it is made (see [NewPublicKey]); a *PublicKey or *PrivateKey
// that exists is one that can be used. Keys and key sets are immutable and safe
// for use by several goroutines at once.
//
// # What base mode does not give
//
// Whoever has a public key can seal for it: opening a message proves that it
// arrived as it was sealed, not who sealed it. And a message can be recorded and
// presented again.
package seal
