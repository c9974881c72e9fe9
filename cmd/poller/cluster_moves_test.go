//go:build cluster && linux

package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var moves = flag.Int("moves", 20, "how often TestClusterMoves has agents moved, before they go back")

// TestClusterMoves has the same ten agents moved to one node after the other, and then back, by the command, each time at another node: no due run is
// missed or doubled, and no answer lost.
func TestClusterMoves(t *testing.T) {
	noLeaks(t)
	const some = 10
	r := newRig(t, "127.0.0.1", onLoopback(3))
	c := &course{from: r.startAll()}
	home := r.seen.owners()
	for i := range *moves {
		r.wander()
		to := r.pick(1)[0]
		began := r.now()
		r.move(r.nodes[i%3], some, "--to", to.String())
		c.handover = append(c.handover, max(r.await(slices.Repeat([]int{to.number}, some))-began, 0))
		other := r.nodes[(i+1)%3]
		if says := poller(t, "cluster", "--admin", other.admin+":9464").stdout; !strings.Contains(says, fmt.Sprintf("10 agents are pinned: %s to %s, ", agentName(0), to)) {
			t.Errorf("%s does not say that agents were moved to %s:\n%s", other, to, says)
		}
	}
	began := r.now()
	r.move(r.nodes[*moves%3], some, "--back")
	c.handback = append(c.handback, max(r.await(home)-began, 0))
	v := r.tell(c, r.seen.history())
	if v.moves < *moves {
		t.Errorf("agents went to another node %d times, want more to see it", v.moves)
	}
	r.finish()
	if answered, lost, _, again := r.seen.atCore(); lost > 0 || again > 0 {
		t.Errorf("of %d runs that were answered core lacks %d, and has %d twice", answered, lost, again)
	}
}

// move has the first agents moved by the command, at a node.
func (r *rig) move(at *node, agents int, where ...string) {
	r.t.Helper()
	args := append([]string{"move", "--admin", at.admin + ":9464"}, where...)
	for i := range agents {
		args = append(args, "--agent", agentName(i))
	}
	if came := poller(r.t, args...); came.code != 0 {
		r.t.Fatalf("%s at %s: %+v", strings.Join(args, " "), at, came)
	}
}

// await waits until the first agents are polled by these nodes. It returns since when that has been so.
func (r *rig) await(owners []int) time.Duration {
	r.t.Helper()
	for began := r.now(); r.now()-began < patience; <-time.After(every / 20) {
		if slices.Equal(r.seen.owners()[:len(owners)], owners) {
			return r.seen.latest(len(owners))
		}
	}
	r.tellComplaints()
	r.t.Fatalf("%v after the first %d agents were moved, they are at %v, want %v", patience, len(owners), r.seen.owners()[:len(owners)], owners)
	return 0
}

// owners are the nodes that ran each agent last.
func (o *observer) owners() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	var nodes []int
	for _, t := range o.tenures {
		nodes = append(nodes, t.node)
	}
	return nodes
}

// latest is when the last of the first agents was run for the first time by the node that has it now.
func (o *observer) latest(agents int) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var since time.Duration
	for _, t := range o.tenures[:agents] {
		since = max(since, t.since)
	}
	return since
}
