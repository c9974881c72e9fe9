package machine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// cycleModel is a cycle as one would write it down: the runs, and the status of each.
type cycleModel struct {
	c        *machine.Cycle
	grace    time.Duration
	agents   []check.Agent
	runs     []check.Run
	statuses []*check.Status
	sealed   bool
}

// Whatever happens to its runs, and in whatever order, a cycle ends with exactly one status for
// each, the first that there was, in the order in which they were added, and with those that were
// included, at the time of which nothing else changes.
func TestCycleGivesOneStatusEach(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &cycleModel{
			grace:  time.Duration(rapid.IntRange(0, 2).Draw(t, "grace")) * time.Second,
			agents: []check.Agent{{Name: "web"}, {Name: "db"}, {Name: "dns"}},
		}
		m.c = machine.OpenCycle(42, start, start, m.grace)
		m.c.Grow(rapid.IntRange(0, 9).Draw(t, "room"))
		t.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"add":      m.add,
			"fill":     m.fill,
			"include":  m.include,
			"expire":   m.expire,
			"forsake":  m.forsake,
			"deadline": m.deadline,
			"seal":     m.seal,
		})
		m.close(t)
		m.close(t) // changes nothing
	})
}

func drawTime(t *rapid.T) time.Time {
	return start.Add(time.Duration(rapid.IntRange(-10, 10).Draw(t, "seconds")) * time.Second)
}

func (m *cycleModel) drawRun(t *rapid.T) int {
	if len(m.runs) == 0 {
		t.Skip("no runs")
	}
	return rapid.IntRange(0, len(m.runs)-1).Draw(t, "run")
}

func (m *cycleModel) add(t *rapid.T) {
	if m.sealed {
		if panics(func() { m.c.Add(check.Run{}) }) == nil {
			t.Fatal("a run was added to a sealed cycle")
		}
		return
	}
	for range rapid.IntRange(1, 9).Draw(t, "runs") {
		run := check.Run{Agent: rapid.SampledFrom(m.pointers()).Draw(t, "agent"), Check: &check.Check{}, Due: start, Deadline: drawTime(t)}
		want := run
		want.ID = check.RunID{Cycle: 42, Seq: len(m.runs)}
		if run = m.c.Add(run); run != want {
			t.Fatalf("added %+v, want %+v", run, want)
		}
		m.runs = append(m.runs, run)
		m.statuses = append(m.statuses, nil)
	}
}

func (m *cycleModel) pointers() []*check.Agent {
	return []*check.Agent{&m.agents[0], &m.agents[1], &m.agents[2]}
}

func (m *cycleModel) fill(t *rapid.T) {
	i := m.drawRun(t)
	st := m.runs[i].Answered(check.Answer{Available: rapid.Bool().Draw(t, "available")}, time.Duration(len(m.runs)))
	if rapid.Bool().Draw(t, "failed") {
		st = m.runs[i].Failed(check.Timeout, rapid.StringMatching("[a-z]{3}").Draw(t, "detail"), time.Second)
	}
	if got, want := m.c.Fill(st), m.statuses[i] == nil; got != want {
		t.Fatalf("fill run %d: %v, want %v", i, got, want)
	}
	if m.statuses[i] == nil {
		m.statuses[i] = &st
	}
}

// include takes in the status of a run in the background, whose place here nobody else may use.
func (m *cycleModel) include(t *rapid.T) {
	run := check.Run{ID: check.RunID{Cycle: machine.NoCycle, Seq: rapid.IntRange(0, 9).Draw(t, "seq")}, Agent: &m.agents[0], Check: &check.Check{}}
	st := run.Answered(check.Answer{Available: true, Sequence: "7"}, time.Second)
	m.c.Include(st)
	run.ID = check.RunID{Cycle: 42, Seq: len(m.runs)}
	m.runs = append(m.runs, run)
	m.statuses = append(m.statuses, &st)
}

// fillWhere is what Expire, Forsake and Close are to do.
func (m *cycleModel) fillWhere(detail string, which func(check.Run) bool) []check.Run {
	var runs []check.Run
	for i, run := range m.runs {
		if m.statuses[i] == nil && which(run) {
			m.statuses[i] = new(run.Failed(check.NoAnswer, detail, 0))
			runs = append(runs, run)
		}
	}
	return runs
}

func (m *cycleModel) expire(t *rapid.T) {
	now := drawTime(t)
	want := m.fillWhere("expired", func(run check.Run) bool { return now.Sub(run.Deadline) >= m.grace })
	if diff := cmp.Diff(want, m.c.Expire(now, "expired")); diff != "" {
		t.Fatalf("expired (-want +got):\n%s", diff)
	}
}

func (m *cycleModel) forsake(t *rapid.T) {
	name := rapid.SampledFrom([]string{"web", "db", "dns", "nobody"}).Draw(t, "agent")
	want := m.fillWhere("forsaken", func(run check.Run) bool { return run.Agent.Name == name })
	if diff := cmp.Diff(want, m.c.Forsake(name, "forsaken")); diff != "" {
		t.Fatalf("forsaken (-want +got):\n%s", diff)
	}
}

func (m *cycleModel) deadline(t *rapid.T) {
	i := m.drawRun(t)
	m.runs[i].Deadline = drawTime(t)
	m.c.SetDeadline(m.runs[i].ID, m.runs[i].Deadline)
}

func (m *cycleModel) seal(*rapid.T) {
	m.c.Seal()
	m.sealed = true
}

// check compares what the cycle says of itself.
func (m *cycleModel) check(t *rapid.T) {
	missing := 0
	var next time.Time
	for i, run := range m.runs {
		if m.statuses[i] == nil {
			if at := run.Deadline.Add(m.grace); missing == 0 || at.Before(next) {
				next = at
			}
			missing++
		}
	}
	if got := m.c.Missing(); got != missing {
		t.Fatalf("%d missing, want %d", got, missing)
	}
	if got, want := m.c.Complete(), m.sealed && missing == 0; got != want {
		t.Fatalf("complete: %v, want %v", got, want)
	}
	if got, ok := m.c.NextExpiry(); ok != (missing > 0) || ok && !got.Equal(next) {
		t.Fatalf("next expiry %v %v, want %v", since(got), ok, since(next))
	}
}

func (m *cycleModel) close(t *rapid.T) {
	m.fillWhere("closed", func(check.Run) bool { return true })
	m.sealed = true
	want := make([]check.Status, len(m.runs))
	for i, st := range m.statuses {
		want[i] = *st
	}
	if diff := cmp.Diff(want, m.c.Close("closed"), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("statuses (-want +got):\n%s", diff)
	}
	m.check(t)
}

// A cycle includes statuses whenever it is told to; it waits for none of them.
func TestCycleIncludes(t *testing.T) {
	t.Parallel()
	agent := &check.Agent{Name: "web"}
	background := func(seq int) check.Status {
		run := check.Run{ID: check.RunID{Cycle: machine.NoCycle, Seq: seq}, Agent: agent, Check: &check.Check{Method: check.GetResults}}
		return run.Answered(check.Answer{Available: true, Sequence: "7"}, time.Second)
	}
	c := machine.OpenCycle(4, start, start, 0)
	c.Include(background(0)) // the id of the run that is added next, but for the cycle
	first := c.Add(check.Run{Agent: agent, Check: &check.Check{}, Deadline: start})
	c.Include(background(7))
	second := c.Add(check.Run{Agent: agent, Check: &check.Check{}, Deadline: start})
	if c.Missing() != 2 || first.ID == second.ID {
		t.Errorf("%d missing, want 2: %v and %v", c.Missing(), first.ID, second.ID)
	}
	c.Seal()
	c.Include(background(8))
	if c.Complete() {
		t.Error("the cycle is complete without the runs that it waits for")
	}
	if !c.Fill(second.Answered(check.Answer{}, time.Second)) {
		t.Error("a run has a status before it was filled")
	}
	if got := c.Forsake("web", "its actor failed"); len(got) != 1 || got[0].ID != first.ID {
		t.Errorf("forsaken: %v, want the first run alone", got)
	}
	if !c.Complete() {
		t.Error("the cycle waits for something")
	}
	want := []check.Status{
		background(0), first.Failed(check.NoAnswer, "its actor failed", 0), background(7),
		second.Answered(check.Answer{}, time.Second), background(8),
	}
	if diff := cmp.Diff(want, c.Close("")); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// A status of another cycle is never taken for one of this.
func TestCycleRefusesStrangers(t *testing.T) {
	t.Parallel()
	c := machine.OpenCycle(4, start, start, 0)
	run := c.Add(check.Run{Agent: &check.Agent{}, Check: &check.Check{}, Deadline: start})
	run.ID.Cycle = 3
	if panics(func() { c.Fill(run.Failed(check.Timeout, "", 0)) }) == nil {
		t.Error("took a status of cycle 3 in cycle 4")
	}
	if panics(func() { c.SetDeadline(run.ID, start.Add(time.Hour)) }) == nil {
		t.Error("moved the deadline of a run of cycle 3 in cycle 4")
	}
	if next, ok := c.NextExpiry(); c.Missing() != 1 || !ok || !next.Equal(start) {
		t.Errorf("%d missing, next expiry %s %v; want nothing changed", c.Missing(), since(next), ok)
	}
}
