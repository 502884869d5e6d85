package format

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Bounds of the values, in bytes before escaping. Together they keep a line
// below MaxLine also when every byte must be escaped.
const (
	MaxShort    = 128
	MaxName     = 512
	maxField    = 64
	MaxReason   = 1024
	maxScope    = 2048
	maxAudience = 16
	MaxJWS      = 8 << 10
	MaxLine     = 140 << 10
)

// TimeLayout is how `time` is written: of one length, so texts sort as times do.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// plain marks the bytes that need no escape inside a JSON string here:
// printable ASCII without the quote and the backslash.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// AppendString writes s as a JSON string in printable ASCII. What is not valid
// UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case r >= 0x10000:
			r -= 0x10000
			b = appendUnicode(b, 0xd800+r>>10)
			b = appendUnicode(b, 0xdc00+r&0x3ff)
		default:
			b = appendUnicode(b, r)
		}
		i += size
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendUnicode(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// Bound cuts s to at most limit bytes, between characters, and says so.
func Bound(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > limit-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "...[cut " + strconv.Itoa(len(s)-cut) + " bytes]"
}

// appendMember writes one string member; nothing for an empty value. name comes with
// its quotes, colon and leading comma, so that the common case is two copies.
func appendMember(b []byte, name, value string, limit int) []byte {
	if value == "" {
		return b
	}
	return AppendString(append(b, name...), Bound(value, limit))
}

// Text is how a line spells a part of a value.
func Text(s string) []byte {
	quoted := AppendString(nil, s)
	return quoted[1 : len(quoted)-1]
}

// Member is how a line spells the member name with this value, cut as a line cuts it.
// The encoding has one spelling for every value, and a quote inside a value is escaped:
// so what Member gives is found in a line exactly where it is a member.
func Member(name, value string) []byte {
	limit := MaxShort
	switch name {
	case "client_id", "id":
		limit = MaxName
	}
	return AppendString(append(AppendString(nil, name), ':'), Bound(value, limit))
}

func appendID(b []byte, name string, id authority.ID) []byte {
	if id.IsZero() {
		return b
	}
	u := id.Bytes()
	b = append(append(b, name...), '"')
	b = append(hex.AppendEncode(b, u[0:4]), '-')
	b = append(hex.AppendEncode(b, u[4:6]), '-')
	b = append(hex.AppendEncode(b, u[6:8]), '-')
	b = append(hex.AppendEncode(b, u[8:10]), '-')
	return append(hex.AppendEncode(b, u[10:16]), '"')
}

// AppendTime writes t in TimeLayout. By hand: the general formatter costs five
// times as much, and this runs for every record.
func AppendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	y, mo, d := t.Date()
	h, mi, s := t.Clock()
	us := t.Nanosecond() / 1000
	two := func(b []byte, n int, sep byte) []byte { return append(b, byte('0'+n/10), byte('0'+n%10), sep) }
	b = append(b, byte('0'+y/1000), byte('0'+y/100%10), byte('0'+y/10%10), byte('0'+y%10), '-')
	b = two(b, int(mo), '-')
	b = two(b, d, 'T')
	b = two(b, h, ':')
	b = two(b, mi, ':')
	b = two(b, s, '.')
	return append(b, byte('0'+us/100000), byte('0'+us/10000%10), byte('0'+us/1000%10),
		byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10), 'Z')
}

// ParseTime reads what AppendTime wrote; zero if b is nothing like it.
func ParseTime(b []byte) time.Time {
	t, err := time.Parse(TimeLayout, string(b))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Writable says whether t fits the four digits of RFC 3339's year.
func Writable(t time.Time) bool {
	const year1970, year10000 = 0, 253402300800
	return t.Unix() >= year1970 && t.Unix() < year10000
}

// AppendBody writes the members between seq and prev, without the comma before
// them. It needs no lock, so the waiting callers do this part side by side.
func AppendBody(b []byte, e *authority.Event, at time.Time, count uint64) []byte {
	b = append(b, `"time":"`...)
	b = AppendTime(b, at)
	b = append(b, '"')
	b = appendMember(b, `,"type":`, string(e.Type), MaxShort)
	b = appendMember(b, `,"request_id":`, e.RequestID, MaxShort)
	b = appendMember(b, `,"remote":`, e.Remote, MaxShort)
	b = appendMember(b, `,"actor":`, e.Actor, MaxName)
	b = appendMember(b, `,"client_id":`, e.ClientID, MaxName)
	b = appendSubject(b, e.Subject)
	b = appendMember(b, `,"grant_type":`, e.GrantType, MaxShort)
	b = appendID(b, `,"grant_id":`, e.GrantID)
	b = appendID(b, `,"sid":`, e.SessionID)
	b = appendID(b, `,"jti":`, e.TokenID)
	b = appendMember(b, `,"token_hash":`, e.TokenHash, MaxShort)
	b = appendMember(b, `,"origin_jti":`, e.Origin.TokenID, MaxShort)
	b = appendMember(b, `,"origin_hash":`, e.Origin.TokenHash, MaxShort)
	b = appendMember(b, `,"origin_pod":`, e.Origin.Pod, MaxName)
	b = appendMember(b, `,"assertion_jti":`, e.Assertion.TokenID, MaxShort)
	b = appendMember(b, `,"assertion_hash":`, e.Assertion.TokenHash, MaxShort)
	b = appendMember(b, `,"assertion_pod":`, e.Assertion.Pod, MaxName)
	b = appendMember(b, `,"policy":`, e.Policy, MaxName)
	b = appendAudience(b, e.Audience)
	b = appendMember(b, `,"scope":`, e.Scope, maxScope)
	if !e.ExpiresAt.IsZero() {
		b = strconv.AppendInt(append(b, `,"exp":`...), e.ExpiresAt.Unix(), 10)
	}
	b = appendMember(b, `,"error":`, e.Error, MaxShort)
	b = appendMember(b, `,"reason":`, e.Reason, MaxReason)
	b = appendMember(b, `,"target":`, e.Target, MaxName)
	b = appendChanges(b, e.Changes)
	if count > 1 {
		b = strconv.AppendUint(append(b, `,"count":`...), count, 10)
	}
	return b
}

func appendSubject(b []byte, s authority.Subject) []byte {
	if s == (authority.Subject{}) {
		return b
	}
	b = append(b, `,"subject":{`...)
	start := len(b)
	b = appendMember(b, `,"issuer":`, s.Issuer, MaxName)
	b = appendMember(b, `,"id":`, s.ID, MaxName)
	b = appendMember(b, `,"kind":`, string(s.Kind), MaxShort)
	b = append(b[:start], b[start+1:]...) // the comma before the first member
	return append(b, '}')
}

func appendChanges(b []byte, changes []authority.Change) []byte {
	if len(changes) == 0 {
		return b
	}
	b = append(b, `,"changes":[`...)
	for i, c := range changes {
		if i > 0 {
			b = append(b, ',')
		}
		if i == authority.MaxChanges {
			c = authority.Change{Field: "...[cut " + strconv.Itoa(len(changes)-i) + " changes]"}
		}
		b = AppendString(append(b, `{"field":`...), Bound(c.Field, maxField))
		b = appendMember(b, `,"old":`, c.Old, MaxName)
		b = append(appendMember(b, `,"new":`, c.New, MaxName), '}')
		if i == authority.MaxChanges {
			break
		}
	}
	return append(b, ']')
}

func appendAudience(b []byte, aud []string) []byte {
	if len(aud) == 0 {
		return b
	}
	b = append(b, `,"aud":[`...)
	for i, a := range aud {
		if i > 0 {
			b = append(b, ',')
		}
		if i == maxAudience {
			b = AppendString(b, "...[cut "+strconv.Itoa(len(aud)-i)+" entries]")
			break
		}
		b = AppendString(b, Bound(a, MaxName))
	}
	return append(b, ']')
}
