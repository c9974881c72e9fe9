package actors

import (
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// How a node hands agents over: another that owns them asks for them, the poller gives them up, and the other is told what is known of each until it has
// said that it came.

// parting is an agent on its way to another node, or not configured any more; then it is to nobody.
type parting struct {
	to      machine.NodeID
	era     uint64 // and round: of the ask that it answers
	round   uint64
	yield   uint64 // in which the poller was told last
	since   time.Time
	known   bool // the poller has given it up
	told    bool // what h says of the breaker is so
	h       handOver
	settled time.Time // when that was
}

// gift is an agent that was handed over.
type gift struct {
	to    machine.NodeID
	round uint64 // of the last ask that it answers
	h     handOver
	at    time.Time
}

// askedBy answers another node that claims agents.
func (m *member) askedBy(a *cluster.Ask, now time.Time) {
	from := idOf(a.GetFrom())
	if !m.isAlive(from) { // it asks again, when membership has it
		return
	}
	for _, agent := range a.GetTaken() {
		if g := m.gave[agent]; g.to == from && g.round <= a.GetRound() { // else it is thanked for one before, and this comes late
			delete(m.gave, agent)
		}
	}
	if len(a.GetAgents()) == 0 {
		return
	}
	m.env.cluster.Asked(from)
	free, give := m.claims.Asked(from, a.GetAgents())
	answer := &cluster.Answer{From: nodeOf(m.view.Self), Era: a.GetEra(), Round: a.GetRound()}
	for _, agent := range free {
		if gift, gave := m.gave[agent]; gave { // the first answer was lost, or who had it did not want the agent any more by then
			gift.to, gift.round = from, a.GetRound()
			m.gave[agent] = gift
			answer.Given = append(answer.Given, gift.h.wire(m.env.epoch))
		} else {
			answer.Free = append(answer.Free, agent)
		}
	}
	if len(answer.GetFree())+len(answer.GetGiven()) > 0 {
		m.send(from, kindAnswer, answer)
	}
	var yields []string
	for _, agent := range give {
		if m.owner(agent) != from.Name {
			continue // our views differ; one of them will change
		}
		p := m.parting[agent]
		if p == nil {
			p = &parting{since: now}
			m.parting[agent] = p
		}
		p.to, p.era, p.round = from, a.GetEra(), a.GetRound()
		if !p.known {
			p.yield = m.yields + 1
			yields = append(yields, agent)
		}
	}
	if len(yields) > 0 {
		m.yields++
		m.env.send(m.env.poller, yield{round: m.yields, agents: yields})
	}
}

// yielded takes what the poller knows of an agent that it has given up.
func (m *member) yielded(y yielded, now time.Time) {
	h, p := y.handOver, m.parting[y.handOver.agent]
	if y.round == 0 && p == nil && m.claims.Holds(h.agent) && m.isRemoved(h.agent) { // it is yet to look at the configuration
		p = &parting{since: now}
		m.parting[h.agent] = p
	}
	switch {
	case p != nil && !p.known && (p.yield == y.round || y.round == 0):
		h.open, h.failures, h.cause = p.h.open, p.h.failures, p.h.cause
		p.known, p.h, p.settled = true, h, now
		m.lookSoon()
	case p == nil && m.claims.Holds(h.agent): // it was not to be given up any more
		m.adoptAgain([]string{h.agent})
	}
}

func (m *member) breakerTold(b breakerTold) {
	if p := m.parting[b.agent]; p != nil {
		p.h.open, p.h.failures, p.h.cause, p.told = b.open, b.failures, b.cause, true
		m.lookSoon()
	}
}

// answerParted hands over what has been given up.
func (m *member) answerParted(now time.Time) {
	answers := make(map[machine.NodeID]*cluster.Answer)
	var gone, stay []string
	for agent, p := range m.parting {
		switch {
		case p.known && (p.told || now.Sub(p.settled) >= breakerWithin):
		case !p.known && now.Sub(p.since) >= repeatAfter && !m.configured(agent):
			m.letGo(agent) // what is known of it was lost
			continue
		case !p.known && now.Sub(p.since) >= repeatAfter:
			delete(m.parting, agent) // until it is asked for again: there are results under way, or what the poller said was lost
			stay = append(stay, agent)
			continue
		default:
			continue
		}
		m.letGo(agent)
		m.gave[agent] = gift{to: p.to, round: p.round, h: p.h, at: now}
		if p.to == (machine.NodeID{}) {
			continue
		}
		a := answers[p.to]
		if a == nil || a.GetRound() != p.round {
			if a != nil {
				m.send(p.to, kindAnswer, a)
			}
			a = &cluster.Answer{From: nodeOf(m.view.Self), Era: p.era, Round: p.round}
			answers[p.to] = a
		}
		a.Given = append(a.Given, p.h.wire(m.env.epoch))
		gone = append(gone, agent)
	}
	m.adoptAgain(stay)
	for to, a := range answers {
		m.send(to, kindAnswer, a)
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.env.Observe(HandedOver{Agents: gone})
	}
}

// isRemoved tells whether an agent is not configured any more, by the newest configuration.
func (m *member) isRemoved(agent string) bool { return agentNamed(m.env.config().Agents, agent) == nil }

// letGo lets an agent go that root and the poller have given up.
func (m *member) letGo(agent string) {
	m.claims.Released(agent)
	delete(m.resuming, agent)
	delete(m.parting, agent)
}

// tellDrained tells those who wait that everything is handed over, or that there is nobody to whom it could be.
func (m *member) tellDrained(now time.Time) {
	if !m.draining || m.anybodyElse(m.view) && (m.claims.HeldCount() > 0 || m.isAwaited(now)) {
		return
	}
	for _, done := range m.drained {
		done()
	}
	m.drained = nil
}

// isAwaited tells whether a node that is alive has not said yet that it has what was handed over to it.
func (m *member) isAwaited(now time.Time) bool {
	for _, g := range m.gave {
		if m.isAlive(g.to) && now.Sub(g.at) < thankFor { // else all its words were lost, or the agent moved on
			return true
		}
	}
	return false
}

// lookSoon waits a moment for more of what was just heard, however much comes.
func (m *member) lookSoon() {
	if m.soon {
		return
	}
	if m.timer != nil {
		m.timer.Stop()
	}
	m.timer, m.soon = m.env.after(5*time.Millisecond, m.self, lookAgain{incarnation: m.incarnation}), true
}
