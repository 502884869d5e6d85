package journal

import (
	"errors"
	"os"
)

// disk is the part of a file that can fail.
type disk struct {
	write func(f *os.File, b []byte, off int64) (int, error)
	sync  func(*os.File) error
	// put is write and sync in one call; errors.ErrUnsupported where there is no such
	// call. Nil means the same.
	put func(f *os.File, b []byte, off int64) error
}

var zeros = make([]byte, 1<<20)

var realDisk = disk{
	write: (*os.File).WriteAt,
	sync:  syncData,
	put:   putData,
}

// pad writes zeros behind the lines. A put that finds their blocks allocated on the disk
// has no more to do than to overwrite them, so they go there at once.
func (j *Journal) pad(zeros []byte, off int64) (int, error) {
	n, err := j.disk.write(j.file, zeros, off)
	if err == nil && j.disk.put != nil {
		err = j.disk.sync(j.file)
	}
	return n, err
}

// put writes b at off, over zeros that are there already, and returns once it is on
// disk.
func (j *Journal) put(b []byte, off int64) error {
	err := errors.ErrUnsupported
	if j.disk.put != nil {
		err = j.disk.put(j.file, b, off)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		j.disk.put = nil // and will not be
		if _, err = j.disk.write(j.file, b, off); err == nil {
			err = j.disk.sync(j.file)
		}
	}
	return err
}
