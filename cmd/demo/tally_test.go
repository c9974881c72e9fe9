package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/proto/monitoring"
)

// play lets a poller close cycles of two statuses each, whose reports come to core as often as
// times says; nil means once. The breakers of flaky and of another agent move as told.
func play(cycles int, times func(cycle int) int, breaker, other string) *tally {
	t := newTally()
	for i := range cycles {
		t.observe(actors.CycleClosed{Cycle: int64(i), Statuses: 2})
		n := 1
		if times != nil {
			n = times(i)
		}
		for range n {
			t.delivered(sim.Delivery{Timestamp: int64(1000 + 2*i), Services: []*monitoring.ServiceStatus{
				{AgentId: flaky, ServiceName: "orders", Available: true, Message: []byte(`{"data":{}}`)},
				{AgentId: "web", ServiceName: "orders", Available: true, Message: []byte(`{"data":{}}`)},
			}})
		}
	}
	for to := range strings.FieldsSeq(breaker) {
		t.observe(actors.BreakerChanged{Agent: flaky, To: to})
	}
	for to := range strings.FieldsSeq(other) {
		t.observe(actors.BreakerChanged{Agent: "web", To: to})
	}
	return t
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	const seen = "open half-open closed"
	third := func(n int) func(int) int {
		return func(cycle int) int {
			if cycle == 2 {
				return n
			}
			return 1
		}
	}
	for name, tt := range map[string]struct {
		tally      *tally
		violations []string
		says       []string
		fails      []string // in the error; none means that there is no error
	}{
		"whole": {
			tally: play(8, nil, seen, ""),
			says:  []string{"8 cycles, 16 statuses made, 16 at core, 0 lost, 0 doubled", "the breaker of flaky: open → half-open → closed"},
		},
		"whole, back at the second look": {
			tally: play(8, nil, "open half-open "+seen, ""),
			says:  []string{"open → half-open → open → half-open → closed"},
		},
		"lost": {
			tally: play(8, third(0), seen, ""),
			says:  []string{"16 statuses made, 14 at core, 2 lost, 0 doubled"},
			fails: []string{"2 statuses lost, 0 doubled"},
		},
		"doubled": {
			tally: play(8, third(2), seen, ""),
			says:  []string{"16 statuses made, 16 at core, 0 lost, 2 doubled"},
			fails: []string{"0 statuses lost, 2 doubled"},
		},
		"doubles make up for no loss": {
			tally: play(8, func(cycle int) int { return []int{0, 2, 1, 1, 1, 1, 1, 1}[cycle] }, seen, ""),
			fails: []string{"2 statuses lost, 2 doubled"},
		},
		"violations": {
			tally: play(8, nil, seen, ""), violations: []string{"time goes backwards", "no poller_id"},
			says:  []string{"0 lost, 0 doubled"},
			fails: []string{"core saw violations of the contract: time goes backwards; no poller_id"},
		},
		"never closed in a long run": {
			tally: play(8, nil, "open half-open open", seen), // web's breaker is nobody's
			fails: []string{"the breaker of flaky did not open and close again: open → half-open → open"},
		},
		"never opened in a long run": {
			tally: play(8, nil, "", ""),
			fails: []string{"did not open and close again"},
		},
		"too short a run": {
			tally: play(7, nil, "open", ""),
			says:  []string{"7 cycles", "the breaker of flaky: open", "too short to see it open and close again"},
		},
		"short, but all is seen": {tally: play(7, nil, seen, "")},
		"too short, and lost": {
			tally: play(7, third(0), "open", ""),
			says:  []string{"too short"},
			fails: []string{"2 statuses lost"},
		},
		"all at once": {
			tally: play(8, third(0), "open", ""), violations: []string{"no poller_id"},
			fails: []string{"2 statuses lost", "no poller_id", "did not open and close again"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := tt.tally.verdict(&out, tt.violations)
			for _, want := range tt.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q:\n%s", want, out.String())
				}
			}
			if short := slices.ContainsFunc(tt.says, func(s string) bool { return strings.Contains(s, "too short") }); !short && strings.Contains(out.String(), "too short") {
				t.Errorf("the output speaks of too short a run:\n%s", out.String())
			}
			if (err != nil) != (len(tt.fails) > 0) {
				t.Fatalf("the verdict is %v, want in it %q", err, tt.fails)
			}
			for _, want := range tt.fails {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the verdict is %v, want in it %q", err, want)
				}
			}
		})
	}
}

// full takes nothing.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestVerdictThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	if err := play(8, nil, "open half-open closed", "").verdict(full{}, nil); !errors.Is(err, errFull) {
		t.Errorf("the verdict is %v, want %v", err, errFull)
	}
}

// TestLastMoves: the history stays on a line, however long the demo ran.
func TestLastMoves(t *testing.T) {
	t.Parallel()
	tally := newTally()
	for i := range 1000 {
		tally.observe(actors.BreakerChanged{Agent: flaky, To: strconv.Itoa(i)})
	}
	if got, want := tally.lastMoves(), "1000 moves, the last: 991 → 992 → 993 → 994 → 995 → 996 → 997 → 998 → 999"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
