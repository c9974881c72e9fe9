package machine

import (
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// What a Schedule does that shares its agents with those of other nodes: agents come and go one by one, also within a cycle, and none of
// their due runs is left out or made twice.

// Adopt has an agent started in its place from now on. From is the begin of the first cycle in which its last owner did not start it, by our clock, to the
// next half interval; zero if that is not known. It returns the checks that are to be started beside their turns, as soon as may be, because they were due
// meanwhile (StartAside).
func (s *Schedule) Adopt(agent *check.Agent, from time.Time) []*check.Check {
	s.Drop(agent.Name)
	s.insert(&s.grid, agent)
	if s.replaced != nil {
		s.insert(s.replaced, agent)
	}
	s.runs = s.count()
	begin, _ := s.turnOf(agent.Name)
	if !from.IsZero() {
		from = s.start.Add(from.Sub(s.start).Round(s.interval))
		if !from.Before(begin) {
			s.from[agent.Name] = from
			return nil
		}
	}
	var missed []*check.Check
	for i := range agent.Checks {
		if c := &agent.Checks[i]; from.IsZero() || s.turnedSince(c.Interval, from, begin) {
			missed = append(missed, c)
		}
	}
	return missed
}

// asideBefore is how long before an agent's next turn, in tenths of an interval, it is started beside its turns at the latest for that turn to be kept.
// It is more than the half that should be between two runs, because what is started at once reaches its checker later than what is started in its turn:
// there are many at a time, and no connections yet. The turn after one that is left out comes at most one interval and this much later.
const asideBefore = 6

// StartAside says that an agent is started now, beside its turns, with checks that it has missed. If the next turn is so near that there would be less than
// about half an interval between the two, that is left out, and what else is due in it is to be started now, too. It returns what is, and when it
// must have ended: just before the turn that follows.
func (s *Schedule) StartAside(missed Start, now time.Time) (start Start, ends time.Time) {
	name := missed.Agent.Name
	begin, _ := s.turnOf(name)
	due := s.NextTurn(name)
	if !s.from[name].After(begin) && due.Sub(now) < s.interval*asideBefore/10 {
		s.from[name] = begin.Add(s.interval)
		due = due.Add(s.interval)
		missed.Checks = s.withTurn(missed, begin)
	}
	return missed, due.Add(-runMargin)
}

// withTurn returns the checks of a start, and those of its agent that are due in the cycle which begins then.
func (s *Schedule) withTurn(start Start, begin time.Time) []*check.Check {
	fresh := s.fresh
	if s.replaced != nil && begin.After(s.begin) {
		fresh = s.replaced.fresh
	}
	checks := slices.Clone(start.Checks)
	for i := range start.Agent.Checks {
		c := &start.Agent.Checks[i]
		if (fresh[c] || s.turnedSince(c.Interval, begin, begin.Add(s.interval))) && !slices.Contains(checks, c) {
			checks = append(checks, c)
		}
	}
	return checks
}

// Drop has an agent started no more. It returns the begin of the first cycle in which it has not been, by the grid; zero if there is no such agent.
func (s *Schedule) Drop(name string) time.Time {
	if s.replaced != nil {
		remove(s.replaced, name)
	}
	from := s.NextBegin(name)
	delete(s.from, name)
	if !remove(&s.grid, name) {
		return time.Time{}
	}
	s.runs = s.count()
	return from
}

// NextTurn returns when an agent is started next in its turn.
func (s *Schedule) NextTurn(name string) time.Time {
	begin, due := s.turnOf(name)
	if from := s.from[name]; from.After(begin) {
		due = due.Add(from.Sub(begin))
	}
	return due
}

// turnOf returns when an agent's next turn is, and when the cycle begins in which it is.
func (s *Schedule) turnOf(name string) (begin, due time.Time) {
	place := slotOf(name, len(s.slots))
	begin = s.begin
	if place < s.next {
		begin = begin.Add(s.interval)
	}
	return begin, begin.Add(time.Duration(place) * s.slot)
}

// NextBegin returns when the cycle begins in which an agent is started next.
func (s *Schedule) NextBegin(name string) time.Time {
	begin, _ := s.turnOf(name)
	if from := s.from[name]; from.After(begin) {
		return from
	}
	return begin
}

// turnedSince tells whether checks with an interval were due in a cycle that began at from or later, and before begin.
func (s *Schedule) turnedSince(interval time.Duration, from, begin time.Time) bool {
	number := func(at time.Time) int64 { return int64(at.Add(-s.interval).Sub(s.start) / interval) }
	return interval <= s.interval || number(from) != number(begin)
}

// LastTurn returns when the last cycle began, at that time or before, in which checks with an interval were due. Whoever adopts an agent from then on
// makes up for them.
func (s *Schedule) LastTurn(interval time.Duration, at time.Time) time.Time {
	passed := at.Sub(s.start)
	return s.start.Add(passed - passed%max(interval, s.interval))
}

// reached tells whether an agent may be started in the cycle.
func (s *Schedule) reached(name string) bool {
	from, waits := s.from[name]
	if waits && s.begin.Before(from) {
		return false
	}
	delete(s.from, name)
	return true
}

// insert puts an agent into its slot. What was yielded of it stays as it is.
func (s *Schedule) insert(g *grid, agent *check.Agent) {
	start, due := g.plan(agent)
	if !due {
		return
	}
	slot := &g.slots[slotOf(agent.Name, len(g.slots))]
	at, _ := find(slot.starts, agent.Name)
	slot.starts = slices.Insert(slices.Clone(slot.starts), at, start)
}

// remove takes an agent out of its slot; false if it is not there.
func remove(g *grid, name string) bool {
	slot := &g.slots[slotOf(name, len(g.slots))]
	at, found := find(slot.starts, name)
	if !found {
		return false
	}
	for _, c := range slot.starts[at].Checks {
		g.checks[c.Interval]--
		delete(g.fresh, c)
	}
	slot.starts = slices.Delete(slices.Clone(slot.starts), at, at+1)
	slot.always = !slices.ContainsFunc(slot.starts, func(start Start) bool {
		return slices.ContainsFunc(start.Checks, func(c *check.Check) bool { return c.Interval > g.interval })
	})
	return true
}

func find(starts []Start, name string) (int, bool) {
	return slices.BinarySearchFunc(starts, name, func(start Start, name string) int { return strings.Compare(start.Agent.Name, name) })
}

// Among says of how many agents, on all nodes, those that Replace is given are a part.
func (s *Schedule) Among(of int) { s.of = of }
