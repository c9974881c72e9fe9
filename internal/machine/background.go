package machine

import (
	"fmt"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// NoCycle is the cycle in the ids of runs that belong to none.
const NoCycle = -1

// Background keeps the runs that no cycle waits for: those of results, which may take longer than a
// cycle. Their statuses go into the cycle that is open when they end. The zero Background is empty.
type Background struct {
	runs   map[int]*backgroundRun
	checks map[*check.Check]int // how many runs there are of each
	next   int
}

type backgroundRun struct {
	check.Run
	begun bool
}

// Add takes a run in and returns it with its ID.
func (b *Background) Add(run check.Run) check.Run {
	if b.runs == nil {
		b.runs, b.checks = make(map[int]*backgroundRun), make(map[*check.Check]int)
	}
	run.ID = check.RunID{Cycle: NoCycle, Seq: b.next}
	b.next++
	b.runs[run.ID.Seq] = &backgroundRun{Run: run}
	b.checks[run.Check]++
	return run
}

// Begin says that a run starts only now, and when it has to end.
func (b *Background) Begin(id check.RunID, deadline time.Time) {
	if run, ok := b.runs[b.seq(id)]; ok {
		run.Deadline, run.begun = deadline, true
	}
}

// End takes a run out. It returns false if it is not there: the first end counts.
func (b *Background) End(id check.RunID) bool {
	run, ok := b.runs[b.seq(id)]
	if ok {
		b.remove(run)
	}
	return ok
}

func (b *Background) remove(run *backgroundRun) {
	delete(b.runs, run.ID.Seq)
	if b.checks[run.Check]--; b.checks[run.Check] == 0 {
		delete(b.checks, run.Check)
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
	var next time.Time
	for _, run := range b.runs {
		if next.IsZero() || run.Deadline.Before(next) {
			next = run.Deadline
		}
	}
	return next.Add(grace), !next.IsZero()
}

// Expire takes out the runs whose deadline passed at least the grace ago, and returns them.
func (b *Background) Expire(now time.Time, grace time.Duration) []check.Run {
	return b.takeOut(func(run *backgroundRun) bool { return !now.Before(run.Deadline.Add(grace)) })
}

// Forsake takes out the runs of an agent that can answer no more, and returns them.
func (b *Background) Forsake(agent string) []check.Run {
	return b.takeOut(func(run *backgroundRun) bool { return run.Agent.Name == agent })
}

// Unbegun takes out the runs that nobody began, and returns them.
func (b *Background) Unbegun() []check.Run {
	return b.takeOut(func(run *backgroundRun) bool { return !run.begun })
}

func (b *Background) takeOut(which func(*backgroundRun) bool) []check.Run {
	var out []check.Run
	for _, run := range b.runs {
		if which(run) {
			out = append(out, run.Run)
			b.remove(run)
		}
	}
	slices.SortFunc(out, func(x, y check.Run) int { return x.ID.Seq - y.ID.Seq })
	return out
}
