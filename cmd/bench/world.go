package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// agentsPerServer is how many agents share a simulated checker's port: the kernel has about 28,000 ports of ours for the
// connections to one.
const agentsPerServer = 2000

// answer is what a check of a system's vital signs may say, about 300 bytes.
const answer = `{"available":true,"response_time":1843211,"status":{"cpus":[{"core_id":0,"usage_percent":12.5},` +
	`{"core_id":1,"usage_percent":9.25}],"disks":[{"mount_point":"/","used_bytes":18253611008,"total_bytes":53687091200}],` +
	`"memory":{"used_bytes":2147483648,"total_bytes":8589934592},"uptime_seconds":1209600,"load":[0.42,0.37,0.31]}}`

// world is the checkers and the core of one run, and what they saw of it. Nothing in it is shared with another run.
type world struct {
	size    size
	asked   []atomic.Int64 // of each check, how often
	times   []atomic.Int64 // of each check, when, in nanoseconds since began; room for most
	most    int
	began   time.Time
	first   chan struct{} // closed when the first check is asked
	once    sync.Once
	strange atomic.Int64 // calls for checks that there are not

	core    sim.Core
	servers []*sim.Server
	checker []string // addresses

	mu      sync.Mutex
	cycles  []atCore // by their time
	atCore  []uint8  // of each check, how many statuses of each cycle; room for most
	failed  int      // statuses that are not what the checker said
	unknown int      // statuses of checks or cycles that there are not
}

// atCore is what core has of a cycle.
type atCore struct {
	timestamp int64
	last      time.Time
}

// newWorld starts checkers and core for a run of at most so many cycles.
func newWorld(s size, cycles int) (*world, error) {
	most := cycles + 1 // if one begins before the run is stopped
	w := &world{
		size: s, asked: make([]atomic.Int64, s.all()), times: make([]atomic.Int64, s.all()*most), most: most,
		began: time.Now(), first: make(chan struct{}), atCore: make([]uint8, s.all()*most),
	}
	w.core.Discard, w.core.OnDelivery = true, w.delivered
	checker := sim.NewChecker(sim.Behaviour{Answer: w.answer})
	for range (s.agents + agentsPerServer - 1) / agentsPerServer {
		server, err := checker.Start("127.0.0.1:0", nil)
		if err != nil {
			w.close()
			return nil, err
		}
		w.servers, w.checker = append(w.servers, server), append(w.checker, server.Addr())
	}
	server, err := w.core.Start("127.0.0.1:0", nil)
	if err != nil {
		w.close()
		return nil, err
	}
	w.servers = append(w.servers, server)
	return w, nil
}

func (w *world) close() {
	for _, server := range w.servers {
		server.Stop()
	}
}

// answer is the checkers' answer; it notes when they were asked.
func (w *world) answer(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	now := time.Since(w.began)
	w.once.Do(func() { close(w.first) })
	n, ok := w.size.number(r.GetAgentId(), r.GetServiceName())
	if !ok {
		w.strange.Add(1)
	} else if k := int(w.asked[n].Add(1)) - 1; k < w.most {
		w.times[n*w.most+k].Store(int64(now))
	}
	return &monitoring.StatusResponse{
		Available: true, Message: []byte(answer), ResponseTime: 1843211, ServiceName: r.GetServiceName(),
		ServiceType: r.GetServiceType(), AgentId: r.GetAgentId(), PollerId: r.GetPollerId(),
	}, nil
}

func (w *world) delivered(d sim.Delivery) {
	if d.Registration() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.cycles, func(c atCore) bool { return c.timestamp == d.Timestamp })
	if i < 0 {
		i = len(w.cycles)
		w.cycles = append(w.cycles, atCore{timestamp: d.Timestamp})
	}
	w.cycles[i].last = d.At
	for _, s := range d.Services {
		if n, ok := w.size.number(s.GetAgentId(), s.GetServiceName()); ok && i < w.most {
			w.atCore[n*w.most+i]++
		} else {
			w.unknown++
		}
		if !s.GetAvailable() || len(s.GetMessage()) < len(answer) {
			w.failed++
		}
	}
}

// config writes the configuration of a subject that polls this world into a directory. Admin is where it serves profiles.
func (w *world) config(dir, state, admin string, interval time.Duration) (file string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "poller_id = \"bench\"\nstate_dir = %q\nsource_ip = \"127.0.0.1\"\nadmin.listen = %q\ncore.addresses = [%q]\n"+
		"poll.interval = %q\nlog.level = \"warn\"\n", state, admin, w.servers[len(w.servers)-1].Addr(), interval)
	for i := range w.size.agents {
		fmt.Fprintf(&b, "[agents.%s]\naddress = %q\n", agentName(i), w.checker[i/agentsPerServer])
		for j := range w.size.checks {
			fmt.Fprintf(&b, "[[agents.%s.checks]]\nname = %q\ntype = \"sysmon\"\ndetails = \"192.0.2.%d:22\"\n", agentName(i), checkName(j), i%250+1)
		}
	}
	file = filepath.Join(dir, "poller.toml")
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// complete tells what is missing or too much: each check is to be asked once in each of the cycles, and in the next one if that has
// begun; and of each time core is to have one status, in its cycle, with what the checker said. Call it when the subject has ended.
func (w *world) complete(cycles int, interval time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seldom, soon, lost, doubled := 0, 0, 0, 0
	for n := range w.asked {
		asked := int(w.asked[n].Load())
		if asked < cycles {
			seldom++
		}
		for k := 1; k < min(asked, w.most); k++ {
			if w.times[n*w.most+k].Load()-w.times[n*w.most+k-1].Load() < int64(interval/2) {
				soon++
			}
		}
		for k := range max(asked, cycles) {
			switch {
			case k >= w.most:
				soon++
			case w.atCore[n*w.most+k] == 0:
				lost++
			}
		}
		for _, statuses := range w.atCore[n*w.most : (n+1)*w.most] {
			doubled += max(0, int(statuses)-1)
		}
	}
	var errs []error
	for _, wrong := range []struct {
		n    int
		what string
	}{
		{seldom, fmt.Sprintf("checks were not asked in each of %d cycles", cycles)},
		{soon, "times a check was asked again in the same cycle"},
		{lost, "statuses are lost"},
		{doubled, "statuses are at core twice"},
		{w.failed, "statuses are not what the checker said"},
		{w.unknown, "statuses are of checks or cycles that there are not"},
		{int(w.strange.Load()), "calls were for checks that there are not"},
		{w.core.Stats().Dropped, "deliveries were dropped by core"},
	} {
		if wrong.n > 0 {
			errs = append(errs, fmt.Errorf("%d %s", wrong.n, wrong.what))
		}
	}
	for _, v := range w.core.Violations() {
		errs = append(errs, fmt.Errorf("against the contract: %s", v))
	}
	return errors.Join(errs...)
}

// intervalErrors returns how far from the interval the times between two runs of each check were, from the second cycle on, in
// order.
func (w *world) intervalErrors(cycles int, interval time.Duration) []time.Duration {
	var all []time.Duration
	for n := range w.asked {
		times := w.times[n*w.most : n*w.most+cycles]
		for k := 2; k < len(times); k++ {
			between := time.Duration(times[k].Load() - times[k-1].Load())
			all = append(all, (between - interval).Abs())
		}
	}
	slices.Sort(all)
	return all
}

// toCore returns, of each cycle but the first, how long after its last check was asked core had all of it, in order.
func (w *world) toCore(cycles int) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []time.Duration
	for k := 1; k < min(cycles, len(w.cycles)); k++ {
		last := int64(math.MinInt64)
		for n := range w.asked {
			last = max(last, w.times[n*w.most+k].Load())
		}
		all = append(all, w.cycles[k].last.Sub(w.began.Add(time.Duration(last))))
	}
	slices.Sort(all)
	return all
}
