package machine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

var epoch = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)

// sharedNode is a node with a clock of its own.
type sharedNode struct {
	s     *machine.Schedule
	ahead time.Duration // of its clock
}

// However agents move between nodes whose clocks differ by less than half an interval, and however long that takes while it
// is less than half an interval, each check is started once in each cycle in which it is due.
func TestSharedSchedules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.IntRange(1, 10).Draw(t, "interval")) * time.Second
		agents := make([]*check.Agent, rapid.IntRange(1, 40).Draw(t, "agents"))
		for i := range agents {
			agents[i] = &check.Agent{Name: fmt.Sprintf("a%d", i), Checks: []check.Check{{Name: "each", Interval: interval}, {Name: "third", Interval: 3 * interval}}}
		}
		now := epoch.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(t, "ms")) * time.Millisecond)
		began := now
		nodes := make([]*sharedNode, 3)
		for i := range nodes {
			ahead := time.Duration(rapid.IntRange(-200, 200).Draw(t, "ahead")) * time.Millisecond
			nodes[i] = &sharedNode{machine.NewShared(len(agents), interval, 20, epoch, now.Add(ahead)), ahead}
		}
		type start struct{ agent, check string }
		starts := make(map[start][]time.Time) // by the true clock
		type move struct {
			agent *check.Agent
			to    *sharedNode
			from  time.Time // by the true clock
			at    time.Time
		}
		var moves []move
		owner := make(map[*check.Agent]*sharedNode)
		note := func(a *check.Agent, c *check.Check, at time.Time) {
			starts[start{a.Name, c.Name}] = append(starts[start{a.Name, c.Name}], at)
		}
		for _, a := range agents {
			owner[a] = nodes[0]
			for _, c := range nodes[0].s.Adopt(a, now.Add(nodes[0].ahead+interval)) {
				t.Fatalf("%s was due before it was there: %v", a.Name, c)
			}
		}
		for range rapid.IntRange(50, 300).Draw(t, "steps") {
			now = now.Add(10 * time.Millisecond)
			for _, n := range nodes {
				for slot, due := n.s.Step(now.Add(n.ahead)); due; slot, due = n.s.Step(now.Add(n.ahead)) {
					for _, st := range slot.Starts {
						for _, c := range st.Checks {
							note(st.Agent, c, now)
						}
					}
				}
			}
			moves = slices.DeleteFunc(moves, func(m move) bool {
				if m.at.After(now) {
					return false
				}
				missed := m.to.s.Adopt(m.agent, m.from.Add(m.to.ahead))
				for _, c := range missed {
					note(m.agent, c, now)
				}
				if len(missed) > 0 {
					m.to.s.StartAside(machine.Start{Agent: m.agent, Checks: missed}, now.Add(m.to.ahead))
				}
				owner[m.agent] = m.to
				return true
			})
			a := rapid.SampledFrom(agents).Draw(t, "agent")
			if from := owner[a]; from != nil && rapid.IntRange(0, 3).Draw(t, "moves") == 0 {
				owner[a] = nil
				late := time.Duration(rapid.IntRange(0, int(interval/5/time.Millisecond)).Draw(t, "late")) * time.Millisecond
				moves = append(moves, move{a, rapid.SampledFrom(nodes).Draw(t, "to"), from.s.Drop(a.Name).Add(-from.ahead), now.Add(late)})
			}
		}
		// The first cycle of an agent begins at most two intervals after all began.
		for _, a := range agents {
			for i := range a.Checks {
				c := &a.Checks[i]
				at := starts[start{a.Name, c.Name}]
				times := int(now.Sub(began) / c.Interval)
				if n := len(at); n < times-2 || n > times+1 {
					t.Fatalf("%s/%s of every %v was started %d times in %v: %v", a.Name, c.Name, c.Interval, n, now.Sub(began), at)
				}
				for k := 1; k < len(at); k++ {
					if gap := at[k].Sub(at[k-1]); gap > c.Interval+interval*4/5 || gap < c.Interval-interval*4/5 {
						t.Fatalf("%s/%s of every %v was started %v after the last time: %v", a.Name, c.Name, c.Interval, gap, at)
					}
				}
			}
		}
	})
}

// Agents of which nobody knows when they were started last are started at once, and not again before half an interval has passed, though what is started at
// once may come a tenth later; nor is the next run later than one and a half intervals and a tenth.
func TestSharedOrphans(t *testing.T) {
	t.Parallel()
	const interval, late = 16 * time.Second, 1600 * time.Millisecond
	for place := time.Duration(0); place < interval; place += interval / 64 {
		a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}, {Name: "hourly", Interval: time.Hour}}}
		now := epoch.Add(time.Hour + 4*interval + place)
		s := machine.NewShared(1, interval, 100, epoch, now) // one slot
		missed := s.Adopt(a, time.Time{})
		start, ends := s.StartAside(machine.Start{Agent: a, Checks: missed}, now)
		if len(missed) != 2 || len(start.Checks) != 2 {
			t.Errorf("of an orphan %d checks are missed, and %d started at once, want both", len(missed), len(start.Checks))
		}
		begin := s.NextBegin("a")
		if next := begin.Sub(now); next < interval/2+late || next > interval*8/5 {
			t.Errorf("adopted %v after the begin of a cycle, it is started again %v later", place, next)
		}
		if left := ends.Sub(begin); left > time.Second || left < -time.Second {
			t.Errorf("a run beside its turns ends %v after the cycle of the next turn has begun", left)
		}
	}
}

// What is due only in a turn that is left out is started before it: else it would wait for another of its intervals.
func TestSharedTurnLeftOut(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}, {Name: "minutely", Interval: time.Minute}, {Name: "hourly", Interval: time.Hour}}}
	for _, tt := range []struct {
		before time.Duration // the full minute, at which an interval begins
		fresh  bool
		want   []string
	}{
		{2 * time.Second, false, []string{"x", "minutely"}},
		{8 * time.Second, false, []string{"x"}}, // its turn is kept
		{-8 * time.Second, false, []string{"x"}},
		{-8 * time.Second, true, []string{"x", "hourly"}}, // to be asked in the next turn, whenever that is
	} {
		now := epoch.Add(90*time.Minute - tt.before)
		s := machine.NewShared(1, interval, 1, epoch, now)
		if tt.fresh {
			s.Replace([]*check.Agent{a}, interval, 1, []*check.Check{&a.Checks[2]}, now)
		}
		start, _ := s.StartAside(machine.Start{Agent: a, Checks: []*check.Check{&a.Checks[0]}}, now)
		var names []string
		for _, c := range start.Checks {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, tt.want) {
			t.Errorf("%v before the full minute x was missed, and %v are started (asked anew: %v), want %v", tt.before, names, tt.fresh, tt.want)
		}
	}
}

// A node that adopts an agent late, by cycles, starts what was due once.
func TestSharedLate(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}, {Name: "minutely", Interval: time.Minute}}}
	now := epoch.Add(time.Hour + time.Second)
	for _, tt := range []struct {
		from time.Duration // before the begin of the cycle that is next
		want []string
	}{
		{-interval, nil},
		{0, nil},
		{interval / 3, nil},                   // clocks differ
		{interval, []string{"x", "minutely"}}, // the cycle at the full hour
		{3 * interval, []string{"x", "minutely"}},
	} {
		s := machine.NewShared(1, interval, 1, epoch, now)
		var names []string
		for _, c := range s.Adopt(a, epoch.Add(time.Hour+interval-tt.from)) {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, tt.want) {
			t.Errorf("from %v before the next cycle: %v are started at once, want %v", tt.from, names, tt.want)
		}
	}
	s := machine.NewShared(1, interval, 1, epoch, now.Add(interval))
	if missed := s.Adopt(a, epoch.Add(time.Hour+interval)); len(missed) != 1 || missed[0].Name != "x" {
		t.Errorf("in the cycle after the full minute %v are started at once, want x", missed)
	}
}

// Whoever has yet to make up for a check says so by when the agent is to be adopted: the next owner starts the check at once, whatever its interval is.
func TestSharedLastTurn(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}, {Name: "minutely", Interval: time.Minute}, {Name: "hourly", Interval: time.Hour}}}
	for _, tt := range []struct {
		owes int
		want []string
	}{{0, []string{"x"}}, {1, []string{"x", "minutely"}}, {2, []string{"x", "minutely", "hourly"}}} {
		from := epoch.Add(90*time.Minute + 2*interval)
		s := machine.NewShared(1, interval, 1, epoch, from.Add(-time.Second))
		var names []string
		for _, c := range s.Adopt(a, s.LastTurn(a.Checks[tt.owes].Interval, from.Add(-interval))) {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, tt.want) {
			t.Errorf("of one that owes %s %v are started at once, want %v", a.Checks[tt.owes].Name, names, tt.want)
		}
		for phase := time.Duration(0); phase < 2*time.Minute; phase += interval {
			from := epoch.Add(90*time.Minute + phase)
			s := machine.NewShared(1, interval, 1, epoch, from.Add(-time.Second))
			if missed := s.Adopt(a, s.LastTurn(a.Checks[tt.owes].Interval, from.Add(-interval))); !slices.Contains(missed, &a.Checks[tt.owes]) {
				t.Errorf("%v after the full minute %s is not made up for", phase, a.Checks[tt.owes].Name)
			}
		}
	}
}

// Whoever drops an agent that it has not started says so.
func TestSharedDrop(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}}}
	now := epoch.Add(time.Hour + time.Second)
	s := machine.NewShared(1, interval, 1, epoch, now)
	if from := s.Drop("a"); !from.IsZero() {
		t.Errorf("an agent that is not there was last started at %v", from)
	}
	for _, from := range []time.Duration{interval, 3 * interval} {
		s.Adopt(a, epoch.Add(time.Hour+from))
		if got := s.Drop("a").Sub(epoch.Add(time.Hour)); got != from {
			t.Errorf("adopted from %v, dropped from %v", from, got)
		}
	}
	if _, due := s.Step(now.Add(interval)); !due {
		t.Fatal("no slot is due an interval later")
	}
}
