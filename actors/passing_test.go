package actors_test

import (
	"context"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
)

// Two nodes that do not reach each other, while a third reaches both, move agents between them and take them over all the same.
func TestClusterBrokenLink(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		cut := func(a, b string, is bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.cut[pair(f.nodes[a], f.nodes[b])] = is
		}
		var told []string
		f.prepare = func(n *fleetNode) {
			n.w.o.Sharing.Obey = func(what string) error { told = append(told, n.id.Name+" "+what); return nil }
		}
		f.start("a")
		f.start("b")
		f.start("c")
		time.Sleep(10 * time.Second)
		cut("a", "b", true)
		at := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := f.nodes["a"].w.sys.Order(ctx, "b", actors.OrderReload); err != nil || len(told) != 1 || told[0] != "b reload" {
			t.Errorf("told to reload over the broken link: %v, %v", told, err)
		}
		time.Sleep(5 * time.Second)
		f.wantSteady("the link is broken", at, 60, aTouch)
		at = time.Now()
		f.nodes["b"].kill()
		time.Sleep(5 * time.Second)
		f.wantTakeOver("one end of it dies", at.Add(-time.Second), 60, 3*time.Second)
		at = time.Now()
		f.start("b") // its share it takes over the broken link
		cut("a", "b", true)
		time.Sleep(15 * time.Second)
		f.wantSteady("it returns", at.Add(-time.Second), 60, aTouch)
		if held := f.held(); held["a"] != 20 || held["b"] != 20 || held["c"] != 20 {
			t.Errorf("the nodes poll %v, want 20 each", held)
		}
		f.nodes["c"].stop() // and now a and b hear nothing of each other
		time.Sleep(5 * time.Second)
		if held := f.held(); held["a"]+held["b"] != 0 {
			t.Errorf("two that do not hear each other poll %v", held)
		}
		cut("a", "b", false)
		time.Sleep(6 * time.Second)
		f.wantSteady("they do", time.Now().Add(-2*time.Second), 60, aTouch)
	})
}
