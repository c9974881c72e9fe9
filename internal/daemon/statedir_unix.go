//go:build unix

package daemon

import (
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// access asks whether we may create files in a directory. Nothing is written, so a full disk is no reason
// to refuse it: the spool can wait for room.
func access(path string) error { return unix.Access(path, unix.R_OK|unix.W_OK|unix.X_OK) }

func owner(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf(", it is owned by uid %d with mode %04o", stat.Uid, info.Mode().Perm())
}
