package journal

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

const childDir = "SIGNALBOX_JOURNAL_TEST_CHILD"

// TestMain turns the test binary into the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// appendUntilKilled prints the request id of each record once it is acknowledged.
func appendUntilKilled(dir string) {
	j, err := Open(dir, "a-1", Options{Sign: journaltest.Sign, MaxSegment: 50 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				e := event(i)
				e.RequestID = fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				if err := j.Append(ctx, e); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println(e.RequestID)
			}
		})
	}
	wg.Wait()
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAfter := 1 + rand.IntN(1500)
		lines := bufio.NewScanner(out)
		for n := 1; lines.Scan(); n++ { // also what it printed before it died
			acknowledged[lines.Text()] = true
			if n == killAfter {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child ended with %v", err)
		}
		sound(t, dir) // a torn last line is not an error
		if round%2 == 1 {
			closed(t, open(t, dir, Options{}))
			sound(t, dir)
		}
	}
	for _, r := range records(t, dir, query.Query{}) {
		delete(acknowledged, r.RequestID)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged records are lost", len(acknowledged))
	}
}
