package actors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// A call ends at its deadline; one that ends later by more than stall shows that the process stood
// still, or had no time to spare.
const (
	stall    = 250 * time.Millisecond
	cutShort = 100 * time.Millisecond // before its deadline, a call that ends has still run into it
	// fairShare is the part of its timeout, in quarters, that a run must have had before what comes of it
	// is the checker's fault: on a busy machine some always start a little late.
	fairShare = 3
	stalled   = "no status came for this run in time: the poller itself stood still or is overloaded"
	// idleAfter is from what interval on an agent keeps no connection between its runs. A new one costs about
	// as much as ten calls, so every two minutes it costs no more than a check that runs every 10 s. One that is
	// kept costs both sides memory and a descriptor all the time, and proxies end it after some minutes of
	// silence anyway, not all of them with a word: the next run would find it dead.
	idleAfter = 2 * time.Minute
)

// agent owns one checker: the connection to it, its breaker, and its runs. For each run that it
// is given the poller gets exactly one settled.
type agent struct {
	env         *env
	incarnation uint64
	self        *actor.PID
	spec        *check.Agent

	client  *connection // nil until it could be made
	breaker *machine.Breaker
	// cause is the failure that last counted for the breaker.
	cause string
	// seldom says that all its runs are at least idleAfter apart: it has a connection only while they last.
	seldom bool
	// busy are the checks, by their names, with a run that is not settled, each with the runs that it came with.
	busy    map[string]*together
	changes changes
	// resultless are the checks of which it was told that their checker has no results.
	resultless map[string]bool
	// greeted is the connection whose health was asked, or need not be.
	greeted uint64
	// greeting ends the call that asks for it, and was not answered; nil if there is none.
	greeting context.CancelFunc
	// known says that health was told, and that no run has failed for the checker's fault since.
	known bool
	// era is that of the lease under which its runs are made; 0 without a cluster.
	era uint64
	// retiring: it is not configured any more, and says so to root when its runs are settled.
	retiring bool
	probing
}

// connection is a client and the calls under way on it.
type connection struct {
	Checker
	calls sync.WaitGroup
}

// together are runs that the agent was given at once. What they change is told when the last of them
// is settled: a checker that goes away is one piece of news, however many checks it has.
type together struct {
	runs []check.Run
	left int // how many are not settled
	// ctx is that of the calls which end at deadline, those that were made last; cancels are those of all contexts.
	ctx      context.Context
	deadline time.Time
	cancels  []context.CancelFunc
}

// until returns a context for a call that ends at deadline. Most of what starts together ends at the same time, and
// shares one: each is a timer.
func (t *together) until(ctx context.Context, deadline time.Time) context.Context {
	if t.ctx == nil || !t.deadline.Equal(deadline) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		t.ctx, t.deadline, t.cancels = ctx, deadline, append(t.cancels, cancel)
	}
	return t.ctx
}

// cancel ends the calls that have not ended.
func (t *together) cancel() {
	for _, cancel := range t.cancels {
		cancel()
	}
}

func newAgent(e *env, incarnation uint64, self *actor.PID, spec *check.Agent, again bool) *agent {
	state := machine.Closed
	if again {
		state = machine.HalfOpen
	}
	a := &agent{
		env: e, incarnation: incarnation, self: self, spec: spec,
		breaker: machine.NewBreaker(e.config().Breaker.Failures, state),
		seldom:  runsSeldom(spec),
		probing: probing{gap: firstGap},
	}
	return a
}

func runsSeldom(spec *check.Agent) bool {
	return !slices.ContainsFunc(spec.Checks, func(c check.Check) bool { return c.Interval < idleAfter })
}

func (a *agent) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.lookAround()
	case *actor.Stopping:
		a.stop()
	case runChecks:
		a.era = m.era
		a.run(m.runs)
	case *answered:
		if m.incarnation == a.incarnation {
			a.answered(m)
		}
	case healthTold:
		if m.incarnation == a.incarnation && m.err == nil && a.greeting != nil {
			a.healthTold(m.health)
		}
	case probeDue:
		if m.incarnation == a.incarnation && m.n == a.probes {
			a.look()
		}
	case probed:
		if m.incarnation == a.incarnation {
			a.probed(m)
		}
	case respec:
		a.respec(m.spec)
	case renew:
		a.reconnect()
	case resume:
		a.goOn(&m.handOver)
	case retire:
		a.retiring = true
		a.leave()
	case yieldTo:
		a.yield()
	}
}

// resume goes on where another node's actor was.
func (a *agent) resume(h *handOver) {
	a.breaker.Resume(h.open, h.failures)
	a.cause = h.cause
}

// goOn is resume for an actor that was here when the agent was another node's: what it knew is old.
func (a *agent) goOn(h *handOver) {
	before := a.breaker.State()
	a.resume(h)
	why := "as the node found that polled it before: " + a.cause
	if !h.open {
		a.lookAway()
		why = "the node that polled it before found its checker well"
	}
	a.breakerMoved(before, why)
}

// lookAround looks for a checker that was lost when the agent was another node's.
func (a *agent) lookAround() {
	if a.breaker.State() == machine.Open {
		a.breakerMoved(machine.Closed, "as the node found that polled it before: "+a.cause)
	}
}

// yield ends as retire does, and says how the breaker is.
func (a *agent) yield() {
	a.env.send(a.env.member, breakerTold{agent: a.spec.Name, open: a.breaker.State() != machine.Closed, failures: a.breaker.Failures(), cause: a.cause})
	a.retiring = true
	a.leave()
}

func (a *agent) stop() {
	for _, all := range a.busy {
		all.cancel()
	}
	a.lookAway()
	if a.greeting != nil {
		a.greeting()
	}
	if a.probe != nil {
		a.probe.Stop()
	}
	a.hangUp()
}

func (a *agent) run(runs []check.Run) {
	all := &together{runs: runs, left: len(runs)}
	if a.busy == nil {
		a.busy = make(map[string]*together, len(a.spec.Checks))
	}
	for _, run := range runs {
		if a.busy[run.Check.Name] != nil {
			a.report(run.Failed(check.Overrun, "the previous call of this check has not returned: it takes longer than its interval", 0))
			a.ended(all)
			continue
		}
		a.busy[run.Check.Name] = all
		a.start(run)
	}
}

func (a *agent) start(run check.Run) {
	if err := a.dial(); err != nil {
		a.settle(run, run.FailedBy(err, 0))
		return
	}
	ask := a.breaker.Ask
	if run.Check.HasResults() {
		ask = a.breaker.AskAside
	}
	permit, admitted := ask()
	if !admitted {
		a.settle(run, run.Failed(check.CircuitOpen, a.refusal(), 0))
		return
	}
	a.ask(run, permit)
}

func (a *agent) dial() error {
	if a.client != nil {
		return nil
	}
	client, err := a.env.Dial(a.spec)
	if err != nil {
		return err
	}
	a.client = &connection{Checker: client}
	return nil
}

// hangUp gives up the connection; the next dial makes a new one. Calls that are still under way on it
// may end, at their deadlines at the latest: results may be coming in all the same.
func (a *agent) hangUp() {
	if client := a.client; client != nil {
		a.client, a.greeted = nil, 0
		a.env.calls.Go(func() {
			client.calls.Wait()
			_ = client.Close() // nobody wants to hear of it
		})
	}
}

// rest ends what an agent that runs seldom needs only for its runs, when the last of them is settled. While
// the breaker is not closed the connection is a probe's, or that of the trial to come.
func (a *agent) rest() {
	if !a.seldom || len(a.busy) > 0 || a.breaker.State() != machine.Closed {
		return
	}
	a.busy = nil
	a.hangUp()
	a.expectNothingNew()
}

// expectNothingNew lets the first connection of the next client pass for one whose health was asked, if health is known.
func (a *agent) expectNothingNew() {
	if a.known {
		a.greeted = 1 // as Checker counts
	}
}

func (a *agent) refusal() string {
	return fmt.Sprintf("not asked: the checker at %s failed %d times in a row and is looked for every %v; the last failure: %s",
		a.spec.Address, a.breaker.Failures(), a.env.config().Breaker.Probe, a.cause)
}

func (a *agent) ask(run check.Run, permit machine.Permit) {
	client := a.client
	ctx := a.busy[run.Check.Name].until(a.env.ctx, run.Deadline)
	m := &answered{incarnation: a.incarnation, run: run, permit: permit}
	era := a.era
	client.calls.Add(1)
	a.env.call(a.self, func() any {
		defer client.calls.Done()
		if era > 0 && !a.env.cluster.Holds(era) { // the last look before the checker hears of it
			m.unmade = true
			return m
		}
		began := time.Now()
		m.given = run.Deadline.Sub(began)
		if run.Check.HasResults() {
			m.answer, m.err = client.Results(ctx, run.Check, run.LastSequence)
		} else {
			m.answer, m.err = client.Ask(ctx, run.Check)
		}
		m.asked, m.took = true, time.Since(began)
		if m.err == nil {
			m.unmet = run.Unmet(m.answer, m.took)
		}
		return m
	}, func(err error) any {
		m.err = err
		return m
	})
}

func (a *agent) answered(m *answered) {
	if m.unmade {
		a.breaker.Report(m.permit, machine.Untold)
		a.env.send(a.env.poller, settled{status: check.Status{ID: m.run.ID, Agent: m.run.Agent, Check: m.run.Check}, unmade: true})
		a.end(m.run)
		return
	}
	status := m.run.Answered(m.answer, m.took)
	status.Fail(m.unmet)
	if m.err != nil {
		status = m.run.FailedBy(m.err, m.took)
	}
	if detail := ownFault(m, status.Reason); detail != "" {
		status = m.run.Failed(check.NoAnswer, detail, m.took)
	}
	if m.asked {
		status.Asked, status.Took = true, m.took
		status.Late = max(0, m.run.Deadline.Sub(m.run.Due)-m.given)
	}
	outcome, cause := machine.Answered, "the checker answered a run"
	switch {
	case status.Reason.CheckerBroken():
		outcome, cause = machine.Broken, status.Detail
		a.cause, a.known = status.Detail, false
	case status.Reason == check.NoAnswer || status.Reason == check.Internal:
		outcome = machine.Untold
	}
	before := a.breaker.State()
	a.breaker.SetThreshold(a.env.config().Breaker.Failures) // it may have changed
	a.breaker.Report(m.permit, outcome)
	switch {
	case m.err == nil && m.answer.Nothing:
		a.changes.note(status)
		a.settleUnreported(m.run, status)
	case status.Reason == check.Unimplemented && m.run.Check.HasResults():
		a.noResults(m.run.Check, status.Detail)
		a.settleUnreported(m.run, status)
	default:
		a.settle(m.run, status)
	}
	a.breakerMoved(before, cause)
	if outcome == machine.Answered {
		a.greet()
	}
	a.rest()
}

// ownFault tells what of a failure that ran into its deadline is the poller's doing, and so says
// nothing of the checker: the process stood still, or the run started late.
func ownFault(m *answered, reason check.Reason) string {
	ranOut := m.took >= m.given-cutShort
	switch {
	case !reason.CheckerBroken() || !ranOut:
		return ""
	case m.took-m.given > stall:
		return stalled
	case m.given < need(m.run.Check):
		return fmt.Sprintf("the run could start only when %v of its %v were left: the poller is late or overloaded",
			m.given.Round(time.Millisecond), m.run.Check.Timeout)
	}
	return ""
}

// breakerMoved does what a transition of the breaker since before asks for.
func (a *agent) breakerMoved(before machine.BreakerState, cause string) {
	state := a.breaker.State()
	if state == before {
		return
	}
	a.env.Observe(BreakerChanged{Agent: a.spec.Name, From: before.String(), To: state.String(), Cause: cause})
	switch state {
	case machine.Open:
		a.probeLater()
	case machine.Closed:
		a.forgetLooks()
	case machine.HalfOpen:
	}
}

// settle gives a run of ours its status.
func (a *agent) settle(run check.Run, status check.Status) {
	a.report(status)
	a.end(run)
}

// settleUnreported ends a run of ours that has nothing to report.
func (a *agent) settleUnreported(run check.Run, status check.Status) {
	a.env.send(a.env.poller, settled{status: status, nothing: true})
	a.end(run)
}

func (a *agent) report(status check.Status) {
	a.changes.note(status)
	a.env.send(a.env.poller, settled{status: status})
}

func (a *agent) end(run check.Run) {
	all := a.busy[run.Check.Name]
	delete(a.busy, run.Check.Name)
	a.ended(all)
}

// ended takes the end of one of some runs, and tells what they changed if it was the last.
func (a *agent) ended(all *together) {
	if all.left--; all.left > 0 {
		return
	}
	all.cancel()
	if changes := a.changes.tell(all.runs); len(changes) > 0 {
		a.env.Observe(ChecksChanged{Agent: a.spec.Name, Changes: changes})
	}
	a.leave()
}

// noResults tells, once, of a check whose checker has no results to offer. Most have none.
func (a *agent) noResults(c *check.Check, detail string) {
	if a.resultless[c.Name] {
		return
	}
	if a.resultless == nil {
		a.resultless = make(map[string]bool)
	}
	a.resultless[c.Name] = true
	a.env.Observe(NoResults{Agent: a.spec.Name, Check: c.Name, Detail: detail})
}
