package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used.
type usage struct {
	cpu         time.Duration // since its start, its own and the kernel's for it
	rss, peak   float64       // MB
	descriptors int
}

func usageOf(pid int) (usage, error) {
	var u usage
	var cpu unix.Timespec
	// The clock of a process' CPU, as clock_getcpuclockid(3) makes it.
	const scheduled = 2
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &cpu); err != nil { //nolint:gosec // a pid is small
		return u, fmt.Errorf("read the CPU's time of process %d: %w", pid, err)
	}
	u.cpu = time.Duration(cpu.Nano())
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	if u.rss, err = megabytes(string(status), "VmRSS:"); err != nil {
		return u, err
	}
	if u.peak, err = megabytes(string(status), "VmHWM:"); err != nil {
		return u, err
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.descriptors = len(descriptors)
	return u, err
}

// inMemoryOnly tells whether what is in a directory is on no disk.
func inMemoryOnly(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && (fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC)
}

// enoughDescriptors returns an error if this process can't serve so many agents: each has a connection here, too.
func enoughDescriptors(agents int) error {
	const spare = 200
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("find out how many file descriptors there may be: %w", err)
	}
	if need := uint64(agents) + spare; limit.Cur < need { //nolint:gosec // a count
		return fmt.Errorf("%d agents need %d file descriptors, and there may be no more than %d: ulimit -n %d", agents, need, limit.Cur, need)
	}
	return nil
}

// megabytes finds a line such as "VmRSS:   1234 kB".
func megabytes(text, name string) (float64, error) {
	_, after, _ := strings.Cut(text, "\n"+name)
	line, _, _ := strings.Cut(after, "\n")
	kB, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("no %s in /proc/PID/status", name)
	}
	return kB / 1024, nil
}
