package machine

import (
	"fmt"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// Cycle gathers the statuses of one poll interval: exactly one for each run that was added,
// whatever becomes of the run. It is open until it is sealed (all its slots have started) and
// every run has its status. What a run costs it grows only with the logarithm of how many are without a status.
type Cycle struct {
	index    int64
	begin    time.Time
	time     time.Time
	statuses []check.Status
	runs     []*pending // by their statuses' places; nil for those that have one
	missing  expiry     // the others
	omitted  []int      // places of runs that were not made and have no status either
	free     []*pending // of runs that have a status, for the next
	sealed   bool
	grace    time.Duration
}

// OpenCycle returns an empty cycle that was planned to begin at begin. Wall is the cycle's time on the wall clock,
// which core will see. A run that has no status grace after its deadline is expired.
func OpenCycle(index int64, begin, wall time.Time, grace time.Duration) *Cycle {
	return &Cycle{index: index, begin: begin, time: wall, grace: grace}
}

// Grow makes room for so many more runs, so that to add them copies nothing.
func (c *Cycle) Grow(runs int) {
	c.statuses, c.runs = slices.Grow(c.statuses, runs), slices.Grow(c.runs, runs)
}

// Index returns the cycle's number.
func (c *Cycle) Index() int64 { return c.index }

// Begin returns when the cycle was planned to begin.
func (c *Cycle) Begin() time.Time { return c.begin }

// Time returns the cycle's time on the wall clock.
func (c *Cycle) Time() time.Time { return c.time }

// Add takes a run into the cycle and returns it with its ID.
func (c *Cycle) Add(run check.Run) check.Run {
	if c.sealed {
		panic(fmt.Sprintf("machine: run added to sealed cycle %d", c.index))
	}
	run.ID = check.RunID{Cycle: c.index, Seq: len(c.runs)}
	p := c.pending()
	p.Run = run
	c.statuses, c.runs = append(c.statuses, check.Status{}), append(c.runs, p)
	c.missing.add(p)
	return run
}

func (c *Cycle) pending() *pending {
	last := len(c.free) - 1
	if last < 0 {
		return new(pending)
	}
	p := c.free[last]
	c.free = c.free[:last]
	return p
}

// SetDeadline moves the deadline of a run that starts only now.
func (c *Cycle) SetDeadline(id check.RunID, deadline time.Time) {
	if p := c.runs[c.seq(id)]; p != nil {
		p.Deadline = deadline
		c.missing.restore(p)
	}
}

// Fill takes a run's status. It returns false, and changes nothing, if the run has one already:
// the first counts.
func (c *Cycle) Fill(status check.Status) bool {
	p := c.runs[c.seq(status.ID)]
	if p == nil {
		return false
	}
	c.missing.remove(p)
	c.fill(p, status)
	return true
}

// Omit takes a run out that was not made, because it is another node's to make. It returns false, and changes nothing, if
// the run has a status.
func (c *Cycle) Omit(id check.RunID) bool {
	p := c.runs[c.seq(id)]
	if p == nil {
		return false
	}
	c.missing.remove(p)
	c.fill(p, check.Status{})
	c.omitted = append(c.omitted, id.Seq)
	return true
}

// fill gives a run that is missing no more its status.
func (c *Cycle) fill(p *pending, status check.Status) {
	c.statuses[p.ID.Seq], c.runs[p.ID.Seq] = status, nil
	c.free = append(c.free, p)
}

// Include takes the status of a run that no cycle waited for.
func (c *Cycle) Include(status check.Status) {
	c.statuses, c.runs = append(c.statuses, status), append(c.runs, nil)
}

func (c *Cycle) seq(id check.RunID) int {
	if id.Cycle != c.index || id.Seq < 0 || id.Seq >= len(c.runs) {
		panic(fmt.Sprintf("machine: no run %v in cycle %d", id, c.index))
	}
	return id.Seq
}

// Seal says that no more runs will be added.
func (c *Cycle) Seal() { c.sealed = true }

// Complete tells whether the cycle is sealed and every run has its status.
func (c *Cycle) Complete() bool { return c.sealed && len(c.missing) == 0 }

// Missing returns how many runs have no status yet.
func (c *Cycle) Missing() int { return len(c.missing) }

// NextExpiry returns when Expire will next have something to do; false if every run has a status.
func (c *Cycle) NextExpiry() (time.Time, bool) {
	next, ok := c.missing.next()
	return next.Add(c.grace), ok
}

// Expire fills runs whose deadline passed at least the grace ago, and returns them.
func (c *Cycle) Expire(now time.Time, detail string) []check.Run {
	return c.fillMissing(c.missing.due(now.Add(-c.grace)), detail)
}

// Forsake fills the runs of an agent that can answer no more, and returns them.
func (c *Cycle) Forsake(agent, detail string) []check.Run {
	return c.fillMissing(c.missing.where(func(p *pending) bool { return p.Agent.Name == agent }), detail)
}

// Close seals the cycle, fills what is missing, and returns all statuses in the order in which
// their runs were added. The slice is the cycle's own: a second Close returns it again, with what was changed in it.
func (c *Cycle) Close(detail string) []check.Status {
	c.Seal()
	c.fillMissing(c.missing.where(func(*pending) bool { return true }), detail)
	if len(c.omitted) > 0 {
		slices.Sort(c.omitted)
		for _, seq := range slices.Backward(c.omitted) {
			c.statuses = slices.Delete(c.statuses, seq, seq+1)
		}
		c.omitted = nil
	}
	return c.statuses
}

// fillMissing gives runs that are missing no more their status, and returns them.
func (c *Cycle) fillMissing(list []*pending, detail string) []check.Run {
	runs := runsOf(list)
	for _, p := range list {
		c.fill(p, p.Failed(check.NoAnswer, detail, 0))
	}
	return runs
}
