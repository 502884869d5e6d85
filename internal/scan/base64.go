package scan

import (
	"bytes"
	"encoding/base64"
)

// A value may be encoded once more in base64, as in a Kubernetes Secret or the password of an
// Authorization header, and that may be broken into lines, as by the command base64, by MIME
// or in a block of YAML; in a diff each of the lines has a mark before it.

// marks are how a value in base64 begins: a JWT and sbx_, each at the three places that it can
// have in a group of three bytes. lead stands for the characters before, and skip says how many
// bytes it adds.
var marks = []struct {
	text []byte
	lead string
	skip int
}{
	{[]byte("ZXlK"), "", 0}, {[]byte("V5S"), "AG", 1}, {[]byte("leUo"), "AAB", 2}, {[]byte("leUp"), "AAB", 2},
	{[]byte("c2J4X"), "", 0}, {[]byte("NieF9"), "AH", 1}, {[]byte("zYnhf"), "AAB", 2},
}

const (
	longestMark = 5
	// little is how much is decoded at first; only where a value does not end there is it more.
	little = 64
	// Lines that are shorter or longer were not broken by a program.
	narrowest, widest = 32, 1024
)

func isBase64(b byte) bool { return isBase64URL(b) || b == '+' || b == '/' }

// base64 looks at what begins at w.next, if it begins like a value in base64.
func (w *window) base64() bool {
	start := w.buf[w.next:min(w.next+longestMark, len(w.buf))]
	if bytes.ContainsAny(start, "\r\n") { // the mark itself may be broken
		start = w.encoded(longestMark).text
	}
	for _, m := range marks {
		if !bytes.HasPrefix(start, m.text) {
			continue
		}
		for limit := little; ; limit = min(8*limit, reach) {
			e := w.encoded(limit)
			v := w.scanner.decode(m.lead, m.skip, e.text[:e.first])
			if e.first < len(e.text) && !v.whole {
				if all := w.scanner.decode(m.lead, m.skip, e.text); all.Kind != "" || v.Kind == "" {
					v = all
				}
			}
			if v.cut && len(e.text) >= limit && limit < reach {
				continue
			}
			if v.Kind != "" || v.damaged {
				w.note(v, w.beginning())
			}
			w.next += max(e.raw(v.length), 1)
			return true
		}
	}
	return false
}

// decode judges the value that begins in base64. The length is that of the encoding.
func (s *Scanner) decode(lead string, skip int, text []byte) verdict {
	whole := append([]byte(lead), text...)
	for i, b := range whole { // both alphabets, and a dash before or after
		switch b {
		case '-':
			whole[i] = '+'
		case '_':
			whole[i] = '/'
		}
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(whole)))
	n, _ := base64.RawStdEncoding.Decode(out, whole)
	if out = out[:n]; n < skip || !begins(out[skip:]) {
		return verdict{}
	}
	v := s.value(out[skip:])
	v.length = base64.RawStdEncoding.EncodedLen(skip+v.length) - len(lead)
	return v
}

// encoded is base64 text, perhaps of several lines.
type encoded struct {
	text   []byte // without what breaks it
	first  int    // how much of it is on the first line
	breaks []struct{ at, skip int }
}

// raw is how long the first n bytes are with their line breaks.
func (e encoded) raw(n int) int {
	length := n
	for _, b := range e.breaks {
		if b.at < n {
			length += b.skip
		}
	}
	return length
}

// encoded is the base64 text that begins at w.next. If its line looks like one of several that
// a program has made of it, all the others belong to it: each is as long as the first, except
// the last one.
func (w *window) encoded(limit int) encoded {
	rest := w.buf[w.next:]
	e := encoded{text: run(rest[:min(limit, len(rest))], isBase64)}
	e.first = len(e.text)
	if e.first == limit || e.first == len(rest) {
		return e
	}
	start := w.beginning()
	width := w.next - start + e.first
	if width > widest {
		return e
	}
	before := w.buf[max(0, start-widest):start]
	before = before[bytes.LastIndexByte(before, '\n')+1:]
	shorter := len(bytes.Trim(before, " \t+-")) > 0 // by what is before it
	var diff byte
	switch {
	case len(before) > 0 && (before[0] == '+' || before[0] == '-'):
		diff = before[0]
	case len(before) == 0 && (w.buf[start] == '+' || w.buf[start] == '-'):
		diff = w.buf[start]
		width--
	}
	e.text = bytes.Clone(e.text)
	for rest = rest[e.first:]; len(e.text) < limit; {
		line, skip := nextLine(rest, diff)
		if shorter && len(e.breaks) == 0 {
			width = max(width, len(line))
		}
		if len(line) == 0 || len(line) > width || width < narrowest {
			break
		}
		e.breaks = append(e.breaks, struct{ at, skip int }{len(e.text), skip})
		e.text = append(e.text, line...)
		rest = rest[skip+len(line):]
		if len(line) < width || len(rest) > 0 && rest[0] == '=' {
			break
		}
	}
	return e
}

// beginning is where the base64 text begins that is at w.next, on its line.
func (w *window) beginning() int {
	start := w.next
	for start > 0 && w.next-start < widest && isBase64(w.buf[start-1]) {
		start--
	}
	return start
}

// nextLine is the line that follows if nothing but base64 is on it, and how much is before it.
func nextLine(rest []byte, diff byte) (line []byte, skip int) {
	after := bytes.TrimPrefix(rest, []byte("\r"))
	if len(after) == 0 || after[0] != '\n' {
		return nil, 0
	}
	after = after[1:]
	if diff != 0 && len(after) > 0 && after[0] == diff {
		after = after[1:]
	}
	after = bytes.TrimLeft(after, " \t")
	line = run(after[:min(widest+1, len(after))], isBase64)
	end := bytes.TrimLeft(after[len(line):], "=")
	if end = bytes.TrimLeft(end, "\r"); len(end) > 0 && end[0] != '\n' {
		return nil, 0
	}
	return line, len(rest) - len(after)
}
