//go:build !race

package observe_test

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/observe"
)

// TestRunsAllocateNothing: once all has been seen, the metrics of a cycle cost no memory. (Under the race detector everything
// may allocate.)
func TestRunsAllocateNothing(t *testing.T) {
	for _, perCheck := range []bool{false, true} {
		agents := fleet(1000, 5, 40)
		m, statuses := observe.NewMetrics(sources(perCheck)), cycle(agents)
		m.Agents(agents)
		if n := testing.AllocsPerRun(10, func() { m.CycleClosed(statuses, time.Second) }); n != 0 {
			t.Errorf("%v allocations for a cycle of %d statuses, per check: %v; want none", n, len(statuses), perCheck)
		}
	}
}
