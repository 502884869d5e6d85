package journal

import (
	"os"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// createSegment makes the file and makes its name last.
func createSegment(dir, node string, first uint64) (*os.File, error) {
	f, err := os.OpenFile(format.SegmentPath(dir, node, first), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
