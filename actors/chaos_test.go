package actors_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
)

// chaos is a fleet to which things happen by chance.
type chaos struct {
	*fleet
	rand     *rand.Rand
	log      []string
	reloaded []time.Time
	// faults are how many of the next events make the actor panic that tells them.
	members, pollers, agents atomic.Int64
	without                  int // how many of the agents are not configured
}

// TestClusterByChance: whatever happens to nodes, actors and messages, no two nodes poll an agent at a time, and when it is over all are polled by one.
func TestClusterByChance(t *testing.T) {
	seeds := []uint64{189, 198, 573} // these found something
	for seed := range uint64(27) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			runFleet(t, 24, func(f *fleet) {
				c := &chaos{fleet: f, rand: rand.New(rand.NewPCG(seed, 7))}
				c.prepare = c.sabotage
				for _, name := range []string{"a", "b", "c"} {
					f.start(name)
				}
				time.Sleep(8 * time.Second)
				for range 12 {
					c.happen()
					time.Sleep(time.Duration(c.rand.IntN(2500)) * time.Millisecond)
				}
				c.heal()
				time.Sleep(20 * time.Second)
				f.wantSteady("when all is over", time.Now().Add(-5*time.Second), 24, aTouch)
				c.wantOneAtATime()
				c.wantSound(time.Now().Add(-5 * time.Second))
				if t.Failed() {
					for _, line := range c.log {
						t.Log(line)
					}
				}
			}, func(cfg *config.Config) {
				cfg.Restart.Budget, cfg.Restart.Max = 1000, time.Second
			})
		})
	}
}

// sabotage has actors of a node panic when they are to.
func (c *chaos) sabotage(n *fleetNode) {
	n.w.hook = func(e actors.Event) {
		var left *atomic.Int64
		switch e.(type) {
		case actors.Adopted, actors.HandedOver, actors.ClusterChanged, actors.Suspended:
			left = &c.members
		case actors.CycleClosed:
			left = &c.pollers
		default:
			return
		}
		if left.Load() > 0 && left.Add(-1) >= 0 {
			panic("test fault")
		}
	}
	for _, checker := range n.w.checkers {
		checker.connections = func() uint64 {
			if c.agents.Load() > 0 && c.agents.Add(-1) >= 0 {
				panic("test fault")
			}
			return 1
		}
	}
}

// happen has something happen.
func (c *chaos) happen() {
	nodes := c.sorted()
	n := nodes[c.rand.IntN(len(nodes))]
	say := func(format string, args ...any) {
		c.log = append(c.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
	}
	switch what := c.rand.IntN(10); {
	case n.down:
		say("start %s", n.id.Name)
		c.start(n.id.Name)
		if c.without > 0 {
			c.reload(c.sorted()[slices.IndexFunc(c.sorted(), func(o *fleetNode) bool { return o.id.Name == n.id.Name })])
		}
	case what == 0:
		say("kill %s", n.id.Name)
		n.kill()
	case what == 1:
		say("stop %s", n.id.Name)
		n.stop()
	case what == 2:
		cut := c.rand.IntN(2) == 0
		say("isolate %s %v", n.id.Name, cut)
		c.isolate(n.id.Name, cut)
	case what == 8:
		other, cut := nodes[c.rand.IntN(len(nodes))], c.rand.IntN(3) > 0
		say("link of %s and %s broken: %v", n.id.Name, other.id.Name, cut)
		c.mu.Lock()
		c.cut[pair(n, other)] = cut
		c.mu.Unlock()
	case what == 3:
		one := uint32(2 + c.rand.IntN(3))
		say("lose one of %d", one)
		i := uint32(0)
		c.mu.Lock()
		c.lost = func(uint32) bool { i++; return i%one == 0 }
		c.mu.Unlock()
	case what == 4:
		k := int64(1 + c.rand.IntN(3))
		say("%d faults of members", k)
		c.members.Store(k)
	case what == 5:
		k := int64(1 + c.rand.IntN(3))
		say("%d faults of pollers", k)
		c.pollers.Store(k)
	case what == 6:
		say("faults of agents")
		c.agents.Store(3)
	case what == 7:
		c.without = c.rand.IntN(6)
		say("reload without %d", c.without)
		c.reloaded = append(c.reloaded, time.Now())
		for _, n := range nodes {
			c.reload(n)
			time.Sleep(time.Duration(c.rand.IntN(300)) * time.Millisecond)
		}
	default:
		say("hand over to a node that joins")
		n.stop()
		c.start(n.id.Name)
	}
}

// reload has a node follow the configuration.
func (c *chaos) reload(n *fleetNode) {
	if n.down {
		return
	}
	cfg := *c.cfg
	cfg.PollerID = n.id.Name
	cfg.Agents = slices.Clone(cfg.Agents[:len(cfg.Agents)-c.without])
	_ = n.reload(&cfg)
}

// heal ends all that is wrong.
func (c *chaos) heal() {
	c.mu.Lock()
	c.lost = nil
	clear(c.cut)
	c.mu.Unlock()
	c.members.Store(0)
	c.pollers.Store(0)
	c.agents.Store(0)
	c.without = 0
	for _, n := range c.sorted() {
		if n.down {
			c.start(n.id.Name)
		} else {
			c.reload(n)
		}
	}
}

// wantOneAtATime asserts that no two nodes poll a check in turn.
func (c *chaos) wantOneAtATime() {
	for name, runs := range c.since(time.Time{}) {
		for i := 2; i < len(runs); i++ {
			a, b, x := runs[i-2], runs[i-1], runs[i]
			if a.node == x.node && b.node != x.node && x.at.Sub(a.at) < 900*time.Millisecond && !slices.ContainsFunc(c.reloaded, func(at time.Time) bool { return x.at.Sub(at).Abs() < 3*time.Second }) {
				c.t.Errorf("%s is polled by %s, %s, %s within %v at %s", name, a.node, b.node, x.node, x.at.Sub(a.at), x.at.Format("05.000"))
			}
		}
	}
}

// wantSound asserts that statuses after a moment are all of checks that were made.
func (c *chaos) wantSound(at time.Time) {
	for _, n := range c.sorted() {
		for _, d := range n.w.core.all() {
			for _, st := range d.req.GetServices() {
				if d.at.After(at) && !st.GetAvailable() {
					c.t.Errorf("%s reports at %s: %s %s", n.id.Name, d.at.Format("05.000"), st.GetAgentId(), st.GetMessage())
				}
			}
		}
	}
}

// A poller that was down when its lease was lost polls nothing any more of what it had under that.
func TestClusterPollerMissesTheEndOfALease(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		c := &chaos{fleet: f}
		f.prepare = func(n *fleetNode) {
			if n.id.Name == "b" {
				c.sabotage(n)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(12 * time.Second)
		at := time.Now()
		c.pollers.Store(1)
		f.start("d") // some of b's are its own, when b is back
		f.isolate("b", true)
		time.Sleep(2500 * time.Millisecond)
		f.isolate("b", false)
		time.Sleep(12 * time.Second)
		if n := len(seen[actors.ActorRestarted](f.nodes["b"].w)); n != 1 {
			t.Errorf("b's poller was restarted %d times, want once", n)
		}
		c.wantOneAtATime()
		c.wantSound(at)
	}, func(cfg *config.Config) {
		cfg.Restart.Initial, cfg.Restart.Max, cfg.Restart.Budget = 6*time.Second, 6*time.Second, 100
	})
}
