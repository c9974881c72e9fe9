package actors

import (
	"testing"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// However often the configuration changes, only what some node has is remembered.
func TestOwnersForgetConfigurations(t *testing.T) {
	t.Parallel()
	id := machine.NodeID{Name: "a", Boot: "1"}
	v := &machine.View{Self: id, Members: []machine.Member{{NodeID: id, Weight: 1000}}, Leased: true}
	o := &newShares(id).owners
	for i := range 100 {
		o.own(v, &config.Config{Agents: []*check.Agent{{Name: "x", Address: "127.0.0.1:1"}, {Name: "y" + string(rune('a'+i)), Address: "127.0.0.1:1"}}})
		if len(o.ours) != 2 {
			t.Fatalf("of two agents %v are the only node's", o.ours)
		}
	}
	if len(o.names) != 1 {
		t.Errorf("the agents of %d configurations are remembered, want those of one", len(o.names))
	}
}
