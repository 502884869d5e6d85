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

	noHeader int // before this there is no header of a JWT

	line    int // of buf[counted]
	column  int // bytes of that line before it
	counted int
}

// add appends to the text, and forgets what no value can reach back to.
func (w *window) add(more []byte) {
	if old := w.next - reach; old > 0 {
		w.count(old)
		w.buf = w.buf[:copy(w.buf, w.buf[old:])]
		w.next -= old
		w.noHeader -= old
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
		case 's', 'e':
			if begins(rest) && (rest[0] == 's' || w.next >= w.noHeader) {
				v := w.scanner.value(rest)
				w.note(v, w.next)
				if v.Kind == "" && rest[0] == 'e' { // base64 of any JSON begins like a JWT
					w.noHeader = w.next + v.length
					break
				}
				w.next += v.length
				continue
			}
		case 'Z', 'V', 'l', 'c', 'z', 'N':
			if w.base64() {
				continue
			}
		}
		w.next++
	}
}

func begins(text []byte) bool {
	return bytes.HasPrefix(text, []byte("sbx_")) || bytes.HasPrefix(text, []byte("eyJ"))
}

// verdict is what a text is that begins like a value.
type verdict struct {
	Finding      // without a kind it is none
	length  int  // of the value; or how far no other can begin
	whole   bool // what follows cannot belong to it
	cut     bool // more text may make it another value
	damaged bool
}

// value judges a text that begins like a value.
func (s *Scanner) value(text []byte) verdict {
	text = text[:min(len(text), reach)]
	if text[0] == 's' {
		return opaque(text)
	}
	return s.jwt(text)
}

func isBase64URL(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_'
}

// run is the first part of text whose bytes are all in a set.
func run(text []byte, in func(byte) bool) []byte {
	if end := slices.IndexFunc(text, func(b byte) bool { return !in(b) }); end >= 0 {
		return text[:end]
	}
	return text
}

var prefixes = map[oauth.Prefix]Kind{
	oauth.PrefixAccessToken: AccessToken, oauth.PrefixRefreshToken: RefreshToken,
	oauth.PrefixClientSecret: ClientSecret, oauth.PrefixAuthorizationCode: AuthorizationCode,
}

// opaque judges what begins with sbx_.
func opaque(rest []byte) verdict {
	const least = len(oauth.PrefixAccessToken)
	if len(rest) < least {
		return verdict{length: len(rest), cut: true}
	}
	prefix := oauth.Prefix(rest[:least])
	kind, ours := prefixes[prefix]
	if !ours {
		return verdict{length: len("sbx_")}
	}
	text := rest[:least]
	for len(text) < len(rest) && isBase64URL(rest[len(text)]) && !bytes.HasPrefix(rest[len(text):], []byte("sbx_")) {
		text = rest[:len(text)+1]
	}
	cut := len(text) == len(rest)
	if len(text) == least {
		return verdict{length: least, cut: cut}
	}
	// Dashes or underscores after the value belong to the text around it.
	value := text
	for range maxDashes {
		if _, err := oauth.DecodeOpaque(prefix, string(value), reach); err == nil {
			return verdict{Finding: Finding{Kind: kind, Value: oauth.SecretOf(string(value))}, length: len(value), whole: true}
		}
		last := value[len(value)-1]
		if value = value[:len(value)-1]; last != '-' && last != '_' || len(value) == least {
			break
		}
	}
	return verdict{length: len(text), cut: cut, damaged: true}
}

// jwt judges what begins like the header of one.
func (s *Scanner) jwt(rest []byte) verdict {
	header := run(rest, isBase64URL)
	value, signature := header, 0
	for range 2 { // the claims, the signature
		if len(value) == len(rest) || rest[len(value)] != '.' {
			return verdict{length: len(header), cut: len(value) == len(rest)}
		}
		part := run(rest[len(value)+1:], isBase64URL)
		value, signature = rest[:len(value)+1+len(part)], len(part)
	}
	f, alg := s.judge(string(value))
	if f.Kind == "" { // the claims may be a header: a JWT after other text with dots
		return verdict{length: len(header), cut: len(value) == len(rest)}
	}
	return verdict{Finding: f, length: len(value), whole: slices.Contains(signatures[alg], signature), cut: len(value) == len(rest)}
}

// signatures are how long the encoded signature of an algorithm is; of RSA, with keys of
// 2048, 3072 and 4096 bits.
var signatures = map[jose.Algorithm][]int{
	jose.ES256: {86}, jose.EdDSA: {86}, "ES384": {128}, "ES512": {176}, jose.RS256: {342, 512, 683},
}

// judge says whether a JWT is the issuer's, or for it.
func (s *Scanner) judge(raw string) (Finding, jose.Algorithm) {
	header, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return Finding{}, ""
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
		return Finding{}, ""
	}
	f.Subject, _, _ = claims.String("sub")
	f.Expires, _, _ = claims.Time("exp")
	return f, header.Algorithm
}

// note counts a verdict about what begins at a place.
func (w *window) note(v verdict, at int) {
	if v.damaged {
		w.scanner.Damaged++
	}
	if v.Kind != "" {
		w.found(v.Finding, at)
	}
}

// found notes a value, or the encoding of one, that begins at a place.
func (w *window) found(f Finding, at int) {
	s := w.scanner
	if s.known == nil {
		s.known = map[[32]byte]*Finding{}
	}
	hash := f.Value.Hash()
	if before := s.known[hash]; before != nil {
		before.Times++
		return
	}
	w.count(at)
	f.File, f.Line, f.Column, f.Times = w.name, w.line, w.column+1, 1
	s.known[hash] = &f
	s.Findings = append(s.Findings, &f)
}
