package machine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// One operation is one slot of 45 agents on average, with 5 checks each.
func BenchmarkScheduleStep(b *testing.B) {
	for _, agents := range []int{100, 2000, 10000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			s := machine.NewSchedule(numbered(agents, 5, 10*time.Second), 10*time.Second, 500, start)
			checks := 0
			b.ReportAllocs()
			for b.Loop() {
				slot, _ := s.Step(s.Next())
				for i := range slot.Starts {
					checks += len(slot.Starts[i].Checks)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(1, checks)), "ns/check")
		})
	}
}

// One operation is one cycle: all its runs are added, filled and closed.
func BenchmarkCycle(b *testing.B) {
	for _, runs := range []int{100, 10000, 50000} {
		b.Run(fmt.Sprintf("runs=%d", runs), func(b *testing.B) {
			run := check.Run{Agent: &check.Agent{}, Check: &check.Check{}, Due: start, Deadline: start.Add(10 * time.Second)}
			b.ReportAllocs()
			for b.Loop() {
				c := machine.OpenCycle(1, start, time.Second)
				for range runs {
					c.Add(run)
				}
				for i := range runs {
					r := run
					r.ID = check.RunID{Cycle: 1, Seq: i}
					c.Fill(r.Answered(check.Answer{Available: true}, time.Millisecond))
				}
				c.Close("")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*runs), "ns/run")
		})
	}
}

// One operation is what the poller asks a cycle at each of its timers. Most runs have been
// answered, as always; the last of each slot has not.
func BenchmarkCycleTimer(b *testing.B) {
	for _, runs := range []int{100, 10000, 50000} {
		b.Run(fmt.Sprintf("runs=%d", runs), func(b *testing.B) {
			c := machine.OpenCycle(1, start, time.Second)
			for i := range runs {
				run := c.Add(check.Run{Agent: &check.Agent{}, Check: &check.Check{}, Due: start, Deadline: start.Add(10 * time.Second)})
				if i%250 != 0 {
					c.Fill(run.Answered(check.Answer{}, 0))
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				c.Expire(start, "")
				c.NextExpiry()
			}
		})
	}
}

// One operation is one run of a checker that fails now and then, and is back at once.
func BenchmarkBreaker(b *testing.B) {
	br := machine.NewBreaker(5, machine.Closed)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		outcome := machine.Answered
		if i%64 < 5 {
			outcome = machine.Broken
		}
		if p, admitted := br.Ask(); admitted {
			br.Report(p, outcome)
		} else {
			br.Probed(true)
		}
	}
}
