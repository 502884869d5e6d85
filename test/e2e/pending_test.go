package e2e

import (
	"sync"
	"testing"
)

// K116: whoever is signed in and has consented gets a code for every GET /authorize, and
// leaves one row: the newest code is the one that counts.
func TestAuthorizeLeavesOnePendingRow(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		b := newBrowser(t)
		first := newCodeRequest(webTwo)
		code := b.authorize(w.authorizeURL(first.query), ada, "allow").Get("code")
		checkTokenAnswer(t, w.post(t, "/token", first.redeem(code), basic(webTwo)), "")
		before := w.number(t, "SELECT count(*) FROM grants")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					p := b.get(w.authorizeURL(newCodeRequest(webTwo).query))
					if to := p.redirect(); to == nil || to.Query().Get("code") == "" {
						t.Errorf("no code: %s", p.reply)
						return
					}
				}
			})
		}
		wg.Wait()
		old := newCodeRequest(webTwo)
		oldCode := b.authorize(w.authorizeURL(old.query), ada, "allow").Get("code")
		last := newCodeRequest(webTwo)
		lastCode := b.authorize(w.authorizeURL(last.query), ada, "allow").Get("code")
		if n := w.number(t, "SELECT count(*) FROM grants") - before; n != 1 {
			t.Errorf("202 authorization requests left %d rows", n)
		}
		checkTokenAnswer(t, w.post(t, "/token", old.redeem(oldCode), basic(webTwo)), "invalid_grant")
		checkTokenAnswer(t, w.post(t, "/token", last.redeem(lastCode), basic(webTwo)), "")
	})
}
