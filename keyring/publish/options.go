package publish

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// A HandlerOption is an option of [NewHandler] and [NewTinkHandler].
type HandlerOption interface{ applyHandler(*handlerConfig) error }

// A SourceOption is an option of [NewSource] and [NewInsecureHTTPSOnlySource].
type SourceOption interface{ applySource(*sourceConfig) error }

// A CommonOption is an option of both sides.
type CommonOption interface {
	HandlerOption
	SourceOption
}

type (
	handlerOption func(*handlerConfig) error
	sourceOption  func(*sourceConfig) error
	commonOption  func(*settings) error
)

func (o handlerOption) applyHandler(c *handlerConfig) error { return o(c) }
func (o sourceOption) applySource(c *sourceConfig) error    { return o(c) }
func (o commonOption) applyHandler(c *handlerConfig) error  { return o(&c.settings) }
func (o commonOption) applySource(c *sourceConfig) error    { return o(&c.settings) }

// settings are the options of both sides.
type settings struct{ logger *slog.Logger } // nil: slog.Default() at the time of logging

func (s *settings) log() *slog.Logger {
	if s.logger == nil {
		return slog.Default()
	}
	return s.logger
}

type handlerConfig struct {
	settings
	validity time.Duration
}

type sourceConfig struct {
	settings
	client          *http.Client
	refusedInterval time.Duration
	stateFile       string
}

const (
	minValidity            = 2 * time.Second
	defaultRefusedInterval = time.Minute
)

// WithLogger sets where failures are logged. The default is slog.Default().
func WithLogger(logger *slog.Logger) CommonOption {
	return commonOption(func(s *settings) error {
		if logger == nil {
			return errors.New("publish: WithLogger: the logger is nil")
		}
		s.logger = logger
		return nil
	})
}

// WithValidity sets how long a signature is valid: [DefaultValidity] by default, 2
// seconds at least. It is the longest time that a caller who is kept from fetching
// goes on sealing to a key that was revoked, and the longest outage of the
// publication that callers live through. It must not be above the ring's overlap, or
// callers would use keys that are gone: keyring.WithPublicationValidity of the same
// duration makes sure.
func WithValidity(d time.Duration) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if d < minValidity {
			return fmt.Errorf("publish: WithValidity: %v is below %v", d, minValidity)
		}
		c.validity = d.Truncate(time.Second)
		return nil
	})
}

// WithHTTPClient sets the client that fetches; the default is one with
// http.DefaultTransport. Its CheckRedirect is not asked, since redirects are refused.
// It must not be one whose transport seals with the keys of the same [Source].
func WithHTTPClient(client *http.Client) SourceOption {
	return sourceOption(func(c *sourceConfig) error {
		if client == nil {
			return errors.New("publish: WithHTTPClient: the client is nil")
		}
		c.client = client
		return nil
	})
}

// WithRefusedInterval sets the least time between two fetches for keys that the
// server has answered unknown_key for, to which up to half is added at random. The
// default is one minute. Such an answer may be a lie, and costs no more than that; a
// key that was revoked right after a lie is replaced that much later.
func WithRefusedInterval(d time.Duration) SourceOption {
	return sourceOption(func(c *sourceConfig) error {
		if d <= 0 {
			return fmt.Errorf("publish: WithRefusedInterval: %v is no interval", d)
		}
		c.refusedInterval = d
		return nil
	})
}

// WithStateFile keeps the last key set in a file, signed as it was fetched. A process
// that starts again then refuses what is older than that too, and needs no fetch
// while the set has not expired. Without it, protection from older revisions begins
// anew with each process.
//
// The file is read once, by [NewSource], and replaced atomically. There is nothing
// secret in it, and whoever writes into it gains no more than by deleting it: one
// that is missing, damaged, or not signed by a pinned key counts as none. Processes
// do not share one.
func WithStateFile(path string) SourceOption {
	return sourceOption(func(c *sourceConfig) error {
		if path == "" {
			return errors.New("publish: WithStateFile: the path is empty")
		}
		c.stateFile = path
		return nil
	})
}
