package journal

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// LostError says that a folder does not hold the journal that it should: it was cut,
// emptied, damaged, or replaced by an older copy.
type LostError struct {
	Dir, Node   string
	First, Last uint64 // the records that are missing or cannot be trusted
	Why         string
}

// Error says what is missing and what to do.
func (e *LostError) Error() string {
	return fmt.Sprintf("%s. Put the journal of node %s back into %s as it was; `signalbox audit verify` says what is wrong with it. "+
		"If it cannot be had, start once with `signalbox serve --accept-journal-loss`: the service starts without %s, and that is on record forever",
		e.Why, e.Node, e.Dir, recordRange(e.First, e.Last))
}

func recordRange(first, last uint64) string {
	switch {
	case last < first:
		return "its records"
	case last == first:
		return fmt.Sprintf("record %d", first)
	}
	return fmt.Sprintf("records %d to %d", first, last)
}

// end is where a journal continues.
type end struct {
	file     *os.File
	size     int64
	seq      uint64
	head     [32]byte
	unsigned uint64 // lines after the last checkpoint
	cut      int64  // bytes of a torn last line that were cut off
}

// recovery follows a journal to its end.
type recovery struct {
	end
	dir, node string
	anchored  authority.JournalHead
	adopt     bool // the first line is still to say what head is
}

// lost says that nothing after the last sound record can be trusted.
func (r *recovery) lost(format string, args ...any) error {
	return r.lostFrom(r.seq+1, format, args...)
}

func (r *recovery) lostFrom(first uint64, format string, args ...any) error {
	return &LostError{Dir: r.dir, Node: r.node, First: first, Last: max(first, r.anchored.Seq), Why: fmt.Sprintf(format, args...)}
}

// damage tells what is wrong with a file from a file that cannot be read.
func (r *recovery) damage(err error) error {
	var unreadable *fs.PathError
	if errors.As(err, &unreadable) {
		return err
	}
	return r.lost("%v", err)
}

// recoverEnd finds the end of node's journal in dir, which it makes if there is none.
// It checks the chain from the segment that holds the anchored head on, and its link to
// the segment before: a full check of all is the work of `audit verify`, and would make
// a start slow.
func recoverEnd(dir, node string, anchored authority.JournalHead) (end, error) {
	nodes, err := format.ListSegments(dir)
	if err != nil {
		return end{}, err
	}
	segments := nodes[node]
	r := &recovery{end: end{head: format.Genesis(node)}, dir: dir, node: node, anchored: anchored}
	if len(segments) == 0 {
		if anchored.Seq > 0 {
			return end{}, r.lost("%s holds no file of node %s, whose record %d is remembered", dir, node, anchored.Seq)
		}
		r.file, err = createSegment(dir, node, 1)
		return r.end, err
	}
	from := len(segments) - 1
	for from > 0 && segments[from].First > anchored.Seq && anchored.Seq > 0 {
		from--
	}
	if err := r.begin(segments, from); err != nil {
		return end{}, err
	}
	for i, s := range segments[from:] {
		if s.First != r.seq+1 {
			return end{}, r.lost("%s: record %d must come before this file: removed", s.Path, r.seq+1)
		}
		if err := r.readSegment(s.Path); err != nil {
			return end{}, err
		}
		if r.cut > 0 && from+i < len(segments)-1 {
			return end{}, r.lost("%s: truncated: the segment does not end in a whole line, but a later one exists", s.Path)
		}
	}
	if r.seq < anchored.Seq {
		return end{}, r.lost("the journal of node %s in %s ends at record %d, but record %d is remembered: its end was cut off, or it is an older copy",
			node, dir, r.seq, anchored.Seq)
	}
	f, err := os.OpenFile(segments[len(segments)-1].Path, os.O_WRONLY, 0)
	if err != nil {
		return end{}, err
	}
	r.file = f
	if err := f.Truncate(r.size); err != nil {
		f.Close()
		return end{}, err
	}
	// What a killed process wrote but did not sync is read as if it were safe.
	if err := f.Sync(); err != nil {
		f.Close()
		return end{}, err
	}
	return r.end, nil
}

// begin says what the first line of segments[from] must link to.
func (r *recovery) begin(segments []format.Segment, from int) error {
	s := segments[from]
	r.seq = s.First - 1
	switch {
	case from > 0:
		before := segments[from-1]
		line, err := format.LastLine(before.Path)
		if err != nil {
			return r.damage(err)
		}
		f, ok := format.ParseFrame(line)
		if !ok || f.Seq != r.seq {
			return r.lost("%s: its last line is not record %d, but %s begins after that", before.Path, r.seq, s.Path)
		}
		r.head = sha256.Sum256(line)
	case s.First == 1:
	case r.anchored.Seq >= s.First:
		r.adopt = true // the anchored head vouches for what follows
	case r.anchored.Seq > 0:
		return r.lostFrom(r.anchored.Seq, "the files of node %s begin with record %d, but record %d is remembered: if it was moved to an archive, bring it back",
			r.node, s.First, r.anchored.Seq)
	default:
		return r.lostFrom(1, "%s: removed: records 1 to %d are missing", s.Path, r.seq)
	}
	return nil
}

// readSegment follows the chain to the end of the file.
func (r *recovery) readSegment(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	l := format.NewLines(path, f)
	l.Measure = true
	for {
		start := l.Offset
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			// A power cut may keep a later page of the last write and lose an earlier
			// one. More than one write behind a hole is not that: refuse to cut it off.
			if l.Behind > l.Torn && l.Behind > maxWrite+format.MaxLine {
				return r.lost("%s:%d: changed: zeros in the middle, with %d bytes behind them", path, l.Number+1, l.Behind-l.Torn)
			}
			r.size, r.cut = l.Offset, l.Behind
			return nil
		}
		if err != nil {
			return r.damage(err)
		}
		fr, ok := format.ParseFrame(line)
		if !ok {
			// A crash can tear only the last line. It may have got a newline from
			// what was to be the middle of the batch, so ask for whole JSON.
			number, broken := l.Number, !json.Valid(line)
			if _, err := l.Next(); broken && errors.Is(err, io.EOF) && l.Behind == 0 {
				r.size, r.cut = start, l.Offset-start
				return nil
			}
			return r.lost("%s:%d: changed: not a line of a journal", path, number)
		}
		if r.adopt {
			r.adopt, r.head = false, fr.Prev
		}
		switch hash := sha256.Sum256(line); {
		case fr.Seq != r.seq+1:
			return r.lost("%s:%d: record %d where %d must come: removed, inserted or reordered", path, l.Number, fr.Seq, r.seq+1)
		case fr.Prev != r.head:
			return r.lostFrom(max(1, r.seq), "%s:%d: changed: the chain is broken here or in the line before", path, l.Number)
		case fr.Seq == r.anchored.Seq && hash != r.anchored.Hash:
			return r.lostFrom(1, "%s:%d: changed: record %d is not the one that is remembered", path, l.Number, fr.Seq)
		default:
			r.seq, r.head = fr.Seq, hash
		}
		r.unsigned++
		if fr.Checkpoint {
			r.unsigned = 0
		}
	}
}
