package verify

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// chain is how far a node's journal is known to be sound.
type chain struct {
	NodeReport
	anchors []anchor // those ahead, in order
	head    [32]byte
	adopt   bool   // the first line is still to say what head is
	signed  bool   // the last line is a checkpoint
	file    string // of the last line
	line    int
	from    []byte
	until   []byte
}

// anchor is a head that is kept outside of the folder.
type anchor struct {
	authority.JournalHead
	by    string
	agree *uint64 // the last record that its keeper agrees with
}

func (v *verifier) node(node string, segments []format.Segment, known authority.Journal) (NodeReport, error) {
	c := &chain{NodeReport: NodeReport{Node: node, Segments: len(segments), First: 1, Known: known}, head: format.Genesis(node), file: v.dir}
	if len(segments) == 0 {
		v.absent(c)
		return c.NodeReport, nil
	}
	c.expect(v.opts.Witnessed[node])
	if v.opts.Archived && segments[0].First > 1 {
		c.First, c.Records, c.adopt = segments[0].First, segments[0].First-1, true
	}
	for i, s := range segments {
		c.expectSegment(s, i)
		if c.Problem == nil {
			if err := v.segment(c, s, i == len(segments)-1); err != nil {
				return c.NodeReport, err
			}
		}
		if c.Problem != nil {
			break
		}
	}
	if c.Problem == nil && len(c.anchors) > 0 {
		last := c.anchors[len(c.anchors)-1]
		c.problem(c.file, c.line, Truncated, fmt.Sprintf("the journal ends at record %d, but the %s remembers record %d: the end was cut off",
			c.Records, last.by, last.Seq))
	}
	if c.Problem == nil {
		c.Head = hex.EncodeToString(c.head[:])
	}
	c.From, c.Until = format.ParseTime(c.from), format.ParseTime(c.until)
	v.lost(c)
	return c.NodeReport, nil
}

// expect says which heads the journal must contain: all that are remembered, but for
// those of records that are known to be lost.
func (c *chain) expect(witnessed []authority.JournalHead) {
	c.anchors = append(c.anchors, anchor{c.Known.Head, "database", &c.AnchoredSeq})
	for _, h := range witnessed {
		c.anchors = append(c.anchors, anchor{h, "witness", &c.WitnessedSeq})
	}
	loss := c.Known.Loss
	c.anchors = slices.DeleteFunc(c.anchors, func(a anchor) bool { return a.Seq == 0 || !loss.At.IsZero() && a.Seq >= loss.First })
	slices.SortFunc(c.anchors, func(a, b anchor) int { return cmp.Compare(a.Seq, b.Seq) })
}

// absent judges a node without a file.
func (v *verifier) absent(c *chain) {
	known := c.Known
	witnessed := uint64(0)
	for _, h := range v.opts.Witnessed[c.Node] {
		witnessed = max(witnessed, h.Seq)
	}
	switch {
	case !known.RetiredAt.IsZero():
	case known.Node == "":
		c.problem(v.dir, 0, Missing, fmt.Sprintf("no file of it is here, but the witness remembers record %d", witnessed))
	case !known.Loss.At.IsZero() && (known.Loss.First <= 1 || v.elsewhere(known)):
		v.lost(c)
	case v.elsewhere(known):
		c.Elsewhere = true
	default:
		c.problem(v.dir, 0, Missing, fmt.Sprintf("no file of it is here, but the database remembers record %d of %s, written at %s",
			max(known.Head.Seq, witnessed), known.Head.At.UTC().Format(time.RFC3339), known.Place))
	}
}

func (v *verifier) elsewhere(known authority.Journal) bool {
	return v.opts.Elsewhere != nil && v.opts.Elsewhere(known.Place)
}

// lost judges a node that was started without some of its records: what is wrong with
// them is known then. It stays a problem until somebody has retired the node.
func (v *verifier) lost(c *chain) {
	loss := c.Known.Loss
	if loss.At.IsZero() || c.Problem != nil && c.Records+1 < loss.First {
		return
	}
	c.Problem = nil
	if c.Known.RetiredAt.IsZero() {
		c.problem(v.dir, 0, Lost, fmt.Sprintf("records %d to %d; node %s started without them on %s. %s",
			loss.First, loss.Last, loss.By, loss.At.UTC().Format(time.RFC3339), loss.Reason))
	}
}

// expectSegment checks that s continues where the one before ended.
func (c *chain) expectSegment(s format.Segment, i int) {
	switch {
	case s.First > c.Records+1 && i == 0:
		c.problem(s.Path, 0, Removed, fmt.Sprintf("records 1 to %d are missing before this file", s.First-1))
	case s.First > c.Records+1:
		c.problem(c.file, c.line, Truncated, fmt.Sprintf("records %d to %d are missing between this line and %s", c.Records+1, s.First-1, s.Path))
	case s.First < c.Records+1:
		c.problem(s.Path, 0, Inserted, fmt.Sprintf("the file begins with record %d, which an earlier file holds already", s.First))
	case i > 0 && !c.signed:
		c.problem(c.file, c.line, Truncated, "a closed segment must end in a checkpoint")
	}
}

func (c *chain) problem(file string, line int, kind ProblemKind, detail string) {
	c.Problem = &Problem{Node: c.Node, File: file, Line: line, Kind: kind, Detail: detail}
}

func (v *verifier) segment(c *chain, s format.Segment, last bool) error {
	f, err := os.Open(s.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	l := format.NewLines(s.Path, f)
	l.Measure = true
	again := 0
	for {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			switch {
			case !last && (l.Torn > 0 || l.Padded):
				c.problem(s.Path, l.Number+1, Truncated, "the line has no end, but a later file exists")
			case last && l.Behind > l.Torn:
				// Either the server is copying its next lines to where we read, which is
				// over in a moment, or there is a hole.
				if again++; again <= 20 {
					time.Sleep(time.Duration(again) * time.Millisecond)
					if err := l.Rewind(f); err != nil {
						return err
					}
					continue
				}
				c.problem(s.Path, l.Number+1, Changed, "zeros in the middle of the file")
			}
			c.Writing = l.Torn
			return nil
		}
		if err != nil {
			var path *os.PathError
			if errors.As(err, &path) {
				return err
			}
			c.problem(s.Path, l.Number+1, Changed, "the line is too long for a journal")
			return nil
		}
		again = 0
		v.progress(len(line))
		v.line(c, l, line)
		if c.Problem != nil {
			return nil
		}
	}
}

// line takes one more line into the chain, or finds what is wrong with it.
func (v *verifier) line(c *chain, l *format.Lines, line []byte) {
	f, ok := format.ParseFrame(line)
	want := c.Records + 1
	if ok && c.adopt && f.Seq == want {
		c.adopt, c.head = false, f.Prev
		if !c.agrees(l.Path, l.Number) {
			return
		}
	}
	switch {
	case !ok:
		c.problem(l.Path, l.Number, Changed, "not a line of a journal")
		return
	case f.Seq == want && f.Prev == c.head:
	case f.Prev == c.head:
		c.problem(l.Path, l.Number, Changed, fmt.Sprintf("it links to the line before but says that it is record %d, not %d", f.Seq, want))
		return
	case f.Seq > want:
		c.ahead(l, f, sha256.Sum256(line))
		return
	case f.Seq < want:
		c.problem(l.Path, l.Number, Inserted, fmt.Sprintf("record %d where record %d must come; %d came before", f.Seq, want, f.Seq))
		return
	default:
		c.unlinked(l, f, sha256.Sum256(line))
		return
	}
	if !f.Checkpoint && bytes.Contains(line, []byte(`,"jws":"`)) {
		c.problem(l.Path, l.Number, Changed, "it has a signature but does not say that it is a checkpoint")
		return
	}
	if f.Checkpoint {
		if detail := v.checkpoint(c, f, line); detail != "" {
			c.problem(l.Path, l.Number, BadSigned, detail)
			return
		}
		c.Checkpoints++
	}
	c.signed = f.Checkpoint
	c.Records, c.head = f.Seq, sha256.Sum256(line)
	c.file, c.line = l.Path, l.Number
	if c.from == nil {
		c.from = slices.Clone(f.Time)
	}
	c.until = append(c.until[:0], f.Time...)
	c.agrees(l.Path, l.Number)
}

// agrees compares the last record with the heads that have been reached.
func (c *chain) agrees(file string, line int) bool {
	for len(c.anchors) > 0 && c.anchors[0].Seq <= c.Records {
		a := c.anchors[0]
		c.anchors = c.anchors[1:]
		if a.Seq < c.Records {
			continue // of an archived record
		}
		if a.Hash != c.head {
			c.problem(file, line, Changed, fmt.Sprintf("the %s remembers that record %d has the hash %x", a.by, a.Seq, a.Hash))
			return false
		}
		*a.agree = a.Seq
	}
	return true
}

// ahead explains a line that came too early.
func (c *chain) ahead(l *format.Lines, f format.Frame, hash [32]byte) {
	number, want := l.Number, c.Records+1
	next, ok := l.PeekFrame()
	switch {
	case ok && next.Seq < f.Seq:
		c.problem(l.Path, number, Reordered, fmt.Sprintf("record %d comes before record %d", f.Seq, next.Seq))
	case ok && next.Seq == want+1 && next.Prev != hash:
		c.problem(l.Path, number, Changed, fmt.Sprintf("it says that it is record %d where record %d must come", f.Seq, want))
	case f.Seq == want+1:
		c.problem(l.Path, number, Removed, fmt.Sprintf("record %d is missing before this line", want))
	default:
		c.problem(l.Path, number, Removed, fmt.Sprintf("records %d to %d are missing before this line", want, f.Seq-1))
	}
}

// unlinked explains a line of the right number whose prev is not the hash of the
// line before. One of the two was changed: if the next line vouches for this one,
// it was the one before.
func (c *chain) unlinked(l *format.Lines, f format.Frame, hash [32]byte) {
	number := l.Number
	next, ok := l.PeekFrame()
	switch {
	case ok && next.Seq == f.Seq:
		c.problem(l.Path, number, Inserted, fmt.Sprintf("a second record %d, which nothing links to", f.Seq))
	case c.Records == 0 && (!ok || next.Prev == hash):
		c.problem(l.Path, number, Changed, fmt.Sprintf("the first line does not begin the journal of node %q", c.Node))
	case ok && next.Prev != hash:
		c.problem(l.Path, number, Changed, "neither does it link to the line before, nor the next line to it")
	default:
		c.Records--
		c.problem(c.file, c.line, Changed, fmt.Sprintf("its hash is not what the next line (record %d) says", f.Seq))
	}
}

// checkpoint says what is wrong with a checkpoint whose link is good.
func (v *verifier) checkpoint(c *chain, f format.Frame, line []byte) string {
	var r struct {
		Time  time.Time `json:"time"`
		Count uint64    `json:"count"`
		Head  string    `json:"head"`
		JWS   string    `json:"jws"`
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return "not whole JSON"
	}
	cp := format.Checkpoint{Node: c.Node, Head: authority.JournalHead{Seq: f.Seq - 1, Hash: f.Prev, At: r.Time}}
	switch {
	case r.Head != hex.EncodeToString(f.Prev[:]):
		return "`head` is not the hash of the line before"
	case r.Count != cp.Head.Seq:
		return fmt.Sprintf("`count` is %d, not %d", r.Count, cp.Head.Seq)
	case v.opts.CheckSignature == nil:
		return ""
	case r.JWS == "":
		return "the signature is missing"
	}
	payload, err := v.opts.CheckSignature(r.JWS)
	if err != nil {
		v.badSigned = true
		return "the signature is not good: " + err.Error()
	}
	v.goodSigned = true
	if string(payload) != string(cp.Payload()) {
		return "the signature is over something else: " + string(payload)
	}
	c.SignedSeq = cp.Head.Seq
	return ""
}

// anySigned looks at all checkpoints, also behind a problem, until one has a good
// signature.
func (v *verifier) anySigned(nodes map[string][]format.Segment) (bool, error) {
	for _, segments := range nodes {
		for _, s := range segments {
			if good, err := v.signedIn(s.Path); good || err != nil {
				return good, err
			}
		}
	}
	return false, nil
}

func (v *verifier) signedIn(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	l := format.NewLines(path, f)
	for {
		line, err := l.Next()
		var unreadable *os.PathError
		if errors.As(err, &unreadable) {
			return false, err
		}
		if err != nil { // the end, or no line of a journal
			return false, nil
		}
		var r struct {
			JWS string `json:"jws"`
		}
		if frame, ok := format.ParseFrame(line); !ok || !frame.Checkpoint || json.Unmarshal(line, &r) != nil {
			continue
		}
		if _, err := v.opts.CheckSignature(r.JWS); err == nil {
			return true, nil
		}
	}
}
