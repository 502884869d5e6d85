// RFC 6750 §2.1: the access token. RFC 8259: the body.
package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/operation"
)

// What may be sent at most.
const (
	MaxToken = 16 << 10
	MaxID    = 2048

	defaultPage = 100
)

// bearer reads the token from the one place where it may stand.
func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	if len(values) == 0 {
		return "", errNoToken
	}
	if len(values) > 1 {
		return "", badToken("the Authorization header was sent twice")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", badToken("the Authorization header must be: Bearer, a space, and the access token")
	}
	if len(token) > MaxToken {
		return "", badToken("the access token is too long")
	}
	return token, nil
}

// read takes everything out of the request, once, and refuses what the
// route does not know: a filter that is misspelt must not select everything.
func (c *Call) read(rt *Route, r *http.Request) error {
	var err error
	if c.Query, err = httpx.ReadQuery(r); err != nil {
		return err
	}
	for name := range r.URL.Query() {
		if !slices.ContainsFunc(rt.Query, func(p Parameter) bool { return p.Name == name }) {
			return Invalid("there is no parameter %q here", Clip(name))
		}
	}
	if c.ID = r.PathValue("id"); rt.hasID() && !Printable(c.ID, MaxID) {
		return NotFound("there is nothing with this id")
	}
	if c.Page, err = page(c.Query); err != nil {
		return err
	}
	if rt.In == nil {
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return Invalid("the request body must be application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return Invalid("the request body must not be compressed")
	}
	c.body, err = httpx.ReadBody(r)
	return err
}

// page reads limit and after. The cursor is base64url of the last id: opaque,
// so that nobody builds one, and bounded like any id.
func page(q httpx.Params) (authority.Page, error) {
	p := authority.Page{Limit: defaultPage}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > admin.MaxPage {
			return p, Invalid("limit must be from 1 to %d", admin.MaxPage)
		}
		p.Limit = n
	}
	if s := q.Get("after"); s != "" {
		id, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil || !Printable(string(id), MaxID+1) {
			return p, Invalid("after must be the next of the page before")
		}
		p.After = string(id)
	}
	return p, nil
}

// Cursor is the opaque form of the last id of a page.
func Cursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// List pages through what the file declares and then through what the
// database holds. The cursor says in its first letter in which of the two the
// page before ended, so the two need not sort alike.
func List[T any](declared []T, id func(T) string, stored func(authority.Page) ([]T, error), p authority.Page) ([]T, string, error) {
	const inFile, inDatabase = "f", "d"
	items := []T{}
	after, database := strings.CutPrefix(p.After, inDatabase)
	if !database {
		last, isFile := strings.CutPrefix(p.After, inFile)
		if p.After != "" && !isFile {
			return nil, "", Invalid("after must be the next of the page before")
		}
		for _, item := range declared {
			if id(item) <= last && p.After != "" {
				continue
			}
			if len(items) == p.Limit {
				return items, Cursor(inFile + id(items[len(items)-1])), nil
			}
			items = append(items, item)
		}
		after = ""
		if len(items) == p.Limit {
			return items, Cursor(inDatabase), nil
		}
	}
	more, err := stored(authority.Page{After: after, Limit: p.Limit - len(items)})
	if err != nil {
		return nil, "", err
	}
	items = append(items, more...)
	if len(items) < p.Limit {
		return items, "", nil
	}
	return items, Cursor(inDatabase + id(items[len(items)-1])), nil
}

// Filter reads the parameters that a filter is made of.
func Filter[T any](c *Call) (T, error) {
	var filter T
	err := operation.Decode(c.Query.Get, &filter)
	if err != nil {
		return filter, Invalid("%v", err)
	}
	return filter, nil
}

// Decode reads the body into T: one JSON object, no member twice, none that T
// does not have, names exactly as written.
func Decode[T any](c *Call) (T, error) {
	var value T
	object, err := jose.ParseClaims(c.body)
	if err != nil {
		return value, Invalid("the request body is not one well-formed JSON object: %v", err)
	}
	known := members(reflect.TypeFor[T]())
	for _, name := range object.Names() {
		if !slices.ContainsFunc(known, func(m member) bool { return m.name == name }) {
			return value, Invalid("there is no member %q here", Clip(name))
		}
	}
	if err := json.Unmarshal(c.body, &value); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			return value, Invalid("member %q cannot be a %s", mismatch.Field, mismatch.Value)
		}
		return value, Invalid("the request body cannot be read").Because(err)
	}
	return value, nil
}

// Printable says whether s can be an id at all. A database refuses NUL, and a
// terminal obeys control characters.
func Printable(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// Clip bounds what is said back.
func Clip(s string) string {
	const limit = 64
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
