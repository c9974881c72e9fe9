package actors_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

// measured is what a status tells of its run.
type measured struct {
	Asked      bool
	Late, Took time.Duration
}

// measuredRuns are the runs of all cycles, by agent.
func (w *world) measuredRuns() map[string][]measured {
	all := make(map[string][]measured)
	for _, e := range seen[actors.CycleClosed](w) {
		for i := range e.Runs {
			st := &e.Runs[i]
			all[st.Agent.Name] = append(all[st.Agent.Name], measured{st.Asked, st.Late, st.Took})
		}
	}
	return all
}

// TestRunsAreMeasured: a run in which the checker was asked has its times, by our own clock, whatever came of it; no other has.
func TestRunsAreMeasured(t *testing.T) {
	cfg := settings(5, 1, 10*time.Second, 4*time.Second)
	cfg.Breaker.Failures = 1
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = slow(300 * time.Millisecond) // it says that it needed a millisecond
		w.checkers["a001"].ask = hang
		w.checkers["a002"].ask = refuse
		w.checkers["a003"].ask = func(context.Context, *check.Check) (check.Answer, error) { panic("test fault in a call") }
		for _, name := range []string{"a001", "a002"} {
			w.checkers[name].health = gone
		}
		w.start()
		w.pass(15 * time.Second) // two cycles
		want := map[string][]measured{
			"a000": {{true, 0, 300 * time.Millisecond}, {true, 0, 300 * time.Millisecond}},
			"a001": {{true, 0, 4 * time.Second}, {}}, // circuit_open
			"a002": {{true, 0, 0}, {}},
			"a003": {{}, {}},
			"a004": {{true, 0, 0}, {true, 0, 0}},
		}
		if diff := cmp.Diff(want, w.measuredRuns()); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
	})
}

// TestLatenessIsMeasured: a run that has to wait for its turn is as late as it waits.
func TestLatenessIsMeasured(t *testing.T) {
	cfg := settings(3, 1, 10*time.Second, 4*time.Second)
	cfg.Poll.MaxInFlight = 1
	run(t, cfg, func(w *world) {
		for _, c := range w.checkers {
			c.ask = slow(300 * time.Millisecond)
		}
		w.start()
		w.pass(5 * time.Second)
		late := make(map[time.Duration]int)
		for _, runs := range w.measuredRuns() {
			for _, r := range runs {
				late[r.Late]++
			}
		}
		want := map[time.Duration]int{0: 1, 300 * time.Millisecond: 1, 600 * time.Millisecond: 1}
		if diff := cmp.Diff(want, late); diff != "" {
			t.Errorf("late by (-want +got):\n%s", diff)
		}
	})
}
