package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// Agents that people move: what the nodes tell each other of them. A node whose pins differ from ours, by the hash that it announces, is sent
// all of ours, as it sends us its own; so in the end all know the same, however they came, went and were cut off.

// tellPinsEvery is how often at most a node is told our pins that does not come to have them: it hears nothing, or knows more, and we don't hear it.
const tellPinsEvery = 5 * time.Second

// toldPins is when a node was told our pins last, and how long it has to take them in before it is told again.
type toldPins struct {
	hash string // of those
	at   time.Time
	wait time.Duration
}

// moveAsked: System.Move → member.
type moveAsked struct {
	agents []string
	node   string
	answer chan<- error // has room for one
}

// Move has a node poll agents from soon on until they are moved again, or, without a name, the node to which they belong by themselves. It returns when
// this node knows, and before the others do. An error, such as that there is no such node or agent, says that none of them is moved.
func (s *System) Move(ctx context.Context, agents []string, node string) error {
	if s.env.cluster == nil {
		return errNoCluster
	}
	answer := make(chan error, 1)
	s.env.send(s.env.member, moveAsked{agents: agents, node: node, answer: answer})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return errors.New("move agents: the actor that knows of the cluster does not answer; poller cluster shows whether they are moved")
	case <-s.stopped:
		return errStopping
	}
}

// move pins agents, and has the others know.
func (m *member) move(o moveAsked, now time.Time) {
	err := m.mayMove(o)
	if err == nil {
		err = m.pins.Set(o.agents, o.node, int64(now.Sub(m.env.epoch)))
	}
	if err == nil {
		m.env.Observe(Pinned{Agents: slices.Compact(slices.Sorted(slices.Values(o.agents))), Node: o.node})
		m.look(now)
	}
	o.answer <- err
}

// mayMove returns why agents can't be moved; nil if they can.
func (m *member) mayMove(o moveAsked) error {
	if len(o.agents) == 0 {
		return errors.New("no agent is named that is to be moved")
	}
	pinned := m.pins.Pinned()
	for _, agent := range o.agents {
		if _, was := pinned[agent]; !m.configured(agent) && (o.node != "" || !was) {
			return fmt.Errorf("there is no agent %s in the configuration of node %s", agent, m.view.Self.Name)
		}
	}
	if o.node == "" {
		return nil
	}
	i := slices.IndexFunc(m.view.Members, func(other machine.Member) bool { return other.Name == o.node })
	switch {
	case i < 0:
		return errNoNode(o.node)
	case m.view.Members[i].Draining:
		return fmt.Errorf("node %s takes no agents: it hands over all it has, and ends", o.node)
	case m.view.Members[i].Weight <= 0:
		return fmt.Errorf("node %s takes no agents: its weight is 0, as its configuration says or because it has just started or may not poll", o.node)
	case !m.nodes[i].Pinnable:
		return fmt.Errorf("node %s takes no agents that are moved: its version knows nothing of that", o.node)
	}
	known := m.names[m.hashes[i]] // nil if it has not said yet
	for _, agent := range o.agents {
		if known != nil && !known[agent] {
			return fmt.Errorf("node %s is not configured with agent %s: give all nodes the same files", o.node, agent)
		}
	}
	return nil
}

// tellPins tells those whose pins are not ours what ours are.
func (m *member) tellPins(now time.Time) {
	maps.DeleteFunc(m.toldPins, func(id machine.NodeID, _ toldPins) bool { return !m.isAlive(id) })
	var all *cluster.Pins
	for i := range m.view.Members {
		other := &m.view.Members[i]
		if other.NodeID == m.view.Self || other.Pins == "" || other.Pins == m.pins.Hash() {
			continue
		}
		told := m.toldPins[other.NodeID]
		if told.hash != m.pins.Hash() {
			told.hash, told.wait = m.pins.Hash(), repeatAfter
		}
		if now.Sub(told.at) >= told.wait {
			if all == nil {
				all = wirePins(m.view.Self, m.pins)
			}
			m.send(other.NodeID, kindPins, all)
			told.at, told.wait = now, min(2*told.wait, tellPinsEvery)
		}
		m.toldPins[other.NodeID] = told
	}
}

// learnPins takes in what another node knows.
func (m *member) learnPins(p *cluster.Pins, now time.Time) {
	before := m.pins.Hash()
	changed := m.pins.Merge(pinsOf(p))
	pinned, nodes := m.pins.Pinned(), make(map[string][]string)
	for _, agent := range changed {
		nodes[pinned[agent]] = append(nodes[pinned[agent]], agent)
	}
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		m.env.Observe(Pinned{Agents: nodes[node], Node: node, By: p.GetFrom().GetName()})
	}
	if m.pins.Hash() != before {
		m.look(now) // before a new owner asks
	}
}

// wirePins is what another node is told.
func wirePins(self machine.NodeID, pins *machine.Pins) *cluster.Pins {
	w := &cluster.Pins{From: nodeOf(self)}
	for agent, pin := range pins.All() {
		w.Pins = append(w.Pins, &cluster.Pin{Agent: agent, Node: pin.Node, Stamp: pin.Stamp})
	}
	return w
}

// pinsOf is what another node tells.
func pinsOf(w *cluster.Pins) map[string]machine.Pin {
	pins := make(map[string]machine.Pin, len(w.GetPins()))
	for _, p := range w.GetPins() {
		pins[p.GetAgent()] = machine.Pin{Node: p.GetNode(), Stamp: p.GetStamp()}
	}
	return pins
}
