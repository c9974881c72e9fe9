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
	runs   map[int]*pending     // by Seq
	expiry expiry               // the same
	checks map[*check.Check]int // how many runs there are of each
	next   int
}

// Add takes a run in and returns it with its ID.
func (b *Background) Add(run check.Run) check.Run {
	if b.runs == nil {
		b.runs, b.checks = make(map[int]*pending), make(map[*check.Check]int)
	}
	run.ID = check.RunID{Cycle: NoCycle, Seq: b.next}
	b.next++
	p := &pending{Run: run}
	b.runs[run.ID.Seq] = p
	b.expiry.add(p)
	b.checks[run.Check]++
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
	if b.checks[p.Check]--; b.checks[p.Check] == 0 {
		delete(b.checks, p.Check)
	}
}

func (b *Background) seq(id check.RunID) int {
	if id.Cycle != NoCycle {
		panic(fmt.Sprintf("machine: run %v belongs to a cycle", id))
	}
	return id.Seq
}

// Has tells whether a run of a check is under way.
func (b *Background) Has(c *check.Check) bool { return b.checks[c] > 0 }

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
