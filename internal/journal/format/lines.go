package format

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Lines reads a segment line by line in constant memory. The lines end at the end of
// the file or at the first NUL: a segment that is being written has zeros behind its
// lines.
type Lines struct {
	Path   string
	Number int   // of the line that Next returned last, from 1
	Offset int64 // where the next line starts

	Measure bool // whether to read on behind the lines: for those who doubt the file

	// Known after io.EOF.
	Torn   int64 // length of an unfinished last line
	Behind int64 // if measured: length of all that follows the last line, without the zeros at its end
	Padded bool  // whether there are zeros

	r *bufio.Reader
}

// NewLines reads r, which is the file at path.
func NewLines(path string, r io.Reader) *Lines {
	return &Lines{Path: path, r: bufio.NewReaderSize(r, MaxLine+1)}
}

// Next returns a line with its newline, valid until the next call, or io.EOF. A last
// line without a newline is not a line.
func (l *Lines) Next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%s:%d: %w", l.Path, l.Number+1, err)
	}
	l.Torn, l.Behind, l.Padded = int64(len(line)), int64(len(line)), false
	if nul := bytes.IndexByte(line, 0); nul >= 0 {
		l.Torn, l.Padded = int64(nul), true
		if !l.Measure {
			return nil, io.EOF
		}
		return nil, l.skipZeros(line)
	}
	switch {
	case err == nil:
		l.Number++
		l.Offset += int64(len(line))
		return line, nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	}
	return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes", l.Path, l.Number+1, MaxLine)
}

// skipZeros reads to the end of the file, and notes whether there is more than zeros.
func (l *Lines) skipZeros(part []byte) error {
	read := int64(0)
	for {
		if k := len(bytes.TrimRight(part, "\x00")); k > 0 {
			l.Behind = read + int64(k)
		} else if read == 0 {
			l.Behind = 0
		}
		read += int64(len(part))
		_, err := l.r.Peek(1)
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", l.Path, l.Number+1, err)
		}
		part, _ = l.r.Peek(l.r.Buffered())
		// Discard does not move what Peek gave before the next read.
		if _, err := l.r.Discard(len(part)); err != nil {
			return err
		}
	}
}

// Rewind goes back to where the next line starts, since r may hold more by now.
func (l *Lines) Rewind(r io.ReadSeeker) error {
	if _, err := r.Seek(l.Offset, io.SeekStart); err != nil {
		return err
	}
	l.r.Reset(r)
	return nil
}

// PeekFrame looks at the next line. Nothing can be read after it.
func (l *Lines) PeekFrame() (Frame, bool) {
	line, err := l.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return Frame{}, false
	}
	return ParseFrame(line)
}
