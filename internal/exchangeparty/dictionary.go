package exchangeparty

import (
	"encoding/base64"
	"strings"
)

// member is a member of a dictionary of RFC 9651, section 3.2. Of values other than
// those that the fields of the exchange have, only the form is read.
type member struct {
	value      any // int64, []byte, string, []any for an inner list of these, other
	parameters int
	repeated   bool // there was one of the same name before
}

// other is a value of a type that no field has.
type other struct{}

// parseDictionary is RFC 9651, section 4.2.2. ok is false for what is none.
func parseDictionary(text string) (members map[string]member, ok bool) {
	p := &parser{rest: strings.TrimLeft(text, " ")}
	members = map[string]member{}
	for p.rest != "" {
		name, ok := p.key()
		if !ok {
			return nil, false
		}
		m := member{value: other{}} // without "=" it is the Boolean true
		if p.take('=') {
			if m.value, ok = p.itemOrList(); !ok {
				return nil, false
			}
		}
		if m.parameters, ok = p.parameters(); !ok {
			return nil, false
		}
		_, m.repeated = members[name]
		if members[name].repeated {
			m.repeated = true
		}
		members[name] = m // the last counts
		p.rest = strings.TrimLeft(p.rest, " \t")
		if p.rest == "" {
			return members, true
		}
		if !p.take(',') {
			return nil, false
		}
		if p.rest = strings.TrimLeft(p.rest, " \t"); p.rest == "" {
			return nil, false // a comma at the end
		}
	}
	return members, true
}

type parser struct{ rest string }

func (p *parser) take(c byte) bool {
	if p.rest != "" && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

// while cuts off the front what is of a set.
func (p *parser) while(set string) string {
	n := 0
	for n < len(p.rest) && strings.IndexByte(set, p.rest[n]) >= 0 {
		n++
	}
	cut := p.rest[:n]
	p.rest = p.rest[n:]
	return cut
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	alpha  = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
	tchars = alpha + digits + "!#$%&'*+-.^_`|~"
)

func (p *parser) key() (string, bool) {
	if p.rest == "" || strings.IndexByte(lower+"*", p.rest[0]) < 0 {
		return "", false
	}
	return p.while(lower + digits + "_-.*"), true
}

func (p *parser) parameters() (n int, ok bool) {
	for p.take(';') {
		p.rest = strings.TrimLeft(p.rest, " ")
		if _, ok := p.key(); !ok {
			return 0, false
		}
		if p.take('=') {
			if _, ok := p.item(); !ok {
				return 0, false
			}
		}
		n++
	}
	return n, true
}

func (p *parser) itemOrList() (any, bool) {
	if !p.take('(') {
		return p.item()
	}
	list := []any{}
	for {
		spaces := p.while(" ")
		if p.take(')') {
			return list, true
		}
		if len(list) > 0 && spaces == "" {
			return nil, false
		}
		item, ok := p.item()
		if !ok {
			return nil, false
		}
		switch n, ok := p.parameters(); {
		case !ok:
			return nil, false
		case n > 0:
			item = other{}
		}
		list = append(list, item)
	}
}

// item is a bare item.
func (p *parser) item() (any, bool) {
	if p.rest == "" {
		return nil, false
	}
	c := p.rest[0]
	switch {
	case c == '-' || strings.IndexByte(digits, c) >= 0:
		return p.number()
	case c == '"':
		return p.text()
	case c == ':':
		coded, rest, ok := strings.Cut(p.rest[1:], ":")
		if p.rest = rest; !ok || strings.Trim(coded, alpha+digits+"+/=") != "" || strings.ContainsAny(coded, "\r\n") {
			return nil, false
		}
		b, err := base64.StdEncoding.DecodeString(coded)
		return b, err == nil
	case c == '*' || strings.IndexByte(alpha, c) >= 0:
		p.while(tchars + ":/")
		return other{}, true
	case c == '?':
		p.take('?')
		return other{}, p.take('0') || p.take('1')
	case c == '@': // a Date
		p.take('@')
		v, ok := p.number()
		_, whole := v.(int64)
		return other{}, ok && whole
	case c == '%': // a Display String
		p.take('%')
		return p.display()
	}
	return nil, false
}

func (p *parser) number() (any, bool) {
	negative := p.take('-')
	whole := p.while(digits)
	if whole == "" {
		return nil, false
	}
	if p.take('.') {
		fraction := p.while(digits)
		return other{}, len(whole) <= 12 && len(fraction) >= 1 && len(fraction) <= 3
	}
	if len(whole) > 15 {
		return nil, false
	}
	v := int64(0)
	for _, c := range whole {
		v = 10*v + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return v, true
}

func (p *parser) text() (any, bool) {
	var b strings.Builder
	for p.rest = p.rest[1:]; p.rest != ""; {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return b.String(), true
		case c < 0x20 || c > 0x7e:
			return nil, false
		case c == '\\':
			if p.rest == "" || p.rest[0] != '"' && p.rest[0] != '\\' {
				return nil, false
			}
			c = p.rest[0]
			p.rest = p.rest[1:]
		}
		b.WriteByte(c)
	}
	return nil, false
}

func (p *parser) display() (any, bool) {
	if !p.take('"') {
		return nil, false
	}
	var decoded []byte
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c < 0x20 || c > 0x7e:
			return nil, false
		case c == '%':
			if len(p.rest) < 2 || strings.Trim(p.rest[:2], digits+"abcdef") != "" {
				return nil, false
			}
			const hex = digits + "abcdef"
			decoded = append(decoded, byte(strings.IndexByte(hex, p.rest[0])<<4|strings.IndexByte(hex, p.rest[1])))
			p.rest = p.rest[2:]
		case c == '"':
			return other{}, strings.ToValidUTF8(string(decoded), "") == string(decoded)
		default:
			decoded = append(decoded, c)
		}
	}
	return nil, false
}
