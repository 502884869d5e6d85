package journal

import (
	"os"
)

// disk is the part of a file that can fail.
type disk struct {
	write func(f *os.File, b []byte, off int64) (int, error)
	sync  func(*os.File) error
}

var zeros = make([]byte, 1<<20)

var realDisk = disk{
	write: (*os.File).WriteAt,
	sync:  syncData,
}
