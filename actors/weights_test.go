package actors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
)

// Agents go by the nodes' weights, also when one is changed while it runs; and none of their runs is missed or doubled by that.
func TestClusterWeights(t *testing.T) {
	var weight atomic.Int64
	weight.Store(1)
	runFleet(t, 60, func(f *fleet) {
		f.prepare = func(n *fleetNode) {
			n.w.o.Load = func(_ context.Context, present *config.Config) (*actors.Settings, error) {
				if n.id.Name != "b" || present.Cluster.Weight == int(weight.Load()) {
					return nil, nil
				}
				next := *present
				next.Cluster.Weight = int(weight.Load())
				return &actors.Settings{Config: &next, Identity: n.w.o.Identity}, nil
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		for _, tt := range []struct{ weight, b, others int }{{4, 40, 10}, {0, 0, 30}, {1, 20, 20}} {
			at := time.Now()
			weight.Store(int64(tt.weight))
			if err := f.nodes["b"].w.sys.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			if held := f.held(); held["b"] != tt.b || held["a"] != tt.others || held["c"] != tt.others {
				t.Errorf("with a weight of %d of b the nodes poll %v, want %d and %d", tt.weight, held, tt.b, tt.others)
			}
			f.wantSteady("b has another weight", at.Add(-time.Second), 60, aTouch)
		}
	})
}
