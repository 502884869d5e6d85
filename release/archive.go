package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file of an archive. A name that ends in / is a folder.
type entry struct {
	name string
	mode int64
	uid  int
	data []byte
}

// archives are for people who install by hand: tar.gz, and zip for Windows.
func (r *release) archives() error {
	for _, t := range r.targets {
		entries, err := r.contents(t)
		if err != nil {
			return err
		}
		suffix, pack := ".tar.gz", func(e []entry, at time.Time) ([]byte, error) {
			plain, err := tarOf(e, at)
			if err != nil {
				return nil, err
			}
			return gzipped(plain)
		}
		if t.os == "windows" {
			suffix, pack = ".zip", zipOf
		}
		data, err := pack(entries, r.date)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.dist, r.name(t)+suffix), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// contents of an archive: all below one folder.
func (r *release) contents(t target) ([]entry, error) {
	binary := r.binary(t)
	files := map[string]string{filepath.Base(binary): binary, thirdParty: filepath.Join(r.work, thirdParty)}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		files[name] = filepath.Join(r.source, name)
	}
	for _, file := range completions {
		files["completions/"+file] = filepath.Join(r.work, "completions", file)
	}
	pages, err := filepath.Glob(filepath.Join(r.work, "man1", "*.1"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		files["man/man1/"+filepath.Base(page)] = page
	}
	var entries []entry
	for name, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		mode := int64(0o644)
		if file == binary {
			mode = 0o755
		}
		entries = append(entries, entry{name: r.name(t) + "/" + name, mode: mode, data: data})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

func tarOf(entries []entry, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Size: int64(len(e.data)), ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func gzipped(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // no name and no time
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

func zipOf(entries []entry, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		h.SetMode(os.FileMode(e.mode))
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
