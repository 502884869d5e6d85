// Package e2e drives the built binary from outside, with clients that we did not
// write and with requests that no honest client would send.
//
// One binary is built per run, and one `signalbox dev` serves the tests that leave
// no trace for others: see dev. A test that disables, floods or restarts starts its
// own with startDev or startServe.
//
// A letter with a number, such as E64, is an attack of docs/security/threats.md. A number
// of a promise is that of docs/explanation/promises.md.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// startLimit is generous: a busy machine is not a failure, a hang is.
const startLimit = 30 * time.Second

var binary string // the path of the built signalbox

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "signalbox-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "signalbox")
	build := exec.Command("go", "build", "-o", binary, "./cmd/signalbox")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/signalbox: %v\n%s", err, out)
		return 1
	}
	// Deferred as a closure: what is shared starts with the first test that needs it.
	defer func() { shared.stop(); house.stop() }()
	return m.Run()
}

// need skips a test that needs what this machine lacks. With CI=true the test fails:
// a green run that tested less than it says is worse than a red one.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true, but this machine has no %s", what)
	default:
		t.Skipf("NOT TESTED: this machine has no %s (make test installs it)", what)
	}
}

// user, client and server are what the ready file of `signalbox dev` holds.
type user struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type client struct {
	ID           string   `json:"client_id"`
	Secret       string   `json:"client_secret"`
	GrantTypes   []string `json:"grant_types"`
	RedirectURIs []string `json:"redirect_uris"`
}

type server struct {
	Issuer     string   `json:"issuer"` // of a second node: where it listens
	AdminURL   string   `json:"admin_url"`
	AdminToken string   `json:"admin_token"`
	Users      []user   `json:"users"`
	Clients    []client `json:"clients"`

	dir  string // the data directory of dev, the working directory of serve
	proc *process
}

func (s *server) stop() {
	if s != nil && s.proc != nil {
		// A connection that was opened and never used would delay the drain by 5 s.
		plainClient.CloseIdleConnections()
		s.proc.stop(syscall.SIGTERM)
	}
}

// pick returns the first client that has all of what want says.
func (s *server) pick(t *testing.T, what string, want func(client) bool) client {
	t.Helper()
	i := slices.IndexFunc(s.Clients, want)
	if i < 0 {
		t.Fatalf("signalbox dev registered no %s: %+v", what, s.Clients)
	}
	return s.Clients[i]
}

func (s *server) machine(t *testing.T) client {
	t.Helper()
	return s.pick(t, "client for client credentials", func(c client) bool {
		return slices.Contains(c.GrantTypes, "client_credentials") && c.Secret != "" && len(c.RedirectURIs) == 0
	})
}

func (s *server) webApp(t *testing.T) client {
	t.Helper()
	return s.pick(t, "confidential client for the authorization code flow", func(c client) bool {
		return slices.Contains(c.GrantTypes, "authorization_code") && c.Secret != ""
	})
}

func (s *server) nativeApp(t *testing.T) client {
	t.Helper()
	return s.pick(t, "public client for the authorization code flow", func(c client) bool {
		return slices.Contains(c.GrantTypes, "authorization_code") && c.Secret == ""
	})
}

// resourceServer is the client that introspects and gets no tokens of its own.
func (s *server) resourceServer(t *testing.T) client {
	t.Helper()
	return s.pick(t, "client for a resource server", func(c client) bool {
		return c.Secret != "" && len(c.GrantTypes) == 0
	})
}

// shared is the server of all tests that leave no trace.
var shared *server

var startShared sync.Once

// dev returns the `signalbox dev` that all tests of this run share.
func dev(t *testing.T) *server {
	t.Helper()
	startShared.Do(func() { shared = runDev(t, sharedDir(t)) })
	if shared == nil {
		t.Fatal("the shared signalbox dev did not start: see the first test that failed")
	}
	return shared
}

// startDev runs a `signalbox dev` of the test's own.
func startDev(t *testing.T, args ...string) *server {
	t.Helper()
	s := runDev(t, t.TempDir(), args...)
	t.Cleanup(func() { s.stop() })
	return s
}

func runDev(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	ready := filepath.Join(dir, "ready.json")
	data := filepath.Join(dir, "data")
	args = append([]string{"dev", "--listen", "127.0.0.1:0", "--data", data, "--ready-file", ready}, args...)
	proc := start(t, dir, nil, args...)
	s := &server{dir: data, proc: proc}
	proc.wait(t, "its ready file", func() bool {
		raw, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(raw, s) == nil && s.Issuer != ""
	})
	return s
}

// serveConfig is what a configuration of startServe may name as {{.Name}}.
type serveConfig struct {
	Issuer string // http://127.0.0.1:PORT, this node's or the first node's
	Public string // host:port
	Admin  string // host:port
	Dir    string // an empty directory, with master.key in it
}

// serveHead starts every configuration of startServe, on its own ports and SQLite.
const serveHead = `issuer: {{.Issuer}}
listen: {public: "{{.Public}}", admin: "{{.Admin}}"}
tls: {off: true}
secrets: {master_key_file: {{.Dir}}/master.key}
`

const onSQLite = "storage: {url: \"sqlite:{{.Dir}}/signalbox.db\"}\n"

// startServe runs `signalbox serve` on a configuration, a template of serveConfig.
// files are written beside it first; the key is the name.
func startServe(t *testing.T, config string, files map[string]string) *server {
	t.Helper()
	s := runServe(t, t.TempDir(), "", config, files)
	t.Cleanup(func() { s.stop() })
	return s
}

// runServe starts a node in dir. The issuer is the node's own address unless the node
// joins another's.
func runServe(t *testing.T, dir, issuer, config string, files map[string]string) *server {
	t.Helper()
	s := configure(t, dir, issuer, config, files)
	s.serve(t)
	return s
}

// configure writes what runServe starts.
func configure(t *testing.T, dir, issuer, config string, files map[string]string) *server {
	t.Helper()
	c := serveConfig{Issuer: issuer, Public: freeAddress(t), Admin: freeAddress(t), Dir: dir}
	if issuer == "" {
		c.Issuer = "http://" + c.Public
	}
	var text bytes.Buffer
	if err := template.Must(template.New("config").Parse(config)).Execute(&text, c); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("master.key", "6532652d6d61737465722d6b6579206f6620746869727479206279746573212100")
	for name, content := range files {
		write(name, content)
	}
	write("signalbox.yaml", text.String())
	return &server{Issuer: "http://" + c.Public, AdminURL: "http://" + c.Admin, dir: dir}
}

// sharedDir is a directory that lives until the last test has ended.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(binary), "shared")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve starts the process of startServe; again after a stop or a kill.
func (s *server) serve(t *testing.T, more ...string) {
	t.Helper()
	s.proc = start(t, s.dir, nil, append([]string{"serve", "--config", filepath.Join(s.dir, "signalbox.yaml")}, more...)...)
	s.proc.wait(t, "200 from /readyz", func() bool {
		resp, err := http.Get(s.AdminURL + "/readyz") // the public one may speak TLS
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// freeAddress finds a port that nothing listens on. If another program takes it first,
// the test fails with the service's own error.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		// The kernel may give the same one again, as long as nobody listens on it.
		if _, taken := givenAddresses.LoadOrStore(address, true); !taken {
			return address
		}
	}
}

var givenAddresses sync.Map

// process is one running program: a signalbox, or what it talks to.
type process struct {
	cmd  *exec.Cmd
	out  *lockedBuffer // stdout and stderr, as they came
	done chan struct{} // closed when it has ended
	err  error         // after done: how
}

func start(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	return startProgram(t, cmd)
}

func startProgram(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: new(lockedBuffer), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", p, p.out.tail(8<<10))
		}
	})
	return p
}

func (p *process) String() string {
	return strings.Join(append([]string{filepath.Base(p.cmd.Path)}, p.cmd.Args[1:]...), " ")
}

// wait polls, since another process sends no event when it is ready.
func (p *process) wait(t *testing.T, what string, ready func() bool) {
	t.Helper()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	for !ready() {
		select {
		case <-p.done:
			t.Fatalf("%s ended (%v) before %s:\n%s", p, p.err, what, p.out.tail(8<<10))
		case <-limit.C:
			p.stop(syscall.SIGKILL)
			t.Fatalf("no %s within %v:\n%s", what, startLimit, p.out.tail(8<<10))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop sends the signal and waits until the process has ended; one that hangs is killed.
func (p *process) stop(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(startLimit):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of the output, without the lines of successful requests.
func (l *lockedBuffer) tail(n int) string {
	var kept strings.Builder
	for line := range strings.Lines(l.String()) {
		if !strings.Contains(line, `"level":"INFO","msg":"request"`) {
			kept.WriteString(line)
		}
	}
	s := kept.String()
	return s[max(0, len(s)-n):]
}

// run runs one command of the command line until it ends.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("signalbox %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// reply is an answer, completely read.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any // nil where the body is not a JSON object
}

func (r reply) str(name string) string {
	s, _ := r.JSON[name].(string)
	return s
}

func (r reply) String() string {
	return fmt.Sprintf("%d %v\n%s", r.Status, r.Header, r.Body[:min(len(r.Body), 2000)])
}

// readReply fails the test without ending it, so that requests can run in parallel. The
// empty reply then fails every check.
func readReply(t *testing.T, resp *http.Response, err error) reply {
	t.Helper()
	if err != nil {
		t.Error(err)
		return reply{}
	}
	r, err := readAll(resp)
	if err != nil {
		t.Error(err)
	}
	return r
}

func readAll(resp *http.Response) (reply, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	r := reply{Status: resp.StatusCode, Header: resp.Header, Body: body}
	_ = json.Unmarshal(body, &r.JSON)
	return r, err
}

// tool is a program that `make test` builds: a server of another project that the
// service talks to.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../.cache/tools", name))
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(path)
	need(t, err == nil, name)
	return path
}
