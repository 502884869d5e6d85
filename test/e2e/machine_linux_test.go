package e2e

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestANewMachine installs the package on a fresh Debian that has no network, follows
// what init says, starts what the unit starts, upgrades under load, and removes it.
// There is no systemd in a chroot: supervisor does its part.
func TestANewMachine(t *testing.T) {
	if os.Getenv("SIGNALBOX_TEST_MACHINE") != "" {
		newMachine(t, os.Getenv("SIGNALBOX_TEST_MACHINE"))
		return
	}
	need(t, os.Getuid() == 0, "root")
	image, err := exec.Command("../../scripts/debian.sh").Output()
	need(t, err == nil, "fresh Debian (scripts/debian.sh)")
	work := t.TempDir()
	root := filepath.Join(work, "root")
	host := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	host("mkdir", root)
	host("tar", "-C", root, "-xf", strings.TrimSpace(string(image)))
	host("go", "run", "-C", "../../release", ".", "-targets", "linux/amd64", "-dist", filepath.Join(work, "dist"))
	debs, err := filepath.Glob(filepath.Join(work, "dist", "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatal(debs, err)
	}
	host("cp", debs[0], filepath.Join(root, "tmp/now.deb"))
	// The next snapshot: the same files, and a newer version.
	host("dpkg-deb", "-R", debs[0], filepath.Join(work, "next"))
	control := filepath.Join(work, "next/DEBIAN/control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	next := regexp.MustCompile(`(?m)^Version: (.*)$`).ReplaceAll(text, []byte("Version: $1.1"))
	if err := os.WriteFile(control, next, 0o644); err != nil {
		t.Fatal(err)
	}
	host("dpkg-deb", "--root-owner-group", "-Znone", "-b", filepath.Join(work, "next"), filepath.Join(root, "tmp/next.deb"))
	inside := exec.Command("unshare", "--net", "--mount", os.Args[0], "-test.run=^TestANewMachine$", "-test.v")
	inside.Env = append(os.Environ(), "SIGNALBOX_TEST_MACHINE="+root)
	out, err := inside.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// unchanged is what belongs to dpkg and to the system: it may differ after a removal.
// The user stays because the data belongs to it.
var unchanged = regexp.MustCompile(`^/(tmp|proc|dev|run|var/lib/dpkg|var/log|var/cache|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?)(/|$)`)

func filesOf(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if name != "" && unchanged.MatchString(name) {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		files = append(files, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func newMachine(t *testing.T, root string) {
	in := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command("chroot", append([]string{root, name}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666), os.MkdirAll(filepath.Join(root, "run"), 0o755)); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, root)
	if said := in("dpkg", "-i", "/tmp/now.deb"); !strings.Contains(said, "signalbox init --dir /etc/signalbox") {
		t.Errorf("the package does not say what comes next:\n%s", said)
	}
	if said := in("signalbox", "version"); strings.Contains(said, "version dev") {
		t.Error(said)
	}
	const issuer = "http://127.0.0.1:8443"
	said := in("signalbox", "init", "--dir", "/etc/signalbox", "--data", "/var/lib/signalbox", "--issuer", issuer)
	for _, step := range []string{"chown -R signalbox /etc/signalbox", "install -d -m 0700 -o signalbox /var/lib/signalbox"} {
		if !strings.Contains(said, step) {
			t.Errorf("init does not say %q:\n%s", step, said)
		}
		in("sh", "-c", step)
	}

	unit, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/signalbox.service"))
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(string(unit))[1]
	manager := newSupervisorAt(t, filepath.Join(root, "run/notify"))
	if err := os.Chmod(manager.path, 0o777); err != nil {
		t.Fatal(err)
	}
	serve := func() *process {
		t.Helper()
		manager.mu.Lock()
		defer manager.mu.Unlock()
		cmd := exec.Command("chroot", "--userspec=signalbox:signalbox", root, "sh", "-c", "LISTEN_PID=$$ exec "+command)
		cmd.Env = append(manager.passes(cmd), "PATH=/usr/bin:/bin", "NOTIFY_SOCKET=/run/notify")
		p := startProgram(t, cmd)
		return p
	}
	p := serve()
	manager.says(t, p, "READY=1")

	secret, err := os.ReadFile(filepath.Join(root, "etc/signalbox/ops.secret"))
	if err != nil {
		t.Fatal(err)
	}
	in("signalbox", "context", "create", "local", "--issuer", issuer, "--client-id", "ops", "--client-secret-file", "/etc/signalbox/ops.secret")
	if token := in("signalbox", "token", "get", "--resource", "urn:signalbox:admin"); strings.Count(token, ".") != 2 {
		t.Errorf("the first token is %q", token)
	}
	if err := os.RemoveAll(filepath.Join(root, "root/.config")); err != nil { // the operator's, not the package's
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "root/.cache")); err != nil {
		t.Fatal(err)
	}

	var asked, failed atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 60 * time.Second}
			for {
				select {
				case <-stop:
					client.CloseIdleConnections()
					return
				default:
				}
				asked.Add(1)
				request, err := http.NewRequest(http.MethodPost, issuer+"/token", strings.NewReader("grant_type=client_credentials&resource=urn:signalbox:admin"))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				request.SetBasicAuth("ops", strings.TrimSpace(string(secret)))
				r, err := client.Do(request)
				if err != nil || r.StatusCode != 200 {
					failed.Add(1)
					t.Logf("%v %v", r, err)
				}
				if err == nil {
					_ = r.Body.Close()
				}
			}
		})
	}
	more := func() {
		t.Helper()
		from := asked.Load()
		p.wait(t, "more requests", func() bool { return asked.Load() > from+50 })
	}
	more()
	in("dpkg", "-i", "/tmp/next.deb")
	more()
	// systemctl try-restart, which the package asks for where systemd runs.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	p = serve()
	manager.says(t, p, "READY=1")
	more()
	close(stop)
	callers.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed in the upgrade", failed.Load(), asked.Load())
	}
	t.Logf("upgraded under load: %d requests, %d failed", asked.Load(), failed.Load())
	p.stop(syscall.SIGTERM)

	in("dpkg", "-r", "signalbox")
	data := regexp.MustCompile(`^/(etc|var/lib)/signalbox(/|$)`)
	kept := 0
	for _, file := range filesOf(t, root) {
		switch {
		case data.MatchString(file):
			kept++
		case !slices.Contains(before, file):
			t.Errorf("left behind: %s", file)
		}
	}
	if kept < 6 {
		t.Errorf("of the data %d files are left", kept)
	}
}
