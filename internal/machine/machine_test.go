package machine_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// start is where the time of most tests begins.
var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// TestMain gives the property tests the same seed each time, so that a run is repeatable and a
// red one is never a matter of luck. Another -rapid.seed (or RAPID_SEED) looks elsewhere. The seed
// says how to repeat a failure, so there is no need to leave files behind.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("rapid.seed").Value.String() == "0" {
		set("rapid.seed", "20260301")
	}
	set("rapid.nofailfile", "true")
	os.Exit(m.Run())
}

func set(name, value string) {
	if err := flag.Set(name, value); err != nil {
		panic(err)
	}
}

// numbered returns n agents, each with checks that are due every interval.
func numbered(n, checks int, interval time.Duration) []check.Agent {
	agents := make([]check.Agent, n)
	for i := range agents {
		agents[i] = check.Agent{Name: fmt.Sprintf("agent-%05d", i), Checks: make([]check.Check, checks)}
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
