package exchangeparty

import (
	"crypto/sha256"
	"encoding/binary"
	"regexp"
	"strings"
)

// Request is what a request's auth binds, beside what is in its field.
type Request struct {
	Method      string // empty for GET
	Host        string // the field, or :authority, in ASCII
	Target      string // as on the request line, or :path
	Body        bool
	ContentType string              // of the plaintext
	Info        []byte              // as both sides have configured it
	Header      map[string][]string // the lines of fields, by their names in lower case
}

// Reduced returns authority and target as they are bound.
func (r *Request) Reduced() (authority, target string, err error) {
	authority, target = r.Host, r.Target
	if strings.Contains(target, "#") {
		return "", "", malformed("a target with a fragment")
	}
	if authority != "" && !isAuthority(authority) {
		return "", "", malformed("the authority")
	}
	if at := strings.Index(target, "://"); at > 0 && isScheme(target[:at]) {
		rest := target[at+3:]
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		authority, target = rest[:end], rest[end:]
		if !isAuthority(authority) {
			return "", "", malformed("the target's authority")
		}
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	if strings.Count(target, "?") == 1 && strings.HasSuffix(target, "?") {
		target = target[:len(target)-1]
	}
	return reducedAuthority(authority), target, nil
}

// authorities are RFC 3986's host and port, both without looking at what is escaped.
var authorities = regexp.MustCompile(`^(\[[\w.~!$&'()*+,;=%:-]+\]|[\w.~!$&'()*+,;=%-]+)(:[0-9]*)?$`)

func isAuthority(s string) bool { return authorities.MatchString(s) }

func isScheme(s string) bool {
	return strings.IndexByte(alpha, s[0]) >= 0 && strings.Trim(s, alpha+digits+"+-.") == ""
}

func reducedAuthority(s string) string {
	end := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
		if end == 0 {
			end = -1
		}
	}
	if end >= 0 {
		s = s[:end]
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}

// BoundInput returns what bound is the SHA-256 of.
func (r *Request) BoundInput(names []string) ([]byte, error) {
	if names == nil {
		names = DefaultBind
	}
	var out []byte
	for _, name := range names {
		value := ""
		switch lines := r.Header[name]; len(lines) {
		case 0:
		case 1:
			value = strings.Trim(lines[0], " \t")
		default:
			return nil, malformed("%s has %d lines", name, len(lines))
		}
		out = lp(out, name)
		out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
		out = append(out, value...)
	}
	return out, nil
}

// HPKEInfo returns the info of the request's context.
func (r *Request) HPKEInfo(f *RequestField) ([]byte, error) {
	authority, target, err := r.Reduced()
	if err != nil {
		return nil, err
	}
	method := r.Method
	if method == "" {
		method = "GET"
	}
	if len(target) > 8192 {
		return nil, malformed("a target of %d bytes", len(target))
	}
	if len(r.ContentType) > 1024 {
		return nil, malformed("a content type of %d bytes", len(r.ContentType))
	}
	for _, c := range []byte(r.ContentType) {
		if c < ' ' || c > '~' {
			return nil, malformed("the content type")
		}
	}
	bound, err := r.BoundInput(f.Bind)
	if err != nil {
		return nil, err
	}
	info := []byte("sealhttp exchange v1 request\x00")
	info = lp(info, method)
	info = lp(info, authority)
	info = lp(info, target)
	info = append(info, u8(r.Body))
	info = lp(info, r.ContentType)
	info = binary.BigEndian.AppendUint32(info, f.KeyID)
	info = append(info, f.ID[:]...)
	info = binary.BigEndian.AppendUint64(info, uint64(f.Timestamp))
	info = lp(info, string(r.Info))
	hash := sha256.Sum256(bound)
	return append(info, hash[:]...), nil
}

// Response is what a response's auth binds.
type Response struct {
	Status      int
	Body        bool
	ContentType string // of the plaintext
	Error       string // of Sealed-Error
}

// AAD returns the associated data of the response's auth.
func (r *Response) AAD() []byte {
	aad := binary.BigEndian.AppendUint16(nil, uint16(r.Status))
	aad = append(aad, u8(r.Body))
	aad = lp(aad, r.ContentType)
	return lp(aad, r.Error)
}

// lp appends u16(len s) || s.
func lp(out []byte, s string) []byte {
	if len(s) > 0xffff {
		panic("a part of more than 65,535 bytes")
	}
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
}

func u8(b bool) byte {
	if b {
		return 1
	}
	return 0
}
