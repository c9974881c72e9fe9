package machine_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/serviceradar/poller/internal/machine"
)

// restartsScript knows these events:
//
//	new initial=D max=D budget=N window=D
//	fail [jitter=X] [times=N]   the input has an actor's life a line: "after D" it failed, counted
//	                            from its last start; "at D" from the beginning
type restartsScript struct {
	r       *machine.Restarts
	started time.Time
}

func (s *restartsScript) do(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "new":
		var budget int
		d.ScanArgs(t, "budget", &budget)
		s.r = machine.NewRestarts(machine.RestartPolicy{
			Initial: durationArg(t, d, "initial"), Max: durationArg(t, d, "max"),
			Budget: budget, Window: durationArg(t, d, "window"),
		})
		s.started = start
		return ""
	case "fail":
		jitter := 0.0
		if arg, ok := d.Arg("jitter"); ok {
			var err error
			if jitter, err = strconv.ParseFloat(arg.SingleVal(t), 64); err != nil {
				d.Fatalf(t, "%v", err)
			}
		}
		return each(d, func(words []string) string { return s.fail(t, words, jitter) })
	}
	d.Fatalf(t, "unknown event %q", d.Cmd)
	return ""
}

func (s *restartsScript) fail(t *testing.T, words []string, jitter float64) string {
	t.Helper()
	d, err := time.ParseDuration(words[1])
	if err != nil {
		t.Fatal(err)
	}
	now := start.Add(d)
	if words[0] == "after" {
		now = s.started.Add(d)
	}
	delay, parked := s.r.Failed(now, jitter)
	s.started = now.Add(delay)
	if parked {
		return fmt.Sprintf("parked at %s, one try at %s", since(now), since(s.started))
	}
	return fmt.Sprintf("failed at %s, restart %v later", since(now), delay)
}
