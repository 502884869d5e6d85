package authorize

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// flowTTL is how long a page may stay open.
const flowTTL = 10 * time.Minute

// flow is what a page's form carries, sealed: the request that it answers, as
// the client sent it, and what the page was shown for. It is good for one step
// in one browser. The request in it is checked again when the form comes back:
// the client may have changed since.
type flow struct {
	Step    step   `json:"step"`
	Browser []byte `json:"browser"` // SHA-256 of the browser cookie's value
	Query   string `json:"query,omitempty"`
	Session string `json:"session,omitempty"` // whom the page was shown to
	Grant   string `json:"grant,omitempty"`   // id of the grant to be: the same form cannot make two
	Outcome []byte `json:"outcome,omitempty"` // hash of what the page says would be given
}

type step string

const (
	stepSignIn  step = "sign-in"
	stepConsent step = "consent"
	stepSignOut step = "sign-out"
)

func (h *Handler) seal(f flow, now time.Time) (string, error) {
	payload, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(h.State.Seal(payload, now.Add(flowTTL))), nil
}

// open reads the form's flow. If it is not good it has shown the page that
// says so.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, form httpx.Params, want step, now time.Time) (flow, bool) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(form.Get("flow"))
	var payload []byte
	if err == nil {
		payload, err = h.State.Open(sealed, now)
	}
	var f flow
	if err == nil {
		err = json.Unmarshal(payload, &f)
	}
	if err != nil || f.Step != want {
		h.problem(w, r, http.StatusBadRequest, "This page is out of date", "It was open for too long, or it has been used before. Go back to the application and start again.", err)
		return flow{}, false
	}
	browser, known := h.browser(r)
	if !known || subtle.ConstantTimeCompare(browser, f.Browser) != 1 {
		h.problem(w, r, http.StatusBadRequest, "This page belongs to another browser", "It was opened in another browser, or this one does not keep cookies for this site. Allow cookies, go back to the application and start again.", nil)
		return flow{}, false
	}
	return f, true
}

// The browser cookie binds a flow to the browser that began it, so that nobody
// can make a person finish a flow that another has begun (login CSRF). It is
// not a session and says nothing about anybody.
func (h *Handler) browser(r *http.Request) (hash []byte, known bool) {
	sum, known := readCookie(r, h.cookieName("browser"))
	return sum[:], known
}

// ensureBrowser returns the hash of the browser's cookie and sets a new one if
// there is none. One that is there stays: it may be bound to other tabs.
func (h *Handler) ensureBrowser(w http.ResponseWriter, r *http.Request) []byte {
	if hash, known := h.browser(r); known {
		return hash
	}
	cookie, hash := h.newCookie("browser")
	http.SetCookie(w, cookie)
	return hash[:]
}

func (h *Handler) cookieName(purpose string) string {
	if h.Insecure {
		return "signalbox_" + purpose
	}
	return "__Host-signalbox_" + purpose
}

const cookieBytes = 32

// newCookie makes a cookie of 256 random bits, and the hash of its value. It
// has no expiry: it goes with the browser's own session, and what it stands
// for ends on the server.
func (h *Handler) newCookie(purpose string) (*http.Cookie, [32]byte) {
	value := make([]byte, cookieBytes)
	_, _ = rand.Read(value) // never fails
	c := h.cookie(purpose)
	c.Value = base64.RawURLEncoding.EncodeToString(value)
	return c, sha256.Sum256([]byte(c.Value))
}

func (h *Handler) dropCookie(w http.ResponseWriter, purpose string) {
	c := h.cookie(purpose)
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// cookie is Lax, not Strict: the browser must send it when a client's page
// leads to /authorize. No POST from another site carries it.
func (h *Handler) cookie(purpose string) *http.Cookie {
	return &http.Cookie{Name: h.cookieName(purpose), Path: "/", Secure: !h.Insecure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func readCookie(r *http.Request, name string) (hash [32]byte, ok bool) {
	c, err := r.Cookie(name)
	if err != nil || len(c.Value) != base64.RawURLEncoding.EncodedLen(cookieBytes) {
		return hash, false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(c.Value); err != nil {
		return hash, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}
