package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// loopConfig is a configuration of agents × 2 checks.
func loopConfig(t *testing.T, agents int, checker, core string) *config.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nsource_ip = \"127.0.0.1\"\ncore.addresses = [%q]\ncore.max_message = \"64KiB\"\npoll.interval = \"2s\"\npoll.rate = 100\n", core)
	for i := range agents {
		fmt.Fprintf(&b, "[agents.a%d]\naddress = %q\nchecks = [{ name = \"one\", type = \"port\" }, { name = \"two\", type = \"port\" }]\n", i, checker)
	}
	cfg, _, err := config.Parse("loop.toml", []byte(b.String()), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestLoop: each check of each agent is asked once in each cycle, also in the one in which the loop is stopped, and core has all
// answers, in messages that it takes.
func TestLoop(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []int{0, 7} {
		t.Run(fmt.Sprintf("%d at once", atOnce), func(t *testing.T) {
			t.Parallel()
			const agents = 150
			ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
			defer stop()
			behave := sim.OK()
			answer, calls := behave.Answer, atomic.Int64{}
			behave.Answer = func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
				if calls.Add(1) == 2*agents+1 { // the first of the second cycle
					stop()
				}
				return answer(ctx, r)
			}
			asked, err := sim.NewChecker(behave).Start("127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer asked.Stop()
			var core sim.Core
			reported, err := core.Start("127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer reported.Stop()
			if err := sim.RunLoop(ctx, loopConfig(t, agents, asked.Addr(), reported.Addr()), atOnce); err != nil {
				t.Errorf("the loop ended with %v", err)
			}
			if len(core.Violations()) > 0 || core.Stats().Dropped > 0 {
				t.Errorf("core: %+v, violations %q", core.Stats(), core.Violations())
			}
			seen := make(map[string]int)
			for _, d := range core.Deliveries() {
				if d.Largest > 64<<10 {
					t.Errorf("a message of %d bytes", d.Largest)
				}
				for _, s := range d.Services {
					seen[fmt.Sprint(d.Timestamp, s.GetAgentId(), s.GetServiceName())]++
					if !json.Valid(s.GetMessage()) || !strings.Contains(string(s.GetMessage()), `"data":{"host":"127.0.0.1"`) {
						t.Fatalf("message %s", s.GetMessage())
					}
				}
			}
			if len(seen) != 2*2*agents || calls.Load() != 2*2*agents {
				t.Errorf("core has %d statuses of %d calls in two cycles, want %d", len(seen), calls.Load(), 2*2*agents)
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s is at core %d times", name, n)
				}
			}
		})
	}
}

// TestLoopEndsWithAnError: it retries nothing, so what it costs is never the cost of failing.
func TestLoopEndsWithAnError(t *testing.T) {
	t.Parallel()
	asked, err := sim.NewChecker(sim.Unimplemented()).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Stop()
	reported, err := new(sim.Core).Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reported.Stop()
	err = sim.RunLoop(t.Context(), loopConfig(t, 1, asked.Addr(), reported.Addr()), 0)
	if err == nil || !strings.Contains(err.Error(), "of a0") || !strings.Contains(err.Error(), "Unimplemented") {
		t.Errorf("the loop ended with %v", err)
	}
}
