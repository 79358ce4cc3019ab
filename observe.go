package sealhttp

import (
	"context"
	"net/http"
)

// Profile is one of the two forms of a sealed call. The zero Profile is none: a
// call in plaintext.
type Profile uint8

const (
	// MessageProfile is the profile of [MediaType]: a body is one HPKE message, as
	// Tink and any HPKE library make it.
	MessageProfile Profile = 1 + iota
	// ExchangeProfile is the profile of [ExchangeMediaType]: bodies are streamed in
	// records, a response belongs to its request, and a request is executed at
	// most once.
	ExchangeProfile
)

// String returns the profile's name.
func (p Profile) String() string {
	switch p {
	case MessageProfile:
		return "message"
	case ExchangeProfile:
		return "exchange"
	}
	return "none"
}

func (p Profile) valid() bool { return p == MessageProfile || p == ExchangeProfile }

// CallInfo says how a call is sealed.
type CallInfo struct {
	// Profile is the call's profile, the zero Profile for a call in plaintext.
	Profile Profile
	// KeyID is the id of the server's key that the request was sealed to, 0 if it
	// was not sealed.
	KeyID uint32
	// CallerKeyID is the id of the caller's key that the response is sealed to, 0
	// if it is sealed to none.
	CallerKeyID uint32
	// RequestSealed says that the request's body was sealed. In the message profile it
	// has opened. In the exchange profile it is always true, since that there is no body
	// is authenticated, too; a body is authenticated as the handler reads it.
	RequestSealed bool
	// ResponseSealed says that the response is sealed. A response that has no
	// content by its nature, as one to HEAD, has nothing to seal, and counts as sealed.
	ResponseSealed bool
}

// Event is what happened to one call, for counters and logs. It holds nothing
// secret, but for what an Err of the user's own resolvers may say.
type Event struct {
	CallInfo
	// Code says why the call was refused, or its response could not be sealed. It
	// is empty where neither happened.
	Code Code
	// Status is the HTTP status that sealhttp sent, or 0 where the response is
	// written by others: for a call in plaintext, and for one of which only the
	// request was sealed.
	Status int
	// Err is the error that the call ended with, nil for none.
	Err error
}

type callInfoKey struct{}

// NewContext returns a context that carries info, for tests of handlers that use
// [FromContext].
func NewContext(ctx context.Context, info CallInfo) context.Context {
	return context.WithValue(ctx, callInfoKey{}, &info)
}

// FromContext tells a handler how its call is sealed. It reports false for a call
// in plaintext. Only what runs inside the Middleware sees it; what runs outside
// uses [WithObserver].
func FromContext(ctx context.Context) (CallInfo, bool) {
	if info, ok := ctx.Value(callInfoKey{}).(*CallInfo); ok {
		return *info, info.RequestSealed || info.ResponseSealed
	}
	return CallInfo{}, false
}

// responseInfoKey is not callInfoKey: a handler that calls another service hands
// its own context on, with what that says of the call it is serving.
type responseInfoKey struct{}

// responseInfo names the request whose response it is about: a program may use the
// context of one call for the next.
type responseInfo struct {
	request *http.Request
	call    *CallInfo // nil if nothing authenticates the response
}

// FromResponse tells a caller how the response from a [Transport] was sealed. It
// reports false for a response that nothing authenticates: one in plaintext, one
// without content, and one from elsewhere.
//
// In the message profile a sealed response is one that was sealed to the caller's
// key; see the package documentation for what that leaves open.
func FromResponse(resp *http.Response) (CallInfo, bool) {
	if resp == nil || resp.Request == nil {
		return CallInfo{}, false
	}
	info, _ := resp.Request.Context().Value(responseInfoKey{}).(*responseInfo)
	if info == nil || info.request != resp.Request || info.call == nil {
		return CallInfo{}, false
	}
	return *info.call, true
}
