//go:build !unix

package spool

import "io/fs"

// ownerOf is not known here.
func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }
