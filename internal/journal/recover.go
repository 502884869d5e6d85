package journal

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// end is where a journal goes on.
type end struct {
	file     *os.File
	size     int64
	seq      uint64
	head     [32]byte
	unsigned uint64 // lines after the last checkpoint
	cut      int64  // bytes of a torn last line that were cut off
}

// recoverEnd finds the end of node's journal in dir, which it makes if there is
// none. It checks the chain of the last segment, and its link to the one before:
// a full check of all is Verify's work, and would make a start slow.
func recoverEnd(dir, node string) (end, error) {
	nodes, err := format.ListSegments(dir)
	if err != nil {
		return end{}, err
	}
	segments := nodes[node]
	if len(segments) == 0 {
		f, err := createSegment(dir, node, 1)
		return end{file: f, head: format.Genesis(node)}, err
	}
	last := segments[len(segments)-1]
	e := end{seq: last.First - 1, head: format.Genesis(node)}
	if len(segments) > 1 {
		before := segments[len(segments)-2]
		line, err := format.LastLine(before.Path)
		if err != nil {
			return end{}, err
		}
		f, ok := format.ParseFrame(line)
		if !ok || f.Seq != e.seq {
			return end{}, fmt.Errorf("%s: its last line is not record %d, but %s begins after that", before.Path, e.seq, last.Path)
		}
		e.head = sha256.Sum256(line)
	} else if last.First != 1 {
		return end{}, fmt.Errorf("%s: removed: records 1 to %d are missing", last.Path, e.seq)
	}
	if err := e.readSegment(last.Path); err != nil {
		return end{}, err
	}
	f, err := os.OpenFile(last.Path, os.O_WRONLY, 0)
	if err != nil {
		return end{}, err
	}
	e.file = f
	if err := f.Truncate(e.size); err != nil {
		f.Close()
		return end{}, err
	}
	// What a killed process wrote but did not sync is read as if it were safe.
	if err := f.Sync(); err != nil {
		f.Close()
		return end{}, err
	}
	return e, nil
}

// readSegment follows the chain to the end of the file.
func (e *end) readSegment(path string) error {
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
				return fmt.Errorf("%s:%d: changed: zeros in the middle, with %d bytes behind them", path, l.Number+1, l.Behind-l.Torn)
			}
			e.size, e.cut = l.Offset, l.Behind
			return nil
		}
		if err != nil {
			return err
		}
		fr, ok := format.ParseFrame(line)
		if !ok {
			// A crash can tear only the last line. It may have got a newline from
			// what was to be the middle of the batch, so ask for whole JSON.
			number, broken := l.Number, !json.Valid(line)
			if _, err := l.Next(); broken && errors.Is(err, io.EOF) && l.Behind == 0 {
				e.size, e.cut = start, l.Offset-start
				return nil
			}
			return fmt.Errorf("%s:%d: changed: not a line of a journal", path, number)
		}
		switch {
		case fr.Seq != e.seq+1:
			return fmt.Errorf("%s:%d: record %d where %d must come: removed, inserted or reordered; run `signalbox audit verify`", path, l.Number, fr.Seq, e.seq+1)
		case fr.Prev != e.head:
			return fmt.Errorf("%s:%d: changed: the chain is broken here or in the line before; run `signalbox audit verify`", path, l.Number)
		}
		e.seq, e.head = fr.Seq, sha256.Sum256(line)
		e.unsigned++
		if fr.Checkpoint {
			e.unsigned = 0
		}
	}
}
