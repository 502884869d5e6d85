// Package rig runs real Kubernetes API servers for tests: one etcd, three kube-apiservers
// (hub, spoke-a and spoke-b) that share it by prefix, and kubectl. There is no kubelet and no
// controller: a pod is an object that a test makes and deletes, a namespace stays for the
// whole run, and the roles view, edit and admin are empty. All of it is on loopback and ends
// with the test binary, also when that is killed.
//
// scripts/kube.sh builds the programs. The rig uses no library of Kubernetes.
//
//	func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
//
//	func TestX(t *testing.T) {
//		hub := rig.Start(t).Hub
//		hub.Namespace(t, "shop")
//		hub.ServiceAccount(t, "shop", "orders")
//		pod := hub.Pod(t, "shop", "orders", "orders-1")
//		token := hub.Token(t, pod, "https://sts.example.com", 0)
//		hub.DeletePod(t, pod, 0)
//	}
package rig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rig is one etcd and the API servers on it.
type Rig struct {
	// Hub and SpokeA have the issuer that most clusters have, SpokeB has its own.
	Hub, SpokeA, SpokeB *Cluster

	Programs string // the directory of kube-apiserver, etcd and kubectl

	dir     string // of everything that the rig writes
	etcd    *process
	etcdURL string
}

// shared is the rig of this test binary.
var shared struct {
	once sync.Once
	rig  *Rig
	err  error
}

// Main runs the tests and then ends the rig, if one of them has started it.
func Main(m *testing.M) int {
	defer func() {
		if shared.rig != nil {
			shared.rig.stop()
		}
	}()
	return m.Run()
}

// Start returns the rig that all tests of this binary share; the first call starts it. A
// test uses namespaces of its own, and what it does to an API server is undone when it ends.
// Where the programs have not been built the test is skipped, and with CI=true it fails.
// When a test fails it shows what the API servers logged meanwhile.
func Start(t testing.TB) *Rig {
	t.Helper()
	shared.once.Do(func() { shared.rig, shared.err = start() })
	switch {
	case errors.Is(shared.err, errNotBuilt) && os.Getenv("CI") != "true":
		t.Skip("NOT TESTED: this machine has no kube-apiserver (make test or scripts/kube.sh builds it)")
	case shared.err != nil:
		t.Fatal(shared.err)
	}
	for _, c := range []*Cluster{shared.rig.Hub, shared.rig.SpokeA, shared.rig.SpokeB} {
		c.showLogOfFailure(t)
	}
	return shared.rig
}

// Alone starts etcd and one API server for a program that is no test. The program
// calls stop at its end.
func Alone(name string) (c *Cluster, stop func(), err error) {
	programs, err := programs("kube.sh")
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "signalbox-kube")
	if err != nil {
		return nil, nil, err
	}
	r := &Rig{Programs: programs, dir: dir}
	if err = r.startEtcd(); err == nil {
		r.Hub, err = r.newCluster(name, Options{})
	}
	if err != nil {
		r.stop()
		return nil, nil, err
	}
	return r.Hub, r.stop, nil
}

// Add starts one more API server, for this test alone.
func (r *Rig) Add(t testing.TB, name string, options Options) *Cluster {
	t.Helper()
	c, err := r.newCluster(name, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.server.kill()
		os.RemoveAll(c.dir)
	})
	c.showLogOfFailure(t)
	return c
}

func start() (*Rig, error) {
	programs, err := programs("kube.sh")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "signalbox-kube")
	if err != nil {
		return nil, err
	}
	r := &Rig{Programs: programs, dir: dir}
	if err := r.startAll(); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (r *Rig) startAll() error {
	if err := r.startEtcd(); err != nil {
		return err
	}
	// Together: most of an API server's start is waiting.
	var wait sync.WaitGroup
	var errs [3]error
	for i, c := range []struct {
		to      **Cluster
		name    string
		options Options
	}{
		{&r.Hub, "hub", Options{}},
		{&r.SpokeA, "spoke-a", Options{}},
		{&r.SpokeB, "spoke-b", Options{Issuer: "https://oidc.spoke-b.example.com"}},
	} {
		wait.Go(func() { *c.to, errs[i] = r.newCluster(c.name, c.options) })
	}
	wait.Wait()
	return errors.Join(errs[:]...)
}

func (r *Rig) startEtcd() error {
	client, peer := FreeAddress(), FreeAddress()
	r.etcdURL = "http://" + client
	var err error
	r.etcd, err = startProcess(filepath.Join(r.dir, "etcd.log"), exec.Command(filepath.Join(r.Programs, "etcd"),
		"--data-dir", filepath.Join(r.dir, "etcd"),
		"--listen-client-urls", r.etcdURL, "--advertise-client-urls", r.etcdURL,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", "default=http://"+peer,
		"--unsafe-no-fsync", "--log-level", "warn"))
	if err != nil {
		return err
	}
	return r.etcd.wait("etcd is ready", func() bool {
		answer, err := http.Get(r.etcdURL + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// Stored is everything that the clusters keep in etcd now, as etcd has it.
func (r *Rig) Stored(t testing.TB) [][]byte {
	t.Helper()
	// All keys begin with "/", and "0" is what follows it.
	answer, err := http.Post(r.etcdURL+"/v3/kv/range", "application/json", strings.NewReader(`{"key":"Lw==","range_end":"MA=="}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var found struct {
		KVs []struct{ Value []byte }
	}
	if err := json.NewDecoder(answer.Body).Decode(&found); err != nil || answer.StatusCode != http.StatusOK || len(found.KVs) == 0 {
		t.Fatalf("etcd: %d, %d keys, %v", answer.StatusCode, len(found.KVs), err)
	}
	var values [][]byte
	for _, kv := range found.KVs {
		values = append(values, kv.Value)
	}
	return values
}

func (r *Rig) stop() {
	for _, c := range []*Cluster{r.Hub, r.SpokeA, r.SpokeB} {
		if c != nil {
			c.server.kill()
		}
	}
	r.etcd.kill()
	os.RemoveAll(r.dir)
}

var errNotBuilt = errors.New("not built: run scripts/kube.sh build and scripts/gitops.sh build")

// programs asks a script of ours where it has put what it built: scripts/kube.sh, or
// scripts/gitops.sh. The script is in the checkout, at or above the directory of the tests.
func programs(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "scripts", name)
		if _, err := os.Stat(script); err == nil {
			out, err := exec.Command(script, "path").Output()
			if err != nil {
				return "", errNotBuilt
			}
			return string(bytes.TrimSpace(out)), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("scripts/%s is in no directory above the tests", name)
		}
	}
}

var addresses struct {
	sync.Mutex
	next int
}

// FreeAddress returns an address on loopback where nobody listens. The ports are below those
// that the kernel gives to clients, so a server that was stopped finds its port free again.
func FreeAddress() string {
	addresses.Lock()
	defer addresses.Unlock()
	if addresses.next == 0 {
		addresses.next = 20000 + os.Getpid()%10000 // two test binaries at once begin at different ones
	}
	for {
		addresses.next++
		address := fmt.Sprintf("127.0.0.1:%d", addresses.next)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
}

// tail is the end of a log, from the given offset on, without what every start repeats: an
// API server drops connections to etcd that it no longer needs.
func tail(path string, from int64) string {
	const most = 16 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		from = max(from, info.Size()-most)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return err.Error()
	}
	var lines strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "addrConn.createTransport failed") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// startLimit is generous: a busy machine is not a failure, a hang is.
const startLimit = 2 * time.Minute
