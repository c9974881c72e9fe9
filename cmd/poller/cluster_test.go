//go:build cluster && linux

package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	nodeKills = flag.Int("nodekills", 20, "how often TestClusterKills kills a node, and two for each five of these")
	freezes   = flag.Int("freezes", 20, "how often TestClusterFreezes stops a node's process")
	rollings  = flag.Int("rollings", 3, "how often TestClusterRolling restarts all nodes")
	joins     = flag.Int("joins", 20, "how often a node leaves and joins in TestClusterJoins")
)

// TestClusterKills kills nodes of three at random and starts them again.
func TestClusterKills(t *testing.T) {
	noLeaks(t)
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	for range *nodeKills {
		r.wander()
		victim := r.pick(1)
		o := c.begin(r, victim)
		victim[0].kill()
		c.handover = append(c.handover, r.settle(r.others(victim...), firstStep)-o.at)
		r.wander()
		o.back = r.now()
		victim[0].start()
		c.handback = append(c.handback, max(r.settle(r.nodes, firstStep)-o.back, 0))
		o.settled = r.now()
	}
	v := r.tell(c, r.seen.history())
	if got := median(v.gaps); got > medianGap {
		t.Errorf("the median of the gaps is %v", got)
	}
	for range max(1, *nodeKills/5) {
		r.killTwo()
	}
	r.finish()
}

// killTwo kills two nodes of three, so that there is no majority: nobody may poll. When they are back, everybody's agents
// are run without a miss from their first runs on.
func (r *rig) killTwo() {
	r.t.Helper()
	const without = 5 * time.Second
	r.wander()
	victims := r.pick(2)
	at := r.now()
	for _, n := range victims {
		n.kill()
	}
	<-time.After(without)
	back := r.now()
	for _, n := range victims {
		n.start()
	}
	since := r.settle(r.nodes, firstStep)
	h := r.seen.history()
	f := h.find(every, spell{back, r.now()})
	f.holes = slices.DeleteFunc(f.holes, func(s stretch) bool { return s.from.at < back }) // until the first run
	illicit := h.count(spell{at + lapse, back})
	r.t.Logf("%v killed at once, and back %v later: %d runs without a majority; first runs after it %s; settled after %.1f s; %d runs missed, %d doubled",
		victims, (back - at).Round(time.Millisecond), illicit, spread(h.waits(back)), (since - back).Seconds(), len(f.holes), len(f.doubles)+len(f.twins))
	if illicit > 0 {
		r.t.Errorf("without a majority, %d runs were made later than %v after it was lost", illicit, lapse)
	}
	r.none(h, "missed at the return of two", f.holes)
	r.none(h, "doubled by two nodes at the return of two", f.doubles)
	r.none(h, "doubled by one node at the return of two", f.twins)
}

// TestClusterFreezes stops the processes of nodes for so long that others take over, and lets them go on.
func TestClusterFreezes(t *testing.T) {
	noLeaks(t)
	const frozen = 15 * time.Second
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	for range *freezes {
		r.wander()
		victim := r.pick(1)
		o := c.begin(r, victim)
		victim[0].signal(syscall.SIGSTOP)
		<-time.After(frozen)
		c.handover = append(c.handover, r.settle(r.others(victim...), firstStep)-o.at) // one that took its share in steps may move some just now
		o.back = r.now()
		victim[0].signal(syscall.SIGCONT)
		c.handback = append(c.handback, max(r.settle(r.nodes, firstStep)-o.back, 0))
		o.settled = r.now()
	}
	h := r.seen.history()
	stale, doubled := 0, 0
	for _, o := range c.outages {
		rest, s, d := h.withoutStale(every, o)
		h, stale, doubled = rest, stale+s, doubled+d
	}
	t.Logf("runs of a node that went on, of agents that others had by then: %d, %d of them doubled", stale, doubled)
	r.tell(c, h)
	r.finish()
}

// TestClusterRolling restarts one node after the other, in order: no due run is missed, and no answer lost.
func TestClusterRolling(t *testing.T) {
	noLeaks(t)
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	for range *rollings {
		for _, n := range r.nodes {
			r.wander()
			began := r.now()
			n.stop()
			c.handover = append(c.handover, r.settle(r.others(n), wholeShare)-began)
			back := r.now()
			n.start()
			c.handback = append(c.handback, max(r.settle(r.nodes, wholeShare)-back, 0))
		}
	}
	r.tell(c, r.seen.history())
	r.finish()
	if answered, lost, _, again := r.seen.atCore(); lost > 0 || again > 0 {
		t.Errorf("of %d runs that were answered core lacks %d, and has %d twice", answered, lost, again)
	}
}

// TestClusterJoins has the last of three nodes leave and join. Nothing of that may stay with the others.
func TestClusterJoins(t *testing.T) {
	noLeaks(t)
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	guest := r.nodes[2]
	hosts := r.others(guest)
	grown := make([][]resources, len(hosts))
	for range *joins {
		r.wander()
		began := r.now()
		guest.stop()
		c.handover = append(c.handover, r.settle(hosts, wholeShare)-began)
		back := r.now()
		guest.start()
		c.handback = append(c.handback, max(r.settle(r.nodes, wholeShare)-back, 0))
		for i, n := range hosts {
			grown[i] = append(grown[i], n.resources())
		}
	}
	r.tell(c, r.seen.history())
	r.verifyFlat(hosts, grown)
	r.finish()
}

// verifyFlat compares the first third of the rounds with the last, by their medians, when there are enough to compare.
func (r *rig) verifyFlat(hosts []*node, grown [][]resources) {
	r.t.Helper()
	const enough = 6
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for i, n := range hosts {
		for _, kind := range []struct {
			name  string
			of    func(resources) float64
			slack func(before float64) float64
		}{
			{"goroutines", func(g resources) float64 { return g.goroutines }, func(before float64) float64 { return 20 + before*.02 }},
			{"descriptors", func(g resources) float64 { return g.descriptors }, func(float64) float64 { return 10 }},
			{"RSS, MB", func(g resources) float64 { return g.memory }, func(before float64) float64 { return 4 + before*.1 }},
		} {
			var all []float64
			for _, g := range grown[i] {
				all = append(all, kind.of(g))
			}
			third := max(len(all)/3, 1)
			before, after := middle(all[:third]), middle(all[len(all)-third:])
			_, _ = fmt.Fprintf(w, "%s\t%s\t%.0f\tthen %.0f\t%.0f\n", n, kind.name, before, after, all)
			if len(all) >= enough && after > before+kind.slack(before) {
				r.t.Errorf("%s: %s went from %.0f to %.0f in %d rounds", n, kind.name, before, after, len(all))
			}
		}
	}
	_ = w.Flush()
	r.t.Logf("what the nodes that stayed take, in the first third of the rounds and in the last:\n%s", text.String())
}
