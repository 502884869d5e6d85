// Package verify proves journals: that no line was changed, removed, put in, moved or
// cut off.
package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// Options of Dir. None is needed to check the chains.
type Options struct {
	// CheckSignature verifies a checkpoint's JWS and gives what was signed. With it,
	// a checkpoint without a good signature is a problem.
	CheckSignature func(jws string) (payload []byte, err error)
	// Known is what the database remembers of all nodes, and Witnessed the heads that a
	// witness has, by node. Load both before the call, so that a journal that is being
	// written is ahead of them.
	Known     []authority.Journal
	Witnessed map[string][]authority.JournalHead
	// TornNote is the line at which the last note of the witness begins, if that is torn:
	// to be told, since it proves nothing. Zero if it is whole.
	TornNote int
	// Elsewhere says that the journals of a place need not be in the folder. Nil means
	// that every journal that is known must be there.
	Elsewhere func(place string) bool
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
	Missing   ProblemKind = "missing"
	Lost      ProblemKind = "lost"
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
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", p.File, p.Kind, p.Detail)
	}
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
	// for; AnchoredSeq and WitnessedSeq the last one whose hash the database and the
	// witness agree with.
	SignedSeq, AnchoredSeq, WitnessedSeq uint64
	// Writing is the length of an unfinished last line: a process is writing it, or
	// died doing so; then the next start cuts it off.
	Writing int64
	// Known is what the database remembers of the node; zero if nothing.
	Known authority.Journal
	// Elsewhere: no file of the node is here, and none need be.
	Elsewhere bool
	Problem   *Problem
}

// Report is the outcome of Dir.
type Report struct {
	Nodes []NodeReport
	Bytes int64
	// NoneSigned says that no checkpoint at all has a good signature. Then the key
	// is more likely a wrong one than all of them forged.
	NoneSigned bool
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

// Dir checks every journal in dir from its first line to its last: the chain, the
// checkpoints, and what is remembered of it outside of dir. It needs no server and no
// lock, takes constant memory, and may run while a server appends. The error says that
// dir could not be read; what is wrong with the journal is in the report.
func Dir(dir string, opts Options) (Report, error) {
	nodes, err := format.ListSegments(dir)
	if errors.Is(err, fs.ErrNotExist) && len(opts.Known)+len(opts.Witnessed) > 0 {
		nodes, err = map[string][]format.Segment{}, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("journal: %w", err)
	}
	known := map[string]authority.Journal{}
	for _, k := range opts.Known {
		known[k.Node] = k
		nodes[k.Node] = slices.Clip(nodes[k.Node]) // there, though it may be empty
	}
	for node := range opts.Witnessed {
		nodes[node] = slices.Clip(nodes[node])
	}
	if len(nodes) == 0 {
		return Report{}, fmt.Errorf("journal: no journal in %s", dir)
	}
	v := &verifier{opts: opts, dir: dir}
	for _, segments := range nodes {
		for _, s := range segments {
			v.total += s.Size
		}
	}
	var report Report
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		n, err := v.node(node, nodes[node], known[node])
		if err != nil {
			return report, fmt.Errorf("journal: %w", err)
		}
		report.Nodes = append(report.Nodes, n)
	}
	v.progress(0)
	report.Bytes = v.done
	if v.badSigned && !v.goodSigned {
		good, err := v.anySigned(nodes)
		if err != nil {
			return report, fmt.Errorf("journal: %w", err)
		}
		report.NoneSigned = !good
	}
	return report, nil
}

type verifier struct {
	opts        Options
	dir         string
	done, total int64
	told        int64

	badSigned, goodSigned bool // as far as was read: a journal is read up to its first problem
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
