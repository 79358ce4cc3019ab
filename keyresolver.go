package sealhttp

import (
	"context"
	"net/http"

	"github.com/sealhttp/sealhttp/seal"
)

// ServerKeys gives the private keys of the side that opens. It is asked once a
// request, and the set it returns is used to the end of that request. A
// *keyring.Keyring is one. It must be safe for use by several goroutines at once.
//
// Any error, and a nil set, is answered with 503 key_store_unavailable.
type ServerKeys interface {
	ServerKeys(ctx context.Context) (*seal.KeySet, error)
}

// ServerKeysFunc makes a function a [ServerKeys].
type ServerKeysFunc func(ctx context.Context) (*seal.KeySet, error)

// ServerKeys calls f(ctx).
func (f ServerKeysFunc) ServerKeys(ctx context.Context) (*seal.KeySet, error) { return f(ctx) }

// ClientKeys finds the registered public key of a request's caller, whom
// authentication has put into the request or its context. It must be safe for use
// by several goroutines at once, and return when the request's context ends.
//
// For a caller without a key it returns [ErrNoClientKey], or an error that wraps
// it: 406 no_client_key. Every other error says that it could not be found out,
// 503 key_store_unavailable; so a "no rows" of a database is to be translated. A
// nil key without an error counts as ErrNoClientKey.
type ClientKeys interface {
	ClientKey(r *http.Request) (*seal.PublicKey, error)
}

// ClientKeysFunc makes a function a [ClientKeys].
type ClientKeysFunc func(r *http.Request) (*seal.PublicKey, error)

// ClientKey calls f(r).
func (f ClientKeysFunc) ClientKey(r *http.Request) (*seal.PublicKey, error) { return f(r) }

// ServerPublicKeys gives a caller the public key to seal to. It must be safe for
// use by several goroutines at once.
//
// refused is nil, or the key that the server has just answered unknown_key for.
// That answer may be forged: what it leads to must be safe and cheap. A source
// that has nothing newer returns refused again, and the call fails.
type ServerPublicKeys interface {
	PublicKey(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error)
}

// ServerPublicKeysFunc makes a function a [ServerPublicKeys].
type ServerPublicKeysFunc func(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error)

// PublicKey calls f(ctx, refused).
func (f ServerPublicKeysFunc) PublicKey(ctx context.Context, refused *seal.PublicKey) (*seal.PublicKey, error) {
	return f(ctx, refused)
}

// StaticPublicKey is a [ServerPublicKeys] of one key that never changes. When the
// server drops that key, calls fail with unknown_key.
func StaticPublicKey(key *seal.PublicKey) ServerPublicKeys {
	return ServerPublicKeysFunc(func(context.Context, *seal.PublicKey) (*seal.PublicKey, error) {
		return key, nil
	})
}

type accountKey struct{}

// ContextWithAccount returns a context that carries the account that
// authentication found, for resolvers and policies.
func ContextWithAccount(ctx context.Context, account string) context.Context {
	return context.WithValue(ctx, accountKey{}, account)
}

// Account returns what [ContextWithAccount] put into the context, or "".
func Account(ctx context.Context) string {
	account, _ := ctx.Value(accountKey{}).(string)
	return account
}
