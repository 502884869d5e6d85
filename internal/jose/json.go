package jose

// RFC 8259 with the restrictions of RFC 7493 (I-JSON): one object, unique names at every depth, UTF-8, no lone surrogates.
// encoding/json is not used for an attacker's input: it takes the last of two equal names, ignores the case of names, and replaces
// bad UTF-8, so two readers of one token could see two different tokens.

import (
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// maxDepth bounds recursion. An `act` chain of a dozen services fits; a bomb does not.
const maxDepth = 32

// linearNames is how many names of one object are compared one by one; with more a set is made, so that the time does not grow with the square.
const linearNames = 16

var (
	errSyntax    = errors.New("not valid JSON")
	errUTF8      = errors.New("not valid UTF-8")
	errTrailing  = errors.New("data after the JSON object")
	errDuplicate = errors.New("a JSON object holds the same name twice")
	errDepth     = errors.New("JSON nested too deeply")
	errNotObject = errors.New("not a JSON object")
	errSurrogate = errors.New("a JSON string holds half a surrogate pair or a NUL")
)

// member is one name of an object with its value as written.
type member struct {
	name string
	raw  string
}

// parseObject reads a whole document, which must be one object, in one pass.
func parseObject(s string) ([]member, error) {
	if !utf8.ValidString(s) {
		return nil, errUTF8
	}
	p := scanner{s: s}
	p.space()
	if p.peek() != '{' {
		return nil, errNotObject
	}
	members, err := p.object(16)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i != len(s) {
		return nil, errTrailing
	}
	return members, nil
}

// scanner walks valid UTF-8 text.
type scanner struct {
	s     string
	i     int
	depth int
}

// peek gives the next byte, or 0 at the end; 0 begins no JSON token.
func (p *scanner) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *scanner) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *scanner) object(room int) ([]member, error) {
	p.i++ // {
	p.depth++
	if p.depth > maxDepth {
		return nil, errDepth
	}
	var members []member
	var seen map[string]struct{}
	p.space()
	if p.peek() == '}' {
		p.i++
		p.depth--
		return nil, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, errSyntax
		}
		raw, plain, err := p.text()
		if err != nil {
			return nil, err
		}
		name := raw[1 : len(raw)-1]
		if !plain {
			// Escapes are undone before names are compared: "ex\u0070" is "exp".
			if name, err = unquote(raw); err != nil {
				return nil, err
			}
		}
		if seen == nil && len(members) == linearNames {
			seen = make(map[string]struct{}, 2*linearNames)
			for _, m := range members {
				seen[m.name] = struct{}{}
			}
		}
		if seen != nil {
			if _, twice := seen[name]; twice {
				return nil, errDuplicate
			}
			seen[name] = struct{}{}
		} else {
			for i := range members {
				if members[i].name == name {
					return nil, errDuplicate
				}
			}
		}
		p.space()
		if p.peek() != ':' {
			return nil, errSyntax
		}
		p.i++
		p.space()
		start := p.i
		if err := p.value(); err != nil {
			return nil, err
		}
		if members == nil {
			members = make([]member, 0, room)
		}
		members = append(members, member{name, p.s[start:p.i]})
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case '}':
			p.i++
			p.depth--
			return members, nil
		default:
			return nil, errSyntax
		}
	}
}

// array calls each for every element; each may be nil.
func (p *scanner) array(each func(raw string)) error {
	p.i++ // [
	p.depth++
	if p.depth > maxDepth {
		return errDepth
	}
	p.space()
	if p.peek() == ']' {
		p.i++
		p.depth--
		return nil
	}
	for {
		p.space()
		start := p.i
		if err := p.value(); err != nil {
			return err
		}
		if each != nil {
			each(p.s[start:p.i])
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			p.depth--
			return nil
		default:
			return errSyntax
		}
	}
}

func (p *scanner) value() error {
	switch c := p.peek(); {
	case c == '"':
		_, _, err := p.text()
		return err
	case c == '{':
		_, err := p.object(4)
		return err
	case c == '[':
		return p.array(nil)
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	case c == 'n':
		return p.word("null")
	}
	return errSyntax
}

func (p *scanner) word(w string) error {
	if len(p.s)-p.i < len(w) || p.s[p.i:p.i+len(w)] != w {
		return errSyntax
	}
	p.i += len(w)
	return nil
}

func (p *scanner) number() error {
	if p.peek() == '-' {
		p.i++
	}
	if p.peek() == '0' {
		p.i++
	} else if !p.digits() {
		return errSyntax
	}
	if p.peek() == '.' {
		p.i++
		if !p.digits() {
			return errSyntax
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.i++
		if c := p.peek(); c == '+' || c == '-' {
			p.i++
		}
		if !p.digits() {
			return errSyntax
		}
	}
	return nil
}

func (p *scanner) digits() bool {
	start := p.i
	for isDigit(p.peek()) {
		p.i++
	}
	return p.i > start
}

// text reads a string with its quotes; plain means that it holds no escape.
func (p *scanner) text() (raw string, plain bool, err error) {
	start := p.i
	plain = true
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start:p.i], plain, nil
		case c < 0x20:
			return "", false, errSyntax
		case c == '\\':
			plain = false
			if err := p.escape(); err != nil {
				return "", false, err
			}
		}
	}
	return "", false, errSyntax
}

// escape leaves the scanner on the last byte of the escape.
func (p *scanner) escape() error {
	p.i++
	switch p.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
	default:
		return errSyntax
	}
	r, err := p.hex4()
	if err != nil {
		return err
	}
	switch {
	// encoding/json turns a lone half into U+FFFD: two names that differ would become one. PostgreSQL stores no NUL.
	case r == 0, r >= 0xDC00 && r <= 0xDFFF:
		return errSurrogate
	case r >= 0xD800 && r <= 0xDBFF:
		if len(p.s)-p.i < 3 || p.s[p.i+1] != '\\' || p.s[p.i+2] != 'u' {
			return errSurrogate
		}
		p.i += 2
		low, err := p.hex4()
		if err != nil {
			return err
		}
		if low < 0xDC00 || low > 0xDFFF {
			return errSurrogate
		}
	}
	return nil
}

// hex4 starts on the u and ends on the fourth digit.
func (p *scanner) hex4() (rune, error) {
	if len(p.s)-p.i < 5 {
		return 0, errSyntax
	}
	var r rune
	for range 4 {
		p.i++
		c := p.s[p.i]
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, errSyntax
		}
	}
	return r, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// unquote undoes the escapes of a string that the scanner has passed.
func unquote(raw string) (string, error) {
	for i := range len(raw) {
		if raw[i] == '\\' {
			var s string
			if err := json.Unmarshal([]byte(raw), &s); err != nil {
				return "", errSyntax
			}
			return s, nil
		}
	}
	return raw[1 : len(raw)-1], nil
}
