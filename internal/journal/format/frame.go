package format

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The frame of a line: what the chain needs is at fixed places, so checking a
// chain needs no JSON parser.
const (
	lineStart = `{"seq":`
	timeStart = `,"time":"`
	typeStart = `","type":"`
	prevStart = `,"prev":"`
	lineEnd   = "\"}\n"
)

// AppendLine puts the frame around body.
func AppendLine(b []byte, seq uint64, body []byte, prev [32]byte) []byte {
	b = append(b, lineStart...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ',')
	b = append(b, body...)
	b = append(b, prevStart...)
	b = hex.AppendEncode(b, prev[:])
	return append(b, lineEnd...)
}

// Frame is the part of a line that links it.
type Frame struct {
	Seq        uint64
	Time       []byte // in TimeLayout
	Type       []byte // as it is spelled
	Checkpoint bool
	Prev       [32]byte
}

// ParseFrame reads a line, its newline included.
func ParseFrame(line []byte) (f Frame, ok bool) {
	const tail = len(prevStart) + 64 + len(lineEnd)
	rest, ok := cutPrefix(line, lineStart)
	if !ok || len(rest) < tail {
		return f, false
	}
	n := 0
	for n < len(rest) && n < 20 && rest[n] >= '0' && rest[n] <= '9' {
		f.Seq = f.Seq*10 + uint64(rest[n]-'0')
		n++
	}
	if n == 0 || rest[0] == '0' || n > 19 {
		return f, false
	}
	rest, ok = cutPrefix(rest[n:], timeStart)
	if !ok || len(rest) < len(TimeLayout)+len(typeStart)+tail {
		return f, false
	}
	f.Time = rest[:len(TimeLayout)]
	rest, ok = cutPrefix(rest[len(TimeLayout):], typeStart)
	if !ok {
		return f, false
	}
	n = 0
	for n < len(rest) && rest[n] != '"' {
		if rest[n] == '\\' {
			n++
		}
		n++
	}
	f.Type = rest[:min(n, len(rest))]
	f.Checkpoint = string(f.Type) == string(authority.EventCheckpoint)
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
	_, err := hex.Decode(f.Prev[:], hash[:64])
	return f, err == nil
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return b, false
	}
	return b[len(prefix):], true
}
