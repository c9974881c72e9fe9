//go:build (cluster || hung || spoolcost) && linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what a process has used.
type usage struct {
	cpu            time.Duration // since its start, its own and the kernel's for it
	rss, pss, peak float64       // MB
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	// The name of the program is in parentheses, and may have anything in it.
	_, stat, _ := strings.Cut(procFile(t, pid, "stat"), ") ")
	fields := strings.Fields(stat) // from the third on, by the manual's count
	if len(fields) < 13 {
		t.Fatalf("/proc/%d/stat has but %d fields", pid, len(fields))
	}
	ticks := wholeNumber(t, fields[14-3]) + wholeNumber(t, fields[15-3])
	const tick = time.Second / 100 // USER_HZ, whatever the kernel's own
	u := usage{cpu: time.Duration(ticks) * tick}
	status := procFile(t, pid, "status")
	u.rss, u.peak = megabytes(t, status, "VmRSS:"), megabytes(t, status, "VmHWM:")
	u.pss = megabytes(t, procFile(t, pid, "smaps_rollup"), "Pss:")
	return u
}

func procFile(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatalf("the poller is gone: %v", err)
	}
	return string(text)
}

// megabytes finds a line such as "VmRSS:   1234 kB".
func megabytes(t *testing.T, text, name string) float64 {
	t.Helper()
	_, after, _ := strings.Cut(text, "\n"+name)
	line, _, _ := strings.Cut(after, "\n")
	value, found := strings.CutSuffix(strings.TrimSpace(line), " kB")
	if !found {
		t.Fatalf("no %s in:\n%s", name, text)
	}
	return float64(wholeNumber(t, value)) / 1024
}

func wholeNumber(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
