// Package httpx is what every endpoint does with HTTP: read the parameters
// once, write JSON, write an error. It knows the words of the protocol and
// nothing of the domain.
package httpx

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	// MaxForm is the longest form that is read.
	MaxForm = 64 << 10
	// formTime is how long a caller may take to send one (docs/security/threats.md
	// K 112): what is in it was good when the request began, and may end meanwhile.
	formTime = 5 * time.Second
	// maxParams bounds the parameters of one request.
	maxParams = 64
	// maxValue bounds one parameter. Longer ones are refused, never cut.
	maxValue = 32 << 10
)

// Params are the parameters of one request, read once. A parameter that was
// sent without a value counts as not sent (RFC 6749 §3.1); one that was sent
// twice is refused (§3.1, §3.2), but for `resource` (RFC 8707 §2).
type Params struct{ pairs []pair }

type pair struct{ name, value string }

// Get returns the value of a parameter, empty if it was not sent.
func (p Params) Get(name string) string {
	for _, kv := range p.pairs {
		if kv.name == name {
			return kv.value
		}
	}
	return ""
}

// All returns every value of a parameter that may be repeated.
func (p Params) All(name string) []string {
	var values []string
	for _, kv := range p.pairs {
		if kv.name == name {
			values = append(values, kv.value)
		}
	}
	return values
}

// Has says whether a parameter was sent with a value.
func (p Params) Has(name string) bool { return p.Get(name) != "" }

// ReadJSON reads a body of JSON that is no longer than a form.
func ReadJSON(r *http.Request) ([]byte, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return nil, oauth.Errorf(oauth.InvalidRequest, "the request body must be application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, errCompressed
	}
	return readWithin(formTime, r, MaxForm, errFormTooLarge)
}

var errCompressed = oauth.Errorf(oauth.InvalidRequest, "the request body must not be compressed")

// ReadForm reads the body of a POST. Parameters in the URL are refused: they
// end up in logs and histories (RFC 6749 §2.3.1, §3.2).
func ReadForm(r *http.Request) (Params, error) {
	if r.URL.RawQuery != "" {
		return Params{}, oauth.Errorf(oauth.InvalidRequest, "parameters belong in the request body, not in the URL")
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return Params{}, oauth.Errorf(oauth.InvalidRequest, "the request body must be application/x-www-form-urlencoded")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return Params{}, errCompressed
	}
	body, err := readWithin(formTime, r, MaxForm, errFormTooLarge)
	if err != nil {
		return Params{}, err
	}
	return parse(string(body))
}

// ReadQuery reads the parameters of a GET.
func ReadQuery(r *http.Request) (Params, error) { return parse(r.URL.RawQuery) }

func parse(encoded string) (Params, error) {
	if len(encoded) > MaxForm {
		return Params{}, errFormTooLarge
	}
	if encoded == "" {
		return Params{}, nil
	}
	if strings.Count(encoded, "&") >= maxParams {
		return Params{}, oauth.Errorf(oauth.InvalidRequest, "the request has more than %d parameters", maxParams)
	}
	pairs := make([]pair, 0, 8)
	for part := range strings.SplitSeq(encoded, "&") {
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return Params{}, oauth.Errorf(oauth.InvalidRequest, "a parameter is not form-urlencoded")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return Params{}, oauth.Errorf(oauth.InvalidRequest, "a parameter is not form-urlencoded")
		}
		if value == "" || name == "" {
			continue
		}
		if len(value) > maxValue {
			return Params{}, oauth.Errorf(oauth.InvalidRequest, "a parameter is longer than %d bytes", maxValue)
		}
		if strings.ContainsAny(value, "\x00\r\n") || strings.ContainsAny(name, "\x00\r\n") {
			return Params{}, oauth.Errorf(oauth.InvalidRequest, "a parameter has a NUL or a line break in it")
		}
		if name != "resource" && has(pairs, name) {
			return Params{}, oauth.Errorf(oauth.InvalidRequest, "a parameter was sent twice")
		}
		pairs = append(pairs, pair{name, value})
	}
	return Params{pairs}, nil
}

func has(pairs []pair, name string) bool {
	for _, kv := range pairs {
		if kv.name == name {
			return true
		}
	}
	return false
}
