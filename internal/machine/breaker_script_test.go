package machine_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/serviceradar/poller/internal/machine"
)

// breakerScript knows these events; the state and the failures in a row follow each:
//
//	new threshold=N [half-open] [open]
//	events, one a line:
//	  ask RUN                the run keeps the permit that it gets, whatever the answer is
//	  RUN fails              the checker was broken for it
//	  RUN succeeds
//	  RUN untold             it came to nothing for reasons of the poller's own
//	  probe fails
//	  probe succeeds
type breakerScript struct {
	b       *machine.Breaker
	permits map[string]machine.Permit
}

func (s *breakerScript) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "new":
		var threshold int
		d.ScanArgs(t, "threshold", &threshold)
		state := machine.Closed
		switch {
		case d.HasArg("half-open"):
			state = machine.HalfOpen
		case d.HasArg("open"):
			state = machine.Open
		}
		s.b = machine.NewBreaker(threshold, state)
		s.permits = make(map[string]machine.Permit)
		return s.state()
	case "events":
		return each(d, func(words []string) string { return s.event(words) + s.state() })
	}
	d.Fatalf(t, "unknown event %q", d.Cmd)
	return ""
}

func (s *breakerScript) event(words []string) string {
	switch words[0] {
	case "ask":
		permit, admitted := s.b.Ask()
		s.permits[words[1]] = permit
		if !admitted {
			return "refused; "
		}
		return "admitted; "
	case "probe":
		s.b.Probed(words[1] == "succeeds")
	default:
		outcome := map[string]machine.Outcome{"fails": machine.Broken, "succeeds": machine.Answered, "untold": machine.Untold}[words[1]]
		s.b.Report(s.permits[words[0]], outcome)
	}
	return ""
}

func (s *breakerScript) state() string {
	return fmt.Sprintf("%v, %d failures", s.b.State(), s.b.Failures())
}
