// Command release makes all that is published of one version, without a daemon and
// without a network: binaries, archives, packages for Debian and Red Hat, a container
// image, bills of materials, checksums and provenance. The same commit gives the same
// bytes, wherever it is checked out.
//
// It is a module of its own, so that its dependencies are not the product's.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// next is the version that snapshots lead to.
const next = "0.1.0"

const allTargets = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64"

func main() {
	source := flag.String("source", "..", "checkout of the product")
	dist := flag.String("dist", "../dist", "folder for what is made; what was in it is removed")
	targets := flag.String("targets", allTargets, "systems to build for")
	flag.Parse()
	if err := run(*source, *dist, strings.Split(*targets, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is what one run works on.
type release struct {
	source, dist string
	work         string // for what is not published
	version      string // 1.2.3, or 1.2.3-snapshot.…
	commit       string
	date         time.Time // of the commit: the time of everything
	snapshot     bool
	targets      []target
	host         string // a binary that runs here
}

type target struct{ os, arch string }

func (t target) String() string { return t.os + "_" + t.arch }

// name of a published file: signalbox_1.2.3_linux_amd64 and what follows.
func (r *release) name(t target) string { return "signalbox_" + r.version + "_" + t.String() }

func run(source, dist string, targets []string) (err error) {
	r := &release{}
	if r.source, err = filepath.Abs(source); err != nil {
		return err
	}
	if r.dist, err = filepath.Abs(dist); err != nil {
		return err
	}
	for _, text := range targets {
		system, arch, ok := strings.Cut(text, "/")
		if !ok {
			return fmt.Errorf("%q is no target such as linux/amd64", text)
		}
		r.targets = append(r.targets, target{system, arch})
	}
	if err := r.identify(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.dist); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dist, 0o755); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "signalbox-release-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(r.work) }()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"binaries", r.build},
		{"completions and manual pages", r.extras},
		{"licences", r.licences},
		{"bills of materials", r.boms},
		{"archives", r.archives},
		{"packages", r.packages},
		{"image", r.image},
		{"provenance and checksums", r.provenance},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.1f s\n", step.what, time.Since(began).Seconds())
	}
	fmt.Println(r.version)
	return nil
}

// identify finds the version in the tag of the commit. A commit without a tag, or with
// changes, is a snapshot: older than the version that it leads to, and newer than
// the snapshots of commits before it.
func (r *release) identify() error {
	commit, err := r.git("rev-parse", "HEAD")
	if err != nil {
		return err
	}
	seconds, err := r.git("show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	changed, err := r.git("status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	r.commit, r.date = commit, time.Unix(unix, 0).UTC()
	tag, err := r.git("describe", "--exact-match", "--match", "v*", "HEAD")
	if err == nil && changed == "" {
		r.version = strings.TrimPrefix(tag, "v")
		return nil
	}
	r.snapshot = true
	r.version = fmt.Sprintf("%s-snapshot.%s.%s", next, r.date.Format("20060102T150405"), commit[:12])
	if changed != "" {
		r.commit += "-dirty"
		r.version += ".dirty"
	}
	return nil
}

func (r *release) git(args ...string) (string, error) {
	out, err := command(r.source, nil, "git", args...)
	return strings.TrimSpace(string(out)), err
}

// command runs a program and gives what it prints.
func command(dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errors.String())
	}
	return out.Bytes(), nil
}
