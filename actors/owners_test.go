package actors

import (
	"testing"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// However often the configuration changes, only what some node has is remembered.
func TestOwnersForgetConfigurations(t *testing.T) {
	t.Parallel()
	id := machine.NodeID{Name: "a", Boot: "1"}
	v := &machine.View{Self: id, Members: []machine.Member{{NodeID: id, Weight: 1000}}, Leased: true}
	o := &newShares(id).owners
	for i := range 100 {
		o.own(v, &config.Config{Agents: []*check.Agent{{Name: "x", Address: "127.0.0.1:1"}, {Name: "y" + string(rune('a'+i)), Address: "127.0.0.1:1"}}}, machine.NewPins())
		if len(o.ours) != 2 {
			t.Fatalf("of two agents %v are the only node's", o.ours)
		}
	}
	if len(o.names) != 1 {
		t.Errorf("the agents of %d configurations are remembered, want those of one", len(o.names))
	}
}

// What people move, and what they move back, counts at once, though nothing else has changed; and whom it goes to has to know it.
func TestOwnersFollowPins(t *testing.T) {
	t.Parallel()
	id, other := machine.NodeID{Name: "a", Boot: "1"}, machine.NodeID{Name: "b", Boot: "1"}
	v := &machine.View{Self: id, Members: []machine.Member{{NodeID: id, Weight: 1000}, {NodeID: other, Weight: 1000, Hash: "another", Pins: "some"}}, Leased: true}
	cfg := &config.Config{}
	for _, name := range []string{"p", "q", "r", "s"} {
		cfg.Agents = append(cfg.Agents, &check.Agent{Name: name, Address: "127.0.0.1:1"})
	}
	shares := newShares(id)
	o := &shares.owners
	want := func(what string, n int, owner string) {
		t.Helper()
		o.own(v, cfg, shares.pins)
		before := &o.owned[0]
		if o.own(v, cfg, shares.pins); before != &o.owned[0] {
			t.Errorf("%s: it was found out twice", what)
		}
		for _, agent := range o.agents {
			if got := o.owner(agent); owner != "" && got != owner || o.isOurs(agent) != (got == "a") {
				t.Errorf("%s: %s is owned by %s, want %q, and ours: %v", what, agent, got, owner, o.isOurs(agent))
			}
		}
		if got := o.count()["a"]; got != n {
			t.Errorf("%s: we own %d, want %d", what, got, n)
		}
	}
	move := func(node string) {
		t.Helper()
		if err := shares.pins.Set(o.agents, node, 1); err != nil {
			t.Fatal(err)
		}
	}
	want("at first", 2, "")
	move("a")
	want("all is moved here", 4, "a")
	move("b")
	want("all is moved away", 0, "b")
	v.Members[1].Pins = ""
	want("the other does not know so", 2, "")
	v.Members[1].Pins = "some"
	want("it does", 0, "b")
	o.learn(&cluster.Names{Hash: "another", Agents: []string{"p", "q"}})
	want("the other has but two", 2, "")
	v.Members[1].Draining = true
	want("the other hands over", 4, "a")
	v.Members[1].Draining = false
	move("")
	want("all is moved back", 2, "")
}
