package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
)

// changeable is what a System loads: nothing new, until a test puts something there.
type changeable struct {
	next  atomic.Pointer[actors.Settings]
	fail  atomic.Pointer[error]
	loads atomic.Int64
}

func (c *changeable) load(context.Context, *config.Config) (*actors.Settings, error) {
	c.loads.Add(1)
	if err := c.fail.Load(); err != nil {
		return nil, *err
	}
	return c.next.Swap(nil), nil
}

// runChangeable is run for a System that can load settings.
func runChangeable(t *testing.T, cfg *config.Config, test func(w *world, c *changeable)) {
	t.Helper()
	c := new(changeable)
	run(t, cfg, func(w *world) { test(w, c) }, func(o *actors.Options) { o.Load = c.load })
}

// reload puts another configuration into effect, with checkers for all its agents.
func (w *world) reload(c *changeable, cfg *config.Config, renewed ...check.TLS) {
	w.t.Helper()
	for _, a := range cfg.Agents {
		if w.checkers[a.Name] == nil {
			w.checkers[a.Name] = &checker{ask: up, health: serving, connections: func() uint64 { return 1 }}
		}
	}
	identity := w.o.Identity
	c.next.Store(&actors.Settings{Config: cfg, Identity: identity, Renewed: renewed})
	if err := w.sys.Reload(w.t.Context()); err != nil {
		w.t.Errorf("reload: %v", err)
	}
}

// with returns a configuration with some agents replaced, by name, or left out if they are nil.
func with(cfg *config.Config, agents map[string]*check.Agent) *config.Config {
	other := *cfg
	other.Agents = nil
	for _, a := range cfg.Agents {
		if _, replaced := agents[a.Name]; !replaced {
			other.Agents = append(other.Agents, a)
		}
	}
	for _, a := range agents {
		if a != nil {
			other.Agents = append(other.Agents, a)
		}
	}
	slices.SortFunc(other.Agents, func(a, b *check.Agent) int { return strings.Compare(a.Name, b.Name) })
	return &other
}

// changed returns a copy of an agent that a function changed.
func changed(a *check.Agent, change func(*check.Agent)) *check.Agent {
	other := *a
	other.Checks = slices.Clone(a.Checks)
	change(&other)
	return &other
}

// countDials counts the connections that are made to each agent's checker, as is written to where they lead.
func countDials(w *world) map[string]int {
	dials := make(map[string]int)
	dial := w.o.Dial
	w.o.Dial = func(a *check.Agent) (actors.Checker, error) {
		w.mu.Lock()
		dials[a.Name+" at "+a.Address]++
		w.mu.Unlock()
		return dial(a)
	}
	return dials
}

// statusesOf returns, for each cycle at core, what it says of each check; "-" if it says nothing.
func (w *world) statusesOf(names ...string) string {
	var out strings.Builder
	for _, d := range w.core.all() {
		by := make(map[string]string)
		for _, s := range d.req.GetServices() {
			text := "up"
			if !s.GetAvailable() {
				_, text, _ = strings.Cut(string(s.GetMessage()), `"reason":"`)
				text, _, _ = strings.Cut(text, `"`)
			}
			name := s.GetAgentId() + "/" + s.GetServiceName()
			if by[name] != "" {
				w.t.Errorf("%s is twice in report %s", name, d.id)
			}
			by[name] = text
		}
		for i, name := range names {
			if i > 0 {
				out.WriteString(" ")
			}
			if by[name] == "" {
				by[name] = "-"
			}
			out.WriteString(by[name])
			delete(by, name)
		}
		for name := range by {
			fmt.Fprintf(&out, " and %s", name)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func (w *world) want(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s:\n%swant:\n%s", what, got, want)
	}
}

func TestReloadChangesOnlyWhatDiffers(t *testing.T) {
	cfg := settings(3, 2, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		dials := countDials(w)
		w.start()
		w.pass(3 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{
			"a001": changed(cfg.Agents[1], func(a *check.Agent) { a.Checks = a.Checks[:1] }),
			"a002": nil,
			"a003": changed(cfg.Agents[0], func(a *check.Agent) { a.Name = "a003" }),
		}))
		w.pass(5*time.Second - time.Millisecond)
		w.want("core has", w.statusesOf("a000/c0", "a000/c1", "a001/c0", "a001/c1", "a002/c0", "a002/c1", "a003/c0", "a003/c1"), ""+
			"up up up up up up - -\n"+
			"up up up up up up - -\n"+
			"up up up - - - up up\n"+
			"up up up - - - up up\n")
		if want := map[string]int{"a000 at 127.0.0.1:1": 1, "a001 at 127.0.0.1:1": 1, "a002 at 127.0.0.1:1": 1, "a003 at 127.0.0.1:1": 1}; fmt.Sprint(dials) != fmt.Sprint(want) {
			t.Errorf("connections: %v, want %v", dials, want)
		}
		for name, want := range map[string]int64{"a000": 0, "a001": 0, "a002": 1, "a003": 0} {
			if n := w.checkers[name].closed.Load(); n != want {
				t.Errorf("%d connections to %s were closed, want %d", n, name, want)
			}
		}
		events := seen[actors.Reloaded](w)
		if len(events) != 1 || fmt.Sprint(events[0].Added, events[0].Changed, events[0].Removed) != "[a003] [a001] [a002]" {
			t.Errorf("told: %+v", events)
		}
		if n := len(seen[actors.StatusDiscarded](w)) + len(seen[actors.DeadLetter](w)); n != 0 {
			t.Errorf("%d answers or messages found nobody", n)
		}
	})
}

// What an agent that is removed, or changed, has begun comes to its own end.
func TestReloadLetsRunsEnd(t *testing.T) {
	cfg := settings(3, 1, 4*time.Second, 3*time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		for _, peer := range w.checkers {
			peer.ask = slow(2 * time.Second)
		}
		dials := countDials(w)
		w.start()
		w.pass(time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{
			"a001": nil,
			"a002": changed(cfg.Agents[2], func(a *check.Agent) { a.Address = "127.0.0.1:2" }),
		}))
		w.pass(500 * time.Millisecond)
		if n := w.checkers["a001"].closed.Load() + w.checkers["a002"].closed.Load(); n != 0 {
			t.Errorf("%d connections were closed under a run", n)
		}
		w.pass(6 * time.Second)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0", "a002/c0"), "up up up\nup - up\n")
		if dials["a002 at 127.0.0.1:1"] != 1 || dials["a002 at 127.0.0.1:2"] != 1 || len(dials) != 4 {
			t.Errorf("connections: %v", dials)
		}
		if n := w.checkers["a001"].closed.Load(); n != 1 {
			t.Errorf("the connection of the agent that was removed was closed %d times", n)
		}
	})
}

// An agent that is configured again while it still finishes its runs goes on.
func TestReloadBringsBack(t *testing.T) {
	cfg := settings(2, 1, 4*time.Second, 3*time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.checkers["a001"].ask = slow(2 * time.Second)
		w.start()
		w.pass(500 * time.Millisecond)
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": nil}))
		w.pass(500 * time.Millisecond)
		w.reload(c, cfg)
		w.pass(7 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": nil}))
		w.reload(c, cfg) // while it is idle, and may just have been stopped
		w.pass(8 * time.Second)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0"), "up up\nup up\nup up\nup up\n")
		if n := w.checkers["a001"].closed.Load(); n > 1 {
			t.Errorf("%d connections were closed", n)
		}
	})
}

// The breaker of an agent that gets another checker is closed; one whose checks change stays as it is.
func TestReloadAndTheBreaker(t *testing.T) {
	cfg := settings(2, 1, 2*time.Second, time.Second)
	cfg.Breaker.Failures = 1
	runChangeable(t, cfg, func(w *world, c *changeable) {
		for _, peer := range w.checkers {
			peer.ask, peer.health = refuse, gone
		}
		w.start()
		w.pass(3 * time.Second)
		for _, peer := range w.checkers {
			peer.set(func(c *checker) { c.ask = up })
		}
		w.reload(c, with(cfg, map[string]*check.Agent{
			"a000": changed(cfg.Agents[0], func(a *check.Agent) { a.Address = "127.0.0.1:2" }),
			"a001": changed(cfg.Agents[1], func(a *check.Agent) { a.Checks[0].Details = "127.0.0.1:23" }),
		}))
		w.pass(3*time.Second - time.Millisecond)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0"), "unreachable unreachable\ncircuit_open circuit_open\nup circuit_open\n")
	})
}

// New TLS files are used with a new connection, made with the next run; runs under way end on the old one.
func TestReloadRenewsConnections(t *testing.T) {
	cfg := settings(3, 1, 2*time.Second, time.Second)
	mutual := check.TLS{Mode: check.TLSMutual, CertFile: "a"}
	cfg.Agents[1].TLS, cfg.Agents[2].TLS = mutual, mutual
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.checkers["a002"].ask = slow(900 * time.Millisecond)
		dials := countDials(w)
		w.start()
		w.pass(500 * time.Millisecond)
		same := *cfg
		same.Agents = with(cfg, map[string]*check.Agent{"a001": changed(cfg.Agents[1], func(a *check.Agent) { a.Checks[0].Timeout = 900 * time.Millisecond })}).Agents
		w.reload(c, &same, mutual)
		w.pass(time.Millisecond)
		if closed := w.checkers["a001"].closed.Load(); closed != 1 {
			t.Errorf("%d idle connections were closed, want 1", closed)
		}
		if closed := w.checkers["a002"].closed.Load(); closed != 0 {
			t.Error("a connection was closed under a run")
		}
		w.pass(3*time.Second - 2*time.Millisecond)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0", "a002/c0"), "up up up\nup up up\n")
		if dials["a000 at 127.0.0.1:1"] != 1 || dials["a001 at 127.0.0.1:1"] != 2 || dials["a002 at 127.0.0.1:1"] != 2 {
			t.Errorf("connections: %v", dials)
		}
	})
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	cfg := settings(1, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.start()
		w.pass(time.Second)
		failure := errors.New("poller.toml:3:1: a slip")
		c.fail.Store(&failure)
		if err := w.sys.Reload(w.t.Context()); !errors.Is(err, failure) {
			t.Errorf("reload: %v", err)
		}
		w.sys.Changed()
		w.pass(90 * time.Second)
		if told := seen[actors.ReloadFailed](w); len(told) != 1 || !errors.Is(told[0].Err, failure) {
			t.Errorf("told: %v, want the same once", told)
		}
		c.fail.Store(nil)
		w.pass(30 * time.Second)
		if told := seen[actors.Reloaded](w); len(told) != 1 || told[0].Config != cfg {
			t.Errorf("told of the end of it: %v", told)
		}
		if n := len(w.core.all()); n < 60 {
			t.Errorf("core has %d reports", n)
		}
	})
}

// Many changes at once are looked at once; and without any, now and then.
func TestReloadWaitsForChangesToSettle(t *testing.T) {
	runChangeable(t, settings(0, 0, 2*time.Second, time.Second), func(w *world, c *changeable) {
		w.start()
		w.pass(time.Second)
		for range 10 {
			w.sys.Changed()
			w.pass(100 * time.Millisecond)
		}
		if n := c.loads.Load(); n != 0 {
			t.Errorf("loaded %d times before the changes ended", n)
		}
		w.pass(200 * time.Millisecond)
		if n := c.loads.Load(); n != 1 {
			t.Errorf("loaded %d times, want once", n)
		}
		w.pass(time.Minute)
		if n := c.loads.Load(); n != 3 {
			t.Errorf("loaded %d times after a minute of silence, want 3", n)
		}
		for range 61 {
			w.sys.Changed()
			w.pass(100 * time.Millisecond)
		}
		if n := c.loads.Load(); n != 6 {
			t.Errorf("loaded %d times after 6 s of changes, want 6: every 2 s", n)
		}
	})
}

// What the poller must not forget of a reload outlives it, and so does what an agent must not.
func TestReloadOutlivesRestarts(t *testing.T) {
	cfg := settings(3, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.start()
		w.pass(500 * time.Millisecond)
		var once atomic.Bool
		w.mu.Lock()
		w.hook = func(e actors.Event) {
			if _, ok := e.(actors.CycleClosed); ok && once.CompareAndSwap(false, true) {
				c.next.Store(&actors.Settings{Config: with(cfg, map[string]*check.Agent{
					"a001": nil,
					"a002": changed(cfg.Agents[2], func(a *check.Agent) { a.Checks[0].Name = "other" }),
				}), Identity: w.o.Identity})
				go func() { _ = w.sys.Reload(context.Background()) }()
				time.Sleep(100 * time.Millisecond) // so that the poller has the message when it fails
				panic("test fault in the observer")
			}
		}
		w.mu.Unlock()
		w.pass(6*time.Second - time.Millisecond)
		w.want("core has", w.statusesOf("a000/c0", "a001/c0", "a002/c0", "a002/other"), "up up up -\nup up up -\nup - - up\nup - - up\n")
		if n := w.checkers["a001"].closed.Load(); n != 1 {
			t.Errorf("the connection of the agent that was removed was closed %d times", n)
		}
	})
}

// An agent that keeps failing, is removed while it is down, and configured again, begins anew.
func TestReloadForgetsAgentsThatAreDown(t *testing.T) {
	cfg := settings(2, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		began := time.Now()
		w.hook = func(e actors.Event) {
			if e, ok := e.(actors.HealthTold); ok && e.Agent == "a001" && time.Since(began) < 20*time.Second {
				panic("test fault in the observer")
			}
		}
		w.start()
		w.pass(20 * time.Second)
		failed := seen[actors.ActorFailed](w)
		if len(failed) == 0 || !failed[len(failed)-1].Parked {
			t.Fatalf("the agent is not parked: %v", failed)
		}
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": nil}))
		w.pass(2 * time.Second)
		w.reload(c, cfg)
		before := len(w.core.all())
		w.pass(10*time.Second - time.Millisecond)
		rows := strings.Split(w.statusesOf("a000/c0", "a001/c0"), "\n")
		w.want("core has since", strings.Join(rows[before:], "\n"), strings.Repeat("up up\n", 4))
		if again := seen[actors.ActorFailed](w); len(again) != len(failed) {
			t.Errorf("actors failed after that: %v", again[len(failed):])
		}
	})
}

// An agent that is to run seldom from now on keeps no connection in between.
func TestReloadMakesAnAgentSeldom(t *testing.T) {
	cfg := settings(1, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.start()
		w.pass(3 * time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{
			"a000": changed(cfg.Agents[0], func(a *check.Agent) { a.Checks[0].Interval = 10 * time.Minute }),
		}))
		w.pass(time.Millisecond)
		if n := w.checkers["a000"].closed.Load(); n != 1 {
			t.Errorf("%d connections were closed, want 1", n)
		}
	})
}

// A probe that waits for a connection with the old TLS files is given up for one with the new ones.
func TestReloadRenewsProbes(t *testing.T) {
	cfg := settings(1, 1, 2*time.Second, time.Second)
	cfg.Breaker.Failures = 1
	runChangeable(t, cfg, func(w *world, c *changeable) {
		peer := w.checkers["a000"]
		peer.ask, peer.connect = refuse, func(ctx context.Context) error {
			<-ctx.Done()
			return check.Failf(check.TLSFailed, nil, "the certificate has expired")
		}
		w.start()
		w.pass(7 * time.Second) // a probe is under way, and another new connection is not due for a minute
		peer.set(func(c *checker) { c.ask, c.connect = up, nil })
		same := *cfg
		w.reload(c, &same, cfg.Agents[0].TLS)
		w.pass(5*time.Second - time.Millisecond)
		if rows := strings.Fields(w.statusesOf("a000/c0")); rows[len(rows)-1] != "up" {
			t.Errorf("core has %v, want it to be up by the first run 5 s after the reload", rows)
		}
	})
}

// What is removed is not started any more, also if it was to be later in the cycle.
func TestReloadRemovesWithinACycle(t *testing.T) {
	cfg := settings(40, 1, 10*time.Second, time.Second)
	cfg.Poll.Rate = 5
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.start()
		w.pass(time.Second)
		none := *cfg
		none.Agents = nil
		w.reload(c, &none)
		w.pass(10 * time.Second)
		asked := 0
		for _, peer := range w.checkers {
			asked += peer.calls()
		}
		services := len(w.core.all()[0].req.GetServices())
		if asked == 0 || asked > 20 || services != asked {
			t.Errorf("%d agents were asked after the reload and before, and core has %d statuses; there is about one to a slot of 250ms", asked, services)
		}
		if n := len(w.core.all()); n != 2 { // heartbeats go on
			t.Errorf("core has %d reports", n)
		}
	})
}

// What an agent asked for before it failed and was removed is nothing to one of its name that is added then.
func TestReloadTellsNamesakesApart(t *testing.T) {
	cfg := settings(2, 2, 4*time.Second, 3*time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		w.checkers["a001"].ask = func(ctx context.Context, chk *check.Check) (check.Answer, error) {
			if chk.Name == "c1" {
				time.Sleep(2 * time.Second) // whatever becomes of whoever asks
			}
			return up(ctx, chk)
		}
		var once atomic.Bool
		w.hook = func(e actors.Event) {
			if e, ok := e.(actors.HealthTold); ok && e.Agent == "a001" && once.CompareAndSwap(false, true) {
				panic("test fault in the observer")
			}
		}
		w.start()
		w.pass(50 * time.Millisecond)
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": nil}))
		w.reload(c, cfg)
		w.pass(8 * time.Second)
		if failed := seen[actors.ActorFailed](w); len(failed) != 1 {
			t.Errorf("%d actors failed, want the one that had to: %v", len(failed), failed)
		}
		w.want("core has", w.statusesOf("a000/c0", "a000/c1", "a001/c0", "a001/c1"), "up up up no_answer\nup up up up\n")
	})
}

// Who waits for a reload is answered also if the watcher fails over its outcome; and the next incarnation reloads.
func TestReloadOutlivesTheWatcher(t *testing.T) {
	cfg := settings(2, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		panicAtFirst[actors.ReloadFailed](w)
		w.start()
		w.pass(time.Second)
		failure := errors.New("a slip")
		c.fail.Store(&failure)
		began := time.Now()
		if err := w.sys.Reload(w.t.Context()); err == nil || time.Since(began) > time.Second {
			t.Errorf("after %v the reload came to %v", time.Since(began), err)
		}
		if err := w.sys.Reload(w.t.Context()); err == nil || !strings.Contains(err.Error(), "try again") {
			t.Errorf("a reload while the watcher is down: %v", err)
		}
		c.fail.Store(nil)
		w.pass(time.Second)
		w.reload(c, with(cfg, map[string]*check.Agent{"a001": nil}))
		if told := seen[actors.Reloaded](w); len(told) != 1 || fmt.Sprint(told[0].Removed) != "[a001]" {
			t.Errorf("told: %v", told)
		}
	})
}

// Another poll interval is another time in which a dead peer is to be found: connections are made anew.
func TestReloadOfTheIntervalReconnects(t *testing.T) {
	cfg := settings(2, 1, 2*time.Second, time.Second)
	runChangeable(t, cfg, func(w *world, c *changeable) {
		dials := countDials(w)
		w.start()
		w.pass(3 * time.Second)
		other := *cfg
		other.Poll.Interval = time.Second
		w.reload(c, &other)
		w.pass(3*time.Second - time.Millisecond)
		if dials["a000 at 127.0.0.1:1"] != 2 || dials["a001 at 127.0.0.1:1"] != 2 {
			t.Errorf("connections: %v", dials)
		}
	})
}
