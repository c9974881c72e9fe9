package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The CPU time that is told is that which the process took.
func TestProcessCPU(t *testing.T) {
	t.Parallel()
	taken := func() (seconds float64) {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	}
	for taken() < 0.1 {
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const tick = 0.011
	before := taken()
	_, m := lookFor(t, filepath.Base(exe), ``)
	if got, _ := m["cpu_seconds"].(float64); got < before-2*tick || m["count"] == 1.0 && got > taken()+2*tick {
		t.Errorf("%v s of CPU; want %v, or more if the test runs twice", got, before)
	}
}

// A program is found by the name of its file, too, and still is when an update has taken the file away.
func TestProcessByFile(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	dir, unique := t.TempDir(), fmt.Sprintf("f%d", time.Now().UnixNano()%1e9)
	file, link := filepath.Join(dir, unique+"-file"), filepath.Join(dir, unique)
	if err := errors.Join(os.WriteFile(file, program, 0o700), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, name := range []string{unique, unique + "-file"} {
		if r, m := lookFor(t, name, ``); !r.Available || m["count"] != 1.0 {
			t.Errorf("%s: %s", name, r.Message)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r, _ := lookFor(t, unique+"-file", ``); !r.Available {
		t.Errorf("without its file: %s", r.Message)
	}
}

// A process that has ended stays in the list until its parent takes note of that.
func TestProcessZombie(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("z%d", time.Now().UnixNano()%1e9)
	cmd := startNamed(t, name)
	if r, _ := lookFor(t, name, ``); !r.Available {
		t.Fatalf("%s", r.Message)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if r, _ := lookFor(t, name, ``); r.Available {
		t.Errorf("%s; but it has ended", r.Message)
	}
}
