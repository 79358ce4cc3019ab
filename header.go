package sealhttp

import (
	"net/http"
	"slices"
	"strings"
)

// varyValue is the one line that Vary gains: the two fields that decide how a
// response is represented.
const varyValue = "Accept, Sealed-Exchange"

// These lines are shared by all responses. Their capacity is 1, so that adding to
// them copies, and nothing is allocated on the plaintext path.
var (
	varyLine = []string{varyValue}
	noStore  = []string{"no-store, no-transform"}
)

// addVary adds our value to Vary, once.
func addVary(h http.Header) {
	switch lines := h["Vary"]; {
	case lines == nil:
		h["Vary"] = varyLine
	case !slices.Contains(lines, varyValue):
		h["Vary"] = append(lines, varyValue)
	}
}

// describesBody are the fields, in canonical form, that speak of the bytes of the
// body: they would be wrong for any other than the handler's own.
var describesBody = [...]string{
	"Content-Length",
	"Content-Md5",
	"Digest",
	"Content-Digest",
	"Repr-Digest",
	"Accept-Ranges",
	"Content-Range",
	"Transfer-Encoding",
}

// makeBodiless removes what speaks of the bytes of a body, and trailers, which would
// follow it in plaintext.
func makeBodiless(h http.Header) {
	for _, name := range describesBody {
		delete(h, name)
	}
	delete(h, "Trailer")
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
}

// notOnSealed are further fields that a sealed response does not carry: caching
// rules that go past Cache-Control, and what sealhttp alone sets.
var notOnSealed = [...]string{
	"Cdn-Cache-Control",
	"Surrogate-Control",
	"Content-Type",
	"Sealed-Content-Type",
	"Sealed-Exchange",
	"Sealed-Error",
}

// makeSealedHeader turns the header that a handler made into that of a sealed
// response, but for the content's type and length.
func makeSealedHeader(h http.Header) {
	makeBodiless(h)
	for _, name := range notOnSealed {
		delete(h, name)
	}
	h["Cache-Control"] = noStore
	addVary(h)
}

// isEncoded reports whether a representation is compressed or coded otherwise.
func isEncoded(h http.Header) bool {
	for _, coding := range h["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return true
		}
	}
	return false
}

// corsHeaders is the type of [CORSHeaders].
type corsHeaders struct {
	// Allow is for Access-Control-Allow-Headers.
	Allow []string
	// Expose is for Access-Control-Expose-Headers.
	Expose []string
}

// CORSHeaders are the header fields that a CORS middleware must allow and expose
// for programs in browsers. It is not to be changed.
var CORSHeaders = corsHeaders{
	Allow:  []string{"Content-Type", "Sealed-Exchange", "Sealed-Content-Type"},
	Expose: []string{"Sealed-Exchange", "Sealed-Content-Type", "Sealed-Error", "Retry-After", "Date"},
}
