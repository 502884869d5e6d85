// Package query reads journals: search and follow. It needs no server and no lock, and
// may run while a server appends.
package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// clockSlack is how far `time` may run against `seq`: segments are skipped by
// time only beyond it.
const clockSlack = 10 * time.Minute

// MaxNewest is the largest Limit with Newest, whose records are held in memory.
const MaxNewest = 10_000

// Query selects records. An empty field does not restrict; the others must all
// match, exactly.
type Query struct {
	Node      string // one node of several in the directory
	Types     []string
	ClientID  string
	SubjectID string
	GrantID   string
	SessionID string
	TokenID   string
	TokenHash string
	RequestID string
	Remote    string
	Text      string // a part of any value, as sent

	Since, Until time.Time // the first included, the second not

	// Limit is how many records to give; zero means all, with Newest 100.
	Limit int
	// Newest gives the last Limit matches and not the first.
	Newest bool
	// AfterSeq and BeforeSeq are the cursors of the two directions: only records
	// with a larger, or a smaller, seq. With several nodes they need Node.
	AfterSeq, BeforeSeq uint64
}

// Search gives the records in dir that match q to fn, oldest first, those of
// several nodes merged by time. It streams; only with Newest the matches are held in
// memory. An error of fn ends it and is returned.
func Search(ctx context.Context, dir string, q Query, fn func(Record) error) error {
	nodes, err := format.ListSegments(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if q.Node != "" {
		nodes = map[string][]format.Segment{q.Node: nodes[q.Node]}
	}
	if len(nodes) > 1 && (q.AfterSeq > 0 || q.BeforeSeq > 0) {
		return fmt.Errorf("journal: a cursor needs Node: %s holds several", dir)
	}
	if q.Newest && q.Limit == 0 {
		q.Limit = 100
	}
	if q.Limit < 0 || q.Newest && q.Limit > MaxNewest {
		return fmt.Errorf("journal: the limit must be from 1 to %d", MaxNewest)
	}
	m := compile(q)
	var sources []*source
	defer func() {
		for _, s := range sources {
			s.close()
		}
	}()
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		segments := m.relevant(nodes[node])
		s := &source{ctx: ctx, match: m, segments: segments}
		if q.Newest {
			if s.found, err = newest(ctx, m, segments); err != nil {
				return err
			}
			s.segments = nil
		}
		sources = append(sources, s)
	}
	return merge(sources, q, fn)
}

// merge gives the records of all sources by time, each source in its own order.
func merge(sources []*source, q Query, fn func(Record) error) error {
	skip := 0
	if q.Newest {
		for _, s := range sources {
			skip += len(s.found)
		}
		skip = max(0, skip-q.Limit)
	}
	heads := make([]*Record, len(sources))
	for n := 0; q.Limit == 0 || n < q.Limit+skip; n++ {
		first := -1
		for i, s := range sources {
			if heads[i] == nil {
				r, err := s.next()
				if err != nil {
					return err
				}
				heads[i] = r
			}
			if heads[i] != nil && (first < 0 || heads[i].Time.Before(heads[first].Time)) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		r := heads[first]
		heads[first] = nil
		if n < skip {
			continue
		}
		if err := fn(*r); err != nil {
			return err
		}
	}
	return nil
}

// matcher is a query made ready for bytes.
type matcher struct {
	q            Query
	types        [][]byte
	members      [][]byte
	text         []byte
	since, until []byte
}

func compile(q Query) *matcher {
	m := &matcher{q: q}
	for _, t := range q.Types {
		m.types = append(m.types, format.Text(t))
	}
	member := func(name, value string) {
		if value != "" {
			m.members = append(m.members, format.Member(name, value))
		}
	}
	member("request_id", q.RequestID)
	member("remote", q.Remote)
	member("client_id", q.ClientID)
	member("id", q.SubjectID) // only a subject has an `id`
	member("grant_id", q.GrantID)
	member("sid", q.SessionID)
	member("jti", q.TokenID)
	member("token_hash", q.TokenHash)
	if q.Text != "" {
		m.text = format.Text(q.Text)
	}
	if !q.Since.IsZero() && format.Writable(q.Since) {
		m.since = format.AppendTime(nil, q.Since)
	}
	if !q.Until.IsZero() && format.Writable(q.Until) {
		m.until = format.AppendTime(nil, q.Until)
	}
	return m
}

// relevant omits segments that cannot hold a match.
func (m *matcher) relevant(segments []format.Segment) []format.Segment {
	q := m.q
	var kept []format.Segment
	for i, s := range segments {
		if i+1 < len(segments) {
			next := segments[i+1]
			if next.First <= q.AfterSeq+1 {
				continue
			}
			if t := next.FirstTime(); !q.Since.IsZero() && !t.IsZero() && t.Before(q.Since.Add(-clockSlack)) {
				continue
			}
		}
		if q.BeforeSeq > 0 && s.First >= q.BeforeSeq {
			continue
		}
		if t := s.FirstTime(); !q.Until.IsZero() && t.After(q.Until.Add(clockSlack)) {
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// line says whether a line matches.
func (m *matcher) line(line []byte, f format.Frame) bool {
	q := m.q
	if f.Seq <= q.AfterSeq || q.BeforeSeq > 0 && f.Seq >= q.BeforeSeq {
		return false
	}
	if m.since != nil && bytes.Compare(f.Time, m.since) < 0 || m.until != nil && bytes.Compare(f.Time, m.until) >= 0 {
		return false
	}
	for _, want := range m.members {
		if !bytes.Contains(line, want) {
			return false
		}
	}
	if m.text != nil && !bytes.Contains(line, m.text) {
		return false
	}
	return m.types == nil || slices.ContainsFunc(m.types, func(t []byte) bool { return bytes.Equal(t, f.Type) })
}

// newest finds the last matches, reading the segments from the last one back.
func newest(ctx context.Context, m *matcher, segments []format.Segment) ([]*Record, error) {
	var found []*Record
	for i := len(segments) - 1; i >= 0 && len(found) < m.q.Limit; i-- {
		want := m.q.Limit - len(found)
		var ring [][]byte // of raw lines: most are pushed out again
		n := 0
		err := scan(ctx, m, segments[i], func(line []byte) error {
			if len(ring) < want {
				ring = append(ring, bytes.Clone(line))
			} else {
				ring[n%want] = append(ring[n%want][:0], line...)
			}
			n++
			return nil
		})
		if err != nil {
			return nil, err
		}
		records := make([]*Record, 0, len(ring)+len(found))
		for k := range ring {
			r, err := decode(segments[i].Node, ring[(max(0, n-len(ring))+k)%len(ring)])
			if err != nil {
				return nil, fmt.Errorf("journal: %s: %w", segments[i].Path, err)
			}
			records = append(records, &r)
		}
		found = append(records, found...)
	}
	return found, nil
}

// scan gives the matching lines of one format.Segment.
func scan(ctx context.Context, m *matcher, s format.Segment, fn func(line []byte) error) error {
	src := &source{ctx: ctx, match: m, segments: []format.Segment{s}}
	defer src.close()
	for {
		line, err := src.line()
		if err != nil || line == nil {
			return err
		}
		if err := fn(line); err != nil {
			return err
		}
	}
}

// source gives the matches of one node in order.
type source struct {
	ctx      context.Context
	match    *matcher
	segments []format.Segment // those to come
	node     string
	file     *os.File
	lines    *format.Lines
	found    []*Record // instead of segments
	n        int
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close() // only read
		s.file = nil
	}
}

// next is the next match; nil at the end.
func (s *source) next() (*Record, error) {
	if len(s.found) > 0 {
		r := s.found[0]
		s.found = s.found[1:]
		return r, nil
	}
	line, err := s.line()
	if err != nil || line == nil {
		return nil, err
	}
	r, err := decode(s.node, bytes.Clone(line))
	if err != nil {
		return nil, fmt.Errorf("journal: %s:%d: %w", s.lines.Path, s.lines.Number, err)
	}
	return &r, nil
}

// line is the next matching line, valid until the next call; nil at the end.
func (s *source) line() ([]byte, error) {
	for {
		if s.file == nil {
			if len(s.segments) == 0 {
				return nil, nil
			}
			next := s.segments[0]
			f, err := os.Open(next.Path)
			if err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
			s.segments, s.node, s.file, s.lines = s.segments[1:], next.Node, f, format.NewLines(next.Path, f)
		}
		line, err := s.lines.Next()
		if errors.Is(err, io.EOF) {
			s.close()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if s.n++; s.n%1024 == 0 && s.ctx.Err() != nil {
			return nil, s.ctx.Err()
		}
		f, ok := format.ParseFrame(line)
		if !ok {
			return nil, fmt.Errorf("journal: %s:%d: not a line of a journal; run `signalbox audit verify`", s.lines.Path, s.lines.Number)
		}
		if s.match.line(line, f) {
			return line, nil
		}
	}
}
