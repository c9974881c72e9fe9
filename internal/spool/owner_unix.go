//go:build unix

package spool

import (
	"io/fs"
	"syscall"
)

// linksTo returns how many names a file has; false if the system does not say.
func linksTo(info fs.FileInfo) (n uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(stat.Nlink), true //nolint:unconvert // it is smaller on other systems
}

// ownerOf returns the user that a file belongs to; false if the system does not say.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
