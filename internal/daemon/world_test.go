package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/credentials"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/internal/transport"
)

// world is a daemon in a bubble that speaks gRPC, over a network in memory, to simulated checkers
// and a simulated core.
type world struct {
	t          *testing.T
	net        sim.Net
	core       sim.Core
	coreServer *sim.Server
	checkers   []*sim.Server
	daemon     *daemon.Daemon
	lookup     transport.LookupFunc // of hosts; nothing is found if it is nil
	log        *bytes.Buffer        // gets the log at level info, if it is not nil; to be read after the stop
	most       kept                 // reports and bytes that were kept for core at the same time

	mu     sync.Mutex
	events []actors.Event
	times  []time.Time // when they came
	cables cables
}

type kept struct {
	reports int
	bytes   int64
}

const coreAddress = "127.1.0.1:50052"

// run runs a test in a bubble, with core up. Leaks fail it: a bubble ends only without goroutines.
func run(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		w.coreUp()
		defer w.end() // also after a fatal error, or the bubble's complaint would hide it
		test(w)
	})
}

func (w *world) end() {
	w.stop()
	w.coreServer.Stop()
	for _, s := range w.checkers {
		s.Stop()
	}
	w.pass(time.Millisecond) // what the ends of connections still do
}

func (w *world) find(ctx context.Context, name string) ([]netip.Addr, error) {
	if w.lookup == nil {
		return nil, errors.New("no such host")
	}
	return w.lookup(ctx, name)
}

// coreUp lets core listen, in plaintext unless credentials are given.
func (w *world) coreUp(creds ...credentials.TransportCredentials) {
	w.t.Helper()
	l, err := w.net.Listen(coreAddress)
	if err != nil {
		w.t.Fatal(err)
	}
	w.coreServer = w.core.Serve(l, first(creds))
}

// checker serves a simulated checker at an address until the end of the test.
func (w *world) checker(address string, b sim.Behaviour, creds ...credentials.TransportCredentials) (*sim.Checker, *sim.Server) {
	w.t.Helper()
	l, err := w.net.Listen(address)
	if err != nil {
		w.t.Fatal(err)
	}
	c := sim.NewChecker(b)
	server := c.Serve(l, first(creds))
	w.checkers = append(w.checkers, server)
	return c, server
}

func first(creds []credentials.TransportCredentials) credentials.TransportCredentials {
	if len(creds) == 0 {
		return nil
	}
	return creds[0]
}

// agents returns TOML for n agents with the same address and checks.
func agents(prefix string, n, checks int, address string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[agents.%s%03d]\naddress = %q\n", prefix, i, address)
		for j := range checks {
			fmt.Fprintf(&b, "[[agents.%s%03d.checks]]\nname = \"c%d\"\ntype = \"port\"\ndetails = \"127.0.0.1:22\"\n", prefix, i, j)
		}
	}
	return b.String()
}

// start starts a daemon with a poll interval and timeout and further TOML.
func (w *world) start(interval, timeout time.Duration, more string) {
	w.t.Helper()
	toml := fmt.Sprintf("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\ncore.addresses = [%q]\ncore.timeout = \"3s\"\ncore.max_message = \"1MiB\"\n"+
		"[poll]\ninterval = %q\ntimeout = %q\n", coreAddress, interval, timeout)
	cfg, _, err := config.Parse("test.toml", []byte(toml+more), config.Source{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.daemon = daemon.New(daemon.Options{
		Config: cfg, Log: w.logger(),
		Observe: w.observe, Dial: w.cables.dialer(&w.net), Lookup: w.find,
	})
	if err := w.daemon.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) logger() zerolog.Logger {
	if w.log != nil {
		return zerolog.New(zerolog.SyncWriter(w.log)).Level(zerolog.InfoLevel)
	}
	return zerolog.New(zerolog.NewTestWriter(w.t)).Level(zerolog.ErrorLevel)
}

// ready returns whether the daemon is ready, and what it says of one condition.
func (w *world) ready(name string) (ready bool, detail string) {
	ready, conditions := w.daemon.Ready()
	for _, c := range conditions {
		if c.Name == name {
			return ready, c.Detail
		}
	}
	w.t.Errorf("there is no condition %s", name)
	return ready, ""
}

func (w *world) stop() {
	w.t.Helper()
	if w.daemon == nil {
		return
	}
	if err := w.daemon.Stop(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	w.daemon = nil
	synctest.Wait()
	for address, n := range w.cables.counts() {
		if n != 0 {
			w.t.Errorf("%d connections to %s are open after the stop", n, address)
		}
	}
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) observe(e actors.Event) {
	if closed, ok := e.(actors.CycleClosed); ok {
		closed.Runs = nil // or all that checkers said would be kept
		e = closed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events, w.times = append(w.events, e), append(w.times, time.Now())
	if _, ok := e.(actors.ReportTaken); ok {
		reports, bytes := w.daemon.Kept()
		w.most = kept{max(w.most.reports, reports), max(w.most.bytes, bytes)}
	}
}

// breakerMoves returns the states that an agent's breaker went to.
func (w *world) breakerMoves(agent string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var moves []string
	for _, e := range w.events {
		if e, ok := e.(actors.BreakerChanged); ok && e.Agent == agent {
			moves = append(moves, e.To)
		}
	}
	return strings.Join(moves, " ")
}

// breakerCycles returns where an agent's breaker moved to, and in which cycle.
func (w *world) breakerCycles(agent string, began time.Time, interval time.Duration) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var moves []string
	for i, e := range w.events {
		if e, ok := e.(actors.BreakerChanged); ok && e.Agent == agent {
			moves = append(moves, fmt.Sprintf("%d %s", w.times[i].Sub(began)/interval, e.To))
		}
	}
	return strings.Join(moves, ", ")
}

// reports returns the deliveries that carry statuses or are heartbeats, without registrations by
// an empty chunk; it asserts that core saw nothing against the contract and dropped nothing.
func (w *world) reports() []sim.Delivery {
	w.t.Helper()
	for _, v := range w.core.Violations() {
		w.t.Error("core saw a violation:", v)
	}
	if n := len(w.core.Dropped()); n != 0 {
		w.t.Errorf("core dropped %d reports of a poller it did not know", n)
	}
	var reports []sim.Delivery
	for _, d := range w.core.Deliveries() {
		if !d.Registration() {
			reports = append(reports, d)
		}
	}
	return reports
}

// wantWhole asserts that core has one report for each cycle, in order, with regular timestamps,
// each with want distinct checks. It returns the messages by agent/check of each.
func (w *world) wantWhole(cycles, want int, interval time.Duration) []map[string]string {
	w.t.Helper()
	reports := w.reports()
	if len(reports) != cycles {
		w.t.Fatalf("core has %d reports, want %d", len(reports), cycles)
	}
	ids := make(map[string]bool)
	var all []map[string]string
	for i, d := range reports {
		if ids[d.ID] {
			w.t.Errorf("report %s came twice", d.ID)
		}
		ids[d.ID] = true
		if at := reports[0].Timestamp + int64(i)*int64(interval/time.Second); d.Timestamp != at {
			w.t.Errorf("cycle %d has timestamp %d, want %d", i, d.Timestamp, at)
		}
		by := make(map[string]string)
		for _, s := range d.Services {
			key := s.GetAgentId() + "/" + s.GetServiceName()
			if by[key] != "" {
				w.t.Errorf("cycle %d has %s twice", i, key)
			}
			by[key] = string(s.GetMessage())
		}
		if len(by) != want || len(d.Services) != want {
			w.t.Errorf("cycle %d has %d statuses of %d checks, want %d", i, len(d.Services), len(by), want)
		}
		all = append(all, by)
	}
	return all
}
