package signin

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	deviceCookie = "device"
	deviceTTL    = 180 * 24 * time.Hour
	// maxDevices bounds the accounts that one browser is remembered for.
	maxDevices = 4
)

// device is what a browser keeps, sealed, of an account that has signed in with
// it. It proves nothing about who sits there and saves nobody a step: all that
// it gives is a lane of its own for the next sign-in to that account.
type device struct {
	Lane     []byte    `json:"lane"` // random: the browser and the account
	UserID   string    `json:"user"`
	Name     []byte    `json:"name"`     // hash of the username, to know it before anything is looked up
	Password []byte    `json:"password"` // hash of the stored hash: with a new password it is over
	Since    time.Time `json:"since"`    // of an epoch after this it is over too
}

// known finds what the browser keeps of an account, if that is still true.
func (h *Handler) known(r *http.Request, username string, now time.Time) (device, bool) {
	name := nameHash(username)
	for _, d := range h.devices(r, now) {
		if !bytes.Equal(d.Name, name) {
			continue
		}
		user, err := h.Directory.User(r.Context(), d.UserID)
		if err != nil || user.Disabled || !bytes.Equal(nameHash(user.Username), name) ||
			!bytes.Equal(passwordMark(user), d.Password) || !h.Epoch("", d.UserID).Before(d.Since) {
			return device{}, false
		}
		return d, true
	}
	return device{}, false
}

// devices opens the browser's cookie; whatever is wrong with it, there are none.
func (h *Handler) devices(r *http.Request, now time.Time) (list []device) {
	cookie, err := r.Cookie(h.Pages.CookieName(deviceCookie))
	if err != nil {
		return nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Value)
	if err != nil {
		return nil
	}
	payload, err := h.Devices.Open(sealed, now)
	if err != nil || json.Unmarshal(payload, &list) != nil {
		return nil
	}
	return list
}

// remember gives the browser a cookie by which the account's next sign-in with
// it is told from a stranger's.
func (h *Handler) remember(w http.ResponseWriter, r *http.Request, user authority.User, now time.Time) {
	d := device{UserID: user.ID, Name: nameHash(user.Username), Password: passwordMark(user), Since: now}
	if before, ok := h.known(r, user.Username, now); ok {
		d.Lane = before.Lane
	} else {
		d.Lane = make([]byte, 16)
		_, _ = rand.Read(d.Lane) // never fails
	}
	others := slices.DeleteFunc(h.devices(r, now), func(o device) bool { return o.UserID == user.ID })
	list := append([]device{d}, others...)
	payload, err := json.Marshal(list[:min(len(list), maxDevices)])
	if err != nil {
		return // then it is a stranger's next time
	}
	cookie := h.Pages.Cookie(deviceCookie)
	cookie.MaxAge = int(deviceTTL / time.Second)
	cookie.Value = base64.RawURLEncoding.EncodeToString(h.Devices.Seal(payload, now.Add(deviceTTL)))
	http.SetCookie(w, cookie)
}

func nameHash(username string) []byte {
	k := key("name", canonical(username))
	return k[:]
}

func passwordMark(user authority.User) []byte {
	sum := sha256.Sum256([]byte(user.PasswordHash))
	return sum[:16]
}
