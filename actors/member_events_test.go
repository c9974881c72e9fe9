package actors_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/proto/cluster"
)

// toldOurs returns the agents that are a node's by what its events say.
func (n *fleetNode) toldOurs() map[string]bool {
	ours := make(map[string]bool)
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, event := range n.w.events {
		switch e := event.(type) {
		case actors.Adopted:
			for _, name := range e.Agents {
				ours[name] = true
			}
		case actors.HandedOver:
			for _, name := range e.Agents {
				delete(ours, name)
			}
		case actors.Dismissed:
			for _, name := range e.Agents {
				delete(ours, name)
			}
		}
	}
	return ours
}

// Whoever follows the events knows which agents are a node's, however they moved.
func TestClusterTellsWhatMoves(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		f.start("a")
		f.start("b")
		f.start("c")
		wantOurs := func(what string) {
			t.Helper()
			got := make(map[string]int)
			for _, n := range f.sorted() {
				if !n.down {
					got[n.id.Name] = len(n.toldOurs())
				}
			}
			if diff := cmp.Diff(f.held(), got); diff != "" {
				t.Errorf("%s: agents that are held, and that events say are (-held +told):\n%s", what, diff)
			}
		}
		time.Sleep(10 * time.Second)
		wantOurs("three start")
		f.isolate("a", true)
		time.Sleep(6 * time.Second)
		f.isolate("a", false)
		time.Sleep(15 * time.Second)
		wantOurs("one was cut off")
		if dismissed := seen[actors.Dismissed](f.nodes["a"].w); len(dismissed) == 0 {
			t.Error("a was cut off, the others polled its agents, and none is said to be theirs")
		}
		f.nodes["b"].stop()
		time.Sleep(5 * time.Second)
		wantOurs("one left")
	})
}

// Agents that are claimed, and not polled because others do not answer, are told of, with who does not.
func TestClusterTellsWhoKeepsItWaiting(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		f.start("a")
		time.Sleep(3 * time.Second)
		if told := seen[actors.Claiming](f.nodes["a"].w); len(told) > 0 {
			t.Errorf("one of three, which may poll nothing, claims %+v", told)
		}
		lose := func(all bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lost = func(uint32) bool { return all }
		}
		lose(true)
		f.start("b")
		time.Sleep(6500 * time.Millisecond)
		told := seen[actors.Claiming](f.nodes["a"].w)
		if len(told) < 5 {
			t.Fatalf("a claims agents for some seconds, and tells %+v", told)
		}
		last := told[len(told)-1]
		if last.Agents < 10 || last.Waiting["b"] != last.Agents || len(last.Waiting) != 1 || last.For < 4*time.Second {
			t.Errorf("a claims agents for some seconds, and tells %+v", last)
		}
		lose(false)
		time.Sleep(8 * time.Second)
		told = seen[actors.Claiming](f.nodes["a"].w)
		if diff := cmp.Diff(actors.Claiming{}, told[len(told)-1]); diff != "" {
			t.Errorf("a claims nothing any more, and tells (-want +got):\n%s", diff)
		}
	})
}

// A node closes its cycles, and has them taken, whether or not it polls anything: else nobody could tell it from one that stands still.
func TestClusterClosesEmptyCycles(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		f.start("a")
		time.Sleep(10500 * time.Millisecond)
		if taken := len(seen[actors.ReportTaken](f.nodes["a"].w)); taken < 9 {
			t.Errorf("of ten cycles of a node that may poll nothing %d were taken", taken)
		}
	})
}

// What another node sends that is not understood is counted, and does no harm.
func TestClusterTellsWhatItDoesNotUnderstand(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		a := f.start("a")
		time.Sleep(time.Second)
		for range 2 {
			a.take(&cluster.Envelope{Kind: 99, Version: 1})
			a.take(&cluster.Envelope{Kind: 1, Version: 2})
			a.take(&cluster.Envelope{Kind: 1, Version: 1, Body: []byte{0xff}})
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]actors.EnvelopeUnknown{
			{Kind: 99, Version: 1, Total: 1},
			{Kind: 1, Version: 2, Total: 2},
			{Kind: 99, Version: 1, Total: 3},
			{Kind: 1, Version: 2, Total: 4},
		}, seen[actors.EnvelopeUnknown](a.w)); diff != "" {
			t.Errorf("unknown envelopes (-want +got):\n%s", diff)
		}
		refused := seen[actors.RemoteRefused](a.w)
		if len(refused) != 2 || refused[0].Total != 1 || refused[1].Total != 2 {
			t.Errorf("unreadable envelopes are told as %+v", refused)
		}
	})
}
