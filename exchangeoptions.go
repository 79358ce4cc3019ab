package sealhttp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// WithBoundHeaders sets which header fields of an exchange request are bound to it, in
// this order, in place of the default: authorization, idempotency-key, if-match,
// if-none-match, if-modified-since, if-unmodified-since and x-http-method-override.
// An intermediary that changes, adds or drops one of them makes the request fail. A
// field may have one line only.
//
// A [Transport] binds them; a [Middleware] refuses a request that leaves one of them
// out with 400 binding_required, and takes one that binds more. Whatever decides on
// whose behalf a request is executed belongs here, such as an API key in a field of
// its own.
//
// Names are at most 16, tokens of RFC 9110, and none that intermediaries set or split,
// such as host, cookie or accept.
func WithBoundHeaders(names ...string) CommonOption {
	bound := make([]string, len(names))
	for i, name := range names {
		bound[i] = strings.ToLower(name)
	}
	return commonOption(func(s *settings) error {
		if err := checkBoundNames(bound); err != nil {
			return fmt.Errorf("sealhttp: WithBoundHeaders: %w", err)
		}
		s.boundNames = bound
		return nil
	})
}

// WithMaxStreamBytes sets how many bytes of plaintext one body of an exchange may
// have, either way; padding counts. There is no limit by default, since nothing is
// held in memory. Reading on in a longer request is an error that holds an
// *http.MaxBytesError and an [*Error] of [CodeTooLarge]; where Content-Length tells, it is
// refused with 413 before the handler runs. A handler that writes more gets an error,
// and its caller half a response that reports its end as an error.
func WithMaxStreamBytes(n int64) CommonOption {
	return commonOption(func(s *settings) error {
		if n < 1 || n > math.MaxInt64>>1 {
			return fmt.Errorf("sealhttp: WithMaxStreamBytes: %d bytes is no limit", n)
		}
		s.maxStream = n
		return nil
	})
}

// WithPadding sets how the lengths of bodies of the exchange profile are hidden:
// [seal.Padme], what [seal.PadBuckets] returns, or a Padding of one's own. By default
// a body's length shows, as it does in the message profile always. A [Middleware] pads
// responses, a [Transport] requests.
func WithPadding(padding seal.Padding) CommonOption {
	return commonOption(func(s *settings) error {
		if padding == nil {
			return errors.New("sealhttp: WithPadding: the padding is nil; leave the option out for none")
		}
		s.padding = padding
		return nil
	})
}

// WithAuthority sets the public name of the service that exchange requests are bound
// to, such as "api.example.com", where a gateway rewrites Host on the way. Case and
// port do not count. By default it is the request's own Host.
func WithAuthority(authority string) Option {
	return serverOption(func(c *config) error {
		c.authority = normalAuthority(authority)
		if !isHost(authority) {
			return fmt.Errorf("sealhttp: WithAuthority(%q): it is a host name in ASCII, without scheme and path", authority)
		}
		return nil
	})
}

// WithTargetPrefix sets the path that a gateway cuts off the front of request targets,
// such as "/public": it is put back before the target is bound.
func WithTargetPrefix(prefix string) Option {
	return serverOption(func(c *config) error {
		if !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "?# ") || len(prefix) > maxTarget || !isPrintableASCII(prefix) {
			return fmt.Errorf("sealhttp: WithTargetPrefix(%q): it starts with a slash, is printable ASCII without query, fragment and space, and has at most %d bytes", prefix, maxTarget)
		}
		c.targetPrefix = strings.TrimSuffix(prefix, "/")
		return nil
	})
}

// WithReplayGuard sets what remembers which exchange requests were taken. On more than
// one replica it must be set, to one that all of them share: the default,
// [NewMemoryReplayGuard] with 64 MiB, knows of its own process only. What
// [Middleware.With] makes shares its parent's.
func WithReplayGuard(guard ReplayGuard) Option {
	return serverOption(func(c *config) error {
		if guard == nil {
			return errors.New("sealhttp: WithReplayGuard: the guard is nil")
		}
		c.guard = guard
		return nil
	})
}

// WithReplayWindow sets how far the time of an exchange request may be from the
// server's, either way, in whole seconds. The default is 5 minutes. A wider one takes
// callers with worse clocks, and more memory in the guard, which remembers each
// request for twice as long and two minutes. To widen it, begin with an empty guard: one
// that goes on has forgotten requests that the wider window takes again.
func WithReplayWindow(window time.Duration) Option {
	return serverOption(func(c *config) error {
		if window < time.Second || window > 24*time.Hour || window%time.Second != 0 {
			return fmt.Errorf("sealhttp: WithReplayWindow: %v is not in whole seconds from one to a day", window)
		}
		c.window = window
		return nil
	})
}

// replayTTL is how long an id is remembered: a request is taken until a window after
// its time, which may be a window ahead, and the clocks of replicas differ.
func (c *config) replayTTL() time.Duration { return 2*c.window + 2*time.Minute }

// requiredNames are the fields that a request must bind.
func (s *settings) requiredNames() []string {
	if s.boundNames == nil {
		return defaultBoundNames
	}
	return s.boundNames
}

// missingName returns the first of the required fields that is not bound.
func (s *settings) missingName(bound []string) string {
	for _, name := range s.requiredNames() {
		if !slices.Contains(bound, name) {
			return name
		}
	}
	return ""
}
