package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers itself
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers itself
)

// packages are for Debian and Red Hat and what came from them.
func (r *release) packages() error {
	for _, t := range r.targets {
		if t.os != "linux" {
			continue
		}
		for _, format := range []string{"deb", "rpm"} {
			if err := r.pack(t, format); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *release) pack(t target, format string) error {
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	script := func(name string) string { return filepath.Join(r.source, "deploy/package", name) }
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "signalbox", Arch: t.arch, Platform: "linux", Version: r.version, VersionSchema: "semver", MTime: r.date,
		Section: "net", Priority: "optional", Maintainer: "The Signalbox authors <maintainers@signalbox-sts.example>",
		Homepage: "https://github.com/signalbox-sts/signalbox", License: "Apache-2.0",
		Description: "Security token service\nAn OAuth 2.1 and OpenID Connect authorization server with token exchange for workloads.",
		Overridables: nfpm.Overridables{
			Contents: r.packageContents(t, format),
			Scripts:  nfpm.Scripts{PostInstall: script("postinstall.sh"), PreRemove: script("preremove.sh"), PostRemove: script("postremove.sh")},
			Depends:  map[string][]string{"deb": {"passwd"}, "rpm": {"/usr/sbin/useradd"}}[format],
			// A trust store, to fetch keys of other issuers.
			Recommends: []string{"ca-certificates"},
			RPM:        nfpm.RPM{BuildHost: "localhost", Summary: "Security token service", Compression: "zstd"},
			Deb:        nfpm.Deb{Compression: "zstd"},
		},
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(r.dist, r.name(t)+"."+format))
	if err != nil {
		return err
	}
	if err := packager.Package(info, out); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

func (r *release) packageContents(t target, format string) files.Contents {
	zsh := map[string]string{"deb": "/usr/share/zsh/vendor-completions/_signalbox", "rpm": "/usr/share/zsh/site-functions/_signalbox"}[format]
	where := map[string]string{
		"/usr/lib/systemd/system/signalbox.service":           filepath.Join(r.source, "deploy/systemd/signalbox.service"),
		"/usr/share/doc/signalbox/examples/credentials.conf":  filepath.Join(r.source, "deploy/systemd/credentials.conf"),
		"/usr/share/doc/signalbox/copyright":                  filepath.Join(r.source, "LICENSE"),
		"/usr/share/doc/signalbox/" + thirdParty:              filepath.Join(r.work, thirdParty),
		"/usr/share/bash-completion/completions/signalbox":    filepath.Join(r.work, "completions", completions["bash"]),
		"/usr/share/fish/vendor_completions.d/signalbox.fish": filepath.Join(r.work, "completions", completions["fish"]),
		zsh: filepath.Join(r.work, "completions", completions["zsh"]),
	}
	pages, _ := filepath.Glob(filepath.Join(r.work, "man1", "*.gz")) // the pattern is good
	for _, page := range pages {
		where["/usr/share/man/man1/"+filepath.Base(page)] = page
	}
	file := func(from, to string, mode os.FileMode) *files.Content {
		return &files.Content{Source: from, Destination: to, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: r.date}}
	}
	contents := files.Contents{file(r.binary(t), "/usr/bin/signalbox", 0o755)}
	for to, from := range where {
		contents = append(contents, file(from, to, 0o644))
	}
	for _, dir := range []string{"/usr/share/doc/signalbox", "/usr/share/doc/signalbox/examples"} {
		contents = append(contents, &files.Content{Destination: dir, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: 0o755, MTime: r.date}})
	}
	return contents
}

// debVersion is how dpkg writes a version: ~ sorts before everything.
func debVersion(version string) string { return strings.Replace(version, "-", "~", 1) }
