package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// pollEvery is how often Follow looks at a file that another process writes.
const pollEvery = 250 * time.Millisecond

// Writer is a journal that this process writes.
type Writer interface {
	Dir() string
	Node() string
	// Head is the last record that is on disk.
	Head() uint64
	// Wait returns once record seq is on disk, and gives the last one that is.
	Wait(ctx context.Context, seq uint64) (uint64, error)
}

// Tail gives all records of w from fromSeq on to fn, those to come too, until ctx ends,
// fn fails, or the journal is closed. Zero means from now on. It gives only what is
// on disk.
func Tail(ctx context.Context, w Writer, fromSeq uint64, fn func(Record) error) error {
	if fromSeq == 0 {
		fromSeq = w.Head() + 1
	}
	wait := func(next uint64) (uint64, error) { return w.Wait(ctx, next) }
	return follow(w.Dir(), w.Node(), fromSeq, wait, fn)
}

// Follow is Tail for a journal that another process writes: it looks four times a
// second. What it gives may, in the moment of a power cut, not yet be on disk.
func Follow(ctx context.Context, dir, node string, fromSeq uint64, fn func(Record) error) error {
	if fromSeq == 0 {
		last := uint64(0)
		err := Search(ctx, dir, Query{Node: node, Newest: true, Limit: 1}, func(r Record) error { last = r.Seq; return nil })
		if err != nil {
			return err
		}
		fromSeq = last + 1
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	asked := uint64(0)
	wait := func(next uint64) (uint64, error) {
		if asked != next { // there was progress: look again at once
			asked = next
			return ^uint64(0), ctx.Err()
		}
		select {
		case <-tick.C:
			return ^uint64(0), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return follow(dir, node, fromSeq, wait, fn)
}

// follow reads from record next on. wait blocks until that may be there, and says up
// to which record to read.
func follow(dir, node string, next uint64, wait func(next uint64) (uint64, error), fn func(Record) error) error {
	next = max(next, 1)
	for {
		until, err := wait(next)
		if err != nil {
			return err
		}
		nodes, err := format.ListSegments(dir)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		var in *format.Segment
		for i, s := range nodes[node] {
			if s.First <= next {
				in = &nodes[node][i]
			}
		}
		if in == nil {
			if len(nodes[node]) > 0 {
				return fmt.Errorf("journal: record %d of node %s is no longer in %s", next, node, dir)
			}
			continue
		}
		if next, err = followSegment(dir, *in, next, until, wait, fn); err != nil {
			return err
		}
	}
}

// followSegment reads one file as long as it grows, and returns when record next is
// to be found in the file after.
func followSegment(dir string, s format.Segment, next, until uint64, wait func(uint64) (uint64, error), fn func(Record) error) (uint64, error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return next, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	l := format.NewLines(s.Path, f)
	for {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			if _, err := os.Stat(format.SegmentPath(dir, s.Node, next)); err == nil && next != s.First {
				return next, nil
			}
			if until, err = wait(next); err != nil {
				return next, err
			}
			if err := l.Rewind(f); err != nil {
				return next, err
			}
			continue
		}
		if err != nil {
			return next, fmt.Errorf("journal: %w", err)
		}
		fr, ok := format.ParseFrame(line)
		if !ok {
			return next, fmt.Errorf("journal: %s:%d: not a line of a journal", l.Path, l.Number)
		}
		if fr.Seq < next {
			continue
		}
		for fr.Seq > until {
			if until, err = wait(fr.Seq); err != nil {
				return next, err
			}
		}
		r, err := decode(s.Node, append([]byte(nil), line...))
		if err != nil {
			return next, fmt.Errorf("journal: %s:%d: %w", l.Path, l.Number, err)
		}
		if err := fn(r); err != nil {
			return next, err
		}
		next = fr.Seq + 1
	}
}
