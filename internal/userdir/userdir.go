// Package userdir is a folder whose files one user's processes share, and nobody
// else can read or change.
package userdir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Dir is an open folder. Names are those of files in it.
type Dir struct{ root *os.Root }

// Open makes the folder with mode 0700 if it is not there, and opens it. One that
// others can change is refused. What it is, is asked of the open folder: its name
// may lead to another one a moment later.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !ownedByUs(info) {
		err = fmt.Errorf("%s belongs to another user, so it is not used: choose a folder of your own", path)
	} else if err == nil && writableByOthers(info) {
		err = fmt.Errorf("%s can be changed by other users, so it is not used: check it, then run: chmod 700 %[1]s", path)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Dir{root}, nil
}

// Close ends the use of the folder.
func (d *Dir) Close() error { return d.root.Close() }

// Read returns what a file holds, up to most bytes. A file that others could have
// read or written is refused.
func (d *Dir) Read(name string, most int64) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || !ownedByUs(info) || openToOthers(info):
		return nil, fmt.Errorf("%s is not a file of mode 0600 of this user", name)
	case info.Size() > most:
		return nil, fmt.Errorf("%s is too large", name)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// Write puts a file of mode 0600 in place in one step: whoever reads meanwhile, and
// whoever comes after a process that was killed here, finds the one before or this one.
func (d *Dir) Write(name string, data []byte) error { return d.write(name, data, false) }

// WriteDurably is Write for what cannot be had again: it is on disk when this
// returns, also if the machine loses its power then.
func (d *Dir) WriteDurably(name string, data []byte) error { return d.write(name, data, true) }

func (d *Dir) write(name string, data []byte, durably bool) error {
	temporary := name + "." + rand.Text() + ".new"
	f, err := d.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durably {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, d.Remove(temporary))
	}
	if durably {
		return d.sync()
	}
	return nil
}

// Remove removes a file. One that is not there is no error.
func (d *Dir) Remove(name string) error {
	if err := d.root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Files are the files that are there, as far as they can be listed.
func (d *Dir) Files() []fs.FileInfo {
	folder, err := d.root.Open(".")
	if err != nil {
		return nil
	}
	defer folder.Close()
	entries, _ := folder.ReadDir(-1) // what cannot be read is not told
	var files []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			files = append(files, info)
		}
	}
	return files
}
