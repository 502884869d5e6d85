package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// VerifyOptions of Verify. None is needed to check the chains.
type VerifyOptions struct {
	// CheckSignature verifies a checkpoint's JWS and gives what was signed. With it,
	// a checkpoint without a good signature is a problem.
	CheckSignature func(jws string) (payload []byte, err error)
	// Anchors are heads that were kept elsewhere (Options.Anchor). Load them before
	// the call, so that a journal that is being written is ahead of them.
	Anchors []Checkpoint
	// Archived lets a journal begin with a later segment: those before it are kept
	// elsewhere. What the first line links to is then believed, and signed by the
	// next checkpoint like the rest.
	Archived bool
	// Progress, if not nil, is called now and then with bytes read and in all.
	Progress func(done, total int64)
}

// ProblemKind says what was done to a journal, as far as the chain tells.
type ProblemKind string

// The kinds of problem.
const (
	Changed   ProblemKind = "changed"
	Removed   ProblemKind = "removed"
	Inserted  ProblemKind = "inserted"
	Reordered ProblemKind = "reordered"
	Truncated ProblemKind = "truncated"
	BadSigned ProblemKind = "bad checkpoint"
)

// Problem is the first place where a node's journal is broken.
type Problem struct {
	Node   string
	File   string
	Line   int // from 1; 0 where the file as a whole is meant
	Kind   ProblemKind
	Detail string
}

// String is file:line, what, and why.
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Kind, p.Detail)
}

// NodeReport is what is known of one node's journal.
type NodeReport struct {
	Node        string
	Segments    int
	First       uint64 // the first record: 1, unless earlier segments are archived
	Records     uint64 // the last sound one, up to the problem if there is one
	Head        string // hash of the last record; empty if there is a problem
	From, Until time.Time
	Checkpoints uint64
	// SignedSeq is the last record that a checkpoint with a good signature vouches
	// for; AnchoredSeq the last one that an anchor agrees with.
	SignedSeq, AnchoredSeq uint64
	// Writing is the length of an unfinished last line: a process is writing it, or
	// died doing so; then the next start cuts it off.
	Writing int64
	Problem *Problem
}

// Report is the outcome of Verify.
type Report struct {
	Nodes []NodeReport
	Bytes int64
}

// OK says whether nothing was found.
func (r Report) OK() bool { return len(r.Problems()) == 0 }

// Problems are the first broken places, at most one a node.
func (r Report) Problems() (all []Problem) {
	for _, n := range r.Nodes {
		if n.Problem != nil {
			all = append(all, *n.Problem)
		}
	}
	return all
}

// Verify checks every journal in dir from its first line to its last: the chain,
// the checkpoints, the anchors. It needs no server and no lock, takes constant
// memory, and may run while a server appends. The error says that dir could not
// be read; what is wrong with the journal is in the report.
func Verify(dir string, opts VerifyOptions) (Report, error) {
	nodes, err := listSegments(dir)
	if err != nil {
		return Report{}, fmt.Errorf("journal: %w", err)
	}
	anchors := map[string][]Checkpoint{}
	for _, a := range opts.Anchors {
		anchors[a.Node] = append(anchors[a.Node], a)
		if nodes[a.Node] == nil {
			nodes[a.Node] = []segment{}
		}
	}
	if len(nodes) == 0 {
		return Report{}, fmt.Errorf("journal: no journal in %s", dir)
	}
	v := &verifier{opts: opts, dir: dir}
	for _, segments := range nodes {
		for _, s := range segments {
			v.total += s.size
		}
	}
	var report Report
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		n, err := v.node(node, nodes[node], anchors[node])
		if err != nil {
			return report, fmt.Errorf("journal: %w", err)
		}
		report.Nodes = append(report.Nodes, n)
	}
	v.progress(0)
	report.Bytes = v.done
	return report, nil
}

type verifier struct {
	opts        VerifyOptions
	dir         string
	done, total int64
	told        int64
}

const progressEvery = 4 << 20

func (v *verifier) progress(n int) {
	v.done += int64(n)
	if v.opts.Progress != nil && (n == 0 || v.done-v.told >= progressEvery) {
		v.told = v.done
		v.total = max(v.total, v.done) // it grew meanwhile
		v.opts.Progress(v.done, v.total)
	}
}

// chain is how far a node's journal is known to be sound.
type chain struct {
	NodeReport
	anchors []Checkpoint // those ahead, in order
	head    [32]byte
	adopt   bool   // the first line is still to say what head is
	signed  bool   // the last line is a checkpoint
	file    string // of the last line
	line    int
	from    []byte
	until   []byte
}

func (v *verifier) node(node string, segments []segment, anchors []Checkpoint) (NodeReport, error) {
	slices.SortFunc(anchors, func(a, b Checkpoint) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	c := &chain{NodeReport: NodeReport{Node: node, Segments: len(segments), First: 1}, anchors: anchors, head: genesis(node), file: v.dir}
	if v.opts.Archived && len(segments) > 0 && segments[0].first > 1 {
		c.First, c.Records, c.adopt = segments[0].first, segments[0].first-1, true
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
	for len(c.anchors) > 0 && c.anchors[0].Seq == 0 {
		c.anchors = c.anchors[1:]
	}
	if c.Problem == nil && len(c.anchors) > 0 {
		c.problem(c.file, c.line, Truncated, fmt.Sprintf("the journal ends at record %d, but an anchor knows record %d: the end was cut off",
			c.Records, c.anchors[len(c.anchors)-1].Seq))
	}
	if c.Problem == nil {
		c.Head = hex.EncodeToString(c.head[:])
	}
	c.From, c.Until = parseTime(c.from), parseTime(c.until)
	return c.NodeReport, nil
}

// expectSegment checks that s goes on where the one before ended.
func (c *chain) expectSegment(s segment, i int) {
	switch {
	case s.first > c.Records+1 && i == 0:
		c.problem(s.path, 0, Removed, fmt.Sprintf("records 1 to %d are missing before this file", s.first-1))
	case s.first > c.Records+1:
		c.problem(c.file, c.line, Truncated, fmt.Sprintf("records %d to %d are missing between this line and %s", c.Records+1, s.first-1, s.path))
	case s.first < c.Records+1:
		c.problem(s.path, 0, Inserted, fmt.Sprintf("the file begins with record %d, which an earlier file holds already", s.first))
	case i > 0 && !c.signed:
		c.problem(c.file, c.line, Truncated, "a closed segment must end in a checkpoint")
	}
}

func (c *chain) problem(file string, line int, kind ProblemKind, detail string) {
	c.Problem = &Problem{Node: c.Node, File: file, Line: line, Kind: kind, Detail: detail}
}

func (v *verifier) segment(c *chain, s segment, last bool) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	l := newLines(s.path, f)
	l.measure = true
	again := 0
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			switch {
			case !last && (l.torn > 0 || l.padded):
				c.problem(s.path, l.number+1, Truncated, "the line has no end, but a later file exists")
			case last && l.behind > l.torn:
				// Either the server is copying its next lines to where we read, which is
				// over in a moment, or there is a hole.
				if again++; again <= 20 {
					time.Sleep(time.Duration(again) * time.Millisecond)
					if _, err := f.Seek(l.offset, io.SeekStart); err != nil {
						return err
					}
					l.r.Reset(f)
					continue
				}
				c.problem(s.path, l.number+1, Changed, "zeros in the middle of the file")
			}
			c.Writing = l.torn
			return nil
		}
		if err != nil {
			var path *os.PathError
			if errors.As(err, &path) {
				return err
			}
			c.problem(s.path, l.number+1, Changed, "the line is too long for a journal")
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
func (v *verifier) line(c *chain, l *lines, line []byte) {
	f, ok := parseFrame(line)
	want := c.Records + 1
	if ok && c.adopt && f.seq == want {
		c.adopt, c.head = false, f.prev
		if !c.agrees(l.path, l.number) {
			return
		}
	}
	switch {
	case !ok:
		c.problem(l.path, l.number, Changed, "not a line of a journal")
		return
	case f.seq == want && f.prev == c.head:
	case f.prev == c.head:
		c.problem(l.path, l.number, Changed, fmt.Sprintf("it links to the line before but says that it is record %d, not %d", f.seq, want))
		return
	case f.seq > want:
		c.ahead(l, f, sha256.Sum256(line))
		return
	case f.seq < want:
		c.problem(l.path, l.number, Inserted, fmt.Sprintf("record %d where record %d must come; %d came before", f.seq, want, f.seq))
		return
	default:
		c.unlinked(l, f, sha256.Sum256(line))
		return
	}
	if !f.checkpoint && bytes.Contains(line, []byte(`,"jws":"`)) {
		c.problem(l.path, l.number, Changed, "it has a signature but does not say that it is a checkpoint")
		return
	}
	if f.checkpoint {
		if detail := v.checkpoint(c, f, line); detail != "" {
			c.problem(l.path, l.number, BadSigned, detail)
			return
		}
		c.Checkpoints++
	}
	c.signed = f.checkpoint
	c.Records, c.head = f.seq, sha256.Sum256(line)
	c.file, c.line = l.path, l.number
	if c.from == nil {
		c.from = slices.Clone(f.time)
	}
	c.until = append(c.until[:0], f.time...)
	c.agrees(l.path, l.number)
}

// agrees compares the last record with the anchors that have been reached.
func (c *chain) agrees(file string, line int) bool {
	for len(c.anchors) > 0 && c.anchors[0].Seq <= c.Records {
		a := c.anchors[0]
		c.anchors = c.anchors[1:]
		if a.Seq < c.Records {
			continue // of an archived record
		}
		if a.Head != hex.EncodeToString(c.head[:]) {
			c.problem(file, line, Changed, fmt.Sprintf("an anchor says that record %d has the hash %s", a.Seq, a.Head))
			return false
		}
		c.AnchoredSeq = a.Seq
	}
	return true
}

// ahead explains a line that came too early.
func (c *chain) ahead(l *lines, f frame, hash [32]byte) {
	number, want := l.number, c.Records+1
	next, ok := l.peekFrame()
	switch {
	case ok && next.seq < f.seq:
		c.problem(l.path, number, Reordered, fmt.Sprintf("record %d stands before record %d", f.seq, next.seq))
	case ok && next.seq == want+1 && next.prev != hash:
		c.problem(l.path, number, Changed, fmt.Sprintf("it says that it is record %d where record %d must come", f.seq, want))
	case f.seq == want+1:
		c.problem(l.path, number, Removed, fmt.Sprintf("record %d is missing before this line", want))
	default:
		c.problem(l.path, number, Removed, fmt.Sprintf("records %d to %d are missing before this line", want, f.seq-1))
	}
}

// unlinked explains a line of the right number whose prev is not the hash of the
// line before. One of the two was changed: if the next line vouches for this one,
// it was the one before.
func (c *chain) unlinked(l *lines, f frame, hash [32]byte) {
	number := l.number
	next, ok := l.peekFrame()
	switch {
	case ok && next.seq == f.seq:
		c.problem(l.path, number, Inserted, fmt.Sprintf("a second record %d, which nothing links to", f.seq))
	case c.Records == 0 && (!ok || next.prev == hash):
		c.problem(l.path, number, Changed, fmt.Sprintf("the first line does not begin the journal of node %q", c.Node))
	case ok && next.prev != hash:
		c.problem(l.path, number, Changed, "neither does it link to the line before, nor the next line to it")
	default:
		c.Records--
		c.problem(c.file, c.line, Changed, fmt.Sprintf("its hash is not what the next line (record %d) says", f.seq))
	}
}

// peekFrame looks at the next line without taking it.
func (l *lines) peekFrame() (frame, bool) {
	line, err := l.r.ReadSlice('\n') // the caller stops reading here
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return frame{}, false
	}
	return parseFrame(line)
}

// checkpoint says what is wrong with a checkpoint whose link is good.
func (v *verifier) checkpoint(c *chain, f frame, line []byte) string {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return "not whole JSON"
	}
	cp := Checkpoint{Node: c.Node, Seq: f.seq - 1, Head: hex.EncodeToString(f.prev[:]), Time: r.Time, JWS: r.JWS}
	switch {
	case r.Head != cp.Head:
		return "`head` is not the hash of the line before"
	case r.Count != cp.Seq:
		return fmt.Sprintf("`count` is %d, not %d", r.Count, cp.Seq)
	case v.opts.CheckSignature == nil:
		return ""
	case r.JWS == "":
		return "the signature is missing"
	}
	payload, err := v.opts.CheckSignature(r.JWS)
	if err != nil {
		return "the signature is not good: " + err.Error()
	}
	if string(payload) != string(cp.payload()) {
		return "the signature is over something else: " + string(payload)
	}
	c.SignedSeq = cp.Seq
	return ""
}

func parseTime(b []byte) time.Time {
	t, err := time.Parse(timeLayout, string(b))
	if err != nil {
		return time.Time{}
	}
	return t
}
