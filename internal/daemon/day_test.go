package daemon_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
)

var (
	daySeeds = flag.Int("days", 0, "how many simulated days TestDay lives through, with a seed each; 0 is a morning")
	daySeed  = flag.Uint64("day", 0, "the seed of the first; a failed one says its seed")
)

const (
	dayAgents   = 50
	dayInterval = 5 * time.Minute
	dayTimeout  = 10 * time.Second
	dayFailures = 2 // in a row, after which a breaker opens
	// daySettled is how long after a host's return a run tells the truth.
	daySettled = 5 * time.Second
)

// dayFaults are what checkers have, coreFaults what core has, now and then.
var (
	dayFaults = []sim.Fault{
		{Kind: sim.KindDown},
		{Kind: sim.KindFrozen},
		{Kind: sim.KindSilent},
		{Kind: sim.KindGarbage},
		{Kind: sim.KindHTTP1},
		{Kind: sim.KindReset},
		{Kind: sim.KindGoAway},
		{Kind: sim.KindGoAway, For: 10 * time.Second},
		{Kind: sim.KindHang},
		{Kind: sim.KindHangAll},
		{Kind: sim.KindSlow, For: 3 * time.Second},
		{Kind: sim.KindSlow, For: time.Minute},
		{Kind: sim.KindError, Code: codes.Internal},
		{Kind: sim.KindError, Code: codes.Unavailable},
		{Kind: sim.KindError, Code: codes.PermissionDenied},
		{Kind: sim.KindHuge, Size: 100 << 10},
		{Kind: sim.KindBadJSON},
		{Kind: sim.KindEarly},
		{Kind: sim.KindDown, Good: 7 * time.Second, Bad: 13 * time.Second},
		{Kind: sim.KindHang, Good: 200 * time.Second, Bad: 100 * time.Second},
	}
	dayCoreFaults = []sim.Fault{
		{Kind: sim.KindDown},
		{Kind: sim.KindFrozen},
		{Kind: sim.KindSilent},
		{Kind: sim.KindReset},
		{Kind: sim.KindGoAway, For: 10 * time.Second},
		{Kind: sim.KindHang},
		{Kind: sim.KindSlow, For: time.Second},
		{Kind: sim.KindNotReceived},
		{Kind: sim.KindError, Code: codes.Unknown},
		// For longer, and it would be taken at its word: that the statuses are too large.
		{Kind: sim.KindError, Code: codes.ResourceExhausted, Good: 30 * time.Second, Bad: 20 * time.Second},
		{Kind: sim.KindError, Code: codes.Unauthenticated},
		{Kind: sim.KindDown, Good: 20 * time.Second, Bad: 10 * time.Second},
	}
)

// TestDay lives through simulated days: 50 checkers and core have faults by a seed, actors are killed,
// and at the end core must have exactly one status for each run, in order, without gaps, and each as it
// has to be.
func TestDay(t *testing.T) {
	t.Parallel()
	length, seeds := 24*time.Hour, *daySeeds
	if seeds == 0 {
		length, seeds = 3*time.Hour, 1
	}
	for i := range seeds {
		seed := *daySeed + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			d := newDay(seed, length)
			synctest.Test(t, d.live)
			d.verify(t)
			if t.Failed() {
				again := fmt.Sprintf("-day %d", seed)
				if *daySeeds > 0 {
					again += " -days 1"
				}
				t.Logf("run it again with: go test -run TestDay ./internal/daemon %s\nactors killed: %v\nthe script:\n%s", again, d.kills, d.script)
			}
			t.Logf("seed %d: %d faults, %d actors killed, %d statuses in %d reports, %d of them doubled, %s; %.1fs", seed, len(d.script)/2, len(d.kills),
				d.statuses, len(d.reports), d.doubled, d.tally(), time.Since(began).Seconds())
		})
	}
}

// day is one of them: what is to happen, and what came of it.
type day struct {
	length time.Duration
	random *rand.Rand
	script sim.Script
	agents []dayAgent
	begun  time.Time // when the first cycle begins

	mu         sync.Mutex
	reports    []dayReport
	statuses   int
	moves      map[string][]dayMove // breakers', by agent
	kills      []dayKill
	killAt     []time.Time // when an actor is to be killed
	complaints int
	doubled    int // reports that came twice
}

type dayAgent struct {
	name   string
	checks []dayCheck
}

type dayCheck struct {
	name    string
	every   int64 // cycles
	results bool
}

type dayReport struct {
	id        string
	at        time.Duration // since the day began
	timestamp int64
	statuses  []dayStatus
}

type dayStatus struct {
	agent, check string
	available    bool
	reason       string
}

type dayMove struct {
	at       time.Time
	from, to string
}

type dayKill struct {
	at    time.Duration
	actor string
}

func (k dayKill) String() string { return fmt.Sprint(k.actor, " at ", k.at) }

func newDay(seed uint64, length time.Duration) *day {
	d := &day{length: length, random: rand.New(rand.NewPCG(seed, 1)), moves: make(map[string][]dayMove)}
	var names []string
	for i := range dayAgents {
		a := dayAgent{name: fmt.Sprintf("a%02d", i), checks: []dayCheck{{name: "c0", every: 1}}}
		if i%5 == 1 {
			a.checks = append(a.checks, dayCheck{name: "c1", every: 3})
		}
		if i%5 == 2 {
			a.checks = append(a.checks, dayCheck{name: "r", every: 10, results: true})
		}
		d.agents = append(d.agents, a)
		names = append(names, a.name)
	}
	end := length - 10*time.Minute
	d.script = append(sim.RandomScript(rand.NewPCG(seed, 2), names, dayFaults, time.Second, 20*time.Minute, end),
		sim.RandomScript(rand.NewPCG(seed, 3), []string{"core"}, dayCoreFaults, time.Second, 20*time.Minute, end)...)
	return d
}

func (d *day) toml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\n[poll]\ninterval = %q\ntimeout = %q\n[breaker]\nfailures = %d\n",
		coreAddress, dayInterval, dayTimeout, dayFailures)
	for i, a := range d.agents {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\nmax_message = \"64KiB\"\n", a.name, dayAddress(i))
		for _, c := range a.checks {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = %q\ndetails = \"127.0.0.1:22\"\n", a.name, c.name)
			interval := time.Duration(c.every) * dayInterval
			if c.results {
				fmt.Fprintf(&b, "type = \"sweep\"\nresults_interval = %q\n", interval)
			} else {
				fmt.Fprintf(&b, "type = \"port\"\ninterval = %q\n", interval)
			}
		}
	}
	return b.String()
}

func dayAddress(agent int) string { return fmt.Sprintf("127.2.0.%d:50051", agent+1) }

// live is the day itself, in a bubble.
func (d *day) live(t *testing.T) {
	var network sim.Net
	hosts := d.hosts(t, &network)
	cfg, _, err := config.Parse("day.toml", []byte(d.toml()), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	poller := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop(), Observe: d.observe, Dial: network.Dial})
	d.begun = time.Now()
	for range d.length / (48 * time.Minute) {
		d.killAt = append(d.killAt, d.begun.Add(time.Duration(d.random.Int64N(int64(d.length-10*time.Minute)))))
	}
	if err := poller.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.sorted().Play(t.Context(), hosts); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Until(d.begun.Add(d.length - time.Millisecond)))
	if err := poller.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, host := range hosts {
		host.Stop()
	}
	time.Sleep(time.Second)
}

func (d *day) sorted() sim.Script {
	s, err := sim.ParseScript(d.script.String()) // which also shows that what is printed is what is played
	if err != nil {
		panic(err)
	}
	return s
}

func (d *day) hosts(t *testing.T, network *sim.Net) map[string]*sim.Host {
	t.Helper()
	hosts := make(map[string]*sim.Host)
	listen := func(address string) func() (net.Listener, error) {
		return func() (net.Listener, error) { return network.Listen(address) }
	}
	core := &sim.Core{Discard: true, OnDelivery: d.delivered}
	host, err := core.NewHost(nil, listen(coreAddress))
	if err != nil {
		t.Fatal(err)
	}
	hosts["core"] = host
	for i, a := range d.agents {
		host, err := sim.NewChecker(sim.Behaviour{}).NewHost(sim.Listing(3, 100*time.Millisecond), nil, listen(dayAddress(i)))
		if err != nil {
			t.Fatal(err)
		}
		hosts[a.name] = host
	}
	return hosts
}

func (d *day) delivered(r sim.Delivery) {
	if r.Registration() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	report := dayReport{id: r.ID, at: r.At.Sub(d.begun), timestamp: r.Timestamp}
	for _, s := range r.Services {
		report.statuses = append(report.statuses, dayStatus{s.GetAgentId(), s.GetServiceName(), s.GetAvailable(), reasonIn(s.GetMessage())})
	}
	d.reports = append(d.reports, report)
	d.statuses += len(r.Services)
}

// reasonIn returns the reason in a message's envelope; empty if there is none.
func reasonIn(message []byte) string {
	_, after, found := strings.Cut(string(message), `"reason":"`)
	if !found {
		return ""
	}
	reason, _, _ := strings.Cut(after, `"`)
	return reason
}

// observe keeps the breakers' moves, and kills the actor that tells something when it is time to.
func (d *day) observe(event actors.Event) {
	actor := ""
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	switch e := event.(type) {
	case actors.BreakerChanged:
		d.moves[e.Agent] = append(d.moves[e.Agent], dayMove{now, e.From, e.To})
		actor = e.Agent
	case actors.HealthTold:
		actor = e.Agent
	case actors.ActorRestarted:
		name := strings.TrimPrefix(e.Actor, "agent/")
		d.moves[name] = append(d.moves[name], dayMove{now, "", "half-open"})
	case actors.CycleClosed:
		actor = "poller"
	case actors.ReportDelivered:
		actor = "reporter"
	}
	if actor == "" {
		return
	}
	for i, at := range d.killAt {
		if !now.Before(at) {
			d.killAt = append(d.killAt[:i:i], d.killAt[i+1:]...)
			d.kills = append(d.kills, dayKill{now.Sub(d.begun), actor})
			panic("killed by the test")
		}
	}
}
