package actors_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/wire"
)

func away(context.Context, wire.Delivery) error { return status.Error(codes.Unavailable, "away") }

// ids returns those of the reports at core, without what they have in common.
func (w *world) ids() string {
	var ids []string
	for _, d := range w.core.all() {
		ids = append(ids, strings.TrimPrefix(d.id, "p/b/"))
	}
	return strings.Join(ids, " ")
}

// TestAppendThatHangs: a disk that hangs for a minute costs reports, and nothing else: everything goes on,
// nothing piles up, and what is lost is told.
func TestAppendThatHangs(t *testing.T) {
	runSpool(t, settings(5, 2, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		release := make(chan struct{})
		s.before("append", hangFrom(4, release)) // at 30 s
		w.core.fault = away
		w.start()
		w.pass(35 * time.Second)
		w.core.setFault(nil)
		w.pass(54 * time.Second)
		if got := w.ids(); got != "1 2 3" {
			t.Errorf("core has %s while the disk hangs, want what was kept before", got)
		}
		if n := len(seen[actors.CycleClosed](w)); n != 9 {
			t.Errorf("%d cycles have closed while the disk hung, want 9", n)
		}
		for name, c := range w.checkers {
			if n := c.calls(); n != 18 {
				t.Errorf("%s was asked %d times, want 18", name, n)
			}
		}
		if n := s.count("append"); n != 4 {
			t.Errorf("%d appends, want no further one behind the one that hangs", n)
		}
		close(release)
		w.pass(21*time.Second - time.Millisecond)
		// What hung is kept after all; of the others the poller had given up all but those of two cycles.
		if got := w.ids(); got != "1 2 3 4 8 9 10 11" {
			t.Errorf("core has %s", got)
		}
		var dropped []string
		for _, d := range seen[actors.ReportDropped](w) {
			dropped = append(dropped, strings.TrimPrefix(d.ID, "p/b/"))
		}
		if got := strings.Join(dropped, " "); got != "4 5 6 7" {
			t.Errorf("%s were told to be dropped", got)
		}
	})
}

// TestAppendThatIsSlow: the poller sends the report again meanwhile, which does nothing.
func TestAppendThatIsSlow(t *testing.T) {
	runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.before("append", func(n int) error {
			if n == 2 {
				time.Sleep(12 * time.Second)
			}
			return nil
		})
		w.start()
		w.pass(50*time.Second - time.Millisecond)
		w.wantWhole(5)
		if appends, taken := s.count("append"), len(seen[actors.ReportTaken](w)); appends != 5 || taken != 5 {
			t.Errorf("%d appends, %d times told to be taken, want 5 of each", appends, taken)
		}
	})
}

// TestCoreDoesNotWaitForTheDisk: what is appended to an empty spool is delivered meanwhile, once; it counts as taken when
// it is on the disk.
func TestCoreDoesNotWaitForTheDisk(t *testing.T) {
	runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.before("append", func(n int) error {
			if n > 1 {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		w.start()
		w.pass(2 * time.Second)
		for cycle := 2; cycle <= 4; cycle++ {
			w.pass(10 * time.Second)
			if at, taken := len(w.core.all()), len(seen[actors.ReportTaken](w)); at != cycle || taken != cycle-1 {
				t.Errorf("2 s after cycle %d began, %d reports are at core and %d taken", cycle, at, taken)
			}
		}
		w.core.setFault(away)
		w.pass(10 * time.Second) // the fifth can't be delivered, neither meanwhile nor afterwards
		w.core.setFault(nil)
		w.pass(17*time.Second - time.Millisecond)
		w.wantWhole(6)
		if n, _ := s.Kept(); n != 0 {
			t.Errorf("%d reports are kept", n)
		}
	})
}

// TestAtCoreBeforeItIsKept: a report that was delivered while its append failed is not delivered again when it is kept.
func TestAtCoreBeforeItIsKept(t *testing.T) {
	runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.before("append", func(n int) error {
			if n == 2 || n == 3 {
				return errors.New("no")
			}
			return nil
		})
		w.start()
		w.pass(50*time.Second - time.Millisecond)
		w.wantWhole(5)
		if told, kept := len(seen[actors.ReportDelivered](w)), len(seen[actors.SpoolFailed](w)); told != 5 || kept != 2 {
			t.Errorf("%d told to be delivered, want 5; %d failures, want 2", told, kept)
		}
		if n, _ := s.Kept(); n != 0 {
			t.Errorf("%d reports are kept", n)
		}
	})
}

// TestReportThatComesDuringTheLook is not overlooked: the spool said that there is none, and had none then.
func TestReportThatComesDuringTheLook(t *testing.T) {
	runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.after("next", func(int) error {
			time.Sleep(time.Second)
			return nil
		})
		w.start()
		w.pass(5 * time.Second)
		w.wantWhole(1)
	})
}

// TestKept: events tell how many reports were kept when it happened.
func TestKept(t *testing.T) {
	run(t, settings(2, 1, 10*time.Second, time.Second), func(w *world) {
		w.core.fault = away
		w.start()
		w.pass(25 * time.Second)
		w.core.setFault(nil)
		w.pass(5*time.Second - time.Millisecond)
		var got []int
		for _, e := range seen[actors.ReportTaken](w) {
			got = append(got, e.Kept)
		}
		failed := seen[actors.DeliveryFailed](w)
		got = append(got, failed[0].Kept, failed[len(failed)-1].Kept)
		for _, e := range seen[actors.ReportDelivered](w) {
			got = append(got, e.Kept)
		}
		if want := []int{1, 2, 3, 1, 3, 2, 1, 0}; !slices.Equal(got, want) {
			t.Errorf("told to be kept: %d, want %d", got, want)
		}
	})
}

// TestReporterKilledDuringAppend: the predecessor's call and its successor's, for the report is sent to
// it again, keep the report once, whatever comes of them.
func TestReporterKilledDuringAppend(t *testing.T) {
	for name, tt := range map[string]struct{ fails, told int }{
		"both succeed":            {0, 0},
		"the predecessor's fails": {2, 0},
		"the successor's fails":   {3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runSpool(t, settings(3, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
				panicAtFirst[actors.ReportDelivered](w) // at 12 s
				w.core.fault = func(_ context.Context, d wire.Delivery) error {
					if d.ID == "p/b/1" {
						time.Sleep(12 * time.Second)
					}
					return nil
				}
				release := make(chan struct{})
				s.before("append", func(n int) error {
					if n >= 2 {
						<-release
					}
					if n == tt.fails {
						return errors.New("disk full")
					}
					return nil
				})
				w.start()
				w.pass(13 * time.Second)
				if n := s.count("append"); n != 3 || len(seen[actors.ActorRestarted](w)) != 1 {
					t.Errorf("%d appends, want the second report's once more by the restarted reporter", n)
				}
				close(release)
				w.pass(time.Millisecond)
				taken := slices.ContainsFunc(seen[actors.ReportTaken](w), func(e actors.ReportTaken) bool { return e.ID == "p/b/2" })
				if failed := len(seen[actors.SpoolFailed](w)); !taken || failed != tt.told {
					t.Errorf("the report is taken: %v, want it to be at once; failures told: %d, want %d", taken, failed, tt.told)
				}
				w.pass(27*time.Second - 2*time.Millisecond)
				w.wantWhole(4)
				if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
					t.Errorf("told to be dropped: %v", dropped)
				}
			})
		})
	}
}

// TestReporterKilledDuringDelivery: what core takes meanwhile is acknowledged, and delivered once, also if the
// reporter is not there to hear of it.
func TestReporterKilledDuringDelivery(t *testing.T) {
	for name, tt := range map[string]struct {
		restart time.Duration
		told    int
	}{
		"it is back before": {100 * time.Millisecond, 3},
		"it is back after":  {10 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(3, 1, 10*time.Second, time.Second)
			cfg.Restart.Initial = tt.restart
			runSpool(t, cfg, func(w *world, s *testSpool) {
				panicAt[actors.ReportTaken](w, 2) // at 10 s
				w.core.fault = func(_ context.Context, d wire.Delivery) error {
					if d.ID == "p/b/1" {
						time.Sleep(12 * time.Second) // whatever the caller wants
					}
					return nil
				}
				w.start()
				w.pass(12 * time.Second)
				if kept, _ := s.Kept(); kept > 1 || s.count("ack") == 0 {
					t.Errorf("%d reports are kept, want at most the second", kept)
				}
				w.pass(18*time.Second - time.Millisecond)
				w.wantWhole(3)
				if n := len(seen[actors.ReportDelivered](w)); n != tt.told {
					t.Errorf("%d were told to be delivered, want %d", n, tt.told)
				}
				if n := w.core.mostInFlight(); n != 1 {
					t.Errorf("%d deliveries were in flight at once", n)
				}
			})
		})
	}
}

// TestSpoolThatCannotBeRead for a while: reports are taken on, it is told, and all arrive when it can be.
func TestSpoolThatCannotBeRead(t *testing.T) {
	runSpool(t, settings(3, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		w.start()
		w.pass(5 * time.Second)
		s.before("next", func(int) error { return errors.New("input/output error") })
		w.pass(30 * time.Second)
		// The second was delivered while it was appended.
		if got := w.ids(); got != "1 2" || len(seen[actors.ReportTaken](w)) != 4 {
			t.Errorf("core has %s, want only what could be read; taken: %d", got, len(seen[actors.ReportTaken](w)))
		}
		told := seen[actors.SpoolUnreadable](w)
		if n := len(told); n < 8 || n > 16 {
			t.Errorf("told %d times in 25 s, want a back-off up to 5 s", n)
		}
		if first, last := told[0], told[len(told)-1]; first.RetryIn > retryInitial || last.RetryIn < retryMax/2 || first.Err == nil {
			t.Errorf("told %+v to %+v", first, last)
		}
		s.before("next", nil)
		w.pass(15*time.Second - time.Millisecond)
		w.wantWhole(5)
	})
}

const (
	retryInitial = 100 * time.Millisecond
	retryMax     = 5 * time.Second
)

// TestStateGoesWithTheReport, and a next process asks for results on from there.
func TestStateGoesWithTheReport(t *testing.T) {
	const key = "a000\x00sweep"
	s, f := new(testSpool), &feed{}
	t.Run("a process", func(t *testing.T) {
		run(t, withResults(10*time.Second, 20*time.Second, time.Second), func(w *world) {
			w.checkers["a000"].ask = shortly
			w.checkers["a000"].results = f.results
			w.start()
			w.pass(30*time.Second - time.Millisecond)
			var got []string
			for _, state := range s.states {
				got = append(got, fmt.Sprintf("%d %s", len(state), state[key]))
			}
			if want := []string{"1 s1", "0 ", "1 s2"}; !slices.Equal(got, want) {
				t.Errorf("the reports' states are %q, want %q", got, want)
			}
		}, func(o *actors.Options) { s.Spool, o.Spool = o.Spool, s })
	})
	t.Run("the next", func(t *testing.T) {
		next := &feed{}
		run(t, withResults(10*time.Second, 20*time.Second, time.Second), func(w *world) {
			w.checkers["a000"].ask = shortly
			w.checkers["a000"].results = next.results
			w.start()
			w.pass(30*time.Second - time.Millisecond)
			if got := next.lastSequences(); got != "s2,s1" {
				t.Errorf("asked from %q, want from where the last process stood", got)
			}
		}, func(o *actors.Options) {
			o.State = map[string]string{key: "s2", "a000\x00gone": "s9", "of something else": "x"}
		})
	})
}

// TestDeliveredIsFree: of a report that is delivered nothing is left, whether it had to wait or not.
func TestDeliveredIsFree(t *testing.T) {
	run(t, settings(2, 2, 5*time.Second, time.Second), func(w *world) {
		var mu sync.Mutex
		var bodies []weak.Pointer[byte]
		away := true
		w.core.setFault(func(_ context.Context, d wire.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			bodies = append(bodies, weak.Make(&d.Body[0]))
			if away {
				return status.Error(codes.Unavailable, "away")
			}
			return nil
		})
		w.start()
		w.pass(7 * time.Second)
		mu.Lock()
		away = false
		mu.Unlock()
		for range 3 {
			w.pass(5 * time.Second)
			runtime.GC()
			mu.Lock()
			for i, b := range bodies {
				if b.Value() != nil {
					t.Errorf("after %d deliveries the report of number %d still takes memory", len(bodies), i+1)
				}
			}
			mu.Unlock()
		}
		w.wantWhole(5)
	})
}
