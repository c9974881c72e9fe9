package actors_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

// panicOnce lets the actor of a checker panic when the next answer comes.
func panicOnce(c *checker) {
	var done atomic.Bool
	c.set(func(c *checker) {
		c.connections = func() uint64 {
			if !done.Swap(true) {
				panic("test fault")
			}
			return 1
		}
	})
}

func TestRestartedAgentBeginsHalfOpen(t *testing.T) {
	cfg := settings(1, 2, 10*time.Second, time.Second)
	cfg.Breaker.Failures = 1000
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		panicOnce(c)
		w.start()
		w.pass(9 * time.Second)
		c.set(func(c *checker) { c.ask = hang })
		w.pass(5 * time.Second)
		if e := seen[actors.BreakerChanged](w); len(e) == 0 || e[0].From != "half-open" || e[0].To != "open" {
			t.Errorf("events %+v, want the breaker to go from half-open to open", e)
		}
	})
}

func TestProbesKeepTheirPace(t *testing.T) {
	run(t, settings(1, 5, 5*time.Second, time.Second), func(w *world) {
		c := w.checkers["a000"]
		var probes []time.Time
		c.ask = refuse
		c.health = func(ctx context.Context) (string, error) {
			c.set(func(*checker) { probes = append(probes, time.Now()) })
			if len(probes)%2 == 0 {
				return gone(ctx)
			}
			return "SERVING", nil // half-open, and soon open again
		}
		w.start()
		w.pass(2 * time.Minute)
		c.set(func(*checker) {
			if len(probes) < 20 {
				t.Errorf("%d probes in two minutes", len(probes))
			}
			for i := 1; i < len(probes); i++ {
				if gap := probes[i].Sub(probes[i-1]); gap < 3*time.Second {
					t.Errorf("probe %d came %v after the one before, want at least 3s", i, gap)
				}
			}
		})
	})
}

func TestDeadConnectionIsMadeAnew(t *testing.T) {
	for name, change := range map[string]func(a *check.Agent, c *checker){
		"health does not answer": func(_ *check.Agent, c *checker) {
			c.health = func(ctx context.Context) (string, error) { _, err := hang(ctx, nil); return "", err }
		},
		"health is never asked": func(a *check.Agent, _ *checker) { a.HealthService = check.NoHealth },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(1, 5, 10*time.Second, time.Second)
			var dials atomic.Int64
			run(t, cfg, func(w *world) {
				dead := w.checkers["a000"]
				dead.ask = hang
				change(cfg.Agents[0], dead)
				w.o.Dial = func(*check.Agent) (actors.Checker, error) {
					if dials.Add(1) == 1 {
						return dead, nil
					}
					return &checker{ask: up, health: serving, connections: func() uint64 { return 1 }}, nil
				}
				w.start()
				w.pass(20*time.Second - time.Millisecond)
				for key, s := range w.wantWhole(2)[1] {
					if !s.GetAvailable() {
						t.Errorf("%s: %s", key, s.GetMessage())
					}
				}
				if dead.closed.Load() != 1 {
					t.Errorf("the dead connection was closed %d times", dead.closed.Load())
				}
			})
		})
	}
}

func TestRestartEndsTheCallsOfItsPredecessor(t *testing.T) {
	run(t, settings(1, 2, time.Minute, 50*time.Second), func(w *world) {
		var ended atomic.Int64
		began := time.Now()
		c := w.checkers["a000"]
		c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			if chk.Name == "c0" {
				defer func() { ended.Store(int64(time.Since(began))) }()
				return hang(ctx, chk)
			}
			time.Sleep(time.Second)
			return up(ctx, chk)
		}
		panicOnce(c)
		w.start()
		w.pass(3 * time.Second)
		if at := time.Duration(ended.Load()); at != time.Second {
			t.Errorf("the call in flight ended at %v, want 1s, when its actor failed", at)
		}
	})
}

func TestAnswerToAPredecessorIsIgnored(t *testing.T) {
	run(t, settings(1, 2, 5*time.Second, 4*time.Second), func(w *world) {
		c := w.checkers["a000"]
		release := make(chan struct{})
		var asked atomic.Int64
		c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			if chk.Name == "c0" && asked.Add(1) == 1 {
				<-release // a client that ignores that its context ended
			}
			return up(ctx, chk)
		}
		panicOnce(c)
		w.start()
		w.pass(7 * time.Second)
		close(release)
		w.pass(8*time.Second - time.Millisecond)
		w.wantWhole(3)
		if n := len(seen[actors.StatusDiscarded](w)); n != 0 {
			t.Errorf("%d answers to the agent's predecessor reached the poller", n)
		}
		if n := len(seen[actors.ActorFailed](w)); n != 1 {
			t.Errorf("%d failures, want the one of the test", n)
		}
	})
}

func TestStallOfOurOwnIsNotBlamedOnTheChecker(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, time.Second)
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			defer time.Sleep(300 * time.Millisecond) // as if the process had stood still
			return hang(ctx, c)
		}
		w.start()
		w.pass(10*time.Second - time.Millisecond)
		for key, s := range w.wantWhole(1)[0] {
			if m := string(s.GetMessage()); !strings.Contains(m, "no_answer") || !strings.Contains(m, "poller itself") {
				t.Errorf("%s: %s", key, m)
			}
		}
		if n := len(seen[actors.BreakerChanged](w)); n != 0 {
			t.Errorf("the breaker moved %d times for it", n)
		}
	})
}

func TestFaultsOfOurOwnCountForNothing(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, time.Second)
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			switch c.Name {
			case "c0":
				defer time.Sleep(300 * time.Millisecond)
			case "c1":
				time.Sleep(500 * time.Millisecond)
				panic("test fault in the call")
			}
			return hang(ctx, c)
		}
		w.start()
		w.pass(20 * time.Second) // three failures of the checker in each cycle; five open
		if e := seen[actors.BreakerChanged](w); len(e) == 0 || e[0].To != "open" {
			t.Errorf("breaker events %+v, want it open: nothing else was an answer", e)
		}
	})
}

// TestUnavailableFromTheFirstRun: a target that is down when the poller starts is told once, as is
// its return.
func TestUnavailableFromTheFirstRun(t *testing.T) {
	run(t, settings(2, 1, 5*time.Second, time.Second), func(w *world) {
		down := func(context.Context, *check.Check) (check.Answer, error) {
			return check.Answer{Message: []byte(`{"error":"refused"}`)}, nil
		}
		w.checkers["a000"].ask = down
		w.start()
		w.pass(16 * time.Second)
		w.checkers["a000"].set(func(c *checker) { c.ask = up })
		w.pass(10 * time.Second)
		want := []actors.ChecksChanged{
			{Agent: "a000", Changes: []actors.Change{{Check: "c0", Detail: `{"error":"refused"}`}}},
			{Agent: "a000", Changes: []actors.Change{{Check: "c0", Available: true}}},
		}
		if diff := cmp.Diff(want, seen[actors.ChecksChanged](w)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
