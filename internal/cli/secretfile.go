package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// secretFile is where a new secret goes in place of the terminal. It is opened
// before the service is asked: afterwards the old secret may be dead, and a new
// one that cannot be written is lost. A nil one is for no --secret-file.
type secretFile struct {
	path string
	open *os.File // path itself, or a file beside it that will take its place
	kept bool
}

func secretFileFlag(cmd *cobra.Command, file *string, help string) {
	cmd.Flags().StringVar(file, "secret-file", "", help)
	_ = cmd.MarkFlagFilename("secret-file")
}

// newSecretFile makes a file that must not exist yet.
func newSecretFile(path string) (*secretFile, error) {
	if path == "" {
		return nil, nil
	}
	if err := namesFile(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already and stays as it is: name a new --secret-file; nothing was changed", path)
	}
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w; nothing was changed", err)
	}
	return &secretFile{path: path, open: f}, nil
}

// replaceSecretFile leaves what is there in place until save.
func replaceSecretFile(path string) (*secretFile, error) {
	if path == "" {
		return nil, nil
	}
	if err := namesFile(path); err != nil {
		return nil, err
	}
	// A link stays a link: what it names is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("--secret-file: %s is not a file that can be replaced; nothing was changed", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w; nothing was changed", err)
	}
	return &secretFile{path: path, open: f}, nil
}

// namesFile: - would be taken for a stream, and a stream is no safe place.
func namesFile(path string) error {
	if path == "-" {
		return &usageError{errors.New("--secret-file needs the name of a file; without it the secret is shown, as JSON with -o json")}
	}
	if strings.HasPrefix(path, "sbx_") || strings.HasPrefix(path, "eyJ") {
		return &usageError{errors.New("--secret-file is the name of the file that the new secret goes to; what was given looks like a secret")}
	}
	return nil
}

// save puts the secret where it belongs.
func (s *secretFile) save(secret string) error {
	_, err := s.open.WriteString(secret + "\n")
	if err == nil {
		err = s.open.Sync()
	}
	if err := errors.Join(err, s.open.Close()); err != nil {
		return err
	}
	if s.open.Name() != s.path {
		if err := os.Rename(s.open.Name(), s.path); err != nil {
			return err
		}
	}
	s.kept = true
	return nil
}

// discard leaves nothing behind, unless there is a secret in it.
func (s *secretFile) discard() {
	if s == nil || s.kept {
		return
	}
	_ = s.open.Close() // save may have closed it
	_ = os.Remove(s.open.Name())
}
