package sealhttp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// An Option is an option of [New] and [Middleware.With].
type Option interface{ applyServer(*config) error }

// A TransportOption is an option of [NewTransport].
type TransportOption interface{ applyTransport(*transportConfig) error }

// A CommonOption is an option of both sides, which usually must agree in it.
type CommonOption interface {
	Option
	TransportOption
}

type (
	serverOption    func(*config) error
	transportOption func(*transportConfig) error
	commonOption    func(*settings) error
)

func (o serverOption) applyServer(c *config) error                { return o(c) }
func (o transportOption) applyTransport(c *transportConfig) error { return o(c) }
func (o commonOption) applyServer(c *config) error                { return o(&c.settings) }
func (o commonOption) applyTransport(c *transportConfig) error    { return o(&c.settings) }

// infoFunc gives HPKE's info for a request's body and for its response's.
type infoFunc func(*http.Request) (request, response []byte, err error)

// settings are the options of both sides.
type settings struct {
	maxRequest  int64 // plaintext bytes
	maxResponse int64
	info        infoFunc
	logger      *slog.Logger // nil: slog.Default() at the time of logging
	// of the exchange profile
	boundNames []string // header fields, nil for the default list
	maxStream  int64    // plaintext bytes of a body, 0 for no limit
	padding    seal.Padding
}

// defaultMaxBytes is the default of both limits: 10 MiB.
const defaultMaxBytes = 10 << 20

func defaultSettings() settings {
	return settings{maxRequest: defaultMaxBytes, maxResponse: defaultMaxBytes, info: noInfo}
}

func noInfo(*http.Request) (request, response []byte, err error) { return nil, nil, nil }

func (s *settings) log() *slog.Logger {
	if s.logger == nil {
		return slog.Default()
	}
	return s.logger
}

// config is what a Middleware is made of.
type config struct {
	settings
	clientKeys         ClientKeys
	noAccount          *sync.Once // for all that With makes
	policy             Policy     // the zero Policy if policyFunc decides
	policyFunc         func(*http.Request) (Policy, error)
	defaultContentType string
	errorHandler       func(http.ResponseWriter, *http.Request, error)
	observer           func(*http.Request, Event)
	without            [3]bool // profiles that are not offered, by Profile
	// of the exchange profile
	authority    string // normalised, empty for the request's
	targetPrefix string
	guard        ReplayGuard
	window       time.Duration
}

func (c *config) offers(p Profile) bool { return !c.without[p] }

// defaultReplayWindow is how far a request's time may be off, either way.
const defaultReplayWindow = 5 * time.Minute

func defaultConfig() config {
	return config{
		settings:           defaultSettings(),
		noAccount:          new(sync.Once),
		policy:             Optional,
		defaultContentType: "application/json",
		errorHandler:       WriteError,
		window:             defaultReplayWindow,
	}
}

// check refuses combinations that cannot work.
func (c *config) check() error {
	if c.policy == Required && c.clientKeys == nil && c.offers(MessageProfile) {
		return errors.New("sealhttp: policy Required without client keys would refuse every call of the message profile: " +
			"add WithClientKeys, offer the exchange profile only with WithProfiles(ExchangeProfile), " +
			"or use RequestRequired to answer in plaintext")
	}
	return nil
}

// WithClientKeys sets where the public keys of callers are found, which responses
// are sealed to. Without it, a message is asked for in vain as the response: 406
// no_client_key. An exchange is answered sealed with and without it.
func WithClientKeys(keys ClientKeys) Option {
	return serverOption(func(c *config) error {
		if keys == nil {
			return errors.New("sealhttp: WithClientKeys: keys are nil")
		}
		c.clientKeys = keys
		return nil
	})
}

// WithPolicy sets one [Policy] for all calls; the default is [Optional]. Of
// WithPolicy and [WithPolicyFunc] the last one wins.
//
// [Required] without client keys would refuse every call of the message profile, and is
// an error of [New] and [Middleware.With]: add [WithClientKeys], offer the exchange
// profile only with WithProfiles(ExchangeProfile), or use [RequestRequired] to answer in
// plaintext.
func WithPolicy(p Policy) Option {
	return serverOption(func(c *config) error {
		if !p.valid() {
			return fmt.Errorf("sealhttp: WithPolicy: Policy(%d) is none: use Disabled, Optional, RequestRequired or Required", p)
		}
		c.policy, c.policyFunc = p, nil
		return nil
	})
}

// WithPolicyFunc sets a function that finds the [Policy] of a call, by its
// account say. An error, and the zero Policy, is answered with 503
// policy_unavailable, never with plaintext. The function must be safe for use by
// several goroutines at once. It is not asked for CORS preflights, which carry
// no credentials. Before routing a request's Pattern is still empty.
func WithPolicyFunc(policy func(*http.Request) (Policy, error)) Option {
	return serverOption(func(c *config) error {
		if policy == nil {
			return errors.New("sealhttp: WithPolicyFunc: the function is nil")
		}
		c.policy, c.policyFunc = 0, policy
		return nil
	})
}

// WithProfiles sets which profiles are offered; others are refused with
// unsupported_profile. The default is both, [MessageProfile] and [ExchangeProfile].
func WithProfiles(profiles ...Profile) Option {
	return serverOption(func(c *config) error {
		if len(profiles) == 0 {
			return errors.New("sealhttp: WithProfiles: name at least one profile, or use WithPolicy(Disabled)")
		}
		if i := slices.IndexFunc(profiles, func(p Profile) bool { return !p.valid() }); i >= 0 {
			return fmt.Errorf("sealhttp: WithProfiles: Profile(%d) does not exist", profiles[i])
		}
		for _, p := range [...]Profile{MessageProfile, ExchangeProfile} {
			c.without[p] = !slices.Contains(profiles, p)
		}
		return nil
	})
}

// WithMaxRequestBytes sets how many bytes of plaintext a request of the message profile
// may have, which are held in memory. The default is 10 MiB. A request of more is
// refused with 413 too_large, before it is read where Content-Length tells. On a
// [Transport] it is not sent. For exchanges there is [WithMaxStreamBytes].
func WithMaxRequestBytes(n int64) CommonOption {
	return commonOption(func(s *settings) error {
		s.maxRequest = n
		return checkLimit("WithMaxRequestBytes", n)
	})
}

// WithMaxResponseBytes sets how many bytes of plaintext a response of the message
// profile may have, which are held in memory. The default is 10 MiB. A handler that
// writes more gets an error, and its caller 500 response_too_large. On a [Transport] a
// longer response is an error. For exchanges there is [WithMaxStreamBytes].
func WithMaxResponseBytes(n int64) CommonOption {
	return commonOption(func(s *settings) error {
		s.maxResponse = n
		return checkLimit("WithMaxResponseBytes", n)
	})
}

// checkLimit leaves room for what a message is longer than its plaintext.
func checkLimit(option string, n int64) error {
	if n < 1 || n > math.MaxInt>>1 {
		return fmt.Errorf("sealhttp: %s: %d bytes is no limit", option, n)
	}
	return nil
}

// WithInfo sets HPKE's info for requests and for responses, which both sides must
// give alike for a message to open. Both are empty by default. Values that start
// with "sealhttp " are refused: they are for the exchange profile. The slices are
// copied.
func WithInfo(request, response []byte) CommonOption {
	request, response = bytes.Clone(request), bytes.Clone(response)
	return commonOption(func(s *settings) error {
		if err := checkInfo(request, response); err != nil {
			return err
		}
		s.info = func(*http.Request) ([]byte, []byte, error) { return request, response, nil }
		return nil
	})
}

// WithInfoFunc sets a function that gives HPKE's info for a request and for its
// response. With the caller's account id as info, a recorded body does not open
// under another account's credentials. It is asked once a call, must be safe for
// use by several goroutines at once, and must not change the slices later. An
// error is answered with 503 key_store_unavailable; see [WithInfo] for values
// that are one.
func WithInfoFunc(info func(*http.Request) (request, response []byte, err error)) CommonOption {
	return commonOption(func(s *settings) error {
		if info == nil {
			return errors.New("sealhttp: WithInfoFunc: the function is nil")
		}
		s.info = func(r *http.Request) (request, response []byte, err error) {
			if request, response, err = info(r); err == nil {
				err = checkInfo(request, response)
			}
			return request, response, err
		}
		return nil
	})
}

func checkInfo(infos ...[]byte) error {
	for _, info := range infos {
		if bytes.HasPrefix(info, []byte("sealhttp ")) {
			return errors.New(`sealhttp: info must not start with "sealhttp "`)
		}
	}
	return nil
}

// WithDefaultContentType sets the content type that the handler sees for a sealed
// body without Sealed-Content-Type. The default is application/json.
func WithDefaultContentType(mediaType string) Option {
	return serverOption(func(c *config) error {
		if _, _, err := mime.ParseMediaType(mediaType); err != nil {
			return fmt.Errorf("sealhttp: WithDefaultContentType(%q): %w", mediaType, err)
		}
		if mediaTypeIs(mediaType, MediaType) || mediaTypeIs(mediaType, ExchangeMediaType) {
			return fmt.Errorf("sealhttp: WithDefaultContentType(%q): it is the type of the plaintext", mediaType)
		}
		c.defaultContentType = mediaType
		return nil
	})
}

// WithLogger sets where refused calls (at debug level) and failures of the
// server's side (warnings and errors) are logged. The default is slog.Default().
func WithLogger(logger *slog.Logger) CommonOption {
	return commonOption(func(s *settings) error {
		if logger == nil {
			return errors.New("sealhttp: WithLogger: the logger is nil; use slog.New(slog.DiscardHandler) for none")
		}
		s.logger = logger
		return nil
	})
}

// WithErrorHandler sets how a refused call is answered, as ErrorHandler does for
// httputil.ReverseProxy. The error holds an [*Error]. The default is [WriteError],
// which a handler can call for what it does not treat itself. What it writes goes
// out in plaintext, but for refusals of an exchange that has authenticated, so it must
// not hold what the caller may read only sealed.
func WithErrorHandler(handler func(http.ResponseWriter, *http.Request, error)) Option {
	return serverOption(func(c *config) error {
		if handler == nil {
			return errors.New("sealhttp: WithErrorHandler: the handler is nil")
		}
		c.errorHandler = handler
		return nil
	})
}

// WithObserver sets a function that is told of every call, once: when it is passed
// on in plaintext (by each of several Middlewares that it passes), when it is
// refused, and when a sealed one ends. The request is
// the one that came in, not the opened one. The function runs on the call's
// goroutine and must be safe for use by several at once.
func WithObserver(observer func(*http.Request, Event)) Option {
	return serverOption(func(c *config) error {
		if observer == nil {
			return errors.New("sealhttp: WithObserver: the function is nil")
		}
		c.observer = observer
		return nil
	})
}
