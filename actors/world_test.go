package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
	"github.com/serviceradar/poller/proto/monitoring"
)

// world is a System in a bubble: its checkers, core and events are in memory.
type world struct {
	t   *testing.T
	sys *actors.System
	o   actors.Options

	mu       sync.Mutex
	checkers map[string]*checker
	events   []actors.Event
	hook     func(actors.Event) // called outside the lock

	core *core
}

// checker is the in-memory twin of a checker's client.
type checker struct {
	mu          sync.Mutex
	ask         func(ctx context.Context, c *check.Check) (check.Answer, error)
	health      func(ctx context.Context) (string, error)
	results     func(ctx context.Context, c *check.Check, last string) (check.Answer, error)
	connections func() uint64
	connect     func(ctx context.Context) error // nil: at once
	asked       int
	closed      atomic.Int64
}

func (c *checker) set(f func(c *checker)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *checker) Ask(ctx context.Context, chk *check.Check) (check.Answer, error) {
	c.mu.Lock()
	c.asked++
	ask := c.ask
	c.mu.Unlock()
	return ask(ctx, chk)
}

func (c *checker) Results(ctx context.Context, chk *check.Check, last string) (check.Answer, error) {
	c.mu.Lock()
	c.asked++
	results := c.results
	c.mu.Unlock()
	return results(ctx, chk, last)
}

func (c *checker) Connect(ctx context.Context) error {
	c.mu.Lock()
	connect := c.connect
	c.mu.Unlock()
	if connect == nil {
		return nil
	}
	return connect(ctx)
}

func (c *checker) Health(ctx context.Context) (string, error) {
	c.mu.Lock()
	health := c.health
	c.mu.Unlock()
	return health(ctx)
}

func (c *checker) Connections() uint64 {
	c.mu.Lock()
	connections := c.connections
	c.mu.Unlock()
	return connections()
}

func (c *checker) Close() error {
	c.closed.Add(1)
	return nil
}

// calls returns how often the checker was asked.
func (c *checker) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func up(context.Context, *check.Check) (check.Answer, error) {
	return check.Answer{Available: true, Message: []byte(`{"n":1}`), ResponseTime: time.Millisecond}, nil
}

// slow answers as up does, but only after d.
func slow(d time.Duration) func(context.Context, *check.Check) (check.Answer, error) {
	return func(ctx context.Context, c *check.Check) (check.Answer, error) {
		time.Sleep(d)
		return up(ctx, c)
	}
}

// shortly answers as up does, but late enough that results which come at once find the cycle open.
var shortly = slow(100 * time.Millisecond)

// hang waits until the deadline and then fails as the transport does.
func hang(ctx context.Context, _ *check.Check) (check.Answer, error) {
	<-ctx.Done()
	return check.Answer{}, check.Failf(check.Timeout, ctx.Err(), "connected, but no answer")
}

func refuse(context.Context, *check.Check) (check.Answer, error) {
	return check.Answer{}, check.Failf(check.Unreachable, nil, "connection refused")
}

func serving(context.Context) (string, error) { return "SERVING", nil }

func gone(context.Context) (string, error) {
	return "", check.Failf(check.Unreachable, nil, "connection refused")
}

// core is the in-memory twin of core's client.
type core struct {
	mu        sync.Mutex
	fault     func(ctx context.Context, d wire.Delivery) error // nil: takes everything
	delivered []delivery
	inFlight  int
	most      int // calls in flight at once
}

type delivery struct {
	id  string
	at  time.Time
	req *monitoring.PollerStatusRequest
}

func (c *core) Deliver(ctx context.Context, d wire.Delivery) error {
	c.mu.Lock()
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	fault := c.fault
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.inFlight--
		c.mu.Unlock()
	}()
	if fault != nil {
		if err := fault(ctx, d); err != nil {
			return err
		}
	}
	req := new(monitoring.PollerStatusRequest)
	if err := proto.Unmarshal(d.Body, req); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered = append(c.delivered, delivery{id: d.ID, at: time.Now(), req: req})
	return nil
}

func (c *core) setFault(f func(ctx context.Context, d wire.Delivery) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

func (c *core) mostInFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

func (c *core) all() []delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.delivered)
}

// settings returns a configuration of agents × checks with an interval, everything else at
// values that suit tests.
func settings(agents, checks int, interval, timeout time.Duration) *config.Config {
	cfg := &config.Config{
		PollerID: "p", Partition: "default", SourceIP: "127.0.0.1",
		ShutdownTimeout: 10 * time.Second,
		Core:            config.Core{MaxMessage: 3 << 20},
		Poll:            config.Poll{Interval: interval, Rate: 500, MaxInFlight: 2048},
		Breaker:         config.Breaker{Failures: 5, Probe: 3 * time.Second},
		Restart:         config.Restart{Initial: 100 * time.Millisecond, Max: 30 * time.Second, Budget: 3, Window: time.Minute},
	}
	for i := range agents {
		a := &check.Agent{Name: fmt.Sprintf("a%03d", i), Address: "127.0.0.1:1", HealthService: "AgentService"}
		for j := range checks {
			a.Checks = append(a.Checks, check.Check{
				Name: fmt.Sprintf("c%d", j), Type: "port", Details: "127.0.0.1:22", Interval: interval, Timeout: timeout,
			})
		}
		cfg.Agents = append(cfg.Agents, a)
	}
	return cfg
}

// run runs a test in a bubble with a world of its own. The bubble itself is the leak check: it
// fails if a goroutine is left.
func run(t *testing.T, cfg *config.Config, test func(w *world), change ...func(o *actors.Options)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg, change...)
		test(w)
		w.stop()
		w.pass(time.Millisecond) // the framework's throttle of dead letters outlives them a moment
	})
}

func newWorld(t *testing.T, cfg *config.Config, change ...func(o *actors.Options)) *world {
	w := &world{t: t, checkers: make(map[string]*checker), core: new(core)}
	for i := range cfg.Agents {
		w.checkers[cfg.Agents[i].Name] = &checker{
			ask: up, health: serving, connections: func() uint64 { return 1 },
		}
	}
	w.o = actors.Options{
		Config:   cfg,
		Identity: wire.Identity{PollerID: cfg.PollerID, Partition: cfg.Partition, SourceIP: cfg.SourceIP, MaxMessage: int(cfg.Core.MaxMessage), MaxReport: spool.MemoryLimit},
		Boot:     "b",
		Dial:     func(a *check.Agent) (actors.Checker, error) { return w.checkers[a.Name], nil },
		Core:     w.core,
		Spool:    spool.NewMemory(spool.Config{MaxBytes: spool.MemoryLimit, MaxAge: time.Hour}),
		Observe:  w.observe,
		Log:      slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&w.o)
	}
	return w
}

func (w *world) start() {
	w.t.Helper()
	sys, err := actors.Start(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.sys = sys
}

// stop stops the system, if it was started and a test has not stopped it already.
func (w *world) stop() {
	w.t.Helper()
	if w.sys == nil {
		return
	}
	if err := w.sys.Stop(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) observe(e actors.Event) {
	w.mu.Lock()
	w.events = append(w.events, e)
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		hook(e)
	}
}

// panicAtFirst lets the actor that tells the first event of a type panic over it.
func panicAtFirst[E actors.Event](w *world) { panicAt[E](w, 1) }

// panicAt lets the actors that tell these of the events of a type, counted from 1, panic over them.
func panicAt[E actors.Event](w *world, which ...int) {
	var told atomic.Int64
	w.hook = func(e actors.Event) {
		if _, ok := e.(E); ok && slices.Contains(which, int(told.Add(1))) {
			panic("test fault in the observer")
		}
	}
}

// seen returns the events of one type, in order.
func seen[E actors.Event](w *world) []E {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []E
	for _, e := range w.events {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

// wantWhole asserts that core has the cycles from first to last, each once, in order, at regular
// times, and in each every check of every agent exactly once. It returns the statuses by
// cycle and agent/check.
func (w *world) wantWhole(cycles int) []map[string]*monitoring.ServiceStatus {
	w.t.Helper()
	got := w.core.all()
	if len(got) != cycles {
		w.t.Fatalf("core has %d reports, want %d", len(got), cycles)
	}
	var all []map[string]*monitoring.ServiceStatus
	for i, d := range got {
		if want := fmt.Sprintf("p/b/%d", i+1); d.id != want {
			w.t.Errorf("report %d has id %s, want %s", i, d.id, want)
		}
		if want := got[0].req.GetTimestamp() + int64(time.Duration(i)*w.o.Config.Poll.Interval/time.Second); d.req.GetTimestamp() != want {
			w.t.Errorf("report %d has timestamp %d, want %d", i, d.req.GetTimestamp(), want)
		}
		all = append(all, w.byCheck(d.req.GetServices()))
	}
	return all
}

func (w *world) byCheck(services []*monitoring.ServiceStatus) map[string]*monitoring.ServiceStatus {
	w.t.Helper()
	want := 0
	for _, a := range w.o.Config.Agents {
		want += len(a.Checks)
	}
	by := make(map[string]*monitoring.ServiceStatus)
	for _, s := range services {
		key := s.GetAgentId() + "/" + s.GetServiceName()
		if by[key] != nil {
			w.t.Errorf("%s is twice in a report", key)
		}
		by[key] = s
	}
	if len(by) != want {
		w.t.Errorf("a report has %d checks, want %d", len(by), want)
	}
	return by
}
