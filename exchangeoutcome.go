package sealhttp

import "errors"

// Whether a call of the exchange profile that ended with an error was executed. Each
// such error wraps exactly one of the two, whatever else it is, but for [ErrRedirect].
// A program that is to repeat what was not done asks for ErrNotProcessed, not for the
// absence of the other: a Timeout of http.Client replaces the error by its own.
var (
	// ErrNotProcessed is a call of which nothing was sent: it was not executed, and
	// will not be.
	ErrNotProcessed = errors.New("the request was not processed")

	// ErrOutcomeUnknown is a call that may have been executed, or may still be, once at
	// most. Whoever ends TLS before the service may have held an answer back, or keep
	// what was sent and deliver it later, even if the service has refused it the first
	// time. What was sent is good until its time has left the service's replay window.
	// Another call has another id: find out what has happened before it asks for
	// the same.
	ErrOutcomeUnknown = errors.New("the outcome is unknown: the request may have been executed, or may still be")
)

// outcome adds to an error whether the request may have been executed.
//
// Only a call of which nothing was sent was certainly not. An answer that nothing
// authenticates says nothing: a hop can hold back the true one. One that is
// authenticated and refuses says that this delivery was not executed: the service
// remembers no id that it refuses, so a hop can deliver the same bytes again, or those
// of an earlier attempt, while their time is in the replay window. An authenticated
// response of the handler does settle it: its attempt was executed, so no other
// attempt under the id was, or will be.
func (c *exchangeCall) outcome(err error) error {
	o := &outcomeError{err: err, outcome: ErrNotProcessed}
	if c.sent {
		o.outcome = ErrOutcomeUnknown
	}
	if e, ok := err.(*Error); ok {
		o.err = e.Err
		return newError(e.Code, e.Status, o)
	}
	return o
}

// outcomeError is an error, nil for no more than an Error's code, with what is known of
// its call's outcome.
type outcomeError struct {
	err     error
	outcome error
}

func (e *outcomeError) Error() string {
	if e.err == nil {
		return e.outcome.Error()
	}
	return e.err.Error() + "; " + e.outcome.Error()
}

func (e *outcomeError) Unwrap() []error {
	if e.err == nil {
		return []error{e.outcome}
	}
	return []error{e.err, e.outcome}
}

// Timeout is for http.Client, whose errors ask for it.
func (e *outcomeError) Timeout() bool { return e.err != nil && isTimeout(e.err) }
