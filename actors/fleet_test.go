package actors_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// fleet is a cluster in a bubble: whole Systems, with leases as they are, and twins in memory of membership and of remoting. Its checkers
// note who polls them.
type fleet struct {
	t     *testing.T
	epoch time.Time
	cfg   *config.Config
	size  int
	keep  bool

	mu    sync.Mutex
	nodes map[string]*fleetNode
	cut   map[[2]string]bool // between whom nothing goes
	runs  []fleetRun
	lost  func(kind uint32) bool // envelopes that are lost; nil for none
	seqs  map[string]int         // of results, by agents
	deaf  map[string]bool        // nodes that hear no envelopes
	poor  map[string]bool        // nodes that hear no grants
	// prepare changes a node before its system starts; nil for none.
	prepare func(n *fleetNode)
}

// fleetRun is a run as its checker sees it.
type fleetRun struct {
	agent, check, node string
	at                 time.Time
	last               string // for results
}

// Times of the twin of membership; those of the lease are internal/cluster's.
const (
	beatEvery  = 250 * time.Millisecond
	leaseTerm  = 1500 * time.Millisecond
	leaseDrift = 100 * time.Millisecond
	deathAfter = 1300 * time.Millisecond
)

// fleetNode is a node, and its twin of a cluster.
type fleetNode struct {
	f    *fleet
	id   machine.NodeID
	w    *world
	conf *changeable
	take func(*cluster.Envelope)

	lease *machine.Lease
	ours  machine.Announcement
	heard map[string]time.Time // of nodes: when it was last heard
	known map[string]machine.Announcement
	boots map[string]machine.NodeID
	down  bool
	gone  context.CancelFunc
}

func newFleet(t *testing.T, cfg *config.Config, size int) *fleet {
	return &fleet{
		t: t, epoch: time.Now().Add(-time.Hour), cfg: cfg, size: size,
		nodes: make(map[string]*fleetNode), cut: make(map[[2]string]bool), seqs: make(map[string]int),
	}
}

// runFleet runs a test in a bubble with a fleet of agents with one check each second.
func runFleet(t *testing.T, agents int, test func(f *fleet), change ...func(cfg *config.Config)) {
	t.Helper()
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		cfg := settings(agents, 1, time.Second, 800*time.Millisecond)
		cfg.Cluster.Weight = 1
		for _, f := range change {
			f(cfg)
		}
		f := newFleet(t, cfg, 3)
		test(f)
		f.stop()
	})
}

// stop ends all nodes.
func (f *fleet) stop() {
	for _, n := range f.sorted() {
		if !n.down {
			n.stop()
		}
	}
	time.Sleep(2 * time.Second) // the framework's throttle of dead letters outlives them a moment
}

// start starts a node.
func (f *fleet) start(name string, change ...func(cfg *config.Config)) *fleetNode {
	f.t.Helper()
	cfg := *f.cfg
	cfg.PollerID = name
	for _, c := range change {
		c(&cfg)
	}
	f.mu.Lock()
	boot := 1
	if old := f.nodes[name]; old != nil {
		_, _ = fmt.Sscan(old.id.Boot, &boot)
		boot++
	}
	n := &fleetNode{
		f: f, id: machine.NodeID{Name: name, Boot: fmt.Sprint(boot)},
		heard: make(map[string]time.Time), known: make(map[string]machine.Announcement), boots: make(map[string]machine.NodeID),
	}
	n.lease = machine.NewLease(n.id, f.size, leaseTerm, leaseDrift, f.keep)
	f.nodes[name] = n
	f.mu.Unlock()
	n.w = newWorld(f.t, &cfg)
	for agent, c := range n.w.checkers {
		f.watch(n, agent, c)
	}
	n.w.o.Sharing = &actors.Sharing{
		Cluster: n, Epoch: f.epoch, Obey: func(string) error { return nil },
		Post: func(remote string, e *cluster.Envelope) { f.post(n, remote, e) },
		Receive: func(take func(*cluster.Envelope)) {
			f.mu.Lock()
			defer f.mu.Unlock()
			n.take = take
		},
	}
	n.conf = new(changeable)
	n.w.o.Load = n.conf.load
	if f.prepare != nil {
		f.prepare(n)
	}
	n.w.start()
	ctx, cancel := context.WithCancel(context.Background())
	n.gone = cancel
	go n.live(ctx)
	return n
}

// watch notes who asks a checker.
func (f *fleet) watch(n *fleetNode, agent string, c *checker) {
	note := func(chk *check.Check, last string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.runs = append(f.runs, fleetRun{agent, chk.Name, n.id.Name, time.Now(), last})
	}
	c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
		if n.isDown() {
			return check.Answer{}, check.Failf(check.Unreachable, nil, "the node is dead")
		}
		note(chk, "")
		return slow(20*time.Millisecond)(ctx, chk)
	}
	c.results = func(_ context.Context, chk *check.Check, last string) (check.Answer, error) {
		note(chk, last)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seqs[agent]++
		return check.Answer{Available: true, Message: []byte(`[]`), Sequence: fmt.Sprint(f.seqs[agent])}, nil
	}
}

// live beats, and tells the system of changes.
func (n *fleetNode) live(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		n.f.beat(n)
		n.w.sys.ViewChanged()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// beat asks all others that are reached for their grants.
func (f *fleet) beat(n *fleetNode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	n.lease.Alive(n.alive(now), now)
	for _, other := range f.sortedLocked() {
		if other == n || other.down || n.down || !f.hear(n, other) {
			continue
		}
		n.heard[other.id.Name], other.heard[n.id.Name] = now, now
		n.boots[other.id.Name], other.boots[n.id.Name] = other.id, n.id
		n.known[other.id.Name], other.known[n.id.Name] = other.ours, n.ours
		n.lease.Alive(n.alive(now), now)
		other.lease.Alive(other.alive(now), now)
		granted := other.lease.Grant(n.id, now)
		n.lease.Told(other.id, now, now, other.lease.Grants(now))
		if granted && !f.poor[n.id.Name] {
			n.lease.Granted(other.id, now, now)
		}
	}
}

// hear tells whether two nodes hear each other's beats, directly or by way of a third.
func (f *fleet) hear(a, b *fleetNode) bool {
	if !f.cut[pair(a, b)] {
		return true
	}
	for _, c := range f.nodes {
		if c != a && c != b && !c.down && !f.cut[pair(a, c)] && !f.cut[pair(c, b)] {
			return true
		}
	}
	return false
}

func pair(a, b *fleetNode) [2]string {
	return [2]string{min(a.id.Name, b.id.Name), max(a.id.Name, b.id.Name)}
}

// alive are those that were heard lately.
func (n *fleetNode) alive(now time.Time) []machine.NodeID {
	var ids []machine.NodeID
	for name, at := range n.heard {
		if now.Sub(at) < deathAfter {
			ids = append(ids, n.boots[name])
		}
	}
	return ids
}

func (f *fleet) post(from *fleetNode, remote string, e *cluster.Envelope) {
	f.mu.Lock()
	to := f.nodes[remote]
	lost := to == nil || to.down || from.down || f.deaf[remote] || f.cut[pair(from, to)] || f.lost != nil && f.lost(e.GetKind())
	var take func(*cluster.Envelope)
	if to != nil {
		take = to.take
	}
	f.mu.Unlock()
	if lost || take == nil { // it is only starting
		return
	}
	time.Sleep(time.Millisecond)
	take(proto.CloneOf(e))
}

func (n *fleetNode) isDown() bool {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return n.down
}

// View is part of actors.Cluster, as all that follow.
func (n *fleetNode) View() *machine.View {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	now := time.Now()
	n.lease.Alive(n.alive(now), now)
	v := &machine.View{Self: n.id, Required: n.lease.Required(now), Informed: n.lease.Informed(now)}
	v.Size, v.Majority = n.lease.Majority()
	era, until := n.lease.Until(now)
	v.Era, v.Leased, v.Minority = era, until.After(now) || n.f.keep, !until.After(now)
	v.Members = []machine.Member{{NodeID: n.id, Remote: n.id.Name, Weight: n.ours.Weight, Hash: n.ours.Hash, Pins: n.ours.Pins, Draining: n.ours.Draining}}
	for _, id := range n.alive(now) {
		a := n.known[id.Name]
		v.Members = append(v.Members, machine.Member{NodeID: id, Remote: id.Name, Weight: a.Weight, Hash: a.Hash, Pins: a.Pins, Draining: a.Draining, Held: a.Held})
	}
	slices.SortFunc(v.Members, func(a, b machine.Member) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func (n *fleetNode) Holds(era uint64) bool {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	now := time.Now()
	current, until := n.lease.Until(now)
	return !n.down && era == current && (until.After(now) || n.f.keep)
}

func (n *fleetNode) Minority() bool {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	now := time.Now()
	_, until := n.lease.Until(now)
	return !until.After(now)
}

func (n *fleetNode) Asked(by machine.NodeID) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.lease.Asked(by, time.Now())
}

func (n *fleetNode) Announce(a machine.Announcement) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.ours = a
}

// kill ends a node as kill -9 does, as far as others can see.
func (n *fleetNode) kill() {
	n.f.mu.Lock()
	n.down = true
	n.f.mu.Unlock()
	n.gone()
	n.w.stop()
}

// stop ends a node in order.
func (n *fleetNode) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = n.w.sys.HandOver(ctx) // the last one has nobody to hand over to
	n.f.mu.Lock()
	now := time.Now()
	n.lease.GiveUp(now)
	for _, other := range n.f.nodes {
		if other != n {
			other.lease.Left(n.id, now)
			delete(other.heard, n.id.Name)
		}
	}
	n.down = true
	n.f.mu.Unlock()
	n.gone()
	n.w.stop()
}

// isolate cuts a node off from all others, or ends that.
func (f *fleet) isolate(name string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.nodes {
		f.cut[pair(f.nodes[name], other)] = cut
	}
}

func (f *fleet) sorted() []*fleetNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sortedLocked()
}

func (f *fleet) sortedLocked() []*fleetNode {
	var list []*fleetNode
	for _, n := range f.nodes {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *fleetNode) int { return cmp.Compare(a.id.Name, b.id.Name) })
	return list
}

// since returns the runs of each agent's check after a moment, by agent/check.
func (f *fleet) since(at time.Time) map[string][]fleetRun {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string][]fleetRun)
	for _, r := range f.runs {
		if r.at.After(at) {
			all[r.agent+"/"+r.check] = append(all[r.agent+"/"+r.check], r)
		}
	}
	return all
}

// wantSteady asserts that since a moment each of n checks was run each second, but for gaps of at most gap, and never twice within half a second.
func (f *fleet) wantSteady(what string, at time.Time, n int, gap time.Duration) {
	f.t.Helper()
	f.wantRuns(what, at, n, gap, time.Second/2)
}

// wantTakeOver is wantSteady where agents are taken over from a node that may have polled them just before: they are run at once, and
// not by that one again.
func (f *fleet) wantTakeOver(what string, at time.Time, n int, gap time.Duration) (longest time.Duration) {
	f.t.Helper()
	return f.wantRuns(what, at, n, gap, 0)
}

func (f *fleet) wantRuns(what string, at time.Time, n int, gap, least time.Duration) (longest time.Duration) {
	f.t.Helper()
	now := time.Now()
	all := f.since(at)
	if len(all) != n {
		f.t.Errorf("%s: %d checks were run, want %d", what, len(all), n)
	}
	for name, runs := range all {
		last, polled := at, make(map[string]bool)
		for i, r := range runs {
			d := r.at.Sub(last)
			longest = max(longest, d)
			if d > gap || i > 0 && d < least {
				f.t.Errorf("%s: %s was run %v after the last time (%v before now), by %s", what, name, d, now.Sub(r.at), r.node)
			}
			if least == 0 && i > 0 && r.node != runs[i-1].node && polled[r.node] {
				f.t.Errorf("%s: %s was run by %s, by %s, and by %[3]s again", what, name, r.node, runs[i-1].node)
			}
			last, polled[r.node] = r.at, true
		}
		if d := now.Sub(last); d > gap {
			f.t.Errorf("%s: %s was not run for the last %v", what, name, d)
		}
	}
	return longest
}

// held returns how many agents each node polls now.
func (f *fleet) held() map[string]int {
	held := make(map[string]int)
	for _, n := range f.sorted() {
		if n.down {
			continue
		}
		share, err := n.w.sys.Share(context.Background())
		if err != nil {
			f.t.Fatal(err)
		}
		held[n.id.Name] = share.Held
	}
	return held
}
