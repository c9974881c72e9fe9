package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/rs/zerolog"
)

func TestLimitMemory(t *testing.T) {
	const other = 3 << 30
	for name, tt := range map[string]struct {
		environ string // GOMEMLIMIT; not set if empty
		cgroup  memlimit.Provider
		want    int64
		says    string
		warns   bool
	}{
		"limited":           {"", memlimit.Limit(2 << 30), 2 << 30 * 9 / 10, `"gomemlimit":"1.8 GiB"`, false},
		"not limited":       {"", func() (uint64, error) { return 0, memlimit.ErrNoLimit }, math.MaxInt64, `"gomemlimit":"not limited"`, false},
		"by environment":    {"3GiB", memlimit.Limit(2 << 30), other, `"gomemlimit":"3.0 GiB"`, false},
		"no cgroups":        {"", func() (uint64, error) { return 0, memlimit.ErrCgroupsNotSupported }, other, `"gomemlimit":"3.0 GiB"`, false},
		"can't be read":     {"", func() (uint64, error) { return 0, errors.New("odd mounts") }, other, "odd mounts", true},
		"broken but not us": {"3GiB", func() (uint64, error) { return 0, errors.New("odd mounts") }, other, `"gomemlimit":"3.0 GiB"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AUTOMEMLIMIT", "") // so that they are set again at the end
			t.Setenv("GOMEMLIMIT", tt.environ)
			_ = os.Unsetenv("AUTOMEMLIMIT")
			if tt.environ == "" {
				_ = os.Unsetenv("GOMEMLIMIT")
			}
			before := debug.SetMemoryLimit(other)
			defer debug.SetMemoryLimit(before)
			var log bytes.Buffer
			limitMemory(zerolog.New(&log), tt.cgroup)
			if got := debug.SetMemoryLimit(-1); got != tt.want {
				t.Errorf("the limit is %d, want %d", got, tt.want)
			}
			if said := log.String(); !strings.Contains(said, tt.says) || !strings.Contains(said, `"gomaxprocs":`) || strings.Contains(said, `"warn"`) != tt.warns {
				t.Errorf("the log says %s, want %s in it", said, tt.says)
			}
		})
	}
}

// TestMemoryLimitOfTheProcess: run looks at it.
func TestMemoryLimitOfTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), binary, "run", "-c", configFile(t, twoAgents, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"))
	cmd.Env = append(cmd.Environ(), "GOMEMLIMIT=1234MiB", "GOMAXPROCS=3")
	p := startCommand(t, cmd)
	if line := p.await(t, "what the process may use"); line["gomemlimit"] != "1.2 GiB" || line["gomaxprocs"] != 3.0 {
		t.Errorf("the log says %v", line)
	}
	p.signalUntil(t, "poller: second signal")
	p.end()
}
