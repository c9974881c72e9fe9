package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/wire"
)

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
					if n := s.count("safe"); n > 1 {
						t.Errorf("the spool was asked %d times whether it is safe, want no further one behind the one that hangs", n)
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

// TestStopDoesNotCutOffADelivery because of an answer that came for the failure before it.
func TestStopDoesNotCutOffADelivery(t *testing.T) {
	runSpool(t, settings(3, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.durable = true
		s.before("safe", func(int) error {
			time.Sleep(6 * time.Second)
			return nil
		})
		w.core.fault = away
		w.start()
		w.pass(5 * time.Second)
		began := time.Now()
		w.core.setFault(func(ctx context.Context, _ wire.Delivery) error {
			select {
			case <-time.After(time.Until(began.Add(8 * time.Second))):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		w.stop()
		if took := time.Since(began); took != 8*time.Second || len(w.core.all()) != 1 {
			t.Errorf("stopping took %v, want the 8s of the delivery; core has %d reports", took, len(w.core.all()))
		}
	})
}
