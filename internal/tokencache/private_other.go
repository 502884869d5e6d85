//go:build !unix

package tokencache

import (
	"io/fs"
	"os"
)

// A user's cache folder is the user's alone here, and mode bits say nothing of it.
// Without a lock several processes may ask at the same time.

func tryLock(*os.File) error            { return nil }
func ownedByUs(fs.FileInfo) bool        { return true }
func writableByOthers(fs.FileInfo) bool { return false }
func openToOthers(fs.FileInfo) bool     { return false }
