package machine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/machine"
)

func viewOf(self machine.NodeID, era uint64, required ...machine.NodeID) *machine.View {
	return &machine.View{Self: self, Leased: true, Era: era, Required: required}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// What all required nodes say to be free is held, and not before.
func TestClaims(t *testing.T) {
	t.Parallel()
	c := machine.NewClaims(nodeB)
	want := []string{"db", "web"}
	c.Follow(viewOf(nodeB, 1, nodeA, nodeC), want)
	if !c.Unasked() || c.Open() != 2 {
		t.Errorf("unasked %v, open %d", c.Unasked(), c.Open())
	}
	same(t, "asks", c.Asks(), []machine.Ask{{To: nodeA, Era: 1, Round: 1, Agents: want}, {To: nodeC, Era: 1, Round: 1, Agents: want}})
	c.Answered(nodeA, 1, 1, want)
	c.Answered(nodeC, 2, 1, want) // of another era
	c.Answered(nodeC, 1, 2, want) // of a round that was not asked
	c.Answered(nodeC, 1, 1, []string{"web", "dns"})
	same(t, "ready", c.Ready(), []string{"web"})
	same(t, "again", c.Ready(), []string(nil))
	same(t, "waiting", c.Waiting(), map[machine.NodeID]int{nodeC: 1})
	same(t, "asks", c.Asks(), []machine.Ask{{To: nodeC, Era: 1, Round: 2, Agents: []string{"db"}}})
	c.Follow(viewOf(nodeB, 1, nodeA), want)
	same(t, "ready without c", c.Ready(), []string{"db"})
	same(t, "held", c.Held(), want)
	same(t, "nothing to ask", c.Asks(), []machine.Ask(nil))

	same(t, "of the same era", c.Follow(viewOf(nodeB, 1, nodeA), []string{"web"}), []string(nil))
	if c.Released("db"); c.Holds("db") || c.HeldCount() != 1 {
		t.Error("it was released")
	}
	same(t, "of another era", c.Follow(viewOf(nodeB, 2, nodeA), []string{"web"}), []string{"web"})
	same(t, "asks", c.Asks(), []machine.Ask{{To: nodeA, Era: 2, Round: 3, Agents: []string{"web"}}})
	c.Answered(nodeA, 2, 2, []string{"web"}) // before the claim was opened
	same(t, "ready", c.Ready(), []string(nil))
	same(t, "without a lease", c.Follow(&machine.View{Self: nodeB, Era: 2}, want), []string(nil))
	if c.Open() != 0 {
		t.Error("it claims without a lease")
	}
}

// What is released and still wanted is claimed again.
func TestClaimsReleased(t *testing.T) {
	t.Parallel()
	c := machine.NewClaims(nodeA)
	want := []string{"web"}
	c.Follow(viewOf(nodeA, 1), want)
	same(t, "ready alone", c.Ready(), want)
	c.Released("web")
	c.Follow(viewOf(nodeA, 1), want)
	same(t, "ready again", c.Ready(), want)
}

// TestClaimsAsked: b has web, and claims db; dns is nothing to it.
func TestClaimsAsked(t *testing.T) {
	t.Parallel()
	agents := []string{"db", "dns", "web"}
	for _, test := range []struct {
		name       string
		by         machine.NodeID
		free, give []string
	}{
		{"by one that goes first", nodeA, []string{"db", "dns"}, []string{"web"}},
		{"by one that goes last", nodeC, []string{"dns"}, []string{"web"}},
		{"by one that is not required", machine.NodeID{Name: "aa"}, nil, nil},
		{"by itself", nodeB, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := machine.NewClaims(nodeB)
			c.Follow(viewOf(nodeB, 1, nodeA, nodeC), []string{"db", "web"})
			c.Asks()
			c.Answered(nodeA, 1, 1, []string{"db", "web"})
			c.Answered(nodeC, 1, 1, []string{"web"})
			same(t, "ready", c.Ready(), []string{"web"})
			free, give := c.Asked(test.by, agents)
			same(t, "free", free, test.free)
			same(t, "give", give, test.give)
			c.Answered(nodeC, 1, 1, []string{"db"})
			if test.by != nodeA {
				same(t, "ready", c.Ready(), []string{"db"})
				return
			}
			c.Answered(nodeA, 1, 1, []string{"db"}) // is late
			same(t, "ready after it was told to a", c.Ready(), []string(nil))
			c.Asks()
			c.Answered(nodeA, 1, 2, []string{"db"})
			same(t, "ready after a was asked again", c.Ready(), []string{"db"})
		})
	}
}
