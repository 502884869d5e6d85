//go:build !linux

package cli

import (
	"errors"
	"os"
)

func hideInput(*os.File) (restore func(), err error) {
	return nil, errors.New("not supported on this system")
}

func isTerminalFile(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
