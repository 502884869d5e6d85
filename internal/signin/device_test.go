package signin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/browser/browsertest"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

const deviceName = "__Host-signalbox_device"

// knownBrowser has signed in, and is signed out again.
func (wo *world) knownBrowser(username, password string) *browsertest.Browser {
	wo.t.Helper()
	b := wo.browser()
	if got := b.SignIn(b.Get("/start"), username, password); !signedIn(got) {
		wo.t.Fatalf("%d %s", got.Code, got.Body)
	}
	delete(b.Cookies, sessionCookie)
	return b
}

// flood makes the address, and the account, wait as long as they can be made to.
func (wo *world) flood(address string) {
	wo.t.Helper()
	for i := range 200 {
		wo.attempts.begin(fmt.Sprint("user", i), address, wo.clock())
		wo.attempts.begin("ada", address, wo.clock())
		wo.attempts.begin("ada", fmt.Sprintf("10.0.0.%d", i), wo.clock())
	}
}

// isStranger says whether the browser is treated as one that ada never used.
func (wo *world) isStranger(b *browsertest.Browser) bool {
	wo.t.Helper()
	got := b.SignIn(b.Get("/start"), "ada", "lovelace")
	if !signedIn(got) && got.Code != http.StatusTooManyRequests {
		wo.t.Fatalf("%d %s", got.Code, got.Body)
	}
	return !signedIn(got)
}

// B 4: fifty failures behind an office's address, or a thousand at an account, do not delay
// a browser that the account has signed in with before.
func TestABrowserThatHasSignedInBefore(t *testing.T) {
	for row, tc := range map[string]struct {
		between  func(wo *world, b *browsertest.Browser)
		stranger bool
	}{
		"the same browser":   {func(*world, *browsertest.Browser) {}, false},
		"months later":       {func(wo *world, _ *browsertest.Browser) { wo.pass(179 * 24 * time.Hour) }, false},
		"half a year later":  {func(wo *world, _ *browsertest.Browser) { wo.pass(deviceTTL) }, true},
		"at another address": {func(wo *world, b *browsertest.Browser) { b.IP = "10.0.0.5" }, false},
		"another browser":    {func(_ *world, b *browsertest.Browser) { delete(b.Cookies, deviceName) }, true},
		"a cookie that was forged": {func(_ *world, b *browsertest.Browser) {
			b.Cookies[deviceName] = browsertest.Spoiled(b.Cookies[deviceName])
		}, true},
		"no cookie of ours": {func(_ *world, b *browsertest.Browser) { b.Cookies[deviceName] = "AAAA" }, true},
		"of another service": {func(wo *world, b *browsertest.Browser) {
			wo.Devices = seal.NewBox([32]byte{9}, "device")
		}, true},
		"sealed for another purpose": {func(wo *world, b *browsertest.Browser) {
			b.Cookies[deviceName] = b.Get("/start").Flow()
		}, true},
		"another person's browser": {func(wo *world, b *browsertest.Browser) {
			b.Cookies[deviceName] = wo.knownBrowser("bob", "builder").Cookies[deviceName]
		}, true},
		"the password was changed": {func(wo *world, _ *browsertest.Browser) {
			wo.changeUser("u-ada", func(u *authority.User) { u.PasswordHash = strings.Replace(phc("lovelace"), "MDEy", "MDEz", 1) })
		}, true},
		"the account was renamed, and this is who took the name": {func(wo *world, _ *browsertest.Browser) {
			wo.changeUser("u-ada", func(u *authority.User) { u.Username = "countess" })
			wo.declared.Users["u-new"] = authority.User{ID: "u-new", Username: "ada", PasswordHash: phc("lovelace")}
			wo.declare()
		}, true},
		"the epoch of the account has moved": {func(wo *world, _ *browsertest.Browser) {
			wo.mu.Lock()
			defer wo.mu.Unlock()
			wo.epochs["u-ada"] = wo.now
		}, true},
		"with another account's sign-in between": {func(wo *world, b *browsertest.Browser) {
			b.SignIn(b.Get("/start"), "bob", "builder")
		}, false},
	} {
		t.Run(row, func(t *testing.T) {
			wo := newWorld(t)
			b := wo.knownBrowser("ada", "lovelace")
			tc.between(wo, b)
			wo.flood(b.IP)
			if got := wo.isStranger(b); got != tc.stranger {
				t.Errorf("treated as a stranger: %v; want %v", got, tc.stranger)
			}
		})
	}
}

func TestAKnownBrowserCannotGuessWithoutEnd(t *testing.T) {
	wo := newWorld(t)
	b := wo.knownBrowser("ada", "lovelace")
	page := b.Get("/start")
	for i := range freeTries {
		if got := b.SignIn(page, "ada", "guess"); got.Code != http.StatusForbidden {
			t.Fatalf("guess %d: %d", i, got.Code)
		}
	}
	if got := b.SignIn(page, "ada", "lovelace"); got.Code != http.StatusTooManyRequests {
		t.Errorf("guess %d: %d", freeTries, got.Code)
	}
	if got := b.SignIn(page, "bob", "guess"); got.Code != http.StatusForbidden {
		t.Errorf("to another account it is a stranger, and has its attempts: %d", got.Code)
	}
}

// Signing in does not give a new lane: nobody gets five more attempts by knowing one password.
func TestTheLaneStays(t *testing.T) {
	wo := newWorld(t)
	b := wo.knownBrowser("ada", "lovelace")
	lane := func() string {
		r, _ := http.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: deviceName, Value: b.Cookies[deviceName]})
		d, ok := wo.known(r, "Ada ", wo.clock())
		if !ok {
			t.Fatal("not known")
		}
		return string(d.Lane)
	}
	first := lane()
	b.SignIn(b.Get("/start"), "ada", "lovelace")
	if lane() != first {
		t.Error("the lane has changed with a sign-in")
	}
	b.Cookies = wo.knownBrowser("ada", "lovelace").Cookies
	if lane() == first {
		t.Error("two browsers share a lane")
	}
}

func TestDeviceCookie(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	wrong := b.Post("/login", url.Values{"flow": {b.Get("/start").Flow()}, "username": {"ada"}, "password": {"x"}})
	if len(wrong.Set) != 0 {
		t.Errorf("a wrong password sets %v", wrong.Set)
	}
	got := b.Post("/login", url.Values{"flow": {b.Get("/start").Flow()}, "username": {"ada"}, "password": {"lovelace"}})
	if len(got.Set) != 2 {
		t.Fatalf("%v", got.Set)
	}
	c := got.Set[1]
	if c.Name != deviceName || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != int(deviceTTL/time.Second) {
		t.Errorf("%v", c)
	}
	if strings.Contains(c.Value, "ada") {
		t.Errorf("the cookie tells whose it is: %s", c.Value)
	}
	for i := range 10 {
		id := fmt.Sprint("u-", i)
		wo.declared.Users[id] = authority.User{ID: id, Username: "name" + strings.Repeat("x", 240) + fmt.Sprint(i), PasswordHash: phc("lovelace")}
	}
	wo.declare()
	for i := range 10 {
		b.SignIn(b.Get("/start"), "name"+strings.Repeat("x", 240)+fmt.Sprint(i), "lovelace")
	}
	if n := len(b.Cookies[deviceName]); n > 1500 {
		t.Errorf("after ten accounts the cookie has %d bytes", n)
	}
	r, _ := http.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: deviceName, Value: b.Cookies[deviceName]})
	if _, ok := wo.known(r, "ada", wo.clock()); ok || len(wo.devices(r, wo.clock())) != maxDevices {
		t.Error("the oldest account is still remembered")
	}
}

// B 5: whoever is refused pays for it, with time and not with our processors.
func TestARefusedCallerIsKeptWaiting(t *testing.T) {
	wo := newWorld(t)
	b := wo.browser()
	page := b.Get("/start")
	for range freeTries {
		b.SignIn(page, "ada", "guess")
	}
	if wo.holds != 0 {
		t.Errorf("a wrong password was held %d times", wo.holds)
	}
	b.SignIn(page, "ada", "guess")
	if wo.holds != 1 || wo.held.Load() != 0 {
		t.Errorf("a refused attempt was held %d times, %d are held", wo.holds, wo.held.Load())
	}
	for row, empty := range map[string][2]string{"a password without a name": {"", "guess"}, "a name without a password": {"bob", ""}, "a name that cannot be": {strings.Repeat("x", 300), "guess"}} {
		before := wo.holds
		if got := b.SignIn(page, empty[0], empty[1]); got.Code != http.StatusBadRequest || wo.holds != before+1 {
			t.Errorf("%s: %d, held %d times", row, got.Code, wo.holds-before)
		}
	}
	wo.holds = 1
	wo.held.Store(maxHeld)
	if got := b.SignIn(page, "ada", "guess"); got.Code != http.StatusTooManyRequests || wo.holds != 1 {
		t.Errorf("when many are held already: %d, held %d times", got.Code, wo.holds)
	}
}

func FuzzDeviceCookie(f *testing.F) {
	f.Add("AAAA", "ada")
	f.Add("", "")
	wo := newWorld(f)
	f.Fuzz(func(t *testing.T, value, name string) {
		r, _ := http.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", deviceName+"="+value)
		if _, ok := wo.known(r, name, wo.clock()); ok {
			t.Fatalf("%q is taken for a browser of %q", value, name)
		}
	})
}
