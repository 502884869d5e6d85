package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

func TestAuditVerifyWithTheConfiguration(t *testing.T) {
	n, file := openDemo(t)
	for range 3 {
		if _, err := n.Mint(t.Context(), "demo-service", "https://api.example.com", 0); err != nil {
			t.Fatal(err)
		}
	}
	n.Close()
	verify := func() (int, string) {
		var out strings.Builder
		code := Run(context.Background(), &Environment{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }},
			[]string{"audit", "verify", "--config", file})
		return code, out.String()
	}
	if code, out := verify(); code != exitOK || !strings.Contains(out, "signed up to record") || !strings.Contains(out, "anchored up to record") {
		t.Fatalf("%d %s", code, out)
	}
	other := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(other, []byte(keys.GenerateMasterKey().Encode()), 0o600); err != nil {
		t.Fatal(err)
	}
	with := []string{"audit", "verify", "--master-key-file", other, filepath.Join(filepath.Dir(file), "journal"), "-o"}
	execute(t, t.Context(), nil, strings.NewReader(""), append(with, "text")...).wants(1, "bad checkpoint", "is it the master key of this service?")
	execute(t, t.Context(), nil, strings.NewReader(""), append(with, "json")...).wants(1, `"none_signed": true`)
	// Cut off the end: the chain and the signatures that are left are whole.
	segments, err := filepath.Glob(filepath.Join(filepath.Dir(file), "journal", "journal-*.jsonl"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(segments[0], []byte(strings.Join(lines[:len(lines)-3], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := verify(); code != exitFailed || !strings.Contains(out, "truncated") {
		t.Fatalf("%d %s", code, out)
	}
}

// A journal that is not there is named until somebody has said that its node is gone.
func TestAMissingJournalIsNamedUntilItsNodeIsRetired(t *testing.T) {
	s := newShell(t)
	data := filepath.Join(s.dir, "data")
	db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(data, "signalbox.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.StartJournal(t.Context(), "gone_1", "/somewhere", authority.JournalHead{})
	err = errors.Join(err, db.SaveJournalHead(t.Context(), "gone_1", authority.JournalHead{}, authority.JournalHead{Seq: 7, Hash: [32]byte{7}, At: time.Now()}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "signalbox.yaml")
	s.run("audit", "verify", "--config", file).wants(1, "node gone_1: MISSING: no file of it is here, but the database remembers record 7", "/somewhere", "audit retire gone_1", "records of the journal are missing")
	s.run("audit", "verify", "--config", file, "-o", "json").wants(1, `"ok": false`, `"kind": "missing"`, `"place": "/somewhere"`)
	s.run("audit", "nodes").wants(0, "gone_1", "7", "/somewhere", "expected")
	s.run("audit", "retire").wants(2)
	s.run("audit", "retire", "gone_2", "--yes").wants(1, "there is no node")
	s.run("audit", "retire", "gone_1", "--yes").wants(0, "node gone_1 is retired")
	s.run("audit", "nodes").wants(0, "retired")
	s.run("audit", "verify", "--config", file, "--all").wants(0, "node gone_1: no file is here; its last known record is 7; retired on")
	s.run("audit", "search", "--type", "node.retired").wants(0, "target=gone_1")
	s.run("audit", "verify", "--all", data).wants(2, "--config")
	s.run("audit", "verify", "--witness", file, data).wants(2, "--master-key-file")
	s.run("audit", "verify", "--witness", file, "--config", file).wants(1, "line 1: the first line is not the name of a journal")
	torn := filepath.Join(s.dir, "heads")
	if err := os.WriteFile(torn, []byte("\nsts.example.com/journal/n1\n12"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("audit", "verify", "--witness", torn, "--config", file).wants(0, "the witness's last note, from line 2, is torn and was skipped")
	s.run("audit", "verify", "--witness", torn, "--config", file, "-o", "json").wants(0, `"torn_note": 2`)
}
