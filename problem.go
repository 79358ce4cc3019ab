package sealhttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// Code names why a call was refused, or why an answer was not accepted. Codes are
// stable: programs may branch on them. A Code is an error itself, so that
// errors.Is(err, CodeUnknownKey) finds an [Error] of that code.
type Code string

// The codes, one for each row of the wire format's table of errors.
const (
	// CodeMalformed: a message too short for any key, or a field that breaks its rules.
	CodeMalformed Code = "malformed"
	// CodeDecryptionFailed: a message that does not authenticate. One code for
	// every cause.
	CodeDecryptionFailed Code = "decryption_failed"
	// CodeUnknownKey: the message names a key that is not, or no longer, held.
	CodeUnknownKey Code = "unknown_key"
	// CodeEncryptionRequired: plaintext where only encrypted calls are taken.
	CodeEncryptionRequired Code = "encryption_required"
	// CodeEncryptionDisabled: a sealed call where encryption is off.
	CodeEncryptionDisabled Code = "encryption_disabled"
	// CodeUnsupportedProfile: a profile that the route does not offer, or a
	// Content-Encoding over a sealed body.
	CodeUnsupportedProfile Code = "unsupported_profile"
	// CodeNoClientKey: a sealed response is due, and no valid key is registered
	// for the caller. On the caller's side also an answer to an exchange that is not
	// sealed to its key: see [ErrNoClientKey].
	CodeNoClientKey Code = "no_client_key"
	// CodeTooLarge: the request is past the limit.
	CodeTooLarge Code = "too_large"
	// CodeResponseTooLarge: the response is past what may be buffered.
	CodeResponseTooLarge Code = "response_too_large"
	// CodeUnsupportedContentEncoding: the response was compressed before it could
	// be sealed.
	CodeUnsupportedContentEncoding Code = "unsupported_content_encoding"
	// CodePolicyUnavailable: the policy could not be found out.
	CodePolicyUnavailable Code = "policy_unavailable"
	// CodeKeyStoreUnavailable: a key, or the info it is used with, could not be
	// found out.
	CodeKeyStoreUnavailable Code = "key_store_unavailable"
	// CodeBindingRequired: an exchange request that does not bind a header field
	// which the server requires to be bound.
	CodeBindingRequired Code = "binding_required"
	// CodeStale: an exchange request that was made too long ago, or by a clock that
	// is wrong.
	CodeStale Code = "stale"
	// CodeReplayed: an exchange request that was received before.
	CodeReplayed Code = "replayed"
	// CodeRequestIncomplete: the body of an exchange request broke off, or was
	// changed on its way, after the handler had started. The outcome is unknown.
	CodeRequestIncomplete Code = "request_incomplete"
	// CodeReplayGuardUnavailable: whether an exchange request was received before
	// could not be found out.
	CodeReplayGuardUnavailable Code = "replay_guard_unavailable"
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// problems says of each code what a person is told. It never depends on what was
// sent.
var problems = map[Code]struct{ title, detail string }{
	CodeMalformed:                  {"The sealed request is malformed", "The body is too short for a sealed message, or a field is not as the wire format has it."},
	CodeDecryptionFailed:           {"The sealed request could not be opened", "Check that it was sealed to a current public key, with the info that this API uses."},
	CodeUnknownKey:                 {"The key is not known", "Get the current public keys, seal again, and try once more."},
	CodeEncryptionRequired:         {"Encryption is required", "Make the call as " + ExchangeMediaType + ", or seal the request's body as " + MediaType + " and, where a sealed response is required, name that type in Accept."},
	CodeEncryptionDisabled:         {"Encryption is off", "Send this call in plaintext."},
	CodeUnsupportedProfile:         {"This form of encryption is not offered", "Use the other of " + MediaType + " and " + ExchangeMediaType + ", without a Content-Encoding."},
	CodeNoClientKey:                {"No valid public key is registered for the caller", "Register a public key that responses can be sealed to."},
	CodeTooLarge:                   {"The request is too large", "The body is longer than this API takes."},
	CodeResponseTooLarge:           {"The response is too large to be sealed", "Ask for less at once."},
	CodeUnsupportedContentEncoding: {"The response cannot be sealed", "It was compressed before it could be sealed."},
	CodePolicyUnavailable:          {"The encryption policy is not available", "Try again later."},
	CodeKeyStoreUnavailable:        {"The encryption keys are not available", "Try again later."},
	CodeBindingRequired:            {"The request does not bind what it must", "Name in bind the header fields that this API requires."},
	CodeStale:                      {"The request is too old, or too new", "Correct the clock by the member now of this problem, and try once more: under the same id unless the request's time would be earlier than before."},
	CodeReplayed:                   {"The request was received before", "It may have been executed then. Only a request that is safe is to be sent again, under a new id."},
	CodeRequestIncomplete:          {"The request's body did not arrive whole", "The handler has run, and the outcome is unknown: find it out before the request is sent again."},
	CodeReplayGuardUnavailable:     {"Replayed requests cannot be told apart now", "Try again later, under the same id."},
}

var (
	// ErrNoClientKey is what a [ClientKeys] returns for a caller who has no
	// registered key. An [Error] of [CodeNoClientKey] is it too: a refusal, or, if it
	// wraps [ErrUnauthenticated], an answer to an exchange that is not sealed to the
	// caller's key. Then the handler may have run: find out before you call again.
	ErrNoClientKey = errors.New("sealhttp: no client key is registered")

	// ErrCallClosed is returned by a [Call]'s Writer for what is written after the
	// call ended: behind a sealed body, it would go out in plaintext.
	ErrCallClosed = errors.New("sealhttp: written after the end of the call")
)

// The causes of a malformed or unsupported request, for logs.
var (
	errContentTypeLines       = errors.New("more than one Content-Type, one of them sealed")
	errSealedContentTypeLines = errors.New("more than one Sealed-Content-Type")
	errSealedEncoded          = errors.New("a Content-Encoding over a sealed body")
)

// Error is why a call was refused. On the server's side it is what
// [Middleware.Begin] returns and an error handler is given; on the caller's side
// what [Transport.RoundTrip] returns, within the *url.Error of http.Client.
//
// errors.Is finds its Code, and what it wraps. Its text holds no key, plaintext
// or ciphertext.
type Error struct {
	// Code says what was wrong.
	Code Code
	// Status is the HTTP status of the answer: the one to be sent or, on the
	// caller's side, the one received. It is 0 if nothing was received.
	Status int
	// Err is the cause, nil where there is no more to say. It is for logs; the
	// other side is never told.
	Err error

	now int64 // with CodeStale: the server's time, in Unix seconds
}

func newError(code Code, status int, cause error) *Error {
	return &Error{Code: code, Status: status, Err: cause}
}

// Error returns the code, what it means and the cause.
func (e *Error) Error() string {
	s := "sealhttp: " + string(e.Code)
	switch {
	case e.Code == "" && e.Status != 0:
		s += "status " + strconv.Itoa(e.Status)
	case e.Status != 0:
		s += " (" + strconv.Itoa(e.Status) + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	} else if p, ok := problems[e.Code]; ok {
		s += ": " + p.title
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's Code or, for [CodeNoClientKey],
// [ErrNoClientKey].
func (e *Error) Is(target error) bool {
	return target == error(e.Code) || target == ErrNoClientKey && e.Code == CodeNoClientKey
}

// received reports whether the error is of the caller's side: about an answer that
// came, not one to be given.
func (e *Error) received() bool {
	for _, callers := range [...]error{ErrRefused, ErrResponseNotOpened, ErrUnauthenticated, ErrOutcomeUnknown, ErrNotProcessed} {
		if errors.Is(e.Err, callers) {
			return true
		}
	}
	return false
}

// retryAfter is the value of Retry-After on 503, in seconds.
const retryAfter = "5"

// problemTypes is what the code of a problem is appended to for its "type".
const problemTypes = "https://github.com/sealhttp/sealhttp/blob/main/docs/errors.md#"

// problem is the body of an error response (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code,omitempty"`
	Now    int64  `json:"now,omitempty"`
}

// WriteError answers a call with an error: the status of the [Error] in err, an
// application/problem+json body (RFC 9457) with its code, and the code again in
// Sealed-Error. It is the default of [WithErrorHandler], and for handlers of the
// user's own that treat some errors apart. For an err without an Error in it, or
// with one that a [Transport] returned, the status is 500, and nothing of err is sent.
//
// It removes the header fields that describe another body, as http.Error does, and
// what a sealed response would not carry.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	e := setErrorHeader(h, err)
	p := problem{Type: "about:blank", Title: "Internal Server Error", Status: http.StatusInternalServerError}
	if e != nil {
		text := problems[e.Code]
		p = problem{problemTypes + string(e.Code), text.title, e.Status, text.detail, e.Code, e.now}
	}
	body, err := json.Marshal(p)
	if err != nil { // unreachable: strings and a number
		http.Error(w, p.Title, p.Status)
		return
	}
	body = append(body, '\n')
	h["Content-Type"] = []string{"application/problem+json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a caller that is gone needs no answer
	}
}

// setErrorHeader makes h the header of an error's response, but for what describes
// its body, and returns the [Error] in err, nil if there is none to be sent.
func setErrorHeader(h http.Header, err error) *Error {
	makeSealedHeader(h) // trailers too: HTTP/2 would send a handler's after our body
	for _, name := range [...]string{"Etag", "Last-Modified", "Content-Encoding", "Content-Language", "Content-Location", "Content-Disposition", "Retry-After"} {
		delete(h, name)
	}
	e := asError(err)
	if e == nil || e.Status < 400 || e.Status > 599 || e.received() {
		return nil
	}
	if e.Code != "" {
		h["Sealed-Error"] = []string{string(e.Code)}
	}
	if e.Status == http.StatusServiceUnavailable {
		h["Retry-After"] = []string{retryAfter}
	}
	return e
}
