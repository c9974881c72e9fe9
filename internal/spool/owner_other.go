//go:build !unix

package spool

import "io/fs"

// linksTo is not known here.
func linksTo(fs.FileInfo) (n uint64, ok bool) { return 0, false }

// ownerOf is not known here.
func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }
