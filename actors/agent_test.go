package actors_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

func TestTrialIsTheRunThatEndsFirst(t *testing.T) {
	cfg := settings(1, 3, 10*time.Second, 8*time.Second)
	cfg.Agents[0].Checks[2].Timeout = time.Second
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		c.ask, c.health = refuse, serving
		cfg.Breaker.Failures = 3
		w.start()
		w.pass(9 * time.Second) // open, and by the probe half-open
		c.set(func(c *checker) { c.ask = hang })
		w.pass(10 * time.Second)
		got := w.core.all()
		if took := got[1].at.Sub(got[0].at); took > 11*time.Second+10*time.Millisecond {
			t.Errorf("the second cycle came %v after the first: it waited for more than the shortest timeout", took)
		}
		for key, s := range w.wantWhole(2)[1] {
			want := "circuit_open"
			if key == "a000/c2" {
				want = "timeout"
			}
			if !strings.Contains(string(s.GetMessage()), want) {
				t.Errorf("%s: %s, want %s", key, s.GetMessage(), want)
			}
		}
	})
}

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
	run(t, settings(1, 5, 10*time.Second, 8*time.Second), func(w *world) {
		c := w.checkers["a000"]
		panicOnce(c)
		w.start()
		w.pass(9 * time.Second)
		before := c.calls()
		c.set(func(c *checker) { c.ask = hang })
		w.pass(5 * time.Second)
		if n := c.calls() - before; n != 1 {
			t.Errorf("the restarted agent asked %d times at once, want one trial", n)
		}
	})
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
