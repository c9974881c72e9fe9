package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestStopWhileTheSpoolHangs ends in its time, whatever hangs, and says so.
func TestStopWhileTheSpoolHangs(t *testing.T) {
	for _, operation := range []string{"append", "next", "ack", "set aside", "safe"} {
		for _, limit := range []time.Duration{0, 4 * time.Second} {
			t.Run(fmt.Sprint(operation, " ", limit), func(t *testing.T) {
				runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
					release := make(chan struct{})
					s.before(operation, hangFrom(1, release))
					switch operation {
					case "set aside":
						w.core.fault = func(context.Context, wire.Delivery) error { return status.Error(codes.InvalidArgument, "") }
					case "safe":
						w.core.fault = away
					}
					w.start()
					w.pass(5 * time.Second)
					ctx, want := w.t.Context(), w.o.Config.ShutdownTimeout
					if limit > 0 {
						limited, cancel := context.WithTimeout(ctx, limit)
						defer cancel()
						ctx, want = limited, limit
					}
					began := time.Now()
					err := w.sys.Stop(ctx)
					if took := time.Since(began); took != want {
						t.Errorf("stopping took %v, want %v", took, want)
					}
					if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a call to a checker, to core or to the disk did not end") {
						t.Errorf("stopping failed with %v", err)
					}
					close(release)
				})
			})
		}
	}
}

// TestStopWithASlowDisk: a report that is taken only after the poller's time is not told to be lost, and
// delivered.
func TestStopWithASlowDisk(t *testing.T) {
	runSpool(t, settings(3, 1, 30*time.Second, 20*time.Second), func(w *world, s *testSpool) {
		s.before("append", func(int) error {
			time.Sleep(3 * time.Second)
			return nil
		})
		w.checkers["a001"].ask = hang // so the cycle closes at half of the time
		w.start()
		w.pass(time.Second)
		w.stop()
		w.wantWhole(1)
		if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
			t.Errorf("told to be dropped: %v", dropped)
		}
	})
}

// TestReporterKilledDuringAppend: the predecessor's call and its successor's, for the report is sent to
// it again, keep the report once, whatever comes of them.
func TestReporterKilledDuringAppend(t *testing.T) {
	for name, fault := range map[string]func(n int) error{
		"it succeeds":             func(int) error { return nil },
		"the predecessor's fails": func(n int) error { return map[bool]error{true: errors.New("disk full")}[n == 2] },
		"the successor's fails":   func(n int) error { return map[bool]error{true: errors.New("disk full")}[n == 3] },
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
						return fault(n)
					}
					return nil
				})
				w.start()
				w.pass(13 * time.Second)
				if n := s.count("append"); n != 3 || len(seen[actors.ActorRestarted](w)) != 1 {
					t.Errorf("%d appends, want the second report's once more by the restarted reporter", n)
				}
				close(release)
				w.pass(27*time.Second - time.Millisecond)
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
	for name, restart := range map[string]time.Duration{"it is back before": 100 * time.Millisecond, "it is back after": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(3, 1, 10*time.Second, time.Second)
			cfg.Restart.Initial = restart
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
		if got := w.ids(); got != "1" || len(seen[actors.ReportTaken](w)) != 4 {
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

// TestStopWithASafeSpool: nothing that outlives the process is waited for; what does not, is.
func TestStopWithASafeSpool(t *testing.T) {
	for name, tt := range map[string]struct {
		durable  bool
		fault    func(w *world, s *testSpool)
		from, to time.Duration // that stopping takes
	}{
		"core is away, and the next try is scheduled": {true, func(w *world, _ *testSpool) { w.core.fault = away }, 0, 0},
		"a delivery is under way, and fails": {true, func(w *world, _ *testSpool) {
			w.core.fault = func(context.Context, wire.Delivery) error {
				time.Sleep(22 * time.Second)
				return status.Error(codes.Unavailable, "away")
			}
		}, 2 * time.Second, 2 * time.Second},
		"it can't be read": {true, func(_ *world, s *testSpool) {
			s.before("next", func(int) error { return errors.New("input/output error") })
		}, 0, 0},
		"an append is under way": {true, func(w *world, s *testSpool) {
			w.core.fault = away
			s.before("append", func(n int) error {
				if n == 3 { // at 20 s, until 27 s
					time.Sleep(7 * time.Second)
				}
				return nil
			})
		}, 7 * time.Second, 7 * time.Second},
		"it is safe only later": {true, func(w *world, s *testSpool) {
			w.core.fault = away
			s.before("safe", func(n int) error {
				if n == 1 {
					return errors.New("disk full")
				}
				return nil
			})
		}, time.Millisecond, 5 * time.Second},
		"it is not safe": {false, func(w *world, _ *testSpool) { w.core.fault = away }, 9 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			runSpool(t, settings(3, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
				s.durable = tt.durable
				tt.fault(w, s)
				w.start()
				w.pass(20 * time.Second)
				began := time.Now()
				w.stop()
				if took := time.Since(began); took < tt.from || took > tt.to {
					t.Errorf("stopping took %v, want %v to %v", took, tt.from, tt.to)
				}
				if kept, _ := s.Kept(); kept != 3 {
					t.Errorf("%d reports are kept, want all three", kept)
				}
				if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
					t.Errorf("told to be dropped: %v", dropped)
				}
			})
		})
	}
}

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
