package actors_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/proto/cluster"
)

// What is made up for of orphans, whose owner has died, is what is configured by then.
func TestClusterReloadsOrphans(t *testing.T) {
	runFleet(t, 60, func(f *fleet) {
		var reloaded atomic.Pointer[time.Time] // when a's next cycle has the new configuration
		adopted := make(chan struct{})
		f.prepare = func(n *fleetNode) {
			n.w.hook = func(e actors.Event) {
				if e, is := e.(actors.Adopted); is && n.id.Name == "a" && f.nodes["b"].isDown() && len(e.Agents) > 5 {
					close(adopted)
				}
			}
			for _, c := range n.w.checkers {
				ask := c.ask
				c.ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
					at := reloaded.Load()
					if n.id.Name == "a" && at != nil && time.Now().After(*at) && chk.Details == "" {
						f.t.Errorf("%v after the reload %s, which is as it was before, is asked", time.Since(*at), chk.Name)
					}
					return ask(ctx, chk)
				}
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(60 * time.Second)
		time.Sleep(20*time.Second - time.Since(f.epoch)%(20*time.Second) + 3*time.Second) // after the turns of a cycle
		at := time.Now()
		f.nodes["b"].kill()
		<-adopted
		time.Sleep(50 * time.Millisecond) // some are made up for
		a := f.nodes["a"]
		cfg := *a.w.o.Config
		cfg.Agents = nil
		for _, agent := range a.w.o.Config.Agents {
			cfg.Agents = append(cfg.Agents, changed(agent, func(agent *check.Agent) {
				agent.Checks = agent.Checks[:1]
				agent.Checks[0].Details = "new"
			}))
		}
		a.conf.next.Store(&actors.Settings{Config: &cfg, Identity: a.w.o.Identity})
		if err := a.w.sys.Reload(context.Background()); err != nil {
			f.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		now := time.Now()
		reloaded.Store(&now)
		time.Sleep(8 * time.Second) // not to the next cycle
		made := 0
		for name, runs := range f.since(at) {
			if made++; len(runs) > 1 || runs[0].node == "a" && strings.HasSuffix(name, "/c1") && runs[0].at.After(now) {
				f.t.Errorf("%s was made up for: %v", name, runs)
			}
		}
		if made < 20 {
			f.t.Errorf("%d checks were made up for", made)
		}
	}, func(cfg *config.Config) {
		cfg.Poll.Interval, cfg.Poll.Rate = 20*time.Second, 50
		for _, a := range cfg.Agents {
			a.Checks[0].Details, a.Checks[0].Interval = "", 20*time.Second
			second := a.Checks[0]
			second.Name = "c1"
			a.Checks = append(a.Checks, second)
		}
	})
}

// An agent that comes back to a node which had lost its lease, and where its actor still is, has the breaker of the node that polled it meanwhile.
func TestClusterBreakerComesBack(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(12 * time.Second)
		agent, a := "", f.nodes["a"]
		for _, runs := range f.since(time.Now().Add(-1500 * time.Millisecond)) {
			if runs[0].node == "a" && runs[0].agent > agent {
				agent = runs[0].agent
			}
		}
		f.isolate("a", true)
		time.Sleep(leaseTerm - 100*time.Millisecond) // after a has run it last
		for _, n := range f.sorted() {
			n.w.checkers[agent].set(func(c *checker) { c.ask, c.health = refuse, gone })
		}
		time.Sleep(1500 * time.Millisecond) // not so long that a wants it no more
		asked, adopted := a.w.checkers[agent].calls(), len(seen[actors.Adopted](a.w))
		f.isolate("a", false)
		time.Sleep(15 * time.Second)
		if n := a.w.checkers[agent].calls() - asked; n > 0 {
			t.Errorf("a asked the checker of %s, which others knew to be gone, %d times", agent, n)
		}
		back := seen[actors.Adopted](a.w)[adopted:]
		if !slices.ContainsFunc(back, func(e actors.Adopted) bool { return slices.Contains(e.Agents, agent) && e.Given == len(e.Agents) }) {
			t.Errorf("%s was not handed back to a: %v", agent, back)
		}
		opened := seen[actors.BreakerChanged](a.w)
		if len(opened) != 1 || opened[0].To != "open" || !strings.HasPrefix(opened[0].Cause, "as the node found") {
			t.Errorf("at a the breaker changed like this: %+v", opened)
		}
	}, func(cfg *config.Config) { cfg.Breaker.Failures = 1 })
}

// What a node says late of a hand-over, that it has come, is nothing to the next one of the same agents.
func TestClusterThanksComeLate(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		const kindAsk, kindAnswer = 1, 2
		var mu sync.Mutex
		var holds, loses bool // b's thanks to a, and a's first hand-over to b
		var held []*cluster.Envelope
		keeps := func(from, to string, e *cluster.Envelope) bool {
			mu.Lock()
			defer mu.Unlock()
			ask, answer := new(cluster.Ask), new(cluster.Answer)
			switch {
			case from == "b" && to == "a" && e.GetKind() == kindAsk:
				if err := proto.Unmarshal(e.GetBody(), ask); err != nil {
					t.Error(err)
				}
				if holds && len(ask.GetTaken()) > 0 {
					held = append(held, e)
					return true
				}
			case from == "a" && to == "b" && e.GetKind() == kindAnswer:
				if err := proto.Unmarshal(e.GetBody(), answer); err != nil {
					t.Error(err)
				}
				if loses && len(answer.GetGiven()) > 0 {
					loses = false
					for _, late := range held {
						f.nodes["a"].take(late)
					}
					return true
				}
			}
			return false
		}
		w := &weights{f: f}
		f.prepare = func(n *fleetNode) {
			w.prepare(n)
			post := n.w.o.Sharing.Post
			n.w.o.Sharing.Post = func(remote string, e *cluster.Envelope) {
				if !keeps(n.id.Name, remote, e) {
					post(remote, e)
				}
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(10 * time.Second)
		w.set("b", 0)
		time.Sleep(8 * time.Second)
		set := func(p *bool, to bool) {
			mu.Lock()
			defer mu.Unlock()
			*p = to
		}
		set(&holds, true)
		w.set("b", 1)
		time.Sleep(3 * time.Second)
		w.set("b", 0)
		time.Sleep(3 * time.Second)
		set(&holds, false)
		set(&loses, true)
		b := f.nodes["b"].w
		before := len(seen[actors.Adopted](b))
		w.set("b", 1)
		time.Sleep(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if loses || len(held) == 0 {
			t.Errorf("%d thanks were held back, and no hand-over lost: %v", len(held), loses)
		}
		adopted := 0
		for _, e := range seen[actors.Adopted](b)[before:] {
			adopted += len(e.Agents)
			if e.Given < len(e.Agents) {
				t.Errorf("b adopted %v, and was told of %d of them only", e.Agents, e.Given)
			}
		}
		if adopted != 10 {
			t.Errorf("b adopted %d agents, want 10", adopted)
		}
	})
}

// What an orphan has yet to make up for, by whatever interval, is made up for also when it is handed on meanwhile.
func TestClusterOrphansMoveOn(t *testing.T) {
	const every, seldom = 10 * time.Second, 5 * time.Minute
	runFleet(t, 300, func(f *fleet) {
		adopted := make(chan []string, 1)
		f.prepare = func(n *fleetNode) {
			n.w.hook = func(e actors.Event) {
				if e, is := e.(actors.Adopted); is && n.id.Name == "a" && f.nodes["b"].isDown() && len(e.Agents) > 10 {
					adopted <- e.Agents
				}
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(2*seldom - time.Since(f.epoch)%seldom + seldom/2 + every*4/5) // far from their turns
		at := time.Now()
		f.nodes["b"].kill()
		orphans := <-adopted
		if err := f.nodes["a"].w.sys.HandOver(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(every)
		all, moved := f.since(at), 0
		for _, agent := range orphans {
			runs := all[agent+"/seldom"]
			if len(runs) != 1 {
				t.Errorf("%s/seldom was run %d times after its node had died: %v", agent, len(runs), runs)
			} else if runs[0].node == "c" {
				moved++
			}
		}
		if moved < 10 {
			t.Errorf("%d of %d orphans were handed on before what they had missed was made up for, want more to see it", moved, len(orphans))
		}
	}, func(cfg *config.Config) {
		cfg.Poll.Interval, cfg.Poll.Rate = every, 100
		for _, a := range cfg.Agents {
			a.Checks[0].Interval = every
			a.Checks = append(a.Checks, a.Checks[0])
			a.Checks[1].Name, a.Checks[1].Interval = "seldom", seldom
		}
	})
}

// An agent that one node has no more goes to one that has, with what is known of it, and at its usual time.
func TestClusterRemovedHere(t *testing.T) {
	runFleet(t, 30, func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.start(name)
		}
		time.Sleep(12 * time.Second)
		at, b := time.Now(), f.nodes["b"]
		cfg := *b.w.o.Config
		cfg.Agents = nil
		if err := b.reload(&cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		f.wantSteady("b has no agents any more", at.Add(-time.Second), 60, aTouch+300*time.Millisecond) // b says first which it has
		moved := 0
		for name, runs := range f.since(time.Time{}) {
			for i, r := range runs {
				if strings.HasSuffix(name, "/results") && i > 0 && r.last == "" {
					t.Errorf("at %v %s asks for results of %s from the begin", r.at.Sub(at), r.node, r.agent)
				}
				if r.at.After(at) && i > 0 && r.node != runs[i-1].node {
					moved++
				}
			}
		}
		if moved < 10 {
			t.Errorf("%d checks were moved, want more to see it", moved)
		}
	}, func(cfg *config.Config) {
		for _, a := range cfg.Agents {
			a.Checks = append(a.Checks, check.Check{Name: "results", Type: "sweep", Method: check.GetResults, Interval: time.Second, Timeout: 500 * time.Millisecond})
		}
	})
}

// reload has a node follow another configuration.
func (n *fleetNode) reload(cfg *config.Config) error {
	n.conf.next.Store(&actors.Settings{Config: cfg, Identity: n.w.o.Identity})
	return n.w.sys.Reload(context.Background())
}
