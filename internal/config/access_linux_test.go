package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs f without root's right to read everything.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread() // the file system's user belongs to the thread
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setfsuid(0) }()
	f()
}

// TestAFileThatCannotBeReadSaysChown: with the name of the user who tried, and a
// command that can be pasted.
func TestAFileThatCannotBeReadSaysChown(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	secret, closed := filepath.Join(dir, "web's secret"), filepath.Join(dir, "closed")
	for _, path := range []string{secret, filepath.Join(dir, "signalbox.yaml")} {
		if err := os.WriteFile(path, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(closed, 0); err != nil {
		t.Fatal(err)
	}
	who := userName()
	quoted := `'` + strings.ReplaceAll(secret, "'", `'\''`) + `'`
	asNobody(t, func() {
		for _, row := range []struct{ sentence, file, problem, fix string }{
			{"the file is closed", secret, "cannot be read by the user " + who, "run as root: chown " + who + " " + quoted + " && chmod 600 " + quoted},
			{"its folder is closed", filepath.Join(closed, "deep", "web.secret"), who + ", who cannot enter the folder " + closed, "or, if that folder is for Signalbox alone, run as root: chown " + who + " " + closed},
		} {
			_, err := parse(t, with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, `client_secret_file: "`+row.file+`"`))
			if err == nil || !strings.Contains(err.Error(), row.problem) || !strings.Contains(err.Error(), row.fix) {
				t.Errorf("%s: %v\nwant %s\nand %s", row.sentence, err, row.problem, row.fix)
			}
		}
		file := filepath.Join(dir, "signalbox.yaml")
		if _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "run as root: chown "+who+" "+file+" && chmod 600 "+file) {
			t.Errorf("the configuration itself: %v", err)
		}
	})
}
