package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSizes(t *testing.T) {
	t.Parallel()
	s, err := parseSize("2000x5")
	if err != nil || s != (size{2000, 5}) || s.String() != "2000x5" || s.all() != 10_000 {
		t.Errorf("%v, %v", s, err)
	}
	for _, bad := range []string{"", "5", "x5", "5x", "0x5", "5x0", "-1x5", "5x5x5", "1000001x1", "1000x1001", "manyx5"} {
		if s, err := parseSize(bad); err == nil || !strings.Contains(err.Error(), "1000x5") {
			t.Errorf("%q is %v, %v", bad, s, err)
		}
	}
	if n, ok := s.number(agentName(7), checkName(3)); n != 38 || !ok {
		t.Errorf("check 3 of agent 7 has number %d, %v", n, ok)
	}
	for _, strange := range [][2]string{{agentName(2000), checkName(0)}, {agentName(0), checkName(5)}, {"a", "b"}} {
		if _, ok := s.number(strange[0], strange[1]); ok {
			t.Errorf("%v is one of %v", strange, s)
		}
	}
}

// poll asks the world for a status as a subject would, and returns what the subject would report.
func poll(t *testing.T, w *world, agent, check int) *monitoring.ServiceStatus {
	t.Helper()
	a, err := w.answer(t.Context(), &monitoring.StatusRequest{AgentId: agentName(agent), ServiceName: checkName(check)})
	if err != nil {
		t.Fatal(err)
	}
	return &monitoring.ServiceStatus{AgentId: agentName(agent), ServiceName: checkName(check), Available: a.GetAvailable(), Message: a.GetMessage()}
}

// TestWorldCounts: a run is complete only if each check was asked once in each cycle and each status is at core once, in its cycle.
func TestWorldCounts(t *testing.T) {
	t.Parallel()
	s := size{2, 2}
	const interval = time.Second
	type cycles [2][]*monitoring.ServiceStatus
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, w *world, all *cycles)
		want  string
	}{
		{"complete", func(*testing.T, *world, *cycles) {}, ""},
		{"lost", func(_ *testing.T, _ *world, all *cycles) { all[1] = all[1][1:] }, "1 statuses are lost"},
		{"twice", func(_ *testing.T, _ *world, all *cycles) { all[1] = append(all[1], all[1][0]) }, "1 statuses are at core twice"},
		{"too late", func(_ *testing.T, _ *world, all *cycles) {
			all[1] = append(all[1], all[0][0])
			all[0] = all[0][1:]
		}, "1 statuses are lost\n1 statuses are at core twice"},
		{"another's", func(_ *testing.T, _ *world, all *cycles) { all[1][0] = all[1][1] }, "1 statuses are lost\n1 statuses are at core twice"},
		{"failed", func(_ *testing.T, _ *world, all *cycles) { all[1][0].Available = false }, "1 statuses are not what the checker said"},
		{"of nothing", func(_ *testing.T, _ *world, all *cycles) {
			all[1] = append(all[1], &monitoring.ServiceStatus{AgentId: "a", ServiceName: "b", Available: true, Message: []byte(answer)})
		}, "1 statuses are of checks or cycles that there are not"},
		{"asked for nothing", func(t *testing.T, w *world, _ *cycles) { poll(t, w, 9, 9) }, "1 calls were for checks that there are not"},
		{"asked again at once", func(t *testing.T, w *world, all *cycles) {
			all[1] = append(all[1], poll(t, w, 0, 0))
		}, "1 times a check was asked again in the same cycle\n1 statuses are lost\n1 statuses are at core twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, err := newWorld(s, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			var all cycles
			for cycle := range all {
				w.began = time.Now().Add(-time.Duration(cycle) * interval) // as if so much had passed
				for i := range s.all() {
					all[cycle] = append(all[cycle], poll(t, w, i/s.checks, i%s.checks))
				}
			}
			tt.spoil(t, w, &all)
			for cycle, statuses := range all {
				w.delivered(sim.Delivery{Timestamp: int64(cycle), Services: statuses, At: time.Now()})
			}
			if err := w.complete(2, interval); fmt.Sprint(err) != tt.want && (err != nil || tt.want != "") {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if tt.want == "" {
				if err := w.complete(3, interval); err == nil || !strings.Contains(err.Error(), "4 checks were not asked in each of 3 cycles") {
					t.Errorf("of three cycles: %v", err)
				}
			}
		})
	}
}

// TestTimes: the first cycle is not judged, nor the way from it to the next.
func TestTimes(t *testing.T) {
	t.Parallel()
	s := size{1, 2}
	w, err := newWorld(s, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	at := func(check int, times ...time.Duration) {
		for k, d := range times {
			w.times[check*w.most+k].Store(int64(d))
		}
	}
	at(0, 5*time.Second, 10*time.Second, 20*time.Second+3*time.Millisecond)
	at(1, 0, 11*time.Second, 21*time.Second-time.Millisecond)
	if got := fmt.Sprint(w.intervalErrors(3, 10*time.Second)); got != "[1ms 3ms]" {
		t.Errorf("interval errors %v", got)
	}
	for k, last := range []time.Duration{6 * time.Second, 11*time.Second + 40*time.Millisecond, 21*time.Second + 9*time.Millisecond} {
		w.cycles = append(w.cycles, atCore{timestamp: int64(k), last: w.began.Add(last)})
	}
	if got := fmt.Sprint(w.toCore(3)); got != "[10ms 40ms]" {
		t.Errorf("to core %v", got)
	}
}

// rounds makes what was measured of a size, with one value of each subject for everything.
func rounds(name string, agents int, values ...[4]float64) sized {
	s := sized{Size: name, Agents: agents, Checks: 5, Cycles: 2, Together: true}
	for _, v := range values {
		round := make(map[string]measured)
		for i, subject := range subjects() {
			round[subject.name] = measured{CPU: v[i], RSS: v[i], ErrorP99: v[i]}
		}
		s.Rounds = append(s.Rounds, round)
	}
	return s
}

// TestVerdicts: ratios are made within a round, for the machine differs from one to the next; then the median counts.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	// In memory, in slots, on disk, all at once.
	small := rounds("1000x5", 1000, [4]float64{10, 10, 11, 40}, [4]float64{22, 20, 22, 90}, [4]float64{90, 30, 33, 120})
	large := rounds("10000x5", 10_000, [4]float64{13, 10, 13, 20})
	large.Together, large.Tenth = false, []float64{1.1, 1.18, 1.3}
	few := rounds("100x5", 100, [4]float64{100, 1, 100, 1})
	want := map[string]string{
		"1000x5 CPU, poller in memory ÷ loop in slots":                      "1.10",
		"1000x5 CPU, poller on disk ÷ in memory":                            "1.00",
		"1000x5 RSS, poller in memory ÷ loop in slots":                      "1.10",
		"1000x5 RSS, poller on disk ÷ loop in slots":                        "1.10",
		"1000x5 p99 interval error, poller on disk ÷ loop, all at once":     "0.28",
		"10000x5 RSS, poller in memory ÷ loop in slots":                     "**1.30**",
		"10000x5 RSS, poller on disk ÷ loop in slots":                       "**1.30**",
		"10000x5 p99 interval error, poller on disk ÷ loop, all at once":    "**0.65**",
		"10000x5 CPU, poller on disk ÷ the same with a tenth of the agents": "**1.18**",
	}
	all := verdicts([]sized{few, small, large})
	for _, v := range all {
		if got := v.is(); got != want[v.Size+" "+v.What] {
			t.Errorf("%s %s is %s, want %s", v.Size, v.What, got, want[v.Size+" "+v.What])
		}
	}
	if len(all) != len(want) || kept(all) || !kept(all[:5]) {
		t.Errorf("%d verdicts, want %d; all kept: %v, those of the small one: %v", len(all), len(want), kept(all), kept(all[:5]))
	}
	text := (&report{Sizes: []sized{small}, Verdicts: all}).table()
	for _, part := range []string{"1000 agents × 5 checks, 3 rounds of 2 cycles", "| poller, memory ", "| 22.0 ", "1.10×", "**0.65**"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

// TestTurns: each has each place about as often.
func TestTurns(t *testing.T) {
	t.Parallel()
	list := []string{"a", "b", "c"}
	var all []string
	for round := range 6 {
		all = append(all, strings.Join(turned(list, round), ""))
	}
	if got := strings.Join(all, " "); got != "abc cba bca acb cab bac" || strings.Join(list, "") != "abc" {
		t.Errorf("%s of %v", got, list)
	}
}

// TestCycles: with few agents a run is longer, unless one says how long.
func TestCycles(t *testing.T) {
	t.Parallel()
	var c comparison
	for s, want := range map[size]int{{100, 5}: 5, {1000, 5}: 5, {2000, 5}: 3, {5000, 5}: 2, {10_000, 5}: 2} {
		if got := c.cyclesOf(s); got != want {
			t.Errorf("%v: %d cycles, want %d", s, got, want)
		}
	}
	c.cycles = 7
	if got := c.cyclesOf(size{10_000, 5}); got != 7 {
		t.Errorf("%d cycles, want 7", got)
	}
}
