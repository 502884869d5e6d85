package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody runs the service in a container: a number, so that Kubernetes can tell that it
// is not root.
const nobody = 65532

// image is an OCI image layout for every Linux target, as one tar file: what
// `skopeo copy oci-archive:` and `podman load` take. Beside the program it holds
// certificates and an empty folder for data. There is no shell.
func (r *release) image() error {
	base, err := layer(r.baseEntries(), r.date)
	if err != nil {
		return err
	}
	labels := map[string]string{
		"org.opencontainers.image.title": "signalbox", "org.opencontainers.image.version": r.version,
		"org.opencontainers.image.revision": r.commit, "org.opencontainers.image.created": r.date.Format(time.RFC3339),
		"org.opencontainers.image.source": "https://github.com/signalbox-sts/signalbox", "org.opencontainers.image.licenses": "Apache-2.0",
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	platforms := 0
	for _, t := range r.targets {
		if t.os != "linux" {
			continue
		}
		image, err := r.imageOf(t, base, labels)
		if err != nil {
			return err
		}
		platforms++
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: t.os, Architecture: t.arch},
		}})
	}
	if platforms == 0 {
		return nil
	}
	dir := filepath.Join(r.work, "image")
	root, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if err := root.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version})); err != nil {
		return err
	}
	return tarFolder(filepath.Join(r.dist, "signalbox_"+r.version+"_oci.tar"), dir, r.date)
}

func (r *release) imageOf(t target, base v1.Layer, labels map[string]string) (v1.Image, error) {
	program, err := os.ReadFile(r.binary(t))
	if err != nil {
		return nil, err
	}
	notices, err := os.ReadFile(filepath.Join(r.work, thirdParty))
	if err != nil {
		return nil, err
	}
	top, err := layer([]entry{
		{name: "usr/", mode: 0o755}, {name: "usr/bin/", mode: 0o755}, {name: "usr/bin/signalbox", mode: 0o755, data: program},
		{name: "usr/share/", mode: 0o755}, {name: "usr/share/doc/", mode: 0o755}, {name: "usr/share/doc/signalbox/", mode: 0o755},
		{name: "usr/share/doc/signalbox/" + thirdParty, mode: 0o644, data: notices},
	}, r.date)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, base, top); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, withRootFS(image, &v1.ConfigFile{
		OS: t.os, Architecture: t.arch, Created: v1.Time{Time: r.date},
		Config: v1.Config{
			User: "65532:65532", Entrypoint: []string{"/usr/bin/signalbox"}, Cmd: []string{"serve"}, WorkingDir: "/",
			ExposedPorts: map[string]struct{}{"8443/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/signalbox": {}}, Labels: labels,
		},
	}))
}

// withRootFS keeps what the layers have made of the configuration.
func withRootFS(image v1.Image, config *v1.ConfigFile) *v1.ConfigFile {
	if made, err := image.ConfigFile(); err == nil {
		config.RootFS = made.RootFS
		for range made.History {
			config.History = append(config.History, v1.History{Created: config.Created, CreatedBy: "make release"})
		}
	}
	return config
}

func (r *release) baseEntries() []entry {
	const users = "root:x:0:0:root:/:/sbin/nologin\nsignalbox:x:65532:65532:signalbox:/var/lib/signalbox:/sbin/nologin\n"
	return []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, data: []byte(users)},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nsignalbox:x:65532:\n")},
		{name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: authorities()},
		{name: "tmp/", mode: 0o1777},
		{name: "var/", mode: 0o755}, {name: "var/lib/", mode: 0o755},
		{name: "var/lib/signalbox/", mode: 0o700, uid: nobody},
	}
}

// authorities are the roots that Mozilla trusts without a condition: a file of
// certificates cannot state one.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // into memory
		}
	}
	return b.Bytes()
}

func layer(entries []entry, at time.Time) (v1.Layer, error) {
	data, err := tarOf(entries, at)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// tarFolder writes a folder in the order of its names.
func tarFolder(to, dir string, at time.Time) error {
	var entries []entry
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if info.IsDir() {
			entries = append(entries, entry{name: name + "/", mode: 0o755})
			return nil
		}
		data, err := os.ReadFile(path)
		entries = append(entries, entry{name: name, mode: 0o644, data: data})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	data, err := tarOf(entries, at)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
