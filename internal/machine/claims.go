package machine

import (
	"maps"
	"slices"
)

// Ask is a question to another node: which of these agents does it not poll?
type Ask struct {
	To         NodeID
	Era, Round uint64
	Agents     []string
}

// Claims is how one node comes to poll agents, so that no two that have leases ever poll the same one: it claims those that it
// should poll, asks all others that may poll, and holds what all of them have said to be free.
//
//	          Follow                 Ready: all required say free
//	(nothing) ───────► claimed ─────────────────────────────────► held
//	    ▲ ▲   no longer   │                                       │ │
//	    │ └─── wanted ────┘                          Released     │ │ Follow: no lease,
//	    └─────────────────────────────────────────────────────────┴─┘ or of another era
//
// Whoever says that an agent is free takes back what it was told itself: it does not start the agent before it has
// asked again. So of two that both start an agent each would have told the other that it is free, and asked again later than the other
// did.
//
// The node polls what is held while its lease holds, in the era of the view that was followed last; that is to be looked at
// before each run, for the view may be old. It is not safe for concurrent use.
type Claims struct {
	self  NodeID
	view  *View // nil or not leased: nothing is held or claimed
	want  []string
	held  map[string]struct{}
	open  map[string]*claim // wanted and not held
	round uint64            // of the last asks; goes on through all eras
	stale bool              // want may have what is neither held nor claimed
	news  bool              // there may be claims that are ready
	fresh bool              // there are claims, or required nodes, that were not there when it was asked last
}

// claim is of an agent that is wanted and not held yet.
type claim struct {
	// since is the round after which it was opened: answers to it and those before say nothing.
	since uint64
	// free are the nodes that said so.
	free []NodeID
	// undone are those whose word counts no more, and the round up to which it does not.
	undone map[NodeID]uint64
}

// NewClaims returns the claims of a node that holds nothing.
func NewClaims(self NodeID) *Claims {
	return &Claims{self: self, view: &View{}, held: make(map[string]struct{}), open: make(map[string]*claim)}
}

// Follow takes the node's view, and the agents that it should poll by it, sorted; it keeps both, and they are not to be changed. With
// the same want and a view that says the same it costs next to nothing. It returns those that were held and are not any more,
// because the view has no lease or one of another era: they are to be asked for anew. What is held and not wanted any more stays so
// until it is released.
func (c *Claims) Follow(v *View, want []string) (suspended []string) {
	last := c.view
	c.view = v
	if !v.Leased || !last.Leased || v.Era != last.Era {
		suspended = c.Held()
		clear(c.held)
		clear(c.open)
		c.stale = true
	}
	if !v.Leased {
		c.want = nil
		return suspended
	}
	if !slices.Equal(v.Required, last.Required) {
		c.news, c.fresh = true, true
	}
	if c.stale || !sameSlice(c.want, want) {
		c.claim(want)
	}
	return suspended
}

// claim opens claims of what is wanted and not held, and closes those of what is not wanted any more.
func (c *Claims) claim(want []string) {
	open := make(map[string]*claim)
	for _, agent := range want {
		if _, held := c.held[agent]; held {
			continue
		}
		if open[agent] = c.open[agent]; open[agent] == nil {
			open[agent] = &claim{since: c.round}
			c.fresh = true
		}
	}
	c.want, c.open, c.stale, c.news = want, open, false, true
}

func sameSlice(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Asks returns what each required node has not yet said of what is claimed; nil if there is nothing to ask. Each call is a new round,
// and what was asked before may still be answered.
func (c *Claims) Asks() []Ask {
	c.fresh = false
	if len(c.open) == 0 || len(c.view.Required) == 0 {
		return nil
	}
	c.round++
	agents := slices.Sorted(maps.Keys(c.open))
	var asks []Ask
	for _, to := range c.view.Required {
		ask := Ask{To: to, Era: c.view.Era, Round: c.round}
		for _, agent := range agents {
			if !slices.Contains(c.open[agent].free, to) {
				ask.Agents = append(ask.Agents, agent)
			}
		}
		if len(ask.Agents) > 0 {
			asks = append(asks, ask)
		}
	}
	return asks
}

// Round returns the round of the last Asks: what is held was asked for in it, or before.
func (c *Claims) Round() uint64 { return c.round }

// Answered takes what another said to be free, with the era and round that it was asked in. What it says of a claim that was not
// open then, or of which it has been told since that the agent is free, does not count.
func (c *Claims) Answered(from NodeID, era, round uint64, free []string) {
	if era != c.view.Era {
		return
	}
	for _, agent := range free {
		if claim := c.open[agent]; c.Awaits(from, round, agent) && !slices.Contains(claim.free, from) {
			claim.free = append(claim.free, from)
			c.news = true
		}
	}
}

// Awaits reports whether what another says of an agent, in answer to a round of this era, counts.
func (c *Claims) Awaits(from NodeID, round uint64, agent string) bool {
	claim := c.open[agent]
	return claim != nil && round > claim.since && round > claim.undone[from] && round <= c.round
}

// Ready returns the agents that all required nodes have said to be free since it was called last, sorted. They are held from now on.
func (c *Claims) Ready() []string {
	if !c.news {
		return nil
	}
	c.news = false
	var ready []string
	for agent, claim := range c.open {
		if len(c.awaited(claim)) == 0 {
			ready = append(ready, agent)
			delete(c.open, agent)
			c.held[agent] = struct{}{}
		}
	}
	slices.Sort(ready)
	return ready
}

// awaited returns the required nodes that have not said that a claim's agent is free.
func (c *Claims) awaited(claim *claim) []NodeID {
	var awaited []NodeID
	for _, id := range c.view.Required {
		if !slices.Contains(claim.free, id) {
			awaited = append(awaited, id)
		}
	}
	return awaited
}

// Asked answers what another asks. The agents that are free it may poll, as far as this node is concerned. Those to give are
// held here: the caller decides whether the other should have them, and calls Released before it answers that they are free,
// too. Of the rest, which are both nodes' claims and go to this one, and of all if the other is not among those that the view
// requires, there is nothing to say: it asks again. An answer that was given once is not given again without asking here anew.
//
// Lease.Asked is called first, and views that are followed later are made after that: for the other must be asked in turn.
func (c *Claims) Asked(by NodeID, agents []string) (free, give []string) {
	if by == c.self || c.view.Leased && !slices.Contains(c.view.Required, by) {
		return nil, nil
	}
	for _, agent := range agents {
		if _, held := c.held[agent]; held {
			give = append(give, agent)
			continue
		}
		claim := c.open[agent]
		if claim == nil {
			free = append(free, agent)
		} else if compareIDs(by, c.self) < 0 {
			claim.undo(by, c.round)
			free = append(free, agent)
		}
	}
	return free, give
}

// undo takes back what a node said, and may still say to rounds until the last.
func (c *claim) undo(by NodeID, round uint64) {
	if c.undone == nil {
		c.undone = make(map[NodeID]uint64)
	}
	c.undone[by] = round
	c.free = slices.DeleteFunc(c.free, func(id NodeID) bool { return id == by })
}

// Released says that an agent is not polled here any more. If it is still wanted, the next Follow claims it.
func (c *Claims) Released(agent string) {
	if _, held := c.held[agent]; held {
		delete(c.held, agent)
		c.stale = true
	}
}

// Holds reports whether an agent is held.
func (c *Claims) Holds(agent string) bool {
	_, held := c.held[agent]
	return held
}

// Held returns the agents that are held, sorted.
func (c *Claims) Held() []string { return slices.Sorted(maps.Keys(c.held)) }

// HeldCount returns how many agents are held.
func (c *Claims) HeldCount() int { return len(c.held) }

// Open returns how many agents are claimed and not held yet.
func (c *Claims) Open() int { return len(c.open) }

// Unasked reports whether there is something to ask that was not there at the last Asks.
func (c *Claims) Unasked() bool { return c.fresh && len(c.open) > 0 }

// Waiting returns of how many claimed agents each required node has not said yet that they are free.
func (c *Claims) Waiting() map[NodeID]int {
	waiting := make(map[NodeID]int)
	for _, claim := range c.open {
		for _, id := range c.awaited(claim) {
			waiting[id]++
		}
	}
	return waiting
}
