package authorize_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
)

// posted reads a page that sends the browser on with a form: where to, with
// which fields, and the script that presses the button.
func posted(t *testing.T, page browsertest.Page) (action string, fields map[string]string, script string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	fields = map[string]string{}
	for n := range root.Descendants() {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		switch n.Data {
		case "form":
			action = at["action"]
			if at["method"] != "post" {
				t.Errorf("the form's method is %q", at["method"])
			}
		case "input":
			fields[at["name"]] = at["value"]
		case "script":
			script = n.FirstChild.Data
		}
	}
	return action, fields, script
}

// OAuth 2.0 Form Post Response Mode §2: success and errors travel in a form.
func TestAnAnswerTravelsInAForm(t *testing.T) {
	wo := newWorld(t)
	b := wo.signedIn()
	state := `a"b<c>&d=é`
	for _, row := range []struct {
		name, is string
		page     browsertest.Page
	}{
		{"a code", "code", b.allow(b.Get(asked("response_mode", "form_post", "state", state)))},
		{"a refusal", "access_denied", b.decide(b.Get(asked("response_mode", "form_post", "state", state, "prompt", "consent")), "deny")},
		{"a mistake", "invalid_scope", b.Get(asked("response_mode", "form_post", "state", state, "scope", "openid admin"))},
		{"nobody signed in", "login_required", wo.browser().Get(asked("response_mode", "form_post", "state", state, "prompt", "none"))},
	} {
		t.Run(row.name, func(t *testing.T) {
			action, fields, script := posted(t, row.page)
			if row.page.Code != http.StatusOK || action != callback || row.page.Header().Get("Location") != "" {
				t.Fatalf("%d to %q %s", row.page.Code, action, row.page.Body)
			}
			if fields["state"] != state || fields["iss"] != issuerURL {
				t.Errorf("the form holds %q", fields)
			}
			if row.is == "code" {
				if fields["code"] == "" || fields["error"] != "" {
					t.Errorf("the form holds %q", fields)
				}
			} else if fields["error"] != row.is || fields["error_description"] == "" || fields["code"] != "" {
				t.Errorf("the form holds %q", fields)
			}
			sum := sha256.Sum256([]byte(script))
			policy := row.page.Header().Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || !strings.HasSuffix(policy, "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
				t.Errorf("the policy is %q for the script %q", policy, script)
			}
		})
	}
}

// No form reaches an app, and an answer that cannot travel in a form says so.
func TestAnAppGetsNoForm(t *testing.T) {
	wo := newWorld(t)
	got := wo.browser().Get(asked("client_id", "cli", "redirect_uri", "com.example.cli:/cb", "response_mode", "form_post"))
	if got.Code != http.StatusSeeOther || got.Back().Get("error") != "invalid_request" || !strings.HasPrefix(got.Header().Get("Location"), "com.example.cli:/cb?") {
		t.Errorf("%d %q %s", got.Code, got.Header().Get("Location"), got.Body)
	}
}
