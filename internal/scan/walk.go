package scan

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Path looks at a file, or at every regular file below a folder. Links are not
// followed: what they lead to is elsewhere. Unread is told of each file that
// cannot be read, and the scan continues.
func (s *Scanner) Path(ctx context.Context, root string, unread func(path string, err error)) error {
	resolved, err := filepath.EvalSymlinks(root) // the one link that the caller has named
	if err != nil {
		return err
	}
	return filepath.WalkDir(resolved, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			err = s.file(ctx, path, root+path[len(resolved):])
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			unread(path, err)
		}
		return nil
	})
}

func (s *Scanner) file(ctx context.Context, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.Stream(ctx, name, f)
}

// Stream looks at r, and into it if it is compressed with gzip, as old logs are.
func (s *Scanner) Stream(ctx context.Context, name string, r io.Reader) error {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(magic) != "\x1f\x8b" {
		return s.read(ctx, name, buffered)
	}
	unpacked, err := gzip.NewReader(buffered)
	if err != nil {
		return fmt.Errorf("it looks compressed and cannot be unpacked: %w", err)
	}
	return s.read(ctx, name, unpacked)
}
