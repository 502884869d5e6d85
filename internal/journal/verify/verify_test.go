package verify

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
)

func TestVerifyNamesTheFirstBrokenPlace(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		line   int
		kind   ProblemKind
	}{
		{"one byte of a value", replace(4, "client-0", "client-1"), 4, Changed},
		{"one byte of the first line", replace(1, "client-0", "client-1"), 1, Changed},
		{"a line's prev", replace(4, `"prev":"`, `"prev":"0`), 4, Changed},
		{"a number raised", replace(4, `"seq":4`, `"seq":6`), 4, Changed},
		{"a number lowered", replace(4, `"seq":4`, `"seq":2`), 4, Changed},
		{"a line emptied", replace(4, `{`, ``), 4, Changed},
		{"the record before a checkpoint", replace(8, "client-1", "client-2"), 8, Changed},
		{"a removed line", dropLine(4), 4, Removed},
		{"a removed first line", dropLine(1), 1, Removed},
		{"a line that is there twice", copyLine(4, 5), 5, Inserted},
		{"an old line again", copyLine(2, 6), 6, Inserted},
		{"a forged line between", func(b []byte) []byte { return replace(5, `"seq":2`, `"seq":5`)(copyLine(2, 5)(b)) }, 5, Inserted},
		{"swapped neighbours", swapLines(4, 5), 4, Reordered},
		{"swapped over some lines", swapLines(3, 6), 3, Reordered},
		{"a checkpoint's signature", replace(9, `"jws":"ey`, `"jws":"ez`), 9, BadSigned},
		{"a checkpoint without signature", func(b []byte) []byte {
			i, k := strings.Index(string(b), `,"jws":`), strings.LastIndex(string(b), `,"prev"`)
			return append(b[:i:i], b[k:]...)
		}, 9, BadSigned},
		{"a checkpoint's count", replace(9, `"count":8`, `"count":9`), 9, BadSigned},
		{"a checkpoint's head", replace(9, `"head":"`, `"head":"0`), 9, BadSigned},
		{"a checkpoint's time", replace(9, `"time":"20`, `"time":"21`), 9, BadSigned},
		{"a hole of zeros", replace(4, `"token.issued"`, strings.Repeat("\x00", 14)), 4, Changed},
		{"a line of megabytes", replace(4, `"`, strings.Repeat(`"`, 1<<20)), 4, Changed},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, journal.Options{})
			appendN(t, j, 0, 8)
			closed(t, j)
			sound(t, dir)
			plant(t, files(t, dir)[0], c.change)
			p := verified(t, dir).Problems()
			if len(p) != 1 || p[0].Line != c.line || p[0].Kind != c.kind || p[0].File != files(t, dir)[0] {
				t.Errorf("got %v, want line %d: %s", p, c.line, c.kind)
			}
		})
	}
}

// Every single byte of a journal that was closed.
func TestVerifyNoticesEveryChangedByte(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	appendN(t, j, 0, 3)
	closed(t, j)
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(string(b), "\n")
	for i := range b {
		planted := append([]byte{}, b...)
		planted[i] ^= 1
		if err := os.WriteFile(path, planted, 0o600); err != nil {
			t.Fatal(err)
		}
		r := verified(t, dir)
		if i == len(b)-1 { // the last newline: the line counts as not yet written
			if r.Nodes[0].Writing == 0 {
				t.Error("a missing last newline is not seen")
			}
			continue
		}
		if r.OK() {
			t.Errorf("byte %d of %d (%q, line %d of %d) may be changed", i, len(b), b[i], 1+strings.Count(string(b[:i]), "\n"), lines)
		}
	}
}

func TestVerifyNoticesACutTailByItsAnchor(t *testing.T) {
	dir := t.TempDir()
	var anchors []authority.JournalHead
	j := open(t, dir, journal.Options{Anchor: keeping(&anchors)})
	appendN(t, j, 0, 8)
	closed(t, j)
	if len(anchors) != 1 {
		t.Fatal(anchors)
	}
	sound(t, dir, anchors...)
	path := files(t, dir)[0]
	plant(t, path, cutAfter(6))
	if r := verified(t, dir); !r.OK() {
		t.Errorf("without an anchor nobody can know: %v", r.Problems())
	}
	p := verified(t, dir, anchors...).Problems()
	if len(p) != 1 || p[0].Kind != Truncated || p[0].Line != 6 || p[0].File != path {
		t.Errorf("%v", p)
	}
	// Written again after the cut, by one who has the keys of this process only.
	j = open(t, dir, journal.Options{})
	appendN(t, j, 20, 8)
	closed(t, j)
	p = verified(t, dir, anchors...).Problems()
	if len(p) != 1 || p[0].Kind != Changed || p[0].Line != 8 {
		t.Errorf("%v", p)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p = verified(t, dir, anchors...).Problems()
	if len(p) != 1 || p[0].Kind != Missing {
		t.Errorf("%v", p)
	}
}

func TestVerifyNoticesMissingAndCutSegments(t *testing.T) {
	build := func(t *testing.T) (string, []string) {
		dir := t.TempDir()
		j := open(t, dir, journal.Options{MaxSegment: 2 << 10})
		appendN(t, j, 0, 20)
		closed(t, j)
		sound(t, dir)
		return dir, files(t, dir)
	}
	for _, c := range []struct {
		name   string
		break_ func(t *testing.T, f []string)
		file   int // index of the file that is named
		kind   ProblemKind
	}{
		{"first file gone", func(t *testing.T, f []string) { os.Remove(f[0]) }, 1, Removed},
		{"middle file gone", func(t *testing.T, f []string) { os.Remove(f[1]) }, 0, Truncated},
		{"last line of a closed file gone", func(t *testing.T, f []string) {
			plant(t, f[1], onLines(func(l [][]byte) [][]byte { return l[:len(l)-2] }))
		}, 1, Truncated},
		{"half of the last line of a closed file gone", func(t *testing.T, f []string) { plant(t, f[1], func(b []byte) []byte { return b[:len(b)-100] }) }, 1, Truncated},
		{"last record of a file changed", func(t *testing.T, f []string) {
			plant(t, f[1], onLines(func(l [][]byte) [][]byte {
				l[len(l)-2] = []byte(strings.Replace(string(l[len(l)-2]), `"type":"j`, `"type":"k`, 1))
				return l
			}))
		}, 1, Changed},
		{"renamed to another node", func(t *testing.T, f []string) {
			for _, p := range f {
				if err := os.Rename(p, strings.Replace(p, "a-1", "b-1", 1)); err != nil {
					t.Fatal(err)
				}
			}
		}, 0, Changed},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, f := build(t)
			c.break_(t, f)
			if c.name == "renamed to another node" {
				f = files(t, dir)
			}
			p := verified(t, dir).Problems()
			if len(p) != 1 || p[0].Kind != c.kind || p[0].File != f[c.file] {
				t.Errorf("got %v, want %s: %s", p, f[c.file], c.kind)
			}
		})
	}
}

func TestVerifyReportsAnUnfinishedLineAsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	appendN(t, j, 0, 3)
	plant(t, files(t, dir)[0], func(b []byte) []byte {
		return bytes.Replace(b, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00"), []byte(`{"seq":4,`), 1)
	})
	if n := sound(t, dir); n.Writing != 9 || n.Records != 3 {
		t.Errorf("%+v", n)
	}
}

func TestVerifyReportsProgressAndSeveralNodes(t *testing.T) {
	dir := t.TempDir()
	for _, node := range []string{"a", "b"} {
		j, err := journal.Open(dir, node, journal.Options{Sign: journaltest.Sign})
		if err != nil {
			t.Fatal(err)
		}
		appendN(t, j, 0, 10)
		closed(t, j)
	}
	b, _ := filepath.Glob(filepath.Join(dir, "journal-b-*"))
	plant(t, b[0], dropLine(2))
	var done, total int64
	r, err := Dir(dir, Options{Progress: func(d, t int64) { done, total = d, t }})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Nodes) != 2 || r.Nodes[0].Problem != nil || r.Nodes[1].Problem == nil || done == 0 || done > total {
		t.Errorf("%+v, %d of %d", r, done, total)
	}
	if got := fmt.Sprint(r.Problems()[0]); !strings.HasPrefix(got, b[0]+":2: removed: record 2 is missing") {
		t.Error(got)
	}
	if _, err := Dir(t.TempDir(), Options{}); err == nil {
		t.Error("an empty directory verifies")
	}
}

func TestVerifyBeginsBehindWhatIsArchived(t *testing.T) {
	var anchors []authority.JournalHead
	dir := t.TempDir()
	j := open(t, dir, journal.Options{MaxSegment: 2 << 10, Anchor: keeping(&anchors)})
	appendN(t, j, 0, 20)
	closed(t, j)
	whole := sound(t, dir)
	f := files(t, dir)
	if len(f) < 4 {
		t.Fatalf("%d segments", len(f))
	}
	if err := os.Remove(f[0]); err != nil {
		t.Fatal(err)
	}
	var first uint64
	if _, err := fmt.Sscanf(strings.TrimSuffix(f[1][len(f[1])-len("00000000000000000000.jsonl"):], ".jsonl"), "%d", &first); err != nil {
		t.Fatal(err)
	}
	check := func(anchors ...authority.JournalHead) NodeReport {
		t.Helper()
		r, err := Dir(dir, Options{CheckSignature: journaltest.Check, Archived: true, Witnessed: witnessed(anchors)})
		if err != nil {
			t.Fatal(err)
		}
		return r.Nodes[0]
	}

	got := check(anchors...)
	if got.Problem != nil || got.First != first || got.Records != whole.Records || got.Head != whole.Head || got.SignedSeq != whole.SignedSeq || got.WitnessedSeq == 0 {
		t.Errorf("%+v, want from %d what %+v has", got, first, whole)
	}
	// An anchor of an archived record proves nothing, but for the last one, which the first line links to.
	if got := check(authority.JournalHead{Seq: first - 2}); got.Problem != nil || got.WitnessedSeq != 0 {
		t.Errorf("an anchor of what is not here: %+v", got)
	}
	if got := check(authority.JournalHead{Seq: first - 1}); got.Problem == nil || got.Problem.Line != 1 || got.Problem.Kind != Changed {
		t.Errorf("an anchor of the record before the first: %+v", got)
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		kind   ProblemKind
	}{
		{"what the first line links to", replace(1, `"prev":"`, `"prev":"0`), Changed},
		{"the first line", replace(1, "client-", "Client-"), Changed},
		{"the first line gone", dropLine(1), Removed},
		{"the second line gone", dropLine(2), Removed},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := os.ReadFile(f[1])
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.WriteFile(f[1], before, 0o600) }()
			plant(t, f[1], c.change)
			if got := check(); got.Problem == nil || got.Problem.Kind != c.kind || got.Problem.File != f[1] {
				t.Errorf("%+v", got.Problem)
			}
		})
	}
	if err := os.Remove(f[2]); err != nil {
		t.Fatal(err)
	}
	if got := check(); got.Problem == nil || got.Problem.Kind != Truncated {
		t.Errorf("a gap in the middle is no archive: %+v", got.Problem)
	}
	// The service keeps writing.
	j = open(t, dir, journal.Options{})
	appendN(t, j, 20, 2)
	closed(t, j)
}

// What the database remembers of the nodes decides who must be here.
func TestVerifyNamesEveryNodeThatHasNoFiles(t *testing.T) {
	dir := t.TempDir()
	var heads []authority.JournalHead
	j := open(t, dir, journal.Options{Anchor: keeping(&heads)})
	appendN(t, j, 0, 3)
	closed(t, j)
	here := authority.Journal{Node: "a-1", Place: "one:/j", Head: heads[0]}
	gone := authority.Journal{Node: "b-1", Place: "one:/j", Head: authority.JournalHead{Seq: 7, Hash: [32]byte{7}}}
	with := func(change func(*authority.Journal)) authority.Journal {
		k := gone
		change(&k)
		return k
	}
	loss := func(first uint64) func(*authority.Journal) {
		return func(k *authority.Journal) {
			k.Loss = authority.JournalLoss{First: first, Last: 7, At: journaltest.Day, By: "c-1", Reason: "the disk died"}
		}
	}
	retired := func(k *authority.Journal) { k.RetiredAt = journaltest.Day }
	others := func(place string) bool { return place != "one:/j" }
	for _, c := range []struct {
		name      string
		known     authority.Journal
		elsewhere func(string) bool
		want      ProblemKind // none: it is fine
		away      bool
	}{
		{"it was here", gone, others, Missing, false},
		{"it is on another machine", with(func(k *authority.Journal) { k.Place = "two:/j" }), others, "", true},
		{"it is on another machine, and all must be here", with(func(k *authority.Journal) { k.Place = "two:/j" }), nil, Missing, false},
		{"it was retired", with(retired), nil, "", false},
		{"its loss was accepted", with(loss(1)), nil, Lost, false},
		{"its loss was accepted, and then it was retired", with(func(k *authority.Journal) { loss(1)(k); retired(k) }), nil, "", false},
		{"the loss of its end was accepted, and now all of it is gone", with(loss(4)), nil, Missing, false},
		{"its loss on another machine was accepted", with(func(k *authority.Journal) { loss(4)(k); k.Place = "two:/j" }), others, Lost, false},
		{"it had no record yet", with(func(k *authority.Journal) { k.Head = authority.JournalHead{} }), others, Missing, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, folder := range []string{dir, filepath.Join(dir, "not there")} {
				r, err := Dir(folder, Options{Known: []authority.Journal{here, c.known}, Elsewhere: c.elsewhere})
				if err != nil || len(r.Nodes) != 2 {
					t.Fatal(r, err)
				}
				if (folder == dir) != (r.Nodes[0].Problem == nil) {
					t.Errorf("in %s: %v", folder, r.Nodes[0].Problem)
				}
				n := r.Nodes[1]
				if n.Elsewhere != c.away || (n.Problem != nil) != (c.want != "") || n.Problem != nil && n.Problem.Kind != c.want || n.Known != c.known {
					t.Errorf("%+v, %v", n, n.Problem)
				}
				if !r.OK() == (folder == dir && c.want == "") {
					t.Error("ok:", r.OK())
				}
			}
		})
	}
}

// TestAWrongKeyIsToldFromAForgery: with a wrong key no checkpoint at all is good.
func TestAWrongKeyIsToldFromAForgery(t *testing.T) {
	wrong := func(string) ([]byte, error) { return nil, errors.New("signature does not verify") }
	badSignature := func(line int) func([]byte) []byte { return replace(line, `"jws":"ey`, `"jws":"ez`) }
	for _, row := range []struct {
		sentence string
		check    func(string) ([]byte, error)
		change   func([]byte) []byte
		none, ok bool
	}{
		{"nothing is wrong", journaltest.Check, nil, false, true},
		{"another key", wrong, nil, true, false},
		{"the first checkpoint is forged", journaltest.Check, badSignature(4), false, false},
		{"the last checkpoint is forged", journaltest.Check, badSignature(8), false, false},
		{"all are forged", journaltest.Check, func(b []byte) []byte { return badSignature(8)(badSignature(4)(b)) }, true, false},
		{"a record is changed, and the key was never tried", wrong, replace(2, "client-1", "client-2"), false, false},
	} {
		dir := t.TempDir()
		for i := range 2 { // each close signs a checkpoint
			j := open(t, dir, journal.Options{})
			appendN(t, j, 3*i, 3)
			closed(t, j)
		}
		if row.change != nil {
			plant(t, files(t, dir)[0], row.change)
		}
		r, err := Dir(dir, Options{CheckSignature: row.check})
		if err != nil || r.NoneSigned != row.none || r.OK() != row.ok {
			t.Errorf("%s: none signed %v, want %v; problems %v, %v", row.sentence, r.NoneSigned, row.none, r.Problems(), err)
		}
	}
}
