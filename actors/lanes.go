package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// lane bounds the agents that are polled at once, by max_in_flight.
type lane struct {
	// polled counts, for each agent that is being polled, the runs it has not answered.
	polled map[*check.Agent]int
	// waiting are the runs that were due while there was no room, those first that can wait least.
	waiting []batch
}

// add lets a batch wait.
func (l *lane) add(b batch) {
	at, _ := slices.BinarySearchFunc(l.waiting, b, func(x, y batch) int {
		if x.latest.After(y.latest) {
			return 1
		}
		return -1 // behind those that can wait as long
	})
	l.waiting = slices.Insert(l.waiting, at, b)
}

// batch is one agent's runs of one slot, all in the same lane.
type batch struct {
	agent *check.Agent
	runs  []check.Run
	// latest is when it is too late to start: its next turn comes.
	latest time.Time
}

// start sends a batch to its agent, lets it wait if too many agents are being polled, or fills
// its runs if the agent is down or it is too late.
func (p *poller) start(b batch, now time.Time) {
	lane := p.lane(b.runs[0].Check)
	switch {
	case p.down[b.agent.Name]:
		p.fail(b, check.NoAnswer, p.falls[b.agent.Name].detail)
	case !now.Before(b.latest):
		p.fail(b, check.NoAnswer, "not started: the poller itself did not run when this was due")
	case lane.polled[b.agent] == 0 && len(lane.polled) >= p.env.Config.Poll.MaxInFlight:
		lane.add(b)
	default:
		p.send(b, now)
	}
}

// lane returns where runs of a check belong.
func (p *poller) lane(c *check.Check) *lane {
	if c.HasResults() {
		return &p.results
	}
	return &p.statuses
}

func (p *poller) lanes() [2]*lane { return [2]*lane{&p.statuses, &p.results} }

func (p *poller) send(b batch, now time.Time) {
	for i := range b.runs {
		run := &b.runs[i]
		if deadline := now.Add(run.Check.Timeout); deadline.Before(run.Deadline) {
			run.Deadline = deadline
		}
		if run.Check.HasResults() {
			p.ledger.background.Begin(run.ID, run.Deadline)
		} else if cycle, ok := p.ledger.cycle(run.ID.Cycle); ok {
			cycle.SetDeadline(run.ID, run.Deadline)
		}
	}
	p.lane(b.runs[0].Check).polled[b.agent] += len(b.runs)
	p.env.send(p.agents[b.agent], runChecks{runs: b.runs})
}

// startWaiting starts what waited and need not any more: results from where it is known by now, and
// batches that now have a place. It settles those that waited until they were too late to start.
func (p *poller) startWaiting(now time.Time) {
	for _, run := range p.ledger.owed {
		p.startResults(run, now)
	}
	limit := p.env.Config.Poll.MaxInFlight
	for _, lane := range p.lanes() {
		for len(lane.waiting) > 0 && !now.Before(lane.waiting[0].latest) {
			p.fail(lane.waiting[0], check.Overrun, fmt.Sprintf(
				"not started: poll.max_in_flight = %d agents were being polled until the next run was due", limit))
			lane.waiting = lane.waiting[1:]
		}
		for len(lane.waiting) > 0 && len(lane.polled) < limit {
			b := lane.waiting[0]
			lane.waiting = lane.waiting[1:]
			p.start(b, now)
		}
	}
}

// fail settles the runs of a batch that is not sent.
func (p *poller) fail(b batch, reason check.Reason, detail string) {
	for _, run := range b.runs {
		p.fill(run.Failed(reason, detail, 0))
	}
}

// release takes back what send counted.
func (p *poller) release(runs []check.Run) {
	for _, run := range runs {
		polled := p.lane(run.Check).polled
		if polled[run.Agent]--; polled[run.Agent] <= 0 {
			delete(polled, run.Agent)
		}
	}
}
