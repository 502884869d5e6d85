package journal

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Bounds of the values, in bytes before escaping. Together they keep a line
// below maxLine also when every byte must be escaped.
const (
	maxShort    = 128
	maxName     = 512
	maxReason   = 1024
	maxScope    = 2048
	maxAudience = 16
	maxJWS      = 8 << 10
	maxLine     = 128 << 10
)

const timeLayout = "2006-01-02T15:04:05.000000Z"

// plain marks the bytes that stand for themselves inside a JSON string here:
// printable ASCII without the quote and the backslash.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string in printable ASCII. What is not valid
// UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
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

// bound cuts s to at most limit bytes, between characters, and says so.
func bound(s string, limit int) string {
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
	return appendString(append(b, name...), bound(value, limit))
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

// appendTime writes t in timeLayout. By hand: the general formatter costs five
// times as much, and this runs for every record.
func appendTime(b []byte, t time.Time) []byte {
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

// writable says whether t fits the four digits of RFC 3339's year.
func writable(t time.Time) bool {
	const year1970, year10000 = 0, 253402300800
	return t.Unix() >= year1970 && t.Unix() < year10000
}

// appendBody writes the members between seq and prev, without the comma before
// them. It needs no lock, so the waiting callers do this part side by side.
func appendBody(b []byte, e *authority.Event, at time.Time, count uint64) []byte {
	b = append(b, `"time":"`...)
	b = appendTime(b, at)
	b = append(b, '"')
	b = appendMember(b, `,"type":`, string(e.Type), maxShort)
	b = appendMember(b, `,"request_id":`, e.RequestID, maxShort)
	b = appendMember(b, `,"remote":`, e.Remote, maxShort)
	b = appendMember(b, `,"actor":`, e.Actor, maxName)
	b = appendMember(b, `,"client_id":`, e.ClientID, maxName)
	b = appendSubject(b, e.Subject)
	b = appendMember(b, `,"grant_type":`, e.GrantType, maxShort)
	b = appendID(b, `,"grant_id":`, e.GrantID)
	b = appendID(b, `,"sid":`, e.SessionID)
	b = appendID(b, `,"jti":`, e.TokenID)
	b = appendMember(b, `,"token_hash":`, e.TokenHash, maxShort)
	b = appendAudience(b, e.Audience)
	b = appendMember(b, `,"scope":`, e.Scope, maxScope)
	if !e.ExpiresAt.IsZero() {
		b = strconv.AppendInt(append(b, `,"exp":`...), e.ExpiresAt.Unix(), 10)
	}
	b = appendMember(b, `,"error":`, e.Error, maxShort)
	b = appendMember(b, `,"reason":`, e.Reason, maxReason)
	b = appendMember(b, `,"target":`, e.Target, maxName)
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
	b = appendMember(b, `,"issuer":`, s.Issuer, maxName)
	b = appendMember(b, `,"id":`, s.ID, maxName)
	b = appendMember(b, `,"kind":`, string(s.Kind), maxShort)
	b = append(b[:start], b[start+1:]...) // the comma before the first member
	return append(b, '}')
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
			b = appendString(b, "...[cut "+strconv.Itoa(len(aud)-i)+" entries]")
			break
		}
		b = appendString(b, bound(a, maxName))
	}
	return append(b, ']')
}

// The frame of a line: what the chain needs is at fixed places, so checking a
// chain needs no JSON parser.
const (
	lineStart = `{"seq":`
	timeStart = `,"time":"`
	typeStart = `","type":"`
	prevStart = `,"prev":"`
	lineEnd   = "\"}\n"
)

// appendLine puts the frame around body.
func appendLine(b []byte, seq uint64, body []byte, prev [32]byte) []byte {
	b = append(b, lineStart...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ',')
	b = append(b, body...)
	b = append(b, prevStart...)
	b = hex.AppendEncode(b, prev[:])
	return append(b, lineEnd...)
}

// frame is the part of a line that links it.
type frame struct {
	seq        uint64
	time       []byte // in timeLayout: of fixed length, so bytes sort as times do
	checkpoint bool
	prev       [32]byte
}

// parseFrame reads a line, its newline included.
func parseFrame(line []byte) (f frame, ok bool) {
	const tail = len(prevStart) + 64 + len(lineEnd)
	rest, ok := cutPrefix(line, lineStart)
	if !ok || len(rest) < tail {
		return f, false
	}
	n := 0
	for n < len(rest) && n < 20 && rest[n] >= '0' && rest[n] <= '9' {
		f.seq = f.seq*10 + uint64(rest[n]-'0')
		n++
	}
	if n == 0 || rest[0] == '0' || n > 19 {
		return f, false
	}
	rest, ok = cutPrefix(rest[n:], timeStart)
	if !ok || len(rest) < len(timeLayout)+len(typeStart)+tail {
		return f, false
	}
	f.time = rest[:len(timeLayout)]
	rest, ok = cutPrefix(rest[len(timeLayout):], typeStart)
	if !ok {
		return f, false
	}
	_, f.checkpoint = cutPrefix(rest, string(TypeCheckpoint)+`"`)
	end := rest[len(rest)-tail:]
	hash, ok := cutPrefix(end, prevStart)
	if !ok || string(hash[64:]) != lineEnd {
		return f, false
	}
	for _, c := range hash[:64] {
		if strings.IndexByte(hexDigits, c) < 0 {
			return f, false // upper case too: there is one spelling
		}
	}
	_, err := hex.Decode(f.prev[:], hash[:64])
	return f, err == nil
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return b, false
	}
	return b[len(prefix):], true
}
