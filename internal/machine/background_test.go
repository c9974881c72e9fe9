package machine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// backgroundModel is what is under way as one would write it down: the runs by the order in which they
// came, those that ended crossed out.
type backgroundModel struct {
	b      machine.Background
	grace  time.Duration
	agents []check.Agent
	all    []check.Run
	ended  map[check.RunID]bool
}

// Whatever happens to its runs, and in whatever order, each is taken out exactly once, by the first
// that ends it.
func TestBackgroundEndsEachOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &backgroundModel{
			grace:  time.Duration(rapid.IntRange(0, 2).Draw(t, "grace")) * time.Second,
			agents: []check.Agent{{Name: "web"}, {Name: "db"}, {Name: "dns"}},
			ended:  make(map[check.RunID]bool),
		}
		t.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"add":      m.add,
			"end":      m.end,
			"expire":   m.expire,
			"forsake":  m.forsake,
			"deadline": m.deadline,
		})
	})
}

func (m *backgroundModel) add(t *rapid.T) {
	for range rapid.IntRange(1, 9).Draw(t, "runs") {
		agent := &m.agents[rapid.IntRange(0, len(m.agents)-1).Draw(t, "agent")]
		run := check.Run{Agent: agent, Check: &check.Check{}, Due: start, Deadline: drawTime(t), LastSequence: "7"}
		want := run
		want.ID = check.RunID{Cycle: machine.NoCycle, Seq: len(m.all)} // those of the past are not used again
		if run = m.b.Add(run); run != want {
			t.Fatalf("added %+v, want %+v", run, want)
		}
		m.all = append(m.all, run)
	}
}

// drawRun returns the place of a run that may have ended.
func (m *backgroundModel) drawRun(t *rapid.T) int {
	if len(m.all) == 0 {
		t.Skip("no runs")
	}
	return rapid.IntRange(0, len(m.all)-1).Draw(t, "run")
}

func (m *backgroundModel) end(t *rapid.T) {
	id := m.all[m.drawRun(t)].ID
	if got, want := m.b.End(id), !m.ended[id]; got != want {
		t.Fatalf("end of %v: %v, want %v", id, got, want)
	}
	m.ended[id] = true
}

// endWhere is what Expire and Forsake are to do.
func (m *backgroundModel) endWhere(which func(check.Run) bool) []check.Run {
	var runs []check.Run
	for _, run := range m.all {
		if !m.ended[run.ID] && which(run) {
			m.ended[run.ID] = true
			runs = append(runs, run)
		}
	}
	return runs
}

func (m *backgroundModel) expire(t *rapid.T) {
	now := drawTime(t)
	want := m.endWhere(func(run check.Run) bool { return now.Sub(run.Deadline) >= m.grace })
	if diff := cmp.Diff(want, m.b.Expire(now, m.grace)); diff != "" {
		t.Fatalf("expired (-want +got):\n%s", diff)
	}
}

func (m *backgroundModel) forsake(t *rapid.T) {
	name := rapid.SampledFrom([]string{"web", "db", "dns", "nobody"}).Draw(t, "agent")
	want := m.endWhere(func(run check.Run) bool { return run.Agent.Name == name })
	if diff := cmp.Diff(want, m.b.Forsake(name)); diff != "" {
		t.Fatalf("forsaken (-want +got):\n%s", diff)
	}
}

// deadline moves that of a run; one that has ended must not come back by it.
func (m *backgroundModel) deadline(t *rapid.T) {
	i := m.drawRun(t)
	m.all[i].Deadline = drawTime(t)
	m.b.Begin(m.all[i].ID, m.all[i].Deadline)
}

// check compares what the background says of itself.
func (m *backgroundModel) check(t *rapid.T) {
	under := 0
	var next time.Time
	for _, run := range m.all {
		if !m.ended[run.ID] {
			if at := run.Deadline.Add(m.grace); under == 0 || at.Before(next) {
				next = at
			}
			under++
		}
	}
	if got := m.b.Len(); got != under {
		t.Fatalf("%d under way, want %d", got, under)
	}
	if got, ok := m.b.NextExpiry(m.grace); ok != (under > 0) || ok && !got.Equal(next) {
		t.Fatalf("next expiry %s %v, want %s", since(got), ok, since(next))
	}
}

// The story of a poll, for those who want to read how it is used.
func TestBackground(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	web, db := &check.Agent{Name: "web"}, &check.Agent{Name: "db"}
	var b machine.Background
	add := func(agent *check.Agent, deadline time.Duration) check.Run {
		return b.Add(check.Run{Agent: agent, Check: &check.Check{Method: check.GetResults}, Deadline: start.Add(deadline)})
	}
	seqs := func(runs []check.Run) (seqs []int) {
		for _, run := range runs {
			seqs = append(seqs, run.ID.Seq)
		}
		return seqs
	}
	want := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if b.End(check.RunID{Cycle: machine.NoCycle}) || b.Expire(start, 0) != nil || b.Forsake("web") != nil || b.Len() != 0 {
		t.Error("something ends though nothing is under way")
	}
	if _, ok := b.NextExpiry(grace); ok {
		t.Error("something expires though nothing is under way")
	}

	first, second := add(web, 30*time.Second), add(db, 10*time.Second)
	add(web, 20*time.Second)
	add(db, 20*time.Second)
	b.Begin(second.ID, start.Add(40*time.Second))
	next, _ := b.NextExpiry(grace)
	want("next expiry", since(next), "+21s")
	want("just before it", seqs(b.Expire(next.Add(-1), grace)), []int(nil))
	want("at it", seqs(b.Expire(next, grace)), []int{2, 3})
	want("the first end", b.End(first.ID), true)
	want("the second", b.End(first.ID), false)
	b.Begin(first.ID, start)
	want("under way", b.Len(), 1)
	add(web, 50*time.Second)
	add(web, 0)
	want("forsaken", seqs(b.Forsake("web")), []int{4, 5})
	want("left", seqs(b.Expire(start.Add(time.Hour), grace)), []int{1})
}
