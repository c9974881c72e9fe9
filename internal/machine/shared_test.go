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
					m.to.s.StartAside(m.agent.Name, now.Add(m.to.ahead))
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

// Agents of which nobody knows when they were started last are started at once, and not again before half an interval has passed.
func TestSharedOrphans(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	for _, place := range []time.Duration{0, 3 * time.Second, 7 * time.Second} {
		a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "x", Interval: interval}, {Name: "hourly", Interval: time.Hour}}}
		now := epoch.Add(time.Minute + place)
		s := machine.NewShared(1, interval, 1, epoch, now)
		if missed := s.Adopt(a, time.Time{}); len(missed) != 2 {
			t.Errorf("of an orphan %d checks are started at once, want both", len(missed))
		}
		ends := s.StartAside("a", now)
		begin := s.NextBegin("a")
		if first := begin.Sub(now); first < interval/2 || first > interval*3/2 {
			t.Errorf("adopted %v after the begin of a cycle, it is started again %v later", place, first)
		}
		if left := ends.Sub(begin); left > time.Second || left < -time.Second {
			t.Errorf("a run beside its turns ends %v after the cycle of the next turn has begun", left)
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
