package machine

import (
	"maps"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// slowShare is the part of a Lane that agents which timed out may have: one in slowShare places.
const slowShare = 4

// Lane bounds how many agents are being polled at once, and lets the others wait. An agent that timed
// out when it was polled last is slow: it will keep a place for long. Slow agents have a quarter of
// the places at most, so that however many there are, the others find theirs; among themselves those
// go first that have not been polled for longest, so that each has its turn.
type Lane struct {
	limit  int
	polled map[string]turn // by agents' names, as slow is
	// slow are the agents that timed out, and when they were polled last.
	slow       map[string]time.Time
	slowPolled int
	// waiting are the batches that were due while there was no room: of slow agents in the order of
	// their turns, of others those first that can wait least.
	waiting, slowWaiting []Batch
	// due is when Overdue may next have something to return: not after the first is.
	due time.Time
}

// turn is an agent's place.
type turn struct {
	began time.Time
	runs  int // not ended
	slow  bool
}

// Batch is one agent's runs that start together.
type Batch struct {
	Agent *check.Agent
	Runs  []check.Run
	// Latest is when it is too late to start: the next turn of these runs comes.
	Latest time.Time
	// Need is what runs take that time out: a slow agent's must have so much, or nobody could tell
	// its fault from ours.
	Need time.Duration
	// Slow tells of one that waits that its agent is slow.
	Slow bool
}

// NewLane returns a lane with places for limit agents, at least one.
func NewLane(limit int) *Lane {
	return &Lane{limit: max(1, limit), polled: make(map[string]turn), slow: make(map[string]time.Time)}
}

// Resize changes how many places there are, at least one. Those who have one keep it.
func (l *Lane) Resize(limit int) { l.limit = max(1, limit) }

// Retain forgets of agents that are gone that they were slow.
func (l *Lane) Retain(is func(agent string) bool) {
	maps.DeleteFunc(l.slow, func(agent string, _ time.Time) bool { return !is(agent) })
}

// Enter takes a batch. If it returns true its runs start now, and for each Ended has to be called;
// else the batch waits for Next.
func (l *Lane) Enter(b Batch, now time.Time) bool {
	since, slow := l.slow[b.Agent.Name]
	b.Slow = slow
	if l.mayBegin(b) {
		l.begin(b, now)
		return true
	}
	if until := b.until(); l.due.IsZero() || until.Before(l.due) {
		l.due = until
	}
	if slow {
		l.slowWaiting = insert(l.slowWaiting, b, func(x Batch) bool { return l.slow[x.Agent.Name].After(since) })
	} else {
		l.waiting = insert(l.waiting, b, func(x Batch) bool { return x.Latest.After(b.Latest) })
	}
	return false
}

// insert puts b in front of the first for which after holds; those in front of that are in order.
func insert(list []Batch, b Batch, after func(Batch) bool) []Batch {
	at, _ := slices.BinarySearchFunc(list, b, func(x, _ Batch) int {
		if after(x) {
			return 1
		}
		return -1
	})
	return slices.Insert(list, at, b)
}

// mayBegin tells whether a batch's agent has a place, or there is one for it.
func (l *Lane) mayBegin(b Batch) bool {
	if len(l.polled) < l.limit && (!b.Slow || l.slowPolled < max(1, l.limit/slowShare)) {
		return true
	}
	_, has := l.polled[b.Agent.Name]
	return has
}

// begin gives a batch's agent a place, unless it has one.
func (l *Lane) begin(b Batch, now time.Time) {
	t, has := l.polled[b.Agent.Name]
	if !has {
		t = turn{began: now, slow: b.Slow}
		delete(l.slow, b.Agent.Name) // until it times out again
		if t.slow {
			l.slowPolled++
		}
	}
	t.runs += len(b.Runs)
	l.polled[b.Agent.Name] = t
}

// Ended takes the end of a run that was started, and whether it kept its place for as long as it could.
// An agent gives its place up with the last.
func (l *Lane) Ended(agent *check.Agent, timedOut bool) {
	t, has := l.polled[agent.Name]
	if !has {
		return // a run that was not started
	}
	if timedOut {
		l.slow[agent.Name] = t.began
	}
	if t.runs--; t.runs > 0 {
		l.polled[agent.Name] = t
		return
	}
	delete(l.polled, agent.Name)
	if t.slow {
		l.slowPolled--
	}
}

// Next returns a batch that waited and has its place now: its runs start, as with Enter. False if there
// is none.
func (l *Lane) Next(now time.Time) (Batch, bool) {
	for _, queue := range l.inOrder() {
		if len(*queue) == 0 {
			continue
		}
		if b := (*queue)[0]; l.mayBegin(b) {
			(*queue)[0] = Batch{} // to move the others up would cost more the more there are
			*queue = (*queue)[1:]
			l.begin(b, now)
			return b, true
		}
	}
	return Batch{}, false
}

// inOrder returns the two queues, that first whose first batch can wait less.
func (l *Lane) inOrder() [2]*[]Batch {
	if len(l.waiting) > 0 && len(l.slowWaiting) > 0 && l.slowWaiting[0].Latest.Before(l.waiting[0].Latest) {
		return [2]*[]Batch{&l.slowWaiting, &l.waiting}
	}
	return [2]*[]Batch{&l.waiting, &l.slowWaiting}
}

// until is when it is too late for a batch that waits.
func (b *Batch) until() time.Time {
	if b.Slow {
		return b.Latest.Add(-b.Need)
	}
	return b.Latest
}

// Overdue takes out the batches that have waited until it is too late, and returns them. It costs
// nothing before NextOverdue.
func (l *Lane) Overdue(now time.Time) []Batch {
	if at, ok := l.NextOverdue(); !ok || now.Before(at) {
		return nil
	}
	l.due = time.Time{}
	return l.Remove(func(b Batch) bool {
		until := b.until()
		if !now.Before(until) {
			return true
		}
		if l.due.IsZero() || until.Before(l.due) {
			l.due = until
		}
		return false
	})
}

// NextOverdue returns before when Overdue has nothing to return; false if nothing waits.
func (l *Lane) NextOverdue() (at time.Time, ok bool) {
	return l.due, len(l.waiting)+len(l.slowWaiting) > 0
}

// Remove takes out batches that wait, and returns them.
func (l *Lane) Remove(which func(Batch) bool) []Batch {
	var out []Batch
	for _, queue := range l.inOrder() {
		*queue = slices.DeleteFunc(*queue, func(b Batch) bool {
			removed := which(b)
			if removed {
				out = append(out, b)
			}
			return removed
		})
	}
	return out
}
