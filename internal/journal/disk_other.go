//go:build !linux

package journal

import (
	"errors"
	"os"
)

func putData(*os.File, []byte, int64) error { return errors.ErrUnsupported }

func syncData(f *os.File) error { return f.Sync() }
