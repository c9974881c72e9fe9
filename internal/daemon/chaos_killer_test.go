//go:build chaos

package daemon_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/serviceradar/poller/actors"
)

// killer is an observer that panics at random, on the goroutine of the actor that tells it something.
type killer struct {
	mu     sync.Mutex
	rand   *rand.Rand
	over   bool
	spare  bool // the poller, at the next cycle
	killed map[string]int
	failed []actors.ActorFailed
	back   int // actors that were started again
	others []actors.Event
}

func (k *killer) observe(event actors.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e := event.(type) {
	// These are told by agents, also in the midst of their runs; the next by the poller, then by the reporter.
	case actors.BreakerChanged, actors.HealthTold:
		k.maybe("agents", 0.2)
	case actors.CycleClosed:
		// Not twice in a row: on a busy machine it would never get to hear that a report was taken.
		if k.spare = !k.spare; k.spare {
			k.maybe("poller", 1)
		}
	case actors.ReportTaken, actors.ReportDelivered, actors.DeliveryFailed:
		k.maybe("reporter", 0.4)
	// These are not to be panicked over: nobody would be killed, or all.
	case actors.ActorFailed:
		k.failed = append(k.failed, e)
	case actors.ActorRestarted:
		k.back++
	case actors.PanicRecovered, actors.CyclesMissed, actors.ReportDropped, actors.ClockSetBack:
		k.others = append(k.others, e)
	}
}

func (k *killer) maybe(who string, chance float64) {
	if !k.over && k.rand.Float64() < chance {
		k.killed[who]++
		panic("chaos")
	}
}

func (k *killer) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
}

// verify asserts that each panic has brought down one actor, and that all came back.
func (k *killer) verify(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := 0
	for _, n := range k.killed {
		sum += n
	}
	t.Logf("actors killed: %v, started again: %d", k.killed, k.back)
	if len(k.failed) != sum || k.back != sum {
		t.Errorf("%d actors failed and %d were started again, want %d", len(k.failed), k.back, sum)
	}
	for _, who := range []string{"agents", "poller", "reporter"} {
		if k.killed[who] == 0 {
			t.Errorf("none of the %s was killed", who)
		}
	}
	for _, f := range k.failed {
		if f.Parked || !strings.HasPrefix(f.Cause, "chaos (") {
			t.Errorf("%s failed, parked: %v: %s\n%s", f.Actor, f.Parked, f.Cause, f.Stack)
		}
	}
	for _, e := range k.others {
		t.Errorf("%T: %+v", e, e)
	}
}
