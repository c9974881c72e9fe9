package daemon_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/serviceradar/poller/internal/sim"
)

// coreMatrixFaults are those of a core. Twice tells that an answer can be lost when the report is not, so
// that it comes again; its id tells.
var coreMatrixFaults = []struct {
	fault string
	twice bool
}{
	{"down", true},
	{gone, true},
	{"frozen", true},
	{"silent", true},
	{"garbage", true},
	{"http1", true},
	{"reset", true},
	{"goaway", false},
	{"goaway 300ms", false},
	{"hang", false},
	{"slow 300ms", false},
	{"slow 3s", false},
	{"error Unavailable", false},
	{"error Unknown", false},
	{"error Unavailable after-taking", true},
	{"not-received", false},
	{"not-received after-taking", true},
	{"flapping 2.1s 1.7s down", true},
}

const (
	coreTimeout = time.Second
	// coreLasts is how long a fault of core's lasts.
	coreLasts = 8 * time.Second
	// coreBack is how long after its return core has all at the latest: no pause is longer than 5 s, nor
	// a try than its timeout.
	coreBack = 5*time.Second + coreTimeout
)

// coreCell is a fault of core's that strikes at one moment.
type coreCell struct {
	*cell
	host   *sim.Host
	fault  string
	mended time.Time // zero if it is not
}

func newCoreCell(w *world, fault string) *coreCell {
	w.t.Helper()
	c := &coreCell{cell: newCell(w, "ok"), fault: fault}
	w.coreServer.Stop()
	host, err := w.core.NewHost(nil, func() (net.Listener, error) { return w.net.Listen(coreAddress) })
	if err != nil {
		w.t.Fatal(err)
	}
	c.host = host
	return c
}

func (c *coreCell) strike(fault string) {
	c.t.Helper()
	c.strikeAt(c.host, coreAddress, fault)
}

var coreMoments = []struct {
	name   string
	strike func(*coreCell)
}{
	{"connecting", func(c *coreCell) {
		c.strike(c.fault)
		c.begin()
	}},
	{"idle", (*coreCell).strikeIdle},
	{"in a delivery", func(c *coreCell) {
		c.begin()
		c.at(2, quiet)
		c.strike("slow 50ms")
		for before := c.core.Stats().Calls; c.core.Stats().Calls == before; {
			c.pass(time.Millisecond)
		}
		c.strike(c.fault)
	}},
	{"closing", func(c *coreCell) {
		c.strikeIdle()
		c.at(5, 0)
		c.halt(shutdownTimeout)
	}},
}

func (c *coreCell) strikeIdle() {
	c.t.Helper()
	c.begin()
	c.at(2, quiet)
	c.strike(c.fault)
}

// recover mends core in its time, gives it time to get all, and stops.
func (c *coreCell) recover() {
	c.t.Helper()
	c.pass(coreLasts)
	c.strike("ok")
	c.cables.appear(coreAddress)
	c.mended = time.Now()
	c.pass(coreBack)
	c.halt(stopBy)
}

// want asserts that core has each cycle once, but for those that came again, in order; all of them, if
// it came back. It tells how long after its return core had all from before.
func (c *coreCell) want(twice bool) string {
	c.t.Helper()
	var back time.Duration
	ids, again := make(map[string]bool), 0
	statuses := make(map[int64]int) // by timestamp, but for results
	var times []int64
	for _, d := range c.reports() {
		if ids[d.ID] {
			again++
			continue
		}
		ids[d.ID] = true
		if statuses[d.Timestamp] == 0 { // results that are left at the stop have a report of their own
			times = append(times, d.Timestamp)
		}
		for _, s := range d.Services {
			if o := outcomeOf(s); o.reason != "ok" {
				c.t.Errorf("%s/%s came to %q", s.GetAgentId(), s.GetServiceName(), o)
			}
			if s.GetServiceName() != "stream" {
				statuses[d.Timestamp]++
			}
		}
		if !c.mended.IsZero() && d.Timestamp <= c.mended.Unix() {
			back = max(back, d.At.Sub(c.mended))
		}
	}
	for i, at := range times {
		if want := times[0] + int64(i); at != want || statuses[at] != 3 {
			c.t.Errorf("cycle %d has timestamp %d and %d statuses, want %d and 3", i, at, statuses[at], want)
		}
	}
	cycles := len(times)
	if again > 0 && !twice {
		c.t.Errorf("%d reports came again", again)
	}
	begun := len(c.times("bystander000"))
	c.wantOthersUntouched(begun)
	if c.mended.IsZero() {
		return fmt.Sprintf("%d of %d cycles\tstopped in %v", cycles, begun, c.stopped)
	}
	if cycles != begun {
		c.t.Errorf("core has %d cycles of %d", cycles, begun)
	}
	return fmt.Sprintf("all %d cycles, %d came again\tall after %v", begun, again, back.Round(time.Millisecond))
}

// TestCoreMatrix has each fault of core's strike at each moment: no cycle is lost, none is made twice,
// none overtakes another, and the checkers do not feel it.
func TestCoreMatrix(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	came := make(map[string]string)
	cells := 0
	t.Run("faults", func(t *testing.T) {
		for _, f := range coreMatrixFaults {
			for _, m := range coreMoments {
				if cells++; cells%oneIn != 0 {
					continue
				}
				t.Run(f.fault+"/"+m.name, func(t *testing.T) {
					run(t, func(w *world) {
						c := newCoreCell(w, f.fault)
						defer c.victim.Stop()
						defer c.host.Stop()
						m.strike(c)
						if c.stopped < 0 {
							c.recover()
						}
						said := c.want(f.twice)
						mu.Lock()
						defer mu.Unlock()
						came[f.fault+m.name] = said
					})
				})
			}
		}
	})
	var b strings.Builder
	lines := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range coreMatrixFaults {
		for _, m := range coreMoments {
			if said, tried := came[f.fault+m.name]; tried {
				_, _ = fmt.Fprintf(lines, "%s\t%s\t%s\n", f.fault, m.name, said)
			}
		}
	}
	_ = lines.Flush()
	t.Logf("what core had after %d faults at %d moments:\n%s", len(coreMatrixFaults), len(coreMoments), &b)
}

// TestOtherCore: whatever becomes of a core, another one gets the reports from then on, in time.
func TestOtherCore(t *testing.T) {
	for _, fault := range []string{"down", gone, "frozen", "silent", "garbage", "http1", "reset", "hang", "slow 3s", "error Unavailable", "error Unknown"} {
		t.Run(fault, func(t *testing.T) {
			run(t, func(w *world) {
				const address = "127.1.0.2:50052"
				c := newCoreCell(w, fault)
				defer c.victim.Stop()
				defer c.host.Stop()
				l, err := w.net.Listen(address)
				if err != nil {
					t.Fatal(err)
				}
				var other sim.Core
				server := other.Serve(l, nil)
				defer server.Stop()
				c.cores += fmt.Sprintf(", %q", address)
				c.strikeIdle()
				c.pass(coreLasts)
				c.halt(stopBy)
				times := make(map[int64]bool)
				for _, d := range append(c.reports(), other.Deliveries()...) {
					if d.Registration() {
						continue
					}
					times[d.Timestamp] = true
					// Trying the first one takes its timeout, and there may be two that wait.
					if late := d.At.Sub(time.Unix(d.Timestamp, 0)); late > cellInterval/2+2*coreTimeout {
						t.Errorf("the report of %d came after %v", d.Timestamp, late)
					}
				}
				begun := len(c.times("bystander000"))
				c.wantOthersUntouched(begun)
				if len(times) != begun {
					t.Errorf("both cores have %d cycles of %d", len(times), begun)
				}
				if saw := slices.Concat(w.core.Violations(), other.Violations()); len(saw) != 0 {
					t.Errorf("the cores saw %q", saw)
				}
			})
		})
	}
}
