// Package logins keeps the sign-ins of a person at a terminal, one for each
// service. A sign-in holds a refresh token, which works once: so its processes take
// turns, and what one of them got is on disk before anybody uses it.
//
// A sign-in is sealed in a file. Its key is in the system's keyring, where there is
// one, and else in a file beside it. The second keeps the refresh token out of a
// search or a copy of the one file; it keeps nothing from whoever can read both.
package logins

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/seal"
	"github.com/signalbox-sts/signalbox/internal/userdir"
)

// ErrNone says that nobody is signed in.
var ErrNone = errors.New("nobody is signed in")

// ErrEnded is matched by an error of renew if the service says that the sign-in
// is over. Any other error says that the service could not be asked, or may answer
// otherwise next time.
var ErrEnded = errors.New("the sign-in is over")

// Login is a sign-in at a service.
type Login struct {
	ID           string    `json:"id"` // of this sign-in: the next one at the same service has another
	Issuer       string    `json:"issuer"`
	Subject      string    `json:"sub"`
	Username     string    `json:"username"`
	Scope        string    `json:"scope"`
	SignedInAt   time.Time `json:"signed_in_at"`
	EndsAt       time.Time `json:"ends_at"` // if nobody uses it; zero if the service did not say
	RefreshToken string    `json:"refresh_token"`
	AccessToken  string    `json:"access_token"`
	ObtainedAt   time.Time `json:"obtained_at"` // the access token, by this machine's clock
	ExpiresAt    time.Time `json:"expires_at"`
}

func (l Login) String() string { return "[redacted]" }

// GoString keeps %#v from printing the tokens.
func (l Login) GoString() string { return l.String() }

// Store is the folder of a user's sign-ins.
type Store struct {
	Dir string
	// Keyring puts the keys of new sign-ins into the system's keyring, if it can.
	Keyring bool
}

const (
	// lockWait is longer than one process takes to renew with a service that answers.
	lockWait = 45 * time.Second
	// maxFile bounds a file before it is parsed: an access token has at most 64 KiB.
	maxFile = 256 << 10
	maxKey  = 256
	maxID   = 64
)

// never is the end of the seal. A sign-in ends at its service.
var never = time.Unix(1<<40, 0)

// name is that of the files of a sign-in.
func name(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return hex.EncodeToString(sum[:])
}

// New is a sign-in that has just been made.
func New(l Login) Login {
	l.ID = rand.Text()
	return l
}

// SignIn waits until no other process signs in at this service, and keeps them
// waiting until done is called: two browser windows would ask the same person.
func (s *Store) SignIn(ctx context.Context, issuer string, wait time.Duration) (done func(), err error) {
	dir, err := userdir.Open(s.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Lock(ctx, name(issuer)+".signin", wait)
}

// Get returns the sign-in at a service, or ErrNone.
func (s *Store) Get(ctx context.Context, issuer string) (Login, error) {
	dir, err := userdir.Open(s.Dir)
	if err != nil {
		return Login{}, err
	}
	defer dir.Close()
	f, err := open(ctx, dir, issuer)
	return f.login, err
}

// ID is that of the sign-in at a service, for which no key is needed; or ErrNone.
func (s *Store) ID(issuer string) (string, error) {
	dir, err := userdir.Open(s.Dir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	f, err := read(dir, issuer)
	return f.login.ID, err
}

// Put keeps a new sign-in in the place of the one before. inKeyring says where its
// key is.
func (s *Store) Put(ctx context.Context, l Login) (inKeyring bool, err error) {
	dir, unlock, err := s.lock(ctx, l.Issuer)
	if err != nil {
		return false, err
	}
	defer unlock()
	before, _ := read(dir, l.Issuer) // what cannot be read is replaced
	f := file{login: l}
	_, _ = rand.Read(f.key[:]) // never fails
	if s.Keyring && keepInKeyring(ctx, l, f.key) == nil {
		f.keptIn = inTheKeyring
	} else {
		f.keptIn = inAFile
		if err := dir.WriteDurably(keyFile(l), encodeKey(f.key)); err != nil {
			return false, err
		}
	}
	if err := f.write(dir); err != nil {
		return false, errors.Join(err, f.removeKey(ctx, dir))
	}
	return f.keptIn == inTheKeyring, before.removeKey(ctx, dir)
}

// Remove removes the sign-in at a service from this machine, and its key.
func (s *Store) Remove(ctx context.Context, issuer string) error {
	dir, unlock, err := s.lock(ctx, issuer)
	if err != nil {
		return err
	}
	defer unlock()
	return remove(ctx, dir, issuer)
}

// Use returns a sign-in that is good. If the one that is kept is not, renew makes
// the next one of it: one process at a time does, and those that wait take what it
// got. What renew returns is on disk before anybody sees it. Once renew has used the
// refresh token it should not stop with ctx: what follows would be lost. If it says
// ErrEnded, the sign-in is removed, and returned for the last time.
func (s *Store) Use(ctx context.Context, issuer string, good func(Login) bool, renew func(context.Context, Login) (Login, error)) (Login, error) {
	kept, err := s.Get(ctx, issuer)
	if err != nil || good(kept) {
		return kept, err
	}
	dir, unlock, err := s.lock(ctx, issuer)
	if err != nil {
		return Login{}, err
	}
	defer unlock()
	f, err := open(ctx, dir, issuer)
	if err != nil || good(f.login) {
		return f.login, err
	}
	// A full disk shows now, while the refresh token is still good.
	if err := f.write(dir); err != nil {
		return Login{}, fmt.Errorf("the sign-in cannot be renewed, since what follows could not be kept: %w", err)
	}
	next, err := renew(ctx, f.login)
	if errors.Is(err, ErrEnded) {
		return f.login, errors.Join(err, remove(ctx, dir, issuer))
	}
	if err != nil {
		return Login{}, err
	}
	f.login = next
	return next, f.write(dir)
}

func (s *Store) lock(ctx context.Context, issuer string) (dir *userdir.Dir, unlock func(), err error) {
	if dir, err = userdir.Open(s.Dir); err != nil {
		return nil, nil, err
	}
	release, err := dir.Lock(ctx, name(issuer)+".lock", lockWait)
	if errors.Is(err, userdir.ErrBusy) && ctx.Err() == nil {
		err = errors.New("another process has been renewing the sign-in for too long")
	}
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, func() { release(); _ = dir.Close() }, nil
}

func remove(ctx context.Context, dir *userdir.Dir, issuer string) error {
	kept, err := read(dir, issuer)
	if errors.Is(err, ErrNone) {
		return nil
	}
	return errors.Join(dir.Remove(name(issuer)+".json"), kept.removeKey(ctx, dir))
}

// file is a sign-in as it is kept. Each sign-in has a key of its own, so that
// whoever reads while another is put in its place finds a key that fits.
type file struct {
	login  Login
	keptIn string
	key    [32]byte
	sealed []byte
}

// The places of a key.
const (
	inTheKeyring = "keyring"
	inAFile      = "file"
)

// content is what the file holds.
type content struct {
	ID    string `json:"id"`
	Key   string `json:"key"` // where it is
	Login []byte `json:"login"`
}

func keyFile(l Login) string { return name(l.Issuer) + "." + l.ID + ".key" }

func (f file) box() *seal.Box {
	return seal.NewBox(f.key, "signalbox login "+f.login.ID+" "+f.login.Issuer)
}

func (f file) write(dir *userdir.Dir) error {
	plain, err := json.Marshal(f.login)
	if err != nil {
		return err
	}
	data, err := json.Marshal(content{f.login.ID, f.keptIn, f.box().Seal(plain, never)})
	if err != nil {
		return err
	}
	return dir.WriteDurably(name(f.login.Issuer)+".json", append(data, '\n'))
}

func (f file) removeKey(ctx context.Context, dir *userdir.Dir) error {
	switch f.keptIn {
	case inTheKeyring:
		removeFromKeyring(ctx, f.login)
	case inAFile:
		return dir.Remove(keyFile(f.login))
	}
	return nil
}

// read reads a sign-in, which is sealed yet.
func read(dir *userdir.Dir, issuer string) (file, error) {
	data, err := dir.Read(name(issuer)+".json", maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return file{}, ErrNone
	}
	if err != nil {
		return file{}, err
	}
	return parse(data, issuer)
}

func parse(data []byte, issuer string) (file, error) {
	var c content
	known := json.Unmarshal(data, &c) == nil && (c.Key == inTheKeyring || c.Key == inAFile) && c.ID != "" && len(c.ID) <= maxID
	if !known || strings.ContainsFunc(c.ID, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') }) {
		return file{}, errors.New("the file of the sign-in is not one of ours")
	}
	return file{login: Login{ID: c.ID, Issuer: issuer}, keptIn: c.Key, sealed: c.Login}, nil
}

// open reads a sign-in and breaks its seal.
func open(ctx context.Context, dir *userdir.Dir, issuer string) (file, error) {
	f, err := read(dir, issuer)
	if err != nil {
		return file{}, err
	}
	if f.keptIn == inTheKeyring {
		f.key, err = keyOfKeyring(ctx, f.login)
	} else {
		var text []byte
		if text, err = dir.Read(keyFile(f.login), maxKey); err == nil {
			f.key, err = decodeKey(text)
		}
	}
	if err != nil {
		return file{}, fmt.Errorf("the key of the sign-in cannot be read: %w", err)
	}
	plain, err := f.box().Open(f.sealed, time.Time{})
	if err == nil {
		err = json.Unmarshal(plain, &f.login)
	}
	if err != nil {
		return file{}, errors.New("the file of the sign-in does not fit its key")
	}
	return f, nil
}
