package machine_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/proptest"
)

// start is where the time of most tests begins.
var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) { os.Exit(proptest.Main(m)) }

// numbered returns n agents, each with checks that are due every interval.
func numbered(n, checks int, interval time.Duration) []*check.Agent {
	agents := make([]*check.Agent, n)
	for i := range agents {
		agents[i] = &check.Agent{Name: fmt.Sprintf("agent-%05d", i), Checks: make([]check.Check, checks)}
		for k := range agents[i].Checks {
			agents[i].Checks[k] = check.Check{Name: fmt.Sprintf("check-%d", k), Interval: interval, Timeout: interval / 2}
		}
	}
	return agents
}

// panics returns what f panics with; nil if it does not.
func panics(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}
