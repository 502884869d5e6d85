//go:build linux

package proc

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the server too.
func TestMain(m *testing.M) {
	switch mode := os.Getenv("PROC_TEST"); mode {
	case "":
		os.Exit(m.Run())
	case "fail":
		fmt.Println("the port is taken")
		os.Exit(3)
	default:
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go http.ListenAndServe(mode, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for began := used(); r.URL.Path == "/work" && used() < began+work; {
			}
		}))
		<-stop
	}
}

// work is how much CPU the server's work takes, however busy the machine is.
const work = 100 * time.Millisecond

// used is the CPU that this process has used.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // these arguments are always good
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAServersLife(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROC_TEST="+addr)
	p, err := Start(context.Background(), cmd, Answers("http://"+addr+"/"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + addr + "/work"); err != nil {
		t.Fatal(err)
	}
	after, err := p.CPU()
	// The kernel tells it in hundredths of a second.
	if err != nil || after-before < work-20*time.Millisecond || after-before > 10*work {
		t.Errorf("CPU %v to %v, %v", before, after, err)
	}
	m, err := p.Memory()
	if err != nil || m.Now < 1<<20 || m.Peak < m.Now {
		t.Errorf("memory %+v, %v", m, err)
	}
	if p.ReadyIn <= 0 {
		t.Errorf("ready in %v", p.ReadyIn)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.PID(), 0); err == nil {
		t.Error("still there after Stop")
	}
}

func TestAServerThatEndsIsAnErrorWithItsLog(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROC_TEST=fail")
	_, err := Start(context.Background(), cmd, Answers("http://127.0.0.1:1/"), filepath.Join(t.TempDir(), "log"))
	if err == nil || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("err = %v", err)
	}
}

func TestStatWithABlankAndABracketInTheName(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 25 0 0 20 0"))
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
}
