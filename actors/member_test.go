package actors_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// inBubble runs a test in a bubble.
func inBubble(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

const aTouch = 1100 * time.Millisecond // between two runs of a check that runs each second

// Agents go to whoever starts, joins, and stays, and none of their runs is missed or doubled.
func TestClusterMoves(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		f.start("a")
		time.Sleep(3 * time.Second)
		if runs := f.since(time.Time{}); len(runs) > 0 {
			t.Fatalf("one of three polls %d checks, want none: it has no majority", len(runs))
		}
		f.start("b")
		time.Sleep(6 * time.Second)
		at := time.Now()
		f.wantSteady("two start", at.Add(-2*time.Second), 60, aTouch)
		f.start("c")
		time.Sleep(10 * time.Second)
		f.wantSteady("a third joins", at.Add(-time.Second), 60, aTouch)
		if held := f.held(); held["a"] != 20 || held["b"] != 20 || held["c"] != 20 {
			t.Errorf("the nodes poll %v, want 20 each", held)
		}
		at = time.Now()
		if err := f.nodes["b"].w.sys.HandOver(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(at); took > time.Second {
			t.Errorf("b waited %v for its agents to come elsewhere", took)
		}
		f.nodes["b"].stop()
		if held := f.held(); held["a"]+held["c"] != 60 {
			t.Errorf("after b has handed over, the nodes poll %v", held)
		}
		time.Sleep(3 * time.Second)
		f.wantSteady("one leaves", at.Add(-time.Second), 60, aTouch)
	})
}

// The agents of a node that dies are polled elsewhere, and go back when it returns.
func TestClusterDeath(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		f.start("a")
		f.start("b")
		f.start("c")
		time.Sleep(8 * time.Second)
		for range 3 {
			at := time.Now()
			f.nodes["b"].kill()
			time.Sleep(5 * time.Second)
			longest := f.wantTakeOver("one dies", at.Add(-time.Second), 60, 3*time.Second)
			t.Logf("b dies: the longest gap is %v", longest)
			at = time.Now()
			f.start("b")
			time.Sleep(15 * time.Second)
			f.wantSteady("it returns", at.Add(-time.Second), 60, aTouch)
		}
	})
}

// A node that is cut off polls nothing, and the others poll all; when it is back, agents move as usual.
func TestClusterPartition(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		f.start("a")
		f.start("b")
		f.start("c")
		time.Sleep(8 * time.Second)
		for _, victim := range []string{"a", "c"} {
			at := time.Now()
			f.isolate(victim, true)
			time.Sleep(6 * time.Second)
			f.wantTakeOver("one is cut off", at.Add(-time.Second), 60, 3500*time.Millisecond)
			if held := f.held(); held[victim] != 0 {
				t.Errorf("%s is cut off, and the nodes poll %v", victim, held)
			}
			at = time.Now()
			f.isolate(victim, false)
			time.Sleep(15 * time.Second)
			f.wantSteady("it is back", at.Add(-time.Second), 60, aTouch)
			if held := f.held(); held[victim] == 0 {
				t.Errorf("%s is back, and the nodes poll %v", victim, held)
			}
		}
		for _, n := range f.sorted() {
			if doubled := seen[actors.Doubled](n.w); len(doubled) > 0 {
				t.Errorf("%s says that agents were polled twice: %v", n.id.Name, doubled)
			}
		}
	})
}

// Whatever is lost of what members say to each other, nothing is missed or doubled, but moves take longer.
func TestClusterLosesMessages(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		chance := rand.New(rand.NewPCG(1, 2))
		f.lost = func(uint32) bool { return chance.IntN(3) == 0 }
		f.start("a")
		f.start("b")
		time.Sleep(10 * time.Second)
		f.wantSteady("two start", time.Now().Add(-2*time.Second), 30, aTouch)
		at := time.Now()
		f.start("c")
		time.Sleep(10 * time.Second)
		f.nodes["a"].stop()
		time.Sleep(5 * time.Second)
		f.wantSteady("one joins, another leaves", at, 30, aTouch+2*time.Second)
	})
}

// What is known of an agent moves with it: where its results stand, what is being confirmed, and its breaker.
func TestClusterHandsOver(t *testing.T) {
	runFleet(t, 12, func(f *fleet) {
		f.start("a")
		f.start("b")
		time.Sleep(8 * time.Second)
		down := f.cfg.Agents[0].Name
		for _, n := range f.sorted() {
			n.w.checkers[down].set(func(c *checker) { c.ask, c.health = refuse, gone })
		}
		time.Sleep(8 * time.Second)
		at := time.Now()
		f.start("c")
		time.Sleep(6 * time.Second)
		f.nodes["a"].stop()
		f.start("a")
		time.Sleep(6 * time.Second)
		f.nodes["b"].stop()
		time.Sleep(3 * time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		last := make(map[string]string)
		moves := 0
		by := make(map[string]string)
		for _, r := range f.runs {
			if r.check != "results" {
				continue
			}
			if r.last != last[r.agent] {
				t.Errorf("at %v %s asks for results of %s from %q, want from %q", r.at.Sub(at), r.node, r.agent, r.last, last[r.agent])
			}
			if by[r.agent] != "" && by[r.agent] != r.node {
				moves++
			}
			by[r.agent] = r.node
			n := 0
			_, _ = fmt.Sscan(r.last, &n)
			last[r.agent] = fmt.Sprint(n + 1)
		}
		if moves < 5 {
			t.Errorf("results moved %d times, want more to see it", moves)
		}
		for _, n := range f.nodes {
			for _, e := range seen[actors.ChecksChanged](n.w) {
				if e.Agent == down && e.Changes[0].Reason != check.Unreachable {
					t.Errorf("of the agent that is down %s tells %+v", n.id.Name, e)
				}
			}
			if opened := seen[actors.BreakerChanged](n.w); n.id.Name == "c" && len(opened) > 0 && !strings.HasPrefix(opened[0].Cause, "as the node found") {
				t.Errorf("c found itself that the checker is down: %+v", opened)
			}
		}
	}, func(cfg *config.Config) {
		for _, a := range cfg.Agents {
			a.Checks = append(a.Checks, check.Check{Name: "results", Type: "sweep", Method: check.GetResults, Interval: time.Second, Timeout: 500 * time.Millisecond})
		}
	})
}

// Without a majority a node that is to keep on does, and says so; when it hears the others again one of them hands over.
func TestClusterKeeps(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		cfg := settings(20, 1, time.Second, 800*time.Millisecond)
		cfg.Cluster.Weight = 1
		f := newFleet(t, cfg, 2)
		f.keep = true
		f.start("a")
		time.Sleep(4 * time.Second)
		f.wantSteady("one of two is alone", time.Now().Add(-2*time.Second), 20, aTouch)
		f.start("b")
		time.Sleep(8 * time.Second)
		f.wantSteady("both", time.Now().Add(-3*time.Second), 20, aTouch)
		if held := f.held(); held["a"] != 10 || held["b"] != 10 {
			t.Errorf("the nodes poll %v, want 10 each", held)
		}
		at := time.Now()
		f.isolate("a", true)
		time.Sleep(5 * time.Second)
		if held := f.held(); held["a"] != 20 || held["b"] != 20 {
			t.Errorf("cut off from each other, the nodes poll %v, want 20 each", held)
		}
		for _, n := range f.sorted() {
			for _, d := range n.w.core.all() {
				for _, st := range d.req.GetServices() {
					minority := bytes.Contains(st.GetMessage(), []byte(`"minority":true`))
					if age := d.at.Sub(at); minority && age > 0 && age < time.Second || !minority && age > 4*time.Second {
						t.Errorf("%v after the cut %s reports %s", age, n.id.Name, st.GetMessage())
					}
				}
			}
		}
		f.isolate("a", false)
		time.Sleep(12 * time.Second)
		f.wantSteady("together again", time.Now().Add(-3*time.Second), 20, aTouch)
		if held := f.held(); held["a"] != 10 || held["b"] != 10 {
			t.Errorf("together again, the nodes poll %v, want 10 each", held)
		}
		f.stop()
	})
}

// A node that kept on while the others did, too, hears from them how often.
func TestClusterSeesDoubles(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		cfg := settings(30, 1, time.Second, 800*time.Millisecond)
		cfg.Cluster.Weight = 1
		f := newFleet(t, cfg, 3)
		f.keep = true
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		f.isolate("a", true)
		time.Sleep(10 * time.Second)
		f.isolate("a", false)
		time.Sleep(10 * time.Second)
		doubled := seen[actors.Doubled](f.nodes["a"].w)
		if len(doubled) < 5 {
			t.Errorf("a says that %d agents were polled twice, want about ten", len(doubled))
		}
		for _, e := range doubled {
			if e.Runs < 6 || e.Runs > 10 {
				t.Errorf("a was cut off for 10 s, and says %+v", e)
			}
		}
		f.stop()
	})
}

// An agent that only some nodes know is polled by one of those, also when the configuration changes.
func TestClusterConfigurationsDiffer(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		without := func(cfg *config.Config) { cfg.Agents = cfg.Agents[:20] }
		f.start("a", without)
		f.start("b")
		f.start("c", without)
		time.Sleep(10 * time.Second)
		at := time.Now()
		time.Sleep(4 * time.Second)
		f.wantSteady("only b knows all", at, 30, aTouch)
		for name, runs := range f.since(at) {
			for _, r := range runs {
				if name >= "a020" && r.node != "b" {
					t.Errorf("%s, which only b knows, is polled by %s", name, r.node)
				}
			}
		}
		if held := f.held(); held["b"] < 10 || held["a"] == 0 || held["c"] == 0 {
			t.Errorf("the nodes poll %v", held)
		}
	})
}

// An order that is no text gets there as one, and harms nobody on the way.
func TestClusterOrderThatIsNoText(t *testing.T) {
	runFleet(t, 3, func(f *fleet) {
		f.start("a")
		f.start("b")
		time.Sleep(3 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := f.nodes["a"].w.sys.Order(ctx, "b", "\xff"); err != nil {
			t.Errorf("b obeys anything, and a says %v", err)
		}
		for _, n := range f.sorted() {
			if failed := seen[actors.ActorFailed](n.w); len(failed) > 0 {
				t.Errorf("at %s actors failed: %+v", n.id.Name, failed)
			}
		}
	})
}

// A node that leaves need not wait for a word that was lost: that its agents have come is said more than once.
func TestClusterLeavesThoughThanksAreLost(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		const kindAsk = 1
		var deaf time.Time // until when asks are lost
		f.lost = func(kind uint32) bool { return kind == kindAsk && time.Now().Before(deaf) }
		f.prepare = func(n *fleetNode) {
			n.w.hook = func(e actors.Event) {
				if _, given := e.(actors.HandedOver); given {
					f.mu.Lock()
					deaf = time.Now().Add(600 * time.Millisecond)
					f.mu.Unlock()
				}
			}
		}
		f.start("a")
		f.start("b")
		f.start("c")
		time.Sleep(15 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		if err := f.nodes["b"].w.sys.HandOver(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Results that take most of their interval do not keep an agent where it is for ever.
func TestClusterMovesBusyResults(t *testing.T) {
	runFleet(t, 12, func(f *fleet) {
		f.prepare = func(n *fleetNode) {
			for _, c := range n.w.checkers {
				at := c.results
				c.results = func(ctx context.Context, chk *check.Check, last string) (check.Answer, error) {
					time.Sleep(700 * time.Millisecond)
					return at(ctx, chk, last)
				}
			}
		}
		f.start("a")
		f.start("b")
		time.Sleep(8 * time.Second)
		f.start("c")
		time.Sleep(15 * time.Second)
		if held := f.held(); held["c"] != 4 {
			t.Errorf("the nodes poll %v, want 4 each", held)
		}
	}, func(cfg *config.Config) {
		for _, a := range cfg.Agents {
			a.Checks = append(a.Checks, check.Check{Name: "results", Type: "sweep", Method: check.GetResults, Interval: time.Second, Timeout: 900 * time.Millisecond})
		}
	})
}

// lookedAt counts how often a member looks at what is known of its cluster.
type lookedAt struct {
	actors.Cluster
	views atomic.Int64
}

func (l *lookedAt) View() *machine.View {
	l.views.Add(1)
	return l.Cluster.View()
}

// However much others have to say, a member comes to look at what it has come to.
func TestClusterLooksWhileOthersTalk(t *testing.T) {
	runFleet(t, 3, func(f *fleet) {
		looked := new(lookedAt)
		f.prepare = func(n *fleetNode) {
			looked.Cluster = n
			n.w.o.Sharing.Cluster = looked
		}
		a := f.start("a")
		time.Sleep(time.Second)
		body, err := proto.Marshal(&cluster.Names{From: &cluster.Node{Name: "b", Boot: "1"}})
		if err != nil {
			t.Fatal(err)
		}
		before := looked.views.Load()
		const talks = time.Second
		for at := time.Duration(0); at < talks; at += 4 * time.Millisecond {
			a.take(&cluster.Envelope{Kind: 4, Version: 1, Body: body})
			time.Sleep(4 * time.Millisecond)
		}
		if n, least := looked.views.Load()-before, int64(talks/(10*time.Millisecond)); n < least {
			t.Errorf("member looked %d times in %v, want %d at least", n, talks, least)
		}
	})
}
