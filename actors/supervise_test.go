package actors_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
)

func TestAgentThatPanicsOnEveryRun(t *testing.T) {
	run(t, settings(20, 5, 2*time.Second, time.Second), func(w *world) {
		bad := w.checkers["a007"]
		// The actor itself asks this when an answer has come.
		bad.connections = func() uint64 { panic("test fault") }
		w.start()
		w.pass(4*time.Minute - time.Millisecond)
		others, own := 0, make(map[bool]int)
		for i, cycle := range w.wantWhole(120) {
			for key, s := range cycle {
				if strings.HasPrefix(key, "a007/") {
					own[s.GetAvailable()]++
				} else if s.GetAvailable() {
					others++
				}
				switch {
				case !strings.HasPrefix(key, "a007/"):
					if !s.GetAvailable() {
						t.Fatalf("cycle %d, %s: %s", i, key, s.GetMessage())
					}
				case !s.GetAvailable() && !strings.Contains(string(s.GetMessage()), `"reason":"no_answer"`):
					t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
				}
			}
		}
		// Nobody waits for the dead: every cycle is at core when its last live answer is.
		for i, d := range w.core.all() {
			if late := d.at.Unix() - d.req.GetTimestamp(); late > 0 {
				t.Errorf("cycle %d was delivered %ds after its begin", i, late)
			}
		}
		failed, parked := seen[actors.ActorFailed](w), 0
		for _, e := range failed {
			if e.Actor != "agent/a007" || !strings.Contains(e.Cause, "test fault") || !strings.Contains(e.Stack, "actors.") {
				t.Errorf("event %+v", e)
			}
			if e.Parked {
				parked++
			}
		}
		t.Logf("runs of others answered: %d of %d; its own: %d answered before it failed, %d no_answer; %d failures, %d of them parked",
			others, 120*19*5, own[true], own[false], len(failed), parked)
		// Budget 3 per minute, then one try per minute.
		if parked != 3 && parked != 4 || len(failed) != parked+3 {
			t.Errorf("%d failures, %d of them parked", len(failed), parked)
		}
		bad.set(func(c *checker) { c.connections = func() uint64 { return 1 } })
		w.pass(2 * time.Minute)
		got := w.core.all()
		for key, s := range w.byCheck(got[len(got)-1].req.GetServices()) {
			if !s.GetAvailable() {
				t.Errorf("%s is not available after the fault went: %s", key, s.GetMessage())
			}
		}
	})
}

func TestCallThatPanicsIsAnInternalStatus(t *testing.T) {
	run(t, settings(3, 2, 2*time.Second, time.Second), func(w *world) {
		w.checkers["a001"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			if c.Name == "c0" {
				panic("in the call")
			}
			return up(ctx, c)
		}
		w.start()
		w.pass(6*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(3) {
			for key, s := range cycle {
				if bad := key == "a001/c0"; s.GetAvailable() == bad ||
					bad && !strings.Contains(string(s.GetMessage()), `"reason":"internal"`) {
					t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
				}
			}
		}
		if n := len(seen[actors.ActorFailed](w)); n != 0 {
			t.Errorf("%d actors failed", n)
		}
		if n := len(seen[actors.PanicRecovered](w)); n != 3 {
			t.Errorf("%d panics were told of, want 3", n)
		}
	})
}

func TestDialThatFailsIsAStatus(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	run(t, settings(2, 1, 2*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(3 * time.Second)
		broken.Store(false)
		w.pass(3*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(3) {
			m := string(cycle["a001/c0"].GetMessage())
			if bad := i < 2; bad != strings.Contains(m, `"reason":"tls"`) {
				t.Errorf("cycle %d: %s", i, m)
			}
		}
	}, func(o *actors.Options) {
		dial := o.Dial
		o.Dial = func(a *check.Agent) (actors.Checker, error) {
			if a.Name == "a001" && broken.Load() {
				return nil, check.Failf(check.TLSFailed, nil, "no such file")
			}
			return dial(a)
		}
	})
}

func TestPollerThatPanicsLosesNoCycle(t *testing.T) {
	run(t, settings(5, 2, 5*time.Second, time.Second), func(w *world) {
		closed := 0
		w.hook = func(e actors.Event) {
			if _, ok := e.(actors.CycleClosed); ok {
				if closed++; closed == 2 || closed == 3 {
					panic("test fault in the poller")
				}
			}
		}
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(6) {
			for key, s := range cycle {
				if !s.GetAvailable() {
					t.Errorf("cycle %d, %s: %s", i, key, s.GetMessage())
				}
			}
		}
		if n := len(seen[actors.ActorRestarted](w)); n != 2 {
			t.Errorf("%d restarts, want 2", n)
		}
	})
}

// faultySpool fails, panics or blocks at the appends where it is told to.
type faultySpool struct {
	actors.Spool
	appends atomic.Int64
	fault   func(n int) error
}

func (s *faultySpool) Append(id string, at time.Time, body []byte, state map[string]string) (tooOld, noRoom []string, err error) {
	if err := s.fault(int(s.appends.Add(1))); err != nil {
		return nil, nil, err
	}
	return s.Spool.Append(id, at, body, state)
}

func TestReporterThatPanicsLosesNothing(t *testing.T) {
	run(t, settings(5, 2, 10*time.Second, time.Second), func(w *world) {
		panicAt[actors.ReportTaken](w, 2, 4)
		w.start()
		w.pass(60*time.Second - time.Millisecond)
		w.wantWhole(6)
		if n := len(seen[actors.ActorRestarted](w)); n != 2 {
			t.Errorf("%d restarts, want 2", n)
		}
	})
}

// TestSpoolThatPanics: it does so in a call, before or after it has kept the report, and nobody needs to be
// restarted for that.
func TestSpoolThatPanics(t *testing.T) {
	run(t, settings(5, 2, 10*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(60*time.Second - time.Millisecond)
		w.wantWhole(6)
		if n := len(seen[actors.ActorFailed](w)); n != 0 {
			t.Errorf("%d actors failed", n)
		}
		if panics, failed := len(seen[actors.PanicRecovered](w)), len(seen[actors.SpoolFailed](w)); panics != 2 || failed != 2 {
			t.Errorf("%d panics and %d failures of the spool were told of, want 2 and 2", panics, failed)
		}
	}, func(o *actors.Options) {
		keeps := &testSpool{Spool: o.Spool}
		keeps.after("append", func(n int) error {
			if n == 3 {
				panic("test fault behind the spool")
			}
			return nil
		})
		o.Spool = &faultySpool{Spool: keeps, fault: func(n int) error {
			if n == 2 {
				panic("test fault in the spool")
			}
			return nil
		}}
	})
}

func TestRestartedReporterDeliversWhatIsKept(t *testing.T) {
	run(t, settings(5, 2, 10*time.Second, time.Second), func(w *world) {
		panicAt[actors.ReportTaken](w, 2)
		w.start()
		w.pass(11 * time.Second)
		w.wantWhole(2) // at once, not with the next report
		w.pass(9*time.Second - time.Millisecond)
		w.wantWhole(2)
	})
}

func TestSpoolThatFailsForAWhile(t *testing.T) {
	run(t, settings(5, 2, 10*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(60*time.Second - time.Millisecond)
		w.wantWhole(6)
		if n := len(seen[actors.SpoolFailed](w)); n != 2 {
			t.Errorf("%d failures were told of, want 2", n)
		}
	}, func(o *actors.Options) {
		o.Spool = &faultySpool{Spool: o.Spool, fault: func(n int) error {
			if n == 2 || n == 3 {
				return errors.New("disk full")
			}
			return nil
		}}
	})
}

// A report that has to be sent again must not come behind later ones.
func TestReportsStayInOrder(t *testing.T) {
	for name, fault := range map[string]func(){
		"a call panics":   func() { panic("test fault in the spool") },
		"the spool fails": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, settings(2, 1, 2*time.Second, time.Second), func(w *world) {
				w.start()
				w.pass(20*time.Second - time.Millisecond)
				w.wantWhole(10)
			}, func(o *actors.Options) {
				o.Spool = &faultySpool{Spool: o.Spool, fault: func(n int) error {
					if n == 3 || n == 7 {
						fault()
						return errors.New("disk full")
					}
					return nil
				}}
			})
		})
	}
	t.Run("the reporter panics", func(t *testing.T) {
		run(t, settings(2, 1, 2*time.Second, time.Second), func(w *world) {
			panicAt[actors.ReportDelivered](w, 3, 7)
			w.start()
			w.pass(20*time.Second - time.Millisecond)
			w.wantWhole(10)
		})
	})
}

// An observer that panics is a bug, but costs no more than a restart.
func TestObserverThatPanics(t *testing.T) {
	run(t, settings(3, 1, 5*time.Second, time.Second), func(w *world) {
		panicOnce(w.checkers["a001"])
		panicAtFirst[actors.ActorFailed](w)
		w.start()
		w.pass(20*time.Second - time.Millisecond)
		for key, s := range w.wantWhole(4)[3] {
			if !s.GetAvailable() {
				t.Errorf("%s: %s", key, s.GetMessage())
			}
		}
	})
}

func TestStopOfAPollerThatIsDown(t *testing.T) {
	cfg := settings(3, 1, 30*time.Second, 20*time.Second)
	cfg.Restart.Initial, cfg.Restart.Max = 20*time.Second, 20*time.Second
	run(t, cfg, func(w *world) {
		w.checkers["a001"].ask = slow(2 * time.Second)
		panicAtFirst[actors.CycleClosed](w)
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
		w.wantWhole(1)
	})
}

func TestReportsThatAreNeverTakenAreDroppedAndCounted(t *testing.T) {
	run(t, settings(1, 1, 10*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(50*time.Second - time.Millisecond)
		if n := len(seen[actors.ReportDropped](w)); n != 3 {
			t.Errorf("%d of 5 reports were dropped, want all but two", n)
		}
	}, func(o *actors.Options) {
		o.Spool = &faultySpool{Spool: o.Spool, fault: func(int) error { return errors.New("disk full") }}
	})
}

func TestPollerThatPanicsDuringTheStop(t *testing.T) {
	run(t, settings(3, 1, 30*time.Second, 20*time.Second), func(w *world) {
		w.checkers["a001"].ask = slow(2 * time.Second)
		panicAtFirst[actors.CycleClosed](w)
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v, want the second that the slow checker takes and a restart", took)
		}
		for key, s := range w.wantWhole(1)[0] {
			if !s.GetAvailable() {
				t.Errorf("%s: %s", key, s.GetMessage())
			}
		}
	})
}

func TestReporterThatPanicsDuringTheStop(t *testing.T) {
	run(t, settings(3, 1, 30*time.Second, 20*time.Second), func(w *world) {
		w.checkers["a001"].ask = slow(2 * time.Second)
		panicAtFirst[actors.ReportTaken](w)
		w.start()
		w.pass(time.Second)
		w.stop()
		w.wantWhole(1)
	})
}

func TestRestartedPollerKnowsWhichAgentsAreBack(t *testing.T) {
	run(t, settings(3, 1, 5*time.Second, time.Second), func(w *world) {
		panicOnce(w.checkers["a001"])
		closed := 0
		w.hook = func(e actors.Event) {
			if _, ok := e.(actors.CycleClosed); ok {
				if closed++; closed == 2 {
					panic("test fault in the poller")
				}
			}
		}
		w.start()
		w.pass(20*time.Second - time.Millisecond)
		for i, cycle := range w.wantWhole(4)[1:] {
			for key, s := range cycle {
				if !s.GetAvailable() {
					t.Errorf("cycle %d, %s: %s", i+1, key, s.GetMessage())
				}
			}
		}
	})
}

// TestStopOfAReporterThatIsDown: it is started again at once, and gets what it has missed.
func TestStopOfAReporterThatIsDown(t *testing.T) {
	cfg := settings(3, 1, 30*time.Second, 20*time.Second)
	cfg.Restart.Initial, cfg.Restart.Max = 2*time.Minute, 2*time.Minute
	run(t, cfg, func(w *world) {
		panicAtFirst[actors.ReportDelivered](w)
		w.start()
		w.pass(31 * time.Second)
		if n := len(w.core.all()); n != 1 {
			t.Fatalf("core has %d reports, want one", n)
		}
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("stopping took %v, want the report to be sent again at once", took)
		}
		w.wantWhole(2)
	})
}
