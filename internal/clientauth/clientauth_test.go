package clientauth

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

func basic(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

// FuzzBasic: what is accepted is exactly what form-urlencoding and base64 of
// an id and a secret give, and no value has a second base64 spelling.
func FuzzBasic(f *testing.F) {
	f.Add(basic("service:secret"))
	f.Add(basic("a%3Ab:c%2Bd"))
	f.Add("Basic ")
	f.Add("basic ====")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, err := parseBasic(header)
		if err != nil {
			if id != "" && secret != "" {
				t.Fatalf("%q: refused, and yet %q %q", header, id, secret)
			}
			return
		}
		_, encoded, _ := strings.Cut(header, " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != encoded {
			t.Fatalf("%q is not the one spelling of its base64", header)
		}
		again := basic(url.QueryEscape(id) + ":" + url.QueryEscape(secret))
		id2, secret2, err := parseBasic(again)
		if len(again) < 4096 && (err != nil || id2 != id || secret2 != secret) {
			t.Fatalf("%q gives %q %q, then %q %q %v", header, id, secret, id2, secret2, err)
		}
	})
}
