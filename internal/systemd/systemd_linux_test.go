package systemd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is what a test has in the place of systemd.
type manager struct {
	*net.UnixConn
	path string
}

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return manager{conn, path}
}

// hear is the next message, and the descriptor that came with it or -1.
func (m manager) hear(t *testing.T) (string, int) {
	t.Helper()
	text, rights := make([]byte, 4096), make([]byte, 4096)
	n, r, _, _, err := m.ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if messages, err := syscall.ParseSocketControlMessage(rights[:r]); err == nil && len(messages) == 1 {
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%v %v", fds, err)
		}
		fd = fds[0]
	}
	return string(text[:n]), fd
}

func (m manager) env(name string) string {
	if name == "NOTIFY_SOCKET" {
		return m.path
	}
	return ""
}

func TestWithoutSystemdNothingIsSaid(t *testing.T) {
	m := Find(func(string) string { return "" })
	if err := m.Notify(Ready); err != nil {
		t.Error(err)
	}
	ln, err := m.Listen("public", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
}

func TestWhatIsNotHeardIsAnError(t *testing.T) {
	m := Find(func(string) string { return filepath.Join(t.TempDir(), "nobody") })
	if err := m.Notify(Ready); err == nil || !strings.Contains(err.Error(), "READY=1") {
		t.Errorf("%v", err)
	}
	if ln, err := m.Listen("public", "127.0.0.1:0"); err == nil {
		_ = ln.Close()
		t.Error("a listener that systemd does not keep is served as if it did")
	}
}

func TestReloadingTellsWhen(t *testing.T) {
	heard := newManager(t)
	if err := Find(heard.env).Notify(Reloading()...); err != nil {
		t.Fatal(err)
	}
	text, _ := heard.hear(t)
	if first, second, _ := strings.Cut(text, "\n"); first != "RELOADING=1" || !strings.HasPrefix(second, "MONOTONIC_USEC=") || strings.HasSuffix(second, "=0") {
		t.Errorf("%q", text)
	}
}

func TestWhoConnectsWhileNobodyAcceptsIsAnsweredByTheNext(t *testing.T) {
	heard := newManager(t)
	ln, err := Find(heard.env).Listen("public", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	text, fd := heard.hear(t)
	if text != "FDSTORE=1\nFDNAME=public" || fd < 0 {
		t.Fatalf("%q with descriptor %d", text, fd)
	}
	address := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	caller, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal("a caller between two processes is refused: ", err)
	}
	defer caller.Close()
	next := &Manager{socket: heard.path, kept: map[string]*os.File{"public": os.NewFile(uintptr(fd), "public")}}
	again, err := next.Listen("public", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	conn, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != caller.LocalAddr().String() {
		t.Errorf("accepted %s, not the caller that waited", conn.RemoteAddr())
	}
}

func TestAnAddressThatChangedIsLetGo(t *testing.T) {
	heard := newManager(t)
	first, err := Find(heard.env).Listen("public", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, fd := heard.hear(t)
	old := first.Addr().String()
	_ = first.Close()
	next := &Manager{socket: heard.path, kept: map[string]*os.File{"public": os.NewFile(uintptr(fd), "public")}}
	ln, err := next.Listen("public", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if text, _ := heard.hear(t); text != "FDSTOREREMOVE=1\nFDNAME=public" {
		t.Errorf("systemd hears %q", text)
	}
	if text, fd := heard.hear(t); text != "FDSTORE=1\nFDNAME=public" || fd < 0 {
		t.Errorf("systemd hears %q", text)
	} else {
		_ = syscall.Close(fd)
	}
	if ln.Addr().(*net.TCPAddr).IP.String() != "127.0.0.2" {
		t.Errorf("it listens on %s", ln.Addr())
	}
	if conn, err := net.Dial("tcp", old); err == nil {
		_ = conn.Close()
		t.Error("the old address still takes callers")
	}
}

func TestListensOn(t *testing.T) {
	at := func(ip string) net.Listener { return addressed{&net.TCPAddr{IP: net.ParseIP(ip), Port: 8443}} }
	for _, row := range []struct {
		name    string
		ln      net.Listener
		address string
		want    bool
	}{
		{"the same address", at("127.0.0.1"), "127.0.0.1:8443", true},
		{"another port", at("127.0.0.1"), "127.0.0.1:8444", false},
		{"another host", at("127.0.0.1"), "127.0.0.2:8443", false},
		{"every interface", at("::"), ":8443", true},
		{"every interface of IPv4", at("::"), "0.0.0.0:8443", true},
		{"narrower than before", at("::"), "127.0.0.1:8443", false},
		{"wider than before", at("127.0.0.1"), ":8443", false},
		{"no address of TCP", addressed{&net.UnixAddr{Name: "x"}}, ":8443", false},
	} {
		if got := listensOn(row.ln, row.address); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

type addressed struct{ at net.Addr }

func (a addressed) Addr() net.Addr            { return a.at }
func (a addressed) Accept() (net.Conn, error) { panic("not asked") }
func (a addressed) Close() error              { return nil }

// TestDescriptorsOfAnEarlierProcess starts this test as systemd would, with
// listeners at descriptors 3 and 4.
func TestDescriptorsOfAnEarlierProcess(t *testing.T) {
	if os.Getenv("SIGNALBOX_TEST_STARTED") == "yes" {
		var got []string
		for name, f := range kept(func(name string) string {
			if name == "LISTEN_PID" { // the shell that systemd is here could not know it
				if other := os.Getenv("LISTEN_PID"); other != "" {
					return other
				}
				return strconv.Itoa(os.Getpid())
			}
			return os.Getenv(name)
		}) {
			ln, err := net.FileListener(f)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, name+" "+ln.Addr().String())
		}
		slices.Sort(got)
		os.Stdout.WriteString("GOT " + strings.Join(got, ",") + "\n")
		return
	}
	var files []*os.File
	var addresses []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, ln.Addr().String())
		files = append(files, f)
		_ = ln.Close()
	}
	for _, row := range []struct {
		name string
		env  []string
		want string
	}{
		{"two with names", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=admin:public"}, "admin " + addresses[0] + ",public " + addresses[1]},
		{"for another process", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=admin:public", "LISTEN_PID=1"}, ""},
		{"a name twice", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=public:public"}, "public " + addresses[0]},
		{"fewer names than descriptors", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=public"}, "public " + addresses[0]},
		{"nonsense", []string{"LISTEN_FDS=-1"}, ""},
		{"far too many", []string{"LISTEN_FDS=100000", "LISTEN_FDNAMES=public"}, ""},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDescriptorsOfAnEarlierProcess$")
		cmd.Env = append(append(os.Environ(), "SIGNALBOX_TEST_STARTED=yes"), row.env...)
		cmd.ExtraFiles = files
		out, err := cmd.CombinedOutput()
		if got, _, _ := strings.Cut(string(out), "\n"); err != nil || got != "GOT "+row.want {
			t.Errorf("%s: %q, want %q (%v)", row.name, got, "GOT "+row.want, err)
		}
	}
}
