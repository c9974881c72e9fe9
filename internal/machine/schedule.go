// Package machine holds the pure state machines of polling: the schedule, the cycle, the breaker
// and the restart budget. Nothing in it does I/O, reads a clock, starts a goroutine or logs; the
// time is always an argument. Values are not safe for concurrent use: each has one actor that
// drives it. Impossible transitions panic, for they are bugs of the caller.
package machine

import (
	"hash/fnv"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// How agents are spread within a cycle: a slot starts about agentsPerSlot of them, unless it
// would then last less than minSlot (timers cost) or more than maxSlot (starts come in bursts).
const (
	agentsPerSlot = 25
	minSlot       = 20 * time.Millisecond
	maxSlot       = 250 * time.Millisecond
)

// runMargin is how long before the end of its interval a run ends at the latest, so that its
// answer is never taken for one that is still missing when the next run is due.
const runMargin = 50 * time.Millisecond

// Schedule yields slots: which agents to start with which checks, and when. Each cycle begins exactly
// one interval after the one before, however late it is asked, so nothing drifts. A check is due in the first
// cycle, and then in each in which, or since whose predecessor, another of its intervals is over, counted from the
// first cycle's begin. An agent's place in a cycle depends on its name: when agents come and go, others
// stay where they are but for a slot or so.
type Schedule struct {
	grid
	// replaced is what is followed from the next cycle on; nil if that is the same.
	replaced *grid
	start    time.Time // of the first cycle
	begin    time.Time // of the next slot's cycle
	cycle    int64     // of the next slot
	next     int       // the next slot's place in it
	before   time.Time // when the cycle began that was yielded before it; zero if there is none
	runs     int       // how many checks are due in it

	// shared: the grid is one of several nodes. Cycles begin at multiples of the interval since start, and slots are those of so many agents.
	shared bool
	of     int
	// from are agents that are not started in cycles that begin before.
	from map[string]time.Time
}

// grid is how cycles are divided.
type grid struct {
	interval time.Duration
	slot     time.Duration
	slots    []plan
	checks   map[time.Duration]int // how many there are, by their intervals
	// fresh are checks that are due in the next cycle, whatever their intervals are.
	fresh map[*check.Check]bool
}

// plan is what a slot starts if all its checks are due.
type plan struct {
	starts []Start
	always bool // they are, in every cycle
}

// Slot is a moment of a cycle and what is due then.
type Slot struct {
	Cycle int64
	// Begin is when its cycle was planned to begin, Due when the slot was to start.
	Begin, Due time.Time
	// First and Last tell that the slot opens or completes its cycle.
	First, Last bool
	// Missed counts whole cycles that were passed over before this slot's, because nobody
	// asked for their slots in time.
	Missed int64
	// Runs is how many checks are due in its cycle, in all slots.
	Runs int
	// Starts are the agents with a check due, in the order of their names. They are not to be changed:
	// the schedule goes on using them.
	Starts []Start

	interval time.Duration // of its cycle
}

// Start is one agent with its checks that are due.
type Start struct {
	Agent  *check.Agent
	Checks []*check.Check
}

// NewSchedule spreads agents over slots so that rate of them start each second, faster only if
// the interval demands it. The first slot is due at start.
func NewSchedule(agents []*check.Agent, interval time.Duration, rate int, start time.Time) *Schedule {
	s := &Schedule{grid: *newGrid(agents, len(agents), interval, rate), start: start, begin: start}
	s.runs = s.count()
	return s
}

// NewShared returns the schedule of a node that shares agents with others; it has none yet (Adopt). The schedules of all nodes
// have the same grid: their cycles begin at multiples of the interval since epoch, the first after now, and an agent's place in them is that which
// it has among all, of which there are so many.
func NewShared(of int, interval time.Duration, rate int, epoch, now time.Time) *Schedule {
	s := &Schedule{grid: *newGrid(nil, of, interval, rate), start: epoch, shared: true, of: of, from: make(map[string]time.Time)}
	s.begin = s.nextBegin(interval, now)
	s.before = s.begin.Add(-interval)
	return s
}

// nextBegin returns the first multiple of an interval since the epoch after now.
func (s *Schedule) nextBegin(interval time.Duration, now time.Time) time.Time {
	return s.start.Add(now.Sub(s.start).Truncate(interval) + interval)
}

// Replace has other agents started from the next cycle on. The checks that are fresh are due in it in any
// case: those that were not asked before. With another interval, the next cycle begins a whole number of these
// after the last one, if that is to come before it would have begun anyway; so nothing waits longer than it would have.
func (s *Schedule) Replace(agents []*check.Agent, interval time.Duration, rate int, fresh []*check.Check, now time.Time) {
	g := newGrid(agents, max(len(agents), s.of), interval, rate)
	g.fresh = make(map[*check.Check]bool, len(fresh))
	for _, c := range fresh {
		g.fresh[c] = true
	}
	if s.replaced != nil {
		g.inherit(s.replaced)
	}
	s.replaced = g
	maps.DeleteFunc(s.from, func(name string, _ time.Time) bool {
		return !slices.ContainsFunc(agents, func(a *check.Agent) bool { return a.Name == name })
	})
	if s.next == 0 {
		g.inherit(&s.grid)
		s.adopt(now)
	}
}

// inherit keeps those checks fresh, by their names, that a predecessor never came to start.
func (g *grid) inherit(before *grid) {
	if len(before.fresh) == 0 {
		return
	}
	type name struct{ agent, check string }
	fresh := make(map[name]bool, len(before.fresh))
	before.each(func(a *check.Agent, c *check.Check) {
		if before.fresh[c] {
			fresh[name{a.Name, c.Name}] = true
		}
	})
	g.each(func(a *check.Agent, c *check.Check) {
		if fresh[name{a.Name, c.Name}] {
			g.fresh[c] = true
		}
	})
}

func (g *grid) each(do func(*check.Agent, *check.Check)) {
	for i := range g.slots {
		for _, start := range g.slots[i].starts {
			for _, c := range start.Checks {
				do(start.Agent, c)
			}
		}
	}
}

// adopt follows what was replaced: no cycle is under way.
func (s *Schedule) adopt(now time.Time) {
	if s.replaced == nil {
		return
	}
	if interval := s.replaced.interval; interval != s.interval && !s.before.IsZero() {
		passed := max(0, now.Sub(s.before)-1)
		at := s.before.Add(passed - passed%interval + interval)
		if s.shared {
			s.begin = s.nextBegin(interval, now)
		} else if at.Before(s.begin) {
			s.begin = at
		}
	}
	s.grid, s.replaced = *s.replaced, nil
	s.runs = s.count()
}

// newGrid spreads agents over the slots of so many.
func newGrid(agents []*check.Agent, of int, interval time.Duration, rate int) *grid {
	length, n := slotPlan(of, interval, rate)
	g := &grid{interval: interval, slot: length, slots: make([]plan, n), checks: make(map[time.Duration]int)}
	for i := range g.slots {
		g.slots[i].always = true
	}
	for _, agent := range agents {
		if start, due := g.plan(agent); due {
			slot := &g.slots[slotOf(agent.Name, n)]
			slot.starts = append(slot.starts, start)
		}
	}
	for _, slot := range g.slots {
		slices.SortFunc(slot.starts, func(a, b Start) int {
			return strings.Compare(a.Agent.Name, b.Agent.Name)
		})
	}
	return g
}

// plan counts an agent's checks, and returns it with all of them; false if it has none.
func (g *grid) plan(agent *check.Agent) (Start, bool) {
	if len(agent.Checks) == 0 {
		return Start{}, false
	}
	slot := &g.slots[slotOf(agent.Name, len(g.slots))]
	checks := make([]*check.Check, len(agent.Checks))
	for i := range agent.Checks {
		checks[i] = &agent.Checks[i]
		g.checks[checks[i].Interval]++
		slot.always = slot.always && checks[i].Interval <= g.interval
	}
	return Start{Agent: agent, Checks: checks}, true
}

// slotPlan returns how long a slot lasts and how many a cycle has. The last tenth of the interval
// stays free, so that a late timer does not push one cycle's starts into the next.
func slotPlan(agents int, interval time.Duration, rate int) (length time.Duration, n int) {
	spread := time.Duration(float64(agents) / float64(rate) * float64(time.Second))
	spread = min(spread, interval*9/10)
	if agents == 0 || spread == 0 {
		return maxSlot, 1
	}
	length = min(max(spread*agentsPerSlot/time.Duration(agents), minSlot), maxSlot)
	return length, max(1, int((spread+length-1)/length))
}

func slotOf(name string, n int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	// FNV's low bits depend on nothing but the low bits of the letters; mix them, or names that say
	// a number twice (node7.rack7) all end up in a few slots. The product's high bits depend on all of them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	// By what part of all numbers it is below, not by its remainder: with one slot more nearly all would move.
	place, _ := bits.Mul64(x, uint64(n)) //nolint:gosec // n is a small positive count.
	return int(place)                    //nolint:gosec // it is below n.
}

// Next returns when the next slot is due.
func (s *Schedule) Next() time.Time { return s.begin.Add(time.Duration(s.next) * s.slot) }

// Cycle returns the cycle of the next slot.
func (s *Schedule) Cycle() int64 { return s.cycle }

// Latest returns when a run of a slot that a cycle waits for must have ended: just before its check
// can be due again.
func (s *Schedule) Latest(slot Slot) time.Time { return slot.Due.Add(slot.interval - runMargin) }

// LatestOf returns when a run of a check in a slot must have ended.
func (s *Schedule) LatestOf(slot Slot, c *check.Check) time.Time {
	if !c.HasResults() || c.Interval <= slot.interval {
		return s.Latest(slot)
	}
	// No cycle waits for it.
	passed := slot.Begin.Sub(s.start) % c.Interval
	return slot.Due.Add(c.Interval - passed - runMargin)
}

// Slots tells how many slots a cycle has and how long each lasts.
func (s *Schedule) Slots() (n int, length time.Duration) { return len(s.slots), s.slot }

// Step returns the next slot if it is due at now; ask again until it is not. Slots are never left
// out within a cycle that has begun. Of cycles that nobody stepped through in time, the last one
// is still yielded, late; those before it are only counted.
func (s *Schedule) Step(now time.Time) (Slot, bool) {
	if now.Before(s.Next()) {
		return Slot{}, false
	}
	missed := int64(0)
	if behind := int64(now.Sub(s.begin) / s.interval); s.next == 0 && behind > 1 {
		missed = behind - 1
		s.cycle += missed
		s.begin = s.begin.Add(time.Duration(missed) * s.interval)
		s.runs = s.count()
	}
	slot := Slot{
		Cycle: s.cycle, Begin: s.begin, Due: s.Next(), Missed: missed,
		First: s.next == 0, Last: s.next == len(s.slots)-1,
		Runs: s.runs, Starts: s.starts(), interval: s.interval,
	}
	if s.next++; slot.Last {
		s.before, s.begin = s.begin, s.begin.Add(s.interval)
		s.cycle, s.next, s.fresh = s.cycle+1, 0, nil
		s.runs = s.count()
		s.adopt(now)
	}
	return slot, true
}

// count returns how many checks are due in the cycle.
func (s *Schedule) count() int {
	n := 0
	for interval, checks := range s.checks {
		if s.turn(interval) {
			n += checks
		}
	}
	for c := range s.fresh {
		if !s.turn(c.Interval) {
			n++
		}
	}
	return n
}

func (s *Schedule) starts() []Start {
	slot := &s.slots[s.next]
	if slot.always && len(s.from) == 0 {
		return slot.starts
	}
	starts := make([]Start, 0, len(slot.starts))
	for _, all := range slot.starts {
		if !s.reached(all.Agent.Name) {
			continue
		}
		if checks := s.dueOf(all.Checks); len(checks) > 0 {
			starts = append(starts, Start{Agent: all.Agent, Checks: checks})
		}
	}
	return starts
}

// dueOf returns those of an agent's checks that are due, without a copy if they are the first ones.
func (s *Schedule) dueOf(all []*check.Check) []*check.Check {
	n := 0
	for n < len(all) && s.due(all[n]) {
		n++
	}
	checks := all[:n:n]
	for _, c := range all[n:] {
		if s.due(c) {
			checks = append(checks, c)
		}
	}
	return checks
}

func (s *Schedule) due(c *check.Check) bool { return s.turn(c.Interval) || s.fresh[c] }

// turn tells whether the checks with an interval are due in the cycle: also if they were in one that was
// passed over, because their next turn may be far away.
func (s *Schedule) turn(interval time.Duration) bool {
	return interval <= s.interval || s.before.IsZero() || s.begin.Sub(s.start)/interval != s.before.Sub(s.start)/interval
}
