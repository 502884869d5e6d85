package main

import (
	"cmp"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

func (r *release) binary(t target) string {
	name := filepath.Join(r.work, t.String(), "signalbox")
	if t.os == "windows" {
		name += ".exe"
	}
	return name
}

// build makes a static binary for every target, and for this machine.
func (r *release) build() error {
	here := target{runtime.GOOS, runtime.GOARCH}
	targets := r.targets
	if !slices.Contains(targets, here) {
		targets = append(slices.Clone(targets), here)
	}
	r.host = r.binary(here)
	const variables = "github.com/signalbox-sts/signalbox/internal/version."
	linker := "-s -w -buildid= -X " + variables + "version=v" + r.version + " -X " + variables + "commit=" + r.commit + " -X " + variables + "date=" + r.date.Format(time.RFC3339)
	for _, t := range targets {
		// The version is given, so that a checkout of any depth and an archive give the same.
		_, err := command(r.source, []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=" + t.os, "GOARCH=" + t.arch},
			"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", linker, "-o", r.binary(t), "./cmd/signalbox")
		if err != nil {
			return err
		}
	}
	return nil
}

// completions are files of r.work, by the shell.
var completions = map[string]string{"bash": "signalbox.bash", "zsh": "_signalbox", "fish": "signalbox.fish", "powershell": "signalbox.ps1"}

// extras asks the binary for its completions and manual pages.
func (r *release) extras() error {
	if err := os.Mkdir(filepath.Join(r.work, "completions"), 0o755); err != nil {
		return err
	}
	for shell, file := range completions {
		text, err := command(r.work, nil, r.host, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.work, "completions", file), text, 0o644); err != nil {
			return err
		}
	}
	pages := filepath.Join(r.work, "man1")
	if err := os.Mkdir(pages, 0o755); err != nil {
		return err
	}
	if _, err := command(r.work, nil, r.host, "man", pages); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(pages, "*.1"))
	if err != nil {
		return err
	}
	for _, file := range files { // packages have them compressed
		if err := compress(file); err != nil {
			return err
		}
	}
	return nil
}

func compress(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(file + ".gz")
	if err != nil {
		return err
	}
	z, _ := gzip.NewWriterLevel(out, gzip.BestCompression) // no name and no time
	if _, err = io.Copy(z, in); err == nil {
		err = z.Close()
	}
	return cmp.Or(err, out.Close())
}

// thirdParty is the file with the licences of what is linked.
const thirdParty = "THIRD_PARTY_LICENSES"

// licences collects the licence of every module of every binary: most of them ask for
// it wherever the program goes.
func (r *release) licences() error {
	modules := map[string]string{}
	for _, t := range r.targets {
		info, err := buildinfo.ReadFile(r.binary(t))
		if err != nil {
			return err
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			modules[m.Path] = m.Version
		}
	}
	paths := slices.Collect(func(yield func(string) bool) {
		for path := range modules {
			if !yield(path) {
				return
			}
		}
	})
	slices.Sort(paths)
	args := []string{"mod", "download", "-json"}
	for _, path := range paths {
		args = append(args, path+"@"+modules[path])
	}
	out, err := command(r.source, []string{"GOFLAGS=", "GOWORK=off"}, "go", args...)
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("Signalbox contains these modules, and the standard library of Go.\n")
	root, err := command(r.source, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	if err := licencesOf(&text, "Go", strings.TrimSpace(string(root))); err != nil {
		return err
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var module struct{ Path, Version, Dir string }
		if err := decoder.Decode(&module); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if err := licencesOf(&text, module.Path+" "+module.Version, module.Dir); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(r.work, thirdParty), []byte(text.String()), 0o644)
}

func licencesOf(text *strings.Builder, what, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	found := 0
	for _, entry := range entries {
		name := strings.ToUpper(entry.Name())
		if entry.IsDir() || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "\n%s\n%s: %s\n%s\n\n%s\n", strings.Repeat("=", 80), what, entry.Name(), strings.Repeat("=", 80), strings.TrimSpace(string(data)))
		found++
	}
	if found == 0 {
		return fmt.Errorf("%s has no licence in %s", what, dir)
	}
	return nil
}
