// RFC 6750 §2.1: the access token. RFC 8259: the body.
package admin

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
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

const (
	maxToken    = 16 << 10
	maxID       = 2048
	defaultPage = 100
	maxPage     = 1000
)

// bearer reads the token from the one place where it may stand.
func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	if len(values) == 0 {
		return "", errNoToken
	}
	if len(values) > 1 {
		return "", errToken("the Authorization header was sent twice")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errToken("the Authorization header must be: Bearer, a space, and the access token")
	}
	if len(token) > maxToken {
		return "", errToken("the access token is too long")
	}
	return token, nil
}

// read takes everything out of the request, once, and refuses what the
// route does not know: a filter that is misspelt must not select everything.
func (c *call) read(rt *route, r *http.Request) error {
	var err error
	if c.query, err = httpx.ReadQuery(r); err != nil {
		return err
	}
	for name := range r.URL.Query() {
		if !slices.ContainsFunc(rt.query, func(p parameter) bool { return p.name == name }) {
			return invalid("there is no parameter %q here", clip(name))
		}
	}
	if c.id = r.PathValue("id"); rt.hasID() && !printable(c.id, maxID) {
		return notFound("there is nothing with this id")
	}
	if c.page, err = page(c.query); err != nil {
		return err
	}
	if rt.in == nil {
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return invalid("the request body must be application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return invalid("the request body must not be compressed")
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
		if err != nil || n < 1 || n > maxPage {
			return p, invalid("limit must be from 1 to %d", maxPage)
		}
		p.Limit = n
	}
	if s := q.Get("after"); s != "" {
		id, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil || !printable(string(id), maxID+1) {
			return p, invalid("after must be the next of the page before")
		}
		p.After = string(id)
	}
	return p, nil
}

func cursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// Page is a part of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"The after of the next page; missing on the last one."`
}

// list pages through what the file declares and then through what the
// database holds. The cursor says in its first letter in which of the two the
// page before ended, so the two need not sort alike.
func list[T any](declared []T, id func(T) string, stored func(authority.Page) ([]T, error), p authority.Page) ([]T, string, error) {
	const inFile, inDatabase = "f", "d"
	items := []T{}
	after, database := strings.CutPrefix(p.After, inDatabase)
	if !database {
		last, isFile := strings.CutPrefix(p.After, inFile)
		if p.After != "" && !isFile {
			return nil, "", invalid("after must be the next of the page before")
		}
		for _, item := range declared {
			if id(item) <= last && p.After != "" {
				continue
			}
			if len(items) == p.Limit {
				return items, cursor(inFile + id(items[len(items)-1])), nil
			}
			items = append(items, item)
		}
		after = ""
		if len(items) == p.Limit {
			return items, cursor(inDatabase), nil
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
	return items, cursor(inDatabase + id(items[len(items)-1])), nil
}

// decode reads the body into T: one JSON object, no member twice, none that T
// does not have, names exactly as written.
func decode[T any](c *call) (T, error) {
	var value T
	object, err := jose.ParseClaims(c.body)
	if err != nil {
		return value, invalid("the request body is not one well-formed JSON object: %v", err)
	}
	known := members(reflect.TypeFor[T]())
	for _, name := range object.Names() {
		if !slices.ContainsFunc(known, func(m member) bool { return m.name == name }) {
			return value, invalid("there is no member %q here", clip(name))
		}
	}
	if err := json.Unmarshal(c.body, &value); err != nil {
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			return value, invalid("member %q cannot be a %s", mismatch.Field, mismatch.Value)
		}
		return value, invalid("the request body cannot be read").because(err)
	}
	return value, nil
}

// printable says whether s can be an id at all. A database refuses NUL, and a
// terminal obeys control characters.
func printable(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// clip bounds what is said back.
func clip(s string) string {
	const limit = 64
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// milliseconds is the precision of everything that is stored.
func (a *API) clock() time.Time { return a.Now().UTC().Truncate(time.Millisecond) }
