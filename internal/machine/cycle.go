package machine

import (
	"fmt"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Cycle gathers the statuses of one poll interval: exactly one for each run that was added,
// whatever becomes of the run. It is open until it is sealed (all its slots have started) and
// every run has its status.
type Cycle struct {
	index   int64
	time    time.Time
	entries []entry
	missing int
	sealed  bool
	grace   time.Duration
}

type entry struct {
	run    check.Run
	status check.Status
	filled bool
}

// OpenCycle returns an empty cycle. Wall is the cycle's time on the wall clock, which core will
// see. A run that has no status grace after its deadline is expired.
func OpenCycle(index int64, wall time.Time, grace time.Duration) *Cycle {
	return &Cycle{index: index, time: wall, grace: grace}
}

// Index returns the cycle's number.
func (c *Cycle) Index() int64 { return c.index }

// Time returns the cycle's time on the wall clock.
func (c *Cycle) Time() time.Time { return c.time }

// Add takes a run into the cycle and returns it with its ID.
func (c *Cycle) Add(run check.Run) check.Run {
	if c.sealed {
		panic(fmt.Sprintf("machine: run added to sealed cycle %d", c.index))
	}
	run.ID = check.RunID{Cycle: c.index, Seq: len(c.entries)}
	c.entries = append(c.entries, entry{run: run})
	c.missing++
	return run
}

// SetDeadline moves the deadline of a run that starts only now.
func (c *Cycle) SetDeadline(id check.RunID, deadline time.Time) {
	c.entry(id).run.Deadline = deadline
}

// Fill takes a run's status. It returns false, and changes nothing, if the run has one already:
// the first counts.
func (c *Cycle) Fill(status check.Status) bool {
	e := c.entry(status.ID)
	if e.filled {
		return false
	}
	e.status, e.filled = status, true
	c.missing--
	return true
}

// Include takes the status of a run that no cycle waited for.
func (c *Cycle) Include(status check.Status) {
	c.entries = append(c.entries, entry{status: status, filled: true})
}

func (c *Cycle) entry(id check.RunID) *entry {
	if id.Cycle != c.index || id.Seq < 0 || id.Seq >= len(c.entries) {
		panic(fmt.Sprintf("machine: no run %v in cycle %d", id, c.index))
	}
	return &c.entries[id.Seq]
}

// Seal says that no more runs will be added.
func (c *Cycle) Seal() { c.sealed = true }

// Complete tells whether the cycle is sealed and every run has its status.
func (c *Cycle) Complete() bool { return c.sealed && c.missing == 0 }

// Missing returns how many runs have no status yet.
func (c *Cycle) Missing() int { return c.missing }

// NextExpiry returns when Expire will next have something to do; false if every run has a status.
func (c *Cycle) NextExpiry() (time.Time, bool) {
	var next time.Time
	for i := range c.entries {
		if e := &c.entries[i]; !e.filled && (next.IsZero() || e.run.Deadline.Before(next)) {
			next = e.run.Deadline
		}
	}
	return next.Add(c.grace), !next.IsZero()
}

// Expire fills runs whose deadline passed more than the grace ago, and returns them.
func (c *Cycle) Expire(now time.Time, detail string) []check.Run {
	return c.fillMissing(detail, func(run check.Run) bool { return !now.Before(run.Deadline.Add(c.grace)) })
}

// Forsake fills the runs of an agent that can answer no more, and returns them.
func (c *Cycle) Forsake(agent, detail string) []check.Run {
	return c.fillMissing(detail, func(run check.Run) bool { return run.Agent.Name == agent })
}

// Close seals the cycle, fills what is missing, and returns all statuses in the order in which
// their runs were added.
func (c *Cycle) Close(detail string) []check.Status {
	c.Seal()
	c.fillMissing(detail, func(check.Run) bool { return true })
	statuses := make([]check.Status, 0, len(c.entries))
	for i := range c.entries {
		statuses = append(statuses, c.entries[i].status)
	}
	return statuses
}

func (c *Cycle) fillMissing(detail string, which func(check.Run) bool) []check.Run {
	var runs []check.Run
	for i := range c.entries {
		if e := &c.entries[i]; !e.filled && which(e.run) {
			c.Fill(e.run.Failed(check.NoAnswer, detail, 0))
			runs = append(runs, e.run)
		}
	}
	return slices.Clip(runs)
}
