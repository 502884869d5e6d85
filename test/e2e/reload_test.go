package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// edit replaces the configuration file of startServe in one step.
func (s *server) edit(t *testing.T, change func(string) string) {
	t.Helper()
	file := filepath.Join(s.dir, "signalbox.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next := change(string(raw))
	if next == string(raw) {
		t.Fatal("the edit changed nothing")
	}
	if err := os.WriteFile(file+".new", []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func (s *server) hangUp(t *testing.T) {
	t.Helper()
	if err := s.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// loaded counts the records of accepted and refused configurations.
func (s *server) loaded(t *testing.T) (taken, refused int) {
	t.Helper()
	for _, r := range journalOf(t, s, query.Query{Types: []string{"config.loaded", "config.refused"}}) {
		if r.Type == "config.loaded" {
			taken++
		} else {
			refused++
		}
	}
	return taken, refused
}

const newcomer = `  - client_id: newcomer
    client_secret_file: machine.secret
    grant_types: [client_credentials]
    scope: orders:read
    resources: ["https://api.example.com"]
users:
`

func TestReload(t *testing.T) {
	s := newHouse(t)
	asNewcomer := client{ID: "newcomer", Secret: machine.Secret}
	token := func(t *testing.T, c client) reply {
		return s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(c), from(nextAddress()))
	}
	checkTokenAnswer(t, token(t, asNewcomer), "invalid_client")

	var people reply // bob's tokens
	var old []string // the newcomer's
	t.Run("a new client works after SIGHUP", func(t *testing.T) {
		s.edit(t, func(c string) string { return strings.Replace(c, "users:\n", newcomer, 1) })
		s.hangUp(t)
		s.proc.wait(t, "a token for the new client", func() bool { return token(t, asNewcomer).Status == http.StatusOK })
	})
	t.Run("a file with a mistake is refused and the one before stays", func(t *testing.T) {
		taken, refused := s.loaded(t)
		s.edit(t, func(c string) string { return c + "surprise: true\n" })
		s.hangUp(t)
		s.proc.wait(t, "the refusal in the journal", func() bool { _, r := s.loaded(t); return r == refused+1 })
		if now, _ := s.loaded(t); now != taken {
			t.Error("a file with an unknown key was loaded")
		}
		if said := s.proc.out.String(); !strings.Contains(said, "surprise") || !strings.Contains(said, "signalbox.yaml:") {
			t.Errorf("the log names neither the key nor the line:\n%s", s.proc.out.tail(2000))
		}
		checkTokenAnswer(t, token(t, asNewcomer), "")
		checkTokenAnswer(t, token(t, machine), "")
	})
	t.Run("what needs a restart is refused whole", func(t *testing.T) {
		_, refused := s.loaded(t)
		s.edit(t, func(c string) string {
			c = strings.Replace(c, "surprise: true\n", "", 1)
			return strings.Replace(c, "issuer: http://127", "issuer: http://[::1]:1 # 127", 1)
		})
		s.hangUp(t)
		s.proc.wait(t, "the refusal in the journal", func() bool { _, r := s.loaded(t); return r == refused+1 })
		if got := s.get(t, "/.well-known/openid-configuration").str("issuer"); got != s.Issuer {
			t.Errorf("the issuer is now %q", got)
		}
		s.edit(t, func(c string) string {
			return strings.Replace(c, "issuer: http://[::1]:1 # 127", "issuer: http://127", 1)
		})
	})
	t.Run("a changed file is seen without a signal, and a removed client's tokens die", func(t *testing.T) {
		got := token(t, asNewcomer)
		checkTokenAnswer(t, got, "")
		if !s.active(t, got.str("access_token")) {
			t.Fatal("its token is not active")
		}
		old = append(old, got.str("access_token"))
		people = s.signedIn(t, webApp, bob)
		s.edit(t, func(c string) string {
			c = strings.Replace(c, newcomer, "users:\n", 1)
			return strings.Replace(c, "username: bob, password_file: bob.password}", "username: bob, password_file: bob.password, disabled: true}", 1)
		})
		// It asks until it is refused: a token from the last moment is dead too.
		for {
			got := s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(asNewcomer))
			if got.Status != http.StatusOK {
				checkTokenAnswer(t, got, "invalid_client")
				break
			}
			old = append(old, got.str("access_token"))
		}
		for _, token := range old {
			if s.active(t, token) {
				t.Fatal("a token of a client that is gone is active")
			}
		}
		// E70: a user who was disabled in the file is signed out, and the tokens are dead.
		s.proc.wait(t, "the end of the user", func() bool { return !s.active(t, people.str("access_token")) })
		checkTokenAnswer(t, s.refresh(t, webApp, people.str("refresh_token")), "invalid_grant")
	})
	t.Run("coming back brings nothing back", func(t *testing.T) {
		s.edit(t, func(c string) string {
			c = strings.Replace(c, "users:\n", newcomer, 1)
			return strings.Replace(c, "username: bob, password_file: bob.password, disabled: true}", "username: bob, password_file: bob.password}", 1)
		})
		s.hangUp(t)
		s.proc.wait(t, "the client again", func() bool { return token(t, asNewcomer).Status == http.StatusOK })
		for i, token := range old {
			if s.active(t, token) {
				t.Fatalf("token %d of %d that the client had before it was removed is active again", i+1, len(old))
			}
		}
		s.proc.wait(t, "bob again", func() bool {
			b := newBrowser(t)
			p := b.follow(b.get(s.authorizeURL(newCodeRequest(webApp).query)))
			p = b.follow(b.press(p, "sign-in", map[string][]string{"username": {bob.Username}, "password": {bob.Password}}))
			return !p.form.has("password")
		})
		if s.active(t, people.str("access_token")) {
			t.Error("the access token is active again")
		}
		checkTokenAnswer(t, s.refresh(t, webApp, people.str("refresh_token")), "invalid_grant")
	})
	t.Run("a new password in the file ends what depends on the old one", func(t *testing.T) {
		tokens := s.signedIn(t, webApp, ada)
		if err := os.WriteFile(filepath.Join(s.dir, "ada.password"), []byte("another pass phrase of ada"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.proc.wait(t, "the end of the token", func() bool { return !s.active(t, tokens.str("access_token")) })
		checkTokenAnswer(t, s.refresh(t, webApp, tokens.str("refresh_token")), "invalid_grant")
		s.signedIn(t, webApp, user{ada.Username, "another pass phrase of ada"})
	})
	verifyJournal(t, s)
}

// E70: a client that left the file while the service was down is dead when it starts.
func TestRemovedWhileDown(t *testing.T) {
	s := newHouse(t)
	people, other := s.signedIn(t, webTwo, ada), s.signedIn(t, webApp, bob)
	token := s.machineToken(t)
	s.stop()
	var whole string
	s.edit(t, func(c string) string {
		whole = c
		c = c[:strings.Index(c, "  - client_id: web-two\n")] + c[strings.Index(c, "  - client_id: native\n"):]
		c = strings.Replace(c, "  - client_id: machine\n", "  - client_id: machine-renamed\n", 1)
		c = strings.Replace(c, "username: bob, password_file: bob.password}", "username: bob, password_file: bob.password, disabled: true}", 1)
		return c
	})
	s.serve(t)
	if s.active(t, people.str("access_token")) || s.active(t, token) {
		t.Error("the token of a client that is gone is active")
	}
	if r := s.get(t, "/userinfo", bearer(people.str("access_token"))); r.Status != http.StatusUnauthorized {
		t.Errorf("UserInfo: %s", r)
	}
	checkTokenAnswer(t, s.refresh(t, webTwo, people.str("refresh_token")), "invalid_client")
	if s.active(t, other.str("access_token")) {
		t.Error("the token of a user who is disabled is active")
	}
	checkTokenAnswer(t, s.refresh(t, webApp, other.str("refresh_token")), "invalid_grant")

	// They come back while it is down again, and ada gets a new password.
	adas := s.signedIn(t, webApp, ada)
	s.stop()
	s.edit(t, func(string) string { return whole })
	if err := os.WriteFile(filepath.Join(s.dir, "ada.password"), []byte("another pass phrase of ada"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	for name, token := range map[string]string{
		"of a client that was gone": token, "of an account that was disabled": other.str("access_token"), "from before the new password": adas.str("access_token"),
	} {
		if s.active(t, token) {
			t.Errorf("the token %s is active again", name)
		}
	}
	checkTokenAnswer(t, s.refresh(t, webTwo, people.str("refresh_token")), "invalid_grant")
	checkTokenAnswer(t, s.refresh(t, webApp, other.str("refresh_token")), "invalid_grant")
	checkTokenAnswer(t, s.refresh(t, webApp, adas.str("refresh_token")), "invalid_grant")

	// Nothing has changed: nothing ends.
	bobs := s.signedIn(t, webApp, bob)
	s.stop()
	s.serve(t)
	if !s.active(t, bobs.str("access_token")) {
		t.Error("a restart ended a token")
	}
}

// TestDrain: after SIGTERM the service listens no more and finishes its open requests.
func TestDrain(t *testing.T) {
	s := newHouse(t)
	form := "grant_type=client_credentials&resource=" + api
	address := strings.TrimPrefix(s.Issuer, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, _ := http.NewRequest(http.MethodPost, s.Issuer+"/token", nil)
	basic(machine)(req)
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		address, req.Header.Get("Authorization"), len(form), form[:10])
	idle, err := net.Dial("tcp", address) // on which nothing is ever sent
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	// The request is open once its handler runs. A second request on another connection shows
	// that the server has had time to start it.
	s.machineToken(t)

	began := time.Now()
	if err := s.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.proc.wait(t, "the end of listening", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(conn, form[10:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatalf("a request that was under way was dropped: %v", err)
	}
	r, err := readAll(resp)
	if err != nil || r.Status != http.StatusOK || r.str("access_token") == "" {
		t.Errorf("a request that was under way: %v %s", err, r)
	}
	select {
	case <-s.proc.done:
	case <-time.After(startLimit):
		t.Fatal("it does not end")
	}
	if s.proc.err != nil {
		t.Errorf("it ended with %v", s.proc.err)
	}
	t.Logf("ended after %v", time.Since(began).Round(time.Millisecond))
	if len(journalOf(t, s, query.Query{TokenHash: journalHash(r.str("access_token"))})) != 1 {
		t.Error("the token of the drain is not in the journal")
	}
	records := journalOf(t, s, query.Query{Types: []string{"service.stopped"}})
	if len(records) != 1 {
		t.Errorf("%d records of the stop", len(records))
	}
	verifyJournal(t, s)
}
