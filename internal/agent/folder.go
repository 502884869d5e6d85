package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

var errNoFolder = errors.New("does not exist")

// openFolder opens a folder that nobody can have put in the place of the one that
// is meant: no part of its path is a symbolic link, and no part is a folder in which
// any user could replace the next one.
func openFolder(path string, allowWritable bool) (*os.Root, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	at := filepath.VolumeName(path) + string(filepath.Separator)
	folder, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	rest := strings.Trim(path[len(at):], string(filepath.Separator))
	for name := range strings.SplitSeq(rest, string(filepath.Separator)) {
		if name == "" { // the root itself
			break
		}
		at = filepath.Join(at, name)
		next, err := enter(folder, name, at)
		_ = folder.Close()
		if err != nil {
			return nil, err
		}
		folder = next
		info, err := folder.Stat(".")
		if err != nil {
			return nil, errors.Join(err, folder.Close())
		}
		// In a sticky folder nobody replaces what is another user's. But anybody can make
		// the file there first.
		sticky := info.Mode()&fs.ModeSticky != 0 && at != path
		if writableByAll(info) && !sticky && !allowWritable {
			_ = folder.Close()
			return nil, fmt.Errorf("every user can write to the folder %s, and could give the file's readers another token: run chmod o-w %[1]s, or say allow_writable_folder where nobody else is", at)
		}
	}
	return folder, nil
}

// enter opens a folder in another one, and no symbolic link. What is opened is what
// was looked at, whoever exchanges the two in between.
func enter(folder *os.Root, name, path string) (*os.Root, error) {
	before, err := folder.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the folder %s %w", path, errNoFolder)
	case err != nil:
		return nil, err
	case before.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s is a symbolic link, which is not followed: name the folder that it leads to", path)
	case !before.IsDir():
		return nil, fmt.Errorf("%s is not a folder", path)
	}
	next, err := folder.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if after, err := next.Stat("."); err != nil || !os.SameFile(before, after) {
		return nil, errors.Join(fmt.Errorf("the folder %s was exchanged while it was opened", path), err, next.Close())
	}
	return next, nil
}
