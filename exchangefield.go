package sealhttp

import (
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/dunglas/httpsfv"

	"github.com/sealhttp/sealhttp/seal"
)

// exchangeHeader is the field of the exchange profile, a dictionary of RFC 9651, in
// requests and in responses.
const exchangeHeader = "Sealed-Exchange"

const (
	exchangeVersion = 1
	maxTimestamp    = 999_999_999_999 // seconds
	exchangeIDLen   = 16
)

// exchangeID names a logical request: a retry has the same.
type exchangeID = [exchangeIDLen]byte

// requestField is Sealed-Exchange in a request.
type requestField struct {
	kid       uint32
	id        exchangeID
	timestamp int64 // Unix time in seconds
	enc       []byte
	auth      []byte
	bind      []string // nil for the default list
}

// responseField is Sealed-Exchange in a response. ckid is 0 if it is not sealed to a
// caller's key.
type responseField struct {
	seal.ResponseHeader
	ckid uint32
}

var (
	errExchangeMissing = errors.New("no Sealed-Exchange, or more than one")
	errExchangeVersion = errors.New("another version of Sealed-Exchange")
)

// parseRequestField reads the field strictly. The error is errExchangeVersion for
// another version, whatever else is there.
func parseRequestField(lines []string) (*requestField, error) {
	d, err := parseExchangeField(lines)
	if err != nil {
		return nil, err
	}
	f := new(requestField)
	kid, id, timestamp := d.integer("kid", 1, math.MaxUint32), d.bytes("id", exchangeIDLen), d.integer("ts", 0, maxTimestamp)
	f.enc, f.auth, f.bind = d.bytes("enc", -1), d.bytes("auth", seal.ExchangeTagLen), d.names("bind")
	if err := d.done(); err != nil {
		return nil, err
	}
	f.kid, f.timestamp = uint32(kid), timestamp
	copy(f.id[:], id)
	return f, nil
}

func (f *requestField) String() string {
	d := newExchangeField()
	d.Add("kid", httpsfv.NewItem(int64(f.kid)))
	d.Add("id", httpsfv.NewItem(f.id[:]))
	d.Add("ts", httpsfv.NewItem(f.timestamp))
	d.Add("enc", httpsfv.NewItem(f.enc))
	d.Add("auth", httpsfv.NewItem(f.auth))
	if f.bind != nil {
		list := httpsfv.InnerList{Params: httpsfv.NewParams()}
		for _, name := range f.bind {
			list.Items = append(list.Items, httpsfv.NewItem(name))
		}
		d.Add("bind", list)
	}
	return formatExchangeField(d)
}

// parseResponseField reads the field of a response as strictly.
func parseResponseField(lines []string) (*responseField, error) {
	d, err := parseExchangeField(lines)
	if err != nil {
		return nil, err
	}
	f := new(responseField)
	f.Nonce, f.Auth = d.bytes("nonce", seal.ExchangeNonceLen), d.bytes("auth", seal.ExchangeTagLen)
	if d.has("ckid") || d.has("cenc") {
		f.ckid = uint32(d.integer("ckid", 1, math.MaxUint32))
		f.CallerEnc = d.bytes("cenc", -1)
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *responseField) String() string {
	d := newExchangeField()
	d.Add("nonce", httpsfv.NewItem(f.Nonce))
	if f.CallerEnc != nil {
		d.Add("ckid", httpsfv.NewItem(int64(f.ckid)))
		d.Add("cenc", httpsfv.NewItem(f.CallerEnc))
	}
	d.Add("auth", httpsfv.NewItem(f.Auth))
	return formatExchangeField(d)
}

func newExchangeField() *httpsfv.Dictionary {
	d := httpsfv.NewDictionary()
	d.Add("v", httpsfv.NewItem(int64(exchangeVersion)))
	return d
}

func formatExchangeField(d *httpsfv.Dictionary) string {
	s, err := httpsfv.Marshal(d)
	if err != nil { // unreachable: integers in range, bytes and tokens
		panic(err)
	}
	return s
}

// fieldReader takes members out of a dictionary and keeps the first error.
type fieldReader struct {
	d     *httpsfv.Dictionary
	taken int
	err   error
}

// parseExchangeField parses the field up to its version.
func parseExchangeField(lines []string) (*fieldReader, error) {
	if len(lines) != 1 {
		return nil, errExchangeMissing
	}
	d, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil, errors.New("Sealed-Exchange is no dictionary of RFC 9651") // its own error quotes nothing, but says where
	}
	r := &fieldReader{d: d}
	switch v := r.item("v").(type) {
	case int64:
		if v != exchangeVersion {
			return nil, errExchangeVersion
		}
	default:
		return nil, errors.New("Sealed-Exchange has no v")
	}
	// A parser keeps the last of several members of one name, and says nothing.
	members := 0
	for range splitUnquoted(lines[0], ',') {
		members++
	}
	if members != len(d.Names()) {
		return nil, errors.New("a member of Sealed-Exchange is there twice")
	}
	return r, nil
}

func (r *fieldReader) has(name string) bool {
	_, ok := r.d.Get(name)
	return ok
}

func (r *fieldReader) fail(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("the member %q of Sealed-Exchange is missing or not as it must be", name)
	}
}

// item returns the bare value of a member that has no parameters, nil for none.
func (r *fieldReader) item(name string) any {
	member, _ := r.d.Get(name)
	item, ok := member.(httpsfv.Item)
	if !ok || len(item.Params.Names()) > 0 {
		return nil
	}
	r.taken++
	return item.Value
}

func (r *fieldReader) integer(name string, lowest, highest int64) int64 {
	v, ok := r.item(name).(int64)
	if !ok || v < lowest || v > highest {
		r.fail(name)
	}
	return v
}

// bytes returns a byte sequence of n bytes, of any number if n is negative.
func (r *fieldReader) bytes(name string, n int) []byte {
	v, ok := r.item(name).([]byte)
	if !ok || n >= 0 && len(v) != n {
		r.fail(name)
	}
	return v
}

// names returns a list of header field names, nil if the member is absent.
func (r *fieldReader) names(member string) []string {
	m, ok := r.d.Get(member)
	if !ok {
		return nil
	}
	list, ok := m.(httpsfv.InnerList)
	if !ok || len(list.Params.Names()) > 0 {
		r.fail(member)
		return nil
	}
	r.taken++
	names := make([]string, 0, len(list.Items))
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		if !ok || len(item.Params.Names()) > 0 {
			r.fail(member)
			return nil
		}
		names = append(names, name)
	}
	if err := checkBoundNames(names); err != nil {
		r.err = err
		return nil
	}
	return names
}

// done returns the first error: of a member that was taken, or that one is left.
func (r *fieldReader) done() error {
	if r.err == nil && r.taken != len(r.d.Names()) {
		return errors.New("Sealed-Exchange has a member that it must not have")
	}
	return r.err
}

// exchangeContentType returns the value of Sealed-Content-Type, empty if there is
// none.
func exchangeContentType(h http.Header) (string, error) {
	lines := h["Sealed-Content-Type"]
	switch len(lines) {
	case 0:
		return "", nil
	case 1:
		if v := trimOWS(lines[0]); isContentType(v) {
			return v, nil
		}
		return "", errors.New("Sealed-Content-Type has other bytes than visible ASCII, or is too long")
	}
	return "", errSealedContentTypeLines
}

const maxContentType = 1024

// isContentType reports whether a value can be authenticated as a content type.
func isContentType(v string) bool { return len(v) <= maxContentType && isPrintableASCII(v) }

// isPrintableASCII reports whether a value has no bytes but those from space to tilde.
func isPrintableASCII(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}
