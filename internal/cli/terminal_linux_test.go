package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signalbox-sts/signalbox/admin"
)

// terminal opens a pair: what is written to the keyboard is typed at the screen.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

func echoes(t *testing.T, screen *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestAnInterruptEndsACommandThatWaitsForInput(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); !bytes.Contains(body, []byte(`"dry_run":true`)) {
			t.Errorf("%s %s was sent: %s", r.Method, r.URL, body)
		}
		_ = json.NewEncoder(w).Encode(admin.Revoked{Kind: "everything"})
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
	_, screen := terminal(t)
	pipe, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pipe.Close(), end.Close() }()
	for _, row := range []struct {
		name   string
		in     *os.File
		prompt string // empty: nothing is said to a pipe
		args   []string
	}{
		{"a question", screen, "Type yes to continue: ", []string{"panic", "--everything"}},
		{"a password", screen, "Password: ", []string{"user", "create", "bob"}},
		{"a token from a terminal", screen, "waiting for a token on standard input", []string{"token", "inspect"}},
		{"a secret from a terminal", screen, "waiting for a secret on standard input",
			[]string{"token", "get", "--issuer", "https://sts.example.com", "--client-id", "a", "--client-secret-file", "-"}},
		{"a token from a pipe", pipe, "", []string{"token", "inspect"}},
		{"a token from a named pipe", screen, "", []string{"token", "inspect", "/dev/fd/" + strconv.Itoa(int(pipe.Fd()))}},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			errs := newPrompted(row.prompt)
			code := make(chan int, 1)
			env := &Environment{In: row.in, Out: io.Discard, Err: errs, Getenv: func(name string) string { return vars[name] }}
			go func() { code <- Run(ctx, env, row.args) }()
			if row.prompt != "" {
				within(t, row.prompt, errs.said)
			}
			interrupt()
			if got := within(t, "it still waits", code); got != exitFailed || !strings.Contains(errs.String(), "\nsignalbox: interrupted: nothing was changed\n") &&
				row.prompt != "" {
				t.Errorf("exit code %d: %s", got, errs.String())
			}
			if !echoes(t, screen) {
				t.Error("the terminal hides what is typed")
			}
		})
	}
}

func TestAPasswordIsNotShownAndAnAnswerIsTaken(t *testing.T) {
	keyboard, screen := terminal(t)
	errs := newPrompted("Password: ")
	var out lockedBuffer
	code := make(chan int, 1)
	env := &Environment{In: screen, Out: &out, Err: errs, Getenv: func(string) string { return "" }}
	go func() { code <- Run(t.Context(), env, []string{"user", "hash-password"}) }()
	within(t, "no question", errs.said)
	if _, err := keyboard.WriteString("correct horse\ncorrect horse\n"); err != nil {
		t.Fatal(err)
	}
	if got := within(t, "no end", code); got != exitOK || !strings.HasPrefix(out.String(), "$argon2id$") {
		t.Errorf("exit code %d: %s%s", got, out.String(), errs.String())
	}
}

// A raw terminal sends Ctrl-C as a character and no signal.
func TestCtrlCAtAPasswordChangesNothing(t *testing.T) {
	keyboard, screen := terminal(t)
	errs := newPrompted("Password: ")
	code := make(chan int, 1)
	env := &Environment{In: screen, Out: io.Discard, Err: errs, Getenv: func(string) string { return "" }}
	go func() { code <- Run(t.Context(), env, []string{"user", "hash-password"}) }()
	within(t, "no question", errs.said)
	if echoes(t, screen) {
		t.Error("the terminal shows what is typed")
	}
	if _, err := keyboard.WriteString("correct\x03"); err != nil {
		t.Fatal(err)
	}
	if got := within(t, "no end", code); got != exitFailed || !strings.Contains(errs.String(), "\nsignalbox: interrupted: nothing was changed\n") || strings.Contains(errs.String(), "correct") {
		t.Errorf("exit code %d: %s", got, errs.String())
	}
	if !echoes(t, screen) {
		t.Error("the terminal hides what is typed afterwards")
	}
}

func TestATableFitsTheTerminal(t *testing.T) {
	s := newShell(t)
	const end = "--- end ---"
	list := func(noColor string, args ...string) string {
		t.Helper()
		keyboard, screen := terminal(t)
		if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60}); err != nil {
			t.Fatal(err)
		}
		shown := typescript(keyboard, end)
		env := &Environment{In: strings.NewReader(""), Out: screen, Err: io.Discard, Getenv: func(name string) string {
			if name == "NO_COLOR" {
				return noColor
			}
			return s.env[name]
		}}
		if code := Run(t.Context(), env, append([]string{"client", "list"}, args...)); code != exitOK {
			t.Fatalf("exit code %d: %s", code, shown.String())
		}
		if _, err := screen.WriteString(end); err != nil {
			t.Fatal(err)
		}
		within(t, "no end", shown.said)
		return strings.ReplaceAll(shown.String(), end, "")
	}
	ansi := regexp.MustCompile("\x1b\\[[0-9]+m")
	narrow := list("")
	if !ansi.MatchString(narrow) || !strings.Contains(narrow, "…") {
		t.Errorf("no colour, or nothing was cut: %q", narrow)
	}
	for line := range strings.SplitSeq(ansi.ReplaceAllString(narrow, ""), "\r\n") {
		if n := len([]rune(line)); n > 60 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if plain := list("1"); ansi.MatchString(plain) {
		t.Errorf("NO_COLOR is ignored: %q", plain)
	}
	if wide := list("1", "--wide"); !strings.Contains(wide, "clients:read clients:write users:read") || strings.Contains(wide, "…") {
		t.Errorf("--wide cuts: %q", wide)
	}
	if piped := s.run("client", "list").wants(0).out; ansi.MatchString(piped) || strings.Contains(piped, "…") {
		t.Errorf("a pipe gets what is for a terminal: %q", piped)
	}
}

func TestALongListSaysHowFarItIs(t *testing.T) {
	keyboard, screen := terminal(t)
	told := typescript(keyboard, "read 4 so far")
	pages := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page := admin.Page[admin.Client]{Items: make([]admin.Client, 2)}
		if pages++; pages < 3 {
			page.Next = "more"
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
	clock := time.Unix(1772366400, 0)
	env := &Environment{In: strings.NewReader(""), Out: io.Discard, Err: screen, Getenv: func(name string) string { return vars[name] }, Now: func() time.Time {
		clock = clock.Add(2 * time.Second)
		return clock
	}}
	if code := Run(t.Context(), env, []string{"client", "list", "--limit", "0"}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	within(t, told.String(), told.said)
}

// TestAQuestionNamesTheContext: several services look alike.
func TestAQuestionNamesTheContext(t *testing.T) {
	own, _, _, _ := twoServices(t)
	vars := home(t)
	execute(t, t.Context(), vars, strings.NewReader(""), "context", "create", "prod", "--issuer", own.URL, "--admin-url", own.URL, "--client-id", "ops", "--client-secret-file", (&shell{T: t}).secretFile("sbx_cs_x")).wants(0)
	keyboard, screen := terminal(t)
	errs := newPrompted("Type yes to continue: ")
	code := make(chan int, 1)
	env := &Environment{In: screen, Out: io.Discard, Err: errs, Getenv: func(name string) string { return vars[name] }, ConfigDir: folder(vars, "XDG_CONFIG_HOME"), CacheDir: folder(vars, "XDG_CACHE_HOME")}
	go func() { code <- Run(t.Context(), env, []string{"client", "disable", "web"}) }()
	within(t, "no question", errs.said)
	if _, err := keyboard.WriteString("no\n"); err != nil {
		t.Fatal(err)
	}
	if got := within(t, "no end", code); got != exitFailed || !strings.Contains(errs.String(), "Context prod: Disable client web") {
		t.Errorf("exit code %d: %s", got, errs.String())
	}
}

// typescript is what a command writes to a terminal; it tells when it said text.
func typescript(keyboard *os.File, text string) *prompted {
	p := newPrompted(text)
	go func() { _, _ = io.Copy(p, keyboard) }()
	return p
}

func TestAPersonIsToldWhomACommandWaitsFor(t *testing.T) {
	file := t.TempDir() + "/secret"
	if err := os.WriteFile(file, []byte("eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		silent string // the path that is not answered until the person was told
		args   []string
	}{
		{"/admin/v1/clients", []string{"client", "list"}},
		{"/admin/v1/journal/tail", []string{"audit", "tail", "--from", "1"}},
		{"/.well-known/openid-configuration", []string{"token", "verify", file}},
		{"/jwks", []string{"token", "verify", file}},
		{"/token", []string{"token", "get", "--client-id", "a", "--client-secret-file", file}},
		{"/revoke", []string{"token", "revoke", "--client-id", "a", file}},
	} {
		t.Run(row.silent, func(t *testing.T) {
			t.Parallel() // each waits for a second
			keyboard, screen := terminal(t)
			told := typescript(keyboard, "waiting for an answer from ")
			server := httptest.NewServer(nil)
			defer server.Close()
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == row.silent {
					select {
					case <-told.said:
					case <-time.After(20 * time.Second): // only when it fails
						t.Error("nothing was said")
					}
					w.WriteHeader(http.StatusTeapot)
					return
				}
				_ = json.NewEncoder(w).Encode(issuerMetadata{Issuer: server.URL, TokenEndpoint: server.URL + "/token", RevocationEndpoint: server.URL + "/revoke", JWKSURI: server.URL + "/jwks"})
			})
			vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t", "SIGNALBOX_ISSUER_URL": server.URL}
			env := &Environment{In: strings.NewReader(""), Out: io.Discard, Err: screen, Getenv: func(name string) string { return vars[name] }}
			if code := Run(t.Context(), env, row.args); code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(told.String(), server.URL) {
				t.Errorf("it says: %s", told.String())
			}
		})
	}
}
