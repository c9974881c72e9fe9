package daemon

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/serviceradar/poller/actors"
	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/observe"
)

// TestFlood goes through a flood by the second.
func TestFlood(t *testing.T) {
	t.Parallel()
	var f flood
	began := time.Unix(1000, 0)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	add := func(s, n int, level zerolog.Level, kind string) (admitted int) {
		for i := range n {
			if f.admit(at(s), level, fmt.Sprintf("a%03d", i), kind) {
				admitted++
			}
		}
		return admitted
	}
	want := func(s, admitted, wantAdmitted int) {
		t.Helper()
		if admitted != wantAdmitted {
			t.Errorf("at %ds: %d lines were admitted, want %d", s, admitted, wantAdmitted)
		}
	}
	wantSummary := func(s int, want string) {
		t.Helper()
		if over := f.over(at(s)); over != (want != "" || s == 0) {
			t.Errorf("at %ds the window is over: %v", s, over)
			return
		} else if !over {
			return
		}
		got := ""
		if left, ok := f.end(); ok {
			got = fmt.Sprintln(left.lines, left.level, left.counts(), len(left.agents), left.some)
		}
		if got != want {
			t.Errorf("at %ds the summary is %q, want %q", s, got, want)
		}
	}
	wantSummary(0, "")
	want(0, add(0, 40, zerolog.InfoLevel, "up"), 40)
	want(3, add(3, 30, zerolog.InfoLevel, "up"), 10)
	// The first of each kind is told in any case.
	want(9, add(9, 3, zerolog.WarnLevel, "down"), 1)
	want(9, add(9, 20, zerolog.InfoLevel, "again"), 1)
	wantSummary(9, "")
	wantSummary(10, "41 warn [20 × up 19 × again 2 × down] 29 [a010 a011 a012 a013 a014]\n")
	if left, ok := f.end(); ok {
		t.Errorf("%+v was left out, said twice", left)
	}
	// The next window begins with the next line, and has a budget of its own.
	want(17, add(17, 51, zerolog.InfoLevel, "up"), 50)
	wantSummary(26, "")
	wantSummary(27, "1 info [1 × up] 1 [a050]\n")
	// What nobody asked for in time is not lost.
	want(40, add(40, 51, zerolog.InfoLevel, "up"), 50)
	want(60, add(60, 51, zerolog.InfoLevel, "up"), 50)
	wantSummary(70, "2 info [2 × up] 1 [a050]\n")
	want(80, add(80, 52, zerolog.ErrorLevel, "up"), 50)
	if left, ok := f.end(); !ok || left.lines != 2 {
		t.Errorf("at the end %+v was left out", left)
	}
	if left, ok := f.end(); ok {
		t.Errorf("%+v was left out, said twice", left)
	}
}

// TestFloodOfOneAgent: an agent that flaps is thinned out by itself, and leaves the others their places.
func TestFloodOfOneAgent(t *testing.T) {
	t.Parallel()
	var f flood
	began := time.Unix(1000, 0)
	admitted := func(at time.Time, agent, kind string, n int) (lines int) {
		for range n {
			if f.admit(at, zerolog.WarnLevel, agent, kind) {
				lines++
			}
		}
		return lines
	}
	if got := admitted(began, "flaps", "down", 100); got != floodOfAgent {
		t.Errorf("of one agent %d lines were admitted, want %d", got, floodOfAgent)
	}
	if got := admitted(began, "flaps", "panic", 2); got != 1 {
		t.Errorf("of another kind %d were admitted, want the first", got)
	}
	if got := admitted(began, "other", "down", 3); got != 3 {
		t.Errorf("of another agent %d were admitted, want all 3", got)
	}
	if left, _ := f.end(); left.lines != 96 || len(left.agents) != 1 {
		t.Errorf("left out: %d lines of %d agents, want 96 of 1", left.lines, len(left.agents))
	}
	if got := admitted(began.Add(floodWindow), "flaps", "down", 100); got != floodOfAgent {
		t.Errorf("in the next window %d lines were admitted, want %d", got, floodOfAgent)
	}
}

// storm lets n agents with five checks each go away, as the actors tell it.
func storm(n *narrator, agents int) {
	for i := range agents {
		name := fmt.Sprintf("a%03d", i)
		n.observe(actors.ChecksChanged{Agent: name, Changes: changed(5, actors.Change{Reason: check.Unreachable, Detail: "no route"})})
		n.observe(actors.BreakerChanged{Agent: name, From: "closed", To: "open", Cause: "no route"})
	}
}

// TestLogSummarisesFloods: the summary comes when the window is over, and with the stop.
func TestLogSummarisesFloods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := newNarrator(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board), configOf(400))
		said := func() []map[string]any {
			n.mu.Lock() // which who writes has
			defer n.mu.Unlock()
			defer log.Reset()
			return lines(t, log.Bytes())
		}
		storm(n, 400)
		if got := said(); len(got) != floodLines {
			t.Errorf("%d lines, want %d", len(got), floodLines)
		}
		n.flush()
		n.flush()
		wantSummary := func(got []map[string]any) {
			t.Helper()
			want := []map[string]any{{
				"level": "warn", "message": "too much happened at once; lines about agents were left out, and only log.level debug shows them all",
				"lines": 750., "agents": 375., "among_them": []any{"a025", "a026", "a027", "a028", "a029"},
				"left_out": []any{
					"375 × breaker opened: the checker is asked again when a probe finds it back",
					"375 × checks have no verdict: unreachable",
				},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		wantSummary(said())
		time.Sleep(floodWindow)
		clear(n.open)
		storm(n, 400)
		_ = said()
		time.Sleep(floodWindow - time.Nanosecond)
		synctest.Wait()
		if got := said(); len(got) != 0 {
			t.Errorf("told within the window: %v", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantSummary(said())
		n.flush()
		if got := said(); len(got) != 0 {
			t.Errorf("told twice: %v", got)
		}
	})
}

// TestDebugLogLeavesNothingOut: what is beyond the budget is there at level debug.
func TestDebugLogLeavesNothingOut(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log), new(observe.Board), configOf(400))
	defer n.flush()
	storm(n, 400)
	levels := make(map[any]int)
	for _, line := range lines(t, log.Bytes()) {
		levels[line["level"]]++
	}
	if diff := cmp.Diff(map[any]int{"warn": floodLines, "debug": 800 - floodLines}, levels); diff != "" {
		t.Errorf("lines by level (-want +got):\n%s", diff)
	}
}

// TestFloodOfFailures: agents that fail are in the budget, the actors that there are once are not; nor is
// anything that the level leaves out anyway.
func TestFloodOfFailures(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log).Level(zerolog.ErrorLevel), new(observe.Board), configOf(400))
	storm(n, 400) // of warnings
	for i := range 100 {
		n.observe(actors.ActorFailed{Actor: fmt.Sprintf("agent/a%03d", i), Cause: "a bug"})
		n.observe(actors.ActorRestarted{Actor: fmt.Sprintf("agent/a%03d", i)})
		n.observe(actors.PanicRecovered{Actor: fmt.Sprintf("root/agent/a%03d", i), Cause: "a bug"})
		n.observe(actors.ActorFailed{Actor: "reporter", Cause: "a bug"})
	}
	n.flush()
	actorsSaid, summary := make(map[any]int), map[string]any(nil)
	for _, line := range lines(t, log.Bytes()) {
		if actor, ok := line["actor"].(string); ok {
			if actor != "reporter" {
				actor = "an agent"
			}
			actorsSaid[actor]++
		} else {
			summary = line
		}
	}
	if diff := cmp.Diff(map[any]int{"an agent": floodLines, "reporter": 100}, actorsSaid); diff != "" {
		t.Errorf("lines by actor (-want +got):\n%s", diff)
	}
	want := []any{"75 × actor failed; it will be started again", "75 × panic recovered: this is a bug, please report it"}
	if diff := cmp.Diff(want, summary["left_out"]); diff != "" || summary["level"] != "error" || summary["agents"] != 75. {
		t.Errorf("summary %v (-want +got):\n%s", summary, diff)
	}
}

// TestFloodHidesNoPanic: the first of each kind is told whole, however many other lines there were.
func TestFloodHidesNoPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	n := newNarrator(zerolog.New(&log).Level(zerolog.InfoLevel), new(observe.Board), configOf(400))
	defer n.flush()
	storm(n, 400)
	n.observe(actors.PanicRecovered{Actor: "root/agent/a001", Cause: "a bug", Stack: "its stack"})
	n.observe(actors.ActorFailed{Actor: "agent/a002", Cause: "another bug", Parked: true})
	for _, want := range []string{"its stack", "another bug"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// BenchmarkStorm is what it costs the actors to tell of 10,000 agents that go away and return.
func BenchmarkStorm(b *testing.B) {
	n := newNarrator(zerolog.New(new(bytes.Buffer)).Level(zerolog.InfoLevel), new(observe.Board), configOf(10_000))
	for b.Loop() {
		storm(n, 10_000)
		for i := range 10_000 {
			n.observe(actors.BreakerChanged{Agent: fmt.Sprintf("a%03d", i), From: "half-open", To: "closed"})
		}
	}
}
