package main

import (
	"errors"
	"math"
	"runtime"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"
)

// memoryShare is the part of the cgroup's memory that Go is to keep below. The rest is for what it does not count
// as its own: the program itself, and the kernel's buffers and files in memory.
const memoryShare = 0.9

// limitMemory lets Go collect its garbage in time for a limit that the kernel would enforce by killing the process,
// and tells what holds. GOMEMLIMIT in the environment wins. A limit that can't be found is none: the poller
// runs without, too.
func limitMemory(log zerolog.Logger, limit memlimit.Provider) {
	bytes, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(limit))
	if err != nil && !errors.Is(err, memlimit.ErrCgroupsNotSupported) && !errors.Is(err, memlimit.ErrNoCgroup) {
		log.Warn().Err(err).Msg("the cgroup's memory limit can't be found out; if there is one, set GOMEMLIMIT to nine tenths of it")
	}
	memory := "not limited"
	if bytes < math.MaxInt64 {
		memory = humanize.IBytes(uint64(bytes)) //nolint:gosec // a limit is never negative.
	}
	log.Info().Str("gomemlimit", memory).Int("gomaxprocs", runtime.GOMAXPROCS(0)).Msg("what the process may use")
}
