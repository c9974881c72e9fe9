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

// refuses returns a core that never takes what has the status of an agent. It halves what it is in until
// it is alone.
func refuses(t *testing.T, agent string) func(context.Context, wire.Delivery) error {
	return func(_ context.Context, d wire.Delivery) error {
		switch agents := servicesOf(t, d); {
		case !slices.Contains(agents, agent):
			return nil
		case len(agents) > 1:
			return errExhausted
		}
		return status.Error(codes.InvalidArgument, "no such agent")
	}
}

func setAside(w *world) []actors.DeliveryFailed {
	return slices.DeleteFunc(seen[actors.DeliveryFailed](w), func(f actors.DeliveryFailed) bool { return f.Outcome != wire.SetAside })
}

// refuseSecond refuses the second report for good.
func refuseSecond(_ context.Context, d wire.Delivery) error {
	if d.ID == "p/b/2" {
		return status.Error(codes.InvalidArgument, "no such poller")
	}
	return nil
}

// TestReportIsSetAside: what core refuses for good is kept aside, or told to be lost, and the next follows.
func TestReportIsSetAside(t *testing.T) {
	full := errors.New("disk full")
	for name, lost := range map[string]error{"it is kept": nil, "it is not": full} {
		t.Run(name, func(t *testing.T) {
			runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
				s.before("set aside", func(int) error { return lost })
				w.core.fault = refuseSecond
				w.start()
				w.pass(30*time.Second - time.Millisecond)
				if got := w.ids(); got != "1 3" {
					t.Errorf("core has %s", got)
				}
				told := setAside(w)
				if len(told) != 1 || told[0].ID != "p/b/2" || !errors.Is(told[0].Lost, lost) || told[0].Attempt != 1 || told[0].Kept != 0 {
					t.Errorf("told: %+v", told)
				}
				want := []string{"ack p/b/1", "set aside p/b/2: rpc error: code = InvalidArgument desc = no such poller", "ack p/b/2", "ack p/b/3"}
				if lost != nil {
					want = slices.Delete(want, 1, 2)
				}
				if !slices.Equal(s.log, want) {
					t.Errorf("the spool was told %q, want %q", s.log, want)
				}
				if n := len(s.aside); lost == nil && (n != 1 || len(servicesOf(t, wire.Delivery{Body: s.aside[0]})) != 2) {
					t.Errorf("%d reports are aside, want one with two statuses", n)
				}
			})
		})
	}
}

// TestPartIsSetAside: of a report in parts only the one that core refuses is, and the report stays until the
// last of its parts is done with, whichever that is.
func TestPartIsSetAside(t *testing.T) {
	for agent, parts := range map[string]string{"a000": "1.1.1", "a001": "1.1.2", "a003": "1.2.2"} {
		t.Run(agent, func(t *testing.T) {
			runSpool(t, settings(4, 1, 30*time.Second, time.Second), func(w *world, s *testSpool) {
				acked := 0
				s.before("ack", func(int) error {
					acked = len(w.core.all()) + len(s.aside)
					return nil
				})
				w.core.fault = refuses(t, agent)
				w.start()
				w.pass(30*time.Second - time.Millisecond)
				w.wantOnce(1, agent)
				told := setAside(w)
				if len(told) != 1 || told[0].ID != "p/b/"+parts || told[0].Lost != nil {
					t.Errorf("told: %+v", told)
				}
				if len(s.aside) != 1 || fmt.Sprint(servicesOf(t, wire.Delivery{Body: s.aside[0]})) != "["+agent+"]" {
					t.Errorf("set aside: %q", s.aside)
				}
				if deliveries := len(w.core.all()) + 1; acked != deliveries || s.count("ack") != 1 {
					t.Errorf("the report was let go %d times, after %d of %d parts", s.count("ack"), acked, deliveries)
				}
			})
		})
	}
}

// TestSettingAsideThatHangs holds up deliveries, and nothing else; reporters that are killed meanwhile do not
// have it done again.
func TestSettingAsideThatHangs(t *testing.T) {
	for name, killed := range map[string][]int{"as it is": nil, "killed": {3}, "killed twice": {3, 4}} {
		t.Run(name, func(t *testing.T) {
			runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
				panicAt[actors.ReportTaken](w, killed...)
				release := make(chan struct{})
				s.before("set aside", hangFrom(1, release))
				w.core.fault = refuseSecond
				w.start()
				w.pass(15 * time.Second)
				read := s.count("next")
				w.pass(20 * time.Second)
				if got := w.ids(); got != "1" || len(seen[actors.ReportTaken](w)) != 4 {
					t.Errorf("core has %s, %d are taken", got, len(seen[actors.ReportTaken](w)))
				}
				if n := s.count("next"); n != read {
					t.Errorf("the spool was asked for its oldest report %d times meanwhile", n-read)
				}
				close(release)
				w.pass(5*time.Second - time.Millisecond)
				if got := w.ids(); got != "1 3 4" || len(s.aside) != 1 || len(setAside(w)) != 1 {
					t.Errorf("core has %s, set aside: %d, told: %+v", got, len(s.aside), setAside(w))
				}
				if n := len(seen[actors.ActorFailed](w)); n != len(killed) {
					t.Errorf("%d actors failed, want those %d that were killed", n, len(killed))
				}
			})
		})
	}
}

// TestSettingAsideThatPanics is a bug, and tried again: the report is not lost by it.
func TestSettingAsideThatPanics(t *testing.T) {
	runSpool(t, settings(2, 1, 10*time.Second, time.Second), func(w *world, s *testSpool) {
		s.before("set aside", func(n int) error {
			if n == 1 {
				panic("test fault in the spool")
			}
			return nil
		})
		w.core.fault = refuseSecond
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		if got := w.ids(); got != "1 3" || len(s.aside) != 1 {
			t.Errorf("core has %s, set aside: %d", got, len(s.aside))
		}
		failed := seen[actors.DeliveryFailed](w)
		if len(failed) != 2 || failed[0].Outcome != wire.Retry || failed[0].ID != "p/b/2" || !strings.Contains(failed[0].Err.Error(), "panic") {
			t.Errorf("told: %+v", failed)
		}
	})
}
