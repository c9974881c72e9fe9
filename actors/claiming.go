package actors

import (
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// How a node comes to poll agents: it claims those that it owns, asks the others for them, and has root and the poller adopt those on which all
// agree.

// received is what another node has handed over.
type received struct {
	handOver
	by machine.NodeID
}

// thanks says to a node, from since on, that what it has handed over has come.
type thanks struct {
	to          machine.NodeID
	agents      []string
	since, sent time.Time
}

// followClaims claims what this node owns, and lets go of what it may poll no more. What is not configured any more parts, to whoever asks for it.
func (m *member) followClaims(now time.Time) {
	suspended := m.claims.Follow(m.view, m.ours)
	if len(suspended) > 0 {
		for _, agent := range suspended {
			m.idle[agent] = true
			delete(m.parting, agent)
			delete(m.resuming, agent)
		}
		m.env.send(m.env.poller, suspend{})
		m.env.Observe(Suspended{Agents: len(suspended)})
	}
	for _, agent := range m.claims.Held() {
		if m.configured(agent) {
			continue
		}
		if m.parting[agent] == nil { // root and the poller know
			m.parting[agent] = &parting{since: now}
		}
	}
	if !m.view.Leased {
		return
	}
	var gone []string
	for agent := range m.idle {
		if !m.isOurs(agent) {
			gone = append(gone, agent)
			delete(m.idle, agent)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		m.env.send(m.env.root, dismissed{agents: gone})
		m.env.Observe(Dismissed{Agents: gone})
	}
}

// ask asks others for what is claimed, again if they have not answered.
func (m *member) ask(now time.Time) {
	if m.claims.Open() == 0 || now.Sub(m.asked) < repeatAfter && !m.claims.Unasked() {
		return
	}
	again := !m.claims.Unasked()
	m.asked = now
	for _, ask := range m.claims.Asks() {
		m.insist(again, ask.To, kindAsk, &cluster.Ask{From: nodeOf(m.view.Self), Era: ask.Era, Round: ask.Round, Agents: ask.Agents})
	}
}

// adopt has the agents polled on which all agree.
func (m *member) adopt(now time.Time) {
	var ready []string
	if m.view.Informed {
		ready = m.claims.Ready()
	}
	if len(ready) == 0 {
		return
	}
	message := adopt{era: m.era, round: m.yields, agents: make([]adopted, 0, len(ready))}
	came := make(map[machine.NodeID][]string)
	moved := 0
	for _, agent := range ready {
		h, given := m.handed[agent]
		if given {
			moved++
			came[h.by] = append(came[h.by], agent)
			m.resuming[agent] = h.handOver
		} else {
			h.agent = agent
		}
		message.agents = append(message.agents, adopted{handOver: h.handOver, given: given})
		delete(m.handed, agent)
		delete(m.gave, agent)
		delete(m.idle, agent)
	}
	m.env.Observe(Adopted{Agents: ready, Given: moved}) // before anything else can be told of them
	m.env.send(m.env.root, message)
	for by, agents := range came {
		m.thanks = append(m.thanks, thanks{to: by, agents: agents, since: now})
	}
	m.thank(now)
}

// thank tells those who have handed something over that it came, some times, as long as it is held.
func (m *member) thank(now time.Time) {
	m.thanks = slices.DeleteFunc(m.thanks, func(t thanks) bool { return now.Sub(t.since) >= thankFor || !m.isAlive(t.to) })
	for i := range m.thanks {
		t := &m.thanks[i]
		if now.Sub(t.sent) < max(repeatAfter, t.sent.Sub(t.since)) { // less and less often
			continue
		}
		again := !t.sent.IsZero()
		t.sent = now
		t.agents = slices.DeleteFunc(t.agents, func(agent string) bool { return !m.claims.Holds(agent) || m.parting[agent] != nil })
		if len(t.agents) > 0 {
			m.insist(again, t.to, kindAsk, &cluster.Ask{From: nodeOf(m.view.Self), Era: m.era, Round: m.claims.Round(), Taken: t.agents})
		}
	}
}

// adoptHeld has root and the poller adopt again what is held, in case that one of them missed it. Those that did not are not changed by it.
func (m *member) adoptHeld() {
	var agents []string
	for _, agent := range m.claims.Held() {
		if m.parting[agent] == nil && !m.isRemoved(agent) { // should that be added again, it has yet to be found whose it is
			agents = append(agents, agent)
		}
	}
	m.adoptAgain(agents)
}

// adoptAgain has root and the poller adopt agents that are held, if they did not, or have given them up.
func (m *member) adoptAgain(agents []string) {
	if len(agents) == 0 {
		return
	}
	message := adopt{era: m.era, round: m.yields}
	for _, agent := range agents {
		h, given := m.resuming[agent]
		if !given {
			h.agent = agent
		}
		message.agents = append(message.agents, adopted{handOver: h, given: given})
	}
	m.env.send(m.env.root, message)
}

// answered takes what another node says of agents that this one claims.
func (m *member) answered(a *cluster.Answer, now time.Time) {
	from := idOf(a.GetFrom())
	free := a.GetFree()
	if a.GetEra() == m.view.Era {
		var offset time.Duration
		if i := slices.IndexFunc(m.view.Members, func(o machine.Member) bool { return o.NodeID == from }); i >= 0 {
			offset = m.view.Members[i].Offset
			if offset.Abs() <= m.view.Members[i].RTT { // it may be no more than a slow answer
				offset = 0
			}
		}
		for _, w := range a.GetGiven() {
			h := received{handOver: handOverOf(w, m.env.epoch, offset), by: from}
			if !m.claims.Awaits(from, a.GetRound(), h.agent) {
				continue // it comes late: what it says is not true any more
			}
			if !m.handed[h.agent].from.After(h.from) { // of two the later had it
				m.handed[h.agent] = h
			}
			free = append(free, h.agent)
		}
	}
	m.claims.Answered(from, a.GetEra(), a.GetRound(), free)
	m.adopt(now)
	m.lookSoon()
}

// tellClaims tells how many agents are claimed.
func (m *member) tellClaims(now time.Time) {
	open := m.claims.Open()
	switch {
	case open == 0 && m.claiming.IsZero(), open > 0 && !m.claiming.IsZero() && now.Sub(m.toldClaims) < claimsEvery:
		return
	case open == 0:
		m.claiming = time.Time{}
		m.env.Observe(Claiming{})
		return
	case m.claiming.IsZero():
		m.claiming = now
	}
	m.toldClaims = now
	m.env.Observe(Claiming{Agents: open, Waiting: m.waiting(), For: now.Sub(m.claiming)})
}

// waiting returns for how many claims each node has not answered.
func (m *member) waiting() map[string]int {
	waiting := make(map[string]int)
	for id, n := range m.claims.Waiting() {
		waiting[id.Name] += n
	}
	return waiting
}
