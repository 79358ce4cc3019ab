package publish

import (
	"errors"
	"fmt"
)

// ErrRefused is wrapped by every error that refuses a key set that was served, read
// or given. No error of this package holds text of the document.
var ErrRefused = errors.New("the key set is refused")

// Why a key set is refused. Each wraps [ErrRefused].
var (
	// ErrMalformed is a document that is no key set of the version that this package
	// reads, or larger than [MaxSize]. If a key or keyset is at fault, the error also
	// wraps what package tinkkeys has against it.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrRefused)
	// ErrUntrusted is a key set that no pinned key has signed with EdDSA: another
	// key, another algorithm, none at all, or a changed byte.
	ErrUntrusted = fmt.Errorf("%w: not signed by a pinned key", ErrRefused)
	// ErrOtherName is a key set that was signed for another service.
	ErrOtherName = fmt.Errorf("%w: it is another service's", ErrRefused)
	// ErrExpired is a key set whose time is over.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrRefused)
	// ErrNotYetValid is a key set of the future: the local clock is more than
	// [ClockSkew] behind that of the server.
	ErrNotYetValid = fmt.Errorf("%w: it is not valid yet", ErrRefused)
	// ErrRollback is a key set that is older than one seen before, or of the same
	// revision with other keys: an old one that someone has kept, or the answer of a
	// replica that has not heard of a change yet.
	ErrRollback = fmt.Errorf("%w: older than one that was seen", ErrRefused)
)

// ErrUnavailable is a key set that could not be fetched: no answer, or one with
// another status than 200. Redirects are not followed, so they are among these.
var ErrUnavailable = errors.New("the key set is not available")
