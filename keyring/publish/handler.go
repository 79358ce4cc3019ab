package publish

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// Keys is what is published: a *keyring.Keyring is one. Published returns one
// snapshot: the public keys, the primary first, and their revision, which is never 0
// and grows with every change of the keys.
//
// Callers remember revisions and refuse to go back. So all replicas must publish the
// same ones, and they must outlive the process, as those of a *keyring.Keyring on a
// store do. A ring in memory is for a service of one process.
type Keys interface {
	Published() (revision uint64, keys []*seal.PublicKey)
}

const (
	// A document is signed anew when this part of its validity has passed.
	signaturesPerValidity = 8
	// How long caches may keep a document: short enough that a caller behind one
	// learns soon of a key that was revoked.
	maxAge         = 5 * time.Minute
	agesInValidity = 24
	// After a failure the signer is left alone for so long.
	signerPause = 10 * time.Second
)

// Handler serves the signed key set, to GET and HEAD, at whatever path it is mounted.
// It has an ETag, which is the same on all replicas whose signatures are
// deterministic, answers conditional requests, and may be cached for 5 minutes, or for
// a 24th of the validity if that is less.
//
// The signature is kept until the revision changes or an eighth of the validity has
// passed. If the signer fails, the last document is served on until it expires, as
// long as its primary key is still published; otherwise the answer is 503.
//
// It must not stand behind a sealhttp.Middleware that requires encryption: callers
// fetch in plaintext.
type Handler struct {
	handlerConfig
	keys    Keys
	name    string
	signer  crypto.Signer
	current atomic.Pointer[document]
	signing chan struct{} // held by who signs; a channel, so that waiting ends with the request
	failed  atomic.Pointer[failure]
}

// document is what is served.
type document struct {
	body []byte
	set  Set
	etag string
}

// failure is of the signer.
type failure struct {
	err   error
	until time.Time // when to try again
}

// NewHandler makes a Handler. The name says whose keys these are, such as
// "api.example.com"; callers pin it. The signer must have an Ed25519 key, which should
// sign nothing else; see [Sign]. It is called in a request, by one at a time, and must
// return in reasonable time.
func NewHandler(keys Keys, name string, signer crypto.Signer, opts ...HandlerOption) (*Handler, error) {
	if keys == nil {
		return nil, errors.New("publish: NewHandler: keys are nil")
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if _, err := publicKeyOf(signer); err != nil {
		return nil, err
	}
	config, err := newHandlerConfig(opts)
	if err != nil {
		return nil, err
	}
	return &Handler{handlerConfig: config, keys: keys, name: name, signer: signer, signing: make(chan struct{}, 1)}, nil
}

func newHandlerConfig(opts []HandlerOption) (handlerConfig, error) {
	c := handlerConfig{validity: DefaultValidity}
	for _, opt := range opts {
		if opt == nil {
			return c, errors.New("publish: an option is nil")
		}
		if err := opt.applyHandler(&c); err != nil {
			return c, err
		}
	}
	return c, nil
}

// ServeHTTP answers with the signed key set.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r) {
		return
	}
	d, err := h.document(r.Context())
	if err != nil {
		unavailable(w) // it was logged when it was tried
		return
	}
	age := min(maxAge, h.validity/agesInValidity, time.Until(d.set.Expires))
	serve(w, r, d, MediaType, age)
}

// document returns the document of this moment.
func (h *Handler) document(ctx context.Context) (*document, error) {
	if d := h.current.Load(); h.fresh(d) {
		return d, nil
	}
	select {
	case h.signing <- struct{}{}:
	default: // another one signs
		if d := h.current.Load(); h.usable(d) {
			return d, nil
		}
		select {
		case h.signing <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-h.signing }()

	d := h.current.Load()
	if h.fresh(d) {
		return d, nil
	}
	failed := h.failed.Load()
	if failed == nil || !time.Now().Before(failed.until) {
		signed, err := h.sign()
		if err == nil {
			h.current.Store(signed)
			h.failed.Store(nil)
			return signed, nil
		}
		failed = &failure{err, time.Now().Add(min(signerPause, h.validity/signaturesPerValidity))}
		h.failed.Store(failed)
		h.log().LogAttrs(ctx, slog.LevelError, "publish: the key set could not be signed",
			slog.Any("error", err), slog.Bool("last_one_is_served", h.usable(d)))
	}
	if h.usable(d) {
		return d, nil
	}
	return nil, failed.err
}

// fresh reports whether a document is what would be signed now, or nearly so.
func (h *Handler) fresh(d *document) bool {
	if d == nil {
		return false
	}
	revision, _ := h.keys.Published()
	now := time.Now()
	// A clock that was ahead may have been put right since.
	return d.set.Revision == revision && !now.Before(d.set.Issued) && now.Before(d.set.Issued.Add(h.period()))
}

// usable reports whether a document does callers no harm.
func (h *Handler) usable(d *document) bool {
	if d == nil || !time.Now().Before(d.set.Expires) {
		return false
	}
	_, keys := h.keys.Published()
	return slices.ContainsFunc(keys, d.set.Keys[0].Equal)
}

// period is the time from one signature to the next.
func (h *Handler) period() time.Duration {
	return max(h.validity/signaturesPerValidity, time.Second).Truncate(time.Second)
}

func (h *Handler) sign() (*document, error) {
	revision, keys := h.keys.Published()
	// Of all moments in a period the first, so that all replicas sign the same bytes,
	// and caches between them and the callers find the same ETag.
	seconds := int64(h.period() / time.Second)
	now := time.Now().Unix()
	issued := time.Unix(now-now%seconds, 0)
	set := Set{Name: h.name, Revision: revision, Issued: issued, Expires: issued.Add(h.validity), Keys: keys}
	body, err := Sign(h.signer, set)
	if err != nil {
		return nil, err
	}
	return &document{body: body, set: set, etag: etagOf(body)}, nil
}

// NewTinkHandler makes a handler of the plain Tink keyset, in JSON, for programs that
// know only Tink. It is not signed: whoever ends TLS can put in a key of their own.
// Serve it beside the signed one, not instead of it. It has an ETag, answers
// conditional requests, and may be cached for 5 minutes, or for a 24th of the validity
// if that is less.
func NewTinkHandler(keys Keys, opts ...HandlerOption) (http.Handler, error) {
	if keys == nil {
		return nil, errors.New("publish: NewTinkHandler: keys are nil")
	}
	c, err := newHandlerConfig(opts)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r) {
			return
		}
		_, published := keys.Published()
		body, err := tinkkeys.Public(published...)
		if err != nil {
			c.log().LogAttrs(r.Context(), slog.LevelError, "publish: the Tink keyset could not be made", slog.Any("error", err))
			unavailable(w)
			return
		}
		serve(w, r, &document{body: body, etag: etagOf(body)}, tinkMediaType, min(maxAge, c.validity/agesInValidity))
	}), nil
}

// tinkMediaType is the Content-Type of a plain keyset.
const tinkMediaType = "application/json"

func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

func serve(w http.ResponseWriter, r *http.Request, d *document, mediaType string, age time.Duration) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "public, max-age="+strconv.FormatInt(int64(max(age, 0)/time.Second), 10))
	h.Set("Etag", d.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.body))
}

func allowed(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	return false
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", strconv.Itoa(int(signerPause/time.Second)))
	http.Error(w, "the key set is not available", http.StatusServiceUnavailable)
}
