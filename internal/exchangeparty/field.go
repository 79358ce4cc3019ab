package exchangeparty

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// RequestField is Sealed-Exchange in a request.
type RequestField struct {
	KeyID     uint32
	ID        [16]byte
	Timestamp int64 // Unix time in seconds
	Enc       []byte
	Auth      []byte
	Bind      []string // nil for the default list
}

// ResponseField is Sealed-Exchange in a response.
type ResponseField struct {
	Nonce       []byte
	CallerKeyID uint32 // with CallerEnc
	CallerEnc   []byte // nil if the response is not sealed to a key of the caller
	Auth        []byte
}

// DefaultBind is the list that is bound where a request names none.
var DefaultBind = []string{
	"authorization", "idempotency-key", "if-match", "if-none-match",
	"if-modified-since", "if-unmodified-since", "x-http-method-override",
}

var neverBound = strings.Fields(`host cookie user-agent accept accept-encoding connection
	content-length content-type expect range te trailer transfer-encoding sealed-exchange sealed-content-type`)

// ParseRequestField reads the lines of the field in a request.
func ParseRequestField(lines []string) (*RequestField, error) {
	m, err := membersOf(lines, "v kid id ts enc auth", "bind")
	if err != nil {
		return nil, err
	}
	f := new(RequestField)
	kid, ok1 := m["kid"].value.(int64)
	id, ok2 := m["id"].value.([]byte)
	ts, ok3 := m["ts"].value.(int64)
	enc, ok4 := m["enc"].value.([]byte)
	auth, ok5 := m["auth"].value.([]byte)
	switch {
	case !ok1 || kid < 1 || kid >= 1<<32:
		return nil, malformed("kid")
	case !ok2 || len(id) != 16:
		return nil, malformed("id")
	case !ok3 || ts < 0 || ts > 999999999999:
		return nil, malformed("ts")
	case !ok4: // its length depends on the key
		return nil, malformed("enc")
	case !ok5 || len(auth) != tagLen:
		return nil, malformed("auth")
	}
	f.KeyID, f.ID, f.Timestamp, f.Enc, f.Auth = uint32(kid), [16]byte(id), ts, enc, auth
	bind, ok := m["bind"]
	if !ok {
		return f, nil
	}
	list, ok := bind.value.([]any)
	if !ok || len(list) > 16 {
		return nil, malformed("bind")
	}
	f.Bind = []string{}
	for _, item := range list {
		name, ok := item.(string)
		if !ok || name == "" || strings.Trim(name, tchars) != "" || name != strings.ToLower(name) ||
			slices.Contains(neverBound, name) || slices.Contains(f.Bind, name) {
			return nil, malformed("a name in bind")
		}
		f.Bind = append(f.Bind, name)
	}
	return f, nil
}

// ParseResponseField reads the lines of the field in a response.
func ParseResponseField(lines []string) (*ResponseField, error) {
	m, err := membersOf(lines, "v nonce auth", "ckid", "cenc")
	if err != nil {
		return nil, err
	}
	f := new(ResponseField)
	var ok1, ok2 bool
	f.Nonce, ok1 = m["nonce"].value.([]byte)
	f.Auth, ok2 = m["auth"].value.([]byte)
	if !ok1 || len(f.Nonce) != 32 || !ok2 || len(f.Auth) != tagLen {
		return nil, malformed("nonce or auth")
	}
	_, with1 := m["ckid"]
	_, with2 := m["cenc"]
	if with1 || with2 {
		ckid, ok1 := m["ckid"].value.(int64)
		cenc, ok2 := m["cenc"].value.([]byte)
		if !ok1 || ckid < 1 || ckid >= 1<<32 || !ok2 || len(cenc) == 0 {
			return nil, malformed("ckid or cenc")
		}
		f.CallerKeyID, f.CallerEnc = uint32(ckid), cenc
	}
	return f, nil
}

// membersOf reads a field that has the required members, may have the optional ones,
// and no others.
func membersOf(lines []string, required string, optional ...string) (map[string]member, error) {
	if len(lines) != 1 {
		return nil, malformed("%d lines", len(lines))
	}
	members, ok := parseDictionary(lines[0])
	if !ok {
		return nil, malformed("no dictionary")
	}
	v := members["v"]
	if n, ok := v.value.(int64); !ok || v.parameters > 0 {
		return nil, malformed("no v")
	} else if n != 1 {
		return nil, ErrUnsupportedProfile
	}
	known := strings.Fields(required)
	for _, name := range known {
		if _, ok := members[name]; !ok {
			return nil, malformed("no %s", name)
		}
	}
	known = append(known, optional...)
	for name, m := range members {
		if !slices.Contains(known, name) || m.parameters > 0 || m.repeated {
			return nil, malformed("the member %q", name)
		}
	}
	return members, nil
}

func (f *RequestField) String() string {
	s := fmt.Sprintf("v=1, kid=%d, id=%s, ts=%d, enc=%s, auth=%s", f.KeyID, sequence(f.ID[:]), f.Timestamp, sequence(f.Enc), sequence(f.Auth))
	if f.Bind == nil {
		return s
	}
	quoted := make([]string, len(f.Bind))
	for i, name := range f.Bind {
		quoted[i] = `"` + name + `"`
	}
	return s + ", bind=(" + strings.Join(quoted, " ") + ")"
}

func (f *ResponseField) String() string {
	s := "v=1, nonce=" + sequence(f.Nonce)
	if f.CallerEnc != nil {
		s += fmt.Sprintf(", ckid=%d, cenc=%s", f.CallerKeyID, sequence(f.CallerEnc))
	}
	return s + ", auth=" + sequence(f.Auth)
}

func sequence(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }
