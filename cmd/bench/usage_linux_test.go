package main

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// used is the CPU's time of this process, by another way than usageOf's.
func used(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestUsage: what is read of a process by its number is what it has used.
func TestUsage(t *testing.T) {
	t.Parallel()
	for x := 0; used(t) < 50*time.Millisecond; x++ {
		_ = make([]byte, x%1000)
	}
	before := used(t)
	u, err := usageOf(os.Getpid())
	after := used(t)
	const apart = 20 * time.Millisecond // the two are counted in different steps
	if err != nil || u.cpu < before-apart || u.cpu > after+apart {
		t.Errorf("%v of the CPU, want %v to %v; %v", u.cpu, before, after, err)
	}
	if u.rss < 1 || u.peak < u.rss || u.descriptors < 3 {
		t.Errorf("%+v", u)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that there is not has used something")
	}
}
