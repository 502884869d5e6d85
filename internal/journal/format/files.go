package format

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

var (
	nodeName    = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z`)
	segmentName = regexp.MustCompile(`\Ajournal-([A-Za-z0-9][A-Za-z0-9._-]{0,127})-([0-9]{20})\.jsonl\z`)
)

// IsNodeName says whether node can be a node's name.
func IsNodeName(node string) bool { return nodeName.MatchString(node) }

// Segment is one file of a node's journal.
type Segment struct {
	Node  string
	First uint64 // the seq of its first line
	Path  string
	Size  int64
}

// SegmentPath is the name of the segment that begins with record first.
func SegmentPath(dir, node string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("journal-%s-%020d.jsonl", node, first))
}

// ListSegments finds the journals in dir: per node, in order.
func ListSegments(dir string) (map[string][]Segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	nodes := map[string][]Segment{}
	for _, e := range entries {
		m := segmentName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		first, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil || first == 0 {
			return nil, fmt.Errorf("%s: the name holds no sequence number", filepath.Join(dir, e.Name()))
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		nodes[m[1]] = append(nodes[m[1]], Segment{m[1], first, filepath.Join(dir, e.Name()), info.Size()})
	}
	for _, s := range nodes {
		slices.SortFunc(s, func(a, b Segment) int { return cmp.Compare(a.First, b.First) })
	}
	return nodes, nil
}

// Genesis is what the first line of a node's journal has as `prev`.
func Genesis(node string) [32]byte {
	return sha256.Sum256([]byte("signalbox journal v1 " + node + "\n"))
}

// FirstTime is the time of a segment's first line; zero if it has none.
func (s Segment) FirstTime() time.Time {
	f, err := os.Open(s.Path)
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	b := make([]byte, 64+len(TimeLayout))
	n, _ := io.ReadFull(f, b)
	_, b, ok := bytes.Cut(b[:n], []byte(timeStart))
	if !ok || len(b) < len(TimeLayout) {
		return time.Time{}
	}
	return ParseTime(b[:len(TimeLayout)])
}

// LastLine reads the last line of a closed segment.
func LastLine(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(end, MaxLine+1))
	if _, err := f.ReadAt(b, end-int64(len(b))); err != nil {
		return nil, err
	}
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return nil, fmt.Errorf("%s: truncated: the segment does not end in a whole line, but a later one exists", path)
	}
	return b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:], nil
}
