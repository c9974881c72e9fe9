package actors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

// seldom is the interval of checks between whose runs an agent has no connection.
const seldom = 5 * time.Minute

// wantClosed asserts how many connections to the one checker have been closed.
func (w *world) wantClosed(when string, want int64) {
	w.t.Helper()
	if n := w.checkers["a000"].closed.Load(); n != want {
		w.t.Errorf("%s: %d connections were closed, want %d", when, n, want)
	}
}

// wantAvailable asserts that so many cycles are at core, whole, and that all is well in them.
func (w *world) wantAvailable(cycles int) {
	w.t.Helper()
	for i, cycle := range w.wantWhole(cycles) {
		for key, s := range cycle {
			if !s.GetAvailable() {
				w.t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
			}
		}
	}
}

// TestSeldomAgentHasNoConnectionBetweenRuns: it is closed with the last answer, not the first, and made
// again with the next run.
func TestSeldomAgentHasNoConnectionBetweenRuns(t *testing.T) {
	run(t, settings(1, 3, seldom, 20*time.Second), func(w *world) {
		w.checkers["a000"].ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			return slow(time.Duration(chk.Name[1]-'0')*5*time.Second)(ctx, chk)
		}
		dials := dialed(w)
		w.start()
		w.pass(10*time.Second - time.Millisecond)
		w.wantClosed("with one of three runs to go", 0)
		w.pass(time.Millisecond)
		w.wantClosed("after the last answer", 1)
		w.pass(seldom)
		w.wantClosed("after the second cycle", 2)
		w.pass(seldom)
		w.wantClosed("after the third", 3)
		wantDials(w, dials, 0, 300, 600)
		w.wantAvailable(3)
	})
}

// TestWhoKeepsItsConnection: an agent with any check that is due within two minutes.
func TestWhoKeepsItsConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		intervals []time.Duration
		results   bool // the last check is asked for them
		dials     []float64
	}{
		"often":                    {intervals: []time.Duration{time.Minute, time.Minute}, dials: []float64{0}},
		"one of them often":        {intervals: []time.Duration{seldom, time.Minute, seldom}, dials: []float64{0}},
		"results often":            {intervals: []time.Duration{seldom, time.Minute}, results: true, dials: []float64{0}},
		"every two minutes":        {intervals: []time.Duration{2 * time.Minute, seldom}, dials: []float64{0, 120, 240, 300, 360, 480}},
		"results, too, but seldom": {intervals: []time.Duration{seldom, 3 * time.Minute}, results: true, dials: []float64{0, 180, 300, 360, 540}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(1, len(tt.intervals), time.Minute, 20*time.Second)
			for i, interval := range tt.intervals {
				cfg.Agents[0].Checks[i].Interval = interval
			}
			if tt.results {
				cfg.Agents[0].Checks[len(tt.intervals)-1].Method = check.GetResults
			}
			run(t, cfg, func(w *world) {
				w.checkers["a000"].results = func(ctx context.Context, c *check.Check, _ string) (check.Answer, error) { return up(ctx, c) }
				dials := dialed(w)
				w.start()
				w.pass(590 * time.Second)
				wantDials(w, dials, tt.dials...)
			})
		})
	}
}

// TestSeldomAgentKeepsItsConnectionForResults: they may take much longer than all statuses.
func TestSeldomAgentKeepsItsConnectionForResults(t *testing.T) {
	cfg := settings(1, 2, time.Minute, 20*time.Second)
	cfg.Agents[0].Checks[0].Interval, cfg.Agents[0].Checks[1].Interval = seldom, seldom
	cfg.Agents[0].Checks = append(cfg.Agents[0].Checks, check.Check{
		Name: "sweep", Type: "sweep", Method: check.StreamResults, Interval: seldom, Timeout: 4 * time.Minute,
	})
	run(t, cfg, func(w *world) {
		w.checkers["a000"].results = (&feed{takes: 100 * time.Second}).results
		dials := dialed(w)
		w.start()
		w.pass(100*time.Second - time.Millisecond)
		w.wantClosed("while results are coming in", 0)
		w.pass(time.Millisecond)
		w.wantClosed("after the results", 1)
		w.pass(seldom)
		w.wantClosed("after the results of the next cycle", 2)
		wantDials(w, dials, 0, 300)
	})
}

// TestSeldomAgentLooksForItsChecker: while the breaker is open probes make and keep connections as for any
// agent, and what found the checker is kept for the trial.
func TestSeldomAgentLooksForItsChecker(t *testing.T) {
	cfg := settings(1, 2, seldom, 20*time.Second)
	cfg.Breaker.Failures = 2
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		c.ask, c.health = refuse, gone
		dials := dialed(w)
		w.start()
		w.pass(2 * time.Second)
		w.wantClosed("before the first probe", 0)
		w.pass(128 * time.Second)
		wantDials(w, dials, 0, 3, 6, 66, 126)
		w.wantClosed("after probes", 4)
		c.set(func(c *checker) { c.ask, c.health = up, serving })
		w.pass(seldom - 131*time.Second)
		w.wantClosed("found, and not asked yet", 4)
		w.pass(2 * time.Second)
		w.wantClosed("asked", 5)
		wantDials(w, dials)
		w.pass(seldom)
		wantDials(w, dials, 600)
		w.wantNews("a000", "c0 c1 unreachable", "open", "half-open", "closed", "c0 c1 available")
	})
}

// TestSeldomAgentGreetsAgainAfterFailures: a connection that is new only because the last one was given up
// is no reason to ask for health; one after a failure is.
func TestSeldomAgentGreetsAgainAfterFailures(t *testing.T) {
	cfg := settings(1, 3, seldom, 20*time.Second)
	cfg.Breaker.Failures = 3
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		want := func(when string, want int) {
			t.Helper()
			if n := len(seen[actors.HealthTold](w)); n != want {
				t.Errorf("%s: health was told %d times, want %d", when, n, want)
			}
		}
		failing := func(failing string) {
			c.set(func(c *checker) {
				c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
					if failing == "all" || chk.Name == failing {
						return refuse(ctx, chk)
					}
					return up(ctx, chk)
				}
			})
		}
		w.start()
		w.pass(time.Second)
		want("in the first cycle", 1)
		w.pass(3 * seldom)
		want("in the fourth", 1)

		failing("c1")
		w.pass(seldom)
		want("in a cycle with a failure, on a connection of which nothing is known yet", 1)
		failing("none")
		w.pass(seldom)
		want("in the next", 2)
		w.pass(3 * seldom)
		want("three later", 2)

		failing("all")
		w.pass(seldom)
		want("when the breaker opened", 2)
		failing("none")
		w.pass(seldom)
		want("when it closed", 3)
		w.pass(3 * seldom)
		want("three cycles later", 3)
	})
}

// TestSeldomAgentAsksForHealthUntilItIsTold: a call for it that fails is no reason never to ask again.
func TestSeldomAgentAsksForHealthUntilItIsTold(t *testing.T) {
	run(t, settings(1, 1, seldom, 20*time.Second), func(w *world) {
		c, asked := w.checkers["a000"], atomic.Int64{}
		c.health = func(ctx context.Context) (string, error) {
			if asked.Add(1) == 1 {
				return gone(ctx)
			}
			return "SERVING", nil
		}
		w.start()
		w.pass(time.Second)
		for cycle, want := range []int{0, 1, 1, 1} {
			if cycle > 0 {
				w.pass(seldom)
			}
			if n := len(seen[actors.HealthTold](w)); n != want || asked.Load() != min(int64(cycle)+1, 2) {
				t.Errorf("after cycle %d health was asked %d times, and told %d times, want %d and %d", cycle, asked.Load(), n, min(cycle+1, 2), want)
			}
		}
	})
}

// TestSeldomAgentWaitsForHealth: the call for it may take longer than the one run, and is not cut off.
func TestSeldomAgentWaitsForHealth(t *testing.T) {
	run(t, settings(1, 1, seldom, 20*time.Second), func(w *world) {
		c := w.checkers["a000"]
		c.health = func(context.Context) (string, error) {
			time.Sleep(2 * time.Second)
			if c.closed.Load() > 0 {
				return "", check.Failf(check.NoAnswer, nil, "the connection was closed")
			}
			return "SERVING", nil
		}
		w.start()
		w.pass(2*time.Second - time.Millisecond)
		w.wantClosed("while health is asked", 0)
		w.pass(time.Millisecond)
		w.wantClosed("when it is told", 1)
		if n := len(seen[actors.HealthTold](w)); n != 1 {
			t.Errorf("health was told %d times, want once", n)
		}
	})
}
