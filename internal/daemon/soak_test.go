//go:build soak

package daemon_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
)

// TestSoak is TestLoad by the real clock and over real connections, with one agent that hangs and
// core away from the 20th to the 50th second. It takes a little over a minute.
func TestSoak(t *testing.T) {
	defer goleak.VerifyNone(t)
	const (
		length   = time.Minute
		interval = 2 * time.Second
		good     = 100
		checks   = 5
	)
	var core sim.Core
	coreServer, err := core.Start("127.5.0.1:0", nil) // an address of its own, so that nobody gets its port while it is away
	if err != nil {
		t.Fatal(err)
	}
	checker, hung := sim.NewChecker(sim.OK()), sim.NewChecker(sim.HangAll())
	checkerServer, err := checker.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer checkerServer.Stop()
	hungServer, err := hung.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hungServer.Stop()

	cfg, _, err := config.Parse("soak.toml", fmt.Appendf(nil, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\n"+
		"core.addresses = [%q]\npoll = { interval = \"2s\", timeout = \"1s\" }\n%s%s", coreServer.Addr(),
		agents("good", good, checks, checkerServer.Addr()), agents("hung", 1, checks, hungServer.Addr())), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)})
	began := time.Now()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, moment := range []struct {
		at time.Duration
		do func()
	}{
		{20 * time.Second, coreServer.Stop},
		{50 * time.Second, func() {
			core.Forget()
			if coreServer, err = core.Start(coreServer.Addr(), nil); err != nil {
				t.Fatal(err)
			}
		}},
		{length - interval/4, func() {}},
	} {
		<-time.After(time.Until(began.Add(moment.at)))
		moment.do()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
	coreServer.Stop()
	verifySoak(t, &core, int(length/interval), (good+1)*checks, interval)
	t.Logf("the good checkers were asked %d times, of %d due", checker.AllCalls(), int(length/interval)*good*checks)
	if n := checker.AllCalls(); n != int(length/interval)*good*checks {
		t.Errorf("the good checkers were asked %d times", n)
	}
}

// verifySoak asserts one status per run, in order, at regular times, and that only the hung agent
// has reasons.
func verifySoak(t *testing.T, core *sim.Core, cycles, perCycle int, interval time.Duration) {
	t.Helper()
	seen := make(map[string]int)
	var times []int64
	statuses, doubled := 0, 0
	for _, d := range core.Deliveries() {
		if d.Registration() {
			continue
		}
		times = append(times, d.Timestamp)
		for _, s := range d.Services {
			statuses++
			key := fmt.Sprintf("%d %s/%s", d.Timestamp, s.GetAgentId(), s.GetServiceName())
			if seen[key]++; seen[key] > 1 {
				doubled++
			}
			if isHung := strings.HasPrefix(s.GetAgentId(), "hung"); isHung == s.GetAvailable() {
				t.Errorf("%s: %s", key, s.GetMessage())
			}
		}
	}
	regular := true
	for i := 1; i < len(times); i++ {
		regular = regular && times[i]-times[i-1] == int64(interval/time.Second)
	}
	t.Logf("%d cycles at core, %d statuses of %d due, %d doubled; timestamps regular and in order: %v; %d goroutines",
		len(times), statuses, cycles*perCycle, doubled, regular && slices.IsSorted(times), runtime.NumGoroutine())
	if len(times) != cycles || statuses != cycles*perCycle || doubled != 0 || !regular {
		t.Error("not every run has exactly one status, in order and at regular times")
	}
	for _, v := range core.Violations() {
		t.Error("violation:", v)
	}
}
