package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot returns a time that never goes back, and goes on while the machine sleeps, which Go's monotonic clock does not.
func sinceBoot() (time.Duration, bool) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano()), err == nil
}
