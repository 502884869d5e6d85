package browser

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

const issuerURL = "https://sts.example.com"

func testPages() *Pages {
	return &Pages{
		Settings: func() authority.Issuer { return authority.Issuer{URL: issuerURL} },
		State:    seal.NewBox([32]byte{1}, "page state"), Now: func() time.Time { return time.Unix(1e9, 0) },
	}
}

// The number on an error page leads to the request's line in the log, which says why.
func TestEveryErrorPageIsInTheLog(t *testing.T) {
	p := testPages()
	cause := errors.New("the disk is gone")
	nothing := func(http.ResponseWriter, *http.Request) { t.Error("the handler was reached") }
	for row, tc := range map[string]struct {
		serve       http.HandlerFunc
		method      string
		status      int
		code, cause string
		says        string
	}{
		"a refusal": {func(w http.ResponseWriter, r *http.Request) {
			p.Fail(w, r, oauth.Errorf(oauth.InvalidRequest, "client_id is missing").Because(cause))
		}, "GET", 400, "invalid_request", "the disk is gone", "client_id is missing"},
		"a fault of ours": {func(w http.ResponseWriter, r *http.Request) { p.Fail(w, r, cause) },
			"GET", 503, "temporarily_unavailable", "the disk is gone", "Wait a moment"},
		"a problem without a cause": {func(w http.ResponseWriter, r *http.Request) {
			p.Problem(w, r, Problem{Status: 400, Heading: "Neither allowed nor denied"})
		}, "GET", 400, "invalid_request", "Neither allowed nor denied", ""},
		"an address that leads nowhere": {p.NotFound, "GET", 404, "not_found", "no such page", "Check the address"},
		"a method that is not served":   {p.Serve(Route{Get: nothing}), "DELETE", 405, "method_not_allowed", "cannot be used", "start again"},
		"a form of another site":        {p.Guard(nothing), "POST", 403, "invalid_request", "cross-origin", "another site"},
		"a form without its state": {func(w http.ResponseWriter, r *http.Request) {
			if p.Open(w, r, mustForm(t, r), "consent", new(struct{})) {
				t.Error("opened")
			}
		}, "POST", 400, "invalid_request", "sealed", "out of date"},
	} {
		b := browsertest.New(t, issuerURL, tc.serve)
		got := b.Do(tc.method, "/", nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
		body := got.Body.String()
		if got.Code != tc.status || !strings.Contains(body, "req-1") || !strings.Contains(body, tc.says) || strings.Contains(body, "disk") {
			t.Errorf("%s: %d %s", row, got.Code, body)
		}
		if got.Log.Error != tc.code || got.Log.Cause == nil || !strings.Contains(got.Log.Cause.Error(), tc.cause) {
			t.Errorf("%s: the log has %+v", row, got.Log)
		}
	}
}

// What a page seals is good for the same step, in the same browser, for ten minutes.
func TestSealedState(t *testing.T) {
	type content struct{ Query string }
	for row, tc := range map[string]struct {
		step  string
		spoil func(p *Pages, b *browsertest.Browser)
		want  bool
	}{
		"as it was":    {"consent", func(*Pages, *browsertest.Browser) {}, true},
		"another step": {"sign-in", func(*Pages, *browsertest.Browser) {}, false},
		"no cookie":    {"consent", func(_ *Pages, b *browsertest.Browser) { clear(b.Cookies) }, false},
		"another browser's cookie": {"consent", func(_ *Pages, b *browsertest.Browser) {
			b.Cookies["__Host-signalbox_browser"] = strings.Repeat("A", 43)
		}, false},
		"after ten minutes":      {"consent", func(p *Pages, _ *browsertest.Browser) { p.Now = func() time.Time { return time.Unix(1e9+600, 0) } }, false},
		"another key":            {"consent", func(p *Pages, _ *browsertest.Browser) { p.State = seal.NewBox([32]byte{2}, "page state") }, false},
		"sealed for another use": {"consent", func(p *Pages, _ *browsertest.Browser) { p.State = seal.NewBox([32]byte{1}, "access token") }, false},
	} {
		p := testPages()
		var flow string
		b := browsertest.New(t, issuerURL, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				var err error
				if flow, err = p.Seal(w, r, "consent", content{"a=b"}); err != nil {
					t.Error(err)
				}
				return
			}
			var got content
			if opened := p.Open(w, r, mustForm(t, r), tc.step, &got); opened != tc.want || opened && got.Query != "a=b" {
				t.Errorf("%s: opened %v: %+v", row, opened, got)
			}
		}))
		b.Get("/")
		tc.spoil(p, b)
		b.Post("/", map[string][]string{"flow": {flow}})
	}
}

func mustForm(t *testing.T, r *http.Request) httpx.Params {
	t.Helper()
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return httpx.Params{}
	}
	form, err := httpx.ReadForm(r)
	if err != nil {
		t.Fatal(err)
	}
	return form
}
