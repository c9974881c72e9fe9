package machine

import (
	"fmt"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// NoCycle is the cycle in the ids of runs that belong to none.
const NoCycle = -1

// Background keeps the runs that no cycle waits for: those of results, which may take longer than a
// cycle. Their statuses go into the cycle that is open when they end. The zero Background is empty.
type Background struct {
	runs   map[int]*pending  // by Seq
	expiry expiry            // the same
	checks map[checkName]int // how many runs there are of each
	next   int
}

// checkName tells checks apart, also across a change of the configuration.
type checkName struct{ agent, check string }

func nameOf(run *check.Run) checkName { return checkName{run.Agent.Name, run.Check.Name} }

// Add takes a run in and returns it with its ID.
func (b *Background) Add(run check.Run) check.Run {
	if b.runs == nil {
		b.runs, b.checks = make(map[int]*pending), make(map[checkName]int)
	}
	run.ID = check.RunID{Cycle: NoCycle, Seq: b.next}
	b.next++
	p := &pending{Run: run}
	b.runs[run.ID.Seq] = p
	b.expiry.add(p)
	b.checks[nameOf(&run)]++
	return run
}

// Begin says that a run starts only now, and when it has to end.
func (b *Background) Begin(id check.RunID, deadline time.Time) {
	if p, ok := b.runs[b.seq(id)]; ok {
		p.Deadline, p.begun = deadline, true
		b.expiry.restore(p)
	}
}

// End takes a run out. It returns false if it is not there: the first end counts.
func (b *Background) End(id check.RunID) bool {
	p, ok := b.runs[b.seq(id)]
	if ok {
		b.expiry.remove(p)
		b.forget(p)
	}
	return ok
}

// forget lets go of a run that is not in expiry any more.
func (b *Background) forget(p *pending) {
	delete(b.runs, p.ID.Seq)
	name := nameOf(&p.Run)
	if b.checks[name]--; b.checks[name] == 0 {
		delete(b.checks, name)
	}
}

func (b *Background) seq(id check.RunID) int {
	if id.Cycle != NoCycle {
		panic(fmt.Sprintf("machine: run %v belongs to a cycle", id))
	}
	return id.Seq
}

// Has tells whether a run of the same check is under way.
func (b *Background) Has(run *check.Run) bool { return b.checks[nameOf(run)] > 0 }

// AnyResults tells whether runs of results of an agent are under way.
func (b *Background) AnyResults(agent string) bool {
	for _, p := range b.runs {
		if p.Agent.Name == agent && p.Check.HasResults() {
			return true
		}
	}
	return false
}

// Len returns how many runs are under way.
func (b *Background) Len() int { return len(b.runs) }

// NextExpiry returns when Expire will next have something to do; false if nothing is under way.
func (b *Background) NextExpiry(grace time.Duration) (time.Time, bool) {
	next, ok := b.expiry.next()
	return next.Add(grace), ok
}

// Expire takes out the runs whose deadline passed at least the grace ago, and returns them.
func (b *Background) Expire(now time.Time, grace time.Duration) []check.Run {
	return b.ended(b.expiry.due(now.Add(-grace)))
}

// Forsake takes out the runs of an agent that can answer no more, and returns them.
func (b *Background) Forsake(agent string) []check.Run {
	return b.ended(b.expiry.where(func(p *pending) bool { return p.Agent.Name == agent }))
}

// Unbegun takes out the runs that nobody began, and returns them.
func (b *Background) Unbegun() []check.Run {
	return b.ended(b.expiry.where(func(p *pending) bool { return !p.begun }))
}

func (b *Background) ended(list []*pending) []check.Run {
	for _, p := range list {
		b.forget(p)
	}
	return runsOf(list)
}
