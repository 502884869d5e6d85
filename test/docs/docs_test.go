package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

var update = flag.Bool("update", false, "write the generated pages of docs/reference")

// limit is generous: a busy machine is not a failure, a hang is.
const limit = 60 * time.Second

var (
	checkout string // the root of the repository
	binDir   string // signalbox, and a `go` that runs it for `go run ./cmd/signalbox`
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	flag.Parse()
	var err error
	if checkout, err = filepath.Abs("../.."); err == nil {
		binDir, err = os.MkdirTemp("", "signalbox-docs")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binDir)
	build := exec.Command("go", "build", "-o", filepath.Join(binDir, "signalbox"), "./cmd/signalbox")
	build.Dir = checkout
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/signalbox: %v\n%s", err, out)
		return 1
	}
	return rig.Main(m)
}

// pages are all documents, relative to the checkout.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(checkout, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(checkout, "docs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range found {
		if found[i], err = filepath.Rel(checkout, path); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(checkout, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPages runs every block of every page. Pages are independent: each has
// its own folder, its own `signalbox dev` and its own shell.
func TestPages(t *testing.T) {
	ran, skipped := 0, []string(nil)
	t.Cleanup(func() {
		t.Logf("%d blocks tested; not run: %d\n  %s", ran, len(skipped), strings.Join(skipped, "\n  "))
	})
	for _, page := range pages(t) {
		blocks, errs := parse(page, read(t, page))
		for _, err := range errs {
			t.Error(err)
		}
		if len(errs) > 0 {
			continue
		}
		for _, b := range blocks {
			switch b.mark {
			case "skip":
				skipped = append(skipped, b.String()+": "+b.more)
			case "illustration": // the generated pages are compared as a whole, by TestReference
			default:
				ran++
			}
		}
		if len(blocks) > 0 {
			t.Run(page, func(t *testing.T) { runPage(t, blocks) })
		}
	}
	if len(skipped) > mostSkipped {
		t.Errorf("%d blocks are not run, more than %d: find a way to run them", len(skipped), mostSkipped)
	}
}

const mostSkipped = 13

func runPage(t *testing.T, blocks []block) {
	for _, tool := range []string{"bash", "curl", "openssl", "awk", "sha256sum"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true, but this machine has no %s", tool)
		}
		t.Skipf("NOT TESTED: this machine has no %s", tool)
	}
	w := newWorkplace(t, blocks)
	defer func() {
		if !t.Failed() {
			w.leavesNothing(t)
		}
	}()
	last := ""
	for _, b := range blocks {
		switch b.mark {
		case "run":
			last = w.run(t, b)
		case "background":
			w.background(t, b)
		case "output":
			if err := holds(last, w.local(b.text)); err != nil {
				t.Errorf("%s: the block before it did not print this: %v", b, err)
			}
		case "file":
			if err := os.WriteFile(filepath.Join(w.dir, b.more), []byte(w.local(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "config":
			w.validate(t, b)
		case "dev":
			text := strings.TrimSpace(b.text)
			if !devCommand.MatchString(text) {
				t.Errorf("%s: %q is not the dev that this test starts", b, text)
			}
			if w.kubernetes != nil { // its kubeconfig is made by a block before
				_, more, _ := strings.Cut(text, " --data demo")
				w.dev(t, more)
			}
			last = w.banner
		case "apiserver":
			w.apiserver(t, b)
		}
		if t.Failed() {
			return // what follows builds on it
		}
	}
}

var devCommand = regexp.MustCompile(`^(go run \./cmd/signalbox|signalbox) dev( --data demo( --kubernetes demo/dev.kubeconfig)?)?$`)

const readersDatabase = "postgres://signalbox@db.example.com/signalbox?sslmode=verify-full"

// ownDatabase makes a database for this page on the PostgreSQL that `make
// test` has started.
func ownDatabase(t *testing.T) string {
	t.Helper()
	address := os.Getenv("SIGNALBOX_TEST_POSTGRES")
	if address == "" && os.Getenv("CI") != "true" {
		t.Skip("NOT TESTED: this machine has no PostgreSQL (SIGNALBOX_TEST_POSTGRES; make test starts one)")
	}
	u, err := url.Parse(address)
	if err != nil || address == "" {
		t.Fatalf("SIGNALBOX_TEST_POSTGRES: %v", err)
	}
	name := fmt.Sprintf("docs_%d_%d", os.Getpid(), time.Now().UnixNano())
	db, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the services have ended: cleanups run last in, first out
		ctx := context.Background()
		if _, err := db.Exec(ctx, "DROP DATABASE "+name); err != nil {
			t.Error(err)
		}
		_ = db.Close(ctx)
	})
	u.Path = "/" + name
	return u.String()
}

// workplace is where the blocks of one page run.
type workplace struct {
	dir   string
	env   []string
	ports *strings.Replacer // from a default dev's addresses to those of this test
	// database is this page's own, if it needs one.
	database string
	// kubernetes are the clusters of a page that has some.
	kubernetes *rig.Rig
	demo       *process // the dev
	banner     string   // what dev has printed
	shell      *shell
}

func newWorkplace(t *testing.T, blocks []block) *workplace {
	w := &workplace{dir: t.TempDir()}
	w.env = append(cleanEnv(), "PATH="+binDir+":"+os.Getenv("PATH"), "HOME="+w.dir, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "NO_COLOR=1")
	w.env = append(w.env, goCaches()...) // their defaults hang on HOME
	w.ports = strings.NewReplacer()
	if !slices.ContainsFunc(blocks, func(b block) bool { return b.mark == "run" || b.mark == "background" }) {
		return w
	}
	w.database = readersDatabase
	if slices.ContainsFunc(blocks, func(b block) bool {
		return (b.mark == "run" || b.mark == "file") && strings.Contains(b.text, readersDatabase)
	}) {
		w.database = ownDatabase(t)
	}
	if slices.ContainsFunc(blocks, func(b block) bool { return b.mark == "run" && b.lang == "sh" && strings.Contains(b.text, "kubectl ") }) {
		w.clusters(t)
		if slices.ContainsFunc(blocks, func(b block) bool { return b.mark == "run" && strings.Contains(b.text, "helm ") }) {
			w.helm(t)
		}
		return w
	}
	// A page about `serve` has its own service; the others meet a dev.
	if slices.ContainsFunc(blocks, func(b block) bool {
		return (b.mark == "background" || b.mark == "file") && strings.Contains(b.text, " serve ")
	}) {
		w.ownService(t)
	} else if slices.ContainsFunc(blocks, func(b block) bool { return strings.Contains(b.text, "127.0.0.1") || strings.Contains(b.text, "demo/") }) {
		w.dev(t, "")
	}
	return w
}

// clusters gives the page two clusters: that of the reader's kubeconfig, and a second one whose administrator's kubeconfig is in the variable SPOKE.
func (w *workplace) clusters(t *testing.T) {
	t.Helper()
	w.kubernetes = rig.Start(t)
	w.kubernetes.Hub.Namespace(t, "default")
	if err := os.MkdirAll(filepath.Join(w.dir, "demo"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+binDir+":"+w.kubernetes.Programs+":"+os.Getenv("PATH"),
		"KUBECONFIG="+w.kubernetes.Hub.Kubeconfig(), "SPOKE="+w.kubernetes.SpokeA.Kubeconfig())
}

// helm gives the page the tool that `make test` builds, and the checkout's charts.
func (w *workplace) helm(t *testing.T) {
	t.Helper()
	tools := filepath.Join(checkout, ".cache", "tools")
	if _, err := os.Stat(filepath.Join(tools, "helm")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true, but this machine has no helm")
		}
		t.Skip("NOT TESTED: this machine has no helm (make test builds it)")
	}
	if err := os.Symlink(filepath.Join(checkout, "deploy"), filepath.Join(w.dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+binDir+":"+w.kubernetes.Programs+":"+tools+":"+os.Getenv("PATH"))
}

var authenticationFile = regexp.MustCompile(`--authentication-config=(\S+)`)

// apiserver gives the second cluster the file that the block names.
func (w *workplace) apiserver(t *testing.T, b block) {
	t.Helper()
	m := authenticationFile.FindStringSubmatch(b.text)
	if m == nil || w.kubernetes == nil {
		t.Fatalf("%s: no --authentication-config, or no cluster", b)
	}
	text, err := os.ReadFile(filepath.Join(w.dir, m[1]))
	if err != nil {
		t.Fatal(err)
	}
	w.kubernetes.SpokeA.SetAuthenticationConfig(t, string(text))
}

var goCaches = sync.OnceValue(func() []string {
	var kept []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		if value, err := command("go", "env", name); err == nil {
			kept = append(kept, name+"="+strings.TrimSpace(value))
		}
	}
	return kept
})

// cleanEnv omits what would change what the commands do.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "SIGNALBOX_") && !strings.HasPrefix(kv, "SIGNALBOX_TEST_") || strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "HOME=")
	})
}

// dev starts `signalbox dev --data demo`, as the page tells its reader.
func (w *workplace) dev(t *testing.T, more string) {
	t.Helper()
	ready := filepath.Join(w.dir, "ready.json")
	w.demo = w.start(t, "signalbox dev --data demo --listen 127.0.0.1:0 --ready-file ready.json"+more)
	w.demo.await(t, "Stop with Ctrl-C")
	w.banner = w.demo.text()
	// The file comes last; the banner is printed just before it.
	var urls struct{ Issuer, AdminURL string }
	for deadline := time.Now().Add(limit); ; {
		data, err := os.ReadFile(ready)
		if err == nil {
			var raw map[string]any
			if err := json.Unmarshal(data, &raw); err != nil {
				t.Fatal(err)
			}
			urls.Issuer, urls.AdminURL = raw["issuer"].(string), raw["admin_url"].(string)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no ready file: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.ports = strings.NewReplacer(
		"127.0.0.1:8080", strings.TrimPrefix(urls.Issuer, "http://"),
		"127.0.0.1:9090", strings.TrimPrefix(urls.AdminURL, "http://"),
		"127.0.0.1:8443", "127.0.0.1:"+freePort(t),
		"127%3A8080", "127%3A8080")
	w.env = append(w.env, "SIGNALBOX_ADMIN_URL="+urls.AdminURL)
	if w.shell != nil { // which has started with what was there
		w.run(t, block{page: "dev", text: "export SIGNALBOX_ADMIN_URL=" + urls.AdminURL + "\n"})
	}
}

// ownService gives the page's `serve` free ports, by the variables that
// override the file.
func (w *workplace) ownService(t *testing.T) {
	t.Helper()
	public, admin := freePort(t), freePort(t)
	owner, become := w.serviceUser(t)
	w.ports = strings.NewReplacer("127.0.0.1:8444", "127.0.0.1:"+freePort(t), "127.0.0.1:9091", "127.0.0.1:"+freePort(t),
		readersDatabase, w.database, "127.0.0.1:8443", "127.0.0.1:"+public,
		"sts.example.com:443", "sts.example.com:"+public, "https://sts.example.com/token", "https://sts.example.com:"+public+"/token",
		"127.0.0.1:9090", "127.0.0.1:"+admin, "/etc/signalbox", w.dir+"/etc", "/var/lib/signalbox", w.dir+"/var",
		"/usr/local/bin/signalbox", "signalbox", "runuser -u signalbox -- ", become,
		"-o signalbox -g signalbox", "-o "+owner+" -g "+owner, "chown -R signalbox:signalbox", "chown -R "+owner+":"+owner)
	w.env = append(w.env, "SIGNALBOX_LISTEN_PUBLIC=127.0.0.1:"+public, "SIGNALBOX_LISTEN_ADMIN=127.0.0.1:"+admin,
		"SIGNALBOX_ADMIN_URL=http://127.0.0.1:"+admin)
}

// serviceUser takes the place of the user that a page has made: owner is its number,
// and become is put before a command that runs as that user. Only root can become
// somebody else. For anybody else both are one user, and a file with the wrong owner
// goes unnoticed.
func (w *workplace) serviceUser(t *testing.T) (owner, become string) {
	t.Helper()
	if os.Getuid() != 0 {
		return fmt.Sprint(os.Getuid()), ""
	}
	for _, dir := range []string{binDir, filepath.Dir(w.dir), w.dir} { // which may be for root alone
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return "65534", "setpriv --reuid=65534 --regid=65534 --clear-groups "
}

// leavesNothing: a reader's folder may be a checkout, and what a page writes may be a
// secret. So all of it goes to demo/, which Git ignores, or to the folders of a service.
func (w *workplace) leavesNothing(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "deploy": // of the checkout
		case name == "demo", name == "etc", name == "var", name == "ready.json", strings.HasPrefix(name, "."): // HOME is here too
		default:
			t.Errorf("the page leaves %s in its reader's folder: write it to demo/, which Git ignores", name)
		}
	}
}

// systemctl replaces that of systemd: it runs the command of the page's unit as the
// user of the unit.
func (w *workplace) systemctl(t *testing.T) string {
	t.Helper()
	units, err := filepath.Glob(filepath.Join(w.dir, "etc", "*.service"))
	if err != nil || len(units) != 1 {
		t.Fatalf("the page starts a service, and its units are %v", units)
	}
	unit, err := os.ReadFile(units[0])
	if err != nil {
		t.Fatal(err)
	}
	setting := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.+)$`).FindSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return string(m[1])
	}
	return w.local("runuser -u "+setting("User")+" -- ") + setting("ExecStart")
}

func freePort(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		_ = ln.Close()
		// The kernel may give the same one again, as long as nobody listens on it.
		if _, taken := givenPorts.LoadOrStore(port, true); !taken {
			return port
		}
	}
}

var givenPorts sync.Map

// local puts this test's addresses in the place of the reader's, and the built
// binary in the place of `go run`.
func (w *workplace) local(text string) string {
	return strings.ReplaceAll(w.ports.Replace(text), "go run ./cmd/signalbox", "signalbox")
}

func (w *workplace) run(t *testing.T, b block) string {
	t.Helper()
	if w.shell == nil {
		w.shell = startShell(t, w)
	}
	want := "0"
	if code, ok := strings.CutPrefix(b.more, "exit "); ok {
		want = code
	}
	dir := w.dir
	if b.more == "checkout" {
		dir = checkout
	}
	text := w.local(b.text)
	if b.more == "go test" { // a test in this module
		file := filepath.Join(t.TempDir(), "page_test.go")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		text, dir = "go test "+file, checkout
	}
	if b.more == "go" { // a program in this module, with the variables of the page
		program := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(program, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		text, dir = w.local("ISSUER=http://127.0.0.1:8080 TOKEN=$TOKEN go run "+program), checkout
	}
	output, code := w.shell.do(t, b, text, dir, want != "0")
	if code != want {
		t.Fatalf("%s: exit code %s, want %s\n%s\n%s", b, code, want, indent(b.text), indent(output))
	}
	return output
}

func (w *workplace) background(t *testing.T, b block) {
	t.Helper()
	command := w.local(b.text)
	if strings.HasPrefix(command, "systemctl ") {
		command = w.systemctl(t)
	}
	if w.demo != nil && strings.Contains(command, " serve ") { // the reader has stopped it
		_ = w.demo.cmd.Process.Signal(syscall.SIGINT)
		<-w.demo.ended
	}
	w.start(t, command).await(t, b.more)
}

// process is a command that runs beside the page until the page ends.
type process struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	output bytes.Buffer
	news   chan struct{}
	ended  chan struct{}
}

func (w *workplace) start(t *testing.T, command string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("bash", "-c", "exec env "+command), news: make(chan struct{}, 1), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = w.dir, w.env, p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(limit):
			_ = p.cmd.Process.Kill()
			t.Errorf("%s did not end", command)
		}
	})
	return p
}

func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Write(data)
	select {
	case p.news <- struct{}{}:
	default:
	}
	return len(data), nil
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (p *process) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(limit)
	for !strings.Contains(p.text(), text) {
		select {
		case <-p.news:
		case <-p.ended:
			t.Fatalf("%s ended before it printed %q:\n%s", p.cmd, text, indent(p.text()))
		case <-timeout:
			t.Fatalf("%s did not print %q:\n%s", p.cmd, text, indent(p.text()))
		}
	}
}

// shell is one bash that runs the blocks of a page one after another, so that
// a variable of one is there for the next.
type shell struct {
	in  io.WriteCloser
	out *process
	n   int
}

func startShell(t *testing.T, w *workplace) *shell {
	t.Helper()
	p := &process{cmd: exec.Command("bash", "--noprofile", "--norc"), news: make(chan struct{}, 1), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = w.dir, w.env, p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = in.Close()
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second):
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group that this test has made
		}
	})
	return &shell{in: in, out: p}
}

// do runs a block and returns what it printed and its exit code. A block that
// must fail runs in a shell of its own, since it ends that.
func (s *shell) do(t *testing.T, b block, text, dir string, mayFail bool) (output, code string) {
	t.Helper()
	s.n++
	file := filepath.Join(t.TempDir(), fmt.Sprintf("block-%d.sh", s.n))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	done := fmt.Sprintf("\n@@ %d done ", s.n)
	before := len(s.out.text())
	// Commands read no standard input: it holds the script.
	script := fmt.Sprintf("cd %q; set -eo pipefail; source %q </dev/null; set +e; printf '\\n@@ %d done 0 @@\\n'\n", dir, file, s.n)
	if mayFail {
		script = fmt.Sprintf("cd %q; (set -eo pipefail; source %q </dev/null); printf '\\n@@ %d done %%s @@\\n' $?\n", dir, file, s.n)
	}
	if _, err := io.WriteString(s.in, script); err != nil {
		t.Fatalf("%s: the shell is gone: %v", b, err)
	}
	timeout := time.After(limit)
	for {
		if output, rest, ok := strings.Cut(s.out.text()[before:], done); ok {
			if code, _, ok := strings.Cut(rest, " @@"); ok {
				return output, code
			}
		}
		select {
		case <-s.out.news:
		case <-s.out.ended:
			return s.out.text()[before:], fmt.Sprint(s.out.cmd.ProcessState.ExitCode())
		case <-timeout:
			t.Fatalf("%s: still running after %s\n%s", b, limit, indent(s.out.text()[before:]))
		}
	}
}
