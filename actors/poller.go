package actors

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

const (
	// resendAfter is how long the poller waits at most for taken before it sends a report again.
	resendAfter = 5 * time.Second
	// catchUp is how long answers that are on their way get after the process stood still.
	catchUp = 100 * time.Millisecond
)

// poller starts the checks that are due, gathers their statuses into cycles, and hands closed
// cycles to the reporter. Whatever it must not forget is in the ledger.
type poller struct {
	env    *env
	self   *actor.PID
	ledger *ledger
	timer  *time.Timer
	next   time.Time             // when the timer was to fire
	late   bool                  // the last tick came late, and answers have been let in since
	agents map[string]*actor.PID // by name
	// down are the agents that can't answer; falls are the last failures of agents.
	down  map[string]bool
	falls map[string]fall
	// statuses and results are apart, because results may take long and nobody waits for them.
	statuses, results *machine.Lane
	// draining: nothing is started any more; drainBy is when open cycles close as they are.
	draining bool
	drainBy  time.Time
	left     bool // drained was said
}

func newPoller(e *env, self *actor.PID, l *ledger, down map[string]bool, falls map[string]fall, drainBy time.Time) *poller {
	p := &poller{
		env: e, self: self, ledger: l, down: down, falls: falls,
		draining: !drainBy.IsZero(), drainBy: drainBy,
		statuses: machine.NewLane(l.config.Poll.MaxInFlight),
		results:  machine.NewLane(l.config.Poll.MaxInFlight),
	}
	p.know(l.agents(l.config.Agents))
	return p
}

// know keeps where the agents' messages go, and nobody else's.
func (p *poller) know(agents []*check.Agent) {
	before := p.agents
	p.agents = make(map[string]*actor.PID, len(agents))
	for _, a := range agents {
		pid := before[a.Name]
		if pid == nil {
			pid = p.env.pid(agentPrefix + a.Name)
		}
		p.agents[a.Name] = pid
	}
}

func (p *poller) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		p.inherit()
		p.reconfigure(time.Now())
		if p.ledger.share != nil {
			p.env.send(p.env.member, pollerUp{})
		}
	case reconfigured:
		p.reconfigure(time.Now())
	case tick:
		p.tick(time.Now())
	case reporterUp:
		p.ledger.forgetSent()
		p.sendReports(time.Now())
	case settled:
		p.settled(m, time.Now())
	case agentDown:
		p.agentDown(m, time.Now())
	case agentUp:
		delete(p.down, m.name)
	case taken:
		now := time.Now()
		p.ledger.take(m.id, !m.dropped)
		p.sendReports(now)
		p.startWaiting(now)
		p.leave(now)
	case adopt:
		p.adopt(m, time.Now())
	case suspend:
		p.suspend()
		p.advance(time.Now())
	case yield:
		p.yield(m, time.Now())
	case drain:
		p.drain(m.by, time.Now())
	case *actor.Stopping:
		if p.timer != nil {
			p.timer.Stop()
		}
	}
}

// inherit takes over from a predecessor that failed.
func (p *poller) inherit() {
	p.ledger.forgetSent() // what the reporter answered to the predecessor is lost
	for _, c := range p.ledger.open {
		if c.Index() < p.ledger.schedule.Cycle() {
			c.Seal() // the predecessor may not have come to it
		}
	}
	for name, f := range p.falls {
		if p.ledger.falls[name] != f.n { // the predecessor did not hear of it
			p.forsake(name, f)
		}
	}
	unbegun := p.ledger.background.Unbegun()
	if p.draining { // as in drain
		clear(p.ledger.owed)
		p.ledger.stopMissed()
		return
	}
	p.endResults(unbegun, "not started: the poller failed before it came to that")
}

// tick advances. If it comes so late that the process must have stood still, answers that came
// meanwhile are let in first: by the time that they are late, too, it would be for no fault of theirs.
// But a process that has too little time is late every time, and must go on all the same.
func (p *poller) tick(now time.Time) {
	if p.late = !p.late && now.Sub(p.next) > stall; p.late {
		p.wait(now, catchUp)
		return
	}
	p.advance(now)
}

// advance does whatever is due at now and sets the timer for what comes next. It may be called at
// any time, and too often does no harm.
func (p *poller) advance(now time.Time) {
	for !p.draining {
		slot, due := p.ledger.schedule.Step(now)
		if !due {
			break
		}
		p.startSlot(slot, now)
	}
	p.startMissed(now)
	p.startWaiting(now) // settles what waited too long, so that only what was sent can expire
	for _, c := range p.ledger.open {
		p.release(c.Expire(now, stalled))
	}
	p.release(p.endResults(p.ledger.background.Expire(now, p.grace()), stalled))
	p.startWaiting(now)
	p.closeCycles(now)
	p.sendReports(now)
	p.leave(now)
	p.arm(now)
}

func (p *poller) startSlot(slot machine.Slot, now time.Time) {
	cycle, ok := p.ledger.cycle(slot.Cycle)
	if !ok { // it is the first slot, or a predecessor failed at that
		cycle = p.openCycle(slot, now)
	}
	mayPoll := p.ledger.mayPoll(p.env)
	for _, start := range slot.Starts {
		if p.agents[start.Agent.Name] == nil {
			continue // it is not configured any more, or not ours to poll
		}
		if !mayPoll {
			p.ledger.notMade(start.Agent.Name, slot.Begin)
			continue
		}
		p.ledger.inTime(start)
		b := machine.Batch{Agent: start.Agent, Runs: make([]check.Run, 0, len(start.Checks)), Latest: p.ledger.schedule.Latest(slot)}
		for _, c := range start.Checks {
			run := check.Run{Agent: start.Agent, Check: c, Due: slot.Due, Deadline: p.ledger.schedule.LatestOf(slot, c)}
			if c.HasResults() {
				p.startResults(run, now)
			} else {
				b.Runs = append(b.Runs, cycle.Add(run))
				b.Need = max(b.Need, need(c))
			}
		}
		if len(b.Runs) > 0 {
			p.start(b, now)
		}
	}
	if slot.Last {
		cycle.Seal()
	}
	if slot.Missed > 0 {
		p.env.Observe(CyclesMissed{Cycles: slot.Missed})
	}
}

// startResults asks for results. While the last ones are still on their way to the reporter that has to
// wait, or they would come again.
func (p *poller) startResults(run check.Run, now time.Time) {
	key := sequenceKey{run.Agent.Name, run.Check.Name}
	last, known := p.ledger.lastSequence(&run)
	if !known || p.ledger.isForNext(&run, now) {
		p.ledger.owed[key] = run
		return
	}
	delete(p.ledger.owed, key)
	run.LastSequence = last
	p.start(machine.Batch{Agent: run.Agent, Runs: []check.Run{p.ledger.background.Add(run)}, Latest: run.Deadline, Need: need(run.Check)}, now)
}

func (p *poller) openCycle(slot machine.Slot, now time.Time) *machine.Cycle {
	// The planned begin, on the wall clock as it goes now.
	cycle := p.openCycleAt(slot.Cycle, slot.Begin, now.Add(slot.Begin.Sub(now)))
	cycle.Grow(slot.Runs)
	return cycle
}

func (p *poller) openCycleAt(index int64, begin, at time.Time) *machine.Cycle {
	at, setBack := p.ledger.stamp(at.Round(0))
	cycle := machine.OpenCycle(index, begin, at, p.grace())
	p.ledger.opened(cycle)
	if setBack > 0 {
		p.env.Observe(ClockSetBack{By: setBack})
	}
	return cycle
}

// grace is how long after its deadline a run's status may still come.
func (p *poller) grace() time.Duration {
	return min(max(p.env.config().Poll.Interval/10, 100*time.Millisecond), time.Second)
}

func (p *poller) settled(m settled, now time.Time) {
	if p.left { // there is no report any more that it could go into
		return
	}
	filled := false
	switch {
	case m.unmade:
		var begin time.Time
		if filled, begin = p.omit(&check.Run{ID: m.status.ID, Check: m.status.Check, Due: now}); filled && m.status.ID.Cycle != machine.NoCycle {
			p.ledger.notMade(m.status.Agent.Name, begin)
		}
	case m.nothing:
		if filled = p.ledger.background.End(m.status.ID); filled {
			p.ledger.nothingNew(&m.status)
		}
	default:
		m.status.Minority = p.ledger.share != nil && p.env.cluster.Minority()
		filled = p.fill(m.status)
	}
	if !filled {
		p.env.Observe(StatusDiscarded{Agent: m.status.Agent.Name, Check: m.status.Check.Name})
		return
	}
	p.lane(m.status.Check).Ended(m.status.Agent, timedOut(&m.status))
	p.startWaiting(now)
	p.closeCycles(now)
	p.leave(now)
}

// fill takes the status of a run; false if the run has one already.
func (p *poller) fill(status check.Status) bool {
	if status.ID.Cycle == machine.NoCycle {
		if !p.ledger.background.End(status.ID) {
			return false
		}
		p.ledger.include(status)
		return true
	}
	cycle, ok := p.ledger.cycle(status.ID.Cycle)
	return ok && cycle.Fill(status)
}

// endResults gives runs of results that were taken out of the background their status, and returns them.
func (p *poller) endResults(runs []check.Run, detail string) []check.Run {
	for _, run := range runs {
		p.ledger.include(run.Failed(check.NoAnswer, detail, 0))
	}
	return runs
}

// forsake fills in the runs of an agent that has failed.
func (p *poller) forsake(agent string, f fall) {
	if p.agents[agent] != nil { // else nobody would forget it again
		p.falls[agent], p.ledger.falls[agent] = f, f.n
	}
	for _, lane := range p.lanes() {
		lane.Remove(func(b machine.Batch) bool { return b.Agent.Name == agent }) // they are among the runs that follow
	}
	for _, c := range p.ledger.open {
		p.release(c.Forsake(agent, f.detail))
	}
	p.release(p.endResults(p.ledger.background.Forsake(agent), f.detail))
}

func (p *poller) agentDown(m agentDown, now time.Time) {
	if p.agents[m.name] != nil {
		p.down[m.name] = true
	}
	p.forsake(m.name, m.fall)
	p.startWaiting(now)
	p.closeCycles(now)
	p.leave(now)
}

func (p *poller) drain(by, now time.Time) {
	p.draining, p.drainBy = true, by
	all := func(machine.Batch) bool { return true }
	for _, b := range p.statuses.Remove(all) {
		p.fail(b, check.NoAnswer, "not started: the poller was stopping")
	}
	p.results.Remove(all)
	p.ledger.background.Unbegun() // which are left out, as those that do not end in time
	clear(p.ledger.owed)
	p.ledger.stopMissed()
	p.advance(now)
}

// closeCycles closes the oldest cycles that are complete; when draining has used up its time, all.
func (p *poller) closeCycles(now time.Time) {
	if len(p.ledger.open) == 0 && len(p.ledger.ended) > 0 && p.drained(now) {
		p.openCycleAt(p.ledger.schedule.Cycle(), now, now) // there will be no other for what has ended
	}
	for len(p.ledger.open) > 0 {
		oldest := p.ledger.open[0]
		if p.draining {
			oldest.Seal()
		}
		if !oldest.Complete() && (!p.draining || now.Before(p.drainBy)) {
			return
		}
		p.close(oldest, now)
	}
}

// close turns a cycle into reports and sends them to the reporter. Should it panic, the ledger
// still has the cycle or its reports, and the next incarnation goes on from there.
func (p *poller) close(c *machine.Cycle, now time.Time) {
	statuses := c.Close("the poller was stopped before the answer came")
	p.ledger.mark(c, statuses, p.env.config().Silences)
	if p.ledger.share != nil && p.env.cluster.Minority() {
		for i := range statuses {
			statuses[i].Minority = true
		}
	}
	reports, err := p.env.identity().Reports(c.Time(), statuses)
	p.ledger.closed(c, statuses, reports, now, func(n uint64) string {
		return fmt.Sprintf("%s/%s/%d", p.env.identity().PollerID, p.env.Boot, n)
	})
	p.sendReports(now)
	if err != nil {
		p.env.Observe(ReportDropped{ID: fmt.Sprintf("of cycle %d", c.Index()), Loss: LostUnfit, Cause: err.Error()})
	}
	for _, r := range p.ledger.surplus(now.Add(-p.env.config().Poll.Interval * 3 / 2)) { // about two, whatever the cycles took
		p.env.Observe(ReportDropped{ID: r.id, Loss: LostNotTaken, Cause: "the reporter did not take it in two poll intervals"})
	}
	p.env.Observe(summary(c, statuses, now.Sub(c.Begin())))
}

// sendReports sends the reports of the oldest cycle that are not taken: at first, and again when the reporter has
// not confirmed them for a while. The next cycle waits for that, or a report that has to be sent again
// would come behind later ones.
func (p *poller) sendReports(now time.Time) {
	if len(p.ledger.untaken) == 0 || now.Before(p.ledger.untaken[0].sent.Add(p.resendAfter())) {
		return
	}
	reports, again := p.ledger.oldestCycle(now)
	p.env.send(p.env.reporter, take{reports: reports, again: again})
}

// resendAfter leaves time for two tries before a report is surplus.
func (p *poller) resendAfter() time.Duration {
	return min(resendAfter, p.env.config().Poll.Interval/2)
}

// drained tells whether no more statuses are waited for because the poller is to stop. Results that
// have not come by then are left out, for they are asked for again after the start; a status in their
// place would stand until then.
func (p *poller) drained(now time.Time) bool {
	return p.draining && (p.ledger.background.Len() == 0 || !now.Before(p.drainBy))
}

// leave says drained when everything is closed and taken. Should the reporter not take it, root
// goes on without that word when the stage has had its time.
func (p *poller) leave(now time.Time) {
	if p.drained(now) && !p.left && len(p.ledger.open) == 0 && len(p.ledger.untaken) == 0 {
		p.left = true
		p.env.send(p.env.root, drained{})
	}
}

// arm sets the one timer for whatever is due next.
func (p *poller) arm(now time.Time) {
	next := now.Add(time.Hour)
	if !p.draining {
		next = p.ledger.schedule.Next()
	} else if p.drainBy.After(now) {
		next = p.drainBy
	}
	for _, c := range p.ledger.open {
		if at, ok := c.NextExpiry(); ok && at.Before(next) {
			next = at
		}
	}
	if at, ok := p.ledger.background.NextExpiry(p.grace()); ok && at.Before(next) {
		next = at
	}
	if len(p.ledger.untaken) > 0 {
		if at := p.ledger.untaken[0].sent.Add(p.resendAfter()); at.Before(next) {
			next = at
		}
	}
	for _, lane := range p.lanes() {
		if at, ok := lane.NextOverdue(); ok && at.Before(next) {
			next = at
		}
	}
	if at, ok := p.ledger.nextMissed(now); ok && at.Before(next) {
		next = at
	}
	p.wait(now, next.Sub(now))
}

func (p *poller) wait(now time.Time, d time.Duration) {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.next = now.Add(max(d, 0))
	p.timer = p.env.after(d, p.self, tick{})
}
