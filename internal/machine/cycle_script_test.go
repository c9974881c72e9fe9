package machine_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// cycleScript knows these events, and shows after each how the cycle stands:
//
//	open index=N [grace=D]
//	add                   the input has a run a line: agent, check, deadline
//	deadline run=N by=D   the run starts only now
//	fill                  the input has a status a line: the run's number, then up, down or a reason
//	expire at=D
//	forsake agent=NAME
//	seal
//	close
type cycleScript struct {
	c    *machine.Cycle
	runs []check.Run
}

func (s *cycleScript) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "open":
		var index int64
		d.ScanArgs(t, "index", &index)
		s.c = machine.OpenCycle(index, start, start, durationArg(t, d, "grace"))
		s.runs = nil
		return s.state()
	case "add":
		return s.add(t, d) + s.state()
	case "deadline":
		var run int
		d.ScanArgs(t, "run", &run)
		s.c.SetDeadline(s.id(run), at(t, d, "by"))
		return s.state()
	case "fill":
		return s.fill(t, d) + s.state()
	case "expire":
		return s.filled(s.c.Expire(at(t, d, "at"), "nobody answered")) + s.state()
	case "forsake":
		var agent string
		d.ScanArgs(t, "agent", &agent)
		return s.filled(s.c.Forsake(agent, "its actor failed")) + s.state()
	case "seal":
		s.c.Seal()
		return s.state()
	case "close":
		var out strings.Builder
		for _, st := range s.c.Close("the poller stopped") {
			fmt.Fprintf(&out, "%d/%d %s\n", st.ID.Cycle, st.ID.Seq, describe(st))
		}
		return out.String() + s.state()
	}
	d.Fatalf(t, "unknown event %q", d.Cmd)
	return ""
}

func (s *cycleScript) add(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	return each(d, func(words []string) string {
		deadline, err := time.ParseDuration(words[2])
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		run := s.c.Add(check.Run{
			Agent: &check.Agent{Name: words[0]}, Check: &check.Check{Name: words[1]},
			Due: start, Deadline: start.Add(deadline),
		})
		s.runs = append(s.runs, run)
		return fmt.Sprintf("run %d/%d", run.ID.Cycle, run.ID.Seq)
	})
}

func (s *cycleScript) fill(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	return each(d, func(words []string) string {
		seq, err := strconv.Atoi(words[0])
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		run := check.Run{ID: s.id(seq)}
		if seq < len(s.runs) {
			run = s.runs[seq]
		}
		st := run.Failed(check.Reason(words[1]), "of the agent", time.Millisecond)
		if words[1] == "up" || words[1] == "down" {
			st = run.Answered(check.Answer{Available: words[1] == "up"}, time.Millisecond)
		}
		if !s.c.Fill(st) {
			return "discarded"
		}
		return "taken"
	})
}

func (s *cycleScript) id(seq int) check.RunID { return check.RunID{Cycle: s.c.Index(), Seq: seq} }

func (s *cycleScript) filled(runs []check.Run) string {
	var out strings.Builder
	for _, run := range runs {
		fmt.Fprintf(&out, "filled in: %d/%d %s/%s\n", run.ID.Cycle, run.ID.Seq, run.Agent.Name, run.Check.Name)
	}
	return out.String()
}

func (s *cycleScript) state() string {
	out := fmt.Sprintf("cycle %d: %d missing", s.c.Index(), s.c.Missing())
	if s.c.Complete() {
		out += ", complete"
	}
	if next, ok := s.c.NextExpiry(); ok {
		out += ", expires at " + since(next)
	}
	return out
}

// describe says what a status says.
func describe(st check.Status) string {
	verdict := "down"
	switch {
	case st.Reason != "":
		verdict = fmt.Sprintf("%s (%s)", st.Reason, st.Detail)
	case st.Available:
		verdict = "up"
	}
	return fmt.Sprintf("%s/%s: %s", st.Agent.Name, st.Check.Name, verdict)
}
