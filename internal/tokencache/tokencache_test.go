package tokencache

import (
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

	"github.com/signalbox-sts/signalbox/internal/userdir"
)

// world is a cache and a service that gives tokens for five minutes.
type world struct {
	*testing.T
	Cache
	now    time.Time
	asked  atomic.Int64
	answer error // in the place of a token
	warned []string
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, now: time.Unix(1_800_000_000, 0)}
	w.Cache = Cache{
		Dir: filepath.Join(t.TempDir(), "signalbox", "tokens"), Now: func() time.Time { return w.now },
		Warn: func(err error) { w.warned = append(w.warned, err.Error()) },
		wait: 50 * time.Millisecond,
	}
	return w
}

func (w *world) want() Want {
	return Want{Issuer: "https://sts.example.com", Target: "spoke-a", Subject: "orders", Ask: func(context.Context) (Token, error) {
		if w.answer != nil {
			return Token{}, w.answer
		}
		return Token{Value: fmt.Sprintf("token-%d", w.asked.Add(1)), Obtained: w.now, Expires: w.now.Add(5 * time.Minute)}, nil
	}}
}

func (w *world) gets(value string) {
	w.Helper()
	if got, err := w.Get(w.Context(), w.want()); err != nil || got.Value != value {
		w.Fatalf("got %q (%v), not %q; warned: %q", got.Value, err, value, w.warned)
	}
}

func (w *world) file() string {
	w.Helper()
	return filepath.Join(w.Dir, w.want().key()+".json")
}

func (w *world) warns(texts ...string) {
	w.Helper()
	if len(w.warned) != len(texts) {
		w.Fatalf("warned: %q", w.warned)
	}
	for i, text := range texts {
		if !strings.Contains(w.warned[i], text) {
			w.Errorf("%q does not say %q", w.warned[i], text)
		}
	}
	w.warned = nil
}

func TestATokenIsRenewedAtTwoThirdsOfItsLife(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	w.now = w.now.Add(200*time.Second - 1)
	w.gets("token-1")
	w.now = w.now.Add(1)
	w.gets("token-2")
	w.gets("token-2")
	w.warns()
}

func TestWhoeverUsesATokenAsksAgainBeforeItExpires(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for _, row := range []struct{ life, margin time.Duration }{
		{time.Hour, 30 * time.Second}, {5 * time.Minute, 30 * time.Second}, {time.Minute, 6 * time.Second}, {10 * time.Second, time.Second},
	} {
		token := Token{Obtained: at, Expires: at.Add(row.life)}
		if got := token.Expires.Sub(token.AskAgain()); got != row.margin {
			t.Errorf("a token of %v: %v before its end", row.life, got)
		}
	}
}

func TestWhileTheServiceIsAwayATokenIsUsedUntilItExpires(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	w.answer = errors.New("nobody answers")
	w.now = w.now.Add(5*time.Minute - 1)
	w.gets("token-1")
	w.warns("nobody answers; the token that was kept is used until 2027-01-15T08:05:00Z")
	w.now = w.now.Add(1)
	if got, err := w.Get(t.Context(), w.want()); err == nil || got.Value != "" {
		t.Errorf("an expired token is used: %v", err)
	}
	w.answer = nil
	w.gets("token-2")
}

func TestWhatTheServiceRefusesIsNotUsedAnyLonger(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	w.answer = fmt.Errorf("no policy: %w", ErrRefused)
	w.now = w.now.Add(4 * time.Minute)
	if got, err := w.Get(t.Context(), w.want()); !errors.Is(err, ErrRefused) || got.Value != "" {
		t.Errorf("the old token is used: %v", err)
	}
	w.answer = errors.New("nobody answers")
	if got, err := w.Get(t.Context(), w.want()); err == nil || got.Value != "" {
		t.Error("the token is used again once the service is away")
	}
}

func TestNobodyGetsATokenOfAnother(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	for i, row := range []struct {
		name   string
		change func(*Want)
	}{
		{"another subject", func(w *Want) { w.Subject = "billing" }},
		{"another cluster", func(w *Want) { w.Target = "spoke-b" }},
		{"another issuer", func(w *Want) { w.Issuer = "https://other.example.com" }},
		{"parts that are divided elsewhere", func(w *Want) { w.Target, w.Subject = "spoke-", "aorders" }},
	} {
		want := w.want()
		row.change(&want)
		if got, err := w.Get(t.Context(), want); err != nil || got.Value != fmt.Sprintf("token-%d", i+2) {
			t.Errorf("%s: %s, %v", row.name, got.Value, err)
		}
	}
	w.gets("token-1") // which nobody has replaced
}

func TestAFileThatCannotBeTrustedIsAsGoodAsNone(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(w *world, file string) error
	}{
		{"empty", func(_ *world, file string) error { return os.WriteFile(file, nil, 0o600) }},
		{"cut off", func(_ *world, file string) error { return os.Truncate(file, 40) }},
		{"not JSON", func(_ *world, file string) error { return os.WriteFile(file, []byte("\x00\x01"), 0o600) }},
		{"of another token", func(_ *world, file string) error { return rewrite(file, `"key":"`, `"key":"0`) }},
		{"without an end", func(_ *world, file string) error { return rewrite(file, "2027-01-15T08:05", "2099-01-15T08:05") }},
		{"with an end before its beginning", func(_ *world, file string) error { return rewrite(file, "2027-01-15T08:05", "2027-01-15T07:05") }},
		{"without a token", func(_ *world, file string) error { return rewrite(file, `"token-1"`, `""`) }},
		{"with two tokens", func(_ *world, file string) error { return rewrite(file, `token-1`, `token-1\ntoken-9`) }},
		{"from a later time", func(w *world, _ string) error { w.now = w.now.Add(-time.Second); return nil }},
		{"that others can read", func(_ *world, file string) error { return os.Chmod(file, 0o644) }},
		{"a folder", func(_ *world, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.gets("token-1")
			if err := row.damage(w, w.file()); err != nil {
				t.Fatal(err)
			}
			w.gets("token-2")
			if row.name == "a folder" {
				w.warns("could not be kept")
				return
			}
			w.warns()
			w.gets("token-2")
		})
	}
}

func rewrite(file, old, with string) error {
	data, err := os.ReadFile(file)
	if err == nil && !strings.Contains(string(data), old) {
		err = fmt.Errorf("no %s in %s", old, data)
	}
	return errors.Join(err, os.WriteFile(file, []byte(strings.Replace(string(data), old, with, 1)), 0o600))
}

func TestModesLeaveTokensToTheirOwner(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	for path, want := range map[string]os.FileMode{w.Dir: 0o700, filepath.Dir(w.Dir): 0o700, w.file(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, %v", path, info.Mode(), err)
		}
	}
}

func TestAFolderThatOthersCanChangeIsNotUsed(t *testing.T) {
	for _, mode := range []os.FileMode{0o770, 0o702, 0o777 | os.ModeSticky} {
		w := newWorld(t)
		w.gets("token-1")
		if err := os.Chmod(w.Dir, mode); err != nil {
			t.Fatal(err)
		}
		w.gets("token-2")
		w.warns("chmod 700 " + w.Dir)
		if data, err := os.ReadFile(w.file()); err != nil || !strings.Contains(string(data), "token-1") {
			t.Errorf("mode %v: it was written to: %v", mode, err)
		}
	}
}

func TestAFolderOfAnotherUserIsNotUsed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can give a folder away")
	}
	w := newWorld(t)
	w.gets("token-1")
	if err := os.Chown(w.Dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	w.gets("token-2")
	w.warns("belongs to another user")
	if err := errors.Join(os.Chown(w.Dir, 0, 0), os.Chown(w.file(), 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	w.gets("token-3") // another user's file in our folder
}

func TestWithoutAFolderEverybodyAsks(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(filepath.Dir(w.Dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.gets("token-1")
	w.gets("token-2")
	w.warns("is not kept", "is not kept")
}

func TestOfManyAtOnceOneAsks(t *testing.T) {
	w := newWorld(t)
	w.wait = 0 // the usual one
	var all, began sync.WaitGroup
	began.Add(20)
	want := w.want()
	ask := want.Ask
	want.Ask = func(ctx context.Context) (Token, error) {
		began.Wait() // whoever does not wait for the lock asks too
		return ask(ctx)
	}
	for range 20 {
		all.Go(func() {
			began.Done()
			if got, err := w.Get(t.Context(), want); err != nil || got.Value != "token-1" {
				t.Errorf("%s, %v", got.Value, err)
			}
		})
	}
	all.Wait()
	if n := w.asked.Load(); n != 1 {
		t.Errorf("%d asked", n)
	}
}

// hold takes the lock as another process does that never answers.
func (w *world) hold() (release func()) {
	w.Helper()
	dir, err := userdir.Open(w.Dir)
	if err != nil {
		w.Fatal(err)
	}
	unlock, err := dir.Lock(w.Context(), w.want().key()+".lock", 0)
	if err != nil {
		w.Fatal(err)
	}
	return func() { unlock(); _ = dir.Close() }
}

func TestNobodyWaitsForAnotherForever(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	release := w.hold()
	w.now = w.now.Add(4 * time.Minute)
	w.gets("token-1") // it is being renewed, and still good
	w.warns()
	w.now = w.now.Add(2 * time.Minute)
	w.gets("token-2")
	w.warns("another process has been asking for the same token for too long")
	release()
	w.gets("token-3") // token-2 was not written by somebody without the lock
	w.warns()
}

func TestWhoeverIsInterruptedWaitsForNobody(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	defer w.hold()()
	w.wait = 0
	w.now = w.now.Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Get(ctx, w.want()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAnAttemptToRenewAGoodTokenIsBounded(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	want := w.want()
	want.Ask = func(ctx context.Context) (Token, error) {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > renewLimit {
			t.Error("it may take as long as it likes")
		}
		return Token{}, context.DeadlineExceeded
	}
	w.now = w.now.Add(4 * time.Minute)
	if got, err := w.Get(t.Context(), want); err != nil || got.Value != "token-1" {
		t.Errorf("%s, %v", got.Value, err)
	}
}

func TestWhatWasLeftBehindIsSwept(t *testing.T) {
	w := newWorld(t)
	w.gets("token-1")
	old, young := filepath.Join(w.Dir, "killed.new"), filepath.Join(w.Dir, "now.new")
	for file, age := range map[string]time.Duration{old: maxLife + time.Minute, young: time.Minute} {
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(200 * time.Second)
	w.gets("token-2")
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("what a killed process left is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("what somebody writes now is gone")
	}
	w.gets("token-2")
}

func TestATokenDoesNotPrint(t *testing.T) {
	token := Token{Value: "secret"}
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%+v", token), fmt.Sprintf("%#v", token), fmt.Sprintf("%v", &token)} {
		if strings.Contains(text, "secret") {
			t.Error(text)
		}
	}
}

func FuzzParse(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add([]byte(`{"key":"k","obtained_at":"2027-01-15T08:00:00Z","expires_at":"2027-01-15T08:05:00Z","token":"t"}`))
	f.Add([]byte(`{"key":"k","obtained_at":"0001-01-01T00:00:00Z","expires_at":"9999-01-01T00:00:00Z","token":"t"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		token := parse(data, "k", now)
		if token == (Token{}) {
			return
		}
		if token.Value == "" || token.Obtained.After(now) || token.Expires.Sub(token.Obtained) > maxLife || !token.Expires.After(token.Obtained) {
			t.Errorf("%s: %v to %v", data, token.Obtained, token.Expires)
		}
	})
}
