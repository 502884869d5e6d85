// Package tokencache keeps short-lived tokens for the processes of one user. Of
// those that need one token at the same time one asks the service, and the others
// take what it got. Whoever loses the cache asks again.
package tokencache

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/userdir"
)

// ErrRefused is matched by an error of Want.Ask if the service has decided: what
// it gave before is not used any longer either. Any other error says that the
// service could not be asked.
var ErrRefused = errors.New("the service refused")

// Token is a token, and its life by this machine's clock.
type Token struct {
	Value    string
	Obtained time.Time // before it was asked for
	Expires  time.Time
}

func (t Token) String() string { return "[redacted]" }

// GoString keeps %#v from printing it.
func (t Token) GoString() string { return t.String() }

// renewAt is when the token is renewed: a third of its life is left for a service
// that is away.
func (t Token) renewAt() time.Time {
	return t.Obtained.Add(t.Expires.Sub(t.Obtained) * 2 / 3)
}

// AskAgain is from when on nobody should begin to use the token: a little before
// it expires, for a request under way and a clock that is slow.
func (t Token) AskAgain() time.Time {
	return t.Expires.Add(-min(t.Expires.Sub(t.Obtained)/10, 30*time.Second))
}

// Want is a token that somebody needs.
type Want struct {
	// What the token is for and whose it is, in full: a token is only given to who
	// names all of it alike.
	Issuer, Target, Subject string
	// Ask gets the token from the service.
	Ask func(context.Context) (Token, error)
}

// key is the name of the files for this token. Lengths keep the parts apart.
func (w Want) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %s %d %s", len(w.Issuer), w.Issuer, len(w.Target), w.Target, len(w.Subject), w.Subject))
	return hex.EncodeToString(sum[:])
}

const (
	// lockWait is longer than one process takes to ask a service that answers.
	lockWait = 30 * time.Second
	// renewLimit bounds the attempt to renew a token that is still good.
	renewLimit = 5 * time.Second
	// maxLife bounds what a file may say, far above what any service gives.
	maxLife = 24 * time.Hour
	// maxEntry bounds a file before it is parsed.
	maxEntry = 128 << 10
)

// Cache is a folder of tokens, one file of mode 0600 for each. It is made with
// mode 0700. One that others can change is not used: they could put a token of
// theirs into it.
type Cache struct {
	Dir string
	Now func() time.Time
	// Warn hears what did not fail but should be known: why a token is not kept, or
	// that an older one is used.
	Warn func(error)

	wait time.Duration // zero: lockWait
}

// Get returns a token of which less than two thirds of the life have passed, or a
// new one. While the service cannot be asked, a token is used until it expires.
func (c *Cache) Get(ctx context.Context, want Want) (Token, error) {
	dir, err := userdir.Open(c.Dir)
	if err != nil {
		c.Warn(fmt.Errorf("the token is not kept for the next command: %w", err))
		return want.Ask(ctx)
	}
	defer dir.Close()
	key := want.key()
	kept := c.read(dir, key)
	if c.Now().Before(kept.renewAt()) {
		return kept, nil
	}
	wait := c.wait
	if wait == 0 {
		wait = lockWait
	}
	good := c.Now().Before(kept.AskAgain())
	if good {
		wait = 0 // somebody else renews it already
	}
	unlock, err := dir.Lock(ctx, key+".lock", wait)
	switch {
	case errors.Is(err, userdir.ErrBusy) && good:
		return kept, nil
	case ctx.Err() != nil:
		return Token{}, ctx.Err()
	case err != nil:
		if errors.Is(err, userdir.ErrBusy) {
			err = errors.New("another process has been asking for the same token for too long")
		}
		c.Warn(fmt.Errorf("the token is not kept for the next command: %w", err))
		unlock = func() {}
	default:
		defer unlock()
		if kept = c.read(dir, key); c.Now().Before(kept.renewAt()) {
			return kept, nil
		}
	}
	locked := err == nil
	got, err := c.ask(ctx, want, kept)
	switch {
	case err == nil && locked:
		if err := write(dir, key, got); err != nil {
			c.Warn(fmt.Errorf("the token could not be kept for the next command: %w", err))
		}
	case errors.Is(err, ErrRefused):
		_ = dir.Remove(key + ".json") // nothing may be there
	case err != nil && ctx.Err() == nil && c.Now().Before(kept.Expires):
		c.Warn(fmt.Errorf("%w; the token that was kept is used until %s", err, kept.Expires.UTC().Format(time.RFC3339)))
		return kept, nil
	}
	return got, err
}

// Forget removes the token that is kept, if it is this one: whoever it was for has
// refused it. A newer one stays.
func (c *Cache) Forget(want Want, value string) error {
	dir, err := userdir.Open(c.Dir)
	if err != nil {
		return nil // nothing is kept there
	}
	defer dir.Close()
	key := want.key()
	if subtle.ConstantTimeCompare([]byte(c.read(dir, key).Value), []byte(value)) != 1 || value == "" {
		return nil
	}
	return dir.Remove(key + ".json")
}

func (c *Cache) ask(ctx context.Context, want Want, kept Token) (Token, error) {
	if c.Now().Before(kept.Expires) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, renewLimit)
		defer cancel()
	}
	return want.Ask(ctx)
}

// entry is what a file holds.
type entry struct {
	Key        string    `json:"key"`
	ObtainedAt time.Time `json:"obtained_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Token      string    `json:"token"`
}

// read returns the token that was kept, or the zero Token, which expired long ago.
// What cannot be read, or others could have read, is as good as none.
func (c *Cache) read(dir *userdir.Dir, key string) Token {
	data, err := dir.Read(key+".json", maxEntry)
	if err != nil {
		return Token{}
	}
	return parse(data, key, c.Now())
}

// parse checks what nobody could have written who kept a token: then the clock was
// set back, or the file is not ours.
func parse(data []byte, key string, now time.Time) Token {
	var e entry
	if json.Unmarshal(data, &e) != nil {
		return Token{}
	}
	life := e.ExpiresAt.Sub(e.ObtainedAt)
	if e.Key != key || e.Token == "" || strings.ContainsAny(e.Token, " \t\r\n") || life <= 0 || life > maxLife || e.ObtainedAt.After(now) {
		return Token{}
	}
	return Token{Value: e.Token, Obtained: e.ObtainedAt, Expires: e.ExpiresAt}
}

func write(dir *userdir.Dir, key string, t Token) error {
	data, err := json.Marshal(entry{key, t.Obtained.UTC(), t.Expires.UTC(), t.Value})
	if err != nil {
		return err
	}
	if err := dir.Write(key+".json", append(data, '\n')); err != nil {
		return err
	}
	sweep(dir, key+".json")
	return nil
}

// sweep removes what was written longer before this file than any token lives: by
// the clock of whoever keeps the files. A lock may go while somebody holds it;
// whoever makes it again finds the token that has just been written.
func sweep(dir *userdir.Dir, written string) {
	files := dir.Files()
	i := slices.IndexFunc(files, func(f fs.FileInfo) bool { return f.Name() == written })
	if i < 0 {
		return
	}
	for _, file := range files {
		if file.ModTime().Before(files[i].ModTime().Add(-maxLife)) {
			_ = dir.Remove(file.Name())
		}
	}
}
