package contexts

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Tokens keeps the access token that a context's client got last, so that not
// every command asks for another: one file of mode 0600 for each context, in a
// user's cache folder. Whoever loses one asks again.
type Tokens struct{ Dir string }

// kept is what a file holds. A token is only for the service and the client that
// it was got from: a context may have changed since.
type kept struct {
	Issuer      string    `json:"issuer"`
	ClientID    string    `json:"client_id"`
	AccessToken string    `json:"access_token"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// usable is how long a token must still live to be worth a request.
const usable = 10 * time.Second

// maxToken bounds a file before it is parsed.
const maxToken = 64 << 10

func (t Tokens) path(c Context) string { return filepath.Join(t.Dir, c.Name+".json") }

// Get returns the token that was kept for this context, if it is still good for
// a moment. What cannot be read is as good as none.
func (t Tokens) Get(c Context, now time.Time) (token string, expires time.Time, ok bool) {
	f, err := os.Open(t.path(c))
	if err != nil {
		return "", time.Time{}, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", time.Time{}, false
	}
	var k kept
	if json.Unmarshal(data, &k) != nil || k.AccessToken == "" || k.Issuer != c.Issuer || k.ClientID != c.ClientID || k.ExpiresAt.Sub(now) < usable {
		return "", time.Time{}, false
	}
	return k.AccessToken, k.ExpiresAt, true
}

// Put keeps a token until it expires.
func (t Tokens) Put(c Context, token string, expires time.Time) error {
	data, err := json.Marshal(kept{c.Issuer, c.ClientID, token, expires.UTC()})
	if err != nil {
		return err
	}
	return writeFile(t.path(c), append(data, '\n'))
}

// Forget removes what was kept for this context.
func (t Tokens) Forget(c Context) error {
	if err := os.Remove(t.path(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
