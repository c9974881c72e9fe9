package machine_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// Runs that were not made have no status, and the others keep theirs and their order.
func TestCycleOmits(t *testing.T) {
	t.Parallel()
	c := machine.OpenCycle(7, start, start, time.Second)
	a := &check.Agent{Name: "a"}
	var ids []check.RunID
	for _, name := range []string{"v", "w", "x", "y", "z"} {
		ids = append(ids, c.Add(check.Run{Agent: a, Check: &check.Check{Name: name}, Deadline: start.Add(time.Minute)}).ID)
	}
	c.Fill(check.Status{ID: ids[1], Agent: a, Check: &check.Check{Name: "w"}, Available: true})
	for _, omitted := range []int{4, 0, 2} {
		if !c.Omit(ids[omitted]) {
			t.Errorf("run %d can't be omitted", omitted)
		}
	}
	if c.Omit(ids[1]) || c.Omit(ids[0]) {
		t.Error("a run that has a status, or that was omitted, was omitted")
	}
	if c.Fill(check.Status{ID: ids[0]}) {
		t.Error("a run that was omitted got a status")
	}
	if n := c.Missing(); n != 1 {
		t.Errorf("%d runs are missing, want 1", n)
	}
	c.Include(check.Status{Agent: a, Check: &check.Check{Name: "results"}})
	for range 2 {
		var names []string
		for _, st := range c.Close("the end") {
			names = append(names, st.Check.Name)
		}
		if diff := cmp.Diff([]string{"w", "y", "results"}, names); diff != "" {
			t.Errorf("the cycle's statuses (-want +got):\n%s", diff)
		}
	}
}

// What is being confirmed goes on elsewhere as if it had not moved.
func TestConfirmationsGoOn(t *testing.T) {
	t.Parallel()
	var before, after machine.Confirmations
	a := &check.Agent{Name: "a", Checks: []check.Check{{Name: "two", Confirm: 3}, {Name: "one", Confirm: 1}, {Name: "enough", Confirm: 2}, {Name: "well", Confirm: 3}}}
	note := func(c *machine.Confirmations, i int) uint8 {
		st := check.Status{Agent: a, Check: &a.Checks[i]}
		c.Note(&st)
		return st.Confirming
	}
	note(&before, 0)
	note(&before, 2)
	note(&before, 2)
	if rows := before.Rows(a); !cmp.Equal(rows, map[string]uint8{"two": 1, "enough": 255}) {
		t.Errorf("the rows are %v", rows)
	}
	note(&after, 3) // what it knew itself is old
	after.Resume(a, map[string]uint8{"two": 1, "enough": 255, "one": 4, "gone": 1})
	for i, want := range []uint8{2, 0, 0, 1} {
		if got := note(&after, i); got != want {
			t.Errorf("%s is confirming %d, want %d", a.Checks[i].Name, got, want)
		}
	}
}

// A breaker goes on elsewhere where it was.
func TestBreakerResumes(t *testing.T) {
	t.Parallel()
	closed := machine.NewBreaker(3, machine.HalfOpen)
	stale, _ := closed.Ask()
	closed.Resume(false, 2)
	p, admitted := closed.Ask()
	closed.Report(stale, machine.Broken)
	if closed.State() != machine.Closed {
		t.Error("what was asked before another node had the breaker counts for it")
	}
	if closed.Report(p, machine.Broken); !admitted || closed.State() != machine.Open {
		t.Errorf("after the third failure it is %v", closed.State())
	}
	open := machine.NewBreaker(3, machine.Closed)
	open.Resume(true, 5)
	if _, admitted := open.Ask(); admitted || open.Failures() != 5 {
		t.Errorf("one that was open lets runs through, after %d failures", open.Failures())
	}
	if open.Probed(true); open.State() != machine.HalfOpen {
		t.Errorf("after a probe that found its checker it is %v", open.State())
	}
}
