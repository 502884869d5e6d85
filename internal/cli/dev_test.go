package cli

import (
	"bytes"
	"context"
	"encoding/json"
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
	err = dev(context.Background(), &Environment{Out: &out, Err: &out, Getenv: os.Getenv}, "127.0.0.1:0", filepath.Dir(file), ready)
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
