package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

var errExhausted = status.Error(codes.ResourceExhausted, "grpc: received message larger than max")

// servicesOf returns the agents of a delivery's statuses.
func servicesOf(t *testing.T, d wire.Delivery) []string {
	t.Helper()
	r := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(d.Body, r); err != nil {
		t.Error(err)
	}
	var agents []string
	for _, s := range r.GetServices() {
		agents = append(agents, s.GetAgentId())
	}
	return agents
}

// wantOnce asserts that core has each agent's status once in each of the cycles, in the order of the
// cycles, but for those agents that it never takes.
func (w *world) wantOnce(cycles int, never ...string) {
	w.t.Helper()
	had := make(map[string]int)
	at := int64(0)
	for _, d := range w.core.all() {
		if d.req.GetTimestamp() < at {
			w.t.Errorf("%s has timestamp %d after one with %d", d.id, d.req.GetTimestamp(), at)
		}
		at = d.req.GetTimestamp()
		for _, s := range d.req.GetServices() {
			had[s.GetAgentId()]++
		}
	}
	for _, agent := range never {
		if had[agent] > 0 {
			w.t.Errorf("core has %s, which it refuses", agent)
		}
		had[agent] = cycles
	}
	for i := range w.o.Config.Agents {
		if name := w.o.Config.Agents[i].Name; had[name] != cycles {
			w.t.Errorf("core has %d statuses of %s, want %d", had[name], name, cycles)
		}
	}
}

// TestExhaustedReportIsHalved: core takes no more than two statuses at once. Nothing is lost or there
// twice, and a second refusal is what it takes.
func TestExhaustedReportIsHalved(t *testing.T) {
	run(t, settings(7, 1, 30*time.Second, time.Second), func(w *world) {
		w.core.fault = func(_ context.Context, d wire.Delivery) error {
			if len(servicesOf(t, d)) > 2 {
				return errExhausted
			}
			return nil
		}
		w.start()
		w.pass(90*time.Second - time.Millisecond)
		w.wantOnce(3)
		if got := w.core.all()[0].id; got != "p/b/1.1.1" {
			t.Errorf("the first part is called %s", got)
		}
		// 7 statuses are split into 3 and 4, these into 1 and 2, 2 and 2: each after two refusals.
		split, failed := seen[actors.ReportSplit](w), seen[actors.DeliveryFailed](w)
		if len(split) != 9 || len(failed) != 18 {
			t.Errorf("%d were split after %d refusals, want 9 after 18", len(split), len(failed))
		}
		if kept, _ := w.o.Spool.Kept(); kept != 0 {
			t.Errorf("%d reports are still kept", kept)
		}
	})
}

// TestExhaustedOnceIsTriedAgain: core was short of something for a moment.
func TestExhaustedOnceIsTriedAgain(t *testing.T) {
	run(t, settings(7, 1, 10*time.Second, time.Second), func(w *world) {
		var refused atomic.Bool
		w.core.fault = func(context.Context, wire.Delivery) error {
			if !refused.Swap(true) {
				return errExhausted
			}
			return nil
		}
		w.start()
		w.pass(20*time.Second - time.Millisecond)
		w.wantWhole(2)
		if split := seen[actors.ReportSplit](w); len(split) > 0 {
			t.Errorf("split: %+v", split)
		}
	})
}

// TestExhaustedStatusIsSetAside: one status that core never takes, however small the chunks, is given
// up, and told; all others arrive.
func TestExhaustedStatusIsSetAside(t *testing.T) {
	run(t, settings(5, 1, 3*time.Minute, time.Second), func(w *world) {
		var limits []int
		var inChunks []bool
		w.core.fault = func(_ context.Context, d wire.Delivery) error {
			if !slices.Contains(servicesOf(t, d), "a002") {
				return nil
			}
			limits, inChunks = append(limits, d.Limit), append(inChunks, d.InChunks)
			return errExhausted
		}
		w.start()
		w.pass(3*time.Minute - time.Millisecond)
		w.wantOnce(1, "a002")
		var aside []actors.DeliveryFailed
		for _, f := range seen[actors.DeliveryFailed](w) {
			if f.Outcome == wire.SetAside {
				aside = append(aside, f)
			}
		}
		if len(aside) != 1 || status.Code(aside[0].Err) != codes.ResourceExhausted {
			t.Errorf("set aside: %+v, want one", aside)
		}
		// Twice with all five, twice with three, twice alone; in chunks as often as something that
		// small is tried.
		if n := len(limits); n != 6+wire.RefusedForGood || slices.Index(inChunks, true) != 6 || limits[n-1] > 64<<10 {
			t.Errorf("tried with limits %v, in chunks: %v", limits, inChunks)
		}
		if kept, _ := w.o.Spool.Kept(); kept != 0 {
			t.Errorf("%d reports are still kept", kept)
		}
	})
}

// TestExhaustedForAWhile: nothing that is small is lost for a core that is short of something for half a
// minute.
func TestExhaustedForAWhile(t *testing.T) {
	for _, agents := range []int{0, 1, 20} {
		t.Run(fmt.Sprint(agents, " agents"), func(t *testing.T) {
			run(t, settings(agents, 1, 30*time.Second, time.Second), func(w *world) {
				w.core.fault = func(context.Context, wire.Delivery) error { return errExhausted }
				w.start()
				w.pass(20 * time.Second)
				w.core.setFault(nil)
				w.pass(10*time.Second - time.Millisecond)
				w.wantOnce(1)
				if n := len(w.core.all()); n == 0 {
					t.Error("not even the heartbeat has arrived")
				}
			})
		})
	}
}

// TestReporterFailsBetweenParts: it is not known which parts core has, so it gets the report again.
func TestReporterFailsBetweenParts(t *testing.T) {
	run(t, settings(4, 1, 30*time.Second, time.Second), func(w *world) {
		w.core.fault = func(_ context.Context, d wire.Delivery) error {
			if len(servicesOf(t, d)) > 2 {
				return errExhausted
			}
			return nil
		}
		var panicked atomic.Bool
		w.hook = func(e actors.Event) {
			if e, ok := e.(actors.ReportDelivered); ok && e.ID == "p/b/1.1" && !panicked.Swap(true) {
				panic("test fault in the observer")
			}
		}
		w.start()
		w.pass(30*time.Second - time.Millisecond)
		var ids []string
		for _, d := range w.core.all() {
			ids = append(ids, d.id)
		}
		if got := fmt.Sprint(ids); got != "[p/b/1.1 p/b/1.1 p/b/1.2]" {
			t.Errorf("core got %s", got)
		}
	})
}

// TestEachClassInItsWay holds all of core's answers, one after the other, against what becomes of the
// reports: all but those set aside arrive whole, once and in order.
func TestEachClassInItsWay(t *testing.T) {
	answers := []error{
		status.Error(codes.Unavailable, ""), status.Error(codes.DeadlineExceeded, ""), status.Error(codes.Aborted, ""),
		status.Error(codes.Internal, ""), errors.New("plain"), status.Error(codes.Canceled, ""), errExhausted, wire.ErrNotReceived,
		status.Error(codes.Unauthenticated, ""), status.Error(codes.PermissionDenied, ""), status.Error(codes.Unimplemented, ""),
	}
	run(t, settings(3, 2, 2*time.Second, time.Second), func(w *world) {
		tries := make(map[string]bool)
		w.core.fault = func(_ context.Context, d wire.Delivery) error {
			if tries[d.ID] {
				return nil
			}
			tries[d.ID] = true
			return answers[(len(tries)-1)%len(answers)]
		}
		w.start()
		w.pass(60*time.Second - time.Millisecond)
		w.wantWhole(30)
		if n := len(seen[actors.DeliveryFailed](w)); n != 30 {
			t.Errorf("%d deliveries failed, want the first of each of 30 reports", n)
		}
		if n := w.core.mostInFlight(); n != 1 {
			t.Errorf("%d deliveries were in flight at once", n)
		}
	})
}
