package e2e

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// terminalConfig gives tokens that are over after ten seconds.
const terminalConfig = serveHead + onSQLite + `tokens: {access_ttl: 10s}
clients:
  - client_id: signalbox-cli
    redirect_uris: ["http://127.0.0.1/callback"]
    grant_types: [authorization_code, refresh_token]
    token_endpoint_auth_method: none
    scope: openid profile
users: [{username: ada, password_file: ada.password}]
`

// terminals are machines of a person, at a service behind a proxy that can lose answers.
type terminals struct {
	*server
	issuer string
	lose   atomic.Pointer[chan struct{}] // closed once the next answer of /token is there, which nobody gets
}

func startTerminals(t *testing.T) *terminals {
	t.Helper()
	s := &terminals{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.issuer = "http://" + listener.Addr().String()
	s.server = runServe(t, t.TempDir(), s.issuer, terminalConfig, houseFiles())
	t.Cleanup(func() { s.stop() })
	to, _ := url.Parse(s.Issuer)
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if there := s.lose.Swap(nil); there != nil {
				proxy.ServeHTTP(httptest.NewRecorder(), r)
				close(*there)
				<-r.Context().Done()
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	_ = front.Listener.Close()
	front.Listener = listener
	front.Start()
	t.Cleanup(front.Close)
	return s
}

// at is a command at a machine whose files are in home.
func (s *terminals) at(home string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append(args, "--issuer", s.issuer)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(home, "config"), "XDG_CACHE_HOME="+filepath.Join(home, "cache"), "DBUS_SESSION_BUS_ADDRESS=")
	return cmd
}

func (s *terminals) login(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	s.signIn(t, s.at(home, "login", "--no-browser", "--no-keyring"))
	return home
}

// signIn does at the browser what the command asks for, and returns what it said.
func (s *terminals) signIn(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	login := startProgram(t, cmd)
	address := regexp.MustCompile(`(?m)^  (http://\S+)$`)
	login.wait(t, "the address of the page", func() bool { return address.MatchString(login.out.String()) })
	page := address.FindStringSubmatch(login.out.String())[1]
	asked, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	answer := b.authorize(page, ada, "allow")
	if p := b.get(asked.Query().Get("redirect_uri") + "?" + answer.Encode()); p.Status != http.StatusOK || !bytes.Contains(p.Body, []byte("You can close this window")) {
		t.Fatalf("at the end the browser shows %s", p.reply)
	}
	<-login.done
	if login.err != nil {
		t.Fatal(login.err)
	}
	return login.out.String()
}

// keyring is a session with an unlocked GNOME Keyring, and the address of its bus.
func keyring(t *testing.T) string {
	t.Helper()
	_, noBus := exec.LookPath("dbus-daemon")
	_, noKeyring := exec.LookPath("gnome-keyring-daemon")
	need(t, noBus == nil && noKeyring == nil, "GNOME Keyring")
	home := t.TempDir()
	bus := startProgram(t, exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+filepath.Join(home, "bus")))
	t.Cleanup(func() { bus.stop(syscall.SIGTERM) })
	address := regexp.MustCompile(`(?m)^unix:\S+$`)
	bus.wait(t, "the address of the bus", func() bool { return address.MatchString(bus.out.String()) })
	at := "DBUS_SESSION_BUS_ADDRESS=" + address.FindString(bus.out.String())
	unlock := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets", "--control-directory="+home)
	unlock.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, at)
	unlock.Stdin = strings.NewReader("the password of the session")
	daemon := startProgram(t, unlock)
	t.Cleanup(func() { daemon.stop(syscall.SIGTERM) })
	daemon.wait(t, "the keyring on the bus", func() bool {
		ask := exec.Command("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets")
		ask.Env = append(os.Environ(), at)
		out, err := ask.Output()
		return err == nil && strings.Contains(string(out), "boolean true")
	})
	return at
}

func TestASignInWhoseKeyIsInARealKeyring(t *testing.T) {
	at := keyring(t)
	s := startTerminals(t)
	home := t.TempDir()
	inSession := func(args ...string) *exec.Cmd {
		cmd := s.at(home, args...)
		cmd.Env = append(cmd.Env, at)
		return cmd
	}
	if said := s.signIn(t, inSession("login", "--no-browser")); !strings.Contains(said, "in the system's keyring") {
		t.Fatalf("login says %s", said)
	}
	if keys, err := filepath.Glob(filepath.Join(home, "config", "signalbox", "logins", "*.key")); err != nil || len(keys) != 0 {
		t.Errorf("a key in a file: %v, %v", keys, err)
	}
	if out, err := inSession("whoami").CombinedOutput(); err != nil {
		t.Errorf("whoami: %v: %s", err, out)
	}
	if out, err := s.at(home, "whoami").CombinedOutput(); err == nil || !strings.Contains(string(out), "it is in the system's keyring") {
		t.Errorf("with the files alone: %v: %s", err, out)
	}
	if out, err := inSession("logout").CombinedOutput(); err != nil {
		t.Errorf("logout: %v: %s", err, out)
	}
}

func (s *terminals) refreshes(t *testing.T) (n int) {
	t.Helper()
	for _, e := range journalOf(t, s.server, query.Query{Types: []string{string(authority.EventTokenIssued)}}) {
		if e.GrantType == "refresh_token" {
			n++
		}
	}
	return n
}

func TestParallelCommandsOfOnePersonRefreshOnce(t *testing.T) {
	s := startTerminals(t)
	home := s.login(t)
	time.Sleep(11 * time.Second) // the service has no other clock: the token must be over
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if out, err := s.at(home, "whoami").CombinedOutput(); err != nil {
				t.Errorf("whoami: %v: %s", err, out)
			}
		})
	}
	all.Wait()
	if n := s.refreshes(t); n != 1 {
		t.Errorf("%d refreshes of one token that was over", n)
	}
}

// A process is killed between the service's answer and the disk
// (docs/security/threats.md L 120).
func TestACommandThatIsKilledWhileItRefreshesLosesNoSignIn(t *testing.T) {
	s := startTerminals(t)
	home := s.login(t)
	time.Sleep(11 * time.Second) // as above
	there := make(chan struct{})
	s.lose.Store(&there)
	killed := startProgram(t, s.at(home, "whoami"))
	<-there // the service has moved on
	killed.stop(syscall.SIGKILL)
	if out, err := s.at(home, "whoami").CombinedOutput(); err != nil {
		t.Fatalf("after a kill: %v: %s", err, out)
	}
	if n := s.refreshes(t); n != 2 {
		t.Errorf("%d refreshes, not the lost one and its repetition", n)
	}
	if out, err := s.at(home, "logout").CombinedOutput(); err != nil || !strings.Contains(string(out), "is signed out here") {
		t.Fatalf("%v: %s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(home, "config", "signalbox", "logins", "*.*"))
	for _, file := range left {
		if ext := filepath.Ext(file); ext == ".json" || ext == ".key" {
			t.Errorf("left behind: %s", file)
		}
	}
	if err != nil || len(left) == 0 {
		t.Errorf("%v: the locks are there: %v", err, left)
	}
}
