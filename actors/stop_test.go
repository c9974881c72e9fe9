package actors_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/wire"
)

func TestStopInTheMiddleOfACycle(t *testing.T) {
	cfg := settings(10, 2, 30*time.Second, 20*time.Second)
	run(t, cfg, func(w *world) {
		w.checkers["a003"].ask = hang
		w.checkers["a004"].ask = func(ctx context.Context, c *check.Check) (check.Answer, error) {
			time.Sleep(3 * time.Second) // answers during the stop
			return up(ctx, c)
		}
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		// shutdown_timeout is 10s: half of it for what is in flight.
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("stopping took %v, want half of 10s", took)
		}
		for key, s := range w.wantWhole(1)[0] {
			hung := strings.HasPrefix(key, "a003/")
			if s.GetAvailable() == hung {
				t.Errorf("%s: %s", key, s.GetMessage())
			}
			if hung && !strings.Contains(string(s.GetMessage()), "no_answer") {
				t.Errorf("%s: %s, want no_answer", key, s.GetMessage())
			}
		}
		for name, c := range w.checkers {
			if c.closed.Load() != 1 {
				t.Errorf("the client of %s was closed %d times", name, c.closed.Load())
			}
		}
		if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
			t.Errorf("said to be dropped: %v", dropped)
		}
	})
}

// TestStopWithManyReports: what answered is at core also when the cycle is closed only at half of
// the time, and makes more than one report: all of them are taken before the poller ends.
func TestStopWithManyReports(t *testing.T) {
	cfg := settings(40, 5, 30*time.Second, 20*time.Second)
	cfg.Core.MaxMessage = 4096
	run(t, cfg, func(w *world) {
		w.checkers["a003"].ask = hang
		w.start()
		w.pass(time.Second)
		w.stop()
		statuses := 0
		for _, d := range w.core.all() {
			statuses += len(d.req.GetServices())
		}
		if reports := len(w.core.all()); reports < 5 || statuses != 200 {
			t.Errorf("core has %d of 200 statuses in %d reports, want several", statuses, reports)
		}
		if dropped := seen[actors.ReportDropped](w); len(dropped) > 0 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

// TestStopWithFailingSpool: a report that can't be kept safe does not hold up the stop, and is told
// as dropped.
func TestStopWithFailingSpool(t *testing.T) {
	run(t, settings(3, 1, 5*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("stopping took %v, more than shutdown_timeout", took)
		}
		if dropped := seen[actors.ReportDropped](w); len(dropped) != 1 {
			t.Errorf("dropped: %v, want one", dropped)
		}
	}, func(o *actors.Options) {
		o.Spool = &faultySpool{Spool: o.Spool, fault: func(int) error { return errors.New("test fault in the spool") }}
	})
}

func TestStopWhileCoreIsAwayEndsInTime(t *testing.T) {
	run(t, settings(3, 1, 5*time.Second, time.Second), func(w *world) {
		w.core.fault = func(ctx context.Context, _ wire.Delivery) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		w.start()
		w.pass(time.Second)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("stopping took %v, more than shutdown_timeout", took)
		}
	})
}

func TestStopEndsInTimeHoweverShort(t *testing.T) {
	cfg := settings(3, 1, 5*time.Second, time.Second)
	cfg.ShutdownTimeout = 200 * time.Millisecond
	run(t, cfg, func(w *world) {
		w.core.fault = func(context.Context, wire.Delivery) error { return status.Error(codes.Unavailable, "") }
		w.checkers["a001"].ask = hang
		w.start()
		w.pass(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(w.t.Context(), cfg.ShutdownTimeout)
		defer cancel()
		if err := w.sys.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestStopSaysWhatItCouldNotStop(t *testing.T) {
	run(t, settings(1, 1, 5*time.Second, time.Second), func(w *world) {
		release := make(chan struct{})
		w.checkers["a000"].ask = func(context.Context, *check.Check) (check.Answer, error) {
			<-release
			return check.Answer{}, nil
		}
		w.start()
		w.pass(time.Second)
		ctx, cancel := context.WithTimeout(w.t.Context(), 4*time.Second)
		defer cancel()
		if err := w.sys.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop returned %v", err)
		}
		close(release)
	})
}

func TestStopBetweenSlotsWaitsForNoFurtherOnes(t *testing.T) {
	run(t, settings(400, 1, 10*time.Second, time.Second), func(w *world) {
		w.start()
		w.pass(350 * time.Millisecond) // 4 of 8 slots
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("stopping took %v although everything had answered", took)
		}
		got := w.core.all()
		if len(got) != 1 {
			t.Fatalf("%d reports, want one", len(got))
		}
		if n := len(got[0].req.GetServices()); n < 100 || n > 300 {
			t.Errorf("%d statuses, want those of about half of the agents", n)
		}
	})
}
