package signin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// twoSteps adds a sign-in of two steps: a name that is believed, and a code.
func (wo *world) twoSteps(t *testing.T) {
	page := func(flow string, st state, again problem, requestID string) ui.View {
		return ui.SignIn{Flow: flow, Problem: again.text, RequestID: requestID}
	}
	steps["test name"] = step{page, func(_ *Handler, _ *http.Request, st state, form httpx.Params, now time.Time) (state, error) {
		st.UserID, st.Since, st.AMR, st.Step = form.Get("username"), now, []string{"pwd"}, "test code"
		return st, nil
	}}
	steps["test code"] = step{page, func(_ *Handler, _ *http.Request, st state, form httpx.Params, _ time.Time) (state, error) {
		if form.Get("otp") != "right" {
			st.UserID = "u-bob" // what a step that fails returns is not kept
			return st, &problem{status: http.StatusForbidden, text: "wrong", reason: "wrong code", userID: st.UserID}
		}
		st.AMR, st.Step = append(slices.Clone(st.AMR), "otp"), done
		return st, nil
	}}
	t.Cleanup(func() {
		delete(steps, "test name")
		delete(steps, "test code")
	})
	wo.mux.HandleFunc("/two", wo.Pages.Serve(browser.Route{Path: "/two", Get: func(w http.ResponseWriter, r *http.Request) {
		wo.show(w, r, state{Request: wo.asks, Step: "test name"}, nil)
	}}))
}

func answer(b *browsertest.Browser, page browsertest.Page, field, value string) browsertest.Page {
	return b.Post("/login", url.Values{"flow": {page.Flow()}, field: {value}})
}

func TestASignInOfTwoSteps(t *testing.T) {
	wo := newWorld(t)
	wo.twoSteps(t)
	b := wo.browser()
	second := answer(b, b.Get("/two"), "username", "u-ada")
	if second.Code != http.StatusOK || second.Is() != "sign-in" || wo.starts != 0 {
		t.Fatalf("after the first step: %d %s, %d sessions", second.Code, second.Is(), wo.starts)
	}
	wrong := answer(b, second, "otp", "wrong")
	if wrong.Code != http.StatusForbidden || wo.starts != 0 || len(wo.tally) != 1 || wo.tally[0].Reason != "wrong code" {
		t.Fatalf("a wrong code: %d, the journal has %+v", wrong.Code, wo.tally)
	}
	wo.pass(time.Minute)
	got := answer(b, wrong, "otp", "right")
	if got.Code != http.StatusSeeOther {
		t.Fatalf("the right code: %d", got.Code)
	}
	if page := b.Get(got.Location()); !strings.HasPrefix(page.Body.String(), "ada ") {
		t.Errorf("signed in as %s", page.Body)
	}
	if again := answer(b, b.Get("/two"), "otp", "right"); again.Code != http.StatusOK || wo.starts != 1 {
		t.Errorf("J 106: the answer to the second step, to the first: %d", again.Code)
	}
}

func TestAnAccountThatChangesBetweenTwoSteps(t *testing.T) {
	for row, change := range map[string]func(*world){
		"disabled": func(wo *world) { wo.changeUser("u-ada", func(u *authority.User) { u.Disabled = true }) },
		"deleted":  func(wo *world) { wo.changeUser("u-ada", nil) },
		"its epoch has moved": func(wo *world) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.epochs["u-ada"] = wo.now
		},
	} {
		wo := newWorld(t)
		wo.twoSteps(t)
		b := wo.browser()
		second := answer(b, b.Get("/two"), "username", "u-ada")
		change(wo)
		wo.pass(time.Second)
		if got := answer(b, second, "otp", "right"); got.Is() != "sign-in" || got.Attribute("password", "name") == "" || wo.starts != 0 {
			t.Errorf("%s: %d %s", row, got.Code, got.Is())
		}
	}
}

func TestAStepThatThisNodeDoesNotKnow(t *testing.T) {
	wo := newWorld(t)
	wo.twoSteps(t)
	b := wo.browser()
	page := b.Get("/two")
	delete(steps, "test name")
	if got := answer(b, page, "username", "u-ada"); got.Code != http.StatusOK || got.Is() != "sign-in" || wo.starts != 0 {
		t.Errorf("%d %s", got.Code, got.Is())
	}
}
