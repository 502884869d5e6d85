package browser

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

const cookieBytes = 32

// CookieName is the full name of one of our cookies. __Host- keeps other hosts
// of the same domain, and plain http, from setting it (RFC 6265bis §4.1.3.2).
func (p *Pages) CookieName(purpose string) string {
	if p.Insecure {
		return "signalbox_" + purpose
	}
	return "__Host-signalbox_" + purpose
}

// Cookie is an empty cookie of ours. It is Lax, not Strict: the browser must
// send it when a client's page leads to /authorize. No POST from another site
// carries it. Without an expiry it goes with the browser's own session.
func (p *Pages) Cookie(purpose string) *http.Cookie {
	return &http.Cookie{Name: p.CookieName(purpose), Path: "/", Secure: !p.Insecure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// newCookie makes a cookie of 256 random bits, and the hash of its value. What
// it means ends on the server.
func (p *Pages) newCookie(purpose string) (*http.Cookie, [32]byte) {
	value := make([]byte, cookieBytes)
	_, _ = rand.Read(value) // never fails
	c := p.Cookie(purpose)
	c.Value = base64.RawURLEncoding.EncodeToString(value)
	return c, sha256.Sum256([]byte(c.Value))
}

func (p *Pages) dropCookie(w http.ResponseWriter, purpose string) {
	c := p.Cookie(purpose)
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// readCookie returns the hash of a cookie that newCookie made.
func (p *Pages) readCookie(r *http.Request, purpose string) (hash [32]byte, ok bool) {
	c, err := r.Cookie(p.CookieName(purpose))
	if err != nil || len(c.Value) != base64.RawURLEncoding.EncodedLen(cookieBytes) {
		return hash, false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(c.Value); err != nil {
		return hash, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}

// The browser cookie binds a form to the browser that it was shown in, so that
// nobody can make a person finish what another has begun (login CSRF). It is
// not a session and says nothing about anybody.
const browserCookie = "browser"

// ensureBrowser returns the hash of the browser's cookie and sets a new one if
// there is none. One that is there stays: it may be bound to other tabs.
func (p *Pages) ensureBrowser(w http.ResponseWriter, r *http.Request) [32]byte {
	if hash, known := p.readCookie(r, browserCookie); known {
		return hash
	}
	cookie, hash := p.newCookie(browserCookie)
	http.SetCookie(w, cookie)
	return hash
}
