package sealhttp

import (
	"iter"
	"net/http"
	"strings"
)

// MediaType marks a body as a message of the message profile, and in Accept asks
// for one.
const MediaType = "application/octet-stream+hpke"

// ExchangeMediaType marks a body as records of the exchange profile.
const ExchangeMediaType = "application/sealed-exchange+hpke"

// Policy says which calls a route or an account takes. The zero Policy is none:
// where a policy is due, it is answered with 503, so that a lookup that found
// nothing never turns encryption off.
type Policy uint8

const (
	// Disabled refuses sealed calls and answers all others in plaintext.
	Disabled Policy = 1 + iota
	// Optional takes both: a sealed body is opened, a sealed response is given
	// where it is asked for. It is the default.
	Optional
	// RequestRequired refuses bodies in plaintext. Responses are sealed where it
	// is asked for.
	RequestRequired
	// Required refuses bodies in plaintext and answers only sealed. With the message
	// profile on it needs [WithClientKeys]: see [WithPolicy].
	Required
)

// String returns the policy's name.
func (p Policy) String() string {
	switch p {
	case Disabled:
		return "Disabled"
	case Optional:
		return "Optional"
	case RequestRequired:
		return "RequestRequired"
	case Required:
		return "Required"
	}
	return "no policy"
}

func (p Policy) valid() bool { return p >= Disabled && p <= Required }

// bodyForm is what a request's content is.
type bodyForm uint8

const (
	bodyNone   bodyForm = iota // no content
	bodyPlain                  // content in plaintext
	bodySealed                 // a message, still to be opened
	bodyOpened                 // a message that a Middleware further out has opened
)

// replyWish is what a request says of a sealed response.
type replyWish uint8

const (
	replyNotAsked replyWish = iota // not named, or refused with q=0
	replyAccepted                  // named, but plaintext is preferred
	replyAsked
	replySealed // a Middleware further out seals it
)

// asks is what a request has and wants, before any policy.
type asks struct {
	body     bodyForm
	reply    replyWish
	exchange bool
	retype   bool // no content, but the Content-Type of a message
}

// readAsks reads Content-Type, Accept and Sealed-Exchange. outer is what a
// Middleware further out has done, the zero CallInfo if there is none.
func readAsks(r *http.Request, outer CallInfo) (asks, error) {
	switch {
	case outer.Profile == ExchangeProfile:
		return asks{body: bodyOpened, reply: replySealed}, nil
	case r.Header[exchangeHeader] != nil:
		return asks{exchange: true}, nil
	}
	var a asks
	hasContent := r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
	if hasContent {
		a.body = bodyPlain
	}
	if outer.RequestSealed {
		a.body = bodyOpened
	} else {
		lines := r.Header["Content-Type"]
		for _, line := range lines {
			if mediaTypeIs(line, ExchangeMediaType) {
				return asks{exchange: true}, nil
			}
		}
		for _, line := range lines {
			switch {
			case !mediaTypeIs(line, MediaType):
			case len(lines) > 1:
				return a, newError(CodeMalformed, http.StatusBadRequest, errContentTypeLines)
			case hasContent:
				a.body = bodySealed
			default:
				a.retype = true
			}
		}
	}
	if outer.ResponseSealed {
		a.reply = replySealed
	} else {
		a.reply = readAccept(r.Header["Accept"])
	}
	return a, nil
}

// verdict is what is to be done with a call. The zero verdict is to pass it on
// as it is.
type verdict struct {
	exchange bool // the call is one of the exchange profile, and all else is false

	open   bool // the request's body is a message to be opened
	seal   bool // the response is to be sealed
	retype bool // the handler is to see the plaintext's Content-Type, without content
}

// decide is the table of policies: what is done with a request that has and wants
// this, or the error that refuses it.
func (c *config) decide(p Policy, method string, a asks) (verdict, error) {
	if a.exchange {
		switch {
		case p == Disabled:
			return verdict{}, newError(CodeEncryptionDisabled, http.StatusUnsupportedMediaType, nil)
		case !c.offers(ExchangeProfile):
			return verdict{}, newError(CodeUnsupportedProfile, http.StatusUnsupportedMediaType, nil)
		}
		return verdict{exchange: true}, nil
	}
	v := verdict{open: a.body == bodySealed, seal: a.reply == replyAsked, retype: a.retype}
	switch p {
	case Disabled:
		if v.open {
			return verdict{}, newError(CodeEncryptionDisabled, http.StatusUnsupportedMediaType, nil)
		}
		if v.seal {
			return verdict{}, newError(CodeEncryptionDisabled, http.StatusNotAcceptable, nil)
		}
		return verdict{}, nil
	}
	if !c.offers(MessageProfile) {
		// What is asked for and not offered is refused as it would be if it were off.
		if v.open {
			return verdict{}, newError(CodeUnsupportedProfile, http.StatusUnsupportedMediaType, nil)
		}
		if v.seal {
			return verdict{}, newError(CodeUnsupportedProfile, http.StatusNotAcceptable, nil)
		}
		if a.reply == replyAccepted {
			a.reply = replyNotAsked
		}
	}
	switch p {
	case RequestRequired, Required:
		if a.body == bodyPlain || a.body == bodyNone && needsContent(method) {
			return verdict{}, newError(CodeEncryptionRequired, http.StatusUnsupportedMediaType, nil)
		}
		if p == Required {
			v.seal = a.reply == replyAsked || a.reply == replyAccepted
			if !v.seal && a.reply != replySealed {
				return verdict{}, newError(CodeEncryptionRequired, http.StatusNotAcceptable, nil)
			}
		}
	}
	return v, nil
}

// needsContent reports whether a request of the method without content is refused
// where content must be sealed: an intermediary could have cut it off.
func needsContent(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// isPreflight reports whether a request is a CORS preflight as browsers send it,
// which carries neither credentials nor content and so can be neither sealed nor
// attributed to an account. One with a field that exchanges must bind is none: those
// decide on whose behalf a request is, and what it does.
func (c *config) isPreflight(r *http.Request) bool {
	if r.Method != http.MethodOptions ||
		r.Header["Origin"] == nil || r.Header["Access-Control-Request-Method"] == nil ||
		r.Header["Authorization"] != nil || r.Header["Cookie"] != nil ||
		r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		return false
	}
	for _, name := range c.requiredNames() {
		if r.Header[http.CanonicalHeaderKey(name)] != nil {
			return false
		}
	}
	return true
}

// mediaTypeIs reports whether a Content-Type value or an element of Accept names
// a media type, whatever its parameters.
func mediaTypeIs(value, mediaType string) bool {
	name, _, _ := strings.Cut(value, ";")
	return len(name) >= len(mediaType) && isType(trimOWS(name), mediaType)
}

// isType compares two media types as ASCII, in which case does not matter.
// strings.EqualFold alone would take the long s and the Kelvin sign for an s and a
// k; they are longer.
func isType(name, mediaType string) bool {
	return len(name) == len(mediaType) && strings.EqualFold(name, mediaType)
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }

// readAccept applies RFC 9110, section 12.5.1, to the one question whether a
// sealed response is asked for. Only the media type itself asks, never a
// wildcard, and it asks when no other range has a higher quality. An element that
// names it with a quality that cannot be read asks: a typo does not turn
// encryption off.
func readAccept(lines []string) replyWish {
	if !namesSealed(lines) {
		return replyNotAsked
	}
	sealed, other := -1, 0
	for _, line := range lines {
		for element := range splitUnquoted(line, ',') {
			name, params, _ := strings.Cut(element, ";")
			name = trimOWS(name)
			q, ok := quality(params)
			switch {
			case isType(name, MediaType):
				if !ok {
					q = maxQuality
				}
				sealed = max(sealed, q)
			case isType(name, ExchangeMediaType):
			case ok && isMediaRange(name):
				other = max(other, q)
			}
		}
	}
	switch {
	case sealed <= 0:
		return replyNotAsked
	case sealed < other:
		return replyAccepted
	}
	return replyAsked
}

// withoutSealed returns the lines of Accept without the elements that name a
// sealed media type: what the handler negotiates on. It returns nil if nothing is
// left.
func withoutSealed(lines []string) []string {
	if !namesSealed(lines) {
		return lines
	}
	var kept []string
	for _, line := range lines {
		var elements []string
		for element := range splitUnquoted(line, ',') {
			element = trimOWS(element)
			if element != "" && !mediaTypeIs(element, MediaType) && !mediaTypeIs(element, ExchangeMediaType) {
				elements = append(elements, element)
			}
		}
		if elements != nil {
			kept = append(kept, strings.Join(elements, ", "))
		}
	}
	return kept
}

// namesSealed is a quick look, for the plaintext path: a line without "+hpke"
// names no sealed media type.
func namesSealed(lines []string) bool {
	const suffix = "+hpke"
	for _, line := range lines {
		for {
			i := strings.IndexByte(line, '+')
			if i < 0 {
				break
			}
			if line = line[i:]; len(line) >= len(suffix) && strings.EqualFold(line[:len(suffix)], suffix) {
				return true
			}
			line = line[1:]
		}
	}
	return false
}

// splitUnquoted yields the parts of s between separators that stand outside of
// quoted strings. A quote that is never closed quotes nothing, so that junk in
// one element does not swallow the next.
func splitUnquoted(s string, separator byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, unclosed := 0, false
		for i := 0; i < len(s); i++ {
			switch s[i] {
			case '"':
				if unclosed { // then no later one is closed either: look once, not once each
					continue
				}
				if end := quotedStringEnd(s, i); end > 0 {
					i = end
				} else {
					unclosed = true
				}
			case separator:
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(s[start:])
	}
}

// quotedStringEnd returns the index of the quote that closes the one at start, or
// 0 if there is none (RFC 9110, section 5.6.4).
func quotedStringEnd(s string, start int) int {
	for i := start + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return 0
}

// maxQuality is the quality 1.000 (RFC 9110, section 12.4.2), in thousandths.
const maxQuality = 1000

// quality returns the weight among the parameters of a media range, in
// thousandths. ok is false for a weight that does not follow the grammar, and for
// more than one.
func quality(params string) (q int, ok bool) {
	q, seen := maxQuality, false
	for param := range splitUnquoted(params, ';') {
		name, value, _ := strings.Cut(trimOWS(param), "=")
		if !strings.EqualFold(trimOWS(name), "q") {
			continue
		}
		if seen || len(name) != 1 {
			return 0, false
		}
		seen = true
		if q, ok = parseQvalue(value); !ok {
			return 0, false
		}
	}
	return q, true
}

// parseQvalue parses ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ).
func parseQvalue(s string) (q int, ok bool) {
	if s == "" || len(s) > len("0.000") || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	q = int(s[0]-'0') * maxQuality
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		q += int(s[i]-'0') * unit
	}
	return q, q <= maxQuality
}

// isMediaRange reports whether s is "*/*", "type/*" or "type/subtype".
func isMediaRange(s string) bool {
	typ, subtype, ok := strings.Cut(s, "/")
	if !ok || !isToken(typ) || !isToken(subtype) {
		return false
	}
	return typ != "*" || subtype == "*"
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
