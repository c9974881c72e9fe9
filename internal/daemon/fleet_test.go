package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	fleetSize     = 1500 / oneIn
	fleetRate     = fleetSize / 2 // so that they start within two seconds
	fleetInterval = 3 * time.Second
)

// fleet is a daemon with many agents, each with a real connection, whose checkers and core are sound.
type fleet struct {
	t       *testing.T
	daemon  *daemon.Daemon
	core    sim.Core
	listens *witness
	// asked and answered count calls of the checkers.
	asked, answered atomic.Int64
	// taken is closed when the first report was taken, half when half of the agents were asked the second time.
	taken, half chan struct{}
}

// witness is a listener that remembers when it was connected to.
type witness struct {
	net.Listener
	mu    sync.Mutex
	times []time.Time
}

func (w *witness) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.times = append(w.times, time.Now())
	}
	return conn, err
}

// most returns how many connections there were, and how many at most within a while.
func (w *witness) most(while time.Duration) (all, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for first, last := 0, 0; last < len(w.times); last++ {
		for w.times[last].Sub(w.times[first]) > while {
			first++
		}
		most = max(most, last-first+1)
	}
	return len(w.times), most
}

// TestFleet starts a poller with many agents, and stops it in the middle of their second cycle. It looks for leaks,
// and so is not parallel.
func TestFleet(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) }) // after all others
	f := newFleet(t)
	began := time.Now()
	if err := f.daemon.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.daemon.Stop(context.Background()) }) // it may be called again; when something failed, this is the first
	if ready, said := f.ready(); ready || said != "starting: the first cycle has not closed yet" {
		t.Errorf("right after the start: ready %v, the condition of the cycle says %q", ready, said)
	}
	await(t, f.taken, "the first report")
	readyAfter := time.Since(began)
	if ready, said := f.ready(); !ready {
		t.Errorf("after the first cycle it is not ready: %q", said)
	}
	await(t, f.half, "half of the second cycle")
	// By the rate it is a quarter; unspread, it would be all. The machine may have other things to do.
	const while, many = 500 * time.Millisecond, fleetSize * 4 / 5
	all, most := f.listens.most(while)
	if all != fleetSize || most > many {
		t.Errorf("%d connections, up to %d of them within %v; want %d and %d", all, most, while, fleetSize, many)
	}
	began = time.Now()
	if err := f.daemon.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d agents: up to %d connections within %v, ready after %v, stopped in %v", fleetSize, most, while, readyAfter, time.Since(began))
	f.wantAll()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, taken: make(chan struct{}), half: make(chan struct{})}
	coreServer, err := f.core.Start("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coreServer.Stop)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.listens = &witness{Listener: l}
	server := sim.NewChecker(sim.Behaviour{Answer: f.answer}).Serve(f.listens, nil)
	t.Cleanup(server.Stop)
	cfg, _, err := config.Parse("fleet.toml", fmt.Appendf(nil, "poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nadmin.listen = \"\"\n"+
		"shutdown_timeout = \"10s\"\ncore.addresses = [%q]\npoll = { interval = %q, rate = %d }\n%s",
		coreServer.Addr(), fleetInterval, fleetRate, agents("a", fleetSize, 1, server.Addr())), config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	f.daemon = daemon.New(daemon.Options{Config: cfg, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), Observe: f.observe})
	return f
}

// answer takes its time, so that there are always some calls under way.
func (f *fleet) answer(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	if f.asked.Add(1) == fleetSize*3/2 {
		close(f.half)
	}
	response, err := sim.Slow(50*time.Millisecond).Answer(ctx, r)
	f.answered.Add(1)
	return response, err
}

// observe looks with each event, of which every agent has some, whether the daemon is ready too early.
func (f *fleet) observe(e actors.Event) {
	if ready, said := f.ready(); ready && f.answered.Load() < fleetSize {
		f.t.Errorf("ready in the first cycle, with %d of its answers; the condition of the cycle says %q", f.answered.Load(), said)
	}
	if _, ok := e.(actors.ReportTaken); !ok {
		return
	}
	select {
	case <-f.taken:
	default:
		close(f.taken)
	}
}

func (f *fleet) ready() (ready bool, cycle string) {
	ready, conditions := f.daemon.Ready()
	i := slices.IndexFunc(conditions, func(c observe.Condition) bool { return c.Name == "cycle" })
	return ready, conditions[i].Detail
}

// wantAll wants at core what every agent answered in the first cycle, and in the second those that were asked.
func (f *fleet) wantAll() {
	f.t.Helper()
	asked := int(f.asked.Load())
	var cycles []int // how many statuses each has
	for _, d := range f.core.Deliveries() {
		if d.Registration() {
			continue
		}
		cycles = append(cycles, len(d.Services))
		for _, s := range d.Services {
			if !s.GetAvailable() {
				f.t.Errorf("report %d, %s: %s", len(cycles), s.GetAgentId(), s.GetMessage())
			}
		}
	}
	if want := []int{fleetSize, asked - fleetSize}; !slices.Equal(cycles, want) {
		f.t.Errorf("the reports at core have %d statuses, want %d", cycles, want)
	}
	if second := asked - fleetSize; second < fleetSize/2 || second == fleetSize {
		f.t.Errorf("in the second cycle %d were asked, which is not its middle", second)
	}
}

// BenchmarkStart is what many agents with five checks each cost before the first of them is asked.
func BenchmarkStart(b *testing.B) {
	const n = 10_000
	var network sim.Net
	l, err := network.Listen(coreAddress)
	if err != nil {
		b.Fatal(err)
	}
	defer new(sim.Core).Serve(l, nil).Stop()
	cfg, _, err := config.Parse("many.toml", []byte("admin.listen = \"\"\n"+plain+agents("a", n, 5, "127.2.0.1:1")), config.Source{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		d := daemon.New(daemon.Options{Config: cfg, Log: zerolog.Nop(), Dial: network.Dial})
		if err := errors.Join(d.Start(b.Context()), d.Alive(b.Context())); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := d.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "agents/s")
}

// await waits for something that comes soon.
func await(t *testing.T, what <-chan struct{}, name string) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not come", name)
	}
}
