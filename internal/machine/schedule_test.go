package machine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

func TestScheduleSlots(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		agents   int
		interval time.Duration
		rate     int
		n        int
		length   time.Duration
	}{
		{"none", 0, 30 * time.Second, 500, 1, 250 * time.Millisecond},
		{"one", 1, 30 * time.Second, 500, 1, 50 * time.Millisecond},
		{"as many as fit a slot", 25, 30 * time.Second, 500, 1, 50 * time.Millisecond},
		{"one more", 26, 30 * time.Second, 500, 2, 50 * time.Millisecond},
		{"2,000 at the default rate", 2000, 30 * time.Second, 500, 80, 50 * time.Millisecond},
		{"2,000 in a short cycle", 2000, 10 * time.Second, 500, 80, 50 * time.Millisecond},
		{"10,000 need a higher rate", 10000, 10 * time.Second, 500, 400, 22500 * time.Microsecond},
		{"slow", 10, time.Minute, 1, 40, 250 * time.Millisecond},
		{"fast", 1000, 10 * time.Second, 100000, 1, 20 * time.Millisecond},
		{"faster than a nanosecond", 1, 10 * time.Second, 2e9, 1, 250 * time.Millisecond},
		{"many in a second", 100000, time.Second, 500, 45, 20 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, length := machine.NewSchedule(numbered(tt.agents, 0, tt.interval), tt.interval, tt.rate, start).Slots()
			if n != tt.n || length != tt.length {
				t.Errorf("%d slots of %v, want %d of %v", n, length, tt.n, tt.length)
			}
		})
	}
}

// Whatever is configured, slots last 20 to 250 ms, start within the first nine tenths of the
// cycle, and are as many as the rate asks for.
func TestScheduleSpread(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		agents := rapid.IntRange(1, 3000).Draw(t, "agents")
		rate := rapid.IntRange(1, 20000).Draw(t, "rate")
		interval := time.Duration(rapid.IntRange(1000, 120000).Draw(t, "interval in ms")) * time.Millisecond
		n, length := machine.NewSchedule(numbered(agents, 0, interval), interval, rate, start).Slots()

		if length < 20*time.Millisecond || length > 250*time.Millisecond {
			t.Fatalf("a slot lasts %v", length)
		}
		room := interval * 9 / 10
		if last := time.Duration(n-1) * length; last >= room {
			t.Fatalf("the last of %d slots is at %v of %v", n, last, interval)
		}
		spread, cycle := time.Duration(agents)*time.Second/time.Duration(rate), time.Duration(n)*length
		switch {
		case spread > room: // does not fit: all the room there is
			if cycle < room {
				t.Fatalf("spread over %v, though %v are needed and there are %v", cycle, spread, room)
			}
		case cycle < spread-time.Microsecond:
			t.Fatalf("spread over %v, faster than the %v of the rate", cycle, spread)
		case cycle >= spread+length:
			t.Fatalf("spread over %v, slower than the %v of the rate by a slot or more", cycle, spread)
		}
		perSlot := float64(agents) / float64(n)
		if n > 1 && length > 20*time.Millisecond && length < 250*time.Millisecond && (perSlot < 12.5 || perSlot > 26) {
			t.Fatalf("%d agents in %d slots: %.1f in each", agents, n, perSlot)
		}
	})
}

// Agents spread evenly over the slots, however they are named and however many slots there are.
func TestScheduleSpreadsNames(t *testing.T) {
	t.Parallel()
	ids := rand.New(rand.NewPCG(1, 2))
	for name, format := range map[string]func(i int) string{
		"numbers":    func(i int) string { return fmt.Sprint(i) },
		"padded":     func(i int) string { return fmt.Sprintf("agent-%05d", i) },
		"in front":   func(i int) string { return fmt.Sprintf("web%d.dc1.example.net", i) },
		"amidst":     func(i int) string { return fmt.Sprintf("checker.site%d.example.net", i) },
		"said twice": func(i int) string { return fmt.Sprintf("node%d.rack%d", i, i) },
		"addresses":  func(i int) string { return fmt.Sprintf("10.20.%d.%d:50051", i/256, i%256) },
		"random":     func(int) string { return fmt.Sprintf("%016x%016x", ids.Uint64(), ids.Uint64()) },
		"long":       func(i int) string { return fmt.Sprintf("%0200d", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const each = 25 // agents of a slot
			for _, slots := range []int{2, 16, 40, 100} {
				list := numbered(slots*each, 1, 30*time.Second)
				for i := range list {
					list[i].Name = format(i)
				}
				s := machine.NewSchedule(list, 30*time.Second, 500, start)
				if n, _ := s.Slots(); n != slots {
					t.Fatalf("%d slots, want %d for %d agents each", n, slots, each)
				}
				var chi2 float64
				for range slots {
					slot, _ := s.Step(start.Add(29 * time.Second))
					off := float64(len(slot.Starts)) - each
					chi2 += off * off / each
				}
				// Of dice: slots-1 on average, with a standard deviation of √(2·(slots-1)).
				free := float64(slots - 1)
				if chi2 > free+5*math.Sqrt(2*free) {
					t.Errorf("chi-squared over %d slots is %.0f, want about %.0f", slots, chi2, free)
				}
			}
		})
	}
}

// Asked at least once a cycle, the schedule starts every due check exactly once, in time order
// and at absolute times.
func TestScheduleStartsEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWatch(drawFleet(t))
		now := start.Add(-w.interval / 2)
		gap := rapid.Int64Range(0, int64(w.interval))
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			now = now.Add(time.Duration(gap.Draw(t, "gap")))
			w.advance(t, now)
		}
		// To the last moment of the cycle that has begun: all of it must have been yielded.
		cycles := int64(1)
		if now.After(start) {
			cycles += int64(now.Sub(start) / w.interval)
		}
		w.advance(t, start.Add(time.Duration(cycles)*w.interval-1))
		if w.cycle != cycles || w.next != 0 || w.missed != 0 {
			t.Fatalf("after %d cycles: at slot %d of cycle %d, %d missed", cycles, w.next, w.cycle, w.missed)
		}
		for k := range cycles {
			w.complete(t, k)
		}
	})
}

// A run of results may take as long as its own interval, any other as long as the cycle's.
func TestScheduleLatestOf(t *testing.T) {
	t.Parallel()
	const interval = 30 * time.Second
	s := machine.NewSchedule(numbered(2000, 1, interval), interval, 500, start)
	_, _ = s.Step(start)
	slot, _ := s.Step(start.Add(time.Second)) // the second, at 50 ms
	for _, tt := range []struct {
		method check.Method
		every  time.Duration
		want   string
	}{
		{check.GetStatus, interval, "+30s"},
		{check.GetStatus, 5 * time.Minute, "+30s"},
		{check.GetResults, interval, "+30s"},
		{check.GetResults, 5 * time.Minute, "+5m0s"},
		{check.StreamResults, time.Hour, "+1h0m0s"},
	} {
		if got := since(s.LatestOf(slot, &check.Check{Method: tt.method, Interval: tt.every})); got != tt.want {
			t.Errorf("%v every %v must end by %s, want %s", tt.method, tt.every, got, tt.want)
		}
	}
}

// After a gap only the cycle that had begun, the last and the current one are yielded; the others
// are counted, and no cycle is both or neither.
func TestScheduleGaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWatch(drawFleet(t))
		now := start
		gap := rapid.OneOf(rapid.Int64Range(0, int64(w.interval)), rapid.Int64Range(0, 10*int64(w.interval)))
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			now = now.Add(time.Duration(gap.Draw(t, "gap")))
			current := int64(now.Sub(start) / w.interval)
			before, begun, missed := w.cycle, w.next > 0, w.missed
			cycles := w.advance(t, now)
			for _, k := range cycles {
				if k < current-1 && (k != before || !begun) {
					t.Fatalf("cycle %d was begun in cycle %d", k, current)
				}
			}
			if begun {
				before++
			}
			if got, want := w.missed-missed, max(0, current-1-before); got != want {
				t.Fatalf("%d cycles counted as missed, want %d: from %d to %d", got, want, before, current)
			}
		}
		if yielded := int64(len(w.starts)); w.next == 0 && yielded+w.missed != w.cycle {
			t.Fatalf("%d cycles yielded and %d missed of %d", yielded, w.missed, w.cycle)
		}
		for k := range w.starts {
			if k < w.cycle {
				w.complete(t, k)
			}
		}
	})
}

// An agent's slot depends on nothing but its name and the number of slots.
func TestScheduleSlotIsStable(t *testing.T) {
	t.Parallel()
	const interval = 30 * time.Second
	places := func(agents []*check.Agent) map[string]time.Duration {
		s := machine.NewSchedule(agents, interval, 100, start)
		if n, length := s.Slots(); n != 8 || length != 250*time.Millisecond {
			t.Fatalf("%d slots of %v", n, length)
		}
		at := make(map[string]time.Duration)
		for {
			slot, ok := s.Step(start.Add(interval - 1))
			if !ok {
				return at
			}
			if !slices.IsSortedFunc(slot.Starts, func(a, b machine.Start) int {
				if a.Agent.Name < b.Agent.Name {
					return -1
				}
				return 1
			}) {
				t.Errorf("the agents of the slot at %s are not in order", since(slot.Due))
			}
			for _, s := range slot.Starts {
				at[s.Agent.Name] = slot.Due.Sub(start)
			}
		}
	}
	agents := numbered(200, 1, interval)
	before := places(agents)
	if len(before) != 200 {
		t.Fatalf("%d agents started", len(before))
	}
	// In another order, with other checks, and with half of the agents replaced.
	agents = numbered(200, 3, interval)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(agents), func(i, k int) {
		agents[i], agents[k] = agents[k], agents[i]
	})
	for i := range 100 {
		agents[i].Name = "new-" + agents[i].Name
	}
	same := 0
	for name, at := range places(agents) {
		if old, ok := before[name]; ok {
			same++
			if at != old {
				t.Errorf("%s moved from %v to %v", name, old, at)
			}
		}
	}
	if same != 100 {
		t.Errorf("%d agents compared", same)
	}
}

// Driven by real timers, each late by something, for a day: the last slot is planned for as
// exact a time as the first.
func TestScheduleDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const (
			interval = 30 * time.Second
			cycles   = int64(24 * time.Hour / interval)
		)
		agents := numbered(300, 1, interval)
		agents[0].Checks[0].Interval = 10 * interval
		begin := time.Now()
		s := machine.NewSchedule(agents, interval, 500, begin)
		n, length := s.Slots()
		late := rand.New(rand.NewPCG(5, 6))
		timer := time.NewTimer(0)
		defer timer.Stop()
		slots, runs, rare := int64(0), 0, 0
		var worst time.Duration
		for slots < cycles*int64(n) {
			<-timer.C
			time.Sleep(time.Duration(late.Int64N(int64(30 * time.Millisecond)))) // a busy machine
			now := time.Now()
			for {
				slot, ok := s.Step(now)
				if !ok {
					break
				}
				k, i := slots/int64(n), slots%int64(n)
				if due := begin.Add(time.Duration(k)*interval + time.Duration(i)*length); slot.Cycle != k || !slot.Due.Equal(due) {
					t.Fatalf("slot %d of cycle %d is due %v after the begin, want %v",
						i, slot.Cycle, slot.Due.Sub(begin), due.Sub(begin))
				}
				worst = max(worst, now.Sub(slot.Due))
				for _, st := range slot.Starts {
					if st.Agent == agents[0] {
						rare++
					}
					runs += len(st.Checks)
				}
				slots++
			}
			timer.Reset(time.Until(s.Next()))
		}
		if want := int(cycles)*299 + int(cycles)/10; runs != want || rare != int(cycles)/10 {
			t.Errorf("%d runs, %d of them rare; want %d and %d", runs, rare, want, cycles/10)
		}
		if worst >= 30*time.Millisecond {
			t.Errorf("a slot started %v late, though no timer was later than 30ms", worst)
		}
		if d := s.Next().Sub(begin); d != 24*time.Hour {
			t.Errorf("the day after begins %v after the begin", d)
		}
	})
}
