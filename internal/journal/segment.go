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
	f, err := os.OpenFile(segmentPath(dir, node, first), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
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

// lines reads a segment line by line in constant memory.
type lines struct {
	path   string
	r      *bufio.Reader
	number int   // of the line that next returned last, from 1
	offset int64 // where the next line starts
	torn   int64 // length of an unfinished last line; known after io.EOF
}

func newLines(path string, r io.Reader) *lines {
	return &lines{path: path, r: bufio.NewReaderSize(r, maxLine+1)}
}

// next returns a line with its newline, valid until the next call, or io.EOF. A last
// line without a newline is not a line.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		l.number++
		l.offset += int64(len(line))
		return line, nil
	case errors.Is(err, io.EOF):
		l.torn = int64(len(line))
		return nil, io.EOF
	case errors.Is(err, bufio.ErrBufferFull):
		// Either a line that we did not write, or the unwritten end of a file that
		// a crash left longer than its content.
		if n, rest := l.skipNUL(line); rest {
			l.torn = n
			return nil, io.EOF
		}
		return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes", l.path, l.number+1, maxLine)
	}
	return nil, fmt.Errorf("%s:%d: %w", l.path, l.number+1, err)
}

// skipNUL says whether the file goes on with nothing but NUL after start, and how
// long that end is.
func (l *lines) skipNUL(start []byte) (int64, bool) {
	n := int64(len(start))
	if len(bytes.Trim(start[bytes.IndexByte(start, 0)+1:], "\x00")) != 0 || bytes.IndexByte(start, 0) < 0 {
		return 0, false
	}
	buf := make([]byte, 32<<10)
	for {
		k, err := l.r.Read(buf)
		if len(bytes.Trim(buf[:k], "\x00")) != 0 {
			return 0, false
		}
		n += int64(k)
		if err != nil {
			return n, errors.Is(err, io.EOF)
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
