package actors

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
)

// In a cluster each node polls a part of the agents, which changes while it runs: member says which, root has an actor for each of them, and
// the poller starts their checks. What the poller does about it is here.

// catchUpEvery is how long the poller waits between the runs that were due while nobody made them: so they are spread, as others are.
const catchUpEvery = 20 * time.Millisecond

// orphansWait is how near an orphan's next turn is, in eighths of an interval, for it to wait for that rather than to be run at once. It is more than
// half, for what is run at once comes late to its checker: there are many, and no connections yet.
const orphansWait = 5

// wantedFor is how long no results are begun of an agent that another node has asked for: it asks again meanwhile.
const wantedFor = 4 * repeatAfter

// handOver is what one node tells another of an agent that it polls no more.
type handOver struct {
	agent string
	// from is the begin of the first cycle in which the agent was not started, by this node's clock; zero if that is not known.
	from time.Time
	// since is the same of the first cycle in which it was.
	since time.Time
	// open, failures and cause are the breaker's.
	open      bool
	failures  int
	cause     string
	sequences []check.Sequence
	rows      map[string]uint8 // what is being confirmed, by checks' names
}

// share is what the ledger keeps of the agents that are this node's.
type share struct {
	// era is that of the lease under which they are polled; 0 if they are not.
	era uint64
	// held are their names.
	held map[string]bool
	// left says of agents that were held when they would have been started next.
	left map[string]time.Time
	// unmade says of agents that are held since which cycle they were not run in their turns, because the lease did not hold.
	unmade map[string]time.Time
	// since says of agents that are held when they were started first.
	since map[string]time.Time
	// yields are the rounds in which agents were given up last.
	yields map[string]uint64
	// wanted says until when of agents that others want and of which results are under way: no more of these are begun meanwhile.
	wanted map[string]time.Time
	// missed are checks that were due while nobody made them, and catchUp when some of them are started next.
	missed  []missed
	catchUp time.Time
}

// missed are checks of an agent to make up for.
type missed struct {
	machine.Start
	// orphan says that it is not known when they were made last.
	orphan bool
}

// agents returns those of a configuration that are this node's.
func (l *ledger) agents(all []*check.Agent) []*check.Agent {
	if l.share == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(a *check.Agent) bool { return !l.held[a.Name] })
}

// follow forgets agents that are not configured any more: should one be added again, it has yet to be found whose it is. What was missed of the others is
// made up for as they are configured now.
func (s *share) follow(agents []*check.Agent) {
	gone := func(name string) bool { return agentNamed(agents, name) == nil }
	maps.DeleteFunc(s.held, func(name string, _ bool) bool { return gone(name) })
	maps.DeleteFunc(s.left, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(s.unmade, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(s.since, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(s.wanted, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(s.yields, func(name string, _ uint64) bool { return gone(name) })
	before := s.missed
	s.missed = nil
	for _, m := range before {
		now := agentNamed(agents, m.Agent.Name)
		if now == nil {
			continue
		}
		if now != m.Agent {
			m.Start = machine.Start{Agent: now, Checks: checksNamed(now, m.Checks)}
		}
		s.missed = append(s.missed, m)
	}
}

// checksNamed returns those of an agent's checks that have the names of others, of the agent as it was.
func checksNamed(agent *check.Agent, others []*check.Check) []*check.Check {
	var checks []*check.Check
	for i := range agent.Checks {
		if c := &agent.Checks[i]; anyNamed(others, c.Name) {
			checks = append(checks, c)
		}
	}
	return checks
}

func anyNamed(checks []*check.Check, name string) bool {
	return slices.ContainsFunc(checks, func(c *check.Check) bool { return c.Name == name })
}

// agentNamed returns the agent of a name, of those that are sorted by names; nil if there is none.
func agentNamed(agents []*check.Agent, name string) *check.Agent {
	at, found := slices.BinarySearchFunc(agents, name, func(a *check.Agent, name string) int { return strings.Compare(a.Name, name) })
	if !found {
		return nil
	}
	return agents[at]
}

// leased returns the era of the lease under which is polled; 0 without a cluster.
func (l *ledger) leased() uint64 {
	if l.share == nil {
		return 0
	}
	return l.era
}

// mayPoll tells whether runs may be made now: in a cluster the lease has to hold.
func (l *ledger) mayPoll(e *env) bool { return l.share == nil || e.cluster.Holds(l.era) }

// adopt polls agents from now on.
func (p *poller) adopt(m adopt, now time.Time) {
	l := p.ledger
	if l.era != m.era { // that the one before is over may have been said while there was no poller
		p.suspend()
	}
	l.era = m.era
	var given []string
	for _, a := range m.agents {
		if a.given {
			given = append(given, a.agent)
		}
		if l.held[a.agent] || m.round < l.yields[a.agent] {
			continue
		}
		spec := agentNamed(l.config.Agents, a.agent)
		if spec == nil {
			continue // it was removed meanwhile, as member will see
		}
		l.held[a.agent] = true
		p.agents[a.agent] = p.env.pid(agentPrefix + a.agent)
		from := a.from
		left, was := l.left[a.agent]
		if a.given && (from.IsZero() || !left.After(from)) { // zero is of an orphan that waited for its turn there
			l.resume(spec, &a.handOver)
			if runs := left.Sub(a.since).Round(l.config.Poll.Interval) / l.config.Poll.Interval; was && !a.since.IsZero() && runs > 0 {
				p.env.Observe(Doubled{Agent: a.agent, Runs: int(runs)})
			}
		} else { // what we know ourselves is newer: who gave it had kept it from before, because nobody had told it that it came
			from = left
		}
		delete(l.left, a.agent)
		checks := l.schedule.Adopt(spec, from)
		l.since[a.agent] = l.schedule.NextBegin(a.agent)
		if len(checks) > 0 {
			// Others may have had one since that this node lost for longer than a cycle.
			orphan := from.IsZero() || !a.given && l.since[a.agent].Sub(from) > l.config.Poll.Interval*3/2
			l.missed = append(l.missed, missed{machine.Start{Agent: spec, Checks: checks}, orphan})
		}
	}
	if len(given) > 0 {
		p.env.send(p.env.member, resumed{agents: given})
	}
	p.advance(now)
}

// resume goes on where another node stood with an agent.
func (l *ledger) resume(spec *check.Agent, h *handOver) {
	for _, s := range h.sequences {
		l.sequences[sequenceKey{s.Agent, s.Check}] = s.Value
	}
	l.confirmations.Resume(spec, h.rows)
}

// notMade says that an agent was not run in its turn in a cycle that began then, because the lease did not hold: whoever polls it next makes up for that.
func (l *ledger) notMade(agent string, begin time.Time) {
	if before, known := l.unmade[agent]; l.held[agent] && (!known || begin.Before(before)) {
		l.unmade[agent] = begin
	}
	if left, known := l.left[agent]; known && begin.Before(left) {
		l.left[agent] = begin
	}
}

// suspend starts nothing more until the agents are adopted again. What is under way may end.
func (p *poller) suspend() {
	l := p.ledger
	l.era = 0
	for name := range l.held {
		l.left[name] = l.schedule.Drop(name)
		if begin, skipped := l.unmade[name]; skipped && begin.Before(l.left[name]) {
			l.left[name] = begin
		}
	}
	clear(l.unmade)
	clear(l.held)
	clear(p.agents)
	clear(l.owed)
	clear(l.wanted)
	for _, s := range l.missed {
		if left, held := l.left[s.Agent.Name]; held {
			l.left[s.Agent.Name] = l.owing(&s, left) // it is made up for when it is adopted again
		}
	}
	l.missed = nil
	for _, lane := range p.lanes() {
		for _, b := range lane.Remove(func(machine.Batch) bool { return true }) {
			if begin := p.unmake(b); begin.Before(l.left[b.Agent.Name]) {
				l.left[b.Agent.Name] = begin
			}
		}
	}
}

// yield gives agents up, but for those of which results are under way: they are asked for again.
func (p *poller) yield(m yield, now time.Time) {
	for _, name := range m.agents {
		var h handOver
		switch {
		case !p.ledger.held[name]: // it was given up before, and member may not have heard of it
			h = p.ledger.known(name, p.ledger.left[name])
		case p.hasResultsUnderWay(name):
			p.ledger.wanted[name] = now.Add(wantedFor)
			continue
		default:
			h = p.leaveTo(name)
		}
		p.ledger.yields[name] = m.round
		p.env.send(p.env.root, given{agent: name}) // before member may have it adopted again
		p.env.send(p.env.pid(agentPrefix+name), yieldTo{})
		p.env.send(p.env.member, yielded{round: m.round, handOver: h})
	}
	p.closeCycles(now)
}

// leaveRemoved gives up agents that are not configured any more: other nodes may have them yet.
func (p *poller) leaveRemoved(agents []*check.Agent) {
	if p.ledger.share == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.ledger.held)) {
		if agentNamed(agents, name) == nil {
			p.env.send(p.env.member, yielded{handOver: p.leaveTo(name)})
			p.env.send(p.env.pid(agentPrefix+name), yieldTo{})
		}
	}
}

// leaveTo starts an agent's checks no more, and returns what is known of it.
func (p *poller) leaveTo(name string) handOver {
	l := p.ledger
	h := l.known(name, l.schedule.Drop(name))
	for _, lane := range p.lanes() {
		for _, b := range lane.Remove(func(b machine.Batch) bool { return b.Agent.Name == name }) {
			if begin := p.unmake(b); begin.Before(h.from) {
				h.from = begin
			}
		}
	}
	l.missed = slices.DeleteFunc(l.missed, func(s missed) bool {
		if s.Agent.Name == name {
			h.from = l.owing(&s, h.from) // the new owner makes up for it
		}
		return s.Agent.Name == name
	})
	maps.DeleteFunc(l.owed, func(key sequenceKey, _ check.Run) bool { return key.agent == name }) // they are asked for in their next turn
	delete(l.wanted, name)
	delete(l.held, name)
	delete(p.agents, name)
	p.forgetFalls(name)
	l.left[name] = h.from
	return h
}

// owing returns from when whoever polls an agent next is to do so, if it was not started from a cycle on that began then, and these are to be made up for;
// zero for an orphan.
func (l *ledger) owing(m *missed, from time.Time) time.Time {
	if m.orphan && len(m.Checks) > 0 {
		return time.Time{}
	}
	first := from
	for _, c := range m.Checks {
		if turn := l.schedule.LastTurn(c.Interval, from.Add(-l.config.Poll.Interval)); turn.Before(first) {
			first = turn
		}
	}
	return first
}

// known returns what is known of an agent that was not started any more in the cycle that began at from.
func (l *ledger) known(name string, from time.Time) handOver {
	h := handOver{agent: name, since: l.since[name], from: from}
	if spec := agentNamed(l.config.Agents, name); spec != nil {
		h.rows = l.confirmations.Rows(spec)
		for i := range spec.Checks {
			if value := l.sequences[sequenceKey{name, spec.Checks[i].Name}]; value != "" {
				h.sequences = append(h.sequences, check.Sequence{Agent: name, Check: spec.Checks[i].Name, Value: value})
			}
		}
	}
	return h
}

// hasResultsUnderWay tells whether results of an agent are being asked for, or are not safe yet.
func (p *poller) hasResultsUnderWay(name string) bool {
	for key := range p.ledger.pending {
		if key.agent == name {
			return true
		}
	}
	for key, run := range p.ledger.owed {
		if key.agent == name && !p.ledger.comesSoon(run.Check) {
			return true
		}
	}
	return p.ledger.background.AnyResults(name)
}

// unmake takes runs out that were not begun, and are another node's to make. It returns from when that is to poll their agent.
func (p *poller) unmake(b machine.Batch) (from time.Time) {
	for i := range b.Runs {
		if _, begin := p.omit(&b.Runs[i]); i == 0 || begin.Before(from) {
			from = begin
		}
	}
	return from
}

// isForNext tells of a run of results whether it is better left to the node that wants the agent: while results are always under
// way it would never move.
func (l *ledger) isForNext(run *check.Run, now time.Time) bool {
	return l.share != nil && now.Before(l.wanted[run.Agent.Name]) && l.comesSoon(run.Check)
}

// comesSoon tells whether so little time is between a check's turns that results may always be under way, and that one may be left out.
func (l *ledger) comesSoon(c *check.Check) bool { return c.Interval < 3*l.config.Poll.Interval }

// omit takes a run out that was not made; false if it was given a status before. It returns when its cycle began; of one that no cycle waits for,
// when the last began in which its check was due.
func (p *poller) omit(run *check.Run) (omitted bool, begin time.Time) {
	if run.ID.Cycle == machine.NoCycle {
		return p.ledger.background.End(run.ID), p.ledger.schedule.LastTurn(run.Check.Interval, run.Due)
	}
	if cycle, ok := p.ledger.cycle(run.ID.Cycle); ok {
		return cycle.Omit(run.ID), cycle.Begin()
	}
	return false, run.Due
}

// stopMissed forgets what would be made up for: nothing is started any more.
func (l *ledger) stopMissed() {
	if l.share != nil {
		l.missed = nil
	}
}

// startMissed starts some of the checks that were due while nobody made them.
func (p *poller) startMissed(now time.Time) {
	if p.ledger.share == nil || len(p.ledger.missed) == 0 || now.Before(p.ledger.catchUp) {
		return
	}
	p.ledger.catchUp = now.Add(catchUpEvery)
	if !p.ledger.mayPoll(p.env) { // suspend has yet to come, and notes what is still to be made up for
		return
	}
	cfg := p.ledger.config
	perSecond := max(float64(cfg.Poll.Rate), float64(len(cfg.Agents))/cfg.Poll.Interval.Seconds())
	most := 1 + int(perSecond*catchUpEvery.Seconds())
	var starts []machine.Start
	var rest []missed
	for _, m := range p.ledger.missed {
		switch {
		case len(m.Checks) == 0:
		case len(starts) < most && !p.ledger.waits(&m, now):
			starts = append(starts, m.Start)
		default:
			rest = append(rest, m)
		}
	}
	p.ledger.missed = rest
	for _, start := range starts {
		p.startAside(start, now)
	}
}

// waits tells whether checks of an orphan are left to its next turn, because that is near: they would be made twice in a short time, or that turn left
// out and the next be far away.
func (l *ledger) waits(m *missed, now time.Time) bool {
	return m.orphan && l.schedule.NextTurn(m.Agent.Name).Sub(now) < l.config.Poll.Interval*orphansWait/8
}

// nextMissed returns when some of what was missed is started next; false if all of it waits for its turns.
func (l *ledger) nextMissed(now time.Time) (time.Time, bool) {
	if l.share == nil || !slices.ContainsFunc(l.missed, func(m missed) bool { return !l.waits(&m, now) }) {
		return time.Time{}, false
	}
	return l.catchUp, true
}

// inTime takes checks off those that are missed, because their turn has come. It may be one of the configuration before.
func (l *ledger) inTime(turn machine.Start) {
	if l.share == nil {
		return
	}
	for i := range l.missed {
		if m := &l.missed[i]; m.Agent.Name == turn.Agent.Name {
			m.Checks = slices.DeleteFunc(m.Checks, func(c *check.Check) bool { return anyNamed(turn.Checks, c.Name) })
		}
	}
}

// startAside starts checks outside of their turns. No cycle waits for them; their statuses go into the next to close.
func (p *poller) startAside(start machine.Start, now time.Time) {
	if len(start.Checks) == 0 || p.agents[start.Agent.Name] == nil || !p.ledger.mayPoll(p.env) {
		return
	}
	start, ends := p.ledger.schedule.StartAside(start, now)
	b := machine.Batch{Agent: start.Agent, Latest: ends}
	for _, c := range start.Checks {
		run := check.Run{Agent: start.Agent, Check: c, Due: now, Deadline: b.Latest}
		if c.HasResults() {
			p.startResults(run, now)
			continue
		}
		b.Runs = append(b.Runs, p.ledger.background.Add(run))
		b.Need = max(b.Need, need(c))
	}
	if len(b.Runs) > 0 {
		p.start(b, now)
	}
}
