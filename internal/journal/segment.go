package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// lockName is the file whose lock says that a process writes in the directory.
const lockName = "journal.lock"

var (
	nodeName    = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\z`)
	segmentName = regexp.MustCompile(`\Ajournal-([A-Za-z0-9][A-Za-z0-9._-]{0,127})-([0-9]{20})\.jsonl\z`)
)

// segment is one file of a node's journal.
type segment struct {
	node  string
	first uint64 // the seq of its first line
	path  string
	size  int64
}

func segmentPath(dir, node string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("journal-%s-%020d.jsonl", node, first))
}

// listSegments finds the journals in dir: per node, in order.
func listSegments(dir string) (map[string][]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	nodes := map[string][]segment{}
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
		nodes[m[1]] = append(nodes[m[1]], segment{m[1], first, filepath.Join(dir, e.Name()), info.Size()})
	}
	for _, s := range nodes {
		slices.SortFunc(s, func(a, b segment) int {
			if a.first < b.first {
				return -1
			}
			return 1
		})
	}
	return nodes, nil
}

// genesis is what the first line of a node's journal has as `prev`.
func genesis(node string) [32]byte {
	return sha256.Sum256([]byte("signalbox journal v1 " + node + "\n"))
}

// createSegment makes the file and makes its name last.
func createSegment(dir, node string, first uint64) (*os.File, error) {
	f, err := os.OpenFile(segmentPath(dir, node, first), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lines reads a segment line by line in constant memory. The lines end at the end of
// the file or at the first NUL: a segment that is being written has zeros behind its
// lines.
type lines struct {
	path   string
	r      *bufio.Reader
	number int   // of the line that next returned last, from 1
	offset int64 // where the next line starts

	measure bool // whether to read on behind the lines: for those who doubt the file

	// Known after io.EOF.
	torn   int64 // length of an unfinished last line
	behind int64 // if measured: length of all that follows the last line, without the zeros at its end
	padded bool  // whether there are zeros
}

func newLines(path string, r io.Reader) *lines {
	return &lines{path: path, r: bufio.NewReaderSize(r, maxLine+1)}
}

// next returns a line with its newline, valid until the next call, or io.EOF. A last
// line without a newline is not a line.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%s:%d: %w", l.path, l.number+1, err)
	}
	l.torn, l.behind, l.padded = int64(len(line)), int64(len(line)), false
	if nul := bytes.IndexByte(line, 0); nul >= 0 {
		l.torn, l.padded = int64(nul), true
		if !l.measure {
			return nil, io.EOF
		}
		return nil, l.skipZeros(line)
	}
	switch {
	case err == nil:
		l.number++
		l.offset += int64(len(line))
		return line, nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	}
	return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes", l.path, l.number+1, maxLine)
}

// skipZeros reads to the end of the file, and notes whether there is more than zeros.
func (l *lines) skipZeros(part []byte) error {
	read := int64(0)
	for {
		if k := len(bytes.TrimRight(part, "\x00")); k > 0 {
			l.behind = read + int64(k)
		} else if read == 0 {
			l.behind = 0
		}
		read += int64(len(part))
		_, err := l.r.Peek(1)
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", l.path, l.number+1, err)
		}
		part, _ = l.r.Peek(l.r.Buffered())
		// Discard does not move what Peek gave before the next read.
		if _, err := l.r.Discard(len(part)); err != nil {
			return err
		}
	}
}

// lastLine reads the last line of a closed segment.
func lastLine(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(end, maxLine+1))
	if _, err := f.ReadAt(b, end-int64(len(b))); err != nil {
		return nil, err
	}
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return nil, fmt.Errorf("%s: truncated: the segment does not end in a whole line, but a later one exists", path)
	}
	return b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:], nil
}
