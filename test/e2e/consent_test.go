package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestConsentCanBeTakenBack: what the consent page says about lasting access is true. It
// survives the sign-out, the operator can end it, and then the person is asked again.
func TestConsentCanBeTakenBack(t *testing.T) {
	s := newHouse(t)
	asked := func(b *browser, r codeRequest) page {
		p := b.follow(b.get(s.authorizeURL(r.query)))
		if p.redirect() == nil && p.form.has("password") {
			p = b.follow(b.press(p, "sign-in", params("username", ada.Username, "password", ada.Password)))
		}
		return p
	}
	b, r := newBrowser(t), newCodeRequest(webApp)
	p := asked(b, r)
	if want := "Keep this access after you sign out, until it expires or you ask the operator of this service to end it"; !strings.Contains(string(p.Body), want) {
		t.Errorf("the consent page does not say %q:\n%s", want, p.Body)
	}
	v, auth := as(webApp, r.redeem(b.press(p, "allow", nil).redirect().Query().Get("code")))
	token := s.post(t, "/token", v, auth).str("refresh_token")

	b.press(b.get(s.Issuer+"/logout"), "sign-out", nil)
	first := s.refresh(t, webApp, token)
	checkTokenAnswer(t, first, "")
	if p := asked(newBrowser(t), newCodeRequest(webApp)); p.redirect() == nil {
		t.Errorf("the person is asked again while the consent holds: %s", p.reply)
	}

	out, problem, code := s.command(t, "grant", "list", "--user", ada.Username, "--active", "-o", "json")
	if code != 0 {
		t.Fatal(problem)
	}
	for _, grant := range regexp.MustCompile(`"grant_id": *"([^"]+)"`).FindAllStringSubmatch(out, -1) {
		if _, problem, code := s.command(t, "grant", "revoke", grant[1], "--yes"); code != 0 {
			t.Error(problem)
		}
	}
	checkTokenAnswer(t, s.refresh(t, webApp, first.str("refresh_token")), "invalid_grant")
	if p := asked(newBrowser(t), newCodeRequest(webApp)); p.redirect() != nil {
		t.Errorf("the person is not asked again after the consent was ended: %s", p.reply)
	}
}
