package actors_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

const (
	kindAsk    = 1
	kindPassed = 7
	kindPins   = 8
)

// move has a node have agents moved.
func (n *fleetNode) move(node string, agents ...string) {
	n.f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.w.sys.Move(ctx, agents, node); err != nil {
		n.f.t.Fatalf("%s has %v moved to %q: %v", n.id.Name, agents, node, err)
	}
}

// pinned is what a node says of agents that were moved.
func (n *fleetNode) pinned() map[string]string {
	n.f.t.Helper()
	share, err := n.w.sys.Share(context.Background())
	if err != nil {
		n.f.t.Fatal(err)
	}
	return share.Pinned
}

// homes returns the node that has polled each agent lately.
func (f *fleet) homes() map[string]string {
	homes := make(map[string]string)
	for name, runs := range f.since(time.Now().Add(-1500 * time.Millisecond)) {
		agent, _, _ := strings.Cut(name, "/")
		homes[agent] = runs[len(runs)-1].node
	}
	return homes
}

// wantAt asserts that agents are polled by a node.
func (f *fleet) wantAt(what, node string, agents []string) {
	f.t.Helper()
	homes := f.homes()
	for _, agent := range agents {
		if homes[agent] != node {
			f.t.Errorf("%s: %s is polled by %q, want by %s", what, agent, homes[agent], node)
		}
	}
}

// names are those of some of the fleet's agents.
func (f *fleet) names(from, to int) []string {
	var names []string
	for _, a := range f.cfg.Agents[from:to] {
		names = append(names, a.Name)
	}
	return names
}

// Agents that people move go to where they are to be, and stay as long as that node is there, whoever else comes and goes; nothing else moves, and
// none of their runs is missed or doubled.
func TestClusterMovesAgents(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		before := f.homes()
		moved := f.names(0, 20)
		want := make(map[string]string)
		for _, agent := range moved {
			want[agent] = "c"
		}
		wantPinned := func(what string) {
			t.Helper()
			for _, n := range f.sorted() {
				if diff := cmp.Diff(want, n.pinned()); diff != "" {
					t.Errorf("%s: of agents that are moved %s says (-want +got):\n%s", what, n.id.Name, diff)
				}
			}
		}

		at := time.Now()
		f.nodes["a"].move("c", moved...)
		time.Sleep(4 * time.Second)
		f.wantSteady("agents are moved", at.Add(-time.Second), 60, aTouch)
		f.wantAt("agents are moved", "c", moved)
		for agent, home := range f.homes() {
			if !slices.Contains(moved, agent) && home != before[agent] {
				t.Errorf("%s, which nobody moved, went from %s to %s", agent, before[agent], home)
			}
		}
		wantPinned("agents are moved")

		at = time.Now()
		f.nodes["a"].kill()
		time.Sleep(5 * time.Second)
		f.wantTakeOver("the node where they were moved dies", at.Add(-time.Second), 60, 3*time.Second)
		f.wantAt("the node where they were moved dies", "c", moved)
		f.start("a")
		time.Sleep(10 * time.Second)
		f.wantAt("it is back", "c", moved)
		wantPinned("it is back")

		at = time.Now()
		f.nodes["c"].kill()
		time.Sleep(5 * time.Second)
		f.wantTakeOver("the node to which they were moved dies", at.Add(-time.Second), 60, 3*time.Second)
		at = time.Now()
		f.start("c")
		time.Sleep(15 * time.Second)
		f.wantSteady("it is back, too", at.Add(-time.Second), 60, aTouch)
		f.wantAt("it is back, too", "c", moved)
		wantPinned("it is back, too")

		at = time.Now()
		f.nodes["c"].stop()
		f.start("c")
		time.Sleep(15 * time.Second)
		f.wantSteady("it was restarted in order", at.Add(-time.Second), 60, aTouch)
		f.wantAt("it was restarted in order", "c", moved)

		at = time.Now()
		f.nodes["b"].move("", moved...)
		time.Sleep(4 * time.Second)
		f.wantSteady("agents are moved back", at.Add(-time.Second), 60, aTouch)
		if diff := cmp.Diff(before, f.homes()); diff != "" {
			t.Errorf("before agents were moved, and after they were moved back (-before +after):\n%s", diff)
		}
		clear(want)
		wantPinned("agents are moved back")
	})
}

// Whoever has an agent moved need not wait for it.
func TestClusterMovesAgentsAtOnce(t *testing.T) {
	runFleet(t, 6, func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		for range 5 {
			for _, node := range []string{"c", "a", "b"} {
				soon := 60 * time.Millisecond
				if node == "b" {
					soon += 250 * time.Millisecond // it may ask for them before the others know, and then asks again
				}
				f.nodes["b"].move(node, f.names(0, 6)...)
				time.Sleep(soon)
				if held := f.held(); held[node] != 6 {
					t.Errorf("all is moved to %s, and %v later the nodes poll %v", node, soon, held)
				}
				time.Sleep(1130 * time.Millisecond)
			}
		}
	})
}

// Agents that are moved again and again, from wherever, are in the end where they were to be last; and none is missed or doubled. Where two of five
// messages are lost it takes longer, and agents may wait meanwhile.
func TestClusterMovesAgentsAgainAndAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		lost float64
		gap  time.Duration
	}{{"all is heard", 0, aTouch}, {"much is lost", .4, 10 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			runFleet(t, 30, func(f *fleet) {
				chance := rand.New(rand.NewPCG(1, 2))
				for _, name := range []string{"a", "b", "c"} {
					f.start(name)
				}
				time.Sleep(10 * time.Second)
				f.mu.Lock()
				f.lost = func(uint32) bool { return rand.Float64() < tt.lost }
				f.mu.Unlock()
				at := time.Now()
				all := f.names(0, 30)
				for i := range 20 {
					by, to := f.sorted()[i%3], f.sorted()[chance.IntN(3)].id.Name
					by.move(to, all...)
					time.Sleep(time.Duration(chance.IntN(1000)) * time.Millisecond)
				}
				f.nodes["b"].move("a", all...)
				time.Sleep(12 * time.Second)
				f.wantSteady("agents are moved", at, 30, tt.gap)
				f.wantAt("agents are moved", "a", all)
				for _, n := range f.sorted() {
					if doubled := seen[actors.Doubled](n.w); len(doubled) > 0 && tt.lost == 0 { // else one may have kept for long what is said to be so
						t.Errorf("%s says that agents were polled twice: %v", n.id.Name, doubled)
					}
				}
			})
		})
	}
}

// Of what is said on the two sides of a split what was said last counts, when they hear each other again.
func TestClusterMovesAgentsOnBothSides(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		cfg := settings(20, 1, time.Second, 800*time.Millisecond)
		cfg.Cluster.Weight = 1
		f := newFleet(t, cfg, 4)
		f.keep = true
		for _, name := range []string{"a", "b", "c", "d"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		first, second, third, fourth := f.names(0, 5), f.names(5, 10), f.names(10, 15), f.names(15, 20)
		f.nodes["a"].move("d", fourth...)
		time.Sleep(2 * time.Second)
		split := func(is bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, here := range []string{"a", "b"} {
				for _, there := range []string{"c", "d"} {
					f.cut[pair(f.nodes[here], f.nodes[there])] = is
				}
			}
		}
		split(true)
		time.Sleep(4 * time.Second)
		f.nodes["a"].move("b", first...)
		f.nodes["d"].move("d", second...)
		time.Sleep(time.Second)
		f.nodes["c"].move("c", first...)
		f.nodes["b"].move("a", second...)
		f.nodes["a"].move("b", third...)
		f.nodes["b"].move("", fourth...)
		time.Sleep(3 * time.Second)
		split(false)
		time.Sleep(12 * time.Second)
		f.wantSteady("together again", time.Now().Add(-3*time.Second), 20, aTouch)
		f.wantAt("moved on one side, and later on the other", "c", first)
		f.wantAt("the same the other way round", "a", second)
		f.wantAt("moved on one side", "b", third)
		for _, n := range f.sorted() {
			if got := n.pinned(); len(got) != 15 || !cmp.Equal(got, f.nodes["a"].pinned()) {
				t.Errorf("of agents that are moved %s says %v", n.id.Name, got)
			}
		}
		f.stop()
	})
}

// What can't be is refused, with the reason, and then nothing is moved.
func TestClusterRefusesToMove(t *testing.T) {
	runFleet(t, 12, func(f *fleet) {
		f.start("a")
		f.start("b", func(cfg *config.Config) { cfg.Agents = cfg.Agents[:10] })
		f.start("c", func(cfg *config.Config) { cfg.Cluster.Weight = 0 })
		time.Sleep(10 * time.Second)
		ours, unknown := f.cfg.Agents[0].Name, f.cfg.Agents[11].Name
		for _, tt := range []struct{ asked, agent, node, want string }{
			{"a", "zz", "b", "there is no agent zz in the configuration of node a"},
			{"a", "zz", "", "there is no agent zz in the configuration of node a"},
			{"b", unknown, "a", "there is no agent " + unknown + " in the configuration of node b"},
			{"a", ours, "d", "there is no node d in the cluster that is alive"},
			{"a", unknown, "b", "node b is not configured with agent " + unknown},
			{"a", ours, "c", "node c takes no agents: its weight is 0"},
		} {
			err := f.nodes[tt.asked].w.sys.Move(context.Background(), []string{ours, tt.agent}, tt.node)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s is to have %s moved to %q: %v; want %q", tt.asked, tt.agent, tt.node, err, tt.want)
			}
		}
		if err := f.nodes["a"].w.sys.Move(context.Background(), nil, "a"); err == nil {
			t.Error("nothing is moved, and nobody says so")
		}
		for _, n := range f.sorted() {
			if got := n.pinned(); len(got) > 0 {
				t.Errorf("nothing may be moved, and %s says %v", n.id.Name, got)
			}
		}
		f.nodes["a"].move("a", unknown)
		time.Sleep(2 * time.Second)
		if err := f.nodes["b"].w.sys.Move(context.Background(), []string{unknown}, "a"); err == nil || len(f.nodes["b"].pinned()) != 1 {
			t.Errorf("b is to have %s moved, which it knows from a alone: %v", unknown, err)
		}
		f.nodes["b"].move("", unknown) // who moves it back need not have it
		time.Sleep(2 * time.Second)
		for _, n := range f.sorted() {
			if got := n.pinned(); len(got) > 0 {
				t.Errorf("all is moved back, and %s says %v", n.id.Name, got)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		handed := make(chan error, 1)
		f.mu.Lock()
		f.lost = func(uint32) bool { return true }
		f.mu.Unlock()
		go func() { handed <- f.nodes["b"].w.sys.HandOver(ctx) }()
		time.Sleep(time.Second)
		if err := f.nodes["a"].w.sys.Move(context.Background(), []string{ours}, "b"); err == nil || !strings.Contains(err.Error(), "node b takes no agents: it hands over all it has") {
			t.Errorf("a is to have %s moved to b, which drains: %v", ours, err)
		}
		f.mu.Lock()
		f.lost = nil
		f.mu.Unlock()
		if err := <-handed; err != nil {
			t.Error(err)
		}
		cancel()
	})
}

// A poller that is no node has no other to which it could move anything.
func TestMoveWithoutCluster(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, settings(1, 1, time.Second, 800*time.Millisecond))
		w.start()
		if err := w.sys.Move(context.Background(), []string{"a000"}, "b"); err == nil || !strings.Contains(err.Error(), "this poller is in no cluster") {
			t.Errorf("it says %v", err)
		}
		w.stop()
		time.Sleep(2 * time.Second)
	})
}

// A node that hears nothing is told what is moved less and less often, one of a version that knows nothing of that never, and one that knows it already
// not again.
func TestClusterTellsPinsSeldom(t *testing.T) {
	runFleet(t, 12, func(f *fleet) {
		told := make(map[string]int)
		f.prepare = func(n *fleetNode) {
			post := n.w.o.Sharing.Post
			n.w.o.Sharing.Post = func(remote string, e *cluster.Envelope) {
				f.mu.Lock()
				pins := e.GetKind() == kindPins
				if pins && n.id.Name != "c" {
					told[remote]++
				}
				f.mu.Unlock()
				if !pins || n.id.Name != "c" { // it is as it would be if it were older
					post(remote, e)
				}
			}
			if n.id.Name == "c" {
				n.w.o.Sharing.Cluster = older{n}
			}
		}
		count := func(node string) int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return told[node]
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		for _, name := range []string{"a", "b", "c"} {
			if n := count(name); n > 0 {
				t.Errorf("nothing is moved, and %s was told so %d times", name, n)
			}
		}
		f.nodes["a"].move("a", f.names(0, 6)...)
		time.Sleep(5 * time.Second)
		if n := count("b"); n != 1 {
			t.Errorf("b was told %d times what is moved, want once", n)
		}
		f.mu.Lock()
		f.deaf = map[string]bool{"b": true}
		f.mu.Unlock()
		f.nodes["a"].move("a", f.names(6, 12)...)
		time.Sleep(30 * time.Second)
		if n := count("b"); n < 9 || n > 11 {
			t.Errorf("b, which hears nothing, was told %d times in 30 s what is moved, want about ten", n)
		}
		if err := f.nodes["a"].w.sys.Move(context.Background(), f.names(0, 1), "c"); err == nil || !strings.Contains(err.Error(), "its version knows nothing of that") {
			t.Errorf("an agent is to be moved to c, which knows nothing of that: %v", err)
		}
		before := count("b")
		f.nodes["a"].move("b", f.names(0, 1)...)
		time.Sleep(50 * time.Millisecond)
		if n := count("b") - before; n != 1 {
			t.Errorf("there is something new, and b was told %d times, want once", n)
		}
		f.mu.Lock()
		f.deaf = nil
		f.mu.Unlock()
		time.Sleep(6 * time.Second)
		if got := f.nodes["b"].pinned(); len(got) != 12 {
			t.Errorf("b hears again, and knows of %v", got)
		}
		if n := count("c"); n > 0 {
			t.Errorf("c, which knows nothing of agents that are moved, was told %d times", n)
		}
	})
}

// older is the cluster of a node whose version knows nothing of pins, as far as others can see.
type older struct{ *fleetNode }

func (o older) Announce(a machine.Announcement) {
	a.Pins = ""
	o.fleetNode.Announce(a)
}

// People are told of what is moved at each node, and by whom it was told.
func TestClusterTellsWhatPeopleMove(t *testing.T) {
	runFleet(t, 6, func(f *fleet) {
		f.start("a")
		f.start("b")
		time.Sleep(6 * time.Second)
		f.nodes["b"].move("a", "a003", "a001", "a003")
		time.Sleep(2 * time.Second)
		f.nodes["b"].move("a", "a003") // which is no news
		time.Sleep(2 * time.Second)
		f.nodes["a"].move("", "a001")
		time.Sleep(2 * time.Second)
		both, one, back := []string{"a001", "a003"}, []string{"a003"}, []string{"a001"}
		want := map[string][]actors.Pinned{
			"a": {{Agents: both, Node: "a", By: "b"}, {Agents: back}},
			"b": {{Agents: both, Node: "a"}, {Agents: one, Node: "a"}, {Agents: back, By: "a"}},
		}
		for name, want := range want {
			if diff := cmp.Diff(want, seen[actors.Pinned](f.nodes[name].w)); diff != "" {
				t.Errorf("%s told (-want +got):\n%s", name, diff)
			}
		}
	})
}

// saysWhatCame tells of an envelope, or of one in it that is to be passed on, whether it says that agents came that were handed over.
func saysWhatCame(e *cluster.Envelope) bool {
	passed, ask := new(cluster.Passed), new(cluster.Ask)
	switch e.GetKind() {
	case kindPassed:
		return proto.Unmarshal(e.GetBody(), passed) == nil && saysWhatCame(passed.GetEnvelope())
	case kindAsk:
		return proto.Unmarshal(e.GetBody(), ask) == nil && len(ask.GetTaken()) > 0
	}
	return false
}

// What a node knows of an agent that it has polled itself is newer than what one before it has kept, because it never heard that it had come: results go on
// where they were, and nobody is said to have polled the agent, too.
func TestClusterKnowsWhatIsNewer(t *testing.T) {
	runFleet(t, 12, func(f *fleet) {
		f.prepare = func(n *fleetNode) {
			post := n.w.o.Sharing.Post
			n.w.o.Sharing.Post = func(remote string, e *cluster.Envelope) {
				if !saysWhatCame(e) {
					post(remote, e)
				}
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		all := f.names(0, 12)
		f.nodes["a"].move("c", all...)
		time.Sleep(5 * time.Second)
		f.nodes["a"].move("a", all...)
		time.Sleep(5 * time.Second)
		at := time.Now()
		f.mu.Lock()
		f.deaf = map[string]bool{"b": true}
		f.mu.Unlock()
		f.nodes["b"].move("b", all...)
		time.Sleep(1500 * time.Millisecond)
		if held := f.held(); held["a"] > 0 || held["b"] > 0 {
			t.Fatalf("the nodes poll %v, want none: b has not heard that they are its own", held)
		}
		f.mu.Lock()
		f.deaf = nil
		f.mu.Unlock()
		f.nodes["a"].move("a", all...)
		time.Sleep(4 * time.Second)
		f.wantAt("moved back before it had come", "a", all)
		for name, runs := range f.since(at.Add(-2 * time.Second)) {
			for i, r := range runs[1:] {
				if strings.HasSuffix(name, "/results") && r.last <= runs[i].last {
					t.Errorf("%s was asked from %s, and then from %s", name, runs[i].last, r.last)
				}
			}
		}
		for _, n := range f.sorted() {
			if doubled := seen[actors.Doubled](n.w); len(doubled) > 0 {
				t.Errorf("%s says that agents were polled twice: %v", n.id.Name, doubled)
			}
		}
	}, func(cfg *config.Config) {
		for _, a := range cfg.Agents {
			a.Checks = append(a.Checks, check.Check{Name: "results", Type: "sweep", Method: check.GetResults, Interval: time.Second, Timeout: 500 * time.Millisecond})
		}
	})
}
