//go:build unix

package agent

import (
	"io/fs"
	"syscall"
)

func writableByAll(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// ownedBy says whether the file is theirs; -1 is anybody.
func ownedBy(info fs.FileInfo, uid, gid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (uid < 0 || int(stat.Uid) == uid) && (gid < 0 || int(stat.Gid) == gid)
}
