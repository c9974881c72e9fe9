//go:build unix

package spool

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user that a file belongs to; false if the system does not say.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
