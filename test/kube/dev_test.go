package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// What dev --kubernetes prints is run as it is, by a shell.
func TestDevShowsAPodsTokensDie(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	// Of the clusters this one has an issuer that nobody can guess.
	r.SpokeB.Namespace(t, "default")
	command, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ready, words := filepath.Join(dir, "ready.json"), filepath.Join(dir, "words")
	log, err := os.Create(words)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	dev := exec.Command(command, "dev", "--kubernetes", r.SpokeB.Kubeconfig(), "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--ready-file", ready)
	dev.Stderr = log
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = dev.Wait(); close(ended) }()
	t.Cleanup(func() { _ = dev.Process.Signal(syscall.SIGTERM); <-ended })
	until(t, 20*time.Second, "dev is ready", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(words)
			t.Fatalf("dev ended:\n%s", text)
		default:
		}
		_, err := os.Stat(ready)
		return err == nil
	})
	text, err := os.ReadFile(words)
	if err != nil {
		t.Fatal(err)
	}
	_, shown, ok := strings.Cut(string(text), "Your cluster is registered as dev, and its pods are watched (the issuer of their tokens is "+r.SpokeB.Issuer+")")
	if !ok || !strings.Contains(shown, "serviceAccountToken: {path: token, audience: \"http://127.0.0.1:") {
		t.Fatalf("dev says:\n%s", text)
	}
	shown, pod, _ := strings.Cut(shown, "\napiVersion:") // the pod, which is in a file too
	// No kubelet mounts anything here, and the commands look for the proof at this path.
	if !strings.Contains(pod, "mountPath: /var/run/secrets/signalbox,") || !strings.Contains(pod, "serviceAccountToken: {path: token,") {
		t.Errorf("the pod's token is not where the commands look for it:\n%s", pod)
	}
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^  (.+)$`).FindAllStringSubmatch(shown, -1) {
		commands = append(commands, m[1])
	}
	if len(commands) < 7 {
		t.Fatalf("dev shows the commands %q", commands)
	}
	// The last one asks whether the token is dead. A loaded machine may take a moment longer.
	last := commands[len(commands)-1]
	script := strings.Join(commands[:len(commands)-1], "\n") + "\nfor i in $(seq 80); do { " + last + "; } | grep -F '\"active\":false' && exit 0; sleep 0.05; done; exit 1"
	shell := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "HOME="+dir, "PATH="+filepath.Dir(command)+":"+r.Programs+":"+os.Getenv("PATH"))
	var complaints strings.Builder
	shell.Stderr = &complaints
	out, err := shell.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s%s", err, script, out, complaints.String())
	}
	for _, want := range []string{"pod/signalbox-demo created", `"active":true`, "https://api.example.com", `pod "signalbox-demo"`, `"active":false`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s%s", want, out, complaints.String())
		}
	}
}
