package token_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var goodForm = form("grant_type", "client_credentials", "scope", "read")

func authorization(values ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Authorization")
		for _, v := range values {
			r.Header.Add("Authorization", v)
		}
	}
}

func basic(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength, r.PostForm, r.Form = http.NoBody, 0, nil, nil
	if body != "" {
		r.Body, r.ContentLength = readCloser{strings.NewReader(body)}, int64(len(body))
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestAPublicClientMayNotActForItself(t *testing.T) { // 36
	w := newWorld(t)
	if r := w.token("", with(goodForm, "client_id", "spa")); r.text("error") != string(oauth.UnauthorizedClient) {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

func TestEveryEndpointSlowsGuessingDown(t *testing.T) { // 33, 39
	for _, path := range []string{tokenPath, introspectPath, revokePath} {
		t.Run(path, func(t *testing.T) {
			w := newWorld(t)
			var last reply
			for range 100 {
				last = w.post(path, "", url.Values{"token": {"x"}}, authorization(basic("service:guess")))
			}
			if last.status != 429 || last.header.Get("Retry-After") == "" {
				t.Fatalf("the hundredth guess: %d %v", last.status, last.body)
			}
		})
	}
}
