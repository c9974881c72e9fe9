package actors

import (
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// How messages get to a node although the link to it is broken: what has to be repeated goes by way of another node, too, and so does whatever is
// sent to a node whose own messages come that way.

// wayFor is how long messages to a node go by way of the one that has passed its last on.
const wayFor = 2 * time.Second

// way is the node by way of which another was heard last, and when.
type way struct {
	by machine.NodeID
	at time.Time
}

// send sends a message to the member of another node, if that is alive. Whether it comes nobody says.
func (m *member) send(to machine.NodeID, kind uint32, body proto.Message) {
	envelope := seal(kind, body)
	m.post(to, envelope)
	if way, ok := m.ways[to]; ok {
		m.sendBy(way.by, to, envelope)
	}
}

// insist sends what is sent until it is answered: when that is done again, it goes by way of one of the others, too, another one as chance has it.
func (m *member) insist(again bool, to machine.NodeID, kind uint32, body proto.Message) {
	m.send(to, kind, body)
	if !again {
		return
	}
	var others []machine.NodeID
	for _, other := range m.view.Members {
		if other.NodeID != m.view.Self && other.NodeID != to && other.NodeID != m.ways[to].by { // by that it went just now
			others = append(others, other.NodeID)
		}
	}
	if len(others) > 0 {
		m.sendBy(others[rand.IntN(len(others))], to, seal(kind, body)) //nolint:gosec // which one is no secret
	}
}

func (m *member) sendBy(by, to machine.NodeID, envelope *cluster.Envelope) {
	m.post(by, seal(kindPassed, &cluster.Passed{From: nodeOf(m.view.Self), To: nodeOf(to), Envelope: envelope}))
}

// post sends an envelope to a node that is alive.
func (m *member) post(to machine.NodeID, envelope *cluster.Envelope) {
	for _, other := range m.view.Members {
		if other.NodeID == to && other.Remote != "" {
			m.env.workers.Schedule(func() { m.env.post(other.Remote, envelope) }) // the first one to a node waits until there is a sender for it
		}
	}
}

// passed passes an envelope on to the node that it is for, or opens it, if that is this one.
func (m *member) passed(p *cluster.Passed, now time.Time) {
	from, to, by := idOf(p.GetFrom()), idOf(p.GetTo()), idOf(p.GetBy())
	switch {
	case to != m.view.Self && p.GetBy() == nil:
		p.By = nodeOf(m.view.Self)
		m.post(to, seal(kindPassed, p))
	case to == m.view.Self && m.isAlive(by) && p.GetEnvelope().GetKind() != kindPassed:
		m.ways[from] = way{by: by, at: now}
		m.open(p.GetEnvelope(), now)
	}
}
