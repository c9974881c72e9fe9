// Package machine holds the pure state machines of polling: the schedule, the cycle, the breaker
// and the restart budget. Nothing in it does I/O, reads a clock, starts a goroutine or logs; the
// time is always an argument. Values are not safe for concurrent use: each has one actor that
// drives it. Impossible transitions panic, for they are bugs of the caller.
package machine

import (
	"hash/fnv"
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

// Schedule yields slots: which agents to start with which checks, and when. Cycle k begins at
// exactly start + k·interval, however late it is asked, so nothing drifts. A check whose interval
// is m cycles is due in every m-th, beginning with cycle 0; if that was passed over, in the next one
// that is not. An agent's slot depends only on its name and the number of slots.
type Schedule struct {
	start    time.Time
	interval time.Duration
	slot     time.Duration
	slots    []plan
	checks   map[int64]int // how many there are, by their intervals in cycles

	cycle  int64 // of the next slot
	next   int   // the next slot's place in it
	before int64 // the cycle that was yielded before that of the next slot; -1 if there is none
}

// plan is what a slot starts if all its checks are due.
type plan struct {
	starts []Start
	always bool // they are, in every cycle
}

// Slot is a moment of a cycle and what is due then.
type Slot struct {
	Cycle int64
	// Due is when the slot was planned to start.
	Due time.Time
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
}

// Start is one agent with its checks that are due.
type Start struct {
	Agent  *check.Agent
	Checks []*check.Check
}

// NewSchedule spreads agents over slots so that rate of them start each second, faster only if
// the interval demands it. The first slot is due at start.
func NewSchedule(agents []*check.Agent, interval time.Duration, rate int, start time.Time) *Schedule {
	length, n := slotPlan(len(agents), interval, rate)
	s := &Schedule{
		start: start, interval: interval, slot: length, slots: make([]plan, n), checks: make(map[int64]int), before: -1,
	}
	for i := range s.slots {
		s.slots[i].always = true
	}
	for i := range agents {
		s.plan(agents[i], &s.slots[slotOf(agents[i].Name, n)])
	}
	for _, slot := range s.slots {
		slices.SortFunc(slot.starts, func(a, b Start) int {
			return strings.Compare(a.Agent.Name, b.Agent.Name)
		})
	}
	return s
}

func (s *Schedule) plan(agent *check.Agent, slot *plan) {
	if len(agent.Checks) == 0 {
		return
	}
	checks := make([]*check.Check, len(agent.Checks))
	for i := range agent.Checks {
		checks[i] = &agent.Checks[i]
		every := s.every(checks[i])
		s.checks[every]++
		slot.always = slot.always && every == 1
	}
	slot.starts = append(slot.starts, Start{Agent: agent, Checks: checks})
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
	// a number twice (node7.rack7) all end up in a few slots.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return int(x % uint64(n)) //nolint:gosec // n is a small positive count.
}

// Next returns when the next slot is due.
func (s *Schedule) Next() time.Time { return s.due(s.cycle, s.next) }

// Cycle returns the cycle of the next slot.
func (s *Schedule) Cycle() int64 { return s.cycle }

// Begin returns when a cycle begins.
func (s *Schedule) Begin(cycle int64) time.Time { return s.due(cycle, 0) }

// Latest returns when a run of a slot that a cycle waits for must have ended: just before its check
// can be due again.
func (s *Schedule) Latest(slot Slot) time.Time { return slot.Due.Add(s.interval - runMargin) }

// LatestOf returns when a run of a check in a slot must have ended.
func (s *Schedule) LatestOf(slot Slot, c *check.Check) time.Time {
	if !c.HasResults() {
		return s.Latest(slot)
	}
	// No cycle waits for it.
	every := s.every(c)
	next := (slot.Cycle/every + 1) * every
	return slot.Due.Add(time.Duration(next-slot.Cycle)*s.interval - runMargin)
}

// Slots tells how many slots a cycle has and how long each lasts.
func (s *Schedule) Slots() (n int, length time.Duration) { return len(s.slots), s.slot }

func (s *Schedule) due(cycle int64, slot int) time.Time {
	return s.start.Add(time.Duration(cycle)*s.interval + time.Duration(slot)*s.slot)
}

// Step returns the next slot if it is due at now; ask again until it is not. Slots are never left
// out within a cycle that has begun. Of cycles that nobody stepped through in time, the last one
// is still yielded, late; those before it are only counted.
func (s *Schedule) Step(now time.Time) (Slot, bool) {
	due := s.Next()
	if now.Before(due) {
		return Slot{}, false
	}
	missed := int64(0)
	if current := int64(now.Sub(s.start) / s.interval); s.next == 0 && s.cycle < current-1 {
		missed = current - 1 - s.cycle
		s.cycle = current - 1
		due = s.Next()
	}
	slot := Slot{
		Cycle: s.cycle, Due: due, Missed: missed,
		First: s.next == 0, Last: s.next == len(s.slots)-1,
		Runs: s.runs(), Starts: s.starts(),
	}
	s.next++
	if slot.Last {
		s.before, s.cycle, s.next = s.cycle, s.cycle+1, 0
	}
	return slot, true
}

// runs returns how many checks are due in the cycle.
func (s *Schedule) runs() int {
	n := 0
	for every, checks := range s.checks {
		if s.turn(every) {
			n += checks
		}
	}
	return n
}

func (s *Schedule) starts() []Start {
	slot := &s.slots[s.next]
	if slot.always {
		return slot.starts
	}
	starts := make([]Start, 0, len(slot.starts))
	for _, all := range slot.starts {
		if checks := s.dueOf(all.Checks); len(checks) > 0 {
			starts = append(starts, Start{Agent: all.Agent, Checks: checks})
		}
	}
	return starts
}

// dueOf returns those of an agent's checks that are due, without a copy if they are the first ones.
func (s *Schedule) dueOf(all []*check.Check) []*check.Check {
	n := 0
	for n < len(all) && s.turn(s.every(all[n])) {
		n++
	}
	checks := all[:n:n]
	for _, c := range all[n:] {
		if s.turn(s.every(c)) {
			checks = append(checks, c)
		}
	}
	return checks
}

// turn tells whether the checks with an interval of so many cycles are due in the cycle: also if they were
// in one that was passed over, because their next turn may be far away.
func (s *Schedule) turn(every int64) bool {
	return s.before < 0 || s.cycle/every != s.before/every
}

// every returns the interval of a check in cycles.
func (s *Schedule) every(c *check.Check) int64 { return max(1, int64(c.Interval/s.interval)) }
