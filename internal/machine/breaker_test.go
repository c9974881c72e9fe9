package machine_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/machine"
)

func TestBreakerStateString(t *testing.T) {
	t.Parallel()
	for state, want := range map[machine.BreakerState]string{
		machine.Closed: "closed", machine.Open: "open", machine.HalfOpen: "half-open", 3: "BreakerState(3)",
	} {
		if got := state.String(); got != want {
			t.Errorf("state %d: %q, want %q", int(state), got, want)
		}
	}
}

func TestBreakerInNoState(t *testing.T) {
	t.Parallel()
	if panics(func() { machine.NewBreaker(1, 3).Ask() }) == nil {
		t.Error("a breaker in a state that there is not answered")
	}
}

// breakerModel says what a breaker must do, from the history alone.
type breakerModel struct {
	b         *machine.Breaker
	threshold int
	state     machine.BreakerState
	period    int // grows with each transition
	inARow    int
	trials    int // half-open: asked and not reported
	asked     []asked
}

// asked is a permit that somebody holds.
type asked struct {
	permit   machine.Permit
	admitted bool
	period   int
	reported bool
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &breakerModel{
			threshold: rapid.IntRange(1, 5).Draw(t, "threshold"),
			state:     rapid.SampledFrom([]machine.BreakerState{machine.Closed, machine.Open, machine.HalfOpen}).Draw(t, "state"),
		}
		m.b = machine.NewBreaker(m.threshold, m.state)
		m.asked = append(m.asked, asked{period: -1}) // a permit out of thin air
		t.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"ask":    m.ask,
			"ask 2":  m.ask, // twice as often as the others
			"report": m.report,
			"probe":  m.probe,
		})
	})
}

func (m *breakerModel) becomes(state machine.BreakerState) {
	m.state, m.trials = state, 0
	m.period++
}

func (m *breakerModel) ask(t *rapid.T) {
	permit, admitted := m.b.Ask()
	if admitted == (m.state == machine.Open) {
		t.Fatalf("in %v: admitted %v", m.state, admitted)
	}
	if m.state == machine.HalfOpen {
		m.trials++
	}
	m.asked = append(m.asked, asked{permit: permit, admitted: admitted, period: m.period})
}

// report reports on any permit there ever was. One that was admitted and is not stale counts once:
// the agent has one outcome of each.
func (m *breakerModel) report(t *rapid.T) {
	a := &m.asked[rapid.IntRange(0, len(m.asked)-1).Draw(t, "permit")]
	outcome := rapid.SampledFrom([]machine.Outcome{machine.Answered, machine.Broken, machine.Untold}).Draw(t, "outcome")
	counts := a.admitted && a.period == m.period
	if counts && a.reported {
		t.Skip("an outcome is reported once")
	}
	a.reported = true
	m.b.Report(a.permit, outcome)
	if counts && m.state == machine.HalfOpen {
		m.trials--
	}
	switch {
	case !counts || outcome == machine.Untold:
	case outcome == machine.Broken:
		m.inARow++
		if m.state == machine.HalfOpen && m.trials == 0 || m.state == machine.Closed && m.inARow >= m.threshold {
			m.becomes(machine.Open)
		}
	default:
		if m.inARow = 0; m.state == machine.HalfOpen {
			m.becomes(machine.Closed)
		}
	}
}

func (m *breakerModel) probe(t *rapid.T) {
	back := rapid.Bool().Draw(t, "back")
	m.b.Probed(back)
	if back && m.state == machine.Open {
		m.becomes(machine.HalfOpen)
	}
}

func (m *breakerModel) check(t *rapid.T) {
	if got := m.b.State(); got != m.state {
		t.Fatalf("%v, want %v", got, m.state)
	}
	if got := m.b.Failures(); got != m.inARow {
		t.Fatalf("%d failures in a row, want %d", got, m.inARow)
	}
	if m.state == machine.Closed && m.inARow >= m.threshold {
		t.Fatalf("closed after %d failures in a row, the threshold is %d", m.inARow, m.threshold)
	}
}

// TestAskAside: a run that may take long neither keeps a half-open breaker from opening nor is kept from
// closing it; where there are no others, it counts.
func TestAskAside(t *testing.T) {
	t.Parallel()
	halfOpen := func() *machine.Breaker { return machine.NewBreaker(3, machine.HalfOpen) }
	ask := func(b *machine.Breaker, how func() (machine.Permit, bool)) machine.Permit {
		t.Helper()
		p, ok := how()
		if !ok {
			t.Fatalf("refused when %v", b.State())
		}
		return p
	}
	want := func(b *machine.Breaker, what string, state machine.BreakerState) {
		t.Helper()
		if got := b.State(); got != state {
			t.Errorf("%s: %v, want %v", what, got, state)
		}
	}
	b := halfOpen()
	aside, trial := ask(b, b.AskAside), ask(b, b.Ask)
	b.Report(trial, machine.Broken)
	want(b, "the only trial failed", machine.Open)
	b.Report(aside, machine.Answered)
	want(b, "the other came too late", machine.Open)
	if _, ok := b.AskAside(); ok {
		t.Error("let through when open")
	}

	b = halfOpen()
	aside, trial = ask(b, b.AskAside), ask(b, b.Ask)
	b.Report(aside, machine.Broken)
	want(b, "a trial is under way", machine.HalfOpen)
	b.Report(trial, machine.Answered)
	want(b, "it succeeded", machine.Closed)

	b = halfOpen()
	b.Report(ask(b, b.AskAside), machine.Answered)
	want(b, "an answer is an answer", machine.Closed)
	b = halfOpen()
	b.Report(ask(b, b.AskAside), machine.Broken)
	want(b, "there was no other", machine.Open)
}
