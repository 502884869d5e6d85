package jose

// RFC 7519 sections 2 and 4: claims and NumericDate.

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Claims is a parsed JSON object that cannot be changed. Its accessors refuse a claim of the wrong JSON type instead of
// converting it; null is a wrong type everywhere. A claim that is absent gives ok = false and no error.
type Claims struct {
	text    string
	members []member
}

// ParseClaims reads one strict JSON object: unique names at every depth, UTF-8, nothing after it.
func ParseClaims(data []byte) (Claims, error) {
	text := string(data)
	members, err := parseObject(text)
	if err != nil {
		return Claims{}, malformed(err.Error())
	}
	return Claims{text, members}, nil
}

func (c Claims) find(name string) (string, bool) {
	for i := range c.members {
		if c.members[i].name == name {
			return c.members[i].raw, true
		}
	}
	return "", false
}

// Has reports whether the claim is there, whatever its value.
func (c Claims) Has(name string) bool {
	_, ok := c.find(name)
	return ok
}

// Names lists the claims in the order in which they were written.
func (c Claims) Names() []string {
	names := make([]string, len(c.members))
	for i := range c.members {
		names[i] = c.members[i].name
	}
	return names
}

// Raw is the claim's JSON as written.
func (c Claims) Raw(name string) (json.RawMessage, bool) {
	raw, ok := c.find(name)
	if !ok {
		return nil, false
	}
	return json.RawMessage(raw), true
}

// Text is the whole object as written. What String and Strings give shares its memory.
func (c Claims) Text() string { return c.text }

// JSON is a copy of Text.
func (c Claims) JSON() json.RawMessage { return json.RawMessage(c.text) }

// String reads a JSON string.
func (c Claims) String(name string) (value string, ok bool, err error) {
	raw, ok := c.find(name)
	if !ok {
		return "", false, nil
	}
	if raw[0] != '"' {
		return "", false, badClaim(name, "is not a string")
	}
	value, err = unquote(raw)
	if err != nil {
		return "", false, badClaim(name, "is not a string")
	}
	return value, true, nil
}

// Strings reads a string or an array of strings, as `aud` may be either. One member of another type refuses the whole.
func (c Claims) Strings(name string) (values []string, ok bool, err error) {
	raw, ok := c.find(name)
	if !ok {
		return nil, false, nil
	}
	switch raw[0] {
	case '"':
		value, err := unquote(raw)
		if err != nil {
			return nil, false, badClaim(name, "is not a string")
		}
		return []string{value}, true, nil
	case '[':
		values = []string{}
		p := scanner{s: raw}
		scanErr := p.array(func(element string) {
			if element[0] != '"' {
				err = badClaim(name, "has a member that is not a string")
				return
			}
			value, unquoteErr := unquote(element)
			if unquoteErr != nil {
				err = badClaim(name, "has a member that is not a string")
				return
			}
			values = append(values, value)
		})
		if err == nil && scanErr != nil {
			err = badClaim(name, "is not an array of strings")
		}
		if err != nil {
			return nil, false, err
		}
		return values, true, nil
	}
	return nil, false, badClaim(name, "is neither a string nor an array of strings")
}

// Bool reads true or false.
func (c Claims) Bool(name string) (value, ok bool, err error) {
	switch raw, ok := c.find(name); {
	case !ok:
		return false, false, nil
	case raw == "true":
		return true, true, nil
	case raw == "false":
		return false, true, nil
	}
	return false, false, badClaim(name, "is neither true nor false")
}

// Object reads a nested object.
func (c Claims) Object(name string) (object Claims, ok bool, err error) {
	raw, ok := c.find(name)
	if !ok {
		return Claims{}, false, nil
	}
	members, err := parseObject(raw)
	if err != nil {
		return Claims{}, false, badClaim(name, "is not an object")
	}
	return Claims{raw, members}, true, nil
}

// maxNumericDate is the last second of the year 9999: later years do not survive RFC 3339 and SQL.
const maxNumericDate = 253402300799

// Time reads a NumericDate: a JSON number of seconds, whole or with a fraction, between 1970 and the end of 9999.
func (c Claims) Time(name string) (value time.Time, ok bool, err error) {
	raw, ok := c.find(name)
	if !ok {
		return time.Time{}, false, nil
	}
	if !isDigit(raw[0]) {
		return time.Time{}, false, badClaim(name, "is not a number of seconds since 1970")
	}
	if seconds, err := strconv.ParseInt(raw, 10, 64); err == nil {
		if seconds > maxNumericDate {
			return time.Time{}, false, badClaim(name, "is after the year 9999")
		}
		return time.Unix(seconds, 0).UTC(), true, nil
	}
	seconds, err := strconv.ParseFloat(raw, 64) // 1e400 is an error here, not infinity
	if err != nil || seconds >= maxNumericDate+1 {
		return time.Time{}, false, badClaim(name, "is after the year 9999")
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true, nil
}

// MaxLeeway is the largest clock difference that CheckTimes forgives.
const MaxLeeway = 60 * time.Second

// TimeRules says how strictly CheckTimes reads the clock.
type TimeRules struct {
	Leeway  time.Duration // forgiven difference between two clocks; more than MaxLeeway counts as MaxLeeway
	MaxAge  time.Duration // if set, iat is required and is at most this long ago
	MaxLife time.Duration // if set, exp is at most this far ahead of now
}

// Times are the instants that CheckTimes has found good; IssuedAt and NotBefore are zero when the claim is absent.
type Times struct {
	IssuedAt, NotBefore, Expires time.Time
}

// CheckTimes requires exp, and refuses a token that has expired, is not valid yet, or was issued in the future.
func (c Claims) CheckTimes(now time.Time, rules TimeRules) (Times, error) {
	leeway := min(max(rules.Leeway, 0), MaxLeeway)
	expires, ok, err := c.Time("exp")
	if err != nil {
		return Times{}, err
	}
	if !ok {
		return Times{}, badClaim("exp", "is missing")
	}
	notBefore, hasNotBefore, err := c.Time("nbf")
	if err != nil {
		return Times{}, err
	}
	issuedAt, hasIssuedAt, err := c.Time("iat")
	if err != nil {
		return Times{}, err
	}
	if !now.Before(expires.Add(leeway)) {
		return Times{}, ErrExpired
	}
	if hasNotBefore && notBefore.After(now.Add(leeway)) {
		return Times{}, ErrNotYet
	}
	if hasIssuedAt && issuedAt.After(now.Add(leeway)) {
		return Times{}, ErrNotYet
	}
	if rules.MaxAge > 0 {
		if !hasIssuedAt {
			return Times{}, badClaim("iat", "is missing")
		}
		if now.After(issuedAt.Add(rules.MaxAge + leeway)) {
			return Times{}, ErrTooOld
		}
	}
	if rules.MaxLife > 0 && expires.After(now.Add(rules.MaxLife+leeway)) {
		return Times{}, ErrTooLong
	}
	return Times{issuedAt, notBefore, expires}, nil
}
