//go:build reload

package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	reloadInterval = 5 * time.Second
	reloadChecks   = 2
	reloadHosts    = 20
)

// TestReloads replaces the configuration every second, by the real clock and over real connections: each time a twentieth
// of the agents goes, as many come, and as many change; every fifth file is broken. Those that are never touched must be asked
// in every cycle, once, and no status may be anything but the checker's own answer. RELOAD_AGENTS (2000), RELOAD_FOR (1m) and
// RELOAD_SEED say how.
func TestReloads(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newReloads(t)
	awaitMidSecond()
	began := time.Now()
	d := r.start()
	for i := 1; time.Since(began) < r.length; i++ {
		<-time.After(time.Until(began.Add(time.Duration(i) * time.Second)))
		r.replace(i)
	}
	cycles := int((time.Since(began)+reloadInterval/4)/reloadInterval) + 2
	<-time.After(time.Until(began.Add(time.Duration(cycles)*reloadInterval - reloadInterval/4)))
	if ready, conditions := d.Ready(); !ready {
		t.Errorf("not ready: %+v", conditions)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
	for _, s := range r.servers {
		s.Stop()
	}
	r.verify(cycles)
}

// reloads is what TestReloads works with.
type reloads struct {
	t      *testing.T
	agents int
	length time.Duration
	rand   *rand.Rand
	file   string

	core      sim.Core
	servers   []*sim.Server
	addresses []string

	// touched are the versions of the agents that come, go and change; fleets are all that there ever were.
	touched map[string]int
	fleets  []fleetAt
	names   int
	broken  int // files
	text    string

	mu       sync.Mutex
	asked    map[string]int // agent/check
	reloaded int
	refused  int
	others   []actors.Event // that are not to be
}

// fleetAt is a fleet since a time.
type fleetAt struct {
	since    time.Time
	versions map[string]int
}

func newReloads(t *testing.T) *reloads {
	t.Helper()
	r := &reloads{
		t: t, touched: make(map[string]int), asked: make(map[string]int), file: filepath.Join(t.TempDir(), "poller.toml"),
		agents: fromEnvironment(t, "RELOAD_AGENTS", 2000, strconv.Atoi),
		length: fromEnvironment(t, "RELOAD_FOR", time.Minute, time.ParseDuration),
	}
	seed := fromEnvironment(t, "RELOAD_SEED", rand.Uint64(), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	t.Logf("RELOAD_SEED=%d", seed)
	r.rand = rand.New(rand.NewPCG(seed, 0))
	core, err := r.core.Start("127.7.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.servers = append(r.servers, core)
	r.addresses = append(r.addresses, core.Addr())
	for i := range reloadHosts {
		s, err := sim.NewChecker(sim.Behaviour{Answer: r.answer}).Start(fmt.Sprintf("127.7.1.%d:0", i+1), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.servers, r.addresses = append(r.servers, s), append(r.addresses, s.Addr())
	}
	for range r.agents * 15 / 100 {
		r.add()
	}
	r.write(r.toml())
	return r
}

// answer says who was asked for what.
func (r *reloads) answer(_ context.Context, q *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	r.mu.Lock()
	r.asked[q.GetAgentId()+"/"+q.GetServiceName()]++
	r.mu.Unlock()
	return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"asked":%q}`, q.GetDetails())}, nil
}

func (r *reloads) add() {
	r.names++
	r.touched[fmt.Sprintf("t%06d", r.names)] = 0
}

// replace writes another configuration.
func (r *reloads) replace(i int) {
	if i%5 == 0 {
		r.broken++
		r.write(r.text[:len(r.text)-len(r.text)/3] + "\n[agents.\n")
		return
	}
	names := slices.Sorted(maps.Keys(r.touched))
	r.rand.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	n := r.agents / 20
	for _, name := range names[:n] {
		delete(r.touched, name)
	}
	for _, name := range names[n : 2*n] {
		r.touched[name]++
	}
	for range n {
		r.add()
	}
	r.write(r.toml())
}

func (r *reloads) toml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore = { addresses = [%q], timeout = \"1s\" }\n"+
		"poll = { interval = %q, timeout = \"4900ms\", rate = %d }\n", r.addresses[0], reloadInterval, r.agents)
	agent := func(name string, i, version int) {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\n", name, r.addresses[1+i%reloadHosts])
		for c := range reloadChecks {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = \"c%d\"\ntype = \"port\"\ndetails = \"%s version %d\"\n", name, c, name, version)
		}
	}
	for i := range r.agents * 85 / 100 {
		agent(fmt.Sprintf("u%06d", i), i, 0)
	}
	for i, name := range slices.Sorted(maps.Keys(r.touched)) {
		agent(name, i*7+r.touched[name]/2, r.touched[name]) // now and then another checker
	}
	r.text = b.String()
	r.fleets = append(r.fleets, fleetAt{since: time.Now(), versions: maps.Clone(r.touched)})
	return r.text
}

func (r *reloads) write(text string) {
	r.t.Helper()
	next := r.file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.file); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloads) start() *daemon.Daemon {
	r.t.Helper()
	load := func(map[string][]config.Target, fs.FS) config.Loaded { return config.Read(config.Source{File: r.file}) }
	loaded := load(nil, nil)
	if loaded.Err != nil {
		r.t.Fatal(loaded.Err)
	}
	d := daemon.New(daemon.Options{Config: loaded.Config, Files: loaded.Files, Load: load, Log: zerolog.Nop(), Observe: r.observe})
	if err := d.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *reloads) observe(e actors.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.(type) {
	case actors.Reloaded:
		r.reloaded++
	case actors.ReloadFailed:
		r.refused++
	case actors.ActorFailed, actors.PanicRecovered, actors.StatusDiscarded, actors.ReportDropped, actors.CyclesMissed:
		r.others = append(r.others, e)
	}
}

// verify asserts what core has of each cycle, and how often the checkers were asked.
func (r *reloads) verify(cycles int) {
	r.t.Helper()
	var times []int64
	statuses, untouched := 0, make(map[string]int)
	for _, d := range slices.DeleteFunc(r.core.Deliveries(), sim.Delivery.Registration) {
		times = append(times, d.Timestamp)
		statuses += len(d.Services)
		r.verifyCycle(d, untouched)
	}
	missed, doubled := 0, 0
	for i := range r.agents * 85 / 100 {
		for c := range reloadChecks {
			name := fmt.Sprintf("u%06d/c%d", i, c)
			if untouched[name] != cycles {
				missed++
			}
			if r.asked[name] != cycles {
				doubled++
			}
		}
	}
	regular := len(times) == cycles
	for i := 1; i < len(times); i++ {
		regular = regular && times[i]-times[i-1] == int64(reloadInterval/time.Second)
	}
	r.t.Logf("%d agents, %d files written of which %d broken, %d reloaded, %d refused; %d cycles at core with %d statuses; "+
		"of %d checks never touched %d without a status in each cycle, %d not asked once for each",
		r.agents, len(r.fleets)-1+r.broken, r.broken, r.reloaded, r.refused, len(times), statuses,
		r.agents*85/100*reloadChecks, missed, doubled)
	if missed+doubled > 0 || !regular {
		r.t.Errorf("not every run has exactly one status, in order and at regular times: %v", times)
	}
	if r.refused != r.broken || r.reloaded < len(r.fleets)-1-r.broken { // two may be found at once
		r.t.Errorf("%d files were written, %d of them broken; %d were reloaded and %d refused", len(r.fleets)-1+r.broken, r.broken, r.reloaded, r.refused)
	}
	if len(r.others) > 0 {
		r.t.Errorf("%d events, such as %T %+v", len(r.others), r.others[0], r.others[0])
	}
	for _, v := range r.core.Violations() {
		r.t.Error("violation:", v)
	}
}

// verifyCycle asserts that all in a report was answered, and asked as it was configured at the time.
func (r *reloads) verifyCycle(d sim.Delivery, untouched map[string]int) {
	r.t.Helper()
	const lag = 3 * time.Second // for a change to settle and be loaded, and because timestamps are whole seconds
	began := time.Unix(d.Timestamp, 0)
	var valid []map[string]int
	for i, f := range r.fleets {
		if f.since.Before(began.Add(reloadInterval+time.Second)) && (i == len(r.fleets)-1 || r.fleets[i+1].since.After(began.Add(-lag))) {
			valid = append(valid, f.versions)
		}
	}
	seen := make(map[string]bool)
	for _, s := range d.Services {
		agent, name := s.GetAgentId(), s.GetAgentId()+"/"+s.GetServiceName()
		if seen[name] {
			r.t.Errorf("%s is twice in the cycle of %v", name, began)
		}
		seen[name] = true
		if strings.HasPrefix(agent, "u") {
			untouched[name]++
		}
		ok := strings.HasPrefix(agent, "u") && bytes.Contains(s.GetMessage(), fmt.Appendf(nil, "%s version 0", agent))
		for _, versions := range valid {
			version, configured := versions[agent]
			ok = ok || configured && bytes.Contains(s.GetMessage(), fmt.Appendf(nil, "%s version %d\"", agent, version))
		}
		if !s.GetAvailable() || !ok {
			r.t.Errorf("%s in the cycle of %v: %s", name, began, s.GetMessage())
		}
	}
	for agent := range valid[0] {
		always := true
		for _, versions := range valid {
			_, configured := versions[agent]
			always = always && configured
		}
		for c := range reloadChecks {
			if name := fmt.Sprintf("%s/c%d", agent, c); always && !seen[name] {
				r.t.Errorf("%s is missing in the cycle of %v", name, began)
			}
		}
	}
}
