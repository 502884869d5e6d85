package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// environmentOf is a service without a file: all is in variables.
func environmentOf(t *testing.T, dir string) (env []string, public, admin string) {
	t.Helper()
	public, admin = freeAddress(t), freeAddress(t)
	for name, content := range map[string]string{"master.key": "6532652d6d61737465722d6b6579206f6620746869727479206279746573212100", "ops.secret": opsSecret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{
		"SIGNALBOX_ISSUER=http://" + public, "SIGNALBOX_LISTEN_PUBLIC=" + public, "SIGNALBOX_LISTEN_ADMIN=" + admin,
		"SIGNALBOX_STORAGE_URL=sqlite:" + filepath.Join(dir, "signalbox.db"),
		"SIGNALBOX_SECRETS_MASTER_KEY_FILE=" + filepath.Join(dir, "master.key"),
		"SIGNALBOX_SECRETS_OPERATOR_SECRET_FILE=" + filepath.Join(dir, "ops.secret"),
	}, public, admin
}

const opsSecret = "an-operator-of-trains-and-signals"

// TestServeFromTheEnvironment: no file, and still an operator who makes a client that
// gets a token. healthcheck says so, and says so when the service has gone.
func TestServeFromTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	env, public, _ := environmentOf(t, dir)
	check := func(want int, says string, args ...string) {
		t.Helper()
		p := start(t, dir, env, append([]string{"healthcheck"}, args...)...)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != want || !strings.Contains(p.out.tail(4<<10), says) {
			t.Errorf("healthcheck %v: %d %s", args, code, p.out.tail(4<<10))
		}
	}
	check(1, "no service answers")
	p := start(t, dir, env, "serve")
	p.wait(t, "the line serving", func() bool { return strings.Contains(p.out.tail(64<<10), `"msg":"serving"`) })
	check(0, `"status":"ok"`)
	check(0, `"status":"ok"`, "--live")
	ops := func(args ...string) string {
		t.Helper()
		command := start(t, dir, append(env, "SIGNALBOX_ISSUER_URL=http://"+public, "SIGNALBOX_CLIENT_ID=ops",
			"SIGNALBOX_CLIENT_SECRET_FILE="+filepath.Join(dir, "ops.secret"), "HOME="+dir, "XDG_CONFIG_HOME="+dir), args...)
		<-command.done
		if command.err != nil {
			t.Fatalf("signalbox %v: %v", args, command.err)
		}
		return command.out.tail(64 << 10)
	}
	token := ops("token", "get", "--scope", "clients:read clients:write", "--resource", "urn:signalbox:admin")
	if strings.Count(strings.TrimSpace(token), ".") != 2 {
		t.Errorf("the operator got %q", token)
	}
	p.stop(syscall.SIGTERM)
	check(1, "no service answers")
}

// supervisor does for a process what systemd does: it hears its notifications and
// keeps the listeners that it leaves.
type supervisor struct {
	conn *net.UnixConn
	path string
	mu   sync.Mutex
	kept map[string]*os.File
	news chan string
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	return newSupervisorAt(t, filepath.Join(t.TempDir(), "notify"))
}

func newSupervisorAt(t *testing.T, path string) *supervisor {
	t.Helper()
	s := &supervisor{path: path, kept: map[string]*os.File{}, news: make(chan string, 100)}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.hear()
	}()
	t.Cleanup(func() {
		_ = s.conn.Close()
		<-ended
		for _, f := range s.kept {
			_ = f.Close()
		}
	})
	return s
}

func (s *supervisor) hear() {
	text, rights := make([]byte, 4096), make([]byte, 4096)
	for {
		n, r, _, _, err := s.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		lines := strings.Split(string(text[:n]), "\n")
		if messages, err := syscall.ParseSocketControlMessage(rights[:r]); err == nil && len(messages) == 1 {
			fds, _ := syscall.ParseUnixRights(&messages[0])
			name := strings.TrimPrefix(lines[1], "FDNAME=")
			s.mu.Lock()
			s.kept[name] = os.NewFile(uintptr(fds[0]), name)
			s.mu.Unlock()
			continue
		}
		s.news <- lines[0]
	}
}

// serve starts signalbox with what was kept, as systemd would: at descriptor 3 and on.
func (s *supervisor) serve(t *testing.T, dir string, env []string) *process {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	// LISTEN_PID is the process itself, which only a shell that becomes it knows.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, binary)
	cmd.Dir = dir
	cmd.Env = append(append(append(os.Environ(), env...), s.passes(cmd)...), "NOTIFY_SOCKET="+s.path)
	return startProgram(t, cmd)
}

// passes gives cmd what was kept, and returns the variables that say so.
func (s *supervisor) passes(cmd *exec.Cmd) []string {
	var names []string
	for name, f := range s.kept {
		names = append(names, name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if len(names) == 0 {
		return []string{"LISTEN_FDS="}
	}
	return []string{fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
}

// says waits for a state that the process tells.
func (s *supervisor) says(t *testing.T, p *process, want string) {
	t.Helper()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	for {
		select {
		case got := <-s.news:
			if got == want {
				return
			}
		case <-limit.C:
			t.Fatalf("%s never says %s", p, want)
		}
	}
}

// TestARestartFailsNoRequest: callers with a connection of their own and callers that
// open one for each request ask all the time, while the service is restarted twice.
func TestARestartFailsNoRequest(t *testing.T) {
	dir := t.TempDir()
	env, public, _ := environmentOf(t, dir)
	manager := newSupervisor(t)
	p := manager.serve(t, dir, env)
	manager.says(t, p, "READY=1")
	var asked, failed atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				body := strings.NewReader("grant_type=client_credentials&resource=urn:signalbox:admin")
				request, err := http.NewRequest(http.MethodPost, "http://"+public+"/token", body)
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				request.SetBasicAuth("ops", opsSecret)
				r, err := client.Do(request)
				if err != nil {
					failed.Add(1)
					t.Logf("caller %d: %v", i, err)
					continue
				}
				var answer struct {
					Token string `json:"access_token"`
				}
				if json.NewDecoder(r.Body).Decode(&answer) != nil || r.StatusCode != 200 || answer.Token == "" {
					failed.Add(1)
					t.Logf("caller %d: %s", i, r.Status)
				}
				_ = r.Body.Close()
			}
		})
	}
	more := func() {
		t.Helper()
		from := asked.Load()
		p.wait(t, "more requests", func() bool { return asked.Load() > from+100 })
	}
	more()
	for range 2 {
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		manager.says(t, p, "RELOADING=1")
		manager.says(t, p, "READY=1")
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		manager.says(t, p, "STOPPING=1")
		<-p.done
		if p.err != nil {
			t.Errorf("it ended with %v", p.err)
		}
		p = manager.serve(t, dir, env)
		manager.says(t, p, "READY=1")
		more()
	}
	close(stop)
	callers.Wait()
	p.stop(syscall.SIGTERM)
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	t.Logf("%d requests, two restarts", asked.Load())
}
