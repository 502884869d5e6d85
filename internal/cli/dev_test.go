package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/node"
)

// The ready file holds secrets, and scripts put it in shared folders.
func TestReadyFileIsNotWrittenThroughWhatOthersPlanted(t *testing.T) {
	dir := t.TempDir()
	file, theirs := filepath.Join(dir, "ready.json"), filepath.Join(dir, "theirs")
	if err := os.WriteFile(theirs, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".tmp"} {
		if err := os.Symlink(theirs, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeReadyFile(file, &demo{AdminToken: "secret"}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(theirs); err != nil || string(data) != "before" {
		t.Errorf("the planted file holds %q, %v", data, err)
	}
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
		t.Errorf("the ready file: %v, %v", info, err)
	}
	var d demo
	if data, err := os.ReadFile(file); err != nil || json.Unmarshal(data, &d) != nil || d.AdminToken != "secret" {
		t.Errorf("it holds %q, %v", data, err)
	}
	left, err := filepath.Glob(file + ".*")
	if err != nil || len(left) != 1 { // the planted one
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := writeReadyFile(filepath.Join(dir, "nowhere", "ready.json"), &demo{}); err == nil {
		t.Error("a folder that is not there is no error")
	}
}

// What dev says about its configuration file is what it does.
func TestDevWritesItsConfigurationAgainAndSaysSo(t *testing.T) {
	ln, issuer, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ln.Public.Close(), ln.Admin.Close() })
	dir := t.TempDir()
	for range 2 {
		_, text, err := prepareDemo(dir, issuer, ln)
		first, _, _ := strings.Cut(string(text), "\n")
		if err != nil || !strings.Contains(first, "again at each start") {
			t.Fatalf("its first line is %q, %v", first, err)
		}
	}
	if help := newDev(&Environment{}).Long; !strings.Contains(help, "again at each start") {
		t.Errorf("the help: %s", help)
	}
}

func TestDevRefusesAKubeconfigThatItCannotUse(t *testing.T) {
	dir := t.TempDir()
	const head = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
	for _, row := range []struct{ sentence, file, want string }{
		{"it is missing", "", "no such file"},
		{"it is something else", "]", "is not a kubeconfig"},
		{"its token is good for years", head + "clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\nusers: [{name: a, user: {token: hunter2}}]\n", "token is not accepted"},
		{"it names files", head + "clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\", certificate-authority: ca.crt}}]\nusers: [{name: a, user: {tokenFile: /t}}]\n", "kubectl config view --minify --flatten --raw"},
		{"nobody answers", head + "clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\nusers: [{name: a, user: {tokenFile: " + dir + "/token}}]\n", "ask the API server 127.0.0.1:1"},
	} {
		file, data := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "data")
		_ = os.Remove(file)
		if row.file != "" {
			if err := os.WriteFile(file, []byte(row.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte("a.b.c"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := execute(t, t.Context(), nil, strings.NewReader(""), "dev", "--listen", "127.0.0.1:0", "--data", data, "--kubernetes", file).wants(1, "--kubernetes: ", row.want)
		if _, err := os.Stat(data); r.out != "" || strings.Contains(r.err, "hunter2") || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it began all the same, or says too much: %s%s", row.sentence, r.out, r.err)
		}
	}
}

func TestDevRefusesABadReadyFileBeforeItStarts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ sentence, ready, want string }{
		{"its folder is missing", filepath.Join(dir, "nowhere", "ready.json"), "no file can be made in the folder " + filepath.Join(dir, "nowhere") + ": no such file or directory"},
		{"it is a folder", dir, "is a folder"},
		{"its folder is a file", filepath.Join(file, "ready.json"), "not a directory"},
		{"it is a device", os.DevNull, "not a file that can be replaced"},
	} {
		data := filepath.Join(dir, "data")
		r := execute(t, t.Context(), nil, strings.NewReader(""), "dev", "--listen", "127.0.0.1:0", "--data", data, "--ready-file", row.ready)
		if r.wants(1, "--ready-file: ", row.want); r.out != "" {
			t.Errorf("%s: %s", row.sentence, r.out)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: it began to work all the same", row.sentence)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	ready := filepath.Join(dir, "ready.json")
	if err := checkReadyFile(ready); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ready); err == nil {
		t.Error("the trial is taken for a ready file")
	}
}

// TestDevTakesAnotherAdminPort and says so; its words are on standard error, and
// its data on standard output.
func TestDevTakesAnotherAdminPort(t *testing.T) {
	if ln, err := net.Listen("tcp", usualAdmin); err == nil { // else something else has it
		defer ln.Close()
	}
	ready := filepath.Join(t.TempDir(), "ready.json")
	ctx, stop := context.WithCancel(t.Context())
	var out lockedBuffer
	errs := newPrompted("Stop with Ctrl-C")
	ended := make(chan int, 1)
	go func() {
		env := &Environment{In: strings.NewReader(""), Out: &out, Err: errs, Getenv: func(string) string { return "" }}
		ended <- Run(ctx, env, []string{"dev", "--listen", "127.0.0.1:" + freePort(t), "--ready-file", ready})
	}()
	within(t, "it does not serve", errs.said)
	stop()
	if code := within(t, "it does not end", ended); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	var d demo
	if data, err := os.ReadFile(ready); err != nil || json.Unmarshal(data, &d) != nil {
		t.Fatal(err)
	}
	if d.AdminURL == "http://"+usualAdmin || !strings.Contains(errs.String(), usualAdmin+" is in use (Prometheus listens there by default), so the admin API is at "+d.AdminURL+"\n") {
		t.Errorf("admin API at %s: %s", d.AdminURL, errs.String())
	}
	token := strings.TrimSuffix(out.String(), "\n")
	if strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \n") || strings.Contains(errs.String(), token) {
		t.Errorf("standard output is not the token alone: %q", out.String())
	}
}

func TestASecondDevLeavesTheFirstOnesFolderAlone(t *testing.T) {
	_, file := openDemo(t)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(t.TempDir(), "ready.json")
	if err := os.WriteFile(ready, []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = dev(context.Background(), &Environment{Out: &out, Err: &out, Getenv: os.Getenv}, devOptions{address: "127.0.0.1:0", data: filepath.Dir(file), readyFile: ready})
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second dev on the folder: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the configuration of the running one was replaced: %v\n%s", err, after)
	}
	if _, err := os.Stat(file + ".new"); err == nil {
		t.Error("the second one's configuration was left behind")
	}
	if _, err := os.Stat(ready); err == nil {
		t.Error("whoever waits for the ready file takes an earlier run's for this one's")
	}
}

// openDemo opens a node on the demo's configuration, with nothing listening.
func openDemo(t *testing.T) (n *node.Node, file string) {
	t.Helper()
	ln, issuer, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ln.Public.Close(), ln.Admin.Close() })
	dir := t.TempDir()
	_, text, err := prepareDemo(dir, issuer, ln)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "signalbox.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = node.Open(t.Context(), cfg, node.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n, file
}
