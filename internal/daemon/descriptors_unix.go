//go:build unix

package daemon

import (
	"math"

	"golang.org/x/sys/unix"
)

// descriptors returns how many file descriptors the process was given. Go raises the soft limit at the start to one below
// the hard one; people know the latter.
func descriptors() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxUint64 // nobody knows, and so it is not for us to refuse
	}
	if limit.Cur < limit.Max {
		limit.Cur++
	}
	return uint64(limit.Cur)
}
