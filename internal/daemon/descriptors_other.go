//go:build !unix

package daemon

import "math"

// descriptors have no limit of the process here that one could ask for.
func descriptors() uint64 { return math.MaxUint64 }
