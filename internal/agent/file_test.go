package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
)

func newFile(t *testing.T, dir string) *file {
	t.Helper()
	state, err := OpenState("")
	if err != nil {
		t.Fatal(err)
	}
	return &file{Files: NewFiles(state), kind: "file", path: filepath.Join(dir, "token"), access: config.Access{Perm: 0o640, UID: -1, GID: -1},
		content: func(token string) []byte { return []byte(token + "\n") }}
}

func goodToken(value string) Token {
	return Token{Value: value, Obtained: SystemClock()(), Life: time.Minute}
}

func (f *file) puts(t *testing.T, value string, want bool) {
	t.Helper()
	if changed, err := f.Put(t.Context(), goodToken(value)); err != nil || changed != want {
		t.Fatalf("%v, changed: %t", err, changed)
	}
}

func contains(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%q (%v), not %q", got, err, want)
	}
}

// onlyThese fails if anything else is left in the folder.
func onlyThese(t *testing.T, dir string, names ...string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("in the folder: %q, not %q", got, names)
	}
}

func TestAFileIsReplacedWithItsModeAndLeavesNothingBeside(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	f.puts(t, "one", true)
	before, err := os.Stat(f.path)
	if err != nil || before.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", err, before.Mode())
	}
	f.puts(t, "one", false)
	f.puts(t, "two", true)
	contains(t, f.path, "two\n")
	after, _ := os.Stat(f.path)
	if os.SameFile(before, after) {
		t.Error("it was written in place: a reader could find a half of it")
	}
	onlyThese(t, dir, "token")
	if err := os.Chmod(f.path, 0o666); err != nil {
		t.Fatal(err)
	}
	f.puts(t, "two", true) // a wrong mode is no output of ours
	if info, _ := os.Stat(f.path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestAProcessThatWasKilledLeavesNoObstacle(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	if err := os.WriteFile(filepath.Join(dir, ".token.signalbox-new"), []byte("half a tok"), 0o400); err != nil {
		t.Fatal(err)
	}
	f.puts(t, "one", true)
	onlyThese(t, dir, "token")
}

func TestTheOwnerIsTheOneThatIsConfigured(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	f.access.Owner, f.access.UID, f.access.GID = "12345:54321", 12345, 54321
	if os.Geteuid() != 0 {
		if _, err := f.Put(t.Context(), goodToken("one")); err == nil || !strings.Contains(err.Error(), "it cannot be given to 12345:54321") {
			t.Error(err)
		}
		onlyThese(t, dir)
		return
	}
	f.puts(t, "one", true)
	info, err := os.Stat(f.path)
	if err != nil || !ownedBy(info, 12345, 54321) {
		t.Errorf("%v %+v", err, info)
	}
}

func TestPlacesThatOthersControlAreRefused(t *testing.T) {
	for _, row := range []struct {
		sentence string
		prepare  func(dir string) error
		path     string
		want     string
	}{
		{"the file is a symbolic link", func(dir string) error { return os.Symlink("/etc/hostname", filepath.Join(dir, "token")) }, "token", "is a symbolic link, which is not replaced"},
		{"the folder is a symbolic link", func(dir string) error { return os.Symlink(dir, filepath.Join(dir, "link")) }, "link/token", "is a symbolic link, which is not followed"},
		{"a folder above is a symbolic link", func(dir string) error {
			return os.Symlink("..", filepath.Join(dir, "up"))
		}, "up/" + "x/token", "is a symbolic link, which is not followed"},
		{"every user can write to the folder", func(dir string) error { return open(dir, "open", 0o777) }, "open/token", "every user can write to the folder"},
		{"every user can write to the sticky folder", func(dir string) error { return open(dir, "open", 0o777|os.ModeSticky) }, "open/token", "every user can write to the folder"},
		{"every user can write to a folder above", func(dir string) error {
			if err := open(dir, "open", 0o777); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(dir, "open", "sub"), 0o755)
		}, "open/sub/token", "every user can write to the folder"},
		{"there is no folder", func(string) error { return nil }, "none/token", "does not exist"},
		{"the folder is a file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600) }, "file/token", "is not a folder"},
		{"the file is a folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, "token"), 0o755) }, "token", "is not a file that can be replaced"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			dir := t.TempDir()
			if err := row.prepare(dir); err != nil {
				t.Fatal(err)
			}
			f := newFile(t, dir)
			f.path = filepath.Join(dir, row.path)
			if _, err := f.Put(t.Context(), goodToken("one")); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Error(err)
			}
			if got, err := os.ReadFile("/etc/hostname"); err == nil && bytes.Contains(got, []byte("one")) {
				t.Error("the link was followed")
			}
		})
	}
}

func open(dir, name string, mode os.FileMode) error {
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func TestAnOpenFolderIsTakenWhereTheConfigurationSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	f := newFile(t, dir)
	f.access.AllowWritableFolder = true
	f.puts(t, "one", true)
}

func TestOnlyWhatTheAgentWroteIsRemoved(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	if err := os.WriteFile(f.path, []byte("somebody's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		t.Helper()
		if err := f.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	remove()
	contains(t, f.path, "somebody's\n")
	f.puts(t, "one", true)
	if err := os.WriteFile(f.path, []byte("somebody's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove()
	contains(t, f.path, "somebody's\n")
	f.puts(t, "two", true)
	remove()
	onlyThese(t, dir)
	remove()
}

func TestTheStateRemembersOverARestart(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	path := filepath.Join(own, "state.json")
	state, err := OpenState(path)
	if err != nil {
		t.Fatal(err)
	}
	f := newFile(t, dir)
	f.State = state
	f.puts(t, "the-token", true)
	if err := state.Save(); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); bytes.Contains(text, []byte("the-token")) {
		t.Error("the token is in the state")
	}
	if f.State, err = OpenState(path); err != nil {
		t.Fatal(err)
	}
	if until, err := f.Found(t.Context()); err != nil || time.Until(until) < 50*time.Second || time.Until(until) > time.Minute {
		t.Errorf("%v %v", until, err)
	}
	if others := f.State.others(nil); len(others) != 1 || others[0] != f.path {
		t.Errorf("%q", others)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	onlyThese(t, dir)
	for _, text := range []string{"", "{}", "[]", `{"written":{"relative":{}}}`, strings.Repeat("x", maxContent+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenState(path); err == nil {
			t.Errorf("%.20q is taken for a state", text)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"written":{"/a":{"sha256":"00","expires_at":"2026-01-01T00:00:00Z"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if all, err := parseState(text); err == nil {
			for path := range all {
				if !filepath.IsAbs(path) {
					t.Errorf("%q", path)
				}
			}
		}
	})
}

func TestAKubeconfigNamesTheFileOfTheToken(t *testing.T) {
	token := config.AgentToken{Name: "spoke-a", Kubeconfig: config.AgentKubeconfig{Server: "https://10.0.1.1:6443", CA: []byte("ca")}}
	alone := string(kubeconfigOf(token)("the-token"))
	for _, want := range []string{`server: "https://10.0.1.1:6443"`, "certificate-authority-data: Y2E=", `token: "the-token"`, `current-context: "spoke-a"`} {
		if !strings.Contains(alone, want) {
			t.Errorf("no %s in\n%s", want, alone)
		}
	}
	token.File.Path = "/tokens/spoke-a"
	if beside := string(kubeconfigOf(token)("the-token")); !strings.Contains(beside, `tokenFile: "/tokens/spoke-a"`) || strings.Contains(beside, "the-token") {
		t.Error(beside)
	}
}

func TestTheProgramGetsNamesAndNoToken(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	token := config.AgentToken{Name: "spoke-a", File: config.AgentFile{Path: "/tokens/spoke-a"}}
	token.OnChange = []string{"/bin/sh", "-c", `echo "$SIGNALBOX_TOKEN_NAME $SIGNALBOX_TOKEN_FILE $SIGNALBOX_KUBECONFIG_FILE." > "$0"; env >> "$0"`, out}
	if err := hookOf(token, time.Minute)(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(text), "spoke-a /tokens/spoke-a .\n") {
		t.Errorf("%v %s", err, text)
	}
	token.OnChange = []string{"/bin/sh", "-c", "exit 3"}
	if err := hookOf(token, time.Minute)(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	token.OnChange = []string{"/bin/sh", "-c", `sleep 1000 & echo $! > "$0"; wait`, out}
	if err := hookOf(token, 200*time.Millisecond)(context.Background()); err == nil || !strings.Contains(err.Error(), "still running") {
		t.Error(err)
	}
	pid, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what it has started stays: %s", stat)
		}
	}
}
