package browser

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// flowTTL is how long a page may stay open.
const flowTTL = 10 * time.Minute

// flow is what a page's form carries, sealed, in its field "flow". It is good
// for one step in one browser. What is in it was true when the page was shown:
// whoever opens it checks again what may have changed since.
type flow struct {
	Step    string          `json:"step"`
	Browser []byte          `json:"browser"` // SHA-256 of the browser cookie's value
	State   json.RawMessage `json:"state"`
}

// Seal makes the field "flow" of a page that is shown in this browser.
func (p *Pages) Seal(w http.ResponseWriter, r *http.Request, step string, state any) (string, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	hash := p.ensureBrowser(w, r)
	payload, err := json.Marshal(flow{step, hash[:], text})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(p.State.Seal(payload, p.Now().Add(flowTTL))), nil
}

// Open reads what Seal wrote for the same step in the same browser. If it is
// not good it has shown the page that says so.
func (p *Pages) Open(w http.ResponseWriter, r *http.Request, form httpx.Params, step string, state any) bool {
	f, err := p.open(form.Get("flow"))
	if err == nil && f.Step != step {
		err = errors.New("the form is of another step: " + f.Step)
	}
	if err == nil {
		err = json.Unmarshal(f.State, state)
	}
	if err != nil {
		p.Problem(w, r, Problem{
			Status: http.StatusBadRequest, Cause: err, Heading: "This page is out of date",
			Text: "It was open for too long, or it has been used before. Go back to the application and start again.",
		})
		return false
	}
	browser, known := p.readCookie(r, browserCookie)
	if !known || subtle.ConstantTimeCompare(browser[:], f.Browser) != 1 {
		p.Problem(w, r, Problem{
			Status: http.StatusBadRequest, Heading: "This page belongs to another browser",
			Text: "It was opened in another browser, or this one does not keep cookies for this site. Allow cookies, go back to the application and start again.",
		})
		return false
	}
	return true
}

func (p *Pages) open(field string) (f flow, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(field)
	if err != nil {
		return flow{}, err
	}
	payload, err := p.State.Open(sealed, p.Now())
	if err != nil {
		return flow{}, err
	}
	return f, json.Unmarshal(payload, &f)
}
