//go:build !race

package machine_test

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// What is done for each run, and at each timer, allocates nothing once the machines have grown to their size.
// (Under the race detector everything may allocate.)
func TestNothingIsAllocated(t *testing.T) {
	agents := numbered(1000, 5, interval)
	for _, tt := range []struct {
		what string
		step func() // what is to allocate nothing
	}{
		{"a slot of the schedule", scheduleStep(agents)},
		{"a run in a cycle", cycleRun(agents[0])},
		{"a timer of a cycle", cycleTimer(agents)},
		{"a timer of the background", backgroundTimer(agents)},
		{"a batch in a lane", laneBatch(agents)},
		{"a run through a breaker", breakerRun()},
		{"a status that is confirmed or not", confirmedStatus(agents[0])},
	} {
		if n := testing.AllocsPerRun(1000, tt.step); n != 0 {
			t.Errorf("%s: %v allocations, want none", tt.what, n)
		}
	}
}

func scheduleStep(agents []*check.Agent) func() {
	s := machine.NewSchedule(agents, interval, rate, start)
	return func() { s.Step(s.Next()) }
}

// cycleRun adds a run to a cycle with room for it, starts it and gives it its status.
func cycleRun(agent *check.Agent) func() {
	c := machine.OpenCycle(1, start, start, time.Second)
	c.Grow(2000)
	return func() {
		run := c.Add(check.Run{Agent: agent, Check: &agent.Checks[0], Due: start, Deadline: start.Add(interval)})
		c.SetDeadline(run.ID, start.Add(interval/2))
		c.Fill(run.Answered(check.Answer{Available: true}, time.Millisecond))
	}
}

func cycleTimer(agents []*check.Agent) func() {
	c := machine.OpenCycle(1, start, start, time.Second)
	for i := range agents {
		c.Add(check.Run{Agent: agents[i], Check: &agents[i].Checks[0], Due: start, Deadline: start.Add(interval)})
	}
	return func() {
		c.Expire(start, "no answer")
		c.NextExpiry()
	}
}

func backgroundTimer(agents []*check.Agent) func() {
	var b machine.Background
	for i := range agents {
		b.Add(check.Run{Agent: agents[i], Check: &agents[i].Checks[0], Due: start, Deadline: start.Add(interval)})
	}
	return func() {
		b.Expire(start, time.Second)
		b.NextExpiry(time.Second)
	}
}

// laneBatch lets an agent's runs have a place and end, each agent in its turn, every tenth of them slow.
func laneBatch(agents []*check.Agent) func() {
	l, i := machine.NewLane(len(agents)), 0
	runs := make([]check.Run, 5)
	step := func() {
		agent := agents[i%len(agents)]
		l.Enter(machine.Batch{Agent: agent, Runs: runs, Latest: start.Add(interval)}, start)
		for range runs {
			l.Ended(agent, i%10 == 0)
		}
		i++
	}
	for range agents {
		step()
	}
	return step
}

// breakerRun asks a checker that fails so often that its breaker opens now and then.
func breakerRun() func() {
	b, i := machine.NewBreaker(5, machine.Closed), 0
	return func() {
		p, _ := b.Ask()
		outcome := machine.Answered
		if i++; i%64 < 5 {
			outcome = machine.Broken
		}
		b.Report(p, outcome)
		b.Probed(true)
	}
}

// confirmedStatus notes statuses of a check that comes and goes, and of one for which nothing is counted.
func confirmedStatus(agent *check.Agent) func() {
	var c machine.Confirmations
	counted := check.Check{Name: "counted", Confirm: 3}
	return func() {
		for _, available := range []bool{true, false, false} {
			for _, chk := range []*check.Check{&agent.Checks[0], &counted} {
				c.Note(&check.Status{Agent: agent, Check: chk, Available: available})
			}
		}
	}
}
