package actors_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
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
