//go:build chaos

package daemon_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	chaosInterval = 2 * time.Second
	chaosChecks   = 2
	chaosPerHost  = 5 // agents that share a checker
	// chaosMends is until when core must have two cycles without any fault: 5 s until the first of them may
	// begin, what is left of the one under way, and what the two take.
	chaosMends = 5*time.Second + 3*chaosInterval
)

// TestChaos has checkers and core fail and actors panic, at random, by the real clock and over real
// connections. Every run that is due must have its one status at core all the same, in order, and a
// while after the last fault every answer must come from the agent's own checker. It takes about 10 s longer
// than the faults. CHAOS_AGENTS (1000), CHAOS_FOR (1m) and CHAOS_SEED, which makes the same faults at the same
// times, say how; what the faults meet then is the machine's to say.
func TestChaos(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newChaos(t)
	defer c.end()
	defer func() {
		if t.Failed() {
			t.Logf("CHAOS_SEED=%d makes these faults:\n%s", c.seed, c.script)
		}
	}()
	awaitMidSecond() // so that no cycle's time is near the turn of a second
	began := time.Now()
	d := c.start()
	if err := c.script.Play(t.Context(), c.hosts); err != nil {
		t.Error(err)
	}
	<-time.After(time.Until(began.Add(c.length)))
	c.killer.end()
	c.awaitRight()
	// The stop comes when nothing is started: in the last quarter of a cycle.
	cycles := int((time.Since(began)+chaosInterval/4)/chaosInterval) + 1
	<-time.After(time.Until(began.Add(time.Duration(cycles)*chaosInterval - chaosInterval/4)))
	if ready, conditions := d.Ready(); !ready {
		t.Errorf("not ready: %+v", conditions)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Error(err)
	}
	c.end()
	c.verify(cycles)
	c.killer.verify(t)
	t.Logf("%d agents, faults for %v, CHAOS_SEED=%d; %d goroutines at the end", c.agents, c.length, c.seed, runtime.NumGoroutine())
}

// chaos is what TestChaos works with.
type chaos struct {
	t      *testing.T
	agents int
	length time.Duration // of the faults
	seed   uint64

	core   sim.Core
	hosts  map[string]*sim.Host
	of     map[string]string // the host of each agent
	toml   string
	script sim.Script
	killer *killer
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{t: t, hosts: make(map[string]*sim.Host), of: make(map[string]string)}
	c.agents = fromEnvironment(t, "CHAOS_AGENTS", 1000, strconv.Atoi)
	c.length = fromEnvironment(t, "CHAOS_FOR", time.Minute, time.ParseDuration)
	c.seed = fromEnvironment(t, "CHAOS_SEED", rand.Uint64(), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	c.killer = &killer{rand: rand.New(rand.NewPCG(c.seed, 3)), killed: make(map[string]int)}
	core := listener("127.6.0.1:0")
	c.add("core")(c.core.NewHost(nil, core.listen))
	var toml strings.Builder
	fmt.Fprintf(&toml, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore = { addresses = [%q], timeout = \"1s\" }\n"+
		"poll = { interval = %q, timeout = \"1900ms\", rate = %d }\n"+ // half of each cycle is without starts
		"restart = { initial = \"20ms\", max = \"300ms\", budget = 100000 }\n", core.address, chaosInterval, c.agents) // nobody is parked
	for i := 0; i*chaosPerHost < c.agents; i++ {
		name := fmt.Sprintf("h%d", i)
		checker := listener(fmt.Sprintf("127.6.%d.%d:0", 1+i/200, 1+i%200))
		c.add(name)(sim.NewChecker(sim.Behaviour{}).NewHost(signed(name), nil, checker.listen))
		prefix, n := name+"a", min(chaosPerHost, c.agents-i*chaosPerHost)
		toml.WriteString(agents(prefix, n, chaosChecks, checker.address))
		for j := range n {
			c.of[fmt.Sprintf("%s%03d", prefix, j)] = name
		}
	}
	c.toml = toml.String()
	c.script = c.faults()
	return c
}

// signed answers with the name of the host, the agent and the check; the second check of each agent takes
// a while, so that something is under way when the first has told of the connection.
func signed(host string) sim.Behaviour {
	return sim.Behaviour{Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		if r.GetServiceName() == "c1" {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return &monitoring.StatusResponse{Available: true, Message: []byte(signature(host, r.GetAgentId(), r.GetServiceName()) + "}")}, nil
	}}
}

func signature(host, agent, check string) string {
	return fmt.Sprintf(`{"host":"%s","who":"%s/%s"`, host, agent, check)
}

// tcpListener listens on an address; where the system chose the port, on the same one again.
type tcpListener struct{ address string }

func listener(address string) *tcpListener { return &tcpListener{address: address} }

func (l *tcpListener) listen() (net.Listener, error) {
	tcp, err := new(net.ListenConfig).Listen(context.Background(), "tcp", l.address)
	if err == nil {
		l.address = tcp.Addr().String()
	}
	return tcp, err
}

// add takes a new host, if it could start.
func (c *chaos) add(name string) func(*sim.Host, error) {
	return func(h *sim.Host, err error) {
		if err != nil {
			c.t.Fatal(err)
		}
		c.hosts[name] = h
	}
}

// faults makes the script: those of checkers, and shorter ones of core.
func (c *chaos) faults() sim.Script {
	checkers := []sim.Fault{
		{Kind: sim.KindDown},
		{Kind: sim.KindFrozen},
		{Kind: sim.KindSilent},
		{Kind: sim.KindGarbage},
		{Kind: sim.KindHTTP1},
		{Kind: sim.KindReset},
		{Kind: sim.KindGoAway},
		{Kind: sim.KindGoAway, For: 200 * time.Millisecond},
		{Kind: sim.KindHang},
		{Kind: sim.KindHangAll},
		{Kind: sim.KindSlow, For: 500 * time.Millisecond},
		{Kind: sim.KindError, Code: codes.Internal},
		{Kind: sim.KindBadJSON},
		{Kind: sim.KindDown, Good: 200 * time.Millisecond, Bad: 100 * time.Millisecond},
	}
	cores := []sim.Fault{
		{Kind: sim.KindDown},
		{Kind: sim.KindDown, Good: 300 * time.Millisecond, Bad: 100 * time.Millisecond},
		{Kind: sim.KindReset},
		{Kind: sim.KindSilent},
		{Kind: sim.KindFrozen},
		{Kind: sim.KindGoAway},
		{Kind: sim.KindHang},
		{Kind: sim.KindHang, AfterTaking: true},
		{Kind: sim.KindSlow, For: 500 * time.Millisecond},
		{Kind: sim.KindNotReceived},
		{Kind: sim.KindError, Code: codes.Unavailable},
		{Kind: sim.KindError, Code: codes.Unknown, AfterTaking: true},
		{Kind: sim.KindError, Code: codes.PermissionDenied},
	}
	names := slices.Sorted(maps.Keys(c.hosts))
	names = slices.DeleteFunc(names, func(name string) bool { return name == "core" })
	longest := max(min(c.length/8, 3*time.Second), 400*time.Millisecond)
	script := slices.Concat(
		sim.RandomScript(rand.NewPCG(c.seed, 1), names, checkers, 200*time.Millisecond, longest, c.length),
		sim.RandomScript(rand.NewPCG(c.seed, 2), []string{"core"}, cores, 200*time.Millisecond, max(longest/3, 400*time.Millisecond), c.length),
	)
	slices.SortStableFunc(script, func(a, b sim.Step) int { return int(a.At - b.At) })
	return script
}

func (c *chaos) start() *daemon.Daemon {
	c.t.Helper()
	cfg, _, err := config.Parse("chaos.toml", []byte(c.toml), config.Source{})
	if err != nil {
		c.t.Fatal(err)
	}
	d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop(), Observe: c.killer.observe})
	if err := d.Start(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return d
}

func (c *chaos) end() {
	for _, h := range c.hosts {
		h.Stop()
	}
}

// awaitRight waits until core has two reports in a row of what is right, and nothing else.
func (c *chaos) awaitRight() {
	c.t.Helper()
	over := time.Now()
	ctx, stalls := undisturbed(c.t.Context(), chaosMends)
	wrong := []string{"that there are none"}
	var last []sim.Delivery
	_, err := c.core.Await(ctx, func(all []sim.Delivery) bool {
		all, _ = withoutRepeats(slices.DeleteFunc(all, func(d sim.Delivery) bool { return d.Registration() || d.Timestamp <= over.Unix() }))
		if len(all) < 2 {
			return false
		}
		last = all[len(all)-2:]
		wrong = append(c.wrong(last[0]), c.wrong(last[1])...)
		return len(wrong) == 0
	})
	if err != nil {
		c.t.Errorf("%v after the last fault, with %d stalls of the machine, %d statuses of two cycles are wrong, such as %s",
			time.Since(over), stalls(), len(wrong), wrong[0])
		return
	}
	c.t.Logf("all right in the cycle that began %v after the last fault, and in the next; the machine stalled %d times",
		time.Unix(last[0].Timestamp, 0).Sub(over).Round(time.Second), stalls())
}

// undisturbed returns a context that ends when d has passed in which the machine had time for us, or after
// ten times d; and a function that ends it, too, and returns how often the machine had not.
func undisturbed(ctx context.Context, d time.Duration) (_ context.Context, end func() int) {
	const tick, stall = 10 * time.Millisecond, 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, 10*d)
	stalls := make(chan int, 1)
	go func() {
		defer cancel()
		n := 0
		for left := d; left > 0 && ctx.Err() == nil; {
			began := time.Now()
			<-time.After(tick)
			took := time.Since(began)
			if left -= took; took > tick+stall {
				left = d
				n++
			}
		}
		stalls <- n
	}()
	return ctx, func() int {
		cancel()
		return <-stalls
	}
}

// wrong returns what in a report is not the answer of the agent's own checker.
func (c *chaos) wrong(d sim.Delivery) []string {
	var wrong []string
	for _, s := range d.Services {
		if !s.GetAvailable() || !strings.Contains(string(s.GetMessage()), signature(c.of[s.GetAgentId()], s.GetAgentId(), s.GetServiceName())) {
			wrong = append(wrong, string(s.GetMessage()))
		}
	}
	if len(d.Services) != c.agents*chaosChecks {
		wrong = append(wrong, fmt.Sprintf("a report of %d statuses", len(d.Services)))
	}
	return wrong
}

// verify asserts that core has one status for each run of the cycles, in order and at regular times.
func (c *chaos) verify(cycles int) {
	c.t.Helper()
	reports, repeated := withoutRepeats(slices.DeleteFunc(c.core.Deliveries(), sim.Delivery.Registration))
	seen := make(map[string]bool)
	reasons := make(map[string]int)
	var times []int64
	doubled := 0
	for _, d := range reports {
		times = append(times, d.Timestamp)
		for _, s := range d.Services {
			key := fmt.Sprintf("%d %s/%s", d.Timestamp, s.GetAgentId(), s.GetServiceName())
			if seen[key] {
				doubled++
			}
			seen[key] = true
			reasons[cmp.Or(reasonIn(s.GetMessage()), "answered")]++
		}
	}
	due := cycles * c.agents * chaosChecks
	c.t.Logf("%d cycles, %d runs due, %d have a status at core, %d doubled: %v; %d reports came twice in a row, with the same id",
		cycles, due, len(seen), doubled, reasons, repeated)
	c.t.Logf("%d faults", len(c.script)/2)
	regular := len(times) == cycles
	for i := 1; i < len(times); i++ {
		regular = regular && times[i]-times[i-1] == int64(chaosInterval/time.Second)
	}
	if len(seen) != due || doubled != 0 || !regular {
		c.t.Errorf("not every run has exactly one status, in order and at regular times: %v", times)
	}
	for _, v := range c.core.Violations() {
		c.t.Error("violation:", v)
	}
	if n := len(c.core.Dropped()); n > 0 {
		c.t.Errorf("core dropped %d reports of a poller that it did not know", n)
	}
}
