package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// maxContent is more than any file of ours: what is longer is another one's.
const maxContent = 1 << 20

// Files are the files that the agent writes, and what it remembers of them.
type Files struct {
	State *State

	turns chan struct{}
}

// NewFiles is Files that writes a few at a time: each waits for the disk.
func NewFiles(state *State) *Files { return &Files{State: state, turns: make(chan struct{}, 8)} }

// file is an Outlet in the file system.
type file struct {
	*Files
	kind   string // "file"
	path   string
	access config.Access
	// content is what the file says of a token.
	content func(token string) []byte
}

func (f *file) String() string { return f.kind + " " + f.path }

// Put replaces the file in one step. Who reads it meanwhile finds the one before or
// this one, and after a failure (a full disk) the one before.
func (f *file) Put(_ context.Context, token Token) (changed bool, err error) {
	f.turns <- struct{}{}
	defer func() { <-f.turns }()
	content := f.content(token.Value)
	folder, err := openFolder(filepath.Dir(f.path), f.access.AllowWritableFolder)
	if err != nil {
		return false, err
	}
	defer folder.Close()
	found, info, err := readOwn(folder, filepath.Base(f.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, fmt.Errorf("%s: %w", f.path, err)
	case bytes.Equal(found, content) && info.Mode().Perm() == fs.FileMode(f.access.Perm) && ownedBy(info, f.access.UID, f.access.GID):
		f.State.wrote(f.path, digest(content), token.Expires())
		return false, nil
	}
	// Remembered first: what we remember and did not write is recognized and left
	// alone, but what we wrote and do not remember would stay.
	before, known := f.State.of(f.path)
	f.State.wrote(f.path, digest(content), token.Expires())
	if err := replace(folder, filepath.Base(f.path), content, f.access); err != nil {
		if known {
			f.State.put(f.path, before)
		} else {
			f.State.forget(f.path)
		}
		return false, err
	}
	return true, nil
}

// Found is for what an earlier run wrote, if it is still there.
func (f *file) Found(context.Context) (until time.Time, err error) {
	was, known := f.State.of(f.path)
	if !known {
		return time.Time{}, nil
	}
	folder, err := openFolder(filepath.Dir(f.path), f.access.AllowWritableFolder)
	if err != nil {
		return time.Time{}, err
	}
	defer folder.Close()
	content, _, err := readOwn(folder, filepath.Base(f.path))
	if err != nil || digest(content) != was.SHA256 {
		return time.Time{}, nil // it is not ours
	}
	return was.Expires, nil
}

// Remove removes the file if it still is the one that we wrote.
func (f *file) Remove(context.Context) error {
	was, known := f.State.of(f.path)
	if !known {
		return nil
	}
	// Removing what is ours harms nobody, whoever can write there.
	folder, err := openFolder(filepath.Dir(f.path), true)
	if errors.Is(err, errNoFolder) {
		f.State.forget(f.path)
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	name := filepath.Base(f.path)
	content, _, err := readOwn(folder, name)
	if err == nil && digest(content) == was.SHA256 {
		if err := folder.Remove(name); err != nil {
			return err
		}
	}
	f.State.forget(f.path)
	return nil
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// readOwn reads a regular file. Whatever else has the name is not ours to replace.
func readOwn(folder *os.Root, name string) ([]byte, fs.FileInfo, error) {
	info, err := folder.Lstat(name)
	switch {
	case err != nil:
		return nil, nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, nil, errors.New("is a symbolic link, which is not replaced: remove it, or name the file that it leads to")
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("is not a file that can be replaced")
	}
	f, err := folder.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	return content, info, err
}

// replace writes a file beside the one that is meant, and gives it the name when it
// is complete on disk. The name beside is always the same, so that a process that is
// killed leaves at most one.
func replace(folder *os.Root, name string, content []byte, access config.Access) error {
	beside := "." + name + ".signalbox-new"
	if err := folder.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := folder.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && (access.UID >= 0 || access.GID >= 0) {
		if err = f.Chown(access.UID, access.GID); err != nil {
			err = fmt.Errorf("it cannot be given to %s: %w", access.Owner, err)
		}
	}
	if err == nil {
		err = f.Chmod(fs.FileMode(access.Perm))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = folder.Rename(beside, name)
	}
	if err != nil {
		return errors.Join(err, folder.Remove(beside))
	}
	return nil
}
