package actors_test

import (
	"testing"
	"time"
)

// Of two nodes that are to step down none polls without the other; of those that are to keep on, TestClusterKeeps tells.
func TestClusterOfTwoStepsDown(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		cfg := settings(20, 1, time.Second, 800*time.Millisecond)
		cfg.Cluster.Weight = 1
		f := newFleet(t, cfg, 2)
		f.start("a")
		time.Sleep(4 * time.Second)
		if runs := f.since(time.Time{}); len(runs) > 0 {
			t.Fatalf("alone it polls %d checks", len(runs))
		}
		f.start("b")
		time.Sleep(8 * time.Second)
		f.wantSteady("both", time.Now().Add(-3*time.Second), 20, aTouch)
		f.nodes["a"].kill()
		time.Sleep(4 * time.Second)
		at := time.Now()
		time.Sleep(4 * time.Second)
		if runs := f.since(at); len(runs) > 0 {
			t.Errorf("the other is dead, and it polls %d checks", len(runs))
		}
		f.start("a")
		time.Sleep(8 * time.Second)
		f.wantSteady("both again", time.Now().Add(-3*time.Second), 20, aTouch)
		f.stop()
	})
}
