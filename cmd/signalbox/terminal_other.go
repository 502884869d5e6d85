//go:build !linux

package main

import (
	"errors"
	"os"
)

func hideInput(*os.File) (restore func(), err error) {
	return nil, errors.New("not supported on this system")
}
