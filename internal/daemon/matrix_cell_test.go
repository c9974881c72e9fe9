package daemon_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

const (
	cellInterval = time.Second
	cellTimeout  = 450 * time.Millisecond
	// cellLasts is how many runs of a check begin while a fault is there.
	cellLasts = 9
	// stopBy is when a stop that waits for nothing but the deadlines of runs has ended.
	stopBy          = cellTimeout + cellInterval/10
	shutdownTimeout = 5 * time.Second
	// cellBack is how long after its return a checker may be misjudged.
	cellBack = 5 * time.Second

	// A sound victim answers, and sends a chunk, after these times.
	answerAfter = 50 * time.Millisecond
	chunkAfter  = 40 * time.Millisecond

	// quiet is how long after a run is due all is at rest.
	quiet = cellInterval * 3 / 4

	victimAddress    = "127.2.0.1:1"
	bystanderAddress = "127.2.0.2:1"
)

// cell is one fault that strikes at one moment: a victim, which is a host with one agent that has a
// status and a stream of results, beside two agents on a sound host.
type cell struct {
	*world
	fault   string
	cores   string // where they are, for TOML
	checker *sim.Checker
	victim  *sim.Host

	first   int           // the victim's first run that the fault is there for, wholly or in part
	lasts   int           // how many of its runs begin while the fault is there
	phase   time.Duration // how long after the last of them is due it is mended
	mended  time.Time     // zero if it is not
	stopped time.Duration // how long the daemon took to stop; below 0 if it has not

	began time.Time
	mu    sync.Mutex
	notes map[string][]time.Time // when a bystander was asked, by agent, and what the victim notes
}

func newCell(w *world, fault string) *cell {
	w.t.Helper()
	c := &cell{world: w, fault: fault, checker: sim.NewChecker(sim.Behaviour{}), cores: strconv.Quote(coreAddress), lasts: cellLasts, phase: cellInterval - time.Millisecond, stopped: -1, notes: make(map[string][]time.Time)}
	w.checker(bystanderAddress, c.bystander())
	victim, err := c.checker.NewHost(c.unhurried(), nil, func() (net.Listener, error) { return w.net.Listen(victimAddress) })
	if err != nil {
		w.t.Fatal(err)
	}
	c.victim = victim
	return c
}

func (c *cell) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[what] = append(c.notes[what], time.Now())
}

func (c *cell) times(what string) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.notes[what])
}

// unhurried is how the victim behaves if it is sound: it takes its time, so that there is a moment to
// strike at.
func (c *cell) unhurried() sim.Behaviour {
	status, listing := sim.Slow(answerAfter), sim.Listing(4, chunkAfter)
	return sim.Behaviour{
		Answer: func(ctx context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			c.note(asking)
			return status.Answer(ctx, r)
		},
		Chunks: func(ctx context.Context, r *monitoring.ResultsRequest, send func(*monitoring.ResultsChunk) error) error {
			return listing.Chunks(ctx, r, func(chunk *monitoring.ResultsChunk) error {
				err := send(chunk)
				if chunk.GetChunkIndex() == 0 {
					c.note(streaming)
				}
				return err
			})
		},
	}
}

// What the victim notes: it was asked for its status; it has sent the first chunk of its results.
const (
	asking    = "victim asked"
	streaming = "victim streams"
)

// until waits for the victim to note something.
func (c *cell) until(what string) {
	c.t.Helper()
	for before := len(c.times(what)); len(c.times(what)) == before; c.pass(time.Millisecond) {
		if time.Since(c.began) > time.Minute {
			c.t.Fatal("never: ", what)
		}
	}
}

func (c *cell) bystander() sim.Behaviour {
	return sim.Behaviour{Answer: func(_ context.Context, r *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		c.note(r.GetAgentId())
		return &monitoring.StatusResponse{Available: true, Message: []byte(`{}`)}, nil
	}}
}

// begin starts the daemon and waits for the first run of the victim.
func (c *cell) begin() {
	c.t.Helper()
	c.began = time.Now()
	c.startWith(fmt.Sprintf("poller_id = \"p\"\nstate_dir = \"memory\"\nsource_ip = \"127.0.0.1\"\nshutdown_timeout = %q\ncore.timeout = %q\ncore.addresses = [%s]\n"+
		"poll = { interval = %q, timeout = %q }\n[agents.victim]\naddress = %q\nmax_message = \"64KiB\"\nchecks = [{ name = \"status\", type = \"port\", details = \"127.0.0.1:22\" },"+
		" { name = \"stream\", type = \"sweep\", results_interval = %[4]q, stream = true }]\n%[7]s",
		shutdownTimeout, coreTimeout, c.cores, cellInterval, cellTimeout, victimAddress, agents("bystander", 2, 1, bystanderAddress)))
	for c.due(0).IsZero() {
		if time.Since(c.began) > cellInterval {
			c.t.Fatal("the victim was not dialed in the first cycle")
		}
		c.pass(time.Millisecond)
	}
}

// gone is a fault of the host that the victim runs on.
const gone = "gone"

// strike has the victim have a fault.
func (c *cell) strike(fault string) {
	c.t.Helper()
	c.strikeAt(c.victim, victimAddress, fault)
}

func (c *cell) strikeAt(host *sim.Host, address, fault string) {
	c.t.Helper()
	f, err := sim.Fault{}, error(nil)
	if fault == gone {
		c.cables.vanish(address)
	} else if f, err = sim.ParseFault(fault); err != nil {
		c.t.Fatal(err)
	}
	if err := host.Set(f); err != nil {
		c.t.Fatal(err)
	}
}

// mend ends it.
func (c *cell) mend() {
	c.t.Helper()
	c.strike("ok")
	c.cables.appear(victimAddress)
	c.mended = time.Now()
}

// strikeIdle has the fault strike when the connection is there and nothing is under way.
func (c *cell) strikeIdle() {
	c.t.Helper()
	c.begin()
	c.first = 3
	c.at(2, quiet)
	c.strike(c.fault)
}

// due returns when a run of the victim's is due, which is zero before the first one: the daemon does not
// connect before.
func (c *cell) due(run int) time.Time {
	first := c.cables.since(victimAddress)
	if first.IsZero() {
		return first
	}
	return first.Add(time.Duration(run) * cellInterval)
}

// at waits until a time after a run of the victim's is due; before it, if that is negative.
func (c *cell) at(run int, after time.Duration) {
	c.t.Helper()
	c.pass(time.Until(c.due(run).Add(after)))
}

// recover has the fault mended in its time, waits for all runs until the second that is to have a
// verdict again, and stops.
func (c *cell) recover() {
	c.t.Helper()
	c.at(c.first+c.lasts-1, c.phase)
	c.mend()
	c.at(c.first+c.lasts+int(cellBack/cellInterval)+1, cellInterval/2)
	if n := c.cables.counts()[victimAddress]; n != 1 {
		c.t.Errorf("%d connections to the victim are open after its return", n)
	}
	c.halt(stopBy)
}

// halt stops the daemon.
func (c *cell) halt(within time.Duration) {
	c.t.Helper()
	began := time.Now()
	c.stop()
	if c.stopped = time.Since(began); c.stopped > within {
		c.t.Errorf("the stop took %v", c.stopped)
	}
}
