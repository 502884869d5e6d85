package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// folders are what can be done to a journal's folder while its node is stopped. Before,
// the node wrote on after each of them, and `audit verify` called the rest whole.
var folders = []struct {
	name   string
	attack func(t *testing.T, dir, older string)
}{
	{"cut after an old checkpoint", func(t *testing.T, dir, older string) {
		files, err := filepath.Glob(filepath.Join(older, "journal-*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, filepath.Base(files[0])), int64(len(text))); err != nil {
			t.Fatal(err)
		}
	}},
	{"emptied, with its name", func(t *testing.T, dir, _ string) {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}},
	{"replaced by an older copy", func(t *testing.T, dir, older string) {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(older))); err != nil {
			t.Fatal(err)
		}
	}},
}

// The journal cannot be shortened or emptied behind the database's back
// (docs/security/threats.md K 114).
func TestJournalFolder(t *testing.T) {
	t.Parallel()
	onEachEngine(t, "", func(t *testing.T, w *world) {
		dir, config := filepath.Join(w.dir, "journal"), filepath.Join(w.dir, "signalbox.yaml")
		tokens := func() {
			t.Helper()
			for range 5 {
				w.adminToken(t)
			}
		}
		copied := func() string {
			to := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			return to
		}
		tokens()
		w.stop()
		older := copied()
		w.serve(t)
		tokens()
		w.stop()
		whole := copied()
		if _, stderr, code := run(t, "", "audit", "verify", "--config", config); code != 0 {
			t.Fatalf("the whole journal: %s", stderr)
		}
		for _, f := range folders {
			f.attack(t, dir, older)
			if out, _, code := run(t, "", "audit", "verify", "--config", config); code != 1 || strings.Contains(out, ": ok,") {
				t.Errorf("%s: verify exits with %d: %s", f.name, code, out)
			}
			if _, stderr, code := run(t, "", "serve", "--config", config); code != 1 || !strings.Contains(stderr, "--accept-journal-loss") || !strings.Contains(stderr, dir) {
				t.Errorf("%s: serve exits with %d: %s", f.name, code, stderr)
			}
			if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(whole))); err != nil {
				t.Fatal(err)
			}
		}
		w.serve(t) // the whole folder is as good as ever
		tokens()
		w.stop()

		// Lost for good: an operator says so, and it stays said.
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		w.serve(t, "--accept-journal-loss")
		tokens()
		w.restart(t)
		lost := journalOf(t, w.server, query.Query{Types: []string{"journal.lost"}})
		if len(lost) != 1 || lost[0].Seq != 1 || lost[0].Target == "" {
			t.Fatalf("%+v", lost)
		}
		out, _, code := run(t, "", "audit", "verify", "--config", config)
		if code != 1 || !strings.Contains(out, "node "+lost[0].Target+": LOST: records 1 to ") {
			t.Errorf("verify exits with %d: %s", code, out)
		}
		if r := w.administer(t, "POST", "/journal/nodes/"+lost[0].Target+"/retire", nil); r.Status != http.StatusOK {
			t.Fatal(r)
		}
		out, _, code = run(t, "", "audit", "verify", "--config", config)
		if code != 0 || !strings.Contains(out, "are lost, node ") {
			t.Errorf("once it is retired, verify exits with %d: %s", code, out)
		}
	})
}

// Two nodes with one name: a copy of a running node's folder. The second to move the
// head stops, and answers so.
func TestJournalCopied(t *testing.T) {
	t.Parallel()
	w := newPostgres(t, "")
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "journal"), os.DirFS(filepath.Join(w.dir, "journal"))); err != nil {
		t.Fatal(err)
	}
	w.adminToken(t)
	w.stop() // and its head is in the database
	twin := configure(t, copied, w.Issuer, serveHead+w.storage+w.more+houseBody, houseFiles())
	if _, stderr, code := run(t, "", "serve", "--config", filepath.Join(copied, "signalbox.yaml")); code != 1 || !strings.Contains(stderr, "is remembered") {
		t.Errorf("the copy starts: %d %s", code, stderr)
	}
	// Both run, from the same state on. The first to stop moves the head.
	if err := errors.Join(os.RemoveAll(filepath.Join(copied, "journal")), os.CopyFS(filepath.Join(copied, "journal"), os.DirFS(filepath.Join(w.dir, "journal")))); err != nil {
		t.Fatal(err)
	}
	w.serve(t)
	twin.serve(t)
	defer twin.stop()
	w.adminToken(t)
	w.stop()
	twin.adminToken(t)
	twin.proc.wait(t, "503 from the copy", func() bool {
		resp, err := http.Get(twin.AdminURL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	if r := twin.post(t, "/token", params("grant_type", "client_credentials"), basic(admin)); r.Status != http.StatusServiceUnavailable {
		t.Errorf("the copy still issues: %s", r)
	}
}
