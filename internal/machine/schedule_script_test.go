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

// scheduleScript knows these events:
//
//	new interval=D rate=N    a schedule; the input has an agent a line: its name, then its checks,
//	                         each with its own interval as check=D; "name*N" stands for N agents
//	replace at=D interval=D rate=N    other agents, as with new; a check that is new, or asks something else than
//	                         the one of its name did, is fresh: "check!" asks something else
//	step at=D [brief]        all slots due by then; brief counts their agents
type scheduleScript struct {
	s      *machine.Schedule
	agents []*check.Agent
}

func (s *scheduleScript) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "new":
		var rate int
		d.ScanArgs(t, "rate", &rate)
		interval := durationArg(t, d, "interval")
		s.agents = agentsOf(t, d, interval)
		s.s = machine.NewSchedule(s.agents, interval, rate, start)
		n, length := s.s.Slots()
		return fmt.Sprintf("slots: %d of %v\nnext: %s", n, length, since(s.s.Next()))
	case "replace":
		var rate int
		d.ScanArgs(t, "rate", &rate)
		interval := durationArg(t, d, "interval")
		before := s.agents
		s.agents = agentsOf(t, d, interval)
		s.s.Replace(s.agents, interval, rate, freshIn(before, s.agents), at(t, d, "at"))
		return fmt.Sprintf("next: %s", since(s.s.Next()))
	case "step":
		return s.step(at(t, d, "at"), d.HasArg("brief"))
	}
	d.Fatalf(t, "unknown event %q", d.Cmd)
	return ""
}

func (s *scheduleScript) step(now time.Time, brief bool) string {
	var out strings.Builder
	for {
		slot, ok := s.s.Step(now)
		if !ok {
			fmt.Fprintf(&out, "next: %s", since(s.s.Next()))
			return out.String()
		}
		fmt.Fprintf(&out, "cycle %d at %s", slot.Cycle, since(slot.Due))
		if late := now.Sub(slot.Due); late > 0 {
			fmt.Fprintf(&out, ", %v late", late)
		}
		if slot.Missed > 0 {
			fmt.Fprintf(&out, ", %d missed", slot.Missed)
		}
		if slot.First {
			out.WriteString(", first")
		}
		if slot.Last {
			out.WriteString(", last")
		}
		if brief {
			fmt.Fprintf(&out, ": %d agents\n", len(slot.Starts))
			continue
		}
		fmt.Fprintf(&out, "; must end by %s\n", since(s.s.Latest(slot)))
		for _, start := range slot.Starts {
			fmt.Fprintf(&out, "  %s:", start.Agent.Name)
			for _, c := range start.Checks {
				fmt.Fprintf(&out, " %s", c.Name)
			}
			out.WriteString("\n")
		}
	}
}

func freshIn(before, agents []*check.Agent) []*check.Check {
	known := make(map[string]check.Check)
	for _, a := range before {
		for _, c := range a.Checks {
			known[a.Name+"/"+c.Name] = c
		}
	}
	var fresh []*check.Check
	for _, a := range agents {
		for i := range a.Checks {
			c := &a.Checks[i]
			if old, ok := known[a.Name+"/"+c.Name]; !ok || old.Details != c.Details {
				fresh = append(fresh, c)
			}
		}
	}
	return fresh
}

func agentsOf(t *testing.T, d *datadriven.TestData, interval time.Duration) []*check.Agent {
	t.Helper()
	var agents []*check.Agent
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var checks []check.Check
		for _, word := range words[1:] {
			name, own, ok := strings.Cut(word, "=")
			name, other := strings.CutSuffix(name, "!")
			c := check.Check{Name: name, Interval: interval}
			if other {
				c.Details = d.Pos
			}
			if ok {
				var err error
				if c.Interval, err = time.ParseDuration(own); err != nil {
					d.Fatalf(t, "%s: %v", word, err)
				}
			}
			checks = append(checks, c)
		}
		name, count, many := strings.Cut(words[0], "*")
		if !many {
			agents = append(agents, &check.Agent{Name: name, Checks: checks})
			continue
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			d.Fatalf(t, "%s: %v", words[0], err)
		}
		for i := range n {
			agents = append(agents, &check.Agent{Name: fmt.Sprintf("%s-%03d", name, i+1), Checks: checks})
		}
	}
	return agents
}
