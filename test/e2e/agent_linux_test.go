package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runAgent starts an agent with this configuration below tokens.
func (p pods) runAgent(t *testing.T, dir, tokens string) *process {
	t.Helper()
	p.proof(t, filepath.Join(dir, "proof"), "pod-1", "jti-1")
	text := fmt.Sprintf("issuer: %s\nlisten: {health: \"%s\"}\ntokens:\n%s", p.Issuer, freeAddress(t), tokens)
	if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, dir, nil, "agent", "--config", filepath.Join(dir, "agent.yaml"))
	t.Cleanup(func() { a.stop(syscall.SIGTERM) })
	return a
}

// goodUntil is when the token ends that a reader finds. What is no whole token is an error.
func goodUntil(path string) (token string, until time.Time, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", until, err
	}
	parts := strings.Split(strings.TrimSuffix(string(text), "\n"), ".")
	if len(parts) != 3 || !strings.HasSuffix(string(text), "\n") {
		return "", until, fmt.Errorf("%q is no token", text)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", until, err
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	err = json.Unmarshal(payload, &claims)
	return string(text), time.Unix(claims.Exp, 0), err
}

// Signalbox is killed and comes back. Nobody who reads the files notices.
func TestTheAgentsReadersDoNotNoticeAKilledSignalbox(t *testing.T) {
	p := startPodsWith(t, kubeConfig+"    ttl: 20s\n")
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	a := p.runAgent(t, dir, `  - {name: a, from: {subject_token_file: proof}, to: {cluster: spoke-a}, file: {path: token}}
  - {name: b, from: {subject_token_file: proof}, to: {cluster: spoke-a}, kubeconfig: {path: kubeconfig, server: "https://10.0.0.1"}}
`)
	var first string
	a.wait(t, "the first token", func() bool { token, _, err := goodUntil(path); first = token; return err == nil })
	a.wait(t, "the kubeconfig", func() bool { _, err := os.Stat(filepath.Join(dir, "kubeconfig")); return err == nil })
	if n := p.exchanges(t); n != 1 {
		t.Errorf("%d exchanges for one identity", n)
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			if _, until, err := goodUntil(path); err != nil || !time.Now().Before(until) {
				t.Errorf("a reader found a token until %v, or %v", until, err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	p.proc.stop(syscall.SIGKILL)
	a.wait(t, "an attempt that failed", func() bool { return strings.Contains(a.out.String(), "no new token") })
	p.serve(t)
	a.wait(t, "the next token", func() bool { token, _, err := goodUntil(path); return err == nil && token != first })
	close(stop)
	reader.Wait()
	if strings.Contains(a.out.String(), strings.TrimSpace(first)) {
		t.Error("the log has the token")
	}
}

// The policy goes: the file goes when the last token has ended, and not before.
func TestTheAgentRemovesWhatIsRefusedForGood(t *testing.T) {
	p := startPodsWith(t, kubeConfig+"    ttl: 10s\n")
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	a := p.runAgent(t, dir, "  - {name: a, from: {subject_token_file: proof}, to: {cluster: spoke-a}, file: {path: token}}\n")
	a.wait(t, "the first token", func() bool { _, _, err := goodUntil(path); return err == nil })
	file := filepath.Join(p.dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, _, _ := strings.Cut(string(text), "policies:")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	last := time.Time{}
	a.wait(t, "the end of the file", func() bool {
		_, until, err := goodUntil(path)
		if err == nil {
			last = until
		}
		return os.IsNotExist(err)
	})
	if early := time.Until(last); early > time.Second {
		t.Errorf("it was removed %v before the token ended", early)
	}
	if !strings.Contains(a.out.String(), "invalid_target") {
		t.Error("the log does not say why")
	}
}

func TestTheAgentInAnInitContainer(t *testing.T) {
	p := startPods(t)
	dir := t.TempDir()
	p.proof(t, filepath.Join(dir, "proof"), "pod-1", "jti-1")
	config := filepath.Join(dir, "agent.yaml")
	write := func(to string) {
		t.Helper()
		text := "issuer: " + p.Issuer + "\ntokens:\n  - {name: a, from: {subject_token_file: proof}, to: {cluster: spoke-a}, file: {path: token}}\n" +
			"  - {name: b, from: {subject_token_file: proof}, to: {cluster: " + to + "}, file: {path: other}}\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("spoke-a")
	if _, stderr, code := run(t, "", "agent", "--config", config, "--once"); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if _, _, err := goodUntil(filepath.Join(dir, "other")); err != nil {
		t.Error(err)
	}
	write("spoke-b")
	_, stderr, code := run(t, "", "agent", "--config", config, "--once")
	if code != 1 || !strings.Contains(stderr, "b: invalid_target") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, stderr, code := run(t, "", "agent", "--config", config, "--check"); code != 0 || !strings.Contains(stderr, "is valid") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, stderr, code := run(t, "", "agent", "--once"); code != 2 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// At most 25 MiB for a few outputs, from the moment that the tokens are there, and
// 60 MiB for a thousand.
func TestTheAgentIsSmall(t *testing.T) {
	p := startPods(t)
	for _, row := range []struct{ outputs, most int }{{2, 25}, {1000, 60}} {
		dir := t.TempDir()
		var tokens strings.Builder
		for i := range row.outputs {
			fmt.Fprintf(&tokens, "  - {name: t%d, from: {subject_token_file: proof}, to: {cluster: spoke-a}, file: {path: token-%[1]d}}\n", i)
		}
		a := p.runAgent(t, dir, tokens.String())
		text, err := os.ReadFile(filepath.Join(dir, "agent.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		_, health, _ := strings.Cut(string(text), `health: "`)
		health, _, _ = strings.Cut(health, `"`)
		a.wait(t, "200 from /readyz", func() bool {
			resp, err := http.Get("http://" + health + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		var peak, now, first int
		a.wait(t, fmt.Sprintf("%d MiB or less for %d outputs", row.most, row.outputs), func() bool { // when the start is over
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(status)) {
				_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak)
				_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &now)
			}
			if first == 0 {
				first = now
			}
			return now > 0 && now <= row.most<<10
		})
		if row.outputs < 10 && first != now {
			t.Errorf("%d outputs: %.1f MiB when the tokens were there", row.outputs, float64(first)/1024)
		}
		t.Logf("%d outputs: %.1f MiB with the first tokens, %.1f MiB now, %.1f MiB at most", row.outputs, float64(first)/1024, float64(now)/1024, float64(peak)/1024)
		a.stop(syscall.SIGTERM)
	}
}
