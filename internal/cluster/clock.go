package cluster

import "time"

// clock is what leases go by: others' go on while this machine sleeps, so its own must, too.
type clock struct {
	start time.Time
	boot  time.Duration
}

func newClock() clock {
	boot, _ := sinceBoot()
	return clock{time.Now(), boot}
}

// now returns the time by the clock; it never goes back.
func (k clock) now() time.Time {
	if boot, ok := sinceBoot(); ok {
		return k.start.Add(boot - k.boot)
	}
	return time.Now()
}
