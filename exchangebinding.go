package sealhttp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// exchangeBinding is what an exchange request's tag binds: HPKE's info. Both sides
// make it, each from what it sent or received.
type exchangeBinding struct {
	method      string
	authority   string
	target      string
	body        bool
	contentType string // of the plaintext
	kid         uint32
	id          exchangeID
	timestamp   int64
	info        []byte   // as configured
	names       []string // of bound header fields
	values      []string
}

const (
	exchangeRequestLabel = "sealhttp exchange v1 request\x00"
	maxTarget            = 8192 // bytes
	maxBoundNames        = 16
)

// defaultBoundNames are the fields that decide whose request it is, and whether it is
// executed: whoever could change them would choose.
var defaultBoundNames = []string{
	"authorization",
	"idempotency-key",
	"if-match",
	"if-none-match",
	"if-modified-since",
	"if-unmodified-since",
	"x-http-method-override",
}

// defaultBoundKeys are the same names as they stand in an http.Header.
var defaultBoundKeys = headerKeys(defaultBoundNames)

func headerKeys(names []string) []string {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = http.CanonicalHeaderKey(name)
	}
	return keys
}

// neverBound are fields that someone on the way sets, splits or joins.
var neverBound = []string{
	"host", "cookie", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type",
	"expect", "range", "te", "trailer", "transfer-encoding", "sealed-exchange", "sealed-content-type",
}

// checkBoundNames says why a list of names cannot be bound.
func checkBoundNames(names []string) error {
	if len(names) > maxBoundNames {
		return fmt.Errorf("%d bound header fields, at most %d are allowed", len(names), maxBoundNames)
	}
	for i, name := range names {
		switch {
		case !isToken(name) || name != strings.ToLower(name):
			return errors.New("the name of a bound header field is no token in lower case")
		case slices.Contains(neverBound, name):
			return fmt.Errorf("the header field %s cannot be bound: someone on the way sets it", name)
		case slices.Contains(names[:i], name):
			return fmt.Errorf("the header field %s is bound twice", name)
		}
	}
	return nil
}

// bindHeader fills in the values of the bound fields. An absent one is bound as empty.
func (b *exchangeBinding) bindHeader(h http.Header, names []string) error {
	keys := defaultBoundKeys
	if names == nil {
		names = defaultBoundNames
	} else {
		keys = headerKeys(names)
	}
	b.names = names
	b.values = make([]string, len(names))
	for i, key := range keys {
		switch lines := h[key]; len(lines) {
		case 0:
		case 1:
			b.values[i] = trimOWS(lines[0])
		default:
			return fmt.Errorf("the bound header field %s has more than one line", names[i])
		}
	}
	return nil
}

// hpkeInfo returns HPKE's info. Its one error is a part that is too long to be bound.
func (b *exchangeBinding) hpkeInfo() ([]byte, error) {
	if len(b.target) > maxTarget {
		return nil, fmt.Errorf("the target has %d bytes, at most %d can be bound", len(b.target), maxTarget)
	}
	out := make([]byte, 0, 256+len(b.target)+len(b.info))
	out = append(out, exchangeRequestLabel...)
	for _, part := range [...]string{b.method, b.authority, b.target} {
		if len(part) > maxPart {
			return nil, errPartTooLong
		}
		out = appendPart(out, part)
	}
	out = append(out, presence(b.body))
	out = appendPart(out, b.contentType)
	out = binary.BigEndian.AppendUint32(out, b.kid)
	out = append(out, b.id[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(b.timestamp))
	if len(b.info) > maxPart {
		return nil, errPartTooLong
	}
	out = appendPart(out, string(b.info))
	var scratch [512]byte
	bound := sha256.Sum256(b.appendBoundHeader(scratch[:0]))
	return append(out, bound[:]...), nil
}

// appendBoundHeader appends what the bound fields are hashed as.
func (b *exchangeBinding) appendBoundHeader(out []byte) []byte {
	for i, name := range b.names {
		out = appendPart(out, name)
		out = binary.BigEndian.AppendUint32(out, uint32(len(b.values[i])))
		out = append(out, b.values[i]...)
	}
	return out
}

// String tells what was bound, but for the values of header fields, so that a gateway
// that rewrites one of these is found.
func (b *exchangeBinding) String() string {
	return fmt.Sprintf("bound were method %q, authority %q, target %q, body %t, content type %q, header fields %q",
		b.method, b.authority, b.target, b.body, b.contentType, b.names)
}

const maxPart = 1<<16 - 1

var errPartTooLong = fmt.Errorf("a part of the request has more than %d bytes, and cannot be bound", maxPart)

// appendPart appends a part behind its length.
func appendPart(out []byte, part string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(part))), part...)
}

func presence(body bool) byte {
	if body {
		return 1
	}
	return 0
}

// responseAAD is what a response's tag authenticates.
func responseAAD(status int, body bool, contentType string, code Code) []byte {
	out := make([]byte, 0, 64)
	out = binary.BigEndian.AppendUint16(out, uint16(status))
	out = append(out, presence(body))
	out = appendPart(out, contentType)
	return appendPart(out, string(code))
}

// normalAuthority is an authority as both sides bind it: in lower case, without port.
// The brackets of an IPv6 address, and a dot at the end, stay.
func normalAuthority(host string) string {
	if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end >= 0 {
			host = host[:end+1]
		}
	} else if port := strings.IndexByte(host, ':'); port >= 0 {
		host = host[:port]
	}
	return lowerASCII(host)
}

// lowerASCII changes letters of ASCII only, byte by byte.
func lowerASCII(s string) string {
	if !strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

const hostBytes = "abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%"

// isHost says whether host is a name or an address with at most a port behind it (RFC
// 3986, section 3.2), so that normalAuthority cuts off nothing but a port.
func isHost(host string) bool {
	name := normalAuthority(host)
	if port := host[len(name):]; port != "" && (port[0] != ':' || strings.Trim(port[1:], "0123456789") != "") {
		return false
	}
	allowed := hostBytes
	if inner, ok := strings.CutPrefix(name, "["); ok {
		if name, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
		allowed += ":"
	}
	for i := range len(name) {
		if strings.IndexByte(allowed, name[i]) < 0 {
			return false
		}
	}
	return name != ""
}

// checkTarget refuses what handlers could see and the tag would not cover. net/http
// leaves a # in path and query, lets nearly all bytes into Host, and shows handlers user
// information (RFC 9110, section 4.2.4) and, in HTTP/2, the authority of an absolute
// target beside :authority.
func checkTarget(target, host string) error {
	if strings.IndexByte(target, '#') >= 0 {
		return errors.New("a request target with a fragment")
	}
	if host != "" && !isHost(host) {
		return errors.New("a Host that is none")
	}
	authority, _, absolute := cutAuthority(target)
	if absolute && (!isHost(authority) || normalAuthority(authority) != normalAuthority(host)) {
		return errors.New("an absolute request target whose authority is none, or not that of the request")
	}
	return nil
}

// cutAuthority cuts a target in absolute form behind its authority.
func cutAuthority(target string) (authority, rest string, absolute bool) {
	authority, absolute = cutScheme(target)
	if end := strings.IndexAny(authority, "/?"); end >= 0 {
		authority, rest = authority[:end], authority[end:]
	}
	return authority, rest, absolute
}

// reducedTarget is a request target as both sides bind it, by bytes: gateways turn the
// absolute form into the origin form, and drop a question mark with nothing behind it.
func reducedTarget(target string) string {
	if target == "*" {
		return target
	}
	if _, rest, absolute := cutAuthority(target); absolute {
		if target = rest; !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	if strings.IndexByte(target, '?') == len(target)-1 {
		target = strings.TrimSuffix(target, "?")
	}
	return target
}

// cutScheme cuts "scheme://" off, if it is there (RFC 3986, section 3.1).
func cutScheme(target string) (rest string, ok bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || scheme == "" {
		return "", false
	}
	for i := range len(scheme) {
		c := scheme[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return "", false
		}
	}
	return rest, true
}
