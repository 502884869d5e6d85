// Package scan finds the tokens and secrets of an issuer in any text: source
// code, logs, Kubernetes Secrets. It asks nobody, and changes nothing.
//
// A value with one of our prefixes is known by its checksum, a JWT by its
// issuer. No signature is checked here: whether a value is genuine and alive,
// only the issuer can say.
package scan

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Kind is what a value is good for.
type Kind string

// The kinds of values.
const (
	AccessToken       Kind = "access_token"
	RefreshToken      Kind = "refresh_token"
	ClientSecret      Kind = "client_secret"
	AuthorizationCode Kind = "authorization_code"
	IDToken           Kind = "id_token" // or another JWT of the issuer that is no access token
	Proof             Kind = "proof"    // another issuer's JWT for this one: it can be exchanged here
)

// Finding is one value, however often it was seen.
type Finding struct {
	Value   oauth.Secret
	Kind    Kind
	File    string // where it was seen first
	Line    int    // from 1
	Column  int    // in bytes, from 1; of a value in base64, of its encoding
	Times   int
	Subject string    // of a JWT
	Expires time.Time // of a JWT; zero if it does not say
}

// Scanner collects findings. It is not safe for concurrent use.
type Scanner struct {
	// Issuers are whose JWTs are looked for. None: only values with our prefixes.
	Issuers []string

	Findings []*Finding // in the order in which they were seen
	Damaged  int        // values with our prefix and a wrong checksum: cut off, or masked
	Bytes    int64      // read

	known map[[32]byte]*Finding
}

const (
	// reach is how long a value can be, and how far its encoding can begin before
	// what it is recognized by.
	reach = 24 << 10
	chunk = 1 << 20
	// maxDashes bounds how often one value is tried.
	maxDashes = 8
)

// read looks at all of r, in memory of a bounded size. name is for findings.
func (s *Scanner) read(ctx context.Context, name string, r io.Reader) error {
	w := window{scanner: s, name: name, line: 1}
	room := make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, room)
		s.Bytes += int64(n)
		atEnd := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		w.add(room[:n])
		w.look(atEnd)
		if atEnd {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// window is the part of a text that is in memory.
type window struct {
	scanner *Scanner
	name    string
	buf     []byte
	next    int // where to look next

	line     int // of buf[counted]
	column   int // bytes of that line before it
	counted  int
	inBase64 bool // all of the text is at the place where its encoding begins
}

// add appends to the text, and forgets what no value can reach back to.
func (w *window) add(more []byte) {
	if old := w.next - reach; old > 0 {
		w.count(old)
		w.buf = w.buf[:copy(w.buf, w.buf[old:])]
		w.next -= old
		w.counted = 0
	}
	w.buf = append(w.buf, more...)
}

// count moves the line and column forward to a place. It never goes back.
func (w *window) count(to int) {
	if to <= w.counted {
		return
	}
	passed := w.buf[w.counted:to]
	if lines := bytes.Count(passed, []byte("\n")); lines > 0 {
		w.line += lines
		w.column = len(passed) - bytes.LastIndexByte(passed, '\n') - 1
	} else {
		w.column += len(passed)
	}
	w.counted = to
}

// look finds what begins early enough to be in the window as a whole.
func (w *window) look(atEnd bool) {
	limit := len(w.buf)
	if !atEnd {
		limit -= reach
	}
	for w.next < limit {
		rest := w.buf[w.next:]
		switch rest[0] {
		case 's':
			if bytes.HasPrefix(rest, []byte("sbx_")) {
				w.opaque()
				continue
			}
		case 'e':
			if bytes.HasPrefix(rest, []byte("eyJ")) {
				w.jwt()
				continue
			}
		case 'Z', 'V', 'l', 'c', 'z', 'N':
			if slices.ContainsFunc(encoded, func(mark []byte) bool { return bytes.HasPrefix(rest, mark) }) {
				w.base64()
				continue
			}
		}
		w.next++
	}
}

// encoded is how a value in base64 begins: a JWT, and `sbx_`, each at the three
// places that it can have in a group of three bytes.
var encoded = [][]byte{
	[]byte("ZXlK"), []byte("V5S"), []byte("leUo"), []byte("leUp"),
	[]byte("c2J4X"), []byte("zYnhf"), []byte("NieF9"),
}

func isBase64URL(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_'
}

func isBase64(b byte) bool { return isBase64URL(b) || b == '+' || b == '/' }

// run is the first part of text whose bytes are all in a set, at most reach long.
func run(text []byte, in func(byte) bool) []byte {
	text = text[:min(len(text), reach)]
	if end := slices.IndexFunc(text, func(b byte) bool { return !in(b) }); end >= 0 {
		return text[:end]
	}
	return text
}

var prefixes = map[oauth.Prefix]Kind{
	oauth.PrefixAccessToken: AccessToken, oauth.PrefixRefreshToken: RefreshToken,
	oauth.PrefixClientSecret: ClientSecret, oauth.PrefixAuthorizationCode: AuthorizationCode,
}

// opaque looks at what begins with sbx_.
func (w *window) opaque() {
	const least = len(oauth.PrefixAccessToken)
	rest := w.buf[w.next:min(w.next+reach, len(w.buf))]
	if len(rest) < least {
		w.next = len(w.buf)
		return
	}
	prefix := oauth.Prefix(rest[:least])
	kind, ours := prefixes[prefix]
	if !ours {
		w.next += len("sbx_")
		return
	}
	text := rest[:least]
	for len(text) < len(rest) && isBase64URL(rest[len(text)]) && !bytes.HasPrefix(rest[len(text):], []byte("sbx_")) {
		text = rest[:len(text)+1]
	}
	if len(text) == least {
		w.next += least
		return
	}
	// Dashes or underscores after the value belong to the text around it.
	value := text
	for range maxDashes {
		if _, err := oauth.DecodeOpaque(prefix, string(value), reach); err == nil {
			w.found(Finding{Kind: kind, Value: oauth.SecretOf(string(value))})
			w.next += len(value)
			return
		}
		last := value[len(value)-1]
		if value = value[:len(value)-1]; last != '-' && last != '_' || len(value) == least {
			break
		}
	}
	w.scanner.Damaged++
	w.next += len(text)
}

// jwt looks at what begins like the header of one.
func (w *window) jwt() {
	rest := w.buf[w.next:]
	header := run(rest, isBase64URL)
	value := header
	for range 2 { // the claims, the signature
		if len(value) == len(rest) || rest[len(value)] != '.' {
			w.next += len(header)
			return
		}
		value = rest[:len(value)+1+len(run(rest[len(value)+1:], isBase64URL))]
	}
	f, ok := w.scanner.judge(string(value))
	if !ok {
		w.next += len(header) // the claims may be a header: a JWT after other text with dots
		return
	}
	w.found(f)
	w.next += len(value)
}

// judge says whether a JWT is the issuer's, or for it.
func (s *Scanner) judge(raw string) (Finding, bool) {
	header, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return Finding{}, false
	}
	f := Finding{Kind: IDToken, Value: oauth.SecretOf(raw)}
	issuer, _, _ := claims.String("iss")
	audience, _, _ := claims.Strings("aud")
	isOurs := func(name string) bool { return slices.Contains(s.Issuers, name) }
	switch {
	case isOurs(issuer) && strings.EqualFold(strings.TrimPrefix(header.Type, "application/"), oauth.TypAccessToken):
		f.Kind = AccessToken
	case isOurs(issuer):
	case slices.ContainsFunc(audience, isOurs):
		f.Kind = Proof
	default:
		return Finding{}, false
	}
	f.Subject, _, _ = claims.String("sub")
	f.Expires, _, _ = claims.Time("exp")
	return f, true
}

// base64 looks into what is encoded once, as the values of a Kubernetes Secret
// are, or the password of an Authorization header.
func (w *window) base64() {
	start := w.next
	for start > 0 && w.next-start < reach/2 && isBase64(w.buf[start-1]) {
		start-- // half of the reach at most: each look moves on by the other half
	}
	text := run(w.buf[start:], isBase64)
	w.count(start)
	inner := window{scanner: w.scanner, name: w.name, buf: decoded(text), line: w.line, column: w.column, inBase64: true}
	inner.look(true)
	w.next = max(w.next+1, start+len(text))
}

// decoded is what was encoded, as far as it can be read.
func decoded(text []byte) []byte {
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	out := make([]byte, encoding.DecodedLen(len(text)))
	n, _ := encoding.Decode(out, text)
	return out[:n]
}

// found notes a value that begins at w.next.
func (w *window) found(f Finding) {
	s := w.scanner
	if s.known == nil {
		s.known = map[[32]byte]*Finding{}
	}
	hash := f.Value.Hash()
	if before := s.known[hash]; before != nil {
		before.Times++
		return
	}
	if !w.inBase64 {
		w.count(w.next)
	}
	f.File, f.Line, f.Column, f.Times = w.name, w.line, w.column+1, 1
	s.known[hash] = &f
	s.Findings = append(s.Findings, &f)
}
