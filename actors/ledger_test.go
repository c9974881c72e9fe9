package actors

import (
	"fmt"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/internal/wire"
)

// Core must never see time go back, whatever the wall clock does.
func TestStamp(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	l := newLedger(nil, nil)
	for _, step := range []struct {
		at, want int
		setBack  time.Duration
	}{
		{100, 100, 0},
		{110, 110, 0},
		{60, 110, 50 * time.Second}, // told once
		{70, 110, 0},
		{109, 110, 0},
		{110, 110, 0}, // caught up
		{120, 120, 0},
		{119, 120, time.Second},
		{7200, 7200, 0}, // forward it goes as it likes
	} {
		got, setBack := l.stamp(at(step.at))
		if got != at(step.want) || setBack != step.setBack {
			t.Errorf("at %d: %d and set back by %v; want %d and %v", step.at, got.Unix(), setBack, step.want, step.setBack)
		}
	}
}

// resultsOf is the status of results that stand at a sequence.
func resultsOf(name, sequence string) check.Status {
	return check.Status{
		Agent: &check.Agent{Name: "a"}, Check: &check.Check{Name: name, Method: check.GetResults}, Sequence: sequence,
	}
}

func wantStand(t *testing.T, l *ledger, what, name, sequence string, known bool) {
	t.Helper()
	run := &check.Run{Agent: &check.Agent{Name: "a"}, Check: &check.Check{Name: name}}
	if got, ok := l.lastSequence(run); got != sequence || ok != known {
		t.Errorf("%s: results of %s stand at %q, known: %v; want %q, %v", what, name, got, ok, sequence, known)
	}
}

// TestResultsGoIntoTheNewestCycle, or wait for the next one.
func TestResultsGoIntoTheNewestCycle(t *testing.T) {
	t.Parallel()
	l := newLedger(nil, nil)
	early := resultsOf("x", "1")
	l.include(early)
	first := machine.OpenCycle(0, time.Unix(0, 0), time.Unix(0, 0), 0)
	l.opened(first)
	second := machine.OpenCycle(1, time.Unix(10, 0), time.Unix(10, 0), 0)
	l.opened(second)
	l.include(resultsOf("y", ""))
	for cycle, want := range map[*machine.Cycle]string{first: "x", second: "y"} {
		if got := cycle.Close(""); len(got) != 1 || got[0].Check.Name != want {
			t.Errorf("cycle %d has %+v, want the results of %s", cycle.Index(), got, want)
		}
	}
	if len(l.ended) > 0 {
		t.Errorf("still waiting: %+v", l.ended)
	}
}

// TestSequencesMoveWithTheirReports: with those that are taken, and not with those that are lost on the
// way, whichever way that is.
func TestSequencesMoveWithTheirReports(t *testing.T) {
	t.Parallel()
	id := func(n uint64) string { return fmt.Sprint(n) }
	now := time.Unix(100, 0)
	l := newLedger(nil, nil)
	cycle := func(index int64, names ...string) (*machine.Cycle, []check.Status, wire.Report) {
		c := machine.OpenCycle(index, time.Unix(index, 0), time.Unix(index, 0), 0)
		l.opened(c)
		var r wire.Report
		for _, name := range names {
			l.include(resultsOf(name, fmt.Sprint("s", index)))
			r.Sequences = append(r.Sequences, check.Sequence{Agent: "a", Check: name, Value: fmt.Sprint("s", index)})
		}
		return c, c.Close(""), r
	}
	wantStand(t, l, "at first", "x", "", true)

	c, statuses, r := cycle(1, "x", "large")
	wantStand(t, l, "in an open cycle", "x", "", false)
	r.Sequences = r.Sequences[:1] // the other is too large to be kept
	l.closed(c, statuses, []wire.Report{r}, now, id)
	wantStand(t, l, "on its way to the reporter", "x", "", false)
	wantStand(t, l, "in no report", "large", "", true)
	l.take("1", true)
	wantStand(t, l, "taken", "x", "s1", true)

	c, statuses, r = cycle(2, "x")
	l.closed(c, statuses, []wire.Report{r}, now, id)
	l.take("2", false)
	wantStand(t, l, "dropped at once", "x", "s1", true)

	c, statuses, _ = cycle(3, "x")
	l.closed(c, statuses, nil, now, id)
	wantStand(t, l, "in a cycle that made no report", "x", "s1", true)

	for index := range int64(3) {
		c, statuses, r = cycle(4+index, fmt.Sprint("of", index))
		l.closed(c, statuses, []wire.Report{r, {}}, now, id)
	}
	if dropped := l.surplus(now); len(dropped) != 0 || len(l.untaken) != 6 {
		t.Errorf("%d reports that the reporter had no time for are surplus", len(dropped))
	}
	if dropped := l.surplus(now.Add(1)); len(dropped) != 2 || len(l.untaken) != 4 {
		t.Errorf("%d reports are surplus and %d are left, want the two of the oldest cycle, and four", len(dropped), len(l.untaken))
	}
	wantStand(t, l, "surplus", "of0", "", true)
	wantStand(t, l, "not surplus", "of1", "", false)
}
