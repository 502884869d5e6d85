package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// targets are those of the test: RELEASE_TARGETS, or this machine's and one other.
func targets() []string {
	if all := os.Getenv("RELEASE_TARGETS"); all == "all" {
		return strings.Split(allTargets, ",")
	} else if all != "" {
		return strings.Split(all, ",")
	}
	return []string{"linux/amd64", "linux/arm64"}
}

// TestRelease makes a snapshot of the checkout and looks into everything that it made.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the binary of Linux is run")
	}
	dist := filepath.Join(t.TempDir(), "dist")
	if err := run("..", dist, targets()); err != nil {
		t.Fatal(err)
	}
	d := &published{dist: dist, files: read(t, dist)}
	sums := string(d.files[checksumFile])
	d.version = regexp.MustCompile(`signalbox_(\S+)_linux_amd64\.tar\.gz`).FindStringSubmatch(sums)[1]
	t.Run("checksums", d.checksums)
	t.Run("version", d.versionIsStamped)
	t.Run("static", d.binariesAreStatic)
	t.Run("archive", d.archive)
	t.Run("licences", d.licences)
	t.Run("bill of materials", d.billOfMaterials)
	t.Run("deb", d.deb)
	t.Run("rpm", d.rpm)
	t.Run("image", d.image)
	t.Run("provenance", d.provenance)
	t.Run("reproducible", d.reproducible)
}

// published is what a release made.
type published struct {
	dist, version string
	files         map[string][]byte
}

func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

func (d *published) file(t *testing.T, suffix string) []byte {
	t.Helper()
	data, ok := d.files["signalbox_"+d.version+"_"+suffix]
	if !ok {
		t.Fatalf("there is no …%s", suffix)
	}
	return data
}

// need skips a part that needs what this machine lacks. With CI=true it fails.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, but this machine has no %s", program)
	}
	t.Skipf("NOT TESTED: this machine has no %s", program)
}

func sh(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(dir, []string{"LC_ALL=C"}, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (d *published) checksums(t *testing.T) {
	listed := map[string]bool{}
	for line := range strings.Lines(string(d.files[checksumFile])) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		got := sha256.Sum256(d.files[name])
		if hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s has another checksum", name)
		}
		listed[name] = true
	}
	for name := range d.files {
		if name != checksumFile && !listed[name] {
			t.Errorf("%s is not in %s", name, checksumFile)
		}
	}
	var want []string
	for _, target := range targets() {
		system, arch, _ := strings.Cut(target, "/")
		suffixes := map[string][]string{"linux": {".tar.gz", ".deb", ".rpm"}, "darwin": {".tar.gz"}, "windows": {".zip"}}[system]
		for _, suffix := range append(suffixes, ".cdx.json") {
			want = append(want, "signalbox_"+d.version+"_"+system+"_"+arch+suffix)
		}
	}
	want = append(want, "signalbox_"+d.version+"_oci.tar", provenanceFile)
	for _, name := range want {
		if !listed[name] {
			t.Errorf("%s was not made", name)
		}
	}
	if len(listed) != len(want) {
		t.Errorf("%d files, want %d", len(listed), len(want))
	}
}

// unpack gives the members of a tar.gz, without their common folder.
func unpack(t *testing.T, data []byte) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, z)
}

func untar(t *testing.T, r io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	files, headers := map[string][]byte{}, map[string]*tar.Header{}
	for reader := tar.NewReader(r); ; {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name], headers[h.Name] = content, h
	}
}

// program is the binary of a target, out of its archive.
func (d *published) program(t *testing.T, target string) string {
	t.Helper()
	system, arch, _ := strings.Cut(target, "/")
	stem, content := "signalbox_"+d.version+"_"+system+"_"+arch, []byte(nil)
	if system == "windows" {
		data := d.file(t, system+"_"+arch+".zip")
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := z.Open(stem + "/signalbox.exe")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if content, err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
	} else {
		files, _ := unpack(t, d.file(t, system+"_"+arch+".tar.gz"))
		content = files[stem+"/signalbox"]
	}
	path := filepath.Join(t.TempDir(), "signalbox")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (d *published) versionIsStamped(t *testing.T) {
	var got struct{ Version, Commit, Date, Go string }
	if err := json.Unmarshal([]byte(sh(t, ".", d.program(t, "linux/amd64"), "version", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	head := strings.TrimSpace(sh(t, "..", "git", "rev-parse", "HEAD"))
	if got.Version != "v"+d.version || strings.Contains(got.Version, "dev") || !strings.HasPrefix(got.Commit, head) {
		t.Errorf("%+v, want v%s of %s", got, d.version, head)
	}
	if at, err := time.Parse(time.RFC3339, got.Date); err != nil || at.IsZero() {
		t.Errorf("the date is %q", got.Date)
	}
}

func (d *published) binariesAreStatic(t *testing.T) {
	for _, target := range targets() {
		path := d.program(t, target)
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || settings["GOOS"]+"/"+settings["GOARCH"] != target {
			t.Errorf("%s: %v", target, settings)
		}
		if !strings.HasPrefix(target, "linux/") {
			continue
		}
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if needs, _ := f.ImportedLibraries(); len(needs) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s needs %v of the machine", target, needs)
		}
		_ = f.Close()
	}
}

func (d *published) archive(t *testing.T) {
	files, headers := unpack(t, d.file(t, "linux_amd64.tar.gz"))
	top := "signalbox_" + d.version + "_linux_amd64/"
	for name, says := range map[string]string{
		"signalbox": "", "LICENSE": "Apache License", "README.md": "# Signalbox", "CHANGELOG.md": "# Changelog", thirdParty: "standard library of Go",
		"completions/signalbox.bash": "bash completion", "completions/_signalbox": "#compdef signalbox",
		"completions/signalbox.fish": "fish completion", "completions/signalbox.ps1": "powershell completion",
		"man/man1/signalbox.1": ".SH NAME\nsignalbox", "man/man1/signalbox-serve.1": ".SH NAME\nsignalbox\\-serve",
	} {
		content, ok := files[top+name]
		if !ok || !strings.Contains(string(content), says) {
			t.Errorf("%s: there: %v, without %q", name, ok, says)
			continue
		}
		mode := int64(0o644)
		if name == "signalbox" {
			mode = 0o755
		}
		if headers[top+name].Mode != mode {
			t.Errorf("%s has mode %o", name, headers[top+name].Mode)
		}
	}
	for name, h := range headers {
		if !strings.HasPrefix(name, top) || strings.Contains(name, "..") || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s of %d %q", name, h.Uid, h.Uname)
		}
	}
}

func (d *published) licences(t *testing.T) {
	files, _ := unpack(t, d.file(t, "linux_amd64.tar.gz"))
	text := string(files["signalbox_"+d.version+"_linux_amd64/"+thirdParty])
	info, err := buildinfo.ReadFile(d.program(t, "linux/amd64"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if !strings.Contains(text, "\n"+m.Path+" "+m.Version+": ") {
			t.Errorf("no licence of %s %s", m.Path, m.Version)
		}
	}
}

func (d *published) billOfMaterials(t *testing.T) {
	for _, target := range targets() {
		path := d.program(t, target)
		var bom struct {
			BOMFormat string
			Metadata  struct {
				Component struct {
					Version string
					Hashes  []struct{ Content string }
				}
			}
			Components []struct{ Name, Version, Purl string }
		}
		if err := json.Unmarshal(d.file(t, strings.Replace(target, "/", "_", 1)+".cdx.json"), &bom); err != nil {
			t.Fatal(err)
		}
		has := map[string]string{}
		for _, c := range bom.Components {
			has[c.Name] = c.Version
			if c.Purl != "pkg:golang/"+c.Name+"@"+c.Version {
				t.Errorf("%s: purl %s", c.Name, c.Purl)
			}
		}
		// What the toolchain says of the binary, in its own words.
		modules := 1 // the standard library
		for line := range strings.Lines(sh(t, ".", "go", "version", "-m", path)) {
			fields := strings.Fields(line)
			if len(fields) >= 3 && fields[0] == "dep" {
				modules++
				if has[fields[1]] != fields[2] {
					t.Errorf("%s: %s %s is in the binary, the list has %q", target, fields[1], fields[2], has[fields[1]])
				}
			}
		}
		if modules < 20 || len(has) != modules {
			t.Errorf("%s: %d modules, %d listed", target, modules, len(has))
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		if c := bom.Metadata.Component; bom.BOMFormat != "CycloneDX" || c.Version != d.version || len(c.Hashes) != 1 || c.Hashes[0].Content != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: it is not about this binary: %+v", target, c)
		}
	}
}

// installed are the files of a package and their modes.
var installed = map[string]os.FileMode{
	"usr/bin/signalbox":                                  0o755,
	"usr/lib/systemd/system/signalbox.service":           0o644,
	"usr/share/man/man1/signalbox.1.gz":                  0o644,
	"usr/share/man/man1/signalbox-serve.1.gz":            0o644,
	"usr/share/bash-completion/completions/signalbox":    0o644,
	"usr/share/fish/vendor_completions.d/signalbox.fish": 0o644,
	"usr/share/doc/signalbox/copyright":                  0o644,
	"usr/share/doc/signalbox/" + thirdParty:              0o644,
	"usr/share/doc/signalbox/examples/credentials.conf":  0o644,
}

func (d *published) deb(t *testing.T) {
	need(t, "dpkg-deb")
	deb, root := filepath.Join(d.dist, "signalbox_"+d.version+"_linux_amd64.deb"), t.TempDir()
	sh(t, ".", "dpkg-deb", "-x", deb, root)
	for name, mode := range installed {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "usr/share/zsh/vendor-completions/_signalbox")); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(sh(t, ".", "dpkg-deb", "-c", deb)) {
		fields := strings.Fields(line)
		if fields[1] != "root/root" || strings.Contains(fields[0], "s") || strings.Contains(fields[5], "/etc") || strings.Contains(fields[5], "/var") {
			t.Errorf("in the package: %s", line)
		}
	}
	field := func(name string) string { return strings.TrimSpace(sh(t, ".", "dpkg-deb", "-f", deb, name)) }
	if field("Package") != "signalbox" || field("Architecture") != "amd64" || field("Version") != debVersion(d.version) || field("Depends") != "passwd" {
		t.Error(sh(t, ".", "dpkg-deb", "-f", deb))
	}
	// A snapshot is older than the version that it leads to.
	if err := exec.Command("dpkg", "--compare-versions", field("Version"), "lt", next).Run(); strings.Contains(d.version, "snapshot") && err != nil {
		t.Errorf("%s does not come before %s", field("Version"), next)
	}
	control := t.TempDir()
	sh(t, ".", "dpkg-deb", "-e", deb, control)
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		sh(t, ".", "sh", "-n", filepath.Join(control, script))
	}
	d.unit(t, root)
}

func (d *published) unit(t *testing.T, root string) {
	file := filepath.Join(root, "usr/lib/systemd/system/signalbox.service")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "User=signalbox", "FileDescriptorStoreMax=2", "NoNewPrivileges=yes", "ProtectSystem=strict", "StateDirectory=signalbox",
		"CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes",
		"ExecStart=/usr/bin/signalbox serve --config /etc/signalbox/signalbox.yaml",
	} {
		if !slices.Contains(strings.Split(string(data), "\n"), line) {
			t.Errorf("the unit has no line %s", line)
		}
	}
	need(t, "systemd-analyze")
	// Alone, and with the example that takes the master key as a credential. What it
	// starts is not on this machine, and neither is the manual.
	dir := t.TempDir()
	unit := strings.NewReplacer("/usr/bin/signalbox", "/bin/true", "man:signalbox(1) ", "").Replace(string(data))
	example, err := os.ReadFile(filepath.Join(root, "usr/share/doc/signalbox/examples/credentials.conf"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("signalbox.service", unit)
	for _, with := range []string{"", "the credential"} {
		if with != "" {
			write("signalbox.service.d/credentials.conf", string(example))
		}
		if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", with, err, out)
		}
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("the unit is open: %v\n%s", err, out)
	}
}

func (d *published) rpm(t *testing.T) {
	need(t, "rpm")
	rpm := filepath.Join(d.dist, "signalbox_"+d.version+"_linux_amd64.rpm")
	query := func(format string) string {
		return sh(t, ".", "rpm", "-qp", "--dbpath", t.TempDir(), "--qf", format, rpm)
	}
	modes := map[string]string{}
	for line := range strings.Lines(query("[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}\n]")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		modes[name] = rest
	}
	for name, mode := range installed {
		if got := modes["/"+name]; got != fmt.Sprintf("100%o root", mode) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, ok := modes["/usr/share/zsh/site-functions/_signalbox"]; !ok {
		t.Error("no completion for zsh")
	}
	if got := query("%{NAME} %{ARCH} %{LICENSE} %{VERSION}"); got != "signalbox x86_64 Apache-2.0 "+rpmVersion(d.version) {
		t.Error(got)
	}
	if got := query("%{POSTIN}%{PREUN}%{POSTUN}"); !strings.Contains(got, "useradd --system") || !strings.Contains(got, "disable --now signalbox.service") {
		t.Errorf("scripts:\n%s", got)
	}
}

// rpmVersion: a hyphen would end the version.
func rpmVersion(version string) string { return strings.ReplaceAll(debVersion(version), "-", "_") }

func (d *published) image(t *testing.T) {
	dir := t.TempDir()
	files, _ := untar(t, bytes.NewReader(d.file(t, "oci.tar")))
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := outer.IndexManifest()
	if err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%v %v", top, err)
	}
	index, err := outer.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		d.imageOf(t, m.Platform.String(), image)
	}
	want := slices.DeleteFunc(targets(), func(p string) bool { return !strings.HasPrefix(p, "linux/") })
	if !slices.Equal(platforms, want) {
		t.Errorf("platforms %v, want %v", platforms, want)
	}
}

func (d *published) imageOf(t *testing.T, platform string, image v1.Image) {
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Config; c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/bin/signalbox"}) || !slices.Equal(c.Cmd, []string{"serve"}) {
		t.Errorf("%s: %+v", platform, c)
	}
	if config.OS+"/"+config.Architecture != platform || config.Created.IsZero() {
		t.Errorf("%s: %s %s %s", platform, config.OS, config.Architecture, config.Created)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	all, heads := map[string][]byte{}, map[string]*tar.Header{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		files, headers := untar(t, r)
		for name := range files {
			all[name], heads[name] = files[name], headers[name]
		}
	}
	var programs []string
	for name, h := range heads {
		if h.Typeflag == tar.TypeReg && h.Mode&0o111 != 0 {
			programs = append(programs, name)
		}
		if h.Mode&0o6000 != 0 || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			t.Errorf("%s: %s has mode %o", platform, name, h.Mode)
		}
	}
	if !slices.Equal(programs, []string{"usr/bin/signalbox"}) {
		t.Errorf("%s: programs %v: a shell, or none", platform, programs)
	}
	if published, err := os.ReadFile(d.program(t, platform)); err != nil || !bytes.Equal(published, all["usr/bin/signalbox"]) {
		t.Errorf("%s: not the binary of the archive (%v)", platform, err)
	}
	if h := heads["var/lib/signalbox/"]; h == nil || h.Uid != nobody || h.Mode != 0o700 {
		t.Errorf("%s: the folder for data: %+v", platform, h)
	}
	roots := 0
	for rest := all["etc/ssl/certs/ca-certificates.crt"]; ; roots++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Error(err)
		}
	}
	if roots < 80 {
		t.Errorf("%s: %d authorities", platform, roots)
	}
}

func (d *published) provenance(t *testing.T) {
	var s statement
	if err := json.Unmarshal(d.files[provenanceFile], &s); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, about := range s.Subject {
		told[about.Name] = about.Digest["sha256"]
	}
	for name, data := range d.files {
		sum := sha256.Sum256(data)
		if name != checksumFile && name != provenanceFile && told[name] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %q", name, told[name])
		}
	}
	definition := s.Predicate.BuildDefinition
	head := strings.TrimSpace(sh(t, "..", "git", "rev-parse", "HEAD"))
	if len(definition.ResolvedDependencies) != 1 || definition.ResolvedDependencies[0].Digest["gitCommit"] != head {
		t.Errorf("from %v, want %s", definition.ResolvedDependencies, head)
	}
	if definition.InternalParameters["signed"] != false || definition.InternalParameters["snapshot"] != strings.Contains(d.version, "snapshot") {
		t.Errorf("it does not say that nobody signed it: %v", definition.InternalParameters)
	}
}

// reproducible: another checkout, in a folder of another name, gives the same bytes.
func (d *published) reproducible(t *testing.T) {
	source := filepath.Join(t.TempDir(), "another folder")
	sh(t, "..", "git", "clone", "--quiet", "--shared", ".", source)
	for name := range strings.Lines(sh(t, "..", "git", "ls-files", "--modified")) { // what is not committed yet
		name = strings.TrimSpace(name)
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			continue // removed
		}
		if err := os.WriteFile(filepath.Join(source, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dist := filepath.Join(t.TempDir(), "dist")
	if err := run(source, dist, targets()); err != nil {
		t.Fatal(err)
	}
	again := read(t, dist)
	for name, data := range d.files {
		if !bytes.Equal(data, again[name]) {
			t.Errorf("%s has other bytes", name)
		}
	}
	if len(again) != len(d.files) {
		t.Errorf("%d files, then %d", len(d.files), len(again))
	}
}
