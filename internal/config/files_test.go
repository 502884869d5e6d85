package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesTellOfEveryChangeSinceTheyWereRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("signalbox.yaml", good+"  - {username: eve, password_file: ada.password}\n")
	_, err := Load(path, []string{masterIn})
	if err == nil {
		t.Fatal("a password file that is not there was taken")
	}
	files := FilesOf(err)
	if len(files) < 2 || Changed(files) {
		t.Fatalf("the refusal depends on %v: %v", files, err)
	}
	password := write("ada.password", "ada loves trains")
	if !Changed(files) {
		t.Fatal("the missing file came, and nobody sees it")
	}
	c, err := Load(path, []string{masterIn})
	if err != nil || Changed(c.Files) {
		t.Fatalf("%v, changed %v", err, Changed(c.Files))
	}
	for _, change := range []func() error{
		func() error { return os.WriteFile(password, []byte("another pass phrase"), 0o600) },
		func() error { return os.WriteFile(path, []byte("issuer: broken"), 0o600) },
		func() error { return os.Remove(path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if !Changed(c.Files) {
			t.Error("a change is not seen")
		}
		_, err := Load(path, []string{masterIn})
		if files := FilesOf(err); err != nil && (len(files) == 0 || Changed(files)) {
			t.Errorf("after %v: %v", err, files)
		}
	}
	if FilesOf(nil) != nil || FilesOf(os.ErrExist) != nil {
		t.Error("files of no refusal")
	}
}
