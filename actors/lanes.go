package actors

import (
	"fmt"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// start sends a batch to its agent, lets it wait if too many agents are being polled, or fills
// its runs if the agent is down or it is too late.
func (p *poller) start(b machine.Batch, now time.Time) {
	switch {
	case p.down[b.Agent.Name]:
		p.fail(b, check.NoAnswer, p.falls[b.Agent.Name].detail)
	case !now.Before(b.Latest):
		p.fail(b, check.NoAnswer, "not started: the poller itself did not run when this was due")
	case p.lane(b.Runs[0].Check).Enter(b, now):
		p.send(b, now)
	}
}

// lane returns where runs of a check belong.
func (p *poller) lane(c *check.Check) *machine.Lane {
	if c.HasResults() {
		return p.results
	}
	return p.statuses
}

func (p *poller) lanes() [2]*machine.Lane { return [2]*machine.Lane{p.statuses, p.results} }

func (p *poller) send(b machine.Batch, now time.Time) {
	if !p.ledger.mayPoll(p.env) {
		p.unmake(b)
		p.release(b.Runs)
		return
	}
	for i := range b.Runs {
		run := &b.Runs[i]
		if deadline := now.Add(run.Check.Timeout); deadline.Before(run.Deadline) {
			run.Deadline = deadline
		}
		if run.ID.Cycle == machine.NoCycle {
			p.ledger.background.Begin(run.ID, run.Deadline)
		} else if cycle, ok := p.ledger.cycle(run.ID.Cycle); ok {
			cycle.SetDeadline(run.ID, run.Deadline)
		}
	}
	p.env.send(p.agents[b.Agent.Name], runChecks{runs: b.Runs, era: p.ledger.leased()})
}

// startWaiting starts what waited and need not any more: results from where it is known by now, and
// batches that now have a place. It settles those that waited until they were too late to start.
func (p *poller) startWaiting(now time.Time) {
	for _, run := range p.ledger.owed {
		p.startResults(run, now)
	}
	for _, lane := range p.lanes() {
		for _, b := range lane.Overdue(now) {
			p.fail(b, check.Overrun, p.noTurn(b))
		}
		for b, ok := lane.Next(now); ok; b, ok = lane.Next(now) {
			p.send(b, now)
		}
	}
}

// noTurn says why a batch waited in vain.
func (p *poller) noTurn(b machine.Batch) string {
	limit := p.env.config().Poll.MaxInFlight
	if b.Slow {
		return fmt.Sprintf("not started: it timed out last time, and until the next run was due others that did so had "+
			"the quarter of poll.max_in_flight = %d that such agents may have", limit)
	}
	return fmt.Sprintf("not started: poll.max_in_flight = %d agents were being polled until the next run was due", limit)
}

// fail settles the runs of a batch that is not sent.
func (p *poller) fail(b machine.Batch, reason check.Reason, detail string) {
	for _, run := range b.Runs {
		p.fill(run.Failed(reason, detail, 0))
	}
}

// release gives up the places of runs that came to nothing.
func (p *poller) release(runs []check.Run) {
	for _, run := range runs {
		p.lane(run.Check).Ended(run.Agent, false)
	}
}

// timedOut tells of a status whether its run kept its place for about as long as it could: also one
// that waited in vain for a connection, or had less time than it should for reasons of our own.
func timedOut(status *check.Status) bool {
	switch status.Reason {
	case check.Timeout:
		return true
	case check.Unreachable, check.TLSFailed, check.BadAnswer, check.NoAnswer:
		return status.ResponseTime >= status.Check.Timeout/2
	default:
		return false
	}
}

// need is what a run of a check must have of its timeout, or what comes of it says nothing of the checker.
func need(c *check.Check) time.Duration { return c.Timeout * fairShare / 4 }
