package actors_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
)

// weights are those of nodes, which go by them at their next reloads.
type weights struct {
	f  *fleet
	of sync.Map // by name
}

func (w *weights) prepare(n *fleetNode) {
	n.w.o.Load = func(_ context.Context, present *config.Config) (*actors.Settings, error) {
		weight, set := w.of.Load(n.id.Name)
		if !set || present.Cluster.Weight == weight {
			return nil, nil
		}
		next := *present
		next.Cluster.Weight = weight.(int)
		return &actors.Settings{Config: &next, Identity: n.w.o.Identity}, nil
	}
}

func (w *weights) set(name string, weight int) {
	w.f.t.Helper()
	w.of.Store(name, weight)
	if err := w.f.nodes[name].w.sys.Reload(context.Background()); err != nil {
		w.f.t.Fatal(err)
	}
}

// startThree starts three nodes whose weights can be set.
func startThree(f *fleet) *weights {
	w := &weights{f: f}
	f.prepare = w.prepare
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	time.Sleep(10 * time.Second)
	return w
}

// Agents go by the nodes' weights, also when one is changed while it runs; and none of their runs is missed or doubled by that.
func TestClusterWeights(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		w := startThree(f)
		for _, tt := range []struct{ weight, b, others int }{{4, 40, 10}, {0, 0, 30}, {1, 20, 20}} {
			at := time.Now()
			w.set("b", tt.weight)
			time.Sleep(4 * time.Second)
			if held := f.held(); held["b"] != tt.b || held["a"] != tt.others || held["c"] != tt.others {
				t.Errorf("with a weight of %d of b the nodes poll %v, want %d and %d", tt.weight, held, tt.b, tt.others)
			}
			f.wantSteady("b has another weight", at.Add(-time.Second), 60, aTouch)
		}
	})
}

// What is known of an agent is not lost with a node that was to have it, never heard so, and wants it no more: another goes on where it was.
func TestClusterChangesItsMind(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		w := startThree(f)
		at := time.Now()
		deafen := func(deaf bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.deaf = map[string]bool{"b": deaf}
		}
		deafen(true)
		w.set("b", 4)
		time.Sleep(700 * time.Millisecond)
		deafen(false)
		w.set("b", 0)
		w.set("a", 0)
		time.Sleep(4 * time.Second)
		f.wantSteady("b wants agents and then none", at.Add(-time.Second), 60, aTouch)
		if held := f.held(); held["c"] != 60 {
			t.Errorf("the nodes poll %v, want all by c", held)
		}
	})
}

// What was due while a node had no lease for a moment is made up for when it has one again, and nobody says that it was polled twice.
func TestClusterShortOfLease(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		startThree(f)
		at := time.Now()
		taken := func() int {
			return len(seen[actors.Adopted](f.nodes["b"].w)) + len(seen[actors.Adopted](f.nodes["c"].w))
		}
		before := taken()
		poor := func(is bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.poor = map[string]bool{"a": is}
		}
		for range 40 { // so that it is without one at any time within a cycle
			poor(true)
			time.Sleep(1800 * time.Millisecond)
			poor(false)
			time.Sleep(3225 * time.Millisecond)
		}
		if n := len(seen[actors.Suspended](f.nodes["a"].w)); n < 40 {
			t.Errorf("a was suspended %d times, want 40", n)
		}
		if n := taken() - before; n > 0 {
			t.Errorf("others took agents of a %d times, though it came back at once", n)
		}
		f.wantRuns("a has no lease at times", at.Add(-time.Second), 60, 1900*time.Millisecond, time.Millisecond) // a turn that is not made up for makes 2 s
		for _, n := range f.sorted() {
			if doubled := seen[actors.Doubled](n.w); len(doubled) > 0 {
				t.Errorf("%s says that agents were polled twice: %v", n.id.Name, doubled)
			}
		}
	})
}
