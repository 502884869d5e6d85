//go:build !unix

package journal

import (
	"errors"
	"os"
)

func lockDir(string) (*os.File, error) {
	return nil, errors.New("a journal can be written on Unix systems only")
}
