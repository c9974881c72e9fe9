package machine_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// laneModel knows what a Lane has to keep to, whatever is done to it.
type laneModel struct {
	lane    *machine.Lane
	limit   int
	now     time.Time
	agents  []*check.Agent
	runs    map[*check.Agent]int  // of polled agents
	hadSlow map[*check.Agent]bool // polled agents that were slow when they got their place
	slow    map[*check.Agent]bool // agents that timed out since
	waiting []machine.Batch
	next    int // numbers batches, in their runs' ids
}

func (m *laneModel) batch(t *rapid.T) machine.Batch {
	agent := m.agents[rapid.IntRange(0, len(m.agents)-1).Draw(t, "agent")]
	b := machine.Batch{
		Agent:  agent,
		Latest: m.now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "latest")) * time.Second),
		Need:   time.Duration(rapid.IntRange(0, 5).Draw(t, "need")) * time.Second,
	}
	m.next++
	for range rapid.IntRange(1, 3).Draw(t, "runs") {
		b.Runs = append(b.Runs, check.Run{Agent: agent, ID: check.RunID{Seq: m.next}})
	}
	return b
}

func (m *laneModel) began(b machine.Batch) {
	if m.runs[b.Agent] == 0 {
		m.hadSlow[b.Agent] = m.slow[b.Agent]
		delete(m.slow, b.Agent)
	}
	m.runs[b.Agent] += len(b.Runs)
}

func (m *laneModel) leave(t *rapid.T, b machine.Batch) {
	i := slices.IndexFunc(m.waiting, func(w machine.Batch) bool { return w.Runs[0].ID == b.Runs[0].ID })
	if i < 0 {
		t.Fatalf("batch %d did not wait", b.Runs[0].ID.Seq)
	}
	m.waiting = slices.Delete(m.waiting, i, i+1)
}

func (m *laneModel) slowPolled() int {
	n := 0
	for agent := range m.runs {
		if m.hadSlow[agent] {
			n++
		}
	}
	return n
}

func (m *laneModel) room(slow bool) bool {
	return len(m.runs) < m.limit && (!slow || m.slowPolled() < max(1, m.limit/4))
}

func (m *laneModel) startWaiting(t *rapid.T) {
	for b, ok := m.lane.Next(m.now); ok; b, ok = m.lane.Next(m.now) {
		m.leave(t, b)
		if m.runs[b.Agent] == 0 && !m.room(b.Slow) {
			t.Fatalf("batch %d starts without room", b.Runs[0].ID.Seq)
		}
		m.began(b)
	}
}

// TestLane: no more places than there are, of these a quarter for slow agents; what waits starts as soon
// as it can; each batch leaves once.
func TestLane(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &laneModel{
			limit: rapid.IntRange(1, 9).Draw(t, "limit"), now: start, agents: numbered(12, 0, 0),
			runs: make(map[*check.Agent]int), hadSlow: make(map[*check.Agent]bool), slow: make(map[*check.Agent]bool),
		}
		m.lane = machine.NewLane(m.limit)
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				b := m.batch(t)
				if m.lane.Enter(b, m.now) {
					m.began(b)
				} else {
					b.Slow = m.slow[b.Agent]
					m.waiting = append(m.waiting, b)
					for _, overdue := range m.lane.Overdue(m.now) { // a slow one may be so at once
						m.leave(t, overdue)
					}
				}
			},
			"end": func(t *rapid.T) {
				agent := m.agents[rapid.IntRange(0, len(m.agents)-1).Draw(t, "agent")]
				timedOut := rapid.Bool().Draw(t, "timed out")
				m.lane.Ended(agent, timedOut)
				if m.runs[agent] == 0 {
					return
				}
				if timedOut {
					m.slow[agent] = true
				}
				if m.runs[agent]--; m.runs[agent] == 0 {
					delete(m.runs, agent)
				}
				m.startWaiting(t)
			},
			"pass": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "seconds")) * time.Second)
				at, ok := m.lane.NextOverdue()
				if ok != (len(m.waiting) > 0) {
					t.Fatalf("next overdue: %v, %v; %d wait", at, ok, len(m.waiting))
				}
				overdue := m.lane.Overdue(m.now)
				if len(overdue) > 0 && m.now.Before(at) {
					t.Fatalf("%d overdue; the next was to be at %v, now is %v", len(overdue), at, m.now)
				}
				for _, b := range overdue {
					m.leave(t, b)
				}
				m.startWaiting(t)
			},
			"resize": func(t *rapid.T) {
				if len(m.runs) > 0 { // or more may be polled than there are places, for a while
					return
				}
				m.limit = rapid.IntRange(1, 9).Draw(t, "limit")
				m.lane.Resize(m.limit)
			},
			"retain": func(t *rapid.T) {
				gone := m.agents[rapid.IntRange(0, len(m.agents)-1).Draw(t, "agent")]
				for _, b := range m.lane.Remove(func(b machine.Batch) bool { return b.Agent == gone }) {
					m.leave(t, b)
				}
				m.lane.Retain(func(agent string) bool { return agent != gone.Name })
				delete(m.slow, gone)
				m.startWaiting(t)
			},
			"": func(t *rapid.T) {
				if len(m.runs) > m.limit || m.slowPolled() > max(1, m.limit/4) {
					t.Fatalf("%d polled, %d of them slow; the limit is %d", len(m.runs), m.slowPolled(), m.limit)
				}
				for _, b := range m.waiting {
					if !b.Latest.After(m.now) || b.Slow && !b.Latest.Add(-b.Need).After(m.now) || m.room(b.Slow) {
						t.Fatalf("batch %d waits; it is overdue, or there is room for it", b.Runs[0].ID.Seq)
					}
				}
			},
		})
	})
}

// TestLaneWithManySlow: of 40 agents 30 hang, each for half a cycle. Once they are known the other 10
// find a place at once, and each of the 30 is polled again and again.
func TestLaneWithManySlow(t *testing.T) {
	t.Parallel()
	const (
		limit, agents, hung = 8, 40, 30
		inTurn              = limit / 4 * 2 // of those that hang, in a cycle
		allInTurn           = (hung + inTurn - 1) / inTurn
	)
	m := manySlow{lane: machine.NewLane(limit), agents: numbered(agents, 0, 0), hung: hung, last: make([]int, agents)}
	for cycle := range 40 {
		soundAtOnce := m.cycle(cycle)
		if cycle < 3 {
			continue // they get to be known
		}
		if soundAtOnce != agents-hung {
			t.Errorf("cycle %d: %d of %d sound agents were polled at once", cycle, soundAtOnce, agents-hung)
		}
		for i := range hung {
			if since := cycle - m.last[i]; since > 2*allInTurn { // half of the places go to those that come first
				t.Errorf("cycle %d: agent %d was not polled for %d cycles", cycle, i, since)
			}
		}
	}
}

// manySlow drives a lane with agents, the first of which hang.
type manySlow struct {
	lane    *machine.Lane
	agents  []*check.Agent
	hung    int
	last    []int // the cycle in which an agent was polled last
	hanging []int
}

// cycle lets a cycle of 10s pass, and returns how many sound agents were polled as it began.
func (m *manySlow) cycle(cycle int) (soundAtOnce int) {
	now := start.Add(time.Duration(cycle) * 10 * time.Second)
	begin := func(b machine.Batch) {
		i := b.Runs[0].ID.Seq
		m.last[i] = cycle
		if i < m.hung {
			m.hanging = append(m.hanging, i)
			return
		}
		soundAtOnce++
		m.lane.Ended(b.Agent, false)
	}
	m.timeOut(now, begin)
	soundAtOnce = 0
	for i := range m.agents {
		b := machine.Batch{Agent: m.agents[i], Runs: []check.Run{{Agent: m.agents[i], ID: check.RunID{Seq: i}}}, Latest: now.Add(10 * time.Second)}
		if m.lane.Enter(b, now) {
			begin(b)
		}
	}
	atOnce := soundAtOnce
	m.timeOut(now.Add(5*time.Second), begin)
	return atOnce
}

// timeOut ends what hangs, and starts what has waited for that.
func (m *manySlow) timeOut(now time.Time, begin func(machine.Batch)) {
	hanging := m.hanging
	m.hanging = nil
	for _, i := range hanging {
		m.lane.Ended(m.agents[i], true)
	}
	m.lane.Overdue(now)
	for b, ok := m.lane.Next(now); ok; b, ok = m.lane.Next(now) {
		begin(b)
	}
}
