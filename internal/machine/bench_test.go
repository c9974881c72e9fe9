package machine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// interval is the poll interval of the benchmarks, rate how many agents start each second.
const (
	interval = 10 * time.Second
	rate     = 500
)

// perUnit reports what one of so many units of an operation costs.
func perUnit(b *testing.B, units int, unit string) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*units), "ns/"+unit)
}

// One operation is one cycle, slot for slot. With every=6 the checks of an agent are due in every cycle,
// every second and so on, up to every sixth.
func BenchmarkSchedule(b *testing.B) {
	for _, agents := range []int{100, 1000, 10000} {
		for _, every := range []int{1, 6} {
			b.Run(fmt.Sprintf("agents=%d/every=%d", agents, every), func(b *testing.B) {
				list := numbered(agents, 5, interval)
				for i := range list {
					for k := range list[i].Checks {
						list[i].Checks[k].Interval *= time.Duration(1 + k%every)
					}
				}
				s := machine.NewSchedule(list, interval, rate, start)
				slots, _ := s.Slots()
				checks := 0
				b.ReportAllocs()
				for b.Loop() {
					for range slots {
						slot, _ := s.Step(s.Next())
						for i := range slot.Starts {
							checks += len(slot.Starts[i].Checks)
						}
					}
				}
				perUnit(b, checks/b.N, "check")
			})
		}
	}
}

// One operation is one cycle as the poller drives it, with 5 checks for each agent: the runs of a slot are
// added and started, and answered before the next slot, but for those of one agent in so many, which
// nobody ever answers. Time goes from slot to slot, and stops wherever something may expire.
func BenchmarkCycle(b *testing.B) {
	for _, agents := range []int{100, 1000, 10000} {
		for _, silent := range []int{100, 1} {
			b.Run(fmt.Sprintf("agents=%d/silent=1in%d", agents, silent), func(b *testing.B) {
				d := newCycleDriver(agents, silent)
				b.ReportAllocs()
				for b.Loop() {
					d.cycle(b)
				}
				perUnit(b, d.runs, "run")
				b.ReportMetric(float64(d.ticks)/float64(b.N), "ticks/op")
			})
		}
	}
}

// cycleDriver drives cycles of one schedule through a time of its own.
type cycleDriver struct {
	slots  []machine.Slot // of a cycle
	silent map[*check.Agent]bool
	runs   int // in a cycle
	slot   []check.Run
	c      *machine.Cycle
	now    time.Time
	ticks  int
}

func newCycleDriver(agents, silent int) *cycleDriver {
	list := numbered(agents, 5, interval)
	for i := range list {
		for k := range list[i].Checks {
			list[i].Checks[k].Timeout = time.Duration(k+1) * time.Second
		}
	}
	d := &cycleDriver{silent: make(map[*check.Agent]bool)}
	s := machine.NewSchedule(list, interval, rate, start)
	n, _ := s.Slots()
	for range n {
		slot, _ := s.Step(s.Next())
		d.slots = append(d.slots, slot)
		for _, st := range slot.Starts {
			d.runs += len(st.Checks)
		}
	}
	for i := 0; i < agents; i += silent {
		d.silent[list[i]] = true
	}
	return d
}

func (d *cycleDriver) cycle(b *testing.B) {
	d.c, d.now = machine.OpenCycle(1, start, start, time.Second), start
	d.c.Grow(d.slots[0].Runs)
	for i := range d.slots {
		d.until(d.slots[i].Due)
		d.startSlot(&d.slots[i])
		d.tick()
		for k := range d.slot {
			if run := &d.slot[k]; !d.silent[run.Agent] {
				d.c.Fill(run.Answered(check.Answer{Available: true}, time.Millisecond))
			}
		}
	}
	d.c.Seal()
	d.until(start.Add(2 * interval))
	if !d.c.Complete() || len(d.c.Close("")) != d.runs {
		b.Fatalf("%d runs are missing", d.c.Missing())
	}
}

func (d *cycleDriver) startSlot(slot *machine.Slot) {
	d.slot = d.slot[:0]
	for _, st := range slot.Starts {
		for _, c := range st.Checks {
			d.slot = append(d.slot, d.c.Add(check.Run{Agent: st.Agent, Check: c, Due: slot.Due, Deadline: slot.Due.Add(interval)}))
			d.c.SetDeadline(d.slot[len(d.slot)-1].ID, d.now.Add(c.Timeout))
		}
	}
}

// until lets time pass, and ticks whenever something may expire.
func (d *cycleDriver) until(end time.Time) {
	for next, ok := d.c.NextExpiry(); ok && next.Before(end); next, ok = d.c.NextExpiry() {
		d.now = next
		d.tick()
	}
	d.now = end
}

func (d *cycleDriver) tick() {
	d.ticks++
	d.c.Expire(d.now, "no answer")
	d.c.NextExpiry()
}

// One operation is a poll interval of results: a run for each agent is added and begun. They take half of
// the interval, but for one in a hundred, which expires.
func BenchmarkBackground(b *testing.B) {
	for _, agents := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			list := numbered(agents, 1, interval)
			ids := make([]check.RunID, agents)
			var bg machine.Background
			tick := func(now time.Time) {
				bg.Expire(now, time.Second)
				bg.NextExpiry(time.Second)
			}
			end := func(i int) {
				if i%100 != 0 {
					bg.End(ids[i])
				}
			}
			b.ReportAllocs()
			for now := start; b.Loop(); now = now.Add(interval) {
				for i := range list {
					at := now.Add(interval / time.Duration(agents) * time.Duration(i))
					ids[i] = bg.Add(check.Run{Agent: list[i], Check: &list[i].Checks[0], Deadline: at.Add(interval)}).ID
					bg.Begin(ids[i], at.Add(interval*3/4))
					if i%50 == 0 { // a slot
						tick(at)
					}
					if i >= agents/2 {
						end(i - agents/2)
					}
				}
				for i := agents / 2; i < agents; i++ {
					end(i)
				}
			}
			perUnit(b, agents, "run")
		})
	}
}

// One operation is one cycle whose agents are all due at once: 2,048 find a place, the others wait.
func BenchmarkLane(b *testing.B) {
	for _, agents := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			list := numbered(agents, 5, interval)
			batches := make([]machine.Batch, agents)
			for i := range list {
				batches[i] = machine.Batch{Agent: list[i], Runs: make([]check.Run, 5), Latest: start.Add(interval)}
			}
			l := machine.NewLane(2048)
			polled := make([]*check.Agent, 0, agents) // in turn
			b.ReportAllocs()
			for b.Loop() {
				polled = polled[:0]
				for i := range batches {
					if l.Enter(batches[i], start) {
						polled = append(polled, batches[i].Agent)
					}
				}
				for i := 0; i < len(polled); i++ {
					for range 5 {
						l.Ended(polled[i], false)
					}
					for next, ok := l.Next(start); ok; next, ok = l.Next(start) {
						polled = append(polled, next.Agent)
					}
				}
				if len(polled) != agents {
					b.Fatalf("%d agents were polled", len(polled))
				}
			}
			perUnit(b, agents, "batch")
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
