package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/bench/load"
)

// K112: 400 connections with large bodies that never end cost less than 128 MiB,
// and whoever sends a small form is served meanwhile.
func TestFloodOfLargeBodies(t *testing.T) {
	s := newHouse(t)
	for _, body := range load.Floods {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		over := make(chan struct{})
		go func() {
			defer close(over)
			load.Flood(ctx, strings.TrimPrefix(s.Issuer, "http://"), 400, body)
		}()
		for ctx.Err() == nil {
			s.machineToken(t)
		}
		cancel()
		<-over
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Fatalf("%s", status)
	}
	kib, err := strconv.Atoi(string(peak[1]))
	if err != nil || kib > 128<<10 {
		t.Errorf("the peak of resident memory was %d MiB", kib>>10)
	}
}
