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

// wantNews asserts what was told of an agent's checks and its breaker: each event a line, such as
// "c0 c1 timeout" or "open".
func (w *world) wantNews(agent string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, e := range w.events {
		switch e := e.(type) {
		case actors.ChecksChanged:
			if e.Agent == agent {
				got = append(got, inWords(e.Changes))
			}
		case actors.BreakerChanged:
			if e.Agent == agent {
				got = append(got, e.To)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("told of %s (-want +got):\n%s", agent, diff)
	}
}

// inWords names the checks of each run of equal changes, and what they came to.
func inWords(changes []actors.Change) string {
	var words []string
	for i, c := range changes {
		words = append(words, c.Check)
		if i+1 < len(changes) && changes[i+1].Available == c.Available && changes[i+1].Reason == c.Reason {
			continue
		}
		switch {
		case c.Available:
			words = append(words, "available")
		case c.Reason == "":
			words = append(words, "unavailable")
		default:
			words = append(words, string(c.Reason))
		}
	}
	return strings.Join(words, " ")
}

// TestOneAgentGoesAway: however many checks it has and however long it is away, its going is told once,
// and so is its return. The answers come in another order than the checks have.
func TestOneAgentGoesAway(t *testing.T) {
	run(t, settings(1, 5, 10*time.Second, time.Second), func(w *world) {
		c := w.checkers["a000"]
		backwards := func(ask func(context.Context, *check.Check) (check.Answer, error)) {
			c.set(func(c *checker) {
				c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
					time.Sleep(time.Duration('9'-chk.Name[1]) * time.Millisecond)
					return ask(ctx, chk)
				}
			})
		}
		backwards(up)
		w.start()
		w.pass(15 * time.Second)
		w.wantNews("a000")
		backwards(refuse)
		c.set(func(c *checker) { c.health = gone })
		w.pass(time.Minute)
		w.wantNews("a000", "c0 c1 c2 c3 c4 unreachable", "open")
		backwards(up)
		c.set(func(c *checker) { c.health = serving })
		w.pass(time.Minute)
		w.wantNews("a000", "c0 c1 c2 c3 c4 unreachable", "open", "half-open", "closed", "c0 c1 c2 c3 c4 available")
	})
}

// TestChecksOfOneBatchDiffer: they are told together, in the order of the configuration, when the last
// has come to something.
func TestChecksOfOneBatchDiffer(t *testing.T) {
	run(t, settings(1, 5, 10*time.Second, 2*time.Second), func(w *world) {
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			switch c.Name {
			case "c0":
				return hang(ctx, c)
			case "c1", "c3":
				return check.Answer{Message: []byte("down")}, nil
			}
			return up(ctx, c)
		}
		w.start()
		w.pass(2*time.Second - time.Millisecond)
		w.wantNews("a000")
		w.pass(time.Minute)
		w.wantNews("a000", "c0 timeout c1 c3 unavailable")
	})
}

// TestOpenBreakerIsNoNewsOfItsChecks: a checker whose health is fine and whose calls hang goes from
// timeout to circuit_open and back for ever.
func TestOpenBreakerIsNoNewsOfItsChecks(t *testing.T) {
	run(t, settings(1, 5, 2*time.Second, time.Second), func(w *world) {
		c := w.checkers["a000"]
		c.ask = hang
		w.start()
		w.pass(2 * time.Minute)
		opened := 0
		for _, e := range seen[actors.BreakerChanged](w) {
			if e.To == "open" {
				opened++
			}
		}
		reasons := make(map[check.Reason]int)
		for _, e := range seen[actors.CycleClosed](w) {
			for reason, n := range e.ByReason {
				reasons[reason] += n
			}
		}
		if opened < 20 || reasons[check.Timeout] < 100 || reasons[check.CircuitOpen] < 100 {
			t.Errorf("the breaker opened %d times, reasons %v: the test tests nothing", opened, reasons)
		}
		changed := seen[actors.ChecksChanged](w)
		if len(changed) != 1 || inWords(changed[0].Changes) != "c0 c1 c2 c3 c4 timeout" {
			t.Errorf("told: %+v, want the timeouts once", changed)
		}
		c.set(func(c *checker) { c.ask = up })
		w.pass(10 * time.Second)
		changed = seen[actors.ChecksChanged](w)
		if len(changed) != 2 || inWords(changed[1].Changes) != "c0 c1 c2 c3 c4 available" {
			t.Errorf("told: %+v, want its return, too", changed)
		}
	})
}

// TestFlappingCheck: each change is told, once, and only of the check that changed.
func TestFlappingCheck(t *testing.T) {
	run(t, settings(1, 5, 10*time.Second, time.Second), func(w *world) {
		var asked atomic.Int64
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			if c.Name == "c2" && asked.Add(1)%4 >= 2 { // 1 up, 2 down, 3 down, 4 up, 5 up, …
				return check.Answer{Message: []byte("down")}, nil
			}
			return up(ctx, c)
		}
		w.start()
		w.pass(81 * time.Second)
		w.wantNews("a000", "c2 unavailable", "c2 available", "c2 unavailable", "c2 available")
	})
}

// TestNewsOfARestartedAgent: the next incarnation knows nothing, and tells what is not well.
func TestNewsOfARestartedAgent(t *testing.T) {
	run(t, settings(1, 2, 10*time.Second, time.Second), func(w *world) {
		c := w.checkers["a000"]
		c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			if chk.Name == "c0" {
				return check.Answer{Message: []byte("down")}, nil
			}
			return up(ctx, chk)
		}
		w.start()
		w.pass(15 * time.Second)
		panicOnce(c)
		w.pass(20 * time.Second)
		if n := len(seen[actors.ActorFailed](w)); n != 1 {
			t.Fatalf("%d failures, want the one of the test", n)
		}
		w.wantNews("a000", "c0 unavailable", "closed", "c0 unavailable")
	})
}

// TestACallThatNeverEndsHidesNothing: what changed of the checks beside it is told with their next runs.
func TestACallThatNeverEndsHidesNothing(t *testing.T) {
	run(t, settings(1, 2, 10*time.Second, time.Second), func(w *world) {
		release := make(chan struct{})
		defer close(release)
		w.checkers["a000"].ask = func(_ context.Context, c *check.Check) (check.Answer, error) {
			if c.Name == "c0" {
				<-release // a client that ignores that its context ended
			}
			return check.Answer{Message: []byte("down")}, nil
		}
		w.start()
		w.pass(15 * time.Second)
		w.wantNews("a000", "c0 overrun c1 unavailable")
	})
}

// TestWhatIsWellBeforeItIsToldIsNotTold: as above, but the check beside it is well again by its next run.
func TestWhatIsWellBeforeItIsToldIsNotTold(t *testing.T) {
	run(t, settings(1, 2, 10*time.Second, time.Second), func(w *world) {
		release := make(chan struct{})
		defer close(release)
		var asked atomic.Int64
		w.checkers["a000"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			if c.Name == "c0" {
				<-release
			}
			if asked.Add(1) == 1 {
				return check.Answer{Message: []byte("down")}, nil
			}
			return up(ctx, c)
		}
		w.start()
		w.pass(15 * time.Second)
		w.wantNews("a000", "c0 overrun")
	})
}
