package actors_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/wire"
)

func TestEveryRunHasExactlyOneStatus(t *testing.T) {
	run(t, settings(120, 5, 2*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(time.Minute - time.Millisecond)
		for i, cycle := range w.wantWhole(30) {
			for key, s := range cycle {
				if !s.GetAvailable() || s.GetSource() != "getStatus" || !strings.Contains(string(s.GetMessage()), `"data":{"n":1,`) {
					t.Fatalf("cycle %d, %s: %v", i, key, s)
				}
			}
		}
		for name, c := range w.checkers {
			if n := c.calls(); n != 150 {
				t.Errorf("%s was asked %d times, want 150", name, n)
			}
		}
		if n := w.core.mostInFlight(); n != 1 {
			t.Errorf("%d deliveries were in flight at once, want 1", n)
		}
	})
}

func TestLongerIntervalsAreAbsentInBetween(t *testing.T) {
	cfg := settings(3, 2, 2*time.Second, time.Second)
	for i := range cfg.Agents {
		cfg.Agents[i].Checks[1].Interval = 6 * time.Second
	}
	run(t, cfg, func(w *world) {
		w.start()
		w.pass(12*time.Second - time.Millisecond)
		got := w.core.all()
		if len(got) != 6 {
			t.Fatalf("%d reports, want 6", len(got))
		}
		for i, d := range got {
			want := 3
			if i%3 == 0 {
				want = 6
			}
			if n := len(d.req.GetServices()); n != want {
				t.Errorf("cycle %d has %d statuses, want %d", i, n, want)
			}
		}
	})
}

func TestHeartbeatWithoutAgents(t *testing.T) {
	run(t, settings(0, 0, 2*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(10*time.Second - time.Millisecond)
		w.wantWhole(5)
	})
}

func TestHungCheckerCostsNobodyElse(t *testing.T) {
	run(t, settings(20, 5, 10*time.Second, 2*time.Second), func(w *world) {
		hung := w.checkers["a007"]
		hung.ask = hang
		hung.health = func(ctx context.Context) (string, error) {
			_, err := hang(ctx, nil)
			return "", err
		}
		w.start()
		w.pass(24 * time.Second)
		for i, cycle := range w.wantWhole(3) {
			for key, s := range cycle {
				want := `"data":{"n":1,`
				switch {
				case strings.HasPrefix(key, "a007/") && i == 0:
					want = `"reason":"timeout"`
				case strings.HasPrefix(key, "a007/"):
					want = `"reason":"circuit_open"`
				}
				if !strings.Contains(string(s.GetMessage()), want) {
					t.Errorf("cycle %d, %s: %s, want %s", i, key, s.GetMessage(), want)
				}
			}
		}
		// With the breaker open the cycle waits for nobody.
		if late := w.core.all()[1]; late.at.Sub(w.core.all()[0].at) > 10*time.Second {
			t.Errorf("the second cycle was delivered at %v", late.at)
		}
		hung.set(func(c *checker) { c.ask, c.health = up, serving })
		w.pass(7 * time.Second)
		for key, s := range w.wantWhole(4)[3] {
			if !s.GetAvailable() {
				t.Errorf("%s is not available although its checker returned 6s before: %s", key, s.GetMessage())
			}
		}
		var moves []string
		for _, e := range seen[actors.BreakerChanged](w) {
			if e.Agent != "a007" || e.Cause == "" {
				t.Errorf("breaker event %+v", e)
			}
			moves = append(moves, e.To)
		}
		if got := strings.Join(moves, " "); got != "open half-open closed" {
			t.Errorf("the breaker went %s", got)
		}
	})
}

func TestTimeoutAsLongAsTheIntervalIsNoOverrun(t *testing.T) {
	cfg := settings(1, 1, 2*time.Second, 2*time.Second)
	cfg.Breaker.Failures = 1000
	run(t, cfg, func(w *world) {
		w.checkers["a000"].ask = hang
		w.start()
		w.pass(20*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(10) {
			if m := string(cycle["a000/c0"].GetMessage()); !strings.Contains(m, `"reason":"timeout"`) {
				t.Errorf("cycle %d: %s", i, m)
			}
		}
	})
}

func TestHalfOpenAsksItsWholeBatch(t *testing.T) {
	cfg := settings(1, 5, 10*time.Second, 2*time.Second)
	run(t, cfg, func(w *world) {
		c := w.checkers["a000"]
		c.ask, c.health = refuse, gone
		w.start()
		w.pass(time.Second) // five refusals open the breaker
		c.set(func(c *checker) { c.health = serving })
		w.pass(10 * time.Second) // a probe finds it back, the second cycle's runs fail
		c.set(func(c *checker) { c.ask = up })
		w.pass(10 * time.Second)
		cycles := w.wantWhole(3)
		for key, s := range cycles[1] {
			if m := string(s.GetMessage()); !strings.Contains(m, "unreachable") {
				t.Errorf("second cycle, %s: %s", key, m)
			}
		}
		for key, s := range cycles[2] {
			if !s.GetAvailable() {
				t.Errorf("third cycle, %s: %s", key, s.GetMessage())
			}
		}
		var moves []string
		for _, e := range seen[actors.BreakerChanged](w) {
			moves = append(moves, e.To)
		}
		if got := strings.Join(moves, " "); got != "open half-open open half-open closed" {
			t.Errorf("the breaker went %s", got)
		}
	})
}

// One check that always hangs, or a slow checker, must not keep the others from being asked again
// after an outage.
func TestFailingCheckDoesNotSpeakForOthers(t *testing.T) {
	run(t, settings(1, 5, 5*time.Second, 2*time.Second), func(w *world) {
		c := w.checkers["a000"]
		some := func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			if chk.Name == "c0" {
				return hang(ctx, chk)
			}
			time.Sleep(1500 * time.Millisecond)
			return up(ctx, chk)
		}
		c.ask = some
		w.start()
		w.pass(4 * time.Second)
		c.set(func(c *checker) { c.ask, c.health = refuse, gone })
		w.pass(10 * time.Second)
		c.set(func(c *checker) { c.ask, c.health = some, serving })
		w.pass(46*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(12) {
			for key, s := range cycle {
				if away := i >= 1 && i <= 3; s.GetAvailable() == (away || key == "a000/c0") {
					t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
				}
			}
		}
	})
}

func TestOverrun(t *testing.T) {
	cfg := settings(1, 1, 2*time.Second, time.Second)
	run(t, cfg, func(w *world) {
		release := make(chan struct{})
		w.checkers["a000"].ask = func(context.Context, *check.Check) (check.Answer, error) {
			<-release // a client that ignores its deadline
			return check.Answer{Available: true}, nil
		}
		w.start()
		w.pass(4*time.Second - time.Millisecond)
		cycles := w.wantWhole(2)
		for i, want := range []string{"no_answer", "overrun"} {
			if m := string(cycles[i]["a000/c0"].GetMessage()); !strings.Contains(m, want) {
				t.Errorf("cycle %d: %s, want %s", i, m, want)
			}
		}
		close(release)
		w.pass(2 * time.Second)
		if n := len(seen[actors.StatusDiscarded](w)); n != 1 {
			t.Errorf("%d answers were discarded, want the late one", n)
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	cfg := settings(6, 1, 10*time.Second, 4*time.Second)
	cfg.Poll.MaxInFlight = 2
	cfg.Breaker.Failures = 1000
	run(t, cfg, func(w *world) {
		asking, most := make(chan int, 1), 0
		asking <- 0
		count := func(d int) {
			n := <-asking + d
			most = max(most, n)
			asking <- n
		}
		for _, c := range w.checkers {
			c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
				count(1)
				defer count(-1)
				return hang(ctx, chk)
			}
		}
		w.start()
		w.pass(20 * time.Second)
		reasons := make(map[string]int)
		for _, s := range w.byCheck(w.core.all()[0].req.GetServices()) {
			for _, r := range []string{`"timeout"`, `"overrun"`, "of its 4s were left"} {
				if strings.Contains(string(s.GetMessage()), r) {
					reasons[r]++
				}
			}
		}
		// Two at a time for 4s each; the third pair is cut off when its next run is due, and that
		// is not its checkers' fault.
		n := <-asking
		if reasons[`"timeout"`] != 4 || reasons["of its 4s were left"] != 2 || most != 2 {
			t.Errorf("reasons %v, %d agents at once, want 4 timeouts, 2 cut off, and 2", reasons, most)
		}
		asking <- n
	})
}

// TestManyHungAgentsStarveNobody: 30 checkers hang, though they are well when asked for their health, and
// there are places for 8 agents. Once they are known, the others are asked at once all the same.
func TestManyHungAgentsStarveNobody(t *testing.T) {
	cfg := settings(40, 1, 10*time.Second, 4*time.Second)
	cfg.Poll.MaxInFlight = 8
	cfg.Breaker.Failures = 1000
	run(t, cfg, func(w *world) {
		hung := func(i int) bool { return i < 30 }
		var late atomic.Int64
		began := time.Now()
		for i := range cfg.Agents {
			c := w.checkers[cfg.Agents[i].Name]
			c.ask = hang
			if i%2 == 1 { // it waits in vain for a connection
				c.ask = func(ctx context.Context, _ *check.Check) (check.Answer, error) {
					<-ctx.Done()
					return check.Answer{}, check.Failf(check.Unreachable, ctx.Err(), "no connection")
				}
			}
			if !hung(i) {
				c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
					if at := time.Since(began); at >= 30*time.Second && at%(10*time.Second) > 500*time.Millisecond {
						late.Add(1)
					}
					return up(ctx, chk)
				}
			}
		}
		w.start()
		w.pass(100*time.Second - time.Millisecond)
		if n := late.Load(); n != 0 {
			t.Errorf("%d runs of sound agents started late", n)
		}
		turns, quarter := make(map[string]int), 0
		for cycle, by := range w.wantWhole(10) {
			if cycle < 3 {
				continue
			}
			for i := range cfg.Agents {
				name := cfg.Agents[i].Name
				said := by[name+"/c0"]
				switch message := string(said.GetMessage()); {
				case !hung(i) && !said.GetAvailable():
					t.Errorf("cycle %d, %s: %s", cycle, name, message)
				case strings.Contains(message, `"timeout"`), strings.Contains(message, `"unreachable"`):
					turns[name]++
				case strings.Contains(message, "the quarter of poll.max_in_flight = 8"):
					quarter++
				}
			}
		}
		// Two at a time, each for 4s: four in a cycle have their turn, of which two may be cut off by the next.
		if len(turns) < 14 || quarter < 7*20 {
			t.Errorf("%d of the hung agents had a turn, %d runs waited in vain", len(turns), quarter)
		}
		t.Logf("%d runs of sound agents late; hung agents with a turn: %d of 30, runs without one: %d", late.Load(), len(turns), quarter)
	})
}

func TestRunsThatNeverGotTheirTurnAreOverrun(t *testing.T) {
	cfg := settings(3, 1, 4*time.Second, 4*time.Second)
	cfg.Poll.MaxInFlight = 1
	cfg.Breaker.Failures = 1000
	run(t, cfg, func(w *world) {
		for _, c := range w.checkers {
			c.ask = hang
		}
		w.start()
		w.pass(5 * time.Second)
		overruns := 0
		for _, s := range w.byCheck(w.core.all()[0].req.GetServices()) {
			if strings.Contains(string(s.GetMessage()), "poll.max_in_flight = 1") {
				overruns++
			}
		}
		if overruns != 2 {
			t.Errorf("%d overruns, want 2", overruns)
		}
	})
}

func TestCoreAway(t *testing.T) {
	run(t, settings(10, 2, 5*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(6 * time.Second)
		w.core.setFault(func(context.Context, wire.Delivery) error { return status.Error(codes.Unavailable, "away") })
		w.pass(30 * time.Second)
		if n := len(w.core.all()); n != 2 {
			t.Fatalf("core has %d reports while away, want 2", n)
		}
		w.core.setFault(nil)
		w.pass(9*time.Second - time.Millisecond)
		w.wantWhole(9)
		failed := seen[actors.DeliveryFailed](w)
		if len(failed) < 8 || len(failed) > 30 {
			t.Errorf("%d attempts failed in 30s, want a back-off up to 5s", len(failed))
		}
	})
}

func TestEachAnswerOfCore(t *testing.T) {
	for _, tt := range []struct {
		err      error
		want     wire.Outcome
		arrives  bool
		attempts int // at least
	}{
		{status.Error(codes.Unknown, "database down"), wire.Retry, true, 3},
		{status.Error(codes.ResourceExhausted, ""), wire.Retry, true, 3},
		{wire.ErrNotReceived, wire.Retry, true, 3},
		{errors.New("no status at all"), wire.Retry, true, 3},
		{status.Error(codes.PermissionDenied, ""), wire.Hold, true, 3},
		{status.Error(codes.Unimplemented, ""), wire.Hold, true, 3},
		{status.Error(codes.InvalidArgument, ""), wire.SetAside, false, 1},
	} {
		t.Run(status.Code(tt.err).String(), func(t *testing.T) {
			run(t, settings(2, 1, 10*time.Second, time.Second), func(w *world) {
				w.core.fault = func(_ context.Context, d wire.Delivery) error {
					if strings.HasPrefix(d.ID, "p/b/1") {
						return tt.err
					}
					return nil
				}
				w.start()
				w.pass(time.Second)
				if n := len(w.core.all()); n != 0 {
					t.Errorf("core has %d reports", n)
				}
				w.core.setFault(nil)
				w.pass(10 * time.Second)
				failed := seen[actors.DeliveryFailed](w)
				if len(failed) < tt.attempts || failed[0].Outcome != tt.want {
					t.Errorf("failures %+v, want at least %d, %v", failed, tt.attempts, tt.want)
				}
				first := w.core.all()[0].id
				if got := strings.HasPrefix(first, "p/b/1"); got != tt.arrives {
					t.Errorf("the first report to arrive is %s", first)
				}
			})
		})
	}
}

func TestAlive(t *testing.T) {
	run(t, settings(1, 1, 5*time.Second, time.Second), func(w *world) {
		w.start()
		if err := w.sys.Alive(w.t.Context()); err != nil {
			t.Error(err)
		}
		w.stop()
		if err := w.sys.Alive(w.t.Context()); err == nil {
			t.Error("alive after Stop")
		}
	})
}
