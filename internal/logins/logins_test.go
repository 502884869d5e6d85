package logins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
)

const issuer = "https://sts.example.com"

func newStore(t *testing.T) *Store { return &Store{Dir: filepath.Join(t.TempDir(), "logins")} }

// ada is signed in with the first of her refresh tokens.
func ada(t *testing.T, s *Store) Login {
	t.Helper()
	l := New(Login{
		Issuer: issuer, Subject: "ada-id", Username: "ada", RefreshToken: "refresh-0", AccessToken: "access-0", ExpiresAt: time.Unix(1_800_000_000, 0).UTC(),
	})
	if _, err := s.Put(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return l
}

// service renews as ours does without a grace period: a refresh token works once.
type service struct {
	mu      sync.Mutex
	renewed int
	ended   bool
}

func (s *service) renew(_ context.Context, l Login) (Login, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || l.RefreshToken != fmt.Sprint("refresh-", s.renewed) {
		s.ended = true
		return Login{}, fmt.Errorf("used twice: %w", ErrEnded)
	}
	s.renewed++
	l.RefreshToken, l.AccessToken = fmt.Sprint("refresh-", s.renewed), fmt.Sprint("access-", s.renewed)
	return l, nil
}

func is(token string) func(Login) bool { return func(l Login) bool { return l.AccessToken == token } }

func TestOfManyAtOnceOneRenews(t *testing.T) {
	s, sts := newStore(t), &service{}
	ada(t, s)
	for lifetime := 1; lifetime <= 3; lifetime++ {
		var all, began sync.WaitGroup
		began.Add(20)
		for range 20 {
			all.Go(func() {
				one := &Store{Dir: s.Dir} // as another process
				began.Done()
				began.Wait()
				got, err := one.Use(t.Context(), issuer, is(fmt.Sprint("access-", lifetime)), sts.renew)
				if err != nil || got.AccessToken != fmt.Sprint("access-", lifetime) {
					t.Errorf("%s, %v", got.AccessToken, err)
				}
			})
		}
		all.Wait()
		if sts.renewed != lifetime {
			t.Fatalf("%d renewed in lifetime %d", sts.renewed, lifetime)
		}
	}
}

func TestWhatWasRenewedIsKeptBeforeItIsUsed(t *testing.T) {
	s, sts := newStore(t), &service{}
	first := ada(t, s)
	got, err := s.Use(t.Context(), issuer, is("access-1"), sts.renew)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := (&Store{Dir: s.Dir}).Get(t.Context(), issuer)
	if err != nil || kept != got || kept.RefreshToken != "refresh-1" || kept.ID != first.ID || kept.Username != "ada" {
		t.Errorf("%v: kept %+v", err, []string{kept.RefreshToken, kept.ID, kept.Username})
	}
}

func TestWhatWasRenewedIsKeptAlsoAfterCtrlC(t *testing.T) {
	s := newStore(t)
	ada(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	renew := func(_ context.Context, l Login) (Login, error) {
		cancel()
		l.RefreshToken, l.AccessToken = "refresh-1", "access-1"
		return l, nil
	}
	if _, err := s.Use(ctx, issuer, is("access-1"), renew); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.Get(t.Context(), issuer); err != nil || kept.RefreshToken != "refresh-1" {
		t.Errorf("the next refresh token is lost: %v", err)
	}
}

func TestWithoutAPlaceForWhatFollowsNothingIsRenewed(t *testing.T) {
	s, sts := newStore(t), &service{}
	ada(t, s)
	file := filepath.Join(s.Dir, name(issuer)+".json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good := func(Login) bool { // asked with the lock held, right before it is written
		_ = errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "in the way"), 0o700)) // modes stop no root
		return false
	}
	if _, err := s.Use(t.Context(), issuer, onSecond(good), sts.renew); err == nil || sts.renewed != 0 {
		t.Fatalf("%d renewed, %v", sts.renewed, err)
	}
	if err := errors.Join(os.RemoveAll(file), os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Use(t.Context(), issuer, is("access-1"), sts.renew); err != nil {
		t.Errorf("with a place again: %v", err)
	}
}

// onSecond says no, and asks the second time.
func onSecond(good func(Login) bool) func(Login) bool {
	asked := 0
	return func(l Login) bool { asked++; return asked == 2 && good(l) }
}

func TestASignInThatIsOverIsRemoved(t *testing.T) {
	s, sts := newStore(t), &service{ended: true}
	ada(t, s)
	if _, err := s.Use(t.Context(), issuer, is("access-1"), sts.renew); !errors.Is(err, ErrEnded) {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), issuer); !errors.Is(err, ErrNone) {
		t.Errorf("it is kept: %v", err)
	}
	s.holds(t, "lock")
}

// holds says which kinds of files are left.
func (s *Store) holds(t *testing.T, kinds ...string) {
	t.Helper()
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		found = append(found, strings.TrimPrefix(filepath.Ext(f.Name()), "."))
	}
	if strings.Join(found, " ") != strings.Join(kinds, " ") {
		t.Errorf("the folder holds %v, not %v", found, kinds)
	}
}

func TestAServiceThatIsAwayEndsNothing(t *testing.T) {
	s, sts := newStore(t), &service{}
	ada(t, s)
	away := errors.New("nobody answers")
	if _, err := s.Use(t.Context(), issuer, is("access-1"), func(context.Context, Login) (Login, error) { return Login{}, away }); !errors.Is(err, away) {
		t.Fatal(err)
	}
	if _, err := s.Use(t.Context(), issuer, is("access-1"), sts.renew); err != nil {
		t.Errorf("once it is back: %v", err)
	}
}

func TestNoTokenIsInAFileThatCanBeReadByItself(t *testing.T) {
	s := newStore(t)
	ada(t, s)
	files, err := filepath.Glob(filepath.Join(s.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	s.holds(t, "key", "json", "lock")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"refresh-0", "access-0", "ada"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %s", file, secret)
			}
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", file, info.Mode())
		}
	}
}

func TestAFileThatDoesNotFitIsNotUsed(t *testing.T) {
	other := newStore(t)
	ada(t, other)
	for _, row := range []struct {
		name   string
		damage func(file, key string) error
	}{
		{"cut off", func(file, _ string) error { return os.Truncate(file, 40) }},
		{"empty", func(file, _ string) error { return os.Truncate(file, 0) }},
		{"that others can read", func(file, _ string) error { return os.Chmod(file, 0o644) }},
		{"of another sign-in", func(file, _ string) error {
			data, err := os.ReadFile(filepath.Join(other.Dir, filepath.Base(file)))
			return errors.Join(err, os.WriteFile(file, data, 0o600))
		}},
		{"of another service", func(file, _ string) error {
			return os.Rename(file, filepath.Join(filepath.Dir(file), name("https://evil.example.com")+".json"))
		}},
		{"whose key is gone", func(_, key string) error { return os.Remove(key) }},
		{"whose key is another", func(_, key string) error { return os.WriteFile(key, encodeKey([32]byte{1}), 0o600) }},
		{"whose key is cut off", func(_, key string) error { return os.Truncate(key, 10) }},
		{"whose key others can read", func(_, key string) error { return os.Chmod(key, 0o640) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStore(t)
			l := ada(t, s)
			if err := row.damage(filepath.Join(s.Dir, name(issuer)+".json"), filepath.Join(s.Dir, keyFile(l))); err != nil {
				t.Fatal(err)
			}
			for _, at := range []string{issuer, "https://evil.example.com"} {
				if got, err := s.Get(t.Context(), at); err == nil || got.RefreshToken != "" {
					t.Errorf("it is used: %v", err)
				}
			}
			next := ada(t, s) // signing in again cures it
			if got, err := s.Get(t.Context(), issuer); err != nil || got.ID != next.ID {
				t.Errorf("after the next sign-in: %v", err)
			}
		})
	}
}

func TestTheNextSignInReplacesTheOneBefore(t *testing.T) {
	s := newStore(t)
	first := ada(t, s)
	second := ada(t, s)
	if got, err := s.Get(t.Context(), issuer); err != nil || got.ID != second.ID || first.ID == second.ID {
		t.Errorf("%v: %s of %s and %s", err, got.ID, first.ID, second.ID)
	}
	s.holds(t, "key", "json", "lock")
	if err := s.Remove(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	s.holds(t, "lock")
	if err := s.Remove(t.Context(), issuer); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestOneSignsInAtATime(t *testing.T) {
	s := newStore(t)
	done, err := s.SignIn(t.Context(), issuer, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var second atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		other, err := s.SignIn(t.Context(), issuer, time.Minute)
		if err != nil || !second.Load() {
			t.Errorf("two at once, or none: %v", err)
			return
		}
		other()
	})
	if _, err := s.SignIn(t.Context(), issuer, 0); err == nil {
		t.Error("a second one did not wait")
	}
	elsewhere, err := s.SignIn(t.Context(), "https://other.example.com", 0)
	if err != nil {
		t.Fatalf("at another service: %v", err)
	}
	elsewhere()
	second.Store(true)
	done()
	all.Wait()
}

func TestTheKeyIsInTheKeyringWhereThereIsOne(t *testing.T) {
	defer func(before func() bool) { hasKeyring = before }(hasKeyring)
	hasKeyring = func() bool { return true }
	keyring.MockInit()
	s := &Store{Dir: filepath.Join(t.TempDir(), "logins"), Keyring: true}
	l := New(Login{Issuer: issuer, RefreshToken: "refresh-0", AccessToken: "access-0"})
	if in, err := s.Put(t.Context(), l); err != nil || !in {
		t.Fatal(in, err)
	}
	s.holds(t, "json", "lock") // no key beside it
	if got, err := s.Use(t.Context(), issuer, is("access-1"), (&service{}).renew); err != nil || got.AccessToken != "access-1" {
		t.Fatal(err)
	}
	s.holds(t, "json", "lock")
	hasKeyring = func() bool { return false } // a session without it, such as one of cron
	if _, err := s.Get(t.Context(), issuer); err == nil || !strings.Contains(err.Error(), "system's keyring") {
		t.Errorf("without the keyring: %v", err)
	}
	hasKeyring = func() bool { return true }
	if err := s.Remove(t.Context(), issuer); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Get(keyringService, keyringUser(l)); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("the keyring keeps the key: %v", err)
	}
	keyring.MockInitWithError(errors.New("locked"))
	if in, err := s.Put(t.Context(), l); err != nil || in {
		t.Errorf("with a keyring that fails: %v, %v", in, err)
	}
	s.holds(t, "key", "json", "lock")
}

func TestALoginDoesNotPrint(t *testing.T) {
	l := Login{RefreshToken: "secret", AccessToken: "secret"}
	for _, text := range []string{fmt.Sprint(l), fmt.Sprintf("%+v", l), fmt.Sprintf("%#v", l), fmt.Sprintf("%v", &l)} {
		if strings.Contains(text, "secret") {
			t.Error(text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"ABC234","key":"file","login":"AAAA"}`))
	f.Add([]byte(`{"id":"../../x","key":"file","login":"AAAA"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parse(data, issuer)
		if err == nil && (keyFile(got.login) != filepath.Base(keyFile(got.login)) || got.keptIn == "") {
			t.Errorf("%q", data)
		}
	})
}
