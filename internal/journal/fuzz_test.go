package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
)

// FuzzSegment: whatever somebody has made of the file, looking at it and starting on it
// never panics. A start never changes a record that the remembered head vouches for, and
// verify never calls a journal sound that lacks one.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	j := open(f, dir, Options{})
	appendN(f, j, 0, 3)
	j.Close()
	good, err := os.ReadFile(files(f, dir)[0])
	if err != nil {
		f.Fatal(err)
	}
	end, err := recoverEnd(dir, "a-1", authority.JournalHead{})
	if err != nil {
		f.Fatal(err)
	}
	end.file.Close()
	head := authority.JournalHead{Seq: end.seq, Hash: end.head}
	f.Add(good)
	f.Add(good[:len(good)-10])
	f.Add(append(append([]byte{}, good...), 0, 0, '{', 0))
	f.Add(append(append([]byte{}, good...), "{\"seq\":5,\"time\":\"\n"...))
	f.Add([]byte("\x00\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := format.SegmentPath(dir, "a-1", 1)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		known := authority.Journal{Node: "a-1", Place: "here", Head: head}
		proof := verify.Options{CheckSignature: journaltest.Check, Known: []authority.Journal{known}}
		report, err := verify.Dir(dir, proof)
		if err != nil {
			t.Fatal(err)
		}
		holds := len(content) >= len(good) && string(content[:len(good)]) == string(good)
		if report.OK() && !holds {
			t.Fatal("verify calls it sound, and a remembered record is not there")
		}
		j, err := Open(dir, "a-1", Options{Sign: journaltest.Sign, Anchored: head})
		var lost *LostError
		switch {
		case errors.As(err, &lost):
			if after, err := os.ReadFile(path); err != nil || string(after) != string(content) {
				t.Fatal("a refused start has changed the file")
			}
			return
		case err != nil:
			t.Fatal(err)
		case !holds:
			t.Fatal("it starts, and a remembered record is not there")
		}
		appendN(t, j, 3, 1)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(dir, filepath.Base(path)))
		if err != nil || len(after) <= len(good) || string(after[:len(good)]) != string(good) {
			t.Fatal("a start has changed a remembered record")
		}
	})
}
