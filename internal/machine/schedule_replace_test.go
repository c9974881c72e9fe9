package machine_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// changing is a schedule whose agents come, go and change, and what it started.
type changing struct {
	s        *machine.Schedule
	interval time.Duration
	agents   map[string]*check.Agent
	now      time.Time
	cycle    map[string]bool      // what the last cycle started, as agent/check
	fresh    map[string]bool      // what the next one has to
	started  map[string]time.Time // the begin of the cycle that started it last
	longest  time.Duration        // the longest interval of cycles so far
	names    int
}

// draw returns an agent, which is new.
func (w *changing) draw(t *rapid.T, name string) *check.Agent {
	a := &check.Agent{Name: name}
	for k, m := range rapid.SliceOfN(rapid.IntRange(1, 5), 1, 3).Draw(t, "multiples") {
		a.Checks = append(a.Checks, check.Check{Name: fmt.Sprint(k), Interval: time.Duration(m) * w.interval})
	}
	return a
}

// replace draws changes. All checks of an agent that is new or changed are fresh.
func (w *changing) replace(t *rapid.T) {
	w.interval = rapid.SampledFrom([]time.Duration{w.interval, w.interval, time.Second, 7 * time.Second, 30 * time.Second}).Draw(t, "interval")
	w.longest = max(w.longest, w.interval)
	var fresh []*check.Check
	add := func(name string) {
		a := w.draw(t, name)
		w.agents[name] = a
		for i := range a.Checks {
			fresh = append(fresh, &a.Checks[i])
			w.fresh[name+"/"+a.Checks[i].Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.agents)) {
		change := rapid.IntRange(0, 9).Draw(t, "change")
		if a := w.agents[name]; change > 1 && slices.ContainsFunc(a.Checks, func(c check.Check) bool { return c.Interval%w.interval != 0 }) {
			change = 1 // the configuration would be wrong
		}
		switch change {
		case 0:
			delete(w.agents, name)
		case 1:
			add(name)
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "new ones") {
		w.names++
		add(fmt.Sprint("a", w.names))
	}
	w.s.Replace(w.list(), w.interval, 5, fresh, w.now)
}

func (w *changing) list() []*check.Agent {
	return slices.Collect(maps.Values(w.agents))
}

func (w *changing) advance(t *rapid.T) {
	for {
		slot, ok := w.s.Step(w.now)
		if !ok {
			return
		}
		if slot.First {
			clear(w.cycle)
		}
		for _, start := range slot.Starts {
			for _, c := range start.Checks {
				name := start.Agent.Name + "/" + c.Name
				if w.cycle[name] {
					t.Fatalf("%s is started twice in cycle %d", name, slot.Cycle)
				}
				w.cycle[name] = true
				w.started[name] = slot.Begin
				delete(w.fresh, name)
			}
		}
		if slot.Last {
			w.complete(t, slot)
		}
	}
}

// complete checks a cycle that has started all: it has the runs that it said, and no check waits for longer than its
// interval, and for a cycle's begin after that.
func (w *changing) complete(t *rapid.T, slot machine.Slot) {
	if len(w.cycle) != slot.Runs {
		t.Fatalf("cycle %d was to have %d runs, and has %d", slot.Cycle, slot.Runs, len(w.cycle))
	}
	for _, a := range w.list() {
		for _, c := range a.Checks {
			last, ok := w.started[a.Name+"/"+c.Name]
			if waits := slot.Begin.Sub(last); ok && waits >= c.Interval+w.longest {
				t.Fatalf("%s/%s with interval %v was not started for %v, in cycles of %v", a.Name, c.Name, c.Interval, waits, w.interval)
			}
		}
	}
}

// Whatever is replaced, and when: nothing is started twice in a cycle or left out, what is fresh is started in the
// next cycle, and nothing has to wait for longer than its interval and a cycle.
func TestScheduleReplace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &changing{
			interval: 7 * time.Second, longest: 7 * time.Second, now: start, agents: make(map[string]*check.Agent),
			cycle: make(map[string]bool), fresh: make(map[string]bool), started: make(map[string]time.Time),
		}
		for i := range 10 {
			name := fmt.Sprint("b", i)
			w.agents[name] = w.draw(t, name)
		}
		w.s = machine.NewSchedule(w.list(), w.interval, 5, w.now)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "replace") {
				w.replace(t)
			}
			gone := func(name string, _ bool) bool { return !w.has(name) }
			maps.DeleteFunc(w.fresh, gone)
			maps.DeleteFunc(w.started, func(name string, _ time.Time) bool { return !w.has(name) })
			before := w.s.Cycle()
			w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "gap")))
			w.advance(t)
			if w.s.Cycle() > before+1 && len(w.fresh) > 0 {
				t.Fatalf("after a whole cycle these were not started: %v", slices.Sorted(maps.Keys(w.fresh)))
			}
		}
	})
}

func (w *changing) has(name string) bool {
	for _, a := range w.agents {
		for _, c := range a.Checks {
			if a.Name+"/"+c.Name == name {
				return true
			}
		}
	}
	return false
}

// An agent that comes or goes among many moves the others by a slot or so, and none misses a cycle.
func TestScheduleReplaceMovesNobodyFar(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	agents := numbered(2000, 1, interval)
	s := machine.NewSchedule(agents, interval, 500, start)
	places := func(cycle int64) map[string]time.Duration {
		at := make(map[string]time.Duration)
		for s.Cycle() == cycle {
			slot, _ := s.Step(s.Next())
			for _, st := range slot.Starts {
				at[st.Agent.Name] = slot.Due.Sub(slot.Begin)
			}
		}
		return at
	}
	before := places(0)
	more := append(slices.Clone(agents[:1990]), numbered(2110, 1, interval)[2000:]...) // 5 % more
	s.Replace(more, interval, 500, nil, s.Next().Add(-time.Second))
	after := places(1)
	if len(before) != 2000 || len(after) != 2100 {
		t.Fatalf("%d and %d agents were started", len(before), len(after))
	}
	for _, a := range agents[:1990] {
		if moved := after[a.Name] - before[a.Name]; moved < 0 || moved > 250*time.Millisecond {
			t.Errorf("%s moved by %v, with slots of 50ms and a cycle's starts spread over 4.2s instead of 4s", a.Name, moved)
		}
	}
}
