package machine_test

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// fleet is a random configuration.
type fleet struct {
	agents   []*check.Agent
	interval time.Duration
	rate     int
}

func drawFleet(t *rapid.T) fleet {
	f := fleet{
		interval: time.Duration(rapid.IntRange(1000, 60000).Draw(t, "interval in ms")) * time.Millisecond,
		rate:     rapid.IntRange(1, 1000).Draw(t, "rate"),
		agents:   make([]*check.Agent, rapid.IntRange(0, 40).Draw(t, "agents")),
	}
	multiples := rapid.SliceOfN(rapid.IntRange(1, 5), 0, 4)
	for i := range f.agents {
		f.agents[i] = &check.Agent{Name: fmt.Sprintf("agent-%d", i)}
		for k, m := range multiples.Draw(t, "multiples") {
			f.agents[i].Checks = append(f.agents[i].Checks, check.Check{
				Name: fmt.Sprintf("check-%d", k), Interval: time.Duration(m) * f.interval,
				Method: check.Method(k % 3),
			})
		}
	}
	return f
}

// watch holds what a schedule has yielded, and checks each slot on its own and against its
// predecessor.
type watch struct {
	fleet
	s      *machine.Schedule
	n      int
	length time.Duration

	cycle  int64 // the expected next one
	next   int   // the expected next slot in it
	missed int64
	runs   int // of the cycle, as its first slot says
	place  map[*check.Agent]int
	starts map[int64]map[*check.Check]int // cycle → check → how often
}

func newWatch(f fleet) *watch {
	w := &watch{
		fleet: f, s: machine.NewSchedule(f.agents, f.interval, f.rate, start),
		place: make(map[*check.Agent]int), starts: make(map[int64]map[*check.Check]int),
	}
	w.n, w.length = w.s.Slots()
	return w
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// advance takes all slots that are due at now, and returns their cycles.
func (w *watch) advance(t fataler, now time.Time) []int64 {
	t.Helper()
	var cycles []int64
	for {
		slot, ok := w.s.Step(now)
		if !ok {
			if next := w.s.Next(); !now.Before(next) {
				t.Fatalf("nothing is due at %s, but next is %s", since(now), since(next))
			}
			return cycles
		}
		w.take(t, slot, now)
		if len(cycles) == 0 || cycles[len(cycles)-1] != slot.Cycle {
			cycles = append(cycles, slot.Cycle)
		}
	}
}

func (w *watch) take(t fataler, slot machine.Slot, now time.Time) {
	t.Helper()
	if slot.Missed != 0 && !slot.First {
		t.Fatalf("slot %d of cycle %d says that %d cycles were missed", w.next, slot.Cycle, slot.Missed)
	}
	w.missed += slot.Missed
	w.cycle += slot.Missed
	if slot.Cycle != w.cycle {
		t.Fatalf("slot of cycle %d, want %d (%d missed)", slot.Cycle, w.cycle, slot.Missed)
	}
	due := start.Add(time.Duration(w.cycle)*w.interval + time.Duration(w.next)*w.length)
	if !slot.Due.Equal(due) {
		t.Fatalf("slot %d of cycle %d is due at %s, want %s", w.next, w.cycle, since(slot.Due), since(due))
	}
	if now.Before(slot.Due) {
		t.Fatalf("slot due at %s was yielded at %s", since(slot.Due), since(now))
	}
	if slot.First != (w.next == 0) || slot.Last != (w.next == w.n-1) {
		t.Fatalf("slot %d of %d: first %v, last %v", w.next, w.n, slot.First, slot.Last)
	}
	if latest := w.s.Latest(slot); !latest.Before(slot.Due.Add(w.interval)) || !latest.After(slot.Due) {
		t.Fatalf("runs of the slot at %s must end by %s, the next are due at %s",
			since(slot.Due), since(latest), since(slot.Due.Add(w.interval)))
	}
	if w.starts[slot.Cycle] == nil {
		w.starts[slot.Cycle] = make(map[*check.Check]int)
	}
	for _, start := range slot.Starts {
		if at, ok := w.place[start.Agent]; ok && at != w.next {
			t.Fatalf("%s moved from slot %d to %d", start.Agent.Name, at, w.next)
		}
		w.place[start.Agent] = w.next
		for _, c := range start.Checks {
			w.starts[slot.Cycle][c]++
			w.ends(t, slot, c)
		}
		if len(start.Checks) == 0 || !slices.IsSortedFunc(start.Checks, func(a, b *check.Check) int {
			return w.index(start.Agent, a) - w.index(start.Agent, b)
		}) {
			t.Fatalf("%s starts with %d checks or out of order", start.Agent.Name, len(start.Checks))
		}
	}
	w.counts(t, slot)
	if w.next++; slot.Last {
		w.cycle, w.next = w.cycle+1, 0
	}
}

// counts checks that each slot of a cycle says how many runs all of them start.
func (w *watch) counts(t fataler, slot machine.Slot) {
	t.Helper()
	if slot.First {
		w.runs = slot.Runs
	}
	started := len(w.starts[slot.Cycle])
	if slot.Runs != w.runs || started > slot.Runs || slot.Last && started != slot.Runs {
		t.Fatalf("slot %d of cycle %d says that there are %d runs in it, the first one said %d, and %d have started",
			w.next, slot.Cycle, slot.Runs, w.runs, started)
	}
}

// ends checks by when a run must have ended: shortly before the cycle's next one, or, if no cycle waits
// for it, shortly before the check is due again.
func (w *watch) ends(t fataler, slot machine.Slot, c *check.Check) {
	t.Helper()
	next := slot.Due.Add(w.interval)
	if c.Method != check.GetStatus {
		every := int64(c.Interval / w.interval)
		next = slot.Due.Add(time.Duration(every-slot.Cycle%every) * w.interval)
	}
	if latest := w.s.LatestOf(slot, c); !latest.Before(next) || next.Sub(latest) > 100*time.Millisecond {
		t.Fatalf("a run of %v with interval %v, due at %s in cycles of %v, must end by %s, want shortly before %s",
			c.Method, c.Interval, since(slot.Due), w.interval, since(latest), since(next))
	}
}

// index returns the place of a check in the agent's configuration.
func (w *watch) index(agent *check.Agent, c *check.Check) int {
	for i := range agent.Checks {
		if &agent.Checks[i] == c {
			return i
		}
	}
	return -1
}

// complete checks that each due check of a cycle was started in it exactly once.
func (w *watch) complete(t fataler, cycle int64) {
	t.Helper()
	before := int64(-1) // the cycle that was yielded before
	for k := range w.starts {
		if k < cycle {
			before = max(before, k)
		}
	}
	for i := range w.agents {
		for k := range w.agents[i].Checks {
			c, want := &w.agents[i].Checks[k], 0
			for due := before + 1; due <= cycle; due++ { // those between were passed over
				if due%int64(c.Interval/w.interval) == 0 {
					want = 1
				}
			}
			if got := w.starts[cycle][c]; got != want {
				t.Fatalf("%s/%s with interval %v was started %d times in cycle %d of %v, want %d",
					w.agents[i].Name, c.Name, c.Interval, got, cycle, w.interval, want)
			}
		}
	}
}
