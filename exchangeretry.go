package sealhttp

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

const (
	// retryWithin is how long after the first attempt another may begin.
	retryWithin = time.Minute
	// retryPause is how long a 503 is waited out, give or take a half.
	retryPause = time.Second
)

// remedy is what may help a call that has failed.
type remedy uint8

const (
	noRemedy   remedy = iota
	anotherKey        // the service does not know this one
	anotherTry        // the connection broke, or the clock was wrong
	laterTry          // 503
	anotherID         // replayed
)

// attemptError is what an attempt has ended with.
type attemptError struct {
	cause  error
	remedy remedy
}

// mend does what may help after a failed attempt, and returns the key for another. Its
// error is what the call ends with.
//
// Under one id there is one more attempt, within a minute. An attempt that was answered
// with replayed is followed by one under another id, if the method is safe.
func (c *exchangeCall) mend(failed *attemptError, key *seal.PublicKey) (*seal.PublicKey, error) {
	ctx := c.req.Context()
	switch {
	case ctx.Err() != nil:
		return nil, c.ended(failed.cause)
	case failed.remedy == noRemedy:
		return nil, failed.cause
	case failed.remedy == anotherID:
		if c.renewed || !c.isSafe() || !c.upload.again() {
			return nil, failed.cause
		}
		c.renewed = true
		c.newID()
		return key, nil
	case c.retried || !c.inTime():
		return nil, failed.cause
	}
	if failed.remedy == anotherKey {
		other, err := c.t.sealingKey(ctx, key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w; asked for another key: %w", failed.cause, err)
		case other.Equal(key):
			return nil, failed.cause
		}
		key = other
	}
	if !c.upload.again() {
		return nil, failed.cause
	}
	if failed.remedy == laterTry && !c.pause() {
		return nil, c.ended(failed.cause)
	}
	if !c.stamp() { // all of that may have taken long
		return nil, failed.cause
	}
	c.retried = true
	return key, nil
}

// ended adds to an error that the call's context has ended: the error may come of that.
func (c *exchangeCall) ended(err error) error {
	if cause := context.Cause(c.req.Context()); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w; %w", err, cause)
	}
	return err
}

// isSafe reports whether the call may be executed twice (RFC 9110, section 9.2.1): by its
// method, unless the service may be asked to take it for another.
func (c *exchangeCall) isSafe() bool {
	switch c.binding.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return false
	}
	for _, name := range methodOverrides {
		for _, line := range c.header[name] {
			if line != "" {
				return false
			}
		}
	}
	return true
}

// methodOverrides are the fields by which frameworks replace a request's method.
var methodOverrides = [...]string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// pause waits, unless the call would end meanwhile. Retry-After is not looked at: it is
// not authenticated.
func (c *exchangeCall) pause() bool {
	pause := retryPause/2 + mathrand.N(retryPause)
	ctx := c.req.Context()
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
