//go:build cluster && linux

package main

import (
	"flag"
	"slices"
	"testing"
	"time"
)

var rounds = flag.Int("rounds", 10, "how often each fault of the network comes in TestPartitions")

// weather is a fault of the network between nodes. Those whom it befalls are drawn anew each time.
type weather struct {
	name   string
	nodes  int
	drawn  int
	cutOff bool // those that are drawn lose the majority
	// link is what becomes of packets from one node to another, by their places among the drawn; -1 stands for the others.
	link func(from, to int) link
}

var weathers = []weather{
	{"3 nodes as 2+1", 3, 1, true, func(from, to int) link { return deadIf((from < 0) != (to < 0)) }},
	{"5 nodes as 3+2", 5, 2, true, func(from, to int) link { return deadIf((from < 0) != (to < 0)) }},
	{"one that nobody hears", 3, 1, true, func(from, _ int) link { return deadIf(from >= 0) }},
	{"one that hears nobody", 3, 1, true, func(_, to int) link { return deadIf(to >= 0) }},
	{"one link, one way", 3, 2, false, func(from, to int) link { return deadIf(from == 0 && to == 1) }},
	{"30 % loss", 3, 0, false, func(int, int) link { return link{loss: .3} }},
	{"200 ms delay", 3, 0, false, func(int, int) link { return link{delay: 200 * time.Millisecond} }},
}

func deadIf(is bool) link {
	if is {
		return link{loss: 1}
	}
	return link{}
}

// TestPartitions has nodes in network namespaces, and breaks the network between them; the way to the checkers and to core
// is well. At most one node may run an agent, the majority takes over, and when the network is well again all settles by itself.
func TestPartitions(t *testing.T) {
	for _, kind := range weathers {
		t.Run(kind.name, func(t *testing.T) {
			noLeaks(t)
			e := newEther(t, kind.nodes)
			r := newRig(t, e.access, e.places)
			c := &course{from: r.startAll()}
			var silent []time.Duration
			carried, lost, illicit := 0, 0, 0
			for range *rounds {
				a, b, runs, last := r.endure(c, e, kind)
				carried, lost, illicit, silent = carried+a, lost+b, illicit+runs, append(silent, last)
			}
			t.Logf("%d packets were carried between the nodes while the network was broken, %d lost", carried, lost)
			if kind.cutOff {
				t.Logf("nodes that were cut off ran their last agent after %s", spread(silent))
				if illicit > 0 {
					t.Errorf("they made %d runs later than %v after that", illicit, lapse)
				}
			}
			r.tell(c, r.seen.history())
			r.finish()
		})
	}
}

// endure breaks the network for a while and waits until all has settled after it. It returns what became of the packets
// meanwhile, and of nodes that were cut off how many runs they made when they could not have a lease any more, and after what time the last.
func (r *rig) endure(c *course, e *ether, kind weather) (carried, lost, illicit int, last time.Duration) {
	r.t.Helper()
	const lasts = 15 * time.Second
	r.wander()
	drawn := r.pick(kind.drawn)
	at := r.now()
	var away []*node
	if kind.cutOff {
		away = drawn
	}
	o := c.begin(r, away)
	o.anybody = !kind.cutOff
	among := numbers(drawn)
	e.set(func(from, to int) link { return kind.link(slices.Index(among, from), slices.Index(among, to)) })
	<-time.After(lasts)
	if kind.cutOff {
		c.handover = append(c.handover, max(r.settle(r.others(away...), firstStep)-at, 0)) // one that took its share in steps may move some just now
	}
	carried, lost = e.counts()
	o.back = r.now()
	e.set(func(int, int) link { return link{} })
	c.handback = append(c.handback, max(r.settle(r.nodes, firstStep)-o.back, 0))
	o.settled = r.now()
	theirs := r.seen.history().of(numbers(away))
	illicit = theirs.count(spell{at + lapse, o.back})
	for _, runs := range theirs {
		if i, _ := slices.BinarySearchFunc(runs, o.back, byTime); i > 0 {
			last = max(last, runs[i-1].at-at)
		}
	}
	return carried, lost, illicit, last
}
